//! Asking trackers: falling through tiers, HTTP beside UDP, and the UDP exchange with everything that can go
//! wrong in it.

use crate::engine::testing::TestWorld;
use crate::engine::{Action, Notice, limits};
use crate::wire::{AnnounceError, AnnounceReply};
use std::net::SocketAddr;
use std::time::Duration;

const TRACKER: &str = "9.9.9.9:80";
const SECOND: &str = "8.8.8.8:80";

fn addr(s: &str) -> SocketAddr {
    s.parse().unwrap()
}

fn world(tiers: &[&[&str]]) -> TestWorld {
    let mut w = TestWorld::built(|s| {
        s.spec.trackers = tiers.iter().map(|t| t.iter().map(|u| (*u).to_string()).collect()).collect()
    });
    w.pass(0.01);
    w
}

/// A world that asks one UDP tracker, whose name has been resolved.
fn udp(addresses: &[&str]) -> TestWorld {
    let mut w = world(&[&["udp://t.example:80/announce"]]);
    resolve(&mut w, addresses);
    w
}

fn resolve(w: &mut TestWorld, addresses: &[&str]) {
    let id = w.log.iter().rev().find_map(|a| match a {
        Action::Resolve { id, host, port } if host == "t.example" && *port == 80 => Some(*id),
        _ => None,
    });
    w.engine.on_resolved(w.now, id.unwrap(), Ok(addresses.iter().map(|a| addr(a)).collect()), &mut w.out);
    w.turn();
}

/// The datagrams since last time.
fn datagrams(w: &mut TestWorld) -> Vec<(SocketAddr, Vec<u8>)> {
    let taken = std::mem::take(&mut w.log);
    taken
        .into_iter()
        .filter_map(|a| if let Action::Datagram { to, bytes } = a { Some((to, bytes)) } else { None })
        .collect()
}

fn only(w: &mut TestWorld) -> (SocketAddr, Vec<u8>) {
    let mut all = datagrams(w);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn hear(w: &mut TestWorld, from: &str, words: &[u32], tail: &[u8]) {
    let packet: Vec<u8> = words.iter().flat_map(|n| n.to_be_bytes()).chain(tail.iter().copied()).collect();
    w.engine.on_datagram(w.now, addr(from), &packet, &mut w.out);
    w.turn();
}

/// The transaction of a question: a connect request's and an announce's stand at the same place.
fn transaction(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[12..16].try_into().unwrap())
}

fn known(w: &TestWorld) -> usize {
    w.engine.stats(w.now, w.torrent).unwrap().known_peers
}

fn failed(w: &TestWorld) -> Option<&AnnounceError> {
    w.log.iter().find_map(|a| {
        if let Action::Notice(Notice::TrackerFailed { error, .. }) = a { Some(error) } else { None }
    })
}

/// Connects and answers the announce with one peer.
fn start_udp_transaction(w: &mut TestWorld, from: &str) {
    let (_, connect) = only(w);
    hear(w, from, &[0, transaction(&connect), 1, 2], &[]);
    let (_, announce) = only(w);
    hear(w, from, &[1, transaction(&announce), 1800, 1, 1], &[1, 2, 3, 4, 0, 80]);
}

#[test]
fn the_udp_exchange_brings_peers() {
    let mut w = udp(&[TRACKER]);
    let (to, connect) = only(&mut w);
    assert_eq!(
        (to, connect.len(), &connect[..8]),
        (addr(TRACKER), 16, &0x0417_2710_1980u64.to_be_bytes()[..])
    );
    hear(&mut w, TRACKER, &[0, transaction(&connect), 0xaaaa, 0xbbbb], &[]);
    let (to, announce) = only(&mut w);
    assert_eq!((to, &announce[..8]), (addr(TRACKER), &0xaaaa_0000_bbbbu64.to_be_bytes()[..]));
    hear(&mut w, TRACKER, &[1, transaction(&announce), 1800, 1, 1], &[1, 2, 3, 4, 0, 80]);
    assert_eq!(known(&w), 1);
    w.pass(1795.0);
    assert!(!w.log.iter().any(|a| matches!(a, Action::Resolve { .. })));
    w.pass(10.0);
    assert!(
        w.log.iter().any(|a| matches!(a, Action::Resolve { .. })),
        "asked again when its interval is over"
    );
}

#[test]
fn k13_a_datagram_of_another_transaction_or_from_elsewhere_is_passed_over() {
    let mut w = udp(&[TRACKER]);
    let (_, connect) = only(&mut w);
    let t = transaction(&connect);
    hear(&mut w, TRACKER, &[0, t ^ 1, 1, 2], &[]);
    hear(&mut w, SECOND, &[0, t, 1, 2], &[]);
    hear(&mut w, "9.9.9.9:81", &[0, t, 1, 2], &[]);
    hear(&mut w, TRACKER, &[1, t, 1, 2, 3], &[]);
    hear(&mut w, TRACKER, &[0, t], &[]);
    hear(&mut w, TRACKER, &[0], &[]);
    assert!(datagrams(&mut w).is_empty() && failed(&w).is_none());
    hear(&mut w, TRACKER, &[0, t, 1, 2], &[]);
    assert_eq!(only(&mut w).0, addr(TRACKER), "the true answer is still believed");
}

#[test]
fn k13_a_question_is_sent_again_after_fifteen_seconds_and_given_up_after_thirty() {
    let mut w = udp(&[TRACKER]);
    let first = only(&mut w);
    w.pass(14.9);
    assert!(datagrams(&mut w).is_empty());
    w.pass(0.2);
    assert_eq!(only(&mut w), first, "the same question, byte for byte");
    w.pass(14.8);
    assert_eq!(failed(&w), None);
    w.pass(0.2);
    assert_eq!(failed(&w), Some(&AnnounceError::Timeout));
}

#[test]
fn the_next_address_of_a_name_is_tried_when_the_first_is_silent() {
    let mut w = udp(&[TRACKER, SECOND]);
    assert_eq!(only(&mut w).0, addr(TRACKER));
    w.pass(31.0);
    let sent = datagrams(&mut w);
    assert_eq!(sent.last().unwrap().0, addr(SECOND));
    let t = transaction(&sent.last().unwrap().1);
    hear(&mut w, SECOND, &[0, t, 1, 2], &[]);
    assert_eq!(only(&mut w).0, addr(SECOND));
}

#[test]
fn k13_the_trackers_no_is_reported_and_the_next_question_waits() {
    let mut w = udp(&[TRACKER]);
    let (_, connect) = only(&mut w);
    hear(&mut w, TRACKER, &[3, transaction(&connect)], b"not \x1b[2Jyou");
    assert_eq!(failed(&w), Some(&AnnounceError::Failure { reason: "not [2Jyou".into(), retry_in: None }));
    w.log.clear();
    w.pass(17.0);
    assert!(w.log.is_empty());
    w.pass(1.0);
    assert!(matches!(w.log[..], [Action::Resolve { .. }]));
}

#[test]
fn a_connection_id_is_used_for_a_minute_and_not_longer() {
    let mut w = udp(&[TRACKER]);
    start_udp_transaction(&mut w, TRACKER);
    // A second torrent of the same tracker, half a minute later, and a third, two minutes later.
    for (n, after, connects) in [(1u8, 30.0, false), (2, 90.0, true)] {
        w.pass(after);
        w.log.clear();
        let mut spec = crate::engine::TorrentSpec {
            info_hash: crate::units::InfoHash([n; 20]),
            torrent_info: Some(crate::engine::TorrentInfo {
                geometry: w.geometry,
                wanted: crate::units::Bitfield::full(4),
                private: false,
                info: None,
            }),
            trackers: vec![vec!["udp://t.example:80/announce".into()]],
            peers: Vec::new(),
            sequential: false,
            download_limit: None,
            upload_limit: None,
        };
        spec.sequential = true;
        let key = w.engine.add_torrent(w.now, spec).unwrap();
        w.engine.on_opened(w.now, key, crate::units::Bitfield::empty(4), &mut w.out);
        w.pass(0.01);
        resolve(&mut w, &[TRACKER]);
        assert_eq!(only(&mut w).1.len() == 16, connects, "torrent {n}");
    }
}

#[test]
fn a_name_without_address_is_a_failure() {
    let mut w = world(&[&["udp://t.example:80/announce"]]);
    resolve(&mut w, &[]);
    assert!(failed(&w).is_some());
}

#[test]
fn a_name_server_that_never_answers_is_not_waited_for_longer_than_for_a_tracker() {
    let mut w = world(&[&["udp://t.example:80/announce"]]);
    w.pass(29.0);
    assert_eq!(failed(&w), None);
    w.pass(2.0);
    assert_eq!(failed(&w), Some(&AnnounceError::Timeout));
    assert!(datagrams(&mut w).is_empty());
}

#[test]
fn tiers_fall_through_from_http_to_udp_and_peers_are_dialed() {
    let mut w = world(&[&["http://a/announce"], &["udp://t.example:80/announce"]]);
    let asked = w.log.iter().find_map(|a| match a {
        Action::Announce { id, url, timeout } => Some((*id, url.clone(), *timeout)),
        _ => None,
    });
    let (id, url, timeout) = asked.unwrap();
    assert!(
        url.starts_with("http://a/announce?info_hash=")
            && url.contains("event=started")
            && timeout == limits::ANNOUNCE_TIMEOUT
    );
    assert!(!w.log.iter().any(|a| matches!(a, Action::Resolve { .. })), "one question at a time");
    w.engine.on_announced(w.now, id, Err(AnnounceError::Status(500)), &mut w.out);
    w.turn();
    w.pass(0.01);
    resolve(&mut w, &[TRACKER]);
    w.log.retain(|a| matches!(a, Action::Datagram { .. }));
    start_udp_transaction(&mut w, TRACKER);
    w.pass(1.0);
    assert_eq!(w.dials.iter().map(|(_, a)| *a).collect::<Vec<_>>(), [addr("1.2.3.4:80")]);
    // A late second answer to the same question changes nothing.
    w.engine.on_announced(
        w.now,
        id,
        Ok(AnnounceReply { peers: vec![addr("7.7.7.7:7")], ..AnnounceReply::default() }),
        &mut w.out,
    );
    assert_eq!(known(&w), 1);
}

#[test]
fn a_stopped_torrent_tells_the_udp_tracker_and_waits_five_seconds_at_most() {
    let mut w = udp(&[TRACKER]);
    start_udp_transaction(&mut w, TRACKER);
    w.log.clear();
    w.engine.shut_down(w.now, &mut w.out);
    w.turn();
    resolve(&mut w, &[TRACKER]);
    let (_, packet) = only(&mut w);
    assert_eq!(
        (packet.len() > 90, &packet[80..84]),
        (true, &3u32.to_be_bytes()[..]),
        "stopped, under the old connection id"
    );
    assert!(!w.engine.is_idle());
    w.pass(5.1);
    assert!(w.engine.is_idle());
}

#[test]
fn a_reply_with_a_wild_interval_does_not_make_us_ask_all_the_time() {
    let mut w = world(&[&["http://a/announce"]]);
    for _ in 0..10 {
        let ids: Vec<u64> = w
            .log
            .drain(..)
            .filter_map(|a| if let Action::Announce { id, .. } = a { Some(id) } else { None })
            .collect();
        assert!(ids.len() <= 1);
        for id in ids {
            let reply = AnnounceReply { interval: Some(Duration::ZERO), ..AnnounceReply::default() };
            w.engine.on_announced(w.now, id, Ok(reply), &mut w.out);
        }
        w.pass(60.0);
    }
}
