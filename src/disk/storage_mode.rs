//! The choice between the two ways of payload to its file: plain or mapped.
//!
//! Workers count their CPU time for each way. `auto` starts plain, which was cheaper on every system measured
//! so far (CPU seconds of the worker a GiB, Linux 6.18, hash included: ext4 1.0 plain against 2.8 mapped,
//! tmpfs 1.2 against 1.9). After some plain pieces it sends a few through windows, waits until they are
//! hashed, compares, and takes the cheaper way. Kernels and file systems differ by a factor of ten, so the
//! comparison is repeated, ever more rarely.

use super::limits;
use std::ops::AddAssign;
use std::str::FromStr;

/// How payload reaches the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageMode {
    /// The cheaper way, as measured.
    #[default]
    Auto,
    /// Through windows where the file system allows it.
    Mapped,
    /// Through the buffer pool.
    Plain,
}

impl FromStr for StorageMode {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<StorageMode, &'static str> {
        match s {
            "auto" => Ok(StorageMode::Auto),
            "mapped" => Ok(StorageMode::Mapped),
            "plain" => Ok(StorageMode::Plain),
            _ => Err("auto, mapped or plain"),
        }
    }
}

/// Worker CPU time and bytes of both ways so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ModeCosts {
    pub plain: ModeCost,
    pub mapped: ModeCost,
}

/// Worker CPU time and bytes of one way.
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

impl AddAssign for ModeCost {
    fn add_assign(&mut self, other: ModeCost) {
        self.us += other.us;
        self.bytes += other.bytes;
    }
}

/// A comparison under way: a few pieces go the way that is not chosen.
#[derive(Clone, Copy, Debug)]
struct ModeProbe {
    from: ModeCosts,
    /// Bytes of the pieces that were sent that way. The probe ends when all of them are hashed, so that their
    /// cost is counted whole: windows cost CPU time before any byte comes through them.
    bytes: u64,
}

/// Chooses the way of each piece.
#[derive(Debug)]
pub(super) struct ModeChooser {
    mode: StorageMode,
    mapped: bool,
    /// The costs when the way was chosen.
    from: ModeCosts,
    probe: Option<ModeProbe>,
    /// Bytes on the chosen way before the next probe.
    patience_bytes: u64,
}

impl ModeChooser {
    /// A chooser for this mode.
    pub fn new(mode: StorageMode) -> ModeChooser {
        let mapped = mode == StorageMode::Mapped;
        let patience_bytes = limits::PROBE_FIRST_BYTES;
        ModeChooser { mode, mapped, from: ModeCosts::default(), probe: None, patience_bytes }
    }

    /// Whether the next piece, of `len` bytes, should go through windows.
    pub fn choose_mapped(&mut self, len: u64, costs: impl FnOnce() -> ModeCosts) -> bool {
        if self.mode != StorageMode::Auto {
            return self.mapped;
        }
        let now = costs();
        let usual = now.of(self.mapped).since(self.from.of(self.mapped));
        match &mut self.probe {
            None if usual.bytes < self.patience_bytes => {}
            None => {
                self.probe = Some(ModeProbe { from: now, bytes: len });
                return !self.mapped;
            }
            Some(probe) if probe.bytes < limits::PROBE_BYTES => {
                probe.bytes += len;
                return !self.mapped;
            }
            Some(ModeProbe { from, bytes }) => {
                let probed = now.of(!self.mapped).since(from.of(!self.mapped));
                if probed.bytes >= *bytes {
                    self.choose(usual, probed);
                    self.end_probe(now);
                } else if usual.bytes >= 2 * self.patience_bytes {
                    self.end_probe(now); // some of its pieces took the other way after all
                }
            }
        }
        self.mapped
    }

    /// Chooses the cheaper way. Windows must be cheaper by a tenth, since they need address space.
    fn choose(&mut self, usual: ModeCost, probed: ModeCost) {
        let (plain, mapped) = if self.mapped { (probed, usual) } else { (usual, probed) };
        let plain = plain.us_per_mib();
        let mapped = mapped.us_per_mib();
        self.mapped = mapped.saturating_mul(10) < plain.saturating_mul(9);
        let chosen = if self.mapped { "mapped" } else { "plain" };
        log::debug!("storage: {chosen} from now on; a MiB costs {plain} us plain and {mapped} us mapped");
    }

    fn end_probe(&mut self, now: ModeCosts) {
        self.probe = None;
        self.from = now;
        self.patience_bytes = self.patience_bytes.saturating_mul(limits::PROBE_BACKOFF);
    }

    /// The system refused to map a piece: `auto` goes plain until the next probe.
    pub fn on_refused(&mut self, now: ModeCosts) {
        if self.mode == StorageMode::Auto {
            self.mapped = false;
            self.end_probe(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Sends `mib` pieces of 1 MiB. Returns the number of those that took windows.
    fn run(chooser: &mut ModeChooser, costs: &mut ModeCosts, mib: u64, plain_us: u64, mapped_us: u64) -> u64 {
        let before = costs.mapped.bytes;
        for _ in 0..mib {
            if chooser.choose_mapped(MIB, || *costs) {
                costs.mapped += ModeCost { us: mapped_us, bytes: MIB };
            } else {
                costs.plain += ModeCost { us: plain_us, bytes: MIB };
            }
        }
        (costs.mapped.bytes - before) / MIB
    }

    fn auto() -> (ModeChooser, ModeCosts) {
        (ModeChooser::new(StorageMode::Auto), ModeCosts::default())
    }

    #[test]
    fn the_dearer_way_is_probed_briefly_and_ever_more_rarely() {
        let (mut chooser, mut costs) = auto();
        assert_eq!(run(&mut chooser, &mut costs, 16, 1000, 3000), 0);
        let probed = run(&mut chooser, &mut costs, 100_000, 1000, 3000);
        assert!((2..16).contains(&probed), "{probed}");
    }

    #[test]
    fn the_cheaper_way_wins_and_may_lose_again() {
        let (mut chooser, mut costs) = auto();
        run(&mut chooser, &mut costs, 1000, 3000, 1000);
        assert!(run(&mut chooser, &mut costs, 1000, 3000, 1000) > 900);
        run(&mut chooser, &mut costs, 20_000, 1000, 3000);
        assert!(run(&mut chooser, &mut costs, 1000, 1000, 3000) < 100);
    }

    /// Windows are made for several pieces before the first of them is full, and a piece may take long.
    #[test]
    fn a_probe_counts_the_whole_cost_of_its_pieces_and_sends_no_more_meanwhile() {
        let (mut chooser, mut costs) = auto();
        let plain = |chooser: &mut ModeChooser, costs: &mut ModeCosts| {
            let mapped = chooser.choose_mapped(MIB, || *costs);
            if !mapped {
                costs.plain += ModeCost { us: 1000, bytes: MIB };
            }
            mapped
        };
        while !plain(&mut chooser, &mut costs) {}
        let mut under_way = 1;
        costs.mapped.us += 1500; // dear to make, cheap to fill
        for _ in 0..20 {
            if plain(&mut chooser, &mut costs) {
                under_way += 1;
                costs.mapped.us += 1500;
            }
        }
        assert_eq!(under_way * MIB, limits::PROBE_BYTES);
        costs.mapped = ModeCost { us: costs.mapped.us + under_way * 100, bytes: under_way * MIB };
        assert_eq!(run(&mut chooser, &mut costs, 200, 1000, 1600), 0, "1.6 ms is more than one");
    }

    #[test]
    fn a_probe_whose_pieces_never_arrive_is_given_up() {
        let (mut chooser, mut costs) = auto();
        while !chooser.choose_mapped(MIB, || costs) {
            costs.plain.bytes += MIB;
        }
        run(&mut chooser, &mut costs, 100, 3000, 1000);
        assert!(run(&mut chooser, &mut costs, 1000, 3000, 1000) > 0, "there is another probe");
    }

    #[test]
    fn a_forced_way_is_never_left() {
        let mut costs = ModeCosts::default();
        assert_eq!(run(&mut ModeChooser::new(StorageMode::Plain), &mut costs, 1000, 9000, 1), 0);
        assert_eq!(run(&mut ModeChooser::new(StorageMode::Mapped), &mut costs, 1000, 1, 9000), 1000);
    }
}
