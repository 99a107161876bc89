//! Upload-only peers (BEP 21): a side that wants nothing more, and when a connection is of no use to either
//! side.
//!
//! A torrent with every wanted piece says so in its extension handshake, and again when that changes; it need
//! not be a seed. If both sides are upload-only, neither can make progress, and the connection is closed.
//! What a peer says it wants and what it has stay two things: a peer that is upload-only is not counted as a
//! seed for that.

use super::disconnect::DisconnectReason;
use super::peer::{Peer, Phase};
use super::torrent::Torrent;

impl Torrent {
    /// Whether every wanted piece is verified.
    pub(super) fn is_upload_only(&self) -> bool {
        self.open && self.pieces.missing() == 0
    }
}

impl Peer {
    /// Whether the peer wants nothing more: it has every piece, or says that it is upload-only.
    pub(super) fn is_upload_only(&self) -> bool {
        self.wire.phase == Phase::Up && (self.source.has.is_full() || self.wire.upload_only)
    }
}

/// An error if both sides are upload-only: neither can make progress.
pub(super) fn check_mutual_interest(t: &Torrent, peer: &Peer) -> Result<(), DisconnectReason> {
    if t.is_upload_only() && peer.is_upload_only() { Err(DisconnectReason::Uninteresting) } else { Ok(()) }
}
