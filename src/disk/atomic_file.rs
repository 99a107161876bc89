//! Small files in the state directory, replaced atomically: after a crash the old or the new one is there.
//!
//! The order of every write that must survive a power cut: write NAME.tmp, `fdatasync`, rename, sync the
//! directory. The writer holds a lock on NAME.tmp, so two processes never mix their bytes. A read is limited
//! to a regular file of at most the given length, and follows no link. On FAT a rename is not safe at power
//! loss, so a reader must recognise a good file by its content. Only rill chooses the names.

use super::dir::{Dir, read_exact_at};
use super::fault::{DiskFault, FaultKind, Operation};
use rustix::fs::FlockOperation;
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Reads a file of the state directory; `None` if it is missing, not a regular file, longer than `limit`
/// bytes or unreadable.
pub fn read_state_file(state_dir: &Path, name: &str, limit: u64) -> Option<Vec<u8>> {
    let opened = Dir::open(state_dir, false).ok()?.open_file(Path::new(name)).ok()?;
    let len = usize::try_from(opened.size).ok().filter(|_| opened.size <= limit)?;
    let mut bytes = vec![0; len];
    read_exact_at(&opened.fd, &mut bytes, 0).ok()?;
    Some(bytes)
}

/// Replaces a file of the state directory; creates the directory if it does not exist.
pub(super) fn write_state_file(state_dir: &Path, name: &str, bytes: &[u8]) -> Result<(), DiskFault> {
    let dir = Dir::open(state_dir, true)?;
    let temporary = format!("{name}.tmp");
    let file = open_locked(&dir, Path::new(&temporary))?;
    replace(&dir, Path::new(name), Path::new(&temporary), &file, &[bytes])
}

/// Fills the file `temporary` with these parts and renames it to `name`. Once this returns, the file survives
/// a power cut.
pub(super) fn replace(
    dir: &Dir,
    name: &Path,
    temporary: &Path,
    file: &OwnedFd,
    parts: &[&[u8]],
) -> Result<(), DiskFault> {
    let fault = |e| DiskFault::new(Operation::Write, &dir.full_path(temporary), e);
    overwrite(file, parts).map_err(fault)?;
    if name != temporary {
        rustix::fs::renameat(dir.root(), temporary, dir.root(), name).map_err(fault)?;
    }
    dir.sync_dir(Path::new(""))
}

/// Opens and locks a file, created if it does not exist; the fault `Locked` if another process holds the
/// lock.
pub(super) fn open_locked(dir: &Dir, name: &Path) -> Result<OwnedFd, DiskFault> {
    let fault = |e| DiskFault::new(Operation::Open, &dir.full_path(name), e);
    loop {
        let file = dir.open_or_create(name)?.fd;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(DiskFault::without_errno(FaultKind::Locked, &dir.full_path(name)));
            }
            // A file system without locks: processes cannot be kept apart there.
            Err(Errno::NOSYS | Errno::NOTSUP | Errno::NOLCK | Errno::INVAL) => {}
            Err(e) => return Err(fault(e)),
        }
        // The former owner may have renamed or removed the file between open and lock: then the lock is on a
        // file without this name, and the next round opens the new one.
        let ours = rustix::fs::fstat(&file).map_err(fault)?;
        if dir.stat(name)?.is_some_and(|s| s.st_ino == ours.st_ino) {
            return Ok(file);
        }
    }
}

fn overwrite(fd: &OwnedFd, parts: &[&[u8]]) -> Result<(), Errno> {
    // The file that a killed process left may be longer; the lock makes it ours.
    let len = parts.iter().map(|part| part.len() as u64).sum();
    retry_on_intr(|| rustix::fs::ftruncate(fd, len))?;
    let mut at = 0;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            match rustix::io::pwrite(fd, rest, at) {
                Ok(0) => return Err(Errno::NOSPC),
                Ok(n) => {
                    at += n as u64;
                    rest = &rest[n..];
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
    retry_on_intr(|| rustix::fs::fdatasync(fd))
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestDisk;
    use super::*;
    use crate::disk::{StorageMode, Store, StoreConfig};
    use std::sync::Arc;

    #[test]
    fn a_state_file_is_written_before_the_store_ends() {
        let mut disk = TestDisk::new(StorageMode::Plain, 16_384, &[("x", 50_000)]);
        for n in 0..50 {
            disk.store.write_state_file("nodes", vec![n; 1000]);
        }
        disk.store.write_state_file("other", Vec::new());
        let state = disk.state.path().join("not/yet/there");
        let config = StoreConfig { state_dir: Some(state.clone()), workers: 3, ..StoreConfig::default() };
        let mut other = Store::new(config, Arc::new(|| {})).unwrap();
        other.write_state_file("nodes", b"new".to_vec());
        drop(other);
        assert_eq!(read_state_file(&state, "nodes", 3).unwrap(), b"new");
        disk.restart();
        assert_eq!(
            read_state_file(disk.state.path(), "nodes", 1000).unwrap(),
            [49; 1000],
            "the last write counts"
        );
        assert_eq!(read_state_file(disk.state.path(), "other", 0).unwrap(), []);
        assert!(!disk.state.path().join("nodes.tmp").exists());
    }

    #[test]
    fn without_a_state_directory_a_state_file_is_dropped() {
        let mut store =
            Store::new(StoreConfig { state_dir: None, ..StoreConfig::default() }, Arc::new(|| {})).unwrap();
        store.write_state_file("nodes", vec![1]);
        store.submit();
        drop(store);
    }

    #[test]
    fn a_killed_write_leaves_the_old_file_and_does_not_disturb_the_next() {
        let dir = tempfile::tempdir().unwrap();
        write_state_file(dir.path(), "x", b"old").unwrap();
        std::fs::write(dir.path().join("x.tmp"), vec![7; 5000]).unwrap();
        assert_eq!(read_state_file(dir.path(), "x", 100).unwrap(), b"old");
        write_state_file(dir.path(), "x", b"new").unwrap();
        assert_eq!(read_state_file(dir.path(), "x", 100).unwrap(), b"new");
    }

    #[test]
    fn two_processes_never_write_one_file_at_once() {
        let temp = tempfile::tempdir().unwrap();
        write_state_file(temp.path(), "x", b"old").unwrap();
        let dir = Dir::open(temp.path(), false).unwrap();
        let theirs = open_locked(&dir, Path::new("x.tmp")).unwrap();
        assert_eq!(write_state_file(temp.path(), "x", b"ours").unwrap_err().kind, FaultKind::Locked);
        replace(&dir, Path::new("x"), Path::new("x.tmp"), &theirs, &[b"theirs"]).unwrap();
        assert_eq!(read_state_file(temp.path(), "x", 100).unwrap(), b"theirs");
        // Their lock is now on the file named x, which no later writer locks.
        write_state_file(temp.path(), "x", b"ours").unwrap();
        assert_eq!(read_state_file(temp.path(), "x", 100).unwrap(), b"ours");
    }

    #[test]
    fn links_pipes_directories_and_long_files_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("long"), [0; 11]).unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("long", dir.path().join("link")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe"),
            fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for name in ["long", "dir", "link", "pipe", "missing"] {
            assert_eq!(read_state_file(dir.path(), name, 10), None, "{name}");
        }
        assert_eq!(read_state_file(dir.path(), "long", 11).unwrap().len(), 11);
        assert_eq!(read_state_file(&dir.path().join("missing"), "long", 11), None);
    }
}
