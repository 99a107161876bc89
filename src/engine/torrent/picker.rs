//! Which block to ask this peer for next.
//!
//! In this order: the piece it is at; a piece of its own that has begun; if it is fast, a new piece for
//! itself; a piece that slower peers share; a new piece; another peer's piece. When every wanted block is
//! requested, endgame begins: the engine then looks for peers that would bring a block sooner. A piece that
//! failed once is requested from a single peer. New pieces are random for the first few, then rarest first
//! unless the [`Policy`] says otherwise; what the peer suggested (BEP 6) goes before that; `sequential` takes
//! them in order.

use super::availability::Availability;
use super::pieces::{Pieces, Stage};
use crate::engine::{Picking, Policy};
use crate::units::{Bitfield, BlockSpan, PeerKey, PieceIndex, Rng};

/// What the picker knows of the peer that asks.
#[derive(Debug)]
pub struct PickInput<'a> {
    /// Who.
    pub peer: PeerKey,
    /// Pieces that it has.
    pub has: &'a Bitfield,
    /// Only these may be asked for: it chokes us, but these are allowed fast.
    pub only: Option<&'a [PieceIndex]>,
    /// What it suggested.
    pub suggested: &'a [PieceIndex],
    /// The piece that its last request was for.
    pub at: Option<PieceIndex>,
    /// Fast enough to bring a whole piece soon.
    pub is_fast: bool,
}

impl PickInput<'_> {
    fn may(&self, piece: PieceIndex) -> bool {
        self.has.has(piece) && self.only.is_none_or(|only| only.contains(&piece))
    }
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Ask for this.
    pub block: BlockSpan,
    /// Its piece has just begun: prepare it.
    pub begun: bool,
}

/// The choosing of one torrent.
#[derive(Debug)]
pub struct Picker {
    /// What could begin.
    pub availability: Availability,
    sequential: bool,
    picking: Picking,
    random_left: u32,
    /// One entry a piece; `None` if all are normal.
    priorities: Option<Box<[PiecePriority]>>,
}

/// How urgently a wanted piece is requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PiecePriority {
    /// After all normal pieces.
    Low,
    /// As the picker decides.
    #[default]
    Normal,
    /// Before all normal pieces.
    High,
}

impl PiecePriority {
    /// The most urgent first.
    const ALL: [PiecePriority; 3] = [PiecePriority::High, PiecePriority::Normal, PiecePriority::Low];
}

impl Picker {
    /// A picker of the missing pieces.
    pub fn new(pieces: &Pieces, sequential: bool, policy: &Policy, rng: &mut Rng) -> Picker {
        let mut missing = Vec::with_capacity(pieces.missing() as usize);
        missing.extend(
            pieces.geometry().all_pieces().filter(|p| pieces.is_missing(*p) && pieces.get(*p).is_none()),
        );
        let random_left = policy.random_first.saturating_sub(pieces.have().ones());
        let availability = Availability::new(pieces.geometry(), missing, rng);
        Picker { availability, sequential, picking: policy.picking, random_left, priorities: None }
    }

    /// Requests pieces in order, or rarest first.
    pub fn set_sequential(&mut self, sequential: bool) {
        self.sequential = sequential;
    }

    /// Sets how urgent each piece is; `None` if all are normal.
    pub fn set_priorities(&mut self, priorities: Option<Box<[PiecePriority]>>) {
        self.priorities = priorities;
    }

    /// Whether pieces go in order.
    pub fn is_sequential(&self) -> bool {
        self.sequential
    }

    /// The next block for this peer, marked as asked for. `partial_limit` bounds the pieces that are asked
    /// for in part; those of which all is asked for are bounded by what peers may owe.
    pub fn pick(
        &mut self,
        pieces: &mut Pieces,
        input: &PickInput<'_>,
        partial_limit: usize,
        rng: &mut Rng,
    ) -> Option<Pick> {
        if let Some(block) = input.at.filter(|p| usable(pieces, input, *p)).and_then(|p| pieces.ask_free(p)) {
            return Some(Pick { block, begun: false });
        }
        let continued = |pieces: &mut Pieces, rank: fn(&PickInput<'_>, Option<PeerKey>) -> bool| {
            let piece = pieces
                .partial()
                .find(|(p, o)| rank(input, o.owner) && usable(pieces, input, *p))
                .map(|(p, _)| p)?;
            Some(Pick { block: pieces.ask_free(piece)?, begun: false })
        };
        let own = continued(pieces, |input, owner| owner == Some(input.peer));
        let shared = |pieces: &mut Pieces| continued(pieces, |_, owner| owner.is_none());
        let chosen = match input.is_fast {
            true => own.or_else(|| self.begin(pieces, input, partial_limit, rng)).or_else(|| shared(pieces)),
            false => own.or_else(|| shared(pieces)).or_else(|| self.begin(pieces, input, partial_limit, rng)),
        };
        chosen.or_else(|| continued(pieces, |_, _| true))
    }

    fn begin(
        &mut self,
        pieces: &mut Pieces,
        input: &PickInput<'_>,
        partial_limit: usize,
        rng: &mut Rng,
    ) -> Option<Pick> {
        if pieces.partial_count() >= partial_limit {
            return None;
        }
        let piece = self.next_piece(input, rng)?;
        self.availability.withdraw(piece);
        self.random_left = self.random_left.saturating_sub(1);
        pieces.begin(piece).owner = input.is_fast.then_some(input.peer);
        Some(Pick { block: pieces.ask_free(piece)?, begun: true })
    }

    fn next_piece(&mut self, input: &PickInput<'_>, rng: &mut Rng) -> Option<PieceIndex> {
        if let Some(only) = input.only {
            return only.iter().copied().find(|p| self.availability.is_candidate(*p) && input.has.has(*p));
        }
        if let Some(priorities) = &self.priorities {
            let of = |urgent: PiecePriority| {
                let mut candidates = self.availability.rarest_first().filter(|p| {
                    priorities.get(p.as_usize()).copied().unwrap_or_default() == urgent && input.has.has(*p)
                });
                if self.sequential { candidates.min() } else { candidates.next() }
            };
            return PiecePriority::ALL.into_iter().find_map(of);
        }
        if self.sequential {
            return self.availability.rarest_first().filter(|p| input.has.has(*p)).min();
        }
        if let Some(p) =
            input.suggested.iter().copied().find(|p| self.availability.is_candidate(*p) && input.has.has(*p))
        {
            return Some(p);
        }
        if self.random_left > 0 || self.picking.is_random() {
            return self.availability.any(input.has, rng);
        }
        self.availability.rarest_first().find(|p| input.has.has(*p))
    }

    /// Whether every wanted block is asked for or here.
    pub fn is_endgame(&self, pieces: &Pieces) -> bool {
        self.availability.candidates() == 0 && pieces.partial().all(|(_, o)| o.reserved.is_some())
    }

    /// Whether endgame may ask this peer for a block that others owe us, fewer than `holders` of them.
    pub fn may_ask_again(
        &self,
        pieces: &Pieces,
        input: &PickInput<'_>,
        block: BlockSpan,
        holders: u16,
    ) -> bool {
        usable(pieces, input, block.piece()) && pieces.may_ask_again(block, holders)
    }
}

/// Whether this peer may be asked for blocks of this open piece.
fn usable(pieces: &Pieces, input: &PickInput<'_>, piece: PieceIndex) -> bool {
    input.may(piece)
        && pieces
            .get(piece)
            .is_some_and(|o| o.stage != Stage::Hashing && o.reserved.is_none_or(|only| only == input.peer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::limits;
    use crate::units::{Geometry, SlotMap};

    struct PickerFixture {
        g: Geometry,
        pieces: Pieces,
        picker: Picker,
        rng: Rng,
        peers: Vec<PeerKey>,
    }

    /// Ten pieces of four blocks.
    fn world(sequential: bool) -> PickerFixture {
        let g = Geometry::new(10 * 65536, 65536).unwrap();
        let pieces = Pieces::new(g, Bitfield::empty(10), Bitfield::full(10));
        let mut rng = Rng::new(4);
        let picker = Picker::new(&pieces, sequential, &Policy::default(), &mut rng);
        let mut t: SlotMap<PeerKey, ()> = SlotMap::default();
        PickerFixture { g, pieces, picker, rng, peers: (0..4).map(|_| t.insert(())).collect() }
    }

    fn input<'a>(w: &PickerFixture, peer: usize, has: &'a Bitfield, is_fast: bool) -> PickInput<'a> {
        PickInput { peer: w.peers[peer], has, only: None, suggested: &[], at: None, is_fast }
    }

    #[test]
    fn a_piece_that_has_begun_is_finished_before_another_begins() {
        let mut w = world(false);
        let full = Bitfield::full(10);
        let slow = input(&w, 0, &full, false);
        let first = w.picker.pick(&mut w.pieces, &slow, 99, &mut w.rng).unwrap();
        assert!(first.begun);
        for _ in 0..3 {
            let p = w.picker.pick(&mut w.pieces, &slow, 99, &mut w.rng).unwrap();
            assert_eq!((p.block.piece(), p.begun), (first.block.piece(), false));
        }
        assert!(w.picker.pick(&mut w.pieces, &slow, 99, &mut w.rng).unwrap().begun);
    }

    #[test]
    fn fast_peers_do_not_share_pieces_while_there_are_enough() {
        let mut w = world(false);
        let full = Bitfield::full(10);
        let (a, b) = (input(&w, 0, &full, true), input(&w, 1, &full, true));
        let x = w.picker.pick(&mut w.pieces, &a, 99, &mut w.rng).unwrap().block.piece();
        let y = w.picker.pick(&mut w.pieces, &b, 99, &mut w.rng).unwrap().block.piece();
        assert_ne!(x, y);
        assert_eq!(w.picker.pick(&mut w.pieces, &a, 99, &mut w.rng).unwrap().block.piece(), x);
        assert_eq!(w.picker.pick(&mut w.pieces, &b, 2, &mut w.rng).unwrap().block.piece(), y);
    }

    #[test]
    fn sequential_goes_in_order() {
        let mut w = world(true);
        let full = Bitfield::full(10);
        let a = input(&w, 0, &full, false);
        let order: Vec<u32> = std::iter::from_fn(|| w.picker.pick(&mut w.pieces, &a, 99, &mut w.rng))
            .map(|p| p.block.piece().get())
            .collect();
        assert_eq!(order.len(), 40);
        assert!(order.is_sorted());
    }

    #[test]
    fn after_the_first_pieces_the_rarest_goes_first() {
        let mut w = world(false);
        w.picker.random_left = 0;
        let full = Bitfield::full(10);
        let rare = w.g.piece(7).unwrap();
        for p in w.g.all_pieces().filter(|p| *p != rare) {
            w.picker.availability.add(p);
        }
        let a = input(&w, 0, &full, false);
        assert_eq!(w.picker.pick(&mut w.pieces, &a, 99, &mut w.rng).unwrap().block.piece(), rare);
    }

    #[test]
    fn endgame_begins_when_every_block_is_asked_for_and_stops_at_three_holders() {
        let mut w = world(false);
        let full = Bitfield::full(10);
        let a = input(&w, 0, &full, false);
        assert!(!w.picker.is_endgame(&w.pieces));
        let mut last = None;
        while let Some(p) = w.picker.pick(&mut w.pieces, &a, 99, &mut w.rng) {
            last = Some(p.block);
        }
        assert!(w.picker.is_endgame(&w.pieces));
        let b = input(&w, 1, &full, false);
        let block = last.unwrap();
        let holders = u16::from(limits::ENDGAME_HOLDERS);
        for _ in 1..holders {
            assert!(w.picker.may_ask_again(&w.pieces, &b, block, holders));
            w.pieces.ask_again(block);
        }
        assert!(!w.picker.may_ask_again(&w.pieces, &b, block, holders));
    }

    #[test]
    fn a_reserved_piece_is_asked_of_one_peer_alone() {
        let mut w = world(false);
        let full = Bitfield::full(10);
        let a = input(&w, 0, &full, false);
        let piece = w.picker.pick(&mut w.pieces, &a, 1, &mut w.rng).unwrap().block.piece();
        w.pieces.get_mut(piece).unwrap().reserved = Some(w.peers[0]);
        let b = input(&w, 1, &full, false);
        assert_eq!(w.picker.pick(&mut w.pieces, &b, 1, &mut w.rng), None);
        assert!(w.picker.pick(&mut w.pieces, &a, 1, &mut w.rng).is_some());
    }

    #[test]
    fn a_peer_is_never_asked_for_what_it_does_not_have() {
        let mut w = world(false);
        let mut has = Bitfield::empty(10);
        has.set(w.g.piece(3).unwrap());
        let a = input(&w, 0, &has, true);
        let picks: Vec<_> = std::iter::from_fn(|| w.picker.pick(&mut w.pieces, &a, 99, &mut w.rng)).collect();
        assert_eq!(picks.len(), 4);
        assert!(picks.iter().all(|p| p.block.piece().get() == 3));
    }
}
