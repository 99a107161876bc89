//! A node's disk: no byte of content, but who wrote which block, how far, and whether it was the torrent's
//! own.
//!
//! It is half of the oracle. Its law, held at every write in every run: a piece is prepared before it is
//! written; a block has one writer, who writes it in order from its first byte; no peer writes to a complete
//! block, a piece that is being hashed, or one that is verified; a piece is hashed when all of it is there. A
//! breach of the law ends the run.

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
struct OnDisk {
    blocks: Box<[SimBlock]>,
    /// Files and memory are ready.
    ready: bool,
    hashing: bool,
}

/// The disk of one node.
#[derive(Debug)]
pub(super) struct Disk {
    geometry: Geometry,
    verified: Bitfield,
    open: BTreeMap<PieceIndex, OnDisk>,
}

impl Disk {
    pub(super) fn new(geometry: Geometry, verified: Bitfield) -> Disk {
        Disk { geometry, verified, open: BTreeMap::new() }
    }

    /// The pieces that were found good here.
    pub(super) fn verified(&self) -> &Bitfield {
        &self.verified
    }

    /// Whether the piece with this number is among them.
    pub(super) fn has(&self, raw: u32) -> bool {
        self.geometry.piece(raw).is_some_and(|p| self.verified.has(p))
    }

    /// Bytes of the piece with this number.
    pub(super) fn piece_len(&self, raw: u32) -> u64 {
        self.geometry.piece(raw).map_or(0, |p| u64::from(self.geometry.piece_len(p)))
    }

    /// A piece is to be made ready. What half of it is there from before counts for nothing.
    pub(super) fn prepare(&mut self, piece: PieceIndex) {
        assert!(!self.verified.has(piece), "piece {piece} is prepared although it is verified");
        let hashing = self.open.get(&piece).is_some_and(|o| o.hashing);
        assert!(!hashing, "piece {piece} is prepared while it is hashed");
        let blocks = vec![SimBlock::default(); self.geometry.blocks(piece) as usize].into_boxed_slice();
        self.open.insert(piece, OnDisk { blocks, ready: false, hashing: false });
    }

    /// It is ready.
    pub(super) fn prepared(&mut self, piece: PieceIndex) {
        if let Some(o) = self.open.get_mut(&piece) {
            o.ready = true;
        }
    }

    /// `came` lands at `span`; true if that was the block's last byte.
    pub(super) fn write(&mut self, writer: PeerKey, span: BlockSpan, came: Payload) -> bool {
        let Payload { span: came, garbage } = came;
        assert_eq!(
            (span.piece(), span.begin()),
            (came.piece(), came.begin()),
            "bytes of {came} land at {span}"
        );
        assert!(!self.verified.has(span.piece()), "{span} is written although its piece is verified");
        let at = span.begin() / BLOCK_LEN;
        let whole = self.geometry.block(span.piece(), at);
        let o = self.open.get_mut(&span.piece()).filter(|o| o.ready);
        let o = o.unwrap_or_else(|| panic!("{span} is written before its piece is prepared"));
        assert!(!o.hashing, "{span} is written while its piece is hashed");
        let block = &mut o.blocks[at as usize];
        match block.writer {
            // Who begins anew has taken the block over; if the one before goes on, there are two.
            Some(w) if w != writer && span.begin() == whole.begin() => {
                *block = SimBlock { writer: Some(writer), ..SimBlock::default() }
            }
            None => {
                assert!(block.written < whole.len(), "{span} is written although the block is complete");
                *block = SimBlock { written: 0, writer: Some(writer), garbage: 0 };
            }
            Some(w) => assert_eq!(w, writer, "{span} has two writers"),
        }
        assert_eq!(span.begin(), whole.begin() + block.written, "{span} is not the next of its block");
        assert!(span.end() <= whole.end(), "{span} reaches beyond its block");
        block.written += span.len();
        block.garbage |= garbage;
        let complete = block.written == whole.len();
        if complete {
            block.writer = None;
        }
        complete
    }

    /// The writer of this block is gone.
    pub(super) fn release(&mut self, block: BlockSpan) {
        if let Some(o) = self.open.get_mut(&block.piece()) {
            assert!(!o.hashing, "{block} is released while its piece is hashed");
            o.blocks[(block.begin() / BLOCK_LEN) as usize] = SimBlock::default();
        }
    }

    /// All of the piece is there: what will the hasher say?
    pub(super) fn hash(&mut self, piece: PieceIndex, digests: bool) -> HashVerdict {
        let o = self
            .open
            .get_mut(&piece)
            .unwrap_or_else(|| panic!("piece {piece} is hashed and was never prepared"));
        assert!(!o.hashing, "piece {piece} is hashed twice at once");
        o.hashing = true;
        for (at, block) in o.blocks.iter().enumerate() {
            let whole = self.geometry.block(piece, at as u32);
            assert!(block.writer.is_none(), "piece {piece} is hashed while {whole} is written");
            assert_eq!(block.written, whole.len(), "piece {piece} is hashed and {whole} is not all there");
        }
        let digest = |(at, b): (usize, &SimBlock)| {
            u64::from(piece.get()) << 32 | at as u64 ^ u64::from(b.garbage) << 40
        };
        let all = || o.blocks.iter().enumerate().map(digest).collect();
        match o.blocks.iter().all(|b| b.garbage == 0) {
            true => HashVerdict::Good { digests: digests.then(all) },
            false => HashVerdict::Bad { digests: all() },
        }
    }

    /// The engine hears the verdict.
    pub(super) fn judged(&mut self, piece: PieceIndex, verdict: &HashVerdict) {
        let o = self.open.remove(&piece);
        assert!(o.is_some_and(|o| o.hashing), "piece {piece} is judged and was not hashed");
        if let HashVerdict::Good { .. } = verdict {
            self.verified.set(piece);
        }
    }

    /// Whether a block is being written.
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

    /// One prepared piece of two blocks, two peers.
    fn world() -> DiskFixture {
        let g = Geometry::new(4 * u64::from(BLOCK_LEN), 2 * u64::from(BLOCK_LEN)).unwrap();
        let mut disk = Disk::new(g, Bitfield::empty(2));
        let piece = g.piece(0).unwrap();
        disk.prepare(piece);
        disk.prepared(piece);
        let mut t: SlotMap<PeerKey, ()> = SlotMap::default();
        DiskFixture { disk, block: g.block(piece, 0), a: t.insert(()), b: t.insert(()) }
    }

    fn put(w: &mut DiskFixture, writer: PeerKey, span: BlockSpan, came: BlockSpan) {
        w.disk.write(writer, span, Payload { span: came, garbage: 0 });
    }

    fn breaks(f: impl FnOnce(&mut DiskFixture)) -> bool {
        let mut w = world();
        let (a, block) = (w.a, w.block.first(100));
        put(&mut w, a, block, block);
        catch_unwind(std::panic::AssertUnwindSafe(|| f(&mut w))).is_err()
    }

    #[test]
    fn whoever_breaks_the_law_is_caught() {
        let (a, b, first) = (world().a, world().b, world().block.first(9));
        let rest = world().block.after(100).unwrap();
        assert!(!breaks(|w| put(w, b, first, first)), "who begins anew takes the block over");
        let both =
            |w: &mut DiskFixture| [(b, first), (a, rest)].into_iter().for_each(|(p, s)| put(w, p, s, s));
        assert!(breaks(both), "two writers");
        assert!(breaks(|w| put(w, b, rest, rest)), "another one goes on");
        assert!(breaks(|w| [rest, rest].into_iter().for_each(|s| put(w, a, s, s))), "the same bytes twice");
        assert!(breaks(|w| put(w, a, rest, first)), "somebody else's bytes");
        assert!(breaks(|w| drop(w.disk.hash(w.block.piece(), false))), "hashed too early");
        assert!(
            breaks(|w| w.disk.judged(w.block.piece(), &HashVerdict::Unreadable)),
            "judged without being hashed"
        );
        assert!(!breaks(|w| put(w, a, rest, rest)), "the law itself lets good ones through");
    }

    #[test]
    fn a_lie_in_any_byte_spoils_the_piece() {
        let DiskFixture { mut disk, block, a, .. } = world();
        let other = disk.geometry.block(block.piece(), 1);
        let mut put = |span, garbage| disk.write(a, span, Payload { span, garbage });
        assert!(!put(block.first(5), 3));
        assert!(put(block.after(5).unwrap(), 0));
        assert!(put(other, 0));
        let HashVerdict::Bad { digests } = disk.hash(block.piece(), false) else { panic!("believed") };
        disk.judged(block.piece(), &HashVerdict::Bad { digests: digests.clone() });
        assert_ne!(digests[0] >> 40, digests[1] >> 40);
        assert!(disk.verified().is_empty() && !disk.has_writers());
    }
}
