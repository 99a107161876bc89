//! A directory, and everything below it: opening, creating and looking at files without ever leaving it.
//!
//! Invariants: no symbolic link below the directory is followed, whether a torrent or another program put it
//! there, unless the directory is [for reading](Dir::for_reading) alone; nothing existing is truncated; only
//! regular files are opened. The directory itself is the user's choice and may be reached through links.

use super::fault::{DiskFault, FaultKind, Operation};
use super::limits::FAT_FILE_MAX;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// File systems by their abilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FsKind {
    /// ext, XFS, F2FS, Btrfs and the like: sparse files and shared maps.
    Native,
    /// tmpfs and ramfs: as `Native`, and a read never waits for a device.
    Memory,
    /// FAT and exFAT: growing a file fills it with zeros, FAT files end at 4 GiB, a rename is not safe at
    /// power loss.
    Fat { file_max: u64 },
    /// Network, FUSE or unknown: no ability is assumed.
    Remote,
}

impl FsKind {
    /// The file system under this descriptor.
    pub fn of(fd: impl AsFd) -> FsKind {
        // f_type is 32 or 64 bits wide and may be sign-extended: the low 32 bits are the magic number.
        rustix::fs::fstatfs(fd).map_or(FsKind::Remote, |s| FsKind::by_magic(s.f_type as u32))
    }

    fn by_magic(magic: u32) -> FsKind {
        match magic {
            0xEF53 | 0x5846_5342 | 0xF2F5_2010 | 0x9123_683E | 0x2405_1905 | 0x2FC1_2FC1 | 0xCA45_1A4E => {
                FsKind::Native
            }
            0x794C_7630 => FsKind::Native, // overlayfs, in containers; its files are those of the upper layer
            0x0102_1994 | 0x8584_58F6 => FsKind::Memory,
            0x4D44 => FsKind::Fat { file_max: FAT_FILE_MAX },
            0x2011_BAB0 => FsKind::Fat { file_max: u64::MAX },
            _ => FsKind::Remote,
        }
    }

    /// Whether a file may be given its full length before its bytes are written.
    pub fn sparse(self) -> bool {
        matches!(self, FsKind::Native | FsKind::Memory)
    }

    /// Whether the kernel may write to a file through a shared map.
    pub fn maps(self) -> bool {
        self.sparse()
    }
}

/// A directory and the way to everything below it.
#[derive(Debug)]
pub(super) struct Dir {
    root: OwnedFd,
    path: PathBuf,
    device: u64,
    /// The kernel has no `openat2` (Linux before 5.6, or a sandbox without it).
    no_openat2: AtomicBool,
    /// The file system has no `RENAME_NOREPLACE`.
    no_exclusive_rename: AtomicBool,
    follow_links: bool,
}

/// A regular file that was opened.
pub(super) struct OpenedFile {
    pub fd: OwnedFd,
    pub size: u64,
    /// This call created it.
    pub new: bool,
    /// It lies on the file system of the directory, not on one mounted below.
    pub on_root_device: bool,
    /// Directories (below the root) that got a new entry by this call.
    pub new_entries_in: Vec<PathBuf>,
}

const FILE_FLAGS: OFlags =
    OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

impl Dir {
    /// Opens the directory at `path`; `create` creates it and its parents if they do not exist.
    pub fn open(path: &Path, create: bool) -> Result<Dir, DiskFault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(path, flags, Mode::empty());
        let root = match open() {
            Err(Errno::NOENT) if create => {
                std::fs::create_dir_all(path).map_err(|e| {
                    let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
                    DiskFault::new(Operation::Create, path, errno)
                })?;
                open()
            }
            result => result,
        };
        let root = root.map_err(|e| DiskFault::new(Operation::Open, path, e))?;
        let device = rustix::fs::fstat(&root).map_err(|e| DiskFault::new(Operation::Open, path, e))?.st_dev;
        Ok(Dir {
            root,
            path: path.to_path_buf(),
            device,
            no_openat2: AtomicBool::new(false),
            no_exclusive_rename: AtomicBool::new(false),
            follow_links: false,
        })
    }

    /// The same directory, whose symbolic links are followed, also out of it. Nothing can be created in it.
    pub fn for_reading(self) -> Dir {
        Dir { follow_links: true, ..self }
    }

    /// The descriptor of the directory.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The path by which it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The full path of something below, for messages.
    pub fn full_path(&self, rel: &Path) -> PathBuf {
        self.path.join(rel)
    }

    fn open_below(&self, rel: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.create_below(rel, flags, Mode::empty())
    }

    /// Opens something below; a file that this call creates has the mode, less the bits of the umask.
    fn create_below(&self, rel: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        if self.follow_links {
            if flags.contains(OFlags::CREATE) || rel.components().any(|c| !matches!(c, Component::Normal(_)))
            {
                return Err(Errno::XDEV);
            }
            return rustix::fs::openat(&self.root, rel, (flags | OFlags::CLOEXEC) - OFlags::NOFOLLOW, mode);
        }
        if !self.no_openat2.load(Relaxed) {
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.root, rel, flags | OFlags::CLOEXEC, mode, how) {
                Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => self.no_openat2.store(true, Relaxed),
                result => return result,
            }
        }
        self.open_by_component(rel, flags | OFlags::CLOEXEC, mode)
    }

    /// The same without `openat2`: each component is opened on its own, and none may be a link.
    fn open_by_component(&self, rel: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut at: Option<OwnedFd> = None;
        let mut components = rel.components().peekable();
        while let Some(component) = components.next() {
            let Component::Normal(name) = component else { return Err(Errno::XDEV) };
            let base = at.as_ref().unwrap_or(&self.root);
            if components.peek().is_none() {
                return rustix::fs::openat(base, name, flags | OFlags::NOFOLLOW, mode);
            }
            let dir_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = Some(rustix::fs::openat(base, name, dir_flags, Mode::empty())?);
        }
        Err(Errno::INVAL)
    }

    /// A fault of something below that a system call reported when it was opened.
    pub fn fault_of(&self, rel: &Path, errno: Errno) -> DiskFault {
        self.fault(Operation::Open, rel, errno)
    }

    /// Opens a directory below.
    pub fn open_dir(&self, rel: &Path) -> Result<OwnedFd, DiskFault> {
        let rel = if rel.as_os_str().is_empty() { Path::new(".") } else { rel };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = if rel == Path::new(".") {
            rustix::fs::openat(&self.root, rel, flags, Mode::empty())
        } else {
            self.open_below(rel, flags | OFlags::NOFOLLOW)
        };
        opened.map_err(|e| self.fault(Operation::Open, rel, e))
    }

    fn fault(&self, operation: Operation, rel: &Path, errno: Errno) -> DiskFault {
        DiskFault::new(operation, &self.full_path(rel), errno)
    }

    /// Opens an existing regular file for reading.
    pub fn open_file(&self, rel: &Path) -> Result<OpenedFile, DiskFault> {
        let fd = self
            .open_below(rel, OFlags::RDONLY | FILE_FLAGS)
            .map_err(|e| self.fault(Operation::Open, rel, e))?;
        self.check_regular(rel, fd, Vec::new(), false)
    }

    /// Opens a file or directory to lock it. Network file systems lock exclusively only through a descriptor
    /// for writing.
    pub fn open_to_lock(&self, rel: &Path) -> Result<OwnedFd, Errno> {
        match self.open_below(rel, OFlags::RDWR | FILE_FLAGS) {
            Err(Errno::ISDIR | Errno::ACCESS | Errno::ROFS | Errno::PERM | Errno::TXTBSY) => {
                self.open_below(rel, OFlags::RDONLY | FILE_FLAGS)
            }
            result => result,
        }
    }

    /// Opens a regular file for reading and writing; creates it and its directories if they do not exist.
    pub fn open_or_create(&self, rel: &Path) -> Result<OpenedFile, DiskFault> {
        self.open_or_create_with(rel, Mode::from_raw_mode(0o666))
    }

    /// Removes a file.
    pub fn remove_file(&self, rel: &Path) -> Result<(), DiskFault> {
        match rustix::fs::unlinkat(&self.root, rel, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.fault(Operation::Create, rel, e)),
        }
    }

    /// The free bytes of the directory's file system; `None` if that is unknown.
    pub fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.root).ok().filter(|stat| stat.f_blocks > 0)?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Renames a file inside its directory. The error is `EXIST` if something has the new name; on a file system
    /// without exclusive renames it may be replaced if it appears at the same moment.
    pub fn rename_new(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        let (Some(from_name), Some(to_name)) = (from.file_name(), to.file_name()) else {
            return Err(Errno::INVAL);
        };
        let parent = from.parent().filter(|parent| !parent.as_os_str().is_empty());
        let opened = match parent {
            Some(parent) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Some(self.open_below(parent, flags)?)
            }
            None => None,
        };
        let dir = opened.as_ref().unwrap_or(&self.root);
        if !self.no_exclusive_rename.load(Relaxed) {
            match rustix::fs::renameat_with(dir, from_name, dir, to_name, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    self.no_exclusive_rename.store(true, Relaxed);
                }
                result => return result,
            }
        }
        match rustix::fs::statat(dir, to_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => rustix::fs::renameat(dir, from_name, dir, to_name),
            Ok(_) => Err(Errno::EXIST),
            Err(e) => Err(e),
        }
    }

    /// The same; a file that this call creates has the mode, less the bits of the umask.
    pub fn open_or_create_with(&self, rel: &Path, mode: Mode) -> Result<OpenedFile, DiskFault> {
        let mut new_entries_in = Vec::new();
        // More than one round, since another worker may create the same file or directory in between.
        for _ in 0..8 {
            match self.open_below(rel, OFlags::RDWR | FILE_FLAGS) {
                Ok(fd) => return self.check_regular(rel, fd, new_entries_in, false),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.fault(Operation::Open, rel, e)),
            }
            let parent = rel.parent().unwrap_or(Path::new(""));
            match self.create_below(rel, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | FILE_FLAGS, mode) {
                Ok(fd) => {
                    new_entries_in.push(parent.to_path_buf());
                    return self.check_regular(rel, fd, new_entries_in, true);
                }
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => self.create_dirs(parent, &mut new_entries_in)?,
                Err(e) => return Err(self.fault(Operation::Create, rel, e)),
            }
        }
        Err(self.fault(Operation::Create, rel, Errno::NOENT))
    }

    fn check_regular(
        &self,
        rel: &Path,
        fd: OwnedFd,
        new_entries_in: Vec<PathBuf>,
        new: bool,
    ) -> Result<OpenedFile, DiskFault> {
        let stat = rustix::fs::fstat(&fd).map_err(|e| self.fault(Operation::Open, rel, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DiskFault::without_errno(FaultKind::Exists, &self.full_path(rel)));
        }
        Ok(OpenedFile {
            fd,
            size: stat.st_size as u64,
            new,
            on_root_device: stat.st_dev == self.device,
            new_entries_in,
        })
    }

    /// Creates the directory and its parents; `new_entries_in` gets the parents of new ones.
    pub fn create_dirs(&self, rel: &Path, new_entries_in: &mut Vec<PathBuf>) -> Result<(), DiskFault> {
        let mut at: Option<OwnedFd> = None;
        let mut so_far = PathBuf::new();
        for component in rel.components() {
            let base = at.as_ref().unwrap_or(&self.root);
            let parent = so_far.clone();
            so_far.push(component);
            let Component::Normal(name) = component else {
                return Err(self.fault(Operation::Create, &so_far, Errno::XDEV));
            };
            match rustix::fs::mkdirat(base, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => new_entries_in.push(parent),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(self.fault(Operation::Create, &so_far, e)),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = rustix::fs::openat(base, name, flags, Mode::empty());
            at = Some(next.map_err(|e| self.fault(Operation::Create, &so_far, e))?);
        }
        Ok(())
    }

    /// The `stat` of this path; `None` if nothing is there. A link at its end is followed only if the
    /// directory is for reading.
    pub fn stat(&self, rel: &Path) -> Result<Option<Stat>, DiskFault> {
        let flags = if self.follow_links { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        match rustix::fs::statat(&self.root, rel, flags) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.fault(Operation::Open, rel, e)),
        }
    }

    /// A file without a name that is one hole of `len` bytes; `None` if this file system has no such files.
    pub fn unnamed_file(&self, len: u64) -> Option<OwnedFd> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.root, c".", flags, Mode::RUSR | Mode::WUSR).ok()?;
        rustix::fs::ftruncate(&file, len).ok()?;
        Some(file)
    }

    /// Syncs the whole file system of this directory. Fails if a write failed since the directory was opened,
    /// but only on kernels of which [`syncfs_reports_errors`] is true.
    pub fn sync_fs(&self) -> Result<(), DiskFault> {
        retry_on_intr(|| rustix::fs::syncfs(&self.root))
            .map_err(|e| self.fault(Operation::Sync, Path::new(""), e))
    }

    /// Syncs the entries of a directory.
    pub fn sync_dir(&self, rel: &Path) -> Result<(), DiskFault> {
        let result = if rel.as_os_str().is_empty() {
            retry_on_intr(|| rustix::fs::fsync(&self.root))
        } else {
            let dir = self.open_below(rel, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW);
            dir.and_then(|dir| retry_on_intr(|| rustix::fs::fsync(&dir)))
        };
        match result {
            // Some file systems cannot sync directories; there is no other way to make their entries safe.
            Err(Errno::INVAL | Errno::NOTSUP) | Ok(()) => Ok(()),
            Err(e) => Err(self.fault(Operation::Sync, rel, e)),
        }
    }
}

/// Reads exactly `into.len()` bytes. `Err(None)`: the file ends before that.
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

/// Whether `syncfs` of this kernel reports failed writes: since Linux 5.8.
pub(super) fn syncfs_reports_errors() -> bool {
    at_least_5_8(&rustix::system::uname().release().to_string_lossy())
}

fn at_least_5_8(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(8))
}

/// The free bytes of the file system that holds this path, or will hold it once it is created; 0 if that is
/// unknown.
pub(super) fn free_bytes(path: &Path) -> u64 {
    let stat = path.ancestors().find_map(|at| {
        let at = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        rustix::fs::statvfs(at).ok()
    });
    stat.map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_and_without_openat2(test: impl Fn(&Path, &Dir)) {
        for no_openat2 in [false, true] {
            let temp = tempfile::tempdir().unwrap();
            let dir = Dir::open(temp.path(), false).unwrap();
            dir.no_openat2.store(no_openat2, Relaxed);
            test(temp.path(), &dir);
        }
    }

    #[test]
    fn missing_directories_are_created_and_reported() {
        with_and_without_openat2(|_, dir| {
            let opened = dir.open_or_create(Path::new("a/b/c")).unwrap();
            assert_eq!(opened.new_entries_in, [PathBuf::from(""), "a".into(), "a/b".into()]);
            assert!(dir.open_or_create(Path::new("a/b/c")).unwrap().new_entries_in.is_empty());
            dir.sync_dir(Path::new("a/b")).unwrap();
        });
    }

    #[test]
    fn t12_a_symbolic_link_in_the_way_is_not_followed() {
        with_and_without_openat2(|path, dir| {
            let outside = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink(outside.path(), path.join("dir")).unwrap();
            std::fs::write(outside.path().join("x"), "precious").unwrap();
            std::os::unix::fs::symlink(outside.path().join("x"), path.join("file")).unwrap();
            for rel in ["dir/x", "dir/new", "file"] {
                assert_eq!(
                    dir.open_or_create(Path::new(rel)).err().unwrap().kind,
                    FaultKind::Exists,
                    "{rel}"
                );
                assert!(dir.open_file(Path::new(rel)).is_err());
            }
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        });
    }

    #[test]
    fn t12_a_directory_for_reading_follows_links_to_regular_files_and_creates_nothing() {
        let (outside, temp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("x"), "abc").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, outside.path().join("p"), FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        std::os::unix::fs::symlink(outside.path(), temp.path().join("dir")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("x"), temp.path().join("file")).unwrap();
        std::os::unix::fs::symlink("nothing", temp.path().join("gone")).unwrap();
        std::os::unix::fs::symlink("loop", temp.path().join("loop")).unwrap();
        let dir = Dir::open(temp.path(), false).unwrap().for_reading();
        for rel in ["dir/x", "file"] {
            assert_eq!(dir.open_file(Path::new(rel)).unwrap().size, 3, "{rel}");
            assert_eq!(dir.stat(Path::new(rel)).unwrap().unwrap().st_size, 3, "{rel}");
        }
        assert!(dir.stat(Path::new("gone")).unwrap().is_none());
        let kind = |rel: &str| dir.open_file(Path::new(rel)).err().unwrap().kind;
        assert_eq!(kind("gone"), FaultKind::Missing);
        assert_eq!(
            (kind("dir/p"), kind("loop"), kind("../x")),
            (FaultKind::Exists, FaultKind::Exists, FaultKind::Exists)
        );
        assert!(dir.open_or_create(Path::new("new")).is_err());
        assert!(!temp.path().join("new").exists());
    }

    #[test]
    fn directories_and_pipes_are_not_files() {
        with_and_without_openat2(|path, dir| {
            std::fs::create_dir(path.join("d")).unwrap();
            rustix::fs::mknodat(dir.root(), "p", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            for rel in ["d", "p"] {
                assert_eq!(
                    dir.open_or_create(Path::new(rel)).err().unwrap().kind,
                    FaultKind::Exists,
                    "{rel}"
                );
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
        // jffs2, fuse, 9p, vfat, and an unknown one
        for magic in [0x72B6, 0x6573_5546, 0x0102_1997, 0x4D44, 0xDEAD_BEEF] {
            assert!(!FsKind::by_magic(magic).maps(), "{magic:x}");
        }
    }

    #[test]
    fn the_first_two_numbers_of_a_release_decide_what_syncfs_reports() {
        for (release, reports) in [
            ("5.8.0-1-arm", true),
            ("5.7.19", false),
            ("6.1.0", true),
            ("10.0", true),
            ("4.19", false),
            ("x", false),
        ] {
            assert_eq!(at_least_5_8(release), reports, "{release}");
        }
    }

    #[test]
    fn f22_a_rename_replaces_no_file_and_leads_through_no_link() {
        for no_exclusive_rename in [false, true] {
            with_and_without_openat2(|path, dir| {
                dir.no_exclusive_rename.store(no_exclusive_rename, Relaxed);
                std::fs::create_dir(path.join("d")).unwrap();
                for name in ["x", "d/x"] {
                    let part = format!("{name}.part");
                    let rename = || dir.rename_new(Path::new(&part), Path::new(name));
                    assert_eq!(rename(), Err(Errno::NOENT));
                    std::fs::write(path.join(&part), "new").unwrap();
                    std::fs::write(path.join(name), "old").unwrap();
                    assert_eq!(rename(), Err(Errno::EXIST));
                    assert_eq!(std::fs::read(path.join(name)).unwrap(), b"old");
                    std::fs::remove_file(path.join(name)).unwrap();
                    std::os::unix::fs::symlink("nothing", path.join(name)).unwrap();
                    assert_eq!(rename(), Err(Errno::EXIST));
                    std::fs::remove_file(path.join(name)).unwrap();
                    assert_eq!(rename(), Ok(()));
                    assert_eq!(std::fs::read(path.join(name)).unwrap(), b"new");
                }
                std::fs::write(path.join("d/y.part"), "").unwrap();
                std::os::unix::fs::symlink("d", path.join("link")).unwrap();
                assert!(dir.rename_new(Path::new("link/y.part"), Path::new("link/y")).is_err());
            });
        }
    }

    #[test]
    fn an_existing_file_keeps_its_bytes() {
        with_and_without_openat2(|path, dir| {
            std::fs::write(path.join("x"), "abc").unwrap();
            assert_eq!(dir.open_or_create(Path::new("x")).unwrap().size, 3);
            assert_eq!(std::fs::read(path.join("x")).unwrap(), b"abc");
        });
    }
}
