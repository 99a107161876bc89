//! Two engines exchange whole torrents through pipes that cut the streams at random bytes.

use super::policy::any_policy;
use crate::engine::Policy;
use crate::engine::testing::{TestWorld, content_byte};
use crate::units::{Bitfield, Geometry, PeerId, PeerKey, Rng};
use proptest::prelude::*;
use std::net::SocketAddr;

/// Two worlds of one torrent that are connected to each other.
struct Pair {
    a: TestWorld,
    b: TestWorld,
    at_a: PeerKey,
    at_b: PeerKey,
}

fn pair(geometry: Geometry, have: [&Bitfield; 2], policy: [Policy; 2], cut: usize, seed: u64) -> Pair {
    let world = |id: u8, have: &Bitfield, policy: Policy, peers: Vec<SocketAddr>| {
        TestWorld::with_geometry(geometry, |s| {
            s.have = have.clone();
            s.spec.peers = peers;
            s.config.policy = policy;
            s.config.peer_id = PeerId([id; 20]);
            s.config.seed = seed.wrapping_add(u64::from(id));
            s.cut = Some(cut);
        })
    };
    let mut a = world(1, have[0], policy[0], Vec::new());
    let mut b = world(2, have[1], policy[1], vec!["10.0.0.1:6881".parse().unwrap()]);
    let at_a = a.connect(2);
    b.advance(0.01);
    let at_b = b.dials[0].0;
    b.dialed(at_b);
    Pair { a, b, at_a, at_b }
}

impl Pair {
    /// Transfers the bytes in transit in both directions. Returns whether there were any.
    fn transfer(&mut self) -> bool {
        let one_way = |from: &mut TestWorld, p: PeerKey, to: &mut TestWorld, q: PeerKey| {
            let bytes: Vec<u8> = from.puppets.get_mut(&p).unwrap().from_engine.drain(..).collect();
            to.send(q, &bytes);
            !bytes.is_empty()
        };
        one_way(&mut self.a, self.at_a, &mut self.b, self.at_b)
            | one_way(&mut self.b, self.at_b, &mut self.a, self.at_a)
    }

    /// Runs until both engines are complete. Returns the virtual seconds.
    fn run(&mut self) -> f64 {
        let mut seconds = 0.0;
        while !(self.a.is_complete() && self.b.is_complete()) {
            assert!(seconds < 300.0, "{:?} and {:?} after five minutes", self.a.have(), self.b.have());
            if !self.transfer() {
                self.a.advance(0.25);
                self.b.advance(0.25);
                seconds += 0.25;
            }
        }
        seconds
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn two_engines_complete_each_other_byte_for_byte(
        pieces in 1u64..12,
        piece_len in 1u64..100_000,
        last in 0.0f64..1.0,
        at_a in any::<u16>(),
        cut in 1usize..40_000,
        seed in any::<u64>(),
        default_policy in any::<bool>(),
    ) {
        let total = (pieces - 1) * piece_len + 1 + ((piece_len - 1) as f64 * last) as u64;
        let g = Geometry::new(total, piece_len).unwrap();
        let mut have_a = Bitfield::empty(g.pieces());
        let mut have_b = Bitfield::empty(g.pieces());
        for p in g.all_pieces() {
            if at_a >> p.get() & 1 != 0 { have_a.set(p) } else { have_b.set(p) };
        }
        let cut = if total > 200_000 { cut.max(500) } else { cut };
        let mut rng = Rng::new(seed);
        let policy = [(); 2].map(|()| if default_policy {
            Policy::default()
        } else {
            Policy { upload_slots: 1 + rng.below(3), ..any_policy(&mut rng) }
        });
        let mut pair = pair(g, [&have_a, &have_b], policy, cut, seed);
        pair.run();
        for w in [&pair.a, &pair.b] {
            prop_assert!(w.content.iter().enumerate().all(|(i, b)| *b == content_byte(i as u64)));
            prop_assert_eq!(w.engine.stats(w.now, w.torrent).unwrap().wasted, 0);
        }
    }
}

#[test]
fn a_seed_completes_a_leech_within_a_second() {
    let g = Geometry::new(2 << 20, 1 << 18).unwrap();
    let mut p = pair(g, [&Bitfield::full(8), &Bitfield::empty(8)], [Policy::default(); 2], 20_000, 1);
    assert!(p.run() < 1.0);
}
