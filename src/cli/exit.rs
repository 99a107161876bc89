//! How rill ends: one code of a short list, and at most one sentence on stderr.
//!
//! The numbers are aria2's where aria2 has one, so that scripts which know the one know the other. A
//! [`Failure`] is the only way a command reports that it could not do its work.

use crate::disk::{DiskFault, FaultKind};
use std::fmt;
use std::io;

/// What the process tells its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// Anything that has no number of its own.
    Other = 1,
    /// `--timeout` or `--stall-timeout` struck.
    TimedOut = 2,
    /// A URL could not be fetched, a port not be opened.
    Network = 6,
    /// Stopped by a signal before the end; progress is kept.
    Stopped = 7,
    /// No disk space.
    NoSpace = 9,
    /// A file is in the way and it is not ours.
    Exists = 13,
    /// A file cannot be opened.
    Open = 15,
    /// A file cannot be created or cut to size.
    Create = 16,
    /// Reading or writing failed.
    Io = 17,
    /// Not bencode at all.
    Bencode = 25,
    /// Bencode, but not a torrent that can be used.
    Torrent = 26,
    /// Not a magnet link that can be used.
    Magnet = 27,
    /// The command line is wrong.
    Option = 28,
    /// Content does not match its hashes.
    Mismatch = 32,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

/// The exit code of a command that ends because of this disk fault.
pub(crate) const fn fault_exit(fault: &DiskFault) -> Exit {
    match fault.kind {
        FaultKind::Locked | FaultKind::Internal => Exit::Other,
        FaultKind::NoSpace => Exit::NoSpace,
        FaultKind::Exists => Exit::Exists,
        FaultKind::CannotOpen | FaultKind::Missing => Exit::Open,
        FaultKind::CannotCreate | FaultKind::TooLarge => Exit::Create,
        FaultKind::Io | FaultKind::Changed => Exit::Io,
    }
}

/// Why a command gave up: the code, and the sentence that goes after `rill: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) sentence: String,
}

impl Failure {
    /// A failure with its sentence; no final stop, no newline.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Failure {
        Failure { exit, sentence: sentence.into() }
    }

    /// What an operating system error on `what` means; `otherwise` is the code when it is nothing special.
    pub(crate) fn os(otherwise: Exit, what: impl fmt::Display, error: &io::Error) -> Failure {
        let exit = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::NoSpace,
            _ => otherwise,
        };
        Failure::new(exit, format!("{what}: {}", reason(error)))
    }
}

/// The reason alone, in small letters, without "(os error 2)".
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
    fn an_os_error_reads_as_part_of_a_sentence() {
        let e = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(Failure::os(Exit::Open, "x.torrent", &e).sentence, "x.torrent: no such file or directory");
    }

    #[test]
    fn a_full_disk_has_its_own_code_wherever_it_shows() {
        let e = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(Failure::os(Exit::Io, "x", &e).exit, Exit::NoSpace);
    }

    #[test]
    fn every_kind_of_disk_fault_has_its_code() {
        let codes = [
            (FaultKind::Locked, 1),
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
    fn codes_are_the_promised_numbers() {
        let all = [
            (Exit::Done, 0),
            (Exit::Other, 1),
            (Exit::TimedOut, 2),
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
