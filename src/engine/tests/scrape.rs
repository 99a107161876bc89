//! Scrapes: each tracker reports once, the torrent may be paused, and no announce is sent (BEP 48, BEP 15).

use crate::engine::testing::{HASH, TestWorld};
use crate::engine::{Action, Notice, TorrentSpec};
use crate::units::{InfoHash, TorrentKey};
use crate::wire::{AnnounceError, SwarmCounts};
use std::net::SocketAddr;

const TRACKER: &str = "9.9.9.9:80";
const COUNTS: SwarmCounts = SwarmCounts { seeds: Some(3), peers: Some(5), completed: Some(4) };

/// Adds a torrent with these trackers without starting it.
fn add_paused_torrent(w: &mut TestWorld, urls: &[&str]) -> TorrentKey {
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
    w.run_actions();
}

/// Returns a world with a scrape of a paused torrent in progress.
fn scraping(urls: &[&str]) -> (TestWorld, TorrentKey) {
    let mut w = TestWorld::leech();
    let key = add_paused_torrent(&mut w, urls);
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
    w.run_actions();
}

fn datagrams(w: &TestWorld) -> Vec<(SocketAddr, Vec<u8>)> {
    w.log
        .iter()
        .filter_map(
            |a| if let Action::Datagram { to, bytes } = a { Some((*to, bytes.clone())) } else { None },
        )
        .collect()
}

fn receive(w: &mut TestWorld, from: &str, words: &[u32], tail: &[u8]) {
    let packet: Vec<u8> = words.iter().flat_map(|n| n.to_be_bytes()).chain(tail.iter().copied()).collect();
    w.engine.on_datagram(w.now, from.parse().unwrap(), &packet, &mut w.out);
    w.run_actions();
}

fn transaction(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[12..16].try_into().unwrap())
}

/// Answers the connect request and returns the scrape request that follows.
fn connect_and_take_request(w: &mut TestWorld) -> Vec<u8> {
    let connect = datagrams(w).pop().unwrap().1;
    receive(w, TRACKER, &[0, transaction(&connect), 1, 2], &[]);
    datagrams(w).pop().unwrap().1
}

/// Returns the results so far, and the number of notices that a scrape is done.
fn results(w: &TestWorld) -> (Vec<Result<SwarmCounts, AnnounceError>>, usize) {
    let result = |a: &Action| {
        if let Action::Notice(Notice::Scraped { result, .. }) = a { Some(result.clone()) } else { None }
    };
    let over = |a: &&Action| matches!(a, Action::Notice(Notice::ScrapeDone { .. }));
    (w.log.iter().filter_map(result).collect(), w.log.iter().filter(over).count())
}

#[test]
fn a_paused_torrent_is_scraped_over_http_and_udp_without_an_announce() {
    let (mut w, _) = scraping(&["http://a.example/x/announce?k=1", "udp://b.example:80/announce"]);
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
    let request = connect_and_take_request(&mut w);
    assert_eq!((&request[8..12], &request[16..]), (&[0, 0, 0, 2][..], &[8; 20][..]));
    assert_eq!(results(&w), (vec![], 0));
    receive(&mut w, TRACKER, &[2, transaction(&request), 3, 4, 5], &[]);
    assert_eq!(results(&w), (vec![Ok(COUNTS)], 0), "one tracker has not replied");
    w.engine.on_scraped(w.now, id, Err(AnnounceError::Status(404)), &mut w.out);
    w.run_actions();
    assert_eq!(results(&w), (vec![Ok(COUNTS), Err(AnnounceError::Status(404))], 1));
    w.advance(100.0);
    assert_eq!(results(&w).1, 1);
    assert!(w.dials.is_empty() && !w.log.iter().any(|a| matches!(a, Action::Announce { .. })));
}

#[test]
fn unscrapable_trackers_and_torrents_without_trackers_end_at_once() {
    let (w, _) = scraping(&["http://a.example/a", "http://b.example/announce/x"]);
    assert_eq!(results(&w), (vec![Err(AnnounceError::NotScrapable), Err(AnnounceError::NotScrapable)], 1));
    let (w, _) = scraping(&[]);
    assert_eq!(results(&w), (vec![], 1));
}

#[test]
fn k12_scrapes_of_silent_trackers_time_out_after_thirty_seconds_with_any_number_of_addresses() {
    let (mut w, _) = scraping(&["http://a.example/announce", "udp://b.example:80"]);
    resolve(&mut w, &[TRACKER, "8.8.8.8:80", "7.7.7.7:80"]);
    w.advance(29.0);
    assert_eq!(results(&w).1, 0);
    w.advance(1.5);
    assert_eq!(results(&w), (vec![Err(AnnounceError::Timeout), Err(AnnounceError::Timeout)], 1));
    let mut tried: Vec<SocketAddr> = datagrams(&w).into_iter().map(|(to, _)| to).collect();
    tried.dedup();
    assert_eq!(tried.len(), 3, "every address was tried");
}

#[test]
fn a_failed_name_lookup_ends_the_scrape() {
    let (mut w, _) = scraping(&["udp://b.example:80"]);
    let id =
        w.log.iter().find_map(|a| if let Action::Resolve { id, .. } = a { Some(*id) } else { None }).unwrap();
    w.engine.on_resolved(w.now, id, Err("none".into()), &mut w.out);
    w.run_actions();
    assert_eq!(results(&w), (vec![Err(AnnounceError::NoAddress("none".into()))], 1));
}

#[test]
fn k13_a_scrape_reply_needs_the_right_action_transaction_and_address() {
    let (mut w, _) = scraping(&["udp://b.example:80"]);
    resolve(&mut w, &[TRACKER]);
    let request = connect_and_take_request(&mut w);
    let t = transaction(&request);
    receive(&mut w, TRACKER, &[2, t ^ 1, 3, 4, 5], &[]);
    receive(&mut w, "9.9.9.9:81", &[2, t, 3, 4, 5], &[]);
    receive(&mut w, TRACKER, &[1, t, 1800, 1, 1], &[1, 2, 3, 4, 0, 80]);
    receive(&mut w, TRACKER, &[2, t, 3, 4], &[]);
    assert_eq!(results(&w), (vec![], 0));
    receive(&mut w, TRACKER, &[3, t], b"no");
    assert_eq!(results(&w), (vec![Err(AnnounceError::Failure { reason: "no".into(), retry_in: None })], 1));
    receive(&mut w, TRACKER, &[2, t, 3, 4, 5], &[]);
    assert_eq!(results(&w).0.len(), 1, "a second reply is ignored");
}

#[test]
fn scrape_and_announce_replies_are_not_mixed_up() {
    let mut w = TestWorld::with_setup(|s| s.spec.trackers = vec![vec!["http://a.example/announce".into()]]);
    w.advance(0.01);
    let key = w.torrent;
    scrape(&mut w, key);
    let id = |w: &TestWorld, announce: bool| {
        w.log.iter().find_map(|a| match a {
            Action::Announce { id, .. } if announce => Some(*id),
            Action::Scrape { id, info_hash, .. } if !announce && *info_hash == HASH => Some(*id),
            _ => None,
        })
    };
    let announce = id(&w, true).unwrap();
    let scrape_id = id(&w, false).unwrap();
    w.engine.on_scraped(w.now, announce, Ok(COUNTS), &mut w.out);
    w.engine.on_announced(w.now, scrape_id, Err(AnnounceError::Timeout), &mut w.out);
    w.run_actions();
    assert_eq!(results(&w), (vec![], 0));
    assert!(!w.log.iter().any(|a| matches!(a, Action::Notice(Notice::TrackerFailed { .. }))));
    w.engine.on_scraped(w.now, scrape_id, Ok(COUNTS), &mut w.out);
    w.run_actions();
    assert_eq!(results(&w), (vec![Ok(COUNTS)], 1));
}

#[test]
fn a_second_scrape_joins_the_one_in_progress() {
    let (mut w, key) = scraping(&["http://a.example/announce"]);
    scrape(&mut w, key);
    assert_eq!(w.log.iter().filter(|a| matches!(a, Action::Scrape { .. })).count(), 1);
    assert_eq!(results(&w), (vec![], 0));
}

#[test]
fn a_scrape_survives_a_pause_and_does_not_delay_shutdown() {
    let mut w = TestWorld::with_setup(|s| s.spec.trackers = vec![vec!["http://a.example/announce".into()]]);
    let key = w.torrent;
    scrape(&mut w, key);
    w.engine.pause(w.now, key, &mut w.out);
    w.advance(31.0);
    assert_eq!(results(&w).1, 1, "the timeout is reported");
    let (mut w, _) = scraping(&["http://a.example/announce"]);
    w.engine.shut_down(w.now, &mut w.out);
    w.run_actions();
    assert!(w.engine.is_idle());
    let (mut w, key) = scraping(&["http://a.example/announce"]);
    w.engine.remove_torrent(w.now, key, &mut w.out);
    w.advance(31.0);
    assert_eq!(results(&w), (vec![], 0));
}
