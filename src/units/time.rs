//! A moment on the engine's clock: microseconds since the clock's owner started it.
//!
//! The engine never reads a clock; its driver hands in an `Instant` that never goes back. In the
//! program it comes from `CLOCK_MONOTONIC`, in the simulator from the event queue.

use std::ops::Add;
use std::time::Duration;

/// A moment, in microseconds since the driver's start. 584,000 years fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The driver's start.
    pub const ZERO: Instant = Instant(0);
    /// The end of time: a deadline that never comes.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// The moment `us` microseconds after the start.
    pub const fn from_micros(us: u64) -> Instant {
        Instant(us)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at [`Instant::NEVER`], so a deadline near the clock's end cannot wrap into the past.
    fn add(self, d: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_near_the_end_of_time_does_not_wrap() {
        assert_eq!(Instant::from_micros(u64::MAX - 5) + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::NEVER);
    }

    #[test]
    fn since_a_later_moment_is_zero() {
        assert_eq!(Instant::ZERO.since(Instant::from_micros(3)), Duration::ZERO);
        assert_eq!(Instant::from_micros(8).since(Instant::from_micros(3)), Duration::from_micros(5));
    }
}
