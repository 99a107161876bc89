//! The clocks: `CLOCK_MONOTONIC` for everything that is decided, the thread's CPU clock for what is shown.

use crate::units::Instant;
use rustix::time::{ClockId, clock_gettime};
use std::time::{self, Duration};

/// The engine's clock, from the session's start. A jump of the wall clock does not touch it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: time::Instant,
}

impl Clock {
    /// A clock that shows zero now.
    pub fn start() -> Clock {
        Clock { start: time::Instant::now() }
    }

    /// The time since the session started.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }
}

/// CPU time that the calling thread has used.
pub fn thread_cpu() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}
