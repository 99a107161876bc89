//! The results of dialing and of moving bytes, which all transports share.

use crate::engine::DialFailure;
use std::io;

/// The result of an attempt to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Bytes moved.
    Moved {
        /// Their number; 0 if a signal interrupted the call.
        bytes: usize,
        /// The transport has no more to take or give for now: wait for readiness.
        drained: bool,
    },
    /// Nothing moved: wait for readiness.
    NotNow,
    /// The target's memory cannot be written (`EFAULT`); nothing was taken from the stream.
    BadTarget,
    /// The stream has ended.
    Ended,
}

/// Why a connection could not be dialed.
#[derive(Debug)]
pub enum DialError {
    /// The error of the connection to the peer.
    Peer(io::Error),
    /// The proxy cannot be used, which says nothing about the peer.
    Proxy(io::Error),
}

impl DialError {
    /// Returns whether this machine or the other side is the cause.
    pub fn failure(&self) -> DialFailure {
        let DialError::Peer(error) = self else { return DialFailure::OutOfResources };
        match error.raw_os_error() {
            Some(
                libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRNOTAVAIL
                | libc::EAGAIN,
            ) => DialFailure::OutOfResources,
            _ if error.kind() == io::ErrorKind::ConnectionRefused => DialFailure::Refused,
            _ => DialFailure::Unreachable,
        }
    }
}
