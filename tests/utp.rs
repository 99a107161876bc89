//! Transfers between sessions over uTP (BEP 29), and what strangers can do to the port.

mod support;

use rill::session::{AddTorrent, Config, Encryption, Event, Session, StorageMode, Transports};
use rill::wire::{Metainfo, UtpHeader, UtpKind, UtpPacket};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;
use support::{assert_same, download, session_with, single, wait};

const MIB: usize = 1024 * 1024;

fn seeder_with(
    ip: &str,
    torrent: &Metainfo,
    dir: &Path,
    change: impl FnOnce(&mut Config),
) -> (Session, SocketAddr) {
    let s = session_with(ip, change);
    s.add(AddTorrent { seed_only: true, ..AddTorrent::new(torrent.clone(), dir) }).unwrap();
    wait(&s, |e| matches!(e, Event::Opened { .. }));
    let addr = (ip.parse::<IpAddr>().unwrap(), s.local_port()).into();
    (s, addr)
}

fn over_utp(config: &mut Config) {
    config.transports = Transports::Utp;
}

/// Returns the same torrent with the private flag (BEP 27).
fn private(torrent: &Metainfo, dir: &Path) -> Metainfo {
    use rill::wire::metainfo::Builder;
    use sha1::{Digest, Sha1};
    let name = torrent.name();
    let bytes = std::fs::read(dir.join(name)).unwrap();
    let builder =
        Builder { piece_len: 64 * 1024, private: true, ..Builder::single(name, bytes.len() as u64) };
    let hashes: Vec<_> =
        bytes.chunks(64 * 1024).map(|piece| rill::units::PieceHash(Sha1::digest(piece).into())).collect();
    Metainfo::parse(&builder.finish(&hashes).unwrap()).unwrap()
}

#[test]
fn a_torrent_passes_over_utp_alone_with_every_storage_and_encryption() {
    let from = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "one.bin", 5 * MIB + 77, 64 * 1024);
    let torrents = [torrent.clone(), private(&torrent, from.path())];
    for (n, (storage, encryption)) in [
        (StorageMode::Plain, Encryption::Off),
        (StorageMode::Mapped, Encryption::Allow),
        (StorageMode::Mapped, Encryption::Require),
        (StorageMode::Plain, Encryption::Require),
    ]
    .into_iter()
    .enumerate()
    {
        let torrent = &torrents[n % 2];
        let ip = ["127.0.0.1", "::1"][n % 2];
        let change = |config: &mut Config| {
            over_utp(config);
            (config.encryption, config.storage) = (encryption, storage);
        };
        let (seed, addr) = seeder_with(ip, torrent, from.path(), change);
        let to = tempfile::tempdir().unwrap();
        let s = session_with(ip, change);
        download(&s, torrent, to.path(), &[addr]);
        wait(&s, |e| matches!(e, Event::Completed { .. }));
        assert_same(from.path(), to.path());
        let dialed = s.stats().unwrap().connections.dialed;
        assert_eq!((dialed.tried, dialed.utp_tried, dialed.utp_connected), (1, 1, 1), "{dialed:?}");
        assert_eq!(dialed.encrypted, u64::from(encryption == Encryption::Require));
        let incoming = seed.stats().unwrap().connections.incoming;
        assert_eq!((incoming.tried, incoming.utp_tried, incoming.utp_connected), (1, 1, 1), "{incoming:?}");
        assert!(TcpStream::connect(addr).is_err(), "a TCP port is open");
        assert!(s.stop(Duration::from_secs(5)).clean);
        assert!(seed.stop(Duration::from_secs(5)).clean);
    }
}

#[test]
fn a_peer_that_refuses_tcp_is_reached_over_utp_and_dialed_so_again() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let torrent = single(from.path(), "one.bin", MIB, 64 * 1024);
    let (seed, addr) = seeder_with("127.0.0.1", &torrent, from.path(), over_utp);
    let s = session_with("127.0.0.2", |_| {});
    let id = download(&s, &torrent, to.path(), &[addr]);
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    assert_same(from.path(), to.path());
    let dialed = s.stats().unwrap().connections.dialed;
    assert_eq!((dialed.tried, dialed.refused, dialed.utp_connected), (2, 1, 1), "{dialed:?}");
    drop((id, seed));
}

#[test]
fn a_peer_that_answers_over_tcp_is_not_dialed_over_utp() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let torrent = single(from.path(), "one.bin", MIB, 64 * 1024);
    let (_seed, addr) = seeder_with("127.0.0.1", &torrent, from.path(), |_| {});
    let s = session_with("127.0.0.2", |_| {});
    download(&s, &torrent, to.path(), &[addr]);
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    let dialed = s.stats().unwrap().connections.dialed;
    assert_eq!((dialed.tried, dialed.utp_tried, dialed.connected), (1, 0, 1), "{dialed:?}");
}

#[test]
fn a_session_without_utp_answers_no_packet_of_it() {
    let from = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "one.bin", MIB, 64 * 1024);
    let (_seed, addr) =
        seeder_with("127.0.0.1", &torrent, from.path(), |config| config.transports = Transports::Tcp);
    let stranger = UdpSocket::bind("127.0.0.3:0").unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stranger.send_to(&packet(UtpKind::Syn, 7, 1, 0, &[]), addr).unwrap();
    assert!(stranger.recv_from(&mut [0; 100]).is_err());
}

fn packet(kind: UtpKind, connection_id: u16, seq: u16, ack: u16, payload: &[u8]) -> Vec<u8> {
    let header =
        UtpHeader { kind, connection_id, timestamp_us: 1, difference_us: 0, window_bytes: 100_000, seq, ack };
    let mut bytes = Vec::new();
    UtpPacket { header, selective_ack: &[], payload }.write(&mut bytes);
    bytes
}
