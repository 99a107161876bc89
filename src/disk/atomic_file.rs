//! Small files of rill's own in the state directory: written so that a crash leaves the old or the new one, read with a limit.
//!
//! The order is that of every file that must survive: write aside, `fdatasync`, rename, sync the directory. Whoever writes
//! aside holds that file's lock, so that two processes never mix their bytes. What is read is untrusted input: links are not
//! followed, only regular files are read, and no more than the caller says. On FAT a rename is not safe at power loss, so a
//! reader must be able to tell a good file by itself. Names come from rill alone.

use super::dir::Dir;
use super::fault::{DiskFault, FaultKind, Operation};
use super::files::read_exact_at;
use rustix::fs::FlockOperation;
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Reads the small file of this name, if it is there, regular and at most `limit` bytes long.
pub fn read_state_file(state_dir: &Path, name: &str, limit: u64) -> Option<Vec<u8>> {
    let opened = Dir::open(state_dir, false).ok()?.file(Path::new(name), false).ok()?;
    let len = usize::try_from(opened.size).ok().filter(|_| opened.size <= limit)?;
    let mut bytes = vec![0; len];
    read_exact_at(&opened.fd, &mut bytes, 0).ok()?;
    Some(bytes)
}

/// Writes the small file of this name in place of the old one.
pub(super) fn write_state_file(state_dir: &Path, name: &str, bytes: &[u8]) -> Result<(), DiskFault> {
    let dir = Dir::open(state_dir, true)?;
    let aside = format!("{name}.tmp");
    let file = locked(&dir, Path::new(&aside))?;
    replace(&dir, Path::new(name), Path::new(&aside), &file, &[bytes])
}

/// Fills the file `aside` with these parts and gives it its name; when this returns, it will be found after a power cut.
pub(super) fn replace(dir: &Dir, name: &Path, aside: &Path, file: &OwnedFd, parts: &[&[u8]]) -> Result<(), DiskFault> {
    let fault = |e| DiskFault::new(Operation::Write, &dir.full(aside), e);
    overwrite(file, parts).map_err(fault)?;
    if name != aside {
        rustix::fs::renameat(dir.root(), aside, dir.root(), name).map_err(fault)?;
    }
    dir.sync_dir(Path::new(""))
}

/// Opens a file of ours, made if need be, that nobody else has locked; `Locked` if another process has.
pub(super) fn locked(dir: &Dir, name: &Path) -> Result<OwnedFd, DiskFault> {
    let fault = |e| DiskFault::new(Operation::Open, &dir.full(name), e);
    loop {
        let file = dir.open_or_create(name)?.fd;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(DiskFault::plain(FaultKind::Locked, &dir.full(name))),
            // A file system without locks: nothing can be kept apart there.
            Err(Errno::NOSYS | Errno::NOTSUP | Errno::NOLCK | Errno::INVAL) => {}
            Err(e) => return Err(fault(e)),
        }
        // The former owner may have renamed or removed the file between our open and our lock: then we locked a ghost.
        let ours = rustix::fs::fstat(&file).map_err(fault)?;
        if dir.stat(name)?.is_some_and(|s| s.st_ino == ours.st_ino) {
            return Ok(file);
        }
    }
}

fn overwrite(fd: &OwnedFd, parts: &[&[u8]]) -> Result<(), Errno> {
    // A leftover of a killed run may be longer; this file is ours alone.
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
    use super::super::tests::TestDisk;
    use super::*;
    use crate::disk::{StorageMode, Store, StoreConfig};
    use std::sync::Arc;

    #[test]
    fn what_is_kept_is_there_when_the_store_has_ended() {
        let mut w = TestDisk::new(StorageMode::Plain, 16_384, &[("x", 50_000)]);
        for n in 0..50 {
            w.store.write_state_file("nodes", vec![n; 1000]);
        }
        w.store.write_state_file("other", Vec::new());
        let state = w.state.path().join("not/yet/there");
        let config = StoreConfig { state_dir: Some(state.clone()), workers: 3, ..StoreConfig::default() };
        let mut other = Store::new(config, Arc::new(|| {})).unwrap();
        other.write_state_file("nodes", b"new".to_vec());
        drop(other);
        assert_eq!(read_state_file(&state, "nodes", 3).unwrap(), b"new");
        w.restart();
        assert_eq!(read_state_file(w.state.path(), "nodes", 1000).unwrap(), [49; 1000], "the last one counts");
        assert_eq!(read_state_file(w.state.path(), "other", 0).unwrap(), []);
        assert!(!w.state.path().join("nodes.tmp").exists());
    }

    #[test]
    fn without_a_state_directory_nothing_is_kept_and_nobody_complains() {
        let mut store = Store::new(StoreConfig { state_dir: None, ..StoreConfig::default() }, Arc::new(|| {})).unwrap();
        store.write_state_file("nodes", vec![1]);
        store.submit();
        drop(store);
    }

    #[test]
    fn a_killed_save_leaves_the_old_file_and_the_next_save_is_not_disturbed() {
        let dir = tempfile::tempdir().unwrap();
        write_state_file(dir.path(), "x", b"old").unwrap();
        std::fs::write(dir.path().join("x.tmp"), vec![7; 5000]).unwrap();
        assert_eq!(read_state_file(dir.path(), "x", 100).unwrap(), b"old");
        write_state_file(dir.path(), "x", b"new").unwrap();
        assert_eq!(read_state_file(dir.path(), "x", 100).unwrap(), b"new");
    }

    #[test]
    fn two_processes_never_write_one_file_together() {
        let dir = tempfile::tempdir().unwrap();
        write_state_file(dir.path(), "x", b"old").unwrap();
        let tree = Dir::open(dir.path(), false).unwrap();
        let theirs = locked(&tree, Path::new("x.tmp")).unwrap();
        assert_eq!(write_state_file(dir.path(), "x", b"ours").unwrap_err().kind, FaultKind::Locked);
        replace(&tree, Path::new("x"), Path::new("x.tmp"), &theirs, &[b"theirs"]).unwrap();
        assert_eq!(read_state_file(dir.path(), "x", 100).unwrap(), b"theirs");
        // Their lock lies on the file that has its name now, and keeps nobody from the next.
        write_state_file(dir.path(), "x", b"ours").unwrap();
        assert_eq!(read_state_file(dir.path(), "x", 100).unwrap(), b"ours");
    }

    #[test]
    fn links_pipes_directories_and_long_files_are_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("long"), [0; 11]).unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("long", dir.path().join("link")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
        for name in ["long", "dir", "link", "pipe", "nothing"] {
            assert_eq!(read_state_file(dir.path(), name, 10), None, "{name}");
        }
        assert_eq!(read_state_file(dir.path(), "long", 11).unwrap().len(), 11);
        assert_eq!(read_state_file(&dir.path().join("nowhere"), "long", 11), None);
    }
}
