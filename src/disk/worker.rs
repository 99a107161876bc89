//! One disk worker: takes jobs in batches, in order, and answers. Every wait for a disk happens here.
//!
//! A worker owns the pieces whose index falls to it, its own descriptors, and the torrents it opened (their records). It
//! decides nothing about the swarm. A panic costs the job, never the thread: the torrent concerned hears of a fault.

use super::api::{OpenTorrent, Verdict};
use super::dir::free_bytes;
use super::fault::{DiskFault, FaultKind, Operation};
use super::files::{OpenFiles, TorrentFiles, check_not_truncated};
use super::job::{LoopWaker, ReceivedBlock, WorkerJob, WorkerReply, WorkerStats};
use super::layout::FileSpan;
use super::limits;
use super::recheck::{OpenedContent, Recheck, RecheckStep, ResumeState};
use super::resume::SeenFile;
use super::window::{Slot, Window};
use super::write_cache::{PieceContext, WriteCache};
use crate::units::{Bitfield, BlockSpan, PieceIndex, TorrentKey};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

/// What a worker is made of.
pub(super) struct WorkerConfig {
    pub jobs: Receiver<Vec<WorkerJob>>,
    pub replies: Sender<WorkerReply>,
    pub waker: Arc<LoopWaker>,
    pub stats: Arc<WorkerStats>,
    pub state_dir: Option<PathBuf>,
    pub hold_max: usize,
    pub files: usize,
}

/// The worker's life: ends when the store is gone.
pub(super) fn run(setup: WorkerConfig) {
    let mut w = Worker {
        files: OpenFiles::new(setup.files, setup.state_dir.is_some()),
        cache: WriteCache::new(setup.hold_max),
        torrents: BTreeMap::new(),
        resume_states: BTreeMap::new(),
        rechecks: VecDeque::new(),
        freed: Vec::new(),
        setup,
    };
    loop {
        let batch = if w.rechecks.is_empty() {
            match w.setup.jobs.recv() {
                Ok(b) => b,
                Err(_) => return,
            }
        } else {
            match w.setup.jobs.try_recv() {
                Ok(b) => b,
                Err(TryRecvError::Empty) => {
                    w.recheck_one_piece();
                    w.publish_stamps(limits::SEEN_BATCH);
                    w.charge_cpu(CostClass::Aside);
                    continue;
                }
                Err(TryRecvError::Disconnected) => return,
            }
        };
        for job in batch {
            let account = CostClass::of(&job);
            if account != CostClass::Plain {
                w.charge_cpu(CostClass::Plain);
            }
            w.run_job(job);
            if account != CostClass::Plain {
                w.charge_cpu(account);
            }
        }
        w.return_slots();
        w.publish_stamps(limits::SEEN_BATCH);
        w.charge_cpu(CostClass::Plain);
    }
}

/// CPU time of the calling thread, µs.
pub(super) fn thread_cpu_us() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}

struct Worker {
    setup: WorkerConfig,
    files: OpenFiles,
    cache: WriteCache,
    torrents: BTreeMap<TorrentKey, Arc<TorrentFiles>>,
    /// The torrents whose record is this worker's business.
    resume_states: BTreeMap<TorrentKey, ResumeState>,
    rechecks: VecDeque<(TorrentKey, Recheck)>,
    /// Slots on their way back to the loop.
    freed: Vec<Slot>,
}

impl Worker {
    /// An answer that the loop waits for.
    fn reply(&self, reply: WorkerReply) {
        if self.setup.replies.send(reply).is_ok() {
            self.setup.waker.wake();
        }
    }

    /// Slots go back without a wake-up, unless the loop has none left.
    fn return_slots(&mut self) {
        if self.freed.is_empty() {
            return;
        }
        let slots = std::mem::take(&mut self.freed);
        if self.setup.replies.send(WorkerReply::FreedSlots(slots)).is_ok() && self.setup.waker.wake_on_slots.swap(false, SeqCst) {
            self.setup.waker.wake();
        }
    }

    /// Books the CPU time since the last call. Only jobs that are not the usual ones cost a look at the clock.
    fn charge_cpu(&mut self, account: CostClass) {
        let now = thread_cpu_us();
        let spent = now.saturating_sub(self.setup.stats.cpu_us.swap(now, Relaxed));
        match account {
            CostClass::Plain => 0,
            CostClass::Mapped => self.setup.stats.mapped_us.fetch_add(spent, Relaxed),
            CostClass::Aside => self.setup.stats.aside_us.fetch_add(spent, Relaxed),
        };
    }

    fn run_job(&mut self, job: WorkerJob) {
        let pending = PendingReply::of(&job);
        if catch_unwind(AssertUnwindSafe(|| self.handle_job(job))).is_ok() {
            return;
        }
        self.setup.stats.panics.fetch_add(1, Relaxed);
        let Some((torrent, answer)) = pending else { return };
        let path = self.torrents.get(&torrent).map_or_else(PathBuf::new, |c| c.tree.full("".as_ref()));
        let fault = DiskFault::plain(FaultKind::Internal, &path);
        self.cache.fail_torrent(&mut self.freed, torrent, &fault);
        let answer = match answer {
            PendingReply::Opened => WorkerReply::Opened(torrent, Err(fault.clone())),
            PendingReply::Mapped(piece) => WorkerReply::Mapped(torrent, piece, Err(fault.clone())),
            PendingReply::Verdict(piece) => WorkerReply::Hashed(torrent, piece, Verdict::Fault(fault.clone())),
            PendingReply::Loaded(span) => WorkerReply::Loaded { torrent, span, result: Err(fault.clone()), files: Vec::new() },
            PendingReply::Synced => WorkerReply::Synced(torrent, Err(fault.clone())),
            PendingReply::Recorded(have) => WorkerReply::RecordSaved(torrent, have, Err(fault.clone())),
            PendingReply::Detached => WorkerReply::Detached(torrent),
            PendingReply::Nothing => WorkerReply::Fault(torrent, fault.clone()),
        };
        self.reply(answer);
        self.reply(WorkerReply::Fault(torrent, fault));
    }

    fn handle_job(&mut self, job: WorkerJob) {
        match job {
            WorkerJob::Open(key, open) => self.open(key, *open),
            WorkerJob::Attach(content) => drop(self.torrents.insert(content.key, content)),
            WorkerJob::Block(key, landed) => self.on_block(key, landed),
            WorkerJob::Map(key, piece) => self.map(key, piece),
            WorkerJob::Unmap(windows, key, piece) => self.unmap(windows, key, piece),
            WorkerJob::FindFault(windows, key, piece) => self.find_fault(windows, key, piece),
            WorkerJob::Hash { torrent, piece, want_blocks, windows } => self.hash(torrent, piece, want_blocks, windows),
            WorkerJob::Load(key, span, send) => self.load(key, span, send),
            WorkerJob::Flush => self.flush(),
            WorkerJob::Sync(key) => self.sync(key),
            WorkerJob::AddStamps(key, seen) => self.add_stamps(key, seen),
            WorkerJob::SaveRecord { torrent, have, last } => self.save_record(torrent, have, last),
            WorkerJob::Detach(key) => self.detach(key),
            WorkerJob::WriteStateFile(name, bytes) => self.write_state_file(&name, &bytes),
            WorkerJob::QueryFreeSpace(key, path) => self.reply(WorkerReply::FreeSpace(key, free_bytes(&path))),
            #[cfg(test)]
            WorkerJob::Panic(_) => panic!("a bug, for a test"),
        }
    }

    // -- opening ---------------------------------------------------------------------------------------------------

    fn open(&mut self, key: TorrentKey, open: OpenTorrent) {
        match Recheck::begin(key, open, self.setup.state_dir.as_deref()) {
            Ok(o) => self.rechecks.push_back((key, o)),
            Err(f) => self.reply(WorkerReply::Opened(key, Err(f))),
        }
    }

    fn recheck_one_piece(&mut self) {
        let Some((key, rechecks)) = self.rechecks.pop_front() else { return };
        let step = catch_unwind(AssertUnwindSafe(|| rechecks.step(&mut self.files))).unwrap_or_else(|_| {
            self.setup.stats.panics.fetch_add(1, Relaxed);
            Err(DiskFault::plain(FaultKind::Internal, "content being checked".as_ref()))
        });
        match step {
            Ok((Some(o), step)) => {
                if let RecheckStep::Progress(done, of) = step {
                    self.reply(WorkerReply::Checking(key, done, of));
                }
                self.rechecks.push_back((key, o));
            }
            Ok((None, RecheckStep::Finished(done))) => {
                let (resume_states, have, notes) = *done;
                let content = resume_states.content.clone();
                self.torrents.insert(key, content.clone());
                self.resume_states.insert(key, resume_states);
                self.reply(WorkerReply::Opened(key, Ok(OpenedContent { content, have, notes })));
            }
            Ok((None, _)) => {}
            Err(f) => {
                self.files.forget(key);
                self.reply(WorkerReply::Opened(key, Err(f)));
            }
        }
    }

    // -- receiving -------------------------------------------------------------------------------------------------

    /// The torrent's content and everything that the steps of a piece need; `None` if the torrent is gone.
    fn with_cache<T>(&mut self, key: TorrentKey, f: impl FnOnce(&mut WriteCache, &mut PieceContext<'_>) -> T) -> Option<T> {
        let content = self.torrents.get(&key)?;
        let mut cx = PieceContext { content, files: &mut self.files, free: &mut self.freed, stats: &self.setup.stats };
        Some(f(&mut self.cache, &mut cx))
    }

    fn on_block(&mut self, key: TorrentKey, landed: ReceivedBlock) {
        if !self.torrents.contains_key(&key) {
            self.freed.push(landed.slot);
            return;
        }
        if let Some(Err(f)) = self.with_cache(key, |p, cx| p.insert(cx, landed)) {
            self.reply(WorkerReply::Fault(key, f));
        }
    }

    fn flush(&mut self) {
        let keys: Vec<_> = self.torrents.keys().copied().collect();
        for key in keys {
            while let Some(Err(f)) = self.with_cache(key, |p, cx| p.flush(cx)) {
                self.reply(WorkerReply::Fault(key, f));
            }
        }
        self.return_slots();
    }

    fn hash(&mut self, key: TorrentKey, piece: PieceIndex, want_blocks: bool, windows: Vec<Window>) {
        let verdict = self.with_cache(key, |p, cx| p.finish_piece(cx, piece, want_blocks));
        if let Some(c) = self.torrents.get(&key).filter(|_| !windows.is_empty()) {
            self.setup.stats.mapped_bytes.fetch_add(u64::from(c.geometry.piece_len(piece)), Relaxed);
        }
        self.unmap(windows, key, piece);
        // The verdict wakes the loop: what it can use at once travels ahead.
        self.return_slots();
        if let Some(v) = verdict {
            self.reply(WorkerReply::Hashed(key, piece, v));
        }
    }

    // -- windows ---------------------------------------------------------------------------------------------------

    fn map(&mut self, key: TorrentKey, piece: PieceIndex) {
        let Some(c) = self.torrents.get(&key).cloned() else { return };
        let result = self.windows(&c, piece);
        self.reply(WorkerReply::Mapped(key, piece, result));
    }

    /// Maps what is worth mapping of a piece; a system that will not map gives no windows, and the piece goes plain.
    fn windows(&mut self, c: &Arc<TorrentFiles>, piece: PieceIndex) -> Result<Vec<Window>, DiskFault> {
        let (mut windows, mut begin) = (Vec::new(), 0u32);
        for s in c.segments(c.geometry.whole(piece)) {
            let (at, end) = (begin, begin + s.len as u32);
            begin = end;
            if s.pad || s.len < limits::WINDOW_MIN {
                continue;
            }
            let fd = self.files.get(c, s.file, true)?.clone();
            self.files.mark_dirty(c.key, s.file);
            reserve(c, &fd, s)?;
            // Beyond the file's end a map is a trap: the kernel would take the bytes of the last page and drop the rest.
            check_not_truncated(c, s.file, &fd)?;
            let mut done = 0;
            while done < s.len {
                let len = (s.len - done).min(limits::WINDOW_MAX);
                let Ok(w) = Window::map(fd.as_fd(), s.at + done, len as u32, at + done as u32) else { return Ok(Vec::new()) };
                if let Err(e) = w.populate() {
                    // EFAULT is a disk that cannot give the page: go plain, and let the write say why.
                    log::debug!("populating a window of {}: {e}", c.full_path(s.file).display());
                    return Ok(Vec::new());
                }
                windows.push(w);
                done += len;
            }
        }
        Ok(windows)
    }

    /// Lets windows go. What came through them may have come after the last checkpoint synced their files.
    fn unmap(&mut self, windows: Vec<Window>, key: TorrentKey, piece: PieceIndex) {
        if let Some(c) = self.torrents.get(&key).filter(|_| !windows.is_empty()) {
            self.files.mark_unsynced(c, piece);
        }
    }

    fn find_fault(&mut self, windows: Vec<Window>, key: TorrentKey, piece: PieceIndex) {
        self.unmap(windows, key, piece);
        // Ask for the whole range: the true reason comes back as an errno. If there is none, plain writes go on.
        let Some(c) = self.torrents.get(&key).cloned() else { return };
        for s in c.segments(c.geometry.whole(piece)).filter(|s| !s.pad) {
            if let Err(f) = self.find_fault_in(&c, s) {
                // What came through the window may be lost: no peer is to be blamed for the piece.
                self.cache.fail_piece(&mut self.freed, (key, piece), &f);
                self.reply(WorkerReply::Fault(key, f));
                return;
            }
        }
    }

    fn find_fault_in(&mut self, c: &Arc<TorrentFiles>, s: FileSpan) -> Result<(), DiskFault> {
        let fd = self.files.get(c, s.file, true)?.clone();
        check_not_truncated(c, s.file, &fd)?; // it was when it was mapped
        reserve(c, &fd, s)
    }

    // -- serving ---------------------------------------------------------------------------------------------------

    /// Brings a span into the page cache, or (`send`) to the loop.
    fn load(&mut self, key: TorrentKey, span: BlockSpan, send: bool) {
        let Some(c) = self.torrents.get(&key).cloned() else { return };
        let mut bytes = vec![0; span.len() as usize].into_boxed_slice();
        let mut files = Vec::new();
        let mut result = self.files.read(&c, c.geometry.offset(span), &mut bytes);
        for s in c.segments(span).filter(|s| !s.pad) {
            match self.files.get(&c, s.file, false) {
                Ok(fd) => files.push((s.file, fd.clone())),
                Err(f) => result = Err(f),
            }
        }
        let result = result.map(|()| send.then_some(bytes));
        self.reply(WorkerReply::Loaded { torrent: key, span, result, files });
    }

    // -- remembering -----------------------------------------------------------------------------------------------

    fn sync(&mut self, key: TorrentKey) {
        let Some(c) = self.torrents.get(&key).cloned() else {
            self.reply(WorkerReply::Synced(key, Ok(())));
            return;
        };
        let result = self.files.sync(&c);
        // Stamps of files that are safe by now may stand in a record whether or not the rest becomes safe.
        self.publish_stamps(1);
        self.reply(WorkerReply::Synced(key, result));
    }

    /// What files were like goes to where their torrent's record is, once there is so much of it.
    fn publish_stamps(&mut self, at_least: usize) {
        for (key, seen) in self.files.take_stamps(at_least) {
            match self.resume_states.contains_key(&key) {
                true => self.add_stamps(key, seen),
                false => self.reply(WorkerReply::Stamps(key, seen)),
            }
        }
    }

    fn add_stamps(&mut self, key: TorrentKey, seen: Vec<SeenFile>) {
        if let Some(resume_states) = self.resume_states.get_mut(&key) {
            seen.into_iter().for_each(|seen| resume_states.stamps.add_stamps(seen));
        }
    }

    /// All workers have synced: now, and only now, the pieces are claimed.
    fn save_record(&mut self, key: TorrentKey, have: Bitfield, last: bool) {
        let mut result = Ok(());
        if let Some(resume_states) = self.resume_states.get_mut(&key) {
            if let Some(r) = resume_states.resume.as_mut() {
                let running = !last && !resume_states.content.read_only && !have.is_full();
                result = r.save(&resume_states.content, &have, &resume_states.stamps, running);
            }
            if result.is_ok() && !resume_states.content.read_only {
                result = resume_states.check_wanted_files(&have);
            }
        }
        self.reply(WorkerReply::RecordSaved(key, have, result));
    }

    fn write_state_file(&self, name: &str, bytes: &[u8]) {
        let Some(dir) = &self.setup.state_dir else { return };
        if let Err(fault) = super::atomic_file::write_state_file(dir, name, bytes) {
            log::warn!("not kept for next time: {fault}");
        }
    }

    fn detach(&mut self, key: TorrentKey) {
        self.rechecks.retain(|(k, _)| *k != key);
        self.cache.drop_torrent(&mut self.freed, key);
        self.files.forget(key);
        self.resume_states.remove(&key);
        self.torrents.remove(&key);
        self.reply(WorkerReply::Detached(key));
    }
}

/// Reserves a segment's blocks, so that a full disk is an errno now; a file system without reservation is no fault.
fn reserve(c: &TorrentFiles, fd: &impl AsFd, s: FileSpan) -> Result<(), DiskFault> {
    if !c.fs.sparse() {
        return Ok(());
    }
    match rustix::fs::fallocate(fd, FallocateFlags::empty(), s.at, s.len) {
        Ok(()) | Err(Errno::NOTSUP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => Ok(()),
        Err(e) => Err(c.fault(Operation::Write, s.file, e)),
    }
}

/// What a worker's time is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CostClass {
    Plain,
    Mapped,
    Aside,
}

impl CostClass {
    fn of(job: &WorkerJob) -> CostClass {
        match job {
            WorkerJob::Map(..) | WorkerJob::Unmap(..) => CostClass::Mapped,
            WorkerJob::Hash { windows, .. } if !windows.is_empty() => CostClass::Mapped,
            WorkerJob::Block(..) | WorkerJob::Hash { .. } | WorkerJob::Flush => CostClass::Plain,
            _ => CostClass::Aside,
        }
    }
}

/// The answer that somebody waits for, kept aside in case the job fails in an unforeseen way.
enum PendingReply {
    Opened,
    Mapped(PieceIndex),
    Verdict(PieceIndex),
    Loaded(BlockSpan),
    Synced,
    Recorded(Bitfield),
    Detached,
    Nothing,
}

impl PendingReply {
    fn of(job: &WorkerJob) -> Option<(TorrentKey, PendingReply)> {
        match job {
            WorkerJob::Open(key, _) => Some((*key, PendingReply::Opened)),
            WorkerJob::Detach(key) => Some((*key, PendingReply::Detached)),
            WorkerJob::Block(key, _) | WorkerJob::FindFault(_, key, _) => Some((*key, PendingReply::Nothing)),
            #[cfg(test)]
            WorkerJob::Panic(key) => Some((*key, PendingReply::Nothing)),
            WorkerJob::Map(key, piece) => Some((*key, PendingReply::Mapped(*piece))),
            WorkerJob::Hash { torrent, piece, .. } => Some((*torrent, PendingReply::Verdict(*piece))),
            WorkerJob::Load(key, span, _) => Some((*key, PendingReply::Loaded(*span))),
            WorkerJob::Sync(key) => Some((*key, PendingReply::Synced)),
            WorkerJob::SaveRecord { torrent, have, .. } => Some((*torrent, PendingReply::Recorded(have.clone()))),
            WorkerJob::Attach(_)
            | WorkerJob::Unmap(..)
            | WorkerJob::AddStamps(..)
            | WorkerJob::Flush
            | WorkerJob::WriteStateFile(..)
            | WorkerJob::QueryFreeSpace(..) => None,
        }
    }
}
