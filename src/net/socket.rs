//! One connection's socket: bytes in and out without waiting, and what an error of it means.

use super::sys;
use crate::disk::Room;
use crate::engine::DialFailure;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// What came of an attempt to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// This many went; `drained` says that the socket has no more to take or give for now.
    Moved {
        /// At least 1.
        bytes: usize,
        /// Wait for readiness.
        drained: bool,
    },
    /// Nothing now: wait for readiness.
    NotNow,
    /// The memory to read into is bad; nothing was taken from the stream.
    BadRoom,
    /// The stream is over.
    Ended,
}

/// Why no connection was even tried, or it failed.
#[derive(Debug)]
pub struct DialError(io::Error);

impl DialError {
    /// Whose fault it is.
    pub fn failure(&self) -> DialFailure {
        match self.0.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL | libc::EAGAIN) => {
                DialFailure::OutOfResources
            }
            _ => DialFailure::Refused,
        }
    }
}

/// A connection's socket.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Begins to connect; the first writable event tells how it went: ask [`established`](Socket::established).
    pub fn dial(addr: SocketAddr, registry: &Registry, token: Token) -> Result<Socket, DialError> {
        let stream = TcpStream::connect(addr).map_err(DialError)?;
        Socket::register(stream, registry, token).map_err(DialError)
    }

    /// Takes an accepted stream over.
    pub fn register(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Socket> {
        stream.register(registry, token, Interest::READABLE | Interest::WRITABLE)?;
        // Requests are small and waited for. A socket that refuses the option works without it.
        let _ = stream.set_nodelay(true);
        Ok(Socket { stream })
    }

    /// Whether a dialed connection stands: `None` while that is open.
    pub fn established(&self) -> Option<Result<(), DialError>> {
        match self.stream.take_error() {
            Ok(Some(e)) | Err(e) => return Some(Err(DialError(e))),
            Ok(None) => {}
        }
        match self.stream.peer_addr() {
            Ok(_) => Some(Ok(())),
            Err(e) if e.kind() == ErrorKind::NotConnected => None,
            Err(e) => Some(Err(DialError(e))),
        }
    }

    /// Reads control bytes.
    pub fn read(&mut self, room: &mut [u8]) -> Transfer {
        let n = self.stream.read(room);
        transfer(n, room.len())
    }

    /// Reads payload to where it lives, and what follows it to the spill.
    pub fn read_into(&mut self, room: Room, spill: &mut [u8]) -> Transfer {
        let n = sys::read_into(self.stream.as_fd(), room, spill);
        transfer(n, room.len() + spill.len())
    }

    /// Writes as much of the slices as the socket takes.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> Transfer {
        let n = self.stream.write_vectored(slices);
        transfer(n, slices.iter().map(|s| s.len()).sum())
    }
}

fn transfer(result: io::Result<usize>, wanted: usize) -> Transfer {
    match result {
        Ok(0) => Transfer::Ended,
        Ok(bytes) => Transfer::Moved { bytes, drained: bytes < wanted },
        Err(e) if e.kind() == ErrorKind::WouldBlock => Transfer::NotNow,
        // A signal came between; nothing moved, and the socket may be ready still.
        Err(e) if e.kind() == ErrorKind::Interrupted => Transfer::Moved { bytes: 0, drained: false },
        Err(e) if e.raw_os_error() == Some(libc::EFAULT) => Transfer::BadRoom,
        Err(_) => Transfer::Ended,
    }
}
