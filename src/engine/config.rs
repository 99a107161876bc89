//! Configuration of the engine, of a torrent and of the DHT node.

use super::negotiation::Encryption;
use super::policy::Policy;
use crate::units::{Bitfield, Geometry, InfoHash, PeerId, Transports};
use std::net::SocketAddr;
use std::sync::Arc;

/// Configuration of an engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Our peer id (BEP 20).
    pub peer_id: PeerId,
    /// The port where we accept connections, over TCP, uTP or both; 0 if we accept none.
    pub port: u16,
    /// Most connections of all torrents together.
    pub max_peers: usize,
    /// Most connections of one torrent.
    pub max_peers_per_torrent: usize,
    /// Download limit of all torrents together, bytes a second.
    pub download_limit: Option<u64>,
    /// Upload limit of all torrents together, bytes a second.
    pub upload_limit: Option<u64>,
    /// Seed of the random number generator behind every choice among equals.
    pub seed: u64,
    /// Our client name and version for display (BEP 10 `v`).
    pub version: String,
    /// Choices that the protocol leaves open.
    pub policy: Policy,
    /// Peer exchange (BEP 11) is enabled.
    pub pex: bool,
    /// Local service discovery (BEP 14) is enabled.
    pub lsd: bool,
    /// The transports of connections.
    pub transports: Transports,
    /// When connections are encrypted (MSE).
    pub encryption: Encryption,
    /// Seed of the secret numbers of encrypted connections; peers must not be able to foresee them.
    pub secret: [u8; 32],
}

/// Description of a torrent to add.
#[derive(Clone, Debug)]
pub struct TorrentSpec {
    /// The info hash.
    pub info_hash: InfoHash,
    /// The torrent's pieces; `None` has the engine fetch the metadata from peers (BEP 9).
    pub torrent_info: Option<TorrentInfo>,
    /// Announce URLs of the trackers, in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Peer addresses that the user or a magnet link gave.
    pub peers: Vec<SocketAddr>,
    /// Pieces are requested in order rather than rarest first.
    pub sequential: bool,
    /// Download limit, bytes a second.
    pub download_limit: Option<u64>,
    /// Upload limit, bytes a second.
    pub upload_limit: Option<u64>,
}

/// A torrent's pieces, and the parts of its metadata that the engine needs.
#[derive(Clone, Debug)]
pub struct TorrentInfo {
    /// Sizes and numbers of the pieces and blocks.
    pub geometry: Geometry,
    /// Pieces to download.
    pub wanted: Bitfield,
    /// The torrent is private: peers come from its trackers only (BEP 27).
    pub private: bool,
    /// The info dictionary, if we serve it to peers (BEP 9).
    pub info: Option<Arc<[u8]>>,
}

impl TorrentInfo {
    /// Returns a placeholder for a torrent without metadata: one piece of one byte, which is not wanted.
    pub(super) fn unknown() -> TorrentInfo {
        let geometry = Geometry::new(1, 1).expect("one byte is a valid length");
        TorrentInfo { geometry, wanted: Bitfield::empty(1), private: false, info: None }
    }
}

/// Configuration of the engine's DHT node.
#[derive(Clone, Debug, Default)]
pub struct DhtSetup {
    /// The UDP port of our node.
    pub port: u16,
    /// Seed of the node's random choices and token secrets; must stay secret.
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
