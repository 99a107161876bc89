//! Where the sockets of a session leave the machine: over which address family, from which interface or address,
//! with which DSCP mark (RFC 2474), and through which proxy.
//!
//! A socket that is bound to an interface sends and receives nothing elsewhere, loopback included. When the
//! interface is gone the socket is silent; a new interface of the same name needs new sockets, see
//! [`Egress::interface_index`].

use super::proxied_dial::ProxiedDial;
use super::proxy::Proxy;
use super::transfer::DialError;
use mio::net::TcpStream;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// An address family of the Internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What every socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// A network interface, by its name.
    Name(String),
    /// An address of this machine.
    Address(IpAddr),
}

/// The way of a session's sockets. The default leaves it to the routes of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// The only address family; `None` is both.
    pub family: Option<IpFamily>,
    /// The interface or address.
    pub interface: Option<Interface>,
    /// The DSCP mark of traffic with peers, 0 to 63.
    pub dscp: Option<u8>,
    /// The proxy that everything goes through; sockets then lead to it alone.
    pub proxy: Option<Proxy>,
}

impl Egress {
    /// Returns whether a socket may send to this address.
    pub fn allows(&self, ip: IpAddr) -> bool {
        let own_family = match &self.interface {
            Some(Interface::Address(own)) => own.is_ipv6() == ip.is_ipv6(),
            Some(Interface::Name(_)) | None => true,
        };
        own_family && self.family.is_none_or(|family| (family == IpFamily::V6) == ip.is_ipv6())
    }

    /// Returns which of these addresses to listen on.
    pub fn listen_on(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        match &self.interface {
            Some(Interface::Address(own)) => vec![*own],
            _ => addresses.iter().copied().filter(|ip| self.allows(*ip)).collect(),
        }
    }

    /// Looks whether sockets can be bound to the interface or address.
    ///
    /// # Errors
    /// The interface or address, and why it cannot be used.
    pub fn check(&self) -> Result<(), (String, &'static str)> {
        let (interface, ip) = match &self.interface {
            None => return Ok(()),
            // The kernel takes an empty name for no interface, and would bind to none.
            Some(Interface::Name(name)) if name.is_empty() => {
                return Err((String::from("an empty name"), "no network interface has this name"));
            }
            Some(Interface::Name(name)) => (name.clone(), IpAddr::from([0, 0, 0, 0])),
            Some(Interface::Address(own)) => (own.to_string(), *own),
        };
        let bound = self
            .socket(ip, Type::DGRAM, Protocol::UDP)
            .and_then(|socket| socket.bind(&SockAddr::from(SocketAddr::new(ip, 0))));
        bound.map_err(|e| {
            let reason = match e.raw_os_error() {
                Some(libc::ENODEV) => "no network interface has this name",
                Some(libc::EADDRNOTAVAIL) => "no network interface has this address",
                Some(libc::EPERM) => "before Linux 5.7 only root may bind to an interface",
                _ => "the system refuses to bind to it",
            };
            (interface, reason)
        })
    }

    /// Returns the index of the interface that sockets are bound to; `None` without one, or if it is gone. A new
    /// interface of the same name has another index.
    pub fn interface_index(&self) -> Option<u32> {
        let Some(Interface::Name(name)) = &self.interface else { return None };
        let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
        name_to_index(any, name).ok()
    }

    /// Returns the name of the interface, if sockets are bound to one by its name.
    pub fn interface_name(&self) -> Option<&str> {
        match &self.interface {
            Some(Interface::Name(name)) => Some(name),
            _ => None,
        }
    }

    /// Creates a UDP socket that is bound to this address of the machine and any port.
    pub(super) fn datagram_socket(&self, ip: IpAddr) -> io::Result<UdpSocket> {
        let socket = self.socket(ip, Type::DGRAM.nonblocking(), Protocol::UDP)?;
        socket.bind(&SockAddr::from(SocketAddr::new(ip, 0)))?;
        Ok(socket.into())
    }

    /// Creates a socket for this address's family.
    pub(super) fn socket(&self, ip: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let domain = Domain::for_address(SocketAddr::new(ip, 0));
        let socket = Socket::new(domain, kind.cloexec(), Some(protocol))?;
        if let Some(Interface::Name(name)) = &self.interface {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        Ok(socket)
    }

    /// Creates a socket to connect to this address.
    pub(super) fn outgoing(&self, to: SocketAddr, kind: Type) -> io::Result<Socket> {
        if !self.allows(to.ip()) {
            return Err(io::Error::from(ErrorKind::NetworkUnreachable));
        }
        let socket = self.socket(to.ip(), kind, Protocol::TCP)?;
        if let Some(Interface::Address(own)) = &self.interface {
            socket.bind(&SockAddr::from(SocketAddr::new(*own, 0)))?;
        }
        Ok(socket)
    }

    /// Begins to connect to a peer; through the proxy, if there is one.
    pub(super) fn dial(&self, to: SocketAddr) -> Result<(TcpStream, Option<ProxiedDial>), DialError> {
        let Some(proxy) = &self.proxy else {
            return self.connect(to).map(|stream| (stream, None)).map_err(DialError::Peer);
        };
        if self.family.is_some_and(|family| (family == IpFamily::V6) != to.is_ipv6()) {
            return Err(DialError::Peer(ErrorKind::NetworkUnreachable.into()));
        }
        let addr = proxy.address(self).ok_or_else(|| DialError::Proxy(ErrorKind::NotFound.into()))?;
        let stream = self.connect(addr).map_err(|e| {
            proxy.on_unreachable(Some(addr), &e);
            DialError::Proxy(e)
        })?;
        Ok((stream, Some(ProxiedDial::new(proxy.clone(), addr, to))))
    }

    /// Begins to connect to an address itself.
    pub(super) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.outgoing(to, Type::STREAM.nonblocking())?;
        self.mark(SockRef::from(&socket), to.is_ipv6());
        match socket.connect(&SockAddr::from(to)) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }

    /// Marks the packets of a socket. A socket that cannot be marked works, too.
    pub(super) fn mark(&self, socket: SockRef<'_>, v6: bool) {
        let Some(dscp) = self.dscp else { return };
        // The two lower bits are those of ECN.
        let field = u32::from(dscp) << 2;
        let marked = if v6 { socket.set_tclass_v6(field) } else { socket.set_tos_v4(field) };
        if let Err(e) = marked {
            log::debug!("a socket cannot be marked: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_chosen_family_are_used() {
        let ips: Vec<IpAddr> = ["0.0.0.0", "::"].map(|ip| ip.parse().unwrap()).to_vec();
        let of = |family, interface| Egress { family, interface, ..Egress::default() }.listen_on(&ips);
        assert_eq!(of(None, None), ips);
        assert_eq!(of(Some(IpFamily::V4), None), ips[..1]);
        assert_eq!(of(Some(IpFamily::V6), None), ips[1..]);
        let own: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(of(None, Some(Interface::Address(own))), [own]);
        let egress = Egress { family: Some(IpFamily::V4), ..Egress::default() };
        let refused = egress.connect("[::1]:1".parse().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NetworkUnreachable);
    }

    #[test]
    fn a_connection_comes_from_the_given_address_and_has_its_mark() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = "127.0.0.3".parse().unwrap();
        let egress = Egress { interface: Some(Interface::Address(own)), dscp: Some(8), ..Egress::default() };
        let stream = egress.connect(listener.local_addr().unwrap()).unwrap();
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), own);
        assert_eq!(SockRef::from(&stream).tos_v4().unwrap(), 32);
    }

    #[test]
    fn an_interface_that_is_not_there_has_no_index_and_no_socket() {
        let named =
            |name: &str| Egress { interface: Some(Interface::Name(name.to_owned())), ..Egress::default() };
        assert_eq!(named("lo").interface_index(), Some(1));
        assert_eq!(named("none0").interface_index(), None);
        let to = "127.0.0.1:1".parse().unwrap();
        assert_eq!(named("none0").connect(to).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(Egress::default().interface_index(), None);
        assert!(named("").check().is_err() && named("none0").check().is_err());
        assert_eq!(named("lo").check(), Ok(()));
    }
}
