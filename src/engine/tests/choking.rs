//! Uploads: requests, upload slots, rate limits, peers that do not read (hazards P10, P14).

use crate::engine::testing::{PIECE_LEN, Received, TestWorld, block, raw};
use crate::engine::{ProtocolViolation, limits};
use crate::units::{Bitfield, Geometry, PeerKey};
use crate::wire::{MAX_BLOCK_LEN, Message, RawSpan};

/// Creates a seed of a torrent with 256 KiB pieces, so that long requests fit.
fn big_seed() -> TestWorld {
    TestWorld::with_geometry(Geometry::new(4 << 18, 1 << 18).unwrap(), |s| {
        s.have = Bitfield::from_wire(&[0xe0], 4).unwrap();
    })
}

fn request(w: &mut TestWorld, p: PeerKey, s: RawSpan) -> Vec<Received> {
    w.send_messages(p, &[Message::Request(s)]);
    w.received(p)
}

/// Sends interested and not interested in turns.
fn toggle_interest(w: &mut TestWorld, p: PeerKey, times: usize) {
    for _ in 0..times {
        w.send_messages(p, &[Message::Interested]);
        w.send_messages(p, &[Message::NotInterested]);
    }
}

/// Connects an interested peer that is choked because other peers use the slots.
fn choked_peer(w: &mut TestWorld) -> PeerKey {
    (1..=limits::UPLOAD_SLOTS as u8).for_each(|host| {
        w.unchoked_leech(host);
    });
    let p = w.peer(99);
    w.send_messages(p, &[Message::HaveNone, Message::Interested]);
    assert_eq!(w.received(p), []);
    p
}

#[test]
fn p10_requests_up_to_128_kib_inside_a_verified_piece_are_served() {
    let mut w = big_seed();
    let p = w.unchoked_leech(1);
    for s in [block(0, 0), raw(1, 5, 7), raw(2, 0, MAX_BLOCK_LEN), raw(2, (1 << 18) - 1, 1)] {
        assert_eq!(request(&mut w, p, s), [Received::Block(s)]);
    }
}

#[test]
fn p10_invalid_requests_are_rejected() {
    let mut w = big_seed();
    let p = w.unchoked_leech(1);
    for s in [
        raw(0, 0, 0),
        raw(0, 0, MAX_BLOCK_LEN + 1),
        raw(0, 0, u32::MAX),
        raw(0, u32::MAX, 2),
        raw(0, (1 << 18) - 1, 2),
        raw(0, 1 << 18, 1),
        raw(3, 0, 16384),
        raw(4, 0, 1),
        raw(u32::MAX, u32::MAX, u32::MAX),
    ] {
        assert_eq!(request(&mut w, p, s), [Received::Reject(s)]);
    }
    assert!(w.is_open(p));
}

#[test]
fn p10_three_hundred_invalid_requests_end_the_connection() {
    let mut w = big_seed();
    let p = w.unchoked_leech(1);
    for _ in 1..limits::INVALID_REQUESTS {
        request(&mut w, p, raw(4, 0, 1));
    }
    assert!(w.is_open(p));
    w.send_messages(p, &[Message::Request(raw(4, 0, 1))]);
    let last = raw(4, 0, 1);
    assert_eq!(
        w.disconnect_reason(p),
        Some(ProtocolViolation::InvalidRequests { count: limits::INVALID_REQUESTS, last }.into())
    );
}

#[test]
fn p10_requests_of_a_choked_peer_are_rejected_and_count_as_invalid_after_a_grace_period() {
    let mut w = TestWorld::seed();
    let p = choked_peer(&mut w);
    // In so small a torrent any piece may be allowed fast: choose one that is not.
    let fast: Vec<u32> = w
        .engine
        .swarms
        .connections
        .get(p)
        .unwrap()
        .peer
        .wire
        .fast_to_them
        .iter()
        .map(|(p, _)| p.get())
        .collect();
    let Some(not_fast) = (0..4).find(|n| !fast.contains(n)) else { return };
    for _ in 0..limits::INVALID_REQUESTS + 10 {
        request(&mut w, p, block(not_fast, 0));
    }
    assert!(w.is_open(p), "the requests may have been sent before the choke arrived");
    w.advance(3.0);
    for _ in 0..limits::INVALID_REQUESTS {
        w.send_messages(p, &[Message::Request(block(not_fast, 0))]);
    }
    assert!(matches!(
        w.disconnect_reason(p),
        Some(crate::engine::DisconnectReason::ProtocolViolation(ProtocolViolation::InvalidRequests { .. }))
    ));
}

#[test]
fn p10_an_allowed_fast_piece_is_served_at_most_three_times_while_choked() {
    let g = Geometry::new(100 * PIECE_LEN, PIECE_LEN).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| s.have = Bitfield::full(100));
    let p = choked_peer(&mut w);
    let piece = w.engine.swarms.connections.get(p).unwrap().peer.wire.fast_to_them[0].0.get();
    for _ in 0..limits::ALLOWED_FAST_TIMES {
        for n in 0..4 {
            assert_eq!(request(&mut w, p, block(piece, n)), [Received::Block(block(piece, n))]);
        }
    }
    w.send_messages(p, &[Message::Request(block(piece, 0))]);
    assert_eq!(
        w.disconnect_reason(p),
        Some(ProtocolViolation::FastAbuse(limits::ALLOWED_FAST_TIMES + 1).into())
    );
}

#[test]
fn p10_requests_beyond_the_queue_limit_are_rejected() {
    let g = Geometry::new(100 * PIECE_LEN, PIECE_LEN).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| s.have = Bitfield::full(100));
    let p = w.unchoked_leech(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    let all: Vec<_> = (0..600).map(|n| Message::Request(raw(n / 6, n % 6 * 1000, 1000))).collect();
    w.send_messages(p, &all);
    w.send_messages(p, &all[..10]);
    assert_eq!(
        w.engine.swarms.connections.get(p).unwrap().peer.wire.encoder.blocks(),
        limits::REQQ_OURS_BLOCKS
    );
    w.puppets.get_mut(&p).unwrap().reads = true;
    w.flush(p);
    let received = w.received(p);
    let count = |f: fn(&Received) -> bool| received.iter().filter(|s| f(s)).count();
    assert_eq!(
        count(|s| matches!(s, Received::Block(_))),
        limits::REQQ_OURS_BLOCKS,
        "a block requested twice is sent once"
    );
    assert_eq!(count(|s| matches!(s, Received::Reject(_))), 100);
}

#[test]
fn p10_a_cancelled_request_is_not_served() {
    let mut w = TestWorld::seed();
    let p = w.unchoked_leech(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    w.send_messages(
        p,
        &[
            Message::Request(block(0, 0)),
            Message::Request(block(0, 1)),
            Message::Cancel(block(0, 0)),
            Message::Cancel(block(3, 3)),
        ],
    );
    w.puppets.get_mut(&p).unwrap().reads = true;
    w.flush(p);
    assert_eq!(w.received(p), [Received::Reject(block(0, 0)), Received::Block(block(0, 1))]);
}

#[test]
fn p14_the_engine_stops_reading_from_a_peer_that_never_reads() {
    let mut w = TestWorld::seed();
    let p = w.unchoked_leech(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    for _ in 0..250 {
        w.send_messages(p, &[Message::Request(raw(9, 0, 1)), Message::Interested, Message::NotInterested]);
    }
    toggle_interest(&mut w, p, 8_000);
    let waiting = w.engine.swarms.connections.get(p).unwrap().peer.wire.encoder.control_bytes();
    assert!(waiting <= limits::ENCODER_STOP_READING_BYTES + 16 * 1024, "{waiting} bytes are queued");
    assert!(!w.puppets[&p].to_engine.is_empty(), "its bytes stay in the kernel's buffer");
    w.advance(121.0);
    assert!(!w.is_open(p));
}

#[test]
fn p14_a_peer_that_never_reads_is_disconnected_when_too_many_haves_are_queued() {
    let pieces = 150_000;
    let g = Geometry::new(pieces, 1).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let unread = w.peer(1);
    let seed = w.unchoking_seed(2);
    w.send_messages(unread, &[Message::HaveNone]);
    w.puppets.get_mut(&unread).unwrap().reads = false;
    let mut most = 0;
    while w.is_open(seed) && w.serve_one(seed) && w.is_open(unread) {
        most = most
            .max(w.engine.swarms.connections.get(unread).map_or(0, |c| c.peer.wire.encoder.control_bytes()));
    }
    assert!(!w.is_open(unread) && most <= limits::ENCODER_CONTROL_BYTES + 16, "{most} bytes");
}

#[test]
fn reading_resumes_when_the_peer_reads_again() {
    let mut w = TestWorld::seed();
    let p = w.unchoked_leech(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    toggle_interest(&mut w, p, 8_000);
    w.puppets.get_mut(&p).unwrap().reads = true;
    w.flush(p);
    w.run_actions();
    assert!(w.puppets[&p].to_engine.is_empty());
    assert!(w.received(p).len() >= 6_000);
}

#[test]
fn a_choke_rejects_blocks_that_are_not_started() {
    let mut w = TestWorld::seed();
    let p = w.unchoked_leech(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    w.send_messages(
        p,
        &[Message::Request(block(0, 0)), Message::Request(block(0, 1)), Message::NotInterested],
    );
    w.puppets.get_mut(&p).unwrap().reads = true;
    w.flush(p);
    assert_eq!(
        w.received(p),
        [Received::Simple("Choke"), Received::Reject(block(0, 0)), Received::Reject(block(0, 1))]
    );
}

#[test]
fn upload_slots_are_filled_at_once_and_rotate_every_ten_seconds() {
    let mut w = TestWorld::seed();
    let peers: Vec<_> = (1..=30).map(|h| w.peer(h)).collect();
    for p in &peers {
        w.send_messages(*p, &[Message::HaveNone, Message::Interested]);
    }
    let unchoked = |w: &TestWorld| {
        peers.iter().filter(|p| !w.engine.swarms.connections.get(**p).unwrap().peer.wire.we_choke).count()
    };
    assert_eq!(unchoked(&w), limits::UPLOAD_SLOTS);
    w.advance(11.0);
    assert!(
        (limits::UPLOAD_SLOTS + 1..=limits::UPLOAD_SLOTS + 2).contains(&unchoked(&w)),
        "an optimistic unchoke"
    );
    let mut served = std::collections::BTreeSet::new();
    for _ in 0..60 {
        w.advance(10.0);
        for p in &peers {
            w.send_messages(*p, &[Message::KeepAlive]);
            if !w.engine.swarms.connections.get(*p).unwrap().peer.wire.we_choke {
                served.insert(*p);
            }
        }
    }
    assert_eq!(served.len(), 30, "every peer is served once");
}

#[test]
fn a_free_upload_slot_is_filled_at_once() {
    let mut w = TestWorld::seed();
    let waiting = choked_peer(&mut w);
    let first = *w.puppets.keys().next().unwrap();
    w.disconnect(first);
    assert_eq!(w.received(waiting), [Received::Simple("Unchoke")]);
}

#[test]
fn the_upload_limit_holds_over_a_minute() {
    for per_torrent in [false, true] {
        let g = Geometry::new(1 << 26, 1 << 18).unwrap();
        let mut w = TestWorld::with_geometry(g, |s| {
            s.have = Bitfield::full(256);
            let limit = if per_torrent { &mut s.spec.upload_limit } else { &mut s.config.upload_limit };
            *limit = Some(100_000);
        });
        let p = w.unchoked_leech(1);
        let all: Vec<_> = (0..500).map(|n| Message::Request(raw(n / 16, n % 16 * 16384, 16384))).collect();
        w.send_messages(p, &all);
        w.advance(60.0);
        let sent = w.engine.stats(w.now, w.torrent).unwrap().uploaded;
        assert!((5_900_000..6_100_000).contains(&sent), "{sent} in a minute");
    }
}

#[test]
fn peers_share_a_limited_upload_about_equally() {
    let g = Geometry::new(1 << 26, 1 << 18).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| {
        s.have = Bitfield::full(256);
        s.config.upload_limit = Some(100_000);
    });
    let all: Vec<_> = (0..400).map(|n| Message::Request(raw(n / 16, n % 16 * 16384, 16384))).collect();
    let leeches = [1, 2, 3, 4].map(|host| w.unchoked_leech(host));
    leeches.iter().for_each(|p| w.send_messages(*p, &all));
    w.advance(120.0);
    for p in leeches {
        let blocks = w.received(p).iter().filter(|m| matches!(m, Received::Block(_))).count();
        assert!((120..250).contains(&blocks), "{blocks} of 732 blocks");
    }
}

#[test]
fn the_download_limit_holds_over_a_minute_and_snubs_no_peer() {
    let g = Geometry::new(1 << 26, 1 << 18).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| s.config.download_limit = Some(20_000));
    let peers: Vec<_> = (1..=10).map(|h| w.unchoking_seed(h)).collect();
    for _ in 0..600 {
        for p in &peers {
            let requested = w.requests(*p);
            w.puppets.get_mut(p).unwrap().requests.clear();
            requested.iter().for_each(|s| w.send_block(*p, *s));
        }
        w.advance(0.1);
    }
    let s = w.engine.stats(w.now, w.torrent).unwrap();
    assert!((1_150_000..1_250_000).contains(&s.downloaded), "{} in a minute", s.downloaded);
    assert_eq!(s.wasted, 0, "our own limit causes no duplicate requests");
    let snubbed =
        |p: &&PeerKey| w.engine.swarms.connections.get(**p).unwrap().peer.source.requests.is_snubbed();
    assert_eq!(peers.iter().filter(snubbed).count(), 0);
}
