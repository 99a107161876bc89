//! Upload-only peers (BEP 21): a side that wants no more pieces, and connections without use to either side.
//!
//! We are upload-only in a torrent once every wanted piece is verified, as a seed or not; our extension
//! handshake says so, and is sent again when that changes. If both sides are upload-only, neither can make
//! progress, and the connection is closed. An upload-only peer is not counted as a seed unless it has every
//! piece.

use super::disconnect::DisconnectReason;
use super::peer::{Peer, Phase};
use super::torrent::Torrent;

impl Torrent {
    /// Returns whether every wanted piece is verified.
    pub(super) fn is_upload_only(&self) -> bool {
        self.open && self.pieces.missing() == 0
    }
}

impl Peer {
    /// Returns whether the peer wants no more pieces: it has every piece, or says that it is upload-only.
    pub(super) fn is_upload_only(&self) -> bool {
        self.wire.phase == Phase::Up && (self.source.has.is_full() || self.wire.upload_only)
    }
}

/// Returns an error if both sides are upload-only: neither can make progress.
pub(super) fn check_mutual_interest(t: &Torrent, peer: &Peer) -> Result<(), DisconnectReason> {
    if t.is_upload_only() && peer.is_upload_only() { Err(DisconnectReason::Uninteresting) } else { Ok(()) }
}
