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
//! Invariants: a piece is claimed only if a trusted record claims it or its hash was right just now. Content
//! changes here in three ways alone: empty files of a download are created, bytes of files that became wanted
//! are moved out of the parts file, and a file that is too long is cut once its pieces are verified. The work is
//! cut into steps of one piece, so the worker runs jobs in between.

use super::api::{OpenTorrent, SpaceShortage};
use super::content_lock::ContentLock;
use super::dir::FsKind;
use super::fault::{DiskFault, FaultKind, Operation, PrintablePath};
use super::file_change::{FileChange, compare};
use super::limits;
use super::open_files::OpenFiles;
use super::piece_checker::PieceChecker;
use super::resume::{RecordFile, device_of};
use super::resume_state::ResumeState;
use super::stamp::{FileStamp, StampTable};
use super::stat_many::StatMany;
use super::torrent_files::{NOWHERE, TorrentFiles};
use crate::engine::Checkpoint;
use crate::units::{Bitfield, PieceIndex, TorrentKey};
use crate::wire::FileEntry;
use rustix::fs::{Access, AtFlags, FileType, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod ownership;
mod space;

use ownership::check_hidden;

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
    /// The files are this torrent's: it was open before in this process.
    opened_before: bool,
    /// Blocks are reserved.
    preallocate: bool,
    /// Files at NAME that the record does not know, while NAME.part exists: only a good piece of its own shows
    /// that such a file is this torrent's.
    beside_part: BTreeSet<usize>,
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
    Finished { state: Box<ResumeState>, have: Bitfield, notes: Vec<String>, space: Option<SpaceShortage> },
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
        let (refetch, refuse_hidden) = (open.refetch || open.opened_before, open.refuse_hidden);
        let (opened_before, preallocate) = (open.opened_before, open.preallocate);
        let torrent = Arc::new(TorrentFiles::open(key, open, create)?);
        if create && refuse_hidden {
            check_hidden(&torrent)?;
        }
        let lock = ContentLock::acquire(&torrent)?;
        let record = record_file.as_mut().and_then(|r| r.load(&torrent)).filter(|_| !check);
        let running = record.as_ref().is_some_and(|r| r.running);
        let device = record.as_ref().map_or(0, |r| r.device);
        // The record's table becomes the new one, file by file: of very many files there is no memory for
        // two.
        let (claimed, stamps) = match record {
            // A record without a piece says only whose the files are: it was written before the first piece,
            // and pieces may have arrived since.
            Some(record) => (Some(record.have).filter(|have| !have.is_empty()), record.stamps),
            None => (None, StampTable::none(torrent.layout.len())),
        };
        let mut recheck = Recheck {
            have: claimed.clone().unwrap_or_else(|| Bitfield::empty(torrent.geometry.pieces())),
            claimed,
            state: ResumeState { stamps, torrent, record: record_file, lock, wanted, too_long: Vec::new() },
            // The record of a torrent that was closed has the stamps of all its files.
            ours: running,
            allow_overwrite,
            opened_before,
            preallocate,
            beside_part: BTreeSet::new(),
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
            if !torrent.read_only && now.is_some() && !is_known(&torrent, then, now) {
                // Another program may have made NAME while this torrent's bytes were written to NAME.part.
                if torrent.has_unused_part(file)? {
                    self.beside_part.insert(file);
                }
            }
            // Another program may also use a name that ends with .part.
            let may_be_foreign = self.beside_part.contains(&file)
                || torrent.names.is_part(file) && torrent.fs.sparse() && !is_known(&torrent, then, now);
            if then.is_some() && now.is_some_and(|now| now.size <= f.length) && !may_be_foreign {
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
        let Some(now) = now else {
            let path = || PrintablePath(&f.to_path()).to_string();
            let in_slot = |piece| torrent.redirected.has(file) && torrent.parts.found(piece);
            let pieces = torrent.geometry.pieces_of(start, end);
            let lost = pieces.filter(|&p| !in_slot(p) && self.have.clear(p)).count();
            if lost > 0 && then.is_some() {
                self.notes.add(|| format!("{}: is gone, {lost} pieces will be fetched again", path()));
            }
            return FileChange::None;
        };
        let path = || PrintablePath(&torrent.path(file)).to_string();
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
        let mut space = None;
        if self.state.torrent.read_only {
            self.note_missing_files()?;
            self.note_long_files();
        } else {
            self.check_ownership(open_files)?;
            self.check_aliases()?;
            self.check_write_access()?;
            let result = self
                .prepare_files(open_files)
                .and_then(|()| self.assign_slots(open_files))
                .and_then(|()| self.provide_space(open_files));
            if result.is_err() {
                self.state.lock.remove_empty(&self.state.torrent);
            }
            space = result?;
            self.save_running_record();
        }
        Ok(RecheckStep::Finished {
            state: Box::new(self.state),
            have: self.have,
            notes: self.notes.into_texts(),
            space,
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
            let path = torrent.path(*file);
            self.notes.add(|| format!("{}: is longer than in the torrent", PrintablePath(&path)));
        }
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
                check(&torrent.path(file), Access::WRITE_OK)
                    .map_err(|e| torrent.fault(Operation::Open, file, e))?;
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

/// Whether the file that was found is the one that the record knows.
fn is_known(torrent: &TorrentFiles, then: Option<FileStamp>, now: Option<FileStamp>) -> bool {
    torrent.fs.sparse() && then.zip(now).is_some_and(|(then, now)| then.inode == now.inode)
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
    match torrent.find_file(file, &mut |path| stats.stat(path))? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            Err(torrent.fault(Operation::Open, file, Errno::LOOP))
        }
        Some(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            Err(torrent.fault_without_errno(FaultKind::Exists, file))
        }
        stat => Ok(stat),
    }
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
}
