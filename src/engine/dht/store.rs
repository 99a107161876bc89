//! What others announced to us: peers by torrent, for a while (BEP 5, hazard D7).
//!
//! Bounded three ways: torrents, peers a torrent, peers in all. A torrent that does not fit pushes out the one with the fewest peers; a
//! peer that does not fit pushes out the one that announced longest ago.

use crate::engine::limits;
use crate::units::{InfoHash, Now, Rng};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Peers that announced, oldest first.
#[derive(Debug, Default)]
struct Announced {
    peers: Vec<(SocketAddr, Now)>,
}

/// Everything that was announced to us.
#[derive(Debug)]
pub(super) struct Store {
    torrents: BTreeMap<InfoHash, Announced>,
    peers: usize,
    next_sweep: Now,
}

impl Store {
    pub(super) fn new() -> Store {
        Store { torrents: BTreeMap::new(), peers: 0, next_sweep: Now::NEVER }
    }

    /// `peer` has the torrent, it says.
    pub(super) fn announce(&mut self, now: Now, info_hash: InfoHash, peer: SocketAddr) {
        if !self.torrents.contains_key(&info_hash) && self.torrents.len() >= limits::DHT_STORED_TORRENTS {
            self.drop_smallest();
        }
        let in_all = self.peers;
        let announced = &mut self.torrents.entry(info_hash).or_default().peers;
        let before = announced.len();
        announced.retain(|(known, _)| *known != peer);
        if announced.len() >= limits::DHT_STORED_PEERS {
            announced.remove(0);
        }
        announced.push((peer, now));
        self.peers = in_all - before + announced.len();
        if self.peers > limits::DHT_STORED_IN_ALL {
            self.drop_smallest();
        }
        self.next_sweep = self.next_sweep.min(now + limits::DHT_PEER_EXPIRES);
    }

    fn drop_smallest(&mut self) {
        let smallest = self.torrents.iter().min_by_key(|(_, a)| (a.peers.len(), a.peers.last().map(|(_, at)| *at)));
        if let Some(announced) = smallest.map(|(hash, _)| *hash).and_then(|hash| self.torrents.remove(&hash)) {
            self.peers -= announced.peers.len();
        }
    }

    /// Some of the torrent's peers of one family, in any order.
    pub(super) fn peers(&self, now: Now, info_hash: InfoHash, v6: bool, most: usize, rng: &mut Rng) -> Vec<SocketAddr> {
        let Some(announced) = self.torrents.get(&info_hash) else { return Vec::new() };
        let fresh = |(peer, at): &&(SocketAddr, Now)| peer.is_ipv6() == v6 && now.since(*at) < limits::DHT_PEER_EXPIRES;
        let mut peers: Vec<SocketAddr> = announced.peers.iter().filter(fresh).map(|(peer, _)| *peer).collect();
        rng.shuffle(&mut peers);
        peers.truncate(most);
        peers
    }

    /// When something may have expired.
    pub(super) fn next_sweep(&self) -> Now {
        self.next_sweep
    }

    /// Forgets what expired.
    pub(super) fn sweep(&mut self, now: Now) {
        let mut oldest = Now::NEVER;
        self.peers = 0;
        self.torrents.retain(|_, announced| {
            announced.peers.retain(|(_, at)| now.since(*at) < limits::DHT_PEER_EXPIRES);
            self.peers += announced.peers.len();
            oldest = announced.peers.first().map_or(oldest, |(_, at)| oldest.min(*at));
            !announced.peers.is_empty()
        });
        self.next_sweep = (oldest + limits::DHT_PEER_EXPIRES).max(now + limits::DHT_SWEEP);
        if self.torrents.is_empty() {
            self.next_sweep = Now::NEVER;
        }
    }

    /// Torrents and peers that are kept.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.torrents.len(), self.peers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Now {
        Now::from_micros(s * 1_000_000)
    }

    fn hash(n: u32) -> InfoHash {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash(hash)
    }

    fn peer(n: u32) -> SocketAddr {
        SocketAddr::from(((0x0800_0000 + n).to_be_bytes(), 6881))
    }

    fn told(store: &Store, now: Now, n: u32) -> Vec<SocketAddr> {
        store.peers(now, hash(n), false, 1000, &mut Rng::new(1))
    }

    #[test]
    fn d7_torrents_and_peers_have_limits() {
        let mut store = Store::new();
        for n in 0..2 * limits::DHT_STORED_PEERS as u32 {
            store.announce(at(1), hash(0), peer(n));
        }
        assert_eq!(store.len(), (1, limits::DHT_STORED_PEERS));
        for n in 1..2 * limits::DHT_STORED_TORRENTS as u32 {
            store.announce(at(2), hash(n), peer(n));
        }
        assert_eq!(store.len().0, limits::DHT_STORED_TORRENTS);
        assert_eq!(told(&store, at(3), 0).len(), limits::DHT_STORED_PEERS, "a torrent that many have outlives a flood");
        for n in 0..400 * limits::DHT_STORED_PEERS as u32 {
            store.announce(at(3), hash(n % 400), peer(n / 400));
        }
        assert!(store.len().1 <= limits::DHT_STORED_IN_ALL, "{:?}", store.len());
        assert_eq!(store.len().1, store.torrents.values().map(|a| a.peers.len()).sum());
    }

    #[test]
    fn a_peer_is_told_for_half_an_hour_after_its_last_announce() {
        let mut store = Store::new();
        store.announce(at(0), hash(1), peer(1));
        store.announce(at(600), hash(1), peer(2));
        store.announce(at(900), hash(1), peer(1));
        store.announce(at(900), hash(2), "[2001:db8::1]:7".parse().unwrap());
        assert_eq!(store.len(), (2, 3));
        assert_eq!(told(&store, at(2399), 1).len(), 2);
        assert_eq!(told(&store, at(2400), 1), [peer(1)]);
        assert_eq!(told(&store, at(2700), 1), []);
        assert_eq!(store.peers(at(901), hash(2), true, 9, &mut Rng::new(1)).len(), 1);
        assert!(told(&store, at(901), 2).is_empty());
        while store.next_sweep() < Now::NEVER {
            let now = store.next_sweep();
            store.sweep(now);
        }
        assert_eq!(store.len(), (0, 0));
    }
}
