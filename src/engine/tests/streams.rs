//! Framing, handshakes, and the messages about pieces (hazards P1 to P7, P11, P12, P15, P16).

use crate::engine::testing::{HASH, Received, TestWorld, block, handshake, header, raw};
use crate::engine::{DisconnectReason, ProtocolViolation, limits};
use crate::units::{Bitfield, Geometry, PeerId};
use crate::wire::testing::FIXED_LENGTHS;
use crate::wire::{FrameError, Handshake, MAX_BLOCK_LEN, Message};

fn frame_error(w: &TestWorld, p: crate::units::PeerKey) -> Option<FrameError> {
    match w.disconnect_reason(p) {
        Some(DisconnectReason::ProtocolViolation(ProtocolViolation::Frame(e))) => Some(e),
        _ => None,
    }
}

#[test]
fn p1_a_giant_length_prefix_ends_the_connection() {
    for len in [1024 * 1024 + 1, u32::MAX] {
        let mut w = TestWorld::leech();
        let p = w.peer(1);
        w.send(p, &len.to_be_bytes());
        assert_eq!(frame_error(&w, p), Some(FrameError::TooLong(len)));
    }
}

#[test]
fn p2_a_block_longer_than_any_request_ends_the_connection() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    w.send(p, &header(raw(0, 0, MAX_BLOCK_LEN + 1)));
    assert!(matches!(frame_error(&w, p), Some(FrameError::BadLength { id: 7, .. })));
}

#[test]
fn p3_a_wrong_length_of_a_fixed_size_message_ends_the_connection() {
    for (id, right) in FIXED_LENGTHS {
        for body in [right + 1, right + 100] {
            let mut w = TestWorld::leech();
            let p = w.peer(1);
            w.send(p, &[&(body + 1).to_be_bytes()[..], &[id]].concat());
            assert_eq!(frame_error(&w, p), Some(FrameError::BadLength { id, len: body }), "message {id}");
        }
    }
}

#[test]
fn p4_an_unknown_message_of_any_length_is_skipped() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    w.send(p, &[&70_001u32.to_be_bytes()[..], &[99], &[1; 70_000]].concat());
    w.serve_all(p);
    assert!(w.is_complete());
}

#[test]
fn p5_a_bitfield_of_the_wrong_length_ends_the_connection() {
    for bytes in [&[][..], &[0, 0], &[0xff; 100]] {
        let mut w = TestWorld::leech();
        let p = w.peer(1);
        w.send_messages(p, &[Message::Bitfield { bytes }]);
        assert!(matches!(frame_error(&w, p), Some(FrameError::Bitfield { expected: 1, .. })), "{bytes:?}");
    }
}

#[test]
fn p5_spare_bits_never_count_as_pieces() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.send_messages(p, &[Message::Bitfield { bytes: &[0x0f] }]);
    assert!(w.is_open(p));
    assert_eq!(w.received(p), [], "the set bits belong to no piece, so we are not interested");
}

#[test]
fn p5_a_late_bitfield_counts_whatever_came_before_it() {
    let first: [&[Message<'_>]; 6] = [
        &[],
        &[Message::Unchoke],
        &[Message::Interested, Message::Choke],
        &[Message::AllowedFast { piece: 0 }],
        &[Message::Have { piece: 1 }],
        &[Message::Have { piece: 2 }, Message::Have { piece: 0 }],
    ];
    for before in first {
        for all in [false, true] {
            let mut w = TestWorld::leech();
            let p = w.peer(1);
            w.send_messages(p, before);
            let set = if all { Message::HaveAll } else { Message::Bitfield { bytes: &[0xf0] } };
            w.send_messages(p, &[set, Message::Unchoke]);
            w.serve_all(p);
            assert!(w.is_complete(), "{before:?}, all {all}");
            // The pieces of the peer are counted once: with it they all go.
            w.disconnect(p);
            w.engine.audit();
        }
    }
}

#[test]
fn p5_a_second_bitfield_is_ignored() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.send_messages(
        p,
        &[Message::Bitfield { bytes: &[0] }, Message::Bitfield { bytes: &[0xf0] }, Message::HaveAll],
    );
    assert_eq!(w.received(p), []);
    let none = w.peer(2);
    w.send_messages(none, &[Message::HaveNone, Message::Bitfield { bytes: &[0xf0] }]);
    assert_eq!(w.received(none), []);
    w.disconnect(p);
    w.disconnect(none);
    // The ignored bitfields were not counted: only the piece of the third peer is requested.
    let q = w.peer(3);
    w.send_messages(q, &[Message::Bitfield { bytes: &[0x20] }, Message::Unchoke]);
    assert!(w.requests(q).iter().all(|r| r.piece == 2));
}

#[test]
fn p6_a_have_of_a_nonexistent_piece_ends_the_connection() {
    for piece in [4, u32::MAX] {
        let mut w = TestWorld::leech();
        let p = w.peer(1);
        w.send_messages(p, &[Message::Have { piece }]);
        assert_eq!(w.disconnect_reason(p), Some(ProtocolViolation::NoSuchPiece(piece).into()));
    }
}

#[test]
fn p6_a_repeated_have_counts_once() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    let q = w.peer(2);
    w.send_messages(p, &[Message::Have { piece: 1 }, Message::Have { piece: 1 }, Message::Have { piece: 1 }]);
    w.send_messages(q, &[Message::Have { piece: 1 }]);
    w.disconnect(p);
    w.send_messages(q, &[Message::Unchoke]);
    w.serve_all(q);
    assert_eq!(w.have(), [1]);
    assert!(!w.engine.swarms.connections.get(q).unwrap().peer.source.we_want, "we are no longer interested");
}

#[test]
fn p7_fast_messages_without_negotiation_end_the_connection() {
    let messages = [
        Message::HaveAll,
        Message::HaveNone,
        Message::Suggest { piece: 0 },
        Message::AllowedFast { piece: 0 },
        Message::Reject(block(0, 0)),
    ];
    for m in messages {
        let mut w = TestWorld::leech();
        let p = w.peer_without_fast(1);
        w.send_messages(p, &[m]);
        assert_eq!(w.disconnect_reason(p), Some(ProtocolViolation::NotFast.into()), "{m:?}");
    }
}

#[test]
fn p7_no_fast_message_is_sent_without_negotiation() {
    let mut w = TestWorld::seed();
    let p = w.connect(1);
    w.send(p, &handshake(1, false));
    w.send_messages(p, &[Message::Interested, Message::Request(raw(9, 0, 1)), Message::NotInterested]);
    let received = w.received(p);
    assert!(received.contains(&Received::Bitfield(vec![0xf0])));
    let fast = |s: &Received| {
        matches!(s, Received::Reject(_) | Received::AllowedFast(_) | Received::Simple("HaveAll" | "HaveNone"))
    };
    assert!(!received.iter().any(fast), "{received:?}");
}

#[test]
fn p11_nothing_is_sent_in_response_to_an_invalid_handshake() {
    let other = Handshake {
        info_hash: crate::units::InfoHash([8; 20]),
        peer_id: PeerId([1; 20]),
        fast: true,
        extended: true,
        dht: false,
    };
    let pstrlen = |n: u8| [&[n][..], &[b'x'; 80]].concat();
    let mut interested = Vec::new();
    Message::Interested.write(&mut interested);
    for (garbage, reason) in [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), None),
        (pstrlen(0), None),
        (pstrlen(255), None),
        (interested, None),
        (vec![0x13; 68], None),
        (other.to_bytes().to_vec(), Some(DisconnectReason::UnknownTorrent)),
    ] {
        let mut w = TestWorld::seed();
        let p = w.connect(1);
        w.send(p, &garbage);
        let expected = reason.unwrap_or(ProtocolViolation::Frame(FrameError::NotHandshake).into());
        assert_eq!(w.disconnect_reason(p), Some(expected), "{garbage:?}");
        assert!(w.puppets[&p].from_engine.is_empty(), "no byte is sent");
        assert_eq!(w.engine.connections(), 0);
    }
}

#[test]
fn p11_a_handshake_for_a_paused_torrent_gets_no_response() {
    let mut w = TestWorld::seed();
    w.engine.pause(w.now, w.torrent, &mut w.out);
    let p = w.connect(1);
    w.send(p, &handshake(1, true));
    assert_eq!(w.disconnect_reason(p), Some(DisconnectReason::UnknownTorrent));
    assert!(w.puppets[&p].from_engine.is_empty());
}

#[test]
fn p12_an_incomplete_handshake_ends_the_connection_after_ten_seconds() {
    let mut w = TestWorld::seed();
    let p = w.connect(1);
    for byte in &handshake(1, true)[..60] {
        w.send(p, &[*byte]);
        w.advance(0.15);
    }
    assert!(w.is_open(p));
    w.advance(1.1);
    assert!(!w.is_open(p), "ten seconds after the connection, not after the last byte");
}

#[test]
fn p12_a_silent_connection_ends_after_two_minutes() {
    let mut w = TestWorld::leech();
    let silent = w.unchoking_seed(1);
    let alive = w.peer(2);
    w.send_messages(alive, &[Message::Interested]);
    for _ in 0..4 {
        w.advance(29.0);
        w.send_messages(alive, &[Message::KeepAlive]);
    }
    assert!(w.is_open(silent));
    w.advance(5.0);
    assert!(!w.is_open(silent) && w.is_open(alive));
}

#[test]
fn p12_keep_alives_are_sent() {
    let mut w = TestWorld::seed();
    let p = w.peer(1);
    w.send_messages(p, &[Message::Bitfield { bytes: &[0] }]);
    for _ in 0..5 {
        w.send_messages(p, &[Message::KeepAlive]);
        w.advance(60.0);
    }
    assert!(w.is_open(p));
    let alive = w.received(p).iter().filter(|s| **s == Received::Simple("KeepAlive")).count();
    assert!((2..=4).contains(&alive), "{alive} keep-alives in five minutes");
}

#[test]
fn p15_floods_of_small_messages_leave_bounded_state() {
    let mut w = TestWorld::seed();
    let p = w.peer(1);
    let flood: Vec<Message<'_>> = (0..20_000)
        .map(|i| {
            [
                Message::KeepAlive,
                Message::AllowedFast { piece: i % 4 },
                Message::Suggest { piece: i % 4 },
                Message::Have { piece: 1 },
            ][i as usize % 4]
        })
        .collect();
    w.send_messages(p, &flood);
    assert!(w.is_open(p));
    let peer = &w.engine.swarms.connections.get(p).unwrap().peer;
    assert!(
        peer.source.fast_to_us.len() <= limits::ALLOWED_FAST_REMEMBERED
            && peer.source.suggested.len() <= limits::SUGGESTED_PIECES
    );
    assert_eq!(peer.wire.encoder.control_bytes(), 0);
}

#[test]
fn p15_repeated_changes_of_interest_are_answered_at_most_once_each() {
    let mut w = TestWorld::seed();
    let p = w.peer(1);
    for _ in 0..1000 {
        w.send_messages(p, &[Message::Interested, Message::NotInterested]);
    }
    assert!(w.is_open(p) && w.received(p).len() <= 2000 && w.engine.context.effects.is_empty());
}

#[test]
fn p16_invalid_extension_handshakes_are_ignored_and_numbers_clamped() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    let deep = [b"d1:m".to_vec(), vec![b'l'; 30_000]].concat();
    for payload in
        [&b"garbage"[..], b"d", b"", &deep, b"d4:reqqi-5ee", b"d1:md6:ut_pexi300e11:ut_metadatai-1eee"]
    {
        w.send_messages(p, &[Message::Extended { id: 0, payload }, Message::Extended { id: 77, payload }]);
    }
    w.send_messages(
        p,
        &[Message::Extended { id: 0, payload: b"d4:reqqi0ee" }, Message::HaveAll, Message::Unchoke],
    );
    assert!(w.is_open(p));
    assert_eq!(w.requests(p).len(), 1, "a queue length of 0 counts as 1");
}

#[test]
fn p16_an_extension_message_without_an_id_ends_the_connection() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.send(p, &[0, 0, 0, 1, 20]);
    assert!(matches!(frame_error(&w, p), Some(FrameError::BadLength { id: 20, .. })));
}

#[test]
fn a_bitfield_after_the_extension_handshake_is_accepted() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    let has = Bitfield::full(4);
    w.send_messages(
        p,
        &[Message::Extended { id: 0, payload: b"de" }, Message::Bitfield { bytes: has.as_bytes() }],
    );
    assert_eq!(w.received(p), [Received::Simple("Interested")]);
}

#[test]
fn the_greeting_is_the_handshake_and_the_pieces() {
    let mut w = TestWorld::with_setup(|s| s.have = Bitfield::from_wire(&[0x50], 4).unwrap());
    let p = w.connect_with_handshake(1);
    let received = w.received(p);
    assert_eq!(received[..2], [Received::Handshake, Received::Bitfield(vec![0x50])]);
    assert!(received[2..].iter().all(|s| matches!(s, Received::AllowedFast(1 | 3))), "{received:?}");
    let g = Geometry::new(1, 1).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let p = w.connect_with_handshake(1);
    assert_eq!(w.received(p), [Received::Handshake, Received::Simple("HaveNone")]);
    assert_eq!(HASH, w.engine.swarms.torrents.get(w.torrent).unwrap().info_hash);
}
