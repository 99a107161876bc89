//! Why a connection is closed: a violation of the protocol, with the number that shows it, or a reason that
//! is no peer's fault.

use crate::wire::{FrameError, RawSpan};
use thiserror::Error;

/// What a peer did that the protocol does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProtocolViolation {
    /// The framing is wrong.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A piece that does not exist.
    #[error("piece {0} does not exist")]
    NoSuchPiece(u32),
    /// A message of the Fast extension without having said that it speaks it (BEP 6).
    #[error("a message of the Fast extension, which was not agreed on")]
    NotFast,
    /// Blocks without a request, again and again.
    #[error("{0} blocks without a request")]
    Unasked(u32),
    /// Requests that cannot be served, again and again.
    #[error("{count} requests that cannot be served, the last for {} bytes at {} of piece {}", .last.len, .last.begin, .last.piece)]
    InvalidRequests {
        /// How many.
        count: u32,
        /// The last one.
        last: RawSpan,
    },
    /// An allowed-fast block taken over and over.
    #[error("an allowed-fast block taken {0} times")]
    FastAbuse(u32),
    /// Lets us ask, and rejects every request.
    #[error("{0} requests rejected without a block in between")]
    RejectsOnly(u32),
    /// Does not read what we send, and asks for more.
    #[error("{0} bytes wait for a peer that does not read")]
    NotReading(usize),
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DisconnectReason {
    /// The peer broke the protocol.
    #[error("{0}")]
    ProtocolViolation(#[from] ProtocolViolation),
    /// A torrent that we do not have, or that is paused.
    #[error("an unknown torrent")]
    UnknownTorrent,
    /// The other end is ourselves.
    #[error("a connection to ourselves")]
    Ourselves,
    /// Connected to this peer already.
    #[error("a second connection to the same peer")]
    Duplicate,
    /// It sent bad data before.
    #[error("banned")]
    Banned,
    /// Another torrent answered than the one dialed for.
    #[error("another torrent than the one asked for")]
    WrongTorrent,
    /// No room for another connection.
    #[error("no room")]
    Full,
    /// Did not get through in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// Did not say who it is in time.
    #[error("no handshake in time")]
    HandshakeTimeout,
    /// Silence.
    #[error("silence")]
    Idle,
    /// A block that began and never ended.
    #[error("a block that does not end")]
    Stalled,
    /// Neither side wants anything of the other.
    #[error("nothing to give or take")]
    Uninteresting,
    /// This machine has no descriptor, port or memory for it.
    #[error("no resources for a connection")]
    OutOfResources,
    /// The torrent was paused or removed, or the session ends.
    #[error("the torrent stopped")]
    Stopped,
    /// The torrent turned out to be private, and the peer was not found through its trackers.
    #[error("a peer that a private torrent may not know")]
    Private,
    /// The stream ended, or the network failed.
    #[error("connection lost")]
    Lost,
}
