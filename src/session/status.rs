//! Answers to questions: torrents with their states, files, peers, trackers and pieces, each computed when
//! asked.

use super::event::{Progress, TorrentId};
use crate::disk::DiskFault;
use crate::engine::{ConnectionCounts, PartialPiece};
use crate::units::{Bitfield, InfoHash};
use std::path::PathBuf;
use std::time::Duration;

/// A torrent's state.
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
    /// Its disk is full; it restarts without a command when there is room.
    WaitingForRoom {
        /// The write that failed.
        fault: DiskFault,
    },
    /// A fault paused it until it is resumed.
    Failed {
        /// The reason.
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
    /// Its name, once known; safe to print on a terminal.
    pub name: Option<String>,
    /// The directory of its files.
    pub dir: PathBuf,
    /// Its state.
    pub state: TorrentState,
    /// Its figures, as [`Event::Progress`](super::Event::Progress) gives them.
    pub progress: Progress,
}

/// A file's priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilePriority {
    /// Not wanted.
    Skip,
    /// Requested after all normal files.
    Low,
    /// Requested in the torrent's piece order.
    #[default]
    Normal,
    /// Requested before all normal files.
    High,
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStatus {
    /// Its index in the torrent.
    pub index: usize,
    /// Its path below the torrent's directory. Until it is complete it may lie at a part name beside it, see
    /// [`AddTorrent::part_names`](super::AddTorrent::part_names).
    pub path: PathBuf,
    /// Its length, bytes.
    pub length: u64,
    /// Bytes of it that are verified.
    pub have_bytes: u64,
    /// Its priority.
    pub priority: FilePriority,
    /// It is a pad file, which aligns the next file to a piece and is not stored (BEP 47).
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

/// Figures of the whole session.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SessionStats {
    /// How far all connection attempts came.
    pub connections: ConnectionCounts,
    /// DHT nodes that answer, if the DHT is enabled.
    pub dht_nodes: Option<usize>,
    /// CPU time of the loop thread.
    pub loop_cpu: Duration,
    /// CPU time of all disk workers.
    pub worker_cpu: Duration,
}
