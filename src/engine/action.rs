//! What the engine wants done: the only way out of it.

use crate::units::{BlockSpan, InfoHash, PeerKey, PieceIndex, TorrentKey};
use crate::wire::lsd::Group;
use crate::wire::{AnnounceError, SwarmCounts};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One thing to do. All of a turn's may be done together at its end, in order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Connect; answer with `on_dialed` or `on_dial_failed`.
    Dial {
        /// The connection's key from now on.
        peer: PeerKey,
        /// Where to.
        addr: SocketAddr,
    },
    /// There is something to write: ask `plan`, until it names nothing or the socket is full.
    Flush {
        /// To whom.
        peer: PeerKey,
    },
    /// What made `want` say [`Pause`](super::Want::Pause) may be over: ask again.
    Wake {
        /// Whose stream.
        peer: PeerKey,
    },
    /// Hang up. The key is dead already.
    Close {
        /// On whom.
        peer: PeerKey,
    },
    /// Make files and memory ready for this piece; answer with `on_prepared`.
    Prepare {
        /// Whose piece.
        torrent: TorrentKey,
        /// Which.
        piece: PieceIndex,
    },
    /// The writer of this block is gone before its last byte: what arrived of it is worthless. Retracted if
    /// another peer begins to write the block before it is carried out.
    Release {
        /// Whose block.
        torrent: TorrentKey,
        /// The whole block.
        block: BlockSpan,
    },
    /// Every block has arrived and no lease is out: check the piece; answer with `on_hashed`.
    Hash {
        /// Whose piece.
        torrent: TorrentKey,
        /// Which.
        piece: PieceIndex,
        /// Whether a digest of each block is wanted even if the piece is good.
        digests: bool,
    },
    /// Make what is verified durable; answer with `on_saved`.
    Save {
        /// Whose record.
        torrent: TorrentKey,
    },
    /// Ask an HTTP tracker; answer with `on_announced`.
    Announce {
        /// Names the question.
        id: u64,
        /// The whole URL, query included.
        url: String,
        /// Time for all of it.
        timeout: Duration,
    },
    /// Ask an HTTP tracker how many have a torrent; answer with `on_scraped`.
    Scrape {
        /// Names the question.
        id: u64,
        /// The whole URL, query included.
        url: String,
        /// Which torrent of the answer is meant.
        info_hash: InfoHash,
        /// Time for all of it.
        timeout: Duration,
    },
    /// Look a name up; answer with `on_resolved`.
    Resolve {
        /// Names the question.
        id: u64,
        /// The name, or an address in text.
        host: String,
        /// Goes along into the answer.
        port: u16,
    },
    /// Send one datagram.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Send one datagram to this multicast group on the local network.
    Multicast {
        /// Which.
        group: Group,
        /// What.
        bytes: Vec<u8>,
    },
    /// Keep these nodes of the DHT for the next run.
    KeepNodes {
        /// Where they are reached.
        nodes: Vec<SocketAddr>,
    },
    /// A torrent's info dictionary came from peers, and its hash is right: what does it say? Answer with
    /// `on_metadata`.
    Metadata {
        /// Whose.
        torrent: TorrentKey,
        /// All of it.
        info: Arc<[u8]>,
    },
    /// Something that people want to know.
    Notice(Notice),
}

/// Something that people want to know.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A piece is good.
    Verified {
        /// Whose.
        torrent: TorrentKey,
        /// Which.
        piece: PieceIndex,
    },
    /// Every wanted piece is good; not yet durable.
    Complete {
        /// Which torrent.
        torrent: TorrentKey,
    },
    /// A peer sent bad data and is not talked to again.
    Banned {
        /// In which torrent.
        torrent: TorrentKey,
        /// Who.
        addr: SocketAddr,
    },
    /// A tracker answered.
    TrackerReplied {
        /// About which torrent.
        torrent: TorrentKey,
        /// Which tracker.
        url: Arc<str>,
        /// Addresses that it gave.
        peers: usize,
        /// What it wanted to be shown.
        warning: Option<String>,
    },
    /// A tracker did not answer, or refused.
    TrackerFailed {
        /// About which torrent.
        torrent: TorrentKey,
        /// Which tracker.
        url: Arc<str>,
        /// Why.
        error: AnnounceError,
    },
    /// A scrape was answered, refused or timed out.
    Scraped {
        /// The torrent.
        torrent: TorrentKey,
        /// The tracker, or the DHT.
        source: ScrapeSource,
        /// How many, or why it is not known.
        result: Result<SwarmCounts, AnnounceError>,
    },
    /// Every tracker that was asked how many there are has answered, or never will.
    ScrapeDone {
        /// Which torrent.
        torrent: TorrentKey,
    },
}

/// What was asked for the counts of a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrapeSource {
    /// The tracker with this announce URL (BEP 48, 15).
    Tracker(Arc<str>),
    /// The DHT (BEP 33).
    Dht,
}

impl fmt::Display for ScrapeSource {
    /// The tracker's URL, or `DHT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScrapeSource::Tracker(url) => f.write_str(url),
            ScrapeSource::Dht => f.write_str("DHT"),
        }
    }
}

/// Why a connection did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// The other side, or the way there.
    Refused,
    /// This machine is out of descriptors, ports or memory: not the address's fault.
    OutOfResources,
}

/// What the hasher found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashVerdict {
    /// The piece is what the torrent says.
    Good {
        /// First 8 bytes of each block's SHA-1, if they were wanted.
        digests: Option<Box<[u64]>>,
    },
    /// It is not.
    Bad {
        /// First 8 bytes of each block's SHA-1.
        digests: Box<[u64]>,
    },
    /// The disk did not let it be read; no peer is to blame.
    Unreadable,
}

/// The actions of one turn, in order.
#[derive(Debug, Default)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// Appends one.
    pub fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    /// What a new writer begins is not to be released in the name of the one before.
    pub(super) fn retract_release(&mut self, of: TorrentKey, block: BlockSpan) {
        self.0
            .retain(|a| !matches!(a, Action::Release { torrent, block: b } if *torrent == of && *b == block));
    }

    /// Takes all, leaving the memory.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> + '_ {
        self.0.drain(..)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The actions so far.
    #[cfg(feature = "oracle")]
    pub fn as_slice(&self) -> &[Action] {
        &self.0
    }
}
