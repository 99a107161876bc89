//! Peers that send wrong blocks: among good peers they cost little, and alone they complete no piece.

use crate::clients::{rill, rill_at};
use crate::content::{Shape, Torrent};
use crate::lab::{Lab, free_port};
use crate::puppet::Liar;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Returns a loopback address; each peer has its own, because bans are per address.
fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

#[test]
#[ignore = "takes long"]
fn a_liar_among_three_good_seeds_is_banned_and_the_download_completes() {
    let lab = Lab::new();
    let torrent = Torrent::make(&lab, Shape::single(16 << 20, 256 << 10), &[]);
    let liar = Liar::start(address(9), &torrent);
    let mut get = rill();
    get.args([
        "get",
        "--no-state",
        "--listen-port",
        "0",
        "--json",
        "--timeout",
        "80",
        "--peer",
        &liar.address.to_string(),
    ]);
    for last in 2..5 {
        let port = free_port();
        rill_at(&lab, &torrent, port, "4M");
        get.args(["--peer", &format!("{}:{port}", address(last))]);
    }
    let out = lab.new_dir("out");
    let kid = lab.start(get.arg("-d").arg(&out).arg(&torrent.file));
    assert_eq!(kid.code(), 0, "{}", lab.words());
    torrent.must_be_in(&out, &lab);
    assert!(liar.served() > 0, "rill requested nothing from the liar, so nothing was tested");
    // A piece has sixteen blocks: a liar that is banned after a few pieces has served less than a quarter
    // of all blocks.
    assert!(liar.served() < 256, "rill requested {} blocks from the liar", liar.served());
}

#[test]
#[ignore = "takes long"]
fn no_piece_is_completed_from_a_lone_liar() {
    let lab = Lab::new();
    let torrent = Torrent::make(&lab, Shape::single(2 << 20, 256 << 10), &[]);
    let liar = Liar::start(address(9), &torrent);
    let out = lab.new_dir("out");
    let mut get = rill();
    get.args([
        "get",
        "--no-state",
        "--listen-port",
        "0",
        "--timeout",
        "15",
        "--peer",
        &liar.address.to_string(),
        "-d",
    ]);
    let kid = lab.start(get.arg(&out).arg(&torrent.file));
    assert_eq!(kid.code_within(Duration::from_secs(40)), 2, "{}", lab.words());
    assert!(liar.served() > 0, "{}", lab.words());
    let verify = rill().arg("verify").arg("--json").arg(&torrent.file).arg("-d").arg(&out).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
    assert_eq!((verify.status.code(), &report["pieces_good"]), (Some(32), &0.into()));
}
