//! Runs the actions of engines: writes bytes, dials peers, prepares and hashes pieces, queries trackers.
//! Every reply is an event at a later time.

use super::faults::random_up_to;
use super::link::NodeId;
use super::puppet::PuppetRole;
use super::queue::SimEvent;
use super::world::World;
use crate::engine::{Action, HashVerdict, Notice};
use crate::units::{Instant, PieceIndex};
use crate::wire::{AnnounceError, parse_reply};
use std::net::SocketAddr;
use std::time::Duration;

/// Address of the UDP tracker.
const TRACKER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 6969);
/// One-way latency between a node and the tracker.
const TRACKER_LATENCY: Duration = Duration::from_millis(30);
/// Duration of preparing a piece.
const PREPARE: Duration = Duration::from_micros(300);
/// Hashing rate, bytes per second: one core without SHA instructions.
const HASH_RATE: u64 = 400 * 1024 * 1024;
/// Duration of writing a resume record, with the flush of the device's cache.
const SAVE: Duration = Duration::from_millis(20);
/// Turns between two audits of an engine in strict runs.
const AUDIT_EVERY: u64 = 16;
/// Largest number of actions in one turn; above it the engine and the driver are assumed to loop forever.
const ACTIONS: usize = 1_000_000;

impl World {
    /// Runs the actions of an engine after an event: at once, or a little later if the scenario delays
    /// actions.
    pub(super) fn turn(&mut self, node: NodeId) {
        let Some(late) = self.scenario.faults.late_actions else { return self.turn_now(node) };
        let Some(e) = self.nodes[node as usize].engine() else { return };
        if e.turn_due || e.out.is_empty() {
            return self.arm(node);
        }
        e.turn_due = true;
        self.fault_counts.count("late turns");
        let wait = random_up_to(&mut self.rng, late);
        self.queue.push(self.now + wait, SimEvent::Turn(node));
        self.arm(node);
    }

    /// Runs the actions of an engine until none is left.
    pub(super) fn turn_now(&mut self, node: NodeId) {
        // A call from inside the loop below does nothing: the loop runs the new actions too.
        if self.nodes[node as usize].engine().is_none_or(|e| std::mem::replace(&mut e.running_actions, true))
        {
            return;
        }
        let mut done = 0;
        loop {
            let Some(e) = self.nodes[node as usize].engine() else { return };
            if let Some(pipe) = e.to_read.pop() {
                self.read(pipe);
                continue;
            }
            if e.out.is_empty() {
                e.running_actions = false;
                break;
            }
            let mut actions = std::mem::take(&mut e.out);
            done += actions.as_slice().len();
            assert!(done < ACTIONS, "node {node} creates actions without end");
            for action in actions.drain() {
                self.run_action(node, action);
            }
            // Reuse the list's memory, unless the engine has already started a new list.
            if let Some(e) = self.nodes[node as usize].engine().filter(|e| e.out.is_empty()) {
                e.out = actions;
            }
        }
        self.arm(node);
        if self.wire_checker.is_some() {
            self.check_strictly(node);
        }
    }

    /// Strict runs: audits the engine every [`AUDIT_EVERY`] turns, and checks that each connection sent its
    /// cancels.
    fn check_strictly(&mut self, node: NodeId) {
        let Some(e) = self.nodes[node as usize].engine() else { return };
        e.turns += 1;
        if e.turns % AUDIT_EVERY == 0 {
            e.engine.audit();
            assert_eq!(
                e.engine.have(e.torrent),
                Some(e.disk.verified()).filter(|_| e.engine.have(e.torrent).is_some()),
                "the engine of node {node} and its disk differ in the verified pieces"
            );
            self.check_payload();
        }
        let connections: Vec<_> = self.nodes[node as usize]
            .engine()
            .map(|e| e.connections.values().copied().collect())
            .unwrap_or_default();
        for pipe in connections {
            let all_planned =
                self.link(pipe).is_some_and(|l| l.ends[pipe.side()].open && !l.ends[pipe.side()].out.more);
            if let (true, Some(wire_checker)) = (all_planned, &mut self.wire_checker) {
                wire_checker.check_cancels(node, pipe);
            }
        }
    }

    /// Runs one action, or schedules its result.
    fn run_action(&mut self, node: NodeId, action: Action) {
        let now = self.now;
        let Some(e) = self.nodes[node as usize].engine() else { return };
        match action {
            Action::Flush { peer } => {
                if let Some(pipe) = e.connections.get(&peer).copied() {
                    self.fill_pipe(pipe);
                }
            }
            Action::Wake { peer } => {
                if let Some(pipe) = e.connections.get(&peer).map(|p| p.back()) {
                    e.to_read.push(pipe);
                    if let Some(l) = self.link(pipe) {
                        l.ends[pipe.side()].out.paused = false;
                    }
                }
            }
            Action::Close { peer } => {
                if let Some(pipe) = e.connections.remove(&peer) {
                    self.close(pipe);
                }
            }
            Action::Dial { peer, addr, over } => self.dial(node, Some(peer), addr, over),
            Action::Prepare { piece, .. } => {
                e.disk.prepare(piece);
                let full = self.scenario.faults.disk_full.map_or(0.0, |(share, _)| share);
                let full = self.fault_counts.draw(&mut self.rng, full, "disk full");
                self.queue.push(now + PREPARE, SimEvent::Prepared(node, piece, !full));
            }
            Action::Release { block, .. } => e.disk.release(block),
            Action::Hash { piece, digests, .. } => {
                let verdict = e.disk.hash(piece, digests);
                let took =
                    Duration::from_micros(u64::from(self.geometry.piece_len(piece)) * 1_000_000 / HASH_RATE);
                self.queue_verdict(node, piece, verdict, now + took);
            }
            Action::Save { .. } => self.queue.push(now + SAVE, SimEvent::Saved(node)),
            Action::Announce { id, url, timeout } => self.announce_over_http(node, id, &url, timeout),
            Action::Resolve { id, .. } => {
                self.queue.push(now + TRACKER_LATENCY, SimEvent::Resolved(node, id, TRACKER));
            }
            Action::Datagram { to, bytes } => {
                let from = self.nodes[node as usize].addr;
                self.send_datagram(from, to, bytes.into());
            }
            Action::Metadata { .. } => unreachable!("every torrent starts with its metadata"),
            Action::Scrape { .. } => unreachable!("the driver starts no scrape"),
            Action::FindGateways | Action::DatagramFrom { .. } | Action::RouterRequest { .. } => {
                unreachable!("port mapping is off")
            }
            Action::Multicast { .. } => unreachable!("LSD is off"),
            Action::KeepNodes { .. } => unreachable!("the DHT is off"),
            Action::Notice(notice) => self.on_notice(node, &notice),
        }
    }

    // ---- disk ---------------------------------------------------------------------------------------------

    fn queue_verdict(&mut self, node: NodeId, piece: PieceIndex, verdict: HashVerdict, at: Instant) {
        let faults = &self.scenario.faults;
        let (share, most) = faults.hash_spikes.unwrap_or((0.0, Duration::ZERO));
        let unreadable = faults.unreadable;
        let late = if self.fault_counts.draw(&mut self.rng, share, "hash spikes") {
            random_up_to(&mut self.rng, most)
        } else {
            Duration::ZERO
        };
        let verdict = if self.fault_counts.draw(&mut self.rng, unreadable, "unreadable pieces") {
            HashVerdict::Unreadable
        } else {
            verdict
        };
        self.queue.push(at + late, SimEvent::Hashed(node, Box::new((piece, verdict))));
    }

    pub(super) fn prepared(&mut self, node: NodeId, piece: PieceIndex, ready: bool) {
        let full_for = self.scenario.faults.disk_full.map_or(Duration::ZERO, |(_, full_for)| full_for);
        if !ready {
            self.queue.push(self.now + full_for, SimEvent::Resume(node));
        }
        self.with_engine(node, |now, e| {
            if ready {
                e.disk.prepared(piece);
            }
            e.engine.on_prepared(now, e.torrent, piece, ready, &mut e.out);
        });
    }

    pub(super) fn hashed(&mut self, node: NodeId, piece: PieceIndex, verdict: &HashVerdict) {
        if let HashVerdict::Unreadable = verdict {
            self.queue.push(self.now + Duration::from_secs(1), SimEvent::Resume(node));
        }
        self.with_engine(node, |now, e| {
            e.disk.on_verdict(piece, verdict);
            e.engine.on_hashed(now, e.torrent, piece, verdict, &mut e.out);
        });
    }

    // ---- tracker ------------------------------------------------------------------------------------------

    fn announce_over_http(&mut self, node: NodeId, id: u64, url: &str, timeout: Duration) {
        let from = self.nodes[node as usize].addr;
        let silence = self.scenario.faults.tracker_silence;
        self.wire_digest.http(from, url.as_bytes());
        let (wait, result) = if self.fault_counts.draw(&mut self.rng, silence, "tracker silence") {
            (timeout, Err(AnnounceError::Timeout))
        } else {
            let reply = self.tracker.http(from, url, &mut self.rng);
            self.wire_digest.http(from, &reply);
            (TRACKER_LATENCY * 4, parse_reply(&reply))
        };
        self.queue.push(self.now + wait, SimEvent::Announced(node, id, Box::new(result)));
    }

    fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: Box<[u8]>) {
        self.wire_digest.datagram(from, to, &bytes);
        let loss = self.scenario.faults.datagram_loss;
        let delay = self.scenario.faults.datagram_delay;
        if self.fault_counts.draw(&mut self.rng, loss, "lost datagrams") {
            return;
        }
        let late = random_up_to(&mut self.rng, delay);
        self.queue.push(self.now + TRACKER_LATENCY + late, SimEvent::Datagram(from, to, bytes));
    }

    /// Delivers a datagram to the tracker or to the node at this address.
    pub(super) fn datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if to == TRACKER {
            if let Some(reply) = self.tracker.udp(from, bytes, &mut self.rng) {
                self.send_datagram(to, from, reply.into());
            }
        } else if let Some(node) = super::node::number(to).filter(|n| (*n as usize) < self.nodes.len()) {
            self.with_engine(node, |now, e| e.engine.on_datagram(now, from, bytes, &mut e.out));
        }
    }

    // ---- notices ------------------------------------------------------------------------------------------

    fn on_notice(&mut self, node: NodeId, notice: &Notice) {
        let now = self.now;
        let size = self.scenario.size;
        let Some(e) = self.nodes[node as usize].engine() else { return };
        match notice {
            Notice::Verified { piece, .. } => {
                let bytes = u64::from(self.geometry.piece_len(*piece));
                e.verified_bytes += bytes;
                e.first_piece.get_or_insert(now);
                if e.verified_bytes * 100 >= size * 99 {
                    e.at_99_percent.get_or_insert(now);
                }
                self.have_bytes += bytes;
            }
            Notice::Complete { .. } if !e.is_seed && e.complete.is_none() => {
                assert!(
                    e.disk.verified().is_full(),
                    "node {node} reports that it is complete, but its disk is not"
                );
                e.complete = Some(now);
                self.complete += 1;
                if self.scenario.leave_when_done {
                    self.leave(node);
                }
            }
            Notice::Banned { addr, .. } => self.check_ban(node, *addr),
            _ => {}
        }
    }

    /// Checks that an engine banned a liar, and not a peer that sent good blocks of the same bad piece.
    fn check_ban(&mut self, node: NodeId, addr: SocketAddr) {
        let banned = super::node::number(addr).and_then(|n| self.nodes.get_mut(n as usize));
        let lies = banned.and_then(|n| n.puppet()).is_some_and(|p| p.puppet.role == PuppetRole::Liar);
        assert!(lies, "node {node} bans {addr}, which sent only correct blocks");
        self.fault_counts.count("bans");
    }

    /// Removes the seeds when they have uploaded the configured number of copies.
    pub(super) fn remove_seeds(&mut self) {
        let Some(copies) = self.scenario.seeds_leave_after else { return };
        if self.seeds_uploaded as f64 >= copies * self.scenario.size as f64 {
            self.scenario.seeds_leave_after = None;
            for node in 0..self.scenario.seeds {
                self.leave(node);
            }
        }
    }
}
