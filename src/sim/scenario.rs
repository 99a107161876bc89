//! The input of a run: nodes, lines, policy and faults.
//!
//! A scenario and its seed determine a run. The default is a flash crowd on good lines; other scenarios
//! change a few of its fields.

use super::faults::Faults;
use super::puppet::PuppetRole;
use crate::engine::Policy;
use std::time::Duration;

/// One million bits in bytes: the unit of line rates.
pub const MBIT: u64 = 125_000;
/// 1024² bytes: the unit of torrent sizes.
pub const MIB: u64 = 1 << 20;

/// A peer's line to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Upload rate, bytes per second.
    pub up: u64,
    /// Download rate, bytes per second.
    pub down: u64,
    /// One-way latency from the peer to the middle of the network. The latency between two peers is the sum
    /// of both.
    pub latency: Duration,
}

impl Line {
    /// Returns a line with these rates in Mbit/s and 10 ms to the middle.
    pub const fn mbit(up: u64, down: u64) -> Line {
        Line { up: up * MBIT, down: down * MBIT, latency: Duration::from_millis(10) }
    }

    /// Returns a line with unlimited rates.
    pub const fn endless() -> Line {
        Line { up: u64::MAX, down: u64::MAX, latency: Duration::from_micros(50) }
    }
}

/// All parameters of a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name of the scenario, also in the command that repeats it.
    pub name: String,
    /// Seed of every random choice, of the world and of each engine.
    pub seed: u64,
    /// Bytes of content.
    pub size: u64,
    /// Bytes per piece.
    pub piece_len: u32,
    /// Number of engines that start with every piece.
    pub seeds: u32,
    /// Number of engines that start without pieces.
    pub peers: u32,
    /// Number of the peers, counted from the last, that serve no other peer.
    pub free_riders: u32,
    /// Scripted peers: role and number.
    pub puppets: Vec<(PuppetRole, u32)>,
    /// Lines of the seeds, assigned round-robin.
    pub seed_lines: Vec<Line>,
    /// Lines of the peers, assigned round-robin.
    pub lines: Vec<Line>,
    /// Whether the engines' own limits enforce the rates of the lines while the lines themselves are fast, as
    /// with processes on one machine.
    pub limit_in_engine: bool,
    /// Largest number of connections of one engine.
    pub max_peers: u32,
    /// Whether all nodes are in one private network with consecutive addresses.
    pub one_network: bool,
    /// Share of the peers that cannot be dialed, 0 to 1.
    pub undialable: f64,
    /// Share of these whose routers open a port when they are asked, 0 to 1: they can be dialed after all.
    pub mappable: f64,
    /// Engines use uTP as well, and share of the pairs of undialable peers whose routers let a connection through
    /// that both begin at once, 0 to 1; `None`: TCP alone.
    pub punches: Option<f64>,
    /// Addresses in one reply of the tracker.
    pub handout: u32,
    /// Engines announce over UDP.
    pub udp_tracker: bool,
    /// Engines use PEX (BEP 11).
    pub pex: bool,
    /// There is no tracker; each peer knows only the address of one that joined earlier.
    pub one_known_peer: bool,
    /// The peers join within this time, evenly spread.
    pub arrive_within: Duration,
    /// The seeds leave after they have sent this many copies.
    pub seeds_leave_after: Option<f64>,
    /// A peer leaves when it is complete.
    pub leave_when_done: bool,
    /// Policy of the engines.
    pub policy: Policy,
    /// Engines download pieces in order.
    pub sequential: bool,
    /// Injected faults.
    pub faults: Faults,
    /// Send buffer of one connection, bytes.
    pub send_buffer: u32,
    /// Whether the oracle also checks every message and audits the engines.
    pub strict: bool,
    /// Longest virtual duration of the run.
    pub patience: Duration,
    /// Largest allowed share of received payload that is wasted, 0 to 1; a larger share fails the run.
    pub most_waste: f64,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            name: String::new(),
            seed: 1,
            size: 64 * MIB,
            piece_len: 1 << 20,
            seeds: 1,
            peers: 50,
            free_riders: 0,
            puppets: Vec::new(),
            seed_lines: vec![Line::mbit(100, 100)],
            lines: vec![Line::mbit(10, 50), Line::mbit(20, 100), Line::mbit(40, 100)],
            limit_in_engine: false,
            max_peers: 55,
            one_network: false,
            undialable: 0.0,
            mappable: 0.0,
            punches: None,
            handout: 80,
            udp_tracker: false,
            pex: false,
            one_known_peer: false,
            arrive_within: Duration::ZERO,
            seeds_leave_after: None,
            leave_when_done: false,
            policy: Policy::default(),
            sequential: false,
            faults: Faults::default(),
            send_buffer: 64 * 1024,
            strict: false,
            patience: Duration::from_secs(6 * 3600),
            most_waste: 1.0,
        }
    }
}

impl Scenario {
    /// Returns the command that repeats the run.
    pub fn command(&self) -> String {
        format!("rill sim {} --seed {}", self.name, self.seed)
    }

    /// Returns the line of the seed with this number.
    pub fn seed_line(&self, number: u32) -> Line {
        dealt(&self.seed_lines, number)
    }

    /// Returns the line of the peer with this number.
    pub fn line(&self, number: u32) -> Line {
        dealt(&self.lines, number)
    }

    /// Returns a lower bound of the last peer's completion time under any policy: the greatest of the time to
    /// send one copy from the seeds, the time to receive one over the slowest line, and the time to send
    /// every peer's copy over all lines together.
    pub fn fluid_limit(&self) -> Duration {
        let size = self.size as f64;
        let n = f64::from(self.peers);
        let seeds_up: f64 = (0..self.seeds).map(|i| self.seed_line(i).up as f64).sum();
        let peers_up: f64 =
            (0..self.peers.saturating_sub(self.free_riders)).map(|i| self.line(i).up as f64).sum();
        let slowest = (0..self.peers).map(|i| self.line(i).down).min().unwrap_or(u64::MAX);
        let bounds = [size / seeds_up, size / slowest as f64, n * size / (seeds_up + peers_up)];
        Duration::from_secs_f64(bounds.into_iter().filter(|s| s.is_finite()).fold(0.0, f64::max))
    }
}

fn dealt(lines: &[Line], number: u32) -> Line {
    match lines.len() {
        0 => Line::endless(),
        n => lines[number as usize % n],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fluid_limit_is_the_tightest_bound() {
        let base = Scenario { size: 100 * MBIT, peers: 10, ..Scenario::default() };
        let seed_up = Scenario {
            seed_lines: vec![Line::mbit(1, 100)],
            lines: vec![Line::mbit(1000, 1000)],
            ..base.clone()
        };
        assert_eq!(seed_up.fluid_limit(), Duration::from_secs(100));
        let slow_down = Scenario { lines: vec![Line::mbit(1000, 1000), Line::mbit(1000, 2)], ..base.clone() };
        assert_eq!(slow_down.fluid_limit(), Duration::from_secs(50));
        let all_up = Scenario { lines: vec![Line::mbit(10, 1000)], ..base };
        assert_eq!(all_up.fluid_limit(), Duration::from_secs(5), "10 × 100 Mbit through 100 + 10 × 10");
    }
}
