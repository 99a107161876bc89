//! The number of peers that have each piece, and the candidates for the next piece sorted by it.
//!
//! Candidates (missing pieces that are not open) lie in one array in buckets of equal count, rarest first.
//! The order inside a bucket is random from the start and stays random, because pieces move by swaps. A
//! `have` moves one piece across one border; opening a piece moves one piece a bucket. Seeds are one number
//! instead of a count in every piece.

use crate::units::{Bitfield, Geometry, PieceIndex, Rng};

/// The position of a piece that is no candidate.
const NOWHERE: u32 = u32::MAX;

/// Counts and candidates of one torrent.
#[derive(Debug)]
pub struct Availability {
    counts: Box<[u16]>,
    /// Candidates, rarest first.
    order: Vec<PieceIndex>,
    /// The position of each piece in `order`.
    place: Box<[u32]>,
    /// `borders[c]` is where the candidates with more than `c` holders begin.
    borders: Vec<u32>,
    seeds: u32,
}

impl Availability {
    /// Returns the state without peers; the candidates are `missing`.
    pub fn new(geometry: &Geometry, missing: Vec<PieceIndex>, rng: &mut Rng) -> Availability {
        let n = geometry.pieces() as usize;
        let mut order = missing;
        rng.shuffle(&mut order);
        let mut place = vec![NOWHERE; n].into_boxed_slice();
        for (at, p) in order.iter().enumerate() {
            place[p.as_usize()] = at as u32;
        }
        let borders = vec![order.len() as u32];
        Availability { counts: vec![0; n].into_boxed_slice(), order, place, borders, seeds: 0 }
    }

    /// Returns the number of peers that have this piece.
    #[cfg(feature = "oracle")]
    pub fn count(&self, piece: PieceIndex) -> u32 {
        u32::from(self.counts[piece.as_usize()]) + self.seeds
    }

    /// Adds a peer with these pieces.
    pub fn join(&mut self, has: &Bitfield) {
        if has.is_full() {
            self.seeds += 1;
        } else {
            has.iter().for_each(|p| self.add(p));
        }
    }

    /// Removes a peer. `as_seed`: it was added with all pieces; otherwise it is counted by `has`.
    pub fn leave(&mut self, has: &Bitfield, as_seed: bool) {
        if as_seed {
            self.seeds -= 1;
        } else {
            has.iter().for_each(|p| self.subtract(p));
        }
    }

    /// Removes a piece of a peer that now has `has` (BEP 54). `as_seed`: it was added with all pieces, and is
    /// counted by its pieces from now on.
    pub fn lose(&mut self, piece: PieceIndex, has: &Bitfield, as_seed: bool) {
        if !as_seed {
            return self.subtract(piece);
        }
        self.seeds -= 1;
        has.iter()
            .filter(|p| !self.is_candidate(*p))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|p| self.add(p));
        // From last to first, so that candidates of equal count keep their random order.
        let candidates: Vec<PieceIndex> = self.order.iter().rev().copied().filter(|p| has.has(*p)).collect();
        candidates.into_iter().for_each(|p| self.add(p));
    }

    /// Adds a piece of a peer.
    pub fn add(&mut self, piece: PieceIndex) {
        let count = usize::from(self.counts[piece.as_usize()]);
        if count == usize::from(u16::MAX) {
            return;
        }
        self.counts[piece.as_usize()] += 1;
        let at = self.place[piece.as_usize()];
        if at != NOWHERE {
            self.swap(at, self.borders[count] - 1);
            self.borders[count] -= 1;
            if self.borders.len() == count + 1 {
                self.borders.push(self.order.len() as u32);
            }
        }
    }

    /// Removes a piece of a peer.
    fn subtract(&mut self, piece: PieceIndex) {
        let Some(count) = usize::from(self.counts[piece.as_usize()]).checked_sub(1) else { return };
        self.counts[piece.as_usize()] -= 1;
        let at = self.place[piece.as_usize()];
        if at != NOWHERE {
            self.swap(at, self.borders[count]);
            self.borders[count] += 1;
        }
    }

    /// Removes a candidate: it is open, or no longer wanted.
    pub fn withdraw(&mut self, piece: PieceIndex) {
        let at = std::mem::replace(&mut self.place[piece.as_usize()], NOWHERE);
        if at == NOWHERE {
            return;
        }
        // The hole moves to the end of each bucket in turn, and then out of the array.
        let mut hole = at;
        for c in usize::from(self.counts[piece.as_usize()])..self.borders.len() {
            self.borders[c] -= 1;
            let last = self.borders[c];
            if last != hole {
                let moved = self.order[last as usize];
                self.order[hole as usize] = moved;
                self.place[moved.as_usize()] = hole;
                hole = last;
            }
        }
        self.order.pop();
    }

    /// Makes a piece a candidate again.
    pub fn restore(&mut self, piece: PieceIndex) {
        if self.place[piece.as_usize()] != NOWHERE {
            return;
        }
        let count = usize::from(self.counts[piece.as_usize()]);
        while self.borders.len() <= count {
            self.borders.push(self.order.len() as u32);
        }
        // The hole enters at the end of the array and moves to the end of the piece's own bucket.
        self.order.push(piece);
        let mut hole = self.order.len() as u32 - 1;
        for c in (count + 1..self.borders.len()).rev() {
            let first = self.borders[c - 1];
            let moved = self.order[first as usize];
            if first != hole {
                self.order[hole as usize] = moved;
                self.place[moved.as_usize()] = hole;
            }
            hole = first;
            self.borders[c] += 1;
        }
        self.borders[count] += 1;
        self.order[hole as usize] = piece;
        self.place[piece.as_usize()] = hole;
    }

    /// Iterates over the candidates, rarest first.
    pub fn rarest_first(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.order.iter().copied()
    }

    /// Returns whether the piece is a candidate.
    pub fn is_candidate(&self, piece: PieceIndex) -> bool {
        self.place[piece.as_usize()] != NOWHERE
    }

    /// Returns the number of candidates.
    pub fn candidates(&self) -> usize {
        self.order.len()
    }

    /// Returns a candidate in `has`, each with equal probability.
    pub fn any(&self, has: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        let candidates = || self.order.iter().copied().filter(|p| has.has(*p));
        candidates().nth(rng.below(candidates().count()))
    }

    fn swap(&mut self, a: u32, b: u32) {
        let at_a = self.order[a as usize];
        let at_b = self.order[b as usize];
        self.order.swap(a as usize, b as usize);
        self.place[at_a.as_usize()] = b;
        self.place[at_b.as_usize()] = a;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rng;
    use proptest::prelude::*;

    fn check(a: &Availability) {
        for (i, p) in a.order.iter().enumerate() {
            assert_eq!(a.place[p.as_usize()], i as u32);
        }
        let counts: Vec<u16> = a.order.iter().map(|p| a.counts[p.as_usize()]).collect();
        assert!(counts.is_sorted(), "{counts:?}");
        for (c, &border) in a.borders.iter().enumerate() {
            assert_eq!(
                counts.iter().filter(|&&k| usize::from(k) <= c).count() as u32,
                border,
                "border {c} of {counts:?}"
            );
        }
    }

    #[test]
    fn the_rarest_is_first_and_a_seed_does_not_change_the_order() {
        let g = Geometry::new(4, 1).unwrap();
        let mut a = Availability::new(&g, g.all_pieces().collect(), &mut Rng::new(1));
        let p = |i| g.piece(i).unwrap();
        for i in [0, 1, 3, 0, 1, 0] {
            a.add(p(i));
        }
        a.join(&Bitfield::full(4));
        let order: Vec<u32> = a.rarest_first().map(PieceIndex::get).collect();
        assert_eq!(order, [2, 3, 1, 0]);
        assert_eq!((a.count(p(2)), a.count(p(0))), (1, 4));
    }

    #[test]
    fn a_seed_that_loses_a_piece_is_counted_by_its_pieces_and_the_order_stays_random() {
        let g = Geometry::new(50, 1).unwrap();
        let mut a = Availability::new(&g, g.all_pieces().collect(), &mut Rng::new(1));
        let mut has = Bitfield::full(50);
        a.join(&has);
        let (lost, begun) = (a.order[20], a.order[30]);
        a.withdraw(begun);
        let rest: Vec<PieceIndex> = a.rarest_first().filter(|p| *p != lost).collect();
        has.clear(lost);
        a.lose(lost, &has, true);
        check(&a);
        assert_eq!((a.count(lost), a.count(begun), a.count(rest[0])), (0, 1, 1));
        assert_eq!(a.order[0], lost);
        let moved = a.order[1..].iter().zip(&rest).filter(|(now, then)| now != then).count();
        assert!(moved <= 1 + rest.len() / 2, "{moved} of {} moved", rest.len());
        a.leave(&has, false);
        check(&a);
        assert!(g.all_pieces().all(|p| a.count(p) == 0));
    }

    #[test]
    fn a_random_choice_does_not_favour_a_piece_without_neighbours() {
        let g = Geometry::new(100, 1).unwrap();
        let mut rng = Rng::new(1);
        let a = Availability::new(&g, g.all_pieces().collect(), &mut rng);
        // Two that are next to each other, and one far behind.
        let order: Vec<PieceIndex> = a.rarest_first().collect();
        let mut has = Bitfield::empty(100);
        assert!([10, 11, 90].into_iter().all(|at: usize| has.set(order[at])));
        let hits = (0..3000).filter(|_| a.any(&has, &mut rng) == Some(order[90])).count();
        assert!((900..1100).contains(&hits), "{hits} of about 1000");
        assert_eq!(a.any(&Bitfield::empty(100), &mut rng), None);
    }

    proptest! {
        #[test]
        fn the_order_stays_sorted_after_any_steps(seed in any::<u64>(), steps in proptest::collection::vec((0u8..4, 0u32..30), 0..300)) {
            let g = Geometry::new(30, 1).unwrap();
            let mut a = Availability::new(&g, g.all_pieces().collect(), &mut Rng::new(seed));
            for (step, piece) in steps {
                let piece = g.piece(piece).unwrap();
                match step {
                    0 => a.add(piece),
                    1 => a.subtract(piece),
                    2 => a.withdraw(piece),
                    _ => a.restore(piece),
                }
                check(&a);
            }
        }
    }
}
