//! Asking trackers: HTTP through the hands' workers, UDP by the engine's own exchange (BEP 15, 41), and what the answers bring.
//!
//! ```text
//!   UDP:  Resolving ──address──▶ Connecting ──connection id──▶ Asking ──────▶ answer
//!                                    │  ▲                          │
//!                                    └──┴── sent again after 15 s, 30 s …; at the deadline the next address, or failure
//! ```
//!
//! Announces and scrapes (see [`scraping`](super::scrape)) travel alike. A datagram is believed only if it comes from the address that was asked and carries the transaction of the question.

use super::action::{Action, Actions, Notice};
use super::engine::Engine;
use super::limits;
use super::timers::Timer;
use super::torrent::PlannedAnnounce;
use crate::units::{InfoHash, Instant, Origin, Rng, TorrentKey};
use crate::wire::udp_tracker::{
    PacketError, announce_request, connect_request, parse_announce, parse_connect, parse_scrape, scrape_request, transaction_of,
};
use crate::wire::{AnnounceError, AnnounceEvent, AnnounceReply, AnnounceRequest, Scheme, SwarmCounts, UrlParts, url_parts};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a tracker was asked for.
#[derive(Debug)]
pub(super) enum RequestKind {
    /// Peers, and it was told of us.
    Announce(PlannedAnnounce),
    /// Counts, by this moment.
    Scrape { url: Arc<str>, until: Instant },
}

/// A question that awaits its answer.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub torrent: TorrentKey,
    pub asked: RequestKind,
}

impl PendingRequest {
    fn is_of(&self, key: TorrentKey, event: AnnounceEvent) -> bool {
        self.torrent == key && matches!(&self.asked, RequestKind::Announce(question) if question.event == event)
    }
}

/// A question as UDP carries it.
#[derive(Debug)]
pub(super) enum UdpRequest {
    Announce(AnnounceRequest),
    Scrape(InfoHash),
}

/// Its answer.
enum UdpResponse {
    Announce(AnnounceReply),
    Scrape(SwarmCounts),
}

impl UdpRequest {
    fn packet(&self, connection: u64, transaction: u32, path_and_query: &str) -> Vec<u8> {
        match self {
            UdpRequest::Announce(request) => announce_request(connection, transaction, request, path_and_query),
            UdpRequest::Scrape(info_hash) => scrape_request(connection, transaction, info_hash),
        }
    }

    fn read(&self, packet: &[u8], transaction: u32, over_v6: bool) -> Result<UdpResponse, PacketError> {
        match self {
            UdpRequest::Announce(_) => parse_announce(packet, transaction, over_v6).map(UdpResponse::Announce),
            UdpRequest::Scrape(_) => parse_scrape(packet, transaction).map(UdpResponse::Scrape),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UdpStage {
    Resolving,
    Connecting { to: SocketAddr, transaction: u32 },
    Asking { to: SocketAddr, transaction: u32 },
}

/// One conversation with a UDP tracker.
#[derive(Debug)]
struct UdpTransaction {
    step: UdpStage,
    request: UdpRequest,
    path_and_query: String,
    addresses: Vec<SocketAddr>,
    packet: Vec<u8>,
    resends: u32,
    resend_at: Instant,
    /// Time for each address.
    timeout: Duration,
    deadline: Instant,
}

/// All questions of one engine.
#[derive(Debug)]
pub(super) struct TrackerClient {
    pending: BTreeMap<u64, PendingRequest>,
    exchanges: BTreeMap<u64, UdpTransaction>,
    connections: BTreeMap<SocketAddr, (u64, Instant)>,
    next_id: u64,
    key: u32,
    rng: Rng,
}

impl TrackerClient {
    pub(super) fn new(seed: u64) -> TrackerClient {
        let mut rng = Rng::new(seed ^ 0x7261_636b_6572_7321);
        TrackerClient {
            pending: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_id: 1,
            key: rng.u32(),
            rng,
        }
    }

    /// A number for a question that no other has.
    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// A question is under way.
    pub(super) fn ask(&mut self, id: u64, pending: PendingRequest) {
        self.pending.insert(id, pending);
    }

    /// An announce is over; the torrent and the question, if this was one.
    fn take_announce(&mut self, id: u64) -> Option<(TorrentKey, PlannedAnnounce)> {
        let RequestKind::Announce(_) = self.pending.get(&id)?.asked else { return None };
        self.exchanges.remove(&id);
        match self.pending.remove(&id)? {
            PendingRequest { torrent, asked: RequestKind::Announce(question) } => Some((torrent, question)),
            PendingRequest { asked: RequestKind::Scrape { .. }, .. } => None,
        }
    }

    /// A scrape is over; the torrent and the tracker, if this was one.
    pub(super) fn take_scrape(&mut self, id: u64) -> Option<(TorrentKey, Arc<str>)> {
        let RequestKind::Scrape { .. } = self.pending.get(&id)?.asked else { return None };
        self.exchanges.remove(&id);
        match self.pending.remove(&id)? {
            PendingRequest { torrent, asked: RequestKind::Scrape { url, .. } } => Some((torrent, url)),
            PendingRequest { asked: RequestKind::Announce(_), .. } => None,
        }
    }

    /// Every scrape under way: its number, the torrent, the tracker, and until when it is waited for.
    pub(super) fn scrapes(&self) -> impl Iterator<Item = (u64, TorrentKey, &Arc<str>, Instant)> {
        self.pending.iter().filter_map(|(id, p)| match &p.asked {
            RequestKind::Scrape { url, until } => Some((*id, p.torrent, url, *until)),
            RequestKind::Announce(_) => None,
        })
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.exchanges.values().map(|e| e.resend_at.min(e.deadline)).min()
    }
}

impl Engine {
    /// Asks whichever tracker of the torrent is due.
    pub(super) fn announce(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.running) else { return };
        if let Some(question) = t.trackers.ask(now) {
            self.send_announce(now, key, question, out);
        }
        self.arm_announce(now, key);
    }

    fn arm_announce(&mut self, now: Instant, key: TorrentKey) {
        let Some(t) = self.torrents.get(key).filter(|t| t.running) else { return };
        let next = t.trackers.next();
        if next < Instant::NEVER {
            self.timers.arm(Timer::Announce(key), next.max(now));
        }
    }

    /// A last word to every tracker that knows us.
    pub(super) fn announce_stopped(&mut self, now: Instant, key: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        // `completed` goes first, if it is due or under way: whoever hears it after `stopped` takes us for present.
        if let Some(question) = t.trackers.ask_completed(now) {
            self.send_announce(now, key, question, out);
        }
        let waits = self.tracker_client.pending.values().any(|p| p.is_of(key, AnnounceEvent::Completed));
        if let (false, Some(t)) = (waits, self.torrents.get_mut(key)) {
            for question in t.trackers.stop() {
                self.send_announce(now, key, question, out);
            }
        }
        // Other announces are not waited for: their answers would bring peers that nobody dials.
        let pending = self.tracker_client.pending.iter();
        let idle = |p: &PendingRequest| p.is_of(key, AnnounceEvent::None) || p.is_of(key, AnnounceEvent::Started);
        let withdrawn: Vec<u64> = pending.filter(|(_, p)| idle(p)).map(|(id, _)| *id).collect();
        for id in withdrawn {
            self.tracker_client.pending.remove(&id);
            self.tracker_client.exchanges.remove(&id);
        }
    }

    fn send_announce(&mut self, now: Instant, key: TorrentKey, question: PlannedAnnounce, out: &mut Actions) {
        let Some(t) = self.torrents.get(key) else { return };
        let stopped = question.event == AnnounceEvent::Stopped;
        let request = AnnounceRequest {
            info_hash: t.info_hash,
            peer_id: self.config.peer_id,
            port: self.config.port,
            uploaded: t.uploaded,
            downloaded: t.downloaded,
            left: t.left(),
            event: question.event,
            numwant: if stopped { 0 } else { self.config.policy.numwant },
            key: self.tracker_client.key,
            tracker_id: question.tracker_id.clone(),
            ipv4: None,
            ipv6: None,
        };
        let timeout = if stopped { limits::STOPPED_TIMEOUT } else { limits::ANNOUNCE_TIMEOUT };
        let id = self.tracker_client.new_id();
        let url = question.url.clone();
        self.tracker_client.ask(id, PendingRequest { torrent: key, asked: RequestKind::Announce(question) });
        match url_parts(&url) {
            Some(parts) if parts.scheme == Scheme::Udp => {
                self.start_udp_transaction(now, id, &parts, UdpRequest::Announce(request), timeout, out);
            }
            _ => out.push(Action::Announce { id, url: request.http_url(&url), timeout }),
        }
    }

    /// Nothing came of a question.
    fn fail_request(&mut self, now: Instant, id: u64, error: AnnounceError, out: &mut Actions) {
        match self.tracker_client.pending.get(&id).map(|p| &p.asked) {
            Some(RequestKind::Announce(_)) => self.on_announced(now, id, Err(error), out),
            Some(RequestKind::Scrape { .. }) => self.on_scraped(now, id, Err(error), out),
            None => {}
        }
    }

    /// A tracker answered, or did not.
    pub fn on_announced(&mut self, now: Instant, id: u64, result: Result<AnnounceReply, AnnounceError>, out: &mut Actions) {
        let Some((torrent, question)) = self.tracker_client.take_announce(id) else { return };
        let Some(t) = self.torrents.get_mut(torrent) else { return };
        t.trackers.answered(now, &question, &result);
        let last_word = !t.running && question.event == AnnounceEvent::Completed;
        match result {
            Ok(reply) => {
                if let Some(ip) = reply.external_ip {
                    t.peer_list.set_ours(SocketAddr::new(ip, self.config.port));
                }
                let notice =
                    Notice::TrackerReplied { torrent, url: question.url, peers: reply.peers.len(), warning: reply.warning };
                out.push(Action::Notice(notice));
                if t.running {
                    self.learn_peers(now, torrent, &reply.peers, Origin::Tracker);
                }
            }
            Err(error) => out.push(Action::Notice(Notice::TrackerFailed { torrent, url: question.url, error })),
        }
        match last_word {
            true => self.announce_stopped(now, torrent, out),
            false => self.arm_announce(now, torrent),
        }
    }

    // ---- UDP ------------------------------------------------------------------------------------------------------

    /// Begins to put a question to a UDP tracker; `timeout` is for each of its addresses.
    pub(super) fn start_udp_transaction(
        &mut self,
        now: Instant,
        id: u64,
        tracker: &UrlParts<'_>,
        request: UdpRequest,
        timeout: Duration,
        out: &mut Actions,
    ) {
        let (Some(port), true) = (tracker.port, self.tracker_client.exchanges.len() < limits::UDP_EXCHANGES) else {
            return self.fail_request(now, id, AnnounceError::Busy, out);
        };
        self.tracker_client.exchanges.insert(
            id,
            UdpTransaction {
                step: UdpStage::Resolving,
                request,
                path_and_query: tracker.path_and_query.to_string(),
                addresses: Vec::new(),
                packet: Vec::new(),
                resends: 0,
                resend_at: Instant::NEVER,
                timeout,
                deadline: now + timeout,
            },
        );
        out.push(Action::Resolve { id, host: tracker.host.to_string(), port });
        self.arm_udp();
    }

    /// A tracker's name has these addresses, or none.
    pub fn on_resolved(&mut self, now: Instant, id: u64, result: Result<Vec<SocketAddr>, String>, out: &mut Actions) {
        if self.on_node_resolved(now, id, result.as_deref().unwrap_or_default(), out) {
            return;
        }
        let Some(e) = self.tracker_client.exchanges.get_mut(&id).filter(|e| e.step == UdpStage::Resolving) else { return };
        match result {
            Ok(addresses) => {
                if let UdpRequest::Scrape(_) = e.request {
                    // It is waited for no longer than that in all: every address has its share.
                    e.timeout /= u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
                    e.deadline = now + e.timeout;
                }
                e.addresses = addresses;
                e.addresses.reverse(); // taken from the end
                self.try_next_address(now, id, out);
            }
            Err(reason) => self.fail_request(now, id, AnnounceError::NoAddress(reason), out),
        }
    }

    fn try_next_address(&mut self, now: Instant, id: u64, out: &mut Actions) {
        let Some(e) = self.tracker_client.exchanges.get_mut(&id) else { return };
        let Some(to) = e.addresses.pop() else {
            return self.fail_request(now, id, AnnounceError::Timeout, out);
        };
        if e.step != UdpStage::Resolving {
            e.deadline = now + e.timeout;
        }
        self.tracker_client.connections.retain(|_, (_, until)| now < *until);
        match self.tracker_client.connections.get(&to).map(|(connection, _)| *connection) {
            Some(connection) => self.send_request(now, id, to, connection, out),
            None => {
                let transaction = self.tracker_client.rng.u32();
                let packet = connect_request(transaction).to_vec();
                self.send_packet(now, id, UdpStage::Connecting { to, transaction }, to, packet, out);
            }
        }
    }

    fn send_request(&mut self, now: Instant, id: u64, to: SocketAddr, connection: u64, out: &mut Actions) {
        let transaction = self.tracker_client.rng.u32();
        let Some(e) = self.tracker_client.exchanges.get(&id) else { return };
        let packet = e.request.packet(connection, transaction, &e.path_and_query);
        self.send_packet(now, id, UdpStage::Asking { to, transaction }, to, packet, out);
    }

    fn send_packet(&mut self, now: Instant, id: u64, step: UdpStage, to: SocketAddr, packet: Vec<u8>, out: &mut Actions) {
        let Some(e) = self.tracker_client.exchanges.get_mut(&id) else { return };
        e.step = step;
        e.packet.clone_from(&packet);
        e.resends = 0;
        e.resend_at = now + limits::UDP_RESEND;
        out.push(Action::Datagram { to, bytes: packet });
        self.arm_udp();
    }

    /// A datagram came. What is not for us is passed over.
    pub fn on_datagram(&mut self, now: Instant, from: SocketAddr, packet: &[u8], out: &mut Actions) {
        if self.on_dht_datagram(now, from, packet, out) {
            return;
        }
        let Some(transaction) = transaction_of(packet) else { return };
        let asked = |e: &UdpTransaction| match e.step {
            UdpStage::Resolving => false,
            UdpStage::Connecting { to, transaction: t } | UdpStage::Asking { to, transaction: t } => {
                to == from && t == transaction
            }
        };
        let Some((&id, e)) = self.tracker_client.exchanges.iter().find(|(_, e)| asked(e)) else { return };
        match e.step {
            UdpStage::Resolving => {}
            UdpStage::Connecting { to, transaction } => match parse_connect(packet, transaction) {
                Ok(connection) => {
                    self.tracker_client.connections.insert(to, (connection, now + limits::UDP_CONNECTION));
                    self.send_request(now, id, to, connection, out);
                }
                Err(error) => self.on_bad_packet(now, id, error, out),
            },
            UdpStage::Asking { to, transaction } => match e.request.read(packet, transaction, to.is_ipv6()) {
                Ok(UdpResponse::Announce(reply)) => self.on_announced(now, id, Ok(reply), out),
                Ok(UdpResponse::Scrape(counts)) => self.on_scraped(now, id, Ok(counts), out),
                Err(error) => {
                    // The connection id may have run out, or belong to a tracker that was restarted.
                    self.tracker_client.connections.remove(&to);
                    self.on_bad_packet(now, id, error, out);
                }
            },
        }
    }

    /// Only the tracker's own no ends a conversation: anybody can forge a broken packet.
    fn on_bad_packet(&mut self, now: Instant, id: u64, error: PacketError, out: &mut Actions) {
        if let PacketError::Refused(reason) = error {
            self.fail_request(now, id, AnnounceError::Failure { reason, retry_in: None }, out);
        }
    }

    fn arm_udp(&mut self) {
        if let Some(at) = self.tracker_client.next_deadline() {
            self.timers.arm(Timer::UdpTracker, at);
        }
    }

    pub(super) fn on_udp_deadline(&mut self, now: Instant, out: &mut Actions) {
        for id in self.tracker_client.exchanges.keys().copied().collect::<Vec<_>>() {
            let Some(e) = self.tracker_client.exchanges.get_mut(&id) else { continue };
            if now >= e.deadline {
                match e.step {
                    UdpStage::Resolving => self.fail_request(now, id, AnnounceError::Timeout, out),
                    _ => self.try_next_address(now, id, out),
                }
            } else if now >= e.resend_at {
                e.resends += 1;
                e.resend_at = now + limits::UDP_RESEND * 2u32.saturating_pow(e.resends.min(8));
                if let UdpStage::Connecting { to, .. } | UdpStage::Asking { to, .. } = e.step {
                    out.push(Action::Datagram { to, bytes: e.packet.clone() });
                }
            }
        }
        self.arm_udp();
    }
}
