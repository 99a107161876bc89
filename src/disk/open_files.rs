//! The bounded set of descriptors through which one worker reaches files, and the syncs that are pending for
//! them.
//!
//! Invariants: a file with unsynced writes is not closed before an `fdatasync` succeeded, because the kernel
//! reports a write-back error only to descriptors that were open at the time; the exception is a file that a
//! later `syncfs` covers, on kernels where that reports such errors. Nothing existing is truncated. Pad bytes
//! are never written and read as zeros.

use super::dir::{read_exact_at, syncfs_reports_errors};
use super::fault::{DiskFault, FaultKind, Operation};
use super::layout::FileSpan;
use super::limits;
use super::stamp::{FileStamp, SeenFile};
use super::torrent_files::TorrentFiles;
use crate::units::{PieceIndex, TorrentKey};
use rustix::io::{Errno, retry_on_intr};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug)]
struct OpenFile {
    torrent: Arc<TorrentFiles>,
    file: usize,
    fd: Arc<OwnedFd>,
    write: bool,
    /// A `syncfs` of the torrent's directory covers this file.
    on_root_device: bool,
    dirty: bool,
    used: u64,
}

impl OpenFile {
    fn is(&self, torrent: TorrentKey, file: usize) -> bool {
        self.file == file && self.torrent.key == torrent
    }

    /// Its stamp, if it still lies at its path and has its full length. Bytes in a file that was deleted or
    /// replaced are out of reach after a restart, and bytes that were cut off are lost.
    fn stamp(&self) -> Result<FileStamp, DiskFault> {
        let torrent = &self.torrent;
        let ours = rustix::fs::fstat(&self.fd).map_err(|e| torrent.fault(Operation::Sync, self.file, e))?;
        let short = torrent.fs.sparse() && (ours.st_size as u64) < torrent.length(self.file);
        let at_path = {
            let _kept = torrent.names.keep();
            torrent.dir.stat(&torrent.path(self.file))?
        };
        if at_path.is_some_and(|at_path| at_path.st_ino == ours.st_ino) && !short {
            Ok(FileStamp::of(&ours))
        } else {
            Err(torrent.fault_without_errno(FaultKind::Changed, self.file))
        }
    }
}

/// What the next checkpoint of a torrent has to sync, as far as one worker knows.
#[derive(Debug, Default)]
struct PendingSync {
    /// Files that got bytes since the last checkpoint and need a sync of their own.
    files: BTreeSet<usize>,
    /// Directories that got entries.
    dirs: BTreeSet<PathBuf>,
    /// Files were closed unsynced, so the file system needs a sync; that covers files and directories alike.
    whole_fs: bool,
    /// The number of such files since the last sync of the file system.
    closed_unsynced: usize,
    /// A sync that failed. The state of what it covered is unknown for good, so no later checkpoint may
    /// succeed.
    failed: Option<DiskFault>,
}

/// The descriptors of one worker.
#[derive(Debug)]
pub(super) struct OpenFiles {
    open: Vec<OpenFile>,
    pending: BTreeMap<TorrentKey, PendingSync>,
    /// The stamps of files that were synced or closed, until they are sent to the worker that keeps the
    /// record.
    seen: BTreeMap<TorrentKey, Vec<SeenFile>>,
    capacity: usize,
    /// Whether a record will claim what is written. If not, no write waits for the device.
    durable: bool,
    /// Whether a file may be closed unsynced, because a sync of its file system reports errors, too.
    may_close_unsynced: bool,
    clock: u64,
}

impl OpenFiles {
    /// A set of at most `capacity` descriptors. `durable`: a record will claim what is written, so it has to
    /// be synced first.
    pub fn new(capacity: usize, durable: bool) -> OpenFiles {
        OpenFiles {
            open: Vec::new(),
            pending: BTreeMap::new(),
            seen: BTreeMap::new(),
            capacity: capacity.max(limits::WORKER_FILES_MIN),
            durable,
            may_close_unsynced: syncfs_reports_errors(),
            clock: 0,
        }
    }

    fn sync_file(&self, file: &OpenFile) -> Result<(), DiskFault> {
        if !self.durable {
            return Ok(());
        }
        // An interrupted flush has reported neither success nor failure, so it is repeated.
        retry_on_intr(|| rustix::fs::fdatasync(&file.fd))
            .map_err(|e| file.torrent.fault(Operation::Sync, file.file, e))
    }

    /// A descriptor to read the file, or with `write` to write it, too; `write` creates a missing file.
    pub fn get(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        file: usize,
        write: bool,
    ) -> Result<&Arc<OwnedFd>, DiskFault> {
        self.open_cached(torrent, file, write).map(|i| &self.open[i].fd)
    }

    /// The index of the file's descriptor, opened if need be.
    fn open_cached(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        file: usize,
        write: bool,
    ) -> Result<usize, DiskFault> {
        self.clock += 1;
        if let Some(i) = self.open.iter().position(|o| o.is(torrent.key, file)) {
            if self.open[i].write || !write {
                self.open[i].used = self.clock;
                return Ok(i);
            }
            self.open.swap_remove(i); // it was opened for reading only, so no sync is pending
        }
        while self.open.len() >= self.capacity {
            self.close_oldest();
        }
        // Read before the length is: another worker may set both in between.
        let presized = torrent.presized.has(file);
        // An O_RDWR descriptor serves both, but a reader must not create files or need the right to write.
        let opened = {
            let _kept = torrent.names.keep();
            if write { torrent.open_or_create(file)? } else { torrent.dir.open_file(&torrent.path(file))? }
        };
        let length = torrent.length(file);
        if write {
            // Read after the file was opened: another worker sets it before the file gets its length.
            if !opened.new && opened.size > 0 && !torrent.own.has(file) {
                return Err(torrent.fault_without_errno(FaultKind::NotOurs, file));
            }
            torrent.own.set(file);
            let short = torrent.fs.sparse() && opened.size < length;
            if presized && (short || opened.new) {
                return Err(torrent.fault_without_errno(FaultKind::Changed, file));
            }
            if short {
                let grow = || rustix::fs::ftruncate(&opened.fd, length);
                retry_on_intr(grow).map_err(|e| torrent.fault(Operation::Create, file, e))?;
                self.pending.entry(torrent.key).or_default().files.insert(file);
            }
            torrent.presized.set(file);
        }
        if !opened.new_entries_in.is_empty() {
            self.pending.entry(torrent.key).or_default().dirs.extend(opened.new_entries_in);
        }
        self.open.push(OpenFile {
            torrent: torrent.clone(),
            file,
            fd: Arc::new(opened.fd),
            write,
            on_root_device: opened.on_root_device && torrent.fs.sparse(),
            dirty: false,
            used: self.clock,
        });
        Ok(self.open.len() - 1)
    }

    /// Creates a file without content, unless it exists. True: it is new.
    pub fn create_empty(&mut self, torrent: &TorrentFiles, file: usize) -> Result<bool, DiskFault> {
        let opened = torrent.open_or_create(file)?;
        self.pending.entry(torrent.key).or_default().dirs.extend(opened.new_entries_in);
        Ok(opened.new)
    }

    /// Creates a directory, unless it exists. True: it is new.
    pub fn create_dir(&mut self, torrent: &TorrentFiles, path: &Path) -> Result<bool, DiskFault> {
        let mut new_entries_in = Vec::new();
        torrent.dir.create_dirs(path, &mut new_entries_in)?;
        let new = !new_entries_in.is_empty();
        self.pending.entry(torrent.key).or_default().dirs.extend(new_entries_in);
        Ok(new)
    }

    fn close_oldest(&mut self) {
        // Clean descriptors first: closing a dirty one costs a flush.
        let Some((i, _)) = self.open.iter().enumerate().min_by_key(|(_, o)| (o.dirty, o.used)) else {
            return;
        };
        let closing = self.open.swap_remove(i);
        if !closing.dirty {
            return;
        }
        // Many small files are open for a moment each: one sync for all of them costs less than one each.
        let later = self.may_close_unsynced && closing.on_root_device;
        let synced = if later { Ok(()) } else { self.sync_file(&closing) };
        let stamp = synced.and_then(|()| closing.stamp());
        let key = closing.torrent.key;
        let pending = self.pending.entry(key).or_default();
        pending.whole_fs |= later && self.durable;
        pending.closed_unsynced += usize::from(later);
        if pending.closed_unsynced >= limits::UNSYNCED_FILES {
            // Only to give the disk time: the sync of the checkpoint reports any error again.
            pending.closed_unsynced = 0;
            let _ = rustix::fs::syncfs(&closing.fd);
        }
        match stamp {
            Ok(stamp) => {
                pending.files.remove(&closing.file);
                self.add_stamp(&closing.torrent, closing.file, stamp);
            }
            Err(fault) => {
                pending.failed.get_or_insert(fault);
            }
        }
    }

    fn add_stamp(&mut self, torrent: &TorrentFiles, file: usize, stamp: FileStamp) {
        if file == torrent.parts_index() {
            return;
        }
        let key = torrent.key;
        self.seen.entry(key).or_default().push(SeenFile { file: file as u32, stamp });
    }

    /// Takes the stamps of files that were closed or synced, of each torrent that has at least so many of
    /// them.
    pub fn take_stamps(&mut self, at_least: usize) -> Vec<(TorrentKey, Vec<SeenFile>)> {
        let many: Vec<_> =
            self.seen.iter().filter(|(_, seen)| seen.len() >= at_least).map(|(key, _)| *key).collect();
        many.into_iter().filter_map(|key| self.seen.remove_entry(&key)).collect()
    }

    /// Notes that the file got bytes through this worker's descriptor.
    pub fn mark_dirty(&mut self, torrent: TorrentKey, file: usize) {
        if let Some(o) = self.open.iter_mut().find(|o| o.is(torrent, file)) {
            if !o.dirty {
                o.dirty = true;
                self.pending.entry(torrent).or_default().files.insert(file);
            }
        }
    }

    /// Notes that a piece got bytes other than by [`write`](Self::write): through windows, or before the
    /// torrent was opened.
    pub fn mark_unsynced(&mut self, torrent: &TorrentFiles, piece: PieceIndex) {
        let parts = torrent.parts_index();
        let exists = |span: &FileSpan| !span.pad && (span.file != parts || torrent.own.has(parts));
        for span in torrent.file_spans(torrent.geometry.whole(piece)).filter(exists) {
            self.mark_dirty(torrent.key, span.file);
            self.pending.entry(torrent.key).or_default().files.insert(span.file);
        }
    }

    /// Writes consecutive slices from torrent offset `offset` on.
    pub fn write(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        offset: u64,
        slices: &[&[u8]],
    ) -> Result<(), DiskFault> {
        let len = slices.iter().map(|s| s.len() as u64).sum();
        let mut rest = slices.iter().copied();
        let mut head: &[u8] = &[];
        let mut list: Vec<IoSlice<'_>> = Vec::with_capacity(slices.len().min(limits::WRITE_SLICES));
        for span in torrent.file_spans_at(offset, len) {
            if span.file == torrent.parts_index() {
                self.write_slot_header(torrent, offset)?;
            }
            list.clear();
            let mut wanted = span.len as usize;
            let mut at = span.at;
            while wanted > 0 {
                if head.is_empty() {
                    head = rest.next().unwrap_or_default();
                }
                let (now, later) = head.split_at(head.len().min(wanted));
                list.push(IoSlice::new(now));
                wanted -= now.len();
                head = later;
                if list.len() == limits::WRITE_SLICES || wanted == 0 {
                    if !span.pad {
                        at = self.write_all(torrent, span.file, at, &mut list)?;
                    }
                    list.clear();
                }
            }
        }
        Ok(())
    }

    /// Closes a file that is about to be removed.
    pub fn close_unsynced(&mut self, torrent: TorrentKey, file: usize) {
        self.open.retain(|o| !o.is(torrent, file));
        if let Some(pending) = self.pending.get_mut(&torrent) {
            pending.files.remove(&file);
        }
    }

    /// Writes the slices to one file. A short write is continued; the next write then reports the reason.
    pub fn write_all(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        file: usize,
        mut at: u64,
        mut list: &mut [IoSlice<'_>],
    ) -> Result<u64, DiskFault> {
        let fd = self.get(torrent, file, true)?.clone();
        check_not_truncated(torrent, file, &fd)?;
        self.mark_dirty(torrent.key, file);
        while !list.is_empty() {
            match rustix::io::pwritev(&*fd, list, at) {
                Ok(0) => return Err(torrent.fault(Operation::Write, file, Errno::NOSPC)),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut list, n);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(torrent.fault(Operation::Write, file, e)),
            }
        }
        Ok(at)
    }

    /// Reads bytes from torrent offset `offset` on. A file that ends too early is the fault `Changed`.
    pub fn read(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), DiskFault> {
        let mut done = 0;
        for span in torrent.file_spans_at(offset, into.len() as u64) {
            let part = &mut into[done..done + span.len as usize];
            done += part.len();
            if span.pad {
                part.fill(0);
                continue;
            }
            let fd = self.get(torrent, span.file, false)?;
            read_exact_at(fd, part, span.at).map_err(|e| match e {
                Some(e) => torrent.fault(Operation::Read, span.file, e),
                None => torrent.fault_without_errno(FaultKind::Changed, span.file),
            })?;
        }
        Ok(())
    }

    /// Syncs all that this worker wrote for the torrent. After one failure it fails for good: the kernel
    /// marks lost pages clean.
    pub fn sync(&mut self, torrent: &Arc<TorrentFiles>) -> Result<(), DiskFault> {
        let mut pending = self.pending.remove(&torrent.key).unwrap_or_default();
        let result = match pending.failed.take() {
            Some(fault) => Err(fault),
            None => self.sync_pending(torrent, pending),
        };
        if let Err(fault) = &result {
            self.pending.entry(torrent.key).or_default().failed = Some(fault.clone());
        }
        result
    }

    fn sync_pending(&mut self, torrent: &Arc<TorrentFiles>, pending: PendingSync) -> Result<(), DiskFault> {
        for file in pending.files {
            let i = self.open_cached(torrent, file, false)?;
            self.sync_file(&self.open[i])?;
            self.open[i].dirty = false;
            let stamp = self.open[i].stamp()?;
            self.add_stamp(torrent, file, stamp);
        }
        if pending.whole_fs {
            return torrent.dir.sync_fs();
        }
        for dir in pending.dirs.iter().filter(|_| self.durable) {
            torrent.dir.sync_dir(dir)?;
        }
        Ok(())
    }

    /// Closes the torrent's files and forgets pending syncs; a caller that needs the bytes on the disk has
    /// synced before.
    pub fn forget(&mut self, torrent: TorrentKey) {
        self.open.retain(|o| o.torrent.key != torrent);
        self.pending.remove(&torrent);
        self.seen.remove(&torrent);
    }
}

/// Checks that an open file still has its full length and a name. Writing behind the end of a truncated file
/// would hide that it was truncated, and bytes in a deleted file are lost.
pub(super) fn check_not_truncated(
    torrent: &TorrentFiles,
    file: usize,
    fd: &OwnedFd,
) -> Result<(), DiskFault> {
    let stat = rustix::fs::fstat(fd).map_err(|e| torrent.fault(Operation::Open, file, e))?;
    let short = torrent.fs.sparse() && (stat.st_size as u64) < torrent.length(file);
    if short || stat.st_nlink == 0 {
        Err(torrent.fault_without_errno(FaultKind::Changed, file))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::dir::FsKind;
    use super::super::testing::TestDisk;
    use super::*;
    use crate::disk::StorageMode;

    fn torrent_on(disk: &TestDisk, fs: FsKind) -> Arc<TorrentFiles> {
        Arc::new(TorrentFiles { fs, ..disk.torrent_files() })
    }

    /// Syncs, and returns the files that got stamps since the last call.
    fn synced(files: &mut OpenFiles, torrent: &Arc<TorrentFiles>) -> Result<BTreeSet<u32>, DiskFault> {
        files.sync(torrent)?;
        Ok(files.take_stamps(1).into_iter().flat_map(|(_, seen)| seen).map(|seen| seen.file).collect())
    }

    #[test]
    fn a_file_gets_its_full_length_only_where_that_costs_nothing() {
        let disk = TestDisk::new(StorageMode::Plain, 65_536, &[("x", 1_000_000)]);
        for (fs, size) in [
            (FsKind::Fat { file_max: 1 << 30 }, 100_000),
            (FsKind::Remote, 100_000),
            (FsKind::Native, 1_000_000),
        ] {
            let torrent = torrent_on(&disk, fs);
            torrent.own.set(0);
            OpenFiles::new(4, true).write(&torrent, 0, &[&[1; 100_000]]).unwrap();
            assert_eq!(std::fs::metadata(disk.path("x")).unwrap().len(), size, "{fs:?}");
        }
    }

    #[test]
    fn more_files_than_descriptors_lose_no_byte_and_no_sync() {
        let names: Vec<String> = (0..30).map(|i| format!("d{}/f{i}", i % 3)).collect();
        let shape: Vec<_> = names.iter().map(|n| (n.as_str(), 1000)).collect();
        let disk = TestDisk::new(StorageMode::Plain, 4096, &shape);
        let torrent = torrent_on(&disk, FsKind::Native);
        let mut files = OpenFiles::new(5, true);
        let slices: Vec<&[u8]> = disk.bytes.chunks(777).collect();
        files.write(&torrent, 0, &slices).unwrap();
        assert!(files.open.len() <= 5);
        disk.assert_content();
        let mut back = vec![0; disk.bytes.len()];
        files.read(&torrent, 0, &mut back).unwrap();
        assert!(back == disk.bytes);
        assert_eq!(
            synced(&mut files, &torrent).unwrap().len(),
            30,
            "each file has a stamp at the checkpoint, closed or not"
        );
        assert_eq!(synced(&mut files, &torrent), Ok(BTreeSet::new()));
    }

    /// Both workers find the file missing, or short, and one of them is the first to give it its length.
    #[test]
    fn two_workers_that_create_a_file_at_once_report_no_change_by_another_program() {
        const FILES: usize = 1000;
        let names: Vec<String> = (0..FILES).map(|i| format!("f{i}")).collect();
        let shape: Vec<_> = names.iter().map(|n| (n.as_str(), 8192)).collect();
        let disk = TestDisk::new(StorageMode::Plain, 4096, &shape);
        let torrent = torrent_on(&disk, FsKind::Native);
        let both = std::sync::Barrier::new(2);
        let write_half = |at: usize| {
            let mut files = OpenFiles::new(4, true);
            let write_one = |i: usize| {
                let at = i * 8192 + at;
                both.wait();
                files.write(&torrent, at as u64, &[&disk.bytes[at..at + 4096]]).err()
            };
            (0..FILES).filter_map(write_one).collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let second = scope.spawn(|| write_half(4096));
            assert_eq!((write_half(0), second.join().unwrap()), (Vec::new(), Vec::new()));
        });
        disk.assert_content();
    }

    #[test]
    fn after_a_failed_sync_no_sync_succeeds() {
        let disk = TestDisk::new(StorageMode::Plain, 4096, &[("x", 5000)]);
        let torrent = torrent_on(&disk, FsKind::Native);
        let mut files = OpenFiles::new(4, true);
        files.write(&torrent, 0, &[&disk.bytes]).unwrap();
        std::fs::remove_file(disk.path("x")).unwrap();
        assert_eq!(synced(&mut files, &torrent).unwrap_err().kind, FaultKind::Changed);
        std::fs::write(disk.path("x"), &disk.bytes).unwrap();
        assert_eq!(synced(&mut files, &torrent).unwrap_err().kind, FaultKind::Changed);
        files.forget(torrent.key);
        assert_eq!(synced(&mut files, &torrent), Ok(BTreeSet::new()));
    }
}
