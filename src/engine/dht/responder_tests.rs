//! Limits on responses: forged queries cannot make us flood another host (hazard D6).

use super::tests::{HASH, addr, at, on_query, only_packet, response, sent, with_one_node};
use crate::engine::limits;
use crate::units::{InfoHash, NodeId, Rng};
use crate::wire::krpc::{Method, PacketBody, Query, WantedFamilies, write_query};
use std::net::SocketAddr;

/// The table is full and the torrent popular, so responses are as long as possible.
#[test]
fn d6_an_unknown_address_is_sent_at_most_three_times_the_bytes_received_from_it() {
    let mut dht = with_one_node();
    for n in 2..60 {
        let mut out = Vec::new();
        dht.add_node(at(0), addr(n), &mut out);
        let Some(&(to, ping)) = sent(&out).first() else { continue };
        dht.on_datagram(at(0), to, &response(n, ping, &[], &[]), &mut Vec::new());
    }
    assert!(dht.nodes(at(1)).len() >= 16);
    for n in 0..60 {
        let actions = on_query(
            &mut dht,
            at(100 + n as u64),
            addr(100 + n),
            Method::GetPeers { info_hash: HASH, scrape: false },
        );
        let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
        let announce =
            Method::AnnouncePeer { info_hash: HASH, port: Some(4000), seed: false, token: r.token.unwrap() };
        on_query(&mut dht, at(100 + n as u64), addr(100 + n), announce);
    }
    let both = WantedFamilies { v4: true, v6: true };
    let target = NodeId([1; 20]);
    let methods = [
        Method::Ping,
        Method::FindNode { target },
        Method::GetPeers { info_hash: InfoHash([8; 20]), scrape: false },
        Method::GetPeers { info_hash: HASH, scrape: false },
        Method::AnnouncePeer { info_hash: HASH, port: None, seed: false, token: b"" },
    ];
    let mut rng = Rng::new(1);
    for (i, method) in methods.into_iter().cycle().take(500).enumerate() {
        let from = addr(1000 + i);
        for (read_only, want) in
            [(true, WantedFamilies::default()), (false, WantedFamilies::default()), (false, both)]
        {
            let mut bytes = Vec::new();
            let mut out = Vec::new();
            write_query(
                b"q",
                &Query { id: NodeId::random_for(from.ip(), &mut rng), want, method },
                read_only,
                &mut bytes,
            );
            dht.on_datagram(at(1000 + i as u64), from, &bytes, &mut out);
            let sent_bytes: usize =
                sent(&out).iter().filter(|(to, _)| *to == from).map(|(_, bytes)| bytes.len()).sum();
            assert!(
                sent_bytes > 0 && sent_bytes <= 3 * bytes.len(),
                "{method:?}: {} bytes received, {sent_bytes} sent",
                bytes.len()
            );
        }
    }
    let actions =
        on_query(&mut dht, at(1500), addr(9000), Method::GetPeers { info_hash: HASH, scrape: false });
    let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
    assert!(
        r.nodes(false).count() >= 3 && r.peers().count() >= 8,
        "an unknown node still gets enough: {r:?}"
    );
}

#[test]
fn d6_unknown_nodes_together_get_one_scrape_response_per_second() {
    let mut dht = with_one_node();
    let actions = on_query(&mut dht, at(1), addr(30), Method::GetPeers { info_hash: HASH, scrape: false });
    let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
    on_query(
        &mut dht,
        at(1),
        addr(30),
        Method::AnnouncePeer { info_hash: HASH, port: Some(4000), seed: true, token: r.token.unwrap() },
    );
    let mut with_counts = |from: SocketAddr, s| {
        let actions = on_query(&mut dht, at(s), from, Method::GetPeers { info_hash: HASH, scrape: true });
        let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
        r.filters().is_some()
    };
    let counted = (0..20).filter(|n| with_counts(addr(100 + n), 2)).count();
    assert_eq!(counted, 3, "the burst");
    assert!(with_counts(addr(200), 3) && !with_counts(addr(201), 3));
    assert!(with_counts(addr(1), 3), "a known node is not limited");
}

#[test]
fn d6_responses_are_small_and_a_flood_of_queries_is_not_answered() {
    let mut dht = with_one_node();
    let info_hash = HASH;
    for n in 0..400 {
        let now = at(1 + n as u64 / 4);
        let actions = on_query(&mut dht, now, addr(100 + n), Method::GetPeers { info_hash, scrape: false });
        let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
        let announce =
            Method::AnnouncePeer { info_hash, port: Some(4000), seed: false, token: r.token.unwrap() };
        on_query(&mut dht, now, addr(100 + n), announce);
        // An unknown node gets some peers; the known node gets as many as fit.
        let of_them = r.peers().count();
        assert!((n.min(10)..=n.min(30)).contains(&of_them), "{of_them} of {n}");
        if n % 40 == 0 {
            let actions = on_query(&mut dht, now, addr(1), Method::GetPeers { info_hash, scrape: false });
            let PacketBody::Response(r) = only_packet(&actions).body else { panic!() };
            assert_eq!(r.peers().count(), (n + 1).min(limits::DHT_PEERS_TOLD));
            assert!(sent(&actions)[0].1.len() <= limits::DHT_ANSWER_BYTES);
        }
    }
    let responses =
        (0..200).filter(|_| !on_query(&mut dht, at(200), addr(3), Method::Ping).is_empty()).count();
    assert_eq!(responses as u32, limits::DHT_GUARD_PACKETS);
    let mut bytes = 0;
    for n in 0..5000 {
        let actions = on_query(
            &mut dht,
            at(300 + n / 500),
            addr(2000 + n as usize),
            Method::GetPeers { info_hash, scrape: false },
        );
        bytes += sent(&actions).iter().map(|(_, b)| b.len() as u64).sum::<u64>();
    }
    assert!(bytes <= limits::DHT_ANSWERS_BURST_BYTES + 10 * limits::DHT_ANSWERS_PER_SECOND_BYTES, "{bytes}");
    assert!(dht.stats(at(310)).withheld_answers > 4000);
}
