//! Creates .torrent files (BEP 3, 12, 19, 27) of BitTorrent v1 with exactly the requested fields.
//!
//! [`Metainfo::parse`](super::Metainfo::parse) reads the result back with the same names and lengths;
//! otherwise [`Builder::finish`] fails. Uses neither a clock nor the file system: the caller measures and
//! hashes the content.

use super::dictionaries::{FileDictionary, InfoDictionary};
use super::path::component;
use super::torrent_file::{WrittenFile, around};
use crate::units::{Geometry, GeometryError, PieceHash};
use crate::wire::bencode::{Bytes, Lenient, to_bytes};
use serde::{Serialize, Serializer};
use thiserror::Error;

/// The number of pieces to aim for: with fewer, a peer waits longer until it has a piece to share; with more,
/// the file grows.
const GOOD_PIECES: u64 = 1_500;
/// The shortest piece length that [`piece_len_for`] chooses, 16 KiB: one block.
const SHORTEST: u64 = 16 << 10;
/// The longest piece length that [`piece_len_for`] chooses, 16 MiB.
const LONGEST: u64 = 16 << 20;

/// Chooses a piece length in bytes for `total` bytes of content: a power of two.
pub fn piece_len_for(total: u64) -> u32 {
    total.div_ceil(GOOD_PIECES).checked_next_power_of_two().unwrap_or(LONGEST).clamp(SHORTEST, LONGEST) as u32
}

/// Why a torrent cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// There is no content, or the piece length is invalid.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Clients would change this name to make it safe, and then not find the file.
    #[error("the name {0:?} is not allowed in a torrent")]
    Name(String),
    /// The number of hashes is not that of the pieces.
    #[error("{got} piece hashes instead of {expected}")]
    Hashes {
        /// Number of hashes.
        got: usize,
        /// Number of pieces.
        expected: usize,
    },
}

/// The content and fields of a torrent to create.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// The name of the file, or of the directory around all files.
    pub name: String,
    /// Path below the directory and length in bytes of each file, in order. A file without a directory is one
    /// entry with an empty path.
    pub files: Vec<(Vec<String>, u64)>,
    /// Bytes per piece; see [`piece_len_for`].
    pub piece_len: u32,
    /// Tracker URLs in tiers.
    pub trackers: Vec<Vec<String>>,
    /// Whether only these trackers may be sources of peers (BEP 27).
    pub private: bool,
    /// A comment for users.
    pub comment: Option<String>,
    /// The program that creates the torrent.
    pub created_by: Option<String>,
    /// The creation date in seconds since 1970.
    pub creation_date: Option<i64>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
}

impl Builder {
    /// Starts a torrent of one file without a directory.
    pub fn single(name: impl Into<String>, length: u64) -> Builder {
        Builder {
            name: name.into(),
            files: vec![(Vec::new(), length)],
            piece_len: piece_len_for(length),
            ..Builder::default()
        }
    }

    /// Starts a torrent of a directory with files.
    pub fn multi(name: impl Into<String>, files: Vec<(Vec<String>, u64)>) -> Builder {
        let total = files.iter().fold(0u64, |sum, (_, length)| sum.saturating_add(*length));
        Builder { name: name.into(), files, piece_len: piece_len_for(total), ..Builder::default() }
    }

    /// Returns the sizes of the pieces to hash before [`finish`](Builder::finish).
    pub fn geometry(&self) -> Result<Geometry, GeometryError> {
        let total = self.files.iter().fold(0u64, |sum, (_, length)| sum.saturating_add(*length));
        Geometry::new(total, u64::from(self.piece_len))
    }

    /// Returns the content of the .torrent file, given the hash of each piece in order.
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
        let pieces: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        Ok(to_bytes(&WrittenFile {
            comment: Lenient::of(self.comment.as_deref().map(str::as_bytes)),
            created_by: Lenient::of(self.created_by.as_deref().map(str::as_bytes)),
            creation_date: Lenient(self.creation_date),
            ..around(self.info(&pieces), &self.trackers, &self.web_seeds)
        }))
    }

    fn info<'a>(&'a self, pieces: &'a [u8]) -> InfoDictionary<'a, FileList<'a>> {
        let only_length = self.only_length();
        InfoDictionary {
            attr: Lenient(None),
            file_tree: None,
            files: only_length.is_none().then_some(Lenient(Some(FileList(&self.files)))),
            length: written_length(only_length),
            meta_version: Lenient(None),
            name: Lenient(Some(Bytes(self.name.as_bytes()))),
            name_utf8: Lenient(None),
            piece_length: Lenient(Some(i64::from(self.piece_len))),
            pieces: Lenient(Some(Bytes(pieces))),
            private: Lenient(self.private.then_some(1)),
        }
    }

    /// Returns the length of the only file, if there is no directory.
    fn only_length(&self) -> Option<u64> {
        match self.files.as_slice() {
            [(path, length)] if path.is_empty() => Some(*length),
            _ => None,
        }
    }
}

/// The list `files`.
struct FileList<'a>(&'a [(Vec<String>, u64)]);

impl Serialize for FileList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(path, length)| FileDictionary {
            attr: Lenient(None),
            length: written_length(Some(*length)),
            path: Lenient(Some(path)),
            path_utf8: Lenient(None),
        }))
    }
}

/// Fits in any case: [`Builder::geometry`] has accepted the sum of all lengths.
fn written_length(length: Option<u64>) -> Lenient<i64> {
    Lenient(length.and_then(|length| length.try_into().ok()))
}
