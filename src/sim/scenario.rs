//! What one run is: who takes part, over which lines, by which policy, and what goes wrong.
//!
//! A scenario and its seed are all that decides a run. The default is a flash crowd on good lines; everything
//! else is that, changed in one place.

use super::faults::Faults;
use super::puppet::PuppetRole;
use crate::engine::Policy;
use std::time::Duration;

/// One million bits, in bytes: what lines are sold in.
pub const MBIT: u64 = 125_000;
/// 1024² bytes: what torrents are counted in.
pub const MIB: u64 = 1 << 20;

/// A peer's line to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it can send, bytes a second.
    pub up: u64,
    /// What it can receive, bytes a second.
    pub down: u64,
    /// From the peer to the middle of the network, one way. Between two peers both their latencies add up.
    pub latency: Duration,
}

impl Line {
    /// A line of so many megabits a second, with 10 ms to the middle.
    pub const fn mbit(up: u64, down: u64) -> Line {
        Line { up: up * MBIT, down: down * MBIT, latency: Duration::from_millis(10) }
    }

    /// A line that is never the reason for anything.
    pub const fn endless() -> Line {
        Line { up: u64::MAX, down: u64::MAX, latency: Duration::from_micros(50) }
    }
}

/// All that decides a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called, and how it is asked for again.
    pub name: String,
    /// What every choice comes from: the world's, and each engine's.
    pub seed: u64,
    /// Bytes of content.
    pub size: u64,
    /// Bytes a piece.
    pub piece_len: u32,
    /// Engines that have everything.
    pub seeds: u32,
    /// Engines that have nothing.
    pub peers: u32,
    /// How many of the peers, the last ones, serve no other.
    pub free_riders: u32,
    /// Scripted peers beside the engines.
    pub puppets: Vec<(PuppetRole, u32)>,
    /// The seeds' lines, dealt in turn.
    pub seed_lines: Vec<Line>,
    /// The other peers' lines, dealt in turn.
    pub lines: Vec<Line>,
    /// Whether the engines' own limits hold the rates and the lines have room for everything, as among
    /// processes on one machine.
    pub limit_in_engine: bool,
    /// Connections of one engine.
    pub max_peers: u32,
    /// Whether they all are in one private network, their addresses side by side.
    pub one_network: bool,
    /// Share of the peers that cannot be dialed, 0 to 1.
    pub undialable: f64,
    /// Addresses that the tracker hands out at once.
    pub handout: u32,
    /// The tracker is reached over UDP.
    pub udp_tracker: bool,
    /// Engines tell each other of engines (BEP 11).
    pub pex: bool,
    /// There is no tracker: each peer knows the address of one that came before, and nothing else.
    pub by_acquaintance: bool,
    /// The peers come within this time, evenly spread.
    pub arrive_within: Duration,
    /// The seeds leave when they have sent so many copies.
    pub seeds_leave_after: Option<f64>,
    /// A complete peer leaves.
    pub leave_when_done: bool,
    /// How engines decide.
    pub policy: Policy,
    /// Pieces in order.
    pub sequential: bool,
    /// What goes wrong.
    pub faults: Faults,
    /// Bytes that a sender's system holds for one connection.
    pub send_buffer: u32,
    /// The oracle reads every message and counts everything again, beside the laws that are always held.
    pub strict: bool,
    /// How long the run may take, virtually.
    pub patience: Duration,
    /// Share of the received payload that may be received in vain, 0 to 1; more breaks a law.
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
            handout: 80,
            udp_tracker: false,
            pex: false,
            by_acquaintance: false,
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
    /// The command that runs it again.
    pub fn command(&self) -> String {
        format!("rill sim {} --seed {}", self.name, self.seed)
    }

    /// The line of the seed with this number.
    pub fn seed_line(&self, number: u32) -> Line {
        dealt(&self.seed_lines, number)
    }

    /// The line of the peer with this number.
    pub fn line(&self, number: u32) -> Line {
        dealt(&self.lines, number)
    }

    /// No policy ends the last peer's download sooner: the greatest of the time to send one copy from the
    /// seeds, the time to receive one over the slowest line, and the time to send every peer's copy over all
    /// lines together.
    pub fn fluid_limit(&self) -> Duration {
        let (size, n) = (self.size as f64, f64::from(self.peers));
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
    fn the_fluid_limit_is_the_narrowest_place() {
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
