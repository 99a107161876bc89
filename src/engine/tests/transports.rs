//! The transports of an address: TCP first, uTP where TCP cannot reach it (BEP 29).

use crate::engine::testing::{TestWorld, handshake};
use crate::engine::{Action, DialFailure, Encryption, Notice, limits};
use crate::units::{PeerKey, TransportKind, Transports};
use std::net::SocketAddr;

use TransportKind::{Tcp, Utp};

fn addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 6881))
}

/// Returns a world that dials one peer, given by the user.
fn dialing_world(transports: Transports) -> TestWorld {
    let mut w = TestWorld::with_setup(|s| {
        s.config.transports = transports;
        s.spec.peers = vec![addr()];
    });
    w.advance(0.2);
    w
}

/// Returns the last dial, and its transport.
fn last_dial(w: &TestWorld) -> (PeerKey, TransportKind) {
    let (key, _) = *w.dials.last().unwrap();
    let over = w.engine.swarms.connections.get(key).unwrap().peer.wire.over;
    (key, over)
}

fn fail(w: &mut TestWorld) {
    let (key, _) = last_dial(w);
    w.engine.on_dial_failed(w.now, key, DialFailure::Refused, &mut w.out);
    w.run_actions();
}

/// Returns the given peers that were reported as failed.
fn reported(w: &TestWorld) -> usize {
    w.log.iter().filter(|action| matches!(action, Action::Notice(Notice::GivenPeerFailed { .. }))).count()
}

#[test]
fn an_address_that_refuses_tcp_is_dialed_over_utp_at_once_and_reported_if_that_fails_too() {
    let mut w = dialing_world(Transports::Both);
    assert_eq!(last_dial(&w).1, Tcp);
    fail(&mut w);
    w.advance(0.2);
    assert_eq!((w.dials.len(), last_dial(&w).1, reported(&w)), (2, Utp, 0));
    fail(&mut w);
    assert_eq!(reported(&w), 1);
    w.advance(limits::REDIAL_SOON.as_secs_f64() + 0.2);
    assert_eq!((w.dials.len(), last_dial(&w).1), (3, Tcp), "a failure was counted, and TCP is tried again");
    fail(&mut w);
    w.advance(0.2);
    assert_eq!(w.dials.len(), 3, "uTP failed before, and no peer says that the address speaks it");
    let counts = w.engine.connection_counts().dialed;
    assert_eq!((counts.tried, counts.utp_tried, counts.refused), (3, 1, 3));
}

/// libtorrent without TCP accepts TCP connections and closes them. Over each transport it is dialed plainly first,
/// and encrypted if it closes without a byte.
#[test]
fn an_address_that_closes_tcp_without_a_byte_is_dialed_over_utp_with_and_without_encryption() {
    let mut w = TestWorld::with_setup(|s| {
        s.config.transports = Transports::Both;
        s.config.encryption = Encryption::Allow;
        s.spec.peers = vec![addr()];
    });
    let mut attempts = Vec::new();
    for n in 1..=4 {
        w.advance(0.2);
        assert_eq!((w.dials.len(), reported(&w)), (n, 0));
        let (p, over) = last_dial(&w);
        attempts.push((over, w.engine.swarms.connections.get(p).unwrap().peer.wire.encrypt));
        w.dialed(p);
        w.engine.on_lost(w.now, p, &mut w.out);
        w.run_actions();
    }
    assert_eq!(attempts, [(Tcp, false), (Tcp, true), (Utp, false), (Utp, true)]);
    w.advance(0.2);
    assert_eq!((w.dials.len(), reported(&w)), (4, 1));
}

#[test]
fn an_address_that_tcp_reached_is_not_dialed_over_utp() {
    let mut w = dialing_world(Transports::Both);
    let (p, _) = last_dial(&w);
    w.dialed(p);
    w.send(p, &handshake(1, true));
    w.engine.on_lost(w.now, p, &mut w.out);
    w.run_actions();
    w.advance(limits::REDIAL_SOON.as_secs_f64() + 0.2);
    assert_eq!((w.dials.len(), last_dial(&w).1), (2, Tcp));
}

#[test]
fn a_peer_that_answered_over_utp_is_dialed_so_again_unless_the_stream_ended_at_once() {
    for (lasts, next) in [(120.0, Utp), (0.5, Tcp)] {
        let mut w = dialing_world(Transports::Both);
        fail(&mut w);
        w.advance(0.2);
        let (p, _) = last_dial(&w);
        w.dialed(p);
        w.send(p, &handshake(1, true));
        let counts = w.engine.connection_counts().dialed;
        assert_eq!((counts.connected, counts.utp_connected), (1, 1));
        w.advance(lasts);
        w.engine.on_lost(w.now, p, &mut w.out);
        w.run_actions();
        let dials = w.dials.len();
        w.advance(limits::REDIAL.as_secs_f64() + 0.2);
        assert!(w.dials.len() > dials, "dialed again");
        let (key, _) = w.dials[dials];
        let over = w.engine.swarms.connections.get(key).map(|c| c.peer.wire.over);
        assert!(over.is_none_or(|over| over == next), "{lasts}: {over:?}");
    }
}

#[test]
fn with_one_transport_there_is_no_second_attempt() {
    for (transports, over) in [(Transports::Tcp, Tcp), (Transports::Utp, Utp)] {
        let mut w = dialing_world(transports);
        assert_eq!(last_dial(&w).1, over);
        fail(&mut w);
        w.advance(0.2);
        assert_eq!((w.dials.len(), reported(&w)), (1, 1), "{transports:?}");
    }
}

#[test]
fn a_connection_that_came_in_over_utp_is_counted() {
    let mut w = TestWorld::leech();
    let p = w.engine.on_accepted(w.now, addr(), Utp, &mut w.out);
    assert!(p.is_some());
    let counts = w.engine.connection_counts().incoming;
    assert_eq!((counts.tried, counts.utp_tried), (1, 1));
}
