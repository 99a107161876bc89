//! Requests to UDP trackers: the connection handshake, resends and time-outs (BEP 15, 41, 48).

use super::TrackerClient;
use crate::engine::action::Action;
use crate::engine::limits;
use crate::engine::timers::Timer;
use crate::engine::turn::Turn;
use crate::units::{InfoHash, Instant};
use crate::wire::udp_tracker::{
    PacketError, announce_request, connect_request, parse_announce, parse_connect, parse_scrape,
    scrape_request, transaction_of,
};
use crate::wire::{AnnounceError, AnnounceReply, AnnounceRequest, SwarmCounts, UrlParts};
use std::net::SocketAddr;
use std::time::Duration;

/// The content of a request over UDP.
#[derive(Debug)]
pub(super) enum UdpRequest {
    Announce(AnnounceRequest),
    Scrape(InfoHash),
}

/// The answer to a [`UdpRequest`].
enum UdpResponse {
    Announce(AnnounceReply),
    Scrape(SwarmCounts),
}

impl UdpRequest {
    fn packet(&self, connection: u64, transaction: u32, path_and_query: &str) -> Vec<u8> {
        match self {
            UdpRequest::Announce(request) => {
                announce_request(connection, transaction, request, path_and_query)
            }
            UdpRequest::Scrape(info_hash) => scrape_request(connection, transaction, info_hash),
        }
    }

    fn parse(&self, packet: &[u8], transaction: u32, over_v6: bool) -> Result<UdpResponse, PacketError> {
        match self {
            UdpRequest::Announce(_) => {
                parse_announce(packet, transaction, over_v6).map(UdpResponse::Announce)
            }
            UdpRequest::Scrape(_) => parse_scrape(packet, transaction).map(UdpResponse::Scrape),
        }
    }
}

/// The stage of a request over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UdpStage {
    Resolving,
    Connecting { to: SocketAddr, transaction: u32 },
    Requesting { to: SocketAddr, transaction: u32 },
}

impl UdpStage {
    fn awaits(self, from: SocketAddr, id: u32) -> bool {
        match self {
            UdpStage::Resolving => false,
            UdpStage::Connecting { to, transaction } | UdpStage::Requesting { to, transaction } => {
                to == from && transaction == id
            }
        }
    }
}

/// A request to a UDP tracker, with its connection handshake and resends (BEP 15).
#[derive(Debug)]
pub(super) struct UdpTransaction {
    stage: UdpStage,
    request: UdpRequest,
    path_and_query: String,
    /// The tracker's addresses that were not tried yet; taken from the end.
    addresses: Vec<SocketAddr>,
    /// The last packet sent, for resends.
    packet: Vec<u8>,
    resends: u32,
    resend_at: Instant,
    /// Time for each address.
    timeout: Duration,
    /// When the current address, or the name resolution, times out.
    deadline: Instant,
}

impl TrackerClient {
    /// Begins a transaction with a UDP tracker; `timeout` applies to each of its addresses.
    pub(super) fn start_transaction(
        &mut self,
        turn: &mut Turn<'_>,
        id: u64,
        tracker: &UrlParts<'_>,
        request: UdpRequest,
        timeout: Duration,
    ) {
        let (Some(port), true) = (tracker.port, self.transactions.len() < limits::UDP_EXCHANGES) else {
            return self.on_failed(id, AnnounceError::Busy);
        };
        let transaction = UdpTransaction {
            stage: UdpStage::Resolving,
            request,
            path_and_query: tracker.path_and_query.to_string(),
            addresses: Vec::new(),
            packet: Vec::new(),
            resends: 0,
            resend_at: Instant::NEVER,
            timeout,
            deadline: turn.now + timeout,
        };
        self.transactions.insert(id, transaction);
        turn.out.push(Action::Resolve { id, host: tracker.host.to_string(), port });
        self.arm(turn);
    }

    /// A tracker's host name was resolved, or its resolution failed. Ids of other modules are ignored.
    pub fn on_resolved(&mut self, turn: &mut Turn<'_>, id: u64, result: Result<Vec<SocketAddr>, String>) {
        let Some(t) = self.transactions.get_mut(&id).filter(|t| t.stage == UdpStage::Resolving) else {
            return;
        };
        match result {
            Ok(addresses) => {
                if let UdpRequest::Scrape(_) = t.request {
                    // The time-out of a scrape is for all addresses together: each gets an equal share.
                    t.timeout /= u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
                    t.deadline = turn.now + t.timeout;
                }
                t.addresses = addresses;
                t.addresses.reverse(); // taken from the end
                self.try_next_address(turn, id);
            }
            Err(reason) => self.on_failed(id, AnnounceError::NoAddress(reason)),
        }
    }

    fn try_next_address(&mut self, turn: &mut Turn<'_>, id: u64) {
        let Some(t) = self.transactions.get_mut(&id) else { return };
        let Some(to) = t.addresses.pop() else {
            return self.on_failed(id, AnnounceError::Timeout);
        };
        if t.stage != UdpStage::Resolving {
            t.deadline = turn.now + t.timeout;
        }
        self.connection_ids.retain(|_, (_, until)| turn.now < *until);
        match self.connection_ids.get(&to).map(|(connection, _)| *connection) {
            Some(connection) => self.send_request(turn, id, to, connection),
            None => {
                let transaction = self.rng.u32();
                let packet = connect_request(transaction).to_vec();
                self.send_packet(turn, id, UdpStage::Connecting { to, transaction }, to, packet);
            }
        }
    }

    fn send_request(&mut self, turn: &mut Turn<'_>, id: u64, to: SocketAddr, connection: u64) {
        let transaction = self.rng.u32();
        let Some(t) = self.transactions.get_mut(&id) else { return };
        if let UdpRequest::Announce(request) = &mut t.request {
            request.port = super::announced_port(turn, to.is_ipv6());
        }
        let packet = t.request.packet(connection, transaction, &t.path_and_query);
        self.send_packet(turn, id, UdpStage::Requesting { to, transaction }, to, packet);
    }

    fn send_packet(
        &mut self,
        turn: &mut Turn<'_>,
        id: u64,
        stage: UdpStage,
        to: SocketAddr,
        packet: Vec<u8>,
    ) {
        let Some(t) = self.transactions.get_mut(&id) else { return };
        t.stage = stage;
        t.packet.clone_from(&packet);
        t.resends = 0;
        t.resend_at = turn.now + limits::UDP_RESEND;
        turn.out.push(Action::Datagram { to, bytes: packet });
        self.arm(turn);
    }

    /// A datagram of a UDP tracker arrived. A datagram that answers no transaction is ignored.
    pub fn on_datagram(&mut self, turn: &mut Turn<'_>, from: SocketAddr, packet: &[u8]) {
        let Some(transaction) = transaction_of(packet) else { return };
        let Some((&id, t)) = self.transactions.iter().find(|(_, t)| t.stage.awaits(from, transaction)) else {
            return;
        };
        match t.stage {
            UdpStage::Resolving => {}
            UdpStage::Connecting { to, transaction } => match parse_connect(packet, transaction) {
                Ok(connection) => {
                    self.connection_ids.insert(to, (connection, turn.now + limits::UDP_CONNECTION));
                    self.send_request(turn, id, to, connection);
                }
                Err(error) => self.on_bad_packet(id, error),
            },
            UdpStage::Requesting { to, transaction } => {
                match t.request.parse(packet, transaction, to.is_ipv6()) {
                    Ok(UdpResponse::Announce(reply)) => self.on_announced(id, Ok(reply)),
                    Ok(UdpResponse::Scrape(counts)) => self.on_scraped(id, Ok(counts)),
                    Err(error) => {
                        // The connection id may have expired, or belong to a tracker that was restarted.
                        self.connection_ids.remove(&to);
                        self.on_bad_packet(id, error);
                    }
                }
            }
        }
    }

    /// Handles a packet without a valid answer. Only the tracker's refusal ends a transaction: an invalid
    /// packet may be forged.
    fn on_bad_packet(&mut self, id: u64, error: PacketError) {
        if let PacketError::Refused(reason) = error {
            self.on_failed(id, AnnounceError::Failure { reason, retry_in: None });
        }
    }

    /// Sends unanswered packets again, and tries the next address of a tracker that timed out.
    pub fn on_udp_deadline(&mut self, turn: &mut Turn<'_>) {
        for id in self.transactions.keys().copied().collect::<Vec<_>>() {
            let Some(t) = self.transactions.get_mut(&id) else { continue };
            if turn.now >= t.deadline {
                if t.stage == UdpStage::Resolving {
                    self.on_failed(id, AnnounceError::Timeout);
                } else {
                    self.try_next_address(turn, id);
                }
            } else if turn.now >= t.resend_at {
                t.resends += 1;
                t.resend_at = turn.now + limits::UDP_RESEND * 2u32.saturating_pow(t.resends.min(8));
                if let UdpStage::Connecting { to, .. } | UdpStage::Requesting { to, .. } = t.stage {
                    turn.out.push(Action::Datagram { to, bytes: t.packet.clone() });
                }
            }
        }
        self.arm(turn);
    }

    fn arm(&self, turn: &mut Turn<'_>) {
        if let Some(at) = self.transactions.values().map(|t| t.resend_at.min(t.deadline)).min() {
            turn.timers.arm(Timer::UdpTracker, at);
        }
    }
}
