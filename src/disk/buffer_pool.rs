//! The loop's receive buffers: which block is being received into which slot.
//!
//! Invariants: a block has at most one slot; a slot is either free, here under one block, or on its way through a worker;
//! nobody can hold slots for ever: when none is free, what slow peers have half filled is written out and the rest of
//! those blocks gets a new slot later. Bytes inside a slot lie where they lie inside their block.

use super::job::ReceivedBlock;
use super::limits::SLOT_LEN;
use super::window::{Slot, Target};
use crate::units::{BlockSpan, Geometry, PieceIndex, TorrentKey};

/// A block that is being received.
struct PartialBlock {
    torrent: TorrentKey,
    piece: PieceIndex,
    block: u32,
    /// Bytes of the piece that are in the slot: `begin..end`, empty at first.
    begin: u32,
    end: u32,
    slot: Slot,
}

impl PartialBlock {
    fn is(&self, torrent: TorrentKey, span: BlockSpan) -> bool {
        self.piece == span.piece() && self.block == block_of(span) && self.torrent == torrent
    }
}

fn block_of(span: BlockSpan) -> u32 {
    span.begin() / SLOT_LEN as u32
}

/// The pool as the loop sees it.
pub(super) struct BufferPool {
    free: Vec<Slot>,
    partial: Vec<PartialBlock>,
    total: usize,
}

impl BufferPool {
    /// A pool of these slots.
    pub fn new(slots: Vec<Slot>) -> BufferPool {
        BufferPool { total: slots.len(), free: slots, partial: Vec::new() }
    }

    /// Slots in all.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Slots that nobody uses.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Slots with a block being received.
    pub fn partial(&self) -> usize {
        self.partial.len()
    }

    /// Slots came back.
    pub fn return_slots(&mut self, slots: Vec<Slot>) {
        self.free.extend(slots);
    }

    /// Where the bytes of this rest of a block go; `None` if there is no slot for them.
    pub fn target(&mut self, g: &Geometry, torrent: TorrentKey, span: BlockSpan) -> Option<Target> {
        let i = match self.partial.iter().position(|f| f.is(torrent, span)) {
            Some(i) => i,
            None => {
                let slot = self.take()?;
                let (begin, end) = (span.begin(), span.begin());
                self.partial.push(PartialBlock { torrent, piece: span.piece(), block: block_of(span), begin, end, slot });
                self.partial.len() - 1
            }
        };
        let f = &mut self.partial[i];
        if f.end != span.begin() {
            // A new writer began the block anew, or jumped: what was there before does not count.
            (f.begin, f.end) = (span.begin(), span.begin());
        }
        let end = span.end().min(g.block(span.piece(), f.block).end());
        let base = f.block * SLOT_LEN as u32;
        Some(f.slot.target((span.begin() - base) as usize, (end - base) as usize))
    }

    fn take(&mut self) -> Option<Slot> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        // Room that was given and never used (the socket had nothing after all) is free again.
        let i = self.partial.iter().position(|f| f.begin == f.end)?;
        Some(self.partial.swap_remove(i).slot)
    }

    /// Bytes landed in the room given last for this span. Answers with the block once its last byte is there.
    pub fn received(&mut self, g: &Geometry, torrent: TorrentKey, span: BlockSpan) -> Option<ReceivedBlock> {
        let i = self.partial.iter().position(|f| f.is(torrent, span))?;
        let f = &mut self.partial[i];
        debug_assert_eq!(f.end, span.begin(), "bytes of a block arrive in order");
        f.end = span.end();
        (f.end >= g.block(f.piece, f.block).end()).then(|| received_block(self.partial.swap_remove(i)))
    }

    /// Puts bytes into the span's slot; `None` if there is no slot. The inner value is as with `arrived`.
    pub fn copy(&mut self, g: &Geometry, torrent: TorrentKey, span: BlockSpan, bytes: &[u8]) -> Option<Option<ReceivedBlock>> {
        self.target(g, torrent, span)?;
        let f = self.partial.iter_mut().find(|f| f.is(torrent, span))?;
        let from = span.begin() as usize % SLOT_LEN;
        f.slot.bytes_mut()[from..from + bytes.len()].copy_from_slice(bytes);
        Some(self.received(g, torrent, span.first(bytes.len() as u32)))
    }

    /// Whether bytes of this span's block are in a slot here.
    pub fn holds(&self, torrent: TorrentKey, span: BlockSpan) -> bool {
        self.partial.iter().any(|f| f.is(torrent, span))
    }

    /// The block's writer is gone; what it brought is forgotten.
    pub fn abandon(&mut self, torrent: TorrentKey, span: BlockSpan) {
        if let Some(i) = self.partial.iter().position(|f| f.is(torrent, span)) {
            self.free.push(self.partial.swap_remove(i).slot);
        }
    }

    /// Everything half received of this torrent (of this piece) is forgotten.
    pub fn discard(&mut self, torrent: TorrentKey, piece: Option<PieceIndex>) {
        let mut i = 0;
        while i < self.partial.len() {
            let f = &self.partial[i];
            match f.torrent == torrent && piece.is_none_or(|p| p == f.piece) {
                true => self.free.push(self.partial.swap_remove(i).slot),
                false => i += 1,
            }
        }
    }

    /// Takes what is half received out, so that a worker can write it: the slots are needed more than the order.
    pub fn take_partial(&mut self) -> Vec<(TorrentKey, ReceivedBlock)> {
        self.partial.drain(..).filter(|f| f.begin < f.end).map(|f| (f.torrent, received_block(f))).collect()
    }
}

fn received_block(f: PartialBlock) -> ReceivedBlock {
    ReceivedBlock { piece: f.piece, begin: f.begin, end: f.end, slot: f.slot }
}
