//! The state of the DHT, its wishes and its clockwork.

use super::guard::{Budget, Guard};
use super::identity::{Votes, better_id};
use super::lookup::{Lookup, LookupCost};
use super::queries::{PendingQuery, Purpose};
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

/// What a DHT node is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig {
    /// Where all choices come from; unpredictable in earnest, chosen in tests.
    pub seed: u64,
    /// The UDP port that we are reached at: it tells us apart from a neighbour behind the same address.
    pub port: u16,
    /// Asks and never answers (BEP 43).
    pub read_only: bool,
}

/// What the DHT wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhtAction {
    /// A packet is to be sent.
    Send {
        /// To whom.
        to: SocketAddr,
        /// What.
        bytes: Box<[u8]>,
    },
    /// A node knows peers of a torrent that is searched for; no peer comes twice in one search.
    Peers {
        /// The torrent.
        info_hash: InfoHash,
        /// Its peers, a stranger's claim.
        peers: Vec<SocketAddr>,
    },
    /// A search, and its announce if there is one, has ended.
    Done {
        /// The torrent.
        info_hash: InfoHash,
    },
    /// A scrape has ended: about so many hosts announced that they have the torrent (BEP 33).
    Scraped {
        /// The torrent.
        info_hash: InfoHash,
        /// With all of it.
        seeds: u32,
        /// With less.
        peers: u32,
    },
    /// Enough others agree on our address.
    External {
        /// It.
        ip: IpAddr,
    },
}

/// What a search says of us while it is at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The TCP port that we listen at.
    pub port: u16,
    /// We have everything (BEP 33).
    pub seed: bool,
}

/// What a lookup of the DHT's users is for: a torrent's peers, or their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueryPurpose {
    pub(super) info_hash: InfoHash,
    pub(super) scrape: bool,
}

/// The DHT in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtStats {
    /// Good nodes of IPv4.
    pub nodes_v4: usize,
    /// Good nodes of IPv6.
    pub nodes_v6: usize,
    /// Torrents whose peers we keep for others.
    pub stored_torrents: usize,
    /// Peers that we keep for others.
    pub stored_peers: usize,
    /// Bytes of packets that came.
    pub received_bytes: u64,
    /// Bytes of packets that went.
    pub sent_bytes: u64,
    /// Packets that came and were passed over: broken, forged, or too many.
    pub dropped_packets: u64,
    /// Answers that were not given because the rate of answers was used up.
    pub withheld_answers: u64,
    /// Everything that is kept, counted: what has a limit each has one together.
    pub items: usize,
    /// Lookups that have ended, refreshes included.
    pub lookups: u64,
    /// What the last search of a torrent's peers cost.
    pub last_search: LookupCost,
}

/// One family of addresses.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) own: NodeId,
    pub(super) table: RoutingTable,
    pub(super) votes: Votes,
    /// Our address, once enough others agree on it.
    external: Option<IpAddr>,
    routers: Vec<SocketAddr>,
    /// When to search for our own id again; never, once a node is known.
    bootstrap_at: Instant,
    bootstrap_wait: Duration,
    ping_at: Instant,
    /// Places still to look at after the bootstrap.
    to_fill: Vec<NodeId>,
    /// The lookup that looks after the table.
    upkeep: Option<u32>,
}

/// An errand under way.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) announce: Option<Announce>,
    /// Seeds and other peers, as those who were asked count them.
    pub(super) filters: Option<Box<[Filter; 2]>>,
    /// Address families without a known node.
    pub(super) waits: [bool; 2],
    /// Whether a family could look.
    pub(super) looked: bool,
    pub(super) lookups: BTreeSet<u32>,
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
    pub(super) searches: BTreeMap<QueryPurpose, Search>,
    pub(super) store: PeerStore,
    pub(super) tokens: Tokens,
    guard: Guard,
    pub(super) budget: Budget,
    /// Of this, what goes to strangers who ask for counts.
    pub(super) scrapes: Budget,
    pub(super) stats: DhtStats,
}

impl Dht {
    /// A node with an empty routing table.
    pub fn new(now: Instant, config: NodeConfig) -> Dht {
        // Choices are seen by strangers; the seed, which tokens are made of, must not follow from them.
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
                upkeep: None,
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

    /// Whether a node or a peer may be where `teller` says, and is not we.
    pub(super) fn believable(&self, teller: IpAddr, addr: SocketAddr) -> Option<SocketAddr> {
        let addr = usable(addr.ip(), addr.port())?;
        let external = self.families[usize::from(addr.is_ipv6())].external;
        let is_we = external == Some(addr.ip()) && addr.port() == self.config.port;
        (!is_we && may_name(teller, addr.ip())).then_some(addr)
    }

    // ---- wishes -------------------------------------------------------------------------------------------------------

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

    /// A node that may be there: it is asked, and enters the table if it answers.
    pub fn add_node(&mut self, now: Instant, addr: SocketAddr, out: &mut Vec<DhtAction>) {
        if let Some(addr) = self.believable(addr.ip(), addr) {
            self.probe(now, addr, out);
        }
    }

    /// Looks for a torrent's peers; with `announce`, says that we have it and listen at this TCP port. To be
    /// repeated every 15 minutes. It begins once a node is known, and ends at once if there is none to query.
    pub fn search(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        announce: Option<Announce>,
        out: &mut Vec<DhtAction>,
    ) {
        self.run(now, QueryPurpose { info_hash, scrape: false }, announce, out);
    }

    /// Asks how many have a torrent (BEP 33), with the same rules; ends in [`DhtAction::Scraped`].
    pub fn scrape(&mut self, now: Instant, info_hash: InfoHash, out: &mut Vec<DhtAction>) {
        self.run(now, QueryPurpose { info_hash, scrape: true }, None, out);
    }

    fn run(
        &mut self,
        now: Instant,
        errand: QueryPurpose,
        announce: Option<Announce>,
        out: &mut Vec<DhtAction>,
    ) {
        if let Some(search) = self.searches.get_mut(&errand) {
            search.announce = announce.or(search.announce);
            return;
        }
        let search = Search {
            announce,
            filters: errand.scrape.then(Box::default),
            waits: [true; 2],
            looked: false,
            lookups: BTreeSet::new(),
            announces: 0,
            found: BTreeSet::new(),
        };
        if self.searches.len() >= limits::DHT_SEARCHES {
            return out.push(search.outcome(errand));
        }
        self.searches.insert(errand, search);
        self.start_searches(now, out);
    }

    /// Ends a search without a word.
    pub fn forget(&mut self, info_hash: InfoHash) {
        if let Some(search) = self.searches.remove(&QueryPurpose { info_hash, scrape: false }) {
            self.lookups.retain(|id, _| !search.lookups.contains(id));
        }
    }

    // ---- questions ----------------------------------------------------------------------------------------------------

    /// Good nodes, for the next run.
    pub fn nodes(&self, now: Instant) -> Vec<(NodeId, SocketAddr)> {
        self.families.iter().flat_map(|f| f.table.good(now)).map(|n| (n.id, n.addr)).collect()
    }

    /// Nodes that have answered, good or not.
    pub fn known_nodes(&self) -> usize {
        self.families.iter().map(|f| f.table.len()).sum()
    }

    /// Whether another search would be begun.
    pub fn has_room(&self) -> bool {
        self.searches.len() < limits::DHT_SEARCHES && self.lookups.len() + 2 <= limits::DHT_LOOKUPS
    }

    /// Our id in one family.
    #[cfg(feature = "oracle")]
    pub fn id(&self, v6: bool) -> NodeId {
        self.families[usize::from(v6)].own
    }

    /// Figures.
    pub fn stats(&self, now: Instant) -> DhtStats {
        let [v4, v6] = &self.families;
        let (stored_torrents, stored_peers) = self.store.len();
        let family =
            |f: &Family| f.table.len_with_spares() + f.votes.len() + f.routers.len() + f.to_fill.len();
        let contacts: usize = self.lookups.values().map(Lookup::len).sum();
        let found: usize = self.searches.values().map(|s| 1 + s.lookups.len() + s.found.len()).sum();
        DhtStats {
            nodes_v4: v4.table.good(now).count(),
            nodes_v6: v6.table.good(now).count(),
            stored_torrents,
            stored_peers,
            items: family(v4)
                + family(v6)
                + contacts
                + found
                + self.pending.len()
                + self.guard.len()
                + stored_torrents
                + stored_peers,
            ..self.stats
        }
    }

    /// Panics if a limit is not held.
    #[cfg(feature = "fuzzing")]
    pub fn check(&self) {
        self.families.iter().for_each(|f| f.table.check());
        assert!(self.pending.len() <= limits::DHT_PENDING && self.lookups.len() <= limits::DHT_LOOKUPS);
        assert!(self.searches.values().all(|s| s.found.len() <= limits::DHT_FOUND_PEERS));
        assert!(self.lookups.values().all(|l| l.len() <= limits::DHT_LOOKUP_NODES + limits::DHT_ROUTERS));
        assert!(self.guard.len() <= limits::DHT_GUARDED_ADDRESSES);
    }

    /// When something is to be done; [`Instant::NEVER`] as long as no node is known.
    pub fn next_deadline(&self) -> Instant {
        let pending = self.pending.values().map(PendingQuery::due);
        let families = self.families.iter().flat_map(|f| [f.bootstrap_at, f.next_upkeep()]);
        pending.chain(families).chain([self.store.next_sweep()]).min().unwrap_or(Instant::NEVER)
    }

    // ---- facts --------------------------------------------------------------------------------------------------------

    /// Handles a datagram. False if it is no packet of the DHT.
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
        let taken = from.port() != 0 && self.guard.hears(now, from) && self.take(now, from, bytes, out);
        self.stats.dropped_packets += u64::from(!taken);
        self.start_searches(now, out);
        true
    }

    /// It is time.
    pub fn on_deadline(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        self.look_for_late(now, out);
        if self.store.next_sweep() <= now {
            self.store.sweep(now);
        }
        for v6 in [false, true] {
            if self.family(v6).bootstrap_at <= now {
                self.bootstrap(now, v6, out);
            }
            self.look_after_table(now, v6, out);
        }
        self.start_searches(now, out);
    }

    // ---- the table's upkeep -------------------------------------------------------------------------------------------

    /// The first node answered, or our id is new: searches for the nodes around us.
    pub(super) fn wake(&mut self, now: Instant, v6: bool) {
        let family = self.family(v6);
        family.bootstrap_at = family.bootstrap_at.min(now);
    }

    fn bootstrap(&mut self, now: Instant, v6: bool, out: &mut Vec<DhtAction>) {
        let family = self.family(v6);
        family.bootstrap_at = Instant::NEVER;
        if family.upkeep.is_some() {
            // One at a time.
            family.bootstrap_at = now + limits::DHT_BOOTSTRAP;
            return;
        }
        if family.table.len() < limits::DHT_K {
            // Again and again, until enough are known; those who call this on their own are not slowed down.
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
        self.start_upkeep(now, v6, own, out);
    }

    fn start_upkeep(&mut self, now: Instant, v6: bool, place: NodeId, out: &mut Vec<DhtAction>) {
        let lookup = self.start_lookup(now, v6, place, None);
        self.family(v6).upkeep = lookup;
        if let Some(lookup) = lookup {
            self.advance(now, lookup, 0, out);
        }
    }

    /// A lookup of the table's upkeep ended: the next one.
    pub(super) fn upkeep_ended(
        &mut self,
        now: Instant,
        lookup: u32,
        target: NodeId,
        v6: bool,
        out: &mut Vec<DhtAction>,
    ) {
        let (family, rng) = (&mut self.families[usize::from(v6)], &mut self.rng);
        if family.upkeep != Some(lookup) {
            return;
        }
        family.upkeep = None;
        if target == family.own {
            family.to_fill = family.table.sparse(rng);
        }
        if let Some(place) = family.to_fill.pop() {
            self.start_upkeep(now, v6, place, out);
        }
    }

    fn look_after_table(&mut self, now: Instant, v6: bool, out: &mut Vec<DhtAction>) {
        let family = self.family(v6);
        if family.table.next_ping().max(family.ping_at) <= now {
            family.ping_at = now + limits::DHT_PING_EVERY;
            if let Some(addr) = family.table.ping(now) {
                self.ask(now, addr, Method::Ping, Purpose::Ping, out);
            }
        }
        let (family, rng) = (&mut self.families[usize::from(v6)], &mut self.rng);
        if family.upkeep.is_none() && family.next_refresh() <= now {
            if let Some(place) = family.table.refresh(now, rng) {
                self.start_upkeep(now, v6, place, out);
            }
        }
    }

    /// `voter` says that our address is `seen`. Enough voices give us another id, and the table is built
    /// around that one.
    pub(super) fn on_vote(&mut self, now: Instant, voter: IpAddr, seen: IpAddr, out: &mut Vec<DhtAction>) {
        let (family, rng) = (&mut self.families[usize::from(voter.is_ipv6())], &mut self.rng);
        let Some(ours) = family.votes.vote(voter, seen) else { return };
        if family.external.replace(ours) != Some(ours) {
            out.push(DhtAction::External { ip: ours });
        }
        if let Some(id) = better_id(family.own, ours, rng) {
            family.own = id;
            family.table.move_to(now, id);
            family.to_fill.clear();
            self.wake(now, voter.is_ipv6());
        }
    }
}

impl Search {
    /// What came of it.
    pub(super) fn outcome(&self, QueryPurpose { info_hash, .. }: QueryPurpose) -> DhtAction {
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

    fn next_upkeep(&self) -> Instant {
        let refresh = if self.upkeep.is_some() { Instant::NEVER } else { self.next_refresh() };
        refresh.min(self.table.next_ping().max(self.ping_at))
    }

    /// Whether a node of this address family is known.
    pub(super) fn is_used(&self) -> bool {
        self.table.len() > 0 || !self.routers.is_empty()
    }

    pub(super) fn routers(&self) -> &[SocketAddr] {
        &self.routers
    }

    /// Whether a search would get anywhere now; `None`: not now, but soon.
    pub(super) fn is_ready(&self) -> Option<bool> {
        match (self.table.len(), self.upkeep, self.bootstrap_at) {
            (1.., None, _) => Some(true),
            (1.., Some(_), _) if self.table.len() >= limits::DHT_K => Some(true),
            (0, None, Instant::NEVER) => Some(false),
            _ => None,
        }
    }
}
