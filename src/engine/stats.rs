//! How a torrent is doing, as a snapshot.

use crate::units::Origin;

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
    /// Received in vain: duplicates, blocks of bad pieces, blocks that nobody asked for.
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
