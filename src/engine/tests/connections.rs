//! Who is connected: P13, P19, dials and their failures, boredom, and the end of everything.

use crate::engine::testing::{Received, TestWorld, handshake};
use crate::engine::{Action, DialFailure, DisconnectReason, limits};
use crate::units::{Bitfield, PeerId};
use crate::wire::{Handshake, Message};
use std::net::SocketAddr;

fn addr(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 6881))
}

/// A leech that dials this host; the connection stands.
fn dialing(host: u8) -> (TestWorld, crate::units::PeerKey) {
    let mut w = TestWorld::built(|s| s.spec.peers = vec![addr(host)]);
    w.pass(0.1);
    let p = w.dials[0].0;
    w.dialed(p);
    assert_eq!(w.heard(p), [Received::Handshake]);
    (w, p)
}

fn named(id: u8) -> Vec<u8> {
    handshake(id, true)
}

#[test]
fn p13_connections_have_a_limit_in_all() {
    let mut w = TestWorld::built(|s| s.config.max_peers = 20);
    for host in 1..=20 {
        w.peer(host);
    }
    assert_eq!(w.try_connect(99), None);
    let first = *w.puppets.keys().next().unwrap();
    w.lose(first);
    assert!(w.try_connect(99).is_some());
}

#[test]
fn p13_connections_from_one_address_have_a_limit() {
    let mut w = TestWorld::leech();
    for n in 0..limits::PEERS_PER_ADDRESS {
        let p = w.connect(7);
        w.send(p, &named(n as u8 + 1));
    }
    assert_eq!(w.try_connect(7), None);
    assert!(w.try_connect(8).is_some());
}

#[test]
fn p13_connections_that_do_not_say_who_they_are_have_a_limit_and_the_oldest_gives_way() {
    let mut w = TestWorld::leech();
    let all: Vec<_> = (0..limits::INCOMING_WITHOUT_HANDSHAKE).map(|n| w.connect(n as u8)).collect();
    let newcomer = w.connect(200);
    assert_eq!((w.why(all[0]), w.engine.connections()), (None, limits::INCOMING_WITHOUT_HANDSHAKE));
    assert!(!w.is_open(all[0]) && w.is_open(all[1]));
    w.send(newcomer, &named(1));
    assert!(w.is_open(newcomer), "whoever says who it is has no part in that");
    let another = w.connect(201);
    assert!(w.is_open(another) && w.is_open(all[1]));
    w.pass(10.1);
    assert_eq!(w.engine.connections(), 1, "the silent ones were let go");
}

#[test]
fn p13_a_host_with_many_connections_that_do_not_say_who_they_are_takes_room_from_itself_alone() {
    let mut w = TestWorld::leech();
    let honest = w.connect(99);
    for n in 0..500u16 {
        if let Some(p) = w.try_connect(1 + (n % 5) as u8) {
            w.pass(0.001);
            assert!(w.is_open(p));
        }
    }
    w.send(honest, &named(1));
    assert!(w.is_open(honest) && w.heard(honest).contains(&Received::Handshake));
    assert!(w.engine.connections() <= limits::INCOMING_WITHOUT_HANDSHAKE + 1);
}

#[test]
fn p13_a_torrent_that_is_full_lets_nobody_in() {
    let mut w = TestWorld::built(|s| s.config.max_peers_per_torrent = 3);
    for host in 1..=3 {
        w.peer(host);
    }
    let p = w.greeted(4);
    assert_eq!(w.why(p), Some(DisconnectReason::Full));
    assert!(w.puppets[&p].from_engine.is_empty());
}

#[test]
fn p13_a_storm_of_connections_leaves_nothing_behind() {
    let mut w = TestWorld::leech();
    for n in 0..20_000u32 {
        let p = w.connect(n as u8);
        w.send(p, &named(1)[..(n % 70).min(68) as usize]);
        if w.is_open(p) {
            w.lose(p);
        }
        w.puppets.clear();
    }
    assert_eq!((w.engine.connections(), w.engine.swarms.half_open), (0, 0));
    assert!(w.engine.swarms.torrents.get(w.torrent).unwrap().peers.is_empty());
}

#[test]
fn p19_we_do_not_talk_to_ourselves() {
    let (mut w, p) = dialing(1);
    w.send(p, &named(0x55));
    assert_eq!(w.why(p), Some(DisconnectReason::Ourselves));
    w.pass(3600.0);
    assert_eq!(w.dials.len(), 1, "nor dial ourselves again");
    let q = w.connect(1);
    w.send(q, &named(0x55));
    assert_eq!(w.why(q), Some(DisconnectReason::Ourselves));
    assert!(w.puppets[&q].from_engine.is_empty());
}

#[test]
fn p19_a_second_connection_of_the_same_peer_is_dropped() {
    let mut w = TestWorld::leech();
    let (p, q) = (w.peer(1), w.connect(2));
    w.send(q, &named(1));
    assert_eq!(w.why(q), Some(DisconnectReason::Duplicate));
    assert!(w.is_open(p));
}

#[test]
fn p19_when_both_dial_both_keep_the_same_one() {
    // Our name is 0x55…: of a peer with a smaller name we keep the connection that we dialed, of a greater
    // one its own.
    for (theirs, ours_stays) in [(0x10, true), (0x99, false)] {
        for incoming_first in [true, false] {
            let (mut w, dialed) = dialing(1);
            let incoming = w.connect(1);
            let order = if incoming_first { [incoming, dialed] } else { [dialed, incoming] };
            order.iter().for_each(|p| w.send(*p, &named(theirs)));
            assert_eq!(
                (w.is_open(dialed), w.is_open(incoming)),
                (ours_stays, !ours_stays),
                "{theirs:#x} {incoming_first}"
            );
            assert_eq!(w.engine.connections(), 1);
        }
    }
}

#[test]
fn a_torrent_other_than_the_one_dialed_for_is_refused() {
    let (mut w, p) = dialing(1);
    let other = Handshake {
        info_hash: crate::units::InfoHash([9; 20]),
        peer_id: PeerId([1; 20]),
        fast: true,
        extended: false,
        dht: false,
    };
    w.send(p, &other.to_bytes());
    assert_eq!(w.why(p), Some(DisconnectReason::WrongTorrent));
}

#[test]
fn a_dial_that_does_not_come_through_ends_after_ten_seconds_and_is_tried_later() {
    let mut w = TestWorld::built(|s| s.spec.peers = vec![addr(1)]);
    w.pass(9.0);
    assert_eq!((w.dials.len(), w.engine.swarms.half_open), (1, 1));
    w.pass(2.0);
    assert!(!w.is_open(w.dials[0].0) && w.engine.swarms.half_open == 0);
    w.pass(3.0);
    assert_eq!(w.dials.len(), 1);
    w.pass(3.0);
    assert_eq!(w.dials.len(), 2, "soon, the first time");
    w.pass(10.0 + 115.0);
    assert_eq!(w.dials.len(), 2);
    w.pass(4.0);
    assert_eq!(w.dials.len(), 3, "two minutes after the second failure");
}

#[test]
fn forty_are_dialed_at_once_then_twenty_a_second_and_never_more_than_fifty_that_do_not_answer() {
    let mut w = TestWorld::built(|s| s.spec.peers = (1..=200).map(addr).collect());
    w.pass(0.0);
    assert_eq!(w.dials.len(), limits::DIALS_AT_ONCE as usize);
    w.pass(0.2);
    assert!((43..=45).contains(&w.dials.len()), "{}", w.dials.len());
    w.pass(8.0);
    assert_eq!(w.dials.len(), limits::HALF_OPEN);
}

#[test]
fn only_a_rest_pays_for_the_next_burst_of_dials() {
    let mut w = TestWorld::built(|s| s.spec.peers = (1..=200).map(addr).collect());
    let mut refused = 0;
    for tenth in 0..30 {
        w.pass(0.1);
        while let Some((key, _)) = w.dials.get(refused).copied() {
            w.engine.on_dial_failed(w.now, key, DialFailure::Refused, &mut w.out);
            w.turn();
            refused += 1;
        }
        let due = limits::DIALS_AT_ONCE as usize + (tenth + 1) * limits::DIALS_PER_SECOND as usize / 10;
        assert!((due - 1..=due + 1).contains(&refused), "{refused} after {tenth} tenths");
    }
}

#[test]
fn an_address_is_not_to_blame_when_we_run_out_of_descriptors() {
    let mut w = TestWorld::built(|s| s.spec.peers = vec![addr(1)]);
    w.pass(0.1);
    for n in 1..30 {
        assert_eq!(w.dials.len(), n, "it is tried again soon, and for ever");
        w.engine.on_dial_failed(w.now, w.dials[n - 1].0, DialFailure::OutOfResources, &mut w.out);
        w.turn();
        w.pass(10.1);
    }
}

#[test]
fn a_connection_that_nobody_wants_anything_of_ends_ten_minutes_after_somebody_did() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.say(p, &[Message::Bitfield { bytes: &[0x80] }]);
    let stay = |w: &mut TestWorld, seconds: u32| {
        for _ in 0..seconds / 60 {
            w.say(p, &[Message::KeepAlive]);
            w.pass(60.0);
        }
    };
    stay(&mut w, 1200);
    w.say(p, &[Message::Unchoke]);
    w.serve_all(p);
    assert_eq!(w.have(), [0]);
    stay(&mut w, 540);
    assert!(w.is_open(p), "we wanted something of it nine minutes ago");
    stay(&mut w, 120);
    assert!(!w.is_open(p));
}

#[test]
fn after_shut_down_nothing_is_under_way() {
    let mut w = TestWorld::built(|s| {
        s.spec.peers = (1..=5).map(addr).collect();
        s.spec.trackers = vec![vec!["http://t/announce".into()]];
    });
    w.pass(1.0);
    let p = w.server(9);
    w.serve_one(p);
    let _unnamed = w.connect(10);
    w.engine.shut_down(w.now, &mut w.out);
    w.turn();
    // A tracker that may have heard of us gets a last word, within five seconds.
    let id = w.log.iter().rev().find_map(|a| match a {
        Action::Announce { id, url, timeout } if url.contains("event=stopped") => {
            assert_eq!(*timeout, limits::STOPPED_TIMEOUT);
            Some(*id)
        }
        _ => None,
    });
    assert!(!w.engine.is_idle());
    w.engine.on_announced(w.now, id.unwrap(), Err(crate::wire::AnnounceError::Timeout), &mut w.out);
    assert!(w.engine.is_idle());
    assert!(w.puppets.values().all(|p| p.closed.is_some()));
    assert_eq!(w.try_connect(11), None);
    w.pass(1000.0);
    assert!(w.engine.is_idle() && w.out.is_empty());
}

#[test]
fn a_removed_torrent_is_unknown_and_late_answers_find_nobody() {
    let mut w = TestWorld::built(|s| s.have = Bitfield::from_wire(&[0x80], 4).unwrap());
    let p = w.server(1);
    let piece = w.piece(2);
    w.engine.remove_torrent(w.now, w.torrent, &mut w.out);
    w.engine.on_prepared(w.now, w.torrent, piece, true, &mut w.out);
    w.engine.on_hashed(w.now, w.torrent, piece, &crate::engine::HashVerdict::Unreadable, &mut w.out);
    w.engine.on_saved(w.now, w.torrent, &mut w.out);
    w.engine.on_dialed(w.now, p, &mut w.out);
    w.turn();
    assert_eq!(w.engine.have(w.torrent), None);
    let q = w.greeted(2);
    assert_eq!(w.why(q), Some(DisconnectReason::UnknownTorrent));
}

#[test]
fn who_hangs_up_at_once_is_dialed_again_soon_and_then_less_and_less_often() {
    let addr: SocketAddr = "10.9.9.9:7".parse().unwrap();
    let mut w = TestWorld::built(|s| s.spec.peers = vec![addr]);
    w.pass(0.0);
    let mut dialed_at = Vec::new();
    for n in 0..4 {
        let (p, _) = *w.dials.last().unwrap();
        dialed_at.push(w.now);
        w.dialed(p);
        w.send(p, &handshake(9, true));
        w.lose(p);
        let before = w.dials.len();
        while n < 3 && w.dials.len() == before {
            w.pass(1.0);
        }
    }
    let waits: Vec<u64> = dialed_at.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert_eq!(waits, [5, 120, 180]);
}
