//! Messages about pieces that arrive before the metadata is known (BEP 9): kept unchecked, each kind with a
//! limit, and replayed later.
//!
//! Until then a torrent has a placeholder shape in which no piece is wanted and no index is valid. Bitfields
//! are long, so one limit holds for all of a torrent's together: a peer whose bitfield does not fit is
//! disconnected once the metadata is known, and says it again when it is dialed the next time.
//! [`metadata_exchange`](super::metadata_exchange) replays what was kept.

use super::limits;
use super::peer::Peer;
use super::torrent::Torrent;
use crate::units::PeerKey;
use crate::wire::Message;
use std::collections::BTreeMap;

/// What a peer said of pieces before the torrent's pieces were known.
#[derive(Debug, Default)]
pub struct DeferredMessages {
    pub(super) has: DeferredHave,
    pub(super) haves: Vec<u32>,
    pub(super) gone: Vec<u32>,
    pub(super) allowed_fast: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) enum DeferredHave {
    #[default]
    Unknown,
    All,
    /// The bits are kept with the torrent.
    Bits,
    /// There was no room for the bits.
    Lost,
}

/// Bitfields of one torrent that cannot be checked yet: [`limits::DEFERRED_BITFIELDS_BYTES`] at most.
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

/// Keeps what a message says, if it says something that will count later. `first`: it is the peer's first
/// word about pieces.
pub(super) fn defer(t: &mut Torrent, peer: &mut Peer, message: &Message<'_>, first: bool) {
    let deferred = &mut peer.wire.deferred;
    match *message {
        Message::Choke => peer.source.they_choke = true,
        Message::Unchoke => peer.source.they_choke = false,
        Message::Interested => peer.wire.they_want = true,
        Message::NotInterested => peer.wire.they_want = false,
        Message::Bitfield { bytes } if first => {
            (deferred.has, deferred.gone) = (t.deferred_bitfields.defer(peer.source.key, bytes), Vec::new())
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

/// Keeps that a piece is gone again (BEP 54). Of a peer that loses more pieces than can be kept nothing is
/// believed: it has more than we know.
pub(super) fn defer_dont_have(t: &mut Torrent, peer: &mut Peer, piece: u32) {
    let deferred = &mut peer.wire.deferred;
    deferred.haves.retain(|have| *have != piece);
    if deferred.gone.contains(&piece) {
        return;
    }
    match deferred.gone.len() < limits::DEFERRED_HAVES {
        true => deferred.gone.push(piece),
        false => {
            t.deferred_bitfields.take(peer.source.key);
            (deferred.has, deferred.haves, deferred.gone) = (DeferredHave::Unknown, Vec::new(), Vec::new());
        }
    }
}
