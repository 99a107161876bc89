//! One torrent: its pieces, peers and trackers, and the evidence of bad data.

mod availability;
mod choker;
mod deferred_bitfields;
mod metadata;
mod peer_list;
mod pex_log;
mod picker;
mod pieces;
mod smart_ban;
pub mod tracker_list;

pub use choker::{ChokeCandidate, Choker};
pub use deferred_bitfields::DeferredBitfields;
pub use metadata::{Metadata, MetadataFetch};
pub use peer_list::PeerList;
pub use pex_log::{PexCursor, PexLog, PexPeer};
pub use picker::{PickInput, Picker, PiecePriority};
pub use pieces::{Pieces, Stage};
pub use smart_ban::SmartBan;
pub use tracker_list::{PlannedAnnounce, TrackerList};

use super::bandwidth::{Share, TokenBucket};
use super::limits;
use crate::units::{BLOCK_LEN, Bitfield, InfoHash, Instant, Origin, PeerKey, PieceIndex, Rate, TorrentKey};
use std::time::Duration;

/// The activity of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Paused: it has no connections.
    Paused,
    /// The metadata or the verified pieces are unknown yet.
    Opening,
    /// Pieces are missing.
    Leeching,
    /// Every wanted piece is verified.
    Seeding,
}

/// One torrent.
#[derive(Debug)]
pub struct Torrent {
    /// Its key.
    pub key: TorrentKey,
    /// Its info hash.
    pub info_hash: InfoHash,
    /// Whether it runs: false while it is paused.
    pub running: bool,
    /// Peers come from its own trackers alone (BEP 27).
    pub private: bool,
    /// Its info dictionary, or the fetch of it.
    pub metadata: Metadata,
    /// Bitfields received before it was open.
    pub deferred_bitfields: DeferredBitfields,
    /// The disk has reported the verified pieces; before that `pieces` is meaningless.
    pub open: bool,
    /// Pieces and leases.
    pub pieces: Pieces,
    /// Chooses the next block to request.
    pub picker: Picker,
    /// Chooses the peers to unchoke.
    pub choker: Choker,
    /// Known addresses.
    pub peer_list: PeerList,
    /// Its trackers.
    pub trackers: TrackerList,
    /// Evidence of failed pieces.
    pub smart_ban: SmartBan,
    /// Joins and leaves, for PEX.
    pub pex_log: PexLog,
    /// When the DHT is searched next.
    pub search_due: Instant,
    /// The wait between searches while there is no peer.
    pub search_wait: Duration,
    /// Its connections, in the order of their beginning.
    pub peers: Vec<PeerKey>,
    /// Download limit.
    pub down: TokenBucket,
    /// Upload limit.
    pub up: TokenBucket,
    /// Part of the common download limit.
    pub down_share: Share,
    /// Part of the common upload limit.
    pub up_share: Share,
    /// Download rate, payload bytes a second.
    pub down_rate: Rate,
    /// Upload rate, payload bytes a second.
    pub up_rate: Rate,
    /// [`downloaded`](Torrent::downloaded) and [`uploaded`](Torrent::uploaded) when the torrent was resumed: a
    /// tracker is told what was transferred since `started`.
    pub resumed_at: (u64, u64),
    /// Bytes received and sent in earlier runs, from the resume record; `None` until the record was read.
    pub earlier: Option<(u64, u64)>,
    /// It became complete in this or an earlier run: `completed` is announced for it at most once.
    pub completed: bool,
    /// Payload received, bytes, wasted bytes included.
    pub downloaded: u64,
    /// Payload sent, bytes.
    pub uploaded: u64,
    /// Payload received and discarded, bytes.
    pub wasted: u64,
    /// Bytes verified since the last checkpoint.
    pub unsaved_bytes: u64,
    /// When the last checkpoint began.
    pub last_checkpoint: Instant,
    /// A checkpoint is being written.
    pub saving: bool,
}

impl Torrent {
    /// Returns whether addresses of this origin may be used (BEP 27).
    pub fn allows(&self, origin: Origin) -> bool {
        !self.private || origin.is_for_private()
    }

    /// Makes a DHT search due now, and soon again while there is no peer.
    pub fn restart_search(&mut self, now: Instant) {
        self.search_due = now;
        self.search_wait = limits::DHT_SEARCH_RETRY;
    }

    /// Returns the activity.
    pub fn activity(&self) -> Activity {
        if !self.running {
            Activity::Paused
        } else if !self.open {
            Activity::Opening
        } else if self.pieces.missing() > 0 {
            Activity::Leeching
        } else {
            Activity::Seeding
        }
    }

    /// Returns the number of missing pieces in `has`.
    pub fn wanted_pieces(&self, has: &Bitfield) -> u32 {
        has.iter().filter(|p| self.pieces.is_missing(*p)).count() as u32
    }

    /// Returns the missing bytes of the whole torrent, for trackers (BEP 3 `left`).
    pub fn left(&self) -> u64 {
        // While the metadata is unknown, trackers must see that something is missing.
        if self.open {
            self.pieces.missing_bytes()
        } else {
            self.pieces.missing_bytes().max(u64::from(BLOCK_LEN))
        }
    }

    /// Returns whether every wanted piece is verified and the torrent is incomplete (BEP 21).
    pub fn is_partial_seed(&self) -> bool {
        self.open && self.pieces.missing() == 0 && !self.pieces.have().is_full()
    }

    /// Returns the bytes received and sent since the torrent was resumed, for trackers.
    pub fn since_started(&self) -> (u64, u64) {
        let (downloaded, uploaded) = self.resumed_at;
        (self.downloaded.saturating_sub(downloaded), self.uploaded.saturating_sub(uploaded))
    }

    /// Returns the bytes received and sent in all runs.
    pub fn totals(&self) -> (u64, u64) {
        let (downloaded, uploaded) = self.earlier.unwrap_or_default();
        (downloaded.saturating_add(self.downloaded), uploaded.saturating_add(self.uploaded))
    }

    /// Makes a piece a candidate again, if it is missing and not open.
    pub fn reopen(&mut self, piece: PieceIndex) {
        if self.pieces.is_missing(piece) && self.pieces.get(piece).is_none() {
            self.picker.availability.restore(piece);
        }
    }
}
