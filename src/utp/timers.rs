//! The timers of a stream: the round-trip time, the timeout of unacknowledged packets, and the keepalive.

use super::limits::{FIRST_TIMEOUT_US, KEEPALIVE_US, MAX_TIMEOUT_US, MIN_TIMEOUT_US};

/// Round-trip time and deadlines, in microseconds.
#[derive(Debug)]
pub(super) struct Timers {
    /// Mean and mean deviation of the round-trip time.
    round_trip: Option<(u64, u64)>,
    timeout_us: u64,
    /// Timeouts since the last acknowledgement.
    pub timeouts: u32,
    /// When packets count as lost, or an unconfirmed stream ends.
    pub deadline_us: Option<u64>,
    last_sent_us: u64,
}

impl Timers {
    pub(super) fn new(now_us: u64) -> Timers {
        Timers {
            round_trip: None,
            timeout_us: FIRST_TIMEOUT_US,
            timeouts: 0,
            deadline_us: None,
            last_sent_us: now_us,
        }
    }

    /// Takes the time from a packet that was sent once to its acknowledgement.
    pub(super) fn on_round_trip(&mut self, sample: u64) {
        let (mean, deviation) = match self.round_trip {
            None => (sample, sample / 2),
            Some((mean, deviation)) => ((7 * mean + sample) / 8, (3 * deviation + mean.abs_diff(sample)) / 4),
        };
        self.round_trip = Some((mean, deviation));
        self.timeout_us = (mean + 4 * deviation).clamp(MIN_TIMEOUT_US, MAX_TIMEOUT_US);
    }

    /// Begins anew when the peer's address is proven: what the SYN waited says nothing about later packets.
    pub(super) fn on_established(&mut self) {
        (self.timeouts, self.deadline_us) = (0, None);
        if self.round_trip.is_none() {
            self.timeout_us = FIRST_TIMEOUT_US;
        }
    }

    /// Returns the mean round-trip time, 0 before the first sample.
    pub(super) fn round_trip_us(&self) -> u64 {
        self.round_trip.map_or(0, |(mean, _)| mean)
    }

    /// Returns the time after which an acknowledgement is late.
    pub(super) fn late_after_us(&self) -> u64 {
        self.round_trip.map_or(self.timeout_us, |(mean, deviation)| mean + deviation)
    }

    /// Starts the timeout if it does not run.
    pub(super) fn start(&mut self, now_us: u64) {
        self.deadline_us.get_or_insert(now_us.saturating_add(self.timeout_us));
    }

    /// Starts the timeout again, or stops it.
    pub(super) fn restart(&mut self, now_us: u64, unacknowledged: bool) {
        self.deadline_us = unacknowledged.then(|| now_us.saturating_add(self.timeout_us));
    }

    /// Doubles the timeout.
    pub(super) fn back_off(&mut self) {
        self.timeout_us = (2 * self.timeout_us).min(MAX_TIMEOUT_US);
    }

    /// Notes that a packet was sent.
    pub(super) fn on_sent(&mut self, now_us: u64) {
        self.last_sent_us = now_us;
    }

    /// Returns when a packet has to keep the stream alive.
    pub(super) fn keepalive_us(&self) -> u64 {
        self.last_sent_us.saturating_add(KEEPALIVE_US)
    }
}
