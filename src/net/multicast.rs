//! The multicast groups of the local network: heard and called on every interface that can (BEP 14).
//!
//! One socket a family, bound to the group's own address: on Linux such a socket hears its group alone, so
//! nothing that is sent to us by name, from the Internet or elsewhere, gets in here. The port is shared with
//! every other client of this machine. Calls go out of each interface in turn and no further than its link
//! (one hop): a neighbour is a host that is reached without a router. They come back to this machine, so that
//! two programs on it meet; the loopback interface is like any other, and by default cannot multicast.
//!
//! Nothing here is needed: without interface, family or permission there is one line in the log and no call.
//! Interfaces are looked up at every call, so one that comes later is joined then. Who listens at certain
//! addresses alone calls from these alone.

use super::sys::Batch;
use crate::wire::lsd::Group;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use rustix::net::sockopt::set_ip_multicast_if_with_ifindex;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockRef, Type};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;

/// Interfaces that are joined, lowest number first: Linux allows a socket 20 memberships, and a host of a
/// thousand containers has no neighbours behind them.
const INTERFACES: usize = 16;
/// Routers that a call passes: none.
const HOPS: u32 = 1;
/// Errors of earlier datagrams that are passed over at a time.
const ICMP_ERRORS: usize = 64;
/// Where Linux lists its interfaces.
const LIST: &str = "/sys/class/net";
/// Flags of an interface: up, and able to multicast (`if.h`).
const UP_AND_MULTICAST: u32 = 0x1 | 0x1000;

/// One way out of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MulticastInterface {
    /// The interface with this number.
    Interface(u32),
    /// The interface with this address.
    Address(Ipv4Addr),
}

/// One family's socket.
#[derive(Debug)]
struct GroupSocket {
    group: Group,
    udp: UdpSocket,
    /// The only addresses to call from; none: every interface.
    only: Vec<Ipv4Addr>,
    joined: BTreeSet<MulticastInterface>,
    /// Datagrams may wait.
    pending: bool,
}

/// Both groups' sockets. Tokens from `first_token` on, one a group.
#[derive(Debug)]
pub struct MulticastSockets {
    sockets: Vec<GroupSocket>,
    first_token: usize,
}

impl MulticastSockets {
    /// Deaf and mute.
    pub fn none(first_token: usize) -> MulticastSockets {
        MulticastSockets { sockets: Vec::new(), first_token }
    }

    /// Listens to the groups of those families that `addresses` has.
    pub fn join(addresses: &[IpAddr], registry: &Registry, first_token: usize) -> MulticastSockets {
        let mut groups = MulticastSockets::none(first_token);
        for group in Group::BOTH {
            let Some(only) = ways(group, addresses) else { continue };
            match GroupSocket::new(group, only, registry, Token(first_token + groups.sockets.len())) {
                Ok(socket) => groups.sockets.push(socket),
                Err(e) => log::info!("the local network is not called over {group:?}: {e}"),
            }
        }
        groups.look_for_interfaces();
        if groups.sockets.iter().all(|socket| socket.joined.is_empty()) {
            log::info!("no interface can multicast, so nobody is looked for on the local network");
        }
        groups
    }

    /// One past the last token.
    pub fn tokens_end(&self) -> usize {
        self.first_token + self.sockets.len()
    }

    /// Something waits at this token; false if the token is none of ours.
    pub fn on_ready(&mut self, token: usize) -> bool {
        let socket = token.checked_sub(self.first_token).and_then(|at| self.sockets.get_mut(at));
        socket.map(|socket| socket.pending = true).is_some()
    }

    /// Whether datagrams may wait.
    pub fn pending(&self) -> bool {
        self.sockets.iter().any(|socket| socket.pending)
    }

    /// Takes some datagrams that wait; their number.
    pub fn receive(&mut self, batch: &mut Batch) -> usize {
        self.sockets
            .iter_mut()
            .filter(|socket| socket.pending)
            .map(|socket| socket.receive(batch))
            .find(|n| *n > 0)
            .unwrap_or(0)
    }

    /// Sends a datagram to the group, from every interface. What cannot go now is lost, as any may be.
    pub fn send(&mut self, group: Group, bytes: &[u8]) {
        self.look_for_interfaces();
        for socket in self.sockets.iter().filter(|socket| socket.group == group) {
            for way in &socket.joined {
                if let Err(e) = socket.send(*way, bytes) {
                    log::debug!("call to {group:?} through {way:?} lost: {e}");
                }
            }
        }
    }

    /// Joins on interfaces that have come, and forgets those that have gone.
    fn look_for_interfaces(&mut self) {
        let found = interfaces(Path::new(LIST));
        for socket in &mut self.sockets {
            let ways: BTreeSet<MulticastInterface> = match &socket.only[..] {
                [] => found.iter().copied().map(MulticastInterface::Interface).collect(),
                only => only.iter().copied().map(MulticastInterface::Address).collect(),
            };
            socket.joined.retain(|way| ways.contains(way));
            for way in ways {
                if !socket.joined.contains(&way) && socket.join(way) {
                    socket.joined.insert(way);
                }
            }
        }
    }
}

impl GroupSocket {
    fn new(group: Group, only: Vec<Ipv4Addr>, registry: &Registry, token: Token) -> io::Result<GroupSocket> {
        let addr = group.addr();
        let socket = socket2::Socket::new(
            Domain::for_address(addr),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        // Other clients listen here, too: some ask for the one, some for the other.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        match group {
            Group::V4 => {
                socket.set_multicast_loop_v4(true)?;
                socket.set_multicast_ttl_v4(HOPS)?;
                // Otherwise datagrams arrive through interfaces that another program joined.
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
        let mut udp = UdpSocket::from_std(socket.into());
        registry.register(&mut udp, token, Interest::READABLE)?;
        Ok(GroupSocket { group, udp, only, joined: BTreeSet::new(), pending: false })
    }

    /// Whether the group is heard there now.
    fn join(&self, way: MulticastInterface) -> bool {
        let socket = SockRef::from(&self.udp);
        let done = match (self.group.addr().ip(), way) {
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
            // It went away, came back under the same number, and the kernel had kept our place.
            Err(e) if e.kind() == ErrorKind::AddrInUse => true,
            Err(e) => {
                log::debug!("{:?} is not joined through {way:?}: {e}", self.group);
                false
            }
        }
    }

    fn send(&self, way: MulticastInterface, bytes: &[u8]) -> io::Result<()> {
        let socket = SockRef::from(&self.udp);
        match (self.group, way) {
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

    fn receive(&mut self, batch: &mut Batch) -> usize {
        for _ in 0..ICMP_ERRORS {
            match batch.receive(self.udp.as_fd()) {
                Ok(n) => return n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.pending = false;
                    return 0;
                }
                // An ICMP error of an earlier datagram: the next one may be fine.
                Err(_) => {}
            }
        }
        0
    }
}

/// The addresses that alone may be called from, none if any may; `None` if the family is not listened on, or
/// where that cannot be said. An address of this machine alone has no neighbours, and an IPv6 address does
/// not say which interface is its own.
fn ways(group: Group, addresses: &[IpAddr]) -> Option<Vec<Ipv4Addr>> {
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

/// The numbers of all interfaces that are up and can multicast. Reads a few lines from the kernel's memory;
/// no disk is waited for.
fn interfaces(list: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(list) else { return Vec::new() };
    let number = |path: &Path| -> Option<u32> {
        let field = |name: &str| std::fs::read_to_string(path.join(name)).ok();
        let flags = u32::from_str_radix(field("flags")?.trim().strip_prefix("0x")?, 16).ok()?;
        let number = field("ifindex")?.trim().parse().ok()?;
        (flags & UP_AND_MULTICAST == UP_AND_MULTICAST).then_some(number)
    };
    let mut numbers: Vec<u32> = entries.flatten().filter_map(|entry| number(&entry.path())).collect();
    numbers.sort_unstable();
    numbers.truncate(INTERFACES);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn anywhere() -> [IpAddr; 2] {
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
    }

    /// Everything that is heard until these bytes are among it, or two seconds are over.
    fn hears(poll: &mut mio::Poll, sockets: &mut MulticastSockets, bytes: &[u8]) -> bool {
        let (begun, mut events, mut batch) =
            (Instant::now(), mio::Events::with_capacity(8), Batch::default());
        while begun.elapsed() < Duration::from_secs(2) {
            poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            for event in &events {
                assert!(sockets.on_ready(event.token().0));
            }
            while sockets.pending() {
                if sockets.receive(&mut batch) > 0
                    && batch.iter().any(|(heard, from)| heard == bytes && !from.ip().is_unspecified())
                {
                    return true;
                }
            }
        }
        false
    }

    #[test]
    fn two_programs_on_one_machine_hear_each_other() {
        let (quiet, mut poll) = (mio::Poll::new().unwrap(), mio::Poll::new().unwrap());
        let mut speaker = MulticastSockets::join(&anywhere(), quiet.registry(), 5);
        let mut hearer = MulticastSockets::join(&anywhere(), poll.registry(), 7);
        for at in 0..hearer.sockets.len() {
            let group = hearer.sockets[at].group;
            if hearer.sockets[at].joined.is_empty() {
                continue; // a machine without such an interface
            }
            let bytes = format!("{group:?} from {}", std::process::id()).into_bytes();
            speaker.send(group, &bytes);
            let sent =
                speaker.sockets[at].joined.iter().any(|way| speaker.sockets[at].send(*way, &bytes).is_ok());
            assert!(!sent || hears(&mut poll, &mut hearer, &bytes), "{group:?} was not heard");
        }
    }

    #[test]
    fn what_is_sent_to_this_machine_by_name_is_not_heard() {
        let mut poll = mio::Poll::new().unwrap();
        let mut hearer = MulticastSockets::join(&anywhere(), poll.registry(), 0);
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // No program has that port, or another one: an ICMP error or nothing, either is fine.
        let _ = stranger.send_to(b"by name", "127.0.0.1:6771");
        let (mut events, mut batch) = (mio::Events::with_capacity(8), Batch::default());
        poll.poll(&mut events, Some(Duration::from_millis(200))).unwrap();
        events.iter().for_each(|event| assert!(hearer.on_ready(event.token().0)));
        while hearer.pending() {
            hearer.receive(&mut batch);
            assert!(batch.iter().all(|(bytes, _)| bytes != b"by name"));
        }
    }

    #[test]
    fn only_what_is_up_and_can_multicast_is_an_interface() {
        let dir = tempfile::tempdir().unwrap();
        let interface = |name: &str, number: &str, flags: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("ifindex"), number).unwrap();
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
    fn who_listens_at_certain_addresses_calls_from_these_alone() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(ways(Group::V4, &anywhere()), Some(vec![]));
        assert_eq!(ways(Group::V6, &anywhere()), Some(vec![]));
        assert_eq!(ways(Group::V6, &ips(&["0.0.0.0"])), None);
        assert_eq!(
            ways(Group::V4, &ips(&["127.0.0.1", "192.0.2.7"])),
            Some(vec![Ipv4Addr::new(192, 0, 2, 7)])
        );
        assert_eq!(ways(Group::V4, &ips(&["127.0.0.1"])), None);
        assert_eq!(ways(Group::V6, &ips(&["2001:db8::1"])), None);
    }

    #[test]
    fn a_token_of_somebody_else_is_left_alone() {
        let mut none = MulticastSockets::none(9);
        assert!(!none.on_ready(9) && !none.on_ready(3) && !none.pending());
        assert_eq!(none.tokens_end(), 9);
        none.send(Group::V4, b"into the air");
    }
}
