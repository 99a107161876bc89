//! Answers to questions: torrents with their states, files, peers, trackers and pieces, each computed when asked.

use super::event::{Progress, TorrentId};
use crate::disk::DiskFault;
use crate::engine::{PartialPiece, PeerStats, TrackerStats};
use crate::units::{Bitfield, InfoHash};
use std::path::PathBuf;

/// What a torrent is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TorrentState {
    /// Its metadata is fetched from peers (BEP 9).
    Metadata,
    /// Its metadata is known, and the user has to choose among its files.
    Choosing,
    /// Its content is being checked, or is to be checked next.
    Checking {
        /// Pieces checked.
        checked: u32,
        /// Pieces to check; 0 while that is unknown.
        pieces: u32,
    },
    /// Pieces are missing.
    Downloading,
    /// Every wanted piece is verified.
    Seeding,
    /// The user paused it.
    Paused,
    /// Its disk is full; it goes on by itself when there is room.
    WaitingForRoom {
        /// What could not be written.
        fault: DiskFault,
    },
    /// It cannot go on until it is resumed.
    Failed {
        /// Why.
        fault: DiskFault,
    },
}

/// One torrent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TorrentStatus {
    /// Its id in this session.
    pub id: TorrentId,
    /// Its info hash.
    pub info_hash: InfoHash,
    /// Its name, once known; fit for a terminal.
    pub name: Option<String>,
    /// The directory that its files are under.
    pub dir: PathBuf,
    /// What it is doing.
    pub state: TorrentState,
    /// Its figures, as [`Event::Progress`](super::Event::Progress) gives them.
    pub progress: Progress,
}

/// How urgently a file is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilePriority {
    /// Not at all.
    Skip,
    /// After all normal files.
    Low,
    /// As the order of pieces has it.
    #[default]
    Normal,
    /// Before all normal files.
    High,
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStatus {
    /// Its index in the torrent.
    pub index: usize,
    /// Its path below the torrent's directory.
    pub path: PathBuf,
    /// Its length, bytes.
    pub length: u64,
    /// Bytes of it that are verified.
    pub have_bytes: u64,
    /// How urgently it is wanted.
    pub priority: FilePriority,
    /// It fills up the piece of its neighbour and is not kept (BEP 47).
    pub pad: bool,
}

/// The pieces of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PieceStatus {
    /// Length of every piece but the last, bytes.
    pub piece_len: u32,
    /// The verified pieces.
    pub have: Bitfield,
    /// Pieces of which blocks are requested or have arrived.
    pub partial: Vec<PartialPiece>,
}

/// One connected peer.
pub type PeerStatus = PeerStats;
/// One tracker.
pub type TrackerStatus = TrackerStats;
