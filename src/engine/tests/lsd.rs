//! Calls on the local network: who is called out and when, who is believed, and what a flood of them costs
//! (BEP 14, BEP 27).

use crate::engine::testing::{HASH, Setup, TestWorld};
use crate::engine::{Action, TorrentSpec, limits};
use crate::units::{InfoHash, Origin};
use crate::wire::lsd::{Group, HASHES_PER_ANNOUNCE, LsdAnnounce, parse_announce, write_announce};
use std::net::SocketAddr;

fn world(change: impl FnOnce(&mut Setup)) -> TestWorld {
    TestWorld::built(|s| {
        s.config.lsd = true;
        change(s);
    })
}

fn private(s: &mut Setup) {
    s.spec.torrent_info.as_mut().unwrap().private = true;
}

/// Adds a torrent that is looked for without knowing what is in it.
fn another(w: &mut TestWorld, n: u32) -> InfoHash {
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

/// Calls over IPv4 since the last time, read as a neighbour reads them; the other family was sent the same.
fn calls(w: &mut TestWorld) -> Vec<LsdAnnounce> {
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

fn neighbour(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 7, (n / 250) as u8, (n % 250) as u8], 6771))
}

/// A neighbour who listens at port 7777 calls for these.
fn hear(w: &mut TestWorld, from: SocketAddr, hashes: &[InfoHash]) {
    w.engine.on_multicast(w.now, from, &write_announce(Group::V4, 7777, hashes, 1));
    w.pass(0.1);
}

fn known(w: &TestWorld) -> usize {
    w.engine.stats(w.now, w.torrent).unwrap().known_peers
}

#[test]
fn a_torrent_is_called_out_soon_and_every_five_minutes() {
    let mut w = world(|_| {});
    w.pass(0.4);
    assert!(calls(&mut w).is_empty(), "others may begin with it");
    w.pass(0.2);
    let sent = calls(&mut w);
    assert_eq!((sent.len(), sent[0].port, &sent[0].hashes[..]), (1, 6881, &[HASH][..]));
    w.pass(299.0);
    assert!(calls(&mut w).is_empty());
    w.pass(2.0);
    assert_eq!(calls(&mut w), sent);
}

#[test]
fn torrents_that_begin_together_share_a_call() {
    let mut w = world(|_| {});
    let more: Vec<InfoHash> = (0..5).map(|n| another(&mut w, n)).collect();
    w.pass(1.0);
    let sent = calls(&mut w);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].hashes.contains(&HASH) && more.iter().all(|hash| sent[0].hashes.contains(hash)));
}

#[test]
fn a_torrent_that_begins_later_is_called_out_soon_as_well() {
    let mut w = world(|_| {});
    w.pass(10.0);
    calls(&mut w);
    let late = another(&mut w, 1);
    w.pass(1.0);
    assert_eq!(calls(&mut w).remove(0).hashes, [late]);
}

#[test]
fn many_torrents_take_turns_and_never_more_than_a_call_a_minute() {
    let mut w = world(|_| {});
    let all = 10 * HASHES_PER_ANNOUNCE as u32;
    (1..all).for_each(|n| _ = another(&mut w, n));
    w.pass(1.0);
    let first = calls(&mut w);
    assert_eq!(first.len(), limits::LSD_BURST as usize);
    let mut named: Vec<InfoHash> = first.into_iter().flat_map(|call| call.hashes).collect();
    for _ in 0..5 {
        w.pass(60.0);
        let sent = calls(&mut w);
        assert_eq!(sent.len(), 1);
        named.extend(sent.into_iter().flat_map(|call| call.hashes));
    }
    let count = named.len();
    named.sort_unstable();
    named.dedup();
    assert_eq!((count, named.len()), (all as usize, all as usize), "everybody once before anybody twice");
}

#[test]
fn a_neighbour_who_calls_for_a_torrent_of_ours_is_dialed_at_the_port_he_names() {
    let mut w = world(|_| {});
    hear(&mut w, neighbour(1), &[InfoHash([1; 20]), HASH]);
    let dialed: SocketAddr = "10.7.0.1:7777".parse().unwrap();
    assert_eq!(w.dials.iter().map(|(_, addr)| *addr).collect::<Vec<_>>(), [dialed]);
    let peer = w.dials[0].0;
    assert_eq!(w.engine.swarms.connections.get(peer).unwrap().peer.source.origin, Origin::Lsd);
}

#[test]
fn the_zone_of_a_link_local_neighbour_is_kept() {
    let mut w = world(|_| {});
    hear(&mut w, "[fe80::7%4]:6771".parse().unwrap(), &[HASH]);
    assert_eq!(w.dials[0].1, "[fe80::7%4]:7777".parse().unwrap());
}

#[test]
fn our_own_call_comes_back_and_nobody_is_dialed() {
    let mut w = world(|_| {});
    w.pass(1.0);
    let own = w
        .log
        .iter()
        .find_map(|a| if let Action::Multicast { bytes, .. } = a { Some(bytes.clone()) } else { None })
        .unwrap();
    w.engine.on_multicast(w.now, neighbour(1), &own);
    w.pass(1.0);
    assert!(w.dials.is_empty() && known(&w) == 0);
}

#[test]
fn p18_a_private_torrent_is_neither_called_out_nor_found() {
    let mut w = world(private);
    let open = another(&mut w, 1);
    w.pass(1.0);
    assert_eq!(calls(&mut w).remove(0).hashes, [open]);
    hear(&mut w, neighbour(1), &[HASH]);
    assert!(w.dials.is_empty() && known(&w) == 0);
    let mut alone = world(private);
    alone.pass(1000.0);
    assert!(calls(&mut alone).is_empty(), "with nothing to say nothing is said");
}

#[test]
fn a_torrent_that_rests_is_neither_called_out_nor_found() {
    let mut w = world(|_| {});
    w.pass(1.0);
    calls(&mut w);
    w.engine.pause(w.now, w.torrent, &mut w.out);
    w.pass(1000.0);
    hear(&mut w, neighbour(1), &[HASH]);
    assert!(calls(&mut w).is_empty() && known(&w) == 0);
    w.engine.resume(w.now, w.torrent);
    w.pass(1.0);
    assert_eq!(calls(&mut w).remove(0).hashes, [HASH]);
}

#[test]
fn pausing_and_resuming_all_the_time_does_not_call_all_the_time() {
    let mut w = world(|_| {});
    for _ in 0..60 {
        w.pass(1.0);
        w.engine.pause(w.now, w.torrent, &mut w.out);
        w.engine.resume(w.now, w.torrent);
    }
    assert!(calls(&mut w).len() <= 1 + limits::LSD_BURST as usize);
}

#[test]
fn switched_off_it_neither_calls_nor_listens() {
    let mut w = TestWorld::leech();
    w.pass(1000.0);
    hear(&mut w, neighbour(1), &[HASH]);
    assert!(calls(&mut w).is_empty() && known(&w) == 0);
}

#[test]
fn who_has_no_port_has_nothing_to_call() {
    let mut w = world(|s| s.config.port = 0);
    w.pass(1000.0);
    assert!(calls(&mut w).is_empty());
}

#[test]
fn p18_a_flood_of_forged_calls_costs_a_hundred_addresses_in_five_minutes_and_nothing_else() {
    let mut w = world(|_| {});
    let call = write_announce(Group::V4, 7777, &[HASH], 1);
    (0..5_000).for_each(|n| w.engine.on_multicast(w.now, neighbour(n), &call));
    assert_eq!(known(&w), limits::LSD_PEERS_PER_INTERVAL);
}

#[test]
fn a_neighbour_who_calls_again_does_not_use_up_the_place_of_another() {
    let mut w = world(|_| {});
    let call = write_announce(Group::V4, 7777, &[HASH], 1);
    (0..1_000).for_each(|n| w.engine.on_multicast(w.now, neighbour(n % 10), &call));
    w.engine.on_multicast(w.now, neighbour(11), &call);
    assert_eq!(known(&w), 11);
}
