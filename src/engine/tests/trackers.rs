//! Tracker announces: tiers, HTTP beside UDP, and UDP transactions with their failures.

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
    let mut w = TestWorld::with_setup(|s| {
        s.spec.trackers = tiers.iter().map(|t| t.iter().map(|u| (*u).to_string()).collect()).collect();
    });
    w.advance(0.01);
    w
}

/// Returns a world that announces to one UDP tracker whose name is resolved.
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
    w.run_actions();
}

/// Returns the datagrams since the last call.
fn datagrams(w: &mut TestWorld) -> Vec<(SocketAddr, Vec<u8>)> {
    let taken = std::mem::take(&mut w.log);
    taken
        .into_iter()
        .filter_map(|a| if let Action::Datagram { to, bytes } = a { Some((to, bytes)) } else { None })
        .collect()
}

fn only_datagram(w: &mut TestWorld) -> (SocketAddr, Vec<u8>) {
    let mut all = datagrams(w);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn receive(w: &mut TestWorld, from: &str, words: &[u32], tail: &[u8]) {
    let packet: Vec<u8> = words.iter().flat_map(|n| n.to_be_bytes()).chain(tail.iter().copied()).collect();
    w.engine.on_datagram(w.now, addr(from), &packet, &mut w.out);
    w.run_actions();
}

/// Returns the transaction id; connect and announce requests have it at the same offset.
fn transaction(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[12..16].try_into().unwrap())
}

fn known(w: &TestWorld) -> usize {
    w.engine.stats(w.now, w.torrent).unwrap().known_peers
}

fn announce_error(w: &TestWorld) -> Option<&AnnounceError> {
    w.log.iter().find_map(|a| {
        if let Action::Notice(Notice::TrackerFailed { error, .. }) = a { Some(error) } else { None }
    })
}

/// Answers the connect request, and the announce with one peer.
fn start_udp_transaction(w: &mut TestWorld, from: &str) {
    let (_, connect) = only_datagram(w);
    receive(w, from, &[0, transaction(&connect), 1, 2], &[]);
    let (_, announce) = only_datagram(w);
    receive(w, from, &[1, transaction(&announce), 1800, 1, 1], &[1, 2, 3, 4, 0, 80]);
}

#[test]
fn a_udp_announce_returns_peers() {
    let mut w = udp(&[TRACKER]);
    let (to, connect) = only_datagram(&mut w);
    assert_eq!(
        (to, connect.len(), &connect[..8]),
        (addr(TRACKER), 16, &0x0417_2710_1980u64.to_be_bytes()[..])
    );
    receive(&mut w, TRACKER, &[0, transaction(&connect), 0xaaaa, 0xbbbb], &[]);
    let (to, announce) = only_datagram(&mut w);
    assert_eq!((to, &announce[..8]), (addr(TRACKER), &0xaaaa_0000_bbbbu64.to_be_bytes()[..]));
    receive(&mut w, TRACKER, &[1, transaction(&announce), 1800, 1, 1], &[1, 2, 3, 4, 0, 80]);
    assert_eq!(known(&w), 1);
    w.advance(1795.0);
    assert!(!w.log.iter().any(|a| matches!(a, Action::Resolve { .. })));
    w.advance(10.0);
    assert!(
        w.log.iter().any(|a| matches!(a, Action::Resolve { .. })),
        "the next announce follows after the interval"
    );
}

#[test]
fn k13_a_datagram_with_another_transaction_or_source_is_ignored() {
    let mut w = udp(&[TRACKER]);
    let (_, connect) = only_datagram(&mut w);
    let t = transaction(&connect);
    receive(&mut w, TRACKER, &[0, t ^ 1, 1, 2], &[]);
    receive(&mut w, SECOND, &[0, t, 1, 2], &[]);
    receive(&mut w, "9.9.9.9:81", &[0, t, 1, 2], &[]);
    receive(&mut w, TRACKER, &[1, t, 1, 2, 3], &[]);
    receive(&mut w, TRACKER, &[0, t], &[]);
    receive(&mut w, TRACKER, &[0], &[]);
    assert!(datagrams(&mut w).is_empty() && announce_error(&w).is_none());
    receive(&mut w, TRACKER, &[0, t, 1, 2], &[]);
    assert_eq!(only_datagram(&mut w).0, addr(TRACKER), "the valid reply is accepted");
}

#[test]
fn k13_a_request_is_repeated_after_fifteen_seconds_and_fails_after_thirty() {
    let mut w = udp(&[TRACKER]);
    let first = only_datagram(&mut w);
    w.advance(14.9);
    assert!(datagrams(&mut w).is_empty());
    w.advance(0.2);
    assert_eq!(only_datagram(&mut w), first, "the same request, byte for byte");
    w.advance(14.8);
    assert_eq!(announce_error(&w), None);
    w.advance(0.2);
    assert_eq!(announce_error(&w), Some(&AnnounceError::Timeout));
}

#[test]
fn the_second_address_of_a_tracker_is_tried_after_a_timeout() {
    let mut w = udp(&[TRACKER, SECOND]);
    assert_eq!(only_datagram(&mut w).0, addr(TRACKER));
    w.advance(31.0);
    let sent = datagrams(&mut w);
    assert_eq!(sent.last().unwrap().0, addr(SECOND));
    let t = transaction(&sent.last().unwrap().1);
    receive(&mut w, SECOND, &[0, t, 1, 2], &[]);
    assert_eq!(only_datagram(&mut w).0, addr(SECOND));
}

#[test]
fn k13_a_tracker_error_is_reported_and_the_next_announce_delayed() {
    let mut w = udp(&[TRACKER]);
    let (_, connect) = only_datagram(&mut w);
    receive(&mut w, TRACKER, &[3, transaction(&connect)], b"not \x1b[2Jyou");
    assert_eq!(
        announce_error(&w),
        Some(&AnnounceError::Failure { reason: "not [2Jyou".into(), retry_in: None })
    );
    w.log.clear();
    w.advance(17.0);
    assert!(w.log.is_empty());
    w.advance(1.0);
    assert!(matches!(w.log[..], [Action::Resolve { .. }]));
}

#[test]
fn a_connection_id_is_used_for_one_minute() {
    let mut w = udp(&[TRACKER]);
    start_udp_transaction(&mut w, TRACKER);
    // A second torrent with the same tracker after half a minute, and a third after two minutes.
    for (n, after, connects) in [(1u8, 30.0, false), (2, 90.0, true)] {
        w.advance(after);
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
        w.advance(0.01);
        resolve(&mut w, &[TRACKER]);
        assert_eq!(only_datagram(&mut w).1.len() == 16, connects, "torrent {n}");
    }
}

#[test]
fn a_name_without_address_fails_the_announce() {
    let mut w = world(&[&["udp://t.example:80/announce"]]);
    resolve(&mut w, &[]);
    assert!(announce_error(&w).is_some());
}

#[test]
fn a_name_lookup_without_reply_times_out_like_a_tracker() {
    let mut w = world(&[&["udp://t.example:80/announce"]]);
    w.advance(29.0);
    assert_eq!(announce_error(&w), None);
    w.advance(2.0);
    assert_eq!(announce_error(&w), Some(&AnnounceError::Timeout));
    assert!(datagrams(&mut w).is_empty());
}

#[test]
fn the_next_tier_is_used_after_a_failure_and_its_peers_are_dialed() {
    let mut w = world(&[&["http://a/announce"], &["udp://t.example:80/announce"]]);
    let announce = w.log.iter().find_map(|a| match a {
        Action::Announce { id, url, timeout } => Some((*id, url.clone(), *timeout)),
        _ => None,
    });
    let (id, url, timeout) = announce.unwrap();
    assert!(
        url.starts_with("http://a/announce?info_hash=")
            && url.contains("event=started")
            && timeout == limits::ANNOUNCE_TIMEOUT
    );
    assert!(!w.log.iter().any(|a| matches!(a, Action::Resolve { .. })), "one announce at a time");
    w.engine.on_announced(w.now, id, Err(AnnounceError::Status(500)), &mut w.out);
    w.run_actions();
    w.advance(0.01);
    resolve(&mut w, &[TRACKER]);
    w.log.retain(|a| matches!(a, Action::Datagram { .. }));
    start_udp_transaction(&mut w, TRACKER);
    w.advance(1.0);
    assert_eq!(w.dials.iter().map(|(_, a)| *a).collect::<Vec<_>>(), [addr("1.2.3.4:80")]);
    // A second reply to the same announce is ignored.
    w.engine.on_announced(
        w.now,
        id,
        Ok(AnnounceReply { peers: vec![addr("7.7.7.7:7")], ..AnnounceReply::default() }),
        &mut w.out,
    );
    assert_eq!(known(&w), 1);
}

#[test]
fn stopped_is_announced_over_udp_within_five_seconds() {
    let mut w = udp(&[TRACKER]);
    start_udp_transaction(&mut w, TRACKER);
    w.log.clear();
    w.engine.shut_down(w.now, &mut w.out);
    w.run_actions();
    resolve(&mut w, &[TRACKER]);
    let (_, packet) = only_datagram(&mut w);
    assert_eq!(
        (packet.len() > 90, &packet[80..84]),
        (true, &3u32.to_be_bytes()[..]),
        "stopped, under the old connection id"
    );
    assert!(!w.engine.is_idle());
    w.advance(5.1);
    assert!(w.engine.is_idle());
}

#[test]
fn an_interval_of_zero_does_not_cause_frequent_announces() {
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
        w.advance(60.0);
    }
}

// ---- order and end -------------------------------------------------------------------------------------------------

/// Returns the announces over HTTP since the last call: id, event, `left`, and the time for it.
fn http(w: &mut TestWorld) -> Vec<(u64, String, u64, Duration)> {
    let value = |url: &str, key: &str| {
        let query = url.split_once('?').unwrap().1;
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        pair.unwrap_or_default().to_owned()
    };
    let taken = std::mem::take(&mut w.log);
    taken
        .into_iter()
        .filter_map(|a| match a {
            Action::Announce { id, url, timeout } => {
                Some((id, value(&url, "event"), value(&url, "left").parse().unwrap(), timeout))
            }
            _ => None,
        })
        .collect()
}

/// Returns the only announce over HTTP since the last call.
fn only_http(w: &mut TestWorld) -> (u64, String, u64, Duration) {
    let mut all = http(w);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn answer(w: &mut TestWorld, id: u64) {
    w.engine.on_announced(w.now, id, Ok(AnnounceReply::default()), &mut w.out);
    w.run_actions();
    w.advance(0.01);
}

fn shut_down(w: &mut TestWorld) {
    w.engine.shut_down(w.now, &mut w.out);
    w.run_actions();
}

fn select(w: &mut TestWorld, bits: u8) {
    let wanted = crate::units::Bitfield::from_wire(&[bits], 4).unwrap();
    w.engine.set_wanted(w.now, w.torrent, wanted, None, &mut w.out);
    w.run_actions();
}

#[test]
fn a1_the_shutdown_waits_a_second_for_a_tracker_that_never_answered_and_then_sends_nothing() {
    let mut w = world(&[&["http://a/announce"]]);
    only_http(&mut w);
    shut_down(&mut w);
    w.advance(0.9);
    assert!(!w.engine.is_idle());
    w.advance(0.2);
    assert!(w.engine.is_idle());
    assert_eq!(http(&mut w), [], "stopped would overtake started");
}

#[test]
fn a1_stopped_follows_the_answer_to_started_that_comes_during_the_shutdown() {
    let mut w = world(&[&["http://a/announce"]]);
    let (started, ..) = only_http(&mut w);
    shut_down(&mut w);
    w.advance(0.5);
    assert_eq!(http(&mut w), []);
    answer(&mut w, started);
    let (stopped, event, ..) = only_http(&mut w);
    assert_eq!(event, "stopped");
    answer(&mut w, stopped);
    assert!(w.engine.is_idle(), "the end waits no longer than needed");
}

#[test]
fn a1_the_shutdown_waits_five_seconds_for_a_tracker_that_answered() {
    let mut w = world(&[&["http://a/announce"]]);
    let (started, ..) = only_http(&mut w);
    answer(&mut w, started);
    shut_down(&mut w);
    assert_eq!(only_http(&mut w).3, limits::STOPPED_TIMEOUT);
    w.advance(4.9);
    assert!(!w.engine.is_idle());
    w.advance(0.2);
    assert!(w.engine.is_idle());
}

#[test]
fn a1_over_udp_stopped_follows_the_answer_to_started() {
    let mut w = udp(&[TRACKER]);
    let (_, connect) = only_datagram(&mut w);
    receive(&mut w, TRACKER, &[0, transaction(&connect), 1, 2], &[]);
    let (_, started) = only_datagram(&mut w);
    assert_eq!(started[83], 2, "started");
    shut_down(&mut w);
    assert!(w.log.iter().all(|a| !matches!(a, Action::Resolve { .. } | Action::Datagram { .. })));
    receive(&mut w, TRACKER, &[1, transaction(&started), 1800, 1, 1], &[]);
    resolve(&mut w, &[TRACKER]);
    let (_, stopped) = only_datagram(&mut w);
    assert_eq!(stopped[83], 3, "stopped");
    receive(&mut w, TRACKER, &[1, transaction(&stopped), 1800, 1, 1], &[]);
    assert!(w.engine.is_idle());
}

#[test]
fn a1_a_torrent_that_is_added_again_is_announced_after_the_stopped_of_its_former_entry() {
    let mut w = world(&[&["http://a/announce"]]);
    let (started, ..) = only_http(&mut w);
    w.engine.remove_torrent(w.now, w.torrent, &mut w.out);
    w.run_actions();
    let spec = crate::engine::TorrentSpec {
        info_hash: crate::engine::testing::HASH,
        torrent_info: None,
        trackers: vec![vec!["http://a/announce".into()]],
        peers: Vec::new(),
        sequential: false,
        download_limit: None,
        upload_limit: None,
    };
    let again = w.engine.add_torrent(w.now, spec).unwrap();
    w.engine.resume(w.now, again);
    w.advance(1.0);
    assert_eq!(http(&mut w), [], "started of the former entry is under way");
    answer(&mut w, started);
    let (stopped, event, ..) = only_http(&mut w);
    assert_eq!(event, "stopped");
    answer(&mut w, stopped);
    w.advance(1.0);
    assert_eq!(only_http(&mut w).1, "started");
}

#[test]
fn a2_completed_leaves_once_the_record_is_saved_and_never_a_second_time() {
    let mut w = world(&[&["http://a/announce"]]);
    let (started, _, left, _) = only_http(&mut w);
    assert_eq!(left, w.geometry.total());
    answer(&mut w, started);
    w.slow_disk = true;
    let p = w.unchoking_seed(1);
    while !w.is_complete() {
        w.serve_all(p);
        assert!(!w.jobs.is_empty());
        w.finish_disk_job();
        w.run_actions();
    }
    w.advance(0.1);
    assert_eq!(http(&mut w), [], "the record is not saved");
    assert!(w.engine.checkpoint(w.torrent).unwrap().history.completed);
    w.finish_disk_jobs();
    w.run_actions();
    w.advance(0.1);
    let (completed, event, left, _) = only_http(&mut w);
    assert_eq!((&*event, left), ("completed", 0));
    answer(&mut w, completed);
    w.engine.on_completed_saved(w.now, w.torrent, true, &mut w.out);
    w.advance(1900.0);
    assert_eq!(only_http(&mut w).1, "");
}

#[test]
fn a2_a_torrent_whose_record_says_completed_announces_it_no_more() {
    let mut w = TestWorld::with_setup(|s| s.spec.trackers = vec![vec!["http://a/announce".into()]]);
    let history = crate::engine::History { completed: true, downloaded: 500, uploaded: 70 };
    w.engine.on_history(w.torrent, history);
    w.advance(0.01);
    let (started, ..) = only_http(&mut w);
    answer(&mut w, started);
    let p = w.unchoking_seed(1);
    w.serve_all(p);
    w.advance(10.0);
    assert!(w.is_complete());
    assert_eq!(http(&mut w), []);
    let stats = w.engine.stats(w.now, w.torrent).unwrap();
    assert_eq!((stats.total_downloaded, stats.total_uploaded), (500 + stats.downloaded, 70));
    w.engine.on_history(w.torrent, history);
    assert_eq!(w.engine.checkpoint(w.torrent).unwrap().history.uploaded, 70, "only the first record counts");
}

#[test]
fn a2_a_selection_is_never_announced_as_completed_and_left_counts_the_torrent() {
    let mut w = world(&[&["http://a/announce"]]);
    let (started, ..) = only_http(&mut w);
    answer(&mut w, started);
    select(&mut w, 0x80);
    let p = w.unchoking_seed(1);
    w.serve_all(p);
    w.advance(10.0);
    assert_eq!(w.have(), [0]);
    assert_eq!(http(&mut w), [], "no completed for a part");
    w.advance(1900.0);
    let rest = w.geometry.total() - u64::from(w.geometry.piece_len(w.piece(0)));
    let (periodic, event, left, _) = only_http(&mut w);
    assert_eq!((&*event, left), ("paused", rest));
    answer(&mut w, periodic);
    select(&mut w, 0xf0);
    let p = w.unchoking_seed(2);
    w.serve_all(p);
    w.advance(10.0);
    let (_, event, left, _) = only_http(&mut w);
    assert_eq!((&*event, left), ("completed", 0), "now the whole torrent is there");
}

#[test]
fn a3_after_a_pause_trackers_are_told_the_bytes_since_the_second_started() {
    let mut w = world(&[&["http://a/announce"]]);
    let (started, ..) = only_http(&mut w);
    answer(&mut w, started);
    let p = w.unchoking_seed(1);
    w.serve_one(p);
    w.engine.pause(w.now, w.torrent, &mut w.out);
    w.run_actions();
    let downloaded = |w: &TestWorld| {
        let url = w.log.iter().rev().find_map(|a| match a {
            Action::Announce { url, .. } => Some(url.clone()),
            _ => None,
        });
        let url = url.unwrap();
        let text = url.split("&downloaded=").nth(1).unwrap().split('&').next().unwrap();
        text.parse::<u64>().unwrap()
    };
    assert!(downloaded(&w) > 0);
    let (stopped, ..) = only_http(&mut w);
    answer(&mut w, stopped);
    w.engine.resume(w.now, w.torrent);
    w.advance(0.01);
    assert_eq!(downloaded(&w), 0);
}
