//! Local service discovery (BEP 14): which torrents are announced to the local network and when, and which
//! announcements of other clients are accepted.
//!
//! ```text
//!   a torrent runs ──500 ms──▶ announced ──5 min──▶ announced again …      as many in one packet as fit, over IPv4 and IPv6
//! ```
//!
//! A private torrent is not announced, and announcements of it are ignored (BEP 27). An announcement is not
//! answered: a client that has one of its torrents dials the sender, so one announcement connects both
//! clients. Announcements are spaced as BEP 14 demands, the longest waiting torrents first. The multicast
//! group delivers our own packets to us as well; their cookie identifies them.

use super::action::Action;
use super::limits;
use super::timers::Timer;
use super::torrent::Torrent;
use super::turn::Turn;
use crate::units::{InfoHash, Instant, Origin, Rng, SlotMap, TorrentKey};
use crate::wire::lsd::{Group, HASHES_PER_ANNOUNCE, parse_announce, write_announce};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// State of the announcements, sent and received.
#[derive(Debug)]
pub struct Lsd {
    cookie: u64,
    /// The time of each torrent's last announcement.
    announced: BTreeMap<TorrentKey, Instant>,
    /// Virtual clock of the rate limit (GCRA): each packet moves it a step ahead; [`limits::LSD_BURST`] steps
    /// are free.
    paid_until: Instant,
    /// Addresses accepted since `accepted_since`.
    accepted: usize,
    /// Beginning of the current interval.
    accepted_since: Instant,
}

/// An announcement of another client.
pub struct Announcement {
    /// The address where the client accepts connections.
    pub addr: SocketAddr,
    /// The announced torrents.
    pub hashes: Vec<InfoHash>,
}

impl Lsd {
    /// Returns the state without announcements; `seed` determines the cookie.
    pub fn new(seed: u64) -> Lsd {
        let cookie = Rng::new(seed ^ 0x6c6f_6361_6c21).u64();
        Lsd {
            cookie,
            announced: BTreeMap::new(),
            paid_until: Instant::ZERO,
            accepted: 0,
            accepted_since: Instant::ZERO,
        }
    }

    /// Announces every torrent that is due, and arms the timer of the next announcement.
    pub fn announce(&mut self, turn: &mut Turn<'_>, torrents: &SlotMap<TorrentKey, Torrent>) {
        self.announced.retain(|key, _| torrents.get(*key).is_some_and(is_announced));
        let due_at = |key| self.announced.get(&key).map_or(Instant::ZERO, |at| *at + limits::LSD_INTERVAL);
        let announceable = torrents.iter().filter(|(_, t)| is_announced(t));
        let mut due: Vec<(Instant, TorrentKey, InfoHash)> =
            announceable.map(|(key, t)| (due_at(key), key, t.info_hash)).collect();
        due.sort_unstable();
        let mut rest = &due[..];
        while rest.first().is_some_and(|(at, ..)| *at <= turn.now) && self.may_send_at() <= turn.now {
            let ready = rest.iter().take(HASHES_PER_ANNOUNCE).take_while(|(at, ..)| *at <= turn.now).count();
            let (packet, later) = rest.split_at(ready);
            self.send(turn, packet);
            rest = later;
        }
        let next = rest.first().map(|(at, ..)| (*at).max(self.may_send_at()));
        let next = next.or_else(|| self.announced.values().min().map(|at| *at + limits::LSD_INTERVAL));
        if let Some(next) = next {
            turn.timers.arm(Timer::Lsd, next);
        }
    }

    fn send(&mut self, turn: &mut Turn<'_>, torrents: &[(Instant, TorrentKey, InfoHash)]) {
        let hashes: Vec<InfoHash> = torrents.iter().map(|(.., hash)| *hash).collect();
        for group in Group::BOTH {
            let bytes = write_announce(group, turn.config.port, &hashes, self.cookie);
            turn.out.push(Action::Multicast { group, bytes });
        }
        self.announced.extend(torrents.iter().map(|(_, key, _)| (*key, turn.now)));
        self.paid_until = self.paid_until.max(turn.now) + limits::LSD_SPACING;
    }

    /// Returns when the next packet may be sent.
    fn may_send_at(&self) -> Instant {
        let free = limits::LSD_SPACING * (limits::LSD_BURST - 1);
        Instant::ZERO + self.paid_until.since(Instant::ZERO).saturating_sub(free)
    }

    /// Parses a packet that arrived at one of the groups; `None` if it is not an announcement of another
    /// client.
    pub fn parse(&self, from: SocketAddr, packet: &[u8]) -> Option<Announcement> {
        let theirs = parse_announce(packet).filter(|theirs| theirs.cookie != Some(self.cookie))?;
        // A link-local address needs the zone of the sender's address: replace the port only.
        let mut addr = from;
        addr.set_port(theirs.port);
        Some(Announcement { addr, hashes: theirs.hashes })
    }

    /// Returns whether another announced address may be accepted in this interval.
    pub fn has_room(&mut self, now: Instant) -> bool {
        if now.since(self.accepted_since) >= limits::LSD_INTERVAL {
            self.accepted = 0;
            self.accepted_since = now;
        }
        self.accepted < limits::LSD_PEERS_PER_INTERVAL
    }

    /// Counts accepted addresses.
    pub fn count_accepted(&mut self, addresses: usize) {
        self.accepted += addresses;
    }
}

/// Returns whether the torrent takes part in local service discovery.
pub fn is_announced(t: &Torrent) -> bool {
    t.running && t.allows(Origin::Lsd)
}
