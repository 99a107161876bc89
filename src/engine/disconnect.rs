//! The reasons for closing a connection: protocol violations, with the figure that proves them, and others.

use crate::wire::mse::MseError;
use crate::wire::{FrameError, RawSpan};
use thiserror::Error;

/// A peer's violation of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProtocolViolation {
    /// The framing is invalid.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer named a piece that does not exist.
    #[error("piece {0} does not exist")]
    NoSuchPiece(u32),
    /// The peer sent a message of the Fast extension (BEP 6) without having negotiated it.
    #[error("a message of the Fast extension, which was not negotiated")]
    NotFast,
    /// The peer sent too many blocks without a request; the number of them.
    #[error("{0} blocks without a request")]
    Unasked(u32),
    /// The peer sent too many requests that cannot be served.
    #[error("{count} requests that cannot be served, the last for {} bytes at {} of piece {}", .last.len, .last.begin, .last.piece)]
    InvalidRequests {
        /// The number of invalid requests.
        count: u32,
        /// The last invalid request.
        last: RawSpan,
    },
    /// The choked peer requested the same allowed-fast piece too often; the number of times.
    #[error("the same allowed-fast piece requested {0} times")]
    FastAbuse(u32),
    /// The peer unchoked us and rejects every request; the number of rejections.
    #[error("{0} requests rejected without a block in between")]
    RejectsOnly(u32),
    /// The peer does not read: more control bytes are queued for it than the limit allows; the number of
    /// them.
    #[error("{0} bytes are queued for a peer that does not read")]
    NotReading(usize),
}

/// The reason for closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DisconnectReason {
    /// The peer violated the protocol.
    #[error("{0}")]
    ProtocolViolation(#[from] ProtocolViolation),
    /// The handshake names a torrent that is unknown or paused.
    #[error("an unknown torrent")]
    UnknownTorrent,
    /// We are connected to ourselves.
    #[error("a connection to ourselves")]
    Ourselves,
    /// Another connection to the same peer exists.
    #[error("a second connection to the same peer")]
    Duplicate,
    /// The peer's address is banned: it sent bad data.
    #[error("banned")]
    Banned,
    /// The peer's handshake names another torrent than the one that we dialed for.
    #[error("the handshake names another torrent")]
    WrongTorrent,
    /// The limit of connections is reached.
    #[error("too many connections")]
    Full,
    /// The peer's host refused the connection.
    #[error("connection refused")]
    Refused,
    /// The network could not reach the peer.
    #[error("unreachable")]
    Unreachable,
    /// The connection was not established in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// The peer did not complete its handshake in time.
    #[error("no handshake in time")]
    HandshakeTimeout,
    /// The peer sent nothing for too long.
    #[error("no message in time")]
    Idle,
    /// The peer did not complete a block in time.
    #[error("a block was not completed in time")]
    Stalled,
    /// Neither side is interested in the other.
    #[error("neither side is interested")]
    Uninteresting,
    /// This machine is out of descriptors, ports or memory.
    #[error("out of descriptors, ports or memory")]
    OutOfResources,
    /// The negotiation of an encrypted connection (MSE) failed.
    #[error("{0}")]
    Negotiation(MseError),
    /// The peer does not encrypt, and the user requires it.
    #[error("an unencrypted connection")]
    Unencrypted,
    /// The torrent was paused or removed, or the session ends.
    #[error("the torrent stopped")]
    Stopped,
    /// The network of this machine changed, so the connection leads nowhere.
    #[error("the network changed")]
    NetworkChanged,
    /// The torrent turned out to be private, and the peer's address came from a source that a private torrent
    /// must not use.
    #[error("a peer that a private torrent must not use")]
    Private,
    /// The stream ended, or the network failed.
    #[error("connection lost")]
    Lost,
}
