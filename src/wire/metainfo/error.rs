//! Why a file, or what a peer sent as metadata, is not a torrent that rill can use. One sentence each, naming the field.

use crate::units::GeometryError;
use crate::wire::bencode::BencodeError;
use thiserror::Error;

/// Why there is no [`super::Metainfo`]. Files are counted from 1, as people do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// No byte at all.
    #[error("the file is empty")]
    Empty,
    /// Somebody's log-in or error page.
    #[error("this is an HTML page, not a torrent (a download link that wanted a log-in?)")]
    Html,
    /// Something else.
    #[error("not a torrent: {0}")]
    NotBencode(BencodeError),
    /// More bytes than any torrent needs.
    #[error("{bytes} bytes are more than the {limit} that a torrent may have")]
    TooBig {
        /// What there is.
        bytes: usize,
        /// What is taken.
        limit: usize,
    },
    /// Bencode, but of something else.
    #[error("not a torrent: it holds no dictionary")]
    NotADictionary,
    /// Bencode, but of something else.
    #[error("`info` is missing or not a dictionary")]
    NoInfo,
    /// Strict rules hold inside `info`.
    #[error("`info` is damaged: {0}")]
    BadInfo(BencodeError),
    /// Bytes behind the dictionary that a peer sent as metadata.
    #[error("{0} bytes follow the info dictionary")]
    BytesAfterInfo(usize),
    /// BitTorrent v2 alone (BEP 52).
    #[error("this torrent is BitTorrent v2 only; rill speaks v1 and the v1 half of hybrids")]
    V2Only,
    /// A field that must be there.
    #[error("`{0}` is missing or of the wrong type")]
    Field(&'static str),
    /// Below 1.
    #[error("`piece length` is {0}")]
    PieceLength(i64),
    /// A file's length.
    #[error("`length` of file {file} is {length}")]
    FileLength {
        /// Which file.
        file: usize,
        /// What it says.
        length: i64,
    },
    /// A file without what makes a file.
    #[error("`files` entry {file} has no {field}")]
    FileField {
        /// Which file.
        file: usize,
        /// What is missing or of the wrong type.
        field: &'static str,
    },
    /// The sum does not fit 63 bits.
    #[error("the lengths of all files are together more than 2^63 bytes")]
    TotalLength,
    /// A list without entries.
    #[error("`files` is empty")]
    NoFiles,
    /// More files than rill holds in memory.
    #[error("{files} files are more than the {limit} that a torrent may have")]
    TooManyFiles {
        /// What there is.
        files: usize,
        /// What is taken.
        limit: usize,
    },
    /// Longer than a system call takes.
    #[error("the path of file {file} has {bytes} bytes, too long for any file system")]
    PathTooLong {
        /// Which file.
        file: usize,
        /// What it has.
        bytes: usize,
    },
    /// Sizes of which no geometry can be made.
    #[error("`piece length` and file lengths do not make a torrent: {0}")]
    Geometry(#[from] GeometryError),
    /// More pieces than rill holds in memory.
    #[error("{pieces} pieces are more than the {limit} that a torrent may have")]
    TooManyPieces {
        /// What there is.
        pieces: u32,
        /// What is taken.
        limit: u32,
    },
    /// Hashes for another number of pieces.
    #[error("`pieces` has {got} bytes where {expected} belong")]
    Pieces {
        /// What there is.
        got: usize,
        /// Twenty for each piece.
        expected: usize,
    },
}

impl MetainfoError {
    /// Whether the bytes are not bencode at all, as opposed to bencode of no usable torrent.
    pub fn is_not_bencode(&self) -> bool {
        matches!(self, MetainfoError::Empty | MetainfoError::Html | MetainfoError::NotBencode(_))
    }
}
