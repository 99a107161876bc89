//! Finding peers without a tracker: when the engine joins the DHT, what it asks of it, and what it makes of the answers (BEP 5).
//!
//! ```text
//!   nobody known ──nodes of an earlier run, of torrents and peers──▶ somebody answers ──▶ joined
//!        │  ▲                                                                               │  every torrent is searched for, and
//!        │  └──────────────────────── everybody fell silent ◀───────────────────────────────┘  announced, at once and every 15 min
//!        └──still nobody──▶ names are looked up and asked: routers, or nodes that the user knows
//! ```
//!
//! How lookups go is the [`dht`](super::dht)'s business. A private torrent is never searched for, and no peer of one is told of our node
//! or believed about theirs (BEP 27). Searches begin one after the other, so that a thousand torrents do not speak at once. A torrent that
//! lacks something and has no peer is searched for again after 5 s, 10 s, 20 s …

use super::action::{Action, Actions};
use super::dht::{Announce, Dht, DhtAction, DhtConfig, DhtStats};
use super::engine::Engine;
use super::limits;
use super::peer::Phase;
use super::timers::Timer;
use crate::units::{InfoHash, Instant, Origin, PeerKey, TorrentKey};
use crate::wire::SwarmCounts;
use crate::wire::compact::torrent_may_name;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How an engine takes part in the DHT.
#[derive(Clone, Debug, Default)]
pub struct DhtSetup {
    /// The UDP port that our node is reached at.
    pub port: u16,
    /// Where its choices and secrets come from: nobody else may know it.
    pub seed: u64,
    /// Ask, and never answer (BEP 43).
    pub read_only: bool,
    /// Nodes of an earlier run, those that answered last in front.
    pub nodes: Vec<SocketAddr>,
    /// Host and port of nodes to start from. They are looked up only if no other node answers.
    pub named: Vec<(String, u16)>,
    /// The same of nodes that live for nothing else: they are asked for others, and not made a part of anything.
    pub routers: Vec<(String, u16)>,
}

/// What a looked-up name is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeRole {
    Router,
    Node,
    /// A node that a torrent file names: a stranger's word.
    OfFile,
}

/// The engine's node, and what is still to be done for it.
#[derive(Debug)]
pub(super) struct DhtClient {
    dht: Dht,
    port: u16,
    read_only: bool,
    /// Nodes that may be there and were not asked yet; the last one is next.
    untried: Vec<SocketAddr>,
    /// Some of an earlier run that may be there, asked or not.
    earlier: Vec<SocketAddr>,
    /// Names to look up when nobody is known.
    names: Vec<(String, u16, NodeRole)>,
    looking_up: BTreeMap<u64, NodeRole>,
    /// The user named a node on this machine's loopback.
    on_loopback: bool,
    /// When that may be, and the wait until the next time.
    names_at: Instant,
    retry: Duration,
    /// Somebody answers.
    joined: bool,
    next_search: Instant,
    /// Torrents that are to be counted, and the questions that this answers.
    scrapes: BTreeMap<InfoHash, u64>,
    out: Vec<DhtAction>,
}

impl Engine {
    /// Joins the DHT. Torrents that run are searched for as soon as somebody answers.
    pub fn join_dht(&mut self, now: Instant, setup: DhtSetup, out: &mut Actions) {
        let DhtSetup { port, seed, read_only, nodes, named, routers } = setup;
        let as_role = |names: Vec<(String, u16)>, role| names.into_iter().map(move |(host, port)| (host, port, role));
        let is_loopback = |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        let on_loopback = named.iter().chain(&routers).any(|(host, _)| is_loopback(host));
        let earlier = nodes.iter().take(limits::DHT_SAVED_NODES_MIN).copied().collect();
        let untried: Vec<SocketAddr> = nodes.into_iter().rev().collect();
        let nobody = untried.is_empty();
        self.dht_client = Some(DhtClient {
            dht: Dht::new(now, DhtConfig { seed, port, read_only }),
            port,
            read_only,
            untried,
            earlier,
            // Who may be there has a while before anybody else is bothered.
            names_at: now + if nobody { Duration::ZERO } else { limits::DHT_PING_INTERVAL },
            names: as_role(named, NodeRole::Node).chain(as_role(routers, NodeRole::Router)).collect(),
            looking_up: BTreeMap::new(),
            on_loopback,
            joined: false,
            retry: limits::DHT_BOOTSTRAP_RETRY,
            next_search: now,
            scrapes: BTreeMap::new(),
            out: Vec::new(),
        });
        self.timers.arm(Timer::KeepNodes, now + limits::DHT_SAVE_INTERVAL);
        self.bootstrap_dht(now, out);
    }

    /// Leaves the DHT, and keeps what it knows for the next run.
    pub(super) fn leave_dht(&mut self, now: Instant, out: &mut Actions) {
        self.keep_nodes(now, out);
        self.dht_client = None;
        [Timer::Dht, Timer::JoinDht, Timer::KeepNodes].into_iter().for_each(|timer| self.timers.disarm(timer));
    }

    /// Figures of our node, if there is one.
    pub fn dht_stats(&self, now: Instant) -> Option<DhtStats> {
        self.dht_client.as_ref().map(|f| f.dht.stats(now))
    }

    /// The port of our node, if others may ask it.
    pub(super) fn dht_port(&self) -> Option<u16> {
        self.dht_client.as_ref().filter(|f| !f.read_only).map(|f| f.port)
    }

    // ---- a start ------------------------------------------------------------------------------------------------------

    /// Nobody is known, or few: asks those who may be there, some at a time, and looks names up when there is no other way.
    pub(super) fn bootstrap_dht(&mut self, now: Instant, out: &mut Actions) {
        let Some(f) = &mut self.dht_client else { return };
        if f.dht.known_nodes() >= limits::DHT_K {
            return;
        }
        let some = f.untried.len().saturating_sub(limits::DHT_PINGS_AT_ONCE);
        for node in f.untried.split_off(some) {
            f.dht.add_node(now, node, &mut f.out);
        }
        if !f.untried.is_empty() {
            self.timers.arm(Timer::JoinDht, now + limits::DHT_PING_INTERVAL);
        }
        if f.dht.known_nodes() == 0 && !f.names.is_empty() {
            if now >= f.names_at && f.looking_up.is_empty() {
                (f.names_at, f.retry) = (now + f.retry, (f.retry * 2).min(limits::DHT_BOOTSTRAP_MAX));
                for (host, port, role) in &f.names {
                    let id = self.tracker_client.new_id();
                    f.looking_up.insert(id, *role);
                    out.push(Action::Resolve { id, host: host.clone(), port: *port });
                }
            }
            self.timers.arm(Timer::JoinDht, f.names_at.max(now + limits::DHT_PING_INTERVAL));
        }
        self.run_dht_actions(now, out);
    }

    /// Nodes that a torrent file names by host and port (BEP 5 `nodes`): they may be there. One on this machine's own
    /// loopback is believed only where the user has named one there, too.
    pub fn add_nodes(&mut self, named: &[(String, u16)], out: &mut Actions) {
        let Some(f) = &mut self.dht_client else { return };
        for (host, port) in named.iter().take(limits::DHT_ROUTERS) {
            let id = self.tracker_client.new_id();
            f.looking_up.insert(id, NodeRole::OfFile);
            out.push(Action::Resolve { id, host: host.clone(), port: *port });
        }
    }

    /// A name was looked up; false if it was none of ours.
    pub(super) fn on_node_resolved(&mut self, now: Instant, id: u64, found: &[SocketAddr], out: &mut Actions) -> bool {
        let Some(f) = &mut self.dht_client else { return false };
        let Some(role) = f.looking_up.remove(&id) else { return false };
        for addr in found {
            match role {
                NodeRole::Router => f.dht.add_router(now, *addr),
                NodeRole::Node => f.dht.add_node(now, *addr, &mut f.out),
                NodeRole::OfFile => {
                    if torrent_may_name(addr.ip()) || (f.on_loopback && addr.ip().is_loopback()) {
                        f.dht.add_node(now, *addr, &mut f.out);
                    }
                }
            }
        }
        self.run_dht_actions(now, out);
        true
    }

    /// A peer says that there is a node at its address.
    pub(super) fn on_dht_port(&mut self, now: Instant, node: SocketAddr, out: &mut Actions) {
        if let Some(f) = &mut self.dht_client {
            f.dht.add_node(now, node, &mut f.out);
            self.run_dht_actions(now, out);
        }
    }

    /// Those who answer are asked first at the next start. A run that was too short to get to know many leaves some of an earlier run
    /// behind them.
    pub(super) fn keep_nodes(&mut self, now: Instant, out: &mut Actions) {
        let Some(f) = &mut self.dht_client else { return };
        let mut nodes: Vec<SocketAddr> = f.dht.nodes(now).into_iter().map(|(_, addr)| addr).collect();
        if !nodes.is_empty() {
            self.rng.shuffle(&mut nodes);
            let few = limits::DHT_SAVED_NODES_MIN.saturating_sub(nodes.len());
            let others: Vec<SocketAddr> = f.earlier.iter().filter(|node| !nodes.contains(node)).take(few).copied().collect();
            nodes.extend(others);
            out.push(Action::KeepNodes { nodes });
            // Others do answer: whoever was asked by now and does not until the next time is gone.
            f.earlier.retain(|node| f.untried.contains(node));
        }
        self.timers.arm(Timer::KeepNodes, now + limits::DHT_SAVE_INTERVAL);
    }

    // ---- searches -----------------------------------------------------------------------------------------------------

    /// Searches for a torrent's peers and announces us, if it is time or nobody is there whom it needs; comes back in a while.
    pub(super) fn search(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        // However many torrents look again soon: each other one has its turn in between.
        let turns = limits::DHT_SEARCH_SPACING * 2 * self.torrents.len() as u32;
        let Some(f) = self.dht_client.as_mut().filter(|f| f.joined) else { return };
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.running && t.allows(Origin::Dht)) else { return };
        let is_up = |peer: &PeerKey| self.connections.get(*peer).is_some_and(|c| c.peer.phase == Phase::Up);
        let alone = !t.is_upload_only() && !t.peers.iter().any(is_up);
        if alone || t.search_due <= now {
            if now < f.next_search || !f.dht.has_room() {
                return self.timers.arm(Timer::Search(key), f.next_search.max(now + limits::DHT_SEARCH_SPACING));
            }
            f.next_search = now + limits::DHT_SEARCH_SPACING;
            let announce = (self.config.port != 0).then_some(Announce { port: self.config.port, seed: t.is_upload_only() });
            f.dht.search(now, t.info_hash, announce, &mut f.out);
            t.search_due = now + limits::DHT_SEARCH_INTERVAL;
        }
        let wait = t.search_wait.max(turns);
        t.search_wait = (2 * wait).min(limits::DHT_SEARCH_INTERVAL);
        self.timers.arm(Timer::Search(key), t.search_due.min(now + wait));
        self.run_dht_actions(now, out);
    }

    /// Whether a torrent can be counted in the DHT.
    pub(super) fn can_scrape_dht(&self, key: TorrentKey) -> bool {
        self.dht_client.is_some() && self.torrents.get(key).is_some_and(|t| t.allows(Origin::Dht))
    }

    /// Counts a torrent in the DHT, as soon as somebody answers there: the answer to this question.
    pub(super) fn scrape_dht(&mut self, now: Instant, id: u64, info_hash: InfoHash, out: &mut Actions) {
        let Some(f) = &mut self.dht_client else { return };
        f.scrapes.insert(info_hash, id);
        if f.joined {
            f.dht.scrape(now, info_hash, &mut f.out);
        }
        self.run_dht_actions(now, out);
    }

    /// A torrent's peers are not looked for any more.
    pub(super) fn end_search(&mut self, info_hash: &InfoHash) {
        if let Some(f) = &mut self.dht_client {
            f.dht.forget(*info_hash);
        }
    }

    /// A datagram that is the DHT's, if we are in it; false if it is somebody else's.
    pub(super) fn on_dht_datagram(&mut self, now: Instant, from: SocketAddr, packet: &[u8], out: &mut Actions) -> bool {
        let Some(f) = &mut self.dht_client else { return false };
        let taken = f.dht.on_datagram(now, from, packet, &mut f.out);
        if taken {
            self.run_dht_actions(now, out);
        }
        taken
    }

    pub(super) fn on_dht_deadline(&mut self, now: Instant, out: &mut Actions) {
        if let Some(f) = &mut self.dht_client {
            f.dht.on_deadline(now, &mut f.out);
            self.run_dht_actions(now, out);
        }
    }

    /// What the DHT wants is done or passed on, and its next deadline is ours.
    fn run_dht_actions(&mut self, now: Instant, out: &mut Actions) {
        let Some(f) = &mut self.dht_client else { return };
        let joined_before = std::mem::replace(&mut f.joined, f.dht.known_nodes() > 0);
        let (joined, mut wanted) = (f.joined, std::mem::take(&mut f.out));
        self.timers.arm(Timer::Dht, f.dht.next_deadline());
        for action in wanted.drain(..) {
            match action {
                DhtAction::Send { to, bytes } => out.push(Action::Datagram { to, bytes: bytes.into_vec() }),
                DhtAction::Peers { info_hash, peers } => {
                    if let Some(key) = self.by_hash.get(&info_hash) {
                        self.learn_peers(now, *key, &peers, Origin::Dht);
                    }
                }
                DhtAction::Done { .. } => {}
                DhtAction::Scraped { info_hash, seeds, peers } => {
                    if let Some(id) = self.dht_client.as_mut().and_then(|f| f.scrapes.remove(&info_hash)) {
                        let counts = SwarmCounts { seeds: Some(seeds), peers: Some(peers), completed: None };
                        self.on_scraped(now, id, Ok(counts), out);
                    }
                }
                DhtAction::External { ip } => self.on_our_address(ip),
            }
        }
        if let Some(f) = &mut self.dht_client {
            f.out = wanted; // the memory goes back
        }
        if joined && !joined_before {
            self.scrape_pending(now, out);
        }
        match (joined_before, joined) {
            (false, true) => {
                for (key, t) in self.torrents.iter_mut() {
                    t.restart_search(now);
                    self.timers.arm(Timer::Search(key), now);
                }
            }
            (true, false) => self.timers.arm(Timer::JoinDht, now + limits::DHT_PING_INTERVAL),
            _ => {}
        }
    }

    /// Torrents that were to be counted before anybody answered.
    fn scrape_pending(&mut self, now: Instant, out: &mut Actions) {
        let Some(f) = self.dht_client.as_mut().filter(|f| !f.scrapes.is_empty()) else { return };
        for info_hash in f.scrapes.keys() {
            f.dht.scrape(now, *info_hash, &mut f.out);
        }
        self.run_dht_actions(now, out);
    }

    fn on_our_address(&mut self, ip: IpAddr) {
        for (_, t) in self.torrents.iter_mut() {
            t.peer_list.set_ours(SocketAddr::new(ip, self.config.port));
        }
    }
}
