//! Upload-only peers (BEP 21): peers that download nothing more, and connections on which neither side can
//! make progress.
//!
//! A torrent whose wanted pieces are all verified announces `upload_only` in its extension handshake, and
//! announces every change; it need not be a seed. If both sides are upload-only, neither can make progress,
//! and the connection is closed. An upload-only peer is not counted as a seed unless it has every piece.

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
    /// Returns whether the peer downloads nothing more: it has every piece, or announced `upload_only`.
    pub(super) fn is_upload_only(&self) -> bool {
        self.wire.phase == Phase::Up && (self.source.has.is_full() || self.wire.upload_only)
    }
}

/// Checks that at least one side can make progress.
///
/// # Errors
/// Both sides are upload-only.
pub(super) fn check_mutual_interest(t: &Torrent, peer: &Peer) -> Result<(), DisconnectReason> {
    if t.is_upload_only() && peer.is_upload_only() { Err(DisconnectReason::Uninteresting) } else { Ok(()) }
}
