//! State of a DHT node, its public methods, its timers, and the maintenance of the routing tables.

use super::guard::{Budget, Guard};
use super::identity::{Votes, better_id};
use super::lookup::{Lookup, LookupCost};
use super::pending::{PendingQuery, Purpose, SearchKey};
use super::store::PeerStore;
use super::table::RoutingTable;
use super::token::{Tokens, digest};
use crate::engine::limits;
use crate::units::{InfoHash, Instant, NodeId, Rng};
use crate::wire::bloom::Filter;
use crate::wire::compact::{may_name, usable};
use crate::wire::krpc::{Method, claims_to_be};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Configuration of a DHT node.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig {
    /// Seed of all random choices and of the tokens; must be unpredictable except in tests.
    pub seed: u64,
    /// Our UDP port. With the external address it identifies us in lists of nodes.
    pub port: u16,
    /// Sends queries and never responds to any (BEP 43).
    pub read_only: bool,
}

/// An action or a result of the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhtAction {
    /// Send a packet.
    Send {
        /// Destination address.
        to: SocketAddr,
        /// The packet.
        bytes: Box<[u8]>,
    },
    /// A node returned peers of a torrent. Each peer is reported once per search.
    Peers {
        /// The torrent.
        info_hash: InfoHash,
        /// Its peers, unverified.
        peers: Vec<SocketAddr>,
    },
    /// A search, and its announce if requested, has ended.
    Done {
        /// The torrent.
        info_hash: InfoHash,
    },
    /// A scrape has ended. The numbers are estimates of the hosts that announced the torrent (BEP 33).
    Scraped {
        /// The torrent.
        info_hash: InfoHash,
        /// Complete peers.
        seeds: u32,
        /// Incomplete peers.
        peers: u32,
    },
    /// Enough nodes agree on our external address.
    External {
        /// Our external address.
        ip: IpAddr,
    },
}

/// What a search announces about us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The TCP ports where we accept connections over IPv4 and over IPv6.
    pub ports: [u16; 2],
    /// We are a seed (BEP 33).
    pub seed: bool,
}

/// Statistics of a DHT node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtStats {
    /// Good nodes of IPv4.
    pub nodes_v4: usize,
    /// Good nodes of IPv6.
    pub nodes_v6: usize,
    /// Torrents in the peer store.
    pub stored_torrents: usize,
    /// Peers in the peer store.
    pub stored_peers: usize,
    /// Bytes of received packets.
    pub received_bytes: u64,
    /// Bytes of sent packets.
    pub sent_bytes: u64,
    /// Received packets that were ignored: malformed, unsolicited, or beyond the rate limit of their sender.
    pub dropped_packets: u64,
    /// Responses that were not sent because of the rate limit.
    pub withheld_answers: u64,
    /// Number of stored items of every kind, to check that memory is bounded.
    pub items: usize,
    /// Completed lookups, refreshes included.
    pub lookups: u64,
    /// Cost of the last lookup of a torrent's peers.
    pub last_search: LookupCost,
}

/// State of one address family.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) own: NodeId,
    pub(super) table: RoutingTable,
    pub(super) votes: Votes,
    /// Our external address, once enough nodes agree on it.
    external: Option<IpAddr>,
    routers: Vec<SocketAddr>,
    /// When to look up our own id again; [`Instant::NEVER`] when enough nodes are known.
    bootstrap_at: Instant,
    bootstrap_wait: Duration,
    ping_at: Instant,
    /// Targets of lookups that are to fill sparse buckets after the bootstrap.
    to_fill: Vec<NodeId>,
    /// The lookup that maintains the table, if one is in progress.
    maintenance: Option<u32>,
}

/// A search or scrape in progress.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) announce: Option<Announce>,
    /// Bloom filters of seeds and of other peers, merged from the responses; only in a scrape.
    pub(super) filters: Option<Box<[Filter; 2]>>,
    /// Address families whose lookup is not started yet.
    pub(super) waiting: [bool; 2],
    /// Whether a lookup was started in any family.
    pub(super) started: bool,
    pub(super) lookups: BTreeSet<u32>,
    /// Announces in flight.
    pub(super) announces: usize,
    pub(super) found: BTreeSet<SocketAddr>,
}

/// A node of the DHT.
#[derive(Debug)]
pub struct Dht {
    pub(super) config: NodeConfig,
    pub(super) rng: Rng,
    pub(super) families: [Family; 2],
    pub(super) pending: BTreeMap<u16, PendingQuery>,
    pub(super) lookups: BTreeMap<u32, Lookup>,
    pub(super) next_lookup: u32,
    pub(super) searches: BTreeMap<SearchKey, Search>,
    pub(super) store: PeerStore,
    pub(super) tokens: Tokens,
    guard: Guard,
    pub(super) budget: Budget,
    /// Rate limit of scrape responses to unknown nodes, within `budget`.
    pub(super) scrapes: Budget,
    pub(super) stats: DhtStats,
}

impl Dht {
    /// Creates a node with empty routing tables.
    pub fn new(now: Instant, config: NodeConfig) -> Dht {
        // Other nodes see random choices (ids, transactions). The seed, from which tokens are derived, must
        // not follow from them.
        let sum = digest(&[b"dht choices", &config.seed.to_be_bytes()]);
        let mut rng = Rng::new(u64::from_be_bytes(*sum.first_chunk().unwrap_or(&[0; 8])));
        let families = [(); 2].map(|()| {
            let own = NodeId::random(&mut rng);
            Family {
                own,
                table: RoutingTable::new(now, own),
                votes: Votes::default(),
                external: None,
                routers: Vec::new(),
                bootstrap_at: Instant::NEVER,
                bootstrap_wait: limits::DHT_BOOTSTRAP,
                ping_at: now,
                to_fill: Vec::new(),
                maintenance: None,
            }
        });
        Dht {
            config,
            rng,
            families,
            pending: BTreeMap::new(),
            lookups: BTreeMap::new(),
            next_lookup: 0,
            searches: BTreeMap::new(),
            store: PeerStore::new(),
            tokens: Tokens::new(config.seed),
            guard: Guard::default(),
            budget: Budget::new(now, limits::DHT_ANSWERS_PER_SECOND_BYTES, limits::DHT_ANSWERS_BURST_BYTES),
            scrapes: Budget::new(now, limits::DHT_SCRAPES_PER_SECOND_BYTES, limits::DHT_SCRAPES_BURST_BYTES),
            stats: DhtStats::default(),
        }
    }

    pub(super) fn family(&mut self, v6: bool) -> &mut Family {
        &mut self.families[usize::from(v6)]
    }

    /// Checks an address that `source` sent. Returns the usable form of the address; `None` if no node or
    /// peer can be there, if `source` may not name it, or if it is our own.
    pub(super) fn check_address(&self, source: IpAddr, addr: SocketAddr) -> Option<SocketAddr> {
        let addr = usable(addr.ip(), addr.port())?;
        let external = self.families[usize::from(addr.is_ipv6())].external;
        let is_own = external == Some(addr.ip()) && addr.port() == self.config.port;
        (!is_own && may_name(source, addr.ip())).then_some(addr)
    }

    // ---- commands -----------------------------------------------------------------------------------------

    /// Adds a bootstrap node: queried while no other node is known, never inserted into the routing table.
    pub fn add_router(&mut self, now: Instant, addr: SocketAddr) {
        let Some(addr) = usable(addr.ip(), addr.port()) else { return };
        let family = self.family(addr.is_ipv6());
        if family.routers.len() < limits::DHT_ROUTERS && !family.routers.contains(&addr) {
            family.routers.push(addr);
            if family.table.len() == 0 {
                family.bootstrap_at = now;
            }
        }
    }

    /// Pings a node; it enters the routing table if it responds.
    pub fn add_node(&mut self, now: Instant, addr: SocketAddr, out: &mut Vec<DhtAction>) {
        if let Some(addr) = self.check_address(addr.ip(), addr) {
            self.probe(now, addr, out);
        }
    }

    /// Searches for peers of a torrent, and announces us to the closest nodes if `announce` is set. The
    /// caller repeats it every 15 minutes. The search starts once a node is known, and ends at once if there
    /// is no node to query.
    pub fn search(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        announce: Option<Announce>,
        out: &mut Vec<DhtAction>,
    ) {
        self.start_search(now, SearchKey { info_hash, scrape: false }, announce, out);
    }

    /// Counts the peers of a torrent (BEP 33). It starts and ends as [`Dht::search`] and results in
    /// [`DhtAction::Scraped`].
    pub fn scrape(&mut self, now: Instant, info_hash: InfoHash, out: &mut Vec<DhtAction>) {
        self.start_search(now, SearchKey { info_hash, scrape: true }, None, out);
    }

    fn start_search(
        &mut self,
        now: Instant,
        key: SearchKey,
        announce: Option<Announce>,
        out: &mut Vec<DhtAction>,
    ) {
        if let Some(search) = self.searches.get_mut(&key) {
            search.announce = announce.or(search.announce);
            return;
        }
        let search = Search {
            announce,
            filters: key.scrape.then(Box::default),
            waiting: [true; 2],
            started: false,
            lookups: BTreeSet::new(),
            announces: 0,
            found: BTreeSet::new(),
        };
        if self.searches.len() >= limits::DHT_SEARCHES {
            return out.push(search.outcome(key));
        }
        self.searches.insert(key, search);
        self.start_searches(now, out);
    }

    /// Cancels a search without [`DhtAction::Done`].
    pub fn forget(&mut self, info_hash: InfoHash) {
        if let Some(search) = self.searches.remove(&SearchKey { info_hash, scrape: false }) {
            self.lookups.retain(|id, _| !search.lookups.contains(id));
        }
    }

    // ---- state --------------------------------------------------------------------------------------------

    /// Returns the good nodes, to be saved for the next start.
    pub fn nodes(&self, now: Instant) -> Vec<(NodeId, SocketAddr)> {
        self.families.iter().flat_map(|f| f.table.good(now)).map(|n| (n.id, n.addr)).collect()
    }

    /// Returns the number of nodes in the routing tables, good or not.
    pub fn known_nodes(&self) -> usize {
        self.families.iter().map(|f| f.table.len()).sum()
    }

    /// Returns whether another search could start now.
    pub fn has_room(&self) -> bool {
        self.searches.len() < limits::DHT_SEARCHES && self.lookups.len() + 2 <= limits::DHT_LOOKUPS
    }

    /// Returns our id in one address family.
    #[cfg(feature = "oracle")]
    pub fn id(&self, v6: bool) -> NodeId {
        self.families[usize::from(v6)].own
    }

    /// Returns the statistics.
    pub fn stats(&self, now: Instant) -> DhtStats {
        let [v4, v6] = &self.families;
        let (stored_torrents, stored_peers) = self.store.len();
        let family =
            |f: &Family| f.table.len_with_spares() + f.votes.len() + f.routers.len() + f.to_fill.len();
        let lookup_nodes: usize = self.lookups.values().map(Lookup::len).sum();
        let found: usize = self.searches.values().map(|s| 1 + s.lookups.len() + s.found.len()).sum();
        DhtStats {
            nodes_v4: v4.table.good(now).count(),
            nodes_v6: v6.table.good(now).count(),
            stored_torrents,
            stored_peers,
            items: family(v4)
                + family(v6)
                + lookup_nodes
                + found
                + self.pending.len()
                + self.guard.len()
                + stored_torrents
                + stored_peers,
            ..self.stats
        }
    }

    /// Checks the limits of the state.
    ///
    /// # Panics
    /// If a limit is exceeded.
    #[cfg(feature = "fuzzing")]
    pub fn check(&self) {
        self.families.iter().for_each(|f| f.table.check());
        assert!(self.pending.len() <= limits::DHT_PENDING && self.lookups.len() <= limits::DHT_LOOKUPS);
        assert!(self.searches.values().all(|s| s.found.len() <= limits::DHT_FOUND_PEERS));
        assert!(self.lookups.values().all(|l| l.len() <= limits::DHT_LOOKUP_NODES + limits::DHT_ROUTERS));
        assert!(self.guard.len() <= limits::DHT_GUARDED_ADDRESSES);
    }

    /// Returns when to call [`Dht::on_deadline`]; [`Instant::NEVER`] if there is nothing to do.
    pub fn next_deadline(&self) -> Instant {
        let pending = self.pending.values().map(PendingQuery::due);
        let families = self.families.iter().flat_map(|f| [f.bootstrap_at, f.next_maintenance()]);
        pending.chain(families).chain([self.store.next_sweep()]).min().unwrap_or(Instant::NEVER)
    }

    // ---- events -------------------------------------------------------------------------------------------

    /// Handles a datagram. Returns false if it is no DHT packet.
    pub fn on_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<DhtAction>,
    ) -> bool {
        if !claims_to_be(bytes) {
            return false;
        }
        self.stats.received_bytes += bytes.len() as u64;
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let accepted =
            from.port() != 0 && self.guard.accepts(now, from) && self.on_packet(now, from, bytes, out);
        self.stats.dropped_packets += u64::from(!accepted);
        self.start_searches(now, out);
        true
    }

    /// Handles everything that is due.
    pub fn on_deadline(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        self.check_timeouts(now, out);
        if self.store.next_sweep() <= now {
            self.store.sweep(now);
        }
        for v6 in [false, true] {
            if self.family(v6).bootstrap_at <= now {
                self.bootstrap(now, v6, out);
            }
            self.maintain_table(now, v6, out);
        }
        self.start_searches(now, out);
    }

    // ---- maintenance of the tables ------------------------------------------------------------------------

    /// Schedules a lookup of our own id: the first node responded, the last node was lost, or our id changed.
    pub(super) fn schedule_bootstrap(&mut self, now: Instant, v6: bool) {
        let family = self.family(v6);
        family.bootstrap_at = family.bootstrap_at.min(now);
    }

    fn bootstrap(&mut self, now: Instant, v6: bool, out: &mut Vec<DhtAction>) {
        let family = self.family(v6);
        family.bootstrap_at = Instant::NEVER;
        if family.maintenance.is_some() {
            // The current maintenance lookup must end first.
            family.bootstrap_at = now + limits::DHT_BOOTSTRAP;
            return;
        }
        if family.table.len() < limits::DHT_K {
            // Repeat with growing intervals until enough nodes are known; `schedule_bootstrap` is not
            // delayed.
            family.bootstrap_at = now + family.bootstrap_wait;
            family.bootstrap_wait = (family.bootstrap_wait * 2).min(limits::DHT_BOOTSTRAP_MAX);
        } else {
            family.bootstrap_wait = limits::DHT_BOOTSTRAP;
        }
        if family.table.len() == 0 && family.routers.is_empty() {
            family.bootstrap_at = Instant::NEVER;
            return;
        }
        let own = family.own;
        self.start_maintenance(now, v6, own, out);
    }

    fn start_maintenance(&mut self, now: Instant, v6: bool, target: NodeId, out: &mut Vec<DhtAction>) {
        let lookup = self.start_lookup(now, v6, target, None);
        self.family(v6).maintenance = lookup;
        if let Some(lookup) = lookup {
            self.advance(now, lookup, 0, out);
        }
    }

    /// Handles the end of a maintenance lookup and starts the next one.
    pub(super) fn on_maintenance_ended(
        &mut self,
        now: Instant,
        lookup: u32,
        target: NodeId,
        v6: bool,
        out: &mut Vec<DhtAction>,
    ) {
        let family = &mut self.families[usize::from(v6)];
        if family.maintenance != Some(lookup) {
            return;
        }
        family.maintenance = None;
        if target == family.own {
            family.to_fill = family.table.sparse(&mut self.rng);
        }
        if let Some(target) = family.to_fill.pop() {
            self.start_maintenance(now, v6, target, out);
        }
    }

    fn maintain_table(&mut self, now: Instant, v6: bool, out: &mut Vec<DhtAction>) {
        let family = self.family(v6);
        if family.table.next_ping().max(family.ping_at) <= now {
            family.ping_at = now + limits::DHT_PING_EVERY;
            if let Some(addr) = family.table.ping(now) {
                self.query(now, addr, Method::Ping, Purpose::Ping, out);
            }
        }
        let family = &mut self.families[usize::from(v6)];
        if family.maintenance.is_none() && family.next_refresh() <= now {
            if let Some(target) = family.table.refresh(now, &mut self.rng) {
                self.start_maintenance(now, v6, target, out);
            }
        }
    }

    /// Counts the vote of a node on our address. If an address is accepted that does not match our id, takes
    /// a new id and rebuilds the table around it.
    pub(super) fn on_vote(&mut self, now: Instant, voter: IpAddr, seen: IpAddr, out: &mut Vec<DhtAction>) {
        let family = &mut self.families[usize::from(voter.is_ipv6())];
        let Some(ours) = family.votes.vote(voter, seen) else { return };
        if family.external.replace(ours) != Some(ours) {
            out.push(DhtAction::External { ip: ours });
        }
        if let Some(id) = better_id(family.own, ours, &mut self.rng) {
            family.own = id;
            family.table.set_own_id(now, id);
            family.to_fill.clear();
            self.schedule_bootstrap(now, voter.is_ipv6());
        }
    }
}

impl Search {
    /// Returns the action that reports the end of the search.
    pub(super) fn outcome(&self, SearchKey { info_hash, .. }: SearchKey) -> DhtAction {
        match self.filters.as_deref() {
            None => DhtAction::Done { info_hash },
            Some([seeds, peers]) => {
                let count = |filter: &Filter| filter.estimate().round() as u32;
                DhtAction::Scraped { info_hash, seeds: count(seeds), peers: count(peers) }
            }
        }
    }
}

impl Family {
    fn next_refresh(&self) -> Instant {
        if self.table.len() == 0 { Instant::NEVER } else { self.table.next_refresh() }
    }

    fn next_maintenance(&self) -> Instant {
        let refresh = if self.maintenance.is_some() { Instant::NEVER } else { self.next_refresh() };
        refresh.min(self.table.next_ping().max(self.ping_at))
    }

    /// Returns whether a node of this family is known, bootstrap nodes included.
    pub(super) fn is_used(&self) -> bool {
        self.table.len() > 0 || !self.routers.is_empty()
    }

    pub(super) fn routers(&self) -> &[SocketAddr] {
        &self.routers
    }

    /// Returns whether a search can start (`true`) or has no node to query (`false`); `None` if the bootstrap
    /// is not finished.
    pub(super) fn is_ready(&self) -> Option<bool> {
        match (self.table.len(), self.maintenance, self.bootstrap_at) {
            (1.., None, _) => Some(true),
            (1.., Some(_), _) if self.table.len() >= limits::DHT_K => Some(true),
            (0, None, Instant::NEVER) => Some(false),
            _ => None,
        }
    }
}
