//! The system calls without a safe wrapper: `readv` into memory to which no reference may exist, `recvmmsg` and
//! `sendmmsg`.
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
/// Datagrams sent with one call.
const SEND_BATCH: usize = 32;
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

/// Datagrams to send with few system calls, in order.
#[derive(Debug, Default)]
pub struct SendBatch {
    bytes: Vec<u8>,
    /// The end in `bytes`, the socket's index and the destination of each datagram.
    datagrams: Vec<(usize, usize, SocketAddr)>,
    /// Datagrams that are sent already.
    sent: usize,
}

impl SendBatch {
    /// Returns whether no datagram waits.
    pub fn is_empty(&self) -> bool {
        self.sent == self.datagrams.len()
    }

    /// Returns whether [`push`](SendBatch::push) should wait for a [`Udp::send_batch`](super::Udp::send_batch).
    pub fn is_full(&self) -> bool {
        self.datagrams.len() >= SEND_BATCH && !self.is_empty()
    }

    /// Appends the datagram that `write` appends to the buffer; it returns the index of the socket and the
    /// destination, or `None` if there is no datagram. Returns whether there was one.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<(usize, SocketAddr)>) -> bool {
        if self.is_empty() {
            self.clear();
        }
        let Some((socket, to)) = write(&mut self.bytes) else { return false };
        self.datagrams.push((self.bytes.len(), socket, to));
        true
    }

    /// Drops all datagrams.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
        self.sent = 0;
    }

    /// Returns the index of the socket of the first datagram that waits.
    pub(super) fn socket(&self) -> Option<usize> {
        self.datagrams.get(self.sent).map(|(_, socket, _)| *socket)
    }

    /// Drops the first datagram that waits.
    pub(super) fn skip(&mut self) {
        self.sent = (self.sent + 1).min(self.datagrams.len());
    }

    /// Sends the first datagrams that wait and have the same socket, which is `fd`; returns their number.
    ///
    /// # Errors
    /// Those of `sendmmsg(2)` for the first datagram; none was sent.
    pub(super) fn send(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let start = self.sent.checked_sub(1).map_or(0, |before| self.datagrams[before].0);
        let socket = self.socket();
        let run = self.datagrams[self.sent..].iter().take_while(|(_, other, _)| Some(*other) == socket);
        let names: Vec<SockAddr> = run.take(SEND_BATCH).map(|(_, _, to)| SockAddr::from(*to)).collect();
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SEND_BATCH];
        // SAFETY: all bytes zero is a value of this type: null pointers and lengths of nothing.
        let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { zeroed() };
        let mut at = start;
        for (n, name) in names.iter().enumerate() {
            let end = self.datagrams[self.sent + n].0;
            let bytes = &self.bytes[at..end];
            at = end;
            vectors[n] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            headers[n].msg_hdr.msg_iov = &raw mut vectors[n];
            headers[n].msg_hdr.msg_iovlen = 1;
            headers[n].msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
            headers[n].msg_hdr.msg_namelen = name.len();
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the descriptor is borrowed for the call. Each of the first `names.len()` headers points at one
        // vector and one name, and each vector at bytes of `self.bytes`; all of them outlive the call, and the
        // kernel only reads them.
        let n = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), names.len() as _, flags as _) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        self.sent += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn a_batch_is_sent_in_order_to_each_destination_and_once() {
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut batch = SendBatch::default();
        let mut filled = 0_u8;
        while !batch.is_full() {
            let addr = to[usize::from(filled) % 2].local_addr().unwrap();
            assert!(batch.push(|bytes| {
                bytes.extend(vec![filled; 1 + usize::from(filled)]);
                Some((usize::from(filled >= 30), addr))
            }));
            filled += 1;
        }
        assert_eq!((batch.send(from.as_fd()).unwrap(), batch.socket()), (30, Some(1)));
        batch.skip();
        assert_eq!(batch.send(from.as_fd()).unwrap(), 1);
        assert!(batch.is_empty());
        assert!(!batch.is_full(), "what was sent takes no place");
        assert!(!batch.push(|_| None));
        for n in (0..filled).filter(|n| *n != 30) {
            let mut bytes = [0; 100];
            let (len, _) = to[usize::from(n) % 2].recv_from(&mut bytes).unwrap();
            assert_eq!(bytes[..len], vec![n; 1 + usize::from(n)]);
        }
    }
}
