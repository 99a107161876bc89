//! Writing a .torrent file (BEP 3, 12, 19, 27): a v1 torrent with sorted keys and nothing in it that nobody asked for.
//!
//! What is written reads back through [`Metainfo::parse`](super::Metainfo::parse) as the same names and lengths, or is
//! not written at all. Knows no clock and no files: whoever calls has measured and hashed them.

use super::path::component;
use crate::units::{Geometry, GeometryError, PieceHash};
use bendy::encoding::{Error as EncodeError, SingleItemEncoder, ToBencode};
use thiserror::Error;

/// Pieces that a torrent should have about: fewer and a peer waits long for something to share, more and the file grows.
const GOOD_PIECES: u64 = 1_500;
/// The shortest piece length chosen by [`piece_len_for`], 16 KiB: one block.
const SHORTEST: u64 = 16 << 10;
/// The longest piece length chosen by [`piece_len_for`], 16 MiB.
const LONGEST: u64 = 16 << 20;

/// A sensible piece length in bytes for this much content: a power of two.
pub fn piece_len_for(total: u64) -> u32 {
    total.div_ceil(GOOD_PIECES).checked_next_power_of_two().unwrap_or(LONGEST).clamp(SHORTEST, LONGEST) as u32
}

/// Why a torrent was not written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// Nothing to share, or a piece length that cannot be.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// A name that readers would have to change, so that they could not find the file.
    #[error("the name {0:?} cannot stand in a torrent")]
    Name(String),
    /// The hashes are of other content.
    #[error("{got} piece hashes where {expected} belong")]
    Hashes {
        /// What was given.
        got: usize,
        /// One for each piece.
        expected: usize,
    },
}

/// A torrent to be written.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// The file's name, or that of the directory around all files.
    pub name: String,
    /// Path below the directory and length in bytes of each file, in order. For one file without a directory: one
    /// entry with an empty path.
    pub files: Vec<(Vec<String>, u64)>,
    /// Bytes a piece; see [`piece_len_for`].
    pub piece_len: u32,
    /// Tracker URLs in tiers.
    pub trackers: Vec<Vec<String>>,
    /// Whether peers may come from these trackers alone (BEP 27).
    pub private: bool,
    /// For people.
    pub comment: Option<String>,
    /// The program that makes it.
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
}

impl Builder {
    /// One file without a directory.
    pub fn single(name: impl Into<String>, length: u64) -> Builder {
        Builder { name: name.into(), files: vec![(Vec::new(), length)], piece_len: piece_len_for(length), ..Builder::default() }
    }

    /// A directory of files.
    pub fn multi(name: impl Into<String>, files: Vec<(Vec<String>, u64)>) -> Builder {
        let total = files.iter().fold(0u64, |sum, (_, length)| sum.saturating_add(*length));
        Builder { name: name.into(), files, piece_len: piece_len_for(total), ..Builder::default() }
    }

    /// Which pieces there will be: what to hash before [`finish`](Builder::finish).
    pub fn geometry(&self) -> Result<Geometry, GeometryError> {
        let total = self.files.iter().fold(0u64, |sum, (_, length)| sum.saturating_add(*length));
        Geometry::new(total, u64::from(self.piece_len))
    }

    /// The bytes of the .torrent file, given the hash of every piece in order.
    pub fn finish(&self, hashes: &[PieceHash]) -> Result<Vec<u8>, BuildError> {
        let expected = self.geometry()?.pieces() as usize;
        if hashes.len() != expected {
            return Err(BuildError::Hashes { got: hashes.len(), expected });
        }
        let names = [&self.name].into_iter().chain(self.files.iter().flat_map(|(path, _)| path));
        for name in names {
            if component(name.as_bytes()).as_ref() != Some(name) {
                return Err(BuildError::Name(name.clone()));
            }
        }
        #[expect(clippy::expect_used, reason = "the shape of what is written is known, and its names have just been checked")]
        let written = Written { builder: self, hashes }.to_bencode().expect("keys are in order and of known depth");
        Ok(written)
    }

    /// The length of the one file, if there is no directory around it.
    fn only_length(&self) -> Option<u64> {
        match self.files.as_slice() {
            [(path, length)] if path.is_empty() => Some(*length),
            _ => None,
        }
    }
}

/// The outer dictionary.
struct Written<'a> {
    builder: &'a Builder,
    hashes: &'a [PieceHash],
}

impl ToBencode for Written<'_> {
    const MAX_DEPTH: usize = 5;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), EncodeError> {
        let b = self.builder;
        encoder.emit_dict(|mut e| {
            let first = b.trackers.iter().flatten().next();
            if let Some(first) = first {
                e.emit_pair(b"announce", first)?;
            }
            if b.trackers.iter().flatten().nth(1).is_some() {
                e.emit_pair(b"announce-list", &b.trackers)?;
            }
            if let Some(comment) = &b.comment {
                e.emit_pair(b"comment", comment)?;
            }
            if let Some(program) = &b.created_by {
                e.emit_pair(b"created by", program)?;
            }
            if let Some(date) = b.creation_date {
                e.emit_pair(b"creation date", date)?;
            }
            e.emit_pair_with(b"info", |e| self.info(e))?;
            if !b.web_seeds.is_empty() {
                e.emit_pair(b"url-list", &b.web_seeds)?;
            }
            Ok(())
        })
    }
}

impl Written<'_> {
    fn info(&self, encoder: SingleItemEncoder<'_>) -> Result<(), EncodeError> {
        let b = self.builder;
        encoder.emit_dict(|mut e| {
            match b.only_length() {
                Some(length) => e.emit_pair(b"length", length)?,
                None => e.emit_pair_with(b"files", |e| e.emit_unchecked_list(b.files.iter().map(WrittenFile)))?,
            }
            e.emit_pair(b"name", &b.name)?;
            e.emit_pair(b"piece length", b.piece_len)?;
            let hashes: Vec<u8> = self.hashes.iter().flat_map(|h| h.0).collect();
            e.emit_pair_with(b"pieces", |e| e.emit_bytes(&hashes))?;
            if b.private {
                e.emit_pair(b"private", 1)?;
            }
            Ok(())
        })
    }
}

/// One entry of `files`.
struct WrittenFile<'a>(&'a (Vec<String>, u64));

impl ToBencode for WrittenFile<'_> {
    const MAX_DEPTH: usize = 2;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), EncodeError> {
        let (path, length) = self.0;
        encoder.emit_dict(|mut e| {
            e.emit_pair(b"length", length)?;
            e.emit_pair(b"path", path)
        })
    }
}
