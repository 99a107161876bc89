//! Disk faults: a kind for the program to decide by, a path and an error number for the user.
//!
//! A fault is the fault of this machine or of its user, never of a peer. Nothing here retries: the receiver
//! of a fault decides.

use rustix::io::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// The kinds of fault that lead to different decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The disk, the quota or the inode table is full.
    NoSpace,
    /// The file is longer than its file system can hold.
    TooLarge,
    /// The path is taken by a directory, a symbolic link or a special file.
    Exists,
    /// An existing file or directory cannot be opened.
    CannotOpen,
    /// A file or directory cannot be created or extended.
    CannotCreate,
    /// A file of the torrent exists, and nothing shows that it is this torrent's.
    NotOurs,
    /// A complete file cannot get its name, because another file has it.
    NameTaken,
    /// Two files of the torrent are one file on this file system.
    SameFile,
    /// The content was on another disk, which is not mounted.
    NotMounted,
    /// The name of the content begins with a dot, and its directory is the home directory.
    Hidden,
    /// Another torrent uses the file or directory, in this process or another.
    Held,
    /// Another process works on the same torrent.
    Locked,
    /// A read, write or flush failed.
    Io,
    /// The content to be served does not exist.
    Missing,
    /// Another program replaced, removed or truncated the file while it was in use.
    Changed,
    /// A worker failed because of a bug in rill.
    Internal,
}

/// The operation that failed; the same error number means different faults in different operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Open,
    Create,
    Read,
    Write,
    Sync,
}

/// One fault. Its text is one sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// The file or directory concerned.
    pub path: PathBuf,
    /// The system's error number; 0 if no system call failed.
    pub errno: i32,
}

impl DiskFault {
    /// A fault that no system call reported.
    pub(super) fn without_errno(kind: FaultKind, path: &Path) -> DiskFault {
        DiskFault { kind, path: path.to_path_buf(), errno: 0 }
    }

    /// The fault that this error number means for this operation.
    pub(super) fn new(operation: Operation, path: &Path, errno: Errno) -> DiskFault {
        let kind = match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::MLINK => FaultKind::NoSpace,
            Errno::FBIG => FaultKind::TooLarge,
            Errno::LOOP | Errno::ISDIR | Errno::NOTDIR | Errno::XDEV | Errno::EXIST | Errno::NXIO => {
                FaultKind::Exists
            }
            Errno::NOENT if operation != Operation::Create => FaultKind::Missing,
            _ => match operation {
                Operation::Open => FaultKind::CannotOpen,
                Operation::Create => FaultKind::CannotCreate,
                Operation::Read | Operation::Write | Operation::Sync => FaultKind::Io,
            },
        };
        DiskFault { kind, path: path.to_path_buf(), errno: errno.raw_os_error() }
    }
}

/// What happened, to which file, the system's reason, and what the user can do where that is known.
impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = PrintablePath(&self.path);
        match self.kind {
            FaultKind::NoSpace => write!(f, "no space left on the disk for {path}")?,
            FaultKind::TooLarge => write!(f, "{path} is longer than its file system allows")?,
            FaultKind::Exists if self.errno == Errno::LOOP.raw_os_error() => {
                return write!(
                    f,
                    "{path} is a symbolic link or lies behind one; move it away or choose another directory"
                );
            }
            FaultKind::Exists => write!(f, "{path} is in the way: it is not a regular file of this torrent")?,
            FaultKind::CannotOpen => write!(f, "cannot open {path}")?,
            FaultKind::CannotCreate => write!(f, "cannot create {path}")?,
            FaultKind::NotOurs => write!(f, "{path} exists and is not part of this torrent")?,
            FaultKind::NameTaken => {
                write!(f, "{path} is complete and keeps this name, because another file has the right one")?;
            }
            FaultKind::Held => write!(f, "{path} is in use by another torrent")?,
            FaultKind::SameFile => {
                write!(f, "{path} and another file of this torrent are one file on this file system")?;
            }
            FaultKind::NotMounted => write!(f, "data not found at {path}: is the disk mounted?")?,
            FaultKind::Hidden => write!(f, "{path} would be a hidden file of the home directory")?,
            FaultKind::Locked => write!(f, "another process works on this torrent in {path}")?,
            FaultKind::Io => write!(f, "cannot read or write {path}")?,
            FaultKind::Missing => write!(f, "{path} does not exist")?,
            FaultKind::Changed => write!(f, "another program changed {path} while it was in use")?,
            FaultKind::Internal => write!(f, "a disk worker failed at {path}, which is a bug in rill")?,
        }
        // The reason "No such file or directory" would only repeat `Missing`.
        if self.errno != 0 && self.kind != FaultKind::Missing {
            write!(f, ": {}", reason(self.errno))?;
        }
        match self.kind {
            FaultKind::TooLarge => f.write_str("; choose a directory on another file system"),
            FaultKind::Exists => f.write_str("; move it away or choose another directory"),
            FaultKind::NotOurs => {
                f.write_str("; move it away, choose another directory or allow that it is overwritten")
            }
            FaultKind::Held => {
                f.write_str("; choose another directory, or wait until that torrent is closed")
            }
            FaultKind::NameTaken => f.write_str("; move that away and run the same command again"),
            FaultKind::SameFile => f.write_str("; choose a directory on another file system"),
            FaultKind::NotMounted => f.write_str(" --refetch downloads it again"),
            FaultKind::Hidden => f.write_str("; choose another directory"),
            FaultKind::Locked => f.write_str("; wait until it ends, or choose another directory"),
            FaultKind::Changed => f.write_str("; run the same command again to check the content"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for DiskFault {}

/// The system's text for an error number, without the number.
fn reason(errno: i32) -> String {
    let mut text = std::io::Error::from_raw_os_error(errno).to_string();
    if let Some(at) = text.rfind(" (os error") {
        text.truncate(at);
    }
    text
}

/// A path with control characters replaced, so that it cannot steer a terminal.
pub(super) struct PrintablePath<'a>(pub &'a Path);

impl fmt::Display for PrintablePath<'_> {
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
        let fault = DiskFault::new(Operation::Write, Path::new("/d/a\u{1b}[2Jb"), Errno::NOSPC);
        assert_eq!(fault.kind, FaultKind::NoSpace);
        assert_eq!(fault.to_string(), "no space left on the disk for /d/a?[2Jb: No space left on device");
        let fault = DiskFault::new(Operation::Open, Path::new("x"), Errno::ISDIR);
        let text = "x is in the way: it is not a regular file of this torrent: Is a directory; move it away or choose another directory";
        assert_eq!(fault.to_string(), text);
    }

    #[test]
    fn t12_a_link_in_the_way_is_called_a_link() {
        let fault = DiskFault::new(Operation::Open, Path::new("x"), Errno::LOOP);
        assert!(fault.to_string().starts_with("x is a symbolic link"), "{fault}");
    }

    #[test]
    fn the_operation_decides_what_an_error_number_means() {
        let path = Path::new("x");
        assert_eq!(DiskFault::new(Operation::Open, path, Errno::ACCESS).kind, FaultKind::CannotOpen);
        assert_eq!(DiskFault::new(Operation::Create, path, Errno::ACCESS).kind, FaultKind::CannotCreate);
        assert_eq!(DiskFault::new(Operation::Write, path, Errno::IO).kind, FaultKind::Io);
        assert_eq!(DiskFault::new(Operation::Open, path, Errno::LOOP).kind, FaultKind::Exists);
    }
}
