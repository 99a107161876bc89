//! PEX: sent and accepted messages, floods, private torrents (BEP 11, hazards P15, P18, T28).

use crate::engine::testing::{HASH, PEX_ID, Received, TestWorld};
use crate::engine::torrent::PeerList;
use crate::engine::{DialFailure, limits};
use crate::units::{Origin, PeerId, PeerKey, Transports};
use crate::wire::{
    ExtendedHandshake, ExtensionIds, Handshake, Message, PEX_REACHABLE, PEX_SEED, PEX_UTP, PexMessage,
    write_pex,
};
use std::net::SocketAddr;

/// Connects a peer with PEX at 20.0.0.`host` that reports this listening port.
fn pex_peer(w: &mut TestWorld, host: u8, listen_port: Option<u16>) -> PeerKey {
    let p = w.connect_from(SocketAddr::from(([20, 0, 0, host], 50_000)));
    send_handshakes(w, p, host, listen_port);
    p
}

fn send_handshakes(w: &mut TestWorld, p: PeerKey, host: u8, port: Option<u16>) {
    let theirs =
        Handshake { info_hash: HASH, peer_id: PeerId([host; 20]), fast: true, extended: true, dht: false };
    w.send(p, &theirs.to_bytes());
    let ids = ExtensionIds { ut_pex: PEX_ID, ..ExtensionIds::default() };
    let handshake = ExtendedHandshake { ids, port, ..ExtendedHandshake::default() }.encode();
    w.send_messages(p, &[Message::Extended { id: 0, payload: &handshake }]);
}

/// Returns the added addresses of each PEX message that the peer received.
fn received_pex(w: &mut TestWorld, p: PeerKey) -> Vec<Vec<(SocketAddr, u8)>> {
    let messages = w.received(p);
    let pex = messages
        .iter()
        .filter_map(|s| if let Received::Pex(payload) = s { PexMessage::parse(payload) } else { None });
    pex.map(|m| m.added().collect()).collect()
}

fn send_pex(w: &mut TestWorld, p: PeerKey, added: &[SocketAddr], flags: u8) {
    let added: Vec<_> = added.iter().map(|a| (*a, flags)).collect();
    w.send_messages(
        p,
        &[Message::Extended { id: ExtensionIds::OURS.ut_pex, payload: &write_pex(&added, &[]) }],
    );
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn known(w: &TestWorld) -> usize {
    w.engine.stats(w.now, w.torrent).unwrap().known_peers
}

#[test]
fn two_connected_peers_learn_of_each_other_within_seconds() {
    let mut w = TestWorld::leech();
    let a = pex_peer(&mut w, 1, Some(1001));
    let b = pex_peer(&mut w, 2, Some(1002));
    let silent = pex_peer(&mut w, 3, None);
    w.advance(2.0);
    assert_eq!(received_pex(&mut w, a), [vec![(addr("20.0.0.2:1002"), 0)]]);
    assert_eq!(received_pex(&mut w, b), [vec![(addr("20.0.0.1:1001"), 0)]]);
    assert_eq!(received_pex(&mut w, silent), [vec![(addr("20.0.0.1:1001"), 0), (addr("20.0.0.2:1002"), 0)]]);
}

#[test]
fn pex_flags_mark_dialed_peers_as_reachable_and_complete_peers_as_seeds() {
    let seed = addr("20.9.9.9:7");
    let mut w = TestWorld::with_setup(|s| s.spec.peers = vec![seed]);
    w.advance(0.0);
    let (p, _) = w.dials[0];
    w.dialed(p);
    send_handshakes(&mut w, p, 9, Some(4444));
    w.send_messages(p, &[Message::HaveAll]);
    let a = pex_peer(&mut w, 1, Some(1001));
    w.advance(2.0);
    assert_eq!(
        received_pex(&mut w, a),
        [vec![(seed, PEX_REACHABLE | PEX_SEED)]],
        "the address that we dialed, not the reported port"
    );
}

/// What other peers say about uTP: an address that failed over it is tried again, and a peer of ours over uTP is
/// named as one.
#[test]
fn pex_flags_say_which_peers_answer_over_utp() {
    let other = addr("20.9.9.9:7");
    let mut w = TestWorld::with_setup(|s| {
        s.config.transports = Transports::Utp;
        s.spec.peers = vec![other];
    });
    w.advance(0.0);
    let (p, _) = w.dials[0];
    w.dialed(p);
    send_handshakes(&mut w, p, 9, Some(4444));
    let a = pex_peer(&mut w, 1, Some(1001));
    w.advance(2.0);
    assert_eq!(received_pex(&mut w, a), [vec![(other, PEX_REACHABLE | PEX_UTP)]]);

    let told = addr("20.8.8.8:8");
    let mut list = PeerList::default();
    list.learn(w.now, told, Origin::Pex);
    assert!(list.dial_over_utp(told));
    list.on_utp_failed(told);
    assert!(!list.dial_over_utp(told), "it failed");
    list.hint_utp(told);
    assert!(list.dial_over_utp(told), "another peer says that it answers");
    send_pex(&mut w, a, &[told], PEX_UTP);
    w.advance(1.0);
    let (dialed, _) = *w.dials.iter().find(|(_, addr)| *addr == told).unwrap();
    w.engine.on_dial_failed(w.now, dialed, DialFailure::Refused, &mut w.out);
    let list = &mut w.engine.swarms.torrents.get_mut(w.torrent).unwrap().peer_list;
    list.on_utp_failed(told);
    assert!(list.dial_over_utp(told), "the message was heard");
}

#[test]
fn later_pex_messages_are_a_minute_apart_and_contain_only_changes() {
    let mut w = TestWorld::leech();
    let a = pex_peer(&mut w, 1, Some(1001));
    let b = pex_peer(&mut w, 2, Some(1002));
    w.advance(2.0);
    received_pex(&mut w, a);
    for host in 3..9 {
        pex_peer(&mut w, host, Some(2000));
        w.advance(2.0);
    }
    w.disconnect(b);
    w.advance(40.0);
    assert_eq!(received_pex(&mut w, a), Vec::<Vec<_>>::new(), "less than a minute since the last message");
    w.advance(20.0);
    let messages = w.received(a);
    let pex: Vec<_> = messages
        .iter()
        .filter_map(|s| if let Received::Pex(payload) = s { Some(payload) } else { None })
        .collect();
    let [payload] = pex[..] else { panic!("{messages:?}") };
    assert_eq!(PexMessage::parse(payload).unwrap().added().count(), 6);
    assert!(payload.windows(9).any(|w| w == b"7:dropped"), "the disconnected peer");
    w.advance(600.0);
    assert_eq!(received_pex(&mut w, a), Vec::<Vec<_>>::new(), "without changes no message is sent");
}

#[test]
fn an_address_from_pex_is_dialed_and_counts_under_that_origin() {
    let mut w = TestWorld::leech();
    let a = pex_peer(&mut w, 1, None);
    let named = addr("20.5.5.5:55");
    send_pex(&mut w, a, &[named], 0);
    w.advance(0.1);
    let (p, _) = *w.dials.iter().find(|(_, addr)| *addr == named).expect("the address is dialed");
    w.dialed(p);
    w.send(p, &crate::engine::testing::handshake(55, true));
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().peers_by_origin[Origin::Pex.number()], 1);
}

#[test]
fn p18_private_and_unusable_addresses_from_pex_are_ignored() {
    let mut w = TestWorld::leech();
    let public = pex_peer(&mut w, 1, None);
    send_pex(
        &mut w,
        public,
        &[addr("192.168.1.1:80"), addr("127.0.0.1:80"), addr("20.1.1.1:0"), addr("20.1.1.2:7")],
        0,
    );
    assert_eq!(known(&w), 1);
    let local = w.connect_from(addr("192.168.1.9:5000"));
    send_handshakes(&mut w, local, 99, None);
    send_pex(&mut w, local, &[addr("192.168.1.1:80"), addr("192.168.1.1:81"), addr("127.0.0.1:80")], 0);
    assert_eq!(known(&w), 3, "two ports of a private address are two peers");
}

#[test]
fn p18_a_flood_of_pex_messages_is_limited_and_each_host_counts_once() {
    let mut w = TestWorld::leech();
    let a = pex_peer(&mut w, 1, None);
    let host = |n: u32| SocketAddr::from(([30, 0, (n / 250) as u8, (n % 250) as u8], 7));
    for message in 0..100u32 {
        let fifty: Vec<_> = (0..50).map(|n| host(message * 50 + n)).collect();
        send_pex(&mut w, a, &fifty, 0);
    }
    assert_eq!(known(&w), 50 * limits::PEX_ACCEPT_BURST as usize);
    w.advance(60.0);
    let before = known(&w);
    let ports: Vec<_> = (1..50).map(|port| SocketAddr::from(([31, 0, 0, 1], port))).collect();
    send_pex(&mut w, a, &ports, 0);
    assert_eq!(known(&w), before + 1);
}

#[test]
fn a_seed_ignores_seeds_from_pex() {
    let mut w = TestWorld::seed();
    let a = pex_peer(&mut w, 1, None);
    send_pex(&mut w, a, &[addr("20.1.1.1:7")], PEX_SEED);
    send_pex(&mut w, a, &[addr("20.1.1.2:7")], 0);
    assert_eq!(known(&w), 1);
}

#[test]
fn t28_pex_is_neither_sent_nor_accepted_if_private_or_disabled() {
    for private in [true, false] {
        let mut w = TestWorld::with_setup(|s| {
            s.config.pex = private;
            s.spec.torrent_info.as_mut().unwrap().private = private;
        });
        let a = pex_peer(&mut w, 1, Some(1001));
        pex_peer(&mut w, 2, Some(1002));
        send_pex(&mut w, a, &[addr("20.5.5.5:55")], 0);
        w.advance(120.0);
        assert_eq!((received_pex(&mut w, a).len(), known(&w)), (0, 0), "private: {private}");
    }
}

#[test]
fn pex_works_before_the_metadata_is_known() {
    let mut w = TestWorld::with_setup(|s| s.spec.torrent_info = None);
    let a = pex_peer(&mut w, 1, None);
    send_pex(&mut w, a, &[addr("20.5.5.5:55")], 0);
    assert_eq!(known(&w), 1);
}
