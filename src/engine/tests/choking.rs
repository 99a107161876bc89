//! What others take from us: P10, P14, upload slots, limits.

use crate::engine::testing::{PIECE_LEN, Received, TestWorld, block, raw};
use crate::engine::{ProtocolViolation, limits};
use crate::units::{Bitfield, Geometry, PeerKey};
use crate::wire::{MAX_BLOCK_LEN, Message, RawSpan};

/// A torrent with pieces of 256 KiB, so that long requests have room.
fn big_seed() -> TestWorld {
    TestWorld::with_geometry(Geometry::new(4 << 18, 1 << 18).unwrap(), |s| {
        s.have = Bitfield::from_wire(&[0xe0], 4).unwrap()
    })
}

fn ask(w: &mut TestWorld, p: PeerKey, s: RawSpan) -> Vec<Received> {
    w.say(p, &[Message::Request(s)]);
    w.heard(p)
}

/// Says that it wants and that it does not, in turns; each is answered.
fn flap(w: &mut TestWorld, p: PeerKey, times: usize) {
    for _ in 0..times {
        w.say(p, &[Message::Interested]);
        w.say(p, &[Message::NotInterested]);
    }
}

/// A wanting peer that we choke: nine others have the slots.
fn choked(w: &mut TestWorld) -> PeerKey {
    (1..=limits::UPLOAD_SLOTS as u8).for_each(|host| {
        w.taker(host);
    });
    let p = w.peer(99);
    w.say(p, &[Message::HaveNone, Message::Interested]);
    assert_eq!(w.heard(p), []);
    p
}

#[test]
fn p10_what_lies_inside_a_piece_that_we_have_is_served_up_to_128_kib() {
    let mut w = big_seed();
    let p = w.taker(1);
    for s in [block(0, 0), raw(1, 5, 7), raw(2, 0, MAX_BLOCK_LEN), raw(2, (1 << 18) - 1, 1)] {
        assert_eq!(ask(&mut w, p, s), [Received::Block(s)]);
    }
}

#[test]
fn p10_what_cannot_be_served_is_rejected_and_nothing_outside_is_read() {
    let mut w = big_seed();
    let p = w.taker(1);
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
        assert_eq!(ask(&mut w, p, s), [Received::Reject(s)]);
    }
    assert!(w.is_open(p));
}

#[test]
fn p10_three_hundred_requests_that_cannot_be_served_are_enough() {
    let mut w = big_seed();
    let p = w.taker(1);
    for _ in 1..limits::INVALID_REQUESTS {
        ask(&mut w, p, raw(4, 0, 1));
    }
    assert!(w.is_open(p));
    w.say(p, &[Message::Request(raw(4, 0, 1))]);
    let last = raw(4, 0, 1);
    assert_eq!(
        w.why(p),
        Some(ProtocolViolation::InvalidRequests { count: limits::INVALID_REQUESTS, last }.into())
    );
}

#[test]
fn p10_a_choked_peers_requests_are_rejected_and_forgiven_only_while_the_choke_is_on_its_way() {
    let mut w = TestWorld::seed();
    let p = choked(&mut w);
    // Piece 0…3 may be allowed fast in so small a torrent: take one that is not.
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
        ask(&mut w, p, block(not_fast, 0));
    }
    assert!(w.is_open(p), "these may have crossed our choke");
    w.pass(3.0);
    for _ in 0..limits::INVALID_REQUESTS {
        w.say(p, &[Message::Request(block(not_fast, 0))]);
    }
    assert!(matches!(
        w.why(p),
        Some(crate::engine::DisconnectReason::ProtocolViolation(ProtocolViolation::InvalidRequests { .. }))
    ));
}

#[test]
fn p10_an_allowed_fast_piece_may_be_taken_three_times_and_no_more() {
    let g = Geometry::new(100 * PIECE_LEN, PIECE_LEN).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| s.have = Bitfield::full(100));
    let p = choked(&mut w);
    let piece = w.engine.swarms.connections.get(p).unwrap().peer.wire.fast_to_them[0].0.get();
    for _ in 0..limits::ALLOWED_FAST_TIMES {
        for n in 0..4 {
            assert_eq!(ask(&mut w, p, block(piece, n)), [Received::Block(block(piece, n))]);
        }
    }
    w.say(p, &[Message::Request(block(piece, 0))]);
    assert_eq!(w.why(p), Some(ProtocolViolation::FastAbuse(limits::ALLOWED_FAST_TIMES + 1).into()));
}

#[test]
fn p10_the_queue_of_one_peer_has_a_limit_and_the_rest_is_rejected() {
    let g = Geometry::new(100 * PIECE_LEN, PIECE_LEN).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| s.have = Bitfield::full(100));
    let p = w.taker(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    let all: Vec<_> = (0..600).map(|n| Message::Request(raw(n / 6, n % 6 * 1000, 1000))).collect();
    w.say(p, &all);
    w.say(p, &all[..10]);
    assert_eq!(
        w.engine.swarms.connections.get(p).unwrap().peer.wire.encoder.blocks(),
        limits::REQQ_OURS_BLOCKS
    );
    w.puppets.get_mut(&p).unwrap().reads = true;
    w.flush(p);
    let heard = w.heard(p);
    let count = |f: fn(&Received) -> bool| heard.iter().filter(|s| f(s)).count();
    assert_eq!(
        count(|s| matches!(s, Received::Block(_))),
        limits::REQQ_OURS_BLOCKS,
        "asked for twice, sent once"
    );
    assert_eq!(count(|s| matches!(s, Received::Reject(_))), 100);
}

#[test]
fn p10_a_request_that_is_cancelled_in_time_is_not_served() {
    let mut w = TestWorld::seed();
    let p = w.taker(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    w.say(
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
    assert_eq!(w.heard(p), [Received::Reject(block(0, 0)), Received::Block(block(0, 1))]);
}

#[test]
fn p14_a_peer_that_never_reads_is_not_read_from_either() {
    let mut w = TestWorld::seed();
    let p = w.taker(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    for _ in 0..250 {
        w.say(p, &[Message::Request(raw(9, 0, 1)), Message::Interested, Message::NotInterested]);
    }
    flap(&mut w, p, 8_000);
    let waiting = w.engine.swarms.connections.get(p).unwrap().peer.wire.encoder.control_bytes();
    assert!(waiting <= limits::ENCODER_STOP_READING_BYTES + 16 * 1024, "{waiting} bytes wait for it");
    assert!(!w.puppets[&p].to_engine.is_empty(), "its bytes stay with the kernel");
    w.pass(121.0);
    assert!(!w.is_open(p));
}

#[test]
fn p14_what_waits_for_a_peer_that_never_reads_is_bounded_when_others_make_us_talk() {
    let pieces = 150_000;
    let g = Geometry::new(pieces, 1).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let (deaf, giver) = (w.peer(1), w.server(2));
    w.say(deaf, &[Message::HaveNone]);
    w.puppets.get_mut(&deaf).unwrap().reads = false;
    let mut most = 0;
    while w.is_open(giver) && w.serve_one(giver) && w.is_open(deaf) {
        most = most
            .max(w.engine.swarms.connections.get(deaf).map_or(0, |c| c.peer.wire.encoder.control_bytes()));
    }
    assert!(!w.is_open(deaf) && most <= limits::ENCODER_CONTROL_BYTES + 16, "{most} bytes");
}

#[test]
fn a_peer_that_reads_again_is_read_from_again() {
    let mut w = TestWorld::seed();
    let p = w.taker(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    flap(&mut w, p, 8_000);
    w.puppets.get_mut(&p).unwrap().reads = true;
    w.flush(p);
    w.turn();
    assert!(w.puppets[&p].to_engine.is_empty());
    assert!(w.heard(p).len() >= 6_000);
}

#[test]
fn a_choke_takes_back_what_has_not_begun() {
    let mut w = TestWorld::seed();
    let p = w.taker(1);
    w.puppets.get_mut(&p).unwrap().reads = false;
    w.say(p, &[Message::Request(block(0, 0)), Message::Request(block(0, 1)), Message::NotInterested]);
    w.puppets.get_mut(&p).unwrap().reads = true;
    w.flush(p);
    assert_eq!(
        w.heard(p),
        [Received::Word("Choke"), Received::Reject(block(0, 0)), Received::Reject(block(0, 1))]
    );
}

#[test]
fn slots_are_given_at_once_and_anew_every_ten_seconds() {
    let mut w = TestWorld::seed();
    let peers: Vec<_> = (1..=30).map(|h| w.peer(h)).collect();
    for p in &peers {
        w.say(*p, &[Message::HaveNone, Message::Interested]);
    }
    let unchoked = |w: &TestWorld| {
        peers.iter().filter(|p| !w.engine.swarms.connections.get(**p).unwrap().peer.wire.we_choke).count()
    };
    assert_eq!(unchoked(&w), limits::UPLOAD_SLOTS);
    w.pass(11.0);
    assert!(
        (limits::UPLOAD_SLOTS + 1..=limits::UPLOAD_SLOTS + 2).contains(&unchoked(&w)),
        "an optimistic one"
    );
    let mut served = std::collections::BTreeSet::new();
    for _ in 0..60 {
        w.pass(10.0);
        for p in &peers {
            w.say(*p, &[Message::KeepAlive]);
            if !w.engine.swarms.connections.get(*p).unwrap().peer.wire.we_choke {
                served.insert(*p);
            }
        }
    }
    assert_eq!(served.len(), 30, "everybody has a turn");
}

#[test]
fn a_slot_that_becomes_free_is_given_away_at_once() {
    let mut w = TestWorld::seed();
    let waiting = choked(&mut w);
    let first = *w.puppets.keys().next().unwrap();
    w.lose(first);
    assert_eq!(w.heard(waiting), [Received::Word("Unchoke")]);
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
        let p = w.taker(1);
        let all: Vec<_> = (0..500).map(|n| Message::Request(raw(n / 16, n % 16 * 16384, 16384))).collect();
        w.say(p, &all);
        w.pass(60.0);
        let sent = w.engine.stats(w.now, w.torrent).unwrap().uploaded;
        assert!((5_900_000..6_100_000).contains(&sent), "{sent} in a minute");
    }
}

#[test]
fn who_takes_from_a_limited_upload_takes_about_as_much_as_the_others() {
    let g = Geometry::new(1 << 26, 1 << 18).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| {
        s.have = Bitfield::full(256);
        s.config.upload_limit = Some(100_000);
    });
    let all: Vec<_> = (0..400).map(|n| Message::Request(raw(n / 16, n % 16 * 16384, 16384))).collect();
    let takers = [1, 2, 3, 4].map(|host| w.taker(host));
    takers.iter().for_each(|p| w.say(*p, &all));
    w.pass(120.0);
    for p in takers {
        let blocks = w.heard(p).iter().filter(|said| matches!(said, Received::Block(_))).count();
        assert!((120..250).contains(&blocks), "{blocks} of 732 blocks");
    }
}

#[test]
fn the_download_limit_holds_over_a_minute_and_blames_nobody() {
    let g = Geometry::new(1 << 26, 1 << 18).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| s.config.download_limit = Some(20_000));
    let peers: Vec<_> = (1..=10).map(|h| w.server(h)).collect();
    for _ in 0..600 {
        for p in &peers {
            let asked = w.requests(*p);
            w.puppets.get_mut(p).unwrap().requests.clear();
            asked.iter().for_each(|s| w.send_block(*p, *s));
        }
        w.pass(0.1);
    }
    let s = w.engine.stats(w.now, w.torrent).unwrap();
    assert!((1_150_000..1_250_000).contains(&s.downloaded), "{} in a minute", s.downloaded);
    assert_eq!(s.wasted, 0, "nothing was asked for twice because of our own limit");
    let snubbed =
        |p: &&PeerKey| w.engine.swarms.connections.get(**p).unwrap().peer.source.requests.is_snubbed();
    assert_eq!(peers.iter().filter(snubbed).count(), 0);
}
