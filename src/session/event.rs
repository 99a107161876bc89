//! What a session tells its user.

use crate::disk::DiskFault;
use crate::engine::{ScrapeSource, SlowReason};
use crate::units::Origin;
use crate::wire::{Metainfo, MetainfoError, SwarmCounts};
use std::net::SocketAddr;
use std::time::Duration;

/// Names a torrent in its session. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentId(pub(super) u64);

/// Something that happened. Text in it is fit for a terminal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Content that is there is being hashed.
    Checking {
        /// Which torrent.
        torrent: TorrentId,
        /// Pieces hashed.
        checked: u32,
        /// Pieces to hash.
        pieces: u32,
    },
    /// What is in the torrent came from peers, or an earlier run kept it, and what is there of it is being looked at, if no choice is
    /// waited for. Only of a magnet link.
    Metadata {
        /// Which torrent.
        torrent: TorrentId,
        /// What a torrent file would say.
        metainfo: Metainfo,
    },
    /// What is in the torrent came from peers, and it cannot be used: the torrent rests. No other peer could say anything else.
    BadMetadata {
        /// Which torrent.
        torrent: TorrentId,
        /// Why.
        error: MetainfoError,
    },
    /// The torrent begins with what is there.
    Opened {
        /// Which torrent.
        torrent: TorrentId,
        /// Pieces that are good.
        have: u32,
        /// All pieces.
        pieces: u32,
        /// Sentences about content that is not as it was left.
        notes: Vec<String>,
    },
    /// How it is going.
    Progress(Box<Progress>),
    /// Every wanted piece is verified and, with a state directory, on stable storage.
    Completed {
        /// Which torrent.
        torrent: TorrentId,
    },
    /// The disk does not let it go on: the torrent is paused, and keeps what it has. `Session::resume` tries again.
    Failed {
        /// Which torrent.
        torrent: TorrentId,
        /// Why.
        fault: DiskFault,
    },
    /// The disk is full: the torrent rests, and goes on by itself when there is room again, which `Opened` says.
    DiskFull {
        /// Which torrent.
        torrent: TorrentId,
        /// What could not be written.
        fault: DiskFault,
    },
    /// A tracker answered.
    TrackerReplied {
        /// About which torrent.
        torrent: TorrentId,
        /// Which tracker.
        url: String,
        /// Addresses that it gave.
        peers: usize,
        /// What it wants to be shown.
        warning: Option<String>,
    },
    /// A tracker did not answer, or refused.
    TrackerFailed {
        /// About which torrent.
        torrent: TorrentId,
        /// Which tracker.
        url: String,
        /// Why, in a sentence.
        error: String,
    },
    /// A scrape was answered, refused or timed out; once for each tracker, and for the DHT, after
    /// [`Session::scrape`](super::Session::scrape).
    Scraped {
        /// The torrent.
        torrent: TorrentId,
        /// The tracker, or the DHT.
        source: ScrapeSource,
        /// The counts of the swarm, or why there are none, in a sentence.
        result: Result<SwarmCounts, String>,
    },
    /// Every tracker has said how many have the torrent, or never will.
    ScrapeDone {
        /// Which torrent.
        torrent: TorrentId,
    },
    /// A peer sent bad data and is not talked to again.
    PeerBanned {
        /// In which torrent.
        torrent: TorrentId,
        /// Who.
        addr: SocketAddr,
    },
    /// The session has this torrent already, under another id.
    Duplicate {
        /// The id that came to nothing.
        torrent: TorrentId,
    },
    /// The torrent is gone from the session, its record written.
    Removed {
        /// Which torrent.
        torrent: TorrentId,
    },
    /// This subscriber was too slow: so many events about single trackers and peers were dropped.
    Missed {
        /// How many.
        events: u64,
    },
    /// The loop ended without being told to: the operating system failed it, or it has a bug.
    Died {
        /// Why.
        reason: String,
    },
}

/// How one torrent is going.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Which torrent.
    pub torrent: TorrentId,
    /// Bytes of the wanted pieces.
    pub wanted_bytes: u64,
    /// Those of them that are verified.
    pub have_bytes: u64,
    /// Verified pieces.
    pub pieces_have: u32,
    /// All pieces.
    pub pieces: u32,
    /// Payload received in this session, bytes.
    pub downloaded: u64,
    /// Payload sent in this session, bytes.
    pub uploaded: u64,
    /// Payload received in vain, bytes.
    pub wasted: u64,
    /// Bytes a second.
    pub download_rate: u64,
    /// Bytes a second.
    pub upload_rate: u64,
    /// Peers that have said who they are.
    pub peers: usize,
    /// Those of them that have everything.
    pub seeds: usize,
    /// The peers by who told us of them; an [`Origin`]'s number is its place.
    pub peers_by_origin: [usize; Origin::ALL.len()],
    /// Nodes of the DHT that answer us, if we are in it.
    pub dht_nodes: Option<usize>,
    /// Addresses known.
    pub known_peers: usize,
    /// Time to the end at this speed, if there is a speed.
    pub eta: Option<Duration>,
    /// Every wanted piece is verified.
    pub complete: bool,
    /// Why it is slow, if it is and we know.
    pub slow: Option<SlowReason>,
    /// CPU time of the loop thread so far.
    pub loop_cpu: Duration,
    /// CPU time of all disk workers so far.
    pub worker_cpu: Duration,
}
