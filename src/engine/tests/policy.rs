//! The policy: each field is set to a value that rill does not use, and the engine follows it.

use crate::engine::testing::{PIECE_LEN, Received, TestWorld, block};
use crate::engine::{Action, Endgame, Picking, Policy, ProtocolViolation, WindowRule};
use crate::units::{BLOCK_LEN, Bitfield, Geometry, PeerKey, Rng};
use crate::wire::Message;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

/// Creates a leech with four pieces of four blocks and a changed policy.
fn leech(change: impl FnOnce(&mut Policy)) -> TestWorld {
    TestWorld::with_setup(|s| change(&mut s.config.policy))
}

/// Creates a seed with a changed policy.
fn seed(change: impl FnOnce(&mut Policy)) -> TestWorld {
    TestWorld::with_setup(|s| {
        s.have = Bitfield::full(4);
        change(&mut s.config.policy);
    })
}

/// Creates a leech of one piece of two blocks with this endgame.
fn two_blocks(endgame: Endgame) -> TestWorld {
    let len = 2 * u64::from(BLOCK_LEN);
    TestWorld::with_geometry(Geometry::new(len, len).unwrap(), |s| s.config.policy.endgame = endgame)
}

/// Connects an interested peer without pieces.
fn interested_peer(w: &mut TestWorld, host: u8) -> PeerKey {
    let p = w.peer(host);
    w.send_messages(p, &[Message::HaveNone, Message::Interested]);
    p
}

/// Connects an interested peer whose key is not needed.
fn add_interested(w: &mut TestWorld, host: u8) {
    interested_peer(w, host);
}

fn unchoked(w: &TestWorld) -> usize {
    w.engine.swarms.connections.iter().filter(|(_, c)| !c.peer.wire.we_choke).count()
}

fn is_snubbed(w: &TestWorld, p: PeerKey) -> bool {
    w.engine.swarms.connections.get(p).unwrap().peer.source.requests.is_snubbed()
}

// ---- endgame ----------------------------------------------------------------------------------------------

#[test]
fn endgame_requests_a_block_from_as_many_peers_as_the_policy_allows() {
    for (endgame, requested) in [
        (Endgame::Off, [2, 0, 0, 0, 0]),
        (Endgame::Bounded { holders: 2, blocks: 4 }, [2, 2, 0, 0, 0]),
        (Endgame::Bounded { holders: 9, blocks: 1 }, [2, 1, 1, 1, 1]),
        (Endgame::Bounded { holders: 0, blocks: 4 }, [2, 0, 0, 0, 0]),
        (Endgame::Unbounded, [2, 2, 2, 2, 2]),
    ] {
        let mut w = two_blocks(endgame);
        let peers: Vec<_> = (1..=5).map(|h| w.unchoking_seed(h)).collect();
        w.advance(1.5); // peers check for late blocks; none is snubbed yet
        let counts: Vec<_> = peers.iter().map(|p| w.requests(*p).len()).collect();
        assert_eq!(counts, requested, "{endgame:?}");
        w.serve_all(peers[0]);
        assert!(w.is_complete());
    }
}

#[test]
fn bounded_endgame_respects_the_request_window() {
    let mut w = two_blocks(Endgame::Bounded { holders: 3, blocks: 4 });
    w.engine.context.config.policy.window = WindowRule::Fixed(1);
    let p = w.unchoking_seed(1);
    let q = w.unchoking_seed(2);
    assert_eq!((w.requests(p).len(), w.requests(q).len()), (1, 1));
    assert_ne!(w.requests(p), w.requests(q));
}

#[test]
fn unbounded_endgame_starts_when_every_block_is_requested() {
    let len = u64::from(BLOCK_LEN);
    let mut w = TestWorld::with_geometry(Geometry::new(2 * len, len).unwrap(), |s| {
        s.config.policy.endgame = Endgame::Unbounded;
        s.config.policy.window = WindowRule::Fixed(1);
    });
    let of_piece_0 = [Message::Bitfield { bytes: &[0x80] }, Message::Unchoke];
    let p = w.peer(1);
    let q = w.peer(2);
    w.send_messages(p, &of_piece_0);
    w.send_messages(q, &of_piece_0);
    assert_eq!(w.requests(p), [block(0, 0)]);
    assert_eq!(w.requests(q), [], "piece 1 is not requested yet");
    let r = w.unchoking_seed(3);
    assert_eq!(w.requests(r), [block(1, 0)]);
    assert_eq!(w.requests(q), [block(0, 0)]);
    w.serve_one(q);
    assert_eq!(w.received(p)[0], Received::Cancel(block(0, 0)));
    assert!(w.requests(p).is_empty());
}

#[test]
fn unbounded_endgame_does_not_request_a_block_that_is_being_received() {
    let mut w = two_blocks(Endgame::Unbounded);
    let p = w.unchoking_seed(1);
    let bytes = w.block_bytes(block(0, 0));
    w.send(p, &bytes[..14]);
    let q = w.unchoking_seed(2);
    assert_eq!(w.requests(q), [block(0, 1)]);
    w.disconnect(p);
    w.serve_all(q);
    assert!(w.is_complete(), "the block is requested again after its sender disconnected");
}

#[test]
fn unbounded_endgame_handles_more_than_255_holders() {
    let len = u64::from(BLOCK_LEN);
    let mut w = TestWorld::with_geometry(Geometry::new(len, len).unwrap(), |s| {
        s.config.policy.endgame = Endgame::Unbounded;
        s.config.max_peers = 300;
        s.config.max_peers_per_torrent = 300;
    });
    let mut peers = Vec::new();
    for n in 0..280u16 {
        let mut handshake = crate::engine::testing::handshake(0, true);
        handshake[60..62].copy_from_slice(&n.to_be_bytes());
        let p = w.connect((n / 8) as u8);
        w.send(p, &handshake);
        w.send_messages(p, &[Message::HaveAll, Message::Unchoke]);
        peers.push(p);
    }
    assert!(peers.iter().all(|p| w.requests(*p) == [block(0, 0)]));
    w.serve_one(peers[200]);
    assert!(w.is_complete());
}

#[test]
#[should_panic(expected = "peers have")]
fn the_audit_panics_on_more_holders_than_the_policy_allows() {
    let mut w = two_blocks(Endgame::Unbounded);
    for host in 1..=3 {
        w.unchoking_seed(host);
    }
    w.engine.context.config.policy.endgame = Endgame::Off;
    w.engine.audit();
}

// ---- requests ----------------------------------------------------------------------------------------------

#[test]
fn a_silent_peer_is_snubbed_after_the_time_of_the_policy_or_never() {
    let mut w = leech(|p| p.snub_after = Some(Duration::from_secs(5)));
    let p = w.unchoking_seed(1);
    w.advance(4.9);
    assert!(!is_snubbed(&w, p));
    w.advance(0.2);
    assert!(is_snubbed(&w, p));

    let mut w = leech(|p| p.snub_after = None);
    let p = w.unchoking_seed(1);
    w.advance(110.0);
    assert!(w.is_open(p) && !is_snubbed(&w, p));
    assert!(w.engine.swarms.connections.get(p).unwrap().peer.source.requests.in_flight() > 0);
}

/// Returns the first two requested pieces, for twenty seeds, when piece 7 of eight is rare.
fn first_pieces(change: impl Fn(&mut Policy)) -> Vec<(u32, u32)> {
    let run = |seed| {
        let mut w = TestWorld::with_geometry(Geometry::new(8 * PIECE_LEN, PIECE_LEN).unwrap(), |s| {
            s.config.seed = seed;
            s.config.policy.window = WindowRule::Fixed(8);
            change(&mut s.config.policy);
        });
        for host in 1..=4 {
            let p = w.peer(host);
            w.send_messages(p, &[Message::Bitfield { bytes: &[0xfe] }]);
        }
        let p = w.unchoking_seed(5);
        let requested = w.requests(p);
        (requested[0].piece, requested[4].piece)
    };
    (0..20).map(run).collect()
}

#[test]
fn random_picking_ignores_rarity() {
    let rarest = first_pieces(|p| {
        p.picking = Picking::RarestFirst;
        p.random_first = 0;
    });
    assert!(rarest.iter().all(|(first, _)| *first == 7), "{rarest:?}");
    let random = first_pieces(|p| {
        p.picking = Picking::Random;
        p.random_first = 0;
    });
    assert!(random.iter().map(|(first, _)| first).collect::<BTreeSet<_>>().len() > 3, "{random:?}");
    assert!(random.iter().filter(|(a, b)| *a == 7 || *b == 7).count() < 15, "{random:?}");
}

#[test]
fn the_policy_sets_the_number_of_random_first_pieces() {
    let one = first_pieces(|p| p.random_first = 1);
    assert!(one.iter().any(|(first, _)| *first != 7), "{one:?}");
    assert!(one.iter().all(|(first, second)| *first == 7 || *second == 7), "{one:?}");
    let two = first_pieces(|p| p.random_first = 2);
    assert!(two.iter().any(|(first, second)| *first != 7 && *second != 7), "{two:?}");
}

#[test]
fn a_fixed_window_is_full_from_the_first_request() {
    let mut w = leech(|p| p.window = WindowRule::Fixed(7));
    let p = w.unchoking_seed(1);
    for left in (7..=16).rev() {
        assert_eq!(w.requests(p).len(), 7, "{left} are missing");
        w.serve_one(p);
    }
    assert_eq!(w.requests(p).len(), 6);
}

#[test]
fn an_adaptive_window_grows_to_its_maximum() {
    let mut w = leech(|p| p.window = WindowRule::Adaptive { time: Duration::from_secs(3), max: 6 });
    let p = w.unchoking_seed(1);
    let mut sizes = BTreeSet::new();
    for _ in 0..8 {
        sizes.insert(w.requests(p).len());
        w.serve_one(p);
    }
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [4, 5, 6]);
}

#[test]
fn the_policy_decides_when_a_peer_gets_its_own_pieces() {
    for (within, own) in [(Duration::ZERO, false), (Duration::MAX, true)] {
        let mut w = leech(|p| {
            p.own_piece_within = within;
            p.window = WindowRule::Fixed(1);
        });
        let p = w.unchoking_seed(1);
        let first = w.requests(p)[0];
        w.serve_one(p);
        let second = w.requests(p)[0];
        assert_eq!(second.piece != first.piece, own, "{within:?}");
    }
}

#[test]
fn fully_requested_pieces_do_not_stop_peers_from_starting_others() {
    let mut w = TestWorld::with_geometry(Geometry::new(1000 * PIECE_LEN, PIECE_LEN).unwrap(), |s| {
        s.config.policy.window = WindowRule::Fixed(250);
    });
    let peers: Vec<_> = (1..=4).map(|host| w.unchoking_seed(host)).collect();
    for p in peers {
        assert_eq!(w.requests(p).len(), 250, "a full window, whatever other peers are asked for");
    }
}

#[test]
fn announces_use_the_numwant_of_the_policy() {
    let mut w = TestWorld::with_setup(|s| {
        s.spec.trackers = vec![vec!["http://t.example/announce".into()]];
        s.config.policy.numwant = 7;
    });
    w.advance(0.01);
    let requested = w
        .log
        .iter()
        .find_map(|a| if let Action::Announce { url, .. } = a { Some(url.clone()) } else { None });
    let url = requested.unwrap();
    assert!(url.split(['?', '&']).any(|pair| pair == "numwant=7"), "{url}");
}

// ---- uploads -----------------------------------------------------------------------------------------------

#[test]
fn the_policy_sets_the_upload_slots_and_the_optimistic_slot() {
    for (upload_slots, optimistic) in [(2, false), (2, true), (5, false)] {
        let mut w = seed(|p| {
            p.upload_slots = upload_slots;
            p.upload_slots_max = 0;
            p.optimistic = optimistic;
        });
        (1..=20).for_each(|h| add_interested(&mut w, h));
        assert_eq!(unchoked(&w), upload_slots, "at once");
        w.advance(60.5);
        assert_eq!(unchoked(&w), upload_slots + usize::from(optimistic), "after choking rounds");
    }
}

#[test]
fn unused_upload_opens_slots_up_to_the_maximum() {
    for (most, served) in [(0, 1), (1, 1), (3, 3)] {
        let mut w = seed(|p| {
            p.upload_slots = 1;
            p.upload_slots_max = most;
            p.optimistic = false;
        });
        (1..=20).for_each(|h| add_interested(&mut w, h));
        w.advance(100.5);
        assert_eq!(unchoked(&w), served);
    }
}

#[test]
fn a_seed_dials_at_most_as_many_peers_as_it_has_slots() {
    let mut w = TestWorld::with_setup(|s| {
        s.have = Bitfield::full(4);
        s.spec.peers = (1..=5).map(|h| ([10, 0, 0, h], 7).into()).collect();
        s.config.policy.upload_slots = 1;
        s.config.policy.upload_slots_max = 2;
    });
    w.advance(5.0);
    assert_eq!(w.dials.len(), 2);
}

#[test]
fn without_upload_slots_no_peer_is_served() {
    let mut w = seed(|p| p.upload_slots = 0);
    let p = w.connect_with_handshake(1);
    assert!(!w.received(p).iter().any(|s| matches!(s, Received::AllowedFast(_))));
    (2..=10).for_each(|h| add_interested(&mut w, h));
    w.send_messages(p, &[Message::HaveNone, Message::Interested]);
    for _ in 0..30 {
        w.advance(10.0);
        w.send_messages(p, &[Message::KeepAlive]);
        assert_eq!(unchoked(&w), 0);
    }
    w.send_messages(p, &[Message::Request(block(0, 0))]);
    let received = w.received(p);
    assert!(
        received.contains(&Received::Reject(block(0, 0)))
            && !received.contains(&Received::Block(block(0, 0))),
        "{received:?}"
    );
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().uploaded, 0);
}

#[test]
fn uploading_to_us_earns_a_slot_only_with_tit_for_tat() {
    for tit_for_tat in [true, false] {
        let mut w = TestWorld::with_setup(|s| {
            s.have = Bitfield::from_wire(&[0x80], 4).unwrap();
            let p = &mut s.config.policy;
            p.upload_slots = 1;
            p.upload_slots_max = 1;
            p.optimistic = false;
            p.tit_for_tat = tit_for_tat;
        });
        let first = interested_peer(&mut w, 1);
        let uploader = w.peer(2);
        w.send_messages(
            uploader,
            &[Message::Bitfield { bytes: &[0x70] }, Message::Unchoke, Message::Interested],
        );
        w.serve_one(uploader);
        w.advance(10.5);
        let served = |p| !w.engine.swarms.connections.get(p).unwrap().peer.wire.we_choke;
        assert_eq!((served(uploader), served(first)), (tit_for_tat, !tit_for_tat));
    }
}

#[test]
fn without_the_fast_extension_its_messages_are_neither_sent_nor_accepted() {
    for fast in [true, false] {
        let mut w = seed(|p| p.fast = fast);
        let p = w.connect_with_handshake(1);
        assert_eq!(w.puppets[&p].from_engine[27] & 4 != 0, fast, "the Fast bit of the handshake");
        let greeting = w.received(p);
        assert_eq!(greeting.contains(&Received::Simple("HaveAll")), fast);
        assert_eq!(greeting.contains(&Received::Bitfield(vec![0xf0])), !fast);
        assert_eq!(greeting.iter().any(|s| matches!(s, Received::AllowedFast(_))), fast);
        w.send_messages(p, &[Message::Request(block(9, 0))]);
        assert_eq!(w.received(p).contains(&Received::Reject(block(9, 0))), fast);
        w.send_messages(p, &[Message::HaveNone]);
        assert_eq!(w.disconnect_reason(p), (!fast).then(|| ProtocolViolation::NotFast.into()));
    }
}

// ---- random policies ---------------------------------------------------------------------------------------

/// Returns a random policy with a request window of at least one block.
pub fn any_policy(rng: &mut Rng) -> Policy {
    let mut below = |n: usize| rng.below(n);
    Policy {
        endgame: [
            Endgame::Off,
            Endgame::Unbounded,
            Endgame::Bounded { holders: below(5) as u8, blocks: below(6) },
            Policy::default().endgame,
        ][below(4)],
        snub_after: [None, Some(Duration::from_secs(below(30) as u64))][below(2)],
        picking: [Picking::RarestFirst, Picking::Random][below(2)],
        random_first: below(6) as u32,
        optimistic: [true, false][below(2)],
        tit_for_tat: [true, false][below(2)],
        fast: [true, false][below(2)],
        upload_slots: below(4),
        upload_slots_max: below(4),
        window: [
            WindowRule::Fixed(1 + below(600) as u32),
            WindowRule::Adaptive {
                time: Duration::from_millis(below(9000) as u64),
                max: 1 + below(500) as u32,
            },
        ][below(2)],
        own_piece_within: Duration::from_millis(below(60_000) as u64),
        numwant: below(300) as u32,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The world audits the engine after every turn.
    #[test]
    fn any_policy_completes_the_torrent_with_consistent_counters(seed in any::<u64>(), servers in 1u8..7) {
        let mut rng = Rng::new(seed);
        let policy = any_policy(&mut rng);
        let mut w = leech(|p| *p = policy);
        let peers: Vec<_> = (1..=servers).map(|h| w.peer_without_fast(h)).collect();
        for p in &peers {
            w.send_messages(*p, &[Message::Bitfield { bytes: &[0xf0] }, Message::Unchoke, Message::Interested]);
        }
        for turns in 0.. {
            let open: Vec<_> = peers.iter().copied().filter(|p| w.is_open(*p)).collect();
            if open.is_empty() || w.is_complete() {
                break;
            }
            prop_assert!(turns < 5_000, "{policy:?}");
            let p = open[rng.below(open.len())];
            match rng.below(20) {
                0 => w.send_messages(p, &[Message::Choke, Message::Unchoke]),
                1 => w.advance(rng.below(8000) as f64 / 1000.0),
                2 => w.send_messages(p, &[Message::KeepAlive]),
                3 if open.len() > 1 => w.disconnect(p),
                4 => {
                    // Late blocks of cancelled or dropped requests.
                    let bytes = w.block_bytes(block(rng.below(4) as u32, rng.below(4) as u32));
                    w.send(p, &bytes);
                }
                _ => {
                    w.serve_one(p);
                }
            }
        }
        prop_assert!(w.is_complete(), "{policy:?}");
    }
}
