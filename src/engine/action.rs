//! The actions of the engine: its only output.

use crate::units::{BlockSpan, InfoHash, PeerKey, PieceIndex, TorrentKey};
use crate::wire::lsd::Group;
use crate::wire::{AnnounceError, SwarmCounts};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One action. Those of a turn may be carried out together at its end, in order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Connect; report with `on_dialed` or `on_dial_failed`.
    Dial {
        /// The key of the new connection.
        peer: PeerKey,
        /// The address to dial.
        addr: SocketAddr,
    },
    /// There is something to write: call `plan` until it plans nothing or the transport is full.
    Flush {
        /// The connection.
        peer: PeerKey,
    },
    /// The cause of a [`Pause`](super::Want::Pause) may have ended: call `want` again.
    Wake {
        /// The connection.
        peer: PeerKey,
    },
    /// Close the connection. Its key is invalid already.
    Close {
        /// The connection.
        peer: PeerKey,
    },
    /// Prepare files and memory for a piece; report with `on_prepared`.
    Prepare {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// Discard the received part of a block: its writer released it before the last byte. Retracted if
    /// another peer begins to write the block before this is carried out.
    Release {
        /// The torrent.
        torrent: TorrentKey,
        /// The whole block.
        block: BlockSpan,
    },
    /// Hash a piece of which every block has arrived; report with `on_hashed`.
    Hash {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// Whether digests of the blocks are needed even if the piece is good.
        digests: bool,
    },
    /// Make the verified pieces durable and write the record; report with `on_saved`.
    Save {
        /// The torrent.
        torrent: TorrentKey,
    },
    /// Announce to an HTTP tracker; report with `on_announced`.
    Announce {
        /// The id of the request.
        id: u64,
        /// The URL with its query.
        url: String,
        /// The timeout of the whole request.
        timeout: Duration,
    },
    /// Scrape an HTTP tracker; report with `on_scraped`.
    Scrape {
        /// The id of the request.
        id: u64,
        /// The URL with its query.
        url: String,
        /// The torrent to look for in the reply.
        info_hash: InfoHash,
        /// The timeout of the whole request.
        timeout: Duration,
    },
    /// Look up a host name; report with `on_resolved`.
    Resolve {
        /// The id of the request.
        id: u64,
        /// The name, or a literal address.
        host: String,
        /// The port of the reported addresses.
        port: u16,
    },
    /// Send a datagram.
    Datagram {
        /// The destination.
        to: SocketAddr,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Send a datagram to a multicast group on the local network.
    Multicast {
        /// The group.
        group: Group,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Save DHT nodes for the next run.
    KeepNodes {
        /// Their addresses.
        nodes: Vec<SocketAddr>,
    },
    /// Parse an info dictionary that peers sent and whose hash is right; report with `on_metadata`.
    Metadata {
        /// The torrent.
        torrent: TorrentKey,
        /// The info dictionary.
        info: Arc<[u8]>,
    },
    /// Report an event to the user.
    Notice(Notice),
}

/// An event for the user.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A piece is verified.
    Verified {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// Every wanted piece is verified, and not durable yet.
    Complete {
        /// The torrent.
        torrent: TorrentKey,
    },
    /// A peer sent bad data and is banned.
    Banned {
        /// The torrent.
        torrent: TorrentKey,
        /// The peer.
        addr: SocketAddr,
    },
    /// A tracker answered an announce.
    TrackerReplied {
        /// The torrent.
        torrent: TorrentKey,
        /// The tracker.
        url: Arc<str>,
        /// The number of addresses in its reply.
        peers: usize,
        /// The tracker's warning message.
        warning: Option<String>,
    },
    /// A tracker did not answer an announce, or refused it.
    TrackerFailed {
        /// The torrent.
        torrent: TorrentKey,
        /// The tracker.
        url: Arc<str>,
        /// The reason.
        error: AnnounceError,
    },
    /// A scrape was answered, refused or timed out.
    Scraped {
        /// The torrent.
        torrent: TorrentKey,
        /// The tracker, or the DHT.
        source: ScrapeSource,
        /// The counts of the swarm, or the reason of the failure.
        result: Result<SwarmCounts, AnnounceError>,
    },
    /// A scrape is over: every tracker answered, refused or timed out.
    ScrapeDone {
        /// The torrent.
        torrent: TorrentKey,
    },
}

/// The source of a scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrapeSource {
    /// The tracker with this announce URL (BEP 48, 15).
    Tracker(Arc<str>),
    /// The DHT (BEP 33).
    Dht,
}

impl fmt::Display for ScrapeSource {
    /// Writes the tracker's URL, or `DHT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScrapeSource::Tracker(url) => f.write_str(url),
            ScrapeSource::Dht => f.write_str("DHT"),
        }
    }
}

/// Why a dial failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// The peer or the network refused it.
    Refused,
    /// This machine is out of descriptors, ports or memory.
    OutOfResources,
}

/// The result of hashing a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashVerdict {
    /// The hash matches.
    Good {
        /// The first 8 bytes of each block's SHA-1, if they were requested.
        digests: Option<Box<[u64]>>,
    },
    /// The hash differs.
    Bad {
        /// The first 8 bytes of each block's SHA-1.
        digests: Box<[u64]>,
    },
    /// The piece could not be read; no peer is the cause.
    Unreadable,
}

/// The actions of one turn, in order.
#[derive(Debug, Default)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// Appends an action.
    pub fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    /// Removes a pending release of a block: a new writer has its lease.
    pub(super) fn retract_release(&mut self, of: TorrentKey, block: BlockSpan) {
        self.0
            .retain(|a| !matches!(a, Action::Release { torrent, block: b } if *torrent == of && *b == block));
    }

    /// Removes all actions and keeps the memory.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> + '_ {
        self.0.drain(..)
    }

    /// Returns whether there is no action.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the actions so far.
    #[cfg(feature = "oracle")]
    pub fn as_slice(&self) -> &[Action] {
        &self.0
    }
}
