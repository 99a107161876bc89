//! Paths below a torrent's directory: opening, making and looking at them without ever leaving it.
//!
//! Invariants: no symbolic link below the directory is followed (HAZARDS of a hostile torrent and of a hostile disk
//! alike), nothing that exists is truncated, and only regular files are ever handed out. The torrent's own directory
//! is the user's word and may be reached through links.

use super::fault::{DiskFault, FaultKind, Operation};
use super::limits::FAT_FILE_MAX;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What a file system can do for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FsKind {
    /// ext, xfs, f2fs, btrfs and their like: sparse files, windows.
    Native,
    /// tmpfs and ramfs: as native, and reading never waits for a device.
    Memory,
    /// FAT and exFAT: growing a file fills it with zeros, files end at 4 GiB on FAT, a rename is not safe at power loss.
    Fat { file_max: u64 },
    /// Network, FUSE, or unknown: nothing is taken for granted.
    Remote,
}

impl FsKind {
    /// What lies under this directory.
    pub fn of(fd: impl AsFd) -> FsKind {
        // f_type is 32 or 64 bits wide and may be sign-extended: the low 32 bits are the magic number.
        rustix::fs::fstatfs(fd).map_or(FsKind::Remote, |s| FsKind::by_magic(s.f_type as u32))
    }

    fn by_magic(magic: u32) -> FsKind {
        match magic {
            0xEF53 | 0x5846_5342 | 0xF2F5_2010 | 0x9123_683E | 0x2405_1905 | 0x2FC1_2FC1 | 0xCA45_1A4E => FsKind::Native,
            0x794C_7630 => FsKind::Native, // overlayfs: containers; its files are the upper layer's
            0x0102_1994 | 0x8584_58F6 => FsKind::Memory,
            0x4D44 => FsKind::Fat { file_max: FAT_FILE_MAX },
            0x2011_BAB0 => FsKind::Fat { file_max: u64::MAX },
            _ => FsKind::Remote,
        }
    }

    /// Whether a file may be given its full length before its bytes are there.
    pub fn sparse(self) -> bool {
        matches!(self, FsKind::Native | FsKind::Memory)
    }

    /// Whether a file may be mapped and the kernel write to it there.
    pub fn maps(self) -> bool {
        self.sparse()
    }
}

/// A directory, and the way to everything below it.
#[derive(Debug)]
pub(super) struct Dir {
    root: OwnedFd,
    path: PathBuf,
    device: u64,
    /// Set once the kernel said that it has no openat2 (before Linux 5.6, or a sandbox without it).
    walk: AtomicBool,
}

/// A regular file that was opened.
pub(super) struct OpenedFile {
    pub fd: OwnedFd,
    pub size: u64,
    /// It was made just now.
    pub new: bool,
    /// It lies on the file system of the torrent's directory, not on one mounted below.
    pub on_root_device: bool,
    /// Directories (below the root) that got a new entry on the way.
    pub new_entries_in: Vec<PathBuf>,
}

const FILE_FLAGS: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

impl Dir {
    /// The directory at `path`; with `make` it and its parents are made if missing.
    pub fn open(path: &Path, make: bool) -> Result<Dir, DiskFault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(path, flags, Mode::empty());
        let root = match open() {
            Err(Errno::NOENT) if make => {
                std::fs::create_dir_all(path).map_err(|e| {
                    let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
                    DiskFault::new(Operation::Create, path, errno)
                })?;
                open()
            }
            r => r,
        };
        let root = root.map_err(|e| DiskFault::new(Operation::Open, path, e))?;
        let device = rustix::fs::fstat(&root).map_err(|e| DiskFault::new(Operation::Open, path, e))?.st_dev;
        Ok(Dir { root, path: path.to_path_buf(), device, walk: AtomicBool::new(false) })
    }

    /// Its own descriptor.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The full path of something below, for messages.
    pub fn full(&self, rel: &Path) -> PathBuf {
        self.path.join(rel)
    }

    fn open_raw(&self, rel: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        if !self.walk.load(Relaxed) {
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.root, rel, flags | OFlags::CLOEXEC, mode, how) {
                Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => self.walk.store(true, Relaxed),
                r => return r,
            }
        }
        self.open_walking(rel, flags | OFlags::CLOEXEC, mode)
    }

    /// The same by hand: every component on its own, none of them a link.
    fn open_walking(&self, rel: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut at: Option<OwnedFd> = None;
        let mut parts = rel.components().peekable();
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else { return Err(Errno::XDEV) };
            let last = parts.peek().is_none();
            let base = at.as_ref().unwrap_or(&self.root);
            let (flags, mode) = match last {
                true => (flags | OFlags::NOFOLLOW, mode),
                false => (OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()),
            };
            let next = rustix::fs::openat(base, name, flags, mode)?;
            if last {
                return Ok(next);
            }
            at = Some(next);
        }
        Err(Errno::INVAL)
    }

    fn fault(&self, doing: Operation, rel: &Path, errno: Errno) -> DiskFault {
        DiskFault::new(doing, &self.full(rel), errno)
    }

    /// Opens a regular file that is there, to read or also to write.
    pub fn file(&self, rel: &Path, write: bool) -> Result<OpenedFile, DiskFault> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let fd = self.open_raw(rel, access | FILE_FLAGS).map_err(|e| self.fault(Operation::Open, rel, e))?;
        self.regular(rel, fd, Vec::new(), false)
    }

    /// Opens a regular file to read and write; makes it, and the directories on its way, if it is not there.
    pub fn open_or_create(&self, rel: &Path) -> Result<OpenedFile, DiskFault> {
        let mut new_entries_in = Vec::new();
        // Two rounds: another worker may make or have made the same file or directory in between.
        for _ in 0..8 {
            match self.open_raw(rel, OFlags::RDWR | FILE_FLAGS) {
                Ok(fd) => return self.regular(rel, fd, new_entries_in, false),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.fault(Operation::Open, rel, e)),
            }
            let parent = rel.parent().unwrap_or(Path::new(""));
            match self.open_raw(rel, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | FILE_FLAGS) {
                Ok(fd) => {
                    new_entries_in.push(parent.to_path_buf());
                    return self.regular(rel, fd, new_entries_in, true);
                }
                Err(Errno::EXIST) => continue,
                Err(Errno::NOENT) => self.make_dirs(parent, &mut new_entries_in)?,
                Err(e) => return Err(self.fault(Operation::Create, rel, e)),
            }
        }
        Err(self.fault(Operation::Create, rel, Errno::NOENT))
    }

    fn regular(&self, rel: &Path, fd: OwnedFd, new_entries_in: Vec<PathBuf>, new: bool) -> Result<OpenedFile, DiskFault> {
        let stat = rustix::fs::fstat(&fd).map_err(|e| self.fault(Operation::Open, rel, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DiskFault::plain(FaultKind::Exists, &self.full(rel)));
        }
        Ok(OpenedFile { fd, size: stat.st_size as u64, new, on_root_device: stat.st_dev == self.device, new_entries_in })
    }

    /// Makes the directory and those above it; `made_in` gets the parents of new ones.
    fn make_dirs(&self, rel: &Path, new_entries_in: &mut Vec<PathBuf>) -> Result<(), DiskFault> {
        let mut at: Option<OwnedFd> = None;
        let mut so_far = PathBuf::new();
        for part in rel.components() {
            let base = at.as_ref().unwrap_or(&self.root);
            let parent = so_far.clone();
            so_far.push(part);
            let Component::Normal(name) = part else { return Err(self.fault(Operation::Create, &so_far, Errno::XDEV)) };
            match rustix::fs::mkdirat(base, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => new_entries_in.push(parent),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(self.fault(Operation::Create, &so_far, e)),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = Some(
                rustix::fs::openat(base, name, flags, Mode::empty()).map_err(|e| self.fault(Operation::Create, &so_far, e))?,
            );
        }
        Ok(())
    }

    /// What lies at this path now, links not followed at the end; `None` if nothing.
    pub fn stat(&self, rel: &Path) -> Result<Option<Stat>, DiskFault> {
        match rustix::fs::statat(&self.root, rel, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(s) => Ok(Some(s)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.fault(Operation::Open, rel, e)),
        }
    }

    /// A file without a name that is one hole of so many bytes, if this file system makes such files.
    pub fn unnamed_file(&self, len: u64) -> Option<OwnedFd> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.root, c".", flags, Mode::RUSR | Mode::WUSR).ok()?;
        rustix::fs::ftruncate(&file, len).ok()?;
        Some(file)
    }

    /// Brings everything to the disk that was written to the file system of this directory; an error that happened since it was opened
    /// is told. Only kernels of which [`tells_of_lost_writes`] is true do so.
    pub fn sync_all(&self) -> Result<(), DiskFault> {
        retry_on_intr(|| rustix::fs::syncfs(&self.root)).map_err(|e| self.fault(Operation::Sync, Path::new(""), e))
    }

    /// Brings a directory's entries to the disk.
    pub fn sync_dir(&self, rel: &Path) -> Result<(), DiskFault> {
        let result = if rel.as_os_str().is_empty() {
            retry_on_intr(|| rustix::fs::fsync(&self.root))
        } else {
            let dir = self.open_raw(rel, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW);
            dir.and_then(|dir| retry_on_intr(|| rustix::fs::fsync(&dir)))
        };
        match result {
            // Some file systems cannot sync directories; there is nothing more that we could do there.
            Err(Errno::INVAL | Errno::NOTSUP) | Ok(()) => Ok(()),
            Err(e) => Err(self.fault(Operation::Sync, rel, e)),
        }
    }
}

/// Whether `syncfs` of this kernel tells of writes that were lost: from Linux 5.8 on.
pub(super) fn syncfs_reports_errors() -> bool {
    at_least_5_8(&rustix::system::uname().release().to_string_lossy())
}

fn at_least_5_8(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(8))
}

/// Bytes that may be written on the file system that holds this path, or will once it is made.
pub(super) fn free_bytes(path: &Path) -> u64 {
    let known = path.ancestors().find_map(|at| {
        let at = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        rustix::fs::statvfs(at).ok()
    });
    known.map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_ways(test: impl Fn(&Path, &Dir)) {
        for walk in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let tree = Dir::open(dir.path(), false).unwrap();
            tree.walk.store(walk, Relaxed);
            test(dir.path(), &tree);
        }
    }

    #[test]
    fn directories_on_the_way_are_made_and_named() {
        both_ways(|_, t| {
            let o = t.open_or_create(Path::new("a/b/c")).unwrap();
            assert_eq!(o.new_entries_in, [PathBuf::from(""), "a".into(), "a/b".into()]);
            assert!(t.open_or_create(Path::new("a/b/c")).unwrap().new_entries_in.is_empty());
            t.sync_dir(Path::new("a/b")).unwrap();
        });
    }

    #[test]
    fn t12_a_symbolic_link_in_the_way_is_not_followed() {
        both_ways(|d, t| {
            let outside = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink(outside.path(), d.join("dir")).unwrap();
            std::fs::write(outside.path().join("x"), "precious").unwrap();
            std::os::unix::fs::symlink(outside.path().join("x"), d.join("file")).unwrap();
            for path in ["dir/x", "dir/new", "file"] {
                assert_eq!(t.open_or_create(Path::new(path)).err().unwrap().kind, FaultKind::Exists, "{path}");
                assert!(t.file(Path::new(path), false).is_err());
            }
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        });
    }

    #[test]
    fn directories_and_pipes_are_not_files() {
        both_ways(|d, t| {
            std::fs::create_dir(d.join("d")).unwrap();
            rustix::fs::mknodat(t.root(), "p", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            for path in ["d", "p"] {
                assert_eq!(t.open_or_create(Path::new(path)).err().unwrap().kind, FaultKind::Exists, "{path}");
            }
        });
    }

    #[test]
    fn f10_disks_behind_a_network_are_never_mapped_and_files_there_not_grown_in_advance() {
        // nfs, cifs, smb2, fuse (sshfs, mergerfs), 9p, ceph
        for magic in [0x6969, 0xFF53_4D42, 0xFE53_4D42, 0x6573_5546, 0x0102_1997, 0x00C3_6400] {
            let kind = FsKind::by_magic(magic);
            assert_eq!((kind, kind.maps(), kind.sparse()), (FsKind::Remote, false, false), "{magic:x}");
        }
    }

    #[test]
    fn f11_file_systems_that_refuse_shared_maps_are_not_asked_for_one() {
        // jffs2, fuse, 9p, vfat, and one that nobody knows
        for magic in [0x72B6, 0x6573_5546, 0x0102_1997, 0x4D44, 0xDEAD_BEEF] {
            assert!(!FsKind::by_magic(magic).maps(), "{magic:x}");
        }
    }

    #[test]
    fn a_kernel_is_known_by_its_first_two_numbers() {
        for (release, tells) in
            [("5.8.0-1-arm", true), ("5.7.19", false), ("6.1.0", true), ("10.0", true), ("4.19", false), ("x", false)]
        {
            assert_eq!(at_least_5_8(release), tells, "{release}");
        }
    }

    #[test]
    fn what_is_there_keeps_its_bytes() {
        both_ways(|d, t| {
            std::fs::write(d.join("x"), "abc").unwrap();
            assert_eq!(t.open_or_create(Path::new("x")).unwrap().size, 3);
            assert_eq!(std::fs::read(d.join("x")).unwrap(), b"abc");
        });
    }
}
