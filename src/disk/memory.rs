//! Mapped memory and locks of single bytes: the only file of this floor with `unsafe` in it.
//!
//! Two kinds of memory. An [`Arena`] is one anonymous mapping, cut into [`Slot`]s of one block each; a slot has one
//! owner, moves between threads by value and reads as ordinary bytes. A [`FileMap`] is a stretch of a file in
//! the address space. Only the kernel touches it: no reference, load or store of ours goes there, so a
//! truncated file or a full disk is an error number of a system call and never a signal.

#![allow(unsafe_code)]

use super::limits::SLOT_LEN;
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

/// Writable addresses inside a mapped file, for one system call. The map cannot be unmapped while this lives.
#[derive(Debug)]
pub struct RawRange<'a> {
    ptr: *mut u8,
    len: usize,
    map: PhantomData<&'a FileMap>,
}

impl RawRange<'_> {
    /// The address of the first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Bytes in the range, at least 1.
    #[allow(clippy::len_without_is_empty)] // a range is never empty
    pub fn len(&self) -> usize {
        self.len
    }
}

/// Anonymous memory for blocks on their way to the disk. A page becomes resident when the first byte lands in
/// it.
#[derive(Debug)]
struct Arena(MmapRaw);

/// Makes `count` slots in one mapping, which ends with the last of them.
pub(super) fn slots(count: usize) -> io::Result<Vec<Slot>> {
    let map = MmapRaw::from(MmapOptions::new().len(count * SLOT_LEN).map_anon()?);
    // With huge pages one touched slot would make 2 MiB resident. The kernel may refuse advice.
    let _ = map.advise(Advice::NoHugePage);
    let _ = map.advise(Advice::DontDump);
    let _ = map.advise(Advice::DontFork);
    let arena = Arc::new(Arena(map));
    // Low addresses last, so that they are popped first and few pages become resident.
    Ok((0..count).rev().map(|index| Slot { arena: arena.clone(), index }).collect())
}

/// The memory of one block.
#[derive(Debug)]
pub(super) struct Slot {
    arena: Arc<Arena>,
    index: usize,
}

impl Slot {
    fn ptr(&self) -> *mut u8 {
        debug_assert!((self.index + 1) * SLOT_LEN <= self.arena.0.len());
        // SAFETY: `slots` made only indices below len / SLOT_LEN, so the offset lies inside the mapping.
        unsafe { self.arena.0.as_mut_ptr().add(self.index * SLOT_LEN) }
    }

    /// Its bytes; zeros where none were written.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is anonymous, private, readable and zero-filled by the kernel, so all SLOT_LEN
        // bytes are initialised. Each index has one `Slot` (no Clone, made once in `slots`), so nothing else
        // writes during this borrow.
        unsafe { std::slice::from_raw_parts(self.ptr(), SLOT_LEN) }
    }

    /// Its bytes, writable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the `&mut` on the only `Slot` of this index makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr(), SLOT_LEN) }
    }
}

/// A stretch of a file in the address space.
#[derive(Debug)]
pub(super) struct FileMap(MmapRaw);

impl FileMap {
    /// Maps `len` bytes of the file from `at` on. The caller has made the file long enough.
    pub fn new(fd: BorrowedFd<'_>, at: u64, len: usize) -> io::Result<FileMap> {
        MmapOptions::new().offset(at).len(len).map_raw(fd.as_raw_fd()).map(FileMap)
    }

    /// Gives the kernel advice about all of it.
    pub fn advise(&self, advice: Advice) -> io::Result<()> {
        self.0.advise(advice)
    }

    /// The addresses of the bytes `from..to` of the map. Panics if that is empty or reaches past the end.
    pub fn range(&self, from: usize, to: usize) -> RawRange<'_> {
        assert!(from < to && to <= self.0.len(), "a range inside the map");
        // SAFETY: `from` is below the mapping's length, as asserted. No reference is made.
        let ptr = unsafe { self.0.as_mut_ptr().add(from) };
        RawRange { ptr, len: to - from, map: PhantomData }
    }
}

/// Has the kernel read at most `max` bytes from this socket into the range, as a connection does.
#[cfg(test)]
pub(super) fn read_into_range(
    socket: &std::os::unix::net::UnixStream,
    range: RawRange<'_>,
    max: usize,
) -> io::Result<usize> {
    let len = range.len().min(max);
    // SAFETY: the range is writable for `range.len()` bytes while it is borrowed, and `len` is no more than
    // that.
    let n = unsafe { libc::read(socket.as_raw_fd(), range.as_ptr().cast(), len) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// A lock of one byte as `fcntl` takes it, with 64-bit offsets on every machine.
#[cfg(target_env = "musl")]
use libc::flock as ByteLock;
#[cfg(not(target_env = "musl"))]
use libc::flock64 as ByteLock;

fn byte_lock(kind: libc::c_int, at: i64) -> ByteLock {
    // SAFETY: all fields are integers.
    let mut lock: ByteLock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = at;
    lock.l_len = 1;
    lock
}

/// Takes a shared lock of one byte, which need not exist. It is the open file's, like that of `flock`, and
/// independent of it.
pub(super) fn lock_byte(fd: impl AsFd, at: i64) -> io::Result<()> {
    let lock = byte_lock(libc::F_RDLCK, at);
    // SAFETY: the kernel reads the structure during the call.
    match unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &lock) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether another open file has a lock of this byte; false if that is unknown.
pub(super) fn is_byte_locked(fd: impl AsFd, at: i64) -> bool {
    let mut lock = byte_lock(libc::F_WRLCK, at);
    // SAFETY: the kernel reads and writes the structure during the call.
    let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    result == 0 && libc::c_int::from(lock.l_type) != libc::F_UNLCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_its_own_bytes() {
        let mut all = slots(4).unwrap();
        for (i, slot) in all.iter_mut().enumerate() {
            slot.bytes_mut().fill(i as u8 + 1);
        }
        assert!(all.iter().enumerate().all(|(i, slot)| slot.bytes().iter().all(|&b| b == i as u8 + 1)));
    }
}
