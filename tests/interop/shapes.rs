//! Content in various shapes, transferred from libtorrent to rill, and from rill to another libtorrent.

use crate::clients::Client;
use crate::content::{Piece, Shape, Torrent, file, pad};
use crate::lab::Lab;
use crate::need;
use crate::tracker::OpenTracker;

/// Transfers content from libtorrent to rill, then from rill to a new libtorrent.
fn travel(shape: Shape) {
    need!("opentracker", "libtorrent");
    let lab = Lab::new();
    let tracker = OpenTracker::new();
    let torrent = Torrent::make(&lab, shape, &[&[&tracker.http()]]);
    tracker.start(&lab, &[&torrent]);
    let first = Client::Libtorrent.seed(&lab, &torrent, &torrent.dir);
    tracker.wait_for_seeds(&lab, &torrent, 1);
    let middle = lab.new_dir("middle");
    Client::Rill.fetch(&lab, &torrent, &middle);
    torrent.must_be_in(&middle, &lab);
    first.kill();
    let seeds = tracker.scrape(&torrent).0;
    Client::Rill.seed(&lab, &torrent, &middle);
    tracker.wait_for_seeds(&lab, &torrent, seeds + 1);
    let end = lab.new_dir("end");
    Client::Libtorrent.fetch(&lab, &torrent, &end);
    torrent.must_be_in(&end, &lab);
}

#[test]
#[ignore = "needs other programs"]
fn one_byte() {
    travel(Shape::single(1, 16 << 10));
}

#[test]
#[ignore = "needs other programs"]
fn one_byte_more_than_whole_pieces() {
    travel(Shape::single((4 << 20) + 1, 256 << 10));
}

#[test]
#[ignore = "needs other programs"]
fn pieces_that_are_no_power_of_two() {
    travel(Shape::single(3_000_000, 123_456));
}

#[test]
#[ignore = "needs other programs"]
fn pieces_shorter_than_a_block() {
    travel(Shape::single(300_007, 5_000));
}

#[test]
#[ignore = "needs other programs"]
fn pieces_of_16_mib() {
    travel(Shape::single((40 << 20) + 12_345, 16 << 20));
}

#[test]
#[ignore = "needs other programs"]
fn two_hundred_files_in_directories() {
    let one = |i: u64| file(format!("d{}/e{}/f{i:03}", i % 7, i % 3), (i * i * 37) % 60_000);
    travel(Shape::multi((0..200).map(one).collect(), 64 << 10));
}

#[test]
#[ignore = "needs other programs"]
fn empty_files_first_last_and_between() {
    let files =
        vec![file("0", 0), file("a", 100_000), file("b/0", 0), file("b/00", 0), file("c", 1), file("z", 0)];
    travel(Shape::multi(files, 16 << 10));
}

#[test]
#[ignore = "needs other programs"]
fn pad_files_between_files() {
    let files = vec![
        file("a", 70_000),
        pad(61_072),
        file("b", 131_072),
        file("c", 1),
        pad(65_535),
        file("d", 200_000),
    ];
    travel(Shape::multi(files, 64 << 10));
}

#[test]
#[ignore = "needs other programs and 10 GiB of disk"]
fn five_gib_mostly_holes() {
    let big = Piece { sparse: true, ..file("", (5 << 30) + 1) };
    need!("libtorrent", "opentracker");
    let lab = Lab::new();
    let tracker = OpenTracker::new();
    let torrent =
        Torrent::make(&lab, Shape { files: vec![big], ..Shape::single(0, 4 << 20) }, &[&[&tracker.http()]]);
    tracker.start(&lab, &[&torrent]);
    Client::Rill.seed(&lab, &torrent, &torrent.dir);
    tracker.wait_for_seeds(&lab, &torrent, 1);
    let out = lab.new_dir("out");
    Client::Rill.fetch(&lab, &torrent, &out);
    torrent.must_be_in(&out, &lab);
}
