//! A reserve of memory that is freed just before a client needs it for the page cache.
//!
//! A virtual machine may return memory that has been free for two seconds to its host (free page reporting).
//! The next process that touches it pays for getting it back: as measured here, up to twice the CPU time of
//! the rest of a download. The cost would depend on the client's start and speed. So this program holds as
//! much memory as a run writes, and frees it as bytes arrive over the wire. On other machines this has no
//! effect.

use crate::fault::{Result, check_signals};
use memmap2::{Advice, MmapMut};
use std::fs;

/// Bytes freed at once.
const PART: usize = 8 << 20;
/// Bytes freed in addition.
const AHEAD: u64 = 64 << 20;
/// Bytes that must be available in addition, for the client.
const REST: u64 = 512 << 20;

/// Memory held in reserve.
#[derive(Debug)]
pub struct PageReserve {
    parts: Vec<MmapMut>,
    given: u64,
}

impl PageReserve {
    /// Allocates the memory that writing `bytes` needs, or nothing if too little is available.
    pub fn take(bytes: u64) -> Result<PageReserve> {
        // Written bytes stay in the page cache beside the reserve.
        let enough = available() > bytes + wanted(bytes) + REST;
        let count = if enough { wanted(bytes).div_ceil(PART as u64) } else { 0 };
        let mut page_reserve = PageReserve { parts: Vec::new(), given: 0 };
        for _ in 0..count {
            check_signals()?;
            let Ok(mut part) = MmapMut::map_anon(PART) else { break };
            // A forked client would have to unmap the reserve during the measurement.
            if part.advise(Advice::DontFork).is_err() {
                break;
            }
            // Freed small pages go to the end of the kernel's free lists, behind pages that the
            // host has taken; huge pages do not. A kernel without huge pages refuses, which is no
            // error.
            let _ = part.advise(Advice::HugePage);
            part.iter_mut().step_by(rustix::param::page_size()).for_each(|byte| *byte = 1);
            page_reserve.parts.push(part);
        }
        Ok(page_reserve)
    }

    /// Frees the memory that the first `arrived` bytes need, and some more.
    pub fn give(&mut self, arrived: u64) {
        while self.given < wanted(arrived) && self.parts.pop().is_some() {
            self.given += PART as u64;
        }
    }
}

/// Returns the memory to free for `bytes` bytes of content; other users of memory take a part of it.
fn wanted(bytes: u64) -> u64 {
    bytes + bytes / 2 + AHEAD
}

/// Returns MemAvailable in bytes, or 0 if the kernel does not have it.
fn available() -> u64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse::<u64>().ok());
    line.unwrap_or(0) << 10
}
