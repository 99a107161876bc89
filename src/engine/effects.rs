//! What one connection's turn means for others: queued while that connection is borrowed, applied when its
//! turn is over.

use crate::units::{BlockSpan, PeerKey, PieceIndex, TorrentKey};
use std::net::SocketAddr;

/// A consequence for other connections, or for the torrent as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Other peers need not send this block any more.
    Cancel { torrent: TorrentKey, block: BlockSpan, but: PeerKey },
    /// Every block of the piece has arrived.
    Hash { torrent: TorrentKey, piece: PieceIndex },
    /// Blocks may have become free to request.
    TopUp { torrent: TorrentKey },
    /// An upload slot may have become free.
    FillSlots { torrent: TorrentKey },
    /// A peer may be asked for metadata.
    AskMetadata { torrent: TorrentKey },
    /// The last piece of metadata arrived.
    Metadata { torrent: TorrentKey },
    /// A peer announced a DHT node at this address (BEP 5 `port`).
    Node { addr: SocketAddr },
    /// Peers are to be sent a PEX message.
    Pex { torrent: TorrentKey },
    /// An address may be dialed.
    Dial,
}

/// Effects waiting to be applied; the latest comes first.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// Queues an effect.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Queues an effect unless the same one waits already.
    pub fn push_once(&mut self, effect: Effect) {
        if !self.0.contains(&effect) {
            self.0.push(effect);
        }
    }

    /// Whether none waits.
    #[cfg(feature = "oracle")]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the effect that was queued last.
    pub fn pop(&mut self) -> Option<Effect> {
        self.0.pop()
    }
}
