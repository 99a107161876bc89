//! The piece picker: chooses the next block to request from a peer.
//!
//! In this order: the piece of its last request; an open piece that it owns; if it is fast, a new piece of
//! its own; an open piece without an owner; a new piece; another peer's piece. When every wanted block is
//! requested, endgame begins: the engine then looks for peers that would send a block sooner. A piece that
//! failed once is requested from a single peer. The first new pieces are random, later ones rarest first
//! unless the [`Policy`] says otherwise; suggested pieces (BEP 6) go before that, and a sequential torrent
//! takes pieces in order.

use super::availability::Availability;
use super::pieces::{Pieces, Stage};
use crate::engine::{Picking, Policy};
use crate::units::{Bitfield, BlockSpan, PeerKey, PieceIndex, Rng};

/// The picker's view of a peer.
#[derive(Debug)]
pub struct PickInput<'a> {
    /// The peer.
    pub peer: PeerKey,
    /// Its pieces.
    pub has: &'a Bitfield,
    /// If it chokes us: the only pieces that may be requested, those allowed fast (BEP 6).
    pub only: Option<&'a [PieceIndex]>,
    /// Pieces that it suggested (BEP 6).
    pub suggested: &'a [PieceIndex],
    /// The piece of its last request.
    pub at: Option<PieceIndex>,
    /// Whether it is fast enough for pieces of its own.
    pub is_fast: bool,
}

impl PickInput<'_> {
    fn may(&self, piece: PieceIndex) -> bool {
        self.has.has(piece) && self.only.is_none_or(|only| only.contains(&piece))
    }
}

/// A block to request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The block.
    pub block: BlockSpan,
    /// Whether its piece was opened for it: the disk has to prepare it.
    pub begun: bool,
}

/// The picker of one torrent.
#[derive(Debug)]
pub struct Picker {
    /// The candidates for new pieces.
    pub availability: Availability,
    sequential: bool,
    picking: Picking,
    random_left: u32,
    /// One entry a piece; `None` if all are normal.
    priorities: Option<Box<[PiecePriority]>>,
}

/// The priority of a wanted piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PiecePriority {
    /// Requested after all normal pieces.
    Low,
    /// Requested in the picker's order.
    #[default]
    Normal,
    /// Requested before all normal pieces.
    High,
}

impl PiecePriority {
    /// All priorities, highest first.
    const ALL: [PiecePriority; 3] = [PiecePriority::High, PiecePriority::Normal, PiecePriority::Low];
}

impl Picker {
    /// Returns a picker of the missing pieces.
    pub fn new(pieces: &Pieces, sequential: bool, policy: &Policy, rng: &mut Rng) -> Picker {
        let mut missing = Vec::with_capacity(pieces.missing() as usize);
        missing.extend(
            pieces.geometry().all_pieces().filter(|p| pieces.is_missing(*p) && pieces.get(*p).is_none()),
        );
        let random_left = policy.random_first.saturating_sub(pieces.have().ones());
        let availability = Availability::new(pieces.geometry(), missing, rng);
        Picker { availability, sequential, picking: policy.picking, random_left, priorities: None }
    }

    /// Sets whether pieces are requested in order.
    pub fn set_sequential(&mut self, sequential: bool) {
        self.sequential = sequential;
    }

    /// Sets the priority of each piece; `None` if all are normal.
    pub fn set_priorities(&mut self, priorities: Option<Box<[PiecePriority]>>) {
        self.priorities = priorities;
    }

    /// Returns whether pieces are requested in order.
    pub fn is_sequential(&self) -> bool {
        self.sequential
    }

    /// Returns the next block for this peer and marks it as requested. `partial_limit` bounds the pieces with
    /// blocks that are not requested; fully requested pieces are bounded by the request queues.
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
        let chosen = if input.is_fast {
            own.or_else(|| self.begin(pieces, input, partial_limit, rng)).or_else(|| shared(pieces))
        } else {
            own.or_else(|| shared(pieces)).or_else(|| self.begin(pieces, input, partial_limit, rng))
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
            let first_of = |priority: PiecePriority| {
                let mut candidates = self.availability.rarest_first().filter(|p| {
                    priorities.get(p.as_usize()).copied().unwrap_or_default() == priority && input.has.has(*p)
                });
                if self.sequential { candidates.min() } else { candidates.next() }
            };
            return PiecePriority::ALL.into_iter().find_map(first_of);
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

    /// Returns whether every wanted block is requested or has arrived.
    pub fn is_endgame(&self, pieces: &Pieces) -> bool {
        self.availability.candidates() == 0 && pieces.partial().all(|(_, o)| o.reserved.is_some())
    }

    /// Returns whether endgame may request a block from this peer that is in flight from fewer than `holders`
    /// peers.
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

/// Returns whether blocks of this open piece may be requested from this peer.
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

    /// Returns a torrent of ten pieces of four blocks.
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
    fn an_open_piece_is_finished_before_another_is_opened() {
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
    fn fast_peers_share_no_pieces_while_there_are_enough() {
        let mut w = world(false);
        let full = Bitfield::full(10);
        let a = input(&w, 0, &full, true);
        let b = input(&w, 1, &full, true);
        let x = w.picker.pick(&mut w.pieces, &a, 99, &mut w.rng).unwrap().block.piece();
        let y = w.picker.pick(&mut w.pieces, &b, 99, &mut w.rng).unwrap().block.piece();
        assert_ne!(x, y);
        assert_eq!(w.picker.pick(&mut w.pieces, &a, 99, &mut w.rng).unwrap().block.piece(), x);
        assert_eq!(w.picker.pick(&mut w.pieces, &b, 2, &mut w.rng).unwrap().block.piece(), y);
    }

    #[test]
    fn a_sequential_torrent_is_requested_in_order() {
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
    fn after_the_first_pieces_the_rarest_is_requested_first() {
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
    fn endgame_begins_when_every_block_is_requested_and_stops_at_three_holders() {
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
    fn a_reserved_piece_is_requested_from_one_peer_only() {
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
    fn a_piece_is_never_requested_from_a_peer_without_it() {
        let mut w = world(false);
        let mut has = Bitfield::empty(10);
        has.set(w.g.piece(3).unwrap());
        let a = input(&w, 0, &has, true);
        let picks: Vec<_> = std::iter::from_fn(|| w.picker.pick(&mut w.pieces, &a, 99, &mut w.rng)).collect();
        assert_eq!(picks.len(), 4);
        assert!(picks.iter().all(|p| p.block.piece().get() == 3));
    }
}
