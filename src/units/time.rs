//! Instants of the engine's clock: microseconds since the driver started it.
//!
//! The engine never reads a clock; its driver passes an `Instant` that never decreases. In the program it
//! comes from `CLOCK_MONOTONIC`, in the simulator from the event queue.

use std::ops::Add;
use std::time::Duration;

/// Microseconds since the driver's start; 584,000 years fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start of the driver.
    pub const ZERO: Instant = Instant(0);
    /// The largest value: no deadline.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// Returns the instant `us` microseconds after the start.
    pub const fn from_micros(us: u64) -> Instant {
        Instant(us)
    }

    /// Returns the microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the time since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at [`Instant::NEVER`], so a deadline near the largest value does not wrap.
    fn add(self, d: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_near_the_largest_value_does_not_wrap() {
        assert_eq!(Instant::from_micros(u64::MAX - 5) + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::NEVER);
    }

    #[test]
    fn since_a_later_instant_is_zero() {
        assert_eq!(Instant::ZERO.since(Instant::from_micros(3)), Duration::ZERO);
        assert_eq!(Instant::from_micros(8).since(Instant::from_micros(3)), Duration::from_micros(5));
    }
}
