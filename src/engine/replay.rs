//! When a torrent's pieces become known: peers that a private torrent must not use are dropped, and deferred
//! messages are replayed.

use super::config::TorrentInfo;
use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::effects::Effect;
use super::limits;
use super::messages::on_message;
use super::peer::{Connection, DeferredHave, DeferredMessages, Phase};
use super::swarms::Swarms;
use super::torrent::{Metadata, Picker, Pieces};
use super::turn::Turn;
use crate::units::{Bitfield, Origin, PeerKey, TorrentKey};
use crate::wire::{ExtensionIds, FrameError, Message, write_dont_have};

impl Swarms {
    /// Replaces the placeholder of a torrent whose metadata was unknown. Returns whether the torrent is
    /// private.
    pub(super) fn on_metadata(&mut self, turn: &mut Turn<'_>, key: TorrentKey, info: TorrentInfo) -> bool {
        let Some(t) = self.torrents.get_mut(key).filter(|t| !t.open) else { return false };
        t.pieces = Pieces::new(info.geometry, Bitfield::empty(info.geometry.pieces()), info.wanted);
        t.picker = Picker::new(&t.pieces, t.picker.is_sequential(), &turn.config.policy, turn.rng);
        t.metadata = Metadata::of(info.info);
        t.private = info.private;
        info.private
    }

    /// Drops the peers and addresses that a private torrent must not use (BEP 27).
    pub(super) fn drop_disallowed_peers(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.peer_list.retain_origins(Origin::is_for_private);
        let is_disallowed =
            |p: &PeerKey| self.connections.get(*p).is_some_and(|c| !c.peer.source.origin.is_for_private());
        let disallowed: Vec<PeerKey> = t.peers.iter().copied().filter(is_disallowed).collect();
        for peer in disallowed {
            self.disconnect(turn, peer, DisconnectReason::Private);
        }
    }

    /// The torrent's pieces are known: sends our pieces to every peer, and handles the deferred messages.
    pub(super) fn replay_all_deferred(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        let Some(t) = self.torrents.get(key) else { return };
        for peer in t.peers.clone() {
            if let Err(why) = self.replay_deferred(turn, peer) {
                self.disconnect(turn, peer, why);
            }
        }
        self.update_upload_only(turn, key);
        turn.effects.push(Effect::TopUp { torrent: key });
    }

    fn replay_deferred(&mut self, turn: &mut Turn<'_>, key: PeerKey) -> Result<(), DisconnectReason> {
        let Some(Connection { decoder, peer, .. }) =
            self.connections.get_mut(key).filter(|c| c.peer.wire.phase == Phase::Up)
        else {
            return Ok(());
        };
        let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get_mut(t)) else { return Ok(()) };
        let pieces = t.pieces.geometry().pieces();
        decoder.set_bitfield_len(pieces.div_ceil(8) as usize);
        peer.source.has = Bitfield::empty(pieces);
        // Instead of sending too many `have` messages, close the connection: on the next one we send one
        // bitfield.
        if t.pieces.have().ones() > limits::REPLAYED_HAVES {
            return Err(DisconnectReason::Stopped);
        }
        for piece in t.pieces.have().iter() {
            peer.send(&Message::Have { piece: piece.get() }, turn.out);
        }
        let DeferredMessages { has, haves, lost, allowed_fast } = std::mem::take(&mut peer.wire.deferred);
        let fast = peer.wire.fast;
        let bits = t.deferred_bitfields.take(key).unwrap_or_default();
        let has = match has {
            DeferredHave::Unknown => None,
            DeferredHave::All => Some(Message::HaveAll),
            DeferredHave::Bits if bits.len() == peer.source.has.as_bytes().len() => {
                Some(Message::Bitfield { bytes: &bits })
            }
            DeferredHave::Bits => {
                let got = bits.len() as u32;
                let expected = peer.source.has.as_bytes().len() as u32;
                return Err(ProtocolViolation::from(FrameError::Bitfield { got, expected }).into());
            }
            DeferredHave::Dropped => return Err(DisconnectReason::Stopped),
        };
        let haves = haves.into_iter().map(|piece| Message::Have { piece });
        let lost: Vec<[u8; 4]> = lost.into_iter().map(write_dont_have).collect();
        let lost =
            lost.iter().map(|payload| Message::Extended { id: ExtensionIds::OURS.lt_donthave, payload });
        let allowed = allowed_fast.into_iter().filter(|_| fast).map(|piece| Message::AllowedFast { piece });
        // Only the first bitfield is accepted; the deferred one was the first.
        peer.wire.sent_have_set = has.is_none() && peer.wire.sent_have_set;
        has.into_iter()
            .chain(haves)
            .chain(lost)
            .chain(allowed)
            .try_for_each(|message| on_message(turn, t, peer, message))
    }
}
