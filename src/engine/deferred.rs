//! A torrent that is known by its hash alone: its metadata is got from peers, and what they say of pieces is kept for later (BEP 9).
//!
//! ```text
//!   Wanted ──whole, and its hash is right──▶ HandedOn ──on_metadata──▶ Known ──on_opened──▶ what was kept is heard
//! ```
//!
//! Until then the torrent has a shape that fits nothing: no piece is wanted, none is had, no index is valid. Peers are not asked for
//! blocks, and their words about pieces cannot be checked; so those are kept as they came, each with a limit. Bitfields are long, so
//! there is a limit for all of a torrent's together: whose is too much is let go once the shape is known, and says it again next time.

use super::action::{Action, Actions};
use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::engine::{Effect, Engine, TorrentInfo};
use super::limits;
use super::messages::on_message;
use super::peer::{Connection, Peer, Phase};
use super::stream::Cx;
use super::timers::Timer;
use super::torrent::{Metadata, Picker, Pieces, Torrent};
use crate::units::{Bitfield, Geometry, Instant, Origin, PeerKey, TorrentKey};
use crate::wire::{ExtensionIds, FrameError, Message, MetadataMessage, write_dont_have};
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;

/// What a peer said of pieces before anybody knew which there are.
#[derive(Debug, Default)]
pub struct DeferredMessages {
    has: DeferredHave,
    haves: Vec<u32>,
    gone: Vec<u32>,
    allowed_fast: Vec<u32>,
}

#[derive(Debug, Default)]
enum DeferredHave {
    #[default]
    Unknown,
    All,
    /// The bits are kept with the torrent.
    Bits,
    /// There was no room for the bits.
    Lost,
}

/// Bitfields that nobody can check yet, of one torrent: [`limits::DEFERRED_BITFIELDS_BYTES`] at most.
#[derive(Debug, Default)]
pub struct DeferredBitfields(BTreeMap<PeerKey, Box<[u8]>>);

impl DeferredBitfields {
    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.0.values().map(|bits| bits.len()).sum()
    }

    fn defer(&mut self, peer: PeerKey, bits: &[u8]) -> DeferredHave {
        if self.bytes() + bits.len() > limits::DEFERRED_BITFIELDS_BYTES {
            return DeferredHave::Lost;
        }
        self.0.insert(peer, bits.into());
        DeferredHave::Bits
    }

    /// The peer's bitfield, which is kept no longer.
    pub fn take(&mut self, peer: PeerKey) -> Option<Box<[u8]>> {
        self.0.remove(&peer)
    }
}

impl TorrentInfo {
    /// The shape of a torrent of which nothing is known: nothing of it is wanted.
    pub(super) fn unknown() -> TorrentInfo {
        let geometry = Geometry::new(1, 1).expect("one byte is a shape");
        TorrentInfo { geometry, wanted: Bitfield::empty(1), private: false, info: None }
    }
}

/// Keeps what a message says, if it says something that will count later. `first`: it is the peer's first word about pieces.
pub(super) fn defer(t: &mut Torrent, peer: &mut Peer, message: &Message<'_>, first: bool) {
    let deferred = &mut peer.deferred;
    match *message {
        Message::Choke => peer.they_choke = true,
        Message::Unchoke => peer.they_choke = false,
        Message::Interested => peer.they_want = true,
        Message::NotInterested => peer.they_want = false,
        Message::Bitfield { bytes } if first => {
            (deferred.has, deferred.gone) = (t.deferred_bitfields.defer(peer.key, bytes), Vec::new())
        }
        Message::HaveAll if first => (deferred.has, deferred.gone) = (DeferredHave::All, Vec::new()),
        // What is beyond the limit is lost: the peer has more than we know, and no harm is done.
        Message::Have { piece } => {
            deferred.gone.retain(|gone| *gone != piece);
            if deferred.haves.len() < limits::DEFERRED_HAVES {
                deferred.haves.push(piece);
            }
        }
        Message::AllowedFast { piece } if deferred.allowed_fast.len() < limits::ALLOWED_FAST_REMEMBERED => {
            deferred.allowed_fast.push(piece)
        }
        _ => {}
    }
}

/// Keeps that a piece is gone again (BEP 54). Of whoever loses more than can be kept nothing is believed: it has more than we know.
pub(super) fn defer_dont_have(t: &mut Torrent, peer: &mut Peer, piece: u32) {
    let deferred = &mut peer.deferred;
    deferred.haves.retain(|have| *have != piece);
    if deferred.gone.contains(&piece) {
        return;
    }
    match deferred.gone.len() < limits::DEFERRED_HAVES {
        true => deferred.gone.push(piece),
        false => {
            t.deferred_bitfields.take(peer.key);
            (deferred.has, deferred.haves, deferred.gone) = (DeferredHave::Unknown, Vec::new(), Vec::new());
        }
    }
}

/// A message about metadata: a question is answered, an answer is taken in.
pub(super) fn on_metadata_message(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, message: MetadataMessage<'_>) {
    match message {
        MetadataMessage::Request { piece } => {
            let total_size = t.metadata.len().unwrap_or(0);
            let room = peer.encoder.control_bytes() < limits::OUTBOX_STOP_READING_BYTES;
            let answer = match t.metadata.piece(piece).filter(|_| room) {
                Some(bytes) => MetadataMessage::Data { piece, total_size, bytes },
                None => MetadataMessage::Reject { piece },
            };
            send_metadata_message(cx.out, peer, &answer);
        }
        MetadataMessage::Data { piece, total_size, bytes } => {
            let Metadata::Wanted(fetch) = &mut t.metadata else { return };
            let whole = fetch.came(peer.key, piece, total_size, bytes);
            cx.effect(if whole { Effect::Metadata { torrent: t.key } } else { Effect::AskMetadata { torrent: t.key } });
        }
        MetadataMessage::Reject { piece } => {
            if let Metadata::Wanted(fetch) = &mut t.metadata {
                fetch.rejected(cx.now, peer.key, piece);
                cx.effect(Effect::AskMetadata { torrent: t.key });
            }
        }
    }
}

fn send_metadata_message(out: &mut Actions, peer: &mut Peer, message: &MetadataMessage<'_>) {
    let id = peer.extensions.ut_metadata;
    if id != 0 {
        peer.say(&Message::Extended { id, payload: &message.encode() }, out);
    }
}

impl Engine {
    /// Asks whoever has the metadata for what is missing of it.
    pub(super) fn ask_metadata(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.running) else { return };
        let Metadata::Wanted(fetch) = &mut t.metadata else { return };
        fetch.look(now);
        for peer in &t.peers {
            let Some(Connection { peer, .. }) = self.connections.get_mut(*peer).filter(|c| c.peer.phase == Phase::Up) else {
                continue;
            };
            while let Some(piece) = fetch.ask(now, peer.key) {
                send_metadata_message(out, peer, &MetadataMessage::Request { piece });
            }
        }
        if let Some(at) = fetch.look(now) {
            self.timers.arm(Timer::Metadata(key), at);
        }
    }

    /// Everything came: is it what the hash says?
    pub(super) fn check_metadata(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        let Metadata::Wanted(fetch) = &mut t.metadata else { return };
        let Some(info) = fetch.whole() else { return };
        if <[u8; 20]>::from(Sha1::digest(&info)) != *t.info_hash.as_bytes() {
            log::debug!("{} bytes of metadata are not what the hash says", info.len());
            // Who sent all of it alone has lied, and would again under another connection.
            let liar = fetch.wrong().and_then(|liar| self.connections.get(liar)).map(|c| c.peer.addr.ip());
            if let Some(ip) = liar {
                self.ban(now, key, ip, out);
            }
            return self.ask_metadata(now, key, out);
        }
        t.metadata = Metadata::HandedOn;
        out.push(Action::Metadata { torrent: key, info: info.into() });
    }

    /// The metadata that was handed on, or that came from elsewhere, means this. The torrent goes on once [`on_opened`](Engine::on_opened)
    /// says what of it is there; until then this may be said again, with other pieces wanted.
    pub fn on_metadata(&mut self, now: Instant, key: TorrentKey, shape: TorrentInfo, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| !t.open) else { return };
        t.pieces = Pieces::new(shape.geometry, Bitfield::empty(shape.geometry.pieces()), shape.wanted);
        t.picker = Picker::new(&t.pieces, t.picker.is_sequential(), &self.config.policy, &mut self.rng);
        t.metadata = Metadata::of(shape.info);
        t.private = shape.private;
        self.drop_disallowed_peers(now, key, out);
    }

    /// A torrent that turns out to be private lets go of everybody whom it should never have heard of.
    fn drop_disallowed_peers(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.private) else { return };
        t.peer_list.retain_origins(Origin::is_for_private);
        let info_hash = t.info_hash;
        let foreign = |p: &PeerKey| self.connections.get(*p).is_some_and(|c| !c.peer.origin.is_for_private());
        let foreign: Vec<PeerKey> = t.peers.iter().copied().filter(foreign).collect();
        self.end_search(&info_hash);
        for peer in foreign {
            self.disconnect(now, peer, DisconnectReason::Private, out);
        }
        self.apply_effects(now, out);
    }

    /// The torrent's pieces are known: everybody is told what we have, and what was kept of their words is heard.
    pub(super) fn replay_all_deferred(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get(key) else { return };
        for peer in t.peers.clone() {
            if let Err(why) = self.replay_deferred(now, peer, out) {
                self.disconnect(now, peer, why, out);
            }
        }
        self.update_upload_only(now, key, out);
        self.effects.push(Effect::TopUp { torrent: key });
        self.apply_effects(now, out);
    }

    fn replay_deferred(&mut self, now: Instant, key: PeerKey, out: &mut Actions) -> Result<(), DisconnectReason> {
        let Some(Connection { decoder, peer }) = self.connections.get_mut(key).filter(|c| c.peer.phase == Phase::Up) else {
            return Ok(());
        };
        let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)) else { return Ok(()) };
        let pieces = t.pieces.geometry().pieces();
        decoder.set_bitfield_len(pieces.div_ceil(8) as usize);
        peer.has = Bitfield::empty(pieces);
        // Whoever would have to be told too much is dialed again some time, and hears it in one bitfield.
        if t.pieces.have().ones() > limits::REPLAYED_HAVES {
            return Err(DisconnectReason::Stopped);
        }
        for piece in t.pieces.have().iter() {
            peer.say(&Message::Have { piece: piece.get() }, out);
        }
        let DeferredMessages { has, haves, gone, allowed_fast } = std::mem::take(&mut peer.deferred);
        let fast = peer.fast;
        let bits = t.deferred_bitfields.take(key).unwrap_or_default();
        let has = match has {
            DeferredHave::Unknown => None,
            DeferredHave::All => Some(Message::HaveAll),
            DeferredHave::Bits if bits.len() == peer.has.as_bytes().len() => Some(Message::Bitfield { bytes: &bits }),
            DeferredHave::Bits => {
                let (got, expected) = (bits.len() as u32, peer.has.as_bytes().len() as u32);
                return Err(ProtocolViolation::from(FrameError::Bitfield { got, expected }).into());
            }
            DeferredHave::Lost => return Err(DisconnectReason::Stopped),
        };
        let haves = haves.into_iter().map(|piece| Message::Have { piece });
        let gone: Vec<[u8; 4]> = gone.into_iter().map(write_dont_have).collect();
        let gone = gone.iter().map(|payload| Message::Extended { id: ExtensionIds::OURS.lt_donthave, payload });
        let allowed = allowed_fast.into_iter().filter(|_| fast).map(|piece| Message::AllowedFast { piece });
        // What it has is believed if it is its first word, and it was.
        peer.sent_have_info = has.is_none() && peer.sent_have_info;
        let mut cx = Cx { now, out, effects: &mut self.effects };
        has.into_iter().chain(haves).chain(gone).chain(allowed).try_for_each(|message| on_message(&mut cx, t, peer, message))
    }
}
