//! An open torrent as the disk knows it: its files, its piece hashes, and the directory that holds them.
//!
//! Invariant: it does not change once it is open, so every thread may hold it; the exceptions are
//! its [`FileBits`], which gain a bit a file, and its [`PartNames`].

use super::api::OpenTorrent;
use super::dir::{Dir, FsKind, OpenedFile};
use super::fault::{DiskFault, FaultKind, Operation};
use super::hasher::Expected;
use super::layout::{FileSpan, Layout};
use super::part_names::PartNames;
use super::parts_file::PartsFile;
use crate::units::{BlockSpan, Geometry, PieceIndex, TorrentHashes, TorrentKey};
use crate::wire::{PieceHashes, for_fat};
use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

/// The files of one open torrent.
#[derive(Debug)]
pub(super) struct TorrentFiles {
    pub key: TorrentKey,
    pub info_hashes: TorrentHashes,
    pub geometry: Geometry,
    pub layout: Layout,
    pub piece_hashes: PieceHashes,
    pub dir: Dir,
    pub fs: FsKind,
    pub read_only: bool,
    /// The files that had their full length when they were first opened for writing, or were given it then. If
    /// one of them is shorter later, another program truncated it.
    pub presized: FileBits,
    /// The files that existed when the torrent was opened and are its own, and those that were created since.
    pub own: FileBits,
    /// Unwanted files whose bytes lie in the parts file: they do not exist, or another file is at their path.
    pub redirected: FileBits,
    /// Under which name each file lies.
    pub names: PartNames,
    pub parts: PartsFile,
}

/// An offset at which no file has a byte.
pub(super) const NOWHERE: u64 = 1 << 62;

/// One bit for each file, and one for the parts file.
#[derive(Debug)]
pub(super) struct FileBits(Box<[AtomicU32]>);

impl FileBits {
    /// None of so many files.
    pub fn none(files: usize) -> FileBits {
        FileBits((0..(files + 1).div_ceil(32)).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether this file is one of them.
    pub fn has(&self, file: usize) -> bool {
        self.0.get(file / 32).is_some_and(|bits| bits.load(Acquire) & 1 << (file % 32) != 0)
    }

    /// Adds this file.
    pub fn set(&self, file: usize) {
        if let Some(bits) = self.0.get(file / 32) {
            bits.fetch_or(1 << (file % 32), Release);
        }
    }

    /// Removes this file.
    pub fn clear(&self, file: usize) {
        if let Some(bits) = self.0.get(file / 32) {
            bits.fetch_and(!(1 << (file % 32)), Release);
        }
    }
}

impl TorrentFiles {
    /// Opens the torrent's directory; `create` creates it if it does not exist.
    pub fn open(key: TorrentKey, open: OpenTorrent, create: bool) -> Result<TorrentFiles, DiskFault> {
        let dir = Dir::open(&open.dir, create)?;
        let dir = if open.read_only { dir.for_reading() } else { dir };
        let fs = FsKind::of(dir.root());
        TorrentFiles::in_dir(fs, dir, key, open)
    }

    /// The same in a directory that is open, taken for a file system of this kind.
    pub fn in_dir(
        fs: FsKind,
        dir: Dir,
        key: TorrentKey,
        open: OpenTorrent,
    ) -> Result<TorrentFiles, DiskFault> {
        let OpenTorrent {
            info_hashes, geometry, files, piece_hashes, dir: path, read_only, part_names, ..
        } = open;
        let files = if matches!(fs, FsKind::Fat { .. }) { for_fat(&files) } else { files };
        let names = PartNames::new(part_names && !read_only, &files);
        let Some(layout) = Layout::new(files, &geometry) else {
            return Err(DiskFault::without_errno(FaultKind::Internal, &path));
        };
        let parts = match PartsFile::read(&dir, &info_hashes, &geometry) {
            Err(_) if read_only => PartsFile::none(&info_hashes),
            parts => parts?,
        };
        let bits = || FileBits::none(layout.len());
        let (presized, own, redirected) = (bits(), bits(), bits());
        if parts.existed() {
            own.set(layout.len());
        }
        Ok(TorrentFiles {
            key,
            info_hashes,
            geometry,
            layout,
            piece_hashes,
            dir,
            fs,
            read_only,
            presized,
            own,
            redirected,
            names,
            parts,
        })
    }

    /// The hash that the torrent expects of this piece.
    pub fn expected(&self, piece: PieceIndex) -> Expected<'_> {
        let at = piece.as_usize() * 20;
        let hash = self.piece_hashes.get(at..at + 20).and_then(|hash| hash.try_into().ok());
        Expected::Sha1(hash.unwrap_or(&[0; 20]))
    }

    /// The parts of a span in the files, in order. Bytes in the parts file are spans of
    /// [`parts_index`](Self::parts_index), behind the end of every file if the piece has no slot there.
    pub fn file_spans(&self, span: BlockSpan) -> impl Iterator<Item = FileSpan> + '_ {
        self.file_spans_at(self.geometry.offset(span), u64::from(span.len()))
    }

    /// The same of `len` bytes from torrent offset `offset` on, which lie in one piece.
    pub fn file_spans_at(&self, offset: u64, len: u64) -> impl Iterator<Item = FileSpan> + '_ {
        self.layout.file_spans(offset, len).map(|span| {
            if span.pad || !self.redirected.has(span.file) {
                return span;
            }
            let (start, _) = self.layout.range(span.file);
            let at = self.offset_in_parts(start + span.at).unwrap_or(NOWHERE);
            FileSpan { file: self.parts_index(), at, ..span }
        })
    }

    /// Where the byte at this torrent offset lies in the parts file.
    fn offset_in_parts(&self, offset: u64) -> Option<u64> {
        let piece = self.geometry.pieces_of(offset, offset + 1).next()?;
        Some(self.parts.offset(piece)? + offset - self.geometry.piece_offset(piece))
    }

    /// Whether a piece with bytes of this file had a slot in the parts file when the torrent was opened.
    pub fn had_slots(&self, file: usize) -> bool {
        let (start, end) = self.layout.range(file);
        // A file shares its first and its last piece with others, and no piece between them.
        let first = self.geometry.pieces_of(start, end).next();
        let last = self.geometry.pieces_of(end.saturating_sub(1).max(start), end).next();
        first.into_iter().chain(last).any(|piece| self.parts.found(piece))
    }

    /// Whether the torrent has to be opened again for other files to be wanted: a file whose bytes lie in the
    /// parts file becomes wanted, or one that does not exist yet becomes unwanted.
    pub fn must_be_reopened_for(&self, wanted: &[bool]) -> bool {
        self.layout.on_disk().filter(|(_, f)| f.length > 0 && !self.read_only).any(|(file, _)| {
            let redirected = self.redirected.has(file);
            match wanted.get(file) {
                Some(false) => !redirected && !self.own.has(file),
                _ => redirected,
            }
        })
    }

    /// The index that stands for the parts file: the one behind the last file.
    pub fn parts_index(&self) -> usize {
        self.layout.len()
    }

    /// The path at which a file lies now, or that of the parts file, below the torrent's directory.
    pub fn path(&self, file: usize) -> PathBuf {
        if file == self.parts_index() {
            self.parts.path().clone()
        } else if self.names.is_part(file) {
            self.part_path(file)
        } else {
            self.layout.path(file)
        }
    }

    /// The path of a file's part name below the torrent's directory.
    pub fn part_path(&self, file: usize) -> PathBuf {
        self.names.path(file, self.layout.file(file))
    }

    /// Finds out under which name a file lies, or will be created. Returns its `stat`; `None` if it does not
    /// exist.
    pub fn find_file(
        &self,
        file: usize,
        stat: &mut dyn FnMut(&Path) -> Result<Option<Stat>, DiskFault>,
    ) -> Result<Option<Stat>, DiskFault> {
        let found = stat(&self.layout.path(file))?;
        if found.is_some() || self.layout.file(file).length == 0 {
            self.names.set_part(file, false);
            return Ok(found);
        }
        let at_part = match stat(&self.part_path(file)) {
            // Only a file system whose names are shorter than usual refuses this one and not the other.
            Err(fault) if fault.errno == Errno::NAMETOOLONG.raw_os_error() => {
                self.names.set_part(file, false);
                return Ok(None);
            }
            at_part => at_part?,
        };
        // Without part names, what is no file is not this torrent's unfinished file.
        let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let at_part = at_part.filter(|stat| self.names.enabled || is_file(stat));
        self.names.set_part(file, self.names.enabled || at_part.is_some());
        Ok(at_part)
    }

    /// Whether a file is at NAME.part although NAME exists.
    pub fn has_unused_part(&self, file: usize) -> Result<bool, DiskFault> {
        if self.names.is_part(file) || self.layout.file(file).length == 0 {
            return Ok(false);
        }
        match self.dir.stat(&self.part_path(file)) {
            Err(fault) if fault.errno == Errno::NAMETOOLONG.raw_os_error() => Ok(false),
            stat => Ok(stat?.is_some()),
        }
    }

    /// Renames a file from its part name, unless its name is taken. The caller syncs the directory.
    pub fn finish_name(&self, file: usize) -> Result<(), DiskFault> {
        let _changing = self.names.change();
        let part = self.part_path(file);
        self.dir.rename_new(&part, &self.layout.path(file)).map_err(|e| match e {
            Errno::EXIST => self.fault_without_errno(FaultKind::NameTaken, file),
            Errno::NOENT => self.fault_without_errno(FaultKind::Changed, file),
            e => self.fault(Operation::Create, file, e),
        })?;
        self.names.set_part(file, false);
        Ok(())
    }

    /// Opens a file, or the parts file, for reading and writing; creates it if it does not exist. Only its owner
    /// may read the parts file; a file with the attribute `x` may be executed (BEP 47), as far as the umask
    /// allows.
    pub fn open_or_create(&self, file: usize) -> Result<OpenedFile, DiskFault> {
        let mode = if file == self.parts_index() {
            0o600
        } else if self.layout.file(file).attributes.executable {
            0o777
        } else {
            0o666
        };
        self.dir.open_or_create_with(&self.path(file), Mode::from_raw_mode(mode))
    }

    /// The length of a file; 0 for the parts file, which has none of its own.
    pub fn length(&self, file: usize) -> u64 {
        if file == self.parts_index() { 0 } else { self.layout.file(file).length }
    }

    /// The full path of a file, for messages.
    pub fn full_path(&self, file: usize) -> PathBuf {
        self.dir.full_path(&self.path(file))
    }

    /// A fault of this file that a system call reported.
    pub fn fault(&self, operation: Operation, file: usize, errno: Errno) -> DiskFault {
        DiskFault::new(operation, &self.full_path(file), errno)
    }

    /// A fault of this file that no system call reported.
    pub fn fault_without_errno(&self, kind: FaultKind, file: usize) -> DiskFault {
        DiskFault::without_errno(kind, &self.full_path(file))
    }
}

#[cfg(test)]
mod tests {
    use super::super::open_files::OpenFiles;
    use super::super::testing::TestDisk;
    use super::*;
    use crate::disk::StorageMode;
    use std::sync::Arc;

    #[test]
    fn t9_on_fat_files_lie_under_names_that_it_can_hold() {
        let disk = TestDisk::new(
            StorageMode::Plain,
            65_536,
            &[("CON", 10), ("d/a:b", 20), ("d/A_b", 30), ("d/plain", 40)],
        );
        let names_on = |fs| {
            let dir = Dir::open(&disk.torrent.dir, true).unwrap();
            let torrent = Arc::new(TorrentFiles::in_dir(fs, dir, disk.key, disk.torrent.clone()).unwrap());
            OpenFiles::new(4, false).write(&torrent, 0, &[&disk.bytes]).unwrap();
            let mut names = std::fs::read_dir(disk.path("d"))
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect::<Vec<_>>();
            names.sort();
            std::fs::remove_dir_all(disk.path("d")).unwrap();
            names
        };
        assert_eq!(names_on(FsKind::Fat { file_max: 1 << 30 }), ["A_b.1", "a_b", "plain"]);
        assert!(disk.path("_CON").exists() && !disk.path("CON").exists());
        assert_eq!(names_on(FsKind::Native), ["A_b", "a:b", "plain"]);
    }
}
