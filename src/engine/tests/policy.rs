//! The policy: each of its fields is set to something that rill does not do, and the engine does it.

use crate::engine::testing::{PIECE_LEN, Received, TestWorld, block};
use crate::engine::{Action, Endgame, Picking, Policy, ProtocolViolation, WindowRule};
use crate::units::{BLOCK_LEN, Bitfield, Geometry, PeerKey, Rng};
use crate::wire::Message;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

/// Four pieces of four blocks, none of them here, and this policy.
fn leech(change: impl FnOnce(&mut Policy)) -> TestWorld {
    TestWorld::built(|s| change(&mut s.config.policy))
}

/// The same, all of them here.
fn seed(change: impl FnOnce(&mut Policy)) -> TestWorld {
    TestWorld::built(|s| {
        s.have = Bitfield::full(4);
        change(&mut s.config.policy);
    })
}

/// One piece of two blocks, and this endgame.
fn two_blocks(endgame: Endgame) -> TestWorld {
    let len = 2 * u64::from(BLOCK_LEN);
    TestWorld::with_geometry(Geometry::new(len, len).unwrap(), |s| s.config.policy.endgame = endgame)
}

/// A peer that wants everything and has nothing.
fn wanting(w: &mut TestWorld, host: u8) -> PeerKey {
    let p = w.peer(host);
    w.say(p, &[Message::HaveNone, Message::Interested]);
    p
}

/// The same for any peer.
fn wants(w: &mut TestWorld, host: u8) {
    wanting(w, host);
}

fn unchoked(w: &TestWorld) -> usize {
    w.engine.swarms.connections.iter().filter(|(_, c)| !c.peer.wire.we_choke).count()
}

fn is_snubbed(w: &TestWorld, p: PeerKey) -> bool {
    w.engine.swarms.connections.get(p).unwrap().peer.source.requests.is_snubbed()
}

// ---- endgame ----------------------------------------------------------------------------------------------

#[test]
fn endgame_asks_as_many_for_a_block_as_the_policy_lets_it() {
    for (endgame, asked) in [
        (Endgame::Off, [2, 0, 0, 0, 0]),
        (Endgame::Bounded { holders: 2, blocks: 4 }, [2, 2, 0, 0, 0]),
        (Endgame::Bounded { holders: 9, blocks: 1 }, [2, 1, 1, 1, 1]),
        (Endgame::Bounded { holders: 0, blocks: 4 }, [2, 0, 0, 0, 0]),
        (Endgame::Unbounded, [2, 2, 2, 2, 2]),
    ] {
        let mut w = two_blocks(endgame);
        let peers: Vec<_> = (1..=5).map(|h| w.server(h)).collect();
        w.pass(1.5); // peers look again for late blocks; none is silent for long
        let counts: Vec<_> = peers.iter().map(|p| w.requests(*p).len()).collect();
        assert_eq!(counts, asked, "{endgame:?}");
        w.serve_all(peers[0]);
        assert!(w.is_complete());
    }
}

#[test]
fn bounded_endgame_goes_no_further_than_the_window() {
    let mut w = two_blocks(Endgame::Bounded { holders: 3, blocks: 4 });
    w.engine.context.config.policy.window = WindowRule::Fixed(1);
    let (p, q) = (w.server(1), w.server(2));
    assert_eq!((w.requests(p).len(), w.requests(q).len()), (1, 1));
    assert_ne!(w.requests(p), w.requests(q));
}

#[test]
fn unbounded_endgame_begins_for_everybody_with_the_last_request() {
    let len = u64::from(BLOCK_LEN);
    let mut w = TestWorld::with_geometry(Geometry::new(2 * len, len).unwrap(), |s| {
        s.config.policy.endgame = Endgame::Unbounded;
        s.config.policy.window = WindowRule::Fixed(1);
    });
    let of_piece_0 = [Message::Bitfield { bytes: &[0x80] }, Message::Unchoke];
    let (p, q) = (w.peer(1), w.peer(2));
    w.say(p, &of_piece_0);
    w.say(q, &of_piece_0);
    assert_eq!(w.requests(p), [block(0, 0)]);
    assert_eq!(w.requests(q), [], "piece 1 has not been asked for");
    let r = w.server(3);
    assert_eq!(w.requests(r), [block(1, 0)]);
    assert_eq!(w.requests(q), [block(0, 0)]);
    w.serve_one(q);
    assert_eq!(w.heard(p)[0], Received::Cancel(block(0, 0)));
    assert!(w.requests(p).is_empty());
}

#[test]
fn unbounded_endgame_does_not_ask_for_what_somebody_is_sending() {
    let mut w = two_blocks(Endgame::Unbounded);
    let p = w.server(1);
    let bytes = w.block_bytes(block(0, 0));
    w.send(p, &bytes[..14]);
    let q = w.server(2);
    assert_eq!(w.requests(q), [block(0, 1)]);
    w.lose(p);
    w.serve_all(q);
    assert!(w.is_complete(), "the one who was sending is gone");
}

#[test]
fn unbounded_endgame_counts_more_holders_than_a_byte_does() {
    let len = u64::from(BLOCK_LEN);
    let mut w = TestWorld::with_geometry(Geometry::new(len, len).unwrap(), |s| {
        s.config.policy.endgame = Endgame::Unbounded;
        (s.config.max_peers, s.config.max_peers_per_torrent) = (300, 300);
    });
    let mut peers = Vec::new();
    for n in 0..280u16 {
        let mut named = crate::engine::testing::handshake(0, true);
        named[60..62].copy_from_slice(&n.to_be_bytes());
        let p = w.connect((n / 8) as u8);
        w.send(p, &named);
        w.say(p, &[Message::HaveAll, Message::Unchoke]);
        peers.push(p);
    }
    assert!(peers.iter().all(|p| w.requests(*p) == [block(0, 0)]));
    w.serve_one(peers[200]);
    assert!(w.is_complete());
}

#[test]
#[should_panic(expected = "peers owe")]
fn the_audit_knows_the_policy() {
    let mut w = two_blocks(Endgame::Unbounded);
    for host in 1..=3 {
        w.server(host);
    }
    w.engine.context.config.policy.endgame = Endgame::Off;
    w.engine.audit();
}

// ---- what is asked of whom --------------------------------------------------------------------------------

#[test]
fn a_silent_peer_is_a_snubber_when_the_policy_says_so_and_never_without_it() {
    let mut w = leech(|p| p.snub_after = Some(Duration::from_secs(5)));
    let p = w.server(1);
    w.pass(4.9);
    assert!(!is_snubbed(&w, p));
    w.pass(0.2);
    assert!(is_snubbed(&w, p));

    let mut w = leech(|p| p.snub_after = None);
    let p = w.server(1);
    w.pass(110.0);
    assert!(w.is_open(p) && !is_snubbed(&w, p));
    assert!(w.engine.swarms.connections.get(p).unwrap().peer.source.requests.in_flight() > 0);
}

/// The first two pieces that are asked for when piece 7 of eight is rare; one pair for each of these seeds.
fn first_pieces(change: impl Fn(&mut Policy)) -> Vec<(u32, u32)> {
    let run = |seed| {
        let mut w = TestWorld::with_geometry(Geometry::new(8 * PIECE_LEN, PIECE_LEN).unwrap(), |s| {
            s.config.seed = seed;
            s.config.policy.window = WindowRule::Fixed(8);
            change(&mut s.config.policy);
        });
        for host in 1..=4 {
            let p = w.peer(host);
            w.say(p, &[Message::Bitfield { bytes: &[0xfe] }]);
        }
        let p = w.server(5);
        let asked = w.requests(p);
        (asked[0].piece, asked[4].piece)
    };
    (0..20).map(run).collect()
}

#[test]
fn random_picking_does_not_care_what_is_rare() {
    let rarest = first_pieces(|p| (p.picking, p.random_first) = (Picking::RarestFirst, 0));
    assert!(rarest.iter().all(|(first, _)| *first == 7), "{rarest:?}");
    let random = first_pieces(|p| (p.picking, p.random_first) = (Picking::Random, 0));
    assert!(random.iter().map(|(first, _)| first).collect::<BTreeSet<_>>().len() > 3, "{random:?}");
    assert!(random.iter().filter(|(a, b)| *a == 7 || *b == 7).count() < 15, "{random:?}");
}

#[test]
fn as_many_pieces_are_picked_at_random_first_as_the_policy_says() {
    let one = first_pieces(|p| p.random_first = 1);
    assert!(one.iter().any(|(first, _)| *first != 7), "{one:?}");
    assert!(one.iter().all(|(first, second)| *first == 7 || *second == 7), "{one:?}");
    let two = first_pieces(|p| p.random_first = 2);
    assert!(two.iter().any(|(first, second)| *first != 7 && *second != 7), "{two:?}");
}

#[test]
fn a_fixed_window_is_full_from_the_first_request_to_the_last() {
    let mut w = leech(|p| p.window = WindowRule::Fixed(7));
    let p = w.server(1);
    for left in (7..=16).rev() {
        assert_eq!(w.requests(p).len(), 7, "{left} are missing");
        w.serve_one(p);
    }
    assert_eq!(w.requests(p).len(), 6);
}

#[test]
fn an_adaptive_window_grows_to_the_policys_most() {
    let mut w = leech(|p| p.window = WindowRule::Adaptive { time: Duration::from_secs(3), max: 6 });
    let p = w.server(1);
    let mut sizes = BTreeSet::new();
    for _ in 0..8 {
        sizes.insert(w.requests(p).len());
        w.serve_one(p);
    }
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [4, 5, 6]);
}

#[test]
fn who_is_fast_enough_for_pieces_of_its_own_is_the_policys_to_say() {
    for (within, own) in [(Duration::ZERO, false), (Duration::MAX, true)] {
        let mut w = leech(|p| (p.own_piece_within, p.window) = (within, WindowRule::Fixed(1)));
        let p = w.server(1);
        let first = w.requests(p)[0];
        w.serve_one(p);
        let second = w.requests(p)[0];
        assert_eq!(second.piece != first.piece, own, "{within:?}");
    }
}

#[test]
fn pieces_that_are_asked_for_in_full_keep_nobody_from_beginning_others() {
    let mut w = TestWorld::with_geometry(Geometry::new(1000 * PIECE_LEN, PIECE_LEN).unwrap(), |s| {
        s.config.policy.window = WindowRule::Fixed(250);
    });
    let peers: Vec<_> = (1..=4).map(|host| w.server(host)).collect();
    for p in peers {
        assert_eq!(
            w.requests(p).len(),
            250,
            "as many as its window holds, whatever others have been asked for"
        );
    }
}

#[test]
fn trackers_are_asked_for_as_many_peers_as_the_policy_says() {
    let mut w = TestWorld::built(|s| {
        s.spec.trackers = vec![vec!["http://t.example/announce".into()]];
        s.config.policy.numwant = 7;
    });
    w.pass(0.01);
    let asked = w
        .log
        .iter()
        .find_map(|a| if let Action::Announce { url, .. } = a { Some(url.clone()) } else { None });
    let url = asked.unwrap();
    assert!(url.split(['?', '&']).any(|pair| pair == "numwant=7"), "{url}");
}

// ---- what others may take ---------------------------------------------------------------------------------

#[test]
fn as_many_are_served_as_the_policy_has_slots_and_one_more_if_it_is_optimistic() {
    for (upload_slots, optimistic) in [(2, false), (2, true), (5, false)] {
        let mut w =
            seed(|p| (p.upload_slots, p.upload_slots_max, p.optimistic) = (upload_slots, 0, optimistic));
        (1..=20).for_each(|h| wants(&mut w, h));
        assert_eq!(unchoked(&w), upload_slots, "at once");
        w.pass(60.5);
        assert_eq!(unchoked(&w), upload_slots + usize::from(optimistic), "in every round");
    }
}

#[test]
fn unused_upload_opens_no_more_slots_than_the_policy_says() {
    for (most, served) in [(0, 1), (1, 1), (3, 3)] {
        let mut w = seed(|p| (p.upload_slots, p.upload_slots_max, p.optimistic) = (1, most, false));
        (1..=20).for_each(|h| wants(&mut w, h));
        w.pass(100.5);
        assert_eq!(unchoked(&w), served);
    }
}

#[test]
fn a_seed_dials_no_more_peers_than_its_slots_could_serve() {
    let mut w = TestWorld::built(|s| {
        s.have = Bitfield::full(4);
        s.spec.peers = (1..=5).map(|h| ([10, 0, 0, h], 7).into()).collect();
        (s.config.policy.upload_slots, s.config.policy.upload_slots_max) = (1, 2);
    });
    w.pass(5.0);
    assert_eq!(w.dials.len(), 2);
}

#[test]
fn without_slots_nobody_is_served_in_any_way() {
    let mut w = seed(|p| p.upload_slots = 0);
    let p = w.greeted(1);
    assert!(!w.heard(p).iter().any(|s| matches!(s, Received::AllowedFast(_))));
    (2..=10).for_each(|h| wants(&mut w, h));
    w.say(p, &[Message::HaveNone, Message::Interested]);
    for _ in 0..30 {
        w.pass(10.0);
        w.say(p, &[Message::KeepAlive]);
        assert_eq!(unchoked(&w), 0);
    }
    w.say(p, &[Message::Request(block(0, 0))]);
    let heard = w.heard(p);
    assert!(
        heard.contains(&Received::Reject(block(0, 0))) && !heard.contains(&Received::Block(block(0, 0))),
        "{heard:?}"
    );
    assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().uploaded, 0);
}

#[test]
fn giving_earns_a_slot_only_where_there_is_tit_for_tat() {
    for tit_for_tat in [true, false] {
        let mut w = TestWorld::built(|s| {
            s.have = Bitfield::from_wire(&[0x80], 4).unwrap();
            let p = &mut s.config.policy;
            (p.upload_slots, p.upload_slots_max, p.optimistic, p.tit_for_tat) = (1, 1, false, tit_for_tat);
        });
        let first = wanting(&mut w, 1);
        let giver = w.peer(2);
        w.say(giver, &[Message::Bitfield { bytes: &[0x70] }, Message::Unchoke, Message::Interested]);
        w.serve_one(giver);
        w.pass(10.5);
        let served = |p| !w.engine.swarms.connections.get(p).unwrap().peer.wire.we_choke;
        assert_eq!((served(giver), served(first)), (tit_for_tat, !tit_for_tat));
    }
}

#[test]
fn without_the_fast_extension_none_of_its_messages_is_sent_or_taken() {
    for fast in [true, false] {
        let mut w = seed(|p| p.fast = fast);
        let p = w.greeted(1);
        assert_eq!(w.puppets[&p].from_engine[27] & 4 != 0, fast, "the bit of the handshake");
        let greeting = w.heard(p);
        assert_eq!(greeting.contains(&Received::Word("HaveAll")), fast);
        assert_eq!(greeting.contains(&Received::Bitfield(vec![0xf0])), !fast);
        assert_eq!(greeting.iter().any(|s| matches!(s, Received::AllowedFast(_))), fast);
        w.say(p, &[Message::Request(block(9, 0))]);
        assert_eq!(w.heard(p).contains(&Received::Reject(block(9, 0))), fast);
        w.say(p, &[Message::HaveNone]);
        assert_eq!(w.why(p), (!fast).then(|| ProtocolViolation::NotFast.into()));
    }
}

// ---- all of them together ---------------------------------------------------------------------------------

/// Some policy; all but a window of nothing, with which nothing is got.
pub fn any_policy(rng: &mut Rng) -> Policy {
    let (yes, no) = (true, false);
    let mut one_of = |n: usize| rng.below(n);
    Policy {
        endgame: [
            Endgame::Off,
            Endgame::Unbounded,
            Endgame::Bounded { holders: one_of(5) as u8, blocks: one_of(6) },
            Policy::default().endgame,
        ][one_of(4)],
        snub_after: [None, Some(Duration::from_secs(one_of(30) as u64))][one_of(2)],
        picking: [Picking::RarestFirst, Picking::Random][one_of(2)],
        random_first: one_of(6) as u32,
        optimistic: [yes, no][one_of(2)],
        tit_for_tat: [yes, no][one_of(2)],
        fast: [yes, no][one_of(2)],
        upload_slots: one_of(4),
        upload_slots_max: one_of(4),
        window: [
            WindowRule::Fixed(1 + one_of(600) as u32),
            WindowRule::Adaptive {
                time: Duration::from_millis(one_of(9000) as u64),
                max: 1 + one_of(500) as u32,
            },
        ][one_of(2)],
        own_piece_within: Duration::from_millis(one_of(60_000) as u64),
        numwant: one_of(300) as u32,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The audit counts everything again after every turn.
    #[test]
    fn whatever_the_policy_the_torrent_arrives_and_every_count_is_right(seed in any::<u64>(), servers in 1u8..7) {
        let mut rng = Rng::new(seed);
        let policy = any_policy(&mut rng);
        let mut w = leech(|p| *p = policy);
        let peers: Vec<_> = (1..=servers).map(|h| w.plain_peer(h)).collect();
        for p in &peers {
            w.say(*p, &[Message::Bitfield { bytes: &[0xf0] }, Message::Unchoke, Message::Interested]);
        }
        for turns in 0.. {
            let open: Vec<_> = peers.iter().copied().filter(|p| w.is_open(*p)).collect();
            if open.is_empty() || w.is_complete() {
                break;
            }
            prop_assert!(turns < 5_000, "{policy:?}");
            let p = open[rng.below(open.len())];
            match rng.below(20) {
                0 => w.say(p, &[Message::Choke, Message::Unchoke]),
                1 => w.pass(rng.below(8000) as f64 / 1000.0),
                2 => w.say(p, &[Message::KeepAlive]),
                3 if open.len() > 1 => w.lose(p),
                4 => {
                    // Late answers to what was cancelled or given up.
                    let bytes = w.block_bytes(block(rng.below(4) as u32, rng.below(4) as u32));
                    w.send(p, &bytes);
                }
                _ => drop(w.serve_one(p)),
            }
        }
        prop_assert!(w.is_complete(), "{policy:?}");
    }
}
