//! What goes wrong by intention: how often, drawn from the run's seed, and counted so that a test can prove
//! that it happened.

use crate::units::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// What goes wrong. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// Mean time between two lost connections, anywhere, in the middle of whatever is said.
    pub lose_connections: Option<Duration>,
    /// Share of the verdicts that come late, and how late at most.
    pub hash_spikes: Option<(f64, Duration)>,
    /// Share of the verdicts that are none: the disk cannot be read.
    pub unreadable: f64,
    /// Share of the pieces for which the disk is full. The torrent goes on after this time.
    pub disk_full: Option<(f64, Duration)>,
    /// Share of the questions that the tracker never answers.
    pub tracker_silence: f64,
    /// Share of the datagrams that are lost.
    pub datagram_loss: f64,
    /// The most that a datagram is late: they overtake one another.
    pub datagram_delay: Duration,
    /// Actions are carried out up to so much later than they are asked for, as by a loop that is busy.
    pub late_actions: Option<Duration>,
    /// Dials that are refused although the node is there, as a share.
    pub refused_dials: f64,
    /// The clock stands this far before its end when the run begins.
    pub clock_before_end: Option<Duration>,
}

/// What went wrong, by name.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// It happened.
    pub(super) fn count(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// Draws: true in `share` of all cases, and counts those.
    pub(super) fn strikes(&mut self, rng: &mut Rng, share: f64, name: &'static str) -> bool {
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

/// True in `share` of all cases.
pub(super) fn chance(rng: &mut Rng, share: f64) -> bool {
    f64::from(rng.u32()) < share * 4_294_967_296.0
}

/// Any time up to `most`.
pub(super) fn up_to(rng: &mut Rng, most: Duration) -> Duration {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(if most == 0 { 0 } else { rng.u64() % most })
}
