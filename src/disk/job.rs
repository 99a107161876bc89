//! Jobs of the workers and their replies: all that crosses between the loop's thread and a worker's.
//!
//! Invariant: the content of a job belongs to the worker from then on, and that of a reply to the loop.
//! Shared are only
//! [`TorrentFiles`], which do not change, the waker and the counters.

use super::api::OpenTorrent;
use super::fault::DiskFault;
use super::mapped::Window;
use super::memory::Slot;
use super::stamp::SeenFile;
use super::torrent_files::TorrentFiles;
use super::worker_stats::CostClass;
use crate::engine::HashVerdict;
use crate::units::{Bitfield, BlockSpan, PieceIndex, TorrentKey};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Payload that was received into a slot: the piece's bytes `begin..end`, in the slot from `begin % SLOT_LEN`
/// on.
#[derive(Debug)]
pub(super) struct ReceivedBlock {
    pub piece: PieceIndex,
    pub begin: u32,
    pub end: u32,
    pub slot: Slot,
}

impl ReceivedBlock {
    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        let from = self.begin as usize % super::limits::SLOT_LEN;
        &self.slot.bytes()[from..from + (self.end - self.begin) as usize]
    }
}

/// A job for one worker.
pub(super) enum WorkerJob {
    /// Open a torrent; this worker becomes its home and keeps its record.
    Open(TorrentKey, Box<OpenTorrent>),
    /// Another worker opened this torrent; from now on jobs may name it.
    Attach(Arc<TorrentFiles>),
    /// Take a received block in.
    Block(TorrentKey, ReceivedBlock),
    /// Map a piece.
    Map(TorrentKey, PieceIndex),
    /// Unmap windows of this piece.
    Unmap(Vec<Window>, TorrentKey, PieceIndex),
    /// The kernel could not write to a window of this piece: unmap its windows and find the reason.
    FindFault(Vec<Window>, TorrentKey, PieceIndex),
    /// Every block of the piece has arrived: hash it.
    Hash { torrent: TorrentKey, piece: PieceIndex, want_blocks: bool, windows: Vec<Window> },
    /// Read a span into the page cache; with `send`, reply with its bytes, too.
    Load { torrent: TorrentKey, span: BlockSpan, send: bool },
    /// Write every block in hand: the loop has no slot left.
    Flush,
    /// Sync what this worker wrote for the torrent.
    Sync(TorrentKey),
    /// Stamps of the torrent's files that other workers took, for its home.
    AddStamps(TorrentKey, Vec<SeenFile>),
    /// Whether each file is wanted, from now on.
    SetWanted(TorrentKey, Vec<bool>),
    /// Every worker has synced: write the record.
    SaveRecord { torrent: TorrentKey, have: Bitfield, closing: bool },
    /// Forget the torrent.
    Detach(TorrentKey),
    /// Write a file of the state directory; there is no reply.
    WriteStateFile(String, Vec<u8>),
    /// Find the free bytes of the file system that holds this path.
    QueryFreeSpace(TorrentKey, PathBuf),
    /// Panic, as a bug would.
    #[cfg(test)]
    Panic(TorrentKey),
}

impl WorkerJob {
    /// The class that the job's CPU time is charged to.
    pub fn cost_class(&self) -> CostClass {
        match self {
            WorkerJob::Map(..) | WorkerJob::Unmap(..) => CostClass::Mapped,
            WorkerJob::Hash { windows, .. } if !windows.is_empty() => CostClass::Mapped,
            WorkerJob::Block(..) | WorkerJob::Hash { .. } | WorkerJob::Flush => CostClass::Plain,
            _ => CostClass::Other,
        }
    }

    /// The reply that the loop waits for, if any.
    pub fn pending_reply(&self) -> Option<(TorrentKey, PendingReply)> {
        match self {
            WorkerJob::Open(key, _) => Some((*key, PendingReply::Opened)),
            WorkerJob::Detach(key) => Some((*key, PendingReply::Detached)),
            WorkerJob::Block(key, _) | WorkerJob::FindFault(_, key, _) => {
                Some((*key, PendingReply::OnlyFault))
            }
            #[cfg(test)]
            WorkerJob::Panic(key) => Some((*key, PendingReply::OnlyFault)),
            WorkerJob::Map(key, piece) => Some((*key, PendingReply::Mapped(*piece))),
            WorkerJob::Hash { torrent, piece, .. } => Some((*torrent, PendingReply::Hashed(*piece))),
            WorkerJob::Load { torrent, span, .. } => Some((*torrent, PendingReply::Loaded(*span))),
            WorkerJob::Sync(key) => Some((*key, PendingReply::Synced)),
            WorkerJob::SaveRecord { torrent, .. } => Some((*torrent, PendingReply::RecordSaved)),
            WorkerJob::Attach(_)
            | WorkerJob::Unmap(..)
            | WorkerJob::AddStamps(..)
            | WorkerJob::SetWanted(..)
            | WorkerJob::Flush
            | WorkerJob::WriteStateFile(..)
            | WorkerJob::QueryFreeSpace(..) => None,
        }
    }
}

/// A reply that a job owes, kept outside of the job: if the job panics, the loop gets this reply with a
/// fault.
pub(super) enum PendingReply {
    Opened,
    Mapped(PieceIndex),
    Hashed(PieceIndex),
    Loaded(BlockSpan),
    Synced,
    RecordSaved,
    Detached,
    /// The job replies only if it fails.
    OnlyFault,
}

impl PendingReply {
    /// The reply of a job that failed.
    pub fn failed(self, torrent: TorrentKey, fault: DiskFault) -> WorkerReply {
        match self {
            PendingReply::Opened => WorkerReply::Opened(torrent, Err(fault)),
            PendingReply::Mapped(piece) => WorkerReply::Mapped(torrent, piece, Err(fault)),
            PendingReply::Hashed(piece) => WorkerReply::Hashed(torrent, piece, Err(fault)),
            PendingReply::Loaded(span) => {
                WorkerReply::Loaded { torrent, span, result: Err(fault), files: Vec::new() }
            }
            PendingReply::Synced => WorkerReply::Synced(torrent, Err(fault)),
            PendingReply::RecordSaved => WorkerReply::RecordSaved(torrent, Err(fault)),
            PendingReply::Detached => WorkerReply::Detached(torrent),
            PendingReply::OnlyFault => WorkerReply::Fault(torrent, fault),
        }
    }
}

/// A torrent that a worker has opened.
pub(super) struct OpenedContent {
    pub files: Arc<TorrentFiles>,
    pub have: Bitfield,
    pub notes: Vec<String>,
}

/// A reply of one worker.
pub(super) enum WorkerReply {
    /// Slots of blocks that are written or dropped.
    FreedSlots(Vec<Slot>),
    /// A recheck goes on: pieces hashed, pieces to hash.
    Checking(TorrentKey, u32, u32),
    Opened(TorrentKey, Result<OpenedContent, DiskFault>),
    /// No windows: the system refuses to map.
    Mapped(TorrentKey, PieceIndex, Result<Vec<Window>, DiskFault>),
    Hashed(TorrentKey, PieceIndex, Result<HashVerdict, DiskFault>),
    /// The descriptors that were used, for the loop to keep, and the bytes if they were asked for.
    Loaded {
        torrent: TorrentKey,
        span: BlockSpan,
        result: Result<Option<Box<[u8]>>, DiskFault>,
        files: Vec<(usize, Arc<OwnedFd>)>,
    },
    /// Stamps of files that this worker closed or synced, for the home of their torrent.
    Stamps(TorrentKey, Vec<SeenFile>),
    Synced(TorrentKey, Result<(), DiskFault>),
    RecordSaved(TorrentKey, Result<(), DiskFault>),
    /// This worker has forgotten the torrent.
    Detached(TorrentKey),
    Fault(TorrentKey, DiskFault),
    /// Free bytes of the file system that was asked about.
    FreeSpace(TorrentKey, u64),
}
