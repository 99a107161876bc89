//! Payload that comes in: P8, P9, P23, P24, leases, endgame, snubs, and blocks that never end.

use crate::engine::testing::{Job, PIECE_LEN, Received, TestWorld, block, header, raw};
use crate::engine::{DisconnectReason, HashVerdict, ProtocolViolation, WindowRule, limits};
use crate::units::{BLOCK_LEN, Bitfield, Geometry};
use crate::wire::{Message, RawSpan};

fn wasted(w: &TestWorld) -> u64 {
    w.engine.stats(w.now, w.torrent).unwrap().wasted
}

#[test]
fn p8_blocks_that_nobody_asked_for_are_dropped_and_end_the_connection_in_the_end() {
    let mut w = TestWorld::leech();
    let p = w.peer(1); // never asked for anything: it has nothing
    for n in 1..=limits::UNASKED_BLOCKS {
        w.send_block(p, block(n % 4, n % 3));
        assert!(w.is_open(p), "after {n}");
    }
    assert_eq!(wasted(&w), u64::from(limits::UNASKED_BLOCKS * BLOCK_LEN));
    w.send_block(p, block(0, 0));
    assert_eq!(w.why(p), Some(ProtocolViolation::Unasked(limits::UNASKED_BLOCKS + 1).into()));
    assert!(w.content.iter().all(|b| *b == 0), "nothing was written");
}

#[test]
fn p8_a_block_at_another_place_or_of_another_length_is_not_the_one_that_was_asked_for() {
    let mut w = TestWorld::leech();
    let p = w.server(1);
    let asked = w.requests(p)[0];
    let odd = [
        RawSpan { begin: asked.begin + 1, ..asked },
        RawSpan { len: BLOCK_LEN - 1, ..asked },
        RawSpan { len: 2 * BLOCK_LEN, ..asked },
        RawSpan { piece: 4, ..asked },
        RawSpan { piece: u32::MAX, begin: u32::MAX, len: BLOCK_LEN },
        RawSpan { begin: PIECE_LEN as u32, ..asked },
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
    let p = w.server(1);
    let first = w.requests(p)[0];
    w.serve_one(p);
    w.send_lie(p, first);
    w.serve_all(p);
    assert!(w.is_complete());
}

#[test]
fn p8_an_answer_to_a_request_that_was_given_up_is_no_offence_and_is_used() {
    let mut w = TestWorld::leech();
    let p = w.server(1);
    let asked = w.requests(p);
    w.say(p, &[Message::Choke]);
    for s in asked {
        w.send_block(p, s);
    }
    let peer = &w.engine.swarms.connections.get(p).unwrap().peer;
    assert_eq!((peer.source.unasked_blocks, wasted(&w)), (0, 0));
}

#[test]
fn p9_a_last_block_that_is_too_long_is_not_written() {
    let g = Geometry::new(BLOCK_LEN as u64 + 100, u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let p = w.server(1);
    assert!(w.requests(p).contains(&raw(1, 0, 100)));
    w.send(p, &[header(raw(1, 0, BLOCK_LEN)), vec![1; BLOCK_LEN as usize]].concat());
    w.send(p, &[header(raw(1, 0, 101)), vec![1; 101]].concat());
    assert!(w.is_open(p) && w.content[BLOCK_LEN as usize..].iter().all(|b| *b == 0));
    w.serve_all(p);
    assert!(w.is_complete());
}

#[test]
fn p23_choking_back_and_forth_leaks_no_request() {
    let mut w = TestWorld::leech();
    let (flapping, steady) = (w.server(1), w.peer(2));
    for _ in 0..200 {
        w.say(flapping, &[Message::Choke, Message::Unchoke]);
        w.say(flapping, &[Message::Choke]);
        w.say(flapping, &[Message::Unchoke]);
    }
    w.say(flapping, &[Message::Choke]);
    w.say(steady, &[Message::HaveAll, Message::Unchoke]);
    w.serve_all(steady);
    assert!(w.is_complete());
}

#[test]
fn p23_what_a_lost_peer_owed_is_asked_of_others() {
    let mut w = TestWorld::leech();
    let (p, q) = (w.server(1), w.server(2));
    let owed = w.requests(p)[0];
    w.send(p, &w.block_bytes(owed)[..5000]);
    w.lose(p);
    w.serve_all(q);
    assert!(w.is_complete());
}

#[test]
fn p23_a_peer_that_rejects_everything_is_not_asked_for_ever() {
    let mut w = TestWorld::leech();
    let p = w.server(1);
    let mut rejected = 0;
    while w.is_open(p) && rejected < 10_000 {
        let Some(&s) = w.requests(p).first() else { break };
        w.puppets.get_mut(&p).unwrap().requests.remove(0);
        w.say(p, &[Message::Reject(s)]);
        rejected += 1;
    }
    assert!(rejected <= limits::REJECTS_ONLY + 1, "{rejected} requests were rejected, and still more came");
    let q = w.server(2);
    w.serve_all(q);
    assert!(w.is_complete(), "nothing is held for the one that rejects");
}

#[test]
fn p23_a_peer_that_sends_nothing_is_snubbing_after_twenty_seconds_and_its_blocks_go_to_others() {
    let mut w = TestWorld::leech();
    let snub = w.server(1);
    let asked = w.requests(snub);
    w.pass(19.0);
    assert!(!w.engine.swarms.connections.get(snub).unwrap().peer.source.requests.is_snubbed());
    w.pass(2.0);
    let peer = &w.engine.swarms.connections.get(snub).unwrap().peer;
    assert!(peer.source.requests.is_snubbed() && peer.source.requests.in_flight() <= 1);
    w.send_block(snub, asked[0]);
    assert!(w.is_open(snub) && wasted(&w) == 0, "its late answer is no offence, and of use");
    let q = w.server(2);
    w.serve_all(q);
    w.pass(5.0); // what the first one owes again is late by then
    w.serve_all(q);
    assert!(w.is_complete());
}

#[test]
fn p23_a_block_that_never_ends_is_taken_over_by_whoever_is_faster() {
    let mut w = TestWorld::leech();
    let (slow, q) = (w.server(1), w.server(2));
    let s = w.requests(slow)[0];
    let bytes = w.block_bytes(s);
    w.send(slow, &bytes[..14]);
    w.serve_all(q);
    assert!(w.is_complete(), "the slow one had the lease and lost it");
    assert_eq!(wasted(&w), 1, "and its byte with it");
}

#[test]
fn p23_who_sends_a_block_for_ever_is_let_go() {
    let mut w = TestWorld::leech();
    let slow = w.server(1);
    let s = w.requests(slow)[0];
    let bytes = w.block_bytes(s);
    w.send(slow, &bytes[..14]);
    for n in 14..40 {
        if !w.is_open(slow) {
            break;
        }
        w.send(slow, &bytes[n..=n]);
        w.pass(20.0);
    }
    assert!(!w.is_open(slow), "a byte every twenty seconds is no way to send a block");
    let q = w.server(2);
    w.serve_all(q);
    assert!(w.is_complete());
}

#[test]
fn p24_a_duplicate_that_arrives_during_hashing_is_not_written() {
    let g = Geometry::new(2 * u64::from(BLOCK_LEN), 2 * u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |s| s.slow_disk = true);
    let (p, q) = (w.server(1), w.server(2));
    w.answer_disk(); // prepared
    assert_eq!(w.requests(q).len(), 2, "in endgame both owe both blocks");
    w.send(q, &w.block_bytes(block(0, 0))[..13]); // the header, and so the lease
    w.send(q, &w.block_bytes(block(0, 0))[13..]);
    w.send_block(p, block(0, 1));
    assert_eq!(w.jobs, [Job::Hash(w.piece(0), false)]);
    // The cancels are on their way; the world's oracle fails if any of this is written.
    w.send_lie(p, block(0, 0));
    w.send_lie(q, block(0, 1));
    w.answer_disk();
    w.send_lie(q, block(0, 1));
    assert!(w.is_complete());
}

#[test]
fn two_writers_of_one_block_the_second_is_thrown_away() {
    let g = Geometry::new(u64::from(BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let (p, q) = (w.server(1), w.server(2));
    let bytes = w.block_bytes(block(0, 0));
    let most = bytes.len() - 100;
    w.send(p, &bytes[..most]);
    w.send_lie(q, block(0, 0));
    assert!(!w.is_complete(), "the first one is nearly done");
    w.send(p, &bytes[most..]);
    assert!(w.is_complete());
    assert_eq!(wasted(&w), u64::from(BLOCK_LEN));
}

#[test]
fn three_silent_peers_do_not_keep_a_block_from_a_fourth() {
    let g = Geometry::new(u64::from(BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let silent: Vec<_> = (1..=3).map(|h| w.server(h)).collect();
    w.pass(1.5);
    assert!(silent.iter().all(|p| w.requests(*p).len() == 1), "all three owe it");
    let fourth = w.server(4);
    w.pass(1.5);
    assert!(
        silent.iter().any(|p| w.heard(*p).contains(&Received::Cancel(block(0, 0)))),
        "one gave its place up"
    );
    w.serve_all(fourth);
    assert!(w.is_complete());
}

#[test]
fn endgame_cancels_elsewhere_what_has_arrived() {
    let g = Geometry::new(2 * u64::from(BLOCK_LEN), 2 * u64::from(BLOCK_LEN)).unwrap();
    let mut w = TestWorld::with_geometry(g, |_| {});
    let peers: Vec<_> = (1..=5).map(|h| w.server(h)).collect();
    let asked: Vec<_> = peers.iter().filter(|p| !w.requests(**p).is_empty()).copied().collect();
    assert_eq!(asked.len(), usize::from(limits::ENDGAME_HOLDERS), "at most three owe one block");
    w.serve_one(asked[1]);
    for p in [asked[0], asked[2]] {
        assert_eq!(w.heard(p), [Received::Cancel(block(0, 1))]);
    }
    w.serve_all(asked[0]);
    assert!(w.is_complete());
}

#[test]
fn endgame_moves_what_lies_far_behind_in_a_queue_and_doubles_only_what_may_be_on_its_way() {
    let len = 10 * u64::from(BLOCK_LEN);
    let mut w = TestWorld::with_geometry(Geometry::new(len, len).unwrap(), |s| {
        s.config.policy.window = WindowRule::Fixed(10)
    });
    let p = w.server(1);
    assert_eq!(w.requests(p).len(), 10);
    let q = w.server(2);
    let asked: Vec<u32> = w.requests(q).iter().map(|r| r.begin / BLOCK_LEN).collect();
    assert_eq!(asked, [9, 8, 7, 6]);
    let cancelled: Vec<Received> =
        w.heard(p).into_iter().filter(|said| matches!(said, Received::Cancel(_))).collect();
    assert_eq!(cancelled, [Received::Cancel(block(0, 9)), Received::Cancel(block(0, 8))]);
}

#[test]
fn nothing_is_asked_of_a_peer_that_chokes_us_but_what_it_allows() {
    let mut w = TestWorld::leech();
    let p = w.peer(1);
    w.say(p, &[Message::HaveAll]);
    assert!(w.requests(p).is_empty());
    w.say(p, &[Message::AllowedFast { piece: 2 }]);
    assert!(!w.requests(p).is_empty() && w.requests(p).iter().all(|r| r.piece == 2));
    w.serve_all(p);
    assert_eq!(w.have(), [2]);
}

#[test]
fn nothing_is_written_before_its_piece_is_prepared() {
    let mut w = TestWorld::built(|s| s.slow_disk = true);
    let p = w.server(1);
    let s = w.requests(p)[0];
    w.send_block(p, s);
    assert!(w.content.iter().all(|b| *b == 0));
    w.answer_all();
    assert_ne!(w.content[(u64::from(s.piece) * PIECE_LEN) as usize + 1], 0, "it went on by itself");
}

#[test]
fn a_verdict_from_before_a_pause_judges_nothing_that_came_after() {
    for (verdict, expected) in [
        (HashVerdict::Good { digests: None }, vec![0]),
        (HashVerdict::Bad { digests: Box::new([0; 4]) }, vec![]),
    ] {
        let mut w = TestWorld::built(|s| {
            s.slow_disk = true;
            s.spec.torrent_info.as_mut().unwrap().wanted = Bitfield::from_wire(&[0x80], 4).unwrap();
        });
        let p = w.server(1);
        w.answer_all();
        for b in 0..4 {
            w.send_block(p, block(0, b));
        }
        assert_eq!(w.jobs, [Job::Hash(w.piece(0), false)]);
        w.engine.pause(w.now, w.torrent, &mut w.out);
        w.turn();
        w.engine.resume(w.now, w.torrent);
        let q = w.server(2);
        let asked = w.requests(q);
        assert!(asked.is_empty(), "the hasher still reads: {asked:?}");
        w.jobs.clear();
        w.hashed(w.piece(0), &verdict);
        assert_eq!(w.have(), expected);
        w.slow_disk = false;
        w.serve_all(q);
    }
}

#[test]
fn a_piece_that_is_good_is_told_to_those_who_lack_it() {
    let mut w = TestWorld::leech();
    let (p, lacks) = (w.server(1), w.peer(2));
    w.say(lacks, &[Message::HaveNone]);
    w.serve_all(p);
    assert!(!w.heard(p).iter().any(|s| matches!(s, Received::Have(_))));
    let mut told: Vec<u32> = w
        .heard(lacks)
        .iter()
        .filter_map(|s| if let Received::Have(n) = s { Some(*n) } else { None })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2, 3]);
    assert_eq!(w.puppets[&p].closed, Some(None), "two seeds have nothing to say to each other");
    let seed = w.greeted(3);
    w.say(seed, &[Message::HaveAll]);
    assert_eq!(w.why(seed), Some(DisconnectReason::Uninteresting));
}
