//! Messages about pieces that arrive before the metadata is known (BEP 9): stored unchecked, with a limit for
//! each kind, and replayed later.
//!
//! Until then a torrent has a placeholder geometry in which no piece is wanted and no index is checked.
//! Bitfields are long, so one limit holds for all bitfields of a torrent together: a peer whose bitfield does
//! not fit is disconnected once the metadata is known, and sends its bitfield again when it is dialed the
//! next time.
//! [`replay`](super::replay) handles the stored messages.

use super::limits;
use super::peer::{DeferredHave, Peer};
use super::torrent::Torrent;
use crate::wire::Message;

/// Stores a message for later, or applies it at once if it does not depend on the pieces. `first` says
/// whether it is the peer's first set of pieces.
pub(super) fn defer(t: &mut Torrent, peer: &mut Peer, message: &Message<'_>, first: bool) {
    let deferred = &mut peer.wire.deferred;
    match *message {
        Message::Choke => peer.source.they_choke = true,
        Message::Unchoke => peer.source.they_choke = false,
        Message::Interested => peer.wire.they_want = true,
        Message::NotInterested => peer.wire.they_want = false,
        Message::Bitfield { bytes } if first => {
            let stored = t.deferred_bitfields.insert(peer.source.key, bytes);
            deferred.has = if stored { DeferredHave::Bits } else { DeferredHave::Dropped };
            deferred.lost = Vec::new();
        }
        Message::HaveAll if first => {
            deferred.has = DeferredHave::All;
            deferred.lost = Vec::new();
        }
        // Pieces beyond the limit are dropped: the peer then has more pieces than we know, which is harmless.
        Message::Have { piece } => {
            deferred.lost.retain(|lost| *lost != piece);
            if deferred.haves.len() < limits::DEFERRED_HAVES {
                deferred.haves.push(piece);
            }
        }
        Message::AllowedFast { piece } if deferred.allowed_fast.len() < limits::ALLOWED_FAST_REMEMBERED => {
            deferred.allowed_fast.push(piece);
        }
        _ => {}
    }
}

/// Stores that the peer lost a piece (BEP 54). If the peer loses more pieces than the limit, everything that
/// is stored about its pieces is dropped: a piece that we do not know of is harmless, a lost one is not.
pub(super) fn defer_dont_have(t: &mut Torrent, peer: &mut Peer, piece: u32) {
    let deferred = &mut peer.wire.deferred;
    deferred.haves.retain(|have| *have != piece);
    if deferred.lost.contains(&piece) {
        return;
    }
    if deferred.lost.len() < limits::DEFERRED_HAVES {
        deferred.lost.push(piece);
    } else {
        t.deferred_bitfields.take(peer.source.key);
        deferred.has = DeferredHave::Unknown;
        deferred.haves = Vec::new();
        deferred.lost = Vec::new();
    }
}
