//! One disk worker: takes jobs in batches, in order, and answers. Every wait for a disk happens here.
//!
//! A worker owns the pieces whose index falls to it, its own descriptors, and the torrents it opened (their records). It
//! decides nothing about the swarm. A panic costs the job, never the thread: the torrent concerned hears of a fault.

use super::check::{Checked, Kept, Opening, Step};
use super::contract::{OpenTorrent, Verdict};
use super::fault::{DiskFault, Doing, FaultKind};
use super::files::{Content, OpenFiles, still_whole};
use super::job::{Bell, Job, Landed, Meter, Reply};
use super::layout::Segment;
use super::limits;
use super::piece::{Cx, Pieces};
use super::resume::Seen;
use super::tree::free_bytes;
use super::window::{Slot, Window};
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
pub(super) struct Setup {
    pub jobs: Receiver<Vec<Job>>,
    pub replies: Sender<Reply>,
    pub bell: Arc<Bell>,
    pub meter: Arc<Meter>,
    pub state_dir: Option<PathBuf>,
    pub hold_max: usize,
    pub files: usize,
}

/// The worker's life: ends when the store is gone.
pub(super) fn run(setup: Setup) {
    let mut w = Worker {
        files: OpenFiles::new(setup.files, setup.state_dir.is_some()),
        pieces: Pieces::new(setup.hold_max),
        contents: BTreeMap::new(),
        kept: BTreeMap::new(),
        opening: VecDeque::new(),
        free: Vec::new(),
        setup,
    };
    loop {
        let batch = if w.opening.is_empty() {
            match w.setup.jobs.recv() {
                Ok(b) => b,
                Err(_) => return,
            }
        } else {
            match w.setup.jobs.try_recv() {
                Ok(b) => b,
                Err(TryRecvError::Empty) => {
                    w.check_a_piece();
                    w.tell_seen(limits::SEEN_BATCH);
                    w.account(Account::Aside);
                    continue;
                }
                Err(TryRecvError::Disconnected) => return,
            }
        };
        for job in batch {
            let account = Account::of(&job);
            if account != Account::Plain {
                w.account(Account::Plain);
            }
            w.guarded(job);
            if account != Account::Plain {
                w.account(account);
            }
        }
        w.give_back();
        w.tell_seen(limits::SEEN_BATCH);
        w.account(Account::Plain);
    }
}

/// CPU time of the calling thread, µs.
pub(super) fn thread_cpu_us() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}

struct Worker {
    setup: Setup,
    files: OpenFiles,
    pieces: Pieces,
    contents: BTreeMap<TorrentKey, Arc<Content>>,
    /// The torrents whose record is this worker's business.
    kept: BTreeMap<TorrentKey, Kept>,
    opening: VecDeque<(TorrentKey, Opening)>,
    /// Slots on their way back to the loop.
    free: Vec<Slot>,
}

impl Worker {
    /// An answer that the loop waits for.
    fn say(&self, reply: Reply) {
        if self.setup.replies.send(reply).is_ok() {
            self.setup.bell.ring();
        }
    }

    /// Slots go back without a wake-up, unless the loop has none left.
    fn give_back(&mut self) {
        if self.free.is_empty() {
            return;
        }
        let slots = std::mem::take(&mut self.free);
        if self.setup.replies.send(Reply::Slots(slots)).is_ok() && self.setup.bell.starved.swap(false, SeqCst) {
            self.setup.bell.ring();
        }
    }

    /// Books the CPU time since the last call. Only jobs that are not the usual ones cost a look at the clock.
    fn account(&mut self, account: Account) {
        let now = thread_cpu_us();
        let spent = now.saturating_sub(self.setup.meter.cpu_us.swap(now, Relaxed));
        match account {
            Account::Plain => 0,
            Account::Mapped => self.setup.meter.mapped_us.fetch_add(spent, Relaxed),
            Account::Aside => self.setup.meter.aside_us.fetch_add(spent, Relaxed),
        };
    }

    fn guarded(&mut self, job: Job) {
        let owed = Owed::of(&job);
        if catch_unwind(AssertUnwindSafe(|| self.job(job))).is_ok() {
            return;
        }
        self.setup.meter.panics.fetch_add(1, Relaxed);
        let Some((torrent, answer)) = owed else { return };
        let path = self.contents.get(&torrent).map_or_else(PathBuf::new, |c| c.tree.full("".as_ref()));
        let fault = DiskFault::plain(FaultKind::Internal, &path);
        self.pieces.lose_all(&mut self.free, torrent, &fault);
        let answer = match answer {
            Owed::Opened => Reply::Opened(torrent, Err(fault.clone())),
            Owed::Mapped(piece) => Reply::Mapped(torrent, piece, Err(fault.clone())),
            Owed::Verdict(piece) => Reply::Hashed(torrent, piece, Verdict::Fault(fault.clone())),
            Owed::Loaded(span) => Reply::Loaded { torrent, span, result: Err(fault.clone()), files: Vec::new() },
            Owed::Synced => Reply::Synced(torrent, Err(fault.clone())),
            Owed::Recorded(have) => Reply::Recorded(torrent, have, Err(fault.clone())),
            Owed::Detached => Reply::Detached(torrent),
            Owed::Nothing => Reply::Fault(torrent, fault.clone()),
        };
        self.say(answer);
        self.say(Reply::Fault(torrent, fault));
    }

    fn job(&mut self, job: Job) {
        match job {
            Job::Open(key, open) => self.open(key, *open),
            Job::Attach(content) => drop(self.contents.insert(content.key, content)),
            Job::Land(key, landed) => self.land(key, landed),
            Job::Map(key, piece) => self.map(key, piece),
            Job::Unmap(windows, key, piece) => self.unmap(windows, key, piece),
            Job::Probe(windows, key, piece) => self.probe(windows, key, piece),
            Job::Hash { torrent, piece, want_blocks, windows } => self.hash(torrent, piece, want_blocks, windows),
            Job::Load(key, span, send) => self.load(key, span, send),
            Job::WriteOut => self.write_out(),
            Job::Sync(key) => self.sync(key),
            Job::Learn(key, seen) => self.learn(key, seen),
            Job::Record { torrent, have, last } => self.record(torrent, have, last),
            Job::Detach(key) => self.detach(key),
            Job::Keep(name, bytes) => self.keep(&name, &bytes),
            Job::Measure(key, path) => self.say(Reply::Space(key, free_bytes(&path))),
            #[cfg(test)]
            Job::Panic(_) => panic!("a bug, for a test"),
        }
    }

    // -- opening ---------------------------------------------------------------------------------------------------

    fn open(&mut self, key: TorrentKey, open: OpenTorrent) {
        match Opening::begin(key, open, self.setup.state_dir.as_deref()) {
            Ok(o) => self.opening.push_back((key, o)),
            Err(f) => self.say(Reply::Opened(key, Err(f))),
        }
    }

    fn check_a_piece(&mut self) {
        let Some((key, opening)) = self.opening.pop_front() else { return };
        let step = catch_unwind(AssertUnwindSafe(|| opening.step(&mut self.files))).unwrap_or_else(|_| {
            self.setup.meter.panics.fetch_add(1, Relaxed);
            Err(DiskFault::plain(FaultKind::Internal, "content being checked".as_ref()))
        });
        match step {
            Ok((Some(o), step)) => {
                if let Step::Progress(done, of) = step {
                    self.say(Reply::Checking(key, done, of));
                }
                self.opening.push_back((key, o));
            }
            Ok((None, Step::Done(done))) => {
                let (kept, have, notes) = *done;
                let content = kept.content.clone();
                self.contents.insert(key, content.clone());
                self.kept.insert(key, kept);
                self.say(Reply::Opened(key, Ok(Checked { content, have, notes })));
            }
            Ok((None, _)) => {}
            Err(f) => {
                self.files.forget(key);
                self.say(Reply::Opened(key, Err(f)));
            }
        }
    }

    // -- receiving -------------------------------------------------------------------------------------------------

    /// The torrent's content and everything that the steps of a piece need; `None` if the torrent is gone.
    fn with_pieces<T>(&mut self, key: TorrentKey, f: impl FnOnce(&mut Pieces, &mut Cx<'_>) -> T) -> Option<T> {
        let content = self.contents.get(&key)?;
        let mut cx = Cx { content, files: &mut self.files, free: &mut self.free, meter: &self.setup.meter };
        Some(f(&mut self.pieces, &mut cx))
    }

    fn land(&mut self, key: TorrentKey, landed: Landed) {
        if !self.contents.contains_key(&key) {
            self.free.push(landed.slot);
            return;
        }
        if let Some(Err(f)) = self.with_pieces(key, |p, cx| p.land(cx, landed)) {
            self.say(Reply::Fault(key, f));
        }
    }

    fn write_out(&mut self) {
        let keys: Vec<_> = self.contents.keys().copied().collect();
        for key in keys {
            while let Some(Err(f)) = self.with_pieces(key, |p, cx| p.write_out(cx)) {
                self.say(Reply::Fault(key, f));
            }
        }
        self.give_back();
    }

    fn hash(&mut self, key: TorrentKey, piece: PieceIndex, want_blocks: bool, windows: Vec<Window>) {
        let verdict = self.with_pieces(key, |p, cx| p.verdict(cx, piece, want_blocks));
        if let Some(c) = self.contents.get(&key).filter(|_| !windows.is_empty()) {
            self.setup.meter.mapped_bytes.fetch_add(u64::from(c.geometry.piece_len(piece)), Relaxed);
        }
        self.unmap(windows, key, piece);
        // The verdict wakes the loop: what it can use at once travels ahead.
        self.give_back();
        if let Some(v) = verdict {
            self.say(Reply::Hashed(key, piece, v));
        }
    }

    // -- windows ---------------------------------------------------------------------------------------------------

    fn map(&mut self, key: TorrentKey, piece: PieceIndex) {
        let Some(c) = self.contents.get(&key).cloned() else { return };
        let result = self.windows(&c, piece);
        self.say(Reply::Mapped(key, piece, result));
    }

    /// Maps what is worth mapping of a piece; a system that will not map gives no windows, and the piece goes plain.
    fn windows(&mut self, c: &Arc<Content>, piece: PieceIndex) -> Result<Vec<Window>, DiskFault> {
        let (mut windows, mut begin) = (Vec::new(), 0u32);
        for s in c.segments(c.geometry.whole(piece)) {
            let (at, end) = (begin, begin + s.len as u32);
            begin = end;
            if s.pad || s.len < limits::WINDOW_MIN {
                continue;
            }
            let fd = self.files.get(c, s.file, true)?.clone();
            self.files.soiled(c.key, s.file);
            reserve(c, &fd, s)?;
            // Beyond the file's end a map is a trap: the kernel would take the bytes of the last page and drop the rest.
            still_whole(c, s.file, &fd)?;
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
        if let Some(c) = self.contents.get(&key).filter(|_| !windows.is_empty()) {
            self.files.owe_sync(c, piece);
        }
    }

    fn probe(&mut self, windows: Vec<Window>, key: TorrentKey, piece: PieceIndex) {
        self.unmap(windows, key, piece);
        // Ask for the whole range: the true reason comes back as an errno. If there is none, plain writes go on.
        let Some(c) = self.contents.get(&key).cloned() else { return };
        for s in c.segments(c.geometry.whole(piece)).filter(|s| !s.pad) {
            if let Err(f) = self.probe_segment(&c, s) {
                // What came through the window may be lost: no peer is to be blamed for the piece.
                self.pieces.lose_piece(&mut self.free, (key, piece), &f);
                self.say(Reply::Fault(key, f));
                return;
            }
        }
    }

    fn probe_segment(&mut self, c: &Arc<Content>, s: Segment) -> Result<(), DiskFault> {
        let fd = self.files.get(c, s.file, true)?.clone();
        still_whole(c, s.file, &fd)?; // it was when it was mapped
        reserve(c, &fd, s)
    }

    // -- serving ---------------------------------------------------------------------------------------------------

    /// Brings a span into the page cache, or (`send`) to the loop.
    fn load(&mut self, key: TorrentKey, span: BlockSpan, send: bool) {
        let Some(c) = self.contents.get(&key).cloned() else { return };
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
        self.say(Reply::Loaded { torrent: key, span, result, files });
    }

    // -- remembering -----------------------------------------------------------------------------------------------

    fn sync(&mut self, key: TorrentKey) {
        let Some(c) = self.contents.get(&key).cloned() else {
            self.say(Reply::Synced(key, Ok(())));
            return;
        };
        let result = self.files.sync(&c);
        // Stamps of files that are safe by now may stand in a record whether or not the rest becomes safe.
        self.tell_seen(1);
        self.say(Reply::Synced(key, result));
    }

    /// What files were like goes to where their torrent's record is, once there is so much of it.
    fn tell_seen(&mut self, at_least: usize) {
        for (key, seen) in self.files.take_seen(at_least) {
            match self.kept.contains_key(&key) {
                true => self.learn(key, seen),
                false => self.say(Reply::Seen(key, seen)),
            }
        }
    }

    fn learn(&mut self, key: TorrentKey, seen: Vec<Seen>) {
        if let Some(kept) = self.kept.get_mut(&key) {
            seen.into_iter().for_each(|seen| kept.stamps.learn(seen));
        }
    }

    /// All workers have synced: now, and only now, the pieces are claimed.
    fn record(&mut self, key: TorrentKey, have: Bitfield, last: bool) {
        let mut result = Ok(());
        if let Some(kept) = self.kept.get_mut(&key) {
            if let Some(r) = kept.resume.as_mut() {
                let running = !last && !kept.content.read_only && !have.is_full();
                result = r.save(&kept.content, &have, &kept.stamps, running);
            }
            if result.is_ok() && !kept.content.read_only {
                result = kept.all_there(&have);
            }
        }
        self.say(Reply::Recorded(key, have, result));
    }

    fn keep(&self, name: &str, bytes: &[u8]) {
        let Some(dir) = &self.setup.state_dir else { return };
        if let Err(fault) = super::keep::keep(dir, name, bytes) {
            log::warn!("not kept for next time: {fault}");
        }
    }

    fn detach(&mut self, key: TorrentKey) {
        self.opening.retain(|(k, _)| *k != key);
        self.pieces.forget(&mut self.free, key);
        self.files.forget(key);
        self.kept.remove(&key);
        self.contents.remove(&key);
        self.say(Reply::Detached(key));
    }
}

/// Reserves a segment's blocks, so that a full disk is an errno now; a file system without reservation is no fault.
fn reserve(c: &Content, fd: &impl AsFd, s: Segment) -> Result<(), DiskFault> {
    if !c.fs.sparse() {
        return Ok(());
    }
    match rustix::fs::fallocate(fd, FallocateFlags::empty(), s.at, s.len) {
        Ok(()) | Err(Errno::NOTSUP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => Ok(()),
        Err(e) => Err(c.fault(Doing::Write, s.file, e)),
    }
}

/// What a worker's time is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Account {
    Plain,
    Mapped,
    Aside,
}

impl Account {
    fn of(job: &Job) -> Account {
        match job {
            Job::Map(..) | Job::Unmap(..) => Account::Mapped,
            Job::Hash { windows, .. } if !windows.is_empty() => Account::Mapped,
            Job::Land(..) | Job::Hash { .. } | Job::WriteOut => Account::Plain,
            _ => Account::Aside,
        }
    }
}

/// The answer that somebody waits for, kept aside in case the job fails in an unforeseen way.
enum Owed {
    Opened,
    Mapped(PieceIndex),
    Verdict(PieceIndex),
    Loaded(BlockSpan),
    Synced,
    Recorded(Bitfield),
    Detached,
    Nothing,
}

impl Owed {
    fn of(job: &Job) -> Option<(TorrentKey, Owed)> {
        match job {
            Job::Open(key, _) => Some((*key, Owed::Opened)),
            Job::Detach(key) => Some((*key, Owed::Detached)),
            Job::Land(key, _) | Job::Probe(_, key, _) => Some((*key, Owed::Nothing)),
            #[cfg(test)]
            Job::Panic(key) => Some((*key, Owed::Nothing)),
            Job::Map(key, piece) => Some((*key, Owed::Mapped(*piece))),
            Job::Hash { torrent, piece, .. } => Some((*torrent, Owed::Verdict(*piece))),
            Job::Load(key, span, _) => Some((*key, Owed::Loaded(*span))),
            Job::Sync(key) => Some((*key, Owed::Synced)),
            Job::Record { torrent, have, .. } => Some((*torrent, Owed::Recorded(have.clone()))),
            Job::Attach(_) | Job::Unmap(..) | Job::Learn(..) | Job::WriteOut | Job::Keep(..) | Job::Measure(..) => None,
        }
    }
}
