//! Lost pieces (BEP 54): a peer announces that it no longer has a piece.
//!
//! The piece is removed from every count, and its blocks that were requested from the peer become free. An
//! index that does not exist is a protocol violation. We never send the message: a torrent whose content
//! cannot be read is paused, which closes its connections.

use super::deferred::defer_dont_have;
use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::effects::Effect;
use super::peer::Peer;
use super::torrent::Torrent;
use super::turn::Turn;
use crate::units::PieceIndex;
use crate::wire::read_dont_have;

/// The peer lost a piece: it will not answer requests for the piece. With the Fast extension the peer may
/// reject each of them as well; such a rejection then changes nothing.
pub(super) fn on_dont_have(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    payload: &[u8],
) -> Result<(), DisconnectReason> {
    let Some(raw) = read_dont_have(payload) else { return Ok(()) };
    if !t.open {
        defer_dont_have(t, peer, raw);
        return Ok(());
    }
    let piece = t.pieces.geometry().piece(raw).ok_or(ProtocolViolation::NoSuchPiece(raw))?;
    if !peer.source.has.clear(piece) {
        return Ok(());
    }
    // Availability counts a peer that joined as a seed in one number; from now on it counts the peer piece by
    // piece.
    let as_seed = std::mem::take(&mut peer.wire.joined_as_seed);
    t.picker.availability.lose(piece, &peer.source.has, as_seed);
    peer.source.fast_to_us.retain(|p| *p != piece);
    peer.source.suggested.retain(|p| *p != piece);
    release_requests(turn, t, peer, piece);
    if t.pieces.is_missing(piece) {
        peer.source.wanted_pieces = peer.source.wanted_pieces.saturating_sub(1);
        peer.set_we_want(turn.now, peer.source.wanted_pieces > 0, turn.out);
    }
    Ok(())
}

/// Frees blocks of this piece that were requested from the peer or reserved for it.
fn release_requests(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer, piece: PieceIndex) {
    let cancelled = peer.source.requests.give_up_all(|requested| requested != piece);
    for block in &cancelled {
        t.pieces.cancel_request(*block);
    }
    if t.pieces.clear_owner_of(piece, peer.source.key) || !cancelled.is_empty() {
        turn.effects.push_once(Effect::TopUp { torrent: t.key });
    }
    if t.pieces.close_if_untouched(piece) {
        t.picker.availability.restore(piece);
    }
}
