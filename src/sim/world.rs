//! The simulated world: nodes, connections, and a clock that jumps from event to event. The seed determines
//! everything.
//!
//! ```text
//!   queue ──event──▶ one node ──▶ its engine ──actions──▶ bytes into pipes, replies of disk and tracker ──▶ queue
//! ```
//!
//! `traffic` moves bytes, `driver` runs the actions of engines; this file adds and removes nodes and advances
//! time.

use super::disk::Disk;
use super::faults::{FaultCounts, chance};
use super::link::NodeId;
use super::link::{LineState, Link, PipeId};
use super::node::{Body, EngineNode, PuppetNode, RateCheckers, SimNode, private_address, public_address};
use super::puppet::{Puppet, PuppetRole};
use super::queue::{Fingerprint, Queue, SimEvent};
use super::rate_checker::RateChecker;
use super::report::{PeerReport, Report, Sample};
use super::scenario::{Line, MBIT, Scenario};
use super::tracker::{HTTP_URL, Tracker, UDP_URL};
use super::wire_checker::WireChecker;
use super::wire_digest::WireDigest;
use crate::engine::{
    Actions, ConnectionCounts, Encryption, Engine, EngineConfig, TorrentInfo, TorrentSpec, WindowRule,
};
use crate::units::{Bitfield, Geometry, InfoHash, Instant, PeerId, Rng, TransportKind, Transports};
use crate::wire::WritePlan;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The torrent of every run.
pub(super) const INFO_HASH: InfoHash = InfoHash(*b"a torrent that's not");
/// Time of the first event, unless `Faults::clock_before_end` sets another.
const START: Instant = Instant::from_micros(1_000_000);
/// Points of the completion curve before the fluid limit.
const SAMPLES: u32 = 100;
/// Addresses that a puppet dials when it joins.
const PUPPET_DIALS: usize = 4;
/// Time within which engines must become idle after shutdown.
const SHUTDOWN_TIME: Duration = Duration::from_secs(60);
/// A line between processes on one machine: fast but not unlimited. An upload limit releases more bytes at
/// once than a socket takes, so the rest goes to other peers; over an unlimited line one peer would get all
/// of it.
const MACHINE: Line = Line { up: 10_000 * MBIT, down: 10_000 * MBIT, latency: Duration::ZERO };
/// Upload rate of a slow puppet, bytes per second.
const SLOW: u64 = 2048;

/// State of a run.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) now: Instant,
    pub(super) started_at: Instant,
    pub(super) queue: Queue,
    pub(super) nodes: Vec<SimNode>,
    /// Connections by number; numbers are not reused.
    pub(super) links: Vec<Option<Box<Link>>>,
    pub(super) geometry: Geometry,
    pub(super) rng: Rng,
    pub(super) tracker: Tracker,
    pub(super) fault_counts: FaultCounts,
    pub(super) wire_checker: Option<WireChecker>,
    /// A plan that is reused, to save allocations.
    pub(super) plan: WritePlan,
    /// Payload totals of all nodes.
    pub(super) payload: PayloadTotals,
    /// Bytes that peers have verified.
    pub(super) have_bytes: u64,
    /// Number of complete peers.
    pub(super) complete: u32,
    /// Payload bytes sent by the seeds.
    pub(super) seeds_uploaded: u64,
    pub(super) wire_digest: WireDigest,
    fingerprint: Fingerprint,
    events: u64,
    samples: Vec<Sample>,
}

/// Totals of payload bytes: sent by any node, received by any node, lost in transit.
#[derive(Debug, Default)]
pub(super) struct PayloadTotals {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
}

/// Runs a scenario to its end.
///
/// # Panics
/// If a check of the oracle fails, which is a bug in the engine or the simulator. The replay command is
/// printed to stderr.
pub fn run(scenario: &Scenario) -> Report {
    let replay = Replay(scenario);
    let mut world = World::new(scenario.clone());
    world.run_until_complete();
    let report = world.shut_down();
    drop(replay);
    report
}

/// Prints the replay command when a check fails.
struct Replay<'a>(&'a Scenario);

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: {}", self.0.command());
        }
    }
}

impl World {
    fn new(scenario: Scenario) -> World {
        let geometry =
            Geometry::new(scenario.size, u64::from(scenario.piece_len)).expect("a scenario has content");
        let now = match scenario.faults.clock_before_end {
            Some(left) => Instant::from_micros(u64::MAX - left.as_micros() as u64),
            None => START,
        };
        let mut world = World {
            now,
            started_at: now,
            queue: Queue::default(),
            nodes: Vec::new(),
            links: Vec::new(),
            geometry,
            rng: Rng::new(scenario.seed),
            tracker: Tracker::new(scenario.handout),
            fault_counts: FaultCounts::default(),
            wire_checker: scenario.strict.then(WireChecker::default),
            plan: WritePlan::default(),
            payload: PayloadTotals::default(),
            have_bytes: 0,
            complete: 0,
            seeds_uploaded: 0,
            wire_digest: WireDigest::default(),
            fingerprint: Fingerprint::default(),
            events: 0,
            samples: Vec::new(),
            scenario,
        };
        world.add_nodes();
        world
    }

    /// Adds every node and schedules its arrival.
    fn add_nodes(&mut self) {
        let s = self.scenario.clone();
        for n in 0..s.seeds {
            self.add_engine(s.seed_line(n), true, true, false);
        }
        for n in 0..s.peers {
            let dialable =
                !chance(&mut self.rng, s.undialable) || s.mappable > 0.0 && chance(&mut self.rng, s.mappable);
            self.add_engine(s.line(n), false, dialable, n >= s.peers - s.free_riders.min(s.peers));
        }
        let puppets = s.puppets.iter().flat_map(|(role, count)| (0..*count).map(|n| (*role, n)));
        for (role, n) in puppets {
            let number = self.nodes.len() as u32;
            let line = s.line(n);
            let line = if role == PuppetRole::Slow { Line { up: SLOW, ..line } } else { line };
            let puppet = Puppet::new(role, number, &self.geometry, &mut self.rng);
            let body = Body::Puppet(Box::new(PuppetNode { puppet, connections: BTreeMap::new() }));
            let addr = self.address(number);
            self.nodes.push(SimNode::new(addr, LineState::new(line), true, body));
        }
        let total = self.nodes.len() as u32;
        let leeching = s.peers;
        for n in 0..total {
            let rank = n.saturating_sub(s.seeds);
            let after = if n < s.seeds {
                Duration::ZERO
            } else {
                s.arrive_within * rank.min(leeching) / leeching.max(1)
            };
            self.queue.push(self.started_at + after, SimEvent::Join(n));
        }
        self.queue.push(self.started_at, SimEvent::Sample);
        if s.faults.lose_connections.is_some() {
            self.next_loss();
        }
    }

    fn add_engine(&mut self, line: Line, is_seed: bool, dialable: bool, free_rider: bool) {
        let s = &self.scenario;
        let number = self.nodes.len() as u32;
        let known_peer =
            if s.one_known_peer && number > 0 { Some(self.rng.below(number as usize) as u32) } else { None };
        let known_peer = known_peer.map(|known_peer| self.address(known_peer));
        let s = &self.scenario;
        let mut peer_id = *b"-ri0100-000000000000";
        peer_id[8..12].copy_from_slice(&number.to_be_bytes());
        peer_id[12..20].copy_from_slice(&self.rng.u64().to_be_bytes());
        let mut policy = s.policy;
        if free_rider {
            policy.upload_slots = 0;
        }
        let limit = |rate: u64| (s.limit_in_engine && rate != u64::MAX).then_some(rate);
        let (WindowRule::Adaptive { max: most_requests, .. } | WindowRule::Fixed(most_requests)) =
            policy.window;
        let mut engine = Engine::new(EngineConfig {
            peer_id: PeerId(peer_id),
            port: 6881,
            max_peers: s.max_peers as usize,
            max_peers_per_torrent: s.max_peers as usize,
            download_limit: limit(line.down),
            upload_limit: limit(line.up),
            seed: self.rng.u64(),
            version: "rill".into(),
            policy,
            pex: s.pex,
            lsd: false,
            transports: if s.punches.is_some() { Transports::Both } else { Transports::Tcp },
            encryption: Encryption::Off,
            secret: [0; 32],
        });
        let pieces = self.geometry.pieces();
        let tracker = if s.udp_tracker { UDP_URL } else { HTTP_URL };
        let spec = TorrentSpec {
            info_hash: INFO_HASH,
            torrent_info: Some(TorrentInfo {
                geometry: self.geometry,
                wanted: Bitfield::full(pieces),
                private: false,
                info: None,
            }),
            trackers: if s.one_known_peer { Vec::new() } else { vec![vec![tracker.to_owned()]] },
            peers: known_peer.into_iter().collect(),
            sequential: s.sequential,
            download_limit: None,
            upload_limit: None,
        };
        let torrent = engine.add_torrent(self.now, spec).expect("the only torrent");
        let have = if is_seed { Bitfield::full(pieces) } else { Bitfield::empty(pieces) };
        let node = EngineNode {
            engine,
            torrent,
            out: Actions::default(),
            disk: Disk::new(self.geometry, have),
            connections: BTreeMap::new(),
            to_read: Vec::new(),
            wake_at: Instant::NEVER,
            running_actions: false,
            turn_due: false,
            turns: 0,
            most_requests: most_requests as usize,
            rate_checkers: RateCheckers {
                up: RateChecker::new(limit(line.up), self.now),
                down: RateChecker::new(limit(line.down), self.now),
            },
            is_seed,
            free_rider,
            verified_bytes: 0,
            first_piece: None,
            at_99_percent: None,
            complete: None,
        };
        let line = if s.limit_in_engine { Line { latency: line.latency, ..MACHINE } } else { line };
        let addr = self.address(number);
        self.nodes.push(SimNode::new(addr, LineState::new(line), dialable, Body::Engine(Box::new(node))));
    }

    fn address(&self, number: u32) -> SocketAddr {
        if self.scenario.one_network { private_address(number) } else { public_address(number) }
    }

    // ---- time ---------------------------------------------------------------------------------------------

    /// Runs until every peer is complete, no event is left, or `Scenario::patience` ends.
    fn run_until_complete(&mut self) {
        let end = self.started_at + self.scenario.patience;
        while !self.all_complete() {
            let Some((at, event)) = self.queue.pop() else { break };
            if at > end {
                self.queue.push(at, event);
                break;
            }
            self.handle_event(at, event);
        }
    }

    fn all_complete(&self) -> bool {
        self.complete == self.scenario.peers
    }

    fn handle_event(&mut self, at: Instant, event: SimEvent) {
        assert!(at >= self.now, "time decreases from {:?} to {at:?}", self.now);
        self.now = at;
        self.events += 1;
        self.fingerprint.add(at, &event);
        match event {
            SimEvent::Join(node) => self.join(node),
            SimEvent::Wake(node) => self.wake(node),
            SimEvent::Turn(node) => {
                if let Some(e) = self.nodes[node as usize].engine() {
                    e.turn_due = false;
                }
                self.turn_now(node);
            }
            SimEvent::LineFree(node) => {
                self.nodes[node as usize].line.sending = false;
                self.transmit(node);
                self.remove_seeds();
            }
            SimEvent::Arrive(pipe, n) => self.arrive(pipe, n),
            SimEvent::Deliver(pipe, n) => self.deliver(pipe, n),
            SimEvent::Unblock(pipe) => self.unblock(pipe),
            SimEvent::Dialed(link) => self.dialed(link),
            SimEvent::Accepted(link) => self.accepted(link),
            SimEvent::Refused(link) => self.refused(link),
            SimEvent::Lost(pipe) => self.lost(pipe),
            SimEvent::Prepared(node, piece, ready) => self.prepared(node, piece, ready),
            SimEvent::Hashed(node, verdict) => self.hashed(node, verdict.0, &verdict.1),
            SimEvent::Saved(node) => {
                self.with_engine(node, |now, e| {
                    e.engine.on_saved(now, e.torrent, &mut e.out);
                    e.engine.on_completed_saved(now, e.torrent, true, &mut e.out);
                });
            }
            SimEvent::Announced(node, id, result) => {
                self.with_engine(node, |now, e| e.engine.on_announced(now, id, *result, &mut e.out));
            }
            SimEvent::Resolved(node, id, addr) => {
                self.with_engine(node, |now, e| e.engine.on_resolved(now, id, Ok(vec![addr]), &mut e.out));
            }
            SimEvent::Datagram(from, to, bytes) => self.datagram(from, to, &bytes),
            SimEvent::Resume(node) => self.with_engine(node, |now, e| e.engine.resume(now, e.torrent)),
            SimEvent::CutConnection => {
                self.cut_random_connection();
                self.next_loss();
            }
            SimEvent::Sample => self.sample(),
        }
    }

    /// Calls an engine with the current time, then runs its actions.
    pub(super) fn with_engine(&mut self, node: NodeId, fact: impl FnOnce(Instant, &mut EngineNode)) {
        let now = self.now;
        if let Some(e) = self.nodes[node as usize].engine() {
            fact(now, e);
            self.turn(node);
        }
    }

    fn join(&mut self, node: NodeId) {
        let now = self.now;
        let n = &mut self.nodes[node as usize];
        n.present = true;
        n.arrived = now;
        match &mut n.body {
            Body::Engine(e) => {
                e.engine.on_opened(now, e.torrent, e.disk.verified().clone(), &mut e.out);
                self.turn(node);
            }
            Body::Puppet(_) => {
                let addr = n.addr;
                for peer in self.tracker.announce_puppet(addr, PUPPET_DIALS, &mut self.rng) {
                    self.dial(node, None, peer, TransportKind::Tcp);
                }
                self.schedule_flap(node);
            }
        }
    }

    fn wake(&mut self, node: NodeId) {
        let now = self.now;
        match &mut self.nodes[node as usize].body {
            Body::Engine(e) => {
                if e.wake_at != now {
                    return; // a wake-up that an earlier one replaced
                }
                e.wake_at = Instant::NEVER;
                e.engine.on_deadline(now, &mut e.out);
                let next = e.engine.next_deadline();
                assert!(next.is_none_or(|at| at > now), "a deadline at {next:?} remains due at {now:?}");
                self.turn(node);
            }
            Body::Puppet(_) => {
                self.flap_connections(node);
                self.schedule_flap(node);
            }
        }
    }

    /// Schedules the next wake-up of an engine.
    pub(super) fn arm(&mut self, node: NodeId) {
        let now = self.now;
        let Some(e) = self.nodes[node as usize].engine() else { return };
        let Some(at) = e.engine.next_deadline() else { return };
        let at = at.max(now);
        if at < e.wake_at {
            e.wake_at = at;
            self.queue.push(at, SimEvent::Wake(node));
        }
    }

    fn schedule_flap(&mut self, node: NodeId) {
        let now = self.now;
        if let Some(at) = self.nodes[node as usize].puppet().and_then(|p| p.puppet.next_flap(now)) {
            self.queue.push(at, SimEvent::Wake(node));
        }
    }

    fn next_loss(&mut self) {
        let Some(mean) = self.scenario.faults.lose_connections else { return };
        let wait = super::faults::random_up_to(&mut self.rng, mean * 2) + Duration::from_micros(1);
        self.queue.push(self.now + wait, SimEvent::CutConnection);
    }

    fn sample(&mut self) {
        let all = self.scenario.size * u64::from(self.scenario.peers);
        self.samples.push(Sample {
            at: self.now.since(self.started_at),
            have: self.have_bytes as f64 / all.max(1) as f64,
            complete: f64::from(self.complete) / f64::from(self.scenario.peers.max(1)),
        });
        let step = (self.scenario.fluid_limit() / SAMPLES).max(Duration::from_millis(10));
        self.queue.push(self.now + step, SimEvent::Sample);
    }

    // ---- shutdown -----------------------------------------------------------------------------------------

    /// Shuts a node down; it sends its last messages and closes its connections.
    pub(super) fn leave(&mut self, node: NodeId) {
        let now = self.now;
        let n = &mut self.nodes[node as usize];
        n.present = false;
        if let Body::Engine(e) = &mut n.body {
            e.engine.shut_down(now, &mut e.out);
            self.turn(node);
        }
    }

    /// Shuts every node down and checks that each becomes idle.
    fn shut_down(mut self) -> Report {
        self.sample();
        let lasted = self.now.since(self.started_at);
        for node in 0..self.nodes.len() as u32 {
            self.leave(node);
        }
        let end = self.now + SHUTDOWN_TIME;
        while let Some((at, event)) = self.queue.pop().filter(|(at, _)| *at <= end) {
            if !matches!(event, SimEvent::Sample | SimEvent::CutConnection) {
                self.handle_event(at, event);
            }
        }
        for (number, n) in self.nodes.iter_mut().enumerate() {
            if let Body::Engine(e) = &mut n.body {
                assert!(e.engine.is_idle(), "node {number} was shut down and is not idle");
                assert!(
                    !e.disk.has_writers(),
                    "node {number} was shut down, but a peer still writes a block"
                );
            }
        }
        self.check_payload();
        self.report(lasted)
    }

    /// Checks that payload sent is payload received, lost or in transit.
    pub(super) fn check_payload(&self) {
        let on_its_way: u64 =
            self.links.iter().flatten().flat_map(|l| &l.ends).map(|e| e.out.payload_bytes()).sum();
        let PayloadTotals { sent, received, lost } = self.payload;
        assert_eq!(
            sent,
            received + lost + on_its_way,
            "payload: {sent} sent, {received} received, {lost} lost, {on_its_way} in transit"
        );
    }

    fn report(mut self, lasted: Duration) -> Report {
        let now = self.now;
        let mut peers = Vec::new();
        let first = self.scenario.seeds;
        for number in 0..self.scenario.peers {
            let n = &mut self.nodes[(first + number) as usize];
            let dialable = n.dialable;
            let arrived = n.arrived;
            let line = self.scenario.line(number);
            let Some(e) = n.engine() else { continue };
            let stats = e.engine.stats(now, e.torrent);
            let of = |f: fn(&crate::engine::TorrentStats) -> u64| stats.as_ref().map_or(0, f);
            let since = |at: Option<Instant>| at.map(|at| at.since(arrived));
            peers.push(PeerReport {
                number,
                line,
                dialable,
                free_rider: e.free_rider,
                first_piece: since(e.first_piece),
                nearly: since(e.at_99_percent),
                complete: since(e.complete),
                downloaded: of(|s| s.downloaded),
                uploaded: of(|s| s.uploaded),
                wasted: of(|s| s.wasted),
            });
        }
        let mut connections = ConnectionCounts::default();
        for node in &self.nodes {
            if let Body::Engine(e) = &node.body {
                connections.add(&e.engine.connection_counts());
            }
        }
        let most_waste = self.scenario.most_waste;
        let report = Report {
            peers,
            seeds_uploaded: self.seeds_uploaded,
            samples: self.samples,
            fluid_limit: self.scenario.fluid_limit(),
            lasted,
            events: self.events,
            connections,
            faults: self.fault_counts.into_counts(),
            fingerprint: self.fingerprint.get(),
            wire_digest: self.wire_digest.get(),
        };
        assert!(
            report.waste() <= most_waste,
            "{} of the received payload was wasted, allowed is {most_waste}",
            report.waste()
        );
        report
    }

    /// Returns the one-way latency between two nodes.
    pub(super) fn latency(&self, a: NodeId, b: NodeId) -> Duration {
        self.nodes[a as usize].line.line.latency + self.nodes[b as usize].line.line.latency
    }

    /// Returns the link of a pipe, if it still exists.
    pub(super) fn link(&mut self, pipe: PipeId) -> Option<&mut Link> {
        self.links.get_mut(pipe.link())?.as_deref_mut()
    }
}
