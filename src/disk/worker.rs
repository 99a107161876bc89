//! One disk worker: runs jobs in batches, in order, and replies. Every wait for a disk happens here.
//!
//! A worker owns the pieces that fall to it, its descriptors, and the records of the torrents that it opened.
//! It decides nothing about the swarm. A panic costs the job and not the thread: the loop gets a fault for
//! the torrent concerned.

use super::api::{OpenTorrent, OpenedTorrent};
use super::dir::free_bytes;
use super::fault::{DiskFault, FaultKind};
use super::job::{OpenedContent, ReceivedBlock, WorkerJob, WorkerReply};
use super::limits;
use super::mapped::{self, Window};
use super::memory::Slot;
use super::open_files::OpenFiles;
use super::recheck::{Recheck, RecheckStep};
use super::resume::RecordFile;
use super::resume_state::ResumeState;
use super::stamp::SeenFile;
use super::torrent_files::TorrentFiles;
use super::waker::LoopWaker;
use super::worker_stats::{CostClass, SharedWorkerStats};
use super::write_cache::{PieceContext, WriteCache};
use crate::engine::Checkpoint;
use crate::units::{BlockSpan, PieceIndex, TorrentKey};
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

/// The resources of one worker.
pub(super) struct WorkerConfig {
    pub replies: Sender<WorkerReply>,
    pub waker: Arc<LoopWaker>,
    pub state_dir: Option<PathBuf>,
    /// The most slots in its write cache.
    pub hold_max: usize,
    /// The most descriptors.
    pub files: usize,
}

/// The main function of a worker's thread. Returns once the store is gone.
pub(super) fn run(config: WorkerConfig, jobs: Receiver<Vec<WorkerJob>>, stats: Arc<SharedWorkerStats>) {
    let mut worker = Worker {
        open_files: OpenFiles::new(config.files, config.state_dir.is_some()),
        cache: WriteCache::new(config.hold_max),
        torrents: BTreeMap::new(),
        resume_states: BTreeMap::new(),
        rechecks: VecDeque::new(),
        freed: Vec::new(),
        config,
        stats,
    };
    loop {
        // Between two batches one piece of a recheck is hashed; without a recheck the worker sleeps.
        let batch = if worker.rechecks.is_empty() {
            match jobs.recv() {
                Ok(batch) => batch,
                Err(_) => return,
            }
        } else {
            match jobs.try_recv() {
                Ok(batch) => batch,
                Err(TryRecvError::Empty) => {
                    worker.recheck_one_piece();
                    worker.publish_stamps(limits::STAMPS_BATCH);
                    worker.charge_cpu(CostClass::Other);
                    continue;
                }
                Err(TryRecvError::Disconnected) => return,
            }
        };
        for job in batch {
            let class = job.cost_class();
            // Plain jobs are charged together with what follows them: reading the clock for each block would
            // cost too much.
            if class != CostClass::Plain {
                worker.charge_cpu(CostClass::Plain);
            }
            worker.run_job(job);
            if class != CostClass::Plain {
                worker.charge_cpu(class);
            }
        }
        worker.return_slots();
        worker.publish_stamps(limits::STAMPS_BATCH);
        worker.charge_cpu(CostClass::Plain);
    }
}

/// CPU time of the calling thread, µs.
fn thread_cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

struct Worker {
    config: WorkerConfig,
    stats: Arc<SharedWorkerStats>,
    open_files: OpenFiles,
    cache: WriteCache,
    torrents: BTreeMap<TorrentKey, Arc<TorrentFiles>>,
    /// The torrents that this worker is the home of.
    resume_states: BTreeMap<TorrentKey, ResumeState>,
    /// Torrents that are being opened.
    rechecks: VecDeque<(TorrentKey, Recheck)>,
    /// Slots to be returned to the loop.
    freed: Vec<Slot>,
}

impl Worker {
    /// Sends a reply and wakes the loop.
    fn reply(&self, reply: WorkerReply) {
        if self.config.replies.send(reply).is_ok() {
            self.config.waker.wake();
        }
    }

    /// Returns slots without waking the loop, unless it has none left.
    fn return_slots(&mut self) {
        if self.freed.is_empty() {
            return;
        }
        let slots = std::mem::take(&mut self.freed);
        if self.config.replies.send(WorkerReply::FreedSlots(slots)).is_ok() {
            self.config.waker.wake_for_slots();
        }
    }

    /// Charges the CPU time since the last call.
    fn charge_cpu(&self, class: CostClass) {
        self.stats.charge(class, thread_cpu_us());
    }

    /// Runs a job; a panic becomes a fault.
    fn run_job(&mut self, job: WorkerJob) {
        let pending = job.pending_reply();
        if catch_unwind(AssertUnwindSafe(|| self.handle_job(job))).is_ok() {
            return;
        }
        self.stats.update(|stats| stats.panics += 1);
        let Some((torrent, pending)) = pending else { return };
        let path = self.torrents.get(&torrent).map_or_else(PathBuf::new, |t| t.dir.full_path("".as_ref()));
        let fault = DiskFault::without_errno(FaultKind::Internal, &path);
        self.cache.fail_torrent(&mut self.freed, torrent, &fault);
        self.reply(pending.failed(torrent, fault.clone()));
        self.reply(WorkerReply::Fault(torrent, fault));
    }

    fn handle_job(&mut self, job: WorkerJob) {
        match job {
            WorkerJob::Open(key, open) => self.open(key, *open),
            WorkerJob::Attach(torrent) => {
                self.torrents.insert(torrent.key, torrent);
            }
            WorkerJob::Block(key, block) => self.on_block(key, block),
            WorkerJob::Map(key, piece) => self.map(key, piece),
            WorkerJob::Unmap(windows, key, piece) => self.unmap(key, piece, windows),
            WorkerJob::FindFault(windows, key, piece) => self.find_fault(key, piece, windows),
            WorkerJob::Hash { torrent, piece, want_blocks, windows } => {
                self.hash(torrent, piece, want_blocks, windows);
            }
            WorkerJob::Load { torrent, span, send } => self.load(torrent, span, send),
            WorkerJob::Flush => self.flush(),
            WorkerJob::Sync(key) => self.sync(key),
            WorkerJob::AddStamps(key, stamps) => self.add_stamps(key, stamps),
            WorkerJob::SetWanted(key, wanted) => {
                if let Some(state) = self.resume_states.get_mut(&key) {
                    if let Err(fault) = state.set_wanted(wanted, &mut self.open_files) {
                        self.reply(WorkerReply::Fault(key, fault));
                    }
                }
            }
            WorkerJob::SaveRecord { torrent, checkpoint, closing } => {
                self.save_record(torrent, &checkpoint, closing);
            }
            WorkerJob::Detach(key) => self.detach(key),
            WorkerJob::WriteStateFile(name, bytes) => self.write_state_file(&name, &bytes),
            WorkerJob::QueryFreeSpace(key, path) => {
                self.reply(WorkerReply::FreeSpace(key, free_bytes(&path)));
            }
            #[cfg(test)]
            WorkerJob::Panic(_) => panic!("a bug, for a test"),
        }
    }

    // -- opening
    // ---------------------------------------------------------------------------------------------------

    fn open(&mut self, key: TorrentKey, open: OpenTorrent) {
        match Recheck::begin(key, open, self.config.state_dir.as_deref(), &mut self.open_files) {
            Ok(recheck) => self.rechecks.push_back((key, recheck)),
            Err(fault) => {
                self.open_files.forget(key);
                self.reply(WorkerReply::Opened(key, Err(fault)));
            }
        }
    }

    fn recheck_one_piece(&mut self) {
        let Some((key, recheck)) = self.rechecks.pop_front() else { return };
        let step =
            catch_unwind(AssertUnwindSafe(|| recheck.step(&mut self.open_files))).unwrap_or_else(|_| {
                self.stats.update(|stats| stats.panics += 1);
                Err(DiskFault::without_errno(FaultKind::Internal, "content being checked".as_ref()))
            });
        match step {
            Ok(RecheckStep::Unfinished { recheck, progress }) => {
                if let Some((checked, pieces)) = progress {
                    self.reply(WorkerReply::Checking(key, checked, pieces));
                }
                self.rechecks.push_back((key, *recheck));
            }
            Ok(RecheckStep::Finished { state, have, notes, space }) => {
                let files = state.torrent.clone();
                let history = state.record.as_ref().map(RecordFile::history).unwrap_or_default();
                self.torrents.insert(key, files.clone());
                self.resume_states.insert(key, *state);
                let found = OpenedTorrent { have, history, notes, space };
                self.reply(WorkerReply::Opened(key, Ok(OpenedContent { files, found })));
            }
            Err(fault) => {
                self.open_files.forget(key);
                self.reply(WorkerReply::Opened(key, Err(fault)));
            }
        }
    }

    // -- receiving
    // -------------------------------------------------------------------------------------------------

    /// Calls `f` with the write cache and its surroundings; `None` if the torrent is closed.
    fn with_cache<T>(
        &mut self,
        key: TorrentKey,
        f: impl FnOnce(&mut WriteCache, &mut PieceContext<'_>) -> T,
    ) -> Option<T> {
        let torrent = self.torrents.get(&key)?;
        let (open_files, freed, stats) = (&mut self.open_files, &mut self.freed, &*self.stats);
        let mut cx = PieceContext { torrent, open_files, freed, stats };
        Some(f(&mut self.cache, &mut cx))
    }

    fn on_block(&mut self, key: TorrentKey, block: ReceivedBlock) {
        if !self.torrents.contains_key(&key) {
            self.freed.push(block.slot);
            return;
        }
        if let Some(Err(fault)) = self.with_cache(key, |cache, cx| cache.insert(cx, block)) {
            self.reply(WorkerReply::Fault(key, fault));
        }
    }

    fn flush(&mut self) {
        let keys: Vec<_> = self.torrents.keys().copied().collect();
        for key in keys {
            while let Some(Err(fault)) = self.with_cache(key, |cache, cx| cache.flush(cx)) {
                self.reply(WorkerReply::Fault(key, fault));
            }
        }
        self.return_slots();
    }

    fn hash(&mut self, key: TorrentKey, piece: PieceIndex, want_blocks: bool, windows: Vec<Window>) {
        let result = self.with_cache(key, |cache, cx| cache.finish_piece(cx, piece, want_blocks));
        if let Some(torrent) = self.torrents.get(&key).filter(|_| !windows.is_empty()) {
            let bytes = u64::from(torrent.geometry.piece_len(piece));
            self.stats.update(|stats| stats.mapped_bytes += bytes);
        }
        self.unmap(key, piece, windows);
        // The verdict wakes the loop, which can use the slots at once: they go first.
        self.return_slots();
        if let Some(result) = result {
            self.reply(WorkerReply::Hashed(key, piece, result));
        }
    }

    // -- the mapped way
    // --------------------------------------------------------------------------------------------

    fn map(&mut self, key: TorrentKey, piece: PieceIndex) {
        let Some(torrent) = self.torrents.get(&key) else { return };
        let result = mapped::map_piece(&mut self.open_files, torrent, piece);
        self.reply(WorkerReply::Mapped(key, piece, result));
    }

    fn unmap(&mut self, key: TorrentKey, piece: PieceIndex, windows: Vec<Window>) {
        mapped::unmap(&mut self.open_files, self.torrents.get(&key), piece, windows);
    }

    fn find_fault(&mut self, key: TorrentKey, piece: PieceIndex, windows: Vec<Window>) {
        self.unmap(key, piece, windows);
        let Some(torrent) = self.torrents.get(&key) else { return };
        if let Err(fault) = mapped::find_fault(&mut self.open_files, torrent, piece) {
            // Bytes that came through the window may be lost: no peer is to blame for the piece.
            self.with_cache(key, |cache, cx| cache.fail_piece(cx, piece, &fault));
            self.reply(WorkerReply::Fault(key, fault));
        }
    }

    // -- serving
    // ---------------------------------------------------------------------------------------------------

    /// Reads a span into the page cache; with `send`, sends its bytes, too.
    fn load(&mut self, key: TorrentKey, span: BlockSpan, send: bool) {
        let Some(torrent) = self.torrents.get(&key).cloned() else { return };
        let mut bytes = vec![0; span.len() as usize].into_boxed_slice();
        let mut files = Vec::new();
        let mut result = self.open_files.read(&torrent, torrent.geometry.offset(span), &mut bytes);
        for part in torrent.file_spans(span).filter(|part| !part.pad) {
            match self.open_files.get(&torrent, part.file, false) {
                Ok(fd) => files.push((part.file, fd.clone())),
                Err(fault) => result = Err(fault),
            }
        }
        let result = result.map(|()| send.then_some(bytes));
        self.reply(WorkerReply::Loaded { torrent: key, span, result, files });
    }

    // -- records
    // ---------------------------------------------------------------------------------------------------

    fn sync(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get(&key).cloned() else {
            self.reply(WorkerReply::Synced(key, Ok(())));
            return;
        };
        let result = self.open_files.sync(&torrent);
        // The stamps of synced files may be in a record even if the sync of others failed.
        self.publish_stamps(1);
        self.reply(WorkerReply::Synced(key, result));
    }

    /// Passes stamps on to the home of their torrent, of each torrent that has at least so many.
    fn publish_stamps(&mut self, at_least: usize) {
        for (key, stamps) in self.open_files.take_stamps(at_least) {
            if self.resume_states.contains_key(&key) {
                self.add_stamps(key, stamps);
            } else {
                self.reply(WorkerReply::Stamps(key, stamps));
            }
        }
    }

    fn add_stamps(&mut self, key: TorrentKey, stamps: Vec<SeenFile>) {
        if let Some(state) = self.resume_states.get_mut(&key) {
            stamps.into_iter().for_each(|seen| state.stamps.add(seen));
        }
    }

    /// All workers have synced: only now the record may claim the pieces.
    fn save_record(&mut self, key: TorrentKey, checkpoint: &Checkpoint, closing: bool) {
        let have = &checkpoint.have;
        let mut result = Ok(());
        if let Some(state) = self.resume_states.get_mut(&key) {
            let mut renamed = Ok(());
            if !state.torrent.read_only {
                result = state.cut_long_files(have);
                renamed = state.rename_complete(have);
            }
            if let Some(record) = state.record.as_mut().filter(|_| result.is_ok()) {
                let running = !closing && !state.torrent.read_only && !have.is_full();
                result = record.save(&state.torrent, checkpoint, &state.stamps, running);
            }
            if result.is_ok() && !state.torrent.read_only {
                let all_named = renamed.is_ok();
                result = renamed.and_then(|()| state.check_wanted_files(have));
                if all_named && state.is_complete(have) {
                    state.lock.share();
                }
            }
        }
        self.reply(WorkerReply::RecordSaved(key, result));
    }

    fn write_state_file(&self, name: &str, bytes: &[u8]) {
        let Some(dir) = &self.config.state_dir else { return };
        if let Err(fault) = super::atomic_file::write_state_file(dir, name, bytes) {
            log::warn!("cannot save {} in the state directory: {fault}", name);
        }
    }

    fn detach(&mut self, key: TorrentKey) {
        self.rechecks.retain(|(k, _)| *k != key);
        self.cache.drop_torrent(&mut self.freed, key);
        self.open_files.forget(key);
        if let Some(state) = self.resume_states.remove(&key) {
            state.lock.remove_empty(&state.torrent);
        }
        self.torrents.remove(&key);
        self.reply(WorkerReply::Detached(key));
    }
}
