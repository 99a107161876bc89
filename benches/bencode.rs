//! Time and allocations for reading and writing bencode. Run with `cargo bench --bench bencode`.
//!
//! Each bench reads or writes one message of typical size. Two .torrent files are near the limits: one with
//! two million piece hashes (40 MiB), and one with a hundred thousand files.

use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use rill::units::{InfoHash, NodeId, PieceHash};
use rill::wire::krpc::{self, Method, PacketBody, Query, ResponseFields, WantedFamilies};
use rill::wire::{ExtendedHandshake, ExtensionIds, MetadataMessage, Metainfo, PexMessage, metainfo::Builder};
use rill::wire::{parse_counts, parse_reply, write_pex};
use std::net::SocketAddr;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn peers(count: u8) -> Vec<SocketAddr> {
    (0..count).map(|n| SocketAddr::from(([81, 2, 69, n], 6881))).collect()
}

fn get_peers() -> Query<'static> {
    let method = Method::GetPeers { info_hash: InfoHash([0xab; 20]), scrape: false };
    Query { id: NodeId([0xcd; 20]), want: WantedFamilies { v4: true, v6: true }, method }
}

fn write_get_peers(out: &mut Vec<u8>) {
    krpc::write_query(b"aa", &get_peers(), false, out);
}

/// Eight nodes, a token and fifty peers.
fn write_nodes_and_peers(peers: &[SocketAddr], out: &mut Vec<u8>) {
    let mut nodes = Vec::with_capacity(26 * 8);
    peers.iter().take(8).for_each(|node| krpc::write_node(NodeId([0xcd; 20]), *node, &mut nodes));
    let id = NodeId([0xcd; 20]);
    let parts = ResponseFields {
        id,
        nodes: Some(&nodes),
        nodes6: None,
        token: Some(b"a token!"),
        peers,
        filters: None,
    };
    krpc::write_response(b"aa", SocketAddr::from(([81, 2, 69, 1], 6881)), &parts, out);
}

/// Reads a packet and every address in it.
fn read_packet(bytes: &[u8]) -> usize {
    let packet = krpc::parse(bytes).expect("a packet");
    match packet.body {
        PacketBody::Response(reply) => {
            reply.nodes(false).count() + reply.nodes(true).count() + reply.peers().count()
        }
        _ => packet.transaction.len(),
    }
}

#[divan::bench]
fn krpc_query_read(bencher: Bencher<'_, '_>) {
    let mut packet = Vec::new();
    write_get_peers(&mut packet);
    bencher.bench(|| read_packet(black_box(&packet)));
}

#[divan::bench]
fn krpc_query_write(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        write_get_peers(black_box(&mut out));
        out.len()
    });
}

#[divan::bench]
fn krpc_response_read(bencher: Bencher<'_, '_>) {
    let mut packet = Vec::new();
    write_nodes_and_peers(&peers(50), &mut packet);
    assert_eq!(read_packet(&packet), 58);
    bencher.bench(|| read_packet(black_box(&packet)));
}

#[divan::bench]
fn krpc_response_write(bencher: Bencher<'_, '_>) {
    let peers = peers(50);
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        write_nodes_and_peers(black_box(&peers), &mut out);
        out.len()
    });
}

#[divan::bench]
fn krpc_error_write(bencher: Bencher<'_, '_>) {
    let to = SocketAddr::from(([81, 2, 69, 1], 6881));
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        krpc::write_error(b"aa", to, krpc::PROTOCOL_ERROR, "bad token", black_box(&mut out));
        out.len()
    });
}

/// A typical reply with this value of `peers`.
fn announce_reply(peers: &[u8]) -> Vec<u8> {
    let head =
        &b"d8:completei812e10:downloadedi9000e10:incompletei77e8:intervali1800e12:min intervali900e5:peers"[..];
    [head, peers, b"e"].concat()
}

#[divan::bench]
fn announce_reply_compact(bencher: Bencher<'_, '_>) {
    let peers: Vec<u8> = (0..200u8).flat_map(|n| [81, 2, 69, n, 0x1a, 0xe1]).collect();
    let body = announce_reply(&[b"1200:", &peers[..]].concat());
    assert_eq!(parse_reply(&body).expect("a reply").peers.len(), 200);
    bencher.bench(|| parse_reply(black_box(&body)));
}

#[divan::bench]
fn announce_reply_long_form(bencher: Bencher<'_, '_>) {
    let entry =
        |n: u32| format!("d2:ip11:81.2.69.{}7:peer id20:-RL0100-abcdefghijkl4:porti6881ee", 100 + n % 100);
    let peers: String = (0..200).map(entry).collect();
    let body = announce_reply(format!("l{peers}e").as_bytes());
    assert_eq!(parse_reply(&body).expect("a reply").peers.len(), 200);
    bencher.bench(|| parse_reply(black_box(&body)));
}

#[divan::bench]
fn scrape_reply(bencher: Bencher<'_, '_>) {
    let body = b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei11e10:downloadedi13772e10:incompletei19eeee";
    bencher.bench(|| parse_counts(black_box(body), &InfoHash(*b"xxxxxxxxxxxxxxxxxxxx")));
}

fn handshake() -> ExtendedHandshake {
    ExtendedHandshake {
        encryption: None,
        ids: ExtensionIds::OURS,
        client: Some("rill 0.1".into()),
        port: Some(6881),
        reqq: Some(500),
        metadata_size: Some(12_345),
        upload_only: Some(true),
        your_ip: Some([81, 2, 69, 1].into()),
    }
}

#[divan::bench]
fn extended_handshake_read(bencher: Bencher<'_, '_>) {
    let payload = handshake().encode();
    bencher.bench(|| ExtendedHandshake::parse(black_box(&payload)));
}

#[divan::bench]
fn extended_handshake_write(bencher: Bencher<'_, '_>) {
    let handshake = handshake();
    bencher.bench(|| black_box(&handshake).encode());
}

#[divan::bench]
fn metadata_piece_read(bencher: Bencher<'_, '_>) {
    let bytes = vec![0; 16 << 10];
    let payload = MetadataMessage::Data { piece: 7, total_size: 1 << 20, bytes: &bytes }.encode();
    bencher.bench(|| MetadataMessage::parse(black_box(&payload)).is_some());
}

#[divan::bench]
fn metadata_request_write(bencher: Bencher<'_, '_>) {
    bencher.bench(|| black_box(MetadataMessage::Request { piece: 7 }).encode());
}

#[divan::bench]
fn pex_read(bencher: Bencher<'_, '_>) {
    let added: Vec<_> = peers(50).into_iter().map(|peer| (peer, 2)).collect();
    let payload = write_pex(&added, &peers(50));
    bencher.bench(|| PexMessage::parse(black_box(&payload)).map(|message| message.added().count()));
}

#[divan::bench]
fn pex_write(bencher: Bencher<'_, '_>) {
    let (added, dropped): (Vec<_>, Vec<_>) =
        (peers(50).into_iter().map(|peer| (peer, 2)).collect(), peers(50));
    bencher.bench(|| write_pex(black_box(&added), black_box(&dropped)));
}

/// A torrent with this many files, a hundred in each directory, and this many pieces of 16 KiB.
fn torrent(files: u64, pieces: u64) -> Builder {
    let len = pieces * (16 << 10) / files;
    let file = |n: u64| (vec![format!("directory {}", n / 100), format!("file {n}.bin")], len);
    let tiers = (0..8).map(|n| vec![format!("http://tracker{n}.example/announce")]).collect();
    Builder { piece_len: 16 << 10, trackers: tiers, ..Builder::multi("name", (0..files).map(file).collect()) }
}

fn torrent_file(files: u64, pieces: u64) -> Vec<u8> {
    let builder = torrent(files, pieces);
    let pieces = builder.geometry().expect("a geometry").pieces();
    builder.finish(&vec![PieceHash([7; 20]); pieces as usize]).expect("a torrent")
}

fn read_metainfo(bencher: Bencher<'_, '_>, files: u64, pieces: u64) {
    let bytes = torrent_file(files, pieces);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| Metainfo::parse(black_box(&bytes)));
}

#[divan::bench]
fn metainfo_usual(bencher: Bencher<'_, '_>) {
    read_metainfo(bencher, 20, 1_500);
}

#[divan::bench(sample_count = 30)]
fn metainfo_two_million_pieces(bencher: Bencher<'_, '_>) {
    read_metainfo(bencher, 1, 2_097_151);
}

#[divan::bench(sample_count = 30)]
fn metainfo_hundred_thousand_files(bencher: Bencher<'_, '_>) {
    read_metainfo(bencher, 100_000, 100_000);
}

#[divan::bench]
fn metainfo_write(bencher: Bencher<'_, '_>) {
    let builder = torrent(20, 1_500);
    let hashes = vec![PieceHash([7; 20]); builder.geometry().expect("a geometry").pieces() as usize];
    bencher.bench(|| black_box(&builder).finish(black_box(&hashes)));
}

#[divan::bench]
fn metainfo_to_file(bencher: Bencher<'_, '_>) {
    let metainfo = Metainfo::parse(&torrent_file(20, 1_500)).expect("a torrent");
    bencher.bench(|| black_box(&metainfo).to_file());
}
