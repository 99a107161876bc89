//! The system calls without a safe wrapper: `readv` into memory to which no reference may exist, and
//! `recvmmsg`.
//!
//! A [`RawRange`] lies in a mapped file that other programs may change. Only the kernel touches it: `readv`
//! gets it as a raw address.

#![allow(unsafe_code)]

use crate::disk::RawRange;
use socket2::SockAddr;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Datagrams received with one call.
const BATCH: usize = 8;
/// Bytes kept of a datagram; the kernel discards the rest. No valid packet of DHT or trackers is longer.
const DATAGRAM_BYTES: usize = 4096;

/// Reads up to `range.len() + spill.len()` bytes, first into the range and then into the spill.
///
/// # Errors
/// Those of `readv(2)`. `EFAULT`: the range's file is at fault (disk full, truncated), and nothing was taken
/// from the socket.
pub fn read_into(fd: BorrowedFd<'_>, range: &RawRange<'_>, spill: &mut [u8]) -> io::Result<usize> {
    let vectors = [
        libc::iovec { iov_base: range.as_ptr().cast(), iov_len: range.len() },
        libc::iovec { iov_base: spill.as_mut_ptr().cast(), iov_len: spill.len() },
    ];
    let count = if spill.is_empty() { 1 } else { 2 };
    // SAFETY: the descriptor is borrowed for the call. A `RawRange` is writable for its length while it
    // lives, and it borrows its map; the spill is borrowed exclusively. `count` vectors are initialised.
    let n = unsafe { libc::readv(fd.as_raw_fd(), vectors.as_ptr(), count) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Datagrams received with one system call.
#[derive(Debug)]
pub struct Batch {
    bytes: Box<[[u8; DATAGRAM_BYTES]; BATCH]>,
    /// Length and sender of each datagram.
    received: [Option<(usize, SocketAddr)>; BATCH],
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { bytes: Box::new([[0; DATAGRAM_BYTES]; BATCH]), received: [None; BATCH] }
    }
}

impl Batch {
    /// Receives up to eight datagrams in place of those of the last call; returns their number, at least 1.
    ///
    /// # Errors
    /// Those of `recvmmsg(2)`; `EAGAIN` if nothing waits.
    pub fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = [None; BATCH];
        // SAFETY: for both types all bytes zero is a value: null pointers, lengths of nothing, the family
        // "unspecified".
        let (mut headers, mut names): ([libc::mmsghdr; BATCH], [libc::sockaddr_storage; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        for ((header, vector), (name, bytes)) in
            headers.iter_mut().zip(&mut vectors).zip(names.iter_mut().zip(&mut *self.bytes))
        {
            *vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: DATAGRAM_BYTES };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the descriptor is borrowed for the call. Every header points at one vector, one name and
        // one buffer of its own, all of which outlive the call and are not touched by other code during it.
        let n = unsafe {
            libc::recvmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), BATCH as _, flags as _, std::ptr::null_mut())
        };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        for ((received, header), name) in self.received.iter_mut().zip(&headers).zip(&names).take(n) {
            // SAFETY: the kernel has written an address of this length, or none and left the length 0.
            let from = unsafe { SockAddr::new(std::mem::transmute_copy(name), header.msg_hdr.msg_namelen) };
            *received = from.as_socket().map(|from| ((header.msg_len as usize).min(DATAGRAM_BYTES), from));
        }
        Ok(n)
    }

    /// Iterates over the datagrams and their senders.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        self.bytes
            .iter()
            .zip(&self.received)
            .filter_map(|(bytes, received)| received.map(|(len, from)| (&bytes[..len], from)))
    }
}
