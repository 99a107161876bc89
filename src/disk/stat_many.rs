//! `stat` of very many paths without filling a small cgroup.
//!
//! The kernel keeps about 1 KiB for each inode that was looked at, and counts it against the cgroup. If the
//! limit is reached inside a `stat`, ext4 may not evict other inodes, because it allocates memory that must
//! not call back into a file system; the kernel then kills a process although those inodes are unused. Pages
//! of files can be evicted at any time, and allocating one evicts inodes, too. So from time to time the hole
//! of an unnamed file is read: as many pages as the next calls may need, ready to be evicted.

use super::dir::Dir;
use super::fault::DiskFault;
use super::limits;
use rustix::fs::{Advice, Stat};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Calls `stat` for paths of one directory, one after the other.
pub(super) struct StatMany<'a> {
    dir: &'a Dir,
    count: usize,
    cushion: Option<EvictablePages>,
}

/// A hole, and a buffer to read it into the page cache with.
struct EvictablePages {
    hole: OwnedFd,
    buf: Vec<u8>,
}

impl<'a> StatMany<'a> {
    /// For paths of this directory.
    pub fn new(dir: &'a Dir) -> StatMany<'a> {
        StatMany { dir, count: 0, cushion: None }
    }

    /// As [`Dir::stat`].
    pub fn stat(&mut self, rel: &Path) -> Result<Option<Stat>, DiskFault> {
        self.count += 1;
        if self.count % limits::STATS_PER_CUSHION == 0 {
            self.renew_cushion();
        }
        self.dir.stat(rel)
    }

    /// Fills the page cache a little. Without unnamed files there is no cushion, and mostly no need of one.
    fn renew_cushion(&mut self) {
        if self.cushion.is_none() {
            let hole = self.dir.unnamed_file(limits::CUSHION_BYTES);
            self.cushion = hole.map(|hole| EvictablePages { hole, buf: vec![0; limits::READ_BYTES] });
        }
        let Some(EvictablePages { hole, buf }) = &mut self.cushion else { return };
        let _ = rustix::fs::fadvise(&*hole, 0, None, Advice::DontNeed);
        let mut at = 0;
        while let Ok(n @ 1..) = rustix::io::pread(&*hole, &mut buf[..], at) {
            at += n as u64;
        }
    }
}
