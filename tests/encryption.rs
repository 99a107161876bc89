//! Transfers between two sessions over loopback with every pair of `--encryption`.

mod support;

use rill::session::{AddTorrent, Encryption, Event, Session, StorageMode};
use rill::wire::Metainfo;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{assert_same, download, session_with, single, wait};

use Encryption::{Allow, Off, Prefer, Require};

const MIB: usize = 1024 * 1024;

fn seeder(torrent: &Metainfo, dir: &Path, encryption: Encryption) -> (Session, std::net::SocketAddr) {
    let s = session_with("127.0.0.1", |c| c.encryption = encryption);
    s.add(AddTorrent { seed_only: true, ..AddTorrent::new(torrent.clone(), dir) }).unwrap();
    wait(&s, |e| matches!(e, Event::Opened { .. }));
    let addr = (std::net::Ipv4Addr::LOCALHOST, s.local_port()).into();
    (s, addr)
}

#[test]
fn all_pairs_but_off_with_require_transfer_and_require_encrypts() {
    let from = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "one.bin", 5 * MIB + 77, 256 * 1024);
    for serving in [Off, Allow, Prefer, Require] {
        let (seed, addr) = seeder(&torrent, from.path(), serving);
        for (n, fetching) in [Off, Allow, Prefer, Require].into_iter().enumerate() {
            let to = tempfile::tempdir().unwrap();
            let storage = if n % 2 == 0 { StorageMode::Mapped } else { StorageMode::Plain };
            let s = session_with("127.0.0.2", |c| {
                c.encryption = fetching;
                c.storage = storage;
            });
            download(&s, &torrent, to.path(), &[addr]);
            if matches!((serving, fetching), (Off, Require) | (Require, Off)) {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(2) {
                    let event = s.next_event(Duration::from_millis(100));
                    assert!(!matches!(event, Some(Event::Completed { .. })), "{serving:?} {fetching:?}");
                }
                assert_eq!(s.stats().unwrap().connections.dialed.connected, 0);
            } else {
                wait(&s, |e| matches!(e, Event::Completed { .. }));
                assert_same(from.path(), to.path());
                let dialed = s.stats().unwrap().connections.dialed;
                let expected =
                    serving != Off && fetching == Prefer || serving == Require || fetching == Require;
                assert_eq!(dialed.encrypted > 0, expected, "{serving:?} {fetching:?}: {dialed:?}");
            }
            assert!(s.stop(Duration::from_secs(5)).clean);
        }
        assert!(seed.stop(Duration::from_secs(5)).clean);
    }
}
