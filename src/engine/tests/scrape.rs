//! Counts asked of trackers: each answers once, the torrent may be paused, and trackers learn nothing of us
//! (BEP 48, BEP 15).

use crate::engine::testing::{HASH, TestWorld};
use crate::engine::{Action, Notice, TorrentSpec};
use crate::units::{InfoHash, TorrentKey};
use crate::wire::{AnnounceError, SwarmCounts};
use std::net::SocketAddr;

const TRACKER: &str = "9.9.9.9:80";
const COUNTS: SwarmCounts = SwarmCounts { seeds: Some(3), peers: Some(5), completed: Some(4) };

/// A torrent that was added and never ran, with these trackers.
fn resting(w: &mut TestWorld, urls: &[&str]) -> TorrentKey {
    let spec = TorrentSpec {
        info_hash: InfoHash([8; 20]),
        torrent_info: None,
        trackers: urls.iter().map(|url| vec![(*url).to_owned()]).collect(),
        peers: vec!["10.0.0.9:1".parse().unwrap()],
        sequential: false,
        download_limit: None,
        upload_limit: None,
    };
    w.engine.add_torrent(w.now, spec).unwrap()
}

fn scrape(w: &mut TestWorld, key: TorrentKey) {
    w.engine.scrape(w.now, key, &mut w.out);
    w.turn();
}

/// A world in which a resting torrent with these trackers is being asked about.
fn asked(urls: &[&str]) -> (TestWorld, TorrentKey) {
    let mut w = TestWorld::leech();
    let key = resting(&mut w, urls);
    scrape(&mut w, key);
    (w, key)
}

fn resolve(w: &mut TestWorld, addresses: &[&str]) {
    let id = w
        .log
        .iter()
        .rev()
        .find_map(|a| if let Action::Resolve { id, .. } = a { Some(*id) } else { None })
        .unwrap();
    w.engine.on_resolved(w.now, id, Ok(addresses.iter().map(|a| a.parse().unwrap()).collect()), &mut w.out);
    w.turn();
}

fn datagrams(w: &TestWorld) -> Vec<(SocketAddr, Vec<u8>)> {
    w.log
        .iter()
        .filter_map(
            |a| if let Action::Datagram { to, bytes } = a { Some((*to, bytes.clone())) } else { None },
        )
        .collect()
}

fn hear(w: &mut TestWorld, from: &str, words: &[u32], tail: &[u8]) {
    let packet: Vec<u8> = words.iter().flat_map(|n| n.to_be_bytes()).chain(tail.iter().copied()).collect();
    w.engine.on_datagram(w.now, from.parse().unwrap(), &packet, &mut w.out);
    w.turn();
}

fn transaction(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[12..16].try_into().unwrap())
}

/// Connects; the question that follows.
fn question(w: &mut TestWorld) -> Vec<u8> {
    let connect = datagrams(w).pop().unwrap().1;
    hear(w, TRACKER, &[0, transaction(&connect), 1, 2], &[]);
    datagrams(w).pop().unwrap().1
}

/// What was told so far: each tracker's answer, and how often that it is over.
fn told(w: &TestWorld) -> (Vec<Result<SwarmCounts, AnnounceError>>, usize) {
    let answer = |a: &Action| {
        if let Action::Notice(Notice::Scraped { result, .. }) = a { Some(result.clone()) } else { None }
    };
    let over = |a: &&Action| matches!(a, Action::Notice(Notice::ScrapeDone { .. }));
    (w.log.iter().filter_map(answer).collect(), w.log.iter().filter(over).count())
}

#[test]
fn http_and_udp_trackers_of_a_resting_torrent_are_asked_and_nothing_else_is_done() {
    let (mut w, _) = asked(&["http://a.example/x/announce?k=1", "udp://b.example:80/announce"]);
    let Some(Action::Scrape { id, url, info_hash, .. }) =
        w.log.iter().find(|a| matches!(a, Action::Scrape { .. })).cloned()
    else {
        panic!("{:?}", w.log)
    };
    assert_eq!(
        (info_hash, url.starts_with("http://a.example/x/scrape?k=1&info_hash=%08%08")),
        (InfoHash([8; 20]), true)
    );
    resolve(&mut w, &[TRACKER]);
    let asked = question(&mut w);
    assert_eq!((&asked[8..12], &asked[16..]), (&[0, 0, 0, 2][..], &[8; 20][..]));
    assert_eq!(told(&w), (vec![], 0));
    hear(&mut w, TRACKER, &[2, transaction(&asked), 3, 4, 5], &[]);
    assert_eq!(told(&w), (vec![Ok(COUNTS)], 0), "one is still out");
    w.engine.on_scraped(w.now, id, Err(AnnounceError::Status(404)), &mut w.out);
    w.turn();
    assert_eq!(told(&w), (vec![Ok(COUNTS), Err(AnnounceError::Status(404))], 1));
    w.pass(100.0);
    assert_eq!(told(&w).1, 1);
    assert!(w.dials.is_empty() && !w.log.iter().any(|a| matches!(a, Action::Announce { .. })));
}

#[test]
fn a_tracker_that_cannot_be_scraped_and_a_torrent_without_any_are_answered_at_once() {
    let (w, _) = asked(&["http://a.example/a", "http://b.example/announce/x"]);
    assert_eq!(told(&w), (vec![Err(AnnounceError::NotScrapable), Err(AnnounceError::NotScrapable)], 1));
    let (w, _) = asked(&[]);
    assert_eq!(told(&w), (vec![], 1));
}

#[test]
fn k12_silent_trackers_are_given_up_after_half_a_minute_however_many_addresses_they_have() {
    let (mut w, _) = asked(&["http://a.example/announce", "udp://b.example:80"]);
    resolve(&mut w, &[TRACKER, "8.8.8.8:80", "7.7.7.7:80"]);
    w.pass(29.0);
    assert_eq!(told(&w).1, 0);
    w.pass(1.5);
    assert_eq!(told(&w), (vec![Err(AnnounceError::Timeout), Err(AnnounceError::Timeout)], 1));
    let mut tried: Vec<SocketAddr> = datagrams(&w).into_iter().map(|(to, _)| to).collect();
    tried.dedup();
    assert_eq!(tried.len(), 3, "every address has had its turn");
}

#[test]
fn a_name_that_leads_nowhere_is_an_answer() {
    let (mut w, _) = asked(&["udp://b.example:80"]);
    let id =
        w.log.iter().find_map(|a| if let Action::Resolve { id, .. } = a { Some(*id) } else { None }).unwrap();
    w.engine.on_resolved(w.now, id, Err("none".into()), &mut w.out);
    w.turn();
    assert_eq!(told(&w), (vec![Err(AnnounceError::NoAddress("none".into()))], 1));
}

#[test]
fn k13_an_answer_to_an_announce_or_of_another_transaction_is_no_count() {
    let (mut w, _) = asked(&["udp://b.example:80"]);
    resolve(&mut w, &[TRACKER]);
    let asked = question(&mut w);
    let t = transaction(&asked);
    hear(&mut w, TRACKER, &[2, t ^ 1, 3, 4, 5], &[]);
    hear(&mut w, "9.9.9.9:81", &[2, t, 3, 4, 5], &[]);
    hear(&mut w, TRACKER, &[1, t, 1800, 1, 1], &[1, 2, 3, 4, 0, 80]);
    hear(&mut w, TRACKER, &[2, t, 3, 4], &[]);
    assert_eq!(told(&w), (vec![], 0));
    hear(&mut w, TRACKER, &[3, t], b"no");
    assert_eq!(told(&w), (vec![Err(AnnounceError::Failure { reason: "no".into(), retry_in: None })], 1));
    hear(&mut w, TRACKER, &[2, t, 3, 4, 5], &[]);
    assert_eq!(told(&w).0.len(), 1, "an answer comes once");
}

#[test]
fn an_announce_does_not_take_a_scrapes_answer_nor_the_other_way_round() {
    let mut w = TestWorld::built(|s| s.spec.trackers = vec![vec!["http://a.example/announce".into()]]);
    w.pass(0.01);
    let key = w.torrent;
    scrape(&mut w, key);
    let id = |w: &TestWorld, announce: bool| {
        w.log.iter().find_map(|a| match a {
            Action::Announce { id, .. } if announce => Some(*id),
            Action::Scrape { id, info_hash, .. } if !announce && *info_hash == HASH => Some(*id),
            _ => None,
        })
    };
    let (announce, asked) = (id(&w, true).unwrap(), id(&w, false).unwrap());
    w.engine.on_scraped(w.now, announce, Ok(COUNTS), &mut w.out);
    w.engine.on_announced(w.now, asked, Err(AnnounceError::Timeout), &mut w.out);
    w.turn();
    assert_eq!(told(&w), (vec![], 0));
    assert!(!w.log.iter().any(|a| matches!(a, Action::Notice(Notice::TrackerFailed { .. }))));
    w.engine.on_scraped(w.now, asked, Ok(COUNTS), &mut w.out);
    w.turn();
    assert_eq!(told(&w), (vec![Ok(COUNTS)], 1));
}

#[test]
fn a_second_wish_waits_for_the_questions_of_the_first() {
    let (mut w, key) = asked(&["http://a.example/announce"]);
    scrape(&mut w, key);
    assert_eq!(w.log.iter().filter(|a| matches!(a, Action::Scrape { .. })).count(), 1);
    assert_eq!(told(&w), (vec![], 0));
}

#[test]
fn a_pause_does_not_lose_an_answer_and_the_end_waits_for_none() {
    let mut w = TestWorld::built(|s| s.spec.trackers = vec![vec!["http://a.example/announce".into()]]);
    let key = w.torrent;
    scrape(&mut w, key);
    w.engine.pause(w.now, key, &mut w.out);
    w.pass(31.0);
    assert_eq!(told(&w).1, 1, "told, if only that it was in vain");
    let (mut w, _) = asked(&["http://a.example/announce"]);
    w.engine.shut_down(w.now, &mut w.out);
    w.turn();
    assert!(w.engine.is_idle());
    let (mut w, key) = asked(&["http://a.example/announce"]);
    w.engine.remove_torrent(w.now, key, &mut w.out);
    w.pass(31.0);
    assert_eq!(told(&w), (vec![], 0));
}
