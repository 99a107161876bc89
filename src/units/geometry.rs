//! Sizes of a torrent and its pieces, and the conversion of numbers in messages to indices and spans
//! (BEP 3).
//!
//! Invariants: at least one byte and one piece; a piece length in 1…[`MAX_PIECE_LEN`]; the last piece may be
//! shorter. Numbers from messages and torrent files that are out of range give an error or `None`, never a
//! panic. Only [`Geometry::block`] panics.

use super::{BlockSpan, PieceIndex};
use thiserror::Error;

/// Block length, 16 KiB: the length that every client requests, and the most that many clients serve (BEP 3).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// Largest accepted piece length, 512 MiB; `rill create` writes at most 128 MiB. Every offset inside a piece
/// is below 2^32.
pub const MAX_PIECE_LEN: u32 = 512 * 1024 * 1024;

/// Invalid sizes of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GeometryError {
    /// The torrent has no bytes.
    #[error("total size is 0")]
    Empty,
    /// The piece length is 0 or above [`MAX_PIECE_LEN`].
    #[error("piece length {0} is not in 1…536870912")]
    PieceLen(u64),
    /// There are more than 2^32 - 2 pieces: an index has 32 bits (BEP 3), and `u32::MAX` is refused, too.
    #[error("{0} pieces are more than 4294967294")]
    Pieces(u64),
}

/// Why the piece, offset and length in a message are not a valid span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SpanError {
    /// The piece does not exist.
    #[error("piece {0} does not exist")]
    Piece(u32),
    /// The length is 0.
    #[error("the span is empty")]
    Empty,
    /// The span ends after the end of its piece.
    #[error("{len} bytes at {begin} exceed the end of piece {piece}")]
    PastEnd {
        /// The piece.
        piece: u32,
        /// Offset of the first byte in the piece.
        begin: u32,
        /// Length in bytes.
        len: u32,
    },
}

/// Total size, piece length and number of pieces of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    total: u64,
    piece_len: u32,
    pieces: u32,
}

impl Geometry {
    /// Returns the geometry of `total` bytes in pieces of `piece_len` bytes.
    ///
    /// # Errors
    /// If a size is 0, `piece_len` is above [`MAX_PIECE_LEN`], or there are too many pieces.
    pub fn new(total: u64, piece_len: u64) -> Result<Geometry, GeometryError> {
        if piece_len == 0 || piece_len > u64::from(MAX_PIECE_LEN) {
            return Err(GeometryError::PieceLen(piece_len));
        }
        if total == 0 {
            return Err(GeometryError::Empty);
        }
        let pieces = total.div_ceil(piece_len);
        match u32::try_from(pieces) {
            Ok(pieces) if pieces < u32::MAX => Ok(Geometry { total, piece_len: piece_len as u32, pieces }),
            _ => Err(GeometryError::Pieces(pieces)),
        }
    }

    /// Returns the total size in bytes, pad files included.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Returns the number of pieces, at least 1.
    pub const fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Returns the nominal piece length in bytes; the last piece may be shorter.
    pub const fn nominal_piece_len(&self) -> u32 {
        self.piece_len
    }

    /// Returns the index of piece number `number`; `None` if the torrent has no such piece.
    pub const fn piece(&self, number: u32) -> Option<PieceIndex> {
        if number < self.pieces { Some(PieceIndex(number)) } else { None }
    }

    /// Iterates over all pieces in order.
    pub fn all_pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator + use<> {
        (0..self.pieces).map(PieceIndex)
    }

    /// Returns the length of a piece in bytes.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "an index is below the number of pieces, so its piece begins before `total`, a 64-bit number"
    )]
    pub const fn piece_len(&self, piece: PieceIndex) -> u32 {
        if piece.0 + 1 == self.pieces {
            (self.total - (self.pieces as u64 - 1) * self.piece_len as u64) as u32
        } else {
            self.piece_len
        }
    }

    /// Returns the offset of a piece's first byte in the torrent, bytes.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "an index is below the number of pieces, so its piece begins before `total`, a 64-bit number"
    )]
    pub const fn piece_offset(&self, piece: PieceIndex) -> u64 {
        piece.0 as u64 * self.piece_len as u64
    }

    /// Returns the offset of a span's first byte in the torrent, bytes.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "an index is below the number of pieces, so its piece begins before `total`, a 64-bit number"
    )]
    pub const fn offset(&self, span: BlockSpan) -> u64 {
        self.piece_offset(span.piece) + span.begin as u64
    }

    /// Returns the span of `len` bytes from the offset `begin` in piece number `piece`.
    ///
    /// # Errors
    /// If the piece does not exist, `len` is 0, or the span ends after the piece.
    pub fn span(&self, piece: u32, begin: u32, len: u32) -> Result<BlockSpan, SpanError> {
        let index = self.piece(piece).ok_or(SpanError::Piece(piece))?;
        if len == 0 {
            return Err(SpanError::Empty);
        }
        match begin.checked_add(len) {
            Some(end) if end <= self.piece_len(index) => Ok(BlockSpan { piece: index, begin, len }),
            _ => Err(SpanError::PastEnd { piece, begin, len }),
        }
    }

    /// Returns the whole piece as a span.
    pub const fn whole(&self, piece: PieceIndex) -> BlockSpan {
        BlockSpan { piece, begin: 0, len: self.piece_len(piece) }
    }

    /// Returns the number of blocks in a piece, at least 1.
    pub const fn blocks(&self, piece: PieceIndex) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK_LEN)
    }

    /// Returns block number `block` of a piece.
    ///
    /// # Panics
    /// If the piece has no such block. Block numbers are counted from [`Geometry::blocks`], never received.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "an existing block begins inside its piece, which is shorter than 2^32 bytes"
    )]
    pub fn block(&self, piece: PieceIndex, block: u32) -> BlockSpan {
        assert!(block < self.blocks(piece), "block {block} of piece {piece} does not exist");
        let begin = block * BLOCK_LEN;
        BlockSpan { piece, begin, len: (self.piece_len(piece) - begin).min(BLOCK_LEN) }
    }

    /// Returns the pieces that overlap bytes `start..end` of the torrent, as far as it has them; none for an
    /// empty range.
    #[expect(clippy::arithmetic_side_effects, reason = "a piece length is never 0")]
    pub fn pieces_of(&self, start: u64, end: u64) -> impl Iterator<Item = PieceIndex> + use<> {
        let end = end.min(self.total);
        let piece_len = u64::from(self.piece_len);
        let pieces =
            if start >= end { 0..0 } else { (start / piece_len) as u32..end.div_ceil(piece_len) as u32 };
        pieces.map(PieceIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> Geometry {
        Geometry::new(100_001, 40_000).unwrap()
    }

    #[test]
    fn the_last_piece_has_the_remaining_length() {
        let g = geometry();
        assert_eq!(g.pieces(), 3);
        assert_eq!(g.piece_len(g.piece(0).unwrap()), 40_000);
        assert_eq!(g.piece_len(g.piece(2).unwrap()), 20_001);
        assert_eq!(Geometry::new(80_000, 40_000).unwrap().pieces(), 2);
    }

    #[test]
    fn the_blocks_of_a_piece_cover_it_exactly() {
        let g = geometry();
        for p in g.all_pieces() {
            let mut covered = 0;
            for b in 0..g.blocks(p) {
                assert_eq!(g.block(p, b).begin(), covered);
                covered = g.block(p, b).end();
            }
            assert_eq!(covered, g.piece_len(p));
        }
    }

    #[test]
    fn a_span_outside_its_piece_is_refused() {
        let g = geometry();
        assert_eq!(g.span(3, 0, 1), Err(SpanError::Piece(3)));
        assert_eq!(g.span(u32::MAX, 0, 1), Err(SpanError::Piece(u32::MAX)));
        assert_eq!(g.span(0, 0, 0), Err(SpanError::Empty));
        assert!(g.span(2, 20_000, 1).is_ok());
        assert!(g.span(2, 20_000, 2).is_err());
        assert!(g.span(0, u32::MAX, 2).is_err(), "begin + length overflows");
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert_eq!(Geometry::new(0, 1), Err(GeometryError::Empty));
        assert_eq!(Geometry::new(1, 0), Err(GeometryError::PieceLen(0)));
        assert!(Geometry::new(1, 1 << 62).is_err());
        assert!(matches!(Geometry::new(u64::MAX, 1), Err(GeometryError::Pieces(_))));
        assert!(matches!(Geometry::new(u64::from(u32::MAX), 1), Err(GeometryError::Pieces(_))));
    }

    #[test]
    fn pieces_of_returns_the_overlapping_pieces() {
        let g = geometry();
        let overlapping = |start, end| g.pieces_of(start, end).map(PieceIndex::get).collect::<Vec<_>>();
        assert!(overlapping(0, 0).is_empty());
        assert_eq!(overlapping(0, 40_000), [0]);
        assert_eq!(overlapping(39_999, 40_001), [0, 1]);
        assert_eq!(overlapping(90_000, u64::MAX), [2]);
    }
}
