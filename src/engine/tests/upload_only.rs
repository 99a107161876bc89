//! Changes during a connection: upload-only peers (BEP 21) and lost pieces (BEP 54).

use crate::engine::testing::{HASH, PIECE_LEN, Received, TestWorld, block};
use crate::engine::{Action, DisconnectReason, Notice, ProtocolViolation, TorrentInfo, limits};
use crate::units::{Bitfield, Geometry, PeerId, PeerKey};
use crate::wire::{ExtendedHandshake, ExtensionIds, Handshake, Message, write_dont_have};
use proptest::prelude::*;

/// Connects a peer with the extension protocol.
fn extended_peer(w: &mut TestWorld, host: u8) -> PeerKey {
    let p = w.connect(host);
    w.send(
        p,
        &Handshake { info_hash: HASH, peer_id: PeerId([host; 20]), fast: true, extended: true, dht: false }
            .to_bytes(),
    );
    p
}

fn receive_upload_only(w: &mut TestWorld, p: PeerKey, flag: bool) {
    let handshake = ExtendedHandshake { upload_only: Some(flag), ..ExtendedHandshake::default() }.encode();
    w.send_messages(p, &[Message::Extended { id: 0, payload: &handshake }]);
}

fn receive_dont_have(w: &mut TestWorld, p: PeerKey, piece: u32) {
    w.send_messages(
        p,
        &[Message::Extended { id: ExtensionIds::OURS.lt_donthave, payload: &write_dont_have(piece) }],
    );
}

/// Returns the engine's extension handshakes since the last call.
fn extended_handshakes(w: &mut TestWorld, p: PeerKey) -> Vec<ExtendedHandshake> {
    let of = |message: Received| {
        if let Received::ExtendedHandshake(payload) = message {
            ExtendedHandshake::parse(&payload).ok()
        } else {
            None
        }
    };
    w.received(p).into_iter().filter_map(of).collect()
}

fn sent_upload_only(w: &mut TestWorld, p: PeerKey) -> Vec<Option<bool>> {
    extended_handshakes(w, p).into_iter().map(|h| h.upload_only).collect()
}

fn bits(bits: u8) -> Bitfield {
    Bitfield::from_wire(&[bits], 4).unwrap()
}

/// Creates a world in which two pieces are wanted, which are all present or all missing.
fn partial(complete: bool) -> TestWorld {
    TestWorld::with_setup(|s| {
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

/// Does what the session does with metadata: parses it and opens the files.
fn open_with_metadata(w: &mut TestWorld, have: Bitfield) {
    w.engine.on_metadata(w.now, w.torrent, shape(), &mut w.out);
    w.engine.on_opened(w.now, w.torrent, have, &mut w.out);
    w.run_actions();
}

// ---- BEP 21 -----------------------------------------------------------------------------------------------

#[test]
fn upload_only_is_sent_in_the_handshake_and_on_change() {
    let mut w = partial(false);
    let p = extended_peer(&mut w, 1);
    assert_eq!(sent_upload_only(&mut w, p), [Some(false)]);
    let s = w.unchoking_seed(2);
    w.serve_one(s);
    assert_eq!(sent_upload_only(&mut w, p), [], "no change yet");
    w.serve_all(s);
    assert_eq!(w.have(), [0, 1]);
    assert_eq!(sent_upload_only(&mut w, p), [Some(true)]);
    let late = extended_peer(&mut w, 3);
    assert_eq!(sent_upload_only(&mut w, late), [Some(true)]);
    w.advance(60.0);
    assert_eq!(sent_upload_only(&mut w, p), [], "each change is sent once");
}

#[test]
fn upload_only_is_not_sent_to_peers_without_the_extension_protocol() {
    let mut w = partial(false);
    let p = w.peer(1);
    let s = w.unchoking_seed(2);
    w.serve_all(s);
    assert_eq!((w.have(), extended_handshakes(&mut w, p)), (vec![0, 1], vec![]));
}

#[test]
fn two_upload_only_peers_disconnect_whichever_becomes_upload_only_last() {
    let mut w = partial(true);
    let p = extended_peer(&mut w, 1);
    w.send_messages(p, &[Message::Bitfield { bytes: &[0b0011_0000] }]);
    assert!(w.is_open(p), "the peer has not sent upload-only");
    receive_upload_only(&mut w, p, true);
    assert_eq!(w.disconnect_reason(p), Some(DisconnectReason::Uninteresting));
    let seed = extended_peer(&mut w, 2);
    w.send_messages(seed, &[Message::HaveAll]);
    assert_eq!(
        w.disconnect_reason(seed),
        Some(DisconnectReason::Uninteresting),
        "a seed cannot use an upload-only peer"
    );

    let mut w = partial(false);
    let p = extended_peer(&mut w, 1);
    w.send_messages(p, &[Message::Bitfield { bytes: &[0b0011_0000] }]);
    receive_upload_only(&mut w, p, true);
    let interested_again = extended_peer(&mut w, 2);
    receive_upload_only(&mut w, interested_again, true);
    receive_upload_only(&mut w, interested_again, false);
    let s = w.unchoking_seed(3);
    assert!(w.is_open(p));
    w.serve_all(s);
    assert!(!w.is_open(p) && !w.is_open(s) && w.is_open(interested_again));
    assert!(w.log.iter().any(|a| matches!(a, Action::Notice(Notice::Complete { .. }))));
}

#[test]
fn an_upload_only_peer_is_no_seed_and_serves_us() {
    let mut w = TestWorld::leech();
    let p = extended_peer(&mut w, 1);
    w.send_messages(p, &[Message::Bitfield { bytes: &[0b1010_0000] }]);
    receive_upload_only(&mut w, p, true);
    let stats = w.engine.stats(w.now, w.torrent).unwrap();
    assert_eq!((stats.peers, stats.seeds), (1, 0));
    w.send_messages(p, &[Message::Unchoke]);
    w.serve_all(p);
    assert_eq!(w.have(), [0, 2]);
    assert!(w.is_open(p));
}

#[test]
fn a_magnet_link_with_complete_content_sends_upload_only_after_the_metadata() {
    let mut w = TestWorld::with_setup(|s| s.spec.torrent_info = None);
    let p = extended_peer(&mut w, 1);
    let seed = extended_peer(&mut w, 2);
    receive_upload_only(&mut w, seed, true);
    assert_eq!(sent_upload_only(&mut w, p), [Some(false)], "the metadata is unknown");
    open_with_metadata(&mut w, Bitfield::full(4));
    assert_eq!(sent_upload_only(&mut w, p), [Some(true)]);
    assert!(!w.is_open(seed));
}

// ---- BEP 54 -----------------------------------------------------------------------------------------------

#[test]
fn dont_have_moves_the_requests_of_the_piece_to_other_peers() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    let piece = w.requests(p)[0].piece;
    let q = w.peer(2);
    w.send_messages(q, &[Message::HaveAll, Message::Unchoke]);
    assert!(w.requests(q).iter().all(|r| r.piece != piece), "the first peer is asked for it already");
    w.puppets.get_mut(&p).unwrap().requests.clear();
    receive_dont_have(&mut w, p, piece);
    while w.serve_one(q) {}
    assert!(w.have().contains(&piece));
    assert!(w.requests(p).iter().all(|r| r.piece != piece));
    let piece_index = w.piece(piece);
    assert!(!w.engine.swarms.connections.get(p).unwrap().peer.source.has.has(piece_index) && w.is_open(p));
}

#[test]
fn late_blocks_and_rejects_after_dont_have_are_accepted() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    let requested = w.requests(p);
    receive_dont_have(&mut w, p, requested[0].piece);
    w.send_messages(p, &[Message::Reject(requested[0])]);
    w.send_block(p, requested[1]);
    assert!(w.is_open(p));
    w.engine.audit();
}

#[test]
fn dont_have_of_all_pieces_ends_our_interest_and_the_seed_state() {
    let mut w = TestWorld::leech();
    let p = extended_peer(&mut w, 1);
    w.send_messages(p, &[Message::HaveAll]);
    w.received(p);
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().seeds, 1);
    (0..4).for_each(|piece| receive_dont_have(&mut w, p, piece));
    assert_eq!(w.received(p), [Received::Simple("NotInterested")]);
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().seeds, 0);
    w.send_messages(p, &[Message::Have { piece: 2 }]);
    assert_eq!(w.received(p), [Received::Simple("Interested")]);
    w.disconnect(p);
}

#[test]
fn dont_have_of_a_missing_piece_is_ignored() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    (0..1000).for_each(|n| receive_dont_have(&mut w, p, n % 4));
    w.send_messages(p, &[Message::Extended { id: ExtensionIds::OURS.lt_donthave, payload: b"\0\0\0\0\0" }]);
    assert!(w.is_open(p) && w.received(p).is_empty());
}

#[test]
fn dont_have_of_a_nonexistent_piece_ends_the_connection() {
    for piece in [4, u32::MAX] {
        let mut w = TestWorld::leech();
        let p = w.unchoking_seed(1);
        receive_dont_have(&mut w, p, piece);
        assert_eq!(
            w.disconnect_reason(p),
            Some(DisconnectReason::ProtocolViolation(ProtocolViolation::NoSuchPiece(piece)))
        );
    }
}

#[test]
fn dont_have_before_the_metadata_is_applied() {
    let mut w = TestWorld::with_setup(|s| s.spec.torrent_info = None);
    let p = extended_peer(&mut w, 1);
    let q = extended_peer(&mut w, 2);
    let r = extended_peer(&mut w, 3);
    w.send_messages(p, &[Message::HaveAll]);
    receive_dont_have(&mut w, p, 1);
    w.send_messages(q, &[Message::HaveNone, Message::Have { piece: 1 }, Message::Have { piece: 2 }]);
    receive_dont_have(&mut w, q, 1);
    receive_dont_have(&mut w, q, 3);
    w.send_messages(q, &[Message::Have { piece: 3 }]);
    w.send_messages(r, &[Message::HaveAll]);
    (0..2 * limits::DEFERRED_HAVES as u32).for_each(|piece| receive_dont_have(&mut w, r, piece));
    open_with_metadata(&mut w, Bitfield::empty(4));
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
    assert_eq!(w.disconnect_reason(r), None);
    assert!(w.is_open(p) && w.is_open(q) && !w.is_open(r), "these pieces do not exist");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// The world audits the engine after every step.
    #[test]
    fn counters_stay_consistent_under_random_messages(
        steps in proptest::collection::vec((0u8..3, 0u8..9, 0u32..4), 1..60),
        seeds in any::<u8>(),
    ) {
        let mut w = TestWorld::leech();
        let peers: Vec<PeerKey> = (0..3).map(|n| {
            let p = extended_peer(&mut w, n + 1);
            let first = if seeds >> n & 1 == 1 { Message::HaveAll } else { Message::Bitfield { bytes: &[0b1110_0000] } };
            w.send_messages(p, &[first, Message::Unchoke]);
            p
        }).collect();
        for (p, what, piece) in steps {
            let p = peers[usize::from(p)];
            if !w.is_open(p) {
                continue;
            }
            match what {
                0..=2 => receive_dont_have(&mut w, p, piece),
                3 => w.send_messages(p, &[Message::Have { piece }]),
                4 => w.send_messages(p, &[Message::Choke]),
                5 => w.send_messages(p, &[Message::Unchoke]),
                6 => receive_upload_only(&mut w, p, piece % 2 == 0),
                7 if piece == 0 => w.disconnect(p),
                7 => w.send_block(p, block(piece, 1)),
                _ => {
                    w.serve_one(p);
                }
            }
        }
        for p in peers.into_iter().filter(|p| w.is_open(*p)).collect::<Vec<_>>() {
            w.disconnect(p);
        }
    }
}
