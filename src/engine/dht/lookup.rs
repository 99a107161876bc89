//! Iterative lookup: queries the closest known nodes for closer ones until the closest eight have responded
//! (BEP 5).
//!
//! ```text
//!   Fresh ──query──▶ Waiting ──2 s──▶ Late (another node is queried in parallel)
//!                       │              │
//!                       ├── response ──┴──▶ Answered
//!                       └── 12 s, error, another id ──▶ Dead
//! ```
//!
//! Nodes whose id matches their address (BEP 42) decide when a lookup ends. Others are queried too, but only
//! a limited number, and they count only where secure nodes are missing. So a liar that invents nodes close
//! to the target costs only a few queries (hazard D5). This file only keeps the state of a lookup; `queries`
//! sends the queries and handles the responses.

use super::pending::SearchKey;
use super::table::{is_secure, same_network};
use crate::engine::limits;
use crate::units::NodeId;
use crate::wire::compact::is_local;
use std::net::SocketAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    Fresh,
    Waiting,
    Late,
    Answered,
    Dead,
}

/// A node of a lookup.
#[derive(Debug)]
struct LookupNode {
    id: NodeId,
    addr: SocketAddr,
    state: NodeState,
    /// A bootstrap node: queried, never inserted into the routing table; its id is unknown.
    router: bool,
    secure: bool,
    /// Length of the chain of responses that led to the node.
    hops: u32,
    token: Option<Box<[u8]>>,
}

impl LookupNode {
    fn is_open(&self) -> bool {
        matches!(self.state, NodeState::Fresh | NodeState::Waiting)
    }
}

/// Cost of a lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupCost {
    /// Queries sent.
    pub queries: u32,
    /// Length of the longest chain of queries in which each query was sent when the one before it ended.
    pub rounds: u32,
    /// Length of the chain of responses that led to the closest node.
    pub hops: u32,
    /// Bytes of queries and responses.
    pub bytes: u64,
}

/// A lookup of the nodes closest to a target.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) target: NodeId,
    pub(super) v6: bool,
    /// The search that the lookup belongs to; `None`: it searches for nodes only.
    pub(super) search: Option<SearchKey>,
    pub(super) cost: LookupCost,
    /// Closest nodes first, bootstrap nodes last.
    nodes: Vec<LookupNode>,
}

impl Lookup {
    pub(super) fn new(target: NodeId, v6: bool, search: Option<SearchKey>) -> Lookup {
        Lookup { target, v6, search, cost: LookupCost::default(), nodes: Vec::new() }
    }

    /// Adds a node to query, unless it or its network is known already; `hops` is the length of the chain of
    /// responses that led to it.
    pub(super) fn add(&mut self, id: NodeId, addr: SocketAddr, hops: u32) {
        let local = is_local(addr.ip());
        let known = |c: &LookupNode| {
            (c.id == id && !c.router) || c.addr == addr || (c.addr.ip() == addr.ip() && !local)
        };
        let network = self.nodes.iter().filter(|c| same_network(c.addr.ip(), addr.ip())).count();
        if self.nodes.iter().any(known) || network >= limits::DHT_NODES_PER_NETWORK {
            return;
        }
        let secure = is_secure(id, addr.ip());
        self.insert(LookupNode {
            id,
            addr,
            state: NodeState::Fresh,
            router: false,
            secure,
            hops,
            token: None,
        });
        if self.nodes.len() > limits::DHT_LOOKUP_NODES {
            // Remove the farthest node that is not queried yet, insecure nodes first.
            let removable = |c: &&LookupNode| c.state == NodeState::Fresh;
            let fresh = self.nodes.iter().enumerate().filter(|(_, c)| removable(c));
            let worst = fresh.max_by_key(|(i, c)| (!c.secure, *i)).map(|(i, _)| i);
            let dead = || self.nodes.iter().rposition(|c| c.state == NodeState::Dead);
            let at = worst.or_else(dead).unwrap_or(self.nodes.len() - 1);
            self.nodes.remove(at);
        }
    }

    /// Adds a bootstrap node.
    pub(super) fn add_router(&mut self, addr: SocketAddr) {
        if self.nodes.iter().all(|c| c.addr != addr) {
            let id = NodeId(self.target.0.map(|byte| !byte));
            self.insert(LookupNode {
                id,
                addr,
                state: NodeState::Fresh,
                router: true,
                secure: false,
                hops: 0,
                token: None,
            });
        }
    }

    fn insert(&mut self, node: LookupNode) {
        let key = |c: &LookupNode| (c.router, c.id.distance(self.target));
        let at = self.nodes.partition_point(|c| key(c) < key(&node));
        self.nodes.insert(at, node);
    }

    /// Returns the indices of the eight nodes that decide about the end: the closest that are neither dead
    /// nor late, with insecure ones only where secure ones are missing.
    fn closest(&self) -> Vec<usize> {
        let alive = |c: &LookupNode| !c.router && !matches!(c.state, NodeState::Dead | NodeState::Late);
        let of = |secure: bool| {
            let fit = move |c: &LookupNode| alive(c) && c.secure == secure;
            self.nodes.iter().enumerate().filter(move |(_, c)| fit(c)).map(|(i, _)| i)
        };
        let mut closest: Vec<usize> = of(true).take(limits::DHT_K).collect();
        let missing = limits::DHT_K - closest.len();
        closest.extend(of(false).take(missing));
        closest.sort_unstable();
        closest
    }

    /// Returns the next node to query; `None` if queries must end first or no node is left.
    pub(super) fn next(&mut self) -> Option<SocketAddr> {
        let waiting = self.nodes.iter().filter(|c| c.state == NodeState::Waiting).count();
        if waiting >= limits::DHT_ALPHA || self.cost.queries as usize >= limits::DHT_LOOKUP_QUERIES {
            return None;
        }
        let closest = self.closest();
        let end = if closest.len() < limits::DHT_K {
            self.nodes.len()
        } else {
            closest.last().map_or(0, |i| i + 1)
        };
        // Queried insecure nodes outside `closest`: at most one query to them is in flight, so that their
        // silence does not delay the lookup.
        let queried = |(i, c): &(usize, &LookupNode)| {
            !c.secure && !c.router && c.state != NodeState::Fresh && !closest.contains(i)
        };
        let queried_insecure = || self.nodes.iter().enumerate().filter(queried);
        let may_query_insecure = queried_insecure().count() < limits::DHT_INSECURE_QUERIES
            && queried_insecure().all(|(_, c)| c.state != NodeState::Waiting);
        let wanted = |(i, c): &(usize, &mut LookupNode)| {
            c.state == NodeState::Fresh && (closest.contains(i) || c.router || may_query_insecure)
        };
        let (_, node) = self.nodes.iter_mut().enumerate().take(end).find(wanted)?;
        node.state = NodeState::Waiting;
        self.cost.queries += 1;
        Some(node.addr)
    }

    /// Returns whether the lookup is complete: the closest nodes have responded, or no node is left to query.
    pub(super) fn is_done(&self) -> bool {
        let exhausted = self.cost.queries as usize >= limits::DHT_LOOKUP_QUERIES;
        let waiting = self.nodes.iter().any(|c| c.state == NodeState::Waiting);
        let closest = self.closest();
        let open = closest.iter().filter_map(|i| self.nodes.get(*i)).any(LookupNode::is_open);
        let routers = closest.len() < limits::DHT_K && self.nodes.iter().any(|c| c.router && c.is_open());
        let late = closest.len() < limits::DHT_K && self.nodes.iter().any(|c| c.state == NodeState::Late);
        if exhausted { !waiting } else { !open && !routers && !late }
    }

    fn node(&mut self, addr: SocketAddr) -> Option<&mut LookupNode> {
        self.nodes
            .iter_mut()
            .find(|c| c.addr == addr && matches!(c.state, NodeState::Waiting | NodeState::Late))
    }

    /// Marks a node as slow, so that another one is queried in parallel.
    pub(super) fn mark_slow(&mut self, addr: SocketAddr) {
        if let Some(c) = self.node(addr).filter(|c| c.state == NodeState::Waiting) {
            c.state = NodeState::Late;
        }
    }

    /// Marks a node that sent an error, has another id than expected, or did not respond in time.
    pub(super) fn mark_failed(&mut self, addr: SocketAddr) {
        if let Some(c) = self.node(addr) {
            c.state = NodeState::Dead;
        }
    }

    /// Handles a response. Returns the length of the chain of responses that led to the node; `None` if the
    /// id is not the expected one.
    pub(super) fn on_response(&mut self, id: NodeId, addr: SocketAddr, token: Option<&[u8]>) -> Option<u32> {
        let c = self.node(addr)?;
        if c.id != id && !c.router {
            c.state = NodeState::Dead;
            return None;
        }
        c.state = NodeState::Answered;
        c.token = token.map(Box::from);
        let hops = c.hops;
        if !c.router {
            let nearest = self.nodes.iter().find(|c| c.state == NodeState::Answered && !c.router);
            self.cost.hops = nearest.map_or(0, |c| c.hops + 1);
        }
        Some(hops)
    }

    /// Returns the nodes to announce to: the closest that responded with a token, secure ones first.
    pub(super) fn take_announce_targets(&mut self) -> Vec<(SocketAddr, Box<[u8]>)> {
        let mut fit: Vec<&mut LookupNode> = self.nodes.iter_mut().filter(|c| c.token.is_some()).collect();
        fit.sort_by_key(|c| !c.secure);
        fit.truncate(limits::DHT_K);
        fit.into_iter().filter_map(|c| Some((c.addr, c.token.take()?))).collect()
    }

    /// Returns the number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}
