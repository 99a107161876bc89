//! The routing table: nodes in buckets by the number of leading bits that their id shares with ours (BEP 5).
//!
//! ```text
//!   bucket 0   ids that differ from ours in the first bit     8 nodes, 8 spares
//!   bucket 1   ids that differ first in the second bit        8 nodes, 8 spares
//!   last one   all closer ids; it splits in two when it is full
//! ```
//!
//! Invariants: every node, spares included, has responded to a query of ours. Each public host has one node,
//! and a bucket has at most [`DHT_NODES_PER_NETWORK`](limits::DHT_NODES_PER_NETWORK) nodes of one network;
//! local addresses are exempt (hazard D5). In a full bucket a new node replaces a bad node, or, if it is
//! secure, a node whose id does not match its address (BEP 42); otherwise it becomes a spare.

use crate::engine::limits;
use crate::units::{Distance, Instant, NodeId, Rng};
use crate::wire::compact::is_local;
use std::net::{IpAddr, SocketAddr};

/// Health of a node (BEP 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// Seen within 15 minutes.
    Good,
    /// Not seen for 15 minutes, or the last query failed.
    Questionable,
    /// Several queries in a row failed.
    Bad,
}

/// A node that has responded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) addr: SocketAddr,
    /// Time of its last response, or of its last query after its first response.
    pub(super) last_seen_at: Instant,
    /// Time of our last ping.
    pinged_at: Instant,
    failures: u8,
}

impl Node {
    pub(super) fn health(&self, now: Instant) -> Health {
        match self.failures {
            limits::DHT_FAILURES.. => Health::Bad,
            0 if now.since(self.last_seen_at) < limits::DHT_QUIET => Health::Good,
            _ => Health::Questionable,
        }
    }

    fn is_secure(&self) -> bool {
        is_secure(self.id, self.addr.ip())
    }

    /// Returns when the node is to be pinged.
    fn due(&self) -> Instant {
        match self.failures {
            0 => (self.last_seen_at + limits::DHT_QUIET).max(self.pinged_at + limits::DHT_TIMEOUT),
            _ => self.pinged_at + limits::DHT_TIMEOUT,
        }
    }
}

/// Returns whether an id matches its address; local addresses are exempt (BEP 42).
pub(super) fn is_secure(id: NodeId, ip: IpAddr) -> bool {
    is_local(ip) || id.is_secure_for(ip)
}

/// Returns whether two addresses are in one /24 (IPv4) or /64 (IPv6), and so probably have one owner.
pub(super) fn same_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3] && !is_local(IpAddr::V4(a)),
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8] && !is_local(IpAddr::V6(a)),
        _ => false,
    }
}

/// Nodes whose ids share the same number of leading bits with ours.
#[derive(Debug, Default)]
struct NodeBucket {
    nodes: Vec<Node>,
    spares: Vec<Node>,
    refreshed_at: Instant,
}

impl NodeBucket {
    /// Fills free places with spares, the latest first.
    fn promote(&mut self) {
        while self.nodes.len() < limits::DHT_K {
            let Some(spare) = self.spares.pop() else { break };
            self.nodes.push(spare);
        }
    }

    fn changed_at(&self) -> Instant {
        self.nodes.iter().map(|n| n.last_seen_at).max().unwrap_or_default().max(self.refreshed_at)
    }
}

/// The routing table of one address family.
#[derive(Debug)]
pub(super) struct RoutingTable {
    own: NodeId,
    buckets: Vec<NodeBucket>,
}

impl RoutingTable {
    pub(super) fn new(now: Instant, own: NodeId) -> RoutingTable {
        RoutingTable { own, buckets: vec![NodeBucket { refreshed_at: now, ..NodeBucket::default() }] }
    }

    /// Rebuilds the table around a new id of ours.
    pub(super) fn set_own_id(&mut self, now: Instant, own: NodeId) {
        let moved = std::mem::replace(self, RoutingTable::new(now, own));
        for node in moved.buckets.into_iter().flat_map(|b| b.nodes.into_iter().chain(b.spares)) {
            self.insert(now, node);
        }
    }

    fn index(&self, id: NodeId) -> usize {
        (self.own.distance(id).common_bits() as usize).min(self.buckets.len() - 1)
    }

    fn iter(&self) -> impl Iterator<Item = &Node> {
        self.buckets.iter().flat_map(|b| &b.nodes)
    }

    /// Handles a response of a node: refreshes or inserts the node.
    pub(super) fn on_response(&mut self, now: Instant, id: NodeId, addr: SocketAddr) {
        if id == self.own {
            return;
        }
        let index = self.index(id);
        let bucket = &mut self.buckets[index];
        let known = bucket.nodes.iter_mut().chain(&mut bucket.spares).find(|n| n.id == id && n.addr == addr);
        if let Some(node) = known {
            node.last_seen_at = now;
            node.failures = 0;
            return;
        }
        // The node at this address has a new id: remove it under the old one.
        for bucket in &mut self.buckets {
            let stale = |n: &Node| n.addr == addr && n.id != id;
            bucket.nodes.retain(|n| !stale(n));
            bucket.spares.retain(|n| !stale(n));
            bucket.promote();
        }
        self.insert(now, Node { id, addr, last_seen_at: now, pinged_at: Instant::ZERO, failures: 0 });
    }

    fn insert(&mut self, now: Instant, node: Node) {
        let same_host =
            |n: &Node| n.id == node.id || (n.addr.ip() == node.addr.ip() && !is_local(node.addr.ip()));
        if self.buckets.iter().any(|b| b.nodes.iter().chain(&b.spares).any(same_host)) {
            return;
        }
        loop {
            let index = self.index(node.id);
            let last = self.buckets.len() - 1;
            let bucket = &mut self.buckets[index];
            let of_network =
                |nodes: &[Node]| nodes.iter().filter(|n| same_network(n.addr.ip(), node.addr.ip())).count();
            if of_network(&bucket.nodes) + of_network(&bucket.spares) >= limits::DHT_NODES_PER_NETWORK {
                return;
            }
            if bucket.nodes.len() < limits::DHT_K {
                return bucket.nodes.push(node);
            }
            let secure = node.is_secure();
            let replaceable =
                bucket.nodes.iter_mut().find(|n| n.health(now) == Health::Bad || (secure && !n.is_secure()));
            if let Some(replaceable) = replaceable {
                *replaceable = node;
                return;
            }
            if index != last || last + 1 >= 160 {
                if bucket.spares.len() >= limits::DHT_SPARE_NODES {
                    bucket.spares.remove(0);
                }
                return bucket.spares.push(node);
            }
            self.split();
        }
    }

    fn split(&mut self) {
        let depth = self.buckets.len() as u32 - 1;
        let Some(last) = self.buckets.last_mut() else { return };
        let own = self.own;
        let refreshed_at = last.refreshed_at;
        let (nearer, here) = last.nodes.drain(..).partition(|n| own.distance(n.id).common_bits() > depth);
        last.nodes = here;
        self.buckets.push(NodeBucket { nodes: nearer, spares: Vec::new(), refreshed_at });
    }

    /// Returns whether the table has a node with this address.
    pub(super) fn contains(&self, addr: SocketAddr) -> bool {
        self.buckets.iter().flat_map(|b| b.nodes.iter().chain(&b.spares)).any(|n| n.addr == addr)
    }

    /// Handles a query of a node: refreshes the node if it is in the table.
    pub(super) fn on_query(&mut self, now: Instant, id: NodeId, addr: SocketAddr) {
        let index = self.index(id);
        if let Some(node) = self.buckets[index].nodes.iter_mut().find(|n| n.id == id && n.addr == addr) {
            node.last_seen_at = now;
        }
    }

    /// Handles a failed query: counts the failure and removes a bad node.
    pub(super) fn on_timeout(&mut self, now: Instant, addr: SocketAddr) {
        for bucket in &mut self.buckets {
            bucket.spares.retain(|n| n.addr != addr);
            for node in bucket.nodes.iter_mut().filter(|n| n.addr == addr) {
                node.failures = node.failures.saturating_add(1);
            }
            bucket.nodes.retain(|n| n.addr != addr || n.health(now) != Health::Bad);
            bucket.promote();
        }
    }

    /// Returns whether the table would take a node that has not responded yet.
    pub(super) fn has_room_for(&self, now: Instant, id: NodeId, addr: SocketAddr) -> bool {
        let Some(index) = (id != self.own).then(|| self.index(id)) else { return false };
        let same_host = |n: &Node| n.addr.ip() == addr.ip() && !is_local(addr.ip());
        let known = self
            .buckets
            .iter()
            .flat_map(|b| b.nodes.iter().chain(&b.spares))
            .find(|n| n.id == id || n.addr == addr || same_host(n));
        if let Some(known) = known {
            // A known address with a new id is worth a ping; a second node of a known host is not.
            return known.addr == addr && known.id != id;
        }
        let secure = is_secure(id, addr.ip());
        let replaceable = |n: &Node| n.health(now) == Health::Bad || (secure && !n.is_secure());
        let bucket = &self.buckets[index];
        bucket.nodes.len() < limits::DHT_K
            || index + 1 == self.buckets.len()
            || bucket.nodes.iter().any(replaceable)
    }

    /// Returns up to `most` nodes closest to a target: good ones, and questionable ones if there are not
    /// enough.
    pub(super) fn nearest(&self, now: Instant, target: NodeId, most: usize) -> Vec<Node> {
        let alive = self.iter().filter(|n| n.health(now) != Health::Bad);
        let mut nodes: Vec<(Distance, &Node)> = alive.map(|n| (n.id.distance(target), n)).collect();
        if nodes.iter().filter(|(_, n)| n.health(now) == Health::Good).count() >= most {
            nodes.retain(|(_, n)| n.health(now) == Health::Good);
        }
        if nodes.len() > most {
            nodes.select_nth_unstable_by_key(most, |(distance, _)| *distance);
            nodes.truncate(most);
        }
        nodes.sort_unstable_by_key(|(distance, _)| *distance);
        nodes.into_iter().map(|(_, n)| *n).collect()
    }

    /// Returns the good nodes.
    pub(super) fn good(&self, now: Instant) -> impl Iterator<Item = &Node> {
        self.iter().filter(move |n| n.health(now) == Health::Good)
    }

    /// Returns when a node is to be pinged.
    pub(super) fn next_ping(&self) -> Instant {
        self.iter().map(Node::due).min().unwrap_or(Instant::NEVER)
    }

    /// Returns a node to ping now, if one is due, and marks it as pinged.
    pub(super) fn ping(&mut self, now: Instant) -> Option<SocketAddr> {
        let nodes = self.buckets.iter_mut().flat_map(|b| &mut b.nodes);
        let node = nodes.min_by_key(|n| n.due()).filter(|n| n.due() <= now)?;
        node.pinged_at = now;
        Some(node.addr)
    }

    /// Returns when a bucket is to be refreshed.
    pub(super) fn next_refresh(&self) -> Instant {
        self.buckets.iter().map(|b| b.changed_at() + limits::DHT_QUIET).min().unwrap_or(Instant::NEVER)
    }

    /// Returns a random id in a bucket that is due for a refresh, and marks the bucket as refreshed.
    pub(super) fn refresh(&mut self, now: Instant, rng: &mut Rng) -> Option<NodeId> {
        let quiet = |b: &NodeBucket| b.changed_at() + limits::DHT_QUIET <= now;
        let depth = self.buckets.iter().position(quiet)?;
        self.buckets[depth].refreshed_at = now;
        Some(self.own.random_at(depth as u32, rng))
    }

    /// Returns a random id in each bucket with free places; lookups of these ids fill the buckets.
    pub(super) fn sparse(&self, rng: &mut Rng) -> Vec<NodeId> {
        let inner = self.buckets.len() - 1;
        let sparse = self.buckets[..inner].iter().enumerate().filter(|(_, b)| b.nodes.len() < limits::DHT_K);
        sparse.map(|(depth, _)| self.own.random_at(depth as u32, rng)).collect()
    }

    /// Returns the number of nodes without spares.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|b| b.nodes.len()).sum()
    }

    /// Returns the number of nodes with spares.
    pub(super) fn len_with_spares(&self) -> usize {
        self.buckets.iter().map(|b| b.nodes.len() + b.spares.len()).sum()
    }

    /// Checks the structure of the table.
    ///
    /// # Panics
    /// If an invariant does not hold.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn check(&self) {
        assert!(self.buckets.len() <= 160);
        for (depth, bucket) in self.buckets.iter().enumerate() {
            assert!(bucket.nodes.len() <= limits::DHT_K && bucket.spares.len() <= limits::DHT_SPARE_NODES);
            assert!(bucket.nodes.iter().chain(&bucket.spares).all(|n| self.index(n.id) == depth));
        }
    }
}

#[cfg(test)]
mod tests;
