//! Exit codes, and the error that a command ends with.
//!
//! Where aria2 has an exit code for the same cause, the number is the same, so that scripts work with both. A
//! command reports every error as a [`Failure`]: an exit code and one sentence for stderr.

use crate::disk::{DiskFault, FaultKind};
use std::fmt;
use std::io;

/// Exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The command did its work.
    Done = 0,
    /// An error without a code of its own.
    Other = 1,
    /// `--timeout` or `--stall-timeout` passed.
    TimedOut = 2,
    /// The server has nothing at this URL (HTTP 404 or 410).
    NotFound = 3,
    /// A URL could not be fetched, or a port could not be opened.
    Network = 6,
    /// A signal stopped the command before its end; progress is kept.
    Stopped = 7,
    /// No disk space.
    NoSpace = 9,
    /// Another torrent uses the same file.
    Held = 11,
    /// Another process works on the same torrent in the same directory.
    Locked = 12,
    /// An existing file that is not part of the torrent is in the way.
    Exists = 13,
    /// A file cannot be opened.
    Open = 15,
    /// A file cannot be created or set to its length.
    Create = 16,
    /// Reading or writing failed.
    Io = 17,
    /// Not bencode at all.
    Bencode = 25,
    /// Valid bencode, but not a usable torrent.
    Torrent = 26,
    /// Not a usable magnet link.
    Magnet = 27,
    /// The command line is wrong.
    Option = 28,
    /// Content does not match its hashes.
    Mismatch = 32,
}

impl Exit {
    /// Returns the number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

/// Returns the exit code of a command that ends because of this disk fault.
pub(crate) const fn fault_exit(fault: &DiskFault) -> Exit {
    match fault.kind {
        FaultKind::Internal => Exit::Other,
        FaultKind::NoSpace => Exit::NoSpace,
        FaultKind::Held | FaultKind::SameFile => Exit::Held,
        FaultKind::Locked => Exit::Locked,
        FaultKind::Exists | FaultKind::NotOurs | FaultKind::NameTaken | FaultKind::Hidden => Exit::Exists,
        FaultKind::CannotOpen | FaultKind::Missing | FaultKind::NotMounted => Exit::Open,
        FaultKind::CannotCreate | FaultKind::TooLarge => Exit::Create,
        FaultKind::Io | FaultKind::Changed => Exit::Io,
    }
}

/// Error that ends a command: the exit code, and the sentence that is printed after `rill: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) sentence: String,
}

impl Failure {
    /// Returns a failure. The sentence ends without a full stop and without a newline.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Failure {
        Failure { exit, sentence: sentence.into() }
    }

    /// Returns the failure for an operating system error on the file `what`. Its exit code is
    /// [`Exit::NoSpace`] if the disk or the quota is full, else `otherwise`.
    pub(crate) fn os(otherwise: Exit, what: impl fmt::Display, error: &io::Error) -> Failure {
        let exit = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::NoSpace,
            _ => otherwise,
        };
        Failure::new(exit, format!("{what}: {}", reason(error)))
    }
}

/// Returns the error's text with a small first letter and without "(os error 2)".
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_os_error_becomes_part_of_a_sentence() {
        let e = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(Failure::os(Exit::Open, "x.torrent", &e).sentence, "x.torrent: no such file or directory");
    }

    #[test]
    fn a_full_disk_overrides_the_exit_code_of_the_caller() {
        let e = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(Failure::os(Exit::Io, "x", &e).exit, Exit::NoSpace);
    }

    #[test]
    fn every_disk_fault_maps_to_its_documented_exit_code() {
        let codes = [
            (FaultKind::Held, 11),
            (FaultKind::Locked, 12),
            (FaultKind::NotOurs, 13),
            (FaultKind::NameTaken, 13),
            (FaultKind::SameFile, 11),
            (FaultKind::Hidden, 13),
            (FaultKind::NotMounted, 15),
            (FaultKind::Internal, 1),
            (FaultKind::NoSpace, 9),
            (FaultKind::Exists, 13),
            (FaultKind::CannotOpen, 15),
            (FaultKind::Missing, 15),
            (FaultKind::CannotCreate, 16),
            (FaultKind::TooLarge, 16),
            (FaultKind::Io, 17),
            (FaultKind::Changed, 17),
        ];
        for (kind, code) in codes {
            let fault = DiskFault { kind, path: "x".into(), errno: 0 };
            assert_eq!(fault_exit(&fault).code(), code, "{kind:?}");
        }
    }

    #[test]
    fn exit_codes_are_the_documented_numbers() {
        let all = [
            (Exit::Done, 0),
            (Exit::Other, 1),
            (Exit::TimedOut, 2),
            (Exit::NotFound, 3),
            (Exit::Network, 6),
            (Exit::Stopped, 7),
            (Exit::NoSpace, 9),
            (Exit::Exists, 13),
            (Exit::Open, 15),
            (Exit::Create, 16),
            (Exit::Io, 17),
            (Exit::Bencode, 25),
            (Exit::Torrent, 26),
            (Exit::Magnet, 27),
            (Exit::Option, 28),
            (Exit::Mismatch, 32),
        ];
        for (exit, code) in all {
            assert_eq!(exit.code(), code);
        }
    }
}
