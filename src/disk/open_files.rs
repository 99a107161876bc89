//! A torrent's content on the disk, and the bounded set of descriptors through which one worker reaches it.
//!
//! [`TorrentFiles`] does not change once it is open (but for one bit a file), so every thread may hold it. [`OpenFiles`] belongs to one worker.
//! Invariants: a file with unsynced writes is never closed before an `fdatasync` said that they are safe (a write-back
//! error is told only to descriptors that were open at the time), unless a sync of the whole file system will tell; nothing existing is truncated; pad bytes are never
//! written and read as zeros.

use super::dir::{Dir, FsKind, syncfs_reports_errors};
use super::fault::{DiskFault, FaultKind, Operation};
use super::layout::{FileSpan, Layout};
use super::limits;
use super::resume::{FileStamp, SeenFile};
use crate::units::{BlockSpan, Geometry, InfoHash, PieceHash, PieceIndex, TorrentKey};
use crate::wire::PieceHashes;
use rustix::io::{Errno, retry_on_intr};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

/// An open torrent's content: what it is and where it lies.
#[derive(Debug)]
pub(super) struct TorrentFiles {
    pub key: TorrentKey,
    pub info_hash: InfoHash,
    pub geometry: Geometry,
    pub layout: Layout,
    pub hashes: PieceHashes,
    pub tree: Dir,
    pub fs: FsKind,
    pub read_only: bool,
    pub grown: PresizedFiles,
}

/// Files that were given their length, or had it when they were first written to: one that lost it later was changed by
/// somebody else. The only thing of a content that changes, a bit at a time.
#[derive(Debug)]
pub(super) struct PresizedFiles(Box<[AtomicU32]>);

impl PresizedFiles {
    /// None of so many.
    pub fn none(files: usize) -> PresizedFiles {
        PresizedFiles((0..files.div_ceil(32)).map(|_| AtomicU32::new(0)).collect())
    }

    fn has(&self, file: usize) -> bool {
        self.0.get(file / 32).is_some_and(|bits| bits.load(Acquire) & 1 << (file % 32) != 0)
    }

    fn set(&self, file: usize) {
        if let Some(bits) = self.0.get(file / 32) {
            bits.fetch_or(1 << (file % 32), Release);
        }
    }
}

impl TorrentFiles {
    /// What the piece's bytes must hash to.
    pub fn expected(&self, piece: PieceIndex) -> PieceHash {
        let at = piece.as_usize() * 20;
        PieceHash::from_slice(self.hashes.get(at..at + 20).unwrap_or(&[0; 20])).unwrap_or(PieceHash([0; 20]))
    }

    /// The segments of a span.
    pub fn segments(&self, span: BlockSpan) -> impl Iterator<Item = FileSpan> + '_ {
        self.layout.segments(self.geometry.offset(span), u64::from(span.len()))
    }

    /// The full path of a file, for messages.
    pub fn full_path(&self, file: usize) -> PathBuf {
        self.tree.full(&self.layout.path(file))
    }

    /// A fault of this file.
    pub fn fault(&self, doing: Operation, file: usize, errno: Errno) -> DiskFault {
        DiskFault::new(doing, &self.full_path(file), errno)
    }

    /// A fault of this file that the system did not complain about.
    pub fn fault_plain(&self, kind: FaultKind, file: usize) -> DiskFault {
        DiskFault::plain(kind, &self.full_path(file))
    }
}

#[derive(Debug)]
struct OpenFile {
    content: Arc<TorrentFiles>,
    file: usize,
    fd: Arc<OwnedFd>,
    write: bool,
    on_root_device: bool,
    dirty: bool,
    used: u64,
}

impl OpenFile {
    fn is(&self, torrent: TorrentKey, file: usize) -> bool {
        self.file == file && self.content.key == torrent
    }

    /// What it is now, if it still lies at its path and is as long as it was made: bytes in a file that was deleted or replaced are
    /// found by nobody again, and those that were cut off are nowhere.
    fn stamp(&self) -> Result<FileStamp, DiskFault> {
        let c = &self.content;
        let ours = rustix::fs::fstat(&self.fd).map_err(|e| c.fault(Operation::Sync, self.file, e))?;
        let short = c.fs.sparse() && (ours.st_size as u64) < c.layout.file(self.file).length;
        let there = c.tree.stat(&c.layout.path(self.file))?;
        match there.is_some_and(|there| there.st_ino == ours.st_ino) && !short {
            true => Ok(FileStamp::of(&ours)),
            false => Err(c.fault_plain(FaultKind::Changed, self.file)),
        }
    }
}

/// What a torrent left to be made safe at the next checkpoint, as far as one worker knows.
#[derive(Debug, Default)]
pub(super) struct PendingSync {
    /// Files that got bytes since the last checkpoint and are owed a sync of their own.
    sync: BTreeSet<usize>,
    /// Directories that got entries.
    dirs: BTreeSet<PathBuf>,
    /// Files were closed unsynced: the whole file system is owed a sync, which covers files and directories alike.
    everything: bool,
    /// How many of them since the last such sync.
    unsynced: usize,
    /// A sync that failed: what it covered is unknown for good, so nothing may be claimed any more.
    failed: Option<DiskFault>,
}

/// The descriptors of one worker.
#[derive(Debug)]
pub(super) struct OpenFiles {
    open: Vec<OpenFile>,
    owed: BTreeMap<TorrentKey, PendingSync>,
    /// What files were like when they were synced or closed, until somebody takes it to where the records are.
    seen: BTreeMap<TorrentKey, Vec<SeenFile>>,
    capacity: usize,
    /// Whether anything will be claimed after a restart. If nothing is, nobody waits for the device.
    durable: bool,
    /// Whether a file may be closed unsynced, because a sync of its file system tells of errors, too.
    closes_unsynced: bool,
    clock: u64,
}

impl OpenFiles {
    /// Room for `capacity` descriptors. `durable`: what is written will be claimed by a record, so it must be safe first.
    pub fn new(capacity: usize, durable: bool) -> OpenFiles {
        let closes_unsynced = syncfs_reports_errors();
        let capacity = capacity.max(limits::WORKER_FILES_MIN);
        let (open, owed, seen) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        OpenFiles { open, owed, seen, capacity, durable, closes_unsynced, clock: 0 }
    }

    fn make_safe(&self, o: &OpenFile) -> Result<(), DiskFault> {
        if !self.durable {
            return Ok(());
        }
        // An interrupted flush has told nothing yet, neither good nor bad: it is asked again.
        retry_on_intr(|| rustix::fs::fdatasync(&o.fd)).map_err(|e| o.content.fault(Operation::Sync, o.file, e))
    }

    /// A descriptor to read the file, or also to write it; writing makes it if it is not there.
    pub fn get(&mut self, c: &Arc<TorrentFiles>, file: usize, write: bool) -> Result<&Arc<OwnedFd>, DiskFault> {
        self.open_cached(c, file, write).map(|i| &self.open[i].fd)
    }

    /// Where its descriptor is among those that are open.
    fn open_cached(&mut self, c: &Arc<TorrentFiles>, file: usize, write: bool) -> Result<usize, DiskFault> {
        self.clock += 1;
        if let Some(i) = self.open.iter().position(|o| o.is(c.key, file)) {
            if self.open[i].write || !write {
                self.open[i].used = self.clock;
                return Ok(i);
            }
            self.open.swap_remove(i); // opened to read only, so nothing is owed for it
        }
        while self.open.len() >= self.capacity {
            self.close_oldest();
        }
        let path = c.layout.path(file);
        // Asked before it is looked at: another worker may give it its length in between.
        let grown = c.grown.has(file);
        let opened = match write {
            // An O_RDWR descriptor serves both, but a reader must not make files or need the right to write.
            true => c.tree.open_or_create(&path)?,
            false => c.tree.file(&path, false)?,
        };
        let length = c.layout.file(file).length;
        if write {
            let short = c.fs.sparse() && opened.size < length;
            if grown && (short || opened.new) {
                return Err(c.fault_plain(FaultKind::Changed, file));
            }
            if short {
                retry_on_intr(|| rustix::fs::ftruncate(&opened.fd, length)).map_err(|e| c.fault(Operation::Create, file, e))?;
                self.owed.entry(c.key).or_default().sync.insert(file);
            }
            c.grown.set(file);
        }
        if !opened.new_entries_in.is_empty() {
            self.owed.entry(c.key).or_default().dirs.extend(opened.new_entries_in);
        }
        let (fd, on_root_device) = (Arc::new(opened.fd), opened.on_root_device && c.fs.sparse());
        self.open.push(OpenFile { content: c.clone(), file, fd, write, on_root_device, dirty: false, used: self.clock });
        Ok(self.open.len() - 1)
    }

    fn close_oldest(&mut self) {
        // Clean descriptors go first: closing a dirty one costs a flush.
        let Some((i, _)) = self.open.iter().enumerate().min_by_key(|(_, o)| (o.dirty, o.used)) else { return };
        let gone = self.open.swap_remove(i);
        if !gone.dirty {
            return;
        }
        // Of many small files each is open for a moment: one sync for all of them costs less than one for each.
        let later = self.closes_unsynced && gone.on_root_device;
        let safe = if later { Ok(()) } else { self.make_safe(&gone) };
        let stamp = safe.and_then(|()| gone.stamp());
        let key = gone.content.key;
        let owed = self.owed.entry(key).or_default();
        owed.everything |= later && self.durable;
        owed.unsynced += usize::from(later);
        if owed.unsynced >= limits::UNSYNCED_FILES {
            // Nothing but time for the disk: what this says or does not say, the sync of the checkpoint says again.
            owed.unsynced = 0;
            let _ = rustix::fs::syncfs(&gone.fd);
        }
        match stamp {
            Ok(stamp) => {
                owed.sync.remove(&gone.file);
                self.note(key, gone.file, stamp);
            }
            Err(f) => drop(owed.failed.get_or_insert(f)),
        }
    }

    fn note(&mut self, key: TorrentKey, file: usize, stamp: FileStamp) {
        self.seen.entry(key).or_default().push(SeenFile { file: file as u32, stamp });
    }

    /// What files were like when they were closed or synced, of each torrent that has so many of them.
    pub fn take_stamps(&mut self, at_least: usize) -> Vec<(TorrentKey, Vec<SeenFile>)> {
        let many: Vec<_> = self.seen.iter().filter(|(_, seen)| seen.len() >= at_least).map(|(key, _)| *key).collect();
        many.into_iter().filter_map(|key| self.seen.remove_entry(&key)).collect()
    }

    /// Notes that the file got bytes through this worker's descriptor.
    pub fn mark_dirty(&mut self, torrent: TorrentKey, file: usize) {
        if let Some(o) = self.open.iter_mut().find(|o| o.is(torrent, file)) {
            if !o.dirty {
                o.dirty = true;
                self.owed.entry(torrent).or_default().sync.insert(file);
            }
        }
    }

    /// Notes that a piece got bytes in another way than by [`write`](Self::write): through windows, or from somebody else whose writes
    /// may not be safe yet.
    pub fn mark_unsynced(&mut self, c: &TorrentFiles, piece: PieceIndex) {
        for s in c.segments(c.geometry.whole(piece)).filter(|s| !s.pad) {
            self.mark_dirty(c.key, s.file);
            self.owed.entry(c.key).or_default().sync.insert(s.file);
        }
    }

    /// Writes consecutive slices from torrent offset `offset` on.
    pub fn write(&mut self, c: &Arc<TorrentFiles>, offset: u64, slices: &[&[u8]]) -> Result<(), DiskFault> {
        let len = slices.iter().map(|s| s.len() as u64).sum();
        let mut rest = slices.iter().copied();
        let mut head: &[u8] = &[];
        let mut list: Vec<IoSlice<'_>> = Vec::with_capacity(slices.len().min(limits::WRITE_SLICES));
        for s in c.layout.segments(offset, len) {
            list.clear();
            let mut wanted = s.len as usize;
            let mut at = s.at;
            while wanted > 0 {
                if head.is_empty() {
                    head = rest.next().unwrap_or_default();
                }
                let (now, later) = head.split_at(head.len().min(wanted));
                list.push(IoSlice::new(now));
                wanted -= now.len();
                head = later;
                if list.len() == limits::WRITE_SLICES || wanted == 0 {
                    if !s.pad {
                        at = self.write_all(c, s.file, at, &mut list)?;
                    }
                    list.clear();
                }
            }
        }
        Ok(())
    }

    /// Writes the slices to one file; a short write is carried on, and says its errno when nothing more fits.
    fn write_all(&mut self, c: &Arc<TorrentFiles>, file: usize, mut at: u64, list: &mut [IoSlice<'_>]) -> Result<u64, DiskFault> {
        let fd = self.get(c, file, true)?.clone();
        check_not_truncated(c, file, &fd)?;
        self.mark_dirty(c.key, file);
        let mut list = list;
        while !list.is_empty() {
            match rustix::io::pwritev(&*fd, list, at) {
                Ok(0) => return Err(c.fault(Operation::Write, file, Errno::NOSPC)),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut list, n);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(c.fault(Operation::Write, file, e)),
            }
        }
        Ok(at)
    }

    /// Reads bytes from torrent offset `offset` on; a file that ends too early is `Changed`.
    pub fn read(&mut self, c: &Arc<TorrentFiles>, offset: u64, into: &mut [u8]) -> Result<(), DiskFault> {
        let mut done = 0;
        for s in c.layout.segments(offset, into.len() as u64) {
            let part = &mut into[done..done + s.len as usize];
            done += part.len();
            if s.pad {
                part.fill(0);
                continue;
            }
            let fd = self.get(c, s.file, false)?;
            read_exact_at(fd, part, s.at).map_err(|e| match e {
                Some(e) => c.fault(Operation::Read, s.file, e),
                None => c.fault_plain(FaultKind::Changed, s.file),
            })?;
        }
        Ok(())
    }

    /// Makes everything safe that this worker wrote for the torrent. After one failure it fails for good: the lost pages are marked clean.
    pub fn sync(&mut self, c: &Arc<TorrentFiles>) -> Result<(), DiskFault> {
        let mut owed = self.owed.remove(&c.key).unwrap_or_default();
        let result = match owed.failed.take() {
            Some(f) => Err(f),
            None => self.sync_owed(c, owed),
        };
        if let Err(f) = &result {
            self.owed.entry(c.key).or_default().failed = Some(f.clone());
        }
        result
    }

    fn sync_owed(&mut self, c: &Arc<TorrentFiles>, owed: PendingSync) -> Result<(), DiskFault> {
        for file in owed.sync {
            let i = self.open_cached(c, file, false)?;
            self.make_safe(&self.open[i])?;
            self.open[i].dirty = false;
            let stamp = self.open[i].stamp()?;
            self.note(c.key, file, stamp);
        }
        if owed.everything {
            return c.tree.sync_all();
        }
        for dir in owed.dirs.iter().filter(|_| self.durable) {
            c.tree.sync_dir(dir)?;
        }
        Ok(())
    }

    /// Forgets the torrent and closes its files; whoever wants its bytes safe has synced before.
    pub fn forget(&mut self, torrent: TorrentKey) {
        self.open.retain(|o| o.content.key != torrent);
        self.owed.remove(&torrent);
        self.seen.remove(&torrent);
    }
}

/// Whether an open file is still what it was when it got its length: bytes behind the end of a file that was cut would hide
/// that it was, and bytes in one that was deleted are lost.
pub(super) fn check_not_truncated(c: &TorrentFiles, file: usize, fd: &OwnedFd) -> Result<(), DiskFault> {
    let stat = rustix::fs::fstat(fd).map_err(|e| c.fault(Operation::Open, file, e))?;
    let cut = c.fs.sparse() && (stat.st_size as u64) < c.layout.file(file).length;
    if cut || stat.st_nlink == 0 { Err(c.fault_plain(FaultKind::Changed, file)) } else { Ok(()) }
}

/// Reads exactly; `Err(None)` says that the file ends before that.
pub(super) fn read_exact_at(fd: &OwnedFd, mut into: &mut [u8], mut at: u64) -> Result<(), Option<Errno>> {
    while !into.is_empty() {
        match rustix::io::pread(fd, &mut *into, at) {
            Ok(0) => return Err(None),
            Ok(n) => {
                at += n as u64;
                into = &mut into[n..];
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(Some(e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::recheck::torrent_files;
    use super::super::tests::TestDisk;
    use super::*;
    use crate::disk::StorageMode;

    fn content(w: &TestDisk, fs: FsKind) -> Arc<TorrentFiles> {
        Arc::new(TorrentFiles { fs, ..torrent_files(w.key, w.torrent.clone(), true).unwrap() })
    }

    /// Syncs; which files were seen since last time.
    fn synced(files: &mut OpenFiles, c: &Arc<TorrentFiles>) -> Result<BTreeSet<u32>, DiskFault> {
        files.sync(c)?;
        Ok(files.take_stamps(1).into_iter().flat_map(|(_, seen)| seen).map(|seen| seen.file).collect())
    }

    #[test]
    fn a_file_gets_its_full_length_only_where_that_costs_nothing() {
        let w = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 1_000_000)]);
        for (fs, size) in [(FsKind::Fat { file_max: 1 << 30 }, 100_000), (FsKind::Remote, 100_000), (FsKind::Native, 1_000_000)] {
            let c = content(&w, fs);
            OpenFiles::new(4, true).write(&c, 0, &[&[1; 100_000]]).unwrap();
            assert_eq!(std::fs::metadata(w.path("x")).unwrap().len(), size, "{fs:?}");
        }
    }

    #[test]
    fn more_files_than_descriptors_lose_nothing_and_stay_owed() {
        let names: Vec<String> = (0..30).map(|i| format!("d{}/f{i}", i % 3)).collect();
        let shape: Vec<_> = names.iter().map(|n| (n.as_str(), 1000)).collect();
        let w = TestDisk::new(StorageMode::Plain, 4096, &shape);
        let c = content(&w, FsKind::Native);
        let mut files = OpenFiles::new(5, true);
        let slices: Vec<&[u8]> = w.bytes.chunks(777).collect();
        files.write(&c, 0, &slices).unwrap();
        assert!(files.open.len() <= 5);
        w.assert_content();
        let mut back = vec![0; w.bytes.len()];
        files.read(&c, 0, &mut back).unwrap();
        assert!(back == w.bytes);
        assert_eq!(synced(&mut files, &c).unwrap().len(), 30, "each file is named at the checkpoint, closed or not");
        assert_eq!(synced(&mut files, &c), Ok(BTreeSet::new()));
    }

    /// Both find it missing, or short, and one is the first to give it its length: that is nobody else's doing.
    #[test]
    fn workers_that_make_a_file_at_the_same_moment_do_not_take_each_other_for_a_stranger() {
        const FILES: usize = 1000;
        let names: Vec<String> = (0..FILES).map(|i| format!("f{i}")).collect();
        let shape: Vec<_> = names.iter().map(|n| (n.as_str(), 8192)).collect();
        let w = TestDisk::new(StorageMode::Plain, 4096, &shape);
        let (c, both) = (content(&w, FsKind::Native), std::sync::Barrier::new(2));
        let half = |at: usize| {
            let mut files = OpenFiles::new(4, true);
            let one = |i: usize| {
                let at = i * 8192 + at;
                both.wait();
                files.write(&c, at as u64, &[&w.bytes[at..at + 4096]]).err()
            };
            (0..FILES).filter_map(one).collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let second = scope.spawn(|| half(4096));
            assert_eq!((half(0), second.join().unwrap()), (Vec::new(), Vec::new()));
        });
        w.assert_content();
    }

    #[test]
    fn a_failed_sync_is_never_followed_by_a_good_one() {
        let w = TestDisk::new(StorageMode::Plain, 4096, &[("x", 5000)]);
        let c = content(&w, FsKind::Native);
        let mut files = OpenFiles::new(4, true);
        files.write(&c, 0, &[&w.bytes]).unwrap();
        std::fs::remove_file(w.path("x")).unwrap();
        assert_eq!(synced(&mut files, &c).unwrap_err().kind, FaultKind::Changed);
        std::fs::write(w.path("x"), &w.bytes).unwrap();
        assert_eq!(synced(&mut files, &c).unwrap_err().kind, FaultKind::Changed);
        files.forget(c.key);
        assert_eq!(synced(&mut files, &c), Ok(BTreeSet::new()));
    }
}
