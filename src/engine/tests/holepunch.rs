//! Hole punching (BEP 55): asking, introducing, being introduced, and what peers cannot do with it (hazard U8).

use crate::engine::testing::{HASH, HOLEPUNCH_ID, PEX_ID, Received, TestWorld};
use crate::engine::{DialFailure, limits};
use crate::units::{PeerId, PeerKey, TransportKind, Transports};
use crate::wire::{
    ExtendedHandshake, ExtensionIds, Handshake, HolepunchError, HolepunchKind, HolepunchMessage, Message,
    PEX_HOLEPUNCH, PEX_UTP, write_pex,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;

use HolepunchKind::{Connect, Error, Rendezvous};
use TransportKind::{Tcp, Utp};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn world() -> TestWorld {
    TestWorld::with_setup(|s| s.config.transports = Transports::Both)
}

/// Connects a peer at this address that says that it listens at `port`; it speaks hole punching under `id`.
fn peer(w: &mut TestWorld, from: &str, over: TransportKind, port: Option<u16>, id: u8) -> PeerKey {
    let from = addr(from);
    let p = w.connect_over(from, over);
    let SocketAddr::V4(v4) = from else { panic!("an IPv4 address") };
    let [_, _, _, host] = v4.ip().octets();
    let theirs =
        Handshake { info_hash: HASH, peer_id: PeerId([host; 20]), fast: true, extended: true, dht: false };
    w.send(p, &theirs.to_bytes());
    let ids = ExtensionIds { ut_pex: PEX_ID, ut_holepunch: id, ..ExtensionIds::default() };
    let handshake = ExtendedHandshake { ids, port, ..ExtendedHandshake::default() }.encode();
    w.send_messages(p, &[Message::Extended { id: 0, payload: &handshake }]);
    p
}

fn send(w: &mut TestWorld, p: PeerKey, kind: HolepunchKind, other: &str) {
    let payload = HolepunchMessage { kind, addr: addr(other) }.encode();
    w.send_messages(p, &[Message::Extended { id: ExtensionIds::OURS.ut_holepunch, payload: &payload }]);
}

/// Returns the messages of hole punching that a peer has received.
fn heard(w: &mut TestWorld, p: PeerKey) -> Vec<(HolepunchKind, SocketAddr)> {
    let messages = w.received(p);
    let of = |m: &Received| match m {
        Received::Holepunch(payload) => HolepunchMessage::parse(payload).map(|m| (m.kind, m.addr)),
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

fn dials(w: &TestWorld) -> Vec<(SocketAddr, TransportKind)> {
    let over = |p: PeerKey| w.engine.swarms.connections.get(p).map_or(Tcp, |c| c.peer.wire.over);
    w.dials.iter().map(|(p, addr)| (*addr, over(*p))).collect()
}

#[test]
fn two_peers_that_are_introduced_learn_where_the_other_one_answers() {
    let mut w = world();
    // The target came in over TCP and told its port; the asker's port is that of its NAT.
    let target = peer(&mut w, "20.0.0.2:50000", Tcp, Some(6881), HOLEPUNCH_ID);
    let asker = peer(&mut w, "20.0.0.1:40000", Utp, Some(7000), HOLEPUNCH_ID);
    send(&mut w, asker, Rendezvous, "20.0.0.2:6881");
    assert_eq!(heard(&mut w, asker), [(Connect, addr("20.0.0.2:6881"))]);
    assert_eq!(heard(&mut w, target), [(Connect, addr("20.0.0.1:40000"))]);
}

#[test]
fn an_asker_is_told_why_it_is_not_introduced() {
    let mut w = world();
    let asker = peer(&mut w, "20.0.0.1:40000", Utp, Some(7000), HOLEPUNCH_ID);
    peer(&mut w, "20.0.0.2:50000", Tcp, Some(6881), 0);
    for (target, why) in [
        ("20.0.0.1:40000", HolepunchError::NoSelf),
        ("20.0.0.2:6881", HolepunchError::NoSupport),
        ("20.0.0.3:1", HolepunchError::NotConnected),
    ] {
        send(&mut w, asker, Rendezvous, target);
        assert_eq!(heard(&mut w, asker), [(Error(why), addr(target))]);
    }
}

#[test]
fn an_address_that_no_transport_reaches_is_met_through_the_peer_that_named_it() {
    let mut w = world();
    let relay = peer(&mut w, "20.0.0.9:50000", Tcp, Some(6881), HOLEPUNCH_ID);
    let named = [(addr("20.0.0.2:6881"), PEX_HOLEPUNCH | PEX_UTP)];
    let payload = write_pex(&named, &[]);
    w.send_messages(relay, &[Message::Extended { id: ExtensionIds::OURS.ut_pex, payload: &payload }]);
    for (over, asked) in [(Tcp, 1), (Utp, 0)] {
        assert_eq!(heard(&mut w, relay), []);
        w.advance(0.2);
        assert_eq!(dials(&w).last(), Some(&(addr("20.0.0.2:6881"), over)));
        let (key, _) = *w.dials.last().unwrap();
        w.engine.on_dial_failed(w.now, key, DialFailure::Unreachable, &mut w.out);
        w.run_actions();
        // Asked when TCP has failed, as the dial over uTP begins.
        assert_eq!(heard(&mut w, relay), [(Rendezvous, addr("20.0.0.2:6881"))][..asked]);
    }
    // The relay knows the port of its NAT.
    send(&mut w, relay, Connect, "20.0.0.2:31000");
    w.advance(0.2);
    assert_eq!(dials(&w).last(), Some(&(addr("20.0.0.2:31000"), Utp)));
    let (key, _) = *w.dials.last().unwrap();
    w.engine.on_dial_failed(w.now, key, DialFailure::Unreachable, &mut w.out);
    w.run_actions();
    assert_eq!(heard(&mut w, relay), [], "an address that no peer named is not asked for");
}

#[test]
fn an_introduced_peer_is_dialed_before_all_others_and_over_utp_at_once() {
    let mut w = world();
    let relay = peer(&mut w, "20.0.0.9:50000", Tcp, Some(6881), HOLEPUNCH_ID);
    send(&mut w, relay, Connect, "20.0.0.2:31000");
    w.advance(0.0);
    assert_eq!(dials(&w), [(addr("20.0.0.2:31000"), Utp)]);
    send(&mut w, relay, Connect, "20.0.0.2:31000");
    w.advance(0.2);
    assert_eq!(w.dials.len(), 1, "it is being dialed");
}

#[test]
fn u8_an_asker_is_limited_to_four_messages_a_minute_and_a_target_is_introduced_every_ten_seconds() {
    let mut w = world();
    let target = peer(&mut w, "20.0.0.2:50000", Tcp, Some(6881), HOLEPUNCH_ID);
    let asker = peer(&mut w, "20.0.0.1:40000", Utp, Some(7000), HOLEPUNCH_ID);
    for _ in 0..100 {
        send(&mut w, asker, Rendezvous, "20.0.0.2:6881");
    }
    assert_eq!((heard(&mut w, asker).len(), heard(&mut w, target).len()), (1, 1));
    let mut answers = 0;
    for _ in 0..600 {
        send(&mut w, asker, Rendezvous, "20.0.0.3:1");
        answers += heard(&mut w, asker).len();
        w.advance(1.0);
    }
    assert!((39..=41).contains(&answers), "{answers} answers in ten minutes");
    // Many askers together.
    let mut w = world();
    let target = peer(&mut w, "20.0.0.2:50000", Tcp, Some(6881), HOLEPUNCH_ID);
    for host in 10..60 {
        let p = peer(&mut w, &format!("20.0.0.{host}:40000"), Utp, None, HOLEPUNCH_ID);
        send(&mut w, p, Rendezvous, "20.0.0.2:6881");
    }
    assert_eq!(heard(&mut w, target).len(), 1);
    w.advance(limits::HOLEPUNCH_TARGET_INTERVAL.as_secs_f64());
    let p = peer(&mut w, "20.0.0.70:40000", Utp, None, HOLEPUNCH_ID);
    send(&mut w, p, Rendezvous, "20.0.0.2:6881");
    assert_eq!(heard(&mut w, target).len(), 1);
}

#[test]
fn u8_a_relay_can_have_us_dial_four_addresses_a_minute_and_none_of_a_private_network() {
    let mut w = world();
    let relay = peer(&mut w, "20.0.0.9:50000", Tcp, Some(6881), HOLEPUNCH_ID);
    for host in 1..100 {
        send(&mut w, relay, Connect, &format!("20.0.1.{host}:31000"));
    }
    w.advance(10.0);
    let dialed = |w: &TestWorld| w.dials.iter().map(|(_, addr)| *addr).collect::<BTreeSet<_>>().len();
    assert_eq!(dialed(&w), 4);
    let other = peer(&mut w, "20.0.0.8:50000", Tcp, Some(6881), HOLEPUNCH_ID);
    for private in ["10.0.0.7:80", "127.0.0.1:80", "192.168.1.1:80"] {
        send(&mut w, other, Connect, private);
    }
    w.advance(10.0);
    assert_eq!(dialed(&w), 4);
}

#[test]
fn u8_peers_on_two_sides_of_a_private_network_are_not_introduced() {
    let mut w = world();
    let inside = peer(&mut w, "192.168.1.2:50000", Tcp, Some(6881), HOLEPUNCH_ID);
    let outside = peer(&mut w, "20.0.0.1:40000", Utp, None, HOLEPUNCH_ID);
    send(&mut w, outside, Rendezvous, "192.168.1.2:6881");
    send(&mut w, inside, Rendezvous, "20.0.0.1:40000");
    assert_eq!((heard(&mut w, inside), heard(&mut w, outside)), (vec![], vec![]));
}

#[test]
fn u8_who_has_not_announced_hole_punching_gets_no_answer() {
    let mut w = world();
    let target = peer(&mut w, "20.0.0.2:50000", Tcp, Some(6881), HOLEPUNCH_ID);
    let asker = peer(&mut w, "20.0.0.1:40000", Utp, None, 0);
    send(&mut w, asker, Rendezvous, "20.0.0.2:6881");
    send(&mut w, asker, Connect, "20.0.1.1:1");
    w.advance(1.0);
    assert_eq!((heard(&mut w, target), w.dials.len()), (vec![], 0));
}

#[test]
fn t28_a_private_torrent_and_one_without_utp_neither_announce_nor_answer_hole_punching() {
    let setups: [(bool, Transports); 2] = [(true, Transports::Both), (false, Transports::Tcp)];
    for (private, transports) in setups {
        let mut w = TestWorld::with_setup(|s| {
            s.config.transports = transports;
            s.spec.torrent_info.as_mut().unwrap().private = private;
        });
        let target = peer(&mut w, "20.0.0.2:50000", Tcp, Some(6881), HOLEPUNCH_ID);
        let asker = peer(&mut w, "20.0.0.1:40000", Tcp, Some(7000), HOLEPUNCH_ID);
        let announced = w.received(asker).iter().any(|m| match m {
            Received::ExtendedHandshake(payload) => {
                ExtendedHandshake::parse(payload).unwrap().ids.ut_holepunch != 0
            }
            _ => false,
        });
        assert!(!announced);
        send(&mut w, asker, Rendezvous, "20.0.0.2:6881");
        send(&mut w, asker, Connect, "20.0.1.1:1");
        w.advance(1.0);
        assert_eq!((heard(&mut w, target), w.dials.len()), (vec![], 0));
    }
}
