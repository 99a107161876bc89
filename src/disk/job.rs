//! Jobs that the loop sends to the disk workers, and the workers' replies.
//!
//! Invariant: a job's content moves to the worker and a reply's to the loop. Apart from immutable data, both
//! threads use only a torrent's [`TorrentFiles`] and the open descriptors of [`WorkerReply::Loaded`].
//!
//! The home of a torrent is the worker that opened it: it alone holds the torrent's record and stamps.

use super::api::{OpenTorrent, OpenedTorrent};
use super::fault::DiskFault;
use super::mapped::Window;
use super::memory::Slot;
use super::stamp::SeenFile;
use super::torrent_files::TorrentFiles;
use super::worker_stats::CostClass;
use crate::engine::{Checkpoint, HashVerdict};
use crate::units::{BlockSpan, PieceIndex, TorrentKey};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Payload received into a slot: the piece's bytes `begin..end`, which start at `begin % SLOT_LEN` in the
/// slot.
#[derive(Debug)]
pub(super) struct ReceivedBlock {
    pub piece: PieceIndex,
    pub begin: u32,
    pub end: u32,
    pub slot: Slot,
}

impl ReceivedBlock {
    /// Returns the payload.
    pub fn bytes(&self) -> &[u8] {
        let from = self.begin as usize % super::limits::SLOT_LEN;
        &self.slot.bytes()[from..from + (self.end - self.begin) as usize]
    }
}

/// A job for one worker.
pub(super) enum WorkerJob {
    /// Open a torrent and check its content; this worker becomes its home.
    Open(TorrentKey, Box<OpenTorrent>),
    /// Accept jobs for this torrent, which another worker opened.
    Attach(Arc<TorrentFiles>),
    /// Insert a received block into the write cache.
    Block(TorrentKey, ReceivedBlock),
    /// Map the piece's part of each file; the windows are in the reply.
    Map(TorrentKey, PieceIndex),
    /// Unmap windows of this piece.
    Unmap(Vec<Window>, TorrentKey, PieceIndex),
    /// Unmap these windows of the piece and find out why the kernel could not write to one of them.
    FindFault(Vec<Window>, TorrentKey, PieceIndex),
    /// Hash a piece of which every block has arrived, and unmap its windows. The verdict on a bad piece has a
    /// digest of each block; with `want_blocks` the verdict on a good piece has them, too.
    Hash { torrent: TorrentKey, piece: PieceIndex, want_blocks: bool, windows: Vec<Window> },
    /// Read a span into the page cache; with `send`, its bytes are in the reply.
    Load { torrent: TorrentKey, span: BlockSpan, send: bool },
    /// Write every block in the write cache and return the slots: the loop has no free slot.
    Flush,
    /// Sync the torrent's files that this worker wrote to.
    Sync(TorrentKey),
    /// Sent to the torrent's home: add stamps of its files, taken by another worker.
    AddStamps(TorrentKey, Vec<SeenFile>),
    /// Sent to the torrent's home: set which of its files are wanted.
    SetWanted(TorrentKey, Vec<bool>),
    /// Sent to the torrent's home after every worker has synced: write the record. `closing`: the torrent is
    /// closed next.
    SaveRecord { torrent: TorrentKey, checkpoint: Checkpoint, closing: bool },
    /// Close the torrent: drop its cached blocks, descriptors and record.
    Detach(TorrentKey),
    /// Replace the file of this name in the state directory; there is no reply.
    WriteStateFile(String, Vec<u8>),
    /// Find the free bytes of the file system that holds this path.
    QueryFreeSpace(TorrentKey, PathBuf),
    /// Panic, to test how the loop learns of a bug in a job.
    #[cfg(test)]
    Panic(TorrentKey),
}

impl WorkerJob {
    /// Returns the class that the job's CPU time is counted in.
    pub fn cost_class(&self) -> CostClass {
        match self {
            WorkerJob::Map(..) | WorkerJob::Unmap(..) => CostClass::Mapped,
            WorkerJob::Hash { windows, .. } if !windows.is_empty() => CostClass::Mapped,
            WorkerJob::Block(..) | WorkerJob::Hash { .. } | WorkerJob::Flush => CostClass::Plain,
            _ => CostClass::Other,
        }
    }

    /// Returns the reply that the loop waits for; `None` if it does not wait. It does not wait for the reply
    /// to `QueryFreeSpace`: the query is repeated until there is room.
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

/// The kind of reply that the loop waits for. The worker notes it before it runs the job: if the job panics,
/// the loop gets this reply with a fault.
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
    /// Returns the reply for a job that failed. `Detached` has no room for the fault.
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

/// An open torrent whose content is checked.
pub(super) struct OpenedContent {
    pub files: Arc<TorrentFiles>,
    pub found: OpenedTorrent,
}

/// A reply of one worker.
pub(super) enum WorkerReply {
    /// Free slots: their blocks are written or dropped.
    FreedSlots(Vec<Slot>),
    /// Progress of a recheck: the number of pieces hashed, and of pieces to hash.
    Checking(TorrentKey, u32, u32),
    Opened(TorrentKey, Result<OpenedContent, DiskFault>),
    /// The piece's windows; none if the kernel refuses to map, or no part of the piece is worth a window.
    Mapped(TorrentKey, PieceIndex, Result<Vec<Window>, DiskFault>),
    Hashed(TorrentKey, PieceIndex, Result<HashVerdict, DiskFault>),
    /// The span is in the page cache. `result` has its bytes if the job had `send`. `files` has the index and
    /// descriptor of each file read, from which the loop reads later spans itself.
    Loaded {
        torrent: TorrentKey,
        span: BlockSpan,
        result: Result<Option<Box<[u8]>>, DiskFault>,
        files: Vec<(usize, Arc<OwnedFd>)>,
    },
    /// Stamps of files that this worker closed or synced; the loop passes them to the torrent's home.
    Stamps(TorrentKey, Vec<SeenFile>),
    Synced(TorrentKey, Result<(), DiskFault>),
    RecordSaved(TorrentKey, Result<(), DiskFault>),
    /// The torrent is closed on this worker.
    Detached(TorrentKey),
    /// A job without another reply failed, or a job panicked.
    Fault(TorrentKey, DiskFault),
    /// Free bytes of the queried file system.
    FreeSpace(TorrentKey, u64),
}
