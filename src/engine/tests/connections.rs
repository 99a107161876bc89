//! Connections: limits, dials and their failures, duplicates, idle peers, shutdown (hazards P13, P19).

use crate::engine::testing::{Received, TestWorld, handshake};
use crate::engine::{Action, AttemptCounts, DialFailure, DisconnectReason, Notice, limits};
use crate::units::{Bitfield, PeerId};
use crate::wire::{Handshake, Message};
use std::net::SocketAddr;

fn addr(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 6881))
}

/// Returns a leech with a completed dial to this host.
fn connected_dial(host: u8) -> (TestWorld, crate::units::PeerKey) {
    let mut w = TestWorld::with_setup(|s| s.spec.peers = vec![addr(host)]);
    w.advance(0.1);
    let p = w.dials[0].0;
    w.dialed(p);
    assert_eq!(w.received(p), [Received::Handshake]);
    (w, p)
}

fn handshake_of(id: u8) -> Vec<u8> {
    handshake(id, true)
}

#[test]
fn p13_the_total_of_connections_is_limited() {
    let mut w = TestWorld::with_setup(|s| s.config.max_peers = 20);
    for host in 1..=20 {
        w.peer(host);
    }
    assert_eq!(w.try_connect(99), None);
    let first = *w.puppets.keys().next().unwrap();
    w.disconnect(first);
    assert!(w.try_connect(99).is_some());
}

#[test]
fn p13_connections_from_one_address_are_limited() {
    let mut w = TestWorld::leech();
    for n in 0..limits::PEERS_PER_ADDRESS {
        let p = w.connect(7);
        w.send(p, &handshake_of(n as u8 + 1));
    }
    assert_eq!(w.try_connect(7), None);
    assert!(w.try_connect(8).is_some());
}

#[test]
fn p13_the_oldest_connection_without_handshake_is_evicted_above_the_limit() {
    let mut w = TestWorld::leech();
    let all: Vec<_> = (0..limits::INCOMING_WITHOUT_HANDSHAKE).map(|n| w.connect(n as u8)).collect();
    let newcomer = w.connect(200);
    assert_eq!(
        (w.disconnect_reason(all[0]), w.engine.connections()),
        (None, limits::INCOMING_WITHOUT_HANDSHAKE)
    );
    assert!(!w.is_open(all[0]) && w.is_open(all[1]));
    w.send(newcomer, &handshake_of(1));
    assert!(w.is_open(newcomer), "a connection with a handshake is not evicted");
    let another = w.connect(201);
    assert!(w.is_open(another) && w.is_open(all[1]));
    w.advance(10.1);
    assert_eq!(w.engine.connections(), 1, "connections without a handshake are closed");
}

#[test]
fn p13_hosts_with_many_connections_without_handshake_evict_only_their_own() {
    let mut w = TestWorld::leech();
    let honest = w.connect(99);
    for n in 0..500u16 {
        if let Some(p) = w.try_connect(1 + (n % 5) as u8) {
            w.advance(0.001);
            assert!(w.is_open(p));
        }
    }
    w.send(honest, &handshake_of(1));
    assert!(w.is_open(honest) && w.received(honest).contains(&Received::Handshake));
    assert!(w.engine.connections() <= limits::INCOMING_WITHOUT_HANDSHAKE + 1);
}

#[test]
fn p13_a_full_torrent_refuses_further_peers() {
    let mut w = TestWorld::with_setup(|s| s.config.max_peers_per_torrent = 3);
    for host in 1..=3 {
        w.peer(host);
    }
    let p = w.connect_with_handshake(4);
    assert_eq!(w.disconnect_reason(p), Some(DisconnectReason::Full));
    assert!(w.puppets[&p].from_engine.is_empty());
}

#[test]
fn p13_twenty_thousand_short_connections_leave_no_state() {
    let mut w = TestWorld::leech();
    for n in 0..20_000u32 {
        let p = w.connect(n as u8);
        w.send(p, &handshake_of(1)[..(n % 70).min(68) as usize]);
        if w.is_open(p) {
            w.disconnect(p);
        }
        w.puppets.clear();
    }
    assert_eq!((w.engine.connections(), w.engine.swarms.half_open), (0, 0));
    assert!(w.engine.swarms.torrents.get(w.torrent).unwrap().peers.is_empty());
}

#[test]
fn p19_a_connection_to_ourselves_is_closed() {
    let (mut w, p) = connected_dial(1);
    w.send(p, &handshake_of(0x55));
    assert_eq!(w.disconnect_reason(p), Some(DisconnectReason::Ourselves));
    w.advance(3600.0);
    assert_eq!(w.dials.len(), 1, "our own address is not dialed again");
    let q = w.connect(1);
    w.send(q, &handshake_of(0x55));
    assert_eq!(w.disconnect_reason(q), Some(DisconnectReason::Ourselves));
    assert!(w.puppets[&q].from_engine.is_empty());
}

#[test]
fn p19_a_second_connection_of_the_same_peer_is_closed() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    let q = w.connect(2);
    w.send(q, &handshake_of(1));
    assert_eq!(w.disconnect_reason(q), Some(DisconnectReason::Duplicate));
    assert!(w.is_open(p));
}

#[test]
fn p19_when_both_peers_dial_both_keep_the_same_connection() {
    // Our peer id is 0x55…: with a peer of a smaller id the connection that we dialed stays, with a peer of a
    // greater id the one that it dialed.
    for (theirs, ours_stays) in [(0x10, true), (0x99, false)] {
        for incoming_first in [true, false] {
            let (mut w, dialed) = connected_dial(1);
            let incoming = w.connect(1);
            let order = if incoming_first { [incoming, dialed] } else { [dialed, incoming] };
            order.iter().for_each(|p| w.send(*p, &handshake_of(theirs)));
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
fn a_dialed_peer_that_answers_for_another_torrent_is_disconnected() {
    let (mut w, p) = connected_dial(1);
    let other = Handshake {
        info_hash: crate::units::InfoHash([9; 20]),
        peer_id: PeerId([1; 20]),
        fast: true,
        extended: false,
        dht: false,
    };
    w.send(p, &other.to_bytes());
    assert_eq!(w.disconnect_reason(p), Some(DisconnectReason::WrongTorrent));
}

#[test]
fn an_unanswered_dial_ends_after_ten_seconds_and_is_repeated_later() {
    let mut w = TestWorld::with_setup(|s| s.spec.peers = vec![addr(1)]);
    w.advance(9.0);
    assert_eq!((w.dials.len(), w.engine.swarms.half_open), (1, 1));
    w.advance(2.0);
    assert!(!w.is_open(w.dials[0].0) && w.engine.swarms.half_open == 0);
    w.advance(3.0);
    assert_eq!(w.dials.len(), 1);
    w.advance(3.0);
    assert_eq!(w.dials.len(), 2, "the first retry is soon");
    w.advance(10.0 + 115.0);
    assert_eq!(w.dials.len(), 2);
    w.advance(4.0);
    assert_eq!(w.dials.len(), 3, "two minutes after the second failure");
}

#[test]
fn dials_start_with_forty_then_twenty_per_second_and_at_most_fifty_are_half_open() {
    let mut w = TestWorld::with_setup(|s| s.spec.peers = (1..=200).map(addr).collect());
    w.advance(0.0);
    assert_eq!(w.dials.len(), limits::DIALS_AT_ONCE as usize);
    w.advance(0.2);
    assert!((43..=45).contains(&w.dials.len()), "{}", w.dials.len());
    w.advance(8.0);
    assert_eq!(w.dials.len(), limits::HALF_OPEN);
}

#[test]
fn a_burst_of_dials_needs_a_pause_before_it() {
    let mut w = TestWorld::with_setup(|s| s.spec.peers = (1..=200).map(addr).collect());
    let mut refused = 0;
    for tenth in 0..30 {
        w.advance(0.1);
        while let Some((key, _)) = w.dials.get(refused).copied() {
            w.engine.on_dial_failed(w.now, key, DialFailure::Refused, &mut w.out);
            w.run_actions();
            refused += 1;
        }
        let due = limits::DIALS_AT_ONCE as usize + (tenth + 1) * limits::DIALS_PER_SECOND as usize / 10;
        assert!((due - 1..=due + 1).contains(&refused), "{refused} after {tenth} tenths");
    }
}

#[test]
fn s2_a_given_peer_that_refuses_or_hangs_up_is_reported_with_the_reason() {
    let mut w = TestWorld::with_setup(|s| s.spec.peers = vec![addr(1), addr(2)]);
    w.advance(0.1);
    w.engine.on_dial_failed(w.now, w.dials[0].0, DialFailure::Refused, &mut w.out);
    w.engine.on_dialed(w.now, w.dials[1].0, &mut w.out);
    w.engine.on_lost(w.now, w.dials[1].0, &mut w.out);
    let failed = w.out.drain().filter_map(|action| match action {
        Action::Notice(Notice::GivenPeerFailed { addr, why, .. }) => Some((addr, why)),
        _ => None,
    });
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed, [(w.dials[0].1, DisconnectReason::Refused), (w.dials[1].1, DisconnectReason::Lost)]);
}

#[test]
fn a_dial_without_free_descriptors_does_not_count_as_a_failure_of_the_address() {
    let mut w = TestWorld::with_setup(|s| s.spec.peers = vec![addr(1)]);
    w.advance(0.1);
    for n in 1..30 {
        assert_eq!(w.dials.len(), n, "the dial is repeated");
        w.engine.on_dial_failed(w.now, w.dials[n - 1].0, DialFailure::OutOfResources, &mut w.out);
        w.run_actions();
        w.advance(10.1);
    }
}

#[test]
fn a_connection_without_interest_ends_after_ten_minutes() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.send_messages(p, &[Message::Bitfield { bytes: &[0x80] }]);
    let stay = |w: &mut TestWorld, seconds: u32| {
        for _ in 0..seconds / 60 {
            w.send_messages(p, &[Message::KeepAlive]);
            w.advance(60.0);
        }
    };
    stay(&mut w, 1200);
    w.send_messages(p, &[Message::Unchoke]);
    w.serve_all(p);
    assert_eq!(w.have(), [0]);
    stay(&mut w, 540);
    assert!(w.is_open(p), "we were interested nine minutes ago");
    stay(&mut w, 120);
    assert!(!w.is_open(p));
}

#[test]
fn after_shut_down_the_engine_becomes_idle() {
    let mut w = TestWorld::with_setup(|s| {
        s.spec.peers = (1..=5).map(addr).collect();
        s.spec.trackers = vec![vec!["http://t/announce".into()]];
    });
    w.advance(1.0);
    let p = w.unchoking_seed(9);
    w.serve_one(p);
    let _unnamed = w.connect(10);
    let started = w.log.iter().find_map(|a| match a {
        Action::Announce { id, .. } => Some(*id),
        _ => None,
    });
    w.engine.shut_down(w.now, &mut w.out);
    w.run_actions();
    w.engine.on_announced(w.now, started.unwrap(), Ok(crate::wire::AnnounceReply::default()), &mut w.out);
    w.run_actions();
    // The tracker knows us now, so it gets a stopped announce with a timeout of five seconds.
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
    w.advance(1000.0);
    assert!(w.engine.is_idle() && w.out.is_empty());
}

#[test]
fn late_replies_for_a_removed_torrent_are_ignored() {
    let mut w = TestWorld::with_setup(|s| s.have = Bitfield::from_wire(&[0x80], 4).unwrap());
    let p = w.unchoking_seed(1);
    let piece = w.piece(2);
    w.engine.remove_torrent(w.now, w.torrent, &mut w.out);
    w.engine.on_prepared(w.now, w.torrent, piece, true, &mut w.out);
    w.engine.on_hashed(w.now, w.torrent, piece, &crate::engine::HashVerdict::Unreadable, &mut w.out);
    w.engine.on_saved(w.now, w.torrent, &mut w.out);
    w.engine.on_dialed(w.now, p, &mut w.out);
    w.run_actions();
    assert_eq!(w.engine.have(w.torrent), None);
    let q = w.connect_with_handshake(2);
    assert_eq!(w.disconnect_reason(q), Some(DisconnectReason::UnknownTorrent));
}

#[test]
fn a_peer_that_disconnects_at_once_is_redialed_at_growing_intervals() {
    let addr: SocketAddr = "10.9.9.9:7".parse().unwrap();
    let mut w = TestWorld::with_setup(|s| s.spec.peers = vec![addr]);
    w.advance(0.0);
    let mut dialed_at = Vec::new();
    for n in 0..4 {
        let (p, _) = *w.dials.last().unwrap();
        dialed_at.push(w.now);
        w.dialed(p);
        w.send(p, &handshake(9, true));
        w.disconnect(p);
        let before = w.dials.len();
        while n < 3 && w.dials.len() == before {
            w.advance(1.0);
        }
    }
    let waits: Vec<u64> = dialed_at.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert_eq!(waits, [5, 120, 180]);
}

#[test]
fn the_only_peer_is_dialed_again_within_seconds_while_pieces_are_missing() {
    let dials_after = |w: &mut TestWorld, seconds: f64| {
        w.dials.clear();
        w.advance(seconds);
        w.dials.len()
    };
    for others in [false, true] {
        let mut w = TestWorld::leech();
        w.engine.add_peers(w.now, w.torrent, &["10.0.0.1:6881".parse().unwrap()]);
        w.advance(1.0);
        let (p, _) = w.dials.remove(0);
        w.dialed(p);
        w.send(p, &handshake(1, true));
        if others {
            w.peer(2);
        }
        w.advance(30.0);
        w.disconnect(p);
        assert_eq!(dials_after(&mut w, 10.0), usize::from(!others), "other peers: {others}");
        if others {
            continue;
        }
        // It is not back yet: the dials go on, and stay frequent.
        for _ in 0..20 {
            let (key, _) = w.dials.pop().unwrap();
            w.engine.on_dial_failed(w.now, key, DialFailure::Refused, &mut w.out);
            w.run_actions();
            assert_eq!(dials_after(&mut w, 20.0), 1);
        }
    }
}

#[test]
fn every_attempt_counts_once_by_how_far_it_came() {
    let mut w = TestWorld::with_setup(|s| s.spec.peers = (1..=8).map(addr).collect());
    w.advance(0.2);
    let keys: Vec<_> = w.dials.iter().map(|(key, _)| *key).collect();
    w.engine.on_dial_failed(w.now, keys[0], DialFailure::Refused, &mut w.out);
    w.engine.on_dial_failed(w.now, keys[1], DialFailure::Unreachable, &mut w.out);
    w.engine.on_dial_failed(w.now, keys[2], DialFailure::OutOfResources, &mut w.out);
    w.run_actions();
    (4..8).for_each(|n| w.dialed(keys[n]));
    w.disconnect(keys[4]);
    w.send(keys[5], &handshake(6, true)[..30]);
    w.disconnect(keys[5]);
    w.send(keys[6], &handshake(7, true));
    let peer = w.peer(20);
    let twin = w.connect(21);
    w.send(twin, &handshake(20, true));
    w.advance(5.0);
    let of = |w: &TestWorld| w.engine.connection_counts();
    assert_eq!((of(&w).dialed.closed, of(&w).dialed.bad_handshake), (1, 1));
    w.advance(60.0);
    let expected = AttemptCounts { tried: 2, turned_away: 1, connected: 1, ..AttemptCounts::default() };
    assert_eq!(of(&w).incoming, expected);
    assert!(w.is_open(peer));
    let dialed = of(&w).dialed;
    assert_eq!((dialed.refused, dialed.unreachable, dialed.connected), (1, 1, 1));
    assert!(dialed.timed_out >= 1 && dialed.silent >= 1, "{dialed:?}");
    let settled: u64 = dialed.outcomes().iter().map(|(_, count)| count).sum();
    let pending = w.dials.len() as u64 - 1 - settled;
    assert_eq!(dialed.tried - settled, pending, "all but the dial without resources");
}

#[test]
fn n2_a_peer_that_dials_again_replaces_its_lost_connection() {
    let mut w = TestWorld::leech();
    let old = w.peer(1);
    let new = w.connect_with_handshake(1);
    assert!(w.is_open(new) && !w.is_open(old));
    // The same peer id from another address does not take the place of the first.
    let other = w.connect(9);
    w.send(other, &handshake(1, true));
    assert!(w.is_open(new) && !w.is_open(other));
}

#[test]
fn n2_after_a_change_of_the_network_every_address_is_dialed_again_soon() {
    let mut w = TestWorld::with_setup(|s| s.spec.peers = vec![addr(1), addr(2)]);
    w.advance(0.1);
    let (lost, refused) = (w.dials[0].0, w.dials[1].0);
    w.dialed(lost);
    w.engine.on_dial_failed(w.now, refused, DialFailure::Refused, &mut w.out);
    w.run_actions();
    w.advance(6.0);
    let again = w.dials[2].0;
    w.engine.on_dial_failed(w.now, again, DialFailure::Refused, &mut w.out);
    w.engine.on_network_changed(w.now, &mut w.out);
    w.run_actions();
    assert!(!w.is_open(lost));
    w.advance(6.0);
    let dialed: Vec<_> = w.dials[3..].iter().map(|(_, addr)| *addr).collect();
    assert_eq!(dialed.len(), 2, "{dialed:?}");
}
