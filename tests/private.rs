//! What a session says on the wire about a private torrent (BEP 27): nothing to the DHT, and nothing to peers
//! that would help them find others. A public torrent beside it shows that the same session would have said
//! it.

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

/// How long the session has to say what it must not.
const WATCHED: Duration = Duration::from_secs(4);

/// One file and its torrent.
fn torrent(dir: &Path, name: &str, private: bool) -> Metainfo {
    let bytes = content(40_000, u64::from(private));
    std::fs::write(dir.join(name), &bytes).unwrap();
    let builder = Builder { piece_len: 16_384, private, ..Builder::single(name, 40_000) };
    let hashes: Vec<_> =
        bytes.chunks(16_384).map(|piece| rill::units::PieceHash(Sha1::digest(piece).into())).collect();
    Metainfo::parse(&builder.finish(&hashes).unwrap()).unwrap()
}

/// A node of the DHT that answers everything and remembers every torrent that it was asked about or told of.
fn listen(socket: &UdpSocket, until: Instant) -> (BTreeSet<InfoHash>, BTreeSet<InfoHash>) {
    let (mut searched, mut announced) = (BTreeSet::new(), BTreeSet::new());
    let (id, us) = (NodeId([0x33; 20]), socket.local_addr().unwrap());
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
            Method::GetPeers { info_hash, .. } => drop(searched.insert(info_hash)),
            Method::AnnouncePeer { info_hash, .. } => drop(announced.insert(info_hash)),
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

/// What the session sends to a peer that connects for this torrent: its handshake, and all bytes of its first
/// second.
fn greeting(port: u16, info_hash: InfoHash) -> (Handshake, Vec<u8>) {
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
    let mut said = Vec::new();
    // It ends with the time-out.
    let _ = stream.read_to_end(&mut said);
    let theirs = Handshake::parse(said[..HANDSHAKE_LEN].try_into().unwrap()).unwrap();
    (theirs, said.split_off(HANDSHAKE_LEN))
}

fn says(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|w| w == word)
}

#[test]
fn t28_a_private_torrent_uses_neither_the_dht_nor_pex() {
    let dir = tempfile::tempdir().unwrap();
    let (public, private) = (torrent(dir.path(), "public", false), torrent(dir.path(), "private", true));
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
    let (searched, announced) = listen(&node, Instant::now() + WATCHED);
    assert!(searched.contains(&public.info_hash()), "the session is in the DHT: {searched:?}");
    assert!(!searched.contains(&private.info_hash()) && !announced.contains(&private.info_hash()));

    let (theirs, said) = greeting(session.local_port(), public.info_hash());
    let port = [&[0, 0, 0, 3, 9][..], &session.local_port().to_be_bytes()].concat();
    assert!(theirs.dht && says(&said, &port) && says(&said, b"ut_pex"));
    let (theirs, said) = greeting(session.local_port(), private.info_hash());
    assert!(!theirs.dht && !says(&said, &port) && !says(&said, b"ut_pex") && says(&said, b"ut_metadata"));
}

#[test]
fn t28_a_link_known_to_be_private_from_an_earlier_run_stays_private_while_its_files_are_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let (public, private) = (torrent(dir.path(), "public", false), torrent(dir.path(), "private", true));
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
    let (searched, _) = listen(&node, Instant::now() + WATCHED);
    assert!(
        searched.contains(&public.info_hash()) && !searched.contains(&private.info_hash()),
        "{searched:?}"
    );
}
