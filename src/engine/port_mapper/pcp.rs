//! Asks one router for mappings, by PCP and then by NAT-PMP.
//!
//! ```text
//!   asking ──granted──▶ held until its lifetime ends ──half of it, or the router restarted──▶ asking (and still held)
//!     │ 6 packets unanswered
//!     └──▶ PCP: NAT-PMP instead      NAT-PMP, IPv6: failed, again in 2 h
//! ```
//!
//! A router that loses its table tells a smaller epoch than its clock would have reached: then both mappings
//! are asked for anew (RFC 6886, 3.6; RFC 6887, 8.5).

use super::{Gateway, MappingProtocol};
use crate::engine::action::Action;
use crate::engine::limits;
use crate::engine::turn::Turn;
use crate::units::{Instant, Rng};
use crate::wire::port_mapping::{
    MapRequest, Mapped, MappedProtocol, Nonce, RouterAnswer, Subject, nat_pmp_address, nat_pmp_map, pcp_map,
};
use std::net::IpAddr;
use std::time::Duration;

/// The answer for "version not supported", of both protocols.
const UNKNOWN_VERSION: u16 = 1;
/// Answers of PCP that are no reason to give up NAT-PMP: malformed request, unknown opcode, unknown option.
const NOT_UNDERSTOOD: [u16; 3] = [3, 4, 5];

/// The protocol that the router is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Pcp,
    NatPmp,
}

impl From<Protocol> for MappingProtocol {
    fn from(protocol: Protocol) -> MappingProtocol {
        match protocol {
            Protocol::Pcp => MappingProtocol::Pcp,
            Protocol::NatPmp => MappingProtocol::NatPmp,
        }
    }
}

/// The result of asking a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It opened our TCP port.
    Open { address: Option<IpAddr>, tcp: u16, udp: Option<u16>, by: MappingProtocol },
    /// It refuses, with this code.
    Refused(u16),
    /// It does not answer.
    Silent,
}

/// A question without an answer.
#[derive(Clone, Copy, Debug)]
struct Question {
    sent: u32,
    resend_at: Instant,
}

/// A mapping that the router holds for us.
#[derive(Clone, Copy, Debug)]
struct Grant {
    external: u16,
    renew_at: Instant,
    expires: Instant,
}

/// One mapping, held or asked for.
#[derive(Debug)]
struct Mapping {
    protocol: MappedProtocol,
    internal: u16,
    /// The port outside to ask for: the last one granted, or our own.
    wished: u16,
    nonce: Nonce,
    question: Option<Question>,
    grant: Option<Grant>,
}

/// The router's clock at an answer.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    epoch_s: u32,
    at: Instant,
}

/// The client of one router.
#[derive(Debug)]
pub(super) struct RouterClient {
    gateway: Gateway,
    by: Protocol,
    mappings: [Mapping; 2],
    /// The question for the external address, of NAT-PMP.
    address_question: Option<Question>,
    address: Option<IpAddr>,
    epoch: Option<Epoch>,
    /// When the next loss of the router's table is believed.
    believe_loss_at: Instant,
    failure: Option<Outcome>,
    /// When to ask again after a failure.
    retry_at: Instant,
}

impl RouterClient {
    /// Asks the router to open the TCP and the UDP port.
    pub(super) fn start(
        turn: &mut Turn<'_>,
        gateway: Gateway,
        ports: [u16; 2],
        rng: &mut Rng,
    ) -> RouterClient {
        let mapping = |(protocol, internal)| {
            let mut nonce = Nonce::default();
            rng.fill(&mut nonce);
            Mapping { protocol, internal, wished: internal, nonce, question: None, grant: None }
        };
        let [tcp, udp] = MappedProtocol::BOTH;
        let mut client = RouterClient {
            gateway,
            by: Protocol::Pcp,
            mappings: [(tcp, ports[0]), (udp, ports[1])].map(mapping),
            address_question: None,
            address: None,
            epoch: None,
            believe_loss_at: turn.now,
            failure: None,
            retry_at: Instant::NEVER,
        };
        client.ask_all(turn, Protocol::Pcp);
        client
    }

    /// Returns the router.
    pub(super) fn gateway(&self) -> Gateway {
        self.gateway
    }

    /// Returns the port outside that is open for this protocol.
    pub(super) fn outside(&self, protocol: MappedProtocol) -> Option<u16> {
        let mapping = self.mappings.iter().find(|mapping| mapping.protocol == protocol)?;
        mapping.grant.map(|grant| grant.external)
    }

    /// Returns the result; `None` while the first questions are unanswered.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let [tcp, udp] = MappedProtocol::BOTH.map(|protocol| self.outside(protocol));
        let asking = |mapping: &Mapping| mapping.question.is_some() && mapping.grant.is_none();
        if self.mappings.iter().any(asking) || (self.address_question.is_some() && self.address.is_none()) {
            return None;
        }
        match tcp {
            Some(tcp) => Some(Outcome::Open { address: self.address, tcp, udp, by: self.by.into() }),
            None => self.failure,
        }
    }

    /// Returns whether the router holds nothing for us, and refuses or leaves questions unanswered.
    pub(super) fn is_failing(&self) -> bool {
        let is_late = |question: Question| question.sent >= limits::UPNP_AFTER_SENDS;
        self.mappings.iter().all(|mapping| mapping.grant.is_none())
            && (self.failure.is_some()
                || self.mappings.iter().any(|mapping| mapping.question.is_some_and(is_late)))
    }

    /// Returns when [`on_deadline`](RouterClient::on_deadline) has to be called next.
    pub(super) fn next_deadline(&self) -> Instant {
        let of_mapping = |mapping: &Mapping| match (mapping.question, mapping.grant) {
            (Some(question), _) => question.resend_at,
            (None, Some(grant)) => grant.renew_at,
            (None, None) => Instant::NEVER,
        };
        let address = self.address_question.map_or(Instant::NEVER, |question| question.resend_at);
        self.mappings.iter().map(of_mapping).min().unwrap_or(Instant::NEVER).min(address).min(self.retry_at)
    }

    /// Sends questions again, renews what is due, and gives up what stays unanswered.
    pub(super) fn on_deadline(&mut self, turn: &mut Turn<'_>) {
        if turn.now >= self.retry_at {
            return self.ask_all(turn, Protocol::Pcp);
        }
        if self.address_question.is_some_and(|question| question.resend_at <= turn.now) {
            self.ask_address(turn);
        }
        for index in 0..self.mappings.len() {
            let mapping = &mut self.mappings[index];
            if mapping.grant.take_if(|grant| grant.expires <= turn.now).is_some()
                && mapping.question.is_none()
            {
                return self.ask_all(turn, Protocol::Pcp);
            }
            match (mapping.question, mapping.grant) {
                (Some(question), _) if turn.now < question.resend_at => {}
                (Some(question), _) if question.sent >= limits::MAPPING_SENDS => {
                    return self.on_silence(turn);
                }
                (Some(_), _) => self.ask(turn, index),
                (None, Some(grant)) if turn.now >= grant.renew_at => self.ask(turn, index),
                (None, _) => {}
            }
        }
    }

    /// An answer arrived from the router.
    pub(super) fn on_answer(&mut self, turn: &mut Turn<'_>, answer: &RouterAnswer) {
        let asked_version = match self.by {
            Protocol::Pcp => 2,
            Protocol::NatPmp => 0,
        };
        let is_asking = self.mappings.iter().any(|mapping| mapping.question.is_some());
        let downgrades = self.by == Protocol::Pcp && self.gateway.addr.is_ipv4();
        match answer.subject {
            _ if answer.version != asked_version => {
                if is_asking && downgrades && answer.version == 0 && answer.result == UNKNOWN_VERSION {
                    self.ask_all(turn, Protocol::NatPmp);
                }
            }
            Subject::Nothing if !is_asking => {}
            // The second of two PCP questions was answered so, too.
            Subject::Nothing if self.by == Protocol::NatPmp && answer.result == UNKNOWN_VERSION => {}
            Subject::Nothing if downgrades && is_not_understood(answer.result) => {
                self.ask_all(turn, Protocol::NatPmp);
            }
            Subject::Nothing => self.on_failure(turn, Outcome::Refused(answer.result)),
            Subject::Address(address) => {
                if self.address_question.take().is_some() && answer.result == 0 {
                    self.address = Some(address.into());
                }
                self.on_epoch(turn, answer.epoch_s);
            }
            Subject::Mapping(mapped) => self.on_mapping(turn, answer, &mapped, downgrades),
        }
    }

    fn on_mapping(&mut self, turn: &mut Turn<'_>, answer: &RouterAnswer, mapped: &Mapped, downgrades: bool) {
        let is_asked = |mapping: &&mut Mapping| {
            mapping.question.is_some()
                && (mapping.protocol, mapping.internal) == (mapped.protocol, mapped.internal)
                && mapped.pcp.is_none_or(|(nonce, _)| nonce == mapping.nonce)
        };
        let Some(mapping) = self.mappings.iter_mut().find(is_asked) else { return };
        if answer.result == 0 && mapped.external != 0 && mapped.lifetime_s != 0 {
            let lifetime = Duration::from_secs(mapped.lifetime_s.into()).min(limits::MAPPING_LIFETIME_MAX);
            let renew_in = (lifetime / 2).max(limits::MAPPING_RENEW_MIN);
            let expires = turn.now + lifetime.max(2 * limits::MAPPING_RENEW_MIN);
            mapping.grant = Some(Grant { external: mapped.external, renew_at: turn.now + renew_in, expires });
            mapping.question = None;
            mapping.wished = mapped.external;
            self.address = mapped.pcp.map(|(_, address)| address).or(self.address);
            if self.mappings.iter().all(|mapping| mapping.grant.is_some()) {
                self.failure = None;
                self.retry_at = Instant::NEVER;
            }
            return self.on_epoch(turn, answer.epoch_s);
        }
        if downgrades && is_not_understood(answer.result) {
            return self.ask_all(turn, Protocol::NatPmp);
        }
        mapping.question = None;
        match &mut mapping.grant {
            // Some routers refuse to renew before the end: ask again when the mapping has ended.
            Some(grant) => grant.renew_at = grant.expires,
            None => self.on_failure(turn, Outcome::Refused(answer.result)),
        }
    }

    /// Compares the router's clock with ours. If it lost its table, asks for everything anew.
    fn on_epoch(&mut self, turn: &mut Turn<'_>, epoch_s: u32) {
        let before = self.epoch.replace(Epoch { epoch_s, at: turn.now });
        let Some(before) = before.filter(|_| self.mappings.iter().any(|mapping| mapping.grant.is_some()))
        else {
            return;
        };
        let elapsed_s = turn.now.since(before.at).as_secs();
        let tolerated_s = match self.by {
            Protocol::Pcp => elapsed_s / 16,
            Protocol::NatPmp => elapsed_s / 8,
        };
        let expected = u64::from(before.epoch_s) + elapsed_s - tolerated_s;
        if u64::from(epoch_s) + limits::EPOCH_SLACK_S < expected && turn.now >= self.believe_loss_at {
            self.believe_loss_at = turn.now + limits::MAPPING_RETRY_MIN;
            self.epoch = None;
            self.ask_all(turn, self.by);
        }
    }

    /// The router answers no question of this protocol.
    fn on_silence(&mut self, turn: &mut Turn<'_>) {
        let is_held = self.mappings.iter().any(|mapping| mapping.grant.is_some());
        if is_held {
            // The router may be restarting: ask again later, until the mappings end.
            for mapping in &mut self.mappings {
                mapping.question = None;
                if let Some(grant) = &mut mapping.grant {
                    grant.renew_at = grant.expires.min(turn.now + limits::MAPPING_RETRY_MIN);
                }
            }
        } else if self.by == Protocol::Pcp && self.gateway.addr.is_ipv4() {
            self.ask_all(turn, Protocol::NatPmp);
        } else {
            self.on_failure(turn, Outcome::Silent);
        }
    }

    fn on_failure(&mut self, turn: &mut Turn<'_>, failure: Outcome) {
        self.failure = Some(failure);
        let has_answered = self.epoch.is_some() || failure != Outcome::Silent;
        let wait = if has_answered { limits::MAPPING_RETRY_KNOWN } else { limits::MAPPING_RETRY_SILENT };
        self.retry_at = turn.now + wait;
        if failure == Outcome::Silent {
            self.mappings.iter_mut().for_each(|mapping| mapping.question = None);
            self.address_question = None;
        }
    }

    /// Asks for both mappings by this protocol.
    fn ask_all(&mut self, turn: &mut Turn<'_>, by: Protocol) {
        self.by = by;
        self.retry_at = Instant::NEVER;
        self.address_question = None;
        if by == Protocol::NatPmp {
            self.ask_address(turn);
        }
        for index in 0..self.mappings.len() {
            self.mappings[index].question = None;
            self.ask(turn, index);
        }
    }

    fn ask(&mut self, turn: &mut Turn<'_>, index: usize) {
        let mapping = &mut self.mappings[index];
        mapping.question = Some(next_question(turn, mapping.question));
        let bytes = packet(self.by, self.gateway.local, mapping, limits::MAPPING_LIFETIME_S);
        send(turn, self.gateway, bytes);
    }

    fn ask_address(&mut self, turn: &mut Turn<'_>) {
        if self.address_question.is_some_and(|question| question.sent >= limits::MAPPING_SENDS) {
            self.address_question = None;
            return;
        }
        self.address_question = Some(next_question(turn, self.address_question));
        send(turn, self.gateway, nat_pmp_address());
    }

    /// Deletes the mappings that the router holds or may hold.
    pub(super) fn delete(&self, turn: &mut Turn<'_>) {
        for mapping in self.mappings.iter().filter(|mapping| mapping.grant.is_some()) {
            send(turn, self.gateway, packet(self.by, self.gateway.local, mapping, 0));
        }
    }
}

/// Returns the question after one more packet.
fn next_question(turn: &Turn<'_>, question: Option<Question>) -> Question {
    let sent = question.map_or(0, |question| question.sent) + 1;
    Question { sent, resend_at: turn.now + limits::MAPPING_RESEND * (1 << (sent - 1).min(16)) }
}

fn packet(by: Protocol, local: IpAddr, mapping: &Mapping, lifetime_s: u32) -> Vec<u8> {
    let Mapping { protocol, internal, wished, nonce, .. } = mapping;
    let request = MapRequest { protocol: *protocol, internal: *internal, external: *wished, lifetime_s };
    match by {
        Protocol::Pcp => pcp_map(&request, local, nonce),
        Protocol::NatPmp => nat_pmp_map(&request),
    }
}

/// Sends a packet to the router. Of IPv6 it leaves from the address that the mapping is for: the kernel would
/// choose a link-local address for a link-local router.
fn send(turn: &mut Turn<'_>, gateway: Gateway, bytes: Vec<u8>) {
    turn.out.push(match gateway.local {
        IpAddr::V4(_) => Action::Datagram { to: gateway.addr, bytes },
        from @ IpAddr::V6(_) => Action::DatagramFrom { from, to: gateway.addr, bytes },
    });
}

fn is_not_understood(result: u16) -> bool {
    result == UNKNOWN_VERSION || NOT_UNDERSTOOD.contains(&result)
}
