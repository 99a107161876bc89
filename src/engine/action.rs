//! Actions: what the engine asks its caller to do. The engine has no other output.

use super::disconnect::DisconnectReason;
use super::port_mapper::PortMapping;
use crate::units::{BlockSpan, InfoHash, PeerKey, PieceIndex, TorrentKey, TransportKind};
use crate::wire::lsd::Group;
use crate::wire::{AnnounceError, SwarmCounts};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// One thing for the caller to do. The caller may carry out all actions of a turn together at its end, in
/// order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Connect to an address; answer with `on_dialed` or `on_dial_failed`.
    Dial {
        /// The key of the new connection.
        peer: PeerKey,
        /// The address to connect to.
        addr: SocketAddr,
        /// The transport of the connection.
        over: TransportKind,
    },
    /// The connection has bytes to write: call `plan` until the plan is empty or the socket is full.
    Flush {
        /// The connection.
        peer: PeerKey,
    },
    /// The reason why `want` returned [`Pause`](super::Want::Pause) may no longer hold: call `want` again.
    Wake {
        /// The connection.
        peer: PeerKey,
    },
    /// Close the connection. Its key is invalid already.
    Close {
        /// The connection.
        peer: PeerKey,
    },
    /// Make files and memory ready for this piece; answer with `on_prepared`.
    Prepare {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// The peer that was sending this block left before the last byte: discard the received part. The engine
    /// retracts the action if another peer begins to send the block before the caller carries it out.
    Release {
        /// The torrent.
        torrent: TorrentKey,
        /// The whole block.
        block: BlockSpan,
    },
    /// Hash the piece: every block has arrived and no lease on it is out. Answer with `on_hashed`.
    Hash {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// Whether the answer has to carry the blocks' digests even if the piece is good.
        digests: bool,
    },
    /// Make the verified pieces durable; answer with `on_saved`.
    Save {
        /// The torrent.
        torrent: TorrentKey,
    },
    /// Send an announce to an HTTP tracker; answer with `on_announced`.
    Announce {
        /// The id of the request; the answer carries it.
        id: u64,
        /// The whole URL, query included.
        url: String,
        /// Time for the whole request.
        timeout: Duration,
    },
    /// Send a scrape to an HTTP tracker; answer with `on_scraped`.
    Scrape {
        /// The id of the request; the answer carries it.
        id: u64,
        /// The whole URL, query included.
        url: String,
        /// The torrent to take from the answer.
        info_hash: InfoHash,
        /// Time for the whole request.
        timeout: Duration,
    },
    /// Resolve a host name; answer with `on_resolved`.
    Resolve {
        /// The id of the request; the answer carries it.
        id: u64,
        /// The host name, or an IP address in text form.
        host: String,
        /// The port of the addresses in the answer.
        port: u16,
    },
    /// Send one datagram.
    Datagram {
        /// The destination.
        to: SocketAddr,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Send one datagram from a socket of its own that has this address; pass answers to
    /// `on_bound_datagram`.
    DatagramFrom {
        /// Our address.
        from: IpAddr,
        /// The destination.
        to: SocketAddr,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Look for the default routers; answer with `on_gateways`.
    FindGateways,
    /// Send an HTTP request to a router, without proxies and redirects; answer with `on_router_reply`.
    RouterRequest {
        /// The id of the request; the answer carries it.
        id: u64,
        /// The URL, whose host is the router's address.
        url: String,
        /// What to post; `None` requests the document.
        call: Option<RouterCall>,
        /// Time for the whole request.
        timeout: Duration,
    },
    /// Send one datagram to this multicast group on the local network.
    Multicast {
        /// The group.
        group: Group,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Save these DHT nodes for the next run.
    KeepNodes {
        /// The nodes' addresses.
        nodes: Vec<SocketAddr>,
    },
    /// Parse a torrent's info dictionary, which came from peers and matches the info hash; answer with
    /// `on_metadata`.
    Metadata {
        /// The torrent.
        torrent: TorrentKey,
        /// The whole info dictionary.
        info: Arc<[u8]>,
    },
    /// Report an event to the user.
    Notice(Notice),
}

/// A call of a service of the router (SOAP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterCall {
    /// The header `SOAPAction`.
    pub action: String,
    /// The body, XML.
    pub body: String,
}

/// The router's answer to an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterReply {
    /// The HTTP status.
    pub status: u16,
    /// The body, of limited length.
    pub body: Vec<u8>,
}

/// An event that the caller may report to the user.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A piece matches its hash.
    Verified {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// Every wanted piece is verified. The pieces are not durable yet.
    Complete {
        /// The torrent.
        torrent: TorrentKey,
    },
    /// A peer sent bad data; the torrent closed the connection and banned its address.
    Banned {
        /// The torrent.
        torrent: TorrentKey,
        /// The peer's address.
        addr: SocketAddr,
    },
    /// A peer whose address the user gave could not be dialed, or the connection ended before its handshake.
    GivenPeerFailed {
        /// The torrent.
        torrent: TorrentKey,
        /// The peer's address.
        addr: SocketAddr,
        /// The reason.
        why: DisconnectReason,
    },
    /// A tracker answered an announce.
    TrackerReplied {
        /// The torrent.
        torrent: TorrentKey,
        /// The tracker's announce URL.
        url: Arc<str>,
        /// The number of addresses in the answer.
        peers: usize,
        /// The tracker's warning for the user.
        warning: Option<String>,
    },
    /// A tracker did not answer an announce, or refused it.
    TrackerFailed {
        /// The torrent.
        torrent: TorrentKey,
        /// The tracker's announce URL.
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
        /// The counts, or the reason why there are none.
        result: Result<SwarmCounts, AnnounceError>,
    },
    /// Every source of a torrent's scrape has answered, failed or timed out.
    ScrapeDone {
        /// The torrent.
        torrent: TorrentKey,
    },
    /// A router opened a port, or did not.
    PortMapping(PortMapping),
}

/// The source of a swarm's counts.
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
    /// The peer refused the connection.
    Refused,
    /// The network could not reach the peer.
    Unreachable,
    /// This machine is out of descriptors, ports or memory; the address may be good.
    OutOfResources,
}

/// The hasher's verdict on a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashVerdict {
    /// The piece matches its hash.
    Good {
        /// First 8 bytes of each block's SHA-1, if [`Action::Hash`] asked for them.
        digests: Option<Box<[u64]>>,
    },
    /// The piece does not match its hash.
    Bad {
        /// First 8 bytes of each block's SHA-1.
        digests: Box<[u64]>,
    },
    /// The disk could not read the piece; no peer is to blame.
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

    /// Removes the block's [`Action::Release`]: another peer writes the block now, and the release would
    /// discard its bytes.
    pub(super) fn retract_release(&mut self, of: TorrentKey, block: BlockSpan) {
        self.0
            .retain(|a| !matches!(a, Action::Release { torrent, block: b } if *torrent == of && *b == block));
    }

    /// Removes and returns all actions; keeps the allocation.
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
