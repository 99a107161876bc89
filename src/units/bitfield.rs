//! A set of pieces, one bit per piece, in wire order (BEP 3: the high bit of the first byte is piece 0).
//!
//! Invariants: spare bits are 0; `ones` is the number of set bits, so `is_full` takes constant time.

use super::PieceIndex;
use thiserror::Error;

/// A bitfield of the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bitfield has {got} bytes instead of {expected}")]
pub struct BitfieldError {
    /// Bytes received.
    pub got: usize,
    /// Bytes of a bitfield of this torrent.
    pub expected: usize,
}

/// A set of pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Box<[u8]>,
    pieces: u32,
    ones: u32,
}

impl Bitfield {
    /// Returns an empty set for a torrent of `pieces` pieces.
    pub fn empty(pieces: u32) -> Bitfield {
        Bitfield { bytes: vec![0; pieces.div_ceil(8) as usize].into_boxed_slice(), pieces, ones: 0 }
    }

    /// Returns the set of all `pieces` pieces.
    pub fn full(pieces: u32) -> Bitfield {
        let mut b = Bitfield {
            bytes: vec![0xff; pieces.div_ceil(8) as usize].into_boxed_slice(),
            pieces,
            ones: pieces,
        };
        b.clear_spare_bits();
        b
    }

    /// Parses wire bytes. Spare bits are cleared.
    ///
    /// # Errors
    /// If the length does not match `pieces`.
    pub fn from_wire(bytes: &[u8], pieces: u32) -> Result<Bitfield, BitfieldError> {
        let expected = pieces.div_ceil(8) as usize;
        if bytes.len() != expected {
            return Err(BitfieldError { got: bytes.len(), expected });
        }
        let mut b = Bitfield { bytes: bytes.into(), pieces, ones: 0 };
        b.clear_spare_bits();
        b.ones = b.bytes.iter().map(|b| b.count_ones()).sum();
        Ok(b)
    }

    fn clear_spare_bits(&mut self) {
        let used = self.pieces % 8;
        if used != 0 {
            if let Some(last) = self.bytes.last_mut() {
                *last &= !(0xff >> used);
            }
        }
    }

    /// Returns the wire bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of pieces of the torrent.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Returns the number of pieces in the set.
    pub fn ones(&self) -> u32 {
        self.ones
    }

    /// Returns whether every piece is in the set.
    pub fn is_full(&self) -> bool {
        self.ones == self.pieces
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// Returns whether a piece is in the set.
    #[expect(
        clippy::indexing_slicing,
        reason = "each piece of the torrent has a bit; a piece of another torrent is a bug of the caller"
    )]
    pub fn has(&self, piece: PieceIndex) -> bool {
        let (at, bit) = bit_position(piece);
        self.bytes[at] & bit != 0
    }

    /// Adds a piece. Returns whether it was missing.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "a piece that exists has its bit, and the count follows what was just seen of it"
    )]
    pub fn set(&mut self, piece: PieceIndex) -> bool {
        let new = !self.has(piece);
        if new {
            let (at, bit) = bit_position(piece);
            self.bytes[at] |= bit;
            self.ones += 1;
        }
        new
    }

    /// Removes a piece. Returns whether it was in the set.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "a piece that exists has its bit, and the count follows what was just seen of it"
    )]
    pub fn clear(&mut self, piece: PieceIndex) -> bool {
        let present = self.has(piece);
        if present {
            let (at, bit) = bit_position(piece);
            self.bytes[at] &= !bit;
            self.ones -= 1;
        }
        present
    }

    /// Iterates over the pieces in the set in ascending order; bytes of zeros are skipped.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.bytes.iter().enumerate().filter(|(_, b)| **b != 0).flat_map(|(at, &byte)| {
            (0..8u32)
                .filter(move |bit| byte & (0x80 >> bit) != 0)
                .map(move |bit| PieceIndex((at as u32) << 3 | bit))
        })
    }
}

/// Returns the index of the byte that holds a piece's bit, and the bit's mask.
fn bit_position(piece: PieceIndex) -> (usize, u8) {
    let i = piece.as_usize();
    (i / 8, 0x80 >> (i % 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Geometry;

    #[test]
    fn spare_bits_never_count_as_pieces() {
        let b = Bitfield::from_wire(&[0xff, 0xff], 9).unwrap();
        assert_eq!(b.ones(), 9);
        assert!(b.is_full());
        assert_eq!(b.as_bytes(), [0xff, 0x80]);
        assert_eq!(Bitfield::full(9), b);
    }

    #[test]
    fn a_bitfield_of_another_length_is_refused() {
        assert!(Bitfield::from_wire(&[0], 9).is_err());
        assert!(Bitfield::from_wire(&[0, 0, 0], 9).is_err());
        assert!(Bitfield::from_wire(&[], 9).is_err());
    }

    #[test]
    fn set_and_clear_keep_the_count() {
        let g = Geometry::new(20, 1).unwrap();
        let mut b = Bitfield::empty(20);
        let p = g.piece(13).unwrap();
        assert!(b.set(p) && !b.set(p) && b.has(p));
        assert_eq!(b.iter().map(PieceIndex::get).collect::<Vec<_>>(), [13]);
        assert!(b.clear(p) && !b.clear(p) && b.is_empty());
    }
}
