//! Local service discovery: sent announces, accepted announces, floods (BEP 14, BEP 27).

use crate::engine::testing::{HASH, Setup, TestWorld};
use crate::engine::{Action, TorrentSpec, limits};
use crate::units::{InfoHash, Origin};
use crate::wire::lsd::{Group, HASHES_PER_ANNOUNCE, LsdAnnounce, parse_announce, write_announce};
use std::net::SocketAddr;

fn world(change: impl FnOnce(&mut Setup)) -> TestWorld {
    TestWorld::with_setup(|s| {
        s.config.lsd = true;
        change(s);
    })
}

fn private(s: &mut Setup) {
    s.spec.torrent_info.as_mut().unwrap().private = true;
}

/// Adds a torrent without metadata and starts it.
fn add_torrent(w: &mut TestWorld, n: u32) -> InfoHash {
    let mut hash = [9; 20];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    let spec = TorrentSpec {
        info_hash: InfoHash(hash),
        torrent_info: None,
        trackers: Vec::new(),
        peers: Vec::new(),
        sequential: false,
        download_limit: None,
        upload_limit: None,
    };
    let key = w.engine.add_torrent(w.now, spec).unwrap();
    w.engine.resume(w.now, key);
    InfoHash(hash)
}

/// Returns the announces over IPv4 since the last call; those over IPv6 must be the same.
fn sent_announces(w: &mut TestWorld) -> Vec<LsdAnnounce> {
    let (sent, rest): (Vec<Action>, Vec<Action>) =
        w.log.drain(..).partition(|a| matches!(a, Action::Multicast { .. }));
    w.log = rest;
    let of = |wanted: Group| -> Vec<LsdAnnounce> {
        let read = |a: &Action| match a {
            Action::Multicast { group, bytes } if *group == wanted => Some(parse_announce(bytes).unwrap()),
            _ => None,
        };
        sent.iter().filter_map(read).collect()
    };
    assert_eq!(of(Group::V4), of(Group::V6));
    of(Group::V4)
}

fn sender(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 7, (n / 250) as u8, (n % 250) as u8], 6771))
}

/// Delivers an announce of a peer that listens at port 7777.
fn receive_announce(w: &mut TestWorld, from: SocketAddr, hashes: &[InfoHash]) {
    w.engine.on_multicast(w.now, from, &write_announce(Group::V4, 7777, hashes, 1));
    w.advance(0.1);
}

fn known(w: &TestWorld) -> usize {
    w.engine.stats(w.now, w.torrent).unwrap().known_peers
}

#[test]
fn a_torrent_is_announced_soon_and_then_every_five_minutes() {
    let mut w = world(|_| {});
    w.advance(0.4);
    assert!(sent_announces(&mut w).is_empty(), "the first announce waits for other torrents");
    w.advance(0.2);
    let sent = sent_announces(&mut w);
    assert_eq!((sent.len(), sent[0].port, &sent[0].hashes[..]), (1, 6881, &[HASH][..]));
    w.advance(299.0);
    assert!(sent_announces(&mut w).is_empty());
    w.advance(2.0);
    assert_eq!(sent_announces(&mut w), sent);
}

#[test]
fn torrents_that_start_together_share_an_announce() {
    let mut w = world(|_| {});
    let more: Vec<InfoHash> = (0..5).map(|n| add_torrent(&mut w, n)).collect();
    w.advance(1.0);
    let sent = sent_announces(&mut w);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].hashes.contains(&HASH) && more.iter().all(|hash| sent[0].hashes.contains(hash)));
}

#[test]
fn a_torrent_that_starts_later_is_announced_soon() {
    let mut w = world(|_| {});
    w.advance(10.0);
    sent_announces(&mut w);
    let late = add_torrent(&mut w, 1);
    w.advance(1.0);
    assert_eq!(sent_announces(&mut w).remove(0).hashes, [late]);
}

#[test]
fn many_torrents_take_turns_with_at_most_one_announce_per_minute() {
    let mut w = world(|_| {});
    let all = 10 * HASHES_PER_ANNOUNCE as u32;
    (1..all).for_each(|n| _ = add_torrent(&mut w, n));
    w.advance(1.0);
    let first = sent_announces(&mut w);
    assert_eq!(first.len(), limits::LSD_BURST as usize);
    let mut hashes: Vec<InfoHash> = first.into_iter().flat_map(|announce| announce.hashes).collect();
    for _ in 0..5 {
        w.advance(60.0);
        let sent = sent_announces(&mut w);
        assert_eq!(sent.len(), 1);
        hashes.extend(sent.into_iter().flat_map(|announce| announce.hashes));
    }
    let count = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(
        (count, hashes.len()),
        (all as usize, all as usize),
        "each torrent is announced once before any is announced again"
    );
}

#[test]
fn the_sender_of_an_announce_for_our_torrent_is_dialed_at_the_announced_port() {
    let mut w = world(|_| {});
    receive_announce(&mut w, sender(1), &[InfoHash([1; 20]), HASH]);
    let dialed: SocketAddr = "10.7.0.1:7777".parse().unwrap();
    assert_eq!(w.dials.iter().map(|(_, addr)| *addr).collect::<Vec<_>>(), [dialed]);
    let peer = w.dials[0].0;
    assert_eq!(w.engine.swarms.connections.get(peer).unwrap().peer.source.origin, Origin::Lsd);
}

#[test]
fn the_zone_of_a_link_local_sender_is_kept() {
    let mut w = world(|_| {});
    receive_announce(&mut w, "[fe80::7%4]:6771".parse().unwrap(), &[HASH]);
    assert_eq!(w.dials[0].1, "[fe80::7%4]:7777".parse().unwrap());
}

#[test]
fn our_own_announce_is_ignored() {
    let mut w = world(|_| {});
    w.advance(1.0);
    let own = w
        .log
        .iter()
        .find_map(|a| if let Action::Multicast { bytes, .. } = a { Some(bytes.clone()) } else { None })
        .unwrap();
    w.engine.on_multicast(w.now, sender(1), &own);
    w.advance(1.0);
    assert!(w.dials.is_empty() && known(&w) == 0);
}

#[test]
fn p18_a_private_torrent_neither_sends_nor_accepts_local_announces() {
    let mut w = world(private);
    let open = add_torrent(&mut w, 1);
    w.advance(1.0);
    assert_eq!(sent_announces(&mut w).remove(0).hashes, [open]);
    receive_announce(&mut w, sender(1), &[HASH]);
    assert!(w.dials.is_empty() && known(&w) == 0);
    let mut alone = world(private);
    alone.advance(1000.0);
    assert!(sent_announces(&mut alone).is_empty(), "no empty announce is sent");
}

#[test]
fn a_paused_torrent_is_neither_announced_nor_found() {
    let mut w = world(|_| {});
    w.advance(1.0);
    sent_announces(&mut w);
    w.engine.pause(w.now, w.torrent, &mut w.out);
    w.advance(1000.0);
    receive_announce(&mut w, sender(1), &[HASH]);
    assert!(sent_announces(&mut w).is_empty() && known(&w) == 0);
    w.engine.resume(w.now, w.torrent);
    w.advance(1.0);
    assert_eq!(sent_announces(&mut w).remove(0).hashes, [HASH]);
}

#[test]
fn repeated_pauses_do_not_exceed_the_announce_rate() {
    let mut w = world(|_| {});
    for _ in 0..60 {
        w.advance(1.0);
        w.engine.pause(w.now, w.torrent, &mut w.out);
        w.engine.resume(w.now, w.torrent);
    }
    assert!(sent_announces(&mut w).len() <= 1 + limits::LSD_BURST as usize);
}

#[test]
fn without_lsd_nothing_is_announced_or_accepted() {
    let mut w = TestWorld::leech();
    w.advance(1000.0);
    receive_announce(&mut w, sender(1), &[HASH]);
    assert!(sent_announces(&mut w).is_empty() && known(&w) == 0);
}

#[test]
fn without_a_listening_port_nothing_is_announced() {
    let mut w = world(|s| s.config.port = 0);
    w.advance(1000.0);
    assert!(sent_announces(&mut w).is_empty());
}

#[test]
fn p18_a_flood_of_forged_announces_adds_at_most_a_hundred_addresses_in_five_minutes() {
    let mut w = world(|_| {});
    let announce = write_announce(Group::V4, 7777, &[HASH], 1);
    (0..5_000).for_each(|n| w.engine.on_multicast(w.now, sender(n), &announce));
    assert_eq!(known(&w), limits::LSD_PEERS_PER_INTERVAL);
}

#[test]
fn repeated_announces_of_one_sender_count_once() {
    let mut w = world(|_| {});
    let announce = write_announce(Group::V4, 7777, &[HASH], 1);
    (0..1_000).for_each(|n| w.engine.on_multicast(w.now, sender(n % 10), &announce));
    w.engine.on_multicast(w.now, sender(11), &announce);
    assert_eq!(known(&w), 11);
}
