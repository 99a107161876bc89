//! The engine and its node of the DHT: when it joins, what it searches for, whom it tells; private torrents
//! stay out (T28).

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
    w.turn();
}

/// Datagrams since the last time, and to whom.
fn datagrams(w: &mut TestWorld) -> Vec<(SocketAddr, Vec<u8>)> {
    let (sent, rest) = w.log.drain(..).partition(|a| matches!(a, Action::Datagram { .. }));
    w.log = rest;
    let sent: Vec<Action> = sent;
    sent.into_iter()
        .filter_map(|a| if let Action::Datagram { to, bytes } = a { Some((to, bytes)) } else { None })
        .collect()
}

fn question(bytes: &[u8]) -> Method<'_> {
    match parse(bytes).unwrap().body {
        PacketBody::Query(query) => query.method,
        other => panic!("{other:?}"),
    }
}

/// Every node that is asked answers: these nodes are known, and these are the torrent's peers. Returns what
/// was asked.
fn play(w: &mut TestWorld, known: &[u8], peers: &[SocketAddr]) -> Vec<String> {
    let mut asked = Vec::new();
    loop {
        let sent = datagrams(w);
        if sent.is_empty() {
            return asked;
        }
        for (to, bytes) in sent {
            let SocketAddr::V4(v4) = to else { continue };
            let n = v4.ip().octets()[1];
            let question = question(&bytes);
            asked.push(format!("{question:?}"));
            let mut list = Vec::new();
            known.iter().for_each(|n| write_node(id(*n), node(*n), &mut list));
            let peers = if matches!(question, Method::GetPeers { .. }) { peers } else { &[] };
            let parts = ResponseFields {
                id: id(n),
                nodes: Some(&list),
                nodes6: None,
                token: Some(b"tok"),
                peers,
                filters: None,
            };
            let (mut reply, us) = (Vec::new(), "5.5.5.5:6881".parse().unwrap());
            write_response(parse(&bytes).unwrap().transaction, us, &parts, &mut reply);
            w.engine.on_datagram(w.now, to, &reply, &mut w.out);
            w.turn();
        }
    }
}

/// Time passes, and every queried node answers. Returns what was asked.
fn live(w: &mut TestWorld, time: Duration, known: &[u8]) -> Vec<String> {
    let mut asked = Vec::new();
    for _ in 0..time.as_secs() {
        w.pass(1.0);
        asked.extend(play(w, known, &[]));
    }
    asked
}

fn searches(asked: &[String]) -> usize {
    asked.iter().filter(|q| q.starts_with("GetPeers")).count()
}

/// A peer whose handshake says that it has a DHT node.
fn peer_with_node(w: &mut TestWorld, host: u8) -> PeerKey {
    let p = w.connect(host);
    let theirs =
        Handshake { info_hash: HASH, peer_id: PeerId([host; 20]), fast: true, extended: false, dht: true };
    w.send(p, &theirs.to_bytes());
    p
}

fn private() -> TestWorld {
    TestWorld::built(|s| s.spec.torrent_info.as_mut().unwrap().private = true)
}

#[test]
fn a_torrent_is_searched_for_once_somebody_answers_and_beside_a_peer_again_after_a_quarter_of_an_hour() {
    let mut w = TestWorld::leech();
    let found: SocketAddr = "30.1.2.3:4567".parse().unwrap();
    join(&mut w, setup(&[node(1)], &[("router.example", 1)]));
    let asked = play(&mut w, &[1, 2, 3], &[found]);
    assert_eq!(searches(&asked), 0, "it begins in the next turn");
    w.pass(0.0);
    let asked = play(&mut w, &[1, 2, 3], &[found]);
    assert_eq!(searches(&asked), 3, "{asked:?}");
    let announced =
        asked.iter().filter(|q| q.starts_with("AnnouncePeer") && q.contains("Some(6881), seed: false"));
    assert_eq!(announced.count(), 3);
    w.pass(0.1);
    assert!(w.dials.iter().any(|(_, addr)| *addr == found), "{:?}", w.dials);
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().known_peers, 1);
    assert!(w.log.iter().all(|a| !matches!(a, Action::Resolve { .. })), "nobody needs a router");
    let (p, _) = *w.dials.iter().find(|(_, addr)| *addr == found).unwrap();
    w.dialed(p);
    w.send(p, &crate::engine::testing::handshake(77, true));
    w.say(p, &[Message::HaveAll]);
    let mut asked = Vec::new();
    for _ in 0..limits::DHT_SEARCH_INTERVAL.as_secs() {
        w.say(p, &[Message::KeepAlive]);
        asked.push(searches(&live(&mut w, Duration::from_secs(1), &[1, 2, 3])));
    }
    assert!(w.is_open(p));
    let last = asked.pop().unwrap();
    assert_eq!((asked.iter().sum::<usize>(), last), (0, 3));
}

/// Joins, and the torrent is searched for in the next turn; no node knows peers.
fn join_and_search(w: &mut TestWorld) {
    join(w, setup(&[node(1)], &[]));
    play(w, &[1, 2, 3], &[]);
    w.pass(0.0);
    assert_eq!(searches(&play(w, &[1, 2, 3], &[])), 3);
}

/// Seconds after which a torrent was searched for again.
fn search_times(w: &mut TestWorld, time: Duration) -> Vec<u64> {
    let searched = |w: &mut TestWorld| searches(&live(w, Duration::from_secs(1), &[1, 2, 3])) > 0;
    (1..=time.as_secs()).filter(|_| searched(w)).collect()
}

#[test]
fn a_torrent_without_peers_is_searched_for_again_soon_and_then_less_and_less_often() {
    let mut w = TestWorld::leech();
    join_and_search(&mut w);
    let times = search_times(&mut w, 4 * limits::DHT_SEARCH_INTERVAL);
    assert_eq!(times, [5, 15, 35, 75, 155, 315, 635, 1275, 2175, 3075]);
}

#[test]
fn a_torrent_that_rested_or_a_dht_that_was_gone_begins_anew() {
    let mut w = TestWorld::leech();
    join(&mut w, setup(&[node(1)], &[]));
    play(&mut w, &[1, 2, 3], &[]);
    search_times(&mut w, Duration::from_secs(100));
    w.engine.pause(w.now, w.torrent, &mut w.out);
    w.engine.resume(w.now, w.torrent);
    assert_eq!(search_times(&mut w, Duration::from_secs(20)), [1, 5, 15]);
    // No node answers any more.
    w.pass(600.0);
    datagrams(&mut w);
    assert_eq!(search_times(&mut w, limits::DHT_SEARCH_INTERVAL), []);
    w.engine.on_dht_port(w.now, node(1), &mut w.out);
    w.turn();
    play(&mut w, &[1, 2, 3], &[]);
    assert_eq!(search_times(&mut w, Duration::from_secs(20)), [1, 5, 15]);
}

#[test]
fn a_seed_that_is_alone_is_in_no_hurry() {
    let mut w = TestWorld::seed();
    join_and_search(&mut w);
    assert_eq!(search_times(&mut w, 2 * limits::DHT_SEARCH_INTERVAL), [900, 1800]);
}

#[test]
fn a_seed_announces_itself_as_one() {
    let mut w = TestWorld::seed();
    join(&mut w, setup(&[node(1)], &[]));
    play(&mut w, &[], &[]);
    w.pass(0.0);
    let asked = play(&mut w, &[], &[]);
    assert!(asked.iter().any(|q| q.starts_with("AnnouncePeer") && q.contains("seed: true")), "{asked:?}");
}

#[test]
fn routers_are_looked_up_only_when_no_node_of_the_last_run_answers() {
    let mut w = TestWorld::leech();
    let old: Vec<SocketAddr> = (1..=40).map(node).collect();
    join(&mut w, setup(&old, &[("router.example", 6881)]));
    let tried = datagrams(&mut w).len();
    assert_eq!(tried, limits::DHT_PINGS_AT_ONCE);
    let resolves = |w: &TestWorld| w.log.iter().filter(|a| matches!(a, Action::Resolve { .. })).count();
    w.pass(1.9);
    assert_eq!((datagrams(&mut w).len(), resolves(&w)), (0, 0), "they have some time");
    w.pass(2.2);
    assert_eq!(
        (datagrams(&mut w).len(), resolves(&w)),
        (24, 1),
        "the others are tried, and beside them the router"
    );
    let Some(Action::Resolve { id: query, host, port }) = w.log.pop() else { panic!("{:?}", w.log) };
    assert_eq!((host.as_str(), port), ("router.example", 6881));
    w.engine.on_resolved(w.now, query, Err("no network".into()), &mut w.out);
    w.pass(limits::DHT_BOOTSTRAP_RETRY.as_secs_f64() + 0.1);
    let Some(Action::Resolve { id: query, .. }) = w.log.pop() else {
        panic!("it is tried again: {:?}", w.log)
    };
    w.engine.on_resolved(w.now, query, Ok(vec![node(99)]), &mut w.out);
    w.pass(0.0);
    assert!(datagrams(&mut w).iter().any(|(to, _)| *to == node(99)));
}

#[test]
fn a_node_that_the_user_names_is_a_node_like_any_other() {
    let mut w = TestWorld::leech();
    join(&mut w, DhtSetup { bootstrap: vec![("friend.example".into(), 6881)], ..setup(&[], &[]) });
    let Some(Action::Resolve { id, .. }) = w.log.pop() else { panic!("{:?}", w.log) };
    w.engine.on_resolved(w.now, id, Ok(vec![node(1)]), &mut w.out);
    w.turn();
    play(&mut w, &[], &[]);
    w.pass(0.0);
    assert_eq!(searches(&play(&mut w, &[], &[])), 1, "though it knows nobody else");
}

#[test]
fn d2_a_torrent_file_sends_us_to_no_service_of_this_machine_unless_the_user_did() {
    let places = [
        "127.0.0.1:53",
        "127.9.9.9:6881",
        "[::1]:6881",
        "169.254.169.254:80",
        "192.168.1.9:6881",
        "8.8.4.4:6881",
    ];
    let asked = |named: Vec<(String, u16)>| {
        let mut w = TestWorld::leech();
        join(&mut w, DhtSetup { bootstrap: named, ..setup(&[node(1)], &[]) });
        datagrams(&mut w);
        w.engine.add_nodes(&[("nodes.example".into(), 6881)], &mut w.out);
        w.turn();
        let Some(Action::Resolve { id, .. }) = w.log.pop() else { panic!("{:?}", w.log) };
        w.engine.on_resolved(w.now, id, Ok(places.iter().map(|a| a.parse().unwrap()).collect()), &mut w.out);
        w.turn();
        datagrams(&mut w).into_iter().map(|(to, _)| to.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(asked(vec![("friend.example".into(), 6881)]), ["192.168.1.9:6881", "8.8.4.4:6881"]);
    let at_home = asked(vec![("127.0.0.1".into(), 7001)]);
    assert_eq!(at_home, ["127.0.0.1:53", "127.9.9.9:6881", "[::1]:6881", "192.168.1.9:6881", "8.8.4.4:6881"]);
}

#[test]
fn a_peer_s_node_is_asked_and_ours_is_told() {
    let mut w = TestWorld::leech();
    join(&mut w, setup(&[], &[]));
    let p = peer_with_node(&mut w, 9);
    assert!(w.heard(p).iter().any(|s| matches!(s, Received::Word("Port"))), "ours");
    w.say(p, &[Message::Port { port: 999 }, Message::Port { port: 998 }, Message::Port { port: 997 }]);
    let asked: Vec<SocketAddr> = datagrams(&mut w).into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, ["10.0.0.9:999".parse().unwrap()], "once a connection");
    let plain = w.greeted(8);
    assert!(
        !w.heard(plain).iter().any(|s| matches!(s, Received::Word("Port"))),
        "who has no node is not told of ours"
    );
}

#[test]
fn t28_a_private_torrent_is_never_searched_for_and_says_nothing_of_our_node() {
    let mut w = private();
    join(&mut w, setup(&[node(1)], &[]));
    play(&mut w, &[1, 2], &[]);
    assert_eq!(searches(&live(&mut w, Duration::from_secs(3600), &[1, 2])), 0);
    let p = peer_with_node(&mut w, 9);
    assert!(!w.heard(p).iter().any(|s| matches!(s, Received::Word("Port"))));
    datagrams(&mut w);
    w.say(p, &[Message::Port { port: 999 }]);
    assert!(datagrams(&mut w).iter().all(|(to, _)| to.port() != 999));
}

#[test]
fn t28_a_magnet_that_turns_out_to_be_private_lets_go_of_whom_the_dht_named() {
    let mut w = TestWorld::built(|s| s.spec.torrent_info = None);
    let found: SocketAddr = "30.1.2.3:4567".parse().unwrap();
    join(&mut w, setup(&[node(1)], &[]));
    play(&mut w, &[], &[found, "30.1.2.4:4567".parse().unwrap()]);
    w.pass(0.0);
    play(&mut w, &[], &[found, "30.1.2.4:4567".parse().unwrap()]);
    w.pass(0.0);
    let stats = w.engine.stats(w.now, w.torrent).unwrap();
    assert_eq!(stats.known_peers, 2);
    let (p, _) = *w.dials.iter().find(|(_, addr)| *addr == found).unwrap();
    w.engine.swarms.torrents.get_mut(w.torrent).unwrap().metadata =
        crate::engine::torrent::Metadata::HandedOn;
    let shape = TorrentInfo { geometry: w.geometry, wanted: Bitfield::full(4), private: true, info: None };
    w.engine.on_metadata(w.now, w.torrent, shape, &mut w.out);
    w.turn();
    assert!(!w.is_open(p));
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().known_peers, 0);
    assert_eq!(searches(&live(&mut w, Duration::from_secs(3600), &[])), 0);
}

#[test]
fn what_is_known_is_kept_now_and_then_and_at_the_end() {
    let mut w = TestWorld::leech();
    join(&mut w, setup(&[node(1)], &[]));
    play(&mut w, &[], &[]);
    live(&mut w, limits::DHT_SAVE_INTERVAL + Duration::from_secs(1), &[]);
    let kept = |w: &TestWorld| {
        w.log.iter().filter(|a| matches!(a, Action::KeepNodes { nodes } if *nodes == [node(1)])).count()
    };
    assert_eq!(kept(&w), 1);
    w.engine.shut_down(w.now, &mut w.out);
    w.turn();
    assert_eq!(kept(&w), 2);
    assert!(w.engine.is_idle() && w.engine.dht_stats(w.now).is_none());
    assert_eq!(w.engine.next_deadline(), None, "nothing is left to wake for");
}

/// This node alone answers what it is asked.
fn only_answers(w: &mut TestWorld, n: u8) {
    let asked = datagrams(w);
    let (to, bytes) = asked.iter().find(|(to, _)| *to == node(n)).unwrap();
    let parts =
        ResponseFields { id: id(n), nodes: None, nodes6: None, token: None, peers: &[], filters: None };
    let mut reply = Vec::new();
    write_response(parse(bytes).unwrap().transaction, "5.5.5.5:6881".parse().unwrap(), &parts, &mut reply);
    w.engine.on_datagram(w.now, *to, &reply, &mut w.out);
    w.turn();
}

/// What was kept last.
fn kept(w: &TestWorld) -> Vec<SocketAddr> {
    let of = |a: &Action| if let Action::KeepNodes { nodes } = a { Some(nodes.clone()) } else { None };
    w.log.iter().rev().find_map(of).unwrap()
}

#[test]
fn a_run_that_is_too_short_to_get_to_know_many_keeps_those_of_the_one_before() {
    let old: Vec<SocketAddr> = (1..=100).map(node).collect();
    let mut w = TestWorld::leech();
    join(&mut w, setup(&old, &[]));
    only_answers(&mut w, 9);
    w.engine.shut_down(w.now, &mut w.out);
    w.turn();
    let rest: Vec<SocketAddr> = (1..=64).filter(|n| *n != 9).map(node).collect();
    assert_eq!(kept(&w), [&[node(9)], &rest[..]].concat());
}

#[test]
fn who_did_not_answer_while_nobody_did_is_not_given_up() {
    let old: Vec<SocketAddr> = (1..=12).map(node).collect();
    let mut w = TestWorld::leech();
    join(&mut w, setup(&old, &[]));
    w.pass(3.0 * limits::DHT_SAVE_INTERVAL.as_secs_f64()); // no network
    datagrams(&mut w);
    w.engine.on_dht_port(w.now, node(9), &mut w.out);
    w.turn();
    only_answers(&mut w, 9);
    w.engine.shut_down(w.now, &mut w.out);
    w.turn();
    assert_eq!(kept(&w).len(), 12);
}

#[test]
fn a_run_that_is_long_enough_lets_go_of_who_never_answered() {
    let old: Vec<SocketAddr> = (1..=12).map(node).collect();
    let mut w = TestWorld::leech();
    join(&mut w, setup(&old, &[]));
    only_answers(&mut w, 9);
    live(&mut w, limits::DHT_SAVE_INTERVAL + Duration::from_secs(1), &[9]);
    assert_eq!(kept(&w).len(), 12);
    live(&mut w, limits::DHT_SAVE_INTERVAL, &[9]);
    assert_eq!(kept(&w), [node(9)]);
}

#[test]
fn searches_of_many_torrents_begin_one_after_the_other() {
    let mut w = TestWorld::leech();
    w.engine.context.config.port = 0; // nothing is announced: the only node would hear too much of one address
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
    play(&mut w, &[], &[]);
    let (mut begun, step) = (0, limits::DHT_SEARCH_SPACING.as_secs_f64());
    for _ in 0..40 {
        w.pass(step);
        let now = searches(&play(&mut w, &[], &[]));
        assert!(now <= 2, "{now} at once");
        begun += now;
    }
    assert!((38..=42).contains(&begun), "{begun}");
    assert!(Duration::from_secs_f64(201.0 * step) < limits::DHT_SEARCH_INTERVAL / 4, "there is time for all");
    // None of them has a peer; one that searches again does not push the others back.
    let mut searched = BTreeSet::new();
    for _ in 0..205 {
        w.pass(4.0 * step);
        searched.extend(play(&mut w, &[], &[]).into_iter().filter(|q| q.starts_with("GetPeers")));
    }
    assert_eq!(searched.len(), 201);
}

#[test]
fn a_peer_that_the_dht_named_is_counted_as_such() {
    let mut w = TestWorld::leech();
    let found: SocketAddr = "30.1.2.3:4567".parse().unwrap();
    join(&mut w, setup(&[node(1)], &[]));
    play(&mut w, &[], &[found]);
    w.pass(0.0);
    play(&mut w, &[], &[found]);
    w.pass(0.0);
    let (p, _) = *w.dials.iter().find(|(_, addr)| *addr == found).unwrap();
    w.dialed(p);
    w.send(p, &crate::engine::testing::handshake(77, true));
    let stats = w.engine.stats(w.now, w.torrent).unwrap();
    assert_eq!((stats.peers, stats.peers_by_origin[Origin::Dht.number()]), (1, 1));
}

#[test]
fn a_torrent_is_counted_in_the_dht_as_soon_as_somebody_answers_and_a_private_one_never() {
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
    w.turn();
    assert!(!done(&w));
    play(&mut w, &[], &["30.1.2.3:1".parse().unwrap(), "30.1.2.4:1".parse().unwrap()]);
    assert_eq!((counts(&w), done(&w)), (vec![("DHT".to_string(), Some(2))], true));
    assert!(w.dials.is_empty());

    let mut w = private();
    join(&mut w, setup(&[node(1)], &[]));
    play(&mut w, &[], &[]);
    w.engine.scrape(w.now, w.torrent, &mut w.out);
    w.turn();
    assert!(done(&w) && searches(&play(&mut w, &[], &[])) == 0);
}
