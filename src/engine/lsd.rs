//! The local network: which torrents are called out there and when, and what is made of the calls of others (BEP 14).
//!
//! ```text
//!   a torrent runs ──500 ms──▶ called ──5 min──▶ called again …        as many in one packet as fit, both families
//! ```
//!
//! A private torrent is neither called out nor looked for (BEP 27). Nobody answers a call: whoever hears one that names a torrent of his
//! dials the caller, so one of two neighbours is enough to bring both together, however long ago the other one called. Calls are spaced
//! as BEP 14 wants it, the longest waiting torrents first. Our own packets come back to us and are known by their cookie.

use super::action::{Action, Actions};
use super::engine::Engine;
use super::limits;
use super::timers::Timer;
use super::torrent::Torrent;
use crate::units::{InfoHash, Instant, Origin, Rng, TorrentKey};
use crate::wire::lsd::{Group, HASHES_PER_ANNOUNCE, parse_announce, write_announce};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What is remembered of calls, ours and those of others.
#[derive(Debug)]
pub(super) struct Lsd {
    cookie: u64,
    /// When each torrent was called out last.
    called: BTreeMap<TorrentKey, Instant>,
    /// Every call moves this a step into the future; [`limits::LSD_BURST`] steps are free.
    paid_until: Instant,
    /// Addresses taken since then.
    learned: (usize, Instant),
}

impl Lsd {
    pub(super) fn new(seed: u64) -> Lsd {
        let cookie = Rng::new(seed ^ 0x6c6f_6361_6c21).u64();
        Lsd { cookie, called: BTreeMap::new(), paid_until: Instant::ZERO, learned: (0, Instant::ZERO) }
    }

    /// When the next call may go out.
    fn may_call(&self) -> Instant {
        let free = limits::LSD_SPACING * (limits::LSD_BURST - 1);
        Instant::ZERO + self.paid_until.since(Instant::ZERO).saturating_sub(free)
    }

    /// Whether another address may be taken.
    fn has_room(&mut self, now: Instant) -> bool {
        if now.since(self.learned.1) >= limits::LSD_INTERVAL {
            self.learned = (0, now);
        }
        self.learned.0 < limits::LSD_PEERS_PER_INTERVAL
    }
}

fn is_open_here(t: &Torrent) -> bool {
    t.running && t.allows(Origin::Lsd)
}

impl Engine {
    /// A torrent has begun: it is called out soon.
    pub(super) fn arm_lsd(&mut self, now: Instant) {
        if self.config.lsd && self.config.port != 0 {
            self.timers.arm(Timer::Lsd, now + limits::LSD_FIRST_DELAY);
        }
    }

    /// Calls out every torrent that is due.
    pub(super) fn call(&mut self, now: Instant, out: &mut Actions) {
        let Lsd { called, .. } = &mut self.local;
        called.retain(|key, _| self.torrents.get(*key).is_some_and(is_open_here));
        let due_at = |key| called.get(&key).map_or(Instant::ZERO, |at| *at + limits::LSD_INTERVAL);
        let open = self.torrents.iter().filter(|(_, t)| is_open_here(t));
        let mut due: Vec<(Instant, TorrentKey, InfoHash)> = open.map(|(key, t)| (due_at(key), key, t.info_hash)).collect();
        due.sort_unstable();
        let mut rest = &due[..];
        while rest.first().is_some_and(|(at, ..)| *at <= now) && self.local.may_call() <= now {
            let ready = rest.iter().take(HASHES_PER_ANNOUNCE).take_while(|(at, ..)| *at <= now).count();
            let (packet, later) = rest.split_at(ready);
            self.send_lsd_announce(now, packet, out);
            rest = later;
        }
        let next = rest.first().map(|(at, ..)| (*at).max(self.local.may_call()));
        let next = next.or_else(|| self.local.called.values().min().map(|at| *at + limits::LSD_INTERVAL));
        if let Some(next) = next {
            self.timers.arm(Timer::Lsd, next);
        }
    }

    fn send_lsd_announce(&mut self, now: Instant, torrents: &[(Instant, TorrentKey, InfoHash)], out: &mut Actions) {
        let hashes: Vec<InfoHash> = torrents.iter().map(|(.., hash)| *hash).collect();
        for group in Group::BOTH {
            out.push(Action::Multicast { group, bytes: write_announce(group, self.config.port, &hashes, self.local.cookie) });
        }
        self.local.called.extend(torrents.iter().map(|(_, key, _)| (*key, now)));
        self.local.paid_until = self.local.paid_until.max(now) + limits::LSD_SPACING;
    }

    /// A datagram came to one of the groups. Whoever looks for a torrent that we have is dialed.
    pub fn on_multicast(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        let Some(call) = parse_announce(packet).filter(|call| self.config.lsd && call.cookie != Some(self.local.cookie)) else {
            return;
        };
        // The zone of a link-local address stays with it: without it nobody is reached there.
        let mut addr = from;
        addr.set_port(call.port);
        for hash in &call.hashes {
            let Some(key) = self.by_hash.get(hash).copied() else { continue };
            let known = |engine: &Engine| engine.torrents.get(key).filter(|t| is_open_here(t)).map(|t| t.peer_list.len());
            let Some(before) = known(self).filter(|_| self.local.has_room(now)) else { continue };
            self.learn_peers(now, key, &[addr], Origin::Lsd);
            self.local.learned.0 += known(self).unwrap_or(0).saturating_sub(before);
        }
    }
}
