//! Which way a piece takes to its file, and the measuring that `--storage auto` decides by.
//!
//! Workers count their CPU time for both ways. Auto starts plain, because plain won on every system measured so far
//! (CPU seconds a GiB of the worker, Linux 6.18, hash included: ext4 1.0 plain against 2.8 mapped, tmpfs 1.2 against 1.9).
//! After some plain pieces it sends a few through windows, compares, and takes the cheaper way; kernels and file systems
//! differ by a factor of ten, so the question is asked again now and then, ever more rarely.

use super::contract::StorageMode;
use super::limits;

/// Worker CPU time and bytes of both ways, as counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Costs {
    pub plain_us: u64,
    pub plain_bytes: u64,
    pub mapped_us: u64,
    pub mapped_bytes: u64,
}

impl Costs {
    fn since(&self, then: &Costs) -> Costs {
        Costs {
            plain_us: self.plain_us.saturating_sub(then.plain_us),
            plain_bytes: self.plain_bytes.saturating_sub(then.plain_bytes),
            mapped_us: self.mapped_us.saturating_sub(then.mapped_us),
            mapped_bytes: self.mapped_bytes.saturating_sub(then.mapped_bytes),
        }
    }

    /// Whether windows cost clearly less for each byte: a tie is plain's, which needs no address space.
    fn mapped_is_cheaper(&self) -> bool {
        let plain = u128::from(self.plain_us) * u128::from(self.mapped_bytes);
        let mapped = u128::from(self.mapped_us) * u128::from(self.plain_bytes);
        mapped * 10 < plain * 9
    }

    fn both_known(&self) -> bool {
        self.plain_bytes >= limits::PROBE_BYTES && self.mapped_bytes >= limits::PROBE_BYTES
    }
}

/// The choice between the two ways.
#[derive(Debug)]
pub(super) struct Ways {
    mode: StorageMode,
    mapped: bool,
    /// Counters when the running comparison began.
    from: Costs,
    /// Bytes on the chosen way before the other one is tried.
    patience_bytes: u64,
}

impl Ways {
    /// The choice as the user wants it made.
    pub fn new(mode: StorageMode) -> Ways {
        let patience_bytes = limits::PROBE_FIRST_BYTES;
        Ways { mode, mapped: mode == StorageMode::Mapped, from: Costs::default(), patience_bytes }
    }

    /// Whether the next piece should go through windows, where it can.
    pub fn next_is_mapped(&mut self, costs: impl FnOnce() -> Costs) -> bool {
        if self.mode != StorageMode::Auto {
            return self.mapped;
        }
        let now = costs();
        let spent = now.since(&self.from);
        let on_way = if self.mapped { spent.mapped_bytes } else { spent.plain_bytes };
        if on_way < self.patience_bytes {
            return self.mapped;
        }
        if !spent.both_known() {
            return !self.mapped; // the other way's turn, until enough is known of it
        }
        self.mapped = spent.mapped_is_cheaper();
        self.from = now;
        self.patience_bytes = self.patience_bytes.saturating_mul(limits::PROBE_BACKOFF);
        self.mapped
    }

    /// The system gave no windows where some were wanted: auto leaves it at that for a good while.
    pub fn refused(&mut self) {
        if self.mode == StorageMode::Auto {
            self.mapped = false;
            self.patience_bytes = self.patience_bytes.saturating_mul(limits::PROBE_BACKOFF);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `mib` pieces of 1 MiB; answers with how many took windows.
    fn run(w: &mut Ways, c: &mut Costs, mib: u64, plain_us: u64, mapped_us: u64) -> u64 {
        let before = c.mapped_bytes;
        for _ in 0..mib {
            if w.next_is_mapped(|| *c) {
                c.mapped_us += mapped_us;
                c.mapped_bytes += 1 << 20;
            } else {
                c.plain_us += plain_us;
                c.plain_bytes += 1 << 20;
            }
        }
        (c.mapped_bytes - before) >> 20
    }

    #[test]
    fn the_dearer_way_is_tried_briefly_and_ever_more_rarely() {
        let (mut w, mut c) = (Ways::new(StorageMode::Auto), Costs::default());
        assert_eq!(run(&mut w, &mut c, 16, 1000, 3000), 0);
        let tried = run(&mut w, &mut c, 100_000, 1000, 3000);
        assert!((4..64).contains(&tried), "{tried}");
    }

    #[test]
    fn the_cheaper_way_wins_and_may_lose_again() {
        let (mut w, mut c) = (Ways::new(StorageMode::Auto), Costs::default());
        run(&mut w, &mut c, 1000, 3000, 1000);
        assert!(run(&mut w, &mut c, 1000, 3000, 1000) > 900);
        run(&mut w, &mut c, 20_000, 1000, 3000);
        assert!(run(&mut w, &mut c, 1000, 1000, 3000) < 100);
    }

    #[test]
    fn a_forced_way_is_never_left() {
        let mut c = Costs::default();
        assert_eq!(run(&mut Ways::new(StorageMode::Plain), &mut c, 1000, 9000, 1), 0);
        assert_eq!(run(&mut Ways::new(StorageMode::Mapped), &mut c, 1000, 1, 9000), 1000);
    }
}
