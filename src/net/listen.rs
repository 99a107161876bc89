//! Where others reach us: one port, TCP and UDP, on every address asked for.
//!
//! IPv4 and IPv6 have sockets of their own. A family that the machine does not have is done without, as long
//! as one works. When descriptors run out, accepting rests until something closes: an edge-triggered listener
//! does not spin meanwhile.

use super::sys::Batch;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

/// Connections that may wait for us to accept them.
const BACKLOG: i32 = 128;

/// Ports that the system may choose in vain: one that is free for the first address and TCP can be taken for
/// another, or for UDP.
const CHOICES: usize = 16;

/// Errors of earlier datagrams that are passed over at a time.
const ICMP_ERRORS: usize = 64;

/// The sockets of one address.
#[derive(Debug)]
struct BoundAddress {
    tcp: TcpListener,
    udp: UdpSocket,
    v6: bool,
    /// Connections may wait.
    pending: bool,
    /// Datagrams may wait.
    datagrams: bool,
}

/// All listening sockets. Tokens from `first_token` on: two a place, TCP and UDP.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<BoundAddress>,
    port: u16,
    udp_port: u16,
    first_token: usize,
}

/// What an attempt to accept gave.
#[derive(Debug)]
pub enum Accepted {
    /// A connection.
    Stream(TcpStream, SocketAddr),
    /// No connection waits.
    Empty,
    /// This machine is out of descriptors, or does not let us for another reason: try again when something
    /// has closed, or later.
    OutOfResources,
}

impl Listeners {
    /// Listens at the first port of `ports` that is free on all of `addresses` that the machine has. Port 0
    /// is any free one. UDP is at the same port, or at `udp_port`.
    ///
    /// # Errors
    /// The last port's error, if none was free, or the address's, if none exists here.
    pub fn bind(
        addresses: &[IpAddr],
        ports: RangeInclusive<u16>,
        udp_port: Option<u16>,
        registry: &Registry,
        first_token: usize,
    ) -> io::Result<Listeners> {
        let mut error = io::Error::new(ErrorKind::InvalidInput, "no address to listen on");
        let tries = |port: u16| std::iter::repeat_n(port, if port == 0 { CHOICES } else { 1 });
        for port in ports.flat_map(tries) {
            match Listeners::bind_port(addresses, port, udp_port, first_token) {
                Ok(mut listeners) => {
                    listeners.register(registry)?;
                    return Ok(listeners);
                }
                Err(e) => error = e,
            }
        }
        Err(error)
    }

    fn bind_port(
        addresses: &[IpAddr],
        port: u16,
        udp_port: Option<u16>,
        first_token: usize,
    ) -> io::Result<Listeners> {
        let (mut port, mut udp_port) = (port, udp_port);
        let mut bound = Vec::new();
        let mut missing = None;
        for ip in addresses {
            match bind_address(SocketAddr::new(*ip, port), udp_port) {
                Ok(p) => {
                    port = p.tcp.local_addr()?.port();
                    udp_port = Some(p.udp.local_addr()?.port());
                    bound.push(p);
                }
                // Out of descriptors or memory: that is not a missing address, and the user must not find out
                // later that half of the world cannot call.
                Err(e) if e.kind() == ErrorKind::AddrInUse || out_of_resources(&e) => return Err(e),
                Err(e) => missing = Some(e),
            }
        }
        match missing {
            Some(e) if bound.is_empty() => Err(e),
            _ => Ok(Listeners { bound, port, udp_port: udp_port.unwrap_or(port), first_token }),
        }
    }

    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (i, p) in self.bound.iter_mut().enumerate() {
            registry.register(&mut p.tcp, Token(self.first_token + 2 * i), Interest::READABLE)?;
            registry.register(&mut p.udp, Token(self.first_token + 2 * i + 1), Interest::READABLE)?;
        }
        Ok(())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of UDP.
    pub fn udp_port(&self) -> u16 {
        self.udp_port
    }

    /// One past the last token.
    pub fn tokens_end(&self) -> usize {
        self.first_token + 2 * self.bound.len()
    }

    /// Something waits at this token; false if the token is none of ours.
    pub fn on_ready(&mut self, token: usize) -> bool {
        let bind_address = token
            .checked_sub(self.first_token)
            .and_then(|at| self.bound.get_mut(at / 2).map(|p| (p, at % 2 == 0)));
        match bind_address {
            None => return false,
            Some((bind_address, true)) => bind_address.pending = true,
            Some((bind_address, false)) => bind_address.datagrams = true,
        }
        true
    }

    /// Whether connections may wait.
    pub fn pending(&self) -> bool {
        self.bound.iter().any(|p| p.pending)
    }

    /// Whether datagrams may wait.
    pub fn datagrams_pending(&self) -> bool {
        self.bound.iter().any(|p| p.datagrams)
    }

    /// The next connection that waits.
    pub fn accept(&mut self) -> Accepted {
        for p in self.bound.iter_mut().filter(|p| p.pending) {
            match p.tcp.accept() {
                Ok((stream, addr)) => {
                    return Accepted::Stream(stream, SocketAddr::new(addr.ip().to_canonical(), addr.port()));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => p.pending = false,
                Err(e) if out_of_resources(&e) => return Accepted::OutOfResources,
                // The one that waited is gone again; others may wait behind it.
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {
                    return Accepted::Empty;
                }
                // Whatever it is, it may be the answer for good: asked again at once, it would be all that we
                // do.
                Err(_) => return Accepted::OutOfResources,
            }
        }
        Accepted::Empty
    }

    /// Sends a datagram from the socket of its family. One that cannot go now is lost, as any may be.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        if let Some(bind_address) = self.bound.iter().find(|p| p.v6 == to.is_ipv6()) {
            if let Err(e) = bind_address.udp.send_to(bytes, to) {
                log::debug!("datagram to {to} lost: {e}");
            }
        }
    }

    /// Datagrams that wait; how many, 0 if there are none.
    pub fn receive(&mut self, batch: &mut Batch) -> usize {
        for bind_address in self.bound.iter_mut().filter(|p| p.datagrams) {
            for _ in 0..ICMP_ERRORS {
                match batch.receive(bind_address.udp.as_fd()) {
                    Ok(n) => return n,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        bind_address.datagrams = false;
                        break;
                    }
                    // An ICMP error of an earlier datagram: the next one may be fine.
                    Err(_) => {}
                }
            }
        }
        0
    }
}

/// Whether there may be another answer when something has been closed.
fn out_of_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

fn bind_address(addr: SocketAddr, udp_port: Option<u16>) -> io::Result<BoundAddress> {
    let tcp = socket2::Socket::new(
        Domain::for_address(addr),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    if addr.is_ipv6() {
        tcp.set_only_v6(true)?;
    }
    // The port of a run that ended a moment ago is free for us.
    tcp.set_reuse_address(true)?;
    tcp.bind(&SockAddr::from(addr))?;
    tcp.listen(BACKLOG)?;
    let tcp: std::net::TcpListener = tcp.into();
    let bound = tcp.local_addr()?;
    let udp = socket2::Socket::new(
        Domain::for_address(addr),
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::UDP),
    )?;
    if addr.is_ipv6() {
        udp.set_only_v6(true)?;
    }
    udp.bind(&SockAddr::from(SocketAddr::new(bound.ip(), udp_port.unwrap_or(bound.port()))))?;
    Ok(BoundAddress {
        tcp: TcpListener::from_std(tcp),
        udp: UdpSocket::from_std(udp.into()),
        v6: addr.is_ipv6(),
        pending: false,
        datagrams: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> [IpAddr; 1] {
        ["127.0.0.1".parse().unwrap()]
    }

    #[test]
    fn the_first_free_port_of_the_range_is_taken() {
        let poll = mio::Poll::new().unwrap();
        let a = Listeners::bind(&any(), 0..=0, None, poll.registry(), 1).unwrap();
        let port = a.port();
        assert_ne!(port, 0);
        assert!(Listeners::bind(&any(), port..=port, None, poll.registry(), 1).is_err(), "taken twice");
    }

    /// The system's choice is free for the first address alone. With one port in seventy taken on the second,
    /// four hundred first choices all free on both would be luck beyond belief.
    #[test]
    fn any_port_is_one_that_is_free_on_every_address() {
        let poll = mio::Poll::new().unwrap();
        let both: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()];
        let taken: Vec<_> = (0..400).filter_map(|_| std::net::UdpSocket::bind((both[1], 0)).ok()).collect();
        for _ in 0..400 {
            let found = Listeners::bind(&both, 0..=0, None, poll.registry(), 1).unwrap();
            assert!(taken.iter().all(|t| t.local_addr().unwrap().port() != found.port()));
        }
    }

    #[test]
    fn datagrams_come_in_batches_each_from_its_sender() {
        let mut poll = mio::Poll::new().unwrap();
        let mut listeners = Listeners::bind(&any(), 0..=0, None, poll.registry(), 1).unwrap();
        let senders = [(); 3].map(|()| std::net::UdpSocket::bind((any()[0], 0)).unwrap());
        for n in 0..20u8 {
            senders[usize::from(n) % 3]
                .send_to(&vec![n; usize::from(n)], (any()[0], listeners.udp_port()))
                .unwrap();
        }
        senders[0].send_to(&[7; 6000], (any()[0], listeners.udp_port())).unwrap();
        let mut events = mio::Events::with_capacity(8);
        let (mut batch, mut came) = (Batch::default(), Vec::new());
        while came.len() < 21 {
            poll.poll(&mut events, Some(std::time::Duration::from_secs(5))).unwrap();
            assert!(
                events.iter().all(|event| listeners.on_ready(event.token().0)) && !events.is_empty(),
                "{came:?}"
            );
            while listeners.receive(&mut batch) > 0 {
                came.extend(batch.iter().map(|(bytes, from)| (bytes.to_vec(), from)));
            }
        }
        for (n, (bytes, from)) in came.iter().take(20).enumerate() {
            assert_eq!((bytes, *from), (&vec![n as u8; n], senders[n % 3].local_addr().unwrap()));
        }
        assert_eq!(came[20].0, [7; 4096], "a longer one is cut");
    }

    #[test]
    fn udp_has_a_port_of_its_own_if_it_is_told_to() {
        let poll = mio::Poll::new().unwrap();
        let free = std::net::UdpSocket::bind((any()[0], 0)).unwrap().local_addr().unwrap().port();
        let listeners = Listeners::bind(&any(), 0..=0, Some(free), poll.registry(), 1).unwrap();
        assert_eq!(listeners.udp_port(), free);
        assert!(Listeners::bind(&any(), 0..=0, Some(free), poll.registry(), 1).is_err(), "taken twice");
    }

    #[test]
    fn an_address_that_is_not_here_is_done_without_unless_it_is_the_only_one() {
        let poll = mio::Poll::new().unwrap();
        let foreign: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(Listeners::bind(&[foreign], 0..=0, None, poll.registry(), 1).is_err());
        let l = Listeners::bind(&[any()[0], foreign], 0..=0, None, poll.registry(), 1).unwrap();
        assert_eq!(l.tokens_end(), 3);
    }
}
