//! The memory budget: private memory and windows together stay below the limit that the user sets.
//!
//! ```text
//!   limit ─┬─ a twentieth: receive buffers, permanently
//!          ├─ up to a quarter: windows, as far as the rest leaves room
//!          └─ the rest: torrents, connections, the program itself
//! ```
//!
//! The program's own memory is not estimated: it is read from the kernel at every progress interval, and
//! windows shrink when it grows. Without windows pieces go through the receive buffers, which is slower. The
//! info dictionary of a torrent is kept, to serve it to peers, only if it is no longer than [`info_share`].

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The default limit on a machine with 256 MiB or more.
const DEFAULT_MAX_BYTES: usize = 32 << 20;

/// Most bytes that uTP streams may hold in each direction: sixteen windows.
const UTP_MAX_BYTES: usize = 8 << 20;

/// Returns the default of [`Config::max_memory`](super::Config::max_memory): an eighth of the machine's
/// memory, at most 32 MiB.
pub fn default_max_memory() -> usize {
    an_eighth(memory_kib()).min(DEFAULT_MAX_BYTES)
}

fn an_eighth(memory_kib: Option<u64>) -> usize {
    memory_kib.and_then(|kib| usize::try_from(kib * 1024 / 8).ok()).unwrap_or(DEFAULT_MAX_BYTES)
}

/// Returns the machine's memory, KiB.
fn memory_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Returns the bytes of the receive buffers.
pub(super) const fn pool_share(max_memory: usize) -> usize {
    max_memory / 20
}

/// Returns the bytes that uTP streams may hold for their readers, and as many that peers have not acknowledged.
pub(super) fn utp_share(max_memory: usize) -> usize {
    (max_memory / 8).min(UTP_MAX_BYTES)
}

/// Returns the length of the longest info dictionary that is kept, bytes.
pub const fn info_share(max_memory: usize) -> usize {
    max_memory / 8
}

/// Returns the bytes for windows while the process has `private` bytes of private memory; `None` if the
/// kernel does not tell.
fn window_share(max_memory: usize, private: Option<usize>) -> usize {
    let most = max_memory / 4;
    private.map_or(most, |private| max_memory.saturating_sub(private).min(most))
}

/// Divides the limit by reading the memory of the process: one `read` a call.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    max: usize,
    statm: Option<File>,
    page: usize,
}

impl MemoryBudget {
    /// Returns the budget of a session with this limit, bytes.
    pub fn new(max: usize) -> MemoryBudget {
        MemoryBudget { max, statm: File::open("/proc/self/statm").ok(), page: rustix::param::page_size() }
    }

    /// Returns the bytes that windows may take now.
    pub fn windows(&self) -> usize {
        window_share(self.max, self.private())
    }

    /// Returns the private resident bytes of the process: neither shared nor backed by a file.
    fn private(&self) -> Option<usize> {
        let mut text = [0; 128];
        let read = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..read)?).ok()?;
        let mut pages = text.split(' ').skip(1).map_while(|pages| pages.parse::<usize>().ok());
        let resident = pages.next()?;
        let shared = pages.next()?;
        Some(resident.saturating_sub(shared) * self.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_an_eighth_of_the_memory_and_at_most_32_mib() {
        assert_eq!(an_eighth(Some(64 << 10)), 8 << 20);
        assert_eq!(an_eighth(Some(256 << 10)), DEFAULT_MAX_BYTES);
        assert!(default_max_memory() <= DEFAULT_MAX_BYTES && default_max_memory() > 1 << 20);
    }

    #[test]
    fn windows_get_the_remaining_memory_and_at_most_a_quarter() {
        const MIB: usize = 1 << 20;
        assert_eq!(window_share(16 * MIB, Some(3 * MIB)), 4 * MIB);
        assert_eq!(window_share(16 * MIB, Some(14 * MIB)), 2 * MIB);
        assert_eq!(window_share(16 * MIB, Some(20 * MIB)), 0);
        assert_eq!(window_share(16 * MIB, None), 4 * MIB);
    }

    #[test]
    fn private_memory_grows_with_an_allocation() {
        let memory = MemoryBudget::new(1 << 30);
        let before = memory.private().unwrap();
        let held = vec![1u8; 64 << 20];
        let after = memory.private().unwrap();
        assert!(after > before + (48 << 20), "{before} bytes, then {after}, with {} more", held.len());
    }
}
