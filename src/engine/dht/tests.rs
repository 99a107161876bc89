//! One node and the packets of other nodes: queries, responses, searches, and hostile input (hazards D1 to
//! D9).

use super::node::{Announce, Dht, DhtAction, NodeConfig};
use crate::engine::limits;
use crate::units::{InfoHash, Instant, NodeId, Rng};
use crate::wire::krpc::{
    Method, Packet, PacketBody, Query, ResponseFields, WantedFamilies, parse, write_error, write_node,
    write_query, write_response,
};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) const HASH: InfoHash = InfoHash([7; 20]);
const CONFIG: NodeConfig = NodeConfig { seed: 1, port: 6881, read_only: false };

pub(super) fn at(s: u64) -> Instant {
    Instant::from_micros(s * 1_000_000)
}

pub(super) fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([20 + (n / 256) as u8, n as u8, 7, 7], 6881))
}

pub(super) fn id(n: usize) -> NodeId {
    NodeId::random_for(addr(n).ip(), &mut Rng::new(n as u64))
}

/// Returns the packets among the actions.
pub(super) fn sent(out: &[DhtAction]) -> Vec<(SocketAddr, &[u8])> {
    let of = |action| match action {
        &DhtAction::Send { to, ref bytes } => Some((to, &bytes[..])),
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

/// Handles a query of a read-only node and returns the actions.
pub(super) fn on_query(dht: &mut Dht, now: Instant, from: SocketAddr, method: Method<'_>) -> Vec<DhtAction> {
    let mut bytes = Vec::new();
    let mut out = Vec::new();
    let query = Query { id: NodeId([9; 20]), want: WantedFamilies::default(), method };
    write_query(b"q1", &query, true, &mut bytes);
    assert!(dht.on_datagram(now, from, &bytes, &mut out));
    out
}

/// Returns the only packet among the actions, parsed.
pub(super) fn only_packet(out: &[DhtAction]) -> Packet<'_> {
    let [(_, bytes)] = sent(out)[..] else { panic!("{out:?}") };
    parse(bytes).unwrap()
}

fn error_code(out: &[DhtAction]) -> i64 {
    match only_packet(out).body {
        PacketBody::Error { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

/// Returns the response of node `n` to a query, with these nodes and peers.
pub(super) fn response(
    n: usize,
    query: &[u8],
    nodes: &[(NodeId, SocketAddr)],
    peers: &[SocketAddr],
) -> Vec<u8> {
    let mut list = Vec::new();
    nodes.iter().for_each(|(id, addr)| write_node(*id, *addr, &mut list));
    let parts = ResponseFields {
        id: id(n),
        nodes: Some(&list),
        nodes6: None,
        token: Some(b"token"),
        peers,
        filters: None,
    };
    let mut bytes = Vec::new();
    write_response(parse(query).unwrap().transaction, "5.5.5.5:5".parse().unwrap(), &parts, &mut bytes);
    bytes
}

/// Returns a node that knows node 1 and has finished its bootstrap.
pub(super) fn with_one_node() -> Dht {
    let mut dht = Dht::new(at(0), CONFIG);
    let mut out = Vec::new();
    dht.add_node(at(0), addr(1), &mut out);
    let ping = sent(&out)[0].1.to_vec();
    assert!(dht.on_datagram(at(0), addr(1), &response(1, &ping, &[], &[]), &mut Vec::new()));
    assert_eq!(dht.nodes(at(0)), [(id(1), addr(1))]);
    // The bootstrap finds no other node.
    out.clear();
    dht.on_deadline(at(0), &mut out);
    let find = sent(&out)[0].1.to_vec();
    dht.on_datagram(at(0), addr(1), &response(1, &find, &[], &[]), &mut Vec::new());
    dht
}

#[test]
fn d1_a_response_is_accepted_only_from_the_queried_address_with_its_transaction() {
    let mut dht = Dht::new(at(0), CONFIG);
    let mut out = Vec::new();
    dht.add_node(at(0), addr(1), &mut out);
    let good = response(1, sent(&out)[0].1, &[], &[]);
    let mut other = good.clone();
    let t = other.windows(5).rposition(|w| w == b"1:t2:").unwrap() + 5;
    other[t] ^= 1;
    let mut quiet = Vec::new();
    dht.on_datagram(at(1), addr(1), &other, &mut quiet);
    dht.on_datagram(at(1), SocketAddr::new(addr(1).ip(), 7), &good, &mut quiet);
    dht.on_datagram(at(1), addr(2), &good, &mut quiet);
    assert!(quiet.is_empty() && dht.nodes(at(1)).is_empty());
    assert_eq!(dht.stats(at(1)).dropped_packets, 3);
    dht.on_datagram(at(1), addr(1), &good, &mut quiet);
    assert_eq!(dht.nodes(at(1)).len(), 1);
    let before = dht.stats(at(1)).dropped_packets;
    dht.on_datagram(at(1), addr(1), &good, &mut quiet);
    assert_eq!(dht.stats(at(1)).dropped_packets, before + 1, "a response is accepted once");
}

#[test]
fn d1_unsolicited_responses_and_errors_are_ignored() {
    let mut dht = with_one_node();
    let mut out = Vec::new();
    let mut error = Vec::new();
    write_error(b"zz", addr(1), 201, "no", &mut error);
    dht.on_datagram(at(1), addr(1), &error, &mut out);
    dht.on_datagram(
        at(1),
        addr(1),
        &response(1, b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", &[], &[]),
        &mut out,
    );
    assert!(out.is_empty());
}

#[test]
fn d2_nodes_with_impossible_addresses_are_not_queried() {
    let mut dht = with_one_node();
    let mut out = Vec::new();
    dht.search(at(1), HASH, None, &mut out);
    let query = sent(&out)[0].1.to_vec();
    out.clear();
    let own = dht.id(false);
    let a = |text: &str| text.parse::<SocketAddr>().unwrap();
    let nodes = [
        (id(5), a("127.0.0.1:7")),
        (id(6), a("192.168.1.1:7")),
        (own, addr(7)),
        (id(8), a("0.0.0.0:7")),
        (id(9), addr(9)),
    ];
    let peers = [a("10.0.0.1:7"), addr(20), a("127.0.0.1:9")];
    dht.on_datagram(at(1), addr(1), &response(1, &query, &nodes, &peers), &mut out);
    assert_eq!(sent(&out).iter().map(|(to, _)| *to).collect::<Vec<_>>(), [addr(9)]);
    assert!(out.contains(&DhtAction::Peers { info_hash: HASH, peers: vec![addr(20)] }));
}

#[test]
fn d3_an_announce_needs_a_token_issued_to_its_address() {
    let mut dht = with_one_node();
    let info_hash = HASH;
    let actions = on_query(&mut dht, at(1), addr(3), Method::GetPeers { info_hash, scrape: false });
    let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
    let token = r.token.unwrap();
    let announce = |token| Method::AnnouncePeer { info_hash, port: Some(4000), seed: false, token };
    assert_eq!(error_code(&on_query(&mut dht, at(2), addr(3), announce(b"invented"))), 203);
    assert_eq!(error_code(&on_query(&mut dht, at(2), addr(4), announce(token))), 203);
    assert_eq!(error_code(&on_query(&mut dht, at(700), addr(3), announce(token))), 203);
    assert_eq!(dht.stats(at(700)).stored_peers, 0);
    assert!(matches!(
        only_packet(&on_query(&mut dht, at(299), addr(3), announce(token))).body,
        PacketBody::Response(_)
    ));
    let actions = on_query(&mut dht, at(300), addr(4), Method::GetPeers { info_hash, scrape: false });
    let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
    assert!(r.peers().eq([SocketAddr::new(addr(3).ip(), 4000)]));
    let implied = Method::AnnouncePeer { info_hash, port: None, seed: false, token: r.token.unwrap() };
    assert!(matches!(
        only_packet(&on_query(&mut dht, at(301), addr(4), implied)).body,
        PacketBody::Response(_)
    ));
    assert_eq!(dht.stats(at(301)).stored_peers, 2);
}

#[test]
fn d4_an_overlong_transaction_is_not_echoed_and_an_overlong_token_is_not_stored() {
    let mut dht = with_one_node();
    let mut out = Vec::new();
    let long = format!("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t900:{}1:y1:qe", "x".repeat(900));
    assert!(dht.on_datagram(at(1), addr(3), long.as_bytes(), &mut out));
    assert!(out.is_empty());
    dht.search(at(1), HASH, Some(Announce { ports: [7; 2], seed: false }), &mut out);
    let query = sent(&out)[0].1.to_vec();
    let token = [b'x'; 100];
    let parts = ResponseFields {
        id: id(1),
        nodes: None,
        nodes6: None,
        token: Some(&token),
        peers: &[],
        filters: None,
    };
    let mut bytes = Vec::new();
    write_response(parse(&query).unwrap().transaction, addr(0), &parts, &mut bytes);
    out.clear();
    dht.on_datagram(at(1), addr(1), &bytes, &mut out);
    assert_eq!(out, [DhtAction::Done { info_hash: HASH }], "no node to announce to");
}

#[test]
fn d5_our_id_changes_when_four_nodes_agree_on_our_address() {
    let mut dht = Dht::new(at(0), CONFIG);
    let mut out = Vec::new();
    let ours: SocketAddr = "5.5.5.5:5".parse().unwrap();
    let before = dht.id(false);
    for n in 1..=4 {
        assert_eq!(dht.id(false), before);
        out.clear();
        dht.add_node(at(0), addr(n), &mut out);
        let ping = sent(&out)[0].1.to_vec();
        dht.on_datagram(at(0), addr(n), &response(n, &ping, &[], &[]), &mut Vec::new());
    }
    assert!(!before.is_secure_for(ours.ip()) && dht.id(false).is_secure_for(ours.ip()));
    assert_eq!(dht.nodes(at(0)).len(), 4, "the table keeps its nodes");
    out.clear();
    dht.add_node(at(0), SocketAddr::new(ours.ip(), CONFIG.port), &mut out);
    assert!(out.is_empty(), "our own address is not queried");
    dht.on_deadline(at(0), &mut out);
    let own = dht.id(false);
    let is_find_own = |bytes| {
        matches!(
            parse(bytes).unwrap().body,
            PacketBody::Query(q) if q.method == Method::FindNode { target: own }
        )
    };
    assert!(sent(&out).iter().any(|(_, bytes)| is_find_own(bytes)), "it looks up its new id");
}

#[test]
fn d9_packets_of_other_protocols_are_not_dht_packets() {
    let mut dht = with_one_node();
    let mut out = Vec::new();
    for alien in [&b"\x41\x00\x12\x34 utp"[..], &[0, 0, 0, 1, 0, 0, 0, 9], b"", b"le", b"hello"] {
        assert!(!dht.on_datagram(at(1), addr(1), alien, &mut out));
    }
    assert!(dht.on_datagram(at(1), addr(1), b"d1:xde", &mut out));
    assert!(out.is_empty());
}

#[test]
fn unknown_methods_and_malformed_arguments_get_error_codes() {
    let mut dht = with_one_node();
    let mut out = Vec::new();
    for (q, code) in [("4:vote", 204), ("9:get_peers", 203), ("9:find_node", 203), ("13:announce_peer", 203)]
    {
        out.clear();
        let packet = format!("d1:ad2:id20:abcdefghij0123456789e1:q{q}2:roi1e1:t2:aa1:y1:qe");
        dht.on_datagram(at(1), addr(3), packet.as_bytes(), &mut out);
        assert_eq!(error_code(&out), code, "{q}");
    }
}

#[test]
fn a_querying_node_is_pinged_unless_it_is_read_only() {
    let mut dht = with_one_node();
    assert_eq!(sent(&on_query(&mut dht, at(1), addr(3), Method::Ping)).len(), 1, "read-only");
    let mut bytes = Vec::new();
    let mut out = Vec::new();
    write_query(
        b"q1",
        &Query { id: id(4), want: WantedFamilies::default(), method: Method::Ping },
        false,
        &mut bytes,
    );
    dht.on_datagram(at(1), addr(4), &bytes, &mut out);
    assert_eq!(sent(&out).len(), 2);
    let ping = sent(&out)[1].1.to_vec();
    dht.on_datagram(at(1), addr(4), &response(4, &ping, &[], &[]), &mut Vec::new());
    assert!(dht.nodes(at(1)).contains(&(id(4), addr(4))));
    let mut read_only = Dht::new(at(0), NodeConfig { read_only: true, ..CONFIG });
    out.clear();
    assert!(read_only.on_datagram(at(1), addr(4), &bytes, &mut out) && out.is_empty());
    read_only.add_node(at(1), addr(5), &mut out);
    assert!(parse(sent(&out)[0].1).unwrap().read_only);
}

#[test]
fn a_lookup_queries_another_node_after_two_seconds_and_fails_a_query_after_twelve() {
    let mut dht = with_one_node();
    let mut out = Vec::new();
    dht.search(at(1), HASH, Some(Announce { ports: [4000; 2], seed: true }), &mut out);
    let query = sent(&out)[0].1.to_vec();
    let nodes: Vec<_> = (10..14).map(|n| (id(n), addr(n))).collect();
    out.clear();
    dht.on_datagram(at(1), addr(1), &response(1, &query, &nodes, &[]), &mut out);
    assert_eq!(sent(&out).len(), limits::DHT_ALPHA);
    let late = sent(&out)[0].1.to_vec();
    let slow = (10..14).find(|n| addr(*n) == sent(&out)[0].0).unwrap();
    out.clear();
    assert_eq!(dht.next_deadline(), at(3));
    dht.on_deadline(at(3), &mut out);
    assert_eq!(sent(&out).len(), 1, "the fourth node is queried");
    out.clear();
    dht.on_datagram(at(4), addr(slow), &response(slow, &late, &[], &[addr(77)]), &mut out);
    assert_eq!(
        out,
        [DhtAction::Peers { info_hash: HASH, peers: vec![addr(77)] }],
        "a slow response is accepted"
    );
    while !out.contains(&DhtAction::Done { info_hash: HASH }) {
        let next = dht.next_deadline();
        assert!(next < at(140), "{out:?}");
        dht.on_deadline(next, &mut out);
    }
    let is_announce = |bytes: &[u8]| bytes.windows(13).any(|w| w == b"announce_peer");
    let mut announced_to: Vec<_> =
        sent(&out).into_iter().filter(|(_, bytes)| is_announce(bytes)).map(|(to, _)| to).collect();
    announced_to.sort_unstable();
    assert_eq!(announced_to, [addr(1), addr(slow)], "the nodes that sent a token");
}

#[test]
fn a_search_waits_for_the_bootstrap_and_ends_at_once_without_any_node() {
    let mut dht = Dht::new(at(0), CONFIG);
    let mut out = Vec::new();
    dht.search(at(0), HASH, None, &mut out);
    assert_eq!(out, [DhtAction::Done { info_hash: HASH }]);
    assert_eq!(dht.next_deadline(), Instant::NEVER);
    out.clear();
    dht.add_router(at(1), addr(1));
    dht.search(at(1), HASH, None, &mut out);
    assert!(out.is_empty());
    dht.on_deadline(at(1), &mut out);
    let find = sent(&out)[0].1.to_vec();
    out.clear();
    dht.on_datagram(at(2), addr(1), &response(1, &find, &[(id(2), addr(2))], &[]), &mut out);
    assert!(dht.nodes(at(2)).is_empty(), "a bootstrap node is not inserted");
    let find = sent(&out)[0].1.to_vec();
    out.clear();
    dht.on_datagram(at(2), addr(2), &response(2, &find, &[], &[]), &mut out);
    let is_get_peers = |bytes| {
        matches!(
            parse(bytes).unwrap().body,
            PacketBody::Query(q) if q.method == Method::GetPeers { info_hash: HASH, scrape: false }
        )
    };
    assert!(sent(&out).iter().any(|(to, bytes)| *to == addr(2) && is_get_peers(bytes)), "{out:?}");
    dht.forget(HASH);
    out.clear();
    (0..60).for_each(|_| dht.on_deadline(dht.next_deadline().min(at(1000)), &mut out));
    assert!(!out.contains(&DhtAction::Done { info_hash: HASH }), "a cancelled search is not reported");
}

#[test]
fn each_family_has_a_table_and_responses_contain_the_requested_families() {
    let mut dht = with_one_node();
    let v6: SocketAddr = "[2001:db8:5::1]:6881".parse().unwrap();
    let mut out = Vec::new();
    dht.add_node(at(1), v6, &mut out);
    let ping = sent(&out)[0].1.to_vec();
    dht.on_datagram(at(1), v6, &response(6, &ping, &[], &[]), &mut Vec::new());
    let stats = dht.stats(at(1));
    assert_eq!((stats.nodes_v4, stats.nodes_v6), (1, 1));
    let mut find = |from: SocketAddr, want: WantedFamilies| {
        let mut bytes = Vec::new();
        let mut out = Vec::new();
        let method = Method::FindNode { target: NodeId([3; 20]) };
        write_query(b"q1", &Query { id: id(9), want, method }, true, &mut bytes);
        dht.on_datagram(at(2), from, &bytes, &mut out);
        let PacketBody::Response(r) = only_packet(&out).body else { panic!() };
        (r.nodes(false).map(|n| n.1).collect::<Vec<_>>(), r.nodes(true).map(|n| n.1).collect::<Vec<_>>())
    };
    let asker: SocketAddr = "[2001:db8:9::9]:7".parse().unwrap();
    assert_eq!(find(asker, WantedFamilies::default()), (vec![], vec![v6]));
    assert_eq!(find(addr(3), WantedFamilies::default()), (vec![addr(1)], vec![]));
    assert_eq!(find(addr(3), WantedFamilies { v4: false, v6: true }), (vec![], vec![v6]));
    assert_eq!(find(asker, WantedFamilies { v4: true, v6: true }), (vec![addr(1)], vec![v6]));
    out.clear();
    dht.search(at(3), HASH, None, &mut out);
    let queried: Vec<_> = sent(&out).iter().map(|(to, _)| *to).collect();
    assert!(queried.contains(&addr(1)), "{queried:?}");
}

#[test]
fn d6_memory_and_responses_stay_bounded_under_a_hundred_thousand_hostile_packets() {
    let mut dht = with_one_node();
    let mut rng = Rng::new(5);
    let mut out: Vec<DhtAction> = Vec::new();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    let method = |n: usize, target: [u8; 20]| match n % 4 {
        0 => Method::Ping,
        1 => Method::FindNode { target: NodeId(target) },
        2 => Method::GetPeers { info_hash: InfoHash(target), scrape: target[0] % 2 == 0 },
        _ => Method::AnnouncePeer {
            info_hash: InfoHash(target),
            port: Some(1),
            seed: true,
            token: b"12345678",
        },
    };
    for n in 0..40 {
        let mut bytes = Vec::new();
        write_query(
            b"tt",
            &Query { id: id(n), want: WantedFamilies::default(), method: method(n, id(n).0) },
            n % 8 == 0,
            &mut bytes,
        );
        seeds.push(response(n, &bytes, &[(id(n), addr(n)), (id(n + 1), addr(n + 1))], &[addr(n)]));
        seeds.push(bytes);
    }
    let mut now = at(1);
    let mut most = 0;
    let mut early = 0;
    let before = dht.stats(now);
    for n in 0..100_000u32 {
        let mut packet = seeds[rng.below(seeds.len())].clone();
        match rng.below(4) {
            0 => {}
            1 => (0..1 + rng.below(5)).for_each(|_| {
                let at = rng.below(packet.len());
                packet[at] = rng.u32() as u8;
            }),
            2 => packet.truncate(rng.below(packet.len() + 1)),
            _ => {
                packet = vec![0; 1 + rng.below(200)];
                rng.fill(&mut packet);
                packet[0] = b'd';
            }
        }
        let from = if n % 3 == 0 {
            addr(rng.below(40))
        } else {
            SocketAddr::from((rng.u32().to_be_bytes(), rng.u32() as u16))
        };
        now = now + Duration::from_millis(20);
        dht.on_datagram(now, from, &packet, &mut out);
        while dht.next_deadline() <= now {
            dht.on_deadline(now, &mut out);
        }
        out.clear();
        if n % 1000 == 0 {
            let items = dht.stats(now).items;
            most = most.max(items);
            early = if n == 20_000 { most } else { early };
        }
    }
    let stats = dht.stats(now);
    let received = stats.received_bytes - before.received_bytes;
    let sent = stats.sent_bytes - before.sent_bytes;
    assert!(
        most <= early + early / 4 + 50,
        "at most {early} items in the first fifth, {most} in the whole test"
    );
    assert!(sent <= 3 * received, "{sent} bytes sent, {received} received");
}

/// Returns a node that knows one node with a local address and has started a search.
fn with_local_node(local: SocketAddr) -> (Dht, Vec<DhtAction>) {
    let mut dht = Dht::new(at(0), CONFIG);
    let mut out = Vec::new();
    dht.add_node(at(0), local, &mut out);
    let ping = sent(&out)[0].1.to_vec();
    dht.on_datagram(at(0), local, &response(1, &ping, &[], &[]), &mut Vec::new());
    out.clear();
    dht.search(at(0), HASH, None, &mut out);
    (dht, out)
}

#[test]
fn d2_a_local_node_may_name_private_addresses_but_not_loopback() {
    let local: SocketAddr = "192.168.1.1:7".parse().unwrap();
    let (mut dht, mut out) = with_local_node(local);
    dht.on_deadline(at(0), &mut out);
    let find = sent(&out)[0].1.to_vec();
    out.clear();
    let a = |text: &str| text.parse::<SocketAddr>().unwrap();
    let nodes = [(id(5), a("127.0.0.1:7")), (id(6), a("192.168.1.2:7"))];
    dht.on_datagram(at(0), local, &response(1, &find, &nodes, &[]), &mut out);
    let queried: Vec<_> = sent(&out).iter().map(|(to, _)| *to).collect();
    assert!(queried.contains(&nodes[1].1) && !queried.contains(&nodes[0].1), "{queried:?}");
    let response = on_query(&mut dht, at(1), addr(3), Method::FindNode { target: id(1) });
    let PacketBody::Response(r) = only_packet(&response).body else { panic!() };
    assert_eq!(r.nodes(false).count(), 0, "a public node gets no private addresses");
}

#[test]
fn a_scrape_merges_the_counts_of_all_nodes() {
    let mut dht = with_one_node();
    for (n, seed) in [(1, true), (2, true), (2, true), (3, false)] {
        let actions =
            on_query(&mut dht, at(1), addr(30 + n), Method::GetPeers { info_hash: HASH, scrape: false });
        let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
        let announce =
            Method::AnnouncePeer { info_hash: HASH, port: Some(4000), seed, token: r.token.unwrap() };
        on_query(&mut dht, at(1), addr(30 + n), announce);
    }
    let actions = on_query(&mut dht, at(2), addr(3), Method::GetPeers { info_hash: HASH, scrape: true });
    let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
    let filters = r.filters().unwrap();
    assert_eq!(filters.clone().map(|f| f.estimate().round()), [2.0, 1.0]);
    assert!(sent(&actions)[0].1.len() <= limits::DHT_ANSWER_BYTES);
    let actions =
        on_query(&mut dht, at(2), addr(3), Method::GetPeers { info_hash: InfoHash([8; 20]), scrape: true });
    let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
    assert_eq!(r.filters(), None, "no peer has announced this torrent");

    let mut out = Vec::new();
    dht.scrape(at(3), HASH, &mut out);
    let query = sent(&out)[0].1.to_vec();
    let nodes = [(id(10), addr(10)), (id(11), addr(11))];
    let mut list = Vec::new();
    nodes.iter().for_each(|(id, addr)| write_node(*id, *addr, &mut list));
    let transaction = parse(&query).unwrap().transaction;
    let parts = ResponseFields {
        id: id(1),
        nodes: Some(&list),
        nodes6: None,
        token: None,
        peers: &[],
        filters: Some(&filters),
    };
    let mut bytes = Vec::new();
    write_response(transaction, addr(0), &parts, &mut bytes);
    out.clear();
    dht.on_datagram(at(3), addr(1), &bytes, &mut out);
    let queries: Vec<_> = sent(&out).into_iter().map(|(to, bytes)| (to, bytes.to_vec())).collect();
    assert_eq!(queries.len(), 2);
    out.clear();
    for (to, query) in queries {
        let n = if to == addr(10) { 10 } else { 11 };
        // Neither response has filters: the peers count as incomplete, and a peer counts once.
        dht.on_datagram(at(3), to, &response(n, &query, &[], &[addr(31), addr(50)]), &mut out);
    }
    assert_eq!(out, [DhtAction::Scraped { info_hash: HASH, seeds: 2, peers: 3 }]);
}
