//! The only file of this floor with `unsafe` in it: memory that the kernel writes to.
//!
//! Two kinds. An [`Arena`] is one anonymous mapping cut into [`Slot`]s of a block each; a slot is owned by whoever
//! holds it, moves between threads by value, and reads as ordinary bytes. A [`Window`] is a stretch of a file in our
//! address space; only the kernel ever touches it: no reference, no load and no store of ours goes there, so a
//! truncated file or a full disk is an error number from a system call and never a signal.
//!
//! A [`Target`] names writable bytes in either, for the one system call that follows. It carries no lifetime because it
//! crosses the border to raw `readv`; it is good until the next call on the `Store` that made it.

#![allow(unsafe_code)]

use super::limits::SLOT_LEN;
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

/// Writable bytes for one `readv`: valid until the next call on the store that gave them.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    ptr: *mut u8,
    len: usize,
    of_file: bool,
}

impl Target {
    /// Where the first byte goes.
    pub fn as_ptr(self) -> *mut u8 {
        self.ptr
    }

    /// Whether it lies in a file: a page of it may turn out bad in the middle of a read, which then stops before it and says only
    /// how far it came.
    pub fn is_window(self) -> bool {
        self.of_file
    }

    /// Bytes that may be written, at least 1.
    #[allow(clippy::len_without_is_empty)] // room for nothing is never given
    pub fn len(self) -> usize {
        self.len
    }
}

/// Anonymous memory for blocks on their way; pages become real at the first byte that lands in them.
#[derive(Debug)]
struct Arena(MmapRaw);

/// Makes `count` slots in one mapping; the mapping ends with the last of them.
pub(super) fn slots(count: usize) -> io::Result<Vec<Slot>> {
    let map = MmapRaw::from(MmapOptions::new().len(count * SLOT_LEN).map_anon()?);
    // Idle memory stays small only if one touched slot does not bring in a huge page. Advice may be refused.
    let _ = map.advise(Advice::NoHugePage);
    let _ = map.advise(Advice::DontDump);
    let _ = map.advise(Advice::DontFork);
    let arena = Arc::new(Arena(map));
    // Low addresses last, so that they are popped first and few pages get touched.
    Ok((0..count).rev().map(|index| Slot { arena: arena.clone(), index }).collect())
}

/// One block's worth of memory, owned.
#[derive(Debug)]
pub(super) struct Slot {
    arena: Arc<Arena>,
    index: usize,
}

impl Slot {
    fn ptr(&self) -> *mut u8 {
        debug_assert!((self.index + 1) * SLOT_LEN <= self.arena.0.len());
        // SAFETY: `slots` made indices below len / SLOT_LEN only, so the offset lies inside the mapping.
        unsafe { self.arena.0.as_mut_ptr().add(self.index * SLOT_LEN) }
    }

    /// Its bytes; those never written are zeros.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is anonymous, private, readable and zero-filled by the kernel, so all SLOT_LEN bytes are
        // initialised. Each index has exactly one `Slot` (no Clone, made once in `slots`), so nobody writes here while
        // this borrow lives: a `Room` into the slot is dead at the next call on the store, which owns the slot until then.
        unsafe { std::slice::from_raw_parts(self.ptr(), SLOT_LEN) }
    }

    /// Its bytes, to be written by us.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the `&mut` on the only `Slot` of this index makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr(), SLOT_LEN) }
    }

    /// Its bytes `from..to`, to be written by the kernel.
    pub fn target(&mut self, from: usize, to: usize) -> Target {
        let bytes = &mut self.bytes_mut()[from..to];
        Target { ptr: bytes.as_mut_ptr(), len: bytes.len(), of_file: false }
    }
}

/// A stretch of a file in our address space that only the kernel touches.
#[derive(Debug)]
pub(super) struct Window {
    map: MmapRaw,
    /// The piece's bytes that it covers.
    begin: u32,
    end: u32,
}

impl Window {
    /// Maps `len` bytes of the file from `at`, which are the piece's bytes from `begin`. Takes no care of the file's length.
    pub fn map(fd: BorrowedFd<'_>, at: u64, len: u32, begin: u32) -> io::Result<Window> {
        let map = MmapOptions::new().offset(at).len(len as usize).map_raw(fd.as_raw_fd())?;
        let _ = map.advise(Advice::DontFork);
        let _ = map.advise(Advice::DontDump);
        // Without this the kernel reads ahead into large folios, and every first touch walks one of them.
        let _ = map.advise(Advice::Random);
        Ok(Window { map, begin, end: begin + len })
    }

    /// Faults every page in, writable. An old kernel does not know how (EINVAL): then the first touch of a page does it.
    pub fn populate(&self) -> io::Result<()> {
        match self.map.advise(Advice::PopulateWrite) {
            Err(e) if e.raw_os_error() != Some(libc::EINVAL) => Err(e),
            _ => Ok(()),
        }
    }

    /// Room for the piece's bytes `begin..end`, if all of them lie in this window.
    pub fn target(&self, begin: u32, end: u32) -> Option<Target> {
        if begin < self.begin || end > self.end || begin >= end {
            return None;
        }
        // SAFETY: `begin - self.begin` is below the mapping's length, checked above. No reference is made.
        let ptr = unsafe { self.map.as_mut_ptr().add((begin - self.begin) as usize) };
        Some(Target { ptr, len: (end - begin) as usize, of_file: true })
    }
}

/// What a socket does: the kernel puts bytes into a room. For tests.
#[cfg(test)]
pub(super) fn read_socket_into(room: Target, bytes: &[u8]) -> io::Result<usize> {
    use io::Write as _;
    let (from, mut to) = std::os::unix::net::UnixStream::pair()?;
    let n = bytes.len().min(room.len()).min(SLOT_LEN);
    to.write_all(&bytes[..n])?;
    // SAFETY: the room has just been given by a store and no other call was made on it since; `n` is within its length.
    let got = unsafe { libc::read(from.as_raw_fd(), room.as_ptr().cast(), n) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_its_own_bytes() {
        let mut all = slots(4).unwrap();
        for (i, s) in all.iter_mut().enumerate() {
            s.bytes_mut().fill(i as u8 + 1);
        }
        assert!(all.iter().enumerate().all(|(i, s)| s.bytes().iter().all(|&b| b == i as u8 + 1)));
    }

    #[test]
    fn a_window_gives_room_only_inside_itself() {
        let f = tempfile::tempfile().unwrap();
        f.set_len(100_000).unwrap();
        let w = Window::map(std::os::fd::AsFd::as_fd(&f), 5_000, 50_000, 16_384).unwrap();
        w.populate().unwrap();
        assert!(w.target(16_383, 20_000).is_none());
        assert!(w.target(60_000, 66_385).is_none());
        assert_eq!(w.target(16_384, 66_384).unwrap().len(), 50_000);
    }
}
