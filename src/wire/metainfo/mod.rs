//! A torrent as rill believes it (BEP 3, with 12, 19, 27 and 47; a hybrid of BEP 52 counts as its v1 half).
//!
//! Invariants of every [`Metainfo`], wherever it came from (a file, a peer's metadata, [`Builder`]): the info hash is
//! over the raw bytes as written; every path is made of plain names and stays below its directory; no two files share
//! a path; the files follow each other without a gap and their lengths make up the geometry's total; there are
//! exactly as many hashes as pieces; trackers have an allowed scheme.

mod builder;
mod dictionaries;
mod error;
mod files;
mod parse;
mod path;
#[cfg(test)]
mod tests;
mod torrent_file;

pub use builder::{BuildError, Builder, piece_len_for};
pub use error::MetainfoError;
pub use files::{FileAttributes, FileEntry, FileListOverflow, Files, FilesBuilder};
pub(in crate::wire) use path::component;
pub use path::{OWN_PREFIX, for_fat};

use crate::units::{Geometry, InfoHash, PieceHash, PieceIndex};
use crate::wire::magnet::Magnet;
use std::ops::Range;
use std::sync::Arc;

/// What was left out or changed for this torrent to be usable; worth a line each, not an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Trackers and web seeds with a scheme, host or port that cannot be, or too many of them.
    pub urls_dropped: usize,
    /// Files whose path collided with another's.
    pub files_renamed: usize,
    /// Bytes behind the torrent's end.
    pub bytes_cut: usize,
}

/// What the pieces of a torrent must hash to, twenty bytes each, wherever they stand. Cloning copies a pointer.
#[derive(Clone)]
pub struct PieceHashes {
    bytes: Arc<[u8]>,
    at: Range<usize>,
}

impl From<Vec<u8>> for PieceHashes {
    fn from(bytes: Vec<u8>) -> PieceHashes {
        PieceHashes { at: 0..bytes.len(), bytes: bytes.into() }
    }
}

impl std::ops::Deref for PieceHashes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.at.clone()).unwrap_or_default()
    }
}

impl std::fmt::Debug for PieceHashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PieceHashes({})", self.len() / 20)
    }
}

#[derive(Debug)]
struct MetainfoData {
    info_hash: InfoHash,
    /// `None` if it was too long to be kept.
    info: Option<Arc<[u8]>>,
    hashes: PieceHashes,
    name: String,
    geometry: Geometry,
    files: Files,
    private: bool,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    nodes: Vec<(String, u16)>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
    repairs: Repairs,
}

/// A torrent. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct Metainfo(Arc<MetainfoData>);

impl Metainfo {
    /// Reads a .torrent file.
    pub fn parse(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
        Metainfo::parse_with_info_limit(bytes, usize::MAX)
    }

    /// The same, but an info dictionary of more than `info_bytes` bytes is not kept: what it says is, in far less memory. Such a
    /// torrent cannot give its metadata to others.
    pub fn parse_with_info_limit(bytes: &[u8], info_bytes: usize) -> Result<Metainfo, MetainfoError> {
        parse::from_file(bytes, info_bytes).map(|parts| Metainfo(Arc::new(parts)))
    }

    /// Reads an info dictionary alone, as peers send it (BEP 9), with the trackers that the magnet link named.
    /// The same rules hold as for a file; that the hash is the wanted one is for the caller to compare.
    pub fn from_info(info: &[u8], trackers: Vec<Vec<String>>, web_seeds: Vec<String>) -> Result<Metainfo, MetainfoError> {
        parse::from_info(info, trackers, web_seeds).map(|parts| Metainfo(Arc::new(parts)))
    }

    /// A .torrent file that says the same: the info dictionary to the letter, trackers, web seeds and nodes. `None` if the
    /// dictionary was not kept.
    pub fn to_file(&self) -> Option<Vec<u8>> {
        self.0.info.as_deref().map(|info| torrent_file::file(self, info))
    }

    /// SHA-1 of the info dictionary as written.
    pub fn info_hash(&self) -> InfoHash {
        self.0.info_hash
    }

    /// The info dictionary as written, for peers who ask for it (BEP 9), if it was kept.
    pub fn info(&self) -> Option<Arc<[u8]>> {
        self.0.info.clone()
    }

    /// The torrent's name: one plain path component.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Sizes of all and of the pieces.
    pub fn geometry(&self) -> Geometry {
        self.0.geometry
    }

    /// What the piece must hash to.
    #[expect(clippy::expect_used, reason = "an index is of a piece that exists, and each has a hash")]
    pub fn piece_hash(&self, piece: PieceIndex) -> PieceHash {
        self.piece_hashes().chunks_exact(20).nth(piece.as_usize()).and_then(PieceHash::from_slice).expect("a hash for each piece")
    }

    /// What all pieces must hash to, twenty bytes each.
    pub fn piece_hashes(&self) -> &[u8] {
        &self.0.hashes
    }

    /// The same, shared.
    pub fn hashes(&self) -> PieceHashes {
        self.0.hashes.clone()
    }

    /// The files in the torrent's order, pads and links included; at least one.
    pub fn files(&self) -> &Files {
        &self.0.files
    }

    /// Whether there is one file and no directory around it.
    pub fn is_single_file(&self) -> bool {
        self.0.files.len() == 1 && self.0.files.iter().all(|file| file.path().count() == 1)
    }

    /// Whether peers may come from this torrent's own trackers alone (BEP 27).
    pub fn private(&self) -> bool {
        self.0.private
    }

    /// Tracker URLs in tiers (BEP 12), in the order written; no tier is empty.
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.0.trackers
    }

    /// Web seeds (BEP 19).
    pub fn web_seeds(&self) -> &[String] {
        &self.0.web_seeds
    }

    /// Host and port of nodes of the DHT (BEP 5).
    pub fn nodes(&self) -> &[(String, u16)] {
        &self.0.nodes
    }

    /// What its maker had to say, fit for showing.
    pub fn comment(&self) -> Option<&str> {
        self.0.comment.as_deref()
    }

    /// The program that made it, fit for showing.
    pub fn created_by(&self) -> Option<&str> {
        self.0.created_by.as_deref()
    }

    /// When it was made, in seconds since 1970; whatever the file says.
    pub fn creation_date(&self) -> Option<i64> {
        self.0.creation_date
    }

    /// What was left out or changed to make it usable.
    pub fn repairs(&self) -> Repairs {
        self.0.repairs
    }

    /// The magnet link that finds this torrent; its `Display` is the link.
    pub fn magnet(&self) -> Magnet {
        Magnet {
            info_hash: self.info_hash(),
            name: Some(self.name().to_owned()),
            trackers: self.trackers().iter().flatten().cloned().collect(),
            web_seeds: self.web_seeds().to_vec(),
            peers: Vec::new(),
            select_only: Vec::new(),
        }
    }
}
