//! Errors of starting a session and of its commands.

use super::event::TorrentId;
use crate::disk::DiskFault;
use std::io;
use thiserror::Error;

/// Why a session could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// No port could be bound.
    #[error("cannot listen on port {first}{}: {source}", if .first == .last { String::new() } else { format!(" to {}", .last) })]
    Listen {
        /// The first port tried.
        first: u16,
        /// The last port tried.
        last: u16,
        /// The last port's error.
        source: io::Error,
    },
    /// [`Config::interface`](super::Config::interface) cannot be used.
    #[error("cannot use {interface}: {reason}")]
    Interface {
        /// The name or address.
        interface: String,
        /// The reason.
        reason: &'static str,
    },
    /// The system refused a descriptor, a thread or memory.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The state directory is unusable, or there is no memory for buffers.
    #[error("{0}")]
    Disk(#[from] DiskFault),
}

/// Why a command was not carried out, or a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The session has ended; its last event gives the reason.
    #[error("the session has ended")]
    Gone,
    /// The session has a torrent with this info hash already.
    #[error("the session has this torrent already")]
    Duplicate {
        /// The id of the torrent that it has.
        torrent: TorrentId,
    },
    /// No torrent of this session has the id.
    #[error("no such torrent")]
    UnknownTorrent,
    /// The torrent's metadata is not known yet.
    #[error("the torrent's metadata is not known yet")]
    NoMetadata,
    /// The torrent's content is being checked; try again when it is open.
    #[error("the torrent's content is being checked")]
    Checking,
    /// The torrent is only served; none of its files is downloaded.
    #[error("the torrent is only seeded")]
    SeedOnly,
    /// The number of priorities is not the number of files.
    #[error("{given} priorities for {files} files")]
    FileCount {
        /// Priorities given.
        given: usize,
        /// Files of the torrent.
        files: usize,
    },
    /// A file index that the torrent does not have.
    #[error("no file {index}: the torrent has {files} files")]
    NoSuchFile {
        /// The index.
        index: usize,
        /// Files of the torrent.
        files: usize,
    },
    /// The torrent does not wait for a choice of files.
    #[error("the torrent does not wait for a choice of files")]
    NothingToChoose,
    /// Not the announce URL of a tracker.
    #[error("not the URL of a tracker: {0}")]
    NotATracker(String),
    /// Not a name that the content can have.
    #[error("not a plain file name: {0}")]
    NotAName(String),
}
