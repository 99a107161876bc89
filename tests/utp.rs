//! Transfers between sessions over uTP (BEP 29), and what strangers can do to the port.

mod support;

use rill::session::{AddTorrent, Config, Encryption, Event, Session, StorageMode, Transports};
use rill::wire::{Metainfo, UtpHeader, UtpKind, UtpPacket};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
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
fn u1_a_torrent_passes_over_utp_alone_with_every_storage_and_encryption() {
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
fn u1_a_peer_that_refuses_tcp_is_reached_over_utp_and_dialed_so_again() {
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

/// Sends packets of `kind` for every connection id from a foreign address, until the download is complete.
fn disturb(kind: UtpKind, victims: &[SocketAddr], done: &AtomicBool) -> (usize, usize) {
    let stranger = UdpSocket::bind("127.0.0.66:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let (mut sent, mut answered) = (0, 0);
    for id in (0..=u16::MAX).cycle() {
        if done.load(Relaxed) {
            break;
        }
        let payload: &[u8] = if kind == UtpKind::Data { &[0; 100] } else { &[] };
        for victim in victims {
            let bytes = packet(kind, id, id, id.wrapping_mul(7), payload);
            sent += stranger.send_to(&bytes, victim).unwrap_or(0);
        }
        while let Ok((n, _)) = stranger.recv_from(&mut [0; 2_000]) {
            answered += n;
        }
        if id % 64 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    while let Ok((n, _)) = stranger.recv_from(&mut [0; 2_000]) {
        answered += n;
    }
    (sent, answered)
}

/// Downloads over uTP while a stranger sends these packets to both ends; returns the bytes that it sent and got.
fn download_beside(kind: UtpKind) -> (usize, usize) {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let torrent = single(from.path(), "one.bin", 20 * MIB, 256 * 1024);
    let (_seed, addr) = seeder_with("127.0.0.1", &torrent, from.path(), over_utp);
    let s = session_with("127.0.0.2", over_utp);
    let ours = SocketAddr::from(([127, 0, 0, 2], s.local_port()));
    let done = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let done = done.clone();
        move || disturb(kind, &[addr, ours], &done)
    });
    std::thread::sleep(Duration::from_millis(50));
    download(&s, &torrent, to.path(), &[addr]);
    wait(&s, |e| matches!(e, Event::Completed { .. }));
    done.store(true, Relaxed);
    assert_same(from.path(), to.path());
    let dialed = s.stats().unwrap().connections.dialed;
    assert_eq!((dialed.tried, dialed.connected), (1, 1), "the stream was not disturbed: {dialed:?}");
    flood.join().unwrap()
}

#[test]
fn u4_a_flood_of_syns_gets_no_more_than_it_sends_and_a_good_peer_is_served() {
    let (sent, answered) = download_beside(UtpKind::Syn);
    assert!(sent > 20_000, "{sent} bytes are no flood");
    assert!(answered <= sent, "{answered} bytes answer {sent}");
}

#[test]
fn u5_resets_and_data_of_a_foreign_address_disturb_no_stream() {
    for kind in [UtpKind::Reset, UtpKind::Data, UtpKind::Fin, UtpKind::State] {
        let (sent, answered) = download_beside(kind);
        // Of 16,000 packets of DATA one guesses the number that opens a stream.
        assert!(sent > 20_000 && answered <= sent / 1_000, "{kind:?}: {answered} bytes answer {sent}");
    }
}

/// A peer that died sends no FIN: the stream is noticed to be dead, and the new one of the same address is another.
#[test]
fn u1_a_killed_download_goes_on_over_utp_from_its_record() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = tempfile::tempdir().unwrap();
    let torrent = single(from.path(), "one.bin", 16 * MIB, 256 * 1024);
    let file = state.path().join("one.torrent");
    let mut create = Command::new(env!("CARGO_BIN_EXE_rill"));
    create.args(["create", "-q", "-p", "256K", "-o"]).arg(&file).arg(from.path().join("one.bin"));
    assert!(create.status().unwrap().success());
    let (_seed, addr) = seeder_with("127.0.0.1", &torrent, from.path(), over_utp);
    let get = |limit: &str| {
        let mut get = Command::new(env!("CARGO_BIN_EXE_rill"));
        get.args(["get", "-q", "--no-dht", "--no-lsd", "--no-port-mapping", "--transport", "utp"]);
        get.args([
            "--listen-port",
            "0",
            "--max-download-limit",
            limit,
            "--peer",
            &addr.to_string(),
            "--state-dir",
        ]);
        get.arg(state.path()).arg("-d").arg(to.path()).arg(&file);
        get.spawn().unwrap()
    };
    let mut killed = get("2M");
    std::thread::sleep(Duration::from_secs(3));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!to.path().join("one.bin").exists(), "the download was over before it was killed");
    let begun = Instant::now();
    assert!(get("0").wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(
        std::fs::read(from.path().join("one.bin")).unwrap()
            == std::fs::read(to.path().join("one.bin")).unwrap()
    );
}

#[test]
fn a_bad_word_for_a_transport_is_a_usage_error() {
    let mut get = Command::new(env!("CARGO_BIN_EXE_rill"));
    let out = get.args(["get", "--transport", "tcp,sctp", "x.torrent"]).output().unwrap();
    assert_eq!(out.status.code(), Some(28));
    assert!(String::from_utf8_lossy(&out.stderr).contains("sctp"));
}
