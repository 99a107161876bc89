//! The pieces of a torrent: verified, missing or open, and the leases of the open ones' blocks.
//!
//! ```text
//!   missing ──open──▶ Preparing ──prepared──▶ Open ──every block arrived──▶ Hashing ──good──▶ verified
//!                          ▲                   ▲                               │
//!                          └── closed when empty                          bad: all blocks missing again
//!
//!   a block:  Missing ──lease(peer)──▶ Receiving(peer) ──arrived──▶ Arrived
//!                ▲                          │
//!                └───────── release ────────┘
//! ```
//!
//! `asked` counts the peers that have a block in flight; it permits nothing. A lease permits to write: it is
//! taken when a block's header arrives, by one peer at a time, and never for a block that has arrived, a
//! piece that is being hashed, or a verified piece.

#[cfg(feature = "oracle")]
mod audit;

use crate::units::{BLOCK_LEN, Bitfield, BlockSpan, Geometry, PeerKey, PieceIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The stage of an open piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The disk prepares files and memory: blocks may be requested and not written.
    Preparing,
    /// Blocks may be written.
    Open,
    /// Every block has arrived and the hasher reads them.
    Hashing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockContent {
    Missing,
    Receiving(PeerKey),
    Arrived,
}

#[derive(Clone, Copy, Debug)]
struct BlockState {
    content: BlockContent,
    /// Its last writer released it before the last byte.
    abandoned: bool,
    /// Its lease was taken from a slow writer. Once only: two slow peers would take it from each other
    /// forever.
    relieved: bool,
    /// Peers that have this block in flight.
    asked: u16,
    /// Its sender, an index into `OpenPiece::senders`.
    sender: u16,
}

/// A piece of which blocks are requested or have arrived.
#[derive(Debug)]
pub struct OpenPiece {
    /// Its stage.
    pub stage: Stage,
    blocks: Box<[BlockState]>,
    /// Missing blocks that are requested from no peer.
    free: u32,
    arrived: u32,
    /// No free block lies before this one.
    first_free: u32,
    /// Blocks in flight, counted once for each peer: the sum of `asked`.
    owed: u32,
    senders: Vec<IpAddr>,
    /// The only peer that blocks are requested from: the piece failed before, and a single sender identifies
    /// the culprit of another failure.
    pub reserved: Option<PeerKey>,
    /// The fast peer that it was opened for.
    pub owner: Option<PeerKey>,
}

impl OpenPiece {
    /// Returns the number of blocks that have arrived.
    pub fn arrived(&self) -> u32 {
        self.arrived
    }

    /// Returns the senders of the blocks that have arrived.
    pub fn senders(&self) -> &[IpAddr] {
        &self.senders
    }

    /// Iterates over the sender of each block.
    pub fn sender_of_each(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.blocks.iter().map(|b| self.senders[usize::from(b.sender)])
    }

    fn is_untouched(&self) -> bool {
        self.owed == 0 && self.blocks.iter().all(|b| b.content == BlockContent::Missing)
    }
}

/// The effect of a block's last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Other peers have this block in flight: cancel it there.
    pub others_owe: bool,
    /// Every block of the piece has arrived: hash it.
    pub piece_full: bool,
}

/// All pieces of one torrent.
#[derive(Debug)]
pub struct Pieces {
    geometry: Geometry,
    have: Bitfield,
    wanted: Bitfield,
    missing: u32,
    open: BTreeMap<PieceIndex, OpenPiece>,
    /// Open pieces with free blocks.
    partial: BTreeSet<PieceIndex>,
}

impl Pieces {
    /// Returns the state with the verified and the wanted pieces.
    pub fn new(geometry: Geometry, have: Bitfield, wanted: Bitfield) -> Pieces {
        let missing = wanted.iter().filter(|p| !have.has(*p)).count() as u32;
        Pieces { geometry, have, wanted, missing, open: BTreeMap::new(), partial: BTreeSet::new() }
    }

    /// Sets the verified pieces that the disk found. Verdicts of earlier hashing no longer arrive.
    pub fn set_have(&mut self, have: Bitfield) {
        *self = Pieces::new(self.geometry, have, self.wanted.clone());
    }

    /// Sets the wanted pieces. An open piece stays wanted until it is verified.
    pub fn set_wanted(&mut self, wanted: Bitfield) {
        self.wanted = wanted;
        for piece in self.open.keys() {
            self.wanted.set(*piece);
        }
        self.missing = self.wanted.iter().filter(|p| !self.have.has(*p)).count() as u32;
    }

    /// Returns the torrent's geometry.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Returns the verified pieces.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Returns whether this piece is wanted and not verified.
    pub fn is_missing(&self, piece: PieceIndex) -> bool {
        self.wanted.has(piece) && !self.have.has(piece)
    }

    /// Returns the number of missing pieces.
    pub fn missing(&self) -> u32 {
        self.missing
    }

    /// Returns the bytes of the wanted pieces, and of the verified ones among them.
    pub fn wanted_bytes(&self) -> (u64, u64) {
        let len = |p| u64::from(self.geometry.piece_len(p));
        self.wanted
            .iter()
            .fold((0, 0), |(all, had), p| (all + len(p), had + if self.have.has(p) { len(p) } else { 0 }))
    }

    /// Returns the bytes of all pieces that are not verified, wanted or not.
    pub fn missing_bytes(&self) -> u64 {
        let had: u64 = self.have.iter().map(|piece| u64::from(self.geometry.piece_len(piece))).sum();
        self.geometry.total().saturating_sub(had)
    }

    /// Iterates over the open pieces, in order.
    pub fn open(&self) -> impl Iterator<Item = (PieceIndex, &OpenPiece)> {
        self.open.iter().map(|(p, o)| (*p, o))
    }

    /// Iterates over the blocks of a piece, in order.
    #[cfg(feature = "sim")]
    pub fn blocks(&self, piece: PieceIndex) -> impl Iterator<Item = BlockSpan> + '_ {
        (0..self.geometry.blocks(piece)).map(move |n| self.geometry.block(piece, n))
    }

    /// Iterates over the open pieces with free blocks, in order.
    pub fn partial(&self) -> impl Iterator<Item = (PieceIndex, &OpenPiece)> {
        self.partial.iter().filter_map(|p| Some((*p, self.open.get(p)?)))
    }

    /// Returns the number of open pieces with free blocks.
    pub fn partial_count(&self) -> usize {
        self.partial.len()
    }

    /// Returns an open piece.
    pub fn get(&self, piece: PieceIndex) -> Option<&OpenPiece> {
        self.open.get(&piece)
    }

    /// Returns an open piece.
    pub fn get_mut(&mut self, piece: PieceIndex) -> Option<&mut OpenPiece> {
        self.open.get_mut(&piece)
    }

    /// Opens a missing piece. Panics if it is not missing or is open.
    pub fn begin(&mut self, piece: PieceIndex) -> &mut OpenPiece {
        assert!(self.is_missing(piece) && !self.open.contains_key(&piece), "piece {piece} cannot be opened");
        let n = self.geometry.blocks(piece);
        self.partial.insert(piece);
        let block = BlockState {
            content: BlockContent::Missing,
            abandoned: false,
            relieved: false,
            asked: 0,
            sender: 0,
        };
        self.open.entry(piece).or_insert(OpenPiece {
            stage: Stage::Preparing,
            blocks: vec![block; n as usize].into_boxed_slice(),
            free: n,
            arrived: 0,
            first_free: 0,
            owed: 0,
            senders: Vec::new(),
            reserved: None,
            owner: None,
        })
    }

    /// Handles that the disk has prepared the piece.
    pub fn prepared(&mut self, piece: PieceIndex) {
        if let Some(o) = self.open.get_mut(&piece).filter(|o| o.stage == Stage::Preparing) {
            o.stage = Stage::Open;
        }
    }

    /// Returns the first free block and marks it as requested.
    pub fn ask_free(&mut self, piece: PieceIndex) -> Option<BlockSpan> {
        let o = self.open.get_mut(&piece)?;
        if o.free == 0 || o.stage == Stage::Hashing {
            return None;
        }
        let at = (o.first_free as usize..o.blocks.len())
            .find(|&i| o.blocks[i].content == BlockContent::Missing && o.blocks[i].asked == 0)?;
        o.blocks[at].asked = 1;
        o.owed += 1;
        o.free -= 1;
        o.first_free = at as u32 + 1;
        if o.free == 0 {
            self.partial.remove(&piece);
        }
        Some(self.geometry.block(piece, at as u32))
    }

    /// Returns whether endgame may request this block once more: it has not arrived, and fewer than `holders`
    /// peers have it in flight.
    pub fn may_ask_again(&self, block: BlockSpan, holders: u16) -> bool {
        self.open.get(&block.piece()).is_some_and(|o| {
            let b = &o.blocks[(block.begin() / BLOCK_LEN) as usize];
            b.content != BlockContent::Arrived && b.asked < holders
        })
    }

    /// Returns the peer that has the lease of this block.
    pub fn writer(&self, block: BlockSpan) -> Option<PeerKey> {
        match self.open.get(&block.piece())?.blocks.get((block.begin() / BLOCK_LEN) as usize)?.content {
            BlockContent::Receiving(peer) => Some(peer),
            BlockContent::Missing | BlockContent::Arrived => None,
        }
    }

    /// Notes a request for this block to one more peer.
    pub fn ask_again(&mut self, block: BlockSpan) {
        self.with(block, |o, i| {
            if o.blocks[i].content == BlockContent::Missing && o.blocks[i].asked == 0 {
                o.free -= 1;
            }
            o.blocks[i].asked += 1;
            o.owed += 1;
        });
    }

    /// Notes that a request for this block ended without it.
    pub fn cancel_request(&mut self, block: BlockSpan) {
        self.with(block, |o, i| {
            debug_assert!(o.blocks[i].asked > 0, "{block} was not requested");
            o.blocks[i].asked = o.blocks[i].asked.saturating_sub(1);
            o.owed = o.owed.saturating_sub(1);
            o.note_free(i);
        });
    }

    /// Takes the lease of this block; returns false if a peer has it, the block has arrived, or its piece is
    /// being hashed.
    pub fn lease(&mut self, block: BlockSpan, peer: PeerKey) -> bool {
        self.with(block, |o, i| {
            let free = o.stage != Stage::Hashing && o.blocks[i].content == BlockContent::Missing;
            if free {
                if o.blocks[i].asked == 0 {
                    o.free -= 1;
                }
                o.blocks[i].content = BlockContent::Receiving(peer);
            }
            free
        })
        .unwrap_or(false)
    }

    /// Returns whether the lease may be taken from its writer.
    pub fn can_steal_lease(&self, block: BlockSpan) -> bool {
        let at = (block.begin() / BLOCK_LEN) as usize;
        self.open.get(&block.piece()).and_then(|o| o.blocks.get(at)).is_some_and(|b| !b.relieved)
    }

    /// Takes the lease from its writer; returns false if that peer has no lease, or it was taken before.
    pub fn steal_lease(&mut self, block: BlockSpan, writer: PeerKey) -> bool {
        let relieved = self.can_steal_lease(block) && self.release(block, writer);
        self.with(block, |o, i| o.blocks[i].relieved |= relieved);
        relieved
    }

    /// Returns whether an earlier writer released the block before its last byte; resets it.
    pub fn was_abandoned(&mut self, block: BlockSpan) -> bool {
        self.with(block, |o, i| std::mem::take(&mut o.blocks[i].abandoned)).unwrap_or(false)
    }

    /// Releases the lease before the last byte; returns false if the peer has no lease.
    pub fn release(&mut self, block: BlockSpan, peer: PeerKey) -> bool {
        self.with(block, |o, i| {
            let held = o.blocks[i].content == BlockContent::Receiving(peer);
            if held {
                o.blocks[i].content = BlockContent::Missing;
                o.blocks[i].abandoned = true;
                o.note_free(i);
            }
            held
        })
        .unwrap_or(false)
    }

    /// Handles the last byte of a leased block. `asked`: it was in flight from the sender, and not cancelled.
    pub fn arrived(&mut self, block: BlockSpan, peer: PeerKey, from: IpAddr, asked: bool) -> Arrival {
        self.with(block, |o, i| {
            assert_eq!(o.blocks[i].content, BlockContent::Receiving(peer), "{block} arrived without a lease");
            let sender = o.senders.iter().position(|s| *s == from).unwrap_or_else(|| {
                o.senders.push(from);
                o.senders.len() - 1
            });
            let b = &mut o.blocks[i];
            b.content = BlockContent::Arrived;
            b.sender = u16::try_from(sender).unwrap_or(u16::MAX);
            if asked {
                b.asked = b.asked.saturating_sub(1);
                o.owed = o.owed.saturating_sub(1);
            }
            o.arrived += 1;
            let piece_full = o.arrived as usize == o.blocks.len();
            let others_owe = o.blocks[i].asked > 0;
            if piece_full {
                o.stage = Stage::Hashing;
            }
            Arrival { others_owe, piece_full }
        })
        .unwrap_or(Arrival { others_owe: false, piece_full: false })
    }

    /// Handles a good hash: the piece is verified and has no leases from now on.
    pub fn verified(&mut self, piece: PieceIndex) -> Option<OpenPiece> {
        let open = self.judged(piece)?;
        if self.have.set(piece) && self.wanted.has(piece) {
            self.missing -= 1;
        }
        Some(open)
    }

    /// Handles a bad hash: the whole piece is missing again.
    pub fn spoiled(&mut self, piece: PieceIndex) -> Option<OpenPiece> {
        self.judged(piece)
    }

    /// Closes a piece that is being hashed; `None` for any other.
    fn judged(&mut self, piece: PieceIndex) -> Option<OpenPiece> {
        self.open.get(&piece).filter(|o| o.stage == Stage::Hashing)?;
        self.open.remove(&piece)
    }

    /// Closes the piece if none of its blocks has arrived or is requested; returns whether it was closed.
    pub fn close_if_untouched(&mut self, piece: PieceIndex) -> bool {
        let untouched = self.open.get(&piece).is_some_and(|o| o.stage == Stage::Open && o.is_untouched());
        if untouched {
            self.partial.remove(&piece);
            self.open.remove(&piece);
        }
        untouched
    }

    /// Removes a peer as owner of its pieces: it sends no more blocks. Returns whether a piece was reserved
    /// for it.
    pub fn clear_owner(&mut self, peer: PeerKey) -> bool {
        let mut reserved = false;
        for o in self.open.values_mut() {
            o.owner = o.owner.filter(|p| *p != peer);
            reserved |= o.reserved == Some(peer);
            o.reserved = o.reserved.filter(|p| *p != peer);
        }
        reserved
    }

    /// Removes a peer as owner of one piece; returns whether the piece was reserved for it.
    pub fn clear_owner_of(&mut self, piece: PieceIndex, peer: PeerKey) -> bool {
        let Some(o) = self.open.get_mut(&piece) else { return false };
        let reserved = o.reserved == Some(peer);
        o.owner = o.owner.filter(|p| *p != peer);
        o.reserved = o.reserved.filter(|p| *p != peer);
        reserved
    }

    /// Closes and returns every open piece: the torrent is paused. Pieces that are being hashed stay open,
    /// because the hasher still reads them: no block may be written there before its verdict.
    pub fn close_all(&mut self) -> Vec<PieceIndex> {
        let (kept, closed) =
            std::mem::take(&mut self.open).into_iter().partition(|(_, o)| o.stage == Stage::Hashing);
        self.open = kept;
        self.partial.clear(); // a piece that is being hashed has no free blocks
        let closed: BTreeMap<PieceIndex, OpenPiece> = closed;
        closed.into_keys().collect()
    }

    fn with<R>(&mut self, block: BlockSpan, f: impl FnOnce(&mut OpenPiece, usize) -> R) -> Option<R> {
        let o = self.open.get_mut(&block.piece())?;
        let before = o.free;
        let result = f(o, (block.begin() / BLOCK_LEN) as usize);
        match (before, o.free) {
            (0, 1..) => {
                self.partial.insert(block.piece());
            }
            (1.., 0) => {
                self.partial.remove(&block.piece());
            }
            _ => {}
        }
        Some(result)
    }
}

impl OpenPiece {
    fn note_free(&mut self, at: usize) {
        if self.blocks[at].content == BlockContent::Missing && self.blocks[at].asked == 0 {
            self.free += 1;
            self.first_free = self.first_free.min(at as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SlotMap;

    struct PiecesFixture {
        p: Pieces,
        a: PeerKey,
        b: PeerKey,
        piece: PieceIndex,
    }

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// Returns an open piece of two blocks, and two peers.
    fn world() -> PiecesFixture {
        let g = Geometry::new(64 * 1024, 32 * 1024).unwrap();
        let mut t: SlotMap<PeerKey, ()> = SlotMap::default();
        let mut p = Pieces::new(g, Bitfield::empty(2), Bitfield::full(2));
        let piece = g.piece(0).unwrap();
        p.begin(piece);
        p.prepared(piece);
        PiecesFixture { p, a: t.insert(()), b: t.insert(()), piece }
    }

    #[test]
    fn a_block_has_one_writer() {
        let PiecesFixture { mut p, a, b, piece } = world();
        let block = p.ask_free(piece).unwrap();
        p.ask_again(block);
        assert!(p.lease(block, a));
        assert!(!p.lease(block, b), "a second writer");
        assert!(!p.release(block, b), "released by another peer");
        assert!(p.release(block, a));
        assert!(p.lease(block, b), "the next writer after the first released it");
    }

    #[test]
    fn p24_a_late_duplicate_never_writes_to_a_piece_that_is_being_hashed_or_verified() {
        let PiecesFixture { mut p, a, b, piece } = world();
        let blocks: Vec<_> = std::iter::from_fn(|| p.ask_free(piece)).collect();
        p.ask_again(blocks[0]);
        for &block in &blocks {
            assert!(p.lease(block, a));
            p.arrived(block, a, IP, true);
        }
        assert_eq!(p.get(piece).unwrap().stage, Stage::Hashing);
        assert!(!p.lease(blocks[0], b), "written while the hasher reads");
        p.verified(piece);
        assert!(!p.lease(blocks[0], b), "written after it was verified");
        assert_eq!(p.missing(), 1);
    }

    #[test]
    fn a_block_that_arrived_is_not_requested_again() {
        let PiecesFixture { mut p, a, piece, .. } = world();
        let first = p.ask_free(piece).unwrap();
        p.lease(first, a);
        assert_eq!(p.arrived(first, a, IP, true), Arrival { others_owe: false, piece_full: false });
        assert!(!p.may_ask_again(first, 3));
        assert_ne!(p.ask_free(piece), Some(first));
    }

    #[test]
    fn the_blocks_in_flight_of_a_lost_peer_are_free_again() {
        let PiecesFixture { mut p, a, piece, .. } = world();
        let x = p.ask_free(piece).unwrap();
        let y = p.ask_free(piece).unwrap();
        assert_eq!(p.ask_free(piece), None);
        p.lease(x, a);
        p.cancel_request(x);
        p.cancel_request(y);
        assert_eq!(p.ask_free(piece), Some(y), "the block that is being received is not free");
        p.release(x, a);
        assert_eq!(p.ask_free(piece), Some(x));
    }

    #[test]
    fn a_piece_with_a_bad_hash_is_missing_from_its_first_block() {
        let PiecesFixture { mut p, a, piece, .. } = world();
        while let Some(block) = p.ask_free(piece) {
            p.lease(block, a);
            p.arrived(block, a, IP, true);
        }
        assert_eq!(p.spoiled(piece).unwrap().senders(), [IP]);
        assert!(p.is_missing(piece));
        assert_eq!(p.begin(piece).free, 2);
    }

    #[test]
    fn an_untouched_piece_can_be_closed_and_a_touched_one_cannot() {
        let PiecesFixture { mut p, a, piece, .. } = world();
        let block = p.ask_free(piece).unwrap();
        assert!(!p.close_if_untouched(piece));
        p.lease(block, a);
        p.cancel_request(block);
        assert!(!p.close_if_untouched(piece), "a peer writes");
        p.release(block, a);
        assert!(p.close_if_untouched(piece));
    }
}
