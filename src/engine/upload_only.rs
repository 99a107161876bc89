//! What changes while a connection lasts: a side wants nothing any more (BEP 21), a piece that somebody had is gone again (BEP 54).
//!
//! Whoever has every piece that it wants says so in its extension handshake, and says it again when that becomes so; it need not be a
//! seed. Two who want nothing have nothing to say to each other, whatever they have: they part, whichever of them comes to it last. What
//! a peer says it wants and what it has stay two things: nobody is counted as a seed for wanting nothing.
//!
//! A piece that is gone is taken out of every book that counted it, and what that peer owed of it is everybody's; a piece that does not
//! exist is misconduct. We never say that a piece is gone: what was verified stays ours for as long as there are connections, because a
//! torrent whose content cannot be read rests, and lets everybody go.

use super::action::Actions;
use super::deferred::defer_dont_have;
use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::engine::{Effect, Engine, EngineConfig};
use super::limits;
use super::peer::{Peer, Phase};
use super::stream::Cx;
use super::torrent::Torrent;
use crate::units::{Instant, PieceIndex, TorrentKey};
use crate::wire::{ExtendedHandshake, ExtensionIds, HANDSHAKE_ID, Message, read_dont_have};
use std::net::IpAddr;

impl Torrent {
    /// Whether every wanted piece is had.
    pub(super) fn is_upload_only(&self) -> bool {
        self.open && self.pieces.missing() == 0
    }
}

impl Peer {
    /// Whether there is nothing that it would take: it has everything, or says that it wants no more.
    pub(super) fn is_upload_only(&self) -> bool {
        self.phase == Phase::Up && (self.has.is_full() || self.upload_only)
    }
}

/// Two that want nothing have nothing to say to each other.
pub(super) fn check_mutual_interest(t: &Torrent, peer: &Peer) -> Result<(), DisconnectReason> {
    if t.is_upload_only() && peer.is_upload_only() { Err(DisconnectReason::Uninteresting) } else { Ok(()) }
}

/// Says the extension handshake, for the first time or again.
pub(super) fn send_extended_handshake(config: &EngineConfig, t: &Torrent, peer: &mut Peer, out: &mut Actions) {
    let hello = hello(config, peer.addr.ip(), t);
    peer.sent_upload_only = hello.upload_only;
    peer.say(&Message::Extended { id: HANDSHAKE_ID, payload: &hello.encode() }, out);
}

/// What we say in the extension handshake (BEP 10).
fn hello(config: &EngineConfig, their_ip: IpAddr, t: &Torrent) -> ExtendedHandshake {
    let ut_pex = if t.pex_enabled() { ExtensionIds::OURS.ut_pex } else { 0 };
    ExtendedHandshake {
        ids: ExtensionIds { ut_pex, ..ExtensionIds::OURS },
        client: Some(config.version.clone()),
        port: (config.port != 0).then_some(config.port),
        reqq: Some(limits::REQQ_OURS_BLOCKS as u32),
        metadata_size: t.metadata.len(),
        upload_only: Some(t.is_upload_only()),
        your_ip: Some(their_ip),
    }
}

/// A piece of the peer's is gone again. It owes nothing of it any more; with the Fast extension it will say so of each block, and
/// nobody minds hearing it twice.
pub(super) fn on_dont_have(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, payload: &[u8]) -> Result<(), DisconnectReason> {
    let Some(raw) = read_dont_have(payload) else { return Ok(()) };
    if !t.open {
        defer_dont_have(t, peer, raw);
        return Ok(());
    }
    let piece = t.pieces.geometry().piece(raw).ok_or(ProtocolViolation::NoSuchPiece(raw))?;
    if !peer.has.clear(piece) {
        return Ok(());
    }
    // Whoever joined with everything was one number; from now on it is counted piece by piece.
    let as_seed = std::mem::take(&mut peer.joined_as_seed);
    t.picker.availability.lose(piece, &peer.has, as_seed);
    peer.fast_to_us.retain(|p| *p != piece);
    peer.suggested.retain(|p| *p != piece);
    release_requests(cx, t, peer, piece);
    if t.pieces.is_missing(piece) {
        peer.wanted_pieces = peer.wanted_pieces.saturating_sub(1);
        peer.set_we_want(cx.now, peer.wanted_pieces > 0, cx.out);
    }
    Ok(())
}

/// What the peer owes of this piece, and what only it was to be asked for, is everybody's.
fn release_requests(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, piece: PieceIndex) {
    let given_up = peer.requests.give_up_all(|owed| owed != piece);
    given_up.iter().for_each(|block| t.pieces.cancel_request(*block));
    if t.pieces.clear_owner_of(piece, peer.key) || !given_up.is_empty() {
        cx.effect(Effect::TopUp { torrent: t.key });
    }
    if t.pieces.close_if_untouched(piece) {
        t.picker.availability.restore(piece);
    }
}

impl Engine {
    /// It may be that nothing is wanted any more: then whoever wants nothing either is let go, and the others are told.
    pub(super) fn update_upload_only(&mut self, now: Instant, torrent: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get(torrent) else { return };
        for key in t.peers.clone() {
            let (Some(t), Some(c)) = (self.torrents.get(torrent), self.connections.get_mut(key)) else { continue };
            if let Err(why) = check_mutual_interest(t, &c.peer) {
                self.disconnect(now, key, why, out);
            } else if c.peer.sent_upload_only == Some(!t.is_upload_only()) {
                send_extended_handshake(&self.config, t, &mut c.peer, out);
            }
        }
    }
}
