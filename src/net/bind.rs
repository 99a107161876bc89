//! Binds the listening sockets: one port, TCP and UDP, on every address asked for.
//!
//! IPv4 and IPv6 have sockets of their own. A family that the machine lacks is left out as long as one
//! address works.

use super::egress::Egress;
use super::{TcpListeners, Udp, out_of_resources};
use socket2::{Protocol, SockAddr, SockRef, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

/// Receive buffer of a UDP socket: more than the windows of two uTP streams that send all at once.
const UDP_RECEIVE_BYTES: usize = 1024 * 1024;

/// Attempts with a port of the system's choice: a port that is free for TCP on the first address can be in
/// use on another, or for UDP.
const ANY_PORT_ATTEMPTS: usize = 16;

/// Binds the first port of `ports` that is free for TCP and UDP on all of `addresses` that the machine has.
/// Port 0 is any free one. UDP has the same port, or `udp_port`. Without `tcp` there is no listener. With a proxy
/// nothing is bound, and the port is 0.
///
/// # Errors
/// The last port's error if none was free, or the address's if the machine has none of them.
pub fn bind(
    addresses: &[IpAddr],
    ports: RangeInclusive<u16>,
    udp_port: Option<u16>,
    tcp: bool,
    egress: &Egress,
) -> io::Result<(TcpListeners, Udp)> {
    if egress.proxy.is_some() {
        // An incoming connection would not come through the proxy.
        return Ok((TcpListeners::new(Vec::new(), 0), Udp::new(Vec::new(), 0)?));
    }
    let addresses = &egress.listen_on(addresses)[..];
    if addresses.is_empty() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "no address to listen on"));
    }
    let mut error = io::Error::new(ErrorKind::InvalidInput, "no port to listen on");
    let attempts = |port: u16| std::iter::repeat_n(port, if port == 0 { ANY_PORT_ATTEMPTS } else { 1 });
    for port in ports.flat_map(attempts) {
        match bind_port(addresses, port, udp_port, tcp, egress) {
            Ok(bound) => return Ok(bound),
            Err(e) => error = e,
        }
    }
    Err(error)
}

fn bind_port(
    addresses: &[IpAddr],
    mut port: u16,
    mut udp_port: Option<u16>,
    tcp: bool,
    egress: &Egress,
) -> io::Result<(TcpListeners, Udp)> {
    let mut listeners = Vec::new();
    let mut udp_sockets = Vec::new();
    let mut unavailable = None;
    for ip in addresses {
        match bind_address(SocketAddr::new(*ip, port), udp_port, tcp, egress) {
            Ok((tcp, udp)) => {
                let bound = udp.local_addr()?.port();
                port = tcp.as_ref().map_or(Ok(bound), |tcp| Ok::<_, io::Error>(tcp.local_addr()?.port()))?;
                udp_port = Some(bound);
                listeners.extend(tcp);
                udp_sockets.push(udp);
            }
            // A machine that is out of descriptors or memory may have the address: without this check half
            // of the peers could not connect, and the user would not know.
            Err(e) if e.kind() == ErrorKind::AddrInUse || out_of_resources(&e) => return Err(e),
            Err(e) => unavailable = Some(e),
        }
    }
    match unavailable {
        Some(e) if udp_sockets.is_empty() => Err(e),
        _ => Ok((TcpListeners::new(listeners, port), Udp::new(udp_sockets, udp_port.unwrap_or(port))?)),
    }
}

fn bind_address(
    addr: SocketAddr,
    udp_port: Option<u16>,
    tcp: bool,
    egress: &Egress,
) -> io::Result<(Option<TcpListener>, UdpSocket)> {
    let tcp = if tcp { Some(listener(addr, egress)?) } else { None };
    let port = match (udp_port, &tcp) {
        (Some(port), _) => port,
        (None, Some(tcp)) => tcp.local_addr()?.port(),
        (None, None) => addr.port(),
    };
    let udp_addr = SocketAddr::new(addr.ip(), port);
    let udp = socket(udp_addr, Type::DGRAM, Protocol::UDP, egress)?;
    egress.mark(SockRef::from(&udp), addr.is_ipv6());
    // The kernel grants what its limit allows; less costs packets of uTP, which are sent again.
    let _ = udp.set_recv_buffer_size(UDP_RECEIVE_BYTES);
    udp.bind(&SockAddr::from(udp_addr))?;
    Ok((tcp, udp.into()))
}

fn listener(addr: SocketAddr, egress: &Egress) -> io::Result<TcpListener> {
    let tcp = socket(addr, Type::STREAM, Protocol::TCP, egress)?;
    // Without it a port cannot be bound while connections of an earlier run are in TIME_WAIT.
    tcp.set_reuse_address(true)?;
    tcp.bind(&SockAddr::from(addr))?;
    tcp.listen(BACKLOG)?;
    Ok(tcp.into())
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol, egress: &Egress) -> io::Result<Socket> {
    let socket = egress.socket(addr.ip(), kind.nonblocking(), protocol)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> [IpAddr; 1] {
        ["127.0.0.1".parse().unwrap()]
    }

    #[test]
    fn binds_the_first_free_port_of_the_range() {
        let (listeners, _udp) = bind(&loopback(), 0..=0, None, true, &Egress::default()).unwrap();
        let port = listeners.port();
        assert_ne!(port, 0);
        assert!(bind(&loopback(), port..=port, None, true, &Egress::default()).is_err(), "bound twice");
        if port < u16::MAX {
            let (next, _udp) = bind(&loopback(), port..=u16::MAX, None, true, &Egress::default()).unwrap();
            assert!(next.port() > port);
        }
    }

    /// The system chooses a port that is free on the first address. With 400 of its ports in use on the
    /// second, 400 first choices that are all free on both would be very unlikely.
    #[test]
    fn any_port_is_free_on_every_address() {
        let both: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()];
        let in_use: Vec<_> = (0..400).filter_map(|_| UdpSocket::bind((both[1], 0)).ok()).collect();
        for _ in 0..400 {
            let (found, _udp) = bind(&both, 0..=0, None, true, &Egress::default()).unwrap();
            assert!(in_use.iter().all(|socket| socket.local_addr().unwrap().port() != found.port()));
        }
    }

    #[test]
    fn udp_has_a_port_of_its_own_if_one_is_given() {
        let free = UdpSocket::bind((loopback()[0], 0)).unwrap().local_addr().unwrap().port();
        let (_listeners, udp) = bind(&loopback(), 0..=0, Some(free), true, &Egress::default()).unwrap();
        assert_eq!(udp.port(), free);
        assert!(bind(&loopback(), 0..=0, Some(free), true, &Egress::default()).is_err(), "bound twice");
    }

    #[test]
    fn an_address_that_the_machine_lacks_is_left_out_unless_it_is_the_only_one() {
        let foreign: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(bind(&[foreign], 0..=0, None, true, &Egress::default()).is_err());
        let (_listeners, mut udp) =
            bind(&[loopback()[0], foreign], 0..=0, None, true, &Egress::default()).unwrap();
        let poll = mio::Poll::new().unwrap();
        let registered = std::cell::Cell::new(0);
        udp.register(poll.registry(), |index| {
            registered.set(registered.get() + 1);
            mio::Token(index)
        })
        .unwrap();
        assert_eq!(registered.get(), 1);
    }
}
