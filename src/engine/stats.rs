//! How a torrent is doing, as a snapshot.

use super::peer::{Peer, Phase};
use super::swarms::Swarms;
use super::torrent::Activity;
use crate::units::{Instant, Origin, TorrentKey};

/// Figures of one torrent. Bytes are payload of this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorrentStats {
    /// Bytes of the wanted pieces.
    pub wanted_bytes: u64,
    /// Bytes of the wanted pieces that are verified.
    pub have_bytes: u64,
    /// All pieces.
    pub pieces: u32,
    /// Verified pieces.
    pub pieces_have: u32,
    /// Received.
    pub downloaded: u64,
    /// Sent.
    pub uploaded: u64,
    /// Received in vain: duplicates, blocks of bad pieces, blocks without a request.
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
    /// Addresses known.
    pub known_peers: usize,
    /// Every wanted piece is had.
    pub complete: bool,
    /// Not paused.
    pub running: bool,
    /// Why it is not faster, if the engine knows.
    pub slow: Option<SlowReason>,
}

/// Why a download is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowReason {
    /// No peer is connected.
    NoPeers,
    /// No connected peer has a missing piece.
    NothingToGet,
    /// Every connected peer that has a missing piece chokes us.
    Choked,
    /// The disk does not keep up; only the session can tell, the engine never says so.
    Disk,
    /// A download limit that the user set.
    OwnLimit,
}

impl Swarms {
    /// Figures of a torrent.
    pub(super) fn stats(&self, now: Instant, key: TorrentKey) -> Option<TorrentStats> {
        let t = self.torrents.get(key)?;
        let peers = t.peers.iter().filter_map(|p| self.connections.get(*p)).map(|c| &c.peer);
        let up: Vec<&Peer> = peers.filter(|p| p.wire.phase == Phase::Up).collect();
        let (wanted_bytes, have_bytes) = t.pieces.wanted_bytes();
        let limited = self.down.wait().is_some() || t.down.wait().is_some();
        let slow = match t.activity() {
            Activity::Leeching | Activity::Opening if up.is_empty() => Some(SlowReason::NoPeers),
            Activity::Leeching if limited => Some(SlowReason::OwnLimit),
            Activity::Leeching if !up.iter().any(|p| p.source.we_want) => Some(SlowReason::NothingToGet),
            Activity::Leeching if up.iter().all(|p| p.source.they_choke || !p.source.we_want) => {
                Some(SlowReason::Choked)
            }
            _ => None,
        };
        Some(TorrentStats {
            wanted_bytes,
            have_bytes,
            pieces: t.pieces.geometry().pieces(),
            pieces_have: t.pieces.have().ones(),
            downloaded: t.downloaded,
            uploaded: t.uploaded,
            wasted: t.wasted,
            download_rate: t.down_rate.per_second(now),
            upload_rate: t.up_rate.per_second(now),
            peers: up.len(),
            seeds: up.iter().filter(|p| p.source.has.is_full()).count(),
            peers_by_origin: Origin::ALL
                .map(|origin| up.iter().filter(|p| p.source.origin == origin).count()),
            known_peers: t.peer_list.len(),
            complete: t.pieces.missing() == 0 && !t.metadata.is_wanted(),
            running: t.running,
            slow,
        })
    }
}
