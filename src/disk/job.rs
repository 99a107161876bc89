//! What the loop asks of a worker and what a worker answers: the only things that cross between the two threads.
//!
//! Whatever is in a job belongs to the worker from then on, and the other way round; nothing is shared but immutable
//! content and the bell.

use super::check::Checked;
use super::contract::{OpenTorrent, Verdict};
use super::fault::DiskFault;
use super::files::Content;
use super::resume::Seen;
use super::window::{Slot, Window};
use crate::units::{Bitfield, BlockSpan, PieceIndex, TorrentKey};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Bytes that landed in a slot: the piece's bytes `begin..end`, at the slot's own `begin % SLOT_LEN`.
#[derive(Debug)]
pub(super) struct Landed {
    pub piece: PieceIndex,
    pub begin: u32,
    pub end: u32,
    pub slot: Slot,
}

/// A job for one worker.
pub(super) enum Job {
    Open(TorrentKey, Box<OpenTorrent>),
    /// Another worker opened it; from now on jobs may name it.
    Attach(Arc<Content>),
    Land(TorrentKey, Landed),
    Map(TorrentKey, PieceIndex),
    /// Windows of this piece that nobody will receive into any more.
    Unmap(Vec<Window>, TorrentKey, PieceIndex),
    /// The kernel could not write to a window of this piece: find out why.
    Probe(Vec<Window>, TorrentKey, PieceIndex),
    Hash {
        torrent: TorrentKey,
        piece: PieceIndex,
        want_blocks: bool,
        windows: Vec<Window>,
    },
    Load(TorrentKey, BlockSpan, bool),
    /// Write everything that is held: the loop has no slot left.
    WriteOut,
    Sync(TorrentKey),
    /// What other workers saw of the torrent's files.
    Learn(TorrentKey, Vec<Seen>),
    Record {
        torrent: TorrentKey,
        have: Bitfield,
        last: bool,
    },
    Detach(TorrentKey),
    /// A small file for the state directory; nobody waits for it.
    Keep(String, Vec<u8>),
    /// How much room is there where this path is?
    Measure(TorrentKey, PathBuf),
    /// A bug of ours.
    #[cfg(test)]
    Panic(TorrentKey),
}

/// What a worker says.
pub(super) enum Reply {
    Slots(Vec<Slot>),
    Checking(TorrentKey, u32, u32),
    Opened(TorrentKey, Result<Checked, DiskFault>),
    Mapped(TorrentKey, PieceIndex, Result<Vec<Window>, DiskFault>),
    Hashed(TorrentKey, PieceIndex, Verdict),
    Loaded {
        torrent: TorrentKey,
        span: BlockSpan,
        result: Result<Option<Box<[u8]>>, DiskFault>,
        files: Vec<(usize, Arc<OwnedFd>)>,
    },
    /// What files were like when this worker closed or synced them; for the worker that keeps the torrent's record.
    Seen(TorrentKey, Vec<Seen>),
    Synced(TorrentKey, Result<(), DiskFault>),
    Recorded(TorrentKey, Bitfield, Result<(), DiskFault>),
    /// This worker holds nothing of the torrent any more.
    Detached(TorrentKey),
    Fault(TorrentKey, DiskFault),
    /// Bytes that may be written there.
    Space(TorrentKey, u64),
}

/// How a worker reaches a loop that sleeps: at most one wake-up until the loop has looked.
pub(super) struct Bell {
    wake: Arc<dyn Fn() + Send + Sync>,
    rung: AtomicBool,
    /// The loop found no free slot and wants to hear of the next one.
    pub starved: AtomicBool,
}

impl Bell {
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Bell {
        Bell { wake, rung: AtomicBool::new(false), starved: AtomicBool::new(false) }
    }

    /// Called after the answer was sent.
    pub fn ring(&self) {
        if !self.rung.swap(true, SeqCst) {
            (self.wake)();
        }
    }

    /// Called before the answers are read: whoever sends later rings again.
    pub fn answered(&self) {
        if self.rung.load(SeqCst) {
            self.rung.store(false, SeqCst);
        }
    }
}

/// Counters of one worker, written by it alone and read by the loop.
#[derive(Debug, Default)]
pub(super) struct Meter {
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
