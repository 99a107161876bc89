//! The receive buffers of the loop: slots of one block each, and which block is being received into which
//! slot.
//!
//! Invariants: a block has at most one slot; a slot is free, here under one block, or on its way through a
//! worker. Slow peers cannot keep all slots: once none is free, half received blocks are written, and their
//! rest gets new slots later. A byte has the same offset in its slot as in its block.

use super::job::ReceivedBlock;
use super::limits::SLOT_LEN;
use super::memory::Slot;
use crate::units::{BlockSpan, Geometry, PieceIndex, TorrentKey};
use std::ops::Range;

/// A block that is being received.
struct PartialBlock {
    torrent: TorrentKey,
    piece: PieceIndex,
    block: u32,
    /// The piece's bytes that are in the slot: `begin..end`, empty at first.
    begin: u32,
    end: u32,
    slot: Slot,
}

impl PartialBlock {
    fn is(&self, torrent: TorrentKey, span: BlockSpan) -> bool {
        self.piece == span.piece() && self.block == block_of(span) && self.torrent == torrent
    }

    fn into_received(self) -> ReceivedBlock {
        ReceivedBlock { piece: self.piece, begin: self.begin, end: self.end, slot: self.slot }
    }
}

fn block_of(span: BlockSpan) -> u32 {
    span.begin() / SLOT_LEN as u32
}

/// Room in the slot of a block, for [`BufferPool::buffer`]. Valid until the pool changes.
pub(super) struct Reservation {
    partial: usize,
    bytes: Range<usize>,
}

/// The slots.
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

    /// The number of slots.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The number of free slots.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The number of slots with a half received block.
    pub fn partial(&self) -> usize {
        self.partial.len()
    }

    /// Takes slots back.
    pub fn release(&mut self, slots: Vec<Slot>) {
        self.free.extend(slots);
    }

    /// Reserves room for the rest of a block; `None` if no slot is free.
    pub fn reserve(
        &mut self,
        geometry: &Geometry,
        torrent: TorrentKey,
        span: BlockSpan,
    ) -> Option<Reservation> {
        let partial = match self.find(torrent, span) {
            Some(i) => i,
            None => {
                let slot = self.take_slot()?;
                let begin = span.begin();
                let end = span.begin();
                self.partial.push(PartialBlock {
                    torrent,
                    piece: span.piece(),
                    block: block_of(span),
                    begin,
                    end,
                    slot,
                });
                self.partial.len() - 1
            }
        };
        let block = &mut self.partial[partial];
        if block.end != span.begin() {
            // Another peer began the block anew, or continues further on: the bytes so far do not count.
            block.begin = span.begin();
            block.end = span.begin();
        }
        let end = span.end().min(geometry.block(span.piece(), block.block).end());
        let base = block.block * SLOT_LEN as u32;
        Some(Reservation { partial, bytes: (span.begin() - base) as usize..(end - base) as usize })
    }

    /// The reserved bytes.
    pub fn buffer(&mut self, reservation: Reservation) -> &mut [u8] {
        &mut self.partial[reservation.partial].slot.bytes_mut()[reservation.bytes]
    }

    fn find(&self, torrent: TorrentKey, span: BlockSpan) -> Option<usize> {
        self.partial.iter().position(|block| block.is(torrent, span))
    }

    fn take_slot(&mut self) -> Option<Slot> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        // A slot that was reserved while the socket had no bytes is as good as free.
        let i = self.partial.iter().position(|block| block.begin == block.end)?;
        Some(self.partial.swap_remove(i).slot)
    }

    /// Notes that the span's bytes are in its block's slot. Returns the block once its last byte is there.
    pub fn received(
        &mut self,
        geometry: &Geometry,
        torrent: TorrentKey,
        span: BlockSpan,
    ) -> Option<ReceivedBlock> {
        let i = self.find(torrent, span)?;
        let block = &mut self.partial[i];
        debug_assert_eq!(block.end, span.begin(), "bytes of a block arrive in order");
        block.end = span.end();
        let complete = block.end >= geometry.block(block.piece, block.block).end();
        complete.then(|| self.partial.swap_remove(i).into_received())
    }

    /// Whether the span's block has a slot.
    pub fn holds(&self, torrent: TorrentKey, span: BlockSpan) -> bool {
        self.find(torrent, span).is_some()
    }

    /// Drops the bytes of a block that its peer did not finish.
    pub fn abandon(&mut self, torrent: TorrentKey, span: BlockSpan) {
        if let Some(i) = self.find(torrent, span) {
            self.free.push(self.partial.swap_remove(i).slot);
        }
    }

    /// Drops the half received blocks of this torrent, or of one piece of it.
    pub fn discard(&mut self, torrent: TorrentKey, piece: Option<PieceIndex>) {
        let mut i = 0;
        while i < self.partial.len() {
            let block = &self.partial[i];
            if block.torrent == torrent && piece.is_none_or(|p| p == block.piece) {
                self.free.push(self.partial.swap_remove(i).slot);
            } else {
                i += 1;
            }
        }
    }

    /// Takes the half received blocks out, for a worker to write: free slots matter more than writes in
    /// order.
    pub fn take_partial(&mut self) -> Vec<(TorrentKey, ReceivedBlock)> {
        let blocks = self.partial.drain(..).filter(|block| block.begin < block.end);
        blocks.map(|block| (block.torrent, block.into_received())).collect()
    }
}
