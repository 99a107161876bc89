//! Port mapping: has the router open our listening port, over TCP and UDP, to peers outside.
//!
//! ```text
//!   look for the default router (once a minute) ──▶ PCP ──"version", silence──▶ NAT-PMP ──silence──▶ again in 2 h
//!                                                    ├── third packet unanswered, refused ──▶ UPnP beside them
//!                                                    └── granted ──▶ renewed at half of its lifetime ──▶ deleted at exit
//! ```
//!
//! Each address family has a router of its own: of IPv4 it translates addresses, of IPv6 it opens its
//! firewall (a "pinhole"), for which PCP is the only protocol. A machine without a default router, or with a
//! public IPv4 address, has nothing to ask for, and nothing is sent.
//!
//! Answers are accepted from the router's address and port alone, and only to a question that is open.

mod pcp;
#[cfg(test)]
mod tests;
mod upnp;
#[cfg(test)]
mod upnp_tests;

use super::action::{Action, Notice, RouterReply};
use super::limits;
use super::timers::Timer;
use super::turn::Turn;
use crate::units::{Instant, Rng};
use crate::wire::port_mapping::{MappedProtocol, parse_answer};
use pcp::{Outcome, RouterClient};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use upnp::{UpnpClient, UpnpOutcome};

/// What the engine needs to ask for open ports.
#[derive(Clone, Copy, Debug)]
pub struct MappingSetup {
    /// The port of our TCP listeners.
    pub tcp_port: u16,
    /// The port of our UDP sockets.
    pub udp_port: u16,
    /// Seed of the nonces, which the router accepts as proof that a mapping is ours; must stay secret.
    pub seed: u64,
}

/// A default router, and our address in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The router's address and port, with the zone of a link-local address.
    pub addr: SocketAddr,
    /// Our address.
    pub local: IpAddr,
}

/// The default routers of both address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gateways {
    /// The router of IPv4.
    pub v4: Option<Gateway>,
    /// The router of IPv6.
    pub v6: Option<Gateway>,
}

/// Our ports outside the routers, where they differ from those that we listen on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutsidePorts {
    tcp: [Option<u16>; 2],
    udp: [Option<u16>; 2],
}

impl OutsidePorts {
    /// Returns the port that peers of this address family reach our TCP port `listening` at.
    pub fn tcp(&self, v6: bool, listening: u16) -> u16 {
        self.tcp[usize::from(v6)].unwrap_or(listening)
    }

    /// Returns the same for our UDP port.
    pub fn udp(&self, v6: bool, listening: u16) -> u16 {
        self.udp[usize::from(v6)].unwrap_or(listening)
    }
}

/// Which protocol opened a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingProtocol {
    /// The Port Control Protocol (RFC 6887).
    Pcp,
    /// The NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// Universal Plug and Play, Internet Gateway Device.
    Upnp,
}

/// Whether peers outside can connect to us, as the router says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortMapping {
    /// The router opened a port.
    Open {
        /// Our address outside, if the router told it.
        address: Option<IpAddr>,
        /// The TCP port outside.
        tcp: u16,
        /// The UDP port outside; `None` if the router opened none.
        udp: Option<u16>,
        /// How it was asked.
        by: MappingProtocol,
    },
    /// The router opened a port, but its own address outside is one of another private network.
    BehindAnotherRouter {
        /// The router's address outside.
        address: IpAddr,
        /// The TCP port there.
        tcp: u16,
    },
    /// The router refuses.
    Refused {
        /// The router.
        router: IpAddr,
        /// The code of its answer.
        code: u16,
    },
    /// The router does not answer.
    Silent {
        /// The router.
        router: IpAddr,
    },
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortMapping::Open { address, tcp, udp, by } => {
                match address {
                    Some(address) => {
                        write!(f, "{} is open to peers outside", SocketAddr::new(*address, *tcp))?;
                    }
                    None => write!(f, "port {tcp} is open to peers outside")?,
                }
                match udp {
                    Some(udp) if udp == tcp => write!(f, " (TCP and UDP, ")?,
                    Some(udp) => write!(f, " (TCP, and UDP at port {udp}, ")?,
                    None => write!(f, " (TCP alone, ")?,
                }
                f.write_str(match by {
                    MappingProtocol::Pcp => "by PCP)",
                    MappingProtocol::NatPmp => "by NAT-PMP)",
                    MappingProtocol::Upnp => "by UPnP)",
                })
            }
            PortMapping::BehindAnotherRouter { address, tcp } => {
                let whose = if is_carrier_address(*address) {
                    "the provider shares one address among its customers"
                } else {
                    "it is behind another router"
                };
                write!(
                    f,
                    "the router opened port {tcp}, but its own address {address} is not public: {whose}, so peers \
                           outside cannot connect"
                )
            }
            PortMapping::Refused { router, code } => write!(
                f,
                "no port is open to peers outside: the router {router} refuses (code {code}); forward a port in its settings"
            ),
            PortMapping::Silent { router } => write!(
                f,
                "no port is open to peers outside: the router {router} answers neither PCP, NAT-PMP nor UPnP; forward a port in \
                 its settings"
            ),
        }
    }
}

/// The state of both routers.
#[derive(Debug)]
pub struct PortMapper {
    setup: MappingSetup,
    rng: Rng,
    /// The clients of the routers, IPv4 first.
    clients: [Option<RouterClient>; 2],
    /// The client that asks the router of IPv4 by UPnP.
    upnp: Option<UpnpClient>,
    /// The end: open requests that delete UPnP mappings, and until when they are waited for.
    unmapping: Option<(Vec<u64>, Instant)>,
    /// When to look for the default routers again.
    look_at: Instant,
    /// What was last reported of each router.
    reported: [Option<PortMapping>; 2],
}

impl PortMapper {
    /// Starts, and has the caller look for the default routers.
    pub fn start(turn: &mut Turn<'_>, setup: MappingSetup) -> PortMapper {
        let mut mapper = PortMapper {
            setup,
            rng: Rng::new(setup.seed ^ 0x706f_7274_6d61),
            clients: [None, None],
            upnp: None,
            unmapping: None,
            look_at: turn.now,
            reported: [None; 2],
        };
        mapper.on_deadline(turn);
        mapper
    }

    /// These are the default routers now. A new router, or a new address of ours, begins anew.
    pub fn on_gateways(&mut self, turn: &mut Turn<'_>, found: Gateways) {
        if self.unmapping.is_some() {
            return;
        }
        let found = [found.v4.filter(translates), found.v6.filter(|gateway| gateway.local.is_ipv6())];
        for ((client, reported), gateway) in self.clients.iter_mut().zip(&mut self.reported).zip(found) {
            if client.as_ref().map(RouterClient::gateway) != gateway {
                *reported = None;
                let ports = [self.setup.tcp_port, self.setup.udp_port];
                *client = gateway.map(|gateway| RouterClient::start(turn, gateway, ports, &mut self.rng));
                let is_v4 = gateway.is_none_or(|gateway| gateway.addr.is_ipv4());
                if is_v4 {
                    // The mapping of a former address of ours occupies the port. Its deletion is not waited for.
                    let is_same_router =
                        |old: &UpnpClient| gateway.is_some_and(|now| old.is_of(now.addr.ip()));
                    if let Some(mut old) = self.upnp.take().filter(is_same_router) {
                        old.delete(turn, limits::UPNP_TIMEOUT);
                    }
                    let rng = Rng::new(self.rng.u64());
                    self.upnp = gateway.and_then(|gateway| UpnpClient::new(turn.now, gateway, ports, rng));
                }
            }
        }
        self.finish(turn);
    }

    /// A datagram that looks like an answer of a router arrived.
    pub fn on_datagram(&mut self, turn: &mut Turn<'_>, from: SocketAddr, packet: &[u8]) {
        let sent_it = |client: &&mut RouterClient| is_same_host(client.gateway().addr, from);
        let Some(client) = self.clients.iter_mut().flatten().find(sent_it) else { return };
        if let Some(answer) = parse_answer(packet) {
            client.on_answer(turn, &answer);
            self.finish(turn);
        }
    }

    /// A datagram that looks like an answer to a UPnP search arrived.
    pub fn on_search_response(&mut self, turn: &mut Turn<'_>, from: SocketAddr, packet: &[u8]) {
        if let Some(upnp) = &mut self.upnp {
            upnp.on_search_response(turn, from.ip(), packet);
            self.finish(turn);
        }
    }

    /// The router answered an HTTP request; `None` if it failed.
    pub fn on_reply(&mut self, turn: &mut Turn<'_>, id: u64, reply: Option<&RouterReply>) {
        if let Some((open, _)) = &mut self.unmapping {
            open.retain(|other| *other != id);
            return;
        }
        if let Some(upnp) = &mut self.upnp {
            upnp.on_reply(turn, id, reply);
            self.finish(turn);
        }
    }

    /// Returns whether mappings are being deleted.
    pub fn is_unmapping(&self) -> bool {
        self.unmapping.as_ref().is_some_and(|(open, _)| !open.is_empty())
    }

    /// The timer fired.
    pub fn on_deadline(&mut self, turn: &mut Turn<'_>) {
        if let Some((open, until)) = &mut self.unmapping {
            if turn.now >= *until {
                open.clear();
            }
            return;
        }
        if turn.now >= self.look_at {
            self.look_at = turn.now + limits::GATEWAY_INTERVAL;
            turn.out.push(Action::FindGateways);
        }
        self.clients.iter_mut().flatten().for_each(|client| client.on_deadline(turn));
        if let Some(upnp) = &mut self.upnp {
            upnp.on_deadline(turn);
        }
        self.finish(turn);
    }

    /// Deletes the mappings: one packet each, whose answers are not waited for. Requests of UPnP take a
    /// connection and are waited for a short time.
    pub fn stop(&mut self, turn: &mut Turn<'_>) {
        self.clients.iter().flatten().for_each(|client| client.delete(turn));
        self.clients = [None, None];
        let open = self.upnp.take();
        let open = open.map(|mut upnp| upnp.delete(turn, limits::UPNP_DELETE_TIMEOUT)).unwrap_or_default();
        let until = turn.now + limits::UPNP_DELETE_TIMEOUT;
        turn.timers.disarm(Timer::PortMapping);
        if !open.is_empty() {
            turn.timers.arm(Timer::PortMapping, until);
        }
        self.unmapping = Some((open, until));
    }

    /// Returns our ports outside.
    pub fn outside(&self) -> OutsidePorts {
        let port = |protocol| {
            self.clients.each_ref().map(|client| client.as_ref().and_then(|client| client.outside(protocol)))
        };
        let mut ports = OutsidePorts { tcp: port(MappedProtocol::Tcp), udp: port(MappedProtocol::Udp) };
        if let Some(upnp) = &self.upnp {
            ports.tcp[0] = ports.tcp[0].or(upnp.outside(MappedProtocol::Tcp));
            ports.udp[0] = ports.udp[0].or(upnp.outside(MappedProtocol::Udp));
        }
        ports
    }

    /// Begins UPnP if the router grants nothing by the other protocols, and ends it if it does.
    fn update_upnp(&mut self, turn: &mut Turn<'_>) {
        let (Some(client), Some(upnp)) = (&self.clients[0], &mut self.upnp) else { return };
        // A grant of TCP alone may be followed by one of UDP.
        if matches!(client.outcome(), Some(Outcome::Open { .. })) {
            upnp.give_way(turn, MappedProtocol::BOTH.map(|protocol| client.outside(protocol)));
        } else if client.is_failing() {
            upnp.begin(turn);
        }
    }

    /// Reports what changed, and arms the timer.
    fn finish(&mut self, turn: &mut Turn<'_>) {
        self.update_upnp(turn);
        let upnp =
            [self.upnp.as_ref().map_or(UpnpOutcome::Nothing, UpnpClient::outcome), UpnpOutcome::Nothing];
        for ((client, reported), upnp) in self.clients.iter().zip(&mut self.reported).zip(upnp) {
            let Some(status) = client.as_ref().and_then(|client| status(client, upnp)) else { continue };
            if reported.replace(status) != Some(status) {
                turn.out.push(Action::Notice(Notice::PortMapping(status)));
            }
        }
        let next = self.clients.iter().flatten().map(RouterClient::next_deadline).min();
        let upnp = self.upnp.as_ref().map_or(Instant::NEVER, UpnpClient::next_deadline);
        let next = next.unwrap_or(Instant::NEVER).min(upnp);
        turn.timers.arm(Timer::PortMapping, self.look_at.min(next));
    }
}

/// Returns what there is to say about a router; `None` while it is being asked.
fn status(client: &RouterClient, upnp: UpnpOutcome) -> Option<PortMapping> {
    let router = client.gateway().addr.ip();
    let outcome = match (client.outcome(), upnp) {
        (Some(open @ Outcome::Open { .. }), _) => open,
        (_, UpnpOutcome::Open { address, tcp, udp }) => {
            Outcome::Open { address, tcp, udp, by: MappingProtocol::Upnp }
        }
        (_, UpnpOutcome::Busy) => return None,
        (Some(Outcome::Silent), UpnpOutcome::Refused(code)) => Outcome::Refused(code),
        (outcome, _) => outcome?,
    };
    match outcome {
        Outcome::Open { address, tcp, udp, by } => Some(match address {
            Some(address) if !is_public(address) => PortMapping::BehindAnotherRouter { address, tcp },
            address => PortMapping::Open { address, tcp, udp, by },
        }),
        // IPv6 needs no mapping where the router lets connections in.
        _ if router.is_ipv6() => None,
        Outcome::Refused(code) => Some(PortMapping::Refused { router, code }),
        Outcome::Silent => Some(PortMapping::Silent { router }),
    }
}

/// Returns whether both are one host and port, whatever zone a link-local address was received in.
fn is_same_host(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

/// Returns whether the router translates our address: a public one needs no mapping.
fn translates(gateway: &Gateway) -> bool {
    matches!(gateway.local, IpAddr::V4(v4) if v4.is_private() || is_carrier_address(v4.into()))
}

/// Returns whether the address is one of 100.64.0.0/10, which a provider's own translation uses (RFC 6598).
fn is_carrier_address(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64)
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            !v4.is_private()
                && !v4.is_loopback()
                && !v4.is_link_local()
                && v4 != Ipv4Addr::UNSPECIFIED
                && !is_carrier_address(ip)
        }
        IpAddr::V6(_) => true,
    }
}
