//! The loop's side of the disk: takes wishes, hands out room, passes answers on. Never waits, never touches a file.
//!
//! Invariants: a piece's bytes and its hash go to one and the same worker, in order; jobs leave in batches, and a worker is
//! woken only when a batch is worth it or somebody waits; an answer for a torrent that was closed is dropped.
//! A checkpoint asks every worker to sync first and writes the record only when all of them could.

use super::api::{DiskEvent, OpenTorrent, StoreConfig, StoreStats};
use super::fault::{DiskFault, FaultKind};
use super::files::TorrentFiles;
use super::job::{LoopWaker, ReceivedBlock, WorkerJob, WorkerReply, WorkerStats};
use super::limits;
use super::pool::BufferPool;
use super::read_path::{Load, ReadPath, WorkerLoad};
use super::storage_mode::{ModeChooser, ModeCosts};
use super::window::{Target, Window, slots};
use super::worker::{self, WorkerConfig};
use crate::units::{Bitfield, BlockSpan, PieceIndex, TorrentKey};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

pub(super) struct WorkerHandle {
    pub jobs: Option<Sender<Vec<WorkerJob>>>,
    pub queue: Vec<WorkerJob>,
    pub blocks: usize,
    pub urgent: bool,
    pub stats: Arc<WorkerStats>,
    pub thread: Option<JoinHandle<()>>,
}

/// How a piece is being received.
pub(super) enum PieceMode {
    /// A worker is making windows.
    Mapping {
        reserved: usize,
    },
    Mapped {
        windows: Vec<Window>,
        reserved: usize,
    },
    Plain,
}

pub(super) struct PendingCheckpoint {
    pub have: Bitfield,
    pub last: bool,
    pub awaited: usize,
    pub failed: Option<DiskFault>,
}

pub(super) struct StoredTorrent {
    pub content: Option<Arc<TorrentFiles>>,
    pub home_worker: usize,
    pub pieces: BTreeMap<PieceIndex, PieceMode>,
    pub checkpoint: Option<PendingCheckpoint>,
    /// A checkpoint that was asked for while another one was under way.
    pub next_checkpoint: Option<(Bitfield, bool)>,
    /// Being closed: workers that still have to let go, and how the last checkpoint ended.
    pub closing: Option<(usize, Result<(), DiskFault>)>,
}

/// The disk as the loop sees it.
pub struct Store {
    pub(super) mode_chooser: ModeChooser,
    pub(super) torrents: BTreeMap<TorrentKey, StoredTorrent>,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) replies: Receiver<WorkerReply>,
    pub(super) waker: Arc<LoopWaker>,
    pub(super) events: VecDeque<DiskEvent>,
    pub(super) pool: BufferPool,
    pub(super) exhausted: bool,
    pub(super) read_path: ReadPath,
    pub(super) window_budget: usize,
    pub(super) stats: StoreStats,
    pub(super) opened: usize,
}

impl Store {
    /// Starts the workers. `wake` is called from their threads when an answer waits; it must be cheap and never block.
    pub fn new(config: StoreConfig, wake: Arc<dyn Fn() + Send + Sync>) -> Result<Store, DiskFault> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count_of_workers = if config.workers == 0 { cores.div_ceil(2) } else { config.workers }.clamp(1, limits::WORKERS_MAX);
        let count = (config.pool_bytes / limits::SLOT_LEN).clamp(limits::POOL_SLOTS_MIN, limits::POOL_SLOTS_MAX);
        let internal = |_| DiskFault::plain(FaultKind::Internal, Path::new("memory for receive buffers"));
        let pool = BufferPool::new(slots(count).map_err(internal)?);
        let waker = Arc::new(LoopWaker::new(wake));
        let (say, replies) = channel();
        let mut workers = Vec::with_capacity(count_of_workers);
        for n in 0..count_of_workers {
            let (send, jobs) = channel();
            let stats = Arc::new(WorkerStats::default());
            let setup = WorkerConfig {
                jobs,
                replies: say.clone(),
                waker: waker.clone(),
                stats: stats.clone(),
                state_dir: config.state_dir.clone(),
                hold_max: count / 2 / count_of_workers,
                files: limits::WORKER_FILES / count_of_workers,
            };
            let thread = std::thread::Builder::new()
                .name(format!("rill-disk-{n}"))
                .stack_size(limits::WORKER_STACK)
                .spawn(move || worker::run(setup))
                .map_err(|_| DiskFault::plain(FaultKind::Internal, Path::new("a new thread")))?;
            workers.push(WorkerHandle {
                jobs: Some(send),
                queue: Vec::new(),
                blocks: 0,
                urgent: false,
                stats,
                thread: Some(thread),
            });
        }
        Ok(Store {
            mode_chooser: ModeChooser::new(config.mode),
            torrents: BTreeMap::new(),
            workers,
            replies,
            waker,
            events: VecDeque::new(),
            pool,
            exhausted: false,
            read_path: ReadPath::default(),
            window_budget: config.window_bytes,
            stats: StoreStats::default(),
            opened: 0,
        })
    }

    /// Locks the torrent and finds out what is there; ends in `Done::Opened`.
    pub fn open(&mut self, key: TorrentKey, torrent: OpenTorrent) {
        let home_worker = self.opened % self.workers.len();
        self.opened += 1;
        self.torrents.insert(
            key,
            StoredTorrent {
                content: None,
                home_worker,
                pieces: BTreeMap::new(),
                checkpoint: None,
                next_checkpoint: None,
                closing: None,
            },
        );
        self.queue_urgent(home_worker, WorkerJob::Open(key, Box::new(torrent)));
    }

    /// Makes ready to receive a piece; ends in `Done::Prepared`.
    pub fn prepare(&mut self, key: TorrentKey, piece: PieceIndex) {
        let Some(t) = self.torrents.get(&key) else { return };
        let Some(c) = t.content.clone() else { return };
        match t.pieces.get(&piece) {
            None => {}
            Some(PieceMode::Mapping { .. }) => return, // asked for already, the answer is on its way
            Some(_) => return self.events.push_back(DiskEvent::Prepared { torrent: key, piece, result: Ok(()) }),
        }
        let len = c.geometry.piece_len(piece) as usize;
        let fits = self.stats.window_bytes + len <= self.window_budget;
        let (workers, plain_bytes) = (&self.workers, self.stats.plain_bytes);
        let mapped =
            c.fs.maps() && !c.read_only && fits && self.mode_chooser.choose_mapped(len as u64, || costs(workers, plain_bytes));
        let Some(t) = self.torrents.get_mut(&key) else { return };
        if mapped {
            t.pieces.insert(piece, PieceMode::Mapping { reserved: len });
            self.stats.window_bytes += len;
            self.queue_urgent(self.worker_of(piece), WorkerJob::Map(key, piece));
        } else {
            // Nothing to wait for: files are made by the first write.
            t.pieces.insert(piece, PieceMode::Plain);
            self.events.push_back(DiskEvent::Prepared { torrent: key, piece, result: Ok(()) });
        }
    }

    /// Where the next bytes of this (rest of a) block go. `None`: there is no slot, stop reading until
    /// `Done::BufferFreed`. The room is good for one `readv`, until the next call on this store.
    pub fn target(&mut self, key: TorrentKey, span: BlockSpan) -> Option<Target> {
        let t = self.torrents.get(&key)?;
        let c = t.content.as_ref()?;
        if let Some(PieceMode::Mapped { windows, .. }) = t.pieces.get(&span.piece()) {
            if !self.pool.holds(key, span) {
                if let Some(room) = windows.iter().find_map(|w| w.target(span.begin(), span.end())) {
                    return Some(room);
                }
            }
        }
        // While the pool refills nobody gets a new slot: slow peers would take each one as it comes.
        if !self.exhausted {
            let room = self.pool.target(&c.geometry, key, span);
            if room.is_some() {
                return room;
            }
        }
        let c = c.clone();
        self.poll_replies();
        let room = if self.exhausted { None } else { self.pool.target(&c.geometry, key, span) };
        if room.is_none() {
            self.on_exhausted();
        }
        room
    }

    /// Bytes landed in the room: exactly those that came, from where the room began.
    pub fn received(&mut self, key: TorrentKey, span: BlockSpan) {
        let Some(c) = self.torrents.get(&key).and_then(|t| t.content.as_ref()) else { return };
        if !self.pool.holds(key, span) {
            self.stats.mapped_bytes += u64::from(span.len());
            return;
        }
        self.stats.plain_bytes += u64::from(span.len());
        if let Some(landed) = self.pool.received(&c.geometry, key, span) {
            self.queue_block(key, landed);
        }
    }

    /// Takes a few payload bytes that came along with framing: the span's first ones. False: no slot, come again after
    /// `Done::BufferFreed`. They count as arrived.
    pub fn copy(&mut self, key: TorrentKey, span: BlockSpan, bytes: &[u8]) -> bool {
        let Some(c) = self.torrents.get(&key).and_then(|t| t.content.clone()) else { return true };
        let bytes = &bytes[..bytes.len().min(span.len() as usize)];
        if bytes.is_empty() {
            return true;
        }
        // The same as `room`, but the bytes are already here.
        let mut copied = if self.exhausted { None } else { self.pool.copy(&c.geometry, key, span, bytes) };
        if copied.is_none() {
            self.poll_replies();
            copied = if self.exhausted { None } else { self.pool.copy(&c.geometry, key, span, bytes) };
        }
        let Some(landed) = copied else {
            self.on_exhausted();
            return false;
        };
        self.stats.plain_bytes += bytes.len() as u64;
        self.stats.copied_bytes += bytes.len() as u64;
        if let Some(landed) = landed {
            self.queue_block(key, landed);
        }
        true
    }

    /// The writer of this block is gone: the block will come again from its start.
    pub fn abandon(&mut self, key: TorrentKey, span: BlockSpan) {
        self.pool.abandon(key, span);
    }

    /// `readv` said EFAULT for a room in a window: nothing was taken from the socket, ask for room again. The piece goes
    /// on without windows; if the disk is at fault a `Done::Fault` will say why.
    pub fn bad_window(&mut self, key: TorrentKey, piece: PieceIndex) {
        let windows = self.fall_back(key, piece);
        if !windows.is_empty() {
            self.queue_urgent(self.worker_of(piece), WorkerJob::FindFault(windows, key, piece));
        }
    }

    /// Every block of the piece has arrived: judge it. Ends in `Done::Hashed`.
    pub fn hash(&mut self, key: TorrentKey, piece: PieceIndex, want_blocks: bool) {
        let Some(t) = self.torrents.get_mut(&key).filter(|t| t.content.is_some()) else { return };
        let way = t.pieces.remove(&piece);
        let windows = self.release(way);
        self.pool.discard(key, Some(piece));
        self.queue_urgent(self.worker_of(piece), WorkerJob::Hash { torrent: key, piece, want_blocks, windows });
    }

    /// Reads a span for upload; `into` holds at least its bytes.
    pub fn load(&mut self, key: TorrentKey, span: BlockSpan, into: &mut [u8]) -> Load {
        let Some(c) = self.torrents.get(&key).and_then(|t| t.content.as_ref()) else { return Load::Later };
        let (load, fetch) = self.read_path.load(c, span, &mut into[..span.len() as usize]);
        match fetch {
            WorkerLoad::Yes(send) => {
                self.stats.loads_late += 1;
                self.queue_urgent(self.worker_of(span.piece()), WorkerJob::Load(key, span, send));
            }
            WorkerLoad::No if load == Load::Ready => self.stats.loaded_bytes += u64::from(span.len()),
            WorkerLoad::No => {}
        }
        load
    }

    /// Reads the first bytes of a span for upload, as far as they are in the page cache: one call for several blocks that follow each
    /// other. Nobody fetches the rest.
    pub fn load_cached(&mut self, key: TorrentKey, span: BlockSpan, into: &mut [u8]) -> usize {
        let Some(c) = self.torrents.get(&key).and_then(|t| t.content.as_ref()) else { return 0 };
        let n = self.read_path.load_cached(c, span, &mut into[..span.len() as usize]);
        self.stats.loaded_bytes += n as u64;
        n
    }

    /// Makes the pieces of `have` safe and remembers them; ends in `Done::Saved`.
    pub fn checkpoint(&mut self, key: TorrentKey, have: &Bitfield) {
        self.begin_checkpoint(key, have.clone(), false);
    }

    /// Last checkpoint, then everything of the torrent is let go; ends in `Done::Closed`.
    pub fn close(&mut self, key: TorrentKey, have: &Bitfield) {
        let Some(t) = self.active_torrent(key) else { return };
        let mapped: Vec<_> = std::mem::take(&mut t.pieces).into_iter().collect();
        // From here on no room is given and no piece judged; the last checkpoint needs neither.
        let open = t.content.take().is_some();
        for (piece, way) in mapped {
            let windows = self.release(Some(way));
            if !windows.is_empty() {
                self.queue_urgent(self.worker_of(piece), WorkerJob::Unmap(windows, key, piece));
            }
        }
        self.pool.discard(key, None);
        match open {
            true => self.begin_checkpoint(key, have.clone(), true),
            false => self.begin_detach(key, Ok(())),
        }
    }

    /// Has a small file written to the state directory, so that a crash leaves the old or the new one; without that directory
    /// nothing happens. A worker does it, before the store ends, and a failure costs a line in the log and nothing else.
    pub fn write_state_file(&mut self, name: &str, bytes: Vec<u8>) {
        // Always the same worker, so that of two the later one counts.
        self.queue_urgent(0, WorkerJob::WriteStateFile(name.to_string(), bytes));
    }

    /// From now on new windows may take so many bytes together; those that there are stay.
    pub fn set_window_budget(&mut self, bytes: usize) {
        self.window_budget = bytes;
    }

    /// Finds out how much room there is where `path` is, or would be; ends in `Done::FreeSpace`, whether the torrent is open or not.
    pub fn query_free_space(&mut self, key: TorrentKey, path: PathBuf) {
        self.queue_urgent(0, WorkerJob::QueryFreeSpace(key, path));
    }

    /// End of a loop turn, the last call before sleeping: queued jobs leave.
    pub fn submit(&mut self) {
        for h in &mut self.workers {
            if h.urgent || h.blocks >= limits::BATCH_BLOCKS {
                let next = Vec::with_capacity(h.queue.len());
                let batch = std::mem::replace(&mut h.queue, next);
                (h.blocks, h.urgent) = (0, false);
                self.stats.batches += 1;
                if let Some(jobs) = &h.jobs {
                    // A worker never ends before its store; if it did, its pieces are never judged, which is seen above.
                    let _ = jobs.send(batch);
                }
            }
        }
        if !self.events.is_empty() {
            self.waker.wake();
        }
    }

    /// The next answer, if there is one.
    pub fn next_event(&mut self) -> Option<DiskEvent> {
        if self.events.is_empty() {
            self.poll_replies();
        }
        self.events.pop_front()
    }

    /// Counters since the start.
    pub fn stats(&self) -> StoreStats {
        let mut s = StoreStats { slots: self.pool.total(), slots_free: self.pool.free(), ..self.stats };
        for m in self.workers.iter().map(|h| &h.stats) {
            s.worker_cpu_us += m.cpu_us.load(Relaxed);
            s.written_bytes += m.written_bytes.load(Relaxed);
            s.writes += m.writes.load(Relaxed);
            s.reread_bytes += m.reread_bytes.load(Relaxed);
            s.panics += m.panics.load(Relaxed);
        }
        s
    }

    // -- inside ------------------------------------------------------------------------------------------------------

    pub(super) fn worker_of(&self, piece: PieceIndex) -> usize {
        piece.as_usize() % self.workers.len()
    }

    /// Queues a job that somebody waits for.
    pub(super) fn queue_urgent(&mut self, worker: usize, job: WorkerJob) {
        let h = &mut self.workers[worker];
        h.queue.push(job);
        h.urgent = true;
    }

    pub(super) fn queue_block(&mut self, key: TorrentKey, landed: ReceivedBlock) {
        let worker = self.worker_of(landed.piece);
        let h = &mut self.workers[worker];
        h.queue.push(WorkerJob::Block(key, landed));
        h.blocks += 1;
    }

    /// Takes back what a piece had of the window budget; its windows are the caller's to have unmapped.
    fn release(&mut self, way: Option<PieceMode>) -> Vec<Window> {
        match way {
            Some(PieceMode::Mapped { windows, reserved }) => {
                self.stats.window_bytes -= reserved;
                windows
            }
            Some(PieceMode::Mapping { reserved }) => {
                self.stats.window_bytes -= reserved;
                Vec::new()
            }
            Some(PieceMode::Plain) | None => Vec::new(),
        }
    }

    /// From here on the piece's bytes go through slots; answers with the windows it had.
    fn fall_back(&mut self, key: TorrentKey, piece: PieceIndex) -> Vec<Window> {
        let Some(way) = self.torrents.get_mut(&key).and_then(|t| t.pieces.get_mut(&piece)) else { return Vec::new() };
        if !matches!(way, PieceMode::Mapped { .. }) {
            return Vec::new();
        }
        let way = std::mem::replace(way, PieceMode::Plain);
        self.release(Some(way))
    }

    /// No slot is free: everything queued or held is on its way to the disk from here on, and if that is too little,
    /// everything half filled too.
    pub(super) fn on_exhausted(&mut self) {
        if self.exhausted {
            return;
        }
        self.exhausted = true;
        self.stats.starved += 1;
        if self.pool.total() - self.pool.partial() < self.pool.total() / limits::REFILL_PART {
            for (key, landed) in self.pool.take_partial() {
                // If this block's writer leaves, the next one begins it anew. Through a window it could be faster than
                // the write of these bytes; behind them in the worker's queue it cannot.
                let windows = self.fall_back(key, landed.piece);
                if !windows.is_empty() {
                    self.queue_urgent(self.worker_of(landed.piece), WorkerJob::Unmap(windows, key, landed.piece));
                }
                self.queue_block(key, landed);
            }
        }
        self.waker.wake_on_slots.store(true, SeqCst);
        for worker in 0..self.workers.len() {
            self.queue_urgent(worker, WorkerJob::Flush);
        }
    }
}

/// What both ways have cost the workers so far. What no window took is plain's.
pub(super) fn costs(workers: &[WorkerHandle], plain_bytes: u64) -> ModeCosts {
    let mut c = ModeCosts::default();
    c.plain.bytes = plain_bytes;
    for m in workers.iter().map(|h| &h.stats) {
        c.mapped.us += m.mapped_us.load(Relaxed);
        c.mapped.bytes += m.mapped_bytes.load(Relaxed);
        let other = m.mapped_us.load(Relaxed) + m.aside_us.load(Relaxed);
        c.plain.us += m.cpu_us.load(Relaxed).saturating_sub(other);
    }
    c
}

impl Drop for Store {
    fn drop(&mut self) {
        for h in &mut self.workers {
            let last = std::mem::take(&mut h.queue);
            if let Some(jobs) = h.jobs.take() {
                let _ = jobs.send(last);
            }
        }
        for h in &mut self.workers {
            if let Some(t) = h.thread.take() {
                let _ = t.join();
            }
        }
    }
}
