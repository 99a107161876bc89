//! The listening TCP sockets, one for each address.
//!
//! When descriptors run out the caller stops accepting until a socket closes: the listeners are
//! edge-triggered, so a waiting connection does not wake the loop again in the meantime.

use super::out_of_resources;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// All listening sockets.
#[derive(Debug)]
pub struct TcpListeners {
    sockets: Vec<ListeningSocket>,
    port: u16,
}

#[derive(Debug)]
struct ListeningSocket {
    tcp: TcpListener,
    /// Connections may wait to be accepted.
    pending: bool,
}

/// The result of an attempt to accept.
#[derive(Debug)]
pub enum Accepted {
    /// A connection and the peer's address.
    Stream(TcpStream, SocketAddr),
    /// No connection waits, or the one that waited was aborted by its peer.
    Empty,
    /// The system has no descriptor or memory left, or refuses for another reason: retry when a socket has
    /// closed, or later.
    OutOfResources,
}

impl TcpListeners {
    pub(super) fn new(sockets: Vec<std::net::TcpListener>, port: u16) -> TcpListeners {
        let listening = |tcp| ListeningSocket { tcp: TcpListener::from_std(tcp), pending: false };
        TcpListeners { sockets: sockets.into_iter().map(listening).collect(), port }
    }

    /// Registers the sockets; `token` maps the index of a socket to its token.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn register(&mut self, registry: &Registry, token: impl Fn(usize) -> Token) -> io::Result<()> {
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            registry.register(&mut socket.tcp, token(index), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Closes the sockets; the port is remembered.
    pub fn close(&mut self) {
        self.sockets.clear();
    }

    /// Returns the port, the same on every address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Notes that connections may wait at the socket with this index; an unknown index is ignored.
    pub fn on_ready(&mut self, index: usize) {
        if let Some(socket) = self.sockets.get_mut(index) {
            socket.pending = true;
        }
    }

    /// Returns whether connections may wait.
    pub fn pending(&self) -> bool {
        self.sockets.iter().any(|socket| socket.pending)
    }

    /// Accepts the next connection.
    pub fn accept(&mut self) -> Accepted {
        for socket in self.sockets.iter_mut().filter(|socket| socket.pending) {
            match socket.tcp.accept() {
                Ok((stream, addr)) => {
                    return Accepted::Stream(stream, SocketAddr::new(addr.ip().to_canonical(), addr.port()));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => socket.pending = false,
                Err(e) if out_of_resources(&e) => return Accepted::OutOfResources,
                // The peer aborted this connection; others may wait behind it.
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {
                    return Accepted::Empty;
                }
                // An unknown error may be permanent: an immediate retry could become a busy loop.
                Err(_) => return Accepted::OutOfResources,
            }
        }
        Accepted::Empty
    }
}
