//! The multicast sockets of local service discovery (BEP 14): they receive and send on every interface that
//! can multicast.
//!
//! One socket a family, bound to the group's own address: on Linux such a socket receives only datagrams to
//! its group, so unicast from elsewhere never arrives here. The port is shared with every other client of the
//! machine. Announcements leave through each interface in turn with a hop limit of one, so they reach hosts
//! on the same link only. They are looped back, so that two programs on one machine find each other; the
//! loopback interface is treated like any other, and by default cannot multicast.
//!
//! Multicast is optional: without an interface, a family or permission one line is logged and no announcement
//! sent. Interfaces are listed at every announcement, so one that appears later is joined then. A session
//! that listens on certain addresses announces from these addresses only.

use super::egress::Egress;
use super::sys::Batch;
use super::udp;
use crate::wire::lsd::Group;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use rustix::net::sockopt::set_ip_multicast_if_with_ifindex;
use socket2::{InterfaceIndexOrAddress, Protocol, SockAddr, SockRef, Type};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;

/// Interfaces that are joined, lowest index first. Linux allows a socket 20 memberships, and the virtual
/// interfaces of a container host lead to no other hosts.
const INTERFACES: usize = 16;
/// The hop limit (TTL): an announcement passes no router.
const HOPS: u32 = 1;
/// Where Linux lists its interfaces.
const INTERFACE_LIST: &str = "/sys/class/net";
/// `IFF_UP | IFF_MULTICAST` (`if.h`).
const UP_AND_MULTICAST: u32 = 0x1 | 0x1000;

/// Where an announcement leaves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MulticastInterface {
    /// The interface with this index.
    Interface(u32),
    /// The interface with this address.
    Address(Ipv4Addr),
}

/// The socket of one family.
#[derive(Debug)]
struct GroupSocket {
    group: Group,
    udp: UdpSocket,
    /// The addresses to announce from; if empty, every interface.
    only: Vec<Ipv4Addr>,
    joined: BTreeSet<MulticastInterface>,
    /// Datagrams may wait to be received.
    pending: bool,
}

/// The sockets of both groups.
#[derive(Debug, Default)]
pub struct MulticastSockets {
    sockets: Vec<GroupSocket>,
}

impl MulticastSockets {
    /// Joins the groups of the families of `addresses`. A family that does not work is left out. Without a
    /// call of this function nothing is received or sent.
    pub fn join(addresses: &[IpAddr], egress: &Egress) -> MulticastSockets {
        let addresses = &egress.listen_on(addresses)[..];
        let mut multicast = MulticastSockets::default();
        for group in Group::BOTH {
            let Some(only) = source_addresses(group, addresses) else { continue };
            match GroupSocket::new(group, only, egress) {
                Ok(socket) => multicast.sockets.push(socket),
                Err(e) => log::info!("local service discovery over {group:?} is off: {e}"),
            }
        }
        multicast.update_interfaces();
        if multicast.sockets.iter().all(|socket| socket.joined.is_empty()) {
            log::info!("no interface can multicast: local service discovery finds no peers");
        }
        multicast
    }

    /// Registers the sockets; `token` maps the index of a socket to its token.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn register(&mut self, registry: &Registry, token: impl Fn(usize) -> Token) -> io::Result<()> {
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            registry.register(&mut socket.udp, token(index), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Notes that datagrams may wait at the socket with this index; an unknown index is ignored.
    pub fn on_ready(&mut self, index: usize) {
        if let Some(socket) = self.sockets.get_mut(index) {
            socket.pending = true;
        }
    }

    /// Returns whether datagrams may wait to be received.
    pub fn pending(&self) -> bool {
        self.sockets.iter().any(|socket| socket.pending)
    }

    /// Receives some of the datagrams that wait; returns their number. Datagrams may still wait while
    /// [`pending`](MulticastSockets::pending) is true.
    pub fn receive(&mut self, batch: &mut Batch) -> usize {
        for socket in self.sockets.iter_mut().filter(|socket| socket.pending) {
            match udp::receive(&socket.udp, batch) {
                Some(0) => {}
                Some(received) => return received,
                None => socket.pending = false,
            }
        }
        0
    }

    /// Sends a datagram to the group through every interface. A datagram that the kernel refuses is dropped:
    /// announcements are repeated.
    pub fn send(&mut self, group: Group, bytes: &[u8]) {
        self.update_interfaces();
        for socket in self.sockets.iter().filter(|socket| socket.group == group) {
            for interface in &socket.joined {
                if let Err(e) = socket.send(*interface, bytes) {
                    log::debug!("announcement to {group:?} through {interface:?} dropped: {e}");
                }
            }
        }
    }

    /// Joins the groups on new interfaces, and forgets interfaces that are gone.
    fn update_interfaces(&mut self) {
        let found = interfaces(Path::new(INTERFACE_LIST));
        for socket in &mut self.sockets {
            let current: BTreeSet<MulticastInterface> = if socket.only.is_empty() {
                found.iter().copied().map(MulticastInterface::Interface).collect()
            } else {
                socket.only.iter().copied().map(MulticastInterface::Address).collect()
            };
            socket.joined.retain(|interface| current.contains(interface));
            for interface in current {
                if !socket.joined.contains(&interface) && socket.join(interface) {
                    socket.joined.insert(interface);
                }
            }
        }
    }
}

impl GroupSocket {
    fn new(group: Group, only: Vec<Ipv4Addr>, egress: &Egress) -> io::Result<GroupSocket> {
        let addr = group.addr();
        let socket = egress.socket(addr.ip(), Type::DGRAM.nonblocking(), Protocol::UDP)?;
        // Other clients share the port: some set one of the options, some the other.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        match group {
            Group::V4 => {
                socket.set_multicast_loop_v4(true)?;
                socket.set_multicast_ttl_v4(HOPS)?;
                // Otherwise datagrams arrive through interfaces that only another program joined.
                socket.set_multicast_all_v4(false)?;
            }
            Group::V6 => {
                socket.set_only_v6(true)?;
                socket.set_multicast_loop_v6(true)?;
                socket.set_multicast_hops_v6(HOPS)?;
                // Since Linux 4.20.
                let _ = socket.set_multicast_all_v6(false);
            }
        }
        socket.bind(&SockAddr::from(addr))?;
        let udp = UdpSocket::from_std(socket.into());
        Ok(GroupSocket { group, udp, only, joined: BTreeSet::new(), pending: false })
    }

    /// Joins the group on an interface; returns whether the socket is a member now.
    fn join(&self, interface: MulticastInterface) -> bool {
        let socket = SockRef::from(&self.udp);
        let done = match (self.group.addr().ip(), interface) {
            (IpAddr::V4(group), MulticastInterface::Interface(n)) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(n))
            }
            (IpAddr::V4(group), MulticastInterface::Address(ip)) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Address(ip))
            }
            (IpAddr::V6(group), MulticastInterface::Interface(n)) => socket.join_multicast_v6(&group, n),
            (IpAddr::V6(_), MulticastInterface::Address(_)) => Err(ErrorKind::Unsupported.into()),
        };
        match done {
            Ok(()) => true,
            // The interface was removed and came back under its index: the kernel kept the membership.
            Err(e) if e.kind() == ErrorKind::AddrInUse => true,
            Err(e) => {
                log::debug!("cannot join {:?} through {interface:?}: {e}", self.group);
                false
            }
        }
    }

    fn send(&self, interface: MulticastInterface, bytes: &[u8]) -> io::Result<()> {
        let socket = SockRef::from(&self.udp);
        match (self.group, interface) {
            (Group::V4, MulticastInterface::Interface(n)) => {
                let any = Ipv4Addr::UNSPECIFIED;
                set_ip_multicast_if_with_ifindex(self.udp.as_fd(), &any, &any, n)?;
            }
            (Group::V4, MulticastInterface::Address(ip)) => socket.set_multicast_if_v4(&ip)?,
            (Group::V6, MulticastInterface::Interface(n)) => socket.set_multicast_if_v6(n)?,
            (Group::V6, MulticastInterface::Address(_)) => return Err(ErrorKind::Unsupported.into()),
        }
        self.udp.send_to(bytes, self.group.addr()).map(|_| ())
    }
}

/// Returns the addresses to announce from, none if every interface will do; `None` if the family is not
/// listened on, or only on loopback (which has no other hosts) or on certain IPv6 addresses (which do not
/// tell their interface).
fn source_addresses(group: Group, addresses: &[IpAddr]) -> Option<Vec<Ipv4Addr>> {
    let any = |ip: &IpAddr| match (group, ip) {
        (Group::V4, IpAddr::V4(ip)) => *ip == Ipv4Addr::UNSPECIFIED,
        (Group::V6, IpAddr::V6(ip)) => *ip == Ipv6Addr::UNSPECIFIED,
        _ => false,
    };
    if addresses.iter().any(any) {
        return Some(Vec::new());
    }
    let certain = |ip: &IpAddr| match (group, ip) {
        (Group::V4, IpAddr::V4(ip)) if !ip.is_loopback() => Some(*ip),
        _ => None,
    };
    let certain: Vec<Ipv4Addr> = addresses.iter().filter_map(certain).take(INTERFACES).collect();
    (!certain.is_empty()).then_some(certain)
}

/// Returns the indices of all interfaces that are up and can multicast, at most [`INTERFACES`]. `list` is a
/// directory of sysfs, which lies in memory: nothing here waits for a disk.
fn interfaces(list: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(list) else { return Vec::new() };
    let index = |path: &Path| -> Option<u32> {
        let field = |name: &str| std::fs::read_to_string(path.join(name)).ok();
        let flags = u32::from_str_radix(field("flags")?.trim().strip_prefix("0x")?, 16).ok()?;
        let index = field("ifindex")?.trim().parse().ok()?;
        (flags & UP_AND_MULTICAST == UP_AND_MULTICAST).then_some(index)
    };
    let mut indices: Vec<u32> = entries.flatten().filter_map(|entry| index(&entry.path())).collect();
    indices.sort_unstable();
    indices.truncate(INTERFACES);
    indices
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::{Duration, Instant};

    fn unspecified() -> [IpAddr; 2] {
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
    }

    fn joined_and_registered(poll: &Poll) -> MulticastSockets {
        let mut sockets = MulticastSockets::join(&unspecified(), &Egress::default());
        sockets.register(poll.registry(), Token).unwrap();
        sockets
    }

    fn wait(poll: &mut Poll, sockets: &mut MulticastSockets, timeout: Duration) {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(timeout)).unwrap();
        events.iter().for_each(|event| sockets.on_ready(event.token().0));
    }

    /// Returns whether a datagram of these bytes arrives within two seconds.
    fn receives(poll: &mut Poll, sockets: &mut MulticastSockets, bytes: &[u8]) -> bool {
        let begun = Instant::now();
        let mut batch = Batch::default();
        while begun.elapsed() < Duration::from_secs(2) {
            wait(poll, sockets, Duration::from_millis(50));
            while sockets.receive(&mut batch) > 0 {
                if batch.iter().any(|(received, from)| received == bytes && !from.ip().is_unspecified()) {
                    return true;
                }
            }
        }
        false
    }

    #[test]
    fn two_programs_on_one_machine_receive_each_others_announcements() {
        let mut poll = Poll::new().unwrap();
        let mut sender = MulticastSockets::join(&unspecified(), &Egress::default());
        let mut receiver = joined_and_registered(&poll);
        for at in 0..receiver.sockets.len() {
            let group = receiver.sockets[at].group;
            if receiver.sockets[at].joined.is_empty() {
                continue; // no interface of this machine can multicast
            }
            let bytes = format!("{group:?} from {}", std::process::id()).into_bytes();
            sender.send(group, &bytes);
            let socket = &sender.sockets[at];
            let sent = socket.joined.iter().any(|interface| socket.send(*interface, &bytes).is_ok());
            assert!(!sent || receives(&mut poll, &mut receiver, &bytes), "{group:?}: nothing received");
        }
    }

    #[test]
    fn a_unicast_datagram_does_not_arrive_at_a_group_socket() {
        let mut poll = Poll::new().unwrap();
        let mut receiver = joined_and_registered(&poll);
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // Fails with an ICMP error if no program has that port.
        let _ = sender.send_to(b"unicast", "127.0.0.1:6771");
        let mut batch = Batch::default();
        wait(&mut poll, &mut receiver, Duration::from_millis(200));
        while receiver.receive(&mut batch) > 0 {
            assert!(batch.iter().all(|(bytes, _)| bytes != b"unicast"));
        }
    }

    #[test]
    fn lists_interfaces_that_are_up_and_can_multicast() {
        let dir = tempfile::tempdir().unwrap();
        let interface = |name: &str, index: &str, flags: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("ifindex"), index).unwrap();
            std::fs::write(dir.path().join(name).join("flags"), flags).unwrap();
        };
        interface("eth0", "7\n", "0x1003\n");
        interface("wlan0", "3\n", "0x1043\n");
        interface("lo", "1\n", "0x9\n");
        interface("down", "2\n", "0x1002\n");
        interface("strange", "x\n", "1\n");
        std::fs::write(dir.path().join("bonding_masters"), "").unwrap();
        assert_eq!(interfaces(dir.path()), [3, 7]);
        (10..100).for_each(|n| interface(&format!("veth{n}"), &n.to_string(), "0x1003"));
        assert_eq!(interfaces(dir.path()).len(), INTERFACES);
        assert!(interfaces(&dir.path().join("none")).is_empty());
    }

    #[test]
    fn a_session_on_certain_addresses_announces_from_these_only() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let v4 = |texts: &[&str]| source_addresses(Group::V4, &ips(texts));
        let v6 = |texts: &[&str]| source_addresses(Group::V6, &ips(texts));
        assert_eq!(source_addresses(Group::V4, &unspecified()), Some(vec![]));
        assert_eq!(source_addresses(Group::V6, &unspecified()), Some(vec![]));
        assert_eq!(v6(&["0.0.0.0"]), None);
        assert_eq!(v4(&["127.0.0.1", "192.0.2.7"]), Some(vec![Ipv4Addr::new(192, 0, 2, 7)]));
        assert_eq!(v4(&["127.0.0.1"]), None);
        assert_eq!(v6(&["2001:db8::1"]), None);
    }

    #[test]
    fn without_sockets_nothing_is_pending_and_nothing_sent() {
        let mut none = MulticastSockets::default();
        none.on_ready(3);
        assert!(!none.pending() && none.receive(&mut Batch::default()) == 0);
        none.send(Group::V4, b"no socket");
    }
}
