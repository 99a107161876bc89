//! The engine's use of its DHT node (BEP 5): bootstrap, searches for torrents, scrapes, and the nodes that
//! are saved for the next run.
//!
//! ```text
//!   no node known ──nodes of an earlier run, of torrent files and peers──▶ a node answers ──▶ joined
//!        │  ▲                                                                                │  every running torrent is searched for
//!        │  └──────────────────────────── no node answers ◀──────────────────────────────────┘  and announced, at once and every 15 min
//!        └──still none──▶ the bootstrap nodes' names are resolved, and they are queried
//! ```
//!
//! The [`dht`](super::dht) runs the lookups. A private torrent is never searched for, its peers do not get
//! our node's port, and their nodes are ignored (BEP 27). Searches begin one after the other, so that a
//! thousand torrents do not query at once. A torrent with missing pieces and no peer is searched for again
//! after 5 s, 10 s, 20 s …

use super::action::{Action, Actions};
use super::config::DhtSetup;
use super::dht::{Announce, Dht, DhtAction, DhtStats, NodeConfig};
use super::limits;
use super::timers::Timer;
use super::torrent::Torrent;
use super::turn::{RequestIds, Turn};
use crate::units::{InfoHash, Instant};
use crate::wire::SwarmCounts;
use crate::wire::compact::torrent_may_name;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The use of the addresses of a resolved name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeRole {
    /// A bootstrap node: queried, never inserted into the routing table.
    Router,
    /// A node that the user named.
    Node,
    /// A node that a torrent file names; addresses that a torrent may not name are ignored.
    OfFile,
}

/// A result of the DHT node for the engine.
#[derive(Debug)]
pub enum DhtOutcome {
    /// A node knows peers of a torrent.
    Peers {
        /// The torrent.
        info_hash: InfoHash,
        /// Its peers; unverified.
        peers: Vec<SocketAddr>,
    },
    /// A scrape ended.
    Scraped {
        /// The id that [`DhtClient::scrape`] was given.
        id: u64,
        /// The estimated counts.
        counts: SwarmCounts,
    },
    /// Our external address, as most nodes see it.
    OurAddress(IpAddr),
    /// A node answered while no answering node was known: the engine searches for its torrents.
    Joined,
}

/// The DHT node and its bootstrap.
#[derive(Debug)]
pub struct DhtClient {
    dht: Dht,
    port: u16,
    read_only: bool,
    /// Addresses of nodes to query during the bootstrap; taken from the end.
    untried: Vec<SocketAddr>,
    /// Nodes of an earlier run to save again if this run finds few nodes.
    earlier: Vec<SocketAddr>,
    /// Names to resolve while no node is known.
    names: Vec<(String, u16, NodeRole)>,
    resolving: BTreeMap<u64, NodeRole>,
    /// The user named a node on this machine's loopback.
    on_loopback: bool,
    /// When to query the bootstrap nodes again.
    bootstrap_at: Instant,
    /// The wait after the next query of the bootstrap nodes.
    bootstrap_wait: Duration,
    /// The routing table holds an answering node.
    joined: bool,
    /// When the next search may begin.
    next_search: Instant,
    /// Torrents to scrape, and the ids of their requests.
    scrapes: BTreeMap<InfoHash, u64>,
    outcomes: VecDeque<DhtOutcome>,
    out: Vec<DhtAction>,
}

impl DhtClient {
    /// Starts the node and begins to bootstrap it.
    pub fn join(turn: &mut Turn<'_>, setup: DhtSetup) -> DhtClient {
        let DhtSetup { port, seed, read_only, nodes, bootstrap, routers } = setup;
        let as_role =
            |names: Vec<(String, u16)>, role| names.into_iter().map(move |(host, port)| (host, port, role));
        let is_loopback = |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        let on_loopback = bootstrap.iter().chain(&routers).any(|(host, _)| is_loopback(host));
        let earlier = nodes.iter().take(limits::DHT_SAVED_NODES_MIN).copied().collect();
        let untried: Vec<SocketAddr> = nodes.into_iter().rev().collect();
        // Names are resolved only if the known nodes do not answer in time.
        let head_start = if untried.is_empty() { Duration::ZERO } else { limits::DHT_PING_INTERVAL };
        let mut client = DhtClient {
            dht: Dht::new(turn.now, NodeConfig { seed, port, read_only }),
            port,
            read_only,
            untried,
            earlier,
            bootstrap_at: turn.now + head_start,
            names: as_role(bootstrap, NodeRole::Node).chain(as_role(routers, NodeRole::Router)).collect(),
            resolving: BTreeMap::new(),
            on_loopback,
            joined: false,
            bootstrap_wait: limits::DHT_BOOTSTRAP_RETRY,
            next_search: turn.now,
            scrapes: BTreeMap::new(),
            outcomes: VecDeque::new(),
            out: Vec::new(),
        };
        turn.timers.arm(Timer::KeepNodes, turn.now + limits::DHT_SAVE_INTERVAL);
        client.bootstrap(turn);
        client
    }

    /// Leaves the DHT, and has the caller save the known nodes for the next run.
    pub fn leave(mut self, turn: &mut Turn<'_>) {
        self.keep_nodes(turn);
        for timer in [Timer::Dht, Timer::JoinDht, Timer::KeepNodes] {
            turn.timers.disarm(timer);
        }
    }

    /// Returns the node's statistics.
    pub fn stats(&self, now: Instant) -> DhtStats {
        self.dht.stats(now)
    }

    /// Returns the port of the node, or `None` if it is read-only (BEP 43).
    pub fn port(&self) -> Option<u16> {
        (!self.read_only).then_some(self.port)
    }

    /// Removes and returns the oldest outcome.
    pub fn next_outcome(&mut self) -> Option<DhtOutcome> {
        self.outcomes.pop_front()
    }

    // ---- bootstrap ----------------------------------------------------------------------------------------------------

    /// Pings known addresses, [`limits::DHT_PINGS_AT_ONCE`] at a time, and resolves the bootstrap nodes'
    /// names if no node answers. Does nothing once [`limits::DHT_K`] nodes are known.
    pub fn bootstrap(&mut self, turn: &mut Turn<'_>) {
        if self.dht.known_nodes() >= limits::DHT_K {
            return;
        }
        let rest = self.untried.len().saturating_sub(limits::DHT_PINGS_AT_ONCE);
        for node in self.untried.split_off(rest) {
            self.dht.add_node(turn.now, node, &mut self.out);
        }
        if !self.untried.is_empty() {
            turn.timers.arm(Timer::JoinDht, turn.now + limits::DHT_PING_INTERVAL);
        }
        if self.dht.known_nodes() == 0 && !self.names.is_empty() {
            if turn.now >= self.bootstrap_at && self.resolving.is_empty() {
                self.bootstrap_at = turn.now + self.bootstrap_wait;
                self.bootstrap_wait = (self.bootstrap_wait * 2).min(limits::DHT_BOOTSTRAP_MAX);
                for (host, port, role) in &self.names {
                    let id = turn.ids.next();
                    self.resolving.insert(id, *role);
                    turn.out.push(Action::Resolve { id, host: host.clone(), port: *port });
                }
            }
            turn.timers.arm(Timer::JoinDht, self.bootstrap_at.max(turn.now + limits::DHT_PING_INTERVAL));
        }
        self.finish(turn);
    }

    /// Resolves nodes that a torrent file names (BEP 5 `nodes`). A loopback address is accepted only if the
    /// user named a bootstrap node on loopback.
    pub fn add_nodes(&mut self, ids: &mut RequestIds, named: &[(String, u16)], out: &mut Actions) {
        for (host, port) in named.iter().take(limits::DHT_ROUTERS) {
            let id = ids.next();
            self.resolving.insert(id, NodeRole::OfFile);
            out.push(Action::Resolve { id, host: host.clone(), port: *port });
        }
    }

    /// A host name was resolved to these addresses; none if it failed. Ids of other modules are ignored.
    pub fn on_resolved(&mut self, turn: &mut Turn<'_>, id: u64, found: &[SocketAddr]) {
        let Some(role) = self.resolving.remove(&id) else { return };
        for addr in found {
            match role {
                NodeRole::Router => self.dht.add_router(turn.now, *addr),
                NodeRole::Node => self.dht.add_node(turn.now, *addr, &mut self.out),
                NodeRole::OfFile => {
                    if torrent_may_name(addr.ip()) || (self.on_loopback && addr.ip().is_loopback()) {
                        self.dht.add_node(turn.now, *addr, &mut self.out);
                    }
                }
            }
        }
        self.finish(turn);
    }

    /// A peer announced a node at this address (BEP 5 `port`).
    pub fn on_port(&mut self, turn: &mut Turn<'_>, node: SocketAddr) {
        self.dht.add_node(turn.now, node, &mut self.out);
        self.finish(turn);
    }

    /// Has the caller save the answering nodes for the next run. If fewer than
    /// [`limits::DHT_SAVED_NODES_MIN`] answer, nodes of an earlier run follow them.
    pub fn keep_nodes(&mut self, turn: &mut Turn<'_>) {
        let mut nodes: Vec<SocketAddr> = self.dht.nodes(turn.now).into_iter().map(|(_, addr)| addr).collect();
        if !nodes.is_empty() {
            turn.rng.shuffle(&mut nodes);
            let few = limits::DHT_SAVED_NODES_MIN.saturating_sub(nodes.len());
            let others: Vec<SocketAddr> =
                self.earlier.iter().filter(|node| !nodes.contains(node)).take(few).copied().collect();
            nodes.extend(others);
            turn.out.push(Action::KeepNodes { nodes });
            // Other nodes answer, so our network works: an earlier node that was queried and does not answer
            // is dead, and is not saved again.
            self.earlier.retain(|node| self.untried.contains(node));
        }
        turn.timers.arm(Timer::KeepNodes, turn.now + limits::DHT_SAVE_INTERVAL);
    }

    // ---- searches -----------------------------------------------------------------------------------------------------

    /// Searches for a torrent's peers and announces us, if a search is due. `alone` says that the torrent has
    /// missing pieces and no peer, so a search is due at once. `torrents` is the number of all torrents.
    pub fn search(&mut self, turn: &mut Turn<'_>, t: &mut Torrent, alone: bool, torrents: usize) {
        if !self.joined {
            return;
        }
        if alone || t.search_due <= turn.now {
            if turn.now < self.next_search || !self.dht.has_room() {
                let at = self.next_search.max(turn.now + limits::DHT_SEARCH_SPACING);
                return turn.timers.arm(Timer::Search(t.key), at);
            }
            self.next_search = turn.now + limits::DHT_SEARCH_SPACING;
            let ports = [turn.public_port(false), turn.public_port(true)];
            let seed = t.is_upload_only();
            let announce = (turn.config.port != 0).then_some(Announce { ports, seed });
            self.dht.search(turn.now, t.info_hash, announce, &mut self.out);
            t.search_due = turn.now + limits::DHT_SEARCH_INTERVAL;
        }
        // The wait grows with the number of torrents, so that torrents that search again soon leave a turn to
        // every other torrent.
        let spacing = limits::DHT_SEARCH_SPACING * 2 * torrents as u32;
        let wait = t.search_wait.max(spacing);
        t.search_wait = (2 * wait).min(limits::DHT_SEARCH_INTERVAL);
        turn.timers.arm(Timer::Search(t.key), t.search_due.min(turn.now + wait));
        self.finish(turn);
    }

    /// Ends the search for a torrent's peers.
    pub fn end_search(&mut self, info_hash: &InfoHash) {
        self.dht.forget(*info_hash);
    }

    /// Estimates the size of a torrent's swarm (BEP 33), once a node answers; the outcome carries `id`.
    pub fn scrape(&mut self, turn: &mut Turn<'_>, id: u64, info_hash: InfoHash) {
        self.scrapes.insert(info_hash, id);
        if self.joined {
            self.dht.scrape(turn.now, info_hash, &mut self.out);
        }
        self.finish(turn);
    }

    /// A packet of the DHT protocol arrived.
    pub fn on_datagram(&mut self, turn: &mut Turn<'_>, from: SocketAddr, packet: &[u8]) {
        self.dht.on_datagram(turn.now, from, packet, &mut self.out);
        self.finish(turn);
    }

    /// A deadline of the node passed.
    pub fn on_deadline(&mut self, turn: &mut Turn<'_>) {
        self.dht.on_deadline(turn.now, &mut self.out);
        self.finish(turn);
    }

    /// Turns the node's actions into actions and outcomes of the engine, and arms the node's next deadline.
    fn finish(&mut self, turn: &mut Turn<'_>) {
        let joined_before = std::mem::replace(&mut self.joined, self.dht.known_nodes() > 0);
        turn.timers.arm(Timer::Dht, self.dht.next_deadline());
        for action in self.out.drain(..) {
            match action {
                DhtAction::Send { to, bytes } => {
                    turn.out.push(Action::Datagram { to, bytes: bytes.into_vec() });
                }
                DhtAction::Peers { info_hash, peers } => {
                    self.outcomes.push_back(DhtOutcome::Peers { info_hash, peers });
                }
                DhtAction::Done { .. } => {}
                DhtAction::Scraped { info_hash, seeds, peers } => {
                    if let Some(id) = self.scrapes.remove(&info_hash) {
                        let counts = SwarmCounts { seeds: Some(seeds), peers: Some(peers), completed: None };
                        self.outcomes.push_back(DhtOutcome::Scraped { id, counts });
                    }
                }
                DhtAction::External { ip } => self.outcomes.push_back(DhtOutcome::OurAddress(ip)),
            }
        }
        match (joined_before, self.joined) {
            (false, true) => {
                self.outcomes.push_back(DhtOutcome::Joined);
                self.start_waiting_scrapes(turn);
            }
            (true, false) => turn.timers.arm(Timer::JoinDht, turn.now + limits::DHT_PING_INTERVAL),
            _ => {}
        }
    }

    /// Starts the scrapes that wait for the first answering node.
    fn start_waiting_scrapes(&mut self, turn: &mut Turn<'_>) {
        if self.scrapes.is_empty() {
            return;
        }
        for info_hash in self.scrapes.keys() {
            self.dht.scrape(turn.now, *info_hash, &mut self.out);
        }
        self.finish(turn);
    }
}
