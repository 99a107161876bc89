//! Effects of one connection's turn on other connections: queued while that connection is borrowed, applied
//! at the end of the turn.

use crate::units::{BlockSpan, PeerKey, PieceIndex, TorrentKey};
use std::net::SocketAddr;

/// An effect on other connections, or on the torrent as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The block arrived from the peer `but`: cancel it at every other peer.
    Cancel { torrent: TorrentKey, block: BlockSpan, but: PeerKey },
    /// Every block of the piece has arrived: hash it.
    Hash { torrent: TorrentKey, piece: PieceIndex },
    /// Blocks may have become free to request: fill the peers' request queues.
    TopUp { torrent: TorrentKey },
    /// An upload slot may have become free: unchoke a waiting peer.
    FillSlots { torrent: TorrentKey },
    /// A peer may have room for requests of metadata.
    AskMetadata { torrent: TorrentKey },
    /// The last piece of metadata arrived: check it.
    Metadata { torrent: TorrentKey },
    /// A peer announced a DHT node at this address (BEP 5 `port`).
    Node { addr: SocketAddr },
    /// Changes may have to be sent to peers (BEP 11).
    Pex { torrent: TorrentKey },
    /// A peer asks to be introduced to another one (BEP 55).
    Introduce { torrent: TorrentKey, asker: PeerKey, target: SocketAddr },
    /// An address may be dialed.
    Dial,
}

/// Effects that wait to be applied; the last one queued is applied first.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// Queues an effect.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Queues an effect unless an equal one is queued already.
    pub fn push_once(&mut self, effect: Effect) {
        if !self.0.contains(&effect) {
            self.0.push(effect);
        }
    }

    /// Returns whether no effect is queued.
    #[cfg(feature = "oracle")]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes and returns the effect that was queued last.
    pub fn pop(&mut self) -> Option<Effect> {
        self.0.pop()
    }
}
