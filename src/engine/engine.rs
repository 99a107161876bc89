//! The engine itself: torrents, connections, timers, and the facts that are not about a stream.
//!
//! Dialing and hanging up live in `dialing`, streams in `stream`, `messages` and `asking`, pieces' fates in `verdicts`, slots in
//! `uploads`, trackers in `tracker_client`; here are torrents' lives, limits and deadlines.

use super::action::{Action, Actions};
use super::bandwidth::TokenBucket;
use super::deferred::DeferredBitfields;
use super::dht_client::DhtClient;
use super::disconnect::DisconnectReason;
use super::limits;
use super::lsd::Lsd;
use super::peer::{Connection, Peer, Phase};
use super::policy::Policy;
use super::stats::{SlowReason, TorrentStats};
use super::timers::{Timer, Timers};
use super::torrent::{
    Activity, Choker, Metadata, MetadataFetch, PeerList, PexLog, Picker, Pieces, SmartBan, Torrent, TrackerList,
};
use super::tracker_client::TrackerClient;
use crate::units::{
    Bitfield, BlockSpan, Geometry, InfoHash, Instant, Origin, PeerId, PeerKey, PieceIndex, Rate, Rng, SlotMap, TorrentKey,
};
use crate::wire::Message;
use std::collections::BTreeMap;
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

/// Something that one connection's turn means for others, done when that turn is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Others need not send this block any more.
    Cancel { torrent: TorrentKey, block: BlockSpan, but: PeerKey },
    /// Every block of the piece has arrived.
    Hash { torrent: TorrentKey, piece: PieceIndex },
    /// Peers may have gained a piece or a block to be asked for.
    TopUp { torrent: TorrentKey },
    /// A slot may be given away.
    FillSlots { torrent: TorrentKey },
    /// Somebody may be asked for metadata.
    AskMetadata { torrent: TorrentKey },
    /// The last piece of metadata came.
    Metadata { torrent: TorrentKey },
    /// A peer says that there is a node of the DHT at its address.
    Node { addr: SocketAddr },
    /// Peers are to be told of others.
    Pex { torrent: TorrentKey },
    /// There may be somebody new to dial.
    Dial,
}

/// The decisions. See the [module](super) for the rules.
pub struct Engine {
    pub(super) config: EngineConfig,
    pub(super) torrents: SlotMap<TorrentKey, Torrent>,
    pub(super) by_hash: BTreeMap<InfoHash, TorrentKey>,
    pub(super) connections: SlotMap<PeerKey, Connection>,
    pub(super) timers: Timers,
    pub(super) rng: Rng,
    pub(super) down: TokenBucket,
    pub(super) up: TokenBucket,
    pub(super) tracker_client: TrackerClient,
    pub(super) dht_client: Option<DhtClient>,
    pub(super) local: Lsd,
    /// So far the dials that were made would reach at their long-run rate; ahead of now after a burst.
    pub(super) dials_spent_until: Instant,
    pub(super) half_open: usize,
    pub(super) next_to_dial: usize,
    pub(super) effects: Vec<Effect>,
    pub(super) stopping: bool,
}

impl Engine {
    /// An engine without torrents.
    pub fn new(config: EngineConfig) -> Engine {
        let (down, up) = (TokenBucket::new(config.download_limit), TokenBucket::new(config.upload_limit));
        Engine {
            rng: Rng::new(config.seed),
            tracker_client: TrackerClient::new(config.seed),
            dht_client: None,
            local: Lsd::new(config.seed),
            config,
            torrents: SlotMap::default(),
            by_hash: BTreeMap::new(),
            connections: SlotMap::default(),
            timers: Timers::default(),
            down,
            up,
            dials_spent_until: Instant::ZERO,
            half_open: 0,
            next_to_dial: 0,
            effects: Vec::new(),
            stopping: false,
        }
    }

    // ---- torrents -------------------------------------------------------------------------------------------------

    /// Takes a torrent in; it rests until [`on_opened`](Engine::on_opened) says what of it is there, or until
    /// [`resume`](Engine::resume), if its metadata must be got first. `None` if it is here already.
    pub fn add_torrent(&mut self, now: Instant, spec: TorrentSpec) -> Option<TorrentKey> {
        if self.by_hash.contains_key(&spec.info_hash) {
            return None;
        }
        let known = spec.shape.is_some();
        let TorrentInfo { geometry, wanted, private, info } = spec.shape.unwrap_or_else(TorrentInfo::unknown);
        let pieces = Pieces::new(geometry, Bitfield::empty(geometry.pieces()), wanted);
        let policy = &self.config.policy;
        let picker = Picker::new(&pieces, spec.sequential, policy, &mut self.rng);
        let key = self.torrents.next_key();
        self.by_hash.insert(spec.info_hash, key);
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
            trackers: TrackerList::new(spec.trackers, &mut self.rng),
            smart_ban: SmartBan::default(),
            pex_log: PexLog::new(self.config.pex),
            search_due: now,
            search_wait: limits::DHT_SEARCH_RETRY,
            peers: Vec::new(),
            down: TokenBucket::new(spec.download_limit),
            up: TokenBucket::new(spec.upload_limit),
            down_rate: Rate::default(),
            up_rate: Rate::default(),
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            unsaved_bytes: 0,
            last_checkpoint: now,
            saving: false,
        });
        self.learn_peers(now, key, &spec.peers, Origin::Given);
        Some(key)
    }

    /// The disk says which pieces are there and good: the torrent begins, or goes on with the peers that brought its metadata.
    pub fn on_opened(&mut self, now: Instant, key: TorrentKey, have: Bitfield, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| !t.running || !t.open) else { return };
        t.open = true;
        t.pieces.set_have(have);
        t.picker = Picker::new(&t.pieces, t.picker.is_sequential(), &self.config.policy, &mut self.rng);
        self.resume(now, key);
        self.replay_all_deferred(now, key, out);
    }

    /// The torrent runs: peers are dialed and trackers asked.
    pub fn resume(&mut self, now: Instant, key: TorrentKey) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| !t.running) else { return };
        t.running = true;
        t.trackers.restart();
        t.restart_search(now);
        self.timers.arm(Timer::Announce(key), now);
        self.timers.arm(Timer::Search(key), now);
        self.arm_lsd(now);
        self.timers.arm(Timer::ChokeRound(key), now + limits::CHOKE_ROUND);
        self.timers.arm(Timer::Dial, now);
    }

    /// The torrent rests: peers are let go, trackers told. What was half-done is forgotten.
    pub fn pause(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        self.stop_torrent(now, key, out);
        self.apply_effects(now, out);
    }

    pub(super) fn stop_torrent(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.running) else { return };
        t.running = false;
        let info_hash = t.info_hash;
        for peer in t.peers.clone() {
            self.disconnect(now, peer, DisconnectReason::Stopped, out);
        }
        let Some(t) = self.torrents.get_mut(key) else { return };
        for piece in t.pieces.close_all() {
            t.picker.availability.restore(piece);
        }
        self.end_search(&info_hash);
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
            self.timers.disarm(timer);
        }
        self.announce_stopped(now, key, out);
        self.save(now, key, out);
    }

    /// The torrent goes, after its last words to peers and trackers. Its record is the caller's to close.
    pub fn remove_torrent(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        self.pause(now, key, out);
        self.withdraw_scrapes(Some(key));
        if let Some(t) = self.torrents.remove(key) {
            self.by_hash.remove(&t.info_hash);
        }
    }

    /// Every torrent rests, nobody is let in any more. Then [`is_idle`](Engine::is_idle) soon says yes.
    pub fn shut_down(&mut self, now: Instant, out: &mut Actions) {
        self.stopping = true;
        self.withdraw_scrapes(None);
        self.leave_dht(now, out);
        for key in self.torrents.keys().collect::<Vec<_>>() {
            self.stop_torrent(now, key, out);
        }
        for key in self.connections.keys().collect::<Vec<_>>() {
            self.disconnect(now, key, DisconnectReason::Stopped, out);
        }
        self.apply_effects(now, out);
    }

    /// Whether nothing is under way: no connection, no answer awaited.
    pub fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.tracker_client.is_idle()
    }

    /// New limits of all torrents together, in bytes a second.
    pub fn set_limits(&mut self, now: Instant, download: Option<u64>, upload: Option<u64>, out: &mut Actions) {
        self.down = TokenBucket::new(download);
        self.up = TokenBucket::new(upload);
        self.refill(now, out);
    }

    /// Addresses from elsewhere: the command line, another network.
    pub fn add_peers(&mut self, now: Instant, key: TorrentKey, peers: &[SocketAddr]) {
        self.learn_peers(now, key, peers, Origin::Given);
    }

    pub(super) fn learn_peers(&mut self, now: Instant, key: TorrentKey, peers: &[SocketAddr], origin: Origin) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.allows(origin)) else { return };
        let new = peers.iter().filter(|addr| t.peer_list.learn(now, **addr, origin)).count();
        if new > 0 {
            self.timers.arm(Timer::Dial, now);
        }
    }

    // ---- effects and limits ---------------------------------------------------------------------------------------

    pub(super) fn apply_effects(&mut self, now: Instant, out: &mut Actions) {
        while let Some(effect) = self.effects.pop() {
            match effect {
                Effect::Cancel { torrent, block, but } => self.cancel_elsewhere(torrent, block, but, out),
                Effect::Hash { torrent, piece } => {
                    let digests = self.torrents.get(torrent).is_some_and(|t| t.smart_ban.is_suspect(piece));
                    out.push(Action::Hash { torrent, piece, digests });
                }
                Effect::TopUp { torrent } => self.top_up_all(now, torrent, out),
                Effect::FillSlots { torrent } => self.fill_slots(now, torrent, out),
                Effect::AskMetadata { torrent } => self.ask_metadata(now, torrent, out),
                Effect::Metadata { torrent } => self.check_metadata(now, torrent, out),
                Effect::Node { addr } => self.on_dht_port(now, addr, out),
                Effect::Pex { torrent } => self.arm_pex(now, torrent),
                Effect::Dial => self.timers.arm(Timer::Dial, now),
            }
        }
    }

    fn cancel_elsewhere(&mut self, torrent: TorrentKey, block: BlockSpan, but: PeerKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        for key in &t.peers {
            let Some(Connection { peer, .. }) = self.connections.get_mut(*key).filter(|_| *key != but) else { continue };
            if peer.requests.give_up(block) {
                t.pieces.cancel_request(block);
                peer.say(&Message::Cancel(block.into()), out);
            }
        }
    }

    pub(super) fn wake(&mut self, key: PeerKey, out: &mut Actions) {
        if let Some(c) = self.connections.get_mut(key) {
            if std::mem::take(&mut c.peer.read_paused) {
                out.push(Action::Wake { peer: key });
            }
        }
    }

    pub(super) fn refill(&mut self, now: Instant, out: &mut Actions) {
        self.down.fill(now);
        self.up.fill(now);
        for (_, t) in self.torrents.iter_mut() {
            t.down.fill(now);
            t.up.fill(now);
        }
        // Whoever comes first may take all there is: somebody else every time.
        let mut keys: Vec<PeerKey> = self.connections.keys().collect();
        let first = self.rng.below(keys.len());
        keys.rotate_left(first);
        for key in keys {
            self.wake(key, out);
            if let Some(c) = self.connections.get_mut(key) {
                if std::mem::take(&mut c.peer.upload_throttled) {
                    c.peer.flush(out);
                }
            }
        }
        self.arm_refill(now);
    }

    /// Wakes when a bucket that is empty has something again.
    pub(super) fn arm_refill(&mut self, now: Instant) {
        let torrents = self.torrents.iter().flat_map(|(_, t)| [t.down.wait(), t.up.wait()]);
        let wait = [self.down.wait(), self.up.wait()].into_iter().chain(torrents).flatten().min();
        if let Some(wait) = wait {
            self.timers.arm(Timer::Refill, now + wait);
        }
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    /// When [`on_deadline`](Engine::on_deadline) wants to be called next.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        self.timers.next()
    }

    /// Time has come for something.
    pub fn on_deadline(&mut self, now: Instant, out: &mut Actions) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Peer(key) => self.on_peer_deadline(now, key, out),
                Timer::ChokeRound(key) => self.choke_round(now, key, out),
                Timer::Announce(key) => self.announce(now, key, out),
                Timer::Checkpoint(key) => self.save(now, key, out),
                Timer::Endgame(key) => self.top_up_all(now, key, out),
                Timer::Metadata(key) => self.ask_metadata(now, key, out),
                Timer::Pex(key) => self.send_pex(now, key, out),
                Timer::Search(key) => self.search(now, key, out),
                Timer::Dht => self.on_dht_deadline(now, out),
                Timer::JoinDht => self.bootstrap_dht(now, out),
                Timer::KeepNodes => self.keep_nodes(now, out),
                Timer::Dial => self.dial(now, out),
                Timer::Refill => self.refill(now, out),
                Timer::UdpTracker => self.on_udp_deadline(now, out),
                Timer::Scrape => self.on_scrape_deadline(now, out),
                Timer::Lsd => self.call(now, out),
            }
        }
        self.apply_effects(now, out);
    }

    fn on_peer_deadline(&mut self, now: Instant, key: PeerKey, out: &mut Actions) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        if peer.is_held_back() {
            peer.reset_timeouts(now);
        }
        let close = match peer.phase {
            Phase::Connecting => (now >= peer.since + limits::CONNECT_TIMEOUT).then_some(DisconnectReason::ConnectTimeout),
            Phase::Handshaking => (now >= peer.since + limits::HANDSHAKE_TIMEOUT).then_some(DisconnectReason::HandshakeTimeout),
            Phase::Up if now >= peer.last_in + limits::IDLE_TIMEOUT => Some(DisconnectReason::Idle),
            Phase::Up if now >= peer.block_due() => Some(DisconnectReason::Stalled),
            Phase::Up if now >= peer.uninteresting_at() => Some(DisconnectReason::Uninteresting),
            Phase::Up => None,
        };
        if let Some(close) = close {
            return self.disconnect(now, key, close, out);
        }
        if peer.phase == Phase::Up {
            if now >= peer.last_out + limits::KEEP_ALIVE {
                peer.last_out = now;
                peer.say(&Message::KeepAlive, out);
            }
            if now >= peer.requests.snub_at() {
                let (torrent, given_up) = (peer.torrent, peer.requests.snub());
                self.release_requests(torrent, &given_up);
                if let Some(torrent) = torrent {
                    if let Some(t) = self.torrents.get_mut(torrent) {
                        t.pieces.clear_owner(key);
                    }
                    self.top_up_all(now, torrent, out);
                }
            }
        }
        self.arm_peer(key);
    }

    pub(super) fn arm_peer(&mut self, key: PeerKey) {
        if let Some(c) = self.connections.get(key) {
            self.timers.arm(Timer::Peer(key), c.peer.next_deadline());
        }
    }

    // ---- questions ------------------------------------------------------------------------------------------------

    /// The torrent's verified pieces.
    pub fn have(&self, key: TorrentKey) -> Option<&Bitfield> {
        self.torrents.get(key).map(|t| t.pieces.have())
    }

    /// Every torrent.
    pub fn torrents(&self) -> impl Iterator<Item = TorrentKey> + '_ {
        self.torrents.keys()
    }

    /// The torrent that this connection is about, once known.
    pub fn torrent_of(&self, peer: PeerKey) -> Option<TorrentKey> {
        self.connections.get(peer)?.peer.torrent
    }

    /// Connections in all.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How the torrent is doing.
    pub fn stats(&self, now: Instant, key: TorrentKey) -> Option<TorrentStats> {
        let t = self.torrents.get(key)?;
        let up: Vec<&Peer> =
            t.peers.iter().filter_map(|p| self.connections.get(*p)).map(|c| &c.peer).filter(|p| p.phase == Phase::Up).collect();
        let (wanted_bytes, have_bytes) = t.pieces.wanted_bytes();
        let limited = self.down.wait().is_some() || t.down.wait().is_some();
        let slow = match t.activity() {
            Activity::Leeching | Activity::Opening if up.is_empty() => Some(SlowReason::NoPeers),
            Activity::Leeching if limited => Some(SlowReason::OwnLimit),
            Activity::Leeching if !up.iter().any(|p| p.we_want) => Some(SlowReason::NothingToGet),
            Activity::Leeching if up.iter().all(|p| p.they_choke || !p.we_want) => Some(SlowReason::Choked),
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
            seeds: up.iter().filter(|p| p.has.is_full()).count(),
            peers_by_origin: Origin::ALL.map(|origin| up.iter().filter(|p| p.origin == origin).count()),
            known_peers: t.peer_list.len(),
            complete: t.pieces.missing() == 0 && !t.metadata.is_wanted(),
            running: t.running,
            slow,
        })
    }
}
