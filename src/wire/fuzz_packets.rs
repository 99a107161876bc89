//! The fuzz targets of packets: tracker replies, LSD announces, extension messages and DHT packets; `fuzz/`
//! and the test over its corpus call them.
//!
//! Each takes arbitrary bytes and panics if a value that was read is outside its limits or unusable, or if a
//! written message does not read back. Not part of the public API.

use super::compact::usable;
use super::fuzz_metainfo::check_text;
use super::krpc::{
    self, Method, Packet, PacketBody, Response, ResponseFields, write_error, write_node, write_query,
    write_response,
};
use super::limits::{
    CLIENT_CHARS, KRPC_BYTES, KRPC_NODES, KRPC_TRANSACTION_BYTES, LSD_HASHES, METADATA_BYTES, PEERS,
    PEX_PEERS, REQQ, TRACKER_ID_BYTES,
};
use super::port_mapping::{Subject, parse_answer};
use super::udp_tracker::{parse_announce, parse_connect, parse_scrape, transaction_of};
use super::{
    AnnounceError, ExtendedHandshake, MetadataMessage, PexMessage, UtpPacket, lsd, parse_counts, parse_reply,
    read_dont_have, soap, ssdp, write_dont_have, write_pex,
};
use crate::units::{InfoHash, NodeId};
use std::net::SocketAddr;

/// Checks an HTTP tracker's reply, read as one to an announce and to a scrape.
pub fn http_tracker(bytes: &[u8]) {
    match parse_reply(bytes) {
        Ok(reply) => {
            check_peers(&reply.peers);
            assert!(reply.tracker_id.is_none_or(|id| id.len() <= TRACKER_ID_BYTES));
            reply.warning.iter().for_each(|text| check_text(text));
        }
        Err(AnnounceError::Failure { reason, .. }) => check_text(&reason),
        Err(_) => {}
    }
    // The requested hash is the first 20 bytes; the reply starts there or after it.
    for start in [0, bytes.len().min(20)] {
        let hash = bytes.first_chunk().map_or(InfoHash([0; 20]), |hash| InfoHash(*hash));
        if let Err(refused) = parse_counts(&bytes[start..], &hash) {
            check_text(refused.to_string().trim_end());
        }
    }
}

/// Checks a datagram: a UDP tracker's packet, or an LSD announce.
pub fn datagrams(bytes: &[u8]) {
    if let Some(call) = lsd::parse_announce(bytes) {
        assert!(call.port != 0 && (1..=LSD_HASHES).contains(&call.hashes.len()));
        let written =
            lsd::write_announce(lsd::Group::V4, call.port, &call.hashes, call.cookie.unwrap_or_default());
        let read = lsd::parse_announce(&written).expect("a written announce reads back");
        assert!(read.port == call.port && call.hashes.starts_with(&read.hashes));
    }
    let transaction = transaction_of(bytes).unwrap_or_default();
    parse_scrape(bytes, transaction).ok();
    parse_connect(bytes, transaction).ok();
    for over_v6 in [false, true] {
        match parse_announce(bytes, transaction, over_v6) {
            Ok(reply) => check_peers(&reply.peers),
            Err(refused) => check_text(refused.to_string().trim_end()),
        }
        assert!(parse_announce(bytes, !transaction, over_v6).is_err(), "a response to another request");
    }
}

/// Checks the payload of an extension message: a handshake, `ut_metadata` or `lt_donthave`.
pub fn extended(bytes: &[u8]) {
    if let Ok(theirs) = ExtendedHandshake::parse(bytes) {
        assert!(theirs.reqq.is_none_or(|n| (1..=REQQ).contains(&n)));
        assert!(theirs.metadata_size.is_none_or(|n| (1..=METADATA_BYTES).contains(&n)));
        assert_ne!(theirs.port, Some(0));
        theirs.client.iter().for_each(|text| check_text(text));
        assert!(theirs.client.iter().all(|text| text.chars().count() <= CLIENT_CHARS));
        assert_eq!(ExtendedHandshake::parse(&theirs.encode()), Ok(theirs), "a written message reads back");
    }
    if let Some(message) = MetadataMessage::parse(bytes) {
        if let MetadataMessage::Data { bytes: brought, .. } = message {
            assert!(bytes.ends_with(brought));
        }
        assert_eq!(MetadataMessage::parse(&message.encode()), Some(message), "a written message reads back");
    }
    if let Some(piece) = read_dont_have(bytes) {
        assert_eq!(write_dont_have(piece), bytes);
    }
}

/// Checks a PEX message.
pub fn pex(bytes: &[u8]) {
    let Some(message) = PexMessage::parse(bytes) else { return };
    let added: Vec<(SocketAddr, u8)> = message.added().collect();
    assert!(added.len() <= 2 * PEX_PEERS);
    assert!(added.iter().all(|(peer, _)| usable(peer.ip(), peer.port()) == Some(*peer)));
    // An IPv4-mapped IPv6 address is written to the IPv4 list, which may then exceed its limit.
    let (mut v4, v6): (Vec<_>, Vec<_>) = added.iter().partition(|(peer, _)| peer.is_ipv4());
    v4.truncate(PEX_PEERS);
    let expected = [v4, v6].concat();
    let dropped: Vec<SocketAddr> = added.iter().map(|(peer, _)| *peer).collect();
    let written = write_pex(&expected, &dropped);
    let read = PexMessage::parse(&written).expect("a written message reads back");
    assert_eq!(read.added().collect::<Vec<_>>(), expected, "a written message reads back");
}

/// Checks a DHT packet.
pub fn krpc(bytes: &[u8]) {
    let Ok(packet) = krpc::parse(bytes) else { return };
    assert!(krpc::claims_to_be(bytes) && bytes.len() <= KRPC_BYTES);
    assert!(packet.transaction.len() <= KRPC_TRANSACTION_BYTES);
    let mut out = Vec::new();
    let to = SocketAddr::from(([192, 0, 2, 1], 6881));
    match packet.body {
        PacketBody::Query(query) => {
            if matches!(query.method, Method::Malformed | Method::Unknown) {
                return;
            }
            write_query(packet.transaction, &query, packet.read_only, &mut out);
            if let Some(read) = read_back(&out) {
                assert_eq!((read.body, read.read_only), (PacketBody::Query(query), packet.read_only));
                assert_eq!(read.transaction, packet.transaction);
            }
        }
        PacketBody::Error { code, text } => {
            let Ok(text) = std::str::from_utf8(text) else { return };
            write_error(packet.transaction, to, code, text, &mut out);
            if let Some(read) = read_back(&out) {
                assert_eq!(read.body, PacketBody::Error { code, text: text.as_bytes() });
                assert_eq!(read.external_ip, Some(to.ip()));
            }
        }
        PacketBody::Response(reply) => {
            let parts @ (nodes, nodes6, peers) = &parts_of(&reply);
            let compact = |nodes: &[(NodeId, SocketAddr)]| {
                let mut list = Vec::new();
                nodes.iter().for_each(|(id, addr)| write_node(*id, *addr, &mut list));
                list
            };
            let list = compact(nodes);
            let list6 = compact(nodes6);
            let filters = reply.filters();
            let written = ResponseFields {
                id: reply.id,
                nodes: Some(&list),
                nodes6: Some(&list6),
                token: reply.token,
                peers,
                filters: filters.as_ref(),
            };
            write_response(packet.transaction, to, &written, &mut out);
            if let Some(read) = read_back(&out) {
                let PacketBody::Response(read) = read.body else { panic!("a response became {read:?}") };
                assert_eq!((read.id, read.token), (reply.id, reply.token));
                assert_eq!(
                    (&parts_of(&read), read.filters()),
                    (parts, filters),
                    "a written message reads back"
                );
            }
        }
    }
}

/// Checks an answer of a router: of PCP or NAT-PMP, to a UPnP search, or an XML document of UPnP.
pub fn port_mapping(bytes: &[u8]) {
    if let Some(answer) = parse_answer(bytes) {
        assert_eq!(bytes.first(), Some(&answer.version));
        if let Subject::Mapping(mapped) = answer.subject {
            assert_eq!(mapped.pcp.is_some(), answer.version == 2);
        }
    }
    if let Some(location) = ssdp::location(bytes) {
        assert!(bytes.len() <= 2048 && (1..=256).contains(&location.len()));
        assert!(location.bytes().all(|b| b.is_ascii_graphic()));
    }
    let read = soap::mapping_service(bytes, "http://192.168.1.1:5000/rootDesc.xml");
    let code = soap::error_code(bytes);
    let address = soap::external_address(bytes);
    let entry = soap::mapping_entry(bytes);
    if bytes.len() > soap::DOCUMENT_BYTES {
        assert!(read.is_none() && code.is_none() && address.is_none() && entry.is_none());
    }
    assert!(read.is_none_or(|service| service.control_url.len() <= 2 * soap::DOCUMENT_BYTES));
}

type Nodes = Vec<(NodeId, SocketAddr)>;

/// Returns the nodes and peers that rill reads from a response, each node in the list of its address family.
fn parts_of(reply: &Response<'_>) -> (Nodes, Nodes, Vec<SocketAddr>) {
    let nodes = |v6: bool| {
        let all: Vec<_> = reply.nodes(v6).collect();
        assert!(all.len() <= KRPC_NODES);
        assert!(all.iter().all(|(_, addr)| usable(addr.ip(), addr.port()) == Some(*addr)));
        all.into_iter().filter(|(_, addr)| addr.is_ipv6() == v6).collect()
    };
    let peers: Vec<SocketAddr> = reply.peers().collect();
    assert!(peers.iter().all(|peer| usable(peer.ip(), peer.port()) == Some(*peer)));
    (nodes(false), nodes(true), peers)
}

/// Reads a packet that rill wrote, unless its canonical form exceeds the limit.
fn read_back(written: &[u8]) -> Option<Packet<'_>> {
    (written.len() <= KRPC_BYTES).then(|| krpc::parse(written).expect("a written packet reads back"))
}

fn check_peers(peers: &[SocketAddr]) {
    assert!(peers.len() <= PEERS);
    assert!(peers.iter().all(|peer| usable(peer.ip(), peer.port()) == Some(*peer)));
}

/// Checks a uTP packet: what was read is written and reads back.
pub fn utp_packet(bytes: &[u8]) {
    let Some(packet) = UtpPacket::parse(bytes) else { return };
    assert!(packet.selectively_acked().count() <= 255 * 8);
    let mut written = Vec::new();
    packet.write(&mut written);
    let read = UtpPacket::parse(&written).expect("a written packet reads back");
    assert!(read.header == packet.header && read.payload == packet.payload);
}
