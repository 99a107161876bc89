//! How fast bytes have been passing: a moving figure without a tick.
//!
//! The rate decays exponentially with the time since the last sample, so asking late needs no timer.

use super::Now;
use std::time::Duration;

/// Time in which an old sample loses two thirds of its weight.
const MEMORY: Duration = Duration::from_secs(4);

/// Bytes a second, smoothed over about four seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    weight: f64,
    at: Now,
    since: Option<Now>,
}

impl Rate {
    /// Counts `bytes` that passed at `now`.
    pub fn add(&mut self, now: Now, bytes: u64) {
        self.since.get_or_insert(now);
        self.decay(now);
        self.weight += bytes as f64;
    }

    fn decay(&mut self, now: Now) {
        let dt = now.since(self.at).as_secs_f64();
        if dt > 0.0 {
            self.weight *= (-dt / MEMORY.as_secs_f64()).exp();
            self.at = now;
        }
    }

    /// Bytes a second as of `now`. A young rate is divided by its own age, so the first seconds are not understated.
    pub fn per_second(&self, now: Now) -> u64 {
        let Some(since) = self.since else { return 0 };
        let mut copy = *self;
        copy.decay(now);
        let age = now.since(since).as_secs_f64().max(0.25);
        let memory = MEMORY.as_secs_f64();
        (copy.weight / (memory * (1.0 - (-age / memory).exp()))) as u64
    }
}

/// Bytes that pass in `time` at `per_second`; no more than 64 bits hold.
pub fn bytes_within(per_second: u64, time: Duration) -> u64 {
    let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    per_second.saturating_mul(time_us) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now::from_micros(ms * 1000)
    }

    #[test]
    fn a_steady_stream_shows_its_speed_young_and_old() {
        let mut r = Rate::default();
        for i in 0..600 {
            r.add(at(i * 100), 1000);
            if i > 10 {
                let shown = r.per_second(at(i * 100 + 50));
                assert!((9_000..=11_500).contains(&shown), "{shown} at {i}");
            }
        }
    }

    #[test]
    fn silence_fades_to_nothing() {
        let mut r = Rate::default();
        r.add(at(0), 1 << 20);
        assert!(r.per_second(at(60_000)) < 10);
        assert_eq!(Rate::default().per_second(at(5)), 0);
    }
}
