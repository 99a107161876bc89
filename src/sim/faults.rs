//! Injected faults: their frequency, drawn from the run's seed, and their count, so that a test can check
//! that they occurred.

use crate::units::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// Faults to inject. The default injects none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// Mean time between two lost connections in the whole swarm; a connection can be lost in the middle of a
    /// block.
    pub lose_connections: Option<Duration>,
    /// Share of the hash verdicts that are delayed, 0 to 1, and the longest delay.
    pub hash_spikes: Option<(f64, Duration)>,
    /// Share of the hash verdicts that report a read error, 0 to 1.
    pub unreadable: f64,
    /// Share of the pieces for which the disk is full, 0 to 1, and the time until the torrent is resumed.
    pub disk_full: Option<(f64, Duration)>,
    /// Share of the announces over HTTP that the tracker does not answer, 0 to 1.
    pub tracker_silence: f64,
    /// Share of the datagrams that are lost, 0 to 1.
    pub datagram_loss: f64,
    /// Longest extra delay of a datagram; datagrams with different delays arrive out of order.
    pub datagram_delay: Duration,
    /// Longest delay between an action and its execution, as if the driver's loop were busy.
    pub late_actions: Option<Duration>,
    /// Share of the dials that are refused although the node is reachable, 0 to 1.
    pub refused_dials: f64,
    /// Time from the start of the run to the clock's largest value. `None`: the clock starts near zero.
    pub clock_before_end: Option<Duration>,
}

/// Number of injected faults by name.
#[derive(Debug, Default)]
pub(super) struct FaultCounts(BTreeMap<&'static str, u64>);

impl FaultCounts {
    /// Counts one occurrence.
    pub(super) fn count(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// Draws whether the fault occurs, with probability `share`, and counts it if it does.
    pub(super) fn draw(&mut self, rng: &mut Rng, share: f64, name: &'static str) -> bool {
        let hit = share > 0.0 && chance(rng, share);
        if hit {
            self.count(name);
        }
        hit
    }

    pub(super) fn into_counts(self) -> BTreeMap<&'static str, u64> {
        self.0
    }
}

/// Returns true with probability `share`.
pub(super) fn chance(rng: &mut Rng, share: f64) -> bool {
    f64::from(rng.u32()) < share * 4_294_967_296.0
}

/// Returns a random duration from zero to below `most`.
pub(super) fn random_up_to(rng: &mut Rng, most: Duration) -> Duration {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(if most == 0 { 0 } else { rng.u64() % most })
}
