//! The words between the loop and the disk: what is asked for, what is answered, what is counted.
//!
//! Plain data. Nothing here does anything.

use super::fault::DiskFault;
use super::limits;
use crate::units::{Bitfield, BlockSpan, Geometry, InfoHash, PieceIndex, TorrentKey};
use crate::wire::{Files, PieceHashes};
use std::path::PathBuf;
use std::str::FromStr;

/// How bytes reach the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageMode {
    /// Whatever is cheaper here.
    #[default]
    Auto,
    /// Through windows where the file system allows it.
    Mapped,
    /// Through the pool, always.
    Plain,
}

impl FromStr for StorageMode {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<StorageMode, &'static str> {
        match s {
            "auto" => Ok(StorageMode::Auto),
            "mapped" => Ok(StorageMode::Mapped),
            "plain" => Ok(StorageMode::Plain),
            _ => Err("auto, mapped or plain"),
        }
    }
}

/// What a store may use.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The way of the bytes.
    pub mode: StorageMode,
    /// Bytes of receive buffers.
    pub pool_bytes: usize,
    /// Bytes of all windows together.
    pub window_bytes: usize,
    /// Worker threads; 0 chooses by the machine.
    pub workers: usize,
    /// Where resume records live; without one nothing is remembered and no lock is taken.
    pub state_dir: Option<PathBuf>,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            mode: StorageMode::Auto,
            pool_bytes: limits::POOL_BYTES,
            window_bytes: limits::WINDOW_BYTES,
            workers: 0,
            state_dir: None,
        }
    }
}

/// A torrent to be opened.
#[derive(Clone, Debug)]
pub struct OpenTorrent {
    /// Names the record and the lock.
    pub info_hash: InfoHash,
    /// Pieces and total.
    pub geometry: Geometry,
    /// The files in the torrent's order, pads included; their lengths sum up to the total.
    pub files: Files,
    /// Twenty bytes a piece.
    pub hashes: PieceHashes,
    /// The directory that the files' paths start from.
    pub dir: PathBuf,
    /// Which files somebody wants; `None` for all.
    pub wanted: Option<Vec<bool>>,
    /// Only to be served: nothing is made and nothing written.
    pub read_only: bool,
    /// Hash everything, believe no record.
    pub check: bool,
}

/// What was found at opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedTorrent {
    /// The pieces that are there and good.
    pub have: Bitfield,
    /// Sentences for the user.
    pub notes: Vec<String>,
}

/// What became of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its hash is right and it is in the files.
    Good {
        /// A digest of each block, if they were wanted.
        blocks: Option<Box<[u64]>>,
    },
    /// Its hash is wrong.
    Bad {
        /// A digest of each block as it came.
        blocks: Box<[u64]>,
    },
    /// The disk failed; nothing is known, all its blocks must come again, no peer is to blame.
    Fault(DiskFault),
}

/// An answer.
#[derive(Debug)]
pub enum DiskEvent {
    /// The torrent is open, or cannot be.
    Opened {
        /// Which.
        torrent: TorrentKey,
        /// What was found.
        result: Result<OpenedTorrent, DiskFault>,
    },
    /// Content is being hashed before it is opened.
    Checking {
        /// Which torrent.
        torrent: TorrentKey,
        /// Pieces hashed.
        done: u32,
        /// Pieces to hash.
        of: u32,
    },
    /// `room` may be asked for this piece.
    Prepared {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which piece.
        piece: PieceIndex,
        /// Whether its files could be made ready.
        result: Result<(), DiskFault>,
    },
    /// A piece was judged.
    Hashed {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which piece.
        piece: PieceIndex,
        /// The judgement.
        verdict: Verdict,
    },
    /// Ask `load` again.
    Loaded {
        /// Which torrent.
        torrent: TorrentKey,
        /// The span as it was asked for.
        span: BlockSpan,
        /// Whether it could be read.
        result: Result<(), DiskFault>,
    },
    /// The checkpoint is over.
    Saved {
        /// Which torrent.
        torrent: TorrentKey,
        /// The pieces that it claims, if the result is good.
        have: Bitfield,
        /// After a fault nothing since the checkpoint before is known to be safe, and no later checkpoint will succeed
        /// until the torrent was closed and opened again.
        result: Result<(), DiskFault>,
    },
    /// The torrent is closed; its key may be forgotten.
    Closed {
        /// Which.
        torrent: TorrentKey,
        /// How the last checkpoint ended.
        result: Result<(), DiskFault>,
    },
    /// There is room in the pool again.
    BufferFreed,
    /// Bytes could not be written; the pieces concerned will be judged `Verdict::Fault`.
    Fault {
        /// Which torrent.
        torrent: TorrentKey,
        /// Why.
        fault: DiskFault,
    },
    /// How much room there is.
    FreeSpace {
        /// For which torrent.
        torrent: TorrentKey,
        /// Bytes that the file system says may be written. A quota or a table of inodes may allow less.
        bytes: u64,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes that landed in windows.
    pub mapped_bytes: u64,
    /// Bytes that landed in slots.
    pub plain_bytes: u64,
    /// Those of them that were copied because they came along with framing.
    pub copied_bytes: u64,
    /// Bytes that workers wrote, and in how many writes.
    pub written_bytes: u64,
    /// See `written_bytes`.
    pub writes: u64,
    /// Bytes that workers read back to hash them.
    pub reread_bytes: u64,
    /// Bytes loaded for upload without waiting.
    pub loaded_bytes: u64,
    /// Loads that a worker had to help with.
    pub loads_late: u64,
    /// Times that the pool was empty.
    pub starved: u64,
    /// Batches sent to workers.
    pub batches: u64,
    /// Slots in the pool, and those free now.
    pub slots: usize,
    /// See `slots`.
    pub slots_free: usize,
    /// Bytes of windows open or promised now.
    pub window_bytes: usize,
    /// CPU time of all workers, µs.
    pub worker_cpu_us: u64,
    /// Jobs that failed by panic.
    pub panics: u64,
}
