//! The routing table: nodes by how much of their id they share with ours (BEP 5).
//!
//! ```text
//!   bucket 0   ids that differ from ours in the first bit     8 nodes, 8 spares
//!   bucket 1   … in the second                                8 nodes, 8 spares
//!   last one   everything nearer; when it is full it splits in two
//! ```
//!
//! Invariants: every node here, spares included, has answered a query of ours; no two have one address's
//! host, and no bucket has more than
//! [`DHT_NODES_PER_NETWORK`](limits::DHT_NODES_PER_NETWORK) of one network, unless they are local (hazard D5). A full bucket takes a new node in
//! place of a bad one, or of one whose id does not belong to its address (BEP 42); otherwise the new node
//! waits as a spare.

use crate::engine::limits;
use crate::units::{Distance, Instant, NodeId, Rng};
use crate::wire::compact::is_local;
use std::net::{IpAddr, SocketAddr};

/// How far a node is trusted to answer (BEP 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// Heard of within 15 minutes.
    Good,
    /// Silent for longer, or owes one answer.
    Questionable,
    /// Owes several answers in a row.
    Bad,
}

/// A node that has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) addr: SocketAddr,
    /// When it answered, or asked after it had answered once.
    pub(super) heard_at: Instant,
    /// When it was asked whether it is still there.
    pinged_at: Instant,
    failures: u8,
}

impl Node {
    pub(super) fn health(&self, now: Instant) -> Health {
        match self.failures {
            limits::DHT_FAILURES.. => Health::Bad,
            0 if now.since(self.heard_at) < limits::DHT_QUIET => Health::Good,
            _ => Health::Questionable,
        }
    }

    fn is_secure(&self) -> bool {
        is_secure(self.id, self.addr.ip())
    }

    /// When it should be asked whether it is still there.
    fn due(&self) -> Instant {
        match self.failures {
            0 => (self.heard_at + limits::DHT_QUIET).max(self.pinged_at + limits::DHT_TIMEOUT),
            _ => self.pinged_at + limits::DHT_TIMEOUT,
        }
    }
}

/// Whether an id belongs to its address; local networks are exempt (BEP 42).
pub(super) fn is_secure(id: NodeId, ip: IpAddr) -> bool {
    is_local(ip) || id.is_secure_for(ip)
}

/// Whether both are of one owner, as far as an address tells: one /24, or one /64.
pub(super) fn one_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3] && !is_local(IpAddr::V4(a)),
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8] && !is_local(IpAddr::V6(a)),
        _ => false,
    }
}

/// Nodes at one depth.
#[derive(Debug, Default)]
struct NodeBucket {
    nodes: Vec<Node>,
    spares: Vec<Node>,
    refreshed_at: Instant,
}

impl NodeBucket {
    /// A spare steps in for a node that is gone, the latest heard first.
    fn promote(&mut self) {
        while self.nodes.len() < limits::DHT_K {
            let Some(spare) = self.spares.pop() else { break };
            self.nodes.push(spare);
        }
    }

    fn changed_at(&self) -> Instant {
        self.nodes.iter().map(|n| n.heard_at).max().unwrap_or_default().max(self.refreshed_at)
    }
}

/// The nodes of one family.
#[derive(Debug)]
pub(super) struct RoutingTable {
    own: NodeId,
    buckets: Vec<NodeBucket>,
}

impl RoutingTable {
    pub(super) fn new(now: Instant, own: NodeId) -> RoutingTable {
        RoutingTable { own, buckets: vec![NodeBucket { refreshed_at: now, ..NodeBucket::default() }] }
    }

    /// The same nodes around another id of ours.
    pub(super) fn move_to(&mut self, now: Instant, own: NodeId) {
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

    /// A node answered a query of ours: it is known, or gets to know its place.
    pub(super) fn answered(&mut self, now: Instant, id: NodeId, addr: SocketAddr) {
        if id == self.own {
            return;
        }
        let index = self.index(id);
        let bucket = &mut self.buckets[index];
        let known = bucket.nodes.iter_mut().chain(&mut bucket.spares).find(|n| n.id == id && n.addr == addr);
        if let Some(node) = known {
            (node.heard_at, node.failures) = (now, 0);
            return;
        }
        // A host that answers under another id than before has a new one.
        for bucket in &mut self.buckets {
            let stale = |n: &Node| n.addr == addr && n.id != id;
            bucket.nodes.retain(|n| !stale(n));
            bucket.spares.retain(|n| !stale(n));
            bucket.promote();
        }
        self.insert(now, Node { id, addr, heard_at: now, pinged_at: Instant::ZERO, failures: 0 });
    }

    fn insert(&mut self, now: Instant, node: Node) {
        let one_host =
            |n: &Node| n.id == node.id || (n.addr.ip() == node.addr.ip() && !is_local(node.addr.ip()));
        if self.buckets.iter().any(|b| b.nodes.iter().chain(&b.spares).any(one_host)) {
            return;
        }
        loop {
            let (index, last) = (self.index(node.id), self.buckets.len() - 1);
            let bucket = &mut self.buckets[index];
            let of_network =
                |nodes: &[Node]| nodes.iter().filter(|n| one_network(n.addr.ip(), node.addr.ip())).count();
            if of_network(&bucket.nodes) + of_network(&bucket.spares) >= limits::DHT_NODES_PER_NETWORK {
                return;
            }
            if bucket.nodes.len() < limits::DHT_K {
                return bucket.nodes.push(node);
            }
            let secure = node.is_secure();
            let worse =
                bucket.nodes.iter_mut().find(|n| n.health(now) == Health::Bad || (secure && !n.is_secure()));
            if let Some(worse) = worse {
                *worse = node;
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
        let (own, refreshed_at) = (self.own, last.refreshed_at);
        let (nearer, here) = last.nodes.drain(..).partition(|n| own.distance(n.id).common_bits() > depth);
        last.nodes = here;
        self.buckets.push(NodeBucket { nodes: nearer, spares: Vec::new(), refreshed_at });
    }

    /// Whether the node at this address has answered us.
    pub(super) fn knows(&self, addr: SocketAddr) -> bool {
        self.buckets.iter().flat_map(|b| b.nodes.iter().chain(&b.spares)).any(|n| n.addr == addr)
    }

    /// A node asked us: if it answered before, it is still there.
    pub(super) fn asked(&mut self, now: Instant, id: NodeId, addr: SocketAddr) {
        let index = self.index(id);
        if let Some(node) = self.buckets[index].nodes.iter_mut().find(|n| n.id == id && n.addr == addr) {
            node.heard_at = now;
        }
    }

    /// A node did not answer. A bad one gives way, if another node waits for its place.
    pub(super) fn failed(&mut self, now: Instant, addr: SocketAddr) {
        for bucket in &mut self.buckets {
            bucket.spares.retain(|n| n.addr != addr);
            for node in bucket.nodes.iter_mut().filter(|n| n.addr == addr) {
                node.failures = node.failures.saturating_add(1);
            }
            bucket.nodes.retain(|n| n.addr != addr || n.health(now) != Health::Bad);
            bucket.promote();
        }
    }

    /// Whether a node that we only heard of would find a place here.
    pub(super) fn has_room_for(&self, now: Instant, id: NodeId, addr: SocketAddr) -> bool {
        let Some(index) = (id != self.own).then(|| self.index(id)) else { return false };
        let one_host = |n: &Node| n.addr.ip() == addr.ip() && !is_local(addr.ip());
        let known = self
            .buckets
            .iter()
            .flat_map(|b| b.nodes.iter().chain(&b.spares))
            .find(|n| n.id == id || n.addr == addr || one_host(n));
        if let Some(known) = known {
            // A node whose id changed is checked; another node at a taken address is not.
            return known.addr == addr && known.id != id;
        }
        let secure = is_secure(id, addr.ip());
        let replaceable = |n: &Node| n.health(now) == Health::Bad || (secure && !n.is_secure());
        let bucket = &self.buckets[index];
        bucket.nodes.len() < limits::DHT_K
            || index + 1 == self.buckets.len()
            || bucket.nodes.iter().any(replaceable)
    }

    /// The nodes nearest to a place: good ones, and questionable ones where these do not suffice.
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

    /// Nodes that are good now.
    pub(super) fn good(&self, now: Instant) -> impl Iterator<Item = &Node> {
        self.iter().filter(move |n| n.health(now) == Health::Good)
    }

    /// When a node has been silent for so long that it should be asked.
    pub(super) fn next_ping(&self) -> Instant {
        self.iter().map(Node::due).min().unwrap_or(Instant::NEVER)
    }

    /// The node that should be asked whether it is still there; it counts as asked.
    pub(super) fn ping(&mut self, now: Instant) -> Option<SocketAddr> {
        let nodes = self.buckets.iter_mut().flat_map(|b| &mut b.nodes);
        let node = nodes.min_by_key(|n| n.due()).filter(|n| n.due() <= now)?;
        node.pinged_at = now;
        Some(node.addr)
    }

    /// When a bucket has been quiet for so long that it is refreshed.
    pub(super) fn next_refresh(&self) -> Instant {
        self.buckets.iter().map(|b| b.changed_at() + limits::DHT_QUIET).min().unwrap_or(Instant::NEVER)
    }

    /// A place in the bucket that has been quiet for too long; it counts as refreshed.
    pub(super) fn refresh(&mut self, now: Instant, rng: &mut Rng) -> Option<NodeId> {
        let quiet = |b: &NodeBucket| b.changed_at() + limits::DHT_QUIET <= now;
        let depth = self.buckets.iter().position(quiet)?;
        self.buckets[depth].refreshed_at = now;
        Some(self.own.random_at(depth as u32, rng))
    }

    /// Places in the buckets that have room: looking there fills them.
    pub(super) fn sparse(&self, rng: &mut Rng) -> Vec<NodeId> {
        let inner = self.buckets.len() - 1;
        let sparse = self.buckets[..inner].iter().enumerate().filter(|(_, b)| b.nodes.len() < limits::DHT_K);
        sparse.map(|(depth, _)| self.own.random_at(depth as u32, rng)).collect()
    }

    /// Nodes in their places.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|b| b.nodes.len()).sum()
    }

    /// Nodes in their places and those that wait for one.
    pub(super) fn len_with_spares(&self) -> usize {
        self.buckets.iter().map(|b| b.nodes.len() + b.spares.len()).sum()
    }

    /// Panics if an invariant is broken.
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
