//! A validated torrent (BEP 3, 12, 19, 27, 47; of a hybrid torrent, BEP 52, the v1 half).
//!
//! Invariants of every [`Metainfo`], from a file as from a peer's metadata: the info hash is computed over
//! the info dictionary as written; every path consists of plain names and stays below its directory; no two
//! files have the same path; the files are contiguous and their lengths add up to the geometry's total; there
//! is one hash per piece; trackers have an allowed scheme.

mod builder;
mod dictionaries;
mod error;
mod files;
mod parse;
mod path;
#[cfg(test)]
mod tests;
mod torrent_file;

pub use crate::wire::bencode::BencodeError;
pub use builder::{BuildError, Builder, piece_len_for};
pub use error::MetainfoError;
pub use files::{FileAttributes, FileEntry, FileListOverflow, Files, FilesBuilder};
pub(in crate::wire) use path::component;
pub use path::{OWN_PREFIX, for_fat, is_plain_name, part_name};

use crate::units::{Geometry, InfoHash, PieceHash, PieceIndex};
use crate::wire::magnet::Magnet;
use crate::wire::url::RefusedTrackers;
use std::ops::Range;
use std::sync::Arc;

/// What was dropped or changed to make the torrent usable. Each is worth a warning, not an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Trackers and web seeds that were refused, or that were above the limit.
    pub urls_dropped: usize,
    /// Files renamed because their path collided with another file's.
    pub files_renamed: usize,
    /// Bytes after the end of the torrent, ignored.
    pub bytes_cut: usize,
}

/// The SHA-1 hashes of a torrent's pieces, twenty bytes each: a part of the info dictionary, or a copy.
/// Cloning copies a pointer.
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

#[derive(Clone, Debug)]
struct MetainfoData {
    info_hash: InfoHash,
    /// The info dictionary as written; `None` if it was too long to keep.
    info: Option<Arc<[u8]>>,
    hashes: PieceHashes,
    name: String,
    geometry: Geometry,
    files: Files,
    private: bool,
    trackers: Vec<Vec<String>>,
    refused_trackers: RefusedTrackers,
    web_seeds: Vec<String>,
    nodes: Vec<(String, u16)>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
    repairs: Repairs,
}

/// A validated torrent. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct Metainfo(Arc<MetainfoData>);

impl Metainfo {
    /// Reads a .torrent file.
    ///
    /// # Errors
    /// [`MetainfoError`] if the file is not a usable v1 or hybrid torrent.
    pub fn parse(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
        Metainfo::parse_with_info_limit(bytes, usize::MAX)
    }

    /// Reads a .torrent file like [`parse`](Metainfo::parse), but does not keep an info dictionary of more
    /// than `info_bytes` bytes, which saves memory. Such a torrent cannot send its metadata to peers.
    pub fn parse_with_info_limit(bytes: &[u8], info_bytes: usize) -> Result<Metainfo, MetainfoError> {
        parse::from_file(bytes, info_bytes).map(|parts| Metainfo(Arc::new(parts)))
    }

    /// Reads an info dictionary that peers sent (BEP 9), with the trackers and web seeds of the magnet link.
    /// It is validated like a file; the caller must compare the info hash.
    pub fn from_info(
        info: &[u8],
        trackers: Vec<Vec<String>>,
        web_seeds: Vec<String>,
    ) -> Result<Metainfo, MetainfoError> {
        parse::from_info(info, trackers, web_seeds).map(|parts| Metainfo(Arc::new(parts)))
    }

    /// Returns a .torrent file with the same info dictionary, trackers, web seeds and nodes. `None` if the
    /// info dictionary was not kept.
    pub fn to_file(&self) -> Option<Vec<u8>> {
        self.0.info.as_deref().map(|info| torrent_file::file(self, info))
    }

    /// Returns the same torrent with another name of its content: of its file, or of the directory of its files.
    /// The info dictionary and the info hash stay the same. `None` if `name` is not one plain path component of
    /// at most 255 bytes, or is reserved for files of rill.
    pub fn renamed(&self, name: &str) -> Option<Metainfo> {
        path::is_plain_name(name).then(|| {
            let files = path::with_top_level(&self.0.files, name);
            Metainfo(Arc::new(MetainfoData { files, name: name.to_owned(), ..MetainfoData::clone(&self.0) }))
        })
    }

    /// Returns the SHA-1 hash of the info dictionary as written.
    pub fn info_hash(&self) -> InfoHash {
        self.0.info_hash
    }

    /// Returns the info dictionary as written, for peers that request it (BEP 9), if it was kept.
    pub fn info(&self) -> Option<Arc<[u8]>> {
        self.0.info.clone()
    }

    /// Returns the name: one plain path component.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the sizes of the torrent and of its pieces.
    pub fn geometry(&self) -> Geometry {
        self.0.geometry
    }

    /// Returns the SHA-1 hash of a piece.
    #[expect(
        clippy::expect_used,
        reason = "a PieceIndex is valid for its torrent, and each piece has a hash"
    )]
    pub fn piece_hash(&self, piece: PieceIndex) -> PieceHash {
        self.piece_hashes()
            .chunks_exact(20)
            .nth(piece.as_usize())
            .and_then(PieceHash::from_slice)
            .expect("a hash for each piece")
    }

    /// Returns the SHA-1 hashes of all pieces, twenty bytes each.
    pub fn piece_hashes(&self) -> &[u8] {
        &self.0.hashes
    }

    /// Returns the hashes of all pieces, as a shared value.
    pub fn hashes(&self) -> PieceHashes {
        self.0.hashes.clone()
    }

    /// Returns the files in the torrent's order, including pad files and symlinks; at least one.
    pub fn files(&self) -> &Files {
        &self.0.files
    }

    /// Returns whether the torrent is a single file without a directory.
    pub fn is_single_file(&self) -> bool {
        self.0.files.len() == 1 && self.0.files.iter().all(|file| file.path().count() == 1)
    }

    /// Returns whether only the torrent's own trackers may be sources of peers (BEP 27).
    pub fn private(&self) -> bool {
        self.0.private
    }

    /// Returns the tracker URLs in tiers (BEP 12), in the order written. No tier is empty.
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.0.trackers
    }

    /// Returns the trackers that were left out because their URLs are unusable.
    pub fn refused_trackers(&self) -> &RefusedTrackers {
        &self.0.refused_trackers
    }

    /// Returns the web seeds (BEP 19).
    pub fn web_seeds(&self) -> &[String] {
        &self.0.web_seeds
    }

    /// Returns hosts and ports of DHT nodes (BEP 5).
    pub fn nodes(&self) -> &[(String, u16)] {
        &self.0.nodes
    }

    /// Returns the comment, sanitized for display.
    pub fn comment(&self) -> Option<&str> {
        self.0.comment.as_deref()
    }

    /// Returns the program that created the torrent, sanitized for display.
    pub fn created_by(&self) -> Option<&str> {
        self.0.created_by.as_deref()
    }

    /// Returns the creation date in seconds since 1970, unchecked.
    pub fn creation_date(&self) -> Option<i64> {
        self.0.creation_date
    }

    /// Returns what was dropped or changed to make the torrent usable.
    pub fn repairs(&self) -> Repairs {
        self.0.repairs
    }

    /// Returns the magnet link of this torrent; its `Display` is the link.
    pub fn magnet(&self) -> Magnet {
        Magnet {
            info_hash: self.info_hash(),
            name: Some(self.name().to_owned()),
            trackers: self.trackers().iter().flatten().cloned().collect(),
            refused_trackers: RefusedTrackers::default(),
            web_seeds: self.web_seeds().to_vec(),
            peers: Vec::new(),
            select_only: Vec::new(),
        }
    }
}
