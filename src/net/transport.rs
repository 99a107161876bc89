//! The transport of a connection's bytes: a TCP socket today. Its four verbs (established, read, read_into,
//! write) are all that the loop uses, so another transport is another variant, and a cipher a layer over
//! either.

use super::egress::Egress;
use super::tcp_socket::TcpSocket;
use super::transfer::{DialError, Transfer};
use crate::disk::Target;
use mio::net::TcpStream;
use mio::{Registry, Token};
use std::io::{self, IoSlice};
use std::net::SocketAddr;

/// The transport of a connection's bytes.
#[derive(Debug)]
pub enum Transport {
    /// A TCP socket.
    Tcp(TcpSocket),
}

impl Transport {
    /// Begins to connect over TCP. The first writable event says that the attempt is over:
    /// [`established`](Transport::established) then tells its result.
    ///
    /// # Errors
    /// Those of `socket(2)`, `connect(2)` and `epoll_ctl(2)`.
    pub fn dial(
        addr: SocketAddr,
        egress: &Egress,
        registry: &Registry,
        token: Token,
    ) -> Result<Transport, DialError> {
        TcpSocket::dial(addr, egress, registry, token).map(Transport::Tcp)
    }

    /// Takes over an accepted TCP stream.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn accepted(
        stream: TcpStream,
        egress: &Egress,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Transport> {
        TcpSocket::accepted(stream, egress, registry, token).map(Transport::Tcp)
    }

    /// Returns the result of dialing, `None` while it is pending.
    pub fn established(&self) -> Option<Result<(), DialError>> {
        match self {
            Transport::Tcp(socket) => socket.established(),
        }
    }

    /// Reads control bytes.
    pub fn read(&mut self, room: &mut [u8]) -> Transfer {
        match self {
            Transport::Tcp(socket) => socket.read(room),
        }
    }

    /// Reads payload into its target, and the bytes that follow it into `spill`.
    pub fn read_into(&mut self, target: Target<'_>, spill: &mut [u8]) -> Transfer {
        match self {
            Transport::Tcp(socket) => socket.read_into(target, spill),
        }
    }

    /// Writes as much of the slices as the transport takes.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> Transfer {
        match self {
            Transport::Tcp(socket) => socket.write(slices),
        }
    }
}
