//! Transfer rate: an exponentially decaying average without a timer.
//!
//! The average decays with the time since the last sample, when it is read. Only operations that IEEE 754
//! rounds identically everywhere are used: the `exp` of the C library differs in its last bits between
//! machines, and then simulated runs would differ.

use super::Instant;
use std::time::Duration;

/// Time in which the weight of a sample decays to 1/e.
const MEMORY: Duration = Duration::from_secs(4);

/// Seconds without a sample after which a shown rate begins to fall, and after which it is zero. With a report a
/// second, a user sees zero within three seconds.
const FADING_S: f64 = 0.75;
const FADED_S: f64 = 1.75;

/// Bytes per second, averaged over about four seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    weight: f64,
    at: Instant,
    since: Option<Instant>,
}

impl Rate {
    /// Counts `bytes` transferred at `now`.
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

    /// Returns the rate in bytes per second at `now`. In the first seconds the average is over the age of the
    /// rate, so it is not too low.
    pub fn per_second(&self, now: Instant) -> u64 {
        let Some(since) = self.since else { return 0 };
        let mut copy = *self;
        copy.decay(now);
        let age = now.since(since).as_secs_f64().max(0.25);
        let memory = MEMORY.as_secs_f64();
        (copy.weight / (memory * (1.0 - exp_of_minus(age / memory)))) as u64
    }

    /// Returns the rate to show to a user: that of [`per_second`](Rate::per_second), but zero soon after the
    /// last sample, since the average alone takes half a minute to decay.
    pub fn shown_per_second(&self, now: Instant) -> u64 {
        let idle_s = now.since(self.at).as_secs_f64();
        let share = ((FADED_S - idle_s) / (FADED_S - FADING_S)).clamp(0.0, 1.0);
        (self.per_second(now) as f64 * share) as u64
    }
}

/// Returns e⁻ˣ for `x` ≥ 0: halves `x` until it is small, evaluates the series and squares the result as
/// often.
fn exp_of_minus(x: f64) -> f64 {
    const SMALL: f64 = 1.0 / 16.0;
    let mut y = x;
    let mut halvings = 0u32;
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

/// Returns the bytes transferred in `time` at `per_second`; saturates at 64 bits.
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
    fn s3_a_shown_rate_is_zero_two_seconds_after_the_last_byte_and_right_before() {
        let mut r = Rate::default();
        for i in 0..100 {
            r.add(at(i * 100), 1000);
            assert_eq!(r.shown_per_second(at(i * 100 + 700)), r.per_second(at(i * 100 + 700)));
        }
        let last = 9900;
        let half = r.shown_per_second(at(last + 1250));
        assert!((3000..5000).contains(&half), "{half}");
        assert_eq!(r.shown_per_second(at(last + 1750)), 0);
        assert_eq!(r.shown_per_second(at(last + 60_000)), 0);
        assert!(r.per_second(at(last + 3000)) > 4000, "decisions use the slow average");
        assert_eq!(Rate::default().shown_per_second(at(5)), 0);
    }

    #[test]
    fn the_rate_of_a_steady_stream_is_right_from_the_first_second() {
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
    fn exp_of_minus_matches_the_library_function() {
        for x in (0..4000).map(|i| f64::from(i) * f64::from(i) / 20_000.0) {
            let value = exp_of_minus(x);
            let expected = (-x).exp();
            let error = (value - expected).abs();
            assert!(error <= expected * 1e-10 + f64::MIN_POSITIVE, "{value}, not {expected}, at {x}");
        }
        assert_eq!(exp_of_minus(u64::MAX as f64), 0.0);
    }

    #[test]
    fn a_rate_is_bit_identical_on_every_machine() {
        let mut r = Rate::default();
        for i in 0..1000 {
            r.add(Instant::from_micros(i * i * 37), 1000 + i * 17);
        }
        assert_eq!((r.weight.to_bits(), r.per_second(at(40_000))), (0x412e_1403_27c9_b66e, 114_264));
    }

    #[test]
    fn bytes_within_saturates() {
        assert_eq!(bytes_within(1000, Duration::from_millis(1500)), 1500);
        assert_eq!(bytes_within(u64::MAX, Duration::MAX), u64::MAX / 1_000_000);
        assert_eq!((bytes_within(0, Duration::MAX), bytes_within(u64::MAX, Duration::ZERO)), (0, 0));
    }

    #[test]
    fn the_rate_decays_to_zero_without_transfer() {
        let mut r = Rate::default();
        r.add(at(0), 1 << 20);
        assert!(r.per_second(at(60_000)) < 10);
        assert_eq!(Rate::default().per_second(at(5)), 0);
    }
}
