//! What can go wrong between rill and a disk, as a closed set: a kind to decide by, a path and an errno to tell.
//!
//! A fault is always ours or the disk's, never a peer's. Nothing here retries; whoever receives one decides.

use rustix::io::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// The kinds of fault that somebody may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The disk, the quota or the table of inodes is full.
    NoSpace,
    /// The file is longer than this file system can hold.
    TooLarge,
    /// Something that is not ours lies in the way: a directory, a symbolic link, a special file.
    Exists,
    /// A file or directory that is there cannot be opened.
    CannotOpen,
    /// A file or directory cannot be made, or not given its length.
    CannotCreate,
    /// Another process works on the same torrent.
    Locked,
    /// A read, write or flush failed.
    Io,
    /// What should be served is not there.
    Missing,
    /// The file was replaced, removed or cut while we worked on it.
    Changed,
    /// A worker failed in a way that is rill's own fault.
    Internal,
}

impl FaultKind {
    /// The exit code of a program that ends because of this.
    pub const fn exit_code(&self) -> u8 {
        match self {
            FaultKind::Locked | FaultKind::Internal => 1,
            FaultKind::NoSpace => 9,
            FaultKind::Exists => 13,
            FaultKind::CannotOpen | FaultKind::Missing => 15,
            FaultKind::CannotCreate | FaultKind::TooLarge => 16,
            FaultKind::Io | FaultKind::Changed => 17,
        }
    }
}

/// What was being done when the fault appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Open,
    Create,
    Read,
    Write,
    Sync,
}

/// One fault: a sentence for a person, a kind for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// What sort of fault.
    pub kind: FaultKind,
    /// The file or directory it happened to.
    pub path: PathBuf,
    /// The system's error number, 0 if the system had no complaint.
    pub errno: i32,
}

impl DiskFault {
    /// The exit code of a program that ends because of this.
    pub const fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    /// A fault without an errno.
    pub(super) fn plain(kind: FaultKind, path: &Path) -> DiskFault {
        DiskFault { kind, path: path.to_path_buf(), errno: 0 }
    }

    /// The fault that this errno means at this moment.
    pub(super) fn new(doing: Operation, path: &Path, errno: Errno) -> DiskFault {
        let kind = match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::MLINK => FaultKind::NoSpace,
            Errno::FBIG => FaultKind::TooLarge,
            Errno::LOOP | Errno::ISDIR | Errno::NOTDIR | Errno::XDEV | Errno::EXIST | Errno::NXIO => FaultKind::Exists,
            Errno::NOENT if doing != Operation::Create => FaultKind::Missing,
            _ => match doing {
                Operation::Open => FaultKind::CannotOpen,
                Operation::Create => FaultKind::CannotCreate,
                Operation::Read | Operation::Write | Operation::Sync => FaultKind::Io,
            },
        };
        DiskFault { kind, path: path.to_path_buf(), errno: errno.raw_os_error() }
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = PathText(&self.path);
        match self.kind {
            FaultKind::NoSpace => write!(f, "no space left on the disk for {path}")?,
            FaultKind::TooLarge => write!(f, "{path} is longer than this file system allows")?,
            FaultKind::Exists => write!(f, "something that is not this torrent's file is in the way at {path}")?,
            FaultKind::CannotOpen => write!(f, "cannot open {path}")?,
            FaultKind::CannotCreate => write!(f, "cannot create {path}")?,
            FaultKind::Locked => write!(f, "another process is working on this torrent (lock file {path})")?,
            FaultKind::Io => write!(f, "input/output failed on {path}")?,
            FaultKind::Missing => write!(f, "{path} is not there")?,
            FaultKind::Changed => write!(f, "{path} was changed by somebody else while in use")?,
            FaultKind::Internal => write!(f, "a disk worker failed while working on {path}")?,
        }
        if self.errno != 0 {
            write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for DiskFault {}

/// A path for people: whatever could move a cursor is replaced.
struct PathText<'a>(&'a Path);

impl fmt::Display for PathText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0.to_string_lossy().chars().try_for_each(|c| f.write_char(if c.is_control() { '?' } else { c }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_sentence_with_the_file_and_the_reason() {
        let f = DiskFault::new(Operation::Write, Path::new("/d/a\u{1b}[2Jb"), Errno::NOSPC);
        assert_eq!(f.kind, FaultKind::NoSpace);
        assert_eq!(f.exit_code(), 9);
        let text = f.to_string();
        assert!(text.starts_with("no space left on the disk for /d/a?[2Jb: "), "{text}");
    }

    #[test]
    fn the_same_errno_means_what_was_being_done() {
        let p = Path::new("x");
        assert_eq!(DiskFault::new(Operation::Open, p, Errno::ACCESS).exit_code(), 15);
        assert_eq!(DiskFault::new(Operation::Create, p, Errno::ACCESS).exit_code(), 16);
        assert_eq!(DiskFault::new(Operation::Write, p, Errno::IO).exit_code(), 17);
        assert_eq!(DiskFault::new(Operation::Open, p, Errno::LOOP).exit_code(), 13);
    }
}
