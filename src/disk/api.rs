//! Requests, events and counters that cross between the loop and the disk.
//!
//! Plain data; nothing here acts.

use super::fault::DiskFault;
use super::limits;
use super::storage_mode::StorageMode;
use crate::engine::{HashVerdict, History};
use crate::units::{Bitfield, BlockSpan, Geometry, PieceIndex, TorrentHashes, TorrentKey};
use crate::wire::{Files, PieceHashes};
use std::path::PathBuf;

/// The resources of a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// How payload reaches the files.
    pub mode: StorageMode,
    /// Bytes of the buffer pool.
    pub pool_bytes: usize,
    /// Bytes of all windows together.
    pub window_bytes: usize,
    /// Worker threads; 0: half as many as there are cores.
    pub workers: usize,
    /// The directory of resume records. Without one nothing survives a restart and no torrent is locked.
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

/// A torrent to open.
#[derive(Clone, Debug)]
pub struct OpenTorrent {
    /// Names the record and its lock.
    pub info_hashes: TorrentHashes,
    /// Pieces and total length.
    pub geometry: Geometry,
    /// The files in the torrent's order, pads included; their lengths sum up to the total.
    pub files: Files,
    /// The SHA-1 of each piece, 20 bytes a piece.
    pub piece_hashes: PieceHashes,
    /// The directory that the paths of the files start from.
    pub dir: PathBuf,
    /// Whether each file is wanted; `None`: all are.
    pub wanted: Option<Vec<bool>>,
    /// Only to be served: nothing is created or written.
    pub read_only: bool,
    /// Hash all content and ignore the record.
    pub check: bool,
    /// Write to existing files even if nothing shows that they are this torrent's.
    pub allow_overwrite: bool,
    /// Download the content again even if its directory lies on another device than before and holds none of it.
    pub refetch: bool,
    /// Name unfinished files NAME.part until they are complete.
    pub part_names: bool,
    /// The torrent was open before in this process, so its files are its own.
    pub opened_before: bool,
    /// Refuse content whose top-level name begins with a dot.
    pub refuse_hidden: bool,
    /// Reserve the blocks of the wanted files when the torrent is opened.
    pub preallocate: bool,
}

impl OpenTorrent {
    /// All files, to be written under their own names, with every option off.
    pub fn new(
        info_hashes: TorrentHashes,
        geometry: Geometry,
        files: Files,
        piece_hashes: PieceHashes,
        dir: impl Into<PathBuf>,
    ) -> OpenTorrent {
        OpenTorrent {
            info_hashes,
            geometry,
            files,
            piece_hashes,
            dir: dir.into(),
            wanted: None,
            read_only: false,
            check: false,
            allow_overwrite: false,
            refetch: false,
            part_names: false,
            opened_before: false,
            refuse_hidden: false,
            preallocate: false,
        }
    }
}

/// The disk has too little room for the missing content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceShortage {
    /// Bytes of the wanted files that are missing and have no blocks yet.
    pub needed: u64,
    /// Free bytes of the file system.
    pub free: u64,
}

/// The content that was found when a torrent was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedTorrent {
    /// The good pieces.
    pub have: Bitfield,
    /// The torrent's past, from its record.
    pub history: History,
    /// Sentences for the user, about files that differ from the record or a record that cannot be written.
    pub notes: Vec<String>,
    /// The disk has too little room for what is missing.
    pub space: Option<SpaceShortage>,
}

/// An event for the loop.
#[derive(Debug)]
pub enum DiskEvent {
    /// The torrent is open, or cannot be opened.
    Opened {
        /// The torrent.
        torrent: TorrentKey,
        /// Its content.
        result: Result<OpenedTorrent, DiskFault>,
    },
    /// Progress of a recheck before opening.
    Checking {
        /// The torrent.
        torrent: TorrentKey,
        /// Pieces hashed so far.
        checked: u32,
        /// Pieces to hash.
        pieces: u32,
    },
    /// [`Store::target`](super::Store::target) may be called for this piece.
    Prepared {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// Whether its files could be prepared.
        result: Result<(), DiskFault>,
    },
    /// A piece was hashed.
    Hashed {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// Result of the hash. After a fault the piece is lost: no peer is to blame, and all its blocks must
        /// be received again.
        result: Result<HashVerdict, DiskFault>,
    },
    /// A load that needed a worker is over: call `load` again.
    Loaded {
        /// The torrent.
        torrent: TorrentKey,
        /// The requested span.
        span: BlockSpan,
        /// Whether it could be read.
        result: Result<(), DiskFault>,
    },
    /// A checkpoint is over.
    Saved {
        /// The torrent.
        torrent: TorrentKey,
        /// [`History::completed`] of the checkpoint.
        completed: bool,
        /// Number of pieces in the checkpoint.
        pieces: u32,
        /// After a fault, no piece since the previous checkpoint is known to be durable, and no later
        /// checkpoint succeeds until the torrent is closed and opened again.
        result: Result<(), DiskFault>,
    },
    /// The torrent is closed and its lock is free.
    Closed {
        /// The torrent; the store has forgotten the key.
        torrent: TorrentKey,
        /// [`History::completed`] of the last checkpoint.
        completed: bool,
        /// The result of the last checkpoint.
        result: Result<(), DiskFault>,
    },
    /// The exhausted buffer pool has free slots again.
    BufferFreed,
    /// Bytes could not be written; the pieces concerned will be reported as faults, too.
    Fault {
        /// The torrent.
        torrent: TorrentKey,
        /// The reason.
        fault: DiskFault,
    },
    /// The answer to `query_free_space`.
    FreeSpace {
        /// The torrent that it was asked for.
        torrent: TorrentKey,
        /// Free bytes according to the file system. A quota or the inode table may allow less.
        bytes: u64,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes received into windows.
    pub mapped_bytes: u64,
    /// Bytes received into slots.
    pub plain_bytes: u64,
    /// The part of `plain_bytes` that was copied, because it arrived together with framing.
    pub copied_bytes: u64,
    /// Bytes that workers wrote.
    pub written_bytes: u64,
    /// The number of those writes.
    pub writes: u64,
    /// Bytes that workers read back to hash them.
    pub reread_bytes: u64,
    /// Bytes loaded for upload without waiting.
    pub loaded_bytes: u64,
    /// Loads that needed a worker.
    pub loads_deferred: u64,
    /// Times that the buffer pool was exhausted.
    pub exhausted: u64,
    /// Batches of jobs sent to workers.
    pub batches: u64,
    /// Slots in the pool.
    pub slots: usize,
    /// Free slots now.
    pub slots_free: usize,
    /// Bytes of windows open or being made now.
    pub window_bytes: usize,
    /// CPU time of all workers, µs.
    pub worker_cpu_us: u64,
    /// Jobs that panicked.
    pub panics: u64,
}
