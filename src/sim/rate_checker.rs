//! Checks an engine's rate limit from outside: payload ≤ rate × time + one burst.
//!
//! The engine uses a token bucket. This check is one subtraction over the whole run, so it detects a bucket
//! that drifts a little with each refill.

use super::link::time_for;
use crate::engine::limits;
use crate::units::{BLOCK_LEN, Instant};

/// One limit of one engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateChecker {
    rate: u64,
    since: Instant,
    passed: u64,
}

impl RateChecker {
    /// Returns the check of a limit of `rate` bytes per second; `None` if there is no limit.
    pub(super) fn new(rate: Option<u64>, since: Instant) -> Option<RateChecker> {
        rate.map(|rate| RateChecker { rate, since, passed: 0 })
    }

    /// Counts `bytes`, which are `direction` ("sent" or "received").
    ///
    /// Up to one block above the limit is allowed: payload that was read with message headers when the limit
    /// was reached.
    ///
    /// # Panics
    /// If the limit is exceeded.
    pub(super) fn count(&mut self, now: Instant, bytes: u64, direction: &str) {
        self.passed += bytes;
        let RateChecker { rate, since, passed } = *self;
        let burst = ((rate as f64 * limits::BURST.as_secs_f64()) as u64).max(limits::BURST_MIN_BYTES);
        let earned = passed.saturating_sub(burst + u64::from(BLOCK_LEN));
        let took = now.since(since);
        assert!(
            time_for(earned, rate) <= took,
            "{passed} bytes are {direction} in {took:?} under a limit of {rate} bytes per second"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;
    use std::time::Duration;

    #[test]
    fn allows_a_burst_and_rate_times_time_and_no_more() {
        let allowed = |bytes: u64, seconds: u64| {
            let mut checker = RateChecker::new(Some(1_000_000), Instant::ZERO).unwrap();
            catch_unwind(move || checker.count(Instant::ZERO + Duration::from_secs(seconds), bytes, "sent"))
                .is_ok()
        };
        assert!(allowed(250_000, 0));
        assert!(allowed(10_250_000, 10));
        assert!(!allowed(10_300_000, 10));
    }
}
