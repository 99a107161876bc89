//! What the loop asks of a worker and what a worker answers: the only things that cross between the two threads.
//!
//! Whatever is in a job belongs to the worker from then on, and the other way round; nothing is shared but immutable
//! content and the bell.

use super::api::{OpenTorrent, Verdict};
use super::fault::DiskFault;
use super::files::TorrentFiles;
use super::recheck::OpenedContent;
use super::resume::SeenFile;
use super::window::{Slot, Window};
use crate::units::{Bitfield, BlockSpan, PieceIndex, TorrentKey};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Bytes that landed in a slot: the piece's bytes `begin..end`, at the slot's own `begin % SLOT_LEN`.
#[derive(Debug)]
pub(super) struct ReceivedBlock {
    pub piece: PieceIndex,
    pub begin: u32,
    pub end: u32,
    pub slot: Slot,
}

/// A job for one worker.
pub(super) enum WorkerJob {
    Open(TorrentKey, Box<OpenTorrent>),
    /// Another worker opened it; from now on jobs may name it.
    Attach(Arc<TorrentFiles>),
    Block(TorrentKey, ReceivedBlock),
    Map(TorrentKey, PieceIndex),
    /// Windows of this piece that nobody will receive into any more.
    Unmap(Vec<Window>, TorrentKey, PieceIndex),
    /// The kernel could not write to a window of this piece: find out why.
    FindFault(Vec<Window>, TorrentKey, PieceIndex),
    Hash {
        torrent: TorrentKey,
        piece: PieceIndex,
        want_blocks: bool,
        windows: Vec<Window>,
    },
    Load(TorrentKey, BlockSpan, bool),
    /// Write everything that is held: the loop has no slot left.
    Flush,
    Sync(TorrentKey),
    /// What other workers saw of the torrent's files.
    AddStamps(TorrentKey, Vec<SeenFile>),
    SaveRecord {
        torrent: TorrentKey,
        have: Bitfield,
        last: bool,
    },
    Detach(TorrentKey),
    /// A small file for the state directory; nobody waits for it.
    WriteStateFile(String, Vec<u8>),
    /// How much room is there where this path is?
    QueryFreeSpace(TorrentKey, PathBuf),
    /// A bug of ours.
    #[cfg(test)]
    Panic(TorrentKey),
}

/// What a worker says.
pub(super) enum WorkerReply {
    FreedSlots(Vec<Slot>),
    Checking(TorrentKey, u32, u32),
    Opened(TorrentKey, Result<OpenedContent, DiskFault>),
    Mapped(TorrentKey, PieceIndex, Result<Vec<Window>, DiskFault>),
    Hashed(TorrentKey, PieceIndex, Verdict),
    Loaded {
        torrent: TorrentKey,
        span: BlockSpan,
        result: Result<Option<Box<[u8]>>, DiskFault>,
        files: Vec<(usize, Arc<OwnedFd>)>,
    },
    /// What files were like when this worker closed or synced them; for the worker that keeps the torrent's record.
    Stamps(TorrentKey, Vec<SeenFile>),
    Synced(TorrentKey, Result<(), DiskFault>),
    RecordSaved(TorrentKey, Bitfield, Result<(), DiskFault>),
    /// This worker holds nothing of the torrent any more.
    Detached(TorrentKey),
    Fault(TorrentKey, DiskFault),
    /// Bytes that may be written there.
    FreeSpace(TorrentKey, u64),
}

/// How a worker reaches a loop that sleeps: at most one wake-up until the loop has looked.
pub(super) struct LoopWaker {
    callback: Arc<dyn Fn() + Send + Sync>,
    pending: AtomicBool,
    /// The loop found no free slot and wants to hear of the next one.
    pub wake_on_slots: AtomicBool,
}

impl LoopWaker {
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> LoopWaker {
        LoopWaker { callback: wake, pending: AtomicBool::new(false), wake_on_slots: AtomicBool::new(false) }
    }

    /// Called after the answer was sent.
    pub fn wake(&self) {
        if !self.pending.swap(true, SeqCst) {
            (self.callback)();
        }
    }

    /// Called before the answers are read: whoever sends later rings again.
    pub fn acknowledge(&self) {
        if self.pending.load(SeqCst) {
            self.pending.store(false, SeqCst);
        }
    }
}

/// Counters of one worker, written by it alone and read by the loop.
#[derive(Debug, Default)]
pub(super) struct WorkerStats {
    /// The worker's thread CPU time, µs.
    pub cpu_us: AtomicU64,
    /// The part of it that went into pieces with windows, and their bytes.
    pub mapped_us: AtomicU64,
    pub mapped_bytes: AtomicU64,
    /// The part that had nothing to do with receiving: opening, checking, serving, remembering.
    pub aside_us: AtomicU64,
    /// Bytes written and calls that wrote them.
    pub written_bytes: AtomicU64,
    pub writes: AtomicU64,
    /// Bytes read back to be hashed.
    pub reread_bytes: AtomicU64,
    /// Jobs that panicked.
    pub panics: AtomicU64,
}
