//! The result of a run: times and bytes of every peer, the completion curve, the injected faults, and the
//! cost of the run.

use super::scenario::Line;
use crate::engine::ConnectionCounts;
use std::collections::BTreeMap;
use std::time::Duration;

/// An engine that started without pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerReport {
    /// Its number among the peers.
    pub number: u32,
    /// Its line.
    pub line: Line,
    /// It could be dialed.
    pub dialable: bool,
    /// It served no peer: its policy has no upload slots.
    pub free_rider: bool,
    /// Time from its arrival to its first verified piece.
    pub first_piece: Option<Duration>,
    /// Time from its arrival to 99 % of its bytes.
    pub nearly: Option<Duration>,
    /// Time from its arrival to its last verified piece.
    pub complete: Option<Duration>,
    /// Payload bytes received, wasted bytes included.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// Payload bytes received and not used.
    pub wasted: u64,
}

/// Progress of the swarm at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Time since the start of the run.
    pub at: Duration,
    /// Share of all peers' bytes that are verified, 0 to 1.
    pub have: f64,
    /// Share of the peers that are complete, 0 to 1.
    pub complete: f64,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The engines that started without pieces, in the order of their numbers.
    pub peers: Vec<PeerReport>,
    /// Payload bytes sent by the seeds.
    pub seeds_uploaded: u64,
    /// The completion curve.
    pub samples: Vec<Sample>,
    /// Lower bound of the last peer's time under any policy
    /// ([`Scenario::fluid_limit`](super::Scenario::fluid_limit)).
    pub fluid_limit: Duration,
    /// Virtual duration of the run.
    pub lasted: Duration,
    /// Number of events.
    pub events: u64,
    /// How far the connection attempts of all engines came.
    pub connections: ConnectionCounts,
    /// Injected faults: name and count.
    pub faults: BTreeMap<&'static str, u64>,
    /// A digest of every event in order: two runs are the same if their digests are equal.
    pub fingerprint: u64,
    /// A digest of all bytes on the wire in order: control bytes, lengths of payload, announces, tracker
    /// replies and datagrams.
    pub wire_digest: u64,
}

impl Report {
    /// Returns whether every peer is complete.
    pub fn all_complete(&self) -> bool {
        self.peers.iter().all(|p| p.complete.is_some())
    }

    /// Returns the completion times in seconds, shortest first, without incomplete peers.
    pub fn times(&self) -> Vec<f64> {
        let mut times: Vec<f64> =
            self.peers.iter().filter_map(|p| p.complete).map(|t| t.as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// Returns the median peer's time in seconds; infinity if that peer is incomplete.
    pub fn median(&self) -> f64 {
        self.time_of(self.peers.len().saturating_sub(1) / 2)
    }

    /// Returns the last peer's time in seconds; infinity if a peer is incomplete.
    pub fn last(&self) -> f64 {
        self.time_of(self.peers.len().saturating_sub(1))
    }

    fn time_of(&self, rank: usize) -> f64 {
        self.times().get(rank).copied().unwrap_or(f64::INFINITY)
    }

    /// Returns the wasted share of the received payload, 0 to 1.
    pub fn waste(&self) -> f64 {
        let of = |f: fn(&PeerReport) -> u64| self.peers.iter().map(f).sum::<u64>() as f64;
        of(|p| p.wasted) / of(|p| p.downloaded).max(1.0)
    }
}

/// Returns the value at the rank nearest to `share` (0 to 1) of the sorted `values`; NaN if there is none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let at = (share * values.len().saturating_sub(1) as f64).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}
