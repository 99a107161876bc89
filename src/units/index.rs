//! Indices that have passed the door: a `PieceIndex` or `BlockSpan` in hand is known to lie inside its
//! torrent.
//!
//! Both are made by [`Geometry`](super::Geometry) alone; there is no public constructor from a raw number.

use std::fmt;

/// The index of a piece that exists in its torrent (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub(super) u32);

impl PieceIndex {
    /// The number as it stands on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as an index into a table with one entry a piece.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of bytes inside one piece: never empty, never past the piece's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockSpan {
    pub(super) piece: PieceIndex,
    pub(super) begin: u32,
    pub(super) len: u32,
}

impl BlockSpan {
    /// The piece that the bytes belong to.
    pub const fn piece(self) -> PieceIndex {
        self.piece
    }

    /// First byte, counted from the piece's start.
    pub const fn begin(self) -> u32 {
        self.begin
    }

    /// Bytes in the span, at least 1.
    #[allow(clippy::len_without_is_empty)] // a span is never empty
    pub const fn len(self) -> u32 {
        self.len
    }

    /// One past the last byte, counted from the piece's start.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a span lies inside its piece, and that is below 2^32 bytes"
    )]
    pub const fn end(self) -> u32 {
        self.begin + self.len
    }

    /// The part that is left after the first `n` bytes, or `None` if nothing is.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a span lies inside its piece, and that is below 2^32 bytes"
    )]
    pub const fn after(self, n: u32) -> Option<BlockSpan> {
        if n < self.len {
            Some(BlockSpan { piece: self.piece, begin: self.begin + n, len: self.len - n })
        } else {
            None
        }
    }

    /// This span and `next` as one, if `next` begins where it ends.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a span lies inside its piece, and that is below 2^32 bytes"
    )]
    pub fn joined(self, next: BlockSpan) -> Option<BlockSpan> {
        let adjoins = self.piece == next.piece && self.end() == next.begin;
        adjoins.then_some(BlockSpan { len: self.len + next.len, ..self })
    }

    /// The first `n` bytes, or the whole span if it is shorter; `n` of 0 gives 1 byte.
    pub const fn first(self, n: u32) -> BlockSpan {
        let len = if n == 0 {
            1
        } else if n < self.len {
            n
        } else {
            self.len
        };
        BlockSpan { piece: self.piece, begin: self.begin, len }
    }
}

impl fmt::Display for BlockSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {} bytes {}..{}", self.piece, self.begin, self.end())
    }
}
