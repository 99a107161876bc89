//! Received blocks: unrequested and duplicate blocks, leases, endgame, snubbed peers, blocks that never end
//! (hazards P8, P9, P23, P24).

use crate::engine::testing::{Job, PIECE_LEN, Received, TestWorld, block, header, raw};
use crate::engine::{DisconnectReason, HashVerdict, ProtocolViolation, WindowRule, limits};
use crate::units::{BLOCK_LEN, Bitfield, Geometry};
use crate::wire::{Message, RawSpan};

fn wasted(w: &TestWorld) -> u64 {
    w.engine.stats(w.now, w.torrent).unwrap().wasted
}

#[test]
fn p8_unrequested_blocks_are_dropped_and_too_many_end_the_connection() {
    let mut w = TestWorld::leech();
    let p = w.peer(1); // it has no piece, so nothing is requested
    for n in 1..=limits::UNASKED_BLOCKS {
        w.send_block(p, block(n % 4, n % 3));
        assert!(w.is_open(p), "after {n}");
    }
    assert_eq!(wasted(&w), u64::from(limits::UNASKED_BLOCKS * BLOCK_LEN));
    w.send_block(p, block(0, 0));
    assert_eq!(w.disconnect_reason(p), Some(ProtocolViolation::Unasked(limits::UNASKED_BLOCKS + 1).into()));
    assert!(w.content.iter().all(|b| *b == 0), "nothing was written");
}

#[test]
fn p8_a_block_with_another_offset_or_length_than_requested_is_not_written() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    let requested = w.requests(p)[0];
    let odd = [
        RawSpan { begin: requested.begin + 1, ..requested },
        RawSpan { len: BLOCK_LEN - 1, ..requested },
        RawSpan { len: 2 * BLOCK_LEN, ..requested },
        RawSpan { piece: 4, ..requested },
        RawSpan { piece: u32::MAX, begin: u32::MAX, len: BLOCK_LEN },
        RawSpan { begin: PIECE_LEN as u32, ..requested },
    ];
    for s in odd {
        let bytes = [header(s), vec![9; s.len as usize]].concat();
        w.send(p, &bytes);
    }
    assert!(w.is_open(p) && w.content.iter().all(|b| *b == 0));
    w.serve_all(p);
    assert!(w.is_complete());
}

#[test]
fn p8_a_duplicate_is_not_written_twice() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    let first = w.requests(p)[0];
    w.serve_one(p);
    w.send_wrong_block(p, first);
    w.serve_all(p);
    assert!(w.is_complete());
}

#[test]
fn p8_a_block_of_a_dropped_request_is_accepted() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    let requested = w.requests(p);
    w.send_messages(p, &[Message::Choke]);
    for s in requested {
        w.send_block(p, s);
    }
    let peer = &w.engine.swarms.connections.get(p).unwrap().peer;
    assert_eq!((peer.source.unasked_blocks, wasted(&w)), (0, 0));
}

#[test]
fn p9_a_last_block_that_is_too_long_is_not_written() {
    let g = Geometry::new(BLOCK_LEN as u64 + 100, u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let p = w.unchoking_seed(1);
    assert!(w.requests(p).contains(&raw(1, 0, 100)));
    w.send(p, &[header(raw(1, 0, BLOCK_LEN)), vec![1; BLOCK_LEN as usize]].concat());
    w.send(p, &[header(raw(1, 0, 101)), vec![1; 101]].concat());
    assert!(w.is_open(p) && w.content[BLOCK_LEN as usize..].iter().all(|b| *b == 0));
    w.serve_all(p);
    assert!(w.is_complete());
}

#[test]
fn p23_repeated_chokes_and_unchokes_leak_no_request() {
    let mut w = TestWorld::leech();
    let flapping = w.unchoking_seed(1);
    let steady = w.peer(2);
    for _ in 0..200 {
        w.send_messages(flapping, &[Message::Choke, Message::Unchoke]);
        w.send_messages(flapping, &[Message::Choke]);
        w.send_messages(flapping, &[Message::Unchoke]);
    }
    w.send_messages(flapping, &[Message::Choke]);
    w.send_messages(steady, &[Message::HaveAll, Message::Unchoke]);
    w.serve_all(steady);
    assert!(w.is_complete());
}

#[test]
fn p23_the_requests_of_a_disconnected_peer_go_to_others() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    let q = w.unchoking_seed(2);
    let requested = w.requests(p)[0];
    w.send(p, &w.block_bytes(requested)[..5000]);
    w.disconnect(p);
    w.serve_all(q);
    assert!(w.is_complete());
}

#[test]
fn p23_a_peer_that_rejects_everything_gets_a_limited_number_of_requests() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    let mut rejected = 0;
    while w.is_open(p) && rejected < 10_000 {
        let Some(&s) = w.requests(p).first() else { break };
        w.puppets.get_mut(&p).unwrap().requests.remove(0);
        w.send_messages(p, &[Message::Reject(s)]);
        rejected += 1;
    }
    assert!(rejected <= limits::REJECTS_ONLY + 1, "more requests after {rejected} rejects");
    let q = w.unchoking_seed(2);
    w.serve_all(q);
    assert!(w.is_complete(), "no block is reserved for the rejecting peer");
}

#[test]
fn p23_a_peer_without_data_for_twenty_seconds_is_snubbed_and_its_blocks_go_to_others() {
    let mut w = TestWorld::leech();
    let snub = w.unchoking_seed(1);
    let requested = w.requests(snub);
    w.advance(19.0);
    assert!(!w.engine.swarms.connections.get(snub).unwrap().peer.source.requests.is_snubbed());
    w.advance(2.0);
    let peer = &w.engine.swarms.connections.get(snub).unwrap().peer;
    assert!(peer.source.requests.is_snubbed() && peer.source.requests.in_flight() <= 1);
    w.send_block(snub, requested[0]);
    assert!(w.is_open(snub) && wasted(&w) == 0, "its late block is accepted");
    let q = w.unchoking_seed(2);
    w.serve_all(q);
    w.advance(5.0); // the requests to the first peer are late by then
    w.serve_all(q);
    assert!(w.is_complete());
}

#[test]
fn p23_a_faster_peer_takes_over_a_block_that_never_ends() {
    let mut w = TestWorld::leech();
    let slow = w.unchoking_seed(1);
    let q = w.unchoking_seed(2);
    let s = w.requests(slow)[0];
    let bytes = w.block_bytes(s);
    w.send(slow, &bytes[..14]);
    w.serve_all(q);
    assert!(w.is_complete(), "the slow peer lost its lease");
    assert_eq!(wasted(&w), 1, "the byte of the slow peer");
}

#[test]
fn p23_a_peer_that_sends_one_block_for_minutes_is_disconnected() {
    let mut w = TestWorld::leech();
    let slow = w.unchoking_seed(1);
    let s = w.requests(slow)[0];
    let bytes = w.block_bytes(s);
    w.send(slow, &bytes[..14]);
    for n in 14..40 {
        if !w.is_open(slow) {
            break;
        }
        w.send(slow, &bytes[n..=n]);
        w.advance(20.0);
    }
    assert!(!w.is_open(slow), "a byte every twenty seconds is too slow");
    let q = w.unchoking_seed(2);
    w.serve_all(q);
    assert!(w.is_complete());
}

#[test]
fn p24_a_duplicate_that_arrives_during_hashing_is_not_written() {
    let g = Geometry::new(2 * u64::from(BLOCK_LEN), 2 * u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| s.slow_disk = true);
    let p = w.unchoking_seed(1);
    let q = w.unchoking_seed(2);
    w.finish_disk_job(); // prepared
    assert_eq!(w.requests(q).len(), 2, "in endgame both peers are asked for both blocks");
    w.send(q, &w.block_bytes(block(0, 0))[..13]); // the header takes the lease
    w.send(q, &w.block_bytes(block(0, 0))[13..]);
    w.send_block(p, block(0, 1));
    assert_eq!(w.jobs, [Job::Hash(w.piece(0), false)]);
    // The cancels are in transit; the test world panics if any of these blocks is written.
    w.send_wrong_block(p, block(0, 0));
    w.send_wrong_block(q, block(0, 1));
    w.finish_disk_job();
    w.send_wrong_block(q, block(0, 1));
    assert!(w.is_complete());
}

#[test]
fn a_second_copy_of_a_block_being_written_is_discarded() {
    let g = Geometry::new(u64::from(BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let p = w.unchoking_seed(1);
    let q = w.unchoking_seed(2);
    let bytes = w.block_bytes(block(0, 0));
    let most = bytes.len() - 100;
    w.send(p, &bytes[..most]);
    w.send_wrong_block(q, block(0, 0));
    assert!(!w.is_complete(), "the first peer has nearly sent the block");
    w.send(p, &bytes[most..]);
    assert!(w.is_complete());
    assert_eq!(wasted(&w), u64::from(BLOCK_LEN));
}

#[test]
fn a_fourth_peer_gets_a_block_that_three_silent_peers_were_asked_for() {
    let g = Geometry::new(u64::from(BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let silent: Vec<_> = (1..=3).map(|h| w.unchoking_seed(h)).collect();
    w.advance(1.5);
    assert!(silent.iter().all(|p| w.requests(*p).len() == 1), "all three are asked for the block");
    let fourth = w.unchoking_seed(4);
    w.advance(1.5);
    assert!(
        silent.iter().any(|p| w.received(*p).contains(&Received::Cancel(block(0, 0)))),
        "one request is cancelled"
    );
    w.serve_all(fourth);
    assert!(w.is_complete());
}

#[test]
fn endgame_cancels_the_other_requests_of_an_arrived_block() {
    let g = Geometry::new(2 * u64::from(BLOCK_LEN), 2 * u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let peers: Vec<_> = (1..=5).map(|h| w.unchoking_seed(h)).collect();
    let requested: Vec<_> = peers.iter().filter(|p| !w.requests(**p).is_empty()).copied().collect();
    assert_eq!(
        requested.len(),
        usize::from(limits::ENDGAME_HOLDERS),
        "at most three peers are asked for one block"
    );
    w.serve_one(requested[1]);
    for p in [requested[0], requested[2]] {
        assert_eq!(w.received(p), [Received::Cancel(block(0, 1))]);
    }
    w.serve_all(requested[0]);
    assert!(w.is_complete());
}

#[test]
fn endgame_moves_requests_from_the_end_of_a_long_queue_and_duplicates_the_next_ones() {
    let len = 10 * u64::from(BLOCK_LEN);
    let mut w = TestWorld::with_geometry(Geometry::new(len, len).unwrap(), |s| {
        s.config.policy.window = WindowRule::Fixed(10);
    });
    let p = w.unchoking_seed(1);
    assert_eq!(w.requests(p).len(), 10);
    let q = w.unchoking_seed(2);
    let requested: Vec<u32> = w.requests(q).iter().map(|r| r.begin / BLOCK_LEN).collect();
    assert_eq!(requested, [9, 8, 7, 6]);
    let cancelled: Vec<Received> =
        w.received(p).into_iter().filter(|m| matches!(m, Received::Cancel(_))).collect();
    assert_eq!(cancelled, [Received::Cancel(block(0, 9)), Received::Cancel(block(0, 8))]);
}

#[test]
fn a_choking_peer_is_asked_only_for_allowed_fast_pieces() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.send_messages(p, &[Message::HaveAll]);
    assert!(w.requests(p).is_empty());
    w.send_messages(p, &[Message::AllowedFast { piece: 2 }]);
    assert!(!w.requests(p).is_empty() && w.requests(p).iter().all(|r| r.piece == 2));
    w.serve_all(p);
    assert_eq!(w.have(), [2]);
}

#[test]
fn nothing_is_written_before_its_piece_is_prepared() {
    let mut w = TestWorld::with_setup(|s| s.slow_disk = true);
    let p = w.unchoking_seed(1);
    let s = w.requests(p)[0];
    w.send_block(p, s);
    assert!(w.content.iter().all(|b| *b == 0));
    w.finish_disk_jobs();
    assert_ne!(
        w.content[(u64::from(s.piece) * PIECE_LEN) as usize + 1],
        0,
        "the block is written after the reply"
    );
}

#[test]
fn a_hash_verdict_after_a_pause_applies_only_to_the_hashed_piece() {
    for (verdict, expected) in [
        (HashVerdict::Good { digests: None }, vec![0]),
        (HashVerdict::Bad { digests: Box::new([0; 4]) }, vec![]),
    ] {
        let mut w = TestWorld::with_setup(|s| {
            s.slow_disk = true;
            s.spec.torrent_info.as_mut().unwrap().wanted = Bitfield::from_wire(&[0x80], 4).unwrap();
        });
        let p = w.unchoking_seed(1);
        w.finish_disk_jobs();
        for b in 0..4 {
            w.send_block(p, block(0, b));
        }
        assert_eq!(w.jobs, [Job::Hash(w.piece(0), false)]);
        w.engine.pause(w.now, w.torrent, &mut w.out);
        w.run_actions();
        w.engine.resume(w.now, w.torrent);
        let q = w.unchoking_seed(2);
        let requested = w.requests(q);
        assert!(requested.is_empty(), "the hasher still reads the piece: {requested:?}");
        w.jobs.clear();
        w.hashed(w.piece(0), &verdict);
        assert_eq!(w.have(), expected);
        w.slow_disk = false;
        w.serve_all(q);
    }
}

#[test]
fn a_verified_piece_is_announced_to_peers_that_lack_it() {
    let mut w = TestWorld::leech();
    let p = w.unchoking_seed(1);
    let lacks = w.peer(2);
    w.send_messages(lacks, &[Message::HaveNone]);
    w.serve_all(p);
    assert!(!w.received(p).iter().any(|s| matches!(s, Received::Have(_))));
    let mut announced: Vec<u32> = w
        .received(lacks)
        .iter()
        .filter_map(|s| if let Received::Have(n) = s { Some(*n) } else { None })
        .collect();
    announced.sort_unstable();
    assert_eq!(announced, [0, 1, 2, 3]);
    assert_eq!(w.puppets[&p].closed, Some(None), "two seeds disconnect");
    let seed = w.connect_with_handshake(3);
    w.send_messages(seed, &[Message::HaveAll]);
    assert_eq!(w.disconnect_reason(seed), Some(DisconnectReason::Uninteresting));
}
