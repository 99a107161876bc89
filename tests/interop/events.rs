//! Announces to trackers (the three events, tiers, IPv6), and signals during a download.

use crate::clients::{Client, rill, rill_at};
use crate::content::{Shape, Torrent};
use crate::lab::{Kid, Lab, free_port};
use crate::need;
use crate::tracker::{Listening, OpenTracker};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn get<'a>(lab: &'a Lab, torrent: &Torrent, out: &Path, more: &[&str]) -> Kid<'a> {
    let mut get = rill();
    get.args(["get", "--listen-port", "0"]).args(more).arg("-d").arg(out).arg(&torrent.file);
    lab.start(&mut get)
}

#[test]
#[ignore = "takes long"]
fn the_tracker_gets_started_completed_and_stopped_with_the_right_numbers() {
    let lab = Lab::new();
    let port = free_port();
    let tracker = Listening::start(V4, vec![(V4, port).into()]);
    let torrent = Torrent::make(&lab, Shape::single(3 << 20, 64 << 10), &[&[&tracker.url()]]);
    rill_at(&lab, &torrent, port, "0");
    lab.wait_for("the seed has announced itself", || tracker.events() == ["started"]);
    let out = lab.new_dir("out");
    assert_eq!(get(&lab, &torrent, &out, &["--no-state"]).code(), 0, "{}", lab.words());
    torrent.must_be_in(&out, &lab);
    assert_eq!(tracker.events(), ["started", "started", "completed", "stopped"]);
    let seen = tracker.seen();
    let of = |event: &str| seen.iter().rev().find(|a| a.event == event).unwrap();
    assert_eq!((of("started").left, of("started").downloaded), (3 << 20, 0));
    assert_eq!(of("completed").left, 0);
    assert!(of("stopped").downloaded >= 3 << 20 && of("stopped").port != 0);
}

#[test]
#[ignore = "takes long"]
fn a_dead_first_tier_falls_to_the_second() {
    let lab = Lab::new();
    let port = free_port();
    let tracker = Listening::start(V4, vec![(V4, port).into()]);
    let dead = format!("http://127.0.0.1:{}/announce", free_port());
    let dead_udp = format!("udp://127.0.0.1:{}/announce", free_port());
    let torrent =
        Torrent::make(&lab, Shape::single(1 << 20, 64 << 10), &[&[&dead, &dead_udp], &[&tracker.url()]]);
    rill_at(&lab, &torrent, port, "0");
    let out = lab.new_dir("out");
    assert_eq!(get(&lab, &torrent, &out, &["--no-state"]).code(), 0, "{}", lab.words());
    torrent.must_be_in(&out, &lab);
}

#[test]
#[ignore = "takes long"]
fn a_transfer_works_over_ipv6() {
    let lab = Lab::new();
    let port = free_port();
    let tracker = Listening::start(V6, vec![(V6, port).into()]);
    let torrent = Torrent::make(&lab, Shape::single(3 << 20, 64 << 10), &[&[&tracker.url()]]);
    rill_at(&lab, &torrent, port, "0");
    let out = lab.new_dir("out");
    assert_eq!(get(&lab, &torrent, &out, &["--no-state"]).code(), 0, "{}", lab.words());
    torrent.must_be_in(&out, &lab);
}

#[test]
#[ignore = "needs other programs"]
fn opentracker_counts_rill_over_http_and_udp() {
    need!("opentracker");
    for udp in [false, true] {
        let lab = Lab::new();
        let tracker = OpenTracker::new();
        let url = if udp { tracker.udp() } else { tracker.http() };
        let torrent = Torrent::make(&lab, Shape::single(1 << 20, 64 << 10), &[&[&url]]);
        tracker.start(&lab, &[&torrent]);
        let kid = Client::Rill.seed(&lab, &torrent, &torrent.dir);
        tracker.wait_for_seeds(&lab, &torrent, 1);
        kid.signal("TERM");
        assert_eq!(kid.code(), 0, "{}", lab.words());
        lab.wait_for("opentracker has forgotten the seed", || tracker.scrape(&torrent).0 == 0);
    }
}

#[test]
#[ignore = "takes long"]
fn ctrl_c_ends_a_download_with_7_within_five_seconds_and_keeps_its_pieces() {
    let lab = Lab::new();
    let port = free_port();
    // A tracker that never answers must not delay the end.
    let mute = std::net::TcpListener::bind((V4, 0)).unwrap();
    let url = format!("http://{}/announce", mute.local_addr().unwrap());
    let torrent = Torrent::make(&lab, Shape::single(16 << 20, 128 << 10), &[&[&url]]);
    rill_at(&lab, &torrent, port, "2M");
    let out = lab.new_dir("out");
    let state = lab.new_dir("state");
    let more = ["--peer", &format!("127.0.0.1:{port}"), "--json", "--state-dir", state.to_str().unwrap()];
    let kid = get(&lab, &torrent, &out, &more);
    lab.wait_for("rill has a quarter of the pieces", || pieces_have(&kid) >= 32);
    let had = pieces_have(&kid);
    kid.signal("INT");
    let begun = Instant::now();
    assert_eq!(kid.code_within(Duration::from_secs(7)), 7, "{}", lab.words());
    assert!(begun.elapsed() < Duration::from_secs(6), "it took {:?}", begun.elapsed());
    let again = get(&lab, &torrent, &out, &more);
    lab.wait_for("the download continues", || pieces_have(&again) > 0);
    let first = objects(&again).iter().find_map(|o| o["pieces_have"].as_u64().filter(|n| *n > 0)).unwrap();
    assert!(first + 1 >= had, "{first} pieces claimed at once, but {had} were there\n{}", lab.words());
    assert_eq!(again.code(), 0, "{}", lab.words());
    torrent.must_be_in(&out, &lab);
}

#[test]
#[ignore = "takes long"]
fn a_second_signal_ends_a_download_at_once() {
    let lab = Lab::new();
    let mute = std::net::TcpListener::bind((V4, 0)).unwrap();
    let url = format!("http://{}/announce", mute.local_addr().unwrap());
    let torrent = Torrent::make(&lab, Shape::single(1 << 20, 64 << 10), &[&[&url]]);
    let kid = get(&lab, &torrent, &lab.new_dir("out"), &["--no-state"]);
    std::thread::sleep(Duration::from_secs(1));
    kid.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    kid.signal("TERM");
    assert_eq!(kid.code_within(Duration::from_secs(1)), 7);
}

#[test]
#[ignore = "takes long"]
fn a_torrent_without_peers_times_out() {
    let lab = Lab::new();
    let torrent = Torrent::make(&lab, Shape::single(1 << 20, 64 << 10), &[]);
    for option in ["--timeout", "--stall-timeout"] {
        let kid = get(&lab, &torrent, &lab.new_dir("out"), &["--no-state", option, "2"]);
        assert_eq!(kid.code_within(Duration::from_secs(10)), 2, "{}", lab.words());
        assert!(kid.words().contains("rill: ") && kid.words().contains("2s"), "{}", kid.words());
    }
}

/// Returns the JSON objects that rill has printed so far.
pub fn objects(kid: &Kid<'_>) -> Vec<serde_json::Value> {
    kid.words().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Returns the number of pieces in the last JSON object.
pub fn pieces_have(kid: &Kid<'_>) -> u64 {
    objects(kid).iter().filter_map(|o| o["pieces_have"].as_u64()).max().unwrap_or(0)
}
