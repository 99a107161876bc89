//! Fair shares of a common limit: a torrent that joins later gets its part of the rate.

mod support;

use rill::session::{AddTorrent, Session, TorrentId};
use rill::wire::Metainfo;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::{download, multi, seeder, session_with, wait};

const MIB: usize = 1024 * 1024;

/// Returns the bytes that a torrent has received and sent.
fn transferred(s: &Session, id: TorrentId) -> u64 {
    let torrents = s.torrents().unwrap();
    let progress = &torrents.iter().find(|t| t.id == id).unwrap().progress;
    progress.downloaded + progress.uploaded
}

/// Lets a torrent with `peers` peers download under a limit, adds another with one peer, and returns the share that
/// the second gets from two seconds after its start on.
fn share_of_a_late_torrent(peers: u8, limit: u64) -> f64 {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let first = multi(from.path(), "first", &[("a", 24 * MIB)], 64 * 1024);
    let second = multi(from.path(), "second", &[("a", 20 * MIB)], 64 * 1024);
    let seeders: Vec<_> =
        (0..peers).map(|n| seeder(&format!("127.0.1.{}", n + 1), &first, from.path())).collect();
    let (_late, late_addr) = seeder("127.0.2.1", &second, from.path());
    let s = session_with("127.0.0.2", |config| config.download_limit = Some(limit));
    let addrs = seeders.iter().map(|(_, addr)| *addr).collect();
    s.add(AddTorrent { peers: addrs, ..AddTorrent::new(first, to.path()) }).unwrap();
    let ids: Vec<TorrentId> = s.torrents().unwrap().iter().map(|t| t.id).collect();
    let begun = Instant::now();
    while transferred(&s, ids[0]) == 0 || begun.elapsed() < Duration::from_secs(2) {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = s.add(AddTorrent { peers: vec![late_addr], ..AddTorrent::new(second, to.path()) }).unwrap();
    wait(&s, |e| matches!(e, rill::session::Event::Opened { torrent, .. } if *torrent == id));
    std::thread::sleep(Duration::from_secs(2));
    let at = |id| transferred(&s, id);
    let before = (at(ids[0]), at(id));
    std::thread::sleep(Duration::from_secs(4));
    let (one, two) = (at(ids[0]) - before.0, at(id) - before.1);
    two as f64 / (one + two) as f64
}

#[test]
fn s14_a_torrent_that_joins_later_gets_its_share_of_the_limit() {
    for (peers, limit) in [(1, 1 << 20), (6, 1 << 20), (6, 1 << 18)] {
        let share = share_of_a_late_torrent(peers, limit);
        assert!((0.4..0.6).contains(&share), "{peers} peers, {limit}: {share}");
    }
}

#[test]
fn s14_a_torrent_that_joins_later_gets_its_share_of_the_upload_limit() {
    let from = tempfile::tempdir().unwrap();
    let torrents = ["first", "second"].map(|name| multi(from.path(), name, &[("a", 24 * MIB)], 64 * 1024));
    let s = session_with("127.0.3.1", |config| config.upload_limit = Some(1 << 20));
    let ids = torrents
        .each_ref()
        .map(|t| s.add(AddTorrent { seed_only: true, ..AddTorrent::new(t.clone(), from.path()) }).unwrap());
    let addr = SocketAddr::new("127.0.3.1".parse().unwrap(), s.local_port());
    let mut dirs = Vec::new();
    let mut leech = |torrent: &Metainfo, ip: String| {
        let (to, session) = (tempfile::tempdir().unwrap(), session_with(&ip, |config| config.pex = false));
        download(&session, torrent, to.path(), &[addr]);
        dirs.push(to);
        session
    };
    let _first: Vec<Session> = (0..5).map(|n| leech(&torrents[0], format!("127.0.4.{}", n + 1))).collect();
    std::thread::sleep(Duration::from_secs(2));
    let _second = leech(&torrents[1], "127.0.5.1".into());
    std::thread::sleep(Duration::from_secs(2));
    let before = ids.map(|id| transferred(&s, id));
    std::thread::sleep(Duration::from_secs(4));
    let [one, two] = [0, 1].map(|n| transferred(&s, ids[n]) - before[n]);
    let share = two as f64 / (one + two) as f64;
    assert!((0.35..0.7).contains(&share), "{one} and {two}: {share}");
}
