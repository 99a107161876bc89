//! Metadata exchange (BEP 9): answers requests for metadata, and fetches the metadata of a torrent whose info
//! hash alone is known.
//!
//! ```text
//!   Wanted ──complete, hash matches──▶ HandedOn ──on_metadata──▶ Known ──on_opened──▶ deferred messages are replayed
//! ```
//!
//! If metadata from several peers fails its hash, the culprit is unknown: the next attempt fetches from a
//! single peer, and bans that peer if the metadata fails again.

use super::action::Action;
use super::effects::Effect;
use super::limits;
use super::peer::{Connection, Peer, Phase};
use super::swarms::Swarms;
use super::timers::Timer;
use super::torrent::{Metadata, Torrent};
use super::turn::Turn;
use crate::units::TorrentKey;
use crate::wire::{Message, MetadataMessage};
use sha1::{Digest, Sha1};

/// Handles a `ut_metadata` message: answers a request, passes data and rejections to the fetch.
pub(super) fn on_metadata_message(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    message: MetadataMessage<'_>,
) {
    match message {
        MetadataMessage::Request { piece } => {
            let total_size = t.metadata.len().unwrap_or(0);
            let room = peer.wire.encoder.control_bytes() < limits::ENCODER_STOP_READING_BYTES;
            let answer = match t.metadata.piece(piece).filter(|_| room) {
                Some(bytes) => MetadataMessage::Data { piece, total_size, bytes },
                None => MetadataMessage::Reject { piece },
            };
            send_metadata_message(turn, peer, &answer);
        }
        MetadataMessage::Data { piece, total_size, bytes } => {
            let Metadata::Wanted(fetch) = &mut t.metadata else { return };
            let complete = fetch.came(peer.source.key, piece, total_size, bytes);
            turn.effects.push_once(if complete {
                Effect::Metadata { torrent: t.key }
            } else {
                Effect::AskMetadata { torrent: t.key }
            });
        }
        MetadataMessage::Reject { piece } => {
            if let Metadata::Wanted(fetch) = &mut t.metadata {
                fetch.rejected(turn.now, peer.source.key, piece);
                turn.effects.push_once(Effect::AskMetadata { torrent: t.key });
            }
        }
    }
}

fn send_metadata_message(turn: &mut Turn<'_>, peer: &mut Peer, message: &MetadataMessage<'_>) {
    let id = peer.wire.extensions.ut_metadata;
    if id != 0 {
        peer.send(&Message::Extended { id, payload: &message.encode() }, turn.out);
    }
}

impl Swarms {
    /// Requests missing pieces of the metadata from the peers that have it.
    pub(super) fn ask_metadata(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.running) else { return };
        let Metadata::Wanted(fetch) = &mut t.metadata else { return };
        fetch.look(turn.now);
        for peer in &t.peers {
            let Some(Connection { peer, .. }) =
                self.connections.get_mut(*peer).filter(|c| c.peer.wire.phase == Phase::Up)
            else {
                continue;
            };
            while let Some(piece) = fetch.ask(turn.now, peer.source.key) {
                send_metadata_message(turn, peer, &MetadataMessage::Request { piece });
            }
        }
        if let Some(at) = fetch.look(turn.now) {
            turn.timers.arm(Timer::Metadata(key), at);
        }
    }

    /// All of the metadata arrived: checks it against the info hash.
    pub(super) fn check_metadata(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        let Metadata::Wanted(fetch) = &mut t.metadata else { return };
        let Some(info) = fetch.whole() else { return };
        if <[u8; 20]>::from(Sha1::digest(&info)) != *t.info_hash.as_bytes() {
            log::debug!("{} bytes of metadata do not match the info hash", info.len());
            // If one peer sent all of the metadata, that peer is the culprit.
            let culprit =
                fetch.wrong().and_then(|peer| self.connections.get(peer)).map(|c| c.peer.source.addr.ip());
            if let Some(ip) = culprit {
                self.ban(turn, key, ip);
            }
            return self.ask_metadata(turn, key);
        }
        t.metadata = Metadata::HandedOn;
        turn.out.push(Action::Metadata { torrent: key, info: info.into() });
    }
}
