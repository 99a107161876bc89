//! Bitfields of a torrent's peers that arrived before the metadata.

use crate::engine::limits;
use crate::units::PeerKey;
use std::collections::BTreeMap;

/// Unchecked bitfields of one torrent's peers, together at most [`limits::DEFERRED_BITFIELDS_BYTES`].
#[derive(Debug, Default)]
pub struct DeferredBitfields(BTreeMap<PeerKey, Box<[u8]>>);

impl DeferredBitfields {
    /// Returns the bytes of all bitfields together.
    pub fn bytes(&self) -> usize {
        self.0.values().map(|bits| bits.len()).sum()
    }

    /// Stores the peer's bitfield; returns false if there is no room for it.
    pub fn insert(&mut self, peer: PeerKey, bits: &[u8]) -> bool {
        let room = self.bytes() + bits.len() <= limits::DEFERRED_BITFIELDS_BYTES;
        if room {
            self.0.insert(peer, bits.into());
        }
        room
    }

    /// Removes and returns the peer's bitfield.
    pub fn take(&mut self, peer: PeerKey) -> Option<Box<[u8]>> {
        self.0.remove(&peer)
    }
}
