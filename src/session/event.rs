//! The events that a session sends to its user.

use crate::disk::{DiskFault, SpaceShortage};
use crate::engine::{PortMapping, ScrapeSource, SlowReason};
use crate::units::Origin;
use crate::wire::{Metainfo, MetainfoError, SwarmCounts};
use std::net::SocketAddr;
use std::time::Duration;

/// Identifies a torrent in its session. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentId(pub(super) u64);

/// An event. Its text is safe to print on a terminal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Existing content is being hashed.
    Checking {
        /// The torrent.
        torrent: TorrentId,
        /// Pieces hashed.
        checked: u32,
        /// Pieces to hash.
        pieces: u32,
    },
    /// A magnet link's metadata is known, from peers or an earlier run. Unless a choice of files is awaited,
    /// existing content is being checked.
    Metadata {
        /// The torrent.
        torrent: TorrentId,
        /// The metadata.
        metainfo: Metainfo,
    },
    /// The metadata matches the info hash and is unusable: the torrent is paused. No other peer can send
    /// different metadata.
    BadMetadata {
        /// The torrent.
        torrent: TorrentId,
        /// The reason.
        error: MetainfoError,
    },
    /// The content is checked and the torrent starts.
    Opened {
        /// The torrent.
        torrent: TorrentId,
        /// Verified pieces.
        have: u32,
        /// Bytes of the verified pieces that are wanted.
        have_bytes: u64,
        /// All pieces.
        pieces: u32,
        /// Whether every wanted piece is verified.
        complete: bool,
        /// Sentences about content that changed since the last run.
        notes: Vec<String>,
        /// The disk has too little room for what is missing.
        space: Option<SpaceShortage>,
    },
    /// Figures of a torrent, once a second.
    Progress(Box<Progress>),
    /// Every wanted piece is verified and, with a state directory, on stable storage.
    Completed {
        /// The torrent.
        torrent: TorrentId,
    },
    /// A disk fault paused the torrent; its verified pieces are kept. `Session::resume` tries again.
    Failed {
        /// The torrent.
        torrent: TorrentId,
        /// The reason.
        fault: DiskFault,
    },
    /// The disk is full: the torrent is paused. It restarts without a command when there is room, with an
    /// `Opened` event.
    DiskFull {
        /// The torrent.
        torrent: TorrentId,
        /// The write that failed.
        fault: DiskFault,
    },
    /// A tracker answered.
    TrackerReplied {
        /// The torrent.
        torrent: TorrentId,
        /// The tracker.
        url: String,
        /// The number of addresses in its answer.
        peers: usize,
        /// The tracker's warning message.
        warning: Option<String>,
    },
    /// A tracker did not answer, or refused.
    TrackerFailed {
        /// The torrent.
        torrent: TorrentId,
        /// The tracker.
        url: String,
        /// The reason, a sentence.
        error: String,
    },
    /// A scrape was answered, refused or timed out; once for each tracker, and for the DHT, after
    /// [`Session::scrape`](super::Session::scrape).
    Scraped {
        /// The torrent.
        torrent: TorrentId,
        /// The tracker, or the DHT.
        source: ScrapeSource,
        /// The counts of the swarm, or the reason of the failure, a sentence.
        result: Result<SwarmCounts, String>,
    },
    /// The scrape is over: every tracker answered, refused or timed out.
    ScrapeDone {
        /// The torrent.
        torrent: TorrentId,
    },
    /// A peer whose address the user gave could not be dialed, or the connection ended before its handshake.
    /// The address is dialed again later.
    GivenPeerFailed {
        /// The torrent.
        torrent: TorrentId,
        /// The peer's address.
        addr: SocketAddr,
        /// The reason.
        error: String,
    },
    /// A peer sent bad data and is banned.
    PeerBanned {
        /// The torrent.
        torrent: TorrentId,
        /// The peer's address.
        addr: SocketAddr,
    },
    /// The router opened our port to peers outside, or did not.
    PortMapping(PortMapping),
    /// The torrent is removed from the session and its record is written.
    Removed {
        /// The torrent.
        torrent: TorrentId,
    },
    /// This subscriber was too slow: so many events about single trackers, peers and routers were dropped.
    Missed {
        /// The number of dropped events.
        events: u64,
    },
    /// The loop ended without a command: an error of the operating system, or a bug.
    Died {
        /// The reason.
        reason: String,
    },
}

/// The figures of one torrent.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The torrent.
    pub torrent: TorrentId,
    /// Bytes of the wanted pieces.
    pub wanted_bytes: u64,
    /// Bytes of verified wanted pieces.
    pub have_bytes: u64,
    /// Verified pieces.
    pub pieces_have: u32,
    /// All pieces.
    pub pieces: u32,
    /// Payload received in this session, bytes.
    pub downloaded: u64,
    /// Payload sent in this session, bytes.
    pub uploaded: u64,
    /// Bytes received in all runs that the resume record counted.
    pub total_downloaded: u64,
    /// Bytes sent in all of them.
    pub total_uploaded: u64,
    /// Payload received and discarded, bytes.
    pub wasted: u64,
    /// Current download rate, payload bytes a second.
    pub download_rate: u64,
    /// Current upload rate, payload bytes a second.
    pub upload_rate: u64,
    /// Peers that have sent their handshakes.
    pub peers: usize,
    /// Connected seeds.
    pub seeds: usize,
    /// The number of peers by the source of their address, indexed by [`Origin`].
    pub peers_by_origin: [usize; Origin::ALL.len()],
    /// DHT nodes that answer, if the DHT is enabled.
    pub dht_nodes: Option<usize>,
    /// Known addresses of peers.
    pub known_peers: usize,
    /// Remaining time at the current rate; `None` without a rate.
    pub eta: Option<Duration>,
    /// Whether every wanted piece is verified.
    pub complete: bool,
    /// Why the download is slow, if known.
    pub slow: Option<SlowReason>,
    /// CPU time of the loop thread so far.
    pub loop_cpu: Duration,
    /// CPU time of all disk workers so far.
    pub worker_cpu: Duration,
}
