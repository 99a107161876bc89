//! Validated indices: a `PieceIndex` or `BlockSpan` always lies inside its torrent.
//!
//! Only [`Geometry`](super::Geometry) creates them; there is no public constructor from a raw number.

use std::fmt;

/// The index of a piece that exists in its torrent (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub(super) u32);

impl PieceIndex {
    /// Returns the number as on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the number as an index into a table with one entry per piece.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A range of bytes inside one piece; never empty and never beyond the piece's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockSpan {
    pub(super) piece: PieceIndex,
    pub(super) begin: u32,
    pub(super) len: u32,
}

impl BlockSpan {
    /// Returns the piece.
    pub const fn piece(self) -> PieceIndex {
        self.piece
    }

    /// Returns the offset of the first byte in the piece.
    pub const fn begin(self) -> u32 {
        self.begin
    }

    /// Returns the length in bytes, at least 1.
    #[allow(clippy::len_without_is_empty)] // a span is never empty
    pub const fn len(self) -> u32 {
        self.len
    }

    /// Returns the offset after the last byte in the piece.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a span lies inside its piece, and that is below 2^32 bytes"
    )]
    pub const fn end(self) -> u32 {
        self.begin + self.len
    }

    /// Returns the span without its first `n` bytes; `None` if no byte remains.
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

    /// Returns this span joined with `next`; `None` if `next` does not start at its end.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a span lies inside its piece, and that is below 2^32 bytes"
    )]
    pub fn joined(self, next: BlockSpan) -> Option<BlockSpan> {
        let adjoins = self.piece == next.piece && self.end() == next.begin;
        adjoins.then_some(BlockSpan { len: self.len + next.len, ..self })
    }

    /// Returns the first `n` bytes, or the whole span if it is shorter; 1 byte if `n` is 0.
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
