//! Scrapes of opentracker over HTTP and UDP, without peers and with one seed.

use crate::clients::{Client, rill};
use crate::content::{Shape, Torrent};
use crate::lab::Lab;
use crate::need;
use crate::tracker::OpenTracker;

#[test]
#[ignore = "needs other programs"]
fn opentracker_is_scraped_over_http_and_udp() {
    need!("opentracker");
    let lab = Lab::new();
    let tracker = OpenTracker::new();
    let http = tracker.http();
    let udp = tracker.udp();
    let torrent = Torrent::make(&lab, Shape::single(1 << 20, 64 << 10), &[&[&http], &[&udp]]);
    tracker.start(&lab, &[&torrent]);
    let rows = || {
        let show =
            rill().args(["show", "--no-state", "--scrape", "--json"]).arg(&torrent.file).output().unwrap();
        let object: serde_json::Value = serde_json::from_slice(&show.stdout).unwrap();
        let numbers =
            |row: &serde_json::Value| (row["tracker"].clone(), row["seeds"].as_u64(), row["peers"].as_u64());
        let rows: Vec<_> = object["scrape"].as_array().unwrap().iter().map(numbers).collect();
        (show.status.code(), rows)
    };
    // opentracker leaves out a torrent without peers over HTTP, and returns zeros over UDP.
    let (code, empty) = rows();
    assert_eq!((code, &empty[1]), (Some(0), &(udp.clone().into(), Some(0), Some(0))), "{empty:?}");
    assert!(matches!(empty[0].1, None | Some(0)), "{empty:?}");
    // The scrape has not added us to the swarm.
    assert_eq!(tracker.scrape(&torrent), (0, 0));
    Client::Rill.seed(&lab, &torrent, &torrent.dir);
    tracker.wait_for_seeds(&lab, &torrent, 1);
    let one = |url: &String| (url.clone().into(), Some(1), Some(0));
    assert_eq!(rows(), (Some(0), vec![one(&http), one(&udp)]), "{}", lab.words());
}
