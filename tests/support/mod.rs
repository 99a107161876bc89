//! Helpers of the integration tests: content, torrents, sessions on loopback.

#![allow(dead_code)] // each test file uses some of the helpers

use rill::session::{AddTorrent, Config, Event, Session, TorrentId};
use rill::units::{PieceHash, Rng};
use rill::wire::Metainfo;
use rill::wire::metainfo::Builder;
use sha1::{Digest, Sha1};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time limit of every wait.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Files of a torrent: path below the torrent's name, and length in bytes.
pub type Files<'a> = &'a [(&'a str, usize)];

/// The path at which a file below `dir` lies now: its part name if only that exists.
pub fn lies_at(dir: &Path, file: &Path) -> PathBuf {
    let name = dir.join(file);
    let mut part = name.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    if !name.exists() && part.exists() { part } else { name }
}

/// Returns pseudorandom bytes that depend only on `seed`.
pub fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::new(seed).fill(&mut bytes);
    bytes
}

/// Writes one file of `len` bytes into `dir`. Returns its torrent.
pub fn single(dir: &Path, name: &str, len: usize, piece_len: u32) -> Metainfo {
    let bytes = content(len, 1);
    std::fs::write(dir.join(name), &bytes).unwrap();
    finish(Builder { piece_len, ..Builder::single(name, len as u64) }, &bytes)
}

/// Writes files below `dir/name`. Returns their torrent.
pub fn multi(dir: &Path, name: &str, files: Files<'_>, piece_len: u32) -> Metainfo {
    let mut all = Vec::new();
    let mut entries = Vec::new();
    for (i, (path, len)) in files.iter().enumerate() {
        let bytes = content(*len, 100 + i as u64);
        let at = dir.join(name).join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, &bytes).unwrap();
        all.extend(bytes);
        entries.push((path.split('/').map(str::to_string).collect(), *len as u64));
    }
    finish(Builder { piece_len, ..Builder::multi(name, entries) }, &all)
}

fn finish(builder: Builder, bytes: &[u8]) -> Metainfo {
    let hashes: Vec<PieceHash> =
        bytes.chunks(builder.piece_len as usize).map(|p| PieceHash(Sha1::digest(p).into())).collect();
    Metainfo::parse(&builder.finish(&hashes).unwrap()).unwrap()
}

/// Starts a session on a free port of this loopback address.
pub fn session(ip: &str) -> Session {
    session_with(ip, |_| {})
}

/// Starts a session like [`session`], with changes to its configuration.
pub fn session_with(ip: &str, change: impl FnOnce(&mut Config)) -> Session {
    let mut config = Config {
        listen_ports: 0..=0,
        listen_on: vec![ip.parse::<IpAddr>().unwrap()],
        progress_every: Duration::from_millis(50),
        // No session searches for peers outside this machine.
        lsd: false,
        dht: None,
        ..Config::default()
    };
    change(&mut config);
    Session::start(config).unwrap()
}

/// Starts a session that seeds the torrent. Returns it and its address.
pub fn seeder(ip: &str, torrent: &Metainfo, dir: &Path) -> (Session, SocketAddr) {
    let s = session(ip);
    s.add(AddTorrent { seed_only: true, ..AddTorrent::new(torrent.clone(), dir) }).unwrap();
    wait(&s, |e| matches!(e, Event::Opened { .. }));
    let addr = SocketAddr::new(ip.parse().unwrap(), s.local_port());
    (s, addr)
}

/// Adds a torrent with these peers.
pub fn download(s: &Session, torrent: &Metainfo, dir: &Path, peers: &[SocketAddr]) -> TorrentId {
    s.add(AddTorrent { peers: peers.to_vec(), ..AddTorrent::new(torrent.clone(), dir) }).unwrap()
}

/// Waits for an event for which `is` returns true. Panics after a minute, or at an unexpected failure.
pub fn wait(s: &Session, mut is: impl FnMut(&Event) -> bool) -> Event {
    let start = Instant::now();
    let mut last = None;
    while start.elapsed() < PATIENCE {
        let Some(e) = s.next_event(Duration::from_millis(100)) else { continue };
        if is(&e) {
            return e;
        }
        assert!(!matches!(e, Event::Failed { .. } | Event::Died { .. }), "{e:?}");
        last = Some(e);
    }
    panic!("the event did not come; the last one was {last:?}");
}

/// Asserts that every file of `a` is in `b` with the same bytes.
pub fn assert_same(a: &Path, b: &Path) {
    if a.is_dir() {
        for entry in std::fs::read_dir(a).unwrap() {
            let entry = entry.unwrap();
            assert_same(&entry.path(), &b.join(entry.file_name()));
        }
    } else {
        assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "{} differs", b.display());
    }
}
