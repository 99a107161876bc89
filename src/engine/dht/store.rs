//! Peers that other nodes announced to us, by torrent, for a limited time (BEP 5, hazard D7), and their
//! number (BEP 33).
//!
//! Three limits: torrents, peers per torrent, and peers in total. A torrent above the limit replaces the one
//! with the fewest peers; a peer above the limit replaces the one with the oldest announce.

use crate::engine::limits;
use crate::units::{InfoHash, Instant, Rng};
use crate::wire::bloom::Filter;
use crate::wire::compact::{is_local, may_name};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// An announced peer.
#[derive(Clone, Copy, Debug)]
struct Stored {
    peer: SocketAddr,
    seed: bool,
    at: Instant,
}

impl Stored {
    fn is_fresh(&self, now: Instant) -> bool {
        now.since(self.at) < limits::DHT_PEER_EXPIRES
    }

    /// Returns whether `peer` replaces this entry: each host has one entry, but a local address may run
    /// several clients (BEP 33).
    fn is_of(&self, peer: SocketAddr) -> bool {
        self.peer.ip() == peer.ip() && (self.peer.port() == peer.port() || !is_local(peer.ip()))
    }
}

/// Announced peers of a torrent, oldest first.
#[derive(Debug, Default)]
struct Announced {
    peers: Vec<Stored>,
}

/// The peer store.
#[derive(Debug)]
pub(super) struct PeerStore {
    torrents: BTreeMap<InfoHash, Announced>,
    peers: usize,
    next_sweep: Instant,
}

impl PeerStore {
    pub(super) fn new() -> PeerStore {
        PeerStore { torrents: BTreeMap::new(), peers: 0, next_sweep: Instant::NEVER }
    }

    /// Stores an announce; `seed` means that the peer is complete.
    pub(super) fn announce(&mut self, now: Instant, info_hash: InfoHash, peer: SocketAddr, seed: bool) {
        if !self.torrents.contains_key(&info_hash) && self.torrents.len() >= limits::DHT_STORED_TORRENTS {
            self.drop_smallest();
        }
        let in_all = self.peers;
        let announced = &mut self.torrents.entry(info_hash).or_default().peers;
        let before = announced.len();
        announced.retain(|known| !known.is_of(peer));
        if announced.len() >= limits::DHT_STORED_PEERS {
            announced.remove(0);
        }
        announced.push(Stored { peer, seed, at: now });
        self.peers = in_all - before + announced.len();
        if self.peers > limits::DHT_STORED_IN_ALL {
            self.drop_smallest();
        }
        self.next_sweep = self.next_sweep.min(now + limits::DHT_PEER_EXPIRES);
    }

    fn drop_smallest(&mut self) {
        let smallest =
            self.torrents.iter().min_by_key(|(_, a)| (a.peers.len(), a.peers.last().map(|p| p.at)));
        if let Some(announced) = smallest.map(|(hash, _)| *hash).and_then(|hash| self.torrents.remove(&hash))
        {
            self.peers -= announced.peers.len();
        }
    }

    /// Returns up to `most` random peers of the torrent, of the requester's address family.
    pub(super) fn peers(
        &self,
        now: Instant,
        info_hash: InfoHash,
        asker: IpAddr,
        most: usize,
        rng: &mut Rng,
    ) -> Vec<SocketAddr> {
        let Some(announced) = self.torrents.get(&info_hash) else { return Vec::new() };
        let fit = |p: &&Stored| {
            p.peer.is_ipv6() == asker.is_ipv6() && may_name(asker, p.peer.ip()) && p.is_fresh(now)
        };
        let mut peers: Vec<SocketAddr> = announced.peers.iter().filter(fit).map(|p| p.peer).collect();
        rng.shuffle(&mut peers);
        peers.truncate(most);
        peers
    }

    /// Returns Bloom filters of the torrent's seeds and of its other peers; `None` if no peer announced it.
    pub(super) fn filters(&self, now: Instant, info_hash: InfoHash) -> Option<[Filter; 2]> {
        let announced = self.torrents.get(&info_hash)?;
        let mut filters = [Filter::default(), Filter::default()];
        for stored in announced.peers.iter().filter(|p| p.is_fresh(now)) {
            filters[usize::from(!stored.seed)].insert(stored.peer.ip());
        }
        Some(filters)
    }

    /// Returns when a peer may expire.
    pub(super) fn next_sweep(&self) -> Instant {
        self.next_sweep
    }

    /// Removes expired peers.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut oldest = Instant::NEVER;
        self.peers = 0;
        self.torrents.retain(|_, announced| {
            announced.peers.retain(|p| p.is_fresh(now));
            self.peers += announced.peers.len();
            oldest = announced.peers.first().map_or(oldest, |p| oldest.min(p.at));
            !announced.peers.is_empty()
        });
        self.next_sweep = (oldest + limits::DHT_PEER_EXPIRES).max(now + limits::DHT_SWEEP);
        if self.torrents.is_empty() {
            self.next_sweep = Instant::NEVER;
        }
    }

    /// Returns the numbers of torrents and of peers.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.torrents.len(), self.peers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    fn hash(n: u32) -> InfoHash {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash(hash)
    }

    fn peer(n: u32) -> SocketAddr {
        SocketAddr::from(((0x0800_0000 + n).to_be_bytes(), 6881))
    }

    fn stored(store: &PeerStore, now: Instant, n: u32) -> Vec<SocketAddr> {
        store.peers(now, hash(n), peer(0).ip(), 1000, &mut Rng::new(1))
    }

    #[test]
    fn d7_torrents_and_peers_have_limits() {
        let mut store = PeerStore::new();
        for n in 0..2 * limits::DHT_STORED_PEERS as u32 {
            store.announce(at(1), hash(0), peer(n), false);
        }
        assert_eq!(store.len(), (1, limits::DHT_STORED_PEERS));
        for n in 1..2 * limits::DHT_STORED_TORRENTS as u32 {
            store.announce(at(2), hash(n), peer(n), false);
        }
        assert_eq!(store.len().0, limits::DHT_STORED_TORRENTS);
        assert_eq!(
            stored(&store, at(3), 0).len(),
            limits::DHT_STORED_PEERS,
            "a flood does not displace a popular torrent"
        );
        for n in 0..400 * limits::DHT_STORED_PEERS as u32 {
            store.announce(at(3), hash(n % 400), peer(n / 400), false);
        }
        assert!(store.len().1 <= limits::DHT_STORED_IN_ALL, "{:?}", store.len());
        assert_eq!(store.len().1, store.torrents.values().map(|a| a.peers.len()).sum::<usize>());
    }

    #[test]
    fn a_peer_is_returned_for_half_an_hour_after_its_last_announce() {
        let mut store = PeerStore::new();
        store.announce(at(0), hash(1), peer(1), false);
        store.announce(at(600), hash(1), peer(2), false);
        store.announce(at(900), hash(1), peer(1), false);
        store.announce(at(900), hash(2), "[2001:db8::1]:7".parse().unwrap(), true);
        assert_eq!(store.len(), (2, 3));
        assert_eq!(stored(&store, at(2399), 1).len(), 2);
        assert_eq!(stored(&store, at(2400), 1), [peer(1)]);
        assert_eq!(stored(&store, at(2700), 1), []);
        assert_eq!(
            store.peers(at(901), hash(2), "2001:db8::2".parse().unwrap(), 9, &mut Rng::new(1)).len(),
            1
        );
        assert!(stored(&store, at(901), 2).is_empty());
        while store.next_sweep() < Instant::NEVER {
            let now = store.next_sweep();
            store.sweep(now);
        }
        assert_eq!(store.len(), (0, 0));
    }

    #[test]
    fn a_host_is_stored_once_with_its_latest_state() {
        let mut store = PeerStore::new();
        store.announce(at(0), hash(1), peer(1), false);
        store.announce(at(1), hash(1), SocketAddr::new(peer(1).ip(), 7), true);
        store.announce(at(1), hash(1), peer(2), false);
        assert_eq!(store.len(), (1, 2));
        let counted = |now| store.filters(now, hash(1)).unwrap().map(|f| f.estimate().round());
        assert_eq!(counted(at(2)), [1.0, 1.0]);
        assert_eq!(counted(at(1801)), [0.0, 0.0], "expired");
        assert_eq!(store.filters(at(2), hash(2)), None);
    }

    #[test]
    fn private_addresses_are_returned_only_within_their_network() {
        let mut store = PeerStore::new();
        store.announce(at(0), hash(1), "192.168.1.5:7".parse().unwrap(), false);
        store.announce(at(0), hash(1), "192.168.1.5:8".parse().unwrap(), false);
        assert!(stored(&store, at(1), 1).is_empty());
        assert_eq!(store.peers(at(1), hash(1), "192.168.1.9".parse().unwrap(), 9, &mut Rng::new(1)).len(), 2);
    }
}
