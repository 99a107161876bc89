//! The transport of a connection's bytes: a TCP socket, a uTP stream, or RC4 over another transport. Its four verbs
//! (established, read, read_into, write) are all that the loop uses, so another transport is another variant.

use super::cipher::CipherTransport;
use super::egress::Egress;
use super::tcp_socket::TcpSocket;
use super::transfer::{DialError, Transfer};
use super::utp_stream;
use crate::disk::{Access, Target};
use crate::units::UtpKey;
use crate::utp::Endpoint;
use crate::wire::mse::Ciphers;
use mio::net::TcpStream;
use mio::{Registry, Token};
use std::io::{self, IoSlice};
use std::net::SocketAddr;

/// The transport of a connection's bytes.
#[derive(Debug)]
pub enum Transport {
    /// A TCP socket.
    Tcp(TcpSocket),
    /// A stream of the loop's uTP endpoint, which every method gets.
    Utp(UtpKey),
    /// RC4 over another transport (MSE).
    Rc4(Box<CipherTransport>),
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

    /// Returns this transport with a cipher over it. The next `clear` bytes are written as they are.
    #[must_use]
    pub fn encrypted(self, ciphers: Ciphers, clear: usize) -> Transport {
        Transport::Rc4(Box::new(CipherTransport::new(self, ciphers, clear)))
    }

    /// Returns what writes received payload into its target.
    pub fn access(&self) -> Access {
        match self {
            Transport::Tcp(_) => Access::Kernel,
            Transport::Utp(_) | Transport::Rc4(_) => Access::Cpu,
        }
    }

    /// Returns the result of dialing, `None` while it is pending.
    pub fn established(&mut self, utp: &Endpoint) -> Option<Result<(), DialError>> {
        match self {
            Transport::Tcp(socket) => socket.established(),
            Transport::Utp(key) => utp_stream::established(utp, *key),
            Transport::Rc4(cipher) => cipher.under_mut().established(utp),
        }
    }

    /// Gives up dialing if a proxy has not yet taken the request.
    pub fn proxy_overdue(&mut self) -> Option<DialError> {
        match self {
            Transport::Tcp(socket) => socket.proxy_overdue(),
            // It was established, or does not lead through a proxy.
            Transport::Rc4(_) | Transport::Utp(_) => None,
        }
    }

    /// Reads control bytes.
    pub fn read(&mut self, room: &mut [u8], utp: &mut Endpoint) -> Transfer {
        match self {
            Transport::Tcp(socket) => socket.read(room),
            Transport::Utp(key) => utp_stream::read(utp, *key, room),
            Transport::Rc4(cipher) => cipher.read(room, utp),
        }
    }

    /// Reads payload into its target, and the bytes that follow it into `spill`. A cipher reads to `scratch`
    /// first.
    pub fn read_into(
        &mut self,
        target: Target<'_>,
        spill: &mut [u8],
        utp: &mut Endpoint,
        scratch: &mut Vec<u8>,
    ) -> Transfer {
        match self {
            Transport::Tcp(socket) => socket.read_into(target, spill),
            Transport::Utp(key) => utp_stream::read_into(utp, *key, target, spill),
            Transport::Rc4(cipher) => cipher.read_into(target, spill, utp, scratch),
        }
    }

    /// Writes as much of the slices as the transport takes. A cipher encrypts them to `scratch` first.
    pub fn write(&mut self, slices: &[IoSlice<'_>], utp: &mut Endpoint, scratch: &mut Vec<u8>) -> Transfer {
        match self {
            Transport::Tcp(socket) => socket.write(slices),
            Transport::Utp(key) => utp_stream::write(utp, *key, slices),
            Transport::Rc4(cipher) => cipher.write(slices, utp, scratch),
        }
    }

    /// Returns the key of the uTP stream, if this is one or a cipher over one.
    pub fn utp_key(&self) -> Option<UtpKey> {
        match self {
            Transport::Tcp(_) => None,
            Transport::Utp(key) => Some(*key),
            Transport::Rc4(cipher) => cipher.under().utp_key(),
        }
    }
}
