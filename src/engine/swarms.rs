//! The torrents and their connections: the state that most modules of the engine read and write.
//!
//! This file adds, resumes and pauses torrents and keeps the rate limits. Other parts of `impl Swarms`:
//! [`connections`](super::connections) opens and closes connections, [`stream`](super::stream) handles their bytes,
//! [`piece_results`](super::piece_results) handles results of the disk.

use super::action::Action;
use super::bandwidth::{Share, TokenBucket};
use super::config::{EngineConfig, TorrentInfo, TorrentSpec};
use super::connection_counts::ConnectionCounts;
use super::disconnect::DisconnectReason;
use super::key_exchange::KeyExchange;
use super::limits;
use super::peer::{Connection, Connections};
use super::pex;
use super::requests;
use super::timers::Timer;
use super::torrent::{
    Choker, DeferredBitfields, Metadata, MetadataFetch, PeerList, PexLog, Picker, Pieces, SmartBan, Torrent,
    TrackerList,
};
use super::turn::Turn;
use crate::units::{Bitfield, BlockSpan, InfoHash, Origin, PeerKey, Rate, SlotMap, TorrentKey};
use crate::wire::Message;
use crate::wire::mse::torrent_key;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The torrents, their connections, and the rate limits that they share.
#[derive(Debug)]
pub struct Swarms {
    /// Every torrent.
    pub torrents: SlotMap<TorrentKey, Torrent>,
    /// The torrents by info hash.
    pub by_hash: BTreeMap<InfoHash, TorrentKey>,
    /// The torrents by the name that callers of encrypted connections give them (MSE).
    pub by_mse_key: BTreeMap<[u8; 20], TorrentKey>,
    /// What the negotiations of encrypted connections share.
    pub key_exchange: KeyExchange,
    /// Every connection, those without a handshake included.
    pub connections: Connections,
    /// The download limit that all torrents share.
    pub down: TokenBucket,
    /// The upload limit that all torrents share.
    pub up: TokenBucket,
    /// Dialed connections that are not established yet.
    pub half_open: usize,
    /// The port of our DHT node, which peers are sent; `None` outside the DHT or if the node is read-only
    /// (BEP 5, 43).
    pub dht_port: Option<u16>,
    /// The engine shuts down: no new connections.
    pub stopping: bool,
    /// Outcomes of connection attempts.
    pub counts: ConnectionCounts,
}

impl Swarms {
    /// Returns the state without torrents.
    pub fn new(config: &EngineConfig) -> Swarms {
        Swarms {
            torrents: SlotMap::default(),
            by_hash: BTreeMap::new(),
            by_mse_key: BTreeMap::new(),
            key_exchange: KeyExchange::new(config.secret),
            connections: SlotMap::default(),
            down: TokenBucket::new(config.download_limit),
            up: TokenBucket::new(config.upload_limit),
            half_open: 0,
            dht_port: None,
            stopping: false,
            counts: ConnectionCounts::default(),
        }
    }

    // ---- torrents -------------------------------------------------------------------------------------------------

    /// Adds a paused torrent. Returns `None` if a torrent with the same info hash exists.
    pub fn add(&mut self, turn: &mut Turn<'_>, spec: TorrentSpec) -> Option<TorrentKey> {
        if self.by_hash.contains_key(&spec.info_hash) {
            return None;
        }
        let known = spec.torrent_info.is_some();
        let TorrentInfo { geometry, wanted, private, info } =
            spec.torrent_info.unwrap_or_else(TorrentInfo::unknown);
        let pieces = Pieces::new(geometry, Bitfield::empty(geometry.pieces()), wanted);
        let policy = &turn.config.policy;
        let picker = Picker::new(&pieces, spec.sequential, policy, turn.rng);
        let key = self.torrents.next_key();
        self.by_hash.insert(spec.info_hash, key);
        self.by_mse_key.insert(torrent_key(&spec.info_hash.0), key);
        self.torrents.insert(Torrent {
            key,
            info_hash: spec.info_hash,
            running: false,
            private,
            metadata: if known { Metadata::of(info) } else { Metadata::Wanted(MetadataFetch::default()) },
            deferred_bitfields: DeferredBitfields::default(),
            open: false,
            picker,
            pieces,
            choker: Choker::new(policy),
            peer_list: PeerList::default(),
            trackers: TrackerList::new(spec.trackers, turn.rng),
            smart_ban: SmartBan::default(),
            pex_log: PexLog::new(turn.config.pex),
            search_due: turn.now,
            search_wait: limits::DHT_SEARCH_RETRY,
            peers: Vec::new(),
            down: TokenBucket::new(spec.download_limit),
            up: TokenBucket::new(spec.upload_limit),
            down_share: Share::default(),
            up_share: Share::default(),
            down_rate: Rate::default(),
            up_rate: Rate::default(),
            resumed_at: (0, 0),
            earlier: None,
            completed: false,
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            unsaved_bytes: 0,
            last_checkpoint: turn.now,
            saving: false,
        });
        self.learn_peers(turn, key, &spec.peers, Origin::Given);
        Some(key)
    }

    /// Resumes a paused torrent: arms the timers of its dials, announces and searches.
    pub fn resume(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| !t.running) else { return };
        t.running = true;
        if t.trackers.is_unknown() {
            t.resumed_at = (t.downloaded, t.uploaded);
        }
        t.trackers.restart();
        t.restart_search(turn.now);
        turn.timers.arm(Timer::Announce(key), turn.now);
        turn.timers.arm(Timer::Search(key), turn.now);
        if turn.config.lsd && turn.config.port != 0 {
            turn.timers.arm(Timer::Lsd, turn.now + limits::LSD_FIRST_DELAY);
        }
        turn.timers.arm(Timer::ChokeRound(key), turn.now + limits::CHOKE_ROUND);
        turn.timers.arm(Timer::Dial, turn.now);
    }

    /// Pauses a torrent: closes its connections and drops its partial pieces. Returns false if it was paused
    /// already.
    pub fn pause(&mut self, turn: &mut Turn<'_>, key: TorrentKey) -> bool {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.running) else { return false };
        t.running = false;
        for peer in t.peers.clone() {
            self.disconnect(turn, peer, DisconnectReason::Stopped);
        }
        let Some(t) = self.torrents.get_mut(key) else { return false };
        for piece in t.pieces.close_all() {
            t.picker.availability.restore(piece);
        }
        let timers = [
            Timer::Announce(key),
            Timer::Search(key),
            Timer::ChokeRound(key),
            Timer::Checkpoint(key),
            Timer::Endgame(key),
            Timer::Metadata(key),
            Timer::Pex(key),
        ];
        for timer in timers {
            turn.timers.disarm(timer);
        }
        true
    }

    /// Adds addresses to a torrent's peer list, unless the torrent must not use peers of that origin.
    pub fn learn_peers(
        &mut self,
        turn: &mut Turn<'_>,
        key: TorrentKey,
        peers: &[SocketAddr],
        origin: Origin,
    ) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.allows(origin)) else { return };
        let new = peers.iter().filter(|addr| t.peer_list.learn(turn.now, **addr, origin)).count();
        if new > 0 {
            turn.timers.arm(Timer::Dial, turn.now);
        }
    }

    /// Returns the torrent of a connection, once known.
    pub fn torrent_of(&self, key: PeerKey) -> Option<TorrentKey> {
        self.connections.get(key)?.peer.source.torrent
    }

    /// Requests blocks from every peer of the torrent that has room for more.
    pub fn top_up_all(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        if let Some(t) = self.torrents.get_mut(key).filter(|t| t.running) {
            requests::top_up_all(turn, t, &mut self.connections);
        }
    }

    /// Sends a cancel for a block to every peer that it is requested from, except `but`.
    pub fn cancel_elsewhere(&mut self, turn: &mut Turn<'_>, key: TorrentKey, block: BlockSpan, but: PeerKey) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        for key in &t.peers {
            let Some(Connection { peer, .. }) = self.connections.get_mut(*key).filter(|_| *key != but) else {
                continue;
            };
            if peer.source.requests.give_up(block) {
                t.pieces.cancel_request(block);
                peer.send(&Message::Cancel(block.into()), turn.out);
            }
        }
    }

    /// Sends PEX messages that are due.
    pub fn send_pex(&mut self, turn: &mut Turn<'_>, key: TorrentKey) {
        if let Some(t) = self.torrents.get_mut(key).filter(|t| t.running) {
            pex::send(turn, t, &mut self.connections);
        }
    }

    /// Sets our external address, as the DHT reports it.
    pub fn set_our_address(&mut self, addr: SocketAddr) {
        for (_, t) in self.torrents.iter_mut() {
            t.peer_list.set_ours(addr);
        }
    }

    // ---- rate limits ----------------------------------------------------------------------------------------------

    /// Has the caller read a connection again, if reading was paused.
    pub fn wake(&mut self, turn: &mut Turn<'_>, key: PeerKey) {
        if let Some(c) = self.connections.get_mut(key) {
            if std::mem::take(&mut c.peer.source.read_paused) {
                turn.out.push(Action::Wake { peer: key });
            }
        }
    }

    /// Fills the buckets of all limits and wakes the connections that waited for them.
    pub fn refill(&mut self, turn: &mut Turn<'_>) {
        self.down.fill(turn.now);
        self.up.fill(turn.now);
        for (_, t) in self.torrents.iter_mut() {
            t.down.fill(turn.now);
            t.up.fill(turn.now);
        }
        Share::divide(&self.down, self.torrents.iter_mut().map(|(_, t)| &mut t.down_share));
        Share::divide(&self.up, self.torrents.iter_mut().map(|(_, t)| &mut t.up_share));
        // The first connection may take all tokens of the bucket: begin with a random one.
        let mut keys: Vec<PeerKey> = self.connections.keys().collect();
        let first = turn.rng.below(keys.len());
        keys.rotate_left(first);
        for key in keys {
            self.wake(turn, key);
            if let Some(c) = self.connections.get_mut(key) {
                if std::mem::take(&mut c.peer.wire.upload_throttled) {
                    c.peer.flush(turn.out);
                }
            }
        }
        self.arm_refill(turn);
    }

    /// Arms the timer for the moment when an empty bucket has tokens again.
    pub fn arm_refill(&self, turn: &mut Turn<'_>) {
        let torrents = self.torrents.iter().flat_map(|(_, t)| [t.down.wait(), t.up.wait()]);
        let down_round = Share::wait(&self.down, self.torrents.iter().map(|(_, t)| &t.down_share));
        let up_round = Share::wait(&self.up, self.torrents.iter().map(|(_, t)| &t.up_share));
        let common = [self.down.wait(), self.up.wait(), down_round, up_round];
        let wait = common.into_iter().chain(torrents).flatten().min();
        if let Some(wait) = wait {
            turn.timers.arm(Timer::Refill, turn.now + wait);
        }
    }

    /// Arms a connection's next deadline.
    pub fn arm_peer(&self, turn: &mut Turn<'_>, key: PeerKey) {
        if let Some(c) = self.connections.get(key) {
            turn.timers.arm(Timer::Peer(key), c.peer.next_deadline());
        }
    }
}
