//! The parameters of the engine, of a torrent, and of the DHT.

use super::policy::Policy;
use crate::units::{Bitfield, Geometry, InfoHash, PeerId};
use std::net::SocketAddr;
use std::sync::Arc;

/// The parameters of an engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Our peer id (BEP 20).
    pub peer_id: PeerId,
    /// Our listening port; 0 if there is none.
    pub port: u16,
    /// The most connections of all torrents.
    pub max_peers: usize,
    /// The most connections of one torrent.
    pub max_peers_per_torrent: usize,
    /// Download limit of all torrents together, bytes a second.
    pub download_limit: Option<u64>,
    /// Upload limit of all torrents together, bytes a second.
    pub upload_limit: Option<u64>,
    /// The seed of random choices.
    pub seed: u64,
    /// Our client name and version (BEP 10 `v`).
    pub version: String,
    /// The choices that the protocol leaves open.
    pub policy: Policy,
    /// Peer exchange (BEP 11).
    pub pex: bool,
    /// Local service discovery (BEP 14).
    pub lsd: bool,
}

/// The parameters of a torrent.
#[derive(Clone, Debug)]
pub struct TorrentSpec {
    /// Its info hash.
    pub info_hash: InfoHash,
    /// Its pieces and metadata; `None` fetches the metadata from peers (BEP 9).
    pub torrent_info: Option<TorrentInfo>,
    /// Trackers, in tiers.
    pub trackers: Vec<Vec<String>>,
    /// Addresses of peers.
    pub peers: Vec<SocketAddr>,
    /// Whether pieces are requested in order rather than rarest first.
    pub sequential: bool,
    /// Download limit, bytes a second.
    pub download_limit: Option<u64>,
    /// Upload limit, bytes a second.
    pub upload_limit: Option<u64>,
}

/// The pieces and metadata of a torrent.
#[derive(Clone, Debug)]
pub struct TorrentInfo {
    /// Its geometry.
    pub geometry: Geometry,
    /// Its wanted pieces.
    pub wanted: Bitfield,
    /// Whether it is private: peers come from its own trackers only (BEP 27).
    pub private: bool,
    /// Its info dictionary, if it is served to peers.
    pub info: Option<Arc<[u8]>>,
}

impl TorrentInfo {
    /// Returns a placeholder while the metadata is unknown: no piece is wanted.
    pub(super) fn unknown() -> TorrentInfo {
        let geometry = Geometry::new(1, 1).expect("one byte has a geometry");
        TorrentInfo { geometry, wanted: Bitfield::empty(1), private: false, info: None }
    }
}

/// The parameters of the DHT node.
#[derive(Clone, Debug, Default)]
pub struct DhtSetup {
    /// The UDP port of our node.
    pub port: u16,
    /// The seed of the node's random choices and secrets: must not be known to others.
    pub seed: u64,
    /// The node sends queries and answers none (BEP 43).
    pub read_only: bool,
    /// Nodes of an earlier run, the most recently seen first.
    pub nodes: Vec<SocketAddr>,
    /// Host and port of nodes to start from; resolved only if no other node answers.
    pub bootstrap: Vec<(String, u16)>,
    /// Host and port of bootstrap nodes: queried, never inserted into the routing table.
    pub routers: Vec<(String, u16)>,
}
