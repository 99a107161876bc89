//! The disk of a node. It stores no content, only the writer of each block, its length so far, and whether
//! the bytes belong to the torrent.
//!
//! It is a part of the oracle and checks at every write of every run: a piece is prepared before it is
//! written; a block has one writer, which writes it in order from its first byte; no peer writes to a
//! complete block, to a piece that is being hashed or to a verified piece; a piece is hashed when it is
//! complete. A violation panics and ends the run.

use super::link::Payload;
use crate::engine::HashVerdict;
use crate::units::{BLOCK_LEN, Bitfield, BlockSpan, Geometry, PeerKey, PieceIndex};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default)]
struct SimBlock {
    written: u32,
    writer: Option<PeerKey>,
    garbage: u32,
}

#[derive(Debug)]
struct SimPiece {
    blocks: Box<[SimBlock]>,
    /// The engine received the reply to `Action::Prepare`.
    ready: bool,
    hashing: bool,
}

/// The disk of one node.
#[derive(Debug)]
pub(super) struct Disk {
    geometry: Geometry,
    verified: Bitfield,
    open: BTreeMap<PieceIndex, SimPiece>,
}

impl Disk {
    pub(super) fn new(geometry: Geometry, verified: Bitfield) -> Disk {
        Disk { geometry, verified, open: BTreeMap::new() }
    }

    /// Returns the verified pieces.
    pub(super) fn verified(&self) -> &Bitfield {
        &self.verified
    }

    /// Returns whether the piece with this index is verified.
    pub(super) fn has(&self, raw: u32) -> bool {
        self.geometry.piece(raw).is_some_and(|p| self.verified.has(p))
    }

    /// Returns the length of the piece with this index in bytes; 0 if there is no such piece.
    pub(super) fn piece_len(&self, raw: u32) -> u64 {
        self.geometry.piece(raw).map_or(0, |p| u64::from(self.geometry.piece_len(p)))
    }

    /// Opens a piece for writing. Blocks of an earlier attempt are dropped.
    pub(super) fn prepare(&mut self, piece: PieceIndex) {
        assert!(!self.verified.has(piece), "piece {piece} is prepared although it is verified");
        let hashing = self.open.get(&piece).is_some_and(|o| o.hashing);
        assert!(!hashing, "piece {piece} is prepared while it is hashed");
        let blocks = vec![SimBlock::default(); self.geometry.blocks(piece) as usize].into_boxed_slice();
        self.open.insert(piece, SimPiece { blocks, ready: false, hashing: false });
    }

    /// Marks a piece as prepared.
    pub(super) fn prepared(&mut self, piece: PieceIndex) {
        if let Some(o) = self.open.get_mut(&piece) {
            o.ready = true;
        }
    }

    /// Writes `payload` at `span`. Returns whether it ends the block.
    pub(super) fn write(&mut self, writer: PeerKey, span: BlockSpan, payload: Payload) -> bool {
        let Payload { span: source, garbage } = payload;
        assert_eq!(
            (span.piece(), span.begin()),
            (source.piece(), source.begin()),
            "bytes of {source} are written at {span}"
        );
        assert!(!self.verified.has(span.piece()), "{span} is written although its piece is verified");
        let at = span.begin() / BLOCK_LEN;
        let whole = self.geometry.block(span.piece(), at);
        let o = self.open.get_mut(&span.piece()).filter(|o| o.ready);
        let o = o.unwrap_or_else(|| panic!("{span} is written before its piece is prepared"));
        assert!(!o.hashing, "{span} is written while its piece is hashed");
        let block = &mut o.blocks[at as usize];
        match block.writer {
            // A peer that starts the block again has taken it over. If the earlier writer continues, the
            // block has two writers.
            Some(w) if w != writer && span.begin() == whole.begin() => {
                *block = SimBlock { writer: Some(writer), ..SimBlock::default() }
            }
            None => {
                assert!(block.written < whole.len(), "{span} is written although the block is complete");
                *block = SimBlock { written: 0, writer: Some(writer), garbage: 0 };
            }
            Some(w) => assert_eq!(w, writer, "{span} has two writers"),
        }
        assert_eq!(span.begin(), whole.begin() + block.written, "{span} does not continue its block");
        assert!(span.end() <= whole.end(), "{span} exceeds its block");
        block.written += span.len();
        block.garbage |= garbage;
        let complete = block.written == whole.len();
        if complete {
            block.writer = None;
        }
        complete
    }

    /// Drops what was written of a block: its writer disconnected.
    pub(super) fn release(&mut self, block: BlockSpan) {
        if let Some(o) = self.open.get_mut(&block.piece()) {
            assert!(!o.hashing, "{block} is released while its piece is hashed");
            o.blocks[(block.begin() / BLOCK_LEN) as usize] = SimBlock::default();
        }
    }

    /// Returns the verdict of hashing a complete piece.
    pub(super) fn hash(&mut self, piece: PieceIndex, digests: bool) -> HashVerdict {
        let o = self
            .open
            .get_mut(&piece)
            .unwrap_or_else(|| panic!("piece {piece} is hashed but was never prepared"));
        assert!(!o.hashing, "piece {piece} is hashed twice at once");
        o.hashing = true;
        for (at, block) in o.blocks.iter().enumerate() {
            let whole = self.geometry.block(piece, at as u32);
            assert!(block.writer.is_none(), "piece {piece} is hashed while {whole} is written");
            assert_eq!(block.written, whole.len(), "piece {piece} is hashed although {whole} is incomplete");
        }
        let digest = |(at, b): (usize, &SimBlock)| {
            u64::from(piece.get()) << 32 | at as u64 ^ u64::from(b.garbage) << 40
        };
        let all = || o.blocks.iter().enumerate().map(digest).collect();
        if o.blocks.iter().all(|b| b.garbage == 0) {
            HashVerdict::Good { digests: digests.then(all) }
        } else {
            HashVerdict::Bad { digests: all() }
        }
    }

    /// Closes a hashed piece when its verdict is delivered to the engine.
    pub(super) fn on_verdict(&mut self, piece: PieceIndex, verdict: &HashVerdict) {
        let o = self.open.remove(&piece);
        assert!(o.is_some_and(|o| o.hashing), "piece {piece} has a verdict but was not hashed");
        if let HashVerdict::Good { .. } = verdict {
            self.verified.set(piece);
        }
    }

    /// Returns whether a block is being written.
    pub(super) fn has_writers(&self) -> bool {
        self.open.values().any(|o| o.blocks.iter().any(|b| b.writer.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SlotMap;
    use std::panic::catch_unwind;

    struct DiskFixture {
        disk: Disk,
        block: BlockSpan,
        a: PeerKey,
        b: PeerKey,
    }

    /// Returns a disk with one prepared piece of two blocks, and two peers.
    fn world() -> DiskFixture {
        let g = Geometry::new(4 * u64::from(BLOCK_LEN), 2 * u64::from(BLOCK_LEN)).unwrap();
        let mut disk = Disk::new(g, Bitfield::empty(2));
        let piece = g.piece(0).unwrap();
        disk.prepare(piece);
        disk.prepared(piece);
        let mut t: SlotMap<PeerKey, ()> = SlotMap::default();
        DiskFixture { disk, block: g.block(piece, 0), a: t.insert(()), b: t.insert(()) }
    }

    fn put(w: &mut DiskFixture, writer: PeerKey, span: BlockSpan, source: BlockSpan) {
        w.disk.write(writer, span, Payload { span: source, garbage: 0 });
    }

    /// Writes the first 100 bytes of the block as peer `a`, calls `f` and returns whether it panicked.
    fn panics(f: impl FnOnce(&mut DiskFixture)) -> bool {
        let mut w = world();
        let a = w.a;
        let block = w.block.first(100);
        put(&mut w, a, block, block);
        catch_unwind(std::panic::AssertUnwindSafe(|| f(&mut w))).is_err()
    }

    #[test]
    fn invalid_writes_panic() {
        let DiskFixture { a, b, block, .. } = world();
        let first = block.first(9);
        let rest = world().block.after(100).unwrap();
        assert!(!panics(|w| put(w, b, first, first)), "a peer that starts the block again takes it over");
        let both =
            |w: &mut DiskFixture| [(b, first), (a, rest)].into_iter().for_each(|(p, s)| put(w, p, s, s));
        assert!(panics(both), "two writers");
        assert!(panics(|w| put(w, b, rest, rest)), "another peer continues the block");
        assert!(panics(|w| [rest, rest].into_iter().for_each(|s| put(w, a, s, s))), "the same bytes twice");
        assert!(panics(|w| put(w, a, rest, first)), "bytes of another span");
        assert!(panics(|w| drop(w.disk.hash(w.block.piece(), false))), "hashed before it is complete");
        assert!(
            panics(|w| w.disk.on_verdict(w.block.piece(), &HashVerdict::Unreadable)),
            "a verdict without hashing"
        );
        assert!(!panics(|w| put(w, a, rest, rest)), "a correct write does not panic");
    }

    #[test]
    fn garbage_in_one_block_makes_the_piece_bad() {
        let DiskFixture { mut disk, block, a, .. } = world();
        let other = disk.geometry.block(block.piece(), 1);
        let mut put = |span, garbage| disk.write(a, span, Payload { span, garbage });
        assert!(!put(block.first(5), 3));
        assert!(put(block.after(5).unwrap(), 0));
        assert!(put(other, 0));
        let HashVerdict::Bad { digests } = disk.hash(block.piece(), false) else {
            panic!("the piece is good")
        };
        disk.on_verdict(block.piece(), &HashVerdict::Bad { digests: digests.clone() });
        assert_ne!(digests[0] >> 40, digests[1] >> 40);
        assert!(disk.verified().is_empty() && !disk.has_writers());
    }
}
