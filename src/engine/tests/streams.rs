//! Framing, handshakes and the messages that say who has what: P1–P7, P11, P12, P15, P16.

use crate::engine::testing::{HASH, Received, TestWorld, block, handshake, header, raw};
use crate::engine::{DisconnectReason, ProtocolViolation, limits};
use crate::units::{Bitfield, Geometry, PeerId};
use crate::wire::{FrameError, Handshake, MAX_BLOCK_LEN, Message};

fn frame_error(w: &TestWorld, p: crate::units::PeerKey) -> Option<FrameError> {
    match w.why(p) {
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
    let p = w.server(1);
    w.send(p, &header(raw(0, 0, MAX_BLOCK_LEN + 1)));
    assert!(matches!(frame_error(&w, p), Some(FrameError::BadLength { id: 7, .. })));
}

#[test]
fn p3_fixed_messages_of_another_length_end_the_connection() {
    for (id, right) in [
        (0u8, 0u32),
        (1, 0),
        (2, 0),
        (3, 0),
        (4, 4),
        (6, 12),
        (8, 12),
        (9, 2),
        (13, 4),
        (14, 0),
        (15, 0),
        (16, 12),
        (17, 4),
    ] {
        for body in [right + 1, right + 100] {
            let mut w = TestWorld::leech();
            let p = w.peer(1);
            w.send(p, &[&(body + 1).to_be_bytes()[..], &[id]].concat());
            assert_eq!(frame_error(&w, p), Some(FrameError::BadLength { id, len: body }), "message {id}");
        }
    }
}

#[test]
fn p4_an_unknown_message_is_passed_over_however_long() {
    let mut w = TestWorld::leech();
    let p = w.server(1);
    w.send(p, &[&70_001u32.to_be_bytes()[..], &[99], &[1; 70_000]].concat());
    w.serve_all(p);
    assert!(w.is_complete());
}

#[test]
fn p5_a_bitfield_of_another_length_ends_the_connection() {
    for bytes in [&[][..], &[0, 0], &[0xff; 100]] {
        let mut w = TestWorld::leech();
        let p = w.peer(1);
        w.say(p, &[Message::Bitfield { bytes }]);
        assert!(matches!(frame_error(&w, p), Some(FrameError::Bitfield { expected: 1, .. })), "{bytes:?}");
    }
}

#[test]
fn p5_spare_bits_never_count_as_pieces() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.say(p, &[Message::Bitfield { bytes: &[0x0f] }]);
    assert!(w.is_open(p));
    assert_eq!(w.heard(p), [], "nothing of what it has exists, so we want nothing");
}

#[test]
fn p5_a_second_or_late_bitfield_is_not_believed() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.say(p, &[Message::Bitfield { bytes: &[0] }, Message::Bitfield { bytes: &[0xf0] }, Message::HaveAll]);
    assert_eq!(w.heard(p), []);
    let late = w.peer(2);
    w.say(late, &[Message::Unchoke, Message::Bitfield { bytes: &[0xf0] }]);
    assert_eq!(w.heard(late), []);
    w.lose(p);
    w.lose(late);
    // What they claimed was not counted: a peer with one piece makes exactly that one be asked for.
    let q = w.peer(3);
    w.say(q, &[Message::Bitfield { bytes: &[0x20] }, Message::Unchoke]);
    assert!(w.requests(q).iter().all(|r| r.piece == 2));
}

#[test]
fn p6_a_have_of_no_piece_ends_the_connection() {
    for piece in [4, u32::MAX] {
        let mut w = TestWorld::leech();
        let p = w.peer(1);
        w.say(p, &[Message::Have { piece }]);
        assert_eq!(w.why(p), Some(ProtocolViolation::NoSuchPiece(piece).into()));
    }
}

#[test]
fn p6_the_same_have_twice_counts_once() {
    let mut w = TestWorld::leech();
    let (p, q) = (w.peer(1), w.peer(2));
    w.say(p, &[Message::Have { piece: 1 }, Message::Have { piece: 1 }, Message::Have { piece: 1 }]);
    w.say(q, &[Message::Have { piece: 1 }]);
    w.lose(p);
    w.say(q, &[Message::Unchoke]);
    w.serve_all(q);
    assert_eq!(w.have(), [1]);
    assert!(
        !w.engine.swarms.connections.get(q).unwrap().peer.source.we_want,
        "nothing of it is wanted_pieces any more"
    );
}

#[test]
fn p7_messages_of_the_fast_extension_without_agreement_end_the_connection() {
    let messages = [
        Message::HaveAll,
        Message::HaveNone,
        Message::Suggest { piece: 0 },
        Message::AllowedFast { piece: 0 },
        Message::Reject(block(0, 0)),
    ];
    for m in messages {
        let mut w = TestWorld::leech();
        let p = w.plain_peer(1);
        w.say(p, &[m]);
        assert_eq!(w.why(p), Some(ProtocolViolation::NotFast.into()), "{m:?}");
    }
}

#[test]
fn p7_without_agreement_we_say_nothing_of_the_fast_extension_either() {
    let mut w = TestWorld::seed();
    let p = w.connect(1);
    w.send(p, &handshake(1, false));
    w.say(p, &[Message::Interested, Message::Request(raw(9, 0, 1)), Message::NotInterested]);
    let heard = w.heard(p);
    assert!(heard.contains(&Received::Bitfield(vec![0xf0])));
    let fast = |s: &Received| {
        matches!(s, Received::Reject(_) | Received::AllowedFast(_) | Received::Word("HaveAll" | "HaveNone"))
    };
    assert!(!heard.iter().any(fast), "{heard:?}");
}

#[test]
fn p11_garbage_is_answered_with_silence() {
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
    for (garbage, why) in [
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
        let expected = why.unwrap_or(ProtocolViolation::Frame(FrameError::NotHandshake).into());
        assert_eq!(w.why(p), Some(expected), "{garbage:?}");
        assert!(w.puppets[&p].from_engine.is_empty(), "a byte of ours was sent");
        assert_eq!(w.engine.connections(), 0);
    }
}

#[test]
fn p11_a_paused_torrent_is_not_talked_about() {
    let mut w = TestWorld::seed();
    w.engine.pause(w.now, w.torrent, &mut w.out);
    let p = w.connect(1);
    w.send(p, &handshake(1, true));
    assert_eq!(w.why(p), Some(DisconnectReason::UnknownTorrent));
    assert!(w.puppets[&p].from_engine.is_empty());
}

#[test]
fn p12_a_handshake_byte_by_byte_ends_after_ten_seconds() {
    let mut w = TestWorld::seed();
    let p = w.connect(1);
    for byte in &handshake(1, true)[..60] {
        w.send(p, &[*byte]);
        w.pass(0.15);
    }
    assert!(w.is_open(p));
    w.pass(1.1);
    assert!(!w.is_open(p), "ten seconds from the connection, not from the last byte");
}

#[test]
fn p12_silence_ends_a_connection_after_two_minutes_and_a_byte_a_minute_does_not() {
    let mut w = TestWorld::leech();
    let (silent, alive) = (w.server(1), w.peer(2));
    w.say(alive, &[Message::Interested]);
    for _ in 0..4 {
        w.pass(29.0);
        w.say(alive, &[Message::KeepAlive]);
    }
    assert!(w.is_open(silent));
    w.pass(5.0);
    assert!(!w.is_open(silent) && w.is_open(alive));
}

#[test]
fn p12_we_are_not_silent_ourselves() {
    let mut w = TestWorld::seed();
    let p = w.peer(1);
    w.say(p, &[Message::Bitfield { bytes: &[0] }]);
    for _ in 0..5 {
        w.say(p, &[Message::KeepAlive]);
        w.pass(60.0);
    }
    assert!(w.is_open(p));
    let alive = w.heard(p).iter().filter(|s| **s == Received::Word("KeepAlive")).count();
    assert!((2..=4).contains(&alive), "{alive} in five minutes");
}

#[test]
fn p15_floods_of_small_messages_leave_no_trace() {
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
    w.say(p, &flood);
    assert!(w.is_open(p));
    let peer = &w.engine.swarms.connections.get(p).unwrap().peer;
    assert!(
        peer.source.fast_to_us.len() <= limits::ALLOWED_FAST_REMEMBERED
            && peer.source.suggested.len() <= limits::SUGGESTED_PIECES
    );
    assert_eq!(peer.wire.encoder.control_bytes(), 0);
}

#[test]
fn p15_interest_that_flaps_costs_one_answer_each() {
    let mut w = TestWorld::seed();
    let p = w.peer(1);
    for _ in 0..1000 {
        w.say(p, &[Message::Interested, Message::NotInterested]);
    }
    assert!(w.is_open(p) && w.heard(p).len() <= 2000 && w.engine.context.effects.is_empty());
}

#[test]
fn p16_nonsense_in_the_extension_handshake_is_passed_over_and_numbers_are_clamped() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    let deep = [b"d1:m".to_vec(), vec![b'l'; 30_000]].concat();
    for payload in
        [&b"garbage"[..], b"d", b"", &deep, b"d4:reqqi-5ee", b"d1:md6:ut_pexi300e11:ut_metadatai-1eee"]
    {
        w.say(p, &[Message::Extended { id: 0, payload }, Message::Extended { id: 77, payload }]);
    }
    w.say(p, &[Message::Extended { id: 0, payload: b"d4:reqqi0ee" }, Message::HaveAll, Message::Unchoke]);
    assert!(w.is_open(p));
    assert_eq!(w.requests(p).len(), 1, "a queue of none is taken as one");
}

#[test]
fn p16_an_extension_message_without_a_number_ends_the_connection() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.send(p, &[0, 0, 0, 1, 20]);
    assert!(matches!(frame_error(&w, p), Some(FrameError::BadLength { id: 20, .. })));
}

#[test]
fn a_bitfield_may_come_behind_the_extension_handshake() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    let has = Bitfield::full(4);
    w.say(p, &[Message::Extended { id: 0, payload: b"de" }, Message::Bitfield { bytes: has.as_bytes() }]);
    assert_eq!(w.heard(p), [Received::Word("Interested")]);
}

#[test]
fn who_we_are_is_said_once_to_whom_may_know() {
    let mut w = TestWorld::built(|s| s.have = Bitfield::from_wire(&[0x50], 4).unwrap());
    let p = w.greeted(1);
    let heard = w.heard(p);
    assert_eq!(heard[..2], [Received::Handshake, Received::Bitfield(vec![0x50])]);
    assert!(heard[2..].iter().all(|s| matches!(s, Received::AllowedFast(1 | 3))), "{heard:?}");
    let g = Geometry::new(1, 1).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let p = w.greeted(1);
    assert_eq!(w.heard(p), [Received::Handshake, Received::Word("HaveNone")]);
    assert_eq!(HASH, w.engine.swarms.torrents.get(w.torrent).unwrap().info_hash);
}
