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

mod udp;

use super::action::{Action, ScrapeSource};
use super::limits;
use super::timers::Timer;
use super::torrent::{PlannedAnnounce, Torrent, TrackerList};
use super::turn::Turn;
use crate::units::{InfoHash, Instant, Rng, TorrentKey};
use crate::wire::{
    AnnounceError, AnnounceEvent, AnnounceReply, AnnounceRequest, Scheme, SwarmCounts, scrape_url, url_parts,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;
use udp::{UdpRequest, UdpTransaction};

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
    info_hash: InfoHash,
    kind: RequestKind,
}

/// The figures of a torrent that an announce reports.
#[derive(Clone, Copy, Debug)]
struct AnnounceFigures {
    torrent: TorrentKey,
    info_hash: InfoHash,
    uploaded: u64,
    downloaded: u64,
    left: u64,
}

impl AnnounceFigures {
    fn of(t: &Torrent) -> AnnounceFigures {
        let (downloaded, uploaded) = t.since_started();
        AnnounceFigures { torrent: t.key, info_hash: t.info_hash, uploaded, downloaded, left: t.left() }
    }
}

/// A removed torrent whose last announces are under way.
#[derive(Debug)]
struct RemovedTorrent {
    figures: AnnounceFigures,
    trackers: TrackerList,
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
    /// Removed torrents whose last announces are under way.
    removed: BTreeMap<TorrentKey, RemovedTorrent>,
    /// When the shutdown began, which limits the wait for trackers.
    ending_since: Option<Instant>,
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
            removed: BTreeMap::new(),
            ending_since: None,
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
        let is_busy = |url: &str| self.is_busy(&t.info_hash, url);
        let announce = t.trackers.begin_announce(turn.now, t.is_partial_seed(), is_busy);
        let is_held = announce.is_none() && t.trackers.next_at() <= turn.now;
        if let Some(announce) = announce {
            self.send_announce(turn, AnnounceFigures::of(t), announce);
        }
        if is_held {
            turn.timers.arm(Timer::Announce(t.key), turn.now + limits::ANNOUNCE_HELD);
        } else {
            arm_announce(turn, t);
        }
    }

    /// Returns whether an announce of this torrent is under way to this tracker.
    fn is_busy(&self, info_hash: &InfoHash, url: &str) -> bool {
        let is_to = |p: &PendingRequest| {
            p.info_hash == *info_hash && matches!(&p.kind, RequestKind::Announce(to) if *to.url == *url)
        };
        self.pending.values().any(is_to)
    }

    /// Sends `stopped` to every tracker that may list us, behind the announces that are due or under way.
    pub fn announce_stopped(&mut self, turn: &mut Turn<'_>, t: &mut Torrent) {
        t.trackers.stop();
        self.send_last(turn, t);
    }

    /// Sends the announces that are owed to trackers which the torrent leaves, as far as no other announce is
    /// under way to them.
    pub fn send_last(&mut self, turn: &mut Turn<'_>, t: &mut Torrent) {
        for announce in t.trackers.begin_last() {
            self.send_announce(turn, AnnounceFigures::of(t), announce);
        }
    }

    /// Takes over the last announces of a torrent that was stopped and is removed.
    pub fn adopt(&mut self, turn: &mut Turn<'_>, mut t: Torrent) {
        t.trackers.on_completed_saved(false);
        self.send_last(turn, &mut t);
        if !t.trackers.is_over() {
            let figures = AnnounceFigures::of(&t);
            self.removed.insert(t.key, RemovedTorrent { figures, trackers: t.trackers });
        }
    }

    /// Handles the result of an announce of a removed torrent.
    pub fn on_removed_result(
        &mut self,
        turn: &mut Turn<'_>,
        torrent: TorrentKey,
        announce: &PlannedAnnounce,
        result: &Result<AnnounceReply, AnnounceError>,
    ) {
        let Some(mut removed) = self.removed.remove(&torrent) else { return };
        removed.trackers.on_result(turn.now, announce, result);
        for announce in removed.trackers.begin_last() {
            self.send_announce(turn, removed.figures, announce);
        }
        if !removed.trackers.is_over() {
            self.removed.insert(torrent, removed);
        }
    }

    /// Begins the shutdown: a tracker that answered is waited for at most [`limits::STOPPED_TIMEOUT`] from now
    /// on, any other at most [`limits::UNANSWERED_STOPPED_TIMEOUT`].
    pub fn begin_end(&mut self, turn: &mut Turn<'_>) {
        self.ending_since = Some(turn.now);
        self.arm_end(turn);
    }

    fn arm_end(&self, turn: &mut Turn<'_>) {
        if let Some(at) = self.announces().map(|(_, announce)| self.waited_for(announce)).min() {
            if at < Instant::NEVER {
                turn.timers.arm(Timer::TrackerEnd, at);
            }
        }
    }

    fn announces(&self) -> impl Iterator<Item = (u64, &PlannedAnnounce)> {
        self.pending.iter().filter_map(|(id, p)| match &p.kind {
            RequestKind::Announce(announce) => Some((*id, announce)),
            RequestKind::Scrape { .. } => None,
        })
    }

    /// Returns until when the shutdown waits for an announce; [`Instant::NEVER`] before the shutdown.
    fn waited_for(&self, announce: &PlannedAnnounce) -> Instant {
        self.ending_since.map_or(Instant::NEVER, |since| since + last_timeout(announce))
    }

    /// Gives up the announces that the shutdown waits for no longer.
    pub fn on_end_deadline(&mut self, turn: &mut Turn<'_>) {
        let is_overdue = |announce: &PlannedAnnounce| self.waited_for(announce) <= turn.now;
        let overdue: Vec<u64> =
            self.announces().filter(|(_, announce)| is_overdue(announce)).map(|(id, _)| id).collect();
        for id in overdue {
            self.on_announced(id, Err(AnnounceError::Timeout));
        }
        self.arm_end(turn);
    }

    /// Replaces a torrent's trackers; a removed tracker that may list us is sent `stopped`.
    pub fn replace(&mut self, turn: &mut Turn<'_>, t: &mut Torrent, tiers: Vec<Vec<String>>) {
        t.trackers.replace(tiers);
        self.send_last(turn, t);
        arm_announce(turn, t);
    }

    fn send_announce(&mut self, turn: &mut Turn<'_>, figures: AnnounceFigures, announce: PlannedAnnounce) {
        let stopped = announce.event == AnnounceEvent::Stopped;
        let AnnounceFigures { torrent, info_hash, uploaded, downloaded, left } = figures;
        let request = AnnounceRequest {
            info_hash,
            peer_id: turn.config.peer_id,
            // Most trackers list the IPv4 address; UDP trackers are told the port of their own family.
            port: announced_port(turn, false),
            uploaded,
            downloaded,
            left,
            event: announce.event,
            numwant: if stopped { 0 } else { turn.config.policy.numwant },
            key: self.key,
            tracker_id: announce.tracker_id.clone(),
            encryption: turn.config.encryption.asks_trackers(),
            ipv4: None,
            ipv6: None,
        };
        let timeout = if stopped { last_timeout(&announce) } else { limits::ANNOUNCE_TIMEOUT };
        let timeout = timeout.min(self.waited_for(&announce).since(turn.now));
        let id = turn.ids.next();
        let url = announce.url.clone();
        self.pending.insert(id, PendingRequest { torrent, info_hash, kind: RequestKind::Announce(announce) });
        if timeout.is_zero() {
            return self.on_announced(id, Err(AnnounceError::Timeout));
        }
        match url_parts(&url) {
            Some(parts) if parts.scheme == Scheme::Udp => {
                self.start_transaction(turn, id, &parts, UdpRequest::Announce(request), timeout);
            }
            _ => turn.out.push(Action::Announce { id, url: request.http_url(&url), timeout }),
        }
        self.arm_end(turn);
    }

    /// An announce ended.
    pub fn on_announced(&mut self, id: u64, result: Result<AnnounceReply, AnnounceError>) {
        let Some(RequestKind::Announce(_)) = self.pending.get(&id).map(|p| &p.kind) else { return };
        self.transactions.remove(&id);
        if let Some(PendingRequest { torrent, kind: RequestKind::Announce(announce), .. }) =
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
    pub fn begin_scrape(
        &mut self,
        turn: &mut Turn<'_>,
        torrent: TorrentKey,
        info_hash: InfoHash,
        source: ScrapeSource,
    ) -> u64 {
        let id = turn.ids.next();
        let deadline = turn.now + limits::ANNOUNCE_TIMEOUT;
        let kind = RequestKind::Scrape { source, deadline };
        self.pending.insert(id, PendingRequest { torrent, info_hash, kind });
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
            PendingRequest { torrent, kind: RequestKind::Scrape { source, .. }, .. } => {
                Some((torrent, source))
            }
            PendingRequest { kind: RequestKind::Announce(_), .. } => None,
        }
    }
}

/// Returns the port to announce to trackers. Many of them refuse port 0; a peer that listens nowhere says 1, where no
/// client listens.
fn announced_port(turn: &Turn<'_>, v6: bool) -> u16 {
    turn.public_port(v6).max(1)
}

/// Returns the time for a `stopped`, and for the whole shutdown.
fn last_timeout(announce: &PlannedAnnounce) -> Duration {
    if announce.answered { limits::STOPPED_TIMEOUT } else { limits::UNANSWERED_STOPPED_TIMEOUT }
}

/// Arms the timer of a torrent's next announce.
pub(super) fn arm_announce(turn: &mut Turn<'_>, t: &Torrent) {
    let next = t.trackers.next_at();
    if t.running && next < Instant::NEVER {
        turn.timers.arm(Timer::Announce(t.key), next.max(turn.now));
    }
}
