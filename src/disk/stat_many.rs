//! Looking at very many paths without filling a small cgroup.
//!
//! The kernel remembers about a KiB of every file that is looked at, which counts against the cgroup. Where the limit is reached in the
//! middle of a look, ext4 may not let other files' inodes go (it asks for memory that must not call back into file systems), and the
//! kernel kills rather than wait, though nobody uses them. Pages of files have no such trouble: they can be let go at any time, and
//! asking for one lets inodes go, too. So every now and then the hole of a nameless file is read: as many pages as the next looks may need.

use super::dir::Dir;
use super::fault::DiskFault;
use super::limits;
use rustix::fs::{Advice, Stat};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Looks at paths of one tree, one after the other.
pub(super) struct StatMany<'a> {
    tree: &'a Dir,
    count: usize,
    cushion: Option<ReclaimablePages>,
}

struct ReclaimablePages {
    hole: OwnedFd,
    buf: Vec<u8>,
}

impl<'a> StatMany<'a> {
    /// None so far.
    pub fn at(tree: &'a Dir) -> StatMany<'a> {
        StatMany { tree, count: 0, cushion: None }
    }

    /// What lies at this path now, as [`Dir::look`].
    pub fn stat(&mut self, rel: &Path) -> Result<Option<Stat>, DiskFault> {
        self.count += 1;
        if self.count % limits::LOOKS_PER_CUSHION == 0 {
            self.renew();
        }
        self.tree.stat(rel)
    }

    /// Fills the page cache a little. Where nothing can be made, there is no cushion, and mostly no need of one.
    fn renew(&mut self) {
        if self.cushion.is_none() {
            self.cushion = self
                .tree
                .unnamed_file(limits::CUSHION_BYTES)
                .map(|hole| ReclaimablePages { hole, buf: vec![0; limits::READ_BYTES] });
        }
        let Some(ReclaimablePages { hole, buf }) = &mut self.cushion else { return };
        let _ = rustix::fs::fadvise(&*hole, 0, None, Advice::DontNeed);
        let mut at = 0;
        while let Ok(n @ 1..) = rustix::io::pread(&*hole, &mut buf[..], at) {
            at += n as u64;
        }
    }
}
