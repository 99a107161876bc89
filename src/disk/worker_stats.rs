//! Counters of one worker: the worker adds to them, the loop reads them.
//!
//! Behind a mutex and not atomic, since 32-bit MIPS and PowerPC have no 64-bit atomics. It is held for a few
//! additions at a time, once a batch of jobs, so neither thread waits noticeably for the other.

use super::storage_mode::{ModeCost, ModeCosts};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a worker's CPU time is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CostClass {
    /// Receiving through slots.
    Plain,
    /// Receiving through windows.
    Mapped,
    /// Anything but receiving: opening, rechecking, serving, records.
    Other,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkerStats {
    /// CPU time of the worker's thread, µs.
    pub cpu_us: u64,
    /// The part of it that was spent on pieces with windows.
    pub mapped_us: u64,
    /// Bytes of pieces with windows.
    pub mapped_bytes: u64,
    /// The part of the CPU time that was not spent on receiving.
    pub other_us: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// The number of those writes.
    pub writes: u64,
    /// Bytes read back to be hashed.
    pub reread_bytes: u64,
    /// Jobs that panicked.
    pub panics: u64,
}

impl WorkerStats {
    /// Adds the cost of windows, and of everything else that was receiving. The bytes of plain pieces are not
    /// counted here.
    pub fn add_costs(&self, costs: &mut ModeCosts) {
        let plain_us = self.cpu_us.saturating_sub(self.mapped_us + self.other_us);
        costs.mapped += ModeCost { us: self.mapped_us, bytes: self.mapped_bytes };
        costs.plain += ModeCost { us: plain_us, bytes: 0 };
    }
}

/// The counters as two threads share them.
#[derive(Debug, Default)]
pub(super) struct SharedWorkerStats(Mutex<WorkerStats>);

impl SharedWorkerStats {
    /// The counters now.
    pub fn get(&self) -> WorkerStats {
        *self.lock()
    }

    /// Changes the counters.
    pub fn update(&self, change: impl FnOnce(&mut WorkerStats)) {
        change(&mut self.lock());
    }

    /// Charges the CPU time since the last call to this class; `cpu_us`: the thread's CPU time now.
    pub fn charge(&self, class: CostClass, cpu_us: u64) {
        self.update(|stats| {
            let spent = cpu_us.saturating_sub(stats.cpu_us);
            stats.cpu_us = cpu_us;
            match class {
                CostClass::Plain => {}
                CostClass::Mapped => stats.mapped_us += spent,
                CostClass::Other => stats.other_us += spent,
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, WorkerStats> {
        // An addition cannot leave the counters half changed, so a panic under the lock does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
