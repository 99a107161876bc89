//! The engine's DHT client: bootstrap, searches, announces, saved nodes; private torrents stay out (hazard
//! T28).

use crate::engine::testing::{HASH, Received, TestWorld};
use crate::engine::{Action, DhtSetup, Notice, TorrentInfo, limits};
use crate::units::{Bitfield, NodeId, Origin, PeerId, PeerKey, Rng};
use crate::wire::krpc::{Method, PacketBody, ResponseFields, parse, write_node, write_response};
use crate::wire::{Handshake, Message};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

const NODE_PORT: u16 = 7000;

fn node(n: u8) -> SocketAddr {
    SocketAddr::from(([20, n, 7, 7], 6881))
}

fn id(n: u8) -> NodeId {
    NodeId::random_for(node(n).ip(), &mut Rng::new(n.into()))
}

fn setup(nodes: &[SocketAddr], routers: &[(&str, u16)]) -> DhtSetup {
    let routers = routers.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
    DhtSetup {
        port: NODE_PORT,
        seed: 5,
        read_only: false,
        nodes: nodes.to_vec(),
        bootstrap: Vec::new(),
        routers,
    }
}

fn join(w: &mut TestWorld, setup: DhtSetup) {
    w.engine.join_dht(w.now, setup, &mut w.out);
    w.run_actions();
}

/// Returns the datagrams since the last call, with their destinations.
fn datagrams(w: &mut TestWorld) -> Vec<(SocketAddr, Vec<u8>)> {
    let (sent, rest) = w.log.drain(..).partition(|a| matches!(a, Action::Datagram { .. }));
    w.log = rest;
    let sent: Vec<Action> = sent;
    sent.into_iter()
        .filter_map(|a| if let Action::Datagram { to, bytes } = a { Some((to, bytes)) } else { None })
        .collect()
}

fn query_method(bytes: &[u8]) -> Method<'_> {
    match parse(bytes).unwrap().body {
        PacketBody::Query(query) => query.method,
        other => panic!("{other:?}"),
    }
}

/// Responds to every query with these nodes and peers until there are no more. Returns the queries.
fn respond(w: &mut TestWorld, known: &[u8], peers: &[SocketAddr]) -> Vec<String> {
    let mut queried = Vec::new();
    loop {
        let sent = datagrams(w);
        if sent.is_empty() {
            return queried;
        }
        for (to, bytes) in sent {
            let SocketAddr::V4(v4) = to else { continue };
            let n = v4.ip().octets()[1];
            let method = query_method(&bytes);
            queried.push(format!("{method:?}"));
            let mut list = Vec::new();
            known.iter().for_each(|n| write_node(id(*n), node(*n), &mut list));
            let peers = if matches!(method, Method::GetPeers { .. }) { peers } else { &[] };
            let parts = ResponseFields {
                id: id(n),
                nodes: Some(&list),
                nodes6: None,
                token: Some(b"tok"),
                peers,
                filters: None,
            };
            let mut reply = Vec::new();
            let us = "5.5.5.5:6881".parse().unwrap();
            write_response(parse(&bytes).unwrap().transaction, us, &parts, &mut reply);
            w.engine.on_datagram(w.now, to, &reply, &mut w.out);
            w.run_actions();
        }
    }
}

/// Advances time second by second and responds to every query. Returns the queries.
fn advance_and_respond(w: &mut TestWorld, time: Duration, known: &[u8]) -> Vec<String> {
    let mut queried = Vec::new();
    for _ in 0..time.as_secs() {
        w.advance(1.0);
        queried.extend(respond(w, known, &[]));
    }
    queried
}

fn count_searches(queried: &[String]) -> usize {
    queried.iter().filter(|q| q.starts_with("GetPeers")).count()
}

/// Connects a peer whose handshake announces a DHT node.
fn peer_with_node(w: &mut TestWorld, host: u8) -> PeerKey {
    let p = w.connect(host);
    let theirs =
        Handshake { info_hash: HASH, peer_id: PeerId([host; 20]), fast: true, extended: false, dht: true };
    w.send(p, &theirs.to_bytes());
    p
}

fn private_torrent() -> TestWorld {
    TestWorld::with_setup(|s| s.spec.torrent_info.as_mut().unwrap().private = true)
}

#[test]
fn a_search_starts_with_the_first_node_and_repeats_every_15_minutes_while_peers_are_connected() {
    let mut w = TestWorld::leech();
    let found: SocketAddr = "30.1.2.3:4567".parse().unwrap();
    join(&mut w, setup(&[node(1)], &[("router.example", 1)]));
    let queried = respond(&mut w, &[1, 2, 3], &[found]);
    assert_eq!(count_searches(&queried), 0, "the search starts in the next turn");
    w.advance(0.0);
    let queried = respond(&mut w, &[1, 2, 3], &[found]);
    assert_eq!(count_searches(&queried), 3, "{queried:?}");
    let announced =
        queried.iter().filter(|q| q.starts_with("AnnouncePeer") && q.contains("Some(6881), seed: false"));
    assert_eq!(announced.count(), 3);
    w.advance(0.1);
    assert!(w.dials.iter().any(|(_, addr)| *addr == found), "{:?}", w.dials);
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().known_peers, 1);
    assert!(w.log.iter().all(|a| !matches!(a, Action::Resolve { .. })), "no bootstrap node is resolved");
    let (p, _) = *w.dials.iter().find(|(_, addr)| *addr == found).unwrap();
    w.dialed(p);
    w.send(p, &crate::engine::testing::handshake(77, true));
    w.send_messages(p, &[Message::HaveAll]);
    let mut counts = Vec::new();
    for _ in 0..limits::DHT_SEARCH_INTERVAL.as_secs() {
        w.send_messages(p, &[Message::KeepAlive]);
        counts.push(count_searches(&advance_and_respond(&mut w, Duration::from_secs(1), &[1, 2, 3])));
    }
    assert!(w.is_open(p));
    let last = counts.pop().unwrap();
    assert_eq!((counts.iter().sum::<usize>(), last), (0, 3));
}

/// Joins the DHT and completes the first search; no node knows peers.
fn join_and_search(w: &mut TestWorld) {
    join(w, setup(&[node(1)], &[]));
    respond(w, &[1, 2, 3], &[]);
    w.advance(0.0);
    assert_eq!(count_searches(&respond(w, &[1, 2, 3], &[])), 3);
}

/// Returns the seconds at which a torrent was searched for.
fn search_times(w: &mut TestWorld, time: Duration) -> Vec<u64> {
    let searched =
        |w: &mut TestWorld| count_searches(&advance_and_respond(w, Duration::from_secs(1), &[1, 2, 3])) > 0;
    (1..=time.as_secs()).filter(|_| searched(w)).collect()
}

#[test]
fn a_torrent_without_peers_is_searched_for_at_growing_intervals() {
    let mut w = TestWorld::leech();
    join_and_search(&mut w);
    let times = search_times(&mut w, 4 * limits::DHT_SEARCH_INTERVAL);
    assert_eq!(times, [5, 15, 35, 75, 155, 315, 635, 1275, 2175, 3075]);
}

#[test]
fn the_search_intervals_start_again_after_a_pause_or_an_outage_of_the_dht() {
    let mut w = TestWorld::leech();
    join(&mut w, setup(&[node(1)], &[]));
    respond(&mut w, &[1, 2, 3], &[]);
    search_times(&mut w, Duration::from_secs(100));
    w.engine.pause(w.now, w.torrent, &mut w.out);
    w.engine.resume(w.now, w.torrent);
    assert_eq!(search_times(&mut w, Duration::from_secs(20)), [1, 5, 15]);
    // An outage: no node responds.
    w.advance(600.0);
    datagrams(&mut w);
    assert_eq!(search_times(&mut w, limits::DHT_SEARCH_INTERVAL), []);
    w.engine.on_dht_port(w.now, node(1), &mut w.out);
    w.run_actions();
    respond(&mut w, &[1, 2, 3], &[]);
    assert_eq!(search_times(&mut w, Duration::from_secs(20)), [1, 5, 15]);
}

#[test]
fn a_seed_without_peers_announces_every_15_minutes() {
    let mut w = TestWorld::seed();
    join_and_search(&mut w);
    assert_eq!(search_times(&mut w, 2 * limits::DHT_SEARCH_INTERVAL), [900, 1800]);
}

#[test]
fn a_seed_announces_itself_as_a_seed() {
    let mut w = TestWorld::seed();
    join(&mut w, setup(&[node(1)], &[]));
    respond(&mut w, &[], &[]);
    w.advance(0.0);
    let queried = respond(&mut w, &[], &[]);
    assert!(queried.iter().any(|q| q.starts_with("AnnouncePeer") && q.contains("seed: true")), "{queried:?}");
}

#[test]
fn bootstrap_nodes_are_resolved_only_if_no_saved_node_responds() {
    let mut w = TestWorld::leech();
    let old: Vec<SocketAddr> = (1..=40).map(node).collect();
    join(&mut w, setup(&old, &[("router.example", 6881)]));
    let tried = datagrams(&mut w).len();
    assert_eq!(tried, limits::DHT_PINGS_AT_ONCE);
    let resolves = |w: &TestWorld| w.log.iter().filter(|a| matches!(a, Action::Resolve { .. })).count();
    w.advance(1.9);
    assert_eq!((datagrams(&mut w).len(), resolves(&w)), (0, 0), "the saved nodes have some time");
    w.advance(2.2);
    assert_eq!(
        (datagrams(&mut w).len(), resolves(&w)),
        (24, 1),
        "the other saved nodes are pinged and the bootstrap node is resolved"
    );
    let Some(Action::Resolve { id: query, host, port }) = w.log.pop() else { panic!("{:?}", w.log) };
    assert_eq!((host.as_str(), port), ("router.example", 6881));
    w.engine.on_resolved(w.now, query, Err("no network".into()), &mut w.out);
    w.advance(limits::DHT_BOOTSTRAP_RETRY.as_secs_f64() + 0.1);
    let Some(Action::Resolve { id: query, .. }) = w.log.pop() else {
        panic!("no second lookup: {:?}", w.log)
    };
    w.engine.on_resolved(w.now, query, Ok(vec![node(99)]), &mut w.out);
    w.advance(0.0);
    assert!(datagrams(&mut w).iter().any(|(to, _)| *to == node(99)));
}

#[test]
fn a_node_named_by_the_user_is_inserted_into_the_table() {
    let mut w = TestWorld::leech();
    join(&mut w, DhtSetup { bootstrap: vec![("node.example".into(), 6881)], ..setup(&[], &[]) });
    let Some(Action::Resolve { id, .. }) = w.log.pop() else { panic!("{:?}", w.log) };
    w.engine.on_resolved(w.now, id, Ok(vec![node(1)]), &mut w.out);
    w.run_actions();
    respond(&mut w, &[], &[]);
    w.advance(0.0);
    assert_eq!(count_searches(&respond(&mut w, &[], &[])), 1, "the only known node is queried");
}

#[test]
fn d2_nodes_of_a_torrent_file_reach_loopback_only_if_the_user_named_a_loopback_node() {
    let addresses = [
        "127.0.0.1:53",
        "127.9.9.9:6881",
        "[::1]:6881",
        "169.254.169.254:80",
        "192.168.1.9:6881",
        "8.8.4.4:6881",
    ];
    let queried = |named: Vec<(String, u16)>| {
        let mut w = TestWorld::leech();
        join(&mut w, DhtSetup { bootstrap: named, ..setup(&[node(1)], &[]) });
        datagrams(&mut w);
        w.engine.add_nodes(&[("nodes.example".into(), 6881)], &mut w.out);
        w.run_actions();
        let Some(Action::Resolve { id, .. }) = w.log.pop() else { panic!("{:?}", w.log) };
        w.engine.on_resolved(
            w.now,
            id,
            Ok(addresses.iter().map(|a| a.parse().unwrap()).collect()),
            &mut w.out,
        );
        w.run_actions();
        datagrams(&mut w).into_iter().map(|(to, _)| to.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(queried(vec![("node.example".into(), 6881)]), ["192.168.1.9:6881", "8.8.4.4:6881"]);
    let with_loopback = queried(vec![("127.0.0.1".into(), 7001)]);
    assert_eq!(
        with_loopback,
        ["127.0.0.1:53", "127.9.9.9:6881", "[::1]:6881", "192.168.1.9:6881", "8.8.4.4:6881"]
    );
}

#[test]
fn port_messages_are_exchanged_with_peers_that_have_a_node() {
    let mut w = TestWorld::leech();
    join(&mut w, setup(&[], &[]));
    let p = peer_with_node(&mut w, 9);
    assert!(w.received(p).iter().any(|s| matches!(s, Received::Simple("Port"))), "our port");
    w.send_messages(
        p,
        &[Message::Port { port: 999 }, Message::Port { port: 998 }, Message::Port { port: 997 }],
    );
    let queried: Vec<SocketAddr> = datagrams(&mut w).into_iter().map(|(to, _)| to).collect();
    assert_eq!(queried, ["10.0.0.9:999".parse().unwrap()], "one port message per connection counts");
    let plain = w.connect_with_handshake(8);
    assert!(
        !w.received(plain).iter().any(|s| matches!(s, Received::Simple("Port"))),
        "a peer without a DHT node gets no port message"
    );
}

#[test]
fn t28_a_private_torrent_is_not_searched_for_and_sends_no_port_message() {
    let mut w = private_torrent();
    join(&mut w, setup(&[node(1)], &[]));
    respond(&mut w, &[1, 2], &[]);
    assert_eq!(count_searches(&advance_and_respond(&mut w, Duration::from_secs(3600), &[1, 2])), 0);
    let p = peer_with_node(&mut w, 9);
    assert!(!w.received(p).iter().any(|s| matches!(s, Received::Simple("Port"))));
    datagrams(&mut w);
    w.send_messages(p, &[Message::Port { port: 999 }]);
    assert!(datagrams(&mut w).iter().all(|(to, _)| to.port() != 999));
}

#[test]
fn t28_a_magnet_link_of_a_private_torrent_drops_the_peers_from_the_dht() {
    let mut w = TestWorld::with_setup(|s| s.spec.torrent_info = None);
    let found: SocketAddr = "30.1.2.3:4567".parse().unwrap();
    join(&mut w, setup(&[node(1)], &[]));
    respond(&mut w, &[], &[found, "30.1.2.4:4567".parse().unwrap()]);
    w.advance(0.0);
    respond(&mut w, &[], &[found, "30.1.2.4:4567".parse().unwrap()]);
    w.advance(0.0);
    let stats = w.engine.stats(w.now, w.torrent).unwrap();
    assert_eq!(stats.known_peers, 2);
    let (p, _) = *w.dials.iter().find(|(_, addr)| *addr == found).unwrap();
    w.engine.swarms.torrents.get_mut(w.torrent).unwrap().metadata =
        crate::engine::torrent::Metadata::HandedOn;
    let shape = TorrentInfo { geometry: w.geometry, wanted: Bitfield::full(4), private: true, info: None };
    w.engine.on_metadata(w.now, w.torrent, shape, &mut w.out);
    w.run_actions();
    assert!(!w.is_open(p));
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().known_peers, 0);
    assert_eq!(count_searches(&advance_and_respond(&mut w, Duration::from_secs(3600), &[])), 0);
}

#[test]
fn nodes_are_saved_at_intervals_and_at_shutdown() {
    let mut w = TestWorld::leech();
    join(&mut w, setup(&[node(1)], &[]));
    respond(&mut w, &[], &[]);
    advance_and_respond(&mut w, limits::DHT_SAVE_INTERVAL + Duration::from_secs(1), &[]);
    let saved = |w: &TestWorld| {
        w.log.iter().filter(|a| matches!(a, Action::KeepNodes { nodes } if *nodes == [node(1)])).count()
    };
    assert_eq!(saved(&w), 1);
    w.engine.shut_down(w.now, &mut w.out);
    w.run_actions();
    assert_eq!(saved(&w), 2);
    assert!(w.engine.is_idle() && w.engine.dht_stats(w.now).is_none());
    assert_eq!(w.engine.next_deadline(), None, "no deadline remains");
}

/// Responds as node `n` to the query that it was sent.
fn respond_as(w: &mut TestWorld, n: u8) {
    let queried = datagrams(w);
    let (to, bytes) = queried.iter().find(|(to, _)| *to == node(n)).unwrap();
    let parts =
        ResponseFields { id: id(n), nodes: None, nodes6: None, token: None, peers: &[], filters: None };
    let mut reply = Vec::new();
    write_response(parse(bytes).unwrap().transaction, "5.5.5.5:6881".parse().unwrap(), &parts, &mut reply);
    w.engine.on_datagram(w.now, *to, &reply, &mut w.out);
    w.run_actions();
}

/// Returns the nodes of the last save.
fn saved_nodes(w: &TestWorld) -> Vec<SocketAddr> {
    let of = |a: &Action| if let Action::KeepNodes { nodes } = a { Some(nodes.clone()) } else { None };
    w.log.iter().rev().find_map(of).unwrap()
}

#[test]
fn a_short_run_keeps_the_saved_nodes_of_the_run_before() {
    let old: Vec<SocketAddr> = (1..=100).map(node).collect();
    let mut w = TestWorld::leech();
    join(&mut w, setup(&old, &[]));
    respond_as(&mut w, 9);
    w.engine.shut_down(w.now, &mut w.out);
    w.run_actions();
    let rest: Vec<SocketAddr> = (1..=64).filter(|n| *n != 9).map(node).collect();
    assert_eq!(saved_nodes(&w), [&[node(9)], &rest[..]].concat());
}

#[test]
fn saved_nodes_are_kept_if_no_node_responded_during_an_outage() {
    let old: Vec<SocketAddr> = (1..=12).map(node).collect();
    let mut w = TestWorld::leech();
    join(&mut w, setup(&old, &[]));
    w.advance(3.0 * limits::DHT_SAVE_INTERVAL.as_secs_f64()); // no network
    datagrams(&mut w);
    w.engine.on_dht_port(w.now, node(9), &mut w.out);
    w.run_actions();
    respond_as(&mut w, 9);
    w.engine.shut_down(w.now, &mut w.out);
    w.run_actions();
    assert_eq!(saved_nodes(&w).len(), 12);
}

#[test]
fn a_long_run_drops_saved_nodes_that_never_responded() {
    let old: Vec<SocketAddr> = (1..=12).map(node).collect();
    let mut w = TestWorld::leech();
    join(&mut w, setup(&old, &[]));
    respond_as(&mut w, 9);
    advance_and_respond(&mut w, limits::DHT_SAVE_INTERVAL + Duration::from_secs(1), &[9]);
    assert_eq!(saved_nodes(&w).len(), 12);
    advance_and_respond(&mut w, limits::DHT_SAVE_INTERVAL, &[9]);
    assert_eq!(saved_nodes(&w), [node(9)]);
}

#[test]
fn searches_of_many_torrents_are_spread_over_time() {
    let mut w = TestWorld::leech();
    w.engine.context.config.port = 0; // no announces: they would exceed the guard's limit at the only node
    for n in 0..200u32 {
        let mut spec = crate::engine::TorrentSpec {
            info_hash: HASH,
            torrent_info: None,
            trackers: Vec::new(),
            peers: Vec::new(),
            sequential: false,
            download_limit: None,
            upload_limit: None,
        };
        spec.info_hash.0[..4].copy_from_slice(&n.to_be_bytes());
        let key = w.engine.add_torrent(w.now, spec).unwrap();
        w.engine.resume(w.now, key);
    }
    join(&mut w, setup(&[node(1)], &[]));
    respond(&mut w, &[], &[]);
    let mut started = 0;
    let step = limits::DHT_SEARCH_SPACING.as_secs_f64();
    for _ in 0..40 {
        w.advance(step);
        let now = count_searches(&respond(&mut w, &[], &[]));
        assert!(now <= 2, "{now} at once");
        started += now;
    }
    assert!((38..=42).contains(&started), "{started}");
    assert!(
        Duration::from_secs_f64(201.0 * step) < limits::DHT_SEARCH_INTERVAL / 4,
        "all torrents fit into a quarter of the interval"
    );
    // No torrent has peers; repeated searches of one torrent do not delay the others.
    let mut searched = BTreeSet::new();
    for _ in 0..205 {
        w.advance(4.0 * step);
        searched.extend(respond(&mut w, &[], &[]).into_iter().filter(|q| q.starts_with("GetPeers")));
    }
    assert_eq!(searched.len(), 201);
}

#[test]
fn a_peer_from_the_dht_counts_under_that_origin() {
    let mut w = TestWorld::leech();
    let found: SocketAddr = "30.1.2.3:4567".parse().unwrap();
    join(&mut w, setup(&[node(1)], &[]));
    respond(&mut w, &[], &[found]);
    w.advance(0.0);
    respond(&mut w, &[], &[found]);
    w.advance(0.0);
    let (p, _) = *w.dials.iter().find(|(_, addr)| *addr == found).unwrap();
    w.dialed(p);
    w.send(p, &crate::engine::testing::handshake(77, true));
    let stats = w.engine.stats(w.now, w.torrent).unwrap();
    assert_eq!((stats.peers, stats.peers_by_origin[Origin::Dht.number()]), (1, 1));
}

#[test]
fn a_scrape_asks_the_dht_unless_the_torrent_is_private() {
    let counts = |w: &TestWorld| {
        let of = |a: &Action| match a {
            Action::Notice(Notice::Scraped { source, result, .. }) => {
                Some((source.to_string(), result.clone().unwrap().peers))
            }
            _ => None,
        };
        w.log.iter().filter_map(of).collect::<Vec<_>>()
    };
    let done = |w: &TestWorld| w.log.iter().any(|a| matches!(a, Action::Notice(Notice::ScrapeDone { .. })));
    let mut w = TestWorld::leech();
    w.engine.pause(w.now, w.torrent, &mut w.out);
    join(&mut w, setup(&[node(1)], &[]));
    w.engine.scrape(w.now, w.torrent, &mut w.out);
    w.run_actions();
    assert!(!done(&w));
    respond(&mut w, &[], &["30.1.2.3:1".parse().unwrap(), "30.1.2.4:1".parse().unwrap()]);
    assert_eq!((counts(&w), done(&w)), (vec![("DHT".to_string(), Some(2))], true));
    assert!(w.dials.is_empty());

    let mut w = private_torrent();
    join(&mut w, setup(&[node(1)], &[]));
    respond(&mut w, &[], &[]);
    w.engine.scrape(w.now, w.torrent, &mut w.out);
    w.run_actions();
    assert!(done(&w) && count_searches(&respond(&mut w, &[], &[])) == 0);
}
