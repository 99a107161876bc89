//! Which way a piece takes to its file, and the measuring that `--storage auto` decides by.
//!
//! Workers count their CPU time for both ways. Auto starts plain, because plain won on every system measured so far
//! (CPU seconds a GiB of the worker, Linux 6.18, hash included: ext4 1.0 plain against 2.8 mapped, tmpfs 1.2 against 1.9).
//! After some plain pieces it sends a few through windows, waits until they are through, compares, and takes the cheaper way;
//! kernels and file systems differ by a factor of ten, so the question is asked again now and then, ever more rarely.

use super::api::StorageMode;
use super::limits;

/// Worker CPU time and bytes of both ways, as counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ModeCosts {
    pub plain: ModeCost,
    pub mapped: ModeCost,
}

/// What one way has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ModeCost {
    pub us: u64,
    pub bytes: u64,
}

impl ModeCosts {
    fn of(&self, mapped: bool) -> ModeCost {
        if mapped { self.mapped } else { self.plain }
    }
}

impl ModeCost {
    fn since(self, then: ModeCost) -> ModeCost {
        ModeCost { us: self.us.saturating_sub(then.us), bytes: self.bytes.saturating_sub(then.bytes) }
    }

    fn us_per_mib(self) -> u64 {
        self.us.saturating_mul(1024) / (self.bytes / 1024).max(1)
    }
}

/// A few pieces that went the other way than the rest.
#[derive(Clone, Copy, Debug)]
struct ModeProbe {
    from: ModeCosts,
    /// Bytes of the pieces that were sent that way. It is over when all of them are through, so that what they cost is counted
    /// whole: windows are paid for long before anything comes through them.
    bytes: u64,
}

/// The choice between the two ways.
#[derive(Debug)]
pub(super) struct ModeChooser {
    mode: StorageMode,
    mapped: bool,
    /// Counters when the way was chosen.
    from: ModeCosts,
    trial: Option<ModeProbe>,
    /// Bytes on the chosen way before the other one is tried.
    patience_bytes: u64,
}

impl ModeChooser {
    /// The choice as the user wants it made.
    pub fn new(mode: StorageMode) -> ModeChooser {
        let patience_bytes = limits::PROBE_FIRST_BYTES;
        ModeChooser { mode, mapped: mode == StorageMode::Mapped, from: ModeCosts::default(), trial: None, patience_bytes }
    }

    /// Whether the next piece, of so many bytes, should go through windows, where it can.
    pub fn choose_mapped(&mut self, len: u64, costs: impl FnOnce() -> ModeCosts) -> bool {
        if self.mode != StorageMode::Auto {
            return self.mapped;
        }
        let now = costs();
        let spent = now.of(self.mapped).since(self.from.of(self.mapped));
        match &mut self.trial {
            None if spent.bytes < self.patience_bytes => {}
            None => {
                self.trial = Some(ModeProbe { from: now, bytes: len });
                return !self.mapped;
            }
            Some(trial) if trial.bytes < limits::PROBE_BYTES => {
                trial.bytes += len;
                return !self.mapped;
            }
            Some(ModeProbe { from, bytes }) => {
                let tried = now.of(!self.mapped).since(from.of(!self.mapped));
                if tried.bytes >= *bytes {
                    self.choose(spent, tried);
                    self.settle(now);
                } else if spent.bytes >= 2 * self.patience_bytes {
                    self.settle(now); // some of its pieces went another way after all
                }
            }
        }
        self.mapped
    }

    /// Stays where it is, or goes over to the way that was tried: windows must be clearly cheaper, since they need address space.
    fn choose(&mut self, usual: ModeCost, tried: ModeCost) {
        let (plain, mapped) = if self.mapped { (tried, usual) } else { (usual, tried) };
        let (plain, mapped) = (plain.us_per_mib(), mapped.us_per_mib());
        self.mapped = mapped.saturating_mul(10) < plain.saturating_mul(9);
        let way = if self.mapped { "mapped" } else { "plain" };
        log::debug!("storage: {way}, for a MiB costs {plain} us plain and {mapped} us mapped");
    }

    fn settle(&mut self, now: ModeCosts) {
        (self.trial, self.from) = (None, now);
        self.patience_bytes = self.patience_bytes.saturating_mul(limits::PROBE_BACKOFF);
    }

    /// The system gave no windows where some were wanted: auto leaves it at that for a good while.
    pub fn on_refused(&mut self, now: ModeCosts) {
        if self.mode == StorageMode::Auto {
            self.mapped = false;
            self.settle(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Sends `mib` pieces of 1 MiB; answers with how many took windows.
    fn run(w: &mut ModeChooser, c: &mut ModeCosts, mib: u64, plain_us: u64, mapped_us: u64) -> u64 {
        let before = c.mapped.bytes;
        for _ in 0..mib {
            let (cost, us) = match w.choose_mapped(MIB, || *c) {
                true => (&mut c.mapped, mapped_us),
                false => (&mut c.plain, plain_us),
            };
            *cost = ModeCost { us: cost.us + us, bytes: cost.bytes + MIB };
        }
        (c.mapped.bytes - before) / MIB
    }

    #[test]
    fn the_dearer_way_is_tried_briefly_and_ever_more_rarely() {
        let (mut w, mut c) = (ModeChooser::new(StorageMode::Auto), ModeCosts::default());
        assert_eq!(run(&mut w, &mut c, 16, 1000, 3000), 0);
        let tried = run(&mut w, &mut c, 100_000, 1000, 3000);
        assert!((2..16).contains(&tried), "{tried}");
    }

    #[test]
    fn the_cheaper_way_wins_and_may_lose_again() {
        let (mut w, mut c) = (ModeChooser::new(StorageMode::Auto), ModeCosts::default());
        run(&mut w, &mut c, 1000, 3000, 1000);
        assert!(run(&mut w, &mut c, 1000, 3000, 1000) > 900);
        run(&mut w, &mut c, 20_000, 1000, 3000);
        assert!(run(&mut w, &mut c, 1000, 1000, 3000) < 100);
    }

    /// Windows are made for several pieces before the first of them is full, and a piece may take long.
    #[test]
    fn a_trial_counts_all_that_its_pieces_cost_and_nothing_else_is_sent_that_way_meanwhile() {
        let (mut w, mut c) = (ModeChooser::new(StorageMode::Auto), ModeCosts::default());
        let plain = |w: &mut ModeChooser, c: &mut ModeCosts| {
            let mapped = w.choose_mapped(MIB, || *c);
            if !mapped {
                c.plain = ModeCost { us: c.plain.us + 1000, bytes: c.plain.bytes + MIB };
            }
            mapped
        };
        while !plain(&mut w, &mut c) {}
        let mut on_their_way = 1;
        c.mapped.us += 1500; // dear to make, cheap to fill
        for _ in 0..20 {
            if plain(&mut w, &mut c) {
                on_their_way += 1;
                c.mapped.us += 1500;
            }
        }
        assert_eq!(on_their_way * MIB, limits::PROBE_BYTES);
        c.mapped = ModeCost { us: c.mapped.us + on_their_way * 100, bytes: on_their_way * MIB };
        assert_eq!(run(&mut w, &mut c, 200, 1000, 1600), 0, "1.6 ms is more than one");
    }

    #[test]
    fn a_trial_whose_pieces_never_come_is_given_up() {
        let (mut w, mut c) = (ModeChooser::new(StorageMode::Auto), ModeCosts::default());
        while !w.choose_mapped(MIB, || c) {
            c.plain.bytes += MIB;
        }
        run(&mut w, &mut c, 100, 3000, 1000);
        assert!(run(&mut w, &mut c, 1000, 3000, 1000) > 0, "there is another one");
    }

    #[test]
    fn a_forced_way_is_never_left() {
        let mut c = ModeCosts::default();
        assert_eq!(run(&mut ModeChooser::new(StorageMode::Plain), &mut c, 1000, 9000, 1), 0);
        assert_eq!(run(&mut ModeChooser::new(StorageMode::Mapped), &mut c, 1000, 1, 9000), 1000);
    }
}
