//! One torrent: its pieces, its peers, its trackers, and whom it believes.

mod availability;
mod choker;
mod metadata;
mod peer_list;
mod pex_log;
mod picker;
mod pieces;
mod smart_ban;
pub mod tracker_list;

pub use choker::{ChokeCandidate, Choker};
pub use metadata::{Metadata, MetadataFetch};
pub use peer_list::PeerList;
pub use pex_log::{PexCursor, PexLog, PexPeer};
pub use picker::{PickInput, Picker, PiecePriority};
pub use pieces::{Pieces, Stage};
pub use smart_ban::SmartBan;
pub use tracker_list::{PlannedAnnounce, TrackerList};

use super::bandwidth::TokenBucket;
use super::deferred::DeferredBitfields;
use super::limits;
use crate::units::{BLOCK_LEN, Bitfield, InfoHash, Instant, Origin, PeerKey, PieceIndex, Rate, TorrentKey};
use std::time::Duration;

/// What a torrent is about at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has no connections.
    Paused,
    /// It is not known what is in it, or what of it is here.
    Opening,
    /// Pieces are missing.
    Leeching,
    /// Every wanted piece is had.
    Seeding,
}

/// One torrent.
#[derive(Debug)]
pub struct Torrent {
    /// Its key.
    pub key: TorrentKey,
    /// Its name.
    pub info_hash: InfoHash,
    /// Whether it is talked about at all.
    pub running: bool,
    /// Peers come from its own trackers alone (BEP 27).
    pub private: bool,
    /// What it is made of, for peers who ask.
    pub metadata: Metadata,
    /// What peers have of it, as they say, while its pieces mean nothing.
    pub deferred_bitfields: DeferredBitfields,
    /// The disk has said what of it is here; until then its pieces mean nothing.
    pub open: bool,
    /// Pieces and leases.
    pub pieces: Pieces,
    /// What to ask for next.
    pub picker: Picker,
    /// Who may download.
    pub choker: Choker,
    /// Whom to dial.
    pub peer_list: PeerList,
    /// Whom to ask for peers.
    pub trackers: TrackerList,
    /// Who sent bad data.
    pub smart_ban: SmartBan,
    /// What peers are told of other peers.
    pub pex_log: PexLog,
    /// When the DHT is searched again, peers or not.
    pub search_due: Instant,
    /// The wait between searches while there is no peer.
    pub search_wait: Duration,
    /// Its connections, in the order they came.
    pub peers: Vec<PeerKey>,
    /// Download limit.
    pub down: TokenBucket,
    /// Upload limit.
    pub up: TokenBucket,
    /// Speeds.
    pub down_rate: Rate,
    /// See `down_rate`.
    pub up_rate: Rate,
    /// Payload received, what was wasted included; bytes.
    pub downloaded: u64,
    /// Payload sent; bytes.
    pub uploaded: u64,
    /// Payload received in vain; bytes.
    pub wasted: u64,
    /// Verified since the last checkpoint; bytes.
    pub unsaved_bytes: u64,
    /// The last checkpoint.
    pub last_checkpoint: Instant,
    /// A checkpoint is being written.
    pub saving: bool,
}

impl Torrent {
    /// Whether peers may come from there.
    pub fn allows(&self, origin: Origin) -> bool {
        !self.private || origin.is_for_private()
    }

    /// The DHT is to be searched at once, and soon again while there is no peer.
    pub fn restart_search(&mut self, now: Instant) {
        (self.search_due, self.search_wait) = (now, limits::DHT_SEARCH_RETRY);
    }

    /// What the torrent is about.
    pub fn activity(&self) -> Activity {
        match self.running {
            false => Activity::Paused,
            true if !self.open => Activity::Opening,
            true if self.pieces.missing() > 0 => Activity::Leeching,
            true => Activity::Seeding,
        }
    }

    /// Pieces of `has` that we want and miss.
    pub fn wanted_pieces(&self, has: &Bitfield) -> u32 {
        has.iter().filter(|p| self.pieces.is_missing(*p)).count() as u32
    }

    /// Bytes that are still to be had, for trackers.
    pub fn left(&self) -> u64 {
        let (wanted, had) = self.pieces.wanted_bytes();
        // While the metadata is unknown, trackers must see that something is missing.
        if self.open { wanted - had } else { (wanted - had).max(u64::from(BLOCK_LEN)) }
    }

    /// The piece goes back among those that can begin.
    pub fn reopen(&mut self, piece: PieceIndex) {
        if self.pieces.is_missing(piece) && self.pieces.get(piece).is_none() {
            self.picker.availability.restore(piece);
        }
    }
}
