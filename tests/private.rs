//! Private torrents (BEP 27): the session neither searches nor announces them in the DHT, and sends peers
//! neither a DHT port nor PEX. A public torrent in the same session is the control.

mod support;

use rill::session::{AddTorrent, Config, DhtConfig, Session};
use rill::units::{InfoHash, NodeId, PeerId};
use rill::wire::krpc::{Method, PacketBody, ResponseFields, parse, write_node, write_response};
use rill::wire::metainfo::Builder;
use rill::wire::{HANDSHAKE_LEN, Handshake, Magnet, Metainfo, write_nodes};
use sha1::{Digest, Sha1};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use support::content;

/// How long the packets of the session are observed.
const OBSERVED_FOR: Duration = Duration::from_secs(4);

/// Writes one file and returns its torrent.
fn torrent(dir: &Path, name: &str, private: bool) -> Metainfo {
    let bytes = content(40_000, u64::from(private));
    std::fs::write(dir.join(name), &bytes).unwrap();
    let builder = Builder { piece_len: 16_384, private, ..Builder::single(name, 40_000) };
    let hashes: Vec<_> =
        bytes.chunks(16_384).map(|piece| rill::units::PieceHash(Sha1::digest(piece).into())).collect();
    Metainfo::parse(&builder.finish(&hashes).unwrap()).unwrap()
}

/// Runs a DHT node that answers every query. Returns the info hashes of the `get_peers` and of the
/// `announce_peer` queries.
fn collect_queries(socket: &UdpSocket, until: Instant) -> (BTreeSet<InfoHash>, BTreeSet<InfoHash>) {
    let mut searched = BTreeSet::new();
    let mut announced = BTreeSet::new();
    let id = NodeId([0x33; 20]);
    let us = socket.local_addr().unwrap();
    let mut packet = [0; 2048];
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while Instant::now() < until {
        let Ok((n, from)) = socket.recv_from(&mut packet) else { continue };
        let Ok(rill::wire::krpc::Packet { transaction, body: PacketBody::Query(query), .. }) =
            parse(&packet[..n])
        else {
            continue;
        };
        match query.method {
            Method::GetPeers { info_hash, .. } => {
                searched.insert(info_hash);
            }
            Method::AnnouncePeer { info_hash, .. } => {
                announced.insert(info_hash);
            }
            _ => {}
        }
        let mut nodes = Vec::new();
        write_node(id, us, &mut nodes);
        let parts = ResponseFields {
            id,
            nodes: Some(&nodes),
            nodes6: None,
            token: Some(b"token"),
            peers: &[],
            filters: None,
        };
        let mut reply = Vec::new();
        write_response(transaction, from, &parts, &mut reply);
        socket.send_to(&reply, from).unwrap();
    }
    (searched, announced)
}

/// Connects to the session for this torrent. Returns the session's handshake and all bytes that it sends
/// within a second.
fn connect(port: u16, info_hash: InfoHash) -> (Handshake, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let ours = Handshake {
        info_hash,
        peer_id: PeerId(*b"-XX0000-abcdefghijkl"),
        fast: true,
        extended: true,
        dht: true,
    };
    stream.write_all(&ours.to_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut received = Vec::new();
    // The read ends with the time-out.
    let _ = stream.read_to_end(&mut received);
    let theirs = Handshake::parse(received[..HANDSHAKE_LEN].try_into().unwrap()).unwrap();
    (theirs, received.split_off(HANDSHAKE_LEN))
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|w| w == word)
}

#[test]
fn t28_a_private_torrent_uses_neither_the_dht_nor_pex() {
    let dir = tempfile::tempdir().unwrap();
    let public = torrent(dir.path(), "public", false);
    let private = torrent(dir.path(), "private", true);
    assert!(private.private() && !public.private());
    let node = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = Config {
        listen_ports: 0..=0,
        listen_on: vec!["127.0.0.1".parse().unwrap()],
        lsd: false,
        dht: Some(DhtConfig {
            bootstrap: vec![("127.0.0.1".to_string(), node.local_addr().unwrap().port())],
            ..DhtConfig::default()
        }),
        ..Config::default()
    };
    let session = Session::start(config).unwrap();
    for torrent in [&public, &private] {
        session.add(AddTorrent { seed_only: true, ..AddTorrent::new(torrent.clone(), dir.path()) }).unwrap();
    }
    let (searched, announced) = collect_queries(&node, Instant::now() + OBSERVED_FOR);
    assert!(searched.contains(&public.info_hash()), "the session is in the DHT: {searched:?}");
    assert!(!searched.contains(&private.info_hash()) && !announced.contains(&private.info_hash()));

    let (theirs, received) = connect(session.local_port(), public.info_hash());
    let port = [&[0, 0, 0, 3, 9][..], &session.local_port().to_be_bytes()].concat();
    assert!(theirs.dht && contains(&received, &port) && contains(&received, b"ut_pex"));
    let (theirs, received) = connect(session.local_port(), private.info_hash());
    assert!(
        !theirs.dht
            && !contains(&received, &port)
            && !contains(&received, b"ut_pex")
            && contains(&received, b"ut_metadata")
    );
}

#[test]
fn t28_a_link_with_saved_private_metadata_is_not_searched_in_the_dht_before_its_files_are_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let public = torrent(dir.path(), "public", false);
    let private = torrent(dir.path(), "private", true);
    for torrent in [&public, &private] {
        std::fs::write(
            dir.path().join(format!("{}.torrent", torrent.info_hash())),
            torrent.to_file().unwrap(),
        )
        .unwrap();
    }
    let node = UdpSocket::bind("127.0.0.1:0").unwrap();
    std::fs::write(dir.path().join("dht.nodes"), write_nodes(&[node.local_addr().unwrap()])).unwrap();
    let config = Config {
        listen_ports: 0..=0,
        listen_on: vec!["127.0.0.1".parse().unwrap()],
        lsd: false,
        dht: Some(DhtConfig { bootstrap: Vec::new(), ..DhtConfig::default() }),
        state_dir: Some(dir.path().to_path_buf()),
        ..Config::default()
    };
    let session = Session::start(config).unwrap();
    for torrent in [&public, &private] {
        let link = Magnet::new(torrent.info_hash());
        session.add(AddTorrent { choose_later: true, ..AddTorrent::magnet(link, dir.path()) }).unwrap();
    }
    let (searched, _) = collect_queries(&node, Instant::now() + OBSERVED_FOR);
    assert!(
        searched.contains(&public.info_hash()) && !searched.contains(&private.info_hash()),
        "{searched:?}"
    );
}
