//! Opening a torrent: which pieces does the disk really hold?
//!
//! ```text
//!   lock -> record good?  --yes--> files as they were? --yes--> believe (after an unclean stop: sample, then believe)
//!              |                        '--no--> hash the pieces of the files that changed
//!              '--no (or told to check)--> hash whatever lies there; holes are passed over
//! ```
//!
//! Invariants: a piece is claimed only if a record that can be believed says so or its hash was right just now; content is
//! never written here except that empty files of a download are made. The work is cut into steps of one piece, so that the
//! worker serves others in between.

use super::api::OpenTorrent;
use super::dir::{Dir, FsKind};
use super::fault::{DiskFault, FaultKind, Operation};
use super::files::{OpenFiles, PresizedFiles, TorrentFiles};
use super::layout::Layout;
use super::limits;
use super::resume::{FileStamp, RecordFile, StampTable};
use super::stat_many::StatMany;
use crate::units::{Bitfield, PieceIndex, TorrentKey};
use crate::wire::{FileEntry, for_fat};
use rustix::fs::{Access, AtFlags, FileType, SeekFrom, Stat};
use rustix::io::Errno;
use sha1::{Digest, Sha1};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A torrent that is open.
pub(super) struct OpenedContent {
    pub content: Arc<TorrentFiles>,
    pub have: Bitfield,
    pub notes: Vec<String>,
}

/// What the worker keeps of an open torrent besides its content.
pub(super) struct ResumeState {
    pub content: Arc<TorrentFiles>,
    pub resume: Option<RecordFile>,
    pub stamps: StampTable,
    wanted: Option<Vec<bool>>,
}

impl ResumeState {
    fn wants(&self, file: usize) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.get(file).copied().unwrap_or(true))
    }

    /// Whether the wanted files are where they should be, if these pieces are all that was wanted: before somebody hears that a torrent
    /// is complete, a file that was taken away or cut long after it was written is noticed. Of very many files some are looked at, evenly
    /// spread, and the rest at the next start, because of what `looks` tells.
    pub fn check_wanted_files(&self, have: &Bitfield) -> Result<(), DiskFault> {
        let c = &self.content;
        let wanted = || c.layout.on_disk().filter(|(file, f)| f.length > 0 && self.wants(*file));
        let mut count = 0;
        for (_, f) in wanted() {
            if !c.geometry.pieces_of(f.offset, f.offset + f.length).all(|p| have.has(p)) {
                return Ok(());
            }
            count += 1;
        }
        for (file, f) in wanted().step_by(usize::max(1, count / limits::LAST_LOOKS)) {
            let stat = c.tree.stat(&f.to_path())?;
            let whole = |s: Stat| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile && s.st_size as u64 >= f.length;
            if !stat.is_some_and(whole) {
                return Err(c.fault_plain(FaultKind::Changed, file));
            }
        }
        Ok(())
    }
}

/// A torrent on its way to being open.
pub(super) struct Recheck {
    kept: ResumeState,
    have: Bitfield,
    /// What the record claimed, if there was one to believe.
    claimed: Option<Bitfield>,
    notes: Notes,
    /// Pieces to hash, last one first.
    todo: Vec<PieceIndex>,
    of: u32,
    /// The pieces in `todo` are a sample: if one fails, everything claimed is hashed.
    sampling: bool,
    proof: PieceChecker,
    reported: Instant,
}

/// Sentences for the user, of a torrent with very many files not one for each.
#[derive(Default)]
struct Notes {
    first: Vec<String>,
    more: usize,
}

impl Notes {
    fn add(&mut self, text: impl FnOnce() -> String) {
        match self.first.len() < limits::NOTES {
            true => self.first.push(text()),
            false => self.more += 1,
        }
    }

    fn texts(mut self) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("and {} more like these", self.more));
        }
        self.first
    }
}

/// What one step came to.
pub(super) enum RecheckStep {
    Busy,
    Progress(u32, u32),
    Finished(Box<(ResumeState, Bitfield, Vec<String>)>),
}

/// Makes the content of what somebody wants opened; `make` makes its directory.
pub(super) fn torrent_files(key: TorrentKey, open: OpenTorrent, make: bool) -> Result<TorrentFiles, DiskFault> {
    let tree = Dir::open(&open.dir, make)?;
    let fs = FsKind::of(tree.root());
    torrent_files_on(fs, tree, key, open)
}

fn torrent_files_on(fs: FsKind, tree: Dir, key: TorrentKey, open: OpenTorrent) -> Result<TorrentFiles, DiskFault> {
    let OpenTorrent { info_hash, geometry, files, hashes, dir, read_only, .. } = open;
    let files = if matches!(fs, FsKind::Fat { .. }) { for_fat(&files) } else { files };
    let Some(layout) = Layout::new(files, &geometry) else { return Err(DiskFault::plain(FaultKind::Internal, &dir)) };
    let grown = PresizedFiles::none(layout.len());
    Ok(TorrentFiles { key, info_hash, geometry, layout, hashes, tree, fs, read_only, grown })
}

impl Recheck {
    /// Looks at everything without reading content; what must be read becomes `todo`.
    pub fn begin(key: TorrentKey, open: OpenTorrent, state_dir: Option<&Path>) -> Result<Recheck, DiskFault> {
        let (check, wanted) = (open.check, open.wanted.clone());
        let mut notes = Notes::default();
        let mut resume = None;
        if let Some(dir) = state_dir {
            match RecordFile::lock(dir, &open.info_hash) {
                Ok(r) => resume = Some(r),
                Err(f) if f.kind == FaultKind::Locked => return Err(f),
                Err(f) => notes.add(|| format!("no resume record will be kept: {f}")),
            }
        }
        let make = !open.read_only;
        let content = Arc::new(torrent_files(key, open, make)?);
        let record = resume.as_mut().and_then(|r| r.load(&content)).filter(|_| !check);
        let running = record.as_ref().is_some_and(|r| r.running);
        // The record's stamps become those of today, one by one: of very many files there is no room for two lists.
        let (claimed, stamps) = match record {
            Some(record) => (Some(record.have), record.stamps),
            None => (None, StampTable::none(content.layout.len())),
        };
        let mut o = Recheck {
            have: claimed.clone().unwrap_or_else(|| Bitfield::empty(content.geometry.pieces())),
            claimed,
            kept: ResumeState { stamps, content, resume, wanted },
            notes,
            todo: Vec::new(),
            of: 0,
            sampling: false,
            proof: PieceChecker::new(limits::READ_BYTES),
            reported: Instant::now(),
        };
        let todo = o.stat_files(running)?;
        match o.claimed {
            Some(_) => o.plan(todo),
            None => o.plan(o.kept.content.geometry.all_pieces()),
        }
        Ok(o)
    }

    /// Looks at each file's path, and takes over what the record claims as far as the files bear it out; answers with the pieces
    /// of those that must be hashed. `running`: the record was written while the torrent was open for writing.
    fn stat_files(&mut self, running: bool) -> Result<BTreeSet<PieceIndex>, DiskFault> {
        let c = self.kept.content.clone();
        let mut looks = StatMany::at(&c.tree);
        let (mut todo, mut touched) = (BTreeSet::new(), Vec::new());
        for (file, f) in c.layout.on_disk() {
            let now = found(&c, &mut looks, file, self.kept.wants(file))?;
            let then = self.kept.stamps.replace(file, now);
            if self.claimed.is_none() || f.length == 0 {
                continue;
            }
            match self.compare_to_record(file, then, now, running && !c.read_only) {
                FileChange::None => {}
                FileChange::Ours => touched.push(file),
                FileChange::Theirs => todo.extend(c.geometry.pieces_of(f.offset, f.offset + f.length)),
            }
        }
        if todo.is_empty() && !touched.is_empty() {
            todo = self.sample(&touched);
            self.sampling = !todo.is_empty();
        }
        Ok(todo)
    }

    fn present(&self, file: usize) -> bool {
        self.kept.stamps.get(file).is_some()
    }

    /// Gives up what a file does not hold any more, and says how it changed.
    fn compare_to_record(&mut self, file: usize, then: Option<FileStamp>, now: Option<FileStamp>, running: bool) -> FileChange {
        let c = self.kept.content.clone();
        let f = c.layout.file(file);
        let (start, end) = c.layout.range(file);
        let path = || shown(&f.to_path());
        let Some(now) = now else {
            let lost = c.geometry.pieces_of(start, end).filter(|&p| self.have.clear(p)).count();
            if lost > 0 {
                self.notes.add(|| format!("{}: is gone, {lost} pieces will be fetched again", path()));
            }
            return FileChange::None;
        };
        // Whatever was cut off is not there, though the record was written after somebody cut it.
        let cut = c.geometry.pieces_of(start + now.size.min(f.length), end).filter(|&p| self.have.clear(p)).count();
        if cut > 0 {
            self.notes.add(|| format!("{}: is shorter than it was, {cut} pieces will be fetched again", path()));
        }
        if now.size > f.length {
            self.notes.add(|| format!("{}: is longer than it should be, the rest is left alone", path()));
        }
        let change = compare(then, now, running, c.fs, f.length);
        if change == FileChange::Theirs {
            let again = c.geometry.pieces_of(start, end).count();
            self.notes.add(|| format!("{}: content changed, {again} pieces checked again", path()));
        }
        change
    }

    /// First and last claimed piece of each touched file, evenly thinned out.
    fn sample(&self, touched: &[usize]) -> BTreeSet<PieceIndex> {
        let c = &self.kept.content;
        let step = touched.len().div_ceil(limits::SAMPLE_PIECES / 2);
        let mut out = BTreeSet::new();
        for &file in touched.iter().step_by(step) {
            let (start, end) = c.layout.range(file);
            let mut claimed = c.geometry.pieces_of(start, end).filter(|&p| self.have.has(p));
            out.extend(claimed.next());
            out.extend(claimed.last());
        }
        out
    }

    /// Drops pieces that cannot be good because a file of theirs is not there or ends too early.
    fn plan(&mut self, pieces: impl IntoIterator<Item = PieceIndex>) {
        let c = self.kept.content.clone();
        for p in pieces {
            let whole = c
                .segments(c.geometry.whole(p))
                .all(|s| s.pad || self.kept.stamps.get(s.file).is_some_and(|st| st.size >= s.at + s.len));
            match whole {
                true => self.todo.push(p),
                false => drop(self.have.clear(p)),
            }
        }
        self.todo.reverse();
        self.of = self.todo.len() as u32;
    }

    /// Hashes one piece, or finishes.
    pub fn step(mut self, files: &mut OpenFiles) -> Result<(Option<Recheck>, RecheckStep), DiskFault> {
        let Some(piece) = self.todo.pop() else {
            let done = self.finish(files)?;
            return Ok((None, RecheckStep::Finished(Box::new(done))));
        };
        let c = self.kept.content.clone();
        let good = match self.proof.is_good(&c, files, piece) {
            Ok(good) => good,
            // The file got shorter or went away since we looked: not good, and not the end of the world.
            Err(f) if matches!(f.kind, FaultKind::Changed | FaultKind::Missing) => false,
            Err(f) => return Err(f),
        };
        if good {
            self.have.set(piece);
            // Right now, but perhaps only in the page cache: the next checkpoint must not claim it unsynced.
            files.mark_unsynced(&c, piece);
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
        let step = match self.reported.elapsed() < Duration::from_millis(limits::CHECK_REPORT_MS) {
            true => RecheckStep::Busy,
            false => {
                self.reported = Instant::now();
                RecheckStep::Progress(self.of - self.todo.len() as u32, self.of)
            }
        };
        Ok((Some(self), step))
    }

    fn finish(mut self, files: &mut OpenFiles) -> Result<(ResumeState, Bitfield, Vec<String>), DiskFault> {
        let c = self.kept.content.clone();
        let missing = |(file, _): &(usize, FileEntry<'_>)| self.kept.wants(*file) && !self.present(*file);
        if c.read_only {
            let gone: Vec<_> = c.layout.on_disk().filter(missing).collect();
            if let Some((file, _)) = gone.first() {
                if self.have.is_empty() {
                    return Err(c.fault_plain(FaultKind::Missing, *file));
                }
            }
            gone.iter().for_each(|(_, f)| self.notes.add(|| format!("{}: is not there", shown(&f.to_path()))));
        } else {
            let empty: Vec<_> = c.layout.on_disk().filter(missing).filter(|(_, f)| f.length == 0).map(|(i, _)| i).collect();
            for file in empty {
                files.get(&c, file, true)?;
            }
            self.check_write_access()?;
            // From now on we write: a record that says "at rest" would make every file look changed after a crash.
            // It claims no more than the old one did: what was hashed just now is not known to be on the disk.
            if let (Some(r), Some(mut claimed)) = (self.kept.resume.as_mut(), self.claimed) {
                if !self.have.is_full() {
                    let bad: Vec<_> = claimed.iter().filter(|&p| !self.have.has(p)).collect();
                    for p in bad {
                        claimed.clear(p);
                    }
                    if let Err(f) = r.save(&c, &claimed, &self.kept.stamps, true) {
                        // Not fatal: after a crash more will be hashed than need be.
                        self.notes.add(|| format!("the resume record could not be renewed: {f}"));
                    }
                }
            }
        }
        Ok((self.kept, self.have, self.notes.texts()))
    }
}

impl Recheck {
    /// Finds out before the first peer is asked whether what is missing could be written at all.
    fn check_write_access(&self) -> Result<(), DiskFault> {
        let c = &self.kept.content;
        let may = |path: &Path, access| match rustix::fs::accessat(c.tree.root(), path, access, AtFlags::EACCESS) {
            Err(e) if matches!(e, Errno::ACCESS | Errno::ROFS | Errno::PERM) => Err(e),
            _ => Ok(()),
        };
        let may_make = may(Path::new("."), Access::WRITE_OK | Access::EXEC_OK);
        for (file, f) in c.layout.on_disk().filter(|(file, f)| f.length > 0 && self.kept.wants(*file)) {
            if c.geometry.pieces_of(f.offset, f.offset + f.length).all(|p| self.have.has(p)) {
                continue;
            }
            match self.present(file) {
                true => may(&f.to_path(), Access::WRITE_OK).map_err(|e| c.fault(Operation::Open, file, e))?,
                false => may_make.map_err(|e| c.fault(Operation::Create, file, e))?,
            }
        }
        Ok(())
    }
}

/// What lies at the file's path now. Refuses what is not ours and what cannot fit before anything is touched.
fn found(c: &TorrentFiles, looks: &mut StatMany<'_>, file: usize, wanted: bool) -> Result<Option<FileStamp>, DiskFault> {
    let f = c.layout.file(file);
    if matches!(c.fs, FsKind::Fat { file_max } if f.length > file_max) && !c.read_only && wanted {
        return Err(c.fault_plain(FaultKind::TooLarge, file));
    }
    match looks.stat(&f.to_path())? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            Err(c.fault_plain(FaultKind::Exists, file))
        }
        stat => Ok(stat.as_ref().map(FileStamp::of)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileChange {
    None,
    /// Different in the way our own writing makes it different.
    Ours,
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
    let later = (now.mtime_s, now.mtime_ns) >= (then.mtime_s, then.mtime_ns);
    match (same_file, same_time && then.size == now.size) {
        (true, true) => FileChange::None,
        (true, false) if running && later && now.size >= then.size && now.size <= length.max(then.size) => FileChange::Ours,
        _ => FileChange::Theirs,
    }
}

/// FAT counts in steps of two seconds and in local time, so a change of zone or of summer time shifts everything.
fn fat_same_time(a: i64, b: i64) -> bool {
    let d = a.abs_diff(b) as i64;
    let from_quarter = d % 900;
    d <= 26 * 3600 && (from_quarter <= limits::FAT_MTIME_SLACK_S || 900 - from_quarter <= limits::FAT_MTIME_SLACK_S)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Tells whether a piece on the disk is good, with the least reading.
pub(super) struct PieceChecker {
    /// Made when the first piece is read: of a thousand torrents that are opened most need none.
    buf: Vec<u8>,
    read_bytes: usize,
    /// The hash of so many zeros, for pieces that are nothing but holes.
    zeros: Option<(u32, [u8; 20])>,
}

impl PieceChecker {
    /// One that reads so many bytes at once.
    pub fn new(read_bytes: usize) -> PieceChecker {
        PieceChecker { buf: Vec::new(), read_bytes, zeros: None }
    }

    /// Whether the piece's hash is as it should be.
    pub fn is_good(&mut self, c: &Arc<TorrentFiles>, files: &mut OpenFiles, piece: PieceIndex) -> Result<bool, DiskFault> {
        let expected = c.expected(piece).0;
        if self.is_hole(c, files, piece)? {
            return Ok(self.zero_hash(c.geometry.piece_len(piece)) == expected);
        }
        Ok(self.hash(c, files, piece)? == expected)
    }

    /// The piece's hash, from the disk.
    pub fn hash(&mut self, c: &Arc<TorrentFiles>, files: &mut OpenFiles, piece: PieceIndex) -> Result<[u8; 20], DiskFault> {
        let (mut hasher, mut rest) = (Sha1::new(), Some(c.geometry.whole(piece)));
        self.buf.resize(self.read_bytes, 0);
        while let Some(span) = rest {
            let now = span.first(self.buf.len() as u32);
            let part = &mut self.buf[..now.len() as usize];
            files.read(c, c.geometry.offset(now), part)?;
            hasher.update(part);
            rest = span.after(now.len());
        }
        Ok(hasher.finalize().into())
    }

    /// Whether no byte of the piece was ever written, as far as the file system can tell.
    fn is_hole(&self, c: &Arc<TorrentFiles>, files: &mut OpenFiles, piece: PieceIndex) -> Result<bool, DiskFault> {
        if !c.fs.sparse() {
            return Ok(false);
        }
        for s in c.segments(c.geometry.whole(piece)).filter(|s| !s.pad) {
            let fd = files.get(c, s.file, false)?;
            match rustix::fs::seek(&**fd, SeekFrom::Data(s.at)) {
                Ok(data) if data < s.at + s.len => return Ok(false),
                Ok(_) | Err(Errno::NXIO) => {}
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn zero_hash(&mut self, len: u32) -> [u8; 20] {
        if let Some((l, h)) = self.zeros {
            if l == len {
                return h;
            }
        }
        self.buf.clear();
        self.buf.resize(self.read_bytes, 0);
        let (mut hasher, mut left) = (Sha1::new(), len as usize);
        while left > 0 {
            let n = left.min(self.buf.len());
            hasher.update(&self.buf[..n]);
            left -= n;
        }
        let h = hasher.finalize().into();
        self.zeros = Some((len, h));
        h
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::TestDisk;
    use super::*;
    use crate::disk::StorageMode;

    #[test]
    fn f6_what_the_file_system_cannot_hold_is_refused_before_anything_is_made() {
        let w = TestDisk::new(StorageMode::Plain, 65_536, &[("small", 1000), ("large", 100_000)]);
        let large = |file_max, wanted| {
            let c = TorrentFiles { fs: FsKind::Fat { file_max }, ..torrent_files(w.key, w.torrent.clone(), true).unwrap() };
            found(&c, &mut StatMany::at(&c.tree), 1, wanted).map_err(|fault| fault.kind)
        };
        assert_eq!(large(99_999, true), Err(FaultKind::TooLarge));
        assert_eq!(large(99_999, false), Ok(None), "nobody wants it");
        assert_eq!(large(100_000, true), Ok(None));
        assert!(!w.path("small").exists());
    }

    #[test]
    fn t9_on_fat_files_lie_under_names_that_it_can_hold() {
        let w = TestDisk::new(StorageMode::Plain, 65_536, &[("CON", 10), ("d/a:b", 20), ("d/A_b", 30), ("d/plain", 40)]);
        let lies = |fs| {
            let tree = Dir::open(&w.torrent.dir, true).unwrap();
            let c = Arc::new(torrent_files_on(fs, tree, w.key, w.torrent.clone()).unwrap());
            OpenFiles::new(4, false).write(&c, 0, &[&w.bytes]).unwrap();
            let mut names = std::fs::read_dir(w.path("d")).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
            names.sort();
            std::fs::remove_dir_all(w.path("d")).unwrap();
            names
        };
        assert_eq!(lies(FsKind::Fat { file_max: 1 << 30 }), ["A_b.1", "a_b", "plain"]);
        assert!(w.path("_CON").exists() && !w.path("CON").exists());
        assert_eq!(lies(FsKind::Native), ["A_b", "a:b", "plain"]);
    }

    #[test]
    fn r4_summer_time_another_zone_and_steps_of_two_seconds_are_no_change_on_fat() {
        for (then, now, same) in
            [(0, 0, true), (0, 2, true), (0, 3600, true), (7200, 2, true), (0, -3 * 900, true), (0, 300, false)]
        {
            assert_eq!(fat_same_time(then, now), same, "{then} {now}");
        }
        let then = FileStamp { inode: 1, size: 10, mtime_s: 1_700_000_000, mtime_ns: 5 };
        // A clock that began in 1970 and was set right in between, or jumped back: another time is another content where times are exact.
        let fresh = FileStamp { mtime_s: 12, ..then };
        assert_eq!(compare(Some(then), fresh, true, FsKind::Native, 10), FileChange::Theirs);
        assert_eq!(compare(Some(fresh), then, true, FsKind::Native, 10), FileChange::Ours);
    }
}
