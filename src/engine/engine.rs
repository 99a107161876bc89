//! The engine: its public methods, the order in which its parts are called, and its deadlines.
//!
//! Each public method makes one [`Turn`](super::turn::Turn), passes it to the part concerned, and applies the
//! effects on other connections. The methods for trackers, the DHT and the local network are in
//! [`discovery`](super::discovery).

use super::action::{Actions, DialFailure, HashVerdict};
use super::bandwidth::TokenBucket;
use super::choking;
use super::config::{EngineConfig, TorrentInfo, TorrentSpec};
use super::connection_counts::ConnectionCounts;
use super::dht_client::DhtClient;
use super::dialer::Dialer;
use super::disconnect::DisconnectReason;
use super::effects::Effect;
use super::limits;
use super::lsd::Lsd;
use super::negotiation::StreamCipher;
use super::port_mapper::PortMapper;
use super::snapshots::{Checkpoint, History, PartialPiece, PeerStatus, TrackerStatus};
use super::stats::TorrentStats;
use super::stream::Want;
use super::swarms::Swarms;
use super::timers::Timer;
use super::torrent::{Picker, PiecePriority};
use super::tracker_client::TrackerClient;
use super::turn::Context;
use crate::units::{Bitfield, Instant, Origin, PeerKey, PieceIndex, TorrentKey, TransportKind};
use crate::wire::WritePlan;
use crate::wire::mse::torrent_key;
use std::net::SocketAddr;

/// A BitTorrent engine without I/O. See the [module](super) for the rules.
pub struct Engine {
    pub(super) context: Context,
    pub(super) swarms: Swarms,
    pub(super) trackers: TrackerClient,
    pub(super) dht: Option<DhtClient>,
    pub(super) lsd: Lsd,
    pub(super) port_mapper: Option<PortMapper>,
    dialer: Dialer,
}

impl Engine {
    /// Returns an engine without torrents.
    pub fn new(config: EngineConfig) -> Engine {
        Engine {
            swarms: Swarms::new(&config),
            trackers: TrackerClient::new(config.seed),
            dht: None,
            lsd: Lsd::new(config.seed),
            port_mapper: None,
            dialer: Dialer::default(),
            context: Context::new(config),
        }
    }

    // ---- torrents -------------------------------------------------------------------------------------------------

    /// Adds a torrent. It is paused until [`on_opened`](Engine::on_opened) reports the verified pieces, or
    /// until
    /// [`resume`](Engine::resume) if its metadata has to be fetched first. Returns `None` if a torrent with the same
    /// info hash exists.
    pub fn add_torrent(&mut self, now: Instant, spec: TorrentSpec) -> Option<TorrentKey> {
        let mut none = Actions::default();
        self.swarms.add(&mut self.context.turn(now, &mut none), spec)
    }

    /// The disk reported the verified pieces: the torrent starts, or continues with the peers that sent its
    /// metadata.
    pub fn on_opened(&mut self, now: Instant, key: TorrentKey, have: Bitfield, out: &mut Actions) {
        let turn = &mut self.context.turn(now, out);
        let Some(t) = self.swarms.torrents.get_mut(key).filter(|t| !t.running || !t.open) else { return };
        t.open = true;
        t.pieces.set_have(have);
        t.picker = Picker::new(&t.pieces, t.picker.is_sequential(), &turn.config.policy, turn.rng);
        self.swarms.resume(turn, key);
        self.swarms.replay_all_deferred(turn, key);
        self.apply_effects(now, out);
    }

    /// A torrent's metadata is known. The torrent continues once [`on_opened`](Engine::on_opened) reports the
    /// verified pieces; until then this may be called again, with other wanted pieces.
    pub fn on_metadata(&mut self, now: Instant, key: TorrentKey, info: TorrentInfo, out: &mut Actions) {
        let turn = &mut self.context.turn(now, out);
        if !self.swarms.on_metadata(turn, key, info) {
            return;
        }
        if let (Some(dht), Some(t)) = (&mut self.dht, self.swarms.torrents.get(key)) {
            dht.end_search(&t.info_hash);
        }
        self.swarms.drop_disallowed_peers(turn, key);
        self.apply_effects(now, out);
    }

    /// Resumes a torrent: peers are dialed, trackers are announced to.
    pub fn resume(&mut self, now: Instant, key: TorrentKey) {
        let mut none = Actions::default();
        self.swarms.resume(&mut self.context.turn(now, &mut none), key);
    }

    /// Pauses a torrent: its connections are closed, its trackers are sent `stopped`, its partial pieces are
    /// dropped.
    pub fn pause(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        self.stop_torrent(now, key, out);
        self.apply_effects(now, out);
    }

    fn stop_torrent(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let turn = &mut self.context.turn(now, out);
        if !self.swarms.pause(turn, key) {
            return;
        }
        if let Some(t) = self.swarms.torrents.get_mut(key) {
            if let Some(dht) = &mut self.dht {
                dht.end_search(&t.info_hash);
            }
            self.trackers.announce_stopped(turn, t);
        }
        self.on_tracker_outcomes(now, out);
        self.swarms.save(&mut self.context.turn(now, out), key);
    }

    /// Pauses and removes a torrent. The caller closes the torrent's resume record.
    pub fn remove_torrent(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        self.pause(now, key, out);
        self.trackers.withdraw_scrapes(Some(key));
        if let Some(t) = self.swarms.torrents.remove(key) {
            self.swarms.by_hash.remove(&t.info_hash);
            self.swarms.by_mse_key.remove(&torrent_key(&t.info_hash.0));
            self.trackers.adopt(&mut self.context.turn(now, out), t);
            self.on_tracker_outcomes(now, out);
        }
    }

    /// Pauses every torrent and closes every connection; new connections are refused.
    /// [`is_idle`](Engine::is_idle) returns true when the shutdown is complete.
    pub fn shut_down(&mut self, now: Instant, out: &mut Actions) {
        self.swarms.stopping = true;
        self.trackers.withdraw_scrapes(None);
        self.leave_dht(now, out);
        self.unmap_ports(now, out);
        self.trackers.begin_end(&mut self.context.turn(now, out));
        for key in self.swarms.torrents.keys().collect::<Vec<_>>() {
            self.stop_torrent(now, key, out);
        }
        let turn = &mut self.context.turn(now, out);
        for key in self.swarms.connections.keys().collect::<Vec<_>>() {
            self.swarms.disconnect(turn, key, DisconnectReason::Stopped);
        }
        self.apply_effects(now, out);
    }

    /// Sets the limits that all torrents share, in bytes a second; `None` is unlimited.
    pub fn set_limits(
        &mut self,
        now: Instant,
        download: Option<u64>,
        upload: Option<u64>,
        out: &mut Actions,
    ) {
        self.swarms.down = TokenBucket::new(download);
        self.swarms.up = TokenBucket::new(upload);
        self.swarms.refill(&mut self.context.turn(now, out));
    }

    /// Adds peer addresses that the user gave to a torrent.
    pub fn add_peers(&mut self, now: Instant, key: TorrentKey, peers: &[SocketAddr]) {
        let mut none = Actions::default();
        self.swarms.learn_peers(&mut self.context.turn(now, &mut none), key, peers, Origin::Given);
    }

    /// Sets the limits of one torrent, in bytes a second; `None` is unlimited.
    pub fn set_torrent_limits(
        &mut self,
        now: Instant,
        key: TorrentKey,
        down: Option<u64>,
        up: Option<u64>,
        out: &mut Actions,
    ) {
        self.swarms.set_torrent_limits(&mut self.context.turn(now, out), key, down, up);
    }

    /// Sets which pieces of a torrent are wanted, and each piece's priority; `None` sets all to normal.
    /// Partial pieces are finished in any case.
    pub fn set_wanted(
        &mut self,
        now: Instant,
        key: TorrentKey,
        wanted: Bitfield,
        priorities: Option<Box<[PiecePriority]>>,
        out: &mut Actions,
    ) {
        let turn = &mut self.context.turn(now, out);
        if self.swarms.set_wanted(turn, key, wanted, priorities) {
            self.swarms.on_complete(turn, key);
        } else {
            self.swarms.update_upload_only(turn, key);
        }
        self.apply_effects(now, out);
    }

    /// Sets whether a torrent's pieces are requested in order rather than rarest first.
    pub fn set_sequential(&mut self, key: TorrentKey, sequential: bool) {
        self.swarms.set_sequential(key, sequential);
    }

    // ---- connections ----------------------------------------------------------------------------------------------

    /// A dialed connection is established.
    pub fn on_dialed(&mut self, now: Instant, key: PeerKey, out: &mut Actions) {
        self.swarms.on_dialed(&mut self.context.turn(now, out), key);
    }

    /// A dialed connection failed.
    pub fn on_dial_failed(&mut self, now: Instant, key: PeerKey, failure: DialFailure, out: &mut Actions) {
        if self.swarms.on_dial_failed(&mut self.context.turn(now, out), &mut self.dialer, key, failure) {
            self.apply_effects(now, out);
        }
    }

    /// A peer connected to us. Returns `None` if there is no room; the caller closes the connection.
    pub fn on_accepted(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        over: TransportKind,
        out: &mut Actions,
    ) -> Option<PeerKey> {
        self.swarms.on_accepted(&mut self.context.turn(now, out), addr, over)
    }

    /// The peer closed the connection, or the network failed.
    pub fn on_lost(&mut self, now: Instant, key: PeerKey, out: &mut Actions) {
        self.swarms.remove_connection(&mut self.context.turn(now, out), key, DisconnectReason::Lost);
        self.apply_effects(now, out);
    }

    /// The network of this machine changed: closes every connection, and dials and announces again soon.
    pub fn on_network_changed(&mut self, now: Instant, out: &mut Actions) {
        let keys: Vec<PeerKey> = self.swarms.connections.keys().collect();
        for key in keys {
            let turn = &mut self.context.turn(now, out);
            self.swarms.disconnect(turn, key, DisconnectReason::NetworkChanged);
        }
        let torrents: Vec<TorrentKey> = self.swarms.torrents.keys().collect();
        for key in torrents {
            if let Some(t) = self.swarms.torrents.get_mut(key) {
                t.peer_list.retry(now);
            }
            self.reannounce(now, key, out);
        }
        self.context.turn(now, out).timers.arm(Timer::Dial, now);
        self.apply_effects(now, out);
    }

    /// Returns where the next bytes of a connection belong.
    pub fn want(&mut self, key: PeerKey) -> Want<'_> {
        self.swarms.want(key)
    }

    /// The caller has no room for the bytes that [`want`](Engine::want) named and stops reading: the peer's
    /// time-outs do not count. The caller calls [`want`](Engine::want) again without an action.
    pub fn on_held_back(&mut self, key: PeerKey) {
        self.swarms.on_held_back(key);
    }

    /// `n` bytes were read to the place that [`want`](Engine::want) named.
    ///
    /// # Errors
    /// The reason to close the connection; the engine has removed the connection already.
    pub fn got(
        &mut self,
        now: Instant,
        key: PeerKey,
        n: usize,
        out: &mut Actions,
    ) -> Result<(), DisconnectReason> {
        let result = self.swarms.got(&mut self.context.turn(now, out), key, n);
        self.apply_effects(now, out);
        result
    }

    /// Returns what the caller has to do with the bytes of a connection from now on. The caller asks before it
    /// reads and before it writes, until the answer is not [`StreamCipher::Undecided`].
    pub fn take_cipher(&mut self, key: PeerKey) -> StreamCipher {
        self.swarms.take_cipher(key)
    }

    /// Appends the next bytes to write to `plan`, with at most `payload_budget` bytes of payload. The bytes
    /// stay queued until [`sent`](Engine::sent); the next message pushes another
    /// [`Action::Flush`](super::Action::Flush).
    pub fn plan(&mut self, key: PeerKey, payload_budget: usize, plan: &mut WritePlan) {
        self.swarms.plan(key, payload_budget, plan);
    }

    /// `n` bytes of the plan were written.
    pub fn sent(&mut self, now: Instant, key: PeerKey, n: usize, out: &mut Actions) {
        self.swarms.sent(&mut self.context.turn(now, out), key, n);
    }

    // ---- pieces ---------------------------------------------------------------------------------------------------

    /// Files and memory for a piece are ready. If they could not be made ready, the torrent is paused.
    pub fn on_prepared(
        &mut self,
        now: Instant,
        key: TorrentKey,
        piece: PieceIndex,
        ready: bool,
        out: &mut Actions,
    ) {
        if ready {
            self.swarms.on_prepared(&mut self.context.turn(now, out), key, piece);
        } else {
            self.pause(now, key, out);
        }
    }

    /// A piece was hashed. The verdict counts for a paused torrent, too.
    pub fn on_hashed(
        &mut self,
        now: Instant,
        key: TorrentKey,
        piece: PieceIndex,
        verdict: &HashVerdict,
        out: &mut Actions,
    ) {
        if self.swarms.on_hashed(&mut self.context.turn(now, out), key, piece, verdict).is_break() {
            self.stop_torrent(now, key, out);
        }
        self.apply_effects(now, out);
    }

    /// Content could not be read for an upload: the torrent is paused.
    pub fn on_unreadable(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        self.pause(now, key, out);
    }

    /// The record that says that `completed` is announced ([`History::completed`]) is on stable storage: sends
    /// it. Or, if not `saved`, the record could not be written: `completed` is not sent.
    pub fn on_completed_saved(&mut self, now: Instant, key: TorrentKey, saved: bool, out: &mut Actions) {
        let turn = &mut self.context.turn(now, out);
        let Some(t) = self.swarms.torrents.get_mut(key) else { return };
        t.trackers.on_completed_saved(saved);
        if t.running {
            self.trackers.announce(turn, t);
        } else {
            self.trackers.send_last(turn, t);
        }
        self.on_tracker_outcomes(now, out);
    }

    /// Takes over what the record of earlier runs says about the torrent. Only the first call counts. The caller
    /// calls it before [`on_opened`](Engine::on_opened).
    pub fn on_history(&mut self, key: TorrentKey, history: History) {
        if let Some(t) = self.swarms.torrents.get_mut(key).filter(|t| t.earlier.is_none()) {
            t.earlier = Some((history.downloaded, history.uploaded));
            t.completed |= history.completed;
        }
    }

    /// A checkpoint is on stable storage, or failed.
    pub fn on_saved(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        self.swarms.on_saved(&mut self.context.turn(now, out), key);
    }

    // ---- effects and time -----------------------------------------------------------------------------------------

    /// Applies the queued effects.
    pub(super) fn apply_effects(&mut self, now: Instant, out: &mut Actions) {
        while let Some(effect) = self.context.effects.pop() {
            let turn = &mut self.context.turn(now, out);
            match effect {
                Effect::Cancel { torrent, block, but } => {
                    self.swarms.cancel_elsewhere(turn, torrent, block, but);
                }
                Effect::Hash { torrent, piece } => self.swarms.hash(turn, torrent, piece),
                Effect::TopUp { torrent } => self.swarms.top_up_all(turn, torrent),
                Effect::FillSlots { torrent } => {
                    if let Some(t) = self.swarms.torrents.get(torrent).filter(|t| t.running) {
                        choking::fill_slots(turn, t, &mut self.swarms.connections);
                    }
                }
                Effect::AskMetadata { torrent } => self.swarms.ask_metadata(turn, torrent),
                Effect::Metadata { torrent } => self.swarms.check_metadata(turn, torrent),
                Effect::Node { addr } => self.on_dht_port(now, addr, out),
                Effect::Pex { torrent } => {
                    turn.timers.arm(Timer::Pex(torrent), now + limits::PEX_FIRST_DELAY);
                }
                Effect::Introduce { torrent, asker, target } => {
                    self.swarms.introduce(turn, torrent, asker, target);
                }
                Effect::Dial => turn.timers.arm(Timer::Dial, now),
            }
        }
    }

    /// Returns when [`on_deadline`](Engine::on_deadline) has to be called next.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        self.context.timers.next()
    }

    /// Handles every deadline that has passed.
    pub fn on_deadline(&mut self, now: Instant, out: &mut Actions) {
        while let Some(timer) = self.context.timers.due(now) {
            let turn = &mut self.context.turn(now, out);
            match timer {
                Timer::Peer(key) => self.swarms.on_peer_deadline(turn, key),
                Timer::ChokeRound(key) => {
                    if let Some(t) = self.swarms.torrents.get_mut(key).filter(|t| t.running) {
                        choking::choke_round(turn, t, &mut self.swarms.connections);
                    }
                }
                Timer::Checkpoint(key) => self.swarms.save(turn, key),
                Timer::Endgame(key) => self.swarms.top_up_all(turn, key),
                Timer::Metadata(key) => self.swarms.ask_metadata(turn, key),
                Timer::Pex(key) => self.swarms.send_pex(turn, key),
                Timer::Dial => self.swarms.dial(turn, &mut self.dialer),
                Timer::Refill => self.swarms.refill(turn),
                Timer::Announce(key) => self.announce(now, key, out),
                Timer::UdpTracker | Timer::Scrape | Timer::TrackerEnd => {
                    self.on_tracker_deadline(now, timer, out);
                }
                Timer::Search(key) => self.search_dht(now, key, out),
                Timer::Dht | Timer::JoinDht | Timer::KeepNodes => self.on_dht_deadline(now, timer, out),
                Timer::PortMapping => self.on_mapping_deadline(now, out),
                Timer::KeyExchange => self.swarms.compute_secrets(turn),
                Timer::Lsd => self.lsd.announce(turn, &self.swarms.torrents),
            }
        }
        self.apply_effects(now, out);
    }

    // ---- queries --------------------------------------------------------------------------------------------------

    /// Returns whether nothing is under way: no connection, no announce or scrape without an answer.
    pub fn is_idle(&self) -> bool {
        let is_unmapping = self.port_mapper.as_ref().is_some_and(PortMapper::is_unmapping);
        self.swarms.connections.is_empty() && self.trackers.is_idle() && !is_unmapping
    }

    /// Returns what a torrent's resume record has to hold.
    pub fn checkpoint(&self, key: TorrentKey) -> Option<Checkpoint> {
        let t = self.swarms.torrents.get(key)?;
        let (downloaded, uploaded) = t.totals();
        let history = History { completed: t.completed, downloaded, uploaded };
        Some(Checkpoint { have: t.pieces.have().clone(), history })
    }

    /// Returns a torrent's verified pieces.
    pub fn have(&self, key: TorrentKey) -> Option<&Bitfield> {
        self.swarms.torrents.get(key).map(|t| t.pieces.have())
    }

    /// Returns the keys of all torrents.
    #[cfg(feature = "fuzzing")]
    pub fn torrents(&self) -> impl Iterator<Item = TorrentKey> + '_ {
        self.swarms.torrents.keys()
    }

    /// Returns the torrent of a connection, once known.
    pub fn torrent_of(&self, peer: PeerKey) -> Option<TorrentKey> {
        self.swarms.torrent_of(peer)
    }

    /// Returns the number of connections, those without a handshake included.
    #[cfg(test)]
    pub fn connections(&self) -> usize {
        self.swarms.connections.len()
    }

    /// Returns how far all connection attempts came.
    pub fn connection_counts(&self) -> ConnectionCounts {
        self.swarms.counts
    }

    /// Returns the statistics of a torrent's peers that sent their handshakes.
    pub fn peer_stats(&self, now: Instant, key: TorrentKey) -> Option<Vec<PeerStatus>> {
        self.swarms.peer_stats(now, key)
    }

    /// Returns the state of a torrent's trackers, tier by tier.
    pub fn tracker_stats(&self, now: Instant, key: TorrentKey) -> Option<Vec<TrackerStatus>> {
        self.swarms.torrents.get(key).map(|t| t.trackers.stats(now))
    }

    /// Returns a torrent's pieces of which blocks are requested or have arrived.
    pub fn partial_pieces(&self, key: TorrentKey) -> Option<Vec<PartialPiece>> {
        self.swarms.partial_pieces(key)
    }

    /// Returns the statistics of a torrent.
    pub fn stats(&self, now: Instant, key: TorrentKey) -> Option<TorrentStats> {
        self.swarms.stats(now, key)
    }
}
