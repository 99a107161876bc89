//! The simulated DHT network: events, packet delivery, and the measurement of searches.

use super::super::wire_digest::WireDigest;
use super::liar::Lie;
use crate::engine::dht::{Announce, Dht, DhtAction, LookupCost, NodeConfig};
use crate::units::{InfoHash, Instant, Rng};
use crate::wire::krpc::{PacketBody, parse};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

/// Parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct DhtScenario {
    /// Seed of every random choice.
    pub seed: u64,
    /// Number of nodes after all have joined.
    pub nodes: usize,
    /// Lost packets, percent.
    pub loss_percent: u32,
    /// Lying nodes, percent.
    pub liars_percent: u32,
    /// Average lifetime of a node; a leaving node is replaced. `None`: nodes never leave.
    pub stay: Option<Duration>,
    /// Time within which all nodes join.
    pub arrival: Duration,
    /// Time from then on until the first announce, so that routing tables can settle.
    pub settling: Duration,
    /// Number of torrents: one is announced every 100 ms, and searched for later.
    pub torrents: usize,
    /// Time from an announce to its search.
    pub wait: Duration,
}

/// Percentiles of a set of figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// The median.
    pub median: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The maximum.
    pub most: u64,
}

impl Percentiles {
    fn of(mut figures: Vec<u64>) -> Percentiles {
        figures.sort_unstable();
        let at = |part: usize| {
            figures.get((figures.len() * part / 100).min(figures.len().saturating_sub(1))).copied()
        };
        let [median, p99, most] = [50, 99, 100].map(|part| at(part).unwrap_or_default());
        Percentiles { median, p99, most }
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhtReport {
    /// Completed searches.
    pub searches: usize,
    /// Completed searches that found the announced peer.
    pub found: usize,
    /// Sequential rounds of queries per search.
    pub rounds: Percentiles,
    /// Length of the chain of responses that led to the closest node, per search.
    pub hops: Percentiles,
    /// Queries per search.
    pub queries: Percentiles,
    /// Bytes of queries and responses per search.
    pub bytes: Percentiles,
    /// Milliseconds from the start of a search to the announced peer.
    pub found_ms: Percentiles,
    /// Milliseconds from the start of a search to its end.
    pub ended_ms: Percentiles,
    /// Good IPv4 nodes per routing table of the honest nodes.
    pub nodes: Percentiles,
    /// Honest nodes whose id matches their address (BEP 42), percent.
    pub secure_percent: u64,
    /// Packets sent by all nodes.
    pub packets: u64,
    /// Bytes per second sent by an honest node, averaged over its lifetime and over the nodes.
    pub sent_per_second_bytes: u64,
    /// A digest of every packet sent, in order.
    pub wire_digest: u64,
}

enum DhtEvent {
    Join,
    Leave,
    Wake(usize),
    Packet { from: SocketAddr, to: SocketAddr, bytes: Box<[u8]> },
    Announce(usize),
    Search(usize),
}

struct Member {
    dht: Dht,
    addr: SocketAddr,
    lie: Option<Lie>,
    latency_us: u64,
    wakes_at: Instant,
    joined_at: Instant,
}

/// A torrent that is announced and searched for.
#[derive(Default)]
struct DhtTorrent {
    peer: Option<SocketAddr>,
    searcher: Option<usize>,
    began: Instant,
    found: Option<Instant>,
}

struct DhtWorld {
    scenario: DhtScenario,
    rng: Rng,
    now: Instant,
    pushed: u64,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    events: Vec<Option<DhtEvent>>,
    free: Vec<usize>,
    members: Vec<Option<Member>>,
    alive: Vec<usize>,
    by_addr: BTreeMap<SocketAddr, usize>,
    liars: Vec<SocketAddr>,
    torrents: Vec<DhtTorrent>,
    costs: Vec<LookupCost>,
    found_ms: Vec<u64>,
    ended_ms: Vec<u64>,
    wire_digest: WireDigest,
    report: DhtReport,
}

/// Runs a scenario to the end of its searches.
pub fn run(scenario: &DhtScenario) -> DhtReport {
    let mut world = DhtWorld {
        scenario: *scenario,
        rng: Rng::new(scenario.seed),
        now: Instant::ZERO,
        pushed: 0,
        queue: BinaryHeap::new(),
        events: Vec::new(),
        free: Vec::new(),
        members: Vec::new(),
        alive: Vec::new(),
        by_addr: BTreeMap::new(),
        liars: Vec::new(),
        torrents: Vec::new(),
        costs: Vec::new(),
        found_ms: Vec::new(),
        ended_ms: Vec::new(),
        wire_digest: WireDigest::default(),
        report: DhtReport::default(),
    };
    let arrival_us = scenario.arrival.as_micros() as u64;
    for n in 0..scenario.nodes as u64 {
        world.push(Instant::from_micros(arrival_us * n / scenario.nodes as u64), DhtEvent::Join);
    }
    let start = Instant::ZERO + scenario.arrival;
    if scenario.stay.is_some() {
        world.push(start, DhtEvent::Leave);
    }
    for n in 0..scenario.torrents {
        world.torrents.push(DhtTorrent::default());
        world.push(start + scenario.settling + Duration::from_millis(100 * n as u64), DhtEvent::Announce(n));
    }
    let end =
        start + scenario.settling + Duration::from_millis(100 * scenario.torrents as u64) + scenario.wait;
    world.run(end + Duration::from_secs(120));
    world.finish(start)
}

fn info_hash(torrent: usize) -> InfoHash {
    let mut rng = Rng::new(0x7072_6f76_6520_6974 ^ torrent as u64);
    let mut hash = [0; 20];
    rng.fill(&mut hash);
    InfoHash(hash)
}

impl DhtWorld {
    fn push(&mut self, at: Instant, event: DhtEvent) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.events.push(None);
                self.events.len() - 1
            }
        };
        self.events[slot] = Some(event);
        self.pushed += 1;
        self.queue.push(Reverse((at, self.pushed, slot)));
    }

    fn run(&mut self, end: Instant) {
        while let Some(Reverse((at, _, slot))) = self.queue.pop() {
            if at > end {
                break;
            }
            assert!(at >= self.now, "time decreases");
            self.now = at;
            self.free.push(slot);
            match self.events[slot].take() {
                Some(DhtEvent::Join) => self.join(),
                Some(DhtEvent::Leave) => self.leave(),
                Some(DhtEvent::Wake(member)) => self.with_member(member, |m, now, out| {
                    if m.wakes_at <= now {
                        m.wakes_at = Instant::NEVER;
                        m.dht.on_deadline(now, out);
                        assert!(m.dht.next_deadline() > now, "a deadline remains due");
                    }
                }),
                Some(DhtEvent::Packet { from, to, bytes }) => self.deliver(from, to, &bytes),
                Some(DhtEvent::Announce(torrent)) => self.announce(torrent),
                Some(DhtEvent::Search(torrent)) => self.search(torrent),
                None => {}
            }
        }
    }

    fn join(&mut self) {
        let index = self.members.len();
        let n = index as u32;
        // The first three octets differ for up to 5 million nodes: no two nodes share a /24.
        let ip = [
            20 + (n % 79) as u8,
            (n / 79 % 256) as u8,
            (n / (79 * 256)) as u8,
            1 + (n.wrapping_mul(97) % 250) as u8,
        ];
        let addr = SocketAddr::from((ip, 6881));
        let lies = self.rng.below(100) < self.scenario.liars_percent as usize && index > 4;
        let lie = lies.then(|| Lie::of(self.rng.below(4)));
        let config = NodeConfig { seed: self.rng.u64(), port: 6881, read_only: false };
        let latency_us = 10_000 + self.rng.below(80_000) as u64;
        let dht = Dht::new(self.now, config);
        self.members.push(Some(Member {
            dht,
            addr,
            lie,
            latency_us,
            wakes_at: Instant::NEVER,
            joined_at: self.now,
        }));
        self.by_addr.insert(addr, index);
        if lies {
            self.liars.push(addr);
        }
        // As many nodes as a node cache or the peers of a torrent provide.
        let known: Vec<SocketAddr> =
            (0..8).filter_map(|_| self.random_member()).map(|(_, addr)| addr).collect();
        self.alive.push(index);
        self.with_member(index, |m, now, out| known.iter().for_each(|addr| m.dht.add_node(now, *addr, out)));
    }

    fn random_member(&mut self) -> Option<(usize, SocketAddr)> {
        let index = *self.alive.get(self.rng.below(self.alive.len()))?;
        Some((index, self.members[index].as_ref()?.addr))
    }

    fn random_settled_honest(&mut self) -> Option<usize> {
        // A node that has just joined has no routing table yet.
        let settled =
            |m: &Member, now: Instant| m.lie.is_none() && now.since(m.joined_at) > Duration::from_secs(60);
        (0..1000).find_map(|_| {
            let (index, _) = self.random_member()?;
            self.members[index].as_ref().filter(|m| settled(m, self.now)).map(|_| index)
        })
    }

    fn leave(&mut self) {
        let Some(stay) = self.scenario.stay else { return };
        if !self.alive.is_empty() {
            let at = self.rng.below(self.alive.len());
            let index = self.alive[at];
            // A searching node stays until its search is done; the other nodes are enough to measure churn.
            if !self.torrents.iter().any(|t| t.searcher == Some(index)) {
                self.alive.swap_remove(at);
                if let Some(member) = self.members[index].take() {
                    self.by_addr.remove(&member.addr);
                    self.liars.retain(|addr| *addr != member.addr);
                }
                self.join();
            }
        }
        self.push(self.now + stay / self.scenario.nodes.max(1) as u32, DhtEvent::Leave);
    }

    /// Calls `f` with a node, schedules its next wake-up and runs its actions.
    fn with_member(&mut self, index: usize, f: impl FnOnce(&mut Member, Instant, &mut Vec<DhtAction>)) {
        let Some(member) = &mut self.members[index] else { return };
        let mut out = Vec::new();
        f(member, self.now, &mut out);
        let addr = member.addr;
        let next = member.dht.next_deadline();
        if next < member.wakes_at {
            member.wakes_at = next;
            self.push(next.max(self.now), DhtEvent::Wake(index));
        }
        for action in out {
            match action {
                DhtAction::Send { to, bytes } => self.send(addr, to, bytes),
                DhtAction::Peers { info_hash, peers } => self.on_peers(index, info_hash, &peers),
                DhtAction::Done { info_hash } => self.on_done(index, info_hash),
                DhtAction::Scraped { .. } | DhtAction::External { .. } => {}
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Box<[u8]>) {
        self.report.packets += 1;
        self.wire_digest.datagram(from, to, &bytes);
        assert!(bytes.len() <= 1024, "a packet of {} bytes", bytes.len());
        let lost = self.rng.below(100) < self.scenario.loss_percent as usize;
        let end = |world: &DhtWorld, addr| {
            world.by_addr.get(&addr).and_then(|i| world.members[*i].as_ref()).map(|m| m.latency_us)
        };
        let (Some(a), Some(b), false) = (end(self, from), end(self, to), lost) else { return };
        let latency = Duration::from_micros(a + b + self.rng.below(10_000) as u64);
        self.push(self.now + latency, DhtEvent::Packet { from, to, bytes });
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(&index) = self.by_addr.get(&to) else { return };
        let Some(member) = &self.members[index] else { return };
        let is_query = parse(bytes).is_ok_and(|p| matches!(p.body, PacketBody::Query(_)));
        match member.lie.filter(|_| is_query) {
            Some(lie) => {
                let own = member.dht.id(false);
                if let Some(response) = lie.respond(own, from, bytes, &self.liars, &mut self.rng) {
                    self.send(to, from, response.into());
                }
            }
            None => self.with_member(index, |m, now, out| assert!(m.dht.on_datagram(now, from, bytes, out))),
        }
    }

    // ---- measurement --------------------------------------------------------------------------------------

    fn announce(&mut self, torrent: usize) {
        let Some(index) = self.random_settled_honest() else { return };
        let peer = self.members[index].as_ref().map(|m| SocketAddr::new(m.addr.ip(), 7000));
        self.torrents[torrent].peer = peer;
        self.push(self.now + self.scenario.wait, DhtEvent::Search(torrent));
        self.with_member(index, |m, now, out| {
            m.dht.search(now, info_hash(torrent), Some(Announce { ports: [7000; 2], seed: false }), out);
        });
    }

    fn search(&mut self, torrent: usize) {
        let Some(index) = self.random_settled_honest() else { return };
        let now = self.now;
        let t = &mut self.torrents[torrent];
        t.searcher = Some(index);
        t.began = now;
        self.with_member(index, |m, now, out| m.dht.search(now, info_hash(torrent), None, out));
    }

    fn torrent(&mut self, searcher: usize, hash: InfoHash) -> Option<&mut DhtTorrent> {
        let mut torrents = self.torrents.iter_mut().enumerate();
        torrents.find(|(n, t)| t.searcher == Some(searcher) && info_hash(*n) == hash).map(|(_, t)| t)
    }

    fn on_peers(&mut self, index: usize, hash: InfoHash, peers: &[SocketAddr]) {
        let now = self.now;
        let Some(t) = self.torrent(index, hash) else { return };
        if t.peer.is_some_and(|peer| peers.contains(&peer)) {
            t.found.get_or_insert(now);
        }
    }

    fn on_done(&mut self, index: usize, hash: InfoHash) {
        let now = self.now;
        let cost = self.members[index].as_ref().map(|m| m.dht.stats(now).last_search);
        let Some(t) = self.torrent(index, hash) else { return };
        t.searcher = None;
        let found = t.found;
        let began = t.began;
        self.report.searches += 1;
        self.report.found += usize::from(found.is_some());
        self.costs.extend(cost);
        self.found_ms.extend(found.map(|at| at.since(began).as_millis() as u64));
        self.ended_ms.push(now.since(began).as_millis() as u64);
    }

    fn finish(mut self, start: Instant) -> DhtReport {
        let of = |figure: fn(&LookupCost) -> u64, costs: &[LookupCost]| {
            Percentiles::of(costs.iter().map(figure).collect())
        };
        self.report.rounds = of(|c| c.rounds.into(), &self.costs);
        self.report.hops = of(|c| c.hops.into(), &self.costs);
        self.report.queries = of(|c| c.queries.into(), &self.costs);
        self.report.bytes = of(|c| c.bytes, &self.costs);
        self.report.found_ms = Percentiles::of(std::mem::take(&mut self.found_ms));
        self.report.ended_ms = Percentiles::of(std::mem::take(&mut self.ended_ms));
        let honest: Vec<&Member> = self.members.iter().flatten().filter(|m| m.lie.is_none()).collect();
        let old: Vec<&&Member> = honest.iter().filter(|m| m.joined_at <= start).collect();
        let stats = |m: &Member| m.dht.stats(self.now);
        self.report.nodes = Percentiles::of(old.iter().map(|m| stats(m).nodes_v4 as u64).collect());
        let secure = old.iter().filter(|m| m.dht.id(false).is_secure_for(m.addr.ip())).count();
        self.report.secure_percent = (100 * secure / old.len().max(1)) as u64;
        let sent = |m: &Member| stats(m).sent_bytes / self.now.since(m.joined_at).as_secs().max(1);
        self.report.sent_per_second_bytes =
            old.iter().map(|m| sent(m)).sum::<u64>() / old.len().max(1) as u64;
        self.report.wire_digest = self.wire_digest.get();
        self.report
    }
}
