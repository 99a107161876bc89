//! The tracker client: announces and scrapes over HTTP, which the caller's blocking workers send, and over
//! UDP (BEP 15, 41, 48).
//!
//! ```text
//!   UDP:  Resolving ──address──▶ Connecting ──connection id──▶ Requesting ──▶ answer
//!                                    │  ▲                          │
//!                                    └──┴── sent again after 15 s, 30 s …; at the deadline the next address, or failure
//! ```
//!
//! A datagram is accepted only from the address that the request was sent to, and with the request's
//! transaction id. Every request ends in exactly one [`TrackerOutcome`], unless it is withdrawn.

use super::action::{Action, ScrapeSource};
use super::limits;
use super::timers::Timer;
use super::torrent::{PlannedAnnounce, Torrent};
use super::turn::Turn;
use crate::units::{InfoHash, Instant, Rng, TorrentKey};
use crate::wire::udp_tracker::{
    PacketError, announce_request, connect_request, parse_announce, parse_connect, parse_scrape,
    scrape_request, transaction_of,
};
use crate::wire::{
    AnnounceError, AnnounceEvent, AnnounceReply, AnnounceRequest, Scheme, SwarmCounts, UrlParts, scrape_url,
    url_parts,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// The kind of a request to a tracker.
#[derive(Debug)]
enum RequestKind {
    /// An announce.
    Announce(PlannedAnnounce),
    /// A scrape, which times out at `deadline`.
    Scrape { source: ScrapeSource, deadline: Instant },
}

/// An unanswered request.
#[derive(Debug)]
struct PendingRequest {
    torrent: TorrentKey,
    kind: RequestKind,
}

impl PendingRequest {
    fn is_announce(&self, key: TorrentKey, event: AnnounceEvent) -> bool {
        self.torrent == key
            && matches!(&self.kind, RequestKind::Announce(announce) if announce.event == event)
    }
}

/// The content of a request over UDP.
#[derive(Debug)]
enum UdpRequest {
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
struct UdpTransaction {
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

/// The outcome of a request.
#[derive(Debug)]
pub enum TrackerOutcome {
    /// An announce was answered, refused or timed out.
    Announced {
        /// The torrent.
        torrent: TorrentKey,
        /// The announce.
        announce: PlannedAnnounce,
        /// The reply, or the reason why there is none.
        result: Result<AnnounceReply, AnnounceError>,
    },
    /// A scrape was answered, refused or timed out.
    Scraped {
        /// The torrent.
        torrent: TorrentKey,
        /// The tracker, or the DHT.
        source: ScrapeSource,
        /// The counts, or the reason why there are none.
        result: Result<SwarmCounts, AnnounceError>,
    },
}

/// The unanswered requests of one engine, and the connection ids of UDP trackers.
#[derive(Debug)]
pub struct TrackerClient {
    pending: BTreeMap<u64, PendingRequest>,
    transactions: BTreeMap<u64, UdpTransaction>,
    /// Connection ids of UDP trackers, and when they expire.
    connection_ids: BTreeMap<SocketAddr, (u64, Instant)>,
    outcomes: VecDeque<TrackerOutcome>,
    /// The `key` of our announces: identifies us to a tracker if our address changes.
    key: u32,
    rng: Rng,
}

impl TrackerClient {
    /// Returns a client without requests. `seed` determines the transaction ids and the `key` of announces.
    pub fn new(seed: u64) -> TrackerClient {
        let mut rng = Rng::new(seed ^ 0x7261_636b_6572_7321);
        TrackerClient {
            pending: BTreeMap::new(),
            transactions: BTreeMap::new(),
            connection_ids: BTreeMap::new(),
            outcomes: VecDeque::new(),
            key: rng.u32(),
            rng,
        }
    }

    /// Returns whether every request has ended.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Removes and returns the oldest outcome.
    pub fn next_outcome(&mut self) -> Option<TrackerOutcome> {
        self.outcomes.pop_front()
    }

    // ---- announces ------------------------------------------------------------------------------------------------

    /// Sends the torrent's announce if one is due, and arms the timer of the next one.
    pub fn announce(&mut self, turn: &mut Turn<'_>, t: &mut Torrent) {
        if let Some(announce) = t.trackers.begin_announce(turn.now) {
            self.send_announce(turn, t, announce);
        }
        arm_announce(turn, t);
    }

    /// Sends `stopped` to every tracker that knows us, after a `completed` that is due or under way.
    pub fn announce_stopped(&mut self, turn: &mut Turn<'_>, t: &mut Torrent) {
        // A tracker that receives `completed` after `stopped` would count us as present.
        if let Some(announce) = t.trackers.begin_completed(turn.now) {
            self.send_announce(turn, t, announce);
        }
        if !self.pending.values().any(|p| p.is_announce(t.key, AnnounceEvent::Completed)) {
            for announce in t.trackers.stop() {
                self.send_announce(turn, t, announce);
            }
        }
        // Other announces are withdrawn: a paused torrent does not dial the peers of their replies.
        let is_periodic = |p: &PendingRequest| {
            p.is_announce(t.key, AnnounceEvent::None) || p.is_announce(t.key, AnnounceEvent::Started)
        };
        let withdrawn: Vec<u64> =
            self.pending.iter().filter(|(_, p)| is_periodic(p)).map(|(id, _)| *id).collect();
        for id in withdrawn {
            self.pending.remove(&id);
            self.transactions.remove(&id);
        }
    }

    /// Replaces a torrent's trackers; a removed tracker that knows us is sent `stopped`.
    pub fn replace(&mut self, turn: &mut Turn<'_>, t: &mut Torrent, tiers: Vec<Vec<String>>) {
        for announce in t.trackers.replace(tiers) {
            self.send_announce(turn, t, announce);
        }
        arm_announce(turn, t);
    }

    fn send_announce(&mut self, turn: &mut Turn<'_>, t: &Torrent, announce: PlannedAnnounce) {
        let stopped = announce.event == AnnounceEvent::Stopped;
        let request = AnnounceRequest {
            info_hash: t.info_hash,
            peer_id: turn.config.peer_id,
            port: turn.config.port,
            uploaded: t.uploaded,
            downloaded: t.downloaded,
            left: t.left(),
            event: announce.event,
            numwant: if stopped { 0 } else { turn.config.policy.numwant },
            key: self.key,
            tracker_id: announce.tracker_id.clone(),
            ipv4: None,
            ipv6: None,
        };
        let timeout = if stopped { limits::STOPPED_TIMEOUT } else { limits::ANNOUNCE_TIMEOUT };
        let id = turn.ids.next();
        let url = announce.url.clone();
        self.pending.insert(id, PendingRequest { torrent: t.key, kind: RequestKind::Announce(announce) });
        match url_parts(&url) {
            Some(parts) if parts.scheme == Scheme::Udp => {
                self.start_transaction(turn, id, &parts, UdpRequest::Announce(request), timeout);
            }
            _ => turn.out.push(Action::Announce { id, url: request.http_url(&url), timeout }),
        }
    }

    /// An announce ended.
    pub fn on_announced(&mut self, id: u64, result: Result<AnnounceReply, AnnounceError>) {
        let Some(RequestKind::Announce(_)) = self.pending.get(&id).map(|p| &p.kind) else { return };
        self.transactions.remove(&id);
        if let Some(PendingRequest { torrent, kind: RequestKind::Announce(announce) }) =
            self.pending.remove(&id)
        {
            self.outcomes.push_back(TrackerOutcome::Announced { torrent, announce, result });
        }
    }

    fn on_failed(&mut self, id: u64, error: AnnounceError) {
        match self.pending.get(&id).map(|p| &p.kind) {
            Some(RequestKind::Announce(_)) => self.on_announced(id, Err(error)),
            Some(RequestKind::Scrape { .. }) => self.on_scraped(id, Err(error)),
            None => {}
        }
    }

    // ---- scrapes --------------------------------------------------------------------------------------------------

    /// Registers a scrape and returns its id. The scrape ends with [`on_scraped`](TrackerClient::on_scraped)
    /// or times out.
    pub fn begin_scrape(&mut self, turn: &mut Turn<'_>, torrent: TorrentKey, source: ScrapeSource) -> u64 {
        let id = turn.ids.next();
        let deadline = turn.now + limits::ANNOUNCE_TIMEOUT;
        self.pending.insert(id, PendingRequest { torrent, kind: RequestKind::Scrape { source, deadline } });
        turn.timers.arm(Timer::Scrape, deadline);
        id
    }

    /// Sends a registered scrape to its tracker.
    pub fn send_scrape(&mut self, turn: &mut Turn<'_>, id: u64, info_hash: InfoHash, url: &str) {
        match url_parts(url) {
            Some(parts) if parts.scheme == Scheme::Udp => {
                self.start_transaction(
                    turn,
                    id,
                    &parts,
                    UdpRequest::Scrape(info_hash),
                    limits::ANNOUNCE_TIMEOUT,
                );
            }
            _ => match scrape_url(url, &info_hash) {
                Some(url) => {
                    turn.out.push(Action::Scrape { id, url, info_hash, timeout: limits::SCRAPE_TIMEOUT });
                }
                None => self.on_scraped(id, Err(AnnounceError::NotScrapable)),
            },
        }
    }

    /// Returns whether a scrape of the torrent is unanswered; only scrapes of source `of` count, if one is
    /// given.
    pub fn is_scraping(&self, key: TorrentKey, of: Option<&ScrapeSource>) -> bool {
        self.scrapes().any(|(_, torrent, source, _)| torrent == key && of.is_none_or(|of| of == source))
    }

    /// A scrape ended.
    pub fn on_scraped(&mut self, id: u64, result: Result<SwarmCounts, AnnounceError>) {
        if let Some((torrent, source)) = self.take_scrape(id) {
            self.outcomes.push_back(TrackerOutcome::Scraped { torrent, source, result });
        }
    }

    /// Ends overdue scrapes with a time-out.
    pub fn on_scrape_deadline(&mut self, turn: &mut Turn<'_>) {
        let overdue: Vec<u64> =
            self.scrapes().filter(|(.., deadline)| *deadline <= turn.now).map(|(id, ..)| id).collect();
        for id in overdue {
            self.on_scraped(id, Err(AnnounceError::Timeout));
        }
        if let Some(deadline) = self.scrapes().map(|(.., deadline)| deadline).min() {
            turn.timers.arm(Timer::Scrape, deadline);
        }
    }

    /// Withdraws the unanswered scrapes of one torrent, or of all torrents.
    pub fn withdraw_scrapes(&mut self, of: Option<TorrentKey>) {
        let withdrawn = self.scrapes().filter(|(_, torrent, ..)| of.is_none_or(|key| key == *torrent));
        for id in withdrawn.map(|(id, ..)| id).collect::<Vec<_>>() {
            self.take_scrape(id);
        }
    }

    fn scrapes(&self) -> impl Iterator<Item = (u64, TorrentKey, &ScrapeSource, Instant)> {
        self.pending.iter().filter_map(|(id, p)| match &p.kind {
            RequestKind::Scrape { source, deadline } => Some((*id, p.torrent, source, *deadline)),
            RequestKind::Announce(_) => None,
        })
    }

    fn take_scrape(&mut self, id: u64) -> Option<(TorrentKey, ScrapeSource)> {
        let RequestKind::Scrape { .. } = self.pending.get(&id)?.kind else { return None };
        self.transactions.remove(&id);
        match self.pending.remove(&id)? {
            PendingRequest { torrent, kind: RequestKind::Scrape { source, .. } } => Some((torrent, source)),
            PendingRequest { kind: RequestKind::Announce(_), .. } => None,
        }
    }

    // ---- UDP ------------------------------------------------------------------------------------------------------

    /// Begins a transaction with a UDP tracker; `timeout` applies to each of its addresses.
    fn start_transaction(
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
        let Some(t) = self.transactions.get(&id) else { return };
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

/// Arms the timer of a torrent's next announce.
pub(super) fn arm_announce(turn: &mut Turn<'_>, t: &Torrent) {
    let next = t.trackers.next_at();
    if t.running && next < Instant::NEVER {
        turn.timers.arm(Timer::Announce(t.key), next.max(turn.now));
    }
}
