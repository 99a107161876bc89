//! What changes while a connection lasts: who wants nothing any more (BEP 21), and pieces that are gone again
//! (BEP 54).

use crate::engine::testing::{HASH, PIECE_LEN, Received, TestWorld, block};
use crate::engine::{Action, DisconnectReason, Notice, ProtocolViolation, TorrentInfo, limits};
use crate::units::{Bitfield, Geometry, PeerId, PeerKey};
use crate::wire::{ExtendedHandshake, ExtensionIds, Handshake, Message, write_dont_have};
use proptest::prelude::*;

/// A peer that speaks the extension protocol.
fn speaker(w: &mut TestWorld, host: u8) -> PeerKey {
    let p = w.connect(host);
    w.send(
        p,
        &Handshake { info_hash: HASH, peer_id: PeerId([host; 20]), fast: true, extended: true, dht: false }
            .to_bytes(),
    );
    p
}

fn says_upload_only(w: &mut TestWorld, p: PeerKey, flag: bool) {
    let hello = ExtendedHandshake { upload_only: Some(flag), ..ExtendedHandshake::default() }.encode();
    w.say(p, &[Message::Extended { id: 0, payload: &hello }]);
}

fn dont_have(w: &mut TestWorld, p: PeerKey, piece: u32) {
    w.say(p, &[Message::Extended { id: ExtensionIds::OURS.lt_donthave, payload: &write_dont_have(piece) }]);
}

/// What we said in extension handshakes since the peer last listened.
fn hellos(w: &mut TestWorld, p: PeerKey) -> Vec<ExtendedHandshake> {
    let of = |said: Received| {
        if let Received::Hello(payload) = said { ExtendedHandshake::parse(&payload).ok() } else { None }
    };
    w.heard(p).into_iter().filter_map(of).collect()
}

fn sent_upload_only(w: &mut TestWorld, p: PeerKey) -> Vec<Option<bool>> {
    hellos(w, p).into_iter().map(|h| h.upload_only).collect()
}

fn bits(bits: u8) -> Bitfield {
    Bitfield::from_wire(&[bits], 4).unwrap()
}

/// Two pieces are wanted; they are here already, or none is.
fn partial(complete: bool) -> TestWorld {
    TestWorld::built(|s| {
        s.spec.torrent_info.as_mut().unwrap().wanted = bits(0b1100_0000);
        if complete {
            s.have = bits(0b1100_0000);
        }
    })
}

fn shape() -> TorrentInfo {
    TorrentInfo {
        geometry: Geometry::new(4 * PIECE_LEN, PIECE_LEN).unwrap(),
        wanted: Bitfield::full(4),
        private: false,
        info: None,
    }
}

/// What the session does with metadata that came: it is read, and the disk is looked at.
fn understand(w: &mut TestWorld, have: Bitfield) {
    w.engine.on_metadata(w.now, w.torrent, shape(), &mut w.out);
    w.engine.on_opened(w.now, w.torrent, have, &mut w.out);
    w.turn();
}

/// Closed, though not for what it just said.
fn was_let_go(w: &TestWorld, p: PeerKey) -> bool {
    !w.is_open(p)
}

// ---- BEP 21 ---------------------------------------------------------------------------------------------------------

#[test]
fn the_handshake_says_whether_we_want_anything_and_again_when_that_changes() {
    let mut w = partial(false);
    let p = speaker(&mut w, 1);
    assert_eq!(sent_upload_only(&mut w, p), [Some(false)]);
    let s = w.server(2);
    w.serve_one(s);
    assert_eq!(sent_upload_only(&mut w, p), [], "nothing has changed yet");
    w.serve_all(s);
    assert_eq!(w.have(), [0, 1]);
    assert_eq!(sent_upload_only(&mut w, p), [Some(true)]);
    let late = speaker(&mut w, 3);
    assert_eq!(sent_upload_only(&mut w, late), [Some(true)]);
    w.pass(60.0);
    assert_eq!(sent_upload_only(&mut w, p), [], "once is enough");
}

#[test]
fn who_does_not_speak_the_extension_protocol_is_not_told() {
    let mut w = partial(false);
    let p = w.peer(1);
    let s = w.server(2);
    w.serve_all(s);
    assert_eq!((w.have(), hellos(&mut w, p)), (vec![0, 1], vec![]));
}

#[test]
fn two_who_want_nothing_part_whichever_of_them_comes_to_it_last() {
    let mut w = partial(true);
    let p = speaker(&mut w, 1);
    w.say(p, &[Message::Bitfield { bytes: &[0b0011_0000] }]);
    assert!(w.is_open(p), "it has not said that it wants nothing");
    says_upload_only(&mut w, p, true);
    assert_eq!(w.why(p), Some(DisconnectReason::Uninteresting));
    let seed = speaker(&mut w, 2);
    w.say(seed, &[Message::HaveAll]);
    assert_eq!(
        w.why(seed),
        Some(DisconnectReason::Uninteresting),
        "a seed wants nothing of us, and we nothing of it"
    );

    let mut w = partial(false);
    let p = speaker(&mut w, 1);
    w.say(p, &[Message::Bitfield { bytes: &[0b0011_0000] }]);
    says_upload_only(&mut w, p, true);
    let changed_its_mind = speaker(&mut w, 2);
    says_upload_only(&mut w, changed_its_mind, true);
    says_upload_only(&mut w, changed_its_mind, false);
    let s = w.server(3);
    assert!(w.is_open(p));
    w.serve_all(s);
    assert!(was_let_go(&w, p) && was_let_go(&w, s) && w.is_open(changed_its_mind));
    assert!(w.log.iter().any(|a| matches!(a, Action::Notice(Notice::Complete { .. }))));
}

#[test]
fn who_wants_nothing_may_have_what_we_want_and_is_no_seed_for_that() {
    let mut w = TestWorld::leech();
    let p = speaker(&mut w, 1);
    w.say(p, &[Message::Bitfield { bytes: &[0b1010_0000] }]);
    says_upload_only(&mut w, p, true);
    let stats = w.engine.stats(w.now, w.torrent).unwrap();
    assert_eq!((stats.peers, stats.seeds), (1, 0));
    w.say(p, &[Message::Unchoke]);
    w.serve_all(p);
    assert_eq!(w.have(), [0, 2]);
    assert!(w.is_open(p));
}

#[test]
fn a_link_whose_content_is_here_already_says_so_when_it_knows_what_it_is() {
    let mut w = TestWorld::built(|s| s.spec.torrent_info = None);
    let (p, seed) = (speaker(&mut w, 1), speaker(&mut w, 2));
    says_upload_only(&mut w, seed, true);
    assert_eq!(sent_upload_only(&mut w, p), [Some(false)], "the pieces are not known yet");
    understand(&mut w, Bitfield::full(4));
    assert_eq!(sent_upload_only(&mut w, p), [Some(true)]);
    assert!(was_let_go(&w, seed));
}

// ---- BEP 54 ---------------------------------------------------------------------------------------------------------

#[test]
fn a_piece_that_is_gone_is_not_asked_of_that_peer_and_what_it_owed_of_it_is_asked_of_others() {
    let mut w = TestWorld::leech();
    let p = w.server(1);
    let piece = w.requests(p)[0].piece;
    let q = w.peer(2);
    w.say(q, &[Message::HaveAll, Message::Unchoke]);
    assert!(w.requests(q).iter().all(|r| r.piece != piece), "it is asked of the first already");
    w.puppets.get_mut(&p).unwrap().requests.clear();
    dont_have(&mut w, p, piece);
    while w.serve_one(q) {}
    assert!(w.have().contains(&piece));
    assert!(w.requests(p).iter().all(|r| r.piece != piece));
    let gone = w.piece(piece);
    assert!(!w.engine.swarms.connections.get(p).unwrap().peer.source.has.has(gone) && w.is_open(p));
}

#[test]
fn a_late_answer_for_a_piece_that_is_gone_is_taken_and_a_reject_is_heard_without_harm() {
    let mut w = TestWorld::leech();
    let p = w.server(1);
    let asked = w.requests(p);
    dont_have(&mut w, p, asked[0].piece);
    w.say(p, &[Message::Reject(asked[0])]);
    w.send_block(p, asked[1]);
    assert!(w.is_open(p));
    w.engine.audit();
}

#[test]
fn a_peer_that_lost_all_that_we_want_is_not_wanted_any_more_and_no_seed() {
    let mut w = TestWorld::leech();
    let p = speaker(&mut w, 1);
    w.say(p, &[Message::HaveAll]);
    w.heard(p);
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().seeds, 1);
    (0..4).for_each(|piece| dont_have(&mut w, p, piece));
    assert_eq!(w.heard(p), [Received::Word("NotInterested")]);
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().seeds, 0);
    w.say(p, &[Message::Have { piece: 2 }]);
    assert_eq!(w.heard(p), [Received::Word("Interested")]);
    w.lose(p);
}

#[test]
fn a_piece_that_a_peer_never_had_may_be_gone_as_often_as_it_likes() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    (0..1000).for_each(|n| dont_have(&mut w, p, n % 4));
    w.say(p, &[Message::Extended { id: ExtensionIds::OURS.lt_donthave, payload: b"\0\0\0\0\0" }]);
    assert!(w.is_open(p) && w.heard(p).is_empty());
}

#[test]
fn a_piece_that_does_not_exist_cannot_be_gone() {
    for piece in [4, u32::MAX] {
        let mut w = TestWorld::leech();
        let p = w.server(1);
        dont_have(&mut w, p, piece);
        assert_eq!(
            w.why(p),
            Some(DisconnectReason::ProtocolViolation(ProtocolViolation::NoSuchPiece(piece)))
        );
    }
}

#[test]
fn what_was_gone_before_the_shape_was_known_is_not_believed_to_be_there() {
    let mut w = TestWorld::built(|s| s.spec.torrent_info = None);
    let (p, q, r) = (speaker(&mut w, 1), speaker(&mut w, 2), speaker(&mut w, 3));
    w.say(p, &[Message::HaveAll]);
    dont_have(&mut w, p, 1);
    w.say(q, &[Message::HaveNone, Message::Have { piece: 1 }, Message::Have { piece: 2 }]);
    dont_have(&mut w, q, 1);
    dont_have(&mut w, q, 3);
    w.say(q, &[Message::Have { piece: 3 }]);
    w.say(r, &[Message::HaveAll]);
    (0..2 * limits::DEFERRED_HAVES as u32).for_each(|piece| dont_have(&mut w, r, piece));
    understand(&mut w, Bitfield::empty(4));
    let has = |w: &TestWorld, p| {
        w.engine
            .swarms
            .connections
            .get(p)
            .unwrap()
            .peer
            .source
            .has
            .iter()
            .map(|p| p.get())
            .collect::<Vec<_>>()
    };
    assert_eq!((has(&w, p), has(&w, q)), (vec![0, 2, 3], vec![2, 3]));
    assert_eq!(w.why(r), None);
    assert!(w.is_open(p) && w.is_open(q) && was_let_go(&w, r), "no torrent has so many pieces");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// The world counts everything anew after every step.
    #[test]
    fn whatever_comes_and_goes_the_books_are_exact(
        steps in proptest::collection::vec((0u8..3, 0u8..9, 0u32..4), 1..60),
        seeds in any::<u8>(),
    ) {
        let mut w = TestWorld::leech();
        let peers: Vec<PeerKey> = (0..3).map(|n| {
            let p = speaker(&mut w, n + 1);
            let first = if seeds >> n & 1 == 1 { Message::HaveAll } else { Message::Bitfield { bytes: &[0b1110_0000] } };
            w.say(p, &[first, Message::Unchoke]);
            p
        }).collect();
        for (p, what, piece) in steps {
            let p = peers[usize::from(p)];
            if !w.is_open(p) {
                continue;
            }
            match what {
                0..=2 => dont_have(&mut w, p, piece),
                3 => w.say(p, &[Message::Have { piece }]),
                4 => w.say(p, &[Message::Choke]),
                5 => w.say(p, &[Message::Unchoke]),
                6 => says_upload_only(&mut w, p, piece % 2 == 0),
                7 if piece == 0 => w.lose(p),
                7 => w.send_block(p, block(piece, 1)),
                _ => drop(w.serve_one(p)),
            }
        }
        for p in peers.into_iter().filter(|p| w.is_open(*p)).collect::<Vec<_>>() {
            w.lose(p);
        }
    }
}
