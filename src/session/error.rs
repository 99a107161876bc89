//! Why a session does not start, or does not answer any more.

use crate::disk::DiskFault;
use std::io;
use thiserror::Error;

/// Why a session could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// No port to listen on.
    #[error("cannot listen on port {first}{}: {source}", if .first == .last { String::new() } else { format!(" to {}", .last) })]
    Listen {
        /// The first port tried.
        first: u16,
        /// The last.
        last: u16,
        /// The last port's error.
        source: io::Error,
    },
    /// The system refused what every session needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The state directory, or memory for buffers.
    #[error("{0}")]
    Disk(#[from] DiskFault),
}

/// The loop has ended; why, its last event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the session has ended")]
pub struct SessionGone;
