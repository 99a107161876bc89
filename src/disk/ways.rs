//! Which way a piece takes to its file, and the measuring that `--storage auto` decides by.
//!
//! Workers count their CPU time for both ways. Auto starts plain, because plain won on every system measured so far
//! (CPU seconds a GiB of the worker, Linux 6.18, hash included: ext4 1.0 plain against 2.8 mapped, tmpfs 1.2 against 1.9).
//! After some plain pieces it sends a few through windows, waits until they are through, compares, and takes the cheaper way;
//! kernels and file systems differ by a factor of ten, so the question is asked again now and then, ever more rarely.

use super::contract::StorageMode;
use super::limits;

/// Worker CPU time and bytes of both ways, as counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Costs {
    pub plain: Cost,
    pub mapped: Cost,
}

/// What one way has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub us: u64,
    pub bytes: u64,
}

impl Costs {
    fn of(&self, mapped: bool) -> Cost {
        if mapped { self.mapped } else { self.plain }
    }
}

impl Cost {
    fn since(self, then: Cost) -> Cost {
        Cost { us: self.us.saturating_sub(then.us), bytes: self.bytes.saturating_sub(then.bytes) }
    }

    fn us_per_mib(self) -> u64 {
        self.us.saturating_mul(1024) / (self.bytes / 1024).max(1)
    }
}

/// A few pieces that went the other way than the rest.
#[derive(Clone, Copy, Debug)]
struct Trial {
    from: Costs,
    /// Bytes of the pieces that were sent that way. It is over when all of them are through, so that what they cost is counted
    /// whole: windows are paid for long before anything comes through them.
    bytes: u64,
}

/// The choice between the two ways.
#[derive(Debug)]
pub(super) struct Ways {
    mode: StorageMode,
    mapped: bool,
    /// Counters when the way was chosen.
    from: Costs,
    trial: Option<Trial>,
    /// Bytes on the chosen way before the other one is tried.
    patience_bytes: u64,
}

impl Ways {
    /// The choice as the user wants it made.
    pub fn new(mode: StorageMode) -> Ways {
        let patience_bytes = limits::PROBE_FIRST_BYTES;
        Ways { mode, mapped: mode == StorageMode::Mapped, from: Costs::default(), trial: None, patience_bytes }
    }

    /// Whether the next piece, of so many bytes, should go through windows, where it can.
    pub fn next_is_mapped(&mut self, len: u64, costs: impl FnOnce() -> Costs) -> bool {
        if self.mode != StorageMode::Auto {
            return self.mapped;
        }
        let now = costs();
        let spent = now.of(self.mapped).since(self.from.of(self.mapped));
        match &mut self.trial {
            None if spent.bytes < self.patience_bytes => {}
            None => {
                self.trial = Some(Trial { from: now, bytes: len });
                return !self.mapped;
            }
            Some(trial) if trial.bytes < limits::PROBE_BYTES => {
                trial.bytes += len;
                return !self.mapped;
            }
            Some(Trial { from, bytes }) => {
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
    fn choose(&mut self, usual: Cost, tried: Cost) {
        let (plain, mapped) = if self.mapped { (tried, usual) } else { (usual, tried) };
        let (plain, mapped) = (plain.us_per_mib(), mapped.us_per_mib());
        self.mapped = mapped.saturating_mul(10) < plain.saturating_mul(9);
        let way = if self.mapped { "mapped" } else { "plain" };
        log::debug!("storage: {way}, for a MiB costs {plain} us plain and {mapped} us mapped");
    }

    fn settle(&mut self, now: Costs) {
        (self.trial, self.from) = (None, now);
        self.patience_bytes = self.patience_bytes.saturating_mul(limits::PROBE_BACKOFF);
    }

    /// The system gave no windows where some were wanted: auto leaves it at that for a good while.
    pub fn refused(&mut self, now: Costs) {
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
    fn run(w: &mut Ways, c: &mut Costs, mib: u64, plain_us: u64, mapped_us: u64) -> u64 {
        let before = c.mapped.bytes;
        for _ in 0..mib {
            let (cost, us) = match w.next_is_mapped(MIB, || *c) {
                true => (&mut c.mapped, mapped_us),
                false => (&mut c.plain, plain_us),
            };
            *cost = Cost { us: cost.us + us, bytes: cost.bytes + MIB };
        }
        (c.mapped.bytes - before) / MIB
    }

    #[test]
    fn the_dearer_way_is_tried_briefly_and_ever_more_rarely() {
        let (mut w, mut c) = (Ways::new(StorageMode::Auto), Costs::default());
        assert_eq!(run(&mut w, &mut c, 16, 1000, 3000), 0);
        let tried = run(&mut w, &mut c, 100_000, 1000, 3000);
        assert!((2..16).contains(&tried), "{tried}");
    }

    #[test]
    fn the_cheaper_way_wins_and_may_lose_again() {
        let (mut w, mut c) = (Ways::new(StorageMode::Auto), Costs::default());
        run(&mut w, &mut c, 1000, 3000, 1000);
        assert!(run(&mut w, &mut c, 1000, 3000, 1000) > 900);
        run(&mut w, &mut c, 20_000, 1000, 3000);
        assert!(run(&mut w, &mut c, 1000, 1000, 3000) < 100);
    }

    /// Windows are made for several pieces before the first of them is full, and a piece may take long.
    #[test]
    fn a_trial_counts_all_that_its_pieces_cost_and_nothing_else_is_sent_that_way_meanwhile() {
        let (mut w, mut c) = (Ways::new(StorageMode::Auto), Costs::default());
        let plain = |w: &mut Ways, c: &mut Costs| {
            let mapped = w.next_is_mapped(MIB, || *c);
            if !mapped {
                c.plain = Cost { us: c.plain.us + 1000, bytes: c.plain.bytes + MIB };
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
        c.mapped = Cost { us: c.mapped.us + on_their_way * 100, bytes: on_their_way * MIB };
        assert_eq!(run(&mut w, &mut c, 200, 1000, 1600), 0, "1.6 ms is more than one");
    }

    #[test]
    fn a_trial_whose_pieces_never_come_is_given_up() {
        let (mut w, mut c) = (Ways::new(StorageMode::Auto), Costs::default());
        while !w.next_is_mapped(MIB, || c) {
            c.plain.bytes += MIB;
        }
        run(&mut w, &mut c, 100, 3000, 1000);
        assert!(run(&mut w, &mut c, 1000, 3000, 1000) > 0, "there is another one");
    }

    #[test]
    fn a_forced_way_is_never_left() {
        let mut c = Costs::default();
        assert_eq!(run(&mut Ways::new(StorageMode::Plain), &mut c, 1000, 9000, 1), 0);
        assert_eq!(run(&mut Ways::new(StorageMode::Mapped), &mut c, 1000, 1, 9000), 1000);
    }
}
