//! How fast bytes have been passing: a moving figure without a tick.
//!
//! The rate decays exponentially with the time since the last sample, so asking late needs no timer. Only the
//! four operations that IEEE 754 rounds the same everywhere are used: a library's `exp` differs in its last
//! bits from one machine to the next, and a run would with it.

use super::Instant;
use std::time::Duration;

/// Time in which an old sample loses two thirds of its weight.
const MEMORY: Duration = Duration::from_secs(4);

/// Bytes a second, smoothed over about four seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    weight: f64,
    at: Instant,
    since: Option<Instant>,
}

impl Rate {
    /// Counts `bytes` that passed at `now`.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        self.since.get_or_insert(now);
        self.decay(now);
        self.weight += bytes as f64;
    }

    fn decay(&mut self, now: Instant) {
        let dt = now.since(self.at).as_secs_f64();
        if dt > 0.0 {
            self.weight *= exp_of_minus(dt / MEMORY.as_secs_f64());
            self.at = now;
        }
    }

    /// Bytes a second as of `now`. A young rate is divided by its own age, so the first seconds are not
    /// understated.
    pub fn per_second(&self, now: Instant) -> u64 {
        let Some(since) = self.since else { return 0 };
        let mut copy = *self;
        copy.decay(now);
        let age = now.since(since).as_secs_f64().max(0.25);
        let memory = MEMORY.as_secs_f64();
        (copy.weight / (memory * (1.0 - exp_of_minus(age / memory)))) as u64
    }
}

/// e to the power of `-x`, for `x` of 0 or more: the series for the part of `x` that is small, squared as
/// often as it was halved.
fn exp_of_minus(x: f64) -> f64 {
    const SMALL: f64 = 1.0 / 16.0;
    let (mut y, mut halvings) = (x, 0u32);
    while y > SMALL {
        y *= 0.5;
        halvings = halvings.saturating_add(1);
    }
    let series = 1.0 / 24.0 - y * (1.0 / 120.0 - y * (1.0 / 720.0 - y * (1.0 / 5040.0)));
    let mut power = 1.0 - y * (1.0 - y * (0.5 - y * (1.0 / 6.0 - y * series)));
    for _ in 0..halvings {
        power *= power;
    }
    power
}

/// Bytes that pass in `time` at `per_second`; no more than 64 bits hold.
pub fn bytes_within(per_second: u64, time: Duration) -> u64 {
    let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    per_second.saturating_mul(time_us) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
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
    fn the_decay_is_that_of_the_exponential_function() {
        for x in (0..4000).map(|i| f64::from(i) * f64::from(i) / 20_000.0) {
            let (is, should) = (exp_of_minus(x), (-x).exp());
            assert!((is - should).abs() <= should * 1e-10 + f64::MIN_POSITIVE, "{is} for {should} at {x}");
        }
        assert_eq!(exp_of_minus(u64::MAX as f64), 0.0);
    }

    #[test]
    fn a_rate_is_the_same_on_every_machine_to_its_last_bit() {
        let mut r = Rate::default();
        for i in 0..1000 {
            r.add(Instant::from_micros(i * i * 37), 1000 + i * 17);
        }
        assert_eq!((r.weight.to_bits(), r.per_second(at(40_000))), (0x412e_1403_27c9_b66e, 114_264));
    }

    #[test]
    fn what_passes_in_a_time_does_not_wrap() {
        assert_eq!(bytes_within(1000, Duration::from_millis(1500)), 1500);
        assert_eq!(bytes_within(u64::MAX, Duration::MAX), u64::MAX / 1_000_000);
        assert_eq!((bytes_within(0, Duration::MAX), bytes_within(u64::MAX, Duration::ZERO)), (0, 0));
    }

    #[test]
    fn silence_fades_to_nothing() {
        let mut r = Rate::default();
        r.add(at(0), 1 << 20);
        assert!(r.per_second(at(60_000)) < 10);
        assert_eq!(Rate::default().per_second(at(5)), 0);
    }
}
