//! What the engine is told: at its start, about a torrent, and about the DHT.

use super::policy::Policy;
use crate::units::{Bitfield, Geometry, InfoHash, PeerId};
use std::net::SocketAddr;
use std::sync::Arc;

/// What an engine is told at its start.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// What we call ourselves (BEP 20).
    pub peer_id: PeerId,
    /// The TCP port that others reach us at.
    pub port: u16,
    /// Connections in all.
    pub max_peers: usize,
    /// Connections a torrent.
    pub max_peers_per_torrent: usize,
    /// Limit of all downloads together, bytes a second.
    pub download_limit: Option<u64>,
    /// Limit of all uploads together, bytes a second.
    pub upload_limit: Option<u64>,
    /// What all choices among equals come from.
    pub seed: u64,
    /// What we call ourselves to people (BEP 10 `v`).
    pub version: String,
    /// What the protocol leaves open.
    pub policy: Policy,
    /// Peers tell each other of peers (BEP 11).
    pub pex: bool,
    /// Peers of the local network are called and answered (BEP 14).
    pub lsd: bool,
}

/// What an engine is told about a torrent.
#[derive(Clone, Debug)]
pub struct TorrentSpec {
    /// Its name.
    pub info_hash: InfoHash,
    /// What it is made of; `None` asks peers for its metadata (BEP 9).
    pub shape: Option<TorrentInfo>,
    /// Trackers, in tiers.
    pub trackers: Vec<Vec<String>>,
    /// Addresses known from elsewhere.
    pub peers: Vec<SocketAddr>,
    /// Pieces in order rather than rarest first.
    pub sequential: bool,
    /// Download limit, bytes a second.
    pub download_limit: Option<u64>,
    /// Upload limit, bytes a second.
    pub upload_limit: Option<u64>,
}

/// What a torrent is made of.
#[derive(Clone, Debug)]
pub struct TorrentInfo {
    /// Its pieces.
    pub geometry: Geometry,
    /// Pieces that are to be got.
    pub wanted: Bitfield,
    /// Peers come from its own trackers alone (BEP 27).
    pub private: bool,
    /// Its info dictionary, if peers may have it from us.
    pub info: Option<Arc<[u8]>>,
}

impl TorrentInfo {
    /// The shape of a torrent of which nothing is known: nothing of it is wanted.
    pub(super) fn unknown() -> TorrentInfo {
        let geometry = Geometry::new(1, 1).expect("one byte is a shape");
        TorrentInfo { geometry, wanted: Bitfield::empty(1), private: false, info: None }
    }
}

/// How an engine takes part in the DHT.
#[derive(Clone, Debug, Default)]
pub struct DhtSetup {
    /// The UDP port that our node is reached at.
    pub port: u16,
    /// The source of the node's choices and secrets: must not be known to others.
    pub seed: u64,
    /// Sends queries and answers none (BEP 43).
    pub read_only: bool,
    /// Nodes of an earlier run, the most recently seen first.
    pub nodes: Vec<SocketAddr>,
    /// Host and port of nodes to start from; resolved only if no other node answers.
    pub bootstrap: Vec<(String, u16)>,
    /// Host and port of bootstrap nodes: queried, never inserted into the routing table.
    pub routers: Vec<(String, u16)>,
}
