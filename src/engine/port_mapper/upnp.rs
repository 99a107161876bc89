//! Asks one router for mappings by UPnP (Internet Gateway Device 1 and 2).
//!
//! ```text
//!   search ──location──▶ description ──service──▶ address outside ──▶ TCP ──▶ UDP ──▶ held, renewed at half
//!     │ no answer             │ no service                             │ refused
//!     └───────────────────────┴───────────────▶ failed ◀───────────────┘
//!
//!   held ──every two minutes──▶ is it still there? ──no──▶ asked for anew    (the router restarted)
//!                                              └── no answer ──▶ search again (its HTTP port may have changed)
//! ```
//!
//! The router's answer to a new mapping does not tell the lease that it grants: the first check does. Some routers
//! ignore a renewal: a mapping whose end did not move is deleted and asked for anew.
//!
//! Responses to the search are accepted from the router's address alone, and every URL has to have that
//! address as its host: another device of the network cannot direct requests elsewhere. One request is open
//! at a time.

use super::Gateway;
use crate::engine::action::{Action, RouterCall, RouterReply};
use crate::engine::limits;
use crate::engine::turn::Turn;
use crate::units::{Instant, Rng};
use crate::wire::port_mapping::MappedProtocol;
use crate::wire::soap::{
    MappingService, SoapRequest, error_code, external_address, mapping_entry, mapping_service,
};
use crate::wire::{Scheme, ssdp, url_parts};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The index of the TCP mapping.
const TCP: usize = 0;
/// "Action failed": said by some routers whose port is taken.
const ACTION_FAILED: u32 = 501;
/// The port is mapped to another host.
const CONFLICT: u32 = 718;
/// The port outside must be that inside.
const SAME_PORTS_ONLY: u32 = 724;
/// Leases are not supported.
const PERMANENT_ONLY: u32 = 725;
/// The first port that is tried instead of one that is taken.
const FIRST_OTHER_PORT: u16 = 10_000;

/// The result of asking by UPnP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpnpOutcome {
    /// The router opened our TCP port.
    Open { address: Option<IpAddr>, tcp: u16, udp: Option<u16> },
    /// The router is being asked.
    Busy,
    /// It refuses, with this code.
    Refused(u16),
    /// There is no mapping, and nothing to say about it.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// `next_at` is [`Instant::NEVER`] after the last search.
    Searching {
        sent: u32,
        next_at: Instant,
    },
    Found,
}

/// What the open request is for.
#[derive(Debug)]
enum Step {
    Description(String),
    Address,
    Add(usize),
    Check(usize),
    /// Deletes a mapping that is added anew.
    Replace(usize),
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    external: u16,
    expires: Instant,
    /// When to ask whether the router holds it; [`Instant::NEVER`] if the router could not tell.
    check_at: Instant,
    /// The end of the lease before the renewal that is not checked yet.
    renewed_from: Option<Instant>,
    state: GrantState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrantState {
    /// The router said that it maps the port.
    Granted,
    /// The router listed the mapping.
    Listed,
    /// The router does not list it any more, or ignored its renewal.
    Lost,
}

#[derive(Debug)]
struct Mapping {
    protocol: MappedProtocol,
    internal: u16,
    wished: u16,
    tries: u32,
    /// When to ask for it; [`Instant::NEVER`] after a refusal.
    due_at: Instant,
    grant: Option<Grant>,
}

/// The client of one router.
#[derive(Debug)]
pub(super) struct UpnpClient {
    router: Ipv4Addr,
    local: Ipv4Addr,
    rng: Rng,
    state: State,
    request: Option<(u64, Step)>,
    /// Locations of descriptions; the first `described` were requested.
    locations: Vec<String>,
    described: usize,
    /// The service, if one was found since the last failure.
    service: Option<MappingService>,
    is_address_known: bool,
    address: Option<Ipv4Addr>,
    lease_s: u32,
    mappings: [Mapping; 2],
    /// When the next search may begin.
    not_before: Instant,
    refused: Option<u16>,
}

impl UpnpClient {
    /// Returns the client of a router, `None` if it has no IPv4 address. Nothing is sent.
    pub(super) fn new(now: Instant, gateway: Gateway, ports: [u16; 2], rng: Rng) -> Option<UpnpClient> {
        let (IpAddr::V4(router), IpAddr::V4(local)) = (gateway.addr.ip(), gateway.local) else {
            return None;
        };
        let mapping = |(protocol, internal)| Mapping {
            protocol,
            internal,
            wished: internal,
            tries: 0,
            due_at: Instant::NEVER,
            grant: None,
        };
        let [tcp, udp] = MappedProtocol::BOTH;
        Some(UpnpClient {
            router,
            local,
            rng,
            state: State::Idle,
            request: None,
            locations: Vec::new(),
            described: 0,
            service: None,
            is_address_known: false,
            address: None,
            lease_s: limits::UPNP_LEASE_S,
            mappings: [(tcp, ports[0]), (udp, ports[1])].map(mapping),
            not_before: now,
            refused: None,
        })
    }

    /// Begins to search, unless it has begun, or failed a short time ago.
    pub(super) fn begin(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::Idle && turn.now >= self.not_before {
            self.search(turn, 0);
        }
    }

    /// The router opened these ports by another protocol: ends, and deletes mappings of other ports. The router
    /// may hold one rule for a port, whichever protocol made it.
    pub(super) fn give_way(&mut self, turn: &mut Turn<'_>, opened: [Option<u16>; 2]) {
        for (index, opened) in opened.into_iter().enumerate() {
            if self.mappings[index].grant.is_some_and(|grant| Some(grant.external) != opened) {
                self.send_delete(turn, index, limits::UPNP_TIMEOUT);
            }
        }
        self.end(turn.now);
    }

    /// Returns the port outside that is open for this protocol.
    pub(super) fn outside(&self, protocol: MappedProtocol) -> Option<u16> {
        let mapping = self.mappings.iter().find(|mapping| mapping.protocol == protocol)?;
        mapping.grant.map(|grant| grant.external)
    }

    /// Returns the result so far.
    pub(super) fn outcome(&self) -> UpnpOutcome {
        let [tcp, udp] = &self.mappings;
        let is_udp_known = udp.grant.is_some() || udp.due_at == Instant::NEVER;
        match (self.state, tcp.grant) {
            (State::Found, Some(grant)) if is_udp_known => UpnpOutcome::Open {
                address: self.address.map(IpAddr::V4),
                tcp: grant.external,
                udp: udp.grant.map(|grant| grant.external),
            },
            (State::Idle, _) => self.refused.map_or(UpnpOutcome::Nothing, UpnpOutcome::Refused),
            _ => UpnpOutcome::Busy,
        }
    }

    /// Returns when [`on_deadline`](UpnpClient::on_deadline) has to be called next.
    pub(super) fn next_deadline(&self) -> Instant {
        let expires = |mapping: &Mapping| mapping.grant.map_or(Instant::NEVER, |grant| grant.expires);
        let check = |mapping: &Mapping| mapping.grant.map_or(Instant::NEVER, |grant| grant.check_at);
        let due = |mapping: &Mapping| match self.request {
            Some(_) => Instant::NEVER,
            None => mapping.due_at.min(check(mapping)),
        };
        match self.state {
            State::Idle => Instant::NEVER,
            State::Searching { next_at, .. } => {
                self.mappings.iter().map(expires).min().unwrap_or(Instant::NEVER).min(next_at)
            }
            State::Found => {
                let of_mapping = |mapping: &Mapping| expires(mapping).min(due(mapping));
                self.mappings.iter().map(of_mapping).min().unwrap_or(Instant::NEVER)
            }
        }
    }

    /// Returns whether this is the client of the router at this address.
    pub(super) fn is_of(&self, router: IpAddr) -> bool {
        IpAddr::V4(self.router) == router
    }

    /// Searches again, renews and checks what is due, and drops what expired.
    pub(super) fn on_deadline(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Searching { next_at, .. } if turn.now < next_at => {}
            State::Searching { sent, .. } if sent < limits::UPNP_SEARCHES => self.search(turn, sent),
            State::Searching { sent, .. } => {
                self.state = State::Searching { sent, next_at: Instant::NEVER };
            }
            State::Idle | State::Found => {}
        }
        for mapping in &mut self.mappings {
            mapping.grant.take_if(|grant| grant.expires <= turn.now);
        }
        self.proceed(turn);
    }

    /// A device answered the search.
    pub(super) fn on_search_response(&mut self, turn: &mut Turn<'_>, from: IpAddr, packet: &[u8]) {
        let State::Searching { .. } = self.state else { return };
        if from != self.router || self.locations.len() >= limits::UPNP_DESCRIPTIONS {
            return;
        }
        let Some(location) = ssdp::location(packet).filter(|location| is_of_host(location, self.router))
        else {
            return;
        };
        if !self.locations.iter().any(|known| known == location) {
            self.locations.push(location.to_owned());
            self.proceed(turn);
        }
    }

    /// The router answered the request with this id; `None` if it failed.
    pub(super) fn on_reply(&mut self, turn: &mut Turn<'_>, id: u64, reply: Option<&RouterReply>) {
        let Some((_, step)) = self.request.take_if(|(open, _)| *open == id) else { return };
        match step {
            Step::Description(location) => {
                let document = reply.filter(|reply| reply.status == 200);
                let found = document.and_then(|reply| mapping_service(&reply.body, &location));
                if let Some(service) = found.filter(|found| is_of_host(&found.control_url, self.router)) {
                    self.on_service(turn.now, service);
                }
            }
            Step::Address => {
                self.is_address_known = true;
                self.address = reply.and_then(|reply| external_address(&reply.body));
            }
            Step::Add(index) => self.on_added(turn.now, index, reply),
            Step::Check(index) => self.on_checked(turn, index, reply),
            Step::Replace(index) => self.mappings[index].due_at = turn.now,
        }
        self.proceed(turn);
    }

    /// Appends requests that delete the mappings; returns their ids.
    pub(super) fn delete(&mut self, turn: &mut Turn<'_>, timeout: Duration) -> Vec<u64> {
        let held: Vec<usize> =
            (0..self.mappings.len()).filter(|index| self.mappings[*index].grant.is_some()).collect();
        held.into_iter().filter_map(|index| self.send_delete(turn, index, timeout)).collect()
    }

    fn on_service(&mut self, now: Instant, service: MappingService) {
        self.service = Some(service);
        self.state = State::Found;
        self.is_address_known = false;
        self.refused = None;
        self.lease_s = limits::UPNP_LEASE_S;
        for mapping in &mut self.mappings {
            (mapping.tries, mapping.due_at) = (0, now);
        }
    }

    fn on_added(&mut self, now: Instant, index: usize, reply: Option<&RouterReply>) {
        let code = reply.and_then(|reply| error_code(&reply.body));
        let other_port = self.other_port();
        let mapping = &mut self.mappings[index];
        if code.is_none() && reply.is_some_and(|reply| reply.status == 200) {
            let external = mapping.wished;
            // A router whose mappings have no end may have lost them at a restart: they are renewed as well.
            let lease = Duration::from_secs(limits::UPNP_LEASE_S.into());
            let renewed = mapping.grant.filter(|grant| grant.state != GrantState::Lost);
            mapping.grant = Some(Grant {
                external,
                expires: now + lease,
                check_at: now,
                renewed_from: renewed.map(|grant| grant.expires),
                state: GrantState::Granted,
            });
            (mapping.tries, mapping.due_at) = (0, now + lease / 2);
            return;
        }
        mapping.tries += 1;
        let may_repeat = mapping.tries < limits::UPNP_TRIES;
        match code {
            Some(PERMANENT_ONLY) if may_repeat && self.lease_s != 0 => self.lease_s = 0,
            // A renewal that is refused or not answered: the mapping is held until it expires.
            _ if mapping.grant.is_some_and(|grant| grant.state != GrantState::Lost) => {
                mapping.tries = 0;
                mapping.due_at = now + limits::MAPPING_RETRY_MIN;
            }
            Some(CONFLICT | ACTION_FAILED) if may_repeat => mapping.wished = other_port,
            Some(SAME_PORTS_ONLY) if may_repeat && mapping.wished != mapping.internal => {
                mapping.wished = mapping.internal;
            }
            _ => {
                (mapping.grant, mapping.due_at) = (None, Instant::NEVER);
                if index == TCP {
                    self.refused = code.map(|code| u16::try_from(code).unwrap_or(u16::MAX));
                }
            }
        }
    }

    /// The router told who has the port of a mapping, and how long.
    fn on_checked(&mut self, turn: &mut Turn<'_>, index: usize, reply: Option<&RouterReply>) {
        let (now, local, is_permanent) = (turn.now, self.local, self.lease_s == 0);
        let Some(reply) = reply else { return self.search(turn, 0) };
        let Mapping { grant: Some(grant), due_at, .. } = &mut self.mappings[index] else { return };
        let entry = mapping_entry(&reply.body).filter(|(client, _)| *client == local);
        let Some((_, lease_s)) = entry else {
            // A router that never listed the mapping may have no lists.
            grant.check_at = Instant::NEVER;
            if grant.state == GrantState::Listed {
                (grant.state, *due_at) = (GrantState::Lost, now);
            }
            return;
        };
        let renewed_from = grant.renewed_from.take();
        (grant.state, grant.check_at) = (GrantState::Listed, now + limits::UPNP_CHECK_INTERVAL);
        if lease_s == 0 {
            return;
        }
        let lease = Duration::from_secs(lease_s.min(limits::UPNP_LEASE_S).into());
        if !is_permanent
            && renewed_from.is_some_and(|before| now + lease <= before + limits::UPNP_LEASE_SLACK)
        {
            (grant.state, grant.check_at) = (GrantState::Lost, Instant::NEVER);
            return self.replace(turn, index);
        }
        grant.expires = now + lease.max(2 * limits::UPNP_RENEW_MIN);
        *due_at = (*due_at).min(now + (lease / 2).max(limits::UPNP_RENEW_MIN));
    }

    /// Deletes a mapping to add it anew. Until then it counts as held: its port outside stays the same.
    fn replace(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Mapping { protocol, wished, .. } = self.mappings[index];
        let Some(service) = &self.service else { return };
        let request = SoapRequest::Delete { protocol: protocol.name(), external: wished };
        let id = call(turn, service, &request, limits::UPNP_TIMEOUT);
        self.mappings[index].due_at = Instant::NEVER;
        self.request = Some((id, Step::Replace(index)));
    }

    /// Sends the next request if none is open; ends if there is none left to send.
    fn proceed(&mut self, turn: &mut Turn<'_>) {
        if self.request.is_some() {
            return;
        }
        match (self.state, self.service.clone()) {
            (State::Idle, _) => {}
            (State::Found, Some(service)) if !self.is_address_known => {
                let id = call(turn, &service, &SoapRequest::ExternalAddress, limits::UPNP_TIMEOUT);
                self.request = Some((id, Step::Address));
            }
            (State::Found, Some(service)) => self.proceed_mapping(turn, &service),
            (_, _) => {
                if let Some(location) = self.locations.get(self.described).cloned() {
                    self.described += 1;
                    let id = turn.ids.next();
                    let timeout = limits::UPNP_TIMEOUT;
                    turn.out.push(Action::RouterRequest { id, url: location.clone(), call: None, timeout });
                    self.request = Some((id, Step::Description(location)));
                } else if matches!(self.state, State::Searching { next_at: Instant::NEVER, .. }) {
                    let is_known = self.service.is_some();
                    let wait =
                        if is_known { limits::MAPPING_RETRY_KNOWN } else { limits::MAPPING_RETRY_SILENT };
                    self.end(turn.now + wait);
                }
            }
        }
    }

    fn proceed_mapping(&mut self, turn: &mut Turn<'_>, service: &MappingService) {
        let tcp = &self.mappings[TCP];
        if tcp.grant.is_none() && tcp.due_at == Instant::NEVER {
            let refused = self.refused;
            self.end(turn.now + limits::MAPPING_RETRY_KNOWN);
            self.refused = refused;
            return;
        }
        let Some(index) = self.mappings.iter().position(|mapping| mapping.due_at <= turn.now) else {
            return self.check(turn, service);
        };
        let Mapping { protocol, internal, wished, .. } = self.mappings[index];
        let request = SoapRequest::Add {
            protocol: protocol.name(),
            external: wished,
            internal,
            client: self.local,
            lease_s: self.lease_s,
        };
        let id = call(turn, service, &request, limits::UPNP_TIMEOUT);
        self.request = Some((id, Step::Add(index)));
    }

    /// Asks for a mapping whose check is due.
    fn check(&mut self, turn: &mut Turn<'_>, service: &MappingService) {
        let is_due = |mapping: &Mapping| mapping.grant.is_some_and(|grant| grant.check_at <= turn.now);
        let Some(index) = self.mappings.iter().position(is_due) else { return };
        let Mapping { protocol, wished, .. } = self.mappings[index];
        let request = SoapRequest::Entry { protocol: protocol.name(), external: wished };
        let id = call(turn, service, &request, limits::UPNP_TIMEOUT);
        self.request = Some((id, Step::Check(index)));
    }

    fn search(&mut self, turn: &mut Turn<'_>, sent: u32) {
        if sent == 0 {
            self.locations.clear();
            self.described = 0;
        }
        let next_at = turn.now + limits::UPNP_SEARCH_WAIT * (sent + 1);
        self.state = State::Searching { sent: sent + 1, next_at };
        for target in ssdp::TARGETS {
            let from = self.local.into();
            turn.out.push(Action::DatagramFrom { from, to: ssdp::GROUP, bytes: ssdp::search(target) });
        }
    }

    fn send_delete(&mut self, turn: &mut Turn<'_>, index: usize, timeout: Duration) -> Option<u64> {
        let mapping = &mut self.mappings[index];
        let external = mapping.grant.take()?.external;
        let request = SoapRequest::Delete { protocol: mapping.protocol.name(), external };
        Some(call(turn, self.service.as_ref()?, &request, timeout))
    }

    /// Holds no mapping any more, and searches again at `not_before` at the earliest.
    fn end(&mut self, not_before: Instant) {
        self.state = State::Idle;
        self.request = None;
        self.service = None;
        self.refused = None;
        self.not_before = not_before;
        for mapping in &mut self.mappings {
            mapping.grant = None;
            mapping.due_at = Instant::NEVER;
        }
    }

    fn other_port(&mut self) -> u16 {
        let range = usize::from(u16::MAX - FIRST_OTHER_PORT);
        u16::try_from(self.rng.below(range)).map_or(u16::MAX, |offset| FIRST_OTHER_PORT + offset)
    }
}

fn call(turn: &mut Turn<'_>, service: &MappingService, request: &SoapRequest, timeout: Duration) -> u64 {
    let id = turn.ids.next();
    let call = RouterCall { action: request.header(service.kind), body: request.body(service.kind) };
    turn.out.push(Action::RouterRequest { id, url: service.control_url.clone(), call: Some(call), timeout });
    id
}

/// Returns whether the URL is one of plain HTTP whose host is this address.
fn is_of_host(url: &str, router: Ipv4Addr) -> bool {
    url_parts(url).is_some_and(|parts| {
        parts.scheme == Scheme::Http && parts.user_info.is_none() && parts.host.parse() == Ok(router)
    })
}
