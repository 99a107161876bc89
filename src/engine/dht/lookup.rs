//! Finding the way to a place: ask the nearest known nodes for nearer ones until the nearest eight have
//! answered (BEP 5).
//!
//! ```text
//!   Fresh ──asked──▶ Waiting ──2 s──▶ Late (another is asked beside it)
//!                       │              │
//!                       ├── answer ────┴──▶ Answered
//!                       └── 12 s, refusal, another id ──▶ Dead
//! ```
//!
//! Nodes whose id belongs to their address (BEP 42) decide when a lookup ends; the others are asked, but only
//! so many of them, and they count only where no other node is. So a liar who invents nodes beside the target
//! costs a few queries and no more (hazard D5). Pure bookkeeping: who sends, and what an answer brings, is
//! the business of `asking`.

use super::node::QueryPurpose;
use super::table::{is_secure, one_network};
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

/// A node on the way.
#[derive(Debug)]
struct LookupNode {
    id: NodeId,
    addr: SocketAddr,
    state: NodeState,
    /// A bootstrap node: queried, never inserted into the routing table; its id is unknown.
    router: bool,
    secure: bool,
    /// Answers one after the other that led to it.
    hops: u32,
    token: Option<Box<[u8]>>,
}

impl LookupNode {
    fn is_open(&self) -> bool {
        matches!(self.state, NodeState::Fresh | NodeState::Waiting)
    }
}

/// What a lookup has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupCost {
    /// Queries sent.
    pub queries: u32,
    /// Queries one after the other: each was sent because of what came of the one before.
    pub rounds: u32,
    /// Answers one after the other that led to the nearest node.
    pub hops: u32,
    /// Bytes of queries and answers.
    pub bytes: u64,
}

/// One search for the nodes around a place.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) target: NodeId,
    pub(super) v6: bool,
    /// What it is for, if it is not nodes alone.
    pub(super) errand: Option<QueryPurpose>,
    pub(super) cost: LookupCost,
    /// Nearest first; routers last.
    contacts: Vec<LookupNode>,
}

impl Lookup {
    pub(super) fn new(target: NodeId, v6: bool, errand: Option<QueryPurpose>) -> Lookup {
        Lookup { target, v6, errand, cost: LookupCost::default(), contacts: Vec::new() }
    }

    /// A node that may be asked; `hops` answers led to it.
    pub(super) fn add(&mut self, id: NodeId, addr: SocketAddr, hops: u32) {
        let local = is_local(addr.ip());
        let known = |c: &LookupNode| {
            (c.id == id && !c.router) || c.addr == addr || (c.addr.ip() == addr.ip() && !local)
        };
        let network = self.contacts.iter().filter(|c| one_network(c.addr.ip(), addr.ip())).count();
        if self.contacts.iter().any(known) || network >= limits::DHT_NODES_PER_NETWORK {
            return;
        }
        let secure = is_secure(id, addr.ip());
        self.put(LookupNode { id, addr, state: NodeState::Fresh, router: false, secure, hops, token: None });
        if self.contacts.len() > limits::DHT_LOOKUP_NODES {
            // Who was not asked yet gives way, the insecure first, the farthest first.
            let gives_way = |c: &&LookupNode| c.state == NodeState::Fresh;
            let fresh = self.contacts.iter().enumerate().filter(|(_, c)| gives_way(c));
            let worst = fresh.max_by_key(|(i, c)| (!c.secure, *i)).map(|(i, _)| i);
            let dead = || self.contacts.iter().rposition(|c| c.state == NodeState::Dead);
            let at = worst.or_else(dead).unwrap_or(self.contacts.len() - 1);
            self.contacts.remove(at);
        }
    }

    /// A node that is asked first where no other is known.
    pub(super) fn add_router(&mut self, addr: SocketAddr) {
        if self.contacts.iter().all(|c| c.addr != addr) {
            let id = NodeId(self.target.0.map(|byte| !byte));
            self.put(LookupNode {
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

    fn put(&mut self, contact: LookupNode) {
        let key = |c: &LookupNode| (c.router, c.id.distance(self.target));
        let at = self.contacts.partition_point(|c| key(c) < key(&contact));
        self.contacts.insert(at, contact);
    }

    /// Those that decide: the nearest eight that are neither dead nor late, secure ones if there are as many.
    fn front(&self) -> Vec<usize> {
        let alive = |c: &LookupNode| !c.router && !matches!(c.state, NodeState::Dead | NodeState::Late);
        let of = |secure: bool| {
            let fit = move |c: &LookupNode| alive(c) && c.secure == secure;
            self.contacts.iter().enumerate().filter(move |(_, c)| fit(c)).map(|(i, _)| i)
        };
        let mut front: Vec<usize> = of(true).take(limits::DHT_K).collect();
        let missing = limits::DHT_K - front.len();
        front.extend(of(false).take(missing));
        front.sort_unstable();
        front
    }

    /// The next node to ask, `None` if it is not yet time, or never will be.
    pub(super) fn next(&mut self) -> Option<SocketAddr> {
        let waiting = self.contacts.iter().filter(|c| c.state == NodeState::Waiting).count();
        if waiting >= limits::DHT_ALPHA || self.cost.queries as usize >= limits::DHT_LOOKUP_QUERIES {
            return None;
        }
        let front = self.front();
        let end =
            if front.len() < limits::DHT_K { self.contacts.len() } else { front.last().map_or(0, |i| i + 1) };
        // Insecure ones that do not count take one place of the three: their silence delays no query.
        let doubtful = |(i, c): &(usize, &LookupNode)| {
            !c.secure && !c.router && c.state != NodeState::Fresh && !front.contains(i)
        };
        let doubtful = || self.contacts.iter().enumerate().filter(doubtful);
        let one_more = doubtful().count() < limits::DHT_INSECURE_QUERIES
            && doubtful().all(|(_, c)| c.state != NodeState::Waiting);
        let wanted = |(i, c): &(usize, &mut LookupNode)| {
            c.state == NodeState::Fresh && (front.contains(i) || c.router || one_more)
        };
        let (_, contact) = self.contacts.iter_mut().enumerate().take(end).find(wanted)?;
        contact.state = NodeState::Waiting;
        self.cost.queries += 1;
        Some(contact.addr)
    }

    /// Whether nothing better can come: the nearest nodes have answered, or no other node is left.
    pub(super) fn is_done(&self) -> bool {
        let exhausted = self.cost.queries as usize >= limits::DHT_LOOKUP_QUERIES;
        let waiting = self.contacts.iter().any(|c| c.state == NodeState::Waiting);
        let front = self.front();
        let open = front.iter().filter_map(|i| self.contacts.get(*i)).any(LookupNode::is_open);
        let routers = front.len() < limits::DHT_K && self.contacts.iter().any(|c| c.router && c.is_open());
        let late = front.len() < limits::DHT_K && self.contacts.iter().any(|c| c.state == NodeState::Late);
        if exhausted { !waiting } else { !open && !routers && !late }
    }

    fn contact(&mut self, addr: SocketAddr) -> Option<&mut LookupNode> {
        self.contacts
            .iter_mut()
            .find(|c| c.addr == addr && matches!(c.state, NodeState::Waiting | NodeState::Late))
    }

    /// The node is slow: another one is queried beside it.
    pub(super) fn late(&mut self, addr: SocketAddr) {
        if let Some(c) = self.contact(addr).filter(|c| c.state == NodeState::Waiting) {
            c.state = NodeState::Late;
        }
    }

    /// The node refused, lied about its name, or said nothing in all the time it had.
    pub(super) fn dead(&mut self, addr: SocketAddr) {
        if let Some(c) = self.contact(addr) {
            c.state = NodeState::Dead;
        }
    }

    /// The node answered as `id`: how many hops lead to it, or `None` if it is not whom we asked.
    pub(super) fn answered(&mut self, id: NodeId, addr: SocketAddr, token: Option<&[u8]>) -> Option<u32> {
        let c = self.contact(addr)?;
        if c.id != id && !c.router {
            c.state = NodeState::Dead;
            return None;
        }
        c.state = NodeState::Answered;
        c.token = token.map(Box::from);
        let hops = c.hops;
        if !c.router {
            let nearest = self.contacts.iter().find(|c| c.state == NodeState::Answered && !c.router);
            self.cost.hops = nearest.map_or(0, |c| c.hops + 1);
        }
        Some(hops)
    }

    /// Who stores an announce: the nearest that answered with a token, secure ones if there are as many.
    pub(super) fn announce_to(&mut self) -> Vec<(SocketAddr, Box<[u8]>)> {
        let mut fit: Vec<&mut LookupNode> = self.contacts.iter_mut().filter(|c| c.token.is_some()).collect();
        fit.sort_by_key(|c| !c.secure);
        fit.truncate(limits::DHT_K);
        fit.into_iter().filter_map(|c| Some((c.addr, c.token.take()?))).collect()
    }

    /// Nodes in mind.
    pub(super) fn len(&self) -> usize {
        self.contacts.len()
    }
}
