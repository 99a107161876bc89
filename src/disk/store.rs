//! The loop's side of the disk: takes requests, hands out targets, returns events. It never waits and touches
//! no file but for cached reads.
//!
//! Invariants: the blocks and the hash of a piece go to the same worker, in order; a reply for a torrent that
//! was closed is dropped. A checkpoint has every worker sync first, and the record is written only if all of
//! them could.
//!
//! `replies.rs` is the other half of [`Store`]: the calls here queue jobs, and its `poll_replies` turns
//! replies into events.

use super::api::{DiskEvent, OpenTorrent, StoreConfig, StoreStats};
use super::buffer_pool::{BufferPool, Reservation};
use super::fault::{DiskFault, FaultKind};
use super::job::{WorkerJob, WorkerReply};
use super::limits;
use super::mapped::{Mapper, PieceMode, Window};
use super::memory::slots;
use super::read_path::{Load, LoadJob, ReadPath};
use super::target::{Access, Target};
use super::torrent_files::TorrentFiles;
use super::waker::LoopWaker;
use super::worker::WorkerConfig;
use super::workers::Workers;
use crate::engine::Checkpoint;
use crate::units::{BlockSpan, Geometry, PieceIndex, TorrentKey};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// A checkpoint under way.
pub(super) struct PendingCheckpoint {
    pub checkpoint: Checkpoint,
    /// The torrent is closed after it.
    pub closing: bool,
    /// Workers that have not synced yet.
    pub workers_left: usize,
    pub failed: Option<DiskFault>,
}

/// A torrent that is being closed after its last checkpoint.
pub(super) struct PendingClose {
    /// Workers that have not forgotten it yet.
    pub workers_left: usize,
    /// `History::completed` of the checkpoint.
    pub completed: bool,
    /// The result of the checkpoint.
    pub result: Result<(), DiskFault>,
}

/// A torrent of the store.
#[derive(Default)]
pub(super) struct StoredTorrent {
    /// `None` until it is open, and once it is being closed.
    pub files: Option<Arc<TorrentFiles>>,
    /// The worker that opened it and keeps its record.
    pub home: usize,
    /// Pieces that are being received.
    pub pieces: BTreeMap<PieceIndex, PieceMode>,
    pub checkpoint: Option<PendingCheckpoint>,
    /// A checkpoint that was asked for during another one; the bool is its `closing`.
    pub next_checkpoint: Option<(Checkpoint, bool)>,
    pub close: Option<PendingClose>,
}

/// The disk as the loop sees it.
pub struct Store {
    pub(super) workers: Workers,
    pub(super) replies: Receiver<WorkerReply>,
    pub(super) waker: Arc<LoopWaker>,
    pub(super) torrents: BTreeMap<TorrentKey, StoredTorrent>,
    pub(super) events: VecDeque<DiskEvent>,
    pub(super) pool: BufferPool,
    /// No slot was free; `BufferFreed` is owed.
    pub(super) exhausted: bool,
    pub(super) mapper: Mapper,
    pub(super) read_path: ReadPath,
    pub(super) stats: StoreStats,
    opened: usize,
}

impl Store {
    /// Starts the workers. They call `wake` from their threads when events wait; it must be cheap and never
    /// block.
    pub fn new(config: StoreConfig, wake: Arc<dyn Fn() + Send + Sync>) -> Result<Store, DiskFault> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if config.workers == 0 { cores.div_ceil(2) } else { config.workers }
            .clamp(1, limits::WORKERS_MAX);
        let slot_count =
            (config.pool_bytes / limits::SLOT_LEN).clamp(limits::POOL_SLOTS_MIN, limits::POOL_SLOTS_MAX);
        let out_of_memory =
            |_| DiskFault::without_errno(FaultKind::Internal, Path::new("memory for receive buffers"));
        let pool = BufferPool::new(slots(slot_count).map_err(out_of_memory)?);
        let waker = Arc::new(LoopWaker::new(wake));
        let (send, replies) = channel();
        let workers = Workers::start(count, || WorkerConfig {
            replies: send.clone(),
            waker: waker.clone(),
            state_dir: config.state_dir.clone(),
            hold_max: slot_count / 2 / count,
            files: limits::WORKER_FILES / count,
        })?;
        Ok(Store {
            workers,
            replies,
            waker,
            torrents: BTreeMap::new(),
            events: VecDeque::new(),
            pool,
            exhausted: false,
            mapper: Mapper::new(config.mode, config.window_bytes),
            read_path: ReadPath::default(),
            stats: StoreStats::default(),
            opened: 0,
        })
    }

    /// Locks the torrent and finds its content; ends in `DiskEvent::Opened`.
    pub fn open(&mut self, key: TorrentKey, torrent: OpenTorrent) {
        let home = self.opened % self.workers.count();
        self.opened += 1;
        self.torrents.insert(key, StoredTorrent { home, ..StoredTorrent::default() });
        self.workers.queue(home, WorkerJob::Open(key, Box::new(torrent)));
    }

    /// Prepares to receive a piece; ends in `DiskEvent::Prepared`.
    pub fn prepare(&mut self, key: TorrentKey, piece: PieceIndex) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let Some(files) = &torrent.files else { return };
        let mode = torrent.pieces.entry(piece).or_insert_with(|| {
            let costs = || self.workers.mode_costs(self.stats.plain_bytes);
            let mode = self.mapper.begin_piece(files, piece, costs);
            if matches!(mode, PieceMode::Mapping { .. }) {
                self.workers.queue_for_piece(piece, WorkerJob::Map(key, piece));
            }
            mode
        });
        // A mapping piece is prepared when the worker replies; a plain piece at once: the first write creates
        // its files.
        if !matches!(mode, PieceMode::Mapping { .. }) {
            self.events.push_back(DiskEvent::Prepared { torrent: key, piece, result: Ok(()) });
        }
    }

    /// Returns where the next bytes of this (rest of a) block land. `None`: no slot is free; stop reading
    /// until `DiskEvent::BufferFreed`. The target may be shorter than the span.
    pub fn target(&mut self, key: TorrentKey, span: BlockSpan, access: Access) -> Option<Target<'_>> {
        let torrent = self.torrents.get(&key)?;
        let files = torrent.files.as_ref()?;
        let mapped = access == Access::Kernel
            && torrent.pieces.get(&span.piece()).is_some_and(|mode| mode.covers(span));
        if mapped && !self.pool.holds(key, span) {
            return self.torrents.get(&key)?.pieces.get(&span.piece())?.range(span).map(Target::Mapped);
        }
        let Some(reservation) = self.reserve(key, span, files.geometry) else {
            self.on_exhausted();
            return None;
        };
        Some(Target::Buffer(self.pool.buffer(reservation)))
    }

    /// Reserves a slot, after reading replies if none is free. While an exhausted pool refills no slot is
    /// given: slow peers would take each one as it becomes free.
    fn reserve(&mut self, key: TorrentKey, span: BlockSpan, geometry: Geometry) -> Option<Reservation> {
        if !self.exhausted {
            let reservation = self.pool.reserve(&geometry, key, span);
            if reservation.is_some() {
                return reservation;
            }
        }
        self.poll_replies();
        if self.exhausted { None } else { self.pool.reserve(&geometry, key, span) }
    }

    /// Notes that these bytes have landed in the last target: exactly those that were received, from its
    /// start on.
    pub fn received(&mut self, key: TorrentKey, span: BlockSpan) {
        let Some(files) = self.torrents.get(&key).and_then(|t| t.files.as_ref()) else { return };
        if !self.pool.holds(key, span) {
            self.stats.mapped_bytes += u64::from(span.len());
            return;
        }
        self.stats.plain_bytes += u64::from(span.len());
        if let Some(block) = self.pool.received(&files.geometry, key, span) {
            self.workers.queue_block(key, block);
        }
    }

    /// Copies payload that arrived together with framing: the first bytes of the span. They count as
    /// received. False: no slot is free; call again after `DiskEvent::BufferFreed`.
    pub fn copy(&mut self, key: TorrentKey, span: BlockSpan, bytes: &[u8]) -> bool {
        let is_open = self.torrents.get(&key).is_some_and(|t| t.files.is_some());
        let bytes = &bytes[..bytes.len().min(span.len() as usize)];
        if !is_open || bytes.is_empty() {
            return true;
        }
        let Some(Target::Buffer(buffer)) = self.target(key, span, Access::Cpu) else { return false };
        buffer[..bytes.len()].copy_from_slice(bytes);
        self.stats.copied_bytes += bytes.len() as u64;
        self.received(key, span.first(bytes.len() as u32));
        true
    }

    /// Drops the received bytes of this block: its peer has disconnected, and the block will be received
    /// again from its start.
    pub fn abandon(&mut self, key: TorrentKey, span: BlockSpan) {
        self.pool.abandon(key, span);
    }

    /// A read into a mapped target failed with `EFAULT`. It took nothing from the socket, so ask for a target
    /// again. The piece continues with plain writes; if the disk is at fault, a `DiskEvent::Fault` follows.
    pub fn bad_window(&mut self, key: TorrentKey, piece: PieceIndex) {
        let windows = self.fall_back(key, piece);
        if !windows.is_empty() {
            self.workers.queue_for_piece(piece, WorkerJob::FindFault(windows, key, piece));
        }
    }

    /// Hashes a piece of which every block has arrived; ends in `DiskEvent::Hashed`.
    pub fn hash(&mut self, key: TorrentKey, piece: PieceIndex, want_blocks: bool) {
        let Some(torrent) = self.torrents.get_mut(&key).filter(|t| t.files.is_some()) else { return };
        let windows =
            torrent.pieces.remove(&piece).map_or_else(Vec::new, |mode| self.mapper.take_windows(mode));
        self.pool.discard(key, Some(piece));
        self.workers.queue_for_piece(piece, WorkerJob::Hash { torrent: key, piece, want_blocks, windows });
    }

    /// Reads a span for upload; `into` has room for its bytes.
    pub fn load(&mut self, key: TorrentKey, span: BlockSpan, into: &mut [u8]) -> Load {
        let Some(files) = self.torrents.get(&key).and_then(|t| t.files.as_ref()) else { return Load::Later };
        let (load, job) = self.read_path.load(files, span, &mut into[..span.len() as usize]);
        let send = match job {
            LoadJob::None => {
                if load == Load::Ready {
                    self.stats.loaded_bytes += u64::from(span.len());
                }
                return load;
            }
            LoadJob::Cache => false,
            LoadJob::Send => true,
        };
        self.stats.loads_deferred += 1;
        self.workers.queue_for_piece(span.piece(), WorkerJob::Load { torrent: key, span, send });
        load
    }

    /// Reads the first bytes of a span for upload, as far as they are in the page cache: one call for
    /// consecutive blocks. The rest is not fetched. Returns the number of bytes.
    pub fn load_cached(&mut self, key: TorrentKey, span: BlockSpan, into: &mut [u8]) -> usize {
        let Some(files) = self.torrents.get(&key).and_then(|t| t.files.as_ref()) else { return 0 };
        let n = self.read_path.load_cached(files, span, &mut into[..span.len() as usize]);
        self.stats.loaded_bytes += n as u64;
        n
    }

    /// Syncs the pieces of a checkpoint and writes its record; ends in `DiskEvent::Saved`.
    pub fn checkpoint(&mut self, key: TorrentKey, checkpoint: Checkpoint) {
        self.begin_checkpoint(key, checkpoint, false);
    }

    /// Closes a torrent after a last checkpoint; ends in `DiskEvent::Closed`.
    pub fn close(&mut self, key: TorrentKey, checkpoint: Checkpoint) {
        let Some(torrent) = self.active_torrent(key) else { return };
        let pieces = std::mem::take(&mut torrent.pieces);
        // From here on no target is given and no piece is hashed; the last checkpoint needs neither.
        let is_open = torrent.files.take().is_some();
        for (piece, mode) in pieces {
            let windows = self.mapper.take_windows(mode);
            self.unmap(key, piece, windows);
        }
        self.pool.discard(key, None);
        if is_open {
            self.begin_checkpoint(key, checkpoint, true);
        } else {
            self.begin_detach(key, false, Ok(()));
        }
    }

    /// Sets whether each file of a torrent is wanted: which files have to be whole when its last piece is
    /// verified. True: the torrent must be closed and opened again, because bytes of these files are to lie
    /// elsewhere.
    #[must_use]
    pub fn set_wanted(&mut self, key: TorrentKey, wanted: Vec<bool>) -> bool {
        let Some(torrent) = self.torrents.get(&key) else { return false };
        let reopen = torrent.files.as_ref().is_some_and(|files| files.must_be_reopened_for(&wanted));
        self.workers.queue(torrent.home, WorkerJob::SetWanted(key, wanted));
        reopen
    }

    /// Replaces a small file of the state directory atomically; without that directory it does nothing. A
    /// worker writes it, at the latest before the store ends. A failure is logged and has no other effect.
    pub fn write_state_file(&mut self, name: &str, bytes: Vec<u8>) {
        // Always the same worker, so the last write counts.
        self.workers.queue(0, WorkerJob::WriteStateFile(name.to_string(), bytes));
    }

    /// Sets what new windows may take together; open ones stay.
    pub fn set_window_budget(&mut self, bytes: usize) {
        self.mapper.set_budget(bytes);
    }

    /// Finds the free bytes of the file system that holds `path` or will hold it; ends in
    /// `DiskEvent::FreeSpace`, whether the torrent is open or not.
    pub fn query_free_space(&mut self, key: TorrentKey, path: PathBuf) {
        self.workers.queue(0, WorkerJob::QueryFreeSpace(key, path));
    }

    /// Sends queued jobs to the workers: the last call of a loop turn before it sleeps.
    pub fn submit(&mut self) {
        self.stats.batches += self.workers.submit();
        if !self.events.is_empty() {
            self.waker.wake();
        }
    }

    /// The next event, if there is one.
    pub fn next_event(&mut self) -> Option<DiskEvent> {
        if self.events.is_empty() {
            self.poll_replies();
        }
        self.events.pop_front()
    }

    /// Counters since the start.
    pub fn stats(&self) -> StoreStats {
        let mut stats = StoreStats {
            slots: self.pool.total(),
            slots_free: self.pool.free(),
            window_bytes: self.mapper.reserved(),
            ..self.stats
        };
        self.workers.add_stats(&mut stats);
        stats
    }

    /// Sends the rest of a mapped piece through slots. Returns its windows, which a worker has to unmap.
    fn fall_back(&mut self, key: TorrentKey, piece: PieceIndex) -> Vec<Window> {
        let mode = self.torrents.get_mut(&key).and_then(|t| t.pieces.get_mut(&piece));
        mode.map_or_else(Vec::new, |mode| self.mapper.fall_back(mode))
    }

    /// Has a worker unmap windows.
    pub(super) fn unmap(&mut self, key: TorrentKey, piece: PieceIndex, windows: Vec<Window>) {
        if !windows.is_empty() {
            self.workers.queue_for_piece(piece, WorkerJob::Unmap(windows, key, piece));
        }
    }

    /// Called when no slot is free: queues the write of all held blocks, and if they are too few, also that
    /// of the half received ones.
    fn on_exhausted(&mut self) {
        if self.exhausted {
            return;
        }
        self.exhausted = true;
        self.stats.exhausted += 1;
        if self.pool.total() - self.pool.partial() < self.pool.total() / limits::REFILL_PART {
            for (key, block) in self.pool.take_partial() {
                // If this block's peer leaves, the next one begins it anew. Through a window its bytes could
                // land before this block is written; in the worker's queue they stay behind it.
                let windows = self.fall_back(key, block.piece);
                self.unmap(key, block.piece, windows);
                self.workers.queue_block(key, block);
            }
        }
        self.waker.request_slots();
        self.workers.queue_for_all(|| WorkerJob::Flush);
    }
}
