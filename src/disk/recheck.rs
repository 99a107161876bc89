//! Opening a torrent: finds the pieces that the disk holds, and hashes content where no record can be
//! trusted.
//!
//! ```text
//!   lock ──► record good? ──yes──► files as they were? ──yes──► trust it (after an unclean stop: hash a sample, then trust it)
//!                 │                       └──no──► hash the pieces of the files that changed
//!                 └──no, or `check`──► hash all content; holes are not read
//! ```
//!
//! Existing files are this torrent's if its record says so or one of its pieces is good; other files are in the
//! way, and the torrent is not opened for writing.
//!
//! Invariants: a piece is claimed only if a trusted record claims it or its hash was right just now; no
//! content is written here but the empty files of a download, and a file that is too long is cut once its
//! pieces are verified. The work is cut into steps of one piece, so the
//! worker runs jobs in between.

use super::aliases::{check_links, check_names};
use super::api::OpenTorrent;
use super::content_lock::ContentLock;
use super::dir::FsKind;
use super::fault::{DiskFault, FaultKind, Operation, PrintablePath};
use super::limits;
use super::open_files::OpenFiles;
use super::piece_checker::PieceChecker;
use super::resume::{RecordFile, device_of};
use super::stamp::{FileStamp, StampTable};
use super::stat_many::StatMany;
use super::torrent_files::{NOWHERE, TorrentFiles};
use crate::engine::Checkpoint;
use crate::units::{Bitfield, PieceIndex, TorrentKey};
use crate::wire::FileEntry;
use rustix::fs::{Access, AtFlags, FileType, SeekFrom, Stat};
use rustix::io::{Errno, retry_on_intr};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The record of an open torrent, as its home worker keeps it.
pub(super) struct ResumeState {
    pub torrent: Arc<TorrentFiles>,
    pub record: Option<RecordFile>,
    pub stamps: StampTable,
    pub lock: ContentLock,
    wanted: Option<Vec<bool>>,
    /// Files that are longer than in the torrent.
    too_long: Vec<usize>,
}

impl ResumeState {
    /// Whether each file is wanted, from now on. Fails if more files are wanted than before and another torrent
    /// uses the content.
    pub fn set_wanted(&mut self, wanted: Vec<bool>, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let more = wanted.iter().enumerate().any(|(file, wanted)| *wanted && !self.wants(file));
        self.wanted = Some(wanted);
        if more { self.lock.make_exclusive(&self.torrent, open_files) } else { Ok(()) }
    }

    /// Cuts the files that are longer than in the torrent and whose pieces are all among these.
    pub fn cut_long_files(&mut self, have: &Bitfield) -> Result<(), DiskFault> {
        let torrent = self.torrent.clone();
        let is_good = |file: usize| {
            let (start, end) = torrent.layout.range(file);
            torrent.geometry.pieces_of(start, end).all(|p| have.has(p))
        };
        let (due, later) = self.too_long.iter().partition(|file| is_good(**file));
        self.too_long = later;
        for file in Vec::<usize>::from(due) {
            let fault = |e| torrent.fault(Operation::Create, file, e);
            let opened = torrent.dir.open_or_create(&torrent.layout.path(file))?;
            let length = torrent.layout.file(file).length;
            if opened.size > length {
                retry_on_intr(|| rustix::fs::ftruncate(&opened.fd, length)).map_err(fault)?;
            }
            let stat = rustix::fs::fstat(&opened.fd).map_err(fault)?;
            self.stamps.replace(file, Some(FileStamp::of(&stat)));
        }
        Ok(())
    }

    /// Whether no byte of a wanted file is missing.
    pub fn is_complete(&self, have: &Bitfield) -> bool {
        let torrent = &self.torrent;
        torrent
            .layout
            .on_disk()
            .filter(|(file, _)| self.wants(*file))
            .all(|(_, f)| torrent.geometry.pieces_of(f.offset, f.offset + f.length).all(|p| have.has(p)))
    }

    fn wants(&self, file: usize) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.get(file).copied().unwrap_or(true))
    }

    /// Checks that the wanted files exist and have their length, if these pieces complete them: a file that
    /// was removed or truncated long after it was written is noticed before the torrent is reported complete.
    /// Of very many files an evenly spread part is checked, and the rest at the next start, for the reason
    /// that `stat_many.rs` gives.
    pub fn check_wanted_files(&self, have: &Bitfield) -> Result<(), DiskFault> {
        let torrent = &self.torrent;
        let wanted = || torrent.layout.on_disk().filter(|(file, f)| f.length > 0 && self.wants(*file));
        let mut count = 0;
        for (_, f) in wanted() {
            if !torrent.geometry.pieces_of(f.offset, f.offset + f.length).all(|p| have.has(p)) {
                return Ok(());
            }
            count += 1;
        }
        for (file, f) in wanted().step_by(usize::max(1, count / limits::FINAL_STATS)) {
            let stat = torrent.dir.stat(&f.to_path())?;
            let whole = |s: Stat| {
                FileType::from_raw_mode(s.st_mode) == FileType::RegularFile && s.st_size as u64 >= f.length
            };
            if !stat.is_some_and(whole) {
                return Err(torrent.fault_without_errno(FaultKind::Changed, file));
            }
        }
        Ok(())
    }
}

/// A torrent that is being opened.
pub(super) struct Recheck {
    state: ResumeState,
    have: Bitfield,
    /// The pieces that a trusted record claimed.
    claimed: Option<Bitfield>,
    /// Existing files are this torrent's according to its record.
    ours: bool,
    /// Existing files are overwritten, whichever they are.
    allow_overwrite: bool,
    /// Files to be written that have more than one hard link.
    linked: Vec<usize>,
    notes: Notes,
    /// Pieces to hash, the first one last.
    todo: Vec<PieceIndex>,
    /// The length of `todo` at first.
    pieces: u32,
    /// `todo` is a sample: if one piece of it is bad, every claimed piece is hashed.
    sampling: bool,
    checker: PieceChecker,
    reported: Instant,
}

/// Sentences for the user, at most [`limits::NOTES`].
#[derive(Default)]
struct Notes {
    first: Vec<String>,
    more: usize,
}

impl Notes {
    fn add(&mut self, text: impl FnOnce() -> String) {
        if self.first.len() < limits::NOTES {
            self.first.push(text());
        } else {
            self.more += 1;
        }
    }

    fn into_texts(mut self) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("and {} more like these", self.more));
        }
        self.first
    }
}

/// The result of one step.
pub(super) enum RecheckStep {
    /// More pieces are to be hashed. `progress`: pieces hashed and pieces to hash, where a report is due.
    Unfinished { recheck: Box<Recheck>, progress: Option<(u32, u32)> },
    /// The torrent is open.
    Finished { state: Box<ResumeState>, have: Bitfield, notes: Vec<String> },
}

impl Recheck {
    /// Looks at every file without reading content. Pieces that have to be hashed are left to
    /// [`step`](Self::step).
    pub fn begin(
        key: TorrentKey,
        open: OpenTorrent,
        state_dir: Option<&Path>,
        open_files: &mut OpenFiles,
    ) -> Result<Recheck, DiskFault> {
        let check = open.check;
        let wanted = open.wanted.clone();
        let mut notes = Notes::default();
        let mut record_file = None;
        if let Some(dir) = state_dir {
            match RecordFile::lock(dir, &open.info_hashes, &open.dir) {
                Ok(locked) => record_file = Some(locked),
                Err(fault) if fault.kind == FaultKind::Locked => {
                    return Err(DiskFault::without_errno(FaultKind::Locked, &open.dir));
                }
                Err(fault) => notes.add(|| format!("no resume record will be written: {fault}")),
            }
        }
        let create = !open.read_only;
        let allow_overwrite = open.allow_overwrite;
        let (refetch, refuse_hidden) = (open.refetch, open.refuse_hidden);
        let torrent = Arc::new(TorrentFiles::open(key, open, create)?);
        if create && refuse_hidden {
            check_hidden(&torrent)?;
        }
        let lock = ContentLock::acquire(&torrent)?;
        let record = record_file.as_mut().and_then(|r| r.load(&torrent)).filter(|_| !check);
        let ours = record.is_some();
        // A record without a piece says only that the files are this torrent's: it was written before the
        // first piece, and pieces may have arrived since.
        let record = record.filter(|r| !r.have.is_empty());
        let running = record.as_ref().is_some_and(|r| r.running);
        let device = record.as_ref().map_or(0, |r| r.device);
        // The record's table becomes the new one, file by file: of very many files there is no memory for
        // two.
        let (claimed, stamps) = match record {
            Some(record) => (Some(record.have), record.stamps),
            None => (None, StampTable::none(torrent.layout.len())),
        };
        let mut recheck = Recheck {
            have: claimed.clone().unwrap_or_else(|| Bitfield::empty(torrent.geometry.pieces())),
            claimed,
            state: ResumeState { stamps, torrent, record: record_file, lock, wanted, too_long: Vec::new() },
            ours,
            allow_overwrite,
            linked: Vec::new(),
            notes,
            todo: Vec::new(),
            pieces: 0,
            sampling: false,
            checker: PieceChecker::new(limits::READ_BYTES),
            reported: Instant::now(),
        };
        let todo = recheck.compare_files(running, open_files)?;
        if !refetch && device != 0 && device != device_of(&recheck.state.torrent) {
            recheck.check_mounted()?;
        }
        if recheck.claimed.is_some() {
            recheck.plan(todo);
        } else {
            recheck.plan(recheck.state.torrent.geometry.all_pieces());
        }
        Ok(recheck)
    }

    /// Takes a stamp of every file and compares it with the record's. Returns the pieces to hash. `running`:
    /// the record was written while the torrent was open for writing.
    fn compare_files(
        &mut self,
        running: bool,
        open_files: &mut OpenFiles,
    ) -> Result<BTreeSet<PieceIndex>, DiskFault> {
        let torrent = self.state.torrent.clone();
        let mut stats = StatMany::new(&torrent.dir);
        let mut todo = BTreeSet::new();
        let mut touched = Vec::new();
        for (file, f) in torrent.layout.on_disk() {
            let wanted = self.state.wants(file);
            let stat = stat_of(&torrent, &mut stats, file, wanted)?;
            let now = stat.as_ref().map(FileStamp::of);
            if stat.is_some_and(|stat| stat.st_nlink > 1) && wanted && !torrent.read_only {
                self.linked.push(file);
            }
            if now.is_some_and(|now| now.size > f.length) {
                self.state.too_long.push(file);
            }
            let then = self.state.stamps.replace(file, now);
            if then.is_some() && now.is_some_and(|now| now.size <= f.length) {
                torrent.own.set(file);
            }
            if torrent.had_slots(file) && self.find_slots(file, now, wanted, open_files)? {
                continue;
            }
            if self.claimed.is_none() || f.length == 0 {
                continue;
            }
            match self.compare_file(file, then, now, running && !torrent.read_only) {
                FileChange::None => {}
                FileChange::Ours => touched.push(file),
                FileChange::Theirs => todo.extend(torrent.geometry.pieces_of(f.offset, f.offset + f.length)),
            }
        }
        if todo.is_empty() && !touched.is_empty() {
            todo = self.sample(&touched);
            self.sampling = !todo.is_empty();
        }
        // Slots have no stamps.
        todo.extend(torrent.parts.pieces_found().filter(|piece| self.have.has(*piece)));
        Ok(todo)
    }

    /// Finds out whether bytes of a file lie in slots of the parts file. There they stay while the file is
    /// unwanted, and are moved into the file once it is wanted. True: they were moved. The pieces are hashed
    /// later.
    fn find_slots(
        &mut self,
        file: usize,
        now: Option<FileStamp>,
        wanted: bool,
        open_files: &mut OpenFiles,
    ) -> Result<bool, DiskFault> {
        let torrent = self.state.torrent.clone();
        let mut held = Vec::new();
        let (start, end) = torrent.layout.range(file);
        for piece in torrent.geometry.pieces_of(start, end).filter(|p| torrent.parts.found(*p)) {
            let from = torrent.geometry.piece_offset(piece);
            let to = from + u64::from(torrent.geometry.piece_len(piece));
            let range = from.max(start)..to.min(end);
            if open_files.slot_has_bytes(&torrent, piece, range.clone())? {
                held.push((piece, range));
            }
        }
        if torrent.read_only || !wanted {
            if !torrent.own.has(file) && (now.is_none() || !held.is_empty()) {
                torrent.redirected.set(file);
            }
            return Ok(false);
        }
        if held.is_empty() || !torrent.own.has(file) && now.is_some_and(|now| now.size > 0) {
            return Ok(false);
        }
        self.state.lock.make_exclusive(&torrent, open_files)?;
        for (piece, range) in held {
            open_files.move_from_slot(&torrent, piece, range)?;
        }
        let stat = torrent.dir.stat(&torrent.layout.path(file))?;
        self.state.stamps.replace(file, stat.as_ref().map(FileStamp::of));
        Ok(true)
    }

    /// Fails if no file of the content exists: its record was written on another device.
    fn check_mounted(&self) -> Result<(), DiskFault> {
        let torrent = &self.state.torrent;
        let mut files = torrent.layout.on_disk().filter(|(_, f)| f.length > 0);
        if files.any(|(file, _)| self.exists(file)) {
            return Ok(());
        }
        Err(DiskFault::without_errno(FaultKind::NotMounted, torrent.dir.path()))
    }

    fn exists(&self, file: usize) -> bool {
        self.state.stamps.get(file).is_some()
    }

    /// Clears the pieces that a file cannot hold any more, and returns how the file changed.
    fn compare_file(
        &mut self,
        file: usize,
        then: Option<FileStamp>,
        now: Option<FileStamp>,
        running: bool,
    ) -> FileChange {
        let torrent = self.state.torrent.clone();
        let f = torrent.layout.file(file);
        let (start, end) = torrent.layout.range(file);
        let path = || PrintablePath(&f.to_path()).to_string();
        let Some(now) = now else {
            let in_slot = |piece| torrent.redirected.has(file) && torrent.parts.found(piece);
            let pieces = torrent.geometry.pieces_of(start, end);
            let lost = pieces.filter(|&p| !in_slot(p) && self.have.clear(p)).count();
            if lost > 0 && then.is_some() {
                self.notes.add(|| format!("{}: is gone, {lost} pieces will be fetched again", path()));
            }
            return FileChange::None;
        };
        // Bytes that were cut off are lost, even if the record was written after that.
        let cut = torrent
            .geometry
            .pieces_of(start + now.size.min(f.length), end)
            .filter(|&p| self.have.clear(p))
            .count();
        if cut > 0 {
            self.notes
                .add(|| format!("{}: is shorter than it was, {cut} pieces will be fetched again", path()));
        }
        let change = compare(then, now, running, torrent.fs, f.length);
        if change == FileChange::Theirs {
            let again = torrent.geometry.pieces_of(start, end).count();
            self.notes.add(|| format!("{}: content changed, {again} pieces checked again", path()));
        }
        change
    }

    /// The first and last claimed piece of each of these files; of many files an evenly spread part.
    fn sample(&self, touched: &[usize]) -> BTreeSet<PieceIndex> {
        let torrent = &self.state.torrent;
        let step = touched.len().div_ceil(limits::SAMPLE_PIECES / 2);
        let mut sample = BTreeSet::new();
        for &file in touched.iter().step_by(step) {
            let (start, end) = torrent.layout.range(file);
            let mut claimed = torrent.geometry.pieces_of(start, end).filter(|&p| self.have.has(p));
            sample.extend(claimed.next());
            sample.extend(claimed.last());
        }
        sample
    }

    /// Sets the pieces to hash; those with a missing or too short file are cleared without reading.
    fn plan(&mut self, pieces: impl IntoIterator<Item = PieceIndex>) {
        let torrent = self.state.torrent.clone();
        for piece in pieces {
            let mut spans = torrent.file_spans(torrent.geometry.whole(piece));
            let long_enough = |stamp: FileStamp, end: u64| stamp.size >= end;
            if spans.all(|s| {
                if s.file == torrent.parts_index() {
                    return s.at != NOWHERE;
                }
                s.pad || self.state.stamps.get(s.file).is_some_and(|stamp| long_enough(stamp, s.at + s.len))
            }) {
                self.todo.push(piece);
            } else {
                self.have.clear(piece);
            }
        }
        self.todo.reverse();
        self.pieces = self.todo.len() as u32;
    }

    /// Hashes one piece, or finishes.
    pub fn step(mut self, open_files: &mut OpenFiles) -> Result<RecheckStep, DiskFault> {
        let Some(piece) = self.todo.pop() else { return self.finish(open_files) };
        let torrent = self.state.torrent.clone();
        let good = match self.checker.is_good(&torrent, open_files, piece) {
            Ok(good) => good,
            // The file was truncated or removed since its stamp was taken: the piece is bad, and opening goes
            // on.
            Err(fault) if matches!(fault.kind, FaultKind::Changed | FaultKind::Missing) => false,
            Err(fault) => return Err(fault),
        };
        if good {
            self.have.set(piece);
            // It may be in the page cache only: the next checkpoint must not claim it unsynced.
            open_files.mark_unsynced(&torrent, piece);
        } else {
            self.have.clear(piece);
            if self.sampling {
                self.sampling = false;
                self.notes.add(|| "the record does not match the content, everything is checked".into());
                let all: Vec<_> = self.have.iter().collect();
                self.todo.clear();
                self.plan(all);
            }
        }
        let mut progress = None;
        if self.reported.elapsed() >= Duration::from_millis(limits::CHECK_REPORT_MS) {
            self.reported = Instant::now();
            progress = Some((self.pieces - self.todo.len() as u32, self.pieces));
        }
        Ok(RecheckStep::Unfinished { recheck: Box::new(self), progress })
    }

    fn finish(mut self, open_files: &mut OpenFiles) -> Result<RecheckStep, DiskFault> {
        if self.state.torrent.read_only {
            self.note_missing_files()?;
            self.note_long_files();
        } else {
            self.check_ownership(open_files)?;
            check_links(&self.state.torrent, &self.linked)?;
            self.check_write_access()?;
            let result = self.prepare_files(open_files).and_then(|()| self.assign_slots(open_files));
            if result.is_err() {
                self.state.lock.remove_empty(&self.state.torrent);
            }
            result?;
            self.save_running_record();
        }
        Ok(RecheckStep::Finished {
            state: Box::new(self.state),
            have: self.have,
            notes: self.notes.into_texts(),
        })
    }

    fn missing_files(&self) -> impl Iterator<Item = (usize, FileEntry<'_>)> {
        self.state.torrent.layout.on_disk().filter(|(file, _)| self.state.wants(*file) && !self.exists(*file))
    }

    /// Fails if a seed has no content at all.
    fn note_missing_files(&mut self) -> Result<(), DiskFault> {
        let torrent = self.state.torrent.clone();
        let missing: Vec<usize> = self.missing_files().map(|(file, _)| file).collect();
        if let Some(file) = missing.first().filter(|_| self.have.is_empty()) {
            return Err(torrent.fault_without_errno(FaultKind::Missing, *file));
        }
        for file in missing {
            self.notes.add(|| format!("{}: does not exist", PrintablePath(&torrent.layout.path(file))));
        }
        Ok(())
    }

    fn note_long_files(&mut self) {
        let torrent = self.state.torrent.clone();
        for file in &self.state.too_long {
            let path = torrent.layout.path(*file);
            self.notes.add(|| format!("{}: is longer than in the torrent", PrintablePath(&path)));
        }
    }

    /// Refuses to write to a file of which nothing shows that it is this torrent's. A file that is too long
    /// needs a good piece of its own. An empty file counts as absent, and so does one that is a single hole.
    fn check_ownership(&mut self, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let torrent = self.state.torrent.clone();
        let allow_overwrite = self.allow_overwrite;
        let ours = self.ours || self.has_good_bytes(0, torrent.geometry.total());
        for (file, f) in torrent.layout.on_disk() {
            let Some(stamp) = self.state.stamps.get(file).filter(|stamp| stamp.size > 0) else { continue };
            let wanted = self.state.wants(file);
            let (start, end) = torrent.layout.range(file);
            // A file beside the wanted ones may be of another origin even if the torrent has a record.
            if torrent.redirected.has(file) {
                self.state.stamps.replace(file, None);
                continue;
            }
            let own = torrent.own.has(file)
                || if wanted && stamp.size <= f.length { ours } else { self.has_good_bytes(start, end) };
            if own || allow_overwrite || is_hole(&torrent, open_files, file)? {
                torrent.own.set(file);
            } else if wanted {
                return Err(torrent.fault_without_errno(FaultKind::NotOurs, file));
            } else {
                self.state.stamps.replace(file, None);
            }
        }
        Ok(())
    }

    /// Redirects the unwanted files that are not this torrent's to the parts file, and gives a slot to each
    /// piece that such a file shares with a wanted one.
    fn assign_slots(&mut self, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let torrent = self.state.torrent.clone();
        let mut needed = BTreeSet::new();
        for (file, _) in torrent.layout.on_disk().filter(|(_, f)| f.length > 0) {
            if self.state.wants(file) || torrent.own.has(file) {
                continue;
            }
            torrent.redirected.set(file);
            let (start, end) = torrent.layout.range(file);
            let mut pieces = torrent.geometry.pieces_of(start, end);
            needed.extend(pieces.next());
            needed.extend(torrent.geometry.pieces_of(end - 1, end));
        }
        let is_shared = |piece: &PieceIndex| {
            let spans = torrent.layout.file_spans(
                torrent.geometry.piece_offset(*piece),
                u64::from(torrent.geometry.piece_len(*piece)),
            );
            spans.into_iter().any(|span| !span.pad && !torrent.redirected.has(span.file))
        };
        needed.retain(|piece| is_shared(piece) || torrent.parts.found(*piece) && self.have.has(*piece));
        let freed = torrent.parts.assign(&needed);
        let unused =
            torrent.parts.existed() && !torrent.parts.pieces_found().any(|piece| needed.contains(&piece));
        if !freed.is_empty() || unused {
            open_files.sync(&torrent)?;
            open_files.free_slots(&torrent, &freed, unused)?;
        }
        Ok(())
    }

    /// Whether a good piece holds bytes of this range and is not all zeros: zeros may lie in any file.
    fn has_good_bytes(&mut self, start: u64, end: u64) -> bool {
        let torrent = self.state.torrent.clone();
        let good = torrent.geometry.pieces_of(start, end).filter(|piece| self.have.has(*piece));
        good.into_iter().any(|piece| !self.checker.expects_zeros(&torrent, piece))
    }

    /// Locks the content for writing, unless nothing is missing. Creates the empty files, and cuts files that
    /// are too long.
    fn prepare_files(&mut self, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let torrent = self.state.torrent.clone();
        let creates = self.missing_files().next().is_some();
        let wanted_too_long: Vec<usize> =
            self.state.too_long.iter().copied().filter(|file| self.state.wants(*file)).collect();
        self.state.too_long = wanted_too_long;
        if self.state.is_complete(&self.have) && self.state.too_long.is_empty() && !creates {
            self.state.lock.share();
            return Ok(());
        }
        self.state.lock.make_exclusive(&torrent, open_files)?;
        for file in &self.linked {
            let (start, end) = torrent.layout.range(*file);
            if !torrent.geometry.pieces_of(start, end).all(|p| self.have.has(p)) {
                self.state.lock.add_linked(&torrent, *file)?;
            }
        }
        let wanted = torrent.layout.on_disk().map(|(file, _)| file).filter(|file| self.state.wants(*file));
        check_names(&torrent, open_files, wanted)?;
        self.create_empty_files(open_files)?;
        for file in &self.state.too_long {
            let size = self.state.stamps.get(*file).map_or(0, |stamp| stamp.size);
            let more = size - torrent.layout.file(*file).length;
            let path = torrent.layout.path(*file);
            self.notes.add(|| {
                let path = PrintablePath(&path);
                format!("{path}: is longer than in the torrent; the last {more} bytes are cut off once its pieces are verified")
            });
        }
        self.state.cut_long_files(&self.have)
    }

    fn create_empty_files(&self, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        for (file, _) in self.missing_files().filter(|(_, f)| f.length == 0) {
            open_files.get(&self.state.torrent, file, true)?;
        }
        Ok(())
    }

    /// Checks before the first peer is asked that missing content could be written.
    fn check_write_access(&self) -> Result<(), DiskFault> {
        let torrent = &self.state.torrent;
        let check = |path: &Path, access| match rustix::fs::accessat(
            torrent.dir.root(),
            path,
            access,
            AtFlags::EACCESS,
        ) {
            Err(e) if matches!(e, Errno::ACCESS | Errno::ROFS | Errno::PERM) => Err(e),
            _ => Ok(()),
        };
        let may_create = check(Path::new("."), Access::WRITE_OK | Access::EXEC_OK);
        for (file, f) in torrent.layout.on_disk().filter(|(file, f)| f.length > 0 && self.state.wants(*file))
        {
            if torrent.geometry.pieces_of(f.offset, f.offset + f.length).all(|p| self.have.has(p)) {
                continue;
            }
            if self.exists(file) {
                check(&f.to_path(), Access::WRITE_OK).map_err(|e| torrent.fault(Operation::Open, file, e))?;
            } else {
                may_create.map_err(|e| torrent.fault(Operation::Create, file, e))?;
            }
        }
        Ok(())
    }

    /// Marks the record as running before the first write: else every file would look changed by another
    /// program after a crash, or as one of another origin if there was no record. It claims no more than before, since pieces that were hashed just now are not
    /// known to be synced.
    fn save_running_record(&mut self) {
        let Some(record) = self.state.record.as_mut().filter(|_| !self.have.is_full()) else { return };
        let mut claimed =
            self.claimed.take().unwrap_or_else(|| Bitfield::empty(self.state.torrent.geometry.pieces()));
        let bad: Vec<_> = claimed.iter().filter(|&p| !self.have.has(p)).collect();
        for piece in bad {
            claimed.clear(piece);
        }
        let checkpoint = Checkpoint { have: claimed, history: record.history() };
        if let Err(fault) = record.save(&self.state.torrent, &checkpoint, &self.state.stamps, true) {
            // Not fatal: after a crash more content will be hashed.
            self.notes.add(|| format!("the resume record could not be renewed: {fault}"));
        }
    }
}

/// Fails if the name of the content begins with a dot: in a home directory that is a name of settings.
fn check_hidden(torrent: &TorrentFiles) -> Result<(), DiskFault> {
    match torrent.layout.on_disk().find(|(_, f)| f.path_text().starts_with('.')) {
        Some((file, _)) => Err(torrent.fault_without_errno(FaultKind::Hidden, file)),
        None => Ok(()),
    }
}

/// The `stat` of a file; `None` if it does not exist. Fails if the path is taken by something else, or if the
/// file system cannot hold the file: both before anything is created.
fn stat_of(
    torrent: &TorrentFiles,
    stats: &mut StatMany<'_>,
    file: usize,
    wanted: bool,
) -> Result<Option<Stat>, DiskFault> {
    let f = torrent.layout.file(file);
    if matches!(torrent.fs, FsKind::Fat { file_max } if f.length > file_max) && !torrent.read_only && wanted {
        return Err(torrent.fault_without_errno(FaultKind::TooLarge, file));
    }
    match stats.stat(&f.to_path())? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            Err(torrent.fault(Operation::Open, file, Errno::LOOP))
        }
        Some(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            Err(torrent.fault_without_errno(FaultKind::Exists, file))
        }
        stat => Ok(stat),
    }
}

/// Whether the file has no data, as far as its file system reports.
fn is_hole(torrent: &Arc<TorrentFiles>, open_files: &mut OpenFiles, file: usize) -> Result<bool, DiskFault> {
    if !torrent.fs.sparse() {
        return Ok(false);
    }
    let fd = open_files.get(torrent, file, false)?;
    Ok(matches!(rustix::fs::seek(&**fd, SeekFrom::Data(0)), Err(Errno::NXIO)))
}

/// How a file differs from the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileChange {
    None,
    /// The change that writes of rill after the record make.
    Ours,
    /// Any other change.
    Theirs,
}

fn compare(then: Option<FileStamp>, now: FileStamp, running: bool, fs: FsKind, length: u64) -> FileChange {
    let Some(then) = then else {
        return if running { FileChange::Ours } else { FileChange::Theirs };
    };
    // FAT and network file systems make inode numbers up anew at every mount.
    let same_file = then.inode == now.inode || !fs.sparse();
    let same_time = match fs {
        FsKind::Fat { .. } => fat_same_time(then.mtime_s, now.mtime_s),
        _ => (then.mtime_s, then.mtime_ns) == (now.mtime_s, now.mtime_ns),
    };
    if same_file && same_time && then.size == now.size {
        return FileChange::None;
    }
    let later = (now.mtime_s, now.mtime_ns) >= (then.mtime_s, then.mtime_ns);
    let grown = now.size >= then.size && now.size <= length.max(then.size);
    if same_file && running && later && grown { FileChange::Ours } else { FileChange::Theirs }
}

/// Whether two times may be one on FAT, which counts in steps of two seconds and in local time: a change of
/// zone or of summer time shifts all of them.
fn fat_same_time(a: i64, b: i64) -> bool {
    let difference = a.abs_diff(b) as i64;
    let from_quarter = difference % 900;
    let slack = limits::FAT_MTIME_SLACK_S;
    difference <= 26 * 3600 && (from_quarter <= slack || 900 - from_quarter <= slack)
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestDisk;
    use super::*;
    use crate::disk::StorageMode;

    #[test]
    fn f6_what_the_file_system_cannot_hold_is_refused_before_anything_is_made() {
        let disk = TestDisk::new(StorageMode::Plain, 65_536, &[("small", 1000), ("large", 100_000)]);
        let large = |file_max, wanted| {
            let torrent = TorrentFiles { fs: FsKind::Fat { file_max }, ..disk.torrent_files() };
            let stat = stat_of(&torrent, &mut StatMany::new(&torrent.dir), 1, wanted);
            stat.map(|stat| stat.is_some()).map_err(|fault| fault.kind)
        };
        assert_eq!(large(99_999, true), Err(FaultKind::TooLarge));
        assert_eq!(large(99_999, false), Ok(false), "the file is not wanted");
        assert_eq!(large(100_000, true), Ok(false));
        assert!(!disk.path("small").exists());
    }

    #[test]
    fn r4_summer_time_another_zone_and_steps_of_two_seconds_are_no_change_on_fat() {
        for (then, now, same) in [
            (0, 0, true),
            (0, 2, true),
            (0, 3600, true),
            (7200, 2, true),
            (0, -3 * 900, true),
            (0, 300, false),
        ] {
            assert_eq!(fat_same_time(then, now), same, "{then} {now}");
        }
        let then = FileStamp { inode: 1, size: 10, mtime_s: 1_700_000_000, mtime_ns: 5 };
        // A clock that began in 1970 and was set right in between, or jumped back. Where times are exact,
        // another time is another content.
        let fresh = FileStamp { mtime_s: 12, ..then };
        assert_eq!(compare(Some(then), fresh, true, FsKind::Native, 10), FileChange::Theirs);
        assert_eq!(compare(Some(fresh), then, true, FsKind::Native, 10), FileChange::Ours);
    }
}
