//! The clocks: `CLOCK_MONOTONIC` for decisions, the thread's CPU clock for statistics.

use crate::units::Instant;
use rustix::time::{ClockId, clock_gettime};
use std::time::{self, Duration};

/// The engine's clock: the time since the session started. Jumps of the wall clock do not affect it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: time::Instant,
}

impl Clock {
    /// Returns a clock that reads zero now.
    pub fn start() -> Clock {
        Clock { start: time::Instant::now() }
    }

    /// Returns the time since the session started.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }
}

/// Returns the CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}
