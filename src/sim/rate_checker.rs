//! An engine's own limit, held to it from outside: what passed is never more than rate and time allow, and
//! one burst.
//!
//! The engine counts with a bucket that is filled and emptied; here is one subtraction over the whole run, so
//! that a bucket that forgets a little each time is found out.

use super::link::time_for;
use crate::engine::limits;
use crate::units::{BLOCK_LEN, Instant};

/// One limit of one engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cap {
    rate: u64,
    since: Instant,
    passed: u64,
}

impl Cap {
    /// A limit of `rate` bytes a second, if there is one.
    pub(super) fn new(rate: Option<u64>, since: Instant) -> Option<Cap> {
        rate.map(|rate| Cap { rate, since, passed: 0 })
    }

    /// `bytes` pass. What had come along with framing when the limit was reached may pass, too: never as much
    /// as a block.
    pub(super) fn pass(&mut self, now: Instant, bytes: u64, what: &str) {
        self.passed += bytes;
        let Cap { rate, since, passed } = *self;
        let burst = ((rate as f64 * limits::BURST.as_secs_f64()) as u64).max(limits::BURST_MIN_BYTES);
        let earned = passed.saturating_sub(burst + u64::from(BLOCK_LEN));
        let took = now.since(since);
        assert!(
            time_for(earned, rate) <= took,
            "{passed} bytes are {what} in {took:?} under a limit of {rate} a second"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;
    use std::time::Duration;

    #[test]
    fn a_burst_and_what_time_allows_may_pass_and_no_more() {
        let all = |bytes: u64, seconds: u64| {
            let mut cap = Cap::new(Some(1_000_000), Instant::ZERO).unwrap();
            catch_unwind(move || cap.pass(Instant::ZERO + Duration::from_secs(seconds), bytes, "sent"))
                .is_ok()
        };
        assert!(all(250_000, 0));
        assert!(all(10_250_000, 10));
        assert!(!all(10_300_000, 10));
    }
}
