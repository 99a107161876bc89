//! The virtual world: nodes, connections, a clock that jumps from event to event, and nothing that is not
//! decided by the seed.
//!
//! ```text
//!   queue ──event──▶ a fact for one node ──▶ its engine ──actions──▶ bytes into pipes, answers of disk and tracker ──▶ queue
//! ```
//!
//! What connections carry is in `traffic`, what engines want done in `hands`; here nodes come and go, and
//! time passes.

use super::disk::Disk;
use super::faults::{Tally, chance};
use super::link::{LineState, Link, PipeId};
use super::node::{Body, Caps, EngineNode, PuppetNode, SimNode, address, address_at_home};
use super::puppet::{Puppet, PuppetRole};
use super::queue::{Fingerprint, NodeId, Queue, SimEvent};
use super::rate_checker::Cap;
use super::report::{PeerReport, Report, Sample};
use super::scenario::{Line, MBIT, Scenario};
use super::tracker::{HTTP_URL, Tracker, UDP_URL};
use super::wire_checker::Taps;
use super::wire_digest::WireDigest;
use crate::engine::{Actions, Engine, EngineConfig, TorrentInfo, TorrentSpec, WindowRule};
use crate::units::{Bitfield, Geometry, InfoHash, Instant, PeerId, Rng};
use crate::wire::WritePlan;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The torrent of every run.
pub(super) const INFO_HASH: InfoHash = InfoHash(*b"a torrent that's not");
/// When the first thing happens, unless the clock is near its end.
const BEGINNING: Instant = Instant::from_micros(1_000_000);
/// Points of the curve before the fluid limit.
const SAMPLES: u32 = 100;
/// Addresses that a puppet dials when it comes.
const PUPPET_DIALS: usize = 4;
/// Time that engines have to become idle when they are told to.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// The line between processes on one machine: never the reason for anything, but not without end either. What
/// an upload limit lets go at once is more than a socket takes at once, so the rest of it goes to others;
/// over an endless line one peer would have it all.
const MACHINE: Line = Line { up: 10_000 * MBIT, down: 10_000 * MBIT, latency: Duration::ZERO };
/// What a slow puppet sends, bytes a second.
const SLOW: u64 = 2048;

/// Everything that there is.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) now: Instant,
    pub(super) begun: Instant,
    pub(super) queue: Queue,
    pub(super) nodes: Vec<SimNode>,
    /// Connections by number; numbers are not used again.
    pub(super) links: Vec<Option<Box<Link>>>,
    pub(super) geometry: Geometry,
    pub(super) rng: Rng,
    pub(super) tracker: Tracker,
    pub(super) tally: Tally,
    pub(super) taps: Option<Taps>,
    /// One plan for all, cleared each time.
    pub(super) plan: WritePlan,
    /// Payload that engines planned, that engines took in, and that was lost on its way, bytes.
    pub(super) payload: Conserved,
    /// Bytes that peers have verified, and peers that are complete.
    pub(super) have_bytes: u64,
    pub(super) complete: u32,
    pub(super) seeds_uploaded: u64,
    pub(super) wire_digest: WireDigest,
    fingerprint: Fingerprint,
    events: u64,
    samples: Vec<Sample>,
}

/// Payload is made and lost only where it is counted.
#[derive(Debug, Default)]
pub(super) struct Conserved {
    pub(super) out: u64,
    pub(super) taken: u64,
    pub(super) lost: u64,
}

/// Runs a scenario to its end.
///
/// # Panics
/// If a law of the oracle is broken, which is a bug of the engine's or the simulator's. The message names the
/// command that shows it again.
pub fn run(scenario: &Scenario) -> Report {
    let replay = Replay(scenario);
    let mut world = World::new(scenario.clone());
    world.live();
    let report = world.end();
    drop(replay);
    report
}

/// Says, if a law is broken, how to see it again.
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
            None => BEGINNING,
        };
        let mut world = World {
            now,
            begun: now,
            queue: Queue::default(),
            nodes: Vec::new(),
            links: Vec::new(),
            geometry,
            rng: Rng::new(scenario.seed),
            tracker: Tracker::new(scenario.handout),
            tally: Tally::default(),
            taps: scenario.strict.then(Taps::default),
            plan: WritePlan::default(),
            payload: Conserved::default(),
            have_bytes: 0,
            complete: 0,
            seeds_uploaded: 0,
            wire_digest: WireDigest::default(),
            fingerprint: Fingerprint::default(),
            events: 0,
            samples: Vec::new(),
            scenario,
        };
        world.cast();
        world
    }

    /// Every node that takes part, and when it comes.
    fn cast(&mut self) {
        let s = self.scenario.clone();
        for n in 0..s.seeds {
            self.add_engine(s.seed_line(n), true, true, false);
        }
        for n in 0..s.peers {
            let dialable = !chance(&mut self.rng, s.undialable);
            self.add_engine(s.line(n), false, dialable, n >= s.peers - s.free_riders.min(s.peers));
        }
        let puppets = s.puppets.iter().flat_map(|(part, count)| (0..*count).map(|n| (*part, n)));
        for (part, n) in puppets {
            let number = self.nodes.len() as u32;
            let line = s.line(n);
            let line = if part == PuppetRole::Slow { Line { up: SLOW, ..line } } else { line };
            let puppet = Puppet::new(part, number, &self.geometry, &mut self.rng);
            let body = Body::Puppet(Box::new(PuppetNode { puppet, talks: BTreeMap::new() }));
            let addr = self.address(number);
            self.nodes.push(SimNode::new(addr, LineState::new(line), true, body));
        }
        let (total, leeching) = (self.nodes.len() as u32, s.peers);
        for n in 0..total {
            let rank = n.saturating_sub(s.seeds);
            let after = if n < s.seeds {
                Duration::ZERO
            } else {
                s.arrive_within * rank.min(leeching) / leeching.max(1)
            };
            self.queue.push(self.begun + after, SimEvent::Join(n));
        }
        self.queue.push(self.begun, SimEvent::Sample);
        if s.faults.lose_connections.is_some() {
            self.next_loss();
        }
    }

    fn add_engine(&mut self, line: Line, is_seed: bool, dialable: bool, free_rider: bool) {
        let s = &self.scenario;
        let number = self.nodes.len() as u32;
        let friend =
            if s.by_acquaintance && number > 0 { Some(self.rng.below(number as usize) as u32) } else { None };
        let friend = friend.map(|friend| self.address(friend));
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
            trackers: if s.by_acquaintance { Vec::new() } else { vec![vec![tracker.to_owned()]] },
            peers: friend.into_iter().collect(),
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
            acting: false,
            turn_due: false,
            turns: 0,
            most_requests: most_requests as usize,
            caps: Caps { up: Cap::new(limit(line.up), self.now), down: Cap::new(limit(line.down), self.now) },
            is_seed,
            free_rider,
            verified_bytes: 0,
            first_piece: None,
            nearly: None,
            complete: None,
        };
        let line = if s.limit_in_engine { Line { latency: line.latency, ..MACHINE } } else { line };
        let addr = self.address(number);
        self.nodes.push(SimNode::new(addr, LineState::new(line), dialable, Body::Engine(Box::new(node))));
    }

    fn address(&self, number: u32) -> SocketAddr {
        if self.scenario.one_network { address_at_home(number) } else { address(number) }
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    /// Lets time pass until every peer is complete, nothing happens any more, or patience ends.
    fn live(&mut self) {
        let end = self.begun + self.scenario.patience;
        while !self.is_over() {
            let Some((at, event)) = self.queue.pop() else { break };
            if at > end {
                self.queue.push(at, event);
                break;
            }
            self.happen(at, event);
        }
    }

    fn is_over(&self) -> bool {
        self.complete == self.scenario.peers
    }

    fn happen(&mut self, at: Instant, event: SimEvent) {
        assert!(at >= self.now, "time goes back from {:?} to {at:?}", self.now);
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
                self.let_seeds_go();
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
                self.with_engine(node, |now, e| e.engine.on_saved(now, e.torrent, &mut e.out))
            }
            SimEvent::Announced(node, id, result) => {
                self.with_engine(node, |now, e| e.engine.on_announced(now, id, *result, &mut e.out))
            }
            SimEvent::Resolved(node, id, addr) => {
                self.with_engine(node, |now, e| e.engine.on_resolved(now, id, Ok(vec![addr]), &mut e.out));
            }
            SimEvent::Datagram(from, to, bytes) => self.datagram(from, to, &bytes),
            SimEvent::Resume(node) => self.with_engine(node, |now, e| e.engine.resume(now, e.torrent)),
            SimEvent::LoseOne => {
                self.lose_one();
                self.next_loss();
            }
            SimEvent::Sample => self.sample(),
        }
    }

    /// A fact for an engine, and what comes of it.
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
        (n.present, n.arrived) = (true, now);
        match &mut n.body {
            Body::Engine(e) => {
                e.engine.on_opened(now, e.torrent, e.disk.verified().clone(), &mut e.out);
                self.turn(node);
            }
            Body::Puppet(_) => {
                let addr = n.addr;
                for peer in self.tracker.enter(addr, PUPPET_DIALS, &mut self.rng) {
                    self.dial(node, None, peer);
                }
                self.next_whim(node);
            }
        }
    }

    fn wake(&mut self, node: NodeId) {
        let now = self.now;
        match &mut self.nodes[node as usize].body {
            Body::Engine(e) => {
                if e.wake_at != now {
                    return; // it was woken earlier, for an earlier deadline
                }
                e.wake_at = Instant::NEVER;
                e.engine.on_deadline(now, &mut e.out);
                let next = e.engine.next_deadline();
                assert!(
                    next.is_none_or(|at| at > now),
                    "a deadline at {next:?} is met at {now:?} and stays due"
                );
                self.turn(node);
            }
            Body::Puppet(_) => {
                self.whims(node);
                self.next_whim(node);
            }
        }
    }

    /// Sees to it that the engine is woken in time.
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

    fn next_whim(&mut self, node: NodeId) {
        let now = self.now;
        if let Some(at) = self.nodes[node as usize].puppet().and_then(|p| p.puppet.next_whim(now)) {
            self.queue.push(at, SimEvent::Wake(node));
        }
    }

    fn next_loss(&mut self) {
        let Some(mean) = self.scenario.faults.lose_connections else { return };
        let wait = super::faults::up_to(&mut self.rng, mean * 2) + Duration::from_micros(1);
        self.queue.push(self.now + wait, SimEvent::LoseOne);
    }

    fn sample(&mut self) {
        let all = self.scenario.size * u64::from(self.scenario.peers);
        self.samples.push(Sample {
            at: self.now.since(self.begun),
            have: self.have_bytes as f64 / all.max(1) as f64,
            complete: f64::from(self.complete) / f64::from(self.scenario.peers.max(1)),
        });
        let step = (self.scenario.fluid_limit() / SAMPLES).max(Duration::from_millis(10));
        self.queue.push(self.now + step, SimEvent::Sample);
    }

    // ---- the end --------------------------------------------------------------------------------------------------

    /// A node leaves: its last messages go out, and every other node learns that it is gone.
    pub(super) fn leave(&mut self, node: NodeId) {
        let now = self.now;
        let n = &mut self.nodes[node as usize];
        n.present = false;
        if let Body::Engine(e) = &mut n.body {
            e.engine.shut_down(now, &mut e.out);
            self.turn(node);
        }
    }

    /// Shuts every node down, and checks that each becomes idle.
    fn end(mut self) -> Report {
        self.sample();
        let lasted = self.now.since(self.begun);
        for node in 0..self.nodes.len() as u32 {
            self.leave(node);
        }
        let end = self.now + LAST_WORDS;
        while let Some((at, event)) = self.queue.pop().filter(|(at, _)| *at <= end) {
            if !matches!(event, SimEvent::Sample | SimEvent::LoseOne) {
                self.happen(at, event);
            }
        }
        for (number, n) in self.nodes.iter_mut().enumerate() {
            if let Body::Engine(e) = &mut n.body {
                assert!(e.engine.is_idle(), "node {number} was shut down and is not idle");
                assert!(!e.disk.has_writers(), "node {number} was shut down and somebody writes");
            }
        }
        self.check_payload();
        self.report(lasted)
    }

    /// Payload that came in, or was lost, or is on its way, is payload that went out.
    pub(super) fn check_payload(&self) {
        let on_its_way: u64 =
            self.links.iter().flatten().flat_map(|l| &l.ends).map(|e| e.out.payload_bytes()).sum();
        let Conserved { out, taken, lost } = self.payload;
        assert_eq!(
            out,
            taken + lost + on_its_way,
            "payload: {out} out, {taken} in, {lost} lost, {on_its_way} on its way"
        );
    }

    fn report(mut self, lasted: Duration) -> Report {
        let now = self.now;
        let mut peers = Vec::new();
        let first = self.scenario.seeds;
        for number in 0..self.scenario.peers {
            let n = &mut self.nodes[(first + number) as usize];
            let (dialable, arrived, line) = (n.dialable, n.arrived, self.scenario.line(number));
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
                nearly: since(e.nearly),
                complete: since(e.complete),
                downloaded: of(|s| s.downloaded),
                uploaded: of(|s| s.uploaded),
                wasted: of(|s| s.wasted),
            });
        }
        let most_waste = self.scenario.most_waste;
        let report = Report {
            peers,
            seeds_uploaded: self.seeds_uploaded,
            samples: self.samples,
            fluid_limit: self.scenario.fluid_limit(),
            lasted,
            events: self.events,
            faults: self.tally.into_counts(),
            fingerprint: self.fingerprint.get(),
            wire_digest: self.wire_digest.get(),
        };
        assert!(
            report.waste() <= most_waste,
            "{} of what came came in vain, and {most_waste} may",
            report.waste()
        );
        report
    }

    /// How long one way between two nodes takes.
    pub(super) fn latency(&self, a: NodeId, b: NodeId) -> Duration {
        self.nodes[a as usize].line.line.latency + self.nodes[b as usize].line.line.latency
    }

    /// The pipe and its other end, if the link is still there.
    pub(super) fn link(&mut self, pipe: PipeId) -> Option<&mut Link> {
        self.links.get_mut(pipe.link())?.as_deref_mut()
    }
}
