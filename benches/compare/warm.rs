//! Memory that is given back to the kernel just before a client needs it.
//!
//! A virtual machine may hand memory that has been free for two seconds back to its host (free page
//! reporting), and who touches it next pays for getting it again: measured here, up to twice the CPU of
//! everything else that a download does. Who pays, and how much, would depend on when a client begins and on
//! how slow it is. So this program holds as much as a run writes, and lets go of it as the bytes come over
//! the wire. On other machines that changes nothing.

use crate::fault::{Result, go_on};
use memmap2::{Advice, MmapMut};
use std::fs;

/// What is let go at once.
const PART: usize = 8 << 20;
/// So many bytes more are let go.
const AHEAD: u64 = 64 << 20;
/// What must be available besides, for every client.
const REST: u64 = 512 << 20;

/// Memory that is held.
#[derive(Debug)]
pub struct Warm {
    parts: Vec<MmapMut>,
    given: u64,
}

impl Warm {
    /// Takes what writing so many bytes needs, or nothing where memory is too scarce for that.
    pub fn take(bytes: u64) -> Result<Warm> {
        // What is written stays in memory beside what is held.
        let enough = available() > bytes + wanted(bytes) + REST;
        let count = if enough { wanted(bytes).div_ceil(PART as u64) } else { 0 };
        let mut warm = Warm { parts: Vec::new(), given: 0 };
        for _ in 0..count {
            go_on()?;
            let Ok(mut part) = MmapMut::map_anon(PART) else { break };
            // A client that is forked would have to take it down again, in time that is measured.
            if part.advise(Advice::DontFork).is_err() {
                break;
            }
            // Small pages go back one by one, to the end of lists on which the host's are first; a kernel
            // without large ones refuses, and loses nothing but this.
            let _ = part.advise(Advice::HugePage);
            part.iter_mut().step_by(rustix::param::page_size()).for_each(|byte| *byte = 1);
            warm.parts.push(part);
        }
        Ok(warm)
    }

    /// Lets go of what the first `arrived` bytes need, and a little more.
    pub fn give(&mut self, arrived: u64) {
        while self.given < wanted(arrived) && self.parts.pop().is_some() {
            self.given += PART as u64;
        }
    }
}

/// What so many bytes on their way to the disk need: others take of what is let go, too.
fn wanted(bytes: u64) -> u64 {
    bytes + bytes / 2 + AHEAD
}

/// MemAvailable in bytes; 0 where the kernel does not say.
fn available() -> u64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse::<u64>().ok());
    line.unwrap_or(0) << 10
}
