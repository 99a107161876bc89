//! What a run gave: every peer's times and bytes, the curve of completion, what went wrong, and what the run
//! itself cost.

use super::scenario::Line;
use std::collections::BTreeMap;
use std::time::Duration;

/// One engine that began with nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerReport {
    /// Its number among the peers.
    pub number: u32,
    /// Its line.
    pub line: Line,
    /// It could be dialed.
    pub dialable: bool,
    /// It served no peer, by policy.
    pub free_rider: bool,
    /// From its arrival to its first verified piece.
    pub first_piece: Option<Duration>,
    /// From its arrival to 99 % of its bytes.
    pub nearly: Option<Duration>,
    /// From its arrival to its last verified piece.
    pub complete: Option<Duration>,
    /// Payload received, bytes, what was wasted included.
    pub downloaded: u64,
    /// Payload sent, bytes.
    pub uploaded: u64,
    /// Payload received in vain, bytes.
    pub wasted: u64,
}

/// How far the swarm was at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Since the run began.
    pub at: Duration,
    /// Share of all peers' bytes that are verified, 0 to 1.
    pub have: f64,
    /// Share of the peers that are complete, 0 to 1.
    pub complete: f64,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Every engine that began with nothing, in order.
    pub peers: Vec<PeerReport>,
    /// Payload sent by the seeds, bytes.
    pub seeds_uploaded: u64,
    /// The curve of completion.
    pub samples: Vec<Sample>,
    /// What no policy can do sooner.
    pub fluid_limit: Duration,
    /// How long the run took, virtually.
    pub lasted: Duration,
    /// Events that happened.
    pub events: u64,
    /// What went wrong by intention, and how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// A digest of every event in order: two runs are the same run if this is the same.
    pub fingerprint: u64,
    /// A digest of all bytes on the wire: control bytes, lengths of payload, questions to the tracker and
    /// datagrams, in order.
    pub wire_digest: u64,
}

impl Report {
    /// Whether every peer has everything.
    pub fn all_complete(&self) -> bool {
        self.peers.iter().all(|p| p.complete.is_some())
    }

    /// Completion times in seconds, shortest first; incomplete peers are left out.
    pub fn times(&self) -> Vec<f64> {
        let mut times: Vec<f64> =
            self.peers.iter().filter_map(|p| p.complete).map(|t| t.as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// The median peer's time, seconds; endless if it has none.
    pub fn median(&self) -> f64 {
        self.time_of(self.peers.len().saturating_sub(1) / 2)
    }

    /// The last peer's time, seconds; endless if it has none.
    pub fn last(&self) -> f64 {
        self.time_of(self.peers.len().saturating_sub(1))
    }

    fn time_of(&self, rank: usize) -> f64 {
        self.times().get(rank).copied().unwrap_or(f64::INFINITY)
    }

    /// Share of the received payload that was received in vain, 0 to 1.
    pub fn waste(&self) -> f64 {
        let of = |f: fn(&PeerReport) -> u64| self.peers.iter().map(f).sum::<u64>() as f64;
        of(|p| p.wasted) / of(|p| p.downloaded).max(1.0)
    }
}

/// The value below which `share` (0 to 1) of the sorted `values` lie; the nearest one that there is.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let at = (share * values.len().saturating_sub(1) as f64).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}
