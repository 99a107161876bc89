//! Why a .torrent file, or metadata from a peer, is refused. Each message names the field.

use crate::units::GeometryError;
use crate::wire::bencode::BencodeError;
use thiserror::Error;

/// Why a torrent is refused. Files are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// An HTML page, such as a web server's log-in or error page.
    #[error("this is an HTML page, not a torrent (a download link that wanted a log-in?)")]
    Html,
    /// The bytes are not bencode.
    #[error("not a torrent: {0}")]
    NotBencode(BencodeError),
    /// The file is too long.
    #[error("the file has {bytes} bytes; at most {limit} are accepted")]
    TooBig {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are bencode, but not a dictionary.
    #[error("not a torrent: it is not a dictionary")]
    NotADictionary,
    /// There is no info dictionary.
    #[error("`info` is missing or not a dictionary")]
    NoInfo,
    /// The info dictionary violates the strict rules of bencode.
    #[error("`info` is damaged: {0}")]
    BadInfo(BencodeError),
    /// Bytes follow the info dictionary that peers sent.
    #[error("{0} bytes follow the info dictionary")]
    BytesAfterInfo(usize),
    /// A torrent of BitTorrent v2 only (BEP 52).
    #[error("this torrent is BitTorrent v2 only; rill supports v1 and the v1 half of hybrids")]
    V2Only,
    /// A required field is missing or has the wrong type.
    #[error("`{0}` is missing or of the wrong type")]
    Field(&'static str),
    /// The piece length is negative.
    #[error("`piece length` is {0}")]
    PieceLength(i64),
    /// The length of a file is negative.
    #[error("`length` of file {file} is {length}")]
    FileLength {
        /// The file's number.
        file: usize,
        /// The length as written.
        length: i64,
    },
    /// An entry of `files` lacks a required field.
    #[error("`files` entry {file} has no {field}")]
    FileField {
        /// The file's number.
        file: usize,
        /// The field that is missing or has the wrong type.
        field: &'static str,
    },
    /// The sum of all lengths does not fit 63 bits.
    #[error("the lengths of all files add up to more than 2^63 bytes")]
    TotalLength,
    /// The list of files is empty.
    #[error("`files` is empty")]
    NoFiles,
    /// There are too many files.
    #[error("the torrent has {files} files; at most {limit} are accepted")]
    TooManyFiles {
        /// The number of files.
        files: usize,
        /// The limit.
        limit: usize,
    },
    /// A path is longer than system calls accept.
    #[error("the path of file {file} has {bytes} bytes, too long for any file system")]
    PathTooLong {
        /// The file's number.
        file: usize,
        /// The length of the path.
        bytes: usize,
    },
    /// The piece length or the total length is invalid.
    #[error("`piece length` and file lengths do not make a torrent: {0}")]
    Geometry(#[from] GeometryError),
    /// There are too many pieces.
    #[error("the torrent has {pieces} pieces; at most {limit} are accepted")]
    TooManyPieces {
        /// The number of pieces.
        pieces: u32,
        /// The limit.
        limit: u32,
    },
    /// The number of hashes is not that of the pieces.
    #[error("`pieces` has {got} bytes instead of {expected}")]
    Pieces {
        /// The length of `pieces`.
        got: usize,
        /// Twenty bytes per piece.
        expected: usize,
    },
}

impl MetainfoError {
    /// Returns whether the bytes are not bencode, as opposed to bencode that is not a usable torrent.
    pub fn is_not_bencode(&self) -> bool {
        matches!(self, MetainfoError::Empty | MetainfoError::Html | MetainfoError::NotBencode(_))
    }
}
