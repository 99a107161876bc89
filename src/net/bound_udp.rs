//! UDP sockets that are bound to one of our addresses, for protocols in which the sender's address is part of
//! the question.
//!
//! A socket is opened by its first datagram, and closed when another address of its family takes its place.

use super::egress::Egress;
use super::sys::Batch;
use super::udp;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// At most one socket for each address family, IPv4 first.
#[derive(Debug, Default)]
pub struct BoundUdp([Option<BoundSocket>; 2]);

#[derive(Debug)]
struct BoundSocket {
    ip: IpAddr,
    udp: UdpSocket,
    /// Datagrams may wait to be received.
    pending: bool,
}

impl BoundUdp {
    /// Sends a datagram from the address `from`; `token` maps the index of a socket to its token. A datagram
    /// that the kernel refuses is dropped: the protocols repeat their questions.
    pub fn send(
        &mut self,
        from: IpAddr,
        to: SocketAddr,
        bytes: &[u8],
        egress: &Egress,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) {
        let index = usize::from(from.is_ipv6());
        let sent =
            self.socket(index, from, egress, registry, token(index)).and_then(|udp| udp.send_to(bytes, to));
        if let Err(e) = sent {
            log::debug!("datagram from {from} to {to} dropped: {e}");
        }
    }

    fn socket(
        &mut self,
        index: usize,
        ip: IpAddr,
        egress: &Egress,
        registry: &Registry,
        token: Token,
    ) -> io::Result<&UdpSocket> {
        let slot = &mut self.0[index];
        if slot.as_ref().is_none_or(|socket| socket.ip != ip) {
            // Closing a socket removes it from the poll.
            *slot = None;
            let mut udp = UdpSocket::from_std(egress.datagram_socket(ip)?);
            registry.register(&mut udp, token, Interest::READABLE)?;
            *slot = Some(BoundSocket { ip, udp, pending: false });
        }
        slot.as_ref().map(|socket| &socket.udp).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Notes that datagrams may wait at the socket with this index; an unknown index is ignored.
    pub fn on_ready(&mut self, index: usize) {
        if let Some(Some(socket)) = self.0.get_mut(index) {
            socket.pending = true;
        }
    }

    /// Returns whether datagrams may wait to be received.
    pub fn pending(&self) -> bool {
        self.0.iter().flatten().any(|socket| socket.pending)
    }

    /// Receives some of the datagrams that wait; returns their number. Datagrams may still wait while
    /// [`pending`](BoundUdp::pending) is true.
    pub fn receive(&mut self, batch: &mut Batch) -> usize {
        for socket in self.0.iter_mut().flatten().filter(|socket| socket.pending) {
            match udp::receive(&socket.udp, batch) {
                Some(0) => {}
                Some(received) => return received,
                None => socket.pending = false,
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    #[test]
    fn a_datagram_leaves_from_its_address_and_the_answer_arrives() {
        let mut poll = Poll::new().unwrap();
        let mut ours = BoundUdp::default();
        let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 16];
        // The second address takes the place of the first.
        for ip in ["127.0.0.2", "127.0.0.3"] {
            let ip: IpAddr = ip.parse().unwrap();
            let to = theirs.local_addr().unwrap();
            ours.send(ip, to, b"question", &Egress::default(), poll.registry(), Token);
            let (n, from) = theirs.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..n], from.ip()), (&b"question"[..], ip));
            theirs.send_to(b"answer", from).unwrap();
            let mut events = Events::with_capacity(4);
            poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
            events.iter().for_each(|event| ours.on_ready(event.token().0));
            let mut batch = Batch::default();
            assert_eq!(ours.receive(&mut batch), 1);
            assert!(
                batch.iter().all(|(bytes, from)| bytes == b"answer" && from == theirs.local_addr().unwrap())
            );
            assert_eq!((ours.receive(&mut batch), ours.pending()), (0, false));
        }
        assert!(ours.0[1].is_none());
    }
}
