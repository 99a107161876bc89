//! Peers of peers: whom we tell of whom, whom we believe, and what a flood of it costs (P15, P18, T28).

use crate::engine::limits;
use crate::engine::testing::{HASH, PEX_ID, Received, TestWorld};
use crate::units::{Origin, PeerId, PeerKey};
use crate::wire::{
    ExtendedHandshake, ExtensionIds, Handshake, Message, PEX_REACHABLE, PEX_SEED, PexMessage, write_pex,
};
use std::net::SocketAddr;

/// A peer that speaks PEX, at 20.0.0.`host`, and says that it listens at this port.
fn speaker(w: &mut TestWorld, host: u8, listen_port: Option<u16>) -> PeerKey {
    let p = w.connect_from(SocketAddr::from(([20, 0, 0, host], 50_000)));
    greet(w, p, host, listen_port);
    p
}

fn greet(w: &mut TestWorld, p: PeerKey, host: u8, port: Option<u16>) {
    let theirs =
        Handshake { info_hash: HASH, peer_id: PeerId([host; 20]), fast: true, extended: true, dht: false };
    w.send(p, &theirs.to_bytes());
    let ids = ExtensionIds { ut_pex: PEX_ID, ..ExtensionIds::default() };
    let hello = ExtendedHandshake { ids, port, ..ExtendedHandshake::default() }.encode();
    w.say(p, &[Message::Extended { id: 0, payload: &hello }]);
}

/// Who was added in what the peer heard, message by message.
fn told(w: &mut TestWorld, p: PeerKey) -> Vec<Vec<(SocketAddr, u8)>> {
    let said = w.heard(p);
    let pex = said
        .iter()
        .filter_map(|s| if let Received::Pex(payload) = s { PexMessage::parse(payload) } else { None });
    pex.map(|m| m.added().collect()).collect()
}

fn tell(w: &mut TestWorld, p: PeerKey, added: &[SocketAddr], flags: u8) {
    let added: Vec<_> = added.iter().map(|a| (*a, flags)).collect();
    w.say(p, &[Message::Extended { id: ExtensionIds::OURS.ut_pex, payload: &write_pex(&added, &[]) }]);
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn known(w: &TestWorld) -> usize {
    w.engine.stats(w.now, w.torrent).unwrap().known_peers
}

#[test]
fn two_who_know_us_hear_of_each_other_within_seconds() {
    let mut w = TestWorld::leech();
    let a = speaker(&mut w, 1, Some(1001));
    let b = speaker(&mut w, 2, Some(1002));
    let silent = speaker(&mut w, 3, None);
    w.pass(2.0);
    assert_eq!(told(&mut w, a), [vec![(addr("20.0.0.2:1002"), 0)]]);
    assert_eq!(told(&mut w, b), [vec![(addr("20.0.0.1:1001"), 0)]]);
    assert_eq!(told(&mut w, silent), [vec![(addr("20.0.0.1:1001"), 0), (addr("20.0.0.2:1002"), 0)]]);
}

#[test]
fn whom_we_dialed_is_reachable_and_who_has_everything_is_a_seed() {
    let seed = addr("20.9.9.9:7");
    let mut w = TestWorld::built(|s| s.spec.peers = vec![seed]);
    w.pass(0.0);
    let (p, _) = w.dials[0];
    w.dialed(p);
    greet(&mut w, p, 9, Some(4444));
    w.say(p, &[Message::HaveAll]);
    let a = speaker(&mut w, 1, Some(1001));
    w.pass(2.0);
    assert_eq!(
        told(&mut w, a),
        [vec![(seed, PEX_REACHABLE | PEX_SEED)]],
        "where we reached it, whatever it says"
    );
}

#[test]
fn later_messages_come_a_minute_apart_and_say_only_what_is_new() {
    let mut w = TestWorld::leech();
    let a = speaker(&mut w, 1, Some(1001));
    let b = speaker(&mut w, 2, Some(1002));
    w.pass(2.0);
    told(&mut w, a);
    for host in 3..9 {
        speaker(&mut w, host, Some(2000));
        w.pass(2.0);
    }
    w.lose(b);
    w.pass(40.0);
    assert_eq!(told(&mut w, a), Vec::<Vec<_>>::new(), "not yet");
    w.pass(20.0);
    let said = w.heard(a);
    let pex: Vec<_> = said
        .iter()
        .filter_map(|s| if let Received::Pex(payload) = s { Some(payload) } else { None })
        .collect();
    let [payload] = pex[..] else { panic!("{said:?}") };
    assert_eq!(PexMessage::parse(payload).unwrap().added().count(), 6);
    assert!(payload.windows(9).any(|w| w == b"7:dropped"), "and who is gone");
    w.pass(600.0);
    assert_eq!(told(&mut w, a), Vec::<Vec<_>>::new(), "nothing happens, nothing is said");
}

#[test]
fn whom_peers_name_is_dialed_and_counted_as_named() {
    let mut w = TestWorld::leech();
    let a = speaker(&mut w, 1, None);
    let named = addr("20.5.5.5:55");
    tell(&mut w, a, &[named], 0);
    w.pass(0.1);
    let (p, _) = *w.dials.iter().find(|(_, addr)| *addr == named).expect("it is dialed");
    w.dialed(p);
    w.send(p, &crate::engine::testing::handshake(55, true));
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().peers_by_origin[Origin::Pex.number()], 1);
}

#[test]
fn p18_what_a_stranger_cannot_know_is_not_believed() {
    let mut w = TestWorld::leech();
    let public = speaker(&mut w, 1, None);
    tell(
        &mut w,
        public,
        &[addr("192.168.1.1:80"), addr("127.0.0.1:80"), addr("20.1.1.1:0"), addr("20.1.1.2:7")],
        0,
    );
    assert_eq!(known(&w), 1);
    let local = w.connect_from(addr("192.168.1.9:5000"));
    greet(&mut w, local, 99, None);
    tell(&mut w, local, &[addr("192.168.1.1:80"), addr("192.168.1.1:81"), addr("127.0.0.1:80")], 0);
    assert_eq!(known(&w), 3, "behind one private address there may be two programs");
}

#[test]
fn p18_floods_count_a_few_times_and_one_host_once() {
    let mut w = TestWorld::leech();
    let a = speaker(&mut w, 1, None);
    let host = |n: u32| SocketAddr::from(([30, 0, (n / 250) as u8, (n % 250) as u8], 7));
    for message in 0..100u32 {
        let fifty: Vec<_> = (0..50).map(|n| host(message * 50 + n)).collect();
        tell(&mut w, a, &fifty, 0);
    }
    assert_eq!(known(&w), 50 * limits::PEX_ACCEPT_BURST as usize);
    w.pass(60.0);
    let before = known(&w);
    let ports: Vec<_> = (1..50).map(|port| SocketAddr::from(([31, 0, 0, 1], port))).collect();
    tell(&mut w, a, &ports, 0);
    assert_eq!(known(&w), before + 1);
}

#[test]
fn a_seed_does_not_look_for_seeds() {
    let mut w = TestWorld::seed();
    let a = speaker(&mut w, 1, None);
    tell(&mut w, a, &[addr("20.1.1.1:7")], PEX_SEED);
    tell(&mut w, a, &[addr("20.1.1.2:7")], 0);
    assert_eq!(known(&w), 1);
}

#[test]
fn t28_private_torrents_and_those_who_do_not_want_it_neither_tell_nor_believe() {
    for private in [true, false] {
        let mut w = TestWorld::built(|s| {
            s.config.pex = private;
            s.spec.torrent_info.as_mut().unwrap().private = private;
        });
        let a = speaker(&mut w, 1, Some(1001));
        speaker(&mut w, 2, Some(1002));
        tell(&mut w, a, &[addr("20.5.5.5:55")], 0);
        w.pass(120.0);
        assert_eq!((told(&mut w, a).len(), known(&w)), (0, 0), "private: {private}");
    }
}

#[test]
fn a_link_finds_peers_through_peers_before_it_knows_what_is_in_it() {
    let mut w = TestWorld::built(|s| s.spec.torrent_info = None);
    let a = speaker(&mut w, 1, None);
    tell(&mut w, a, &[addr("20.5.5.5:55")], 0);
    assert_eq!(known(&w), 1);
}
