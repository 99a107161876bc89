//! Looking at very many paths without filling a small cgroup.
//!
//! The kernel remembers about a KiB of every file that is looked at, which counts against the cgroup. Where the limit is reached in the
//! middle of a look, ext4 may not let other files' inodes go (it asks for memory that must not call back into file systems), and the
//! kernel kills rather than wait, though nobody uses them. Pages of files have no such trouble: they can be let go at any time, and
//! asking for one lets inodes go, too. So every now and then the hole of a nameless file is read: as many pages as the next looks may need.

use super::fault::DiskFault;
use super::limits;
use super::tree::Tree;
use rustix::fs::{Advice, Stat};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Looks at paths of one tree, one after the other.
pub(super) struct Looks<'a> {
    tree: &'a Tree,
    count: usize,
    cushion: Option<Cushion>,
}

struct Cushion {
    hole: OwnedFd,
    buf: Vec<u8>,
}

impl<'a> Looks<'a> {
    /// None so far.
    pub fn at(tree: &'a Tree) -> Looks<'a> {
        Looks { tree, count: 0, cushion: None }
    }

    /// What lies at this path now, as [`Tree::look`].
    pub fn look(&mut self, rel: &Path) -> Result<Option<Stat>, DiskFault> {
        self.count += 1;
        if self.count % limits::LOOKS_PER_CUSHION == 0 {
            self.renew();
        }
        self.tree.look(rel)
    }

    /// Fills the page cache a little. Where nothing can be made, there is no cushion, and mostly no need of one.
    fn renew(&mut self) {
        if self.cushion.is_none() {
            self.cushion =
                self.tree.nameless(limits::CUSHION_BYTES).map(|hole| Cushion { hole, buf: vec![0; limits::READ_BYTES] });
        }
        let Some(Cushion { hole, buf }) = &mut self.cushion else { return };
        let _ = rustix::fs::fadvise(&*hole, 0, None, Advice::DontNeed);
        let mut at = 0;
        while let Ok(n @ 1..) = rustix::io::pread(&*hole, &mut buf[..], at) {
            at += n as u64;
        }
    }
}
