//! The one system call that safe Rust cannot say: `readv` into memory to which no reference may exist.
//!
//! A [`Room`] may lie in a mapped file that others change; only the kernel touches it, so it goes to `readv` as a raw address.

#![allow(unsafe_code)]

use crate::disk::Room;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Reads up to `room.len() + spill.len()` bytes: the room is filled first, what follows goes to the spill.
///
/// # Errors
/// Those of `readv(2)`. `EFAULT` says that the room's file is at fault (disk full, truncated): nothing was taken from the socket.
pub fn read_into(fd: BorrowedFd<'_>, room: Room, spill: &mut [u8]) -> io::Result<usize> {
    let vectors = [
        libc::iovec { iov_base: room.as_ptr().cast(), iov_len: room.len() },
        libc::iovec { iov_base: spill.as_mut_ptr().cast(), iov_len: spill.len() },
    ];
    let count = if spill.is_empty() { 1 } else { 2 };
    // SAFETY: the descriptor is borrowed for the call. A `Room` is valid for writes of its length until the next call on the
    // store that made it, and there is none during this one; the spill is borrowed exclusively. `count` vectors are initialised.
    let n = unsafe { libc::readv(fd.as_raw_fd(), vectors.as_ptr(), count) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
