//! The lock of a torrent's content: no other torrent writes the same files, in this process or another.
//!
//! It is an advisory lock (`flock`) on the content's top-level file or directory, exclusive for a torrent
//! that writes and shared for torrents that only read. A hard link is a second way to a file, so a file to be
//! written that has one gets a lock of its own. The kernel compares inodes: two paths to one file through a
//! linked directory or a bind mount meet in one lock.
//!
//! A single file may lie at its name or its part name, see [`part_names`](super::part_names). The lock follows it
//! through the rename. Both names are looked at once the file is created and locked, so two torrents that began
//! with different ones meet, too.

use super::fault::{DiskFault, FaultKind, Operation};
use super::memory::{is_byte_locked, lock_byte};
use super::open_files::OpenFiles;
use super::torrent_files::TorrentFiles;
use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;
use sha1::{Digest, Sha1};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The lock of one torrent's content. It is free again once this is dropped.
#[derive(Debug)]
pub(super) struct ContentLock {
    /// `None` if nothing is there to be locked yet, or the file system has no locks.
    top: Option<OwnedFd>,
    /// Files with more than one hard link.
    linked: Vec<OwnedFd>,
    exclusive: bool,
    /// The top-level file or directory did not exist before.
    created: bool,
}

/// The attempt to lock one file or directory.
enum Attempt {
    Locked(OwnedFd),
    /// Another torrent holds it, or the same one in another process.
    Held {
        same_torrent: bool,
    },
    /// The file system has no locks, or the file may not be opened.
    Unsupported,
    /// Nothing is at the path.
    Absent,
}

impl ContentLock {
    /// Locks the top-level file or directory, if it exists. A torrent that is to be written may have all its
    /// content already, like the others that read it; then its lock is shared until
    /// [`make_exclusive`](Self::make_exclusive).
    pub fn acquire(torrent: &TorrentFiles) -> Result<ContentLock, DiskFault> {
        // More than one round, since another process may rename a single file meanwhile.
        for _ in 0..8 {
            find_single_file(torrent)?;
            let top = top_level(torrent);
            let lock = ContentLock::acquire_at(torrent, top.as_deref())?;
            find_single_file(torrent)?;
            if top_level(torrent) == top {
                if lock.exclusive {
                    check_other_name(torrent)?;
                }
                return Ok(lock);
            }
        }
        Err(changed(torrent, &top_level(torrent).unwrap_or_default()))
    }

    fn acquire_at(torrent: &TorrentFiles, top: Option<&Path>) -> Result<ContentLock, DiskFault> {
        let mut lock = ContentLock { top: None, linked: Vec::new(), exclusive: false, created: false };
        let Some(top) = top else { return Ok(lock) };
        if !torrent.read_only {
            match attempt(torrent, top, FlockOperation::NonBlockingLockExclusive)? {
                Attempt::Locked(fd) => {
                    lock.top = Some(fd);
                    lock.exclusive = true;
                    return Ok(lock);
                }
                Attempt::Held { .. } => {}
                Attempt::Unsupported | Attempt::Absent => return Ok(lock),
            }
        }
        match attempt(torrent, top, FlockOperation::NonBlockingLockShared)? {
            Attempt::Locked(fd) => lock.top = Some(fd),
            Attempt::Held { same_torrent } => return Err(held(torrent, top, same_torrent)),
            Attempt::Unsupported | Attempt::Absent => {}
        }
        Ok(lock)
    }

    /// Makes sure that this torrent alone may write: creates the top-level file or directory if it does not
    /// exist, and locks it.
    pub fn make_exclusive(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        open_files: &mut OpenFiles,
    ) -> Result<(), DiskFault> {
        let Some(top) = top_level(torrent).filter(|_| !self.exclusive) else { return Ok(()) };
        if self.top.is_none() {
            self.created = match single_file(torrent) {
                Some(file) => open_files.create_empty(torrent, file)?,
                None => open_files.create_dir(torrent, &top)?,
            };
        }
        match self.top.take() {
            Some(fd) => match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    let same_torrent = is_byte_locked(&fd, mark_of(torrent));
                    // The failed attempt has given up the shared lock.
                    let _ = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared);
                    self.top = Some(fd);
                    return Err(held(torrent, &top, same_torrent));
                }
                Ok(()) if !is_at(torrent, &top, &fd)? => return Err(changed(torrent, &top)),
                // Any other error: the file system has no locks.
                Ok(()) | Err(_) => self.top = Some(fd),
            },
            None => match attempt(torrent, &top, FlockOperation::NonBlockingLockExclusive)? {
                Attempt::Locked(fd) => self.top = Some(fd),
                Attempt::Held { same_torrent } => return Err(held(torrent, &top, same_torrent)),
                Attempt::Unsupported => {}
                Attempt::Absent => return Err(changed(torrent, &top)),
            },
        }
        self.exclusive = true;
        check_other_name(torrent)
    }

    /// Whether this torrent alone may write.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Removes the top-level file or directory if this lock created it and it is still empty. Without the lock it
    /// stays: another torrent may have locked it meanwhile, and would go on with the lock of a removed one.
    pub fn remove_empty(&self, torrent: &TorrentFiles) {
        let Some(top) = top_level(torrent).filter(|_| self.created && self.exclusive) else { return };
        let first = torrent.layout.on_disk().next();
        let result = if single_file(torrent).is_none() {
            rustix::fs::unlinkat(torrent.dir.root(), &top, AtFlags::REMOVEDIR)
        } else if first.is_some_and(|(_, f)| f.length > 0)
            && self.top.as_ref().is_some_and(|fd| rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_size == 0))
        {
            rustix::fs::unlinkat(torrent.dir.root(), &top, AtFlags::empty())
        } else {
            Ok(())
        };
        // A directory with files stays.
        let _ = result;
    }

    /// Locks a file that is to be written and has more than one hard link.
    pub fn add_linked(&mut self, torrent: &TorrentFiles, file: usize) -> Result<(), DiskFault> {
        let path = torrent.path(file);
        if top_level(torrent).is_some_and(|top| top == path) {
            return Ok(());
        }
        match attempt(torrent, &path, FlockOperation::NonBlockingLockExclusive)? {
            Attempt::Locked(fd) => self.linked.push(fd),
            Attempt::Held { same_torrent } => return Err(held(torrent, &path, same_torrent)),
            Attempt::Unsupported | Attempt::Absent => {}
        }
        Ok(())
    }

    /// Lets other torrents read the content: this one is complete.
    pub fn share(&mut self) {
        self.linked.clear();
        if let Some(fd) = self.top.as_ref().filter(|_| self.exclusive) {
            self.exclusive = rustix::fs::flock(fd, FlockOperation::NonBlockingLockShared).is_err();
        }
    }
}

/// The first component of the path of the torrent's first file; `None` if no file of it is on the disk.
fn top_level(torrent: &TorrentFiles) -> Option<PathBuf> {
    let (file, _) = torrent.layout.on_disk().next()?;
    torrent.path(file).components().next().map(|first| first.as_os_str().into())
}

/// The file at the top-level path; `None` if a directory belongs there.
fn single_file(torrent: &TorrentFiles) -> Option<usize> {
    torrent.layout.on_disk().next().filter(|(_, f)| f.path().count() == 1).map(|(file, _)| file)
}

/// Finds out under which name a single file lies.
fn find_single_file(torrent: &TorrentFiles) -> Result<(), DiskFault> {
    match single_file(torrent) {
        Some(file) => torrent.find_file(file, &mut |path| torrent.dir.stat(path)).map(drop),
        None => Ok(()),
    }
}

/// Fails if another torrent holds a single file at the name that this torrent does not use, or if the file
/// appeared at its name while this torrent created it at its part name.
fn check_other_name(torrent: &TorrentFiles) -> Result<(), DiskFault> {
    let single = single_file(torrent).filter(|file| torrent.layout.file(*file).length > 0);
    let Some(file) = single.filter(|_| !torrent.read_only) else { return Ok(()) };
    let is_part = torrent.names.is_part(file);
    let other = if is_part { torrent.layout.path(file) } else { torrent.part_path(file) };
    match attempt(torrent, &other, FlockOperation::NonBlockingLockExclusive)? {
        Attempt::Held { same_torrent } => Err(held(torrent, &other, same_torrent)),
        Attempt::Locked(_) if is_part => Err(changed(torrent, &other)),
        Attempt::Locked(_) | Attempt::Unsupported | Attempt::Absent => Ok(()),
    }
}

fn held(torrent: &TorrentFiles, path: &Path, same_torrent: bool) -> DiskFault {
    if same_torrent {
        DiskFault::without_errno(FaultKind::Locked, torrent.dir.path())
    } else {
        DiskFault::without_errno(FaultKind::Held, &torrent.dir.full_path(path))
    }
}

/// The offset of the byte that holders of this torrent's content lock, so that others know which torrent it is.
fn mark_of(torrent: &TorrentFiles) -> i64 {
    let digest: [u8; 20] = Sha1::digest(torrent.info_hashes.to_string()).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]) >> 2) as i64
}

fn changed(torrent: &TorrentFiles, path: &Path) -> DiskFault {
    DiskFault::without_errno(FaultKind::Changed, &torrent.dir.full_path(path))
}

/// Tries to lock what lies at this path. A link is not followed; what is in the way there is found by the
/// check of the files.
fn attempt(torrent: &TorrentFiles, path: &Path, operation: FlockOperation) -> Result<Attempt, DiskFault> {
    // More than one round, since the file may be replaced between the two calls.
    for _ in 0..8 {
        let fd = match torrent.dir.open_to_lock(path) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Attempt::Absent),
            Err(_) => return Ok(Attempt::Unsupported),
        };
        // Marked before it is locked: a process that finds it locked has to see whose it is. Without the mark
        // another process of this torrent would be told of another torrent.
        let _ = lock_byte(&fd, mark_of(torrent));
        match rustix::fs::flock(&fd, operation) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Ok(Attempt::Held { same_torrent: is_byte_locked(&fd, mark_of(torrent)) });
            }
            Err(e) => {
                log::info!("{} cannot be locked: {e}", torrent.dir.full_path(path).display());
                return Ok(Attempt::Unsupported);
            }
        }
        if is_at(torrent, path, &fd)? {
            return Ok(Attempt::Locked(fd));
        }
    }
    Err(changed(torrent, path))
}

/// Whether the open file or directory is what lies at this path now.
fn is_at(torrent: &TorrentFiles, path: &Path, fd: &OwnedFd) -> Result<bool, DiskFault> {
    let ours = rustix::fs::fstat(fd)
        .map_err(|e| DiskFault::new(Operation::Open, &torrent.dir.full_path(path), e))?;
    let now = torrent.dir.stat(path)?;
    Ok(now.is_some_and(|now| (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestDisk;
    use super::*;
    use crate::disk::StorageMode;

    #[test]
    fn f14_only_the_holder_of_the_lock_removes_an_empty_directory_or_file() {
        for (file, top) in [("d/x", "d"), ("x", "x")] {
            let disk = TestDisk::new(StorageMode::Plain, 16_384, &[(file, 20_000)]);
            let torrent = TorrentFiles::open(disk.key, disk.torrent.clone(), true).unwrap();
            let path = disk.torrent.dir.join(top);
            if top == file {
                std::fs::write(&path, "").unwrap();
            } else {
                std::fs::create_dir(&path).unwrap();
            }
            let lock = |exclusive| ContentLock { top: None, linked: Vec::new(), exclusive, created: true };
            let holder = ContentLock::acquire(&torrent).unwrap();
            assert!(holder.exclusive);
            lock(false).remove_empty(&torrent);
            assert!(path.exists(), "another torrent locked it after it was created");
            let created = ContentLock { created: true, ..holder };
            created.remove_empty(&torrent);
            assert!(!path.exists());
        }
    }

    #[test]
    fn f14_a_lock_of_a_removed_directory_is_none() {
        let disk = TestDisk::new(StorageMode::Plain, 16_384, &[("d/x", 20_000)]);
        let torrent = Arc::new(TorrentFiles::open(disk.key, disk.torrent.clone(), true).unwrap());
        let path = disk.torrent.dir.join("d");
        std::fs::create_dir(&path).unwrap();
        let fd = torrent.dir.open_to_lock(Path::new("d")).unwrap();
        rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared).unwrap();
        let mut lock = ContentLock { top: Some(fd), linked: Vec::new(), exclusive: false, created: false };
        std::fs::remove_dir(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let fault = lock.make_exclusive(&torrent, &mut OpenFiles::new(2, true)).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Changed);
    }
}
