//! Transfers between rill and each client in both directions, and through rill between two partial seeds.

use crate::clients::{Client, libtorrent_part};
use crate::content::{Shape, Torrent, file};
use crate::lab::{Lab, free_port, host};
use crate::need;
use crate::tracker::OpenTracker;
use std::fs;

/// Returns the shape of a directory with some files, a little over 12 MiB.
fn shape() -> Shape {
    Shape::multi(
        vec![
            file("a.bin", 9_000_001),
            file("sub/b.bin", 3_500_000),
            file("sub/empty", 0),
            file("c.bin", 70_000),
        ],
        256 << 10,
    )
}

/// Transfers content from `from` to `to`; the tracker's URL has this scheme.
fn exchange_over(scheme: &str, from: Client, to: Client) {
    need!("opentracker", from.program(), to.program());
    let lab = Lab::new();
    let tracker = OpenTracker::new();
    let url = if scheme == "udp" { tracker.udp() } else { tracker.http() };
    let torrent = Torrent::make(&lab, shape(), &[&[&url]]);
    tracker.start(&lab, &[&torrent]);
    let port = free_port();
    // If the tracker lists rtorrent itself first, rtorrent dials only itself, so rill must dial rtorrent.
    let meet = format!("--peer={}:{port}", host());
    let told = if to == Client::Rtorrent { vec![meet] } else { Vec::new() };
    from.seed_told(&lab, &torrent, &torrent.dir, &told);
    tracker.wait_for_seeds(&lab, &torrent, 1);
    let out = lab.new_dir("out");
    to.fetch_at(&lab, &torrent, &out, port);
    if to == Client::Transmission {
        // rtorrent creates no empty files, so they are not compared.
        fs::write(torrent.path(&out, 2), "").unwrap();
    }
    torrent.must_be_in(&out, &lab);
}

fn exchange(from: Client, to: Client) {
    exchange_over("http", from, to);
}

#[test]
#[ignore = "needs other programs"]
fn control_aria2_fetches_from_libtorrent() {
    exchange(Client::Libtorrent, Client::Aria2);
}

#[test]
#[ignore = "needs other programs"]
fn control_libtorrent_fetches_from_transmission() {
    exchange(Client::Transmission, Client::Libtorrent);
}

#[test]
#[ignore = "needs other programs"]
fn control_transmission_fetches_from_rtorrent() {
    exchange(Client::Rtorrent, Client::Transmission);
}

#[test]
#[ignore = "needs other programs"]
fn rill_fetches_from_libtorrent() {
    exchange(Client::Libtorrent, Client::Rill);
}

#[test]
#[ignore = "needs other programs"]
fn rill_fetches_from_aria2() {
    exchange(Client::Aria2, Client::Rill);
}

#[test]
#[ignore = "needs other programs"]
fn rill_fetches_from_transmission() {
    exchange(Client::Transmission, Client::Rill);
}

#[test]
#[ignore = "needs other programs"]
fn rill_fetches_from_rtorrent() {
    exchange(Client::Rtorrent, Client::Rill);
}

#[test]
#[ignore = "needs other programs"]
fn libtorrent_fetches_from_rill() {
    exchange(Client::Rill, Client::Libtorrent);
}

#[test]
#[ignore = "needs other programs"]
fn aria2_fetches_from_rill() {
    exchange(Client::Rill, Client::Aria2);
}

#[test]
#[ignore = "needs other programs"]
fn transmission_fetches_from_rill() {
    exchange(Client::Rill, Client::Transmission);
}

#[test]
#[ignore = "needs other programs"]
fn rtorrent_fetches_from_rill() {
    exchange(Client::Rill, Client::Rtorrent);
}

#[test]
#[ignore = "needs other programs"]
fn rill_finds_rill_through_a_udp_tracker() {
    exchange_over("udp", Client::Rill, Client::Rill);
}

#[test]
#[ignore = "needs other programs"]
fn two_partial_seeds_complete_each_other_through_rill() {
    need!("opentracker", "libtorrent", "aria2c");
    let lab = Lab::new();
    let tracker = OpenTracker::new();
    let torrent = Torrent::make(&lab, Shape::single(8 << 20, 256 << 10), &[&[&tracker.http()]]);
    tracker.start(&lab, &[&torrent]);
    let whole = fs::read(torrent.path(&torrent.dir, 0)).unwrap();
    let even = lab.new_dir("even");
    let odd = lab.new_dir("odd");
    for (dir, remainder) in [(&even, 0), (&odd, 1)] {
        let mut half = whole.clone();
        for (_, piece) in half.chunks_mut(256 << 10).enumerate().filter(|(i, _)| i % 2 != remainder) {
            piece.fill(0);
        }
        fs::write(torrent.path(dir, 0), half).unwrap();
    }
    // libtorrent wants only its half, so aria2's half can reach the other client only through rill.
    libtorrent_part(&lab, &torrent, &even, "0/2");
    Client::Aria2.seed(&lab, &torrent, &odd);
    lab.wait_for("both halves are announced", || {
        tracker.scrape(&torrent).1 >= 2 || tracker.scrape(&torrent).0 >= 1
    });
    let out = lab.new_dir("out");
    Client::Rill.fetch(&lab, &torrent, &out);
    torrent.must_be_in(&out, &lab);
    lab.wait_for("aria2 is complete as well", || torrent.compare(&odd).is_ok());
}
