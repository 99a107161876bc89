//! Why a connection is closed: a violation of the protocol with its figure, or another reason.

use crate::wire::{FrameError, RawSpan};
use thiserror::Error;

/// A violation of the protocol by a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProtocolViolation {
    /// The framing is invalid.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer named a piece that does not exist.
    #[error("piece {0} does not exist")]
    NoSuchPiece(u32),
    /// A message of the Fast extension, which was not negotiated (BEP 6).
    #[error("a message of the Fast extension, which was not negotiated")]
    NotFast,
    /// More than [`UNASKED_BLOCKS`](super::limits::UNASKED_BLOCKS) blocks without a request.
    #[error("{0} blocks without a request")]
    Unasked(u32),
    /// [`INVALID_REQUESTS`](super::limits::INVALID_REQUESTS) requests that cannot be served.
    #[error("{count} requests that cannot be served, the last for {} bytes at {} of piece {}", .last.len, .last.begin, .last.piece)]
    InvalidRequests {
        /// Their number.
        count: u32,
        /// The last of them.
        last: RawSpan,
    },
    /// An allowed-fast piece requested more than [`ALLOWED_FAST_TIMES`](super::limits::ALLOWED_FAST_TIMES)
    /// times.
    #[error("an allowed-fast piece requested {0} times")]
    FastAbuse(u32),
    /// More than [`REJECTS_ONLY`](super::limits::REJECTS_ONLY) rejected requests without a block in between.
    #[error("{0} requests rejected without a block in between")]
    RejectsOnly(u32),
    /// The peer does not read, and more than [`ENCODER_CONTROL_BYTES`](super::limits::ENCODER_CONTROL_BYTES)
    /// wait for it.
    #[error("{0} bytes wait for a peer that does not read")]
    NotReading(usize),
}

/// The reason for closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DisconnectReason {
    /// The peer violated the protocol.
    #[error("{0}")]
    ProtocolViolation(#[from] ProtocolViolation),
    /// Its handshake names a torrent that is unknown or paused.
    #[error("an unknown torrent")]
    UnknownTorrent,
    /// The peer is ourselves.
    #[error("a connection to ourselves")]
    Ourselves,
    /// There is another connection to this peer.
    #[error("a second connection to the same peer")]
    Duplicate,
    /// It sent bad data.
    #[error("banned")]
    Banned,
    /// Its handshake names another torrent than ours.
    #[error("another torrent than the one dialed for")]
    WrongTorrent,
    /// There is no room for another connection.
    #[error("no room")]
    Full,
    /// The dial timed out.
    #[error("no connection in time")]
    ConnectTimeout,
    /// The handshake timed out.
    #[error("no handshake in time")]
    HandshakeTimeout,
    /// No byte was received for [`IDLE_TIMEOUT`](super::limits::IDLE_TIMEOUT).
    #[error("no message in time")]
    Idle,
    /// A block took longer than [`BLOCK_TIMEOUT`](super::limits::BLOCK_TIMEOUT).
    #[error("a block that does not end in time")]
    Stalled,
    /// Neither side can make progress.
    #[error("neither side wants a piece of the other")]
    Uninteresting,
    /// This machine is out of descriptors, ports or memory.
    #[error("no resources for a connection")]
    OutOfResources,
    /// The torrent was paused or removed, or the session ends.
    #[error("the torrent is paused")]
    Stopped,
    /// The torrent turned out to be private, and the peer was not found through its trackers.
    #[error("a peer that a private torrent must not use")]
    Private,
    /// The stream ended, or the network failed.
    #[error("connection lost")]
    Lost,
}
