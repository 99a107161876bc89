//! DHT packets: the examples of BEP 5, our own packets, and malformed ones.

use super::*;
use crate::wire::bloom::Filter;
use proptest::prelude::*;

const ID: NodeId = NodeId(*b"abcdefghij0123456789");
const OTHER: NodeId = NodeId(*b"mnopqrstuvwxyz123456");
const HASH: InfoHash = InfoHash(OTHER.0);

fn body(bytes: &[u8]) -> PacketBody<'_> {
    parse(bytes).unwrap().body
}

fn method(bytes: &[u8]) -> Method<'_> {
    match body(bytes) {
        PacketBody::Query(query) => query.method,
        other => panic!("{other:?}"),
    }
}

fn reply_of(bytes: &[u8]) -> Response<'_> {
    match body(bytes) {
        PacketBody::Response(reply) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_the_examples_of_bep_5() {
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    let packet = parse(ping).unwrap();
    assert_eq!((packet.transaction, packet.external_ip, packet.read_only), (&b"aa"[..], None, false));
    assert_eq!(
        packet.body,
        PacketBody::Query(Query { id: ID, want: WantedFamilies::default(), method: Method::Ping })
    );
    assert_eq!(
        method(
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe"
        ),
        Method::FindNode { target: OTHER }
    );
    assert_eq!(
        method(b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe"),
        Method::GetPeers { info_hash: HASH, scrape: false }
    );
    let announce = b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz123456\
        4:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe";
    assert_eq!(
        method(announce),
        Method::AnnouncePeer { info_hash: HASH, port: None, seed: false, token: b"aoeusnth" }
    );
    let peers = b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
    let reply = reply_of(peers);
    assert_eq!((reply.id, reply.token), (ID, Some(&b"aoeusnth"[..])));
    let expected: [SocketAddr; 2] =
        ["97.120.106.101:11893".parse().unwrap(), "105.100.104.116:28269".parse().unwrap()];
    assert!(reply.peers().eq(expected));
    assert_eq!(
        body(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee"),
        PacketBody::Error { code: GENERIC_ERROR, text: b"A Generic Error Ocurred" }
    );
}

#[test]
fn tells_unknown_methods_from_malformed_queries() {
    assert_eq!(method(b"d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t2:aa1:y1:qe"), Method::Unknown);
    for arguments in [
        "6:target19:mnopqrstuvwxyz12345e1:q9:find_node",
        "e1:q9:find_node",
        "6:targeti7ee1:q9:find_node",
        "e1:q9:get_peers",
        "9:info_hash20:mnopqrstuvwxyz1234565:token1:xe1:q13:announce_peer",
        "9:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token1:xe1:q13:announce_peer",
        "9:info_hash20:mnopqrstuvwxyz1234564:porti65536e5:token1:xe1:q13:announce_peer",
        "9:info_hash20:mnopqrstuvwxyz1234564:porti6881ee1:q13:announce_peer",
    ] {
        let packet = format!("d1:ad2:id20:abcdefghij0123456789{arguments}1:t2:aa1:y1:qe");
        assert_eq!(method(packet.as_bytes()), Method::Malformed, "{arguments}");
    }
}

#[test]
fn d2_ignores_node_lists_of_odd_length_and_unusable_addresses() {
    let node = |id: NodeId, addr: &str| {
        let mut bytes = Vec::new();
        write_node(id, addr.parse().unwrap(), &mut bytes);
        bytes
    };
    let read = |list: &[u8]| {
        let mut bytes = Vec::new();
        let parts = ResponseFields {
            id: ID,
            nodes: Some(list),
            nodes6: None,
            token: None,
            peers: &[],
            filters: None,
        };
        write_response(b"aa", "1.2.3.4:5".parse().unwrap(), &parts, &mut bytes);
        reply_of(&bytes).nodes(false).collect::<Vec<_>>()
    };
    let good = node(OTHER, "1.2.3.4:5");
    assert_eq!(read(&good), [(OTHER, "1.2.3.4:5".parse().unwrap())]);
    for missing in 1..good.len() {
        assert_eq!(read(&[&good[..], &good[missing..]].concat()), [], "{missing}");
    }
    assert_eq!(read(&[node(OTHER, "1.2.3.4:0"), good.clone(), node(ID, "0.0.0.0:7")].concat()).len(), 1);
    assert_eq!(read(&good.repeat(100)).len(), KRPC_NODES);
}

#[test]
fn d4_refuses_a_transaction_id_too_long_to_echo() {
    let ping =
        |len: usize| format!("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t{len}:{}1:y1:qe", "x".repeat(len));
    assert!(parse(ping(0).as_bytes()).is_ok() && parse(ping(KRPC_TRANSACTION_BYTES).as_bytes()).is_ok());
    assert_eq!(parse(ping(KRPC_TRANSACTION_BYTES + 1).as_bytes()), Err(KrpcError::Transaction));
    assert_eq!(parse(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:y1:qe"), Err(KrpcError::Transaction));
}

#[test]
fn d9_tells_packets_of_other_protocols_from_malformed_ones() {
    for alien in [&b""[..], b"\x41\x00connect", b"i7e", b"l1:ae"] {
        assert!(!claims_to_be(alien));
    }
    for alien in [&b"d"[..], b"de1", b"d1:t", &[b'd'; 5000]] {
        assert!(claims_to_be(alien) && parse(alien).is_err());
    }
    assert_eq!(parse(b"d1:t2:aa1:y1:xe"), Err(KrpcError::Kind));
    assert_eq!(parse(b"d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe"), Err(KrpcError::Kind));
}

prop_compose! {
    fn any_query()(id: [u8; 20], v4: bool, v6: bool, kind in 0..4, place: [u8; 20], port in 1u16.., implied: bool) -> Query<'static> {
        let target = NodeId(place);
        let info_hash = InfoHash(place);
        let method = match kind {
            0 => Method::Ping,
            1 => Method::FindNode { target },
            2 => Method::GetPeers { info_hash, scrape: implied },
            _ => Method::AnnouncePeer { info_hash, port: (!implied).then_some(port), seed: port % 2 == 0, token: b"token" },
        };
        Query { id: NodeId(id), want: WantedFamilies { v4, v6 }, method }
    }
}

proptest! {
    #[test]
    fn reads_a_query_that_it_wrote(query in any_query(), transaction: [u8; 2], read_only: bool) {
        let mut bytes = Vec::new();
        write_query(&transaction, &query, read_only, &mut bytes);
        let scanned = scan(&bytes, &Rules { depth: 4, tokens: 100, strict: true }).unwrap();
        prop_assert!(scanned.is_canonical && scanned.rest.is_empty());
        let packet = Packet { transaction: &transaction, external_ip: None, read_only, body: PacketBody::Query(query) };
        prop_assert_eq!(parse(&bytes), Ok(packet));
    }

    #[test]
    fn reads_a_response_that_it_wrote(
        id: [u8; 20], ids in proptest::collection::vec(any::<[u8; 20]>(), 0..9), peers in 0u8..60, to6: bool, token: Option<[u8; 8]>, count: bool,
    ) {
        let to: SocketAddr = if to6 { "[2001:db8::7]:9".parse().unwrap() } else { "9.8.7.6:5".parse().unwrap() };
        let peers: Vec<SocketAddr> = (0..peers).map(|n| match n % 2 {
            0 => SocketAddr::from(([1, 2, 3, n], 1000)),
            _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)], 1000)),
        }).collect();
        let mut nodes = Vec::new();
        let mut nodes6 = Vec::new();
        let v4 = |n: usize| SocketAddr::from(([1, 1, 1, n as u8], 77));
        let v6 = |n: usize| SocketAddr::from(([0x2001, 0, 0, 0, 0, 0, 0, n as u16], 77));
        for (n, id) in ids.iter().enumerate() {
            write_node(NodeId(*id), v4(n), &mut nodes);
            write_node(NodeId(*id), v6(n), &mut nodes6);
        }
        let token = token.as_ref().map(|t| &t[..]);
        let mut filters = [Filter::default(), Filter::default()];
        peers.iter().for_each(|peer| filters[usize::from(peer.is_ipv6())].insert(peer.ip()));
        let filters = count.then_some(filters);
        let nodes = Some(&nodes[..]);
        let nodes6 = Some(&nodes6[..]);
        let parts = ResponseFields { id: NodeId(id), nodes, nodes6, token, peers: &peers, filters: filters.as_ref() };
        let mut bytes = Vec::new();
        write_response(b"xy", to, &parts, &mut bytes);
        let tidy = scan(&bytes, &Rules { depth: 4, tokens: 300, strict: true }).unwrap().is_canonical;
        prop_assert!(tidy);
        let packet = parse(&bytes).unwrap();
        prop_assert_eq!((packet.transaction, packet.external_ip), (&b"xy"[..], Some(to.ip())));
        let reply = reply_of(&bytes);
        prop_assert_eq!((reply.id, reply.token, reply.filters()), (NodeId(id), token, filters));
        prop_assert!(reply.peers().eq(peers));
        prop_assert!(reply.nodes(false).eq(ids.iter().enumerate().map(|(n, id)| (NodeId(*id), v4(n)))));
        prop_assert!(reply.nodes(true).eq(ids.iter().enumerate().map(|(n, id)| (NodeId(*id), v6(n)))));
    }

    #[test]
    fn reads_an_error_that_it_wrote(code in 0i64..1000, text in "[a-z ]{0,120}") {
        let mut bytes = Vec::new();
        write_error(b"xy", "9.8.7.6:5".parse().unwrap(), code, &text, &mut bytes);
        let tidy = scan(&bytes, &Rules { depth: 4, tokens: 100, strict: true }).unwrap().is_canonical;
        prop_assert!(tidy);
        prop_assert_eq!(body(&bytes), PacketBody::Error { code, text: text.as_bytes() });
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, cut in 0usize..200, at in 0usize..200, byte: u8) {
        let walk = |bytes: &[u8]| {
            let Ok(Packet { body: PacketBody::Response(reply), .. }) = parse(bytes) else { return };
            let nodes = reply.nodes(false).chain(reply.nodes(true)).count();
            let peers = reply.peers().count();
            assert!(nodes <= 2 * KRPC_NODES && peers <= KRPC_TOKENS);
        };
        walk(&bytes);
        let mut reply = b"d2:ip6:abcdef1:rd2:id20:abcdefghij01234567895:nodes26:abcdefghij0123456789abcdef5:token2:xy\
            6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re".to_vec();
        if let Some(b) = reply.get_mut(at) {
            *b = byte;
        }
        walk(&reply);
        reply.truncate(cut);
        walk(&reply);
    }
}
