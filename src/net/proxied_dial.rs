//! The negotiation with a SOCKS5 proxy on a connection that the loop dials, without waiting.

use super::proxy::{Proxy, closed, refused};
use super::transfer::DialError;
use crate::wire::socks5::{Socks5Negotiation, Target};
use mio::net::TcpStream;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

/// The negotiation on one connection.
#[derive(Debug)]
pub(super) struct ProxiedDial {
    proxy: Proxy,
    /// The address of the proxy.
    addr: SocketAddr,
    negotiation: Box<Socks5Negotiation>,
}

impl ProxiedDial {
    /// Returns the negotiation of a connection to `peer` through the proxy at `addr`.
    pub fn new(proxy: Proxy, addr: SocketAddr, peer: SocketAddr) -> ProxiedDial {
        let negotiation = proxy.negotiation(&Target::Addr(peer));
        ProxiedDial { proxy, addr, negotiation }
    }

    /// Returns whether the proxy has taken the request.
    pub fn is_requested(&self) -> bool {
        self.negotiation.is_requested()
    }

    /// Moves the bytes that can be moved now. `None` while the negotiation is under way.
    pub fn advance(&mut self, stream: &mut TcpStream) -> Option<Result<(), DialError>> {
        loop {
            match self.step(stream) {
                Ok(false) => {}
                Ok(true) => return Some(Ok(())),
                Err(e) if matches!(&e, DialError::Proxy(e) if e.kind() == ErrorKind::WouldBlock) => {
                    return None;
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }

    /// Writes and reads once; returns whether the negotiation is over.
    fn step(&mut self, stream: &mut TcpStream) -> Result<bool, DialError> {
        while !self.negotiation.output().is_empty() {
            let written =
                uninterrupted(|| stream.write(self.negotiation.output())).map_err(|e| self.fail(e))?;
            self.negotiation.on_written(written);
        }
        let read = match uninterrupted(|| stream.read(self.negotiation.room())) {
            Ok(0) => return Err(self.fail(closed())),
            read => read.map_err(|e| self.fail(e))?,
        };
        let result = self.negotiation.on_read(read);
        if matches!(result, Ok(false)) {
            return Ok(false);
        }
        self.proxy.on_answer(result.map(|_| ()));
        result.map_err(|e| {
            if e.is_of_target() { DialError::Peer(refused(e)) } else { DialError::Proxy(refused(e)) }
        })
    }

    /// Returns the error of a connection to the proxy that broke. Once the proxy has taken the request, the cause may
    /// be the peer.
    fn fail(&self, error: io::Error) -> DialError {
        if error.kind() == ErrorKind::WouldBlock {
            return DialError::Proxy(error);
        }
        if self.is_requested() {
            return DialError::Peer(ErrorKind::HostUnreachable.into());
        }
        self.on_unreachable(error)
    }

    /// Notes that the proxy cannot be reached.
    pub fn on_unreachable(&self, error: io::Error) -> DialError {
        self.proxy.on_unreachable(Some(self.addr), &error);
        DialError::Proxy(error)
    }

    /// Notes that the proxy does not answer in time.
    pub fn on_overdue(&self) -> DialError {
        self.on_unreachable(io::Error::new(ErrorKind::TimedOut, "it does not answer"))
    }
}

/// Makes a call again while signals interrupt it.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
