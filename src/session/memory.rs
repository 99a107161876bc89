//! One promise about memory: private memory and windows together stay below what the user allows.
//!
//! ```text
//!   allowed ─┬─ a twentieth: receive buffers, for good
//!            ├─ up to a quarter: windows, as far as the rest leaves it
//!            └─ the rest: torrents, connections, the program itself
//! ```
//!
//! What the program takes for itself is not estimated but read from the kernel every now and then, and
//! windows get less when it grows; without windows pieces go through the receive buffers, which costs speed
//! and nothing else. A torrent whose info dictionary would take more than [`info_share`] is held without it.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Allowed where the machine has plenty.
const PLENTY_BYTES: usize = 32 << 20;

/// What a session may take by default: an eighth of a small machine, and of a large one no more than of one
/// with 256 MiB.
pub fn default_max_memory() -> usize {
    an_eighth(memory_kib()).min(PLENTY_BYTES)
}

fn an_eighth(memory_kib: Option<u64>) -> usize {
    memory_kib.and_then(|kib| usize::try_from(kib * 1024 / 8).ok()).unwrap_or(PLENTY_BYTES)
}

/// MemoryBudget of the machine, as the kernel counts it.
fn memory_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Bytes for receive buffers.
pub(super) const fn pool_share(max_memory: usize) -> usize {
    max_memory / 20
}

/// The longest info dictionary that is held, bytes.
pub const fn info_share(max_memory: usize) -> usize {
    max_memory / 8
}

/// Bytes for windows if the program has this much private memory, and is not known to have any if the kernel
/// does not say.
fn window_share(max_memory: usize, private: Option<usize>) -> usize {
    let most = max_memory / 4;
    private.map_or(most, |private| max_memory.saturating_sub(private).min(most))
}

/// Reads the process's own memory, cheaply enough for every second.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    max: usize,
    statm: Option<File>,
    page: usize,
}

impl MemoryBudget {
    /// For a session that may take so many bytes.
    pub fn new(max: usize) -> MemoryBudget {
        MemoryBudget { max, statm: File::open("/proc/self/statm").ok(), page: rustix::param::page_size() }
    }

    /// Bytes that windows may take now.
    pub fn windows(&self) -> usize {
        window_share(self.max, self.private())
    }

    /// Resident bytes that are private: neither shared nor a file's.
    fn private(&self) -> Option<usize> {
        let mut text = [0; 128];
        let read = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..read)?).ok()?;
        let mut pages = text.split(' ').skip(1).map_while(|pages| pages.parse::<usize>().ok());
        let (resident, shared) = (pages.next()?, pages.next()?);
        Some(resident.saturating_sub(shared) * self.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_gives_an_eighth_and_a_large_one_no_more_than_a_small_one() {
        assert_eq!(an_eighth(Some(64 << 10)), 8 << 20);
        assert_eq!(an_eighth(Some(256 << 10)), PLENTY_BYTES);
        assert!(default_max_memory() <= PLENTY_BYTES && default_max_memory() > 1 << 20);
    }

    #[test]
    fn windows_get_what_is_left_and_never_more_than_a_quarter() {
        const MIB: usize = 1 << 20;
        assert_eq!(window_share(16 * MIB, Some(3 * MIB)), 4 * MIB);
        assert_eq!(window_share(16 * MIB, Some(14 * MIB)), 2 * MIB);
        assert_eq!(window_share(16 * MIB, Some(20 * MIB)), 0);
        assert_eq!(window_share(16 * MIB, None), 4 * MIB);
    }

    #[test]
    fn what_the_kernel_says_of_us_grows_with_what_we_hold() {
        let memory = MemoryBudget::new(1 << 30);
        let before = memory.private().unwrap();
        let held = vec![1u8; 64 << 20];
        let after = memory.private().unwrap();
        assert!(after > before + (48 << 20), "{before} bytes, then {after}, with {} more", held.len());
    }
}
