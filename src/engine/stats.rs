//! Statistics of a torrent, computed on request.

use super::bandwidth::TokenBucket;
use super::peer::{Peer, Phase};
use super::swarms::Swarms;
use super::torrent::Activity;
use crate::units::{Instant, Origin, Rate, TorrentKey};

/// Statistics of one torrent. Bytes are payload since the torrent was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorrentStats {
    /// Bytes of the wanted pieces.
    pub wanted_bytes: u64,
    /// Bytes of the wanted pieces that are verified.
    pub have_bytes: u64,
    /// The number of pieces.
    pub pieces: u32,
    /// The number of verified pieces.
    pub pieces_have: u32,
    /// Bytes received.
    pub downloaded: u64,
    /// Bytes sent.
    pub uploaded: u64,
    /// Bytes received in all runs that the resume record counted.
    pub total_downloaded: u64,
    /// Bytes sent in all of them.
    pub total_uploaded: u64,
    /// Bytes received and discarded: duplicates, blocks of bad pieces, blocks without a request.
    pub wasted: u64,
    /// Download rate, bytes a second.
    pub download_rate: u64,
    /// Upload rate, bytes a second.
    pub upload_rate: u64,
    /// Connected peers that sent their handshakes.
    pub peers: usize,
    /// Connected peers that have every piece.
    pub seeds: usize,
    /// Connected peers by the source of their address, in the order of [`Origin::ALL`].
    pub peers_by_origin: [usize; Origin::ALL.len()],
    /// Addresses in the peer list.
    pub known_peers: usize,
    /// Every wanted piece is verified.
    pub complete: bool,
    /// The torrent is not paused.
    pub running: bool,
    /// The reason for a slow download, if the engine knows one.
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
    /// The disk does not keep up. Only the session sets this reason, never the engine.
    Disk,
    /// A download limit of the user holds the torrent back.
    OwnLimit,
}

/// Returns the rate to report. While a limit holds the bytes back, the rate is that of the average: a small
/// limit leaves pauses of seconds between two blocks.
fn shown_rate(rate: Rate, now: Instant, limits: [TokenBucket; 2]) -> u64 {
    let waits = limits.into_iter().any(|mut limit| {
        limit.fill(now);
        limit.wait().is_some()
    });
    if waits { rate.per_second(now) } else { rate.shown_per_second(now) }
}

impl Swarms {
    /// Returns the statistics of a torrent.
    pub(super) fn stats(&self, now: Instant, key: TorrentKey) -> Option<TorrentStats> {
        let t = self.torrents.get(key)?;
        let peers = t.peers.iter().filter_map(|p| self.connections.get(*p)).map(|c| &c.peer);
        let up: Vec<&Peer> = peers.filter(|p| p.wire.phase == Phase::Up).collect();
        let (wanted_bytes, have_bytes) = t.pieces.wanted_bytes();
        let limited = self.down.wait().is_some() || t.down.wait().is_some() || t.down_share.is_spent();
        let slow = match t.activity() {
            Activity::Leeching | Activity::Opening if up.is_empty() => Some(SlowReason::NoPeers),
            Activity::Leeching if limited => Some(SlowReason::OwnLimit),
            Activity::Leeching if !up.iter().any(|p| p.source.we_want) => Some(SlowReason::NothingToGet),
            Activity::Leeching if up.iter().all(|p| p.source.they_choke || !p.source.we_want) => {
                Some(SlowReason::Choked)
            }
            _ => None,
        };
        let (total_downloaded, total_uploaded) = t.totals();
        Some(TorrentStats {
            wanted_bytes,
            have_bytes,
            pieces: t.pieces.geometry().pieces(),
            pieces_have: t.pieces.have().ones(),
            downloaded: t.downloaded,
            uploaded: t.uploaded,
            total_downloaded,
            total_uploaded,
            wasted: t.wasted,
            download_rate: shown_rate(t.down_rate, now, [self.down, t.down]),
            upload_rate: shown_rate(t.up_rate, now, [self.up, t.up]),
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
