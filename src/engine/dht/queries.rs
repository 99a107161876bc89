//! Our questions and what comes of them.
//!
//! An answer is believed if it comes from the address that was asked and carries the transaction of the
//! question (hazard D1); then its sender is there, and gets its place in the table. Everything else about an
//! answer is a claim.

use super::lookup::Lookup;
use super::node::{Announce, Dht, DhtAction, QueryPurpose, Search};
use crate::engine::limits;
use crate::units::{Instant, NodeId};
use crate::wire::krpc::{Method, Packet, PacketBody, Query, Response, WantedFamilies, parse, write_query};
use crate::wire::limits::KRPC_TOKEN_BYTES;
use std::net::{IpAddr, SocketAddr};

/// Why a question was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Is a node of the table still there?
    Ping,
    /// Is a node there that we heard of?
    Probe,
    /// A lookup, and which of its queries one after the other this is.
    Lookup { lookup: u32, round: u32 },
    /// An announce, for this errand.
    Announce(QueryPurpose),
}

/// A question that awaits its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingQuery {
    to: SocketAddr,
    sent_at: Instant,
    is_late: bool,
    purpose: Purpose,
}

impl PendingQuery {
    /// When something is to be done about it.
    pub(super) fn due(&self) -> Instant {
        let waits = matches!(self.purpose, Purpose::Lookup { .. }) && !self.is_late;
        self.sent_at + if waits { limits::DHT_LATE } else { limits::DHT_TIMEOUT }
    }
}

impl Dht {
    /// Reads a packet; false if nothing in it was for us.
    pub(super) fn take(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<DhtAction>,
    ) -> bool {
        let Ok(packet) = parse(bytes) else { return false };
        match packet.body {
            PacketBody::Query(query) => {
                if !self.config.read_only {
                    self.answer(now, from, bytes.len(), &packet, &query, out);
                }
                true
            }
            PacketBody::Response(reply) => match self.asked(from, packet.transaction) {
                Some(pending) => {
                    self.on_reply(now, pending, &packet, &reply, bytes.len(), out);
                    true
                }
                None => false,
            },
            PacketBody::Error { .. } => match self.asked(from, packet.transaction) {
                Some(pending) => {
                    self.on_no_answer(now, pending, out);
                    true
                }
                None => false,
            },
        }
    }

    /// The question that this answers.
    fn asked(&mut self, from: SocketAddr, transaction: &[u8]) -> Option<PendingQuery> {
        let number = u16::from_be_bytes(transaction.try_into().ok()?);
        self.pending.get(&number).filter(|p| p.to == from)?;
        self.pending.remove(&number)
    }

    /// Asks; false if too many questions are on their way.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        to: SocketAddr,
        question: Method<'_>,
        purpose: Purpose,
        out: &mut Vec<DhtAction>,
    ) -> bool {
        if self.pending.len() >= limits::DHT_PENDING {
            return false;
        }
        let mut number = self.rng.u32() as u16;
        while self.pending.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        let v6 = to.is_ipv6();
        let own = self.family(v6).own;
        // Who looks for its own place has few nodes yet, and takes them from either family.
        let for_itself = matches!(question, Method::FindNode { target } if target == own);
        let both = for_itself && self.family(!v6).is_used();
        let query = Query { id: own, want: WantedFamilies { v4: both, v6: both }, method: question };
        let mut bytes = Vec::with_capacity(128);
        write_query(&number.to_be_bytes(), &query, self.config.read_only, &mut bytes);
        self.pending.insert(number, PendingQuery { to, sent_at: now, is_late: false, purpose });
        self.send(to, bytes, out);
        true
    }

    pub(super) fn send(&mut self, to: SocketAddr, bytes: Vec<u8>, out: &mut Vec<DhtAction>) {
        self.stats.sent_bytes += bytes.len() as u64;
        out.push(DhtAction::Send { to, bytes: bytes.into() });
    }

    /// Asks a node that we only heard of whether it is there.
    pub(super) fn probe(&mut self, now: Instant, addr: SocketAddr, out: &mut Vec<DhtAction>) {
        let probes = self.pending.values().filter(|p| p.purpose == Purpose::Probe).count();
        if probes < limits::DHT_PROBES && self.pending.values().all(|p| p.to != addr) {
            self.ask(now, addr, Method::Ping, Purpose::Probe, out);
        }
    }

    fn on_reply(
        &mut self,
        now: Instant,
        p: PendingQuery,
        packet: &Packet<'_>,
        reply: &Response<'_>,
        len: usize,
        out: &mut Vec<DhtAction>,
    ) {
        let v6 = p.to.is_ipv6();
        if let Some(seen) = packet.external_ip {
            self.on_vote(now, p.to.ip(), seen, out);
        }
        let family = self.family(v6);
        if !family.routers().contains(&p.to) && !packet.read_only {
            let first = family.table.len() == 0;
            family.table.answered(now, reply.id, p.to);
            if first {
                self.wake(now, v6);
            }
        }
        match p.purpose {
            Purpose::Ping | Purpose::Probe => {}
            Purpose::Lookup { lookup, round } => {
                if let Some(l) = self.lookups.get_mut(&lookup) {
                    l.cost.bytes += len as u64;
                }
                self.learn(now, lookup, p.to, reply, out);
                self.advance(now, lookup, round, out);
            }
            Purpose::Announce(errand) => self.announced(errand, out),
        }
    }

    /// What a lookup learns from an answer.
    fn learn(
        &mut self,
        now: Instant,
        lookup: u32,
        from: SocketAddr,
        reply: &Response<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let Some(mut l) = self.lookups.remove(&lookup) else { return };
        let token = reply.token.filter(|t| t.len() <= KRPC_TOKEN_BYTES);
        if let Some(hops) = l.answered(reply.id, from, token) {
            let own = self.family(l.v6).own;
            for (id, addr) in reply.nodes(l.v6) {
                if let Some(addr) = self.believable(from.ip(), addr).filter(|_| id != own) {
                    l.add(id, addr, hops + 1);
                }
            }
            if l.target == own {
                for (id, addr) in reply.nodes(!l.v6).take(limits::DHT_K) {
                    let wanted = self.family(!l.v6).table.has_room_for(now, id, addr);
                    if let Some(addr) = self.believable(from.ip(), addr).filter(|_| wanted) {
                        self.probe(now, addr, out);
                    }
                }
            }
            match l.errand {
                Some(QueryPurpose { scrape: true, .. }) => self.count(l.errand, reply),
                Some(errand) => self.find(errand, from.ip(), reply, out),
                None => {}
            }
        }
        self.lookups.insert(lookup, l);
    }

    /// Reports peers that are new.
    fn find(&mut self, errand: QueryPurpose, from: IpAddr, reply: &Response<'_>, out: &mut Vec<DhtAction>) {
        let found: Vec<SocketAddr> = reply.peers().filter_map(|peer| self.believable(from, peer)).collect();
        let Some(search) = self.searches.get_mut(&errand) else { return };
        let room = |s: &Search| s.found.len() < limits::DHT_FOUND_PEERS;
        let peers: Vec<SocketAddr> =
            found.into_iter().filter(|peer| room(search) && search.found.insert(*peer)).collect();
        if !peers.is_empty() {
            out.push(DhtAction::Peers { info_hash: errand.info_hash, peers });
        }
    }

    /// Joins what one node knows of a torrent's peers to what the others do. Who does not count them names
    /// some: not seeds, as far as any node knows (BEP 33).
    fn count(&mut self, errand: Option<QueryPurpose>, reply: &Response<'_>) {
        let search = errand.and_then(|errand| self.searches.get_mut(&errand));
        let Some([seeds, peers]) = search.and_then(|s| s.filters.as_deref_mut()) else { return };
        match reply.filters() {
            Some([more_seeds, more_peers]) => {
                seeds.join(&more_seeds);
                peers.join(&more_peers);
            }
            None => reply.peers().for_each(|peer| peers.insert(peer.ip())),
        }
    }

    /// A question will not be answered.
    fn on_no_answer(&mut self, now: Instant, p: PendingQuery, out: &mut Vec<DhtAction>) {
        match p.purpose {
            Purpose::Ping | Purpose::Probe => {}
            Purpose::Lookup { lookup, round } => {
                if let Some(l) = self.lookups.get_mut(&lookup) {
                    l.dead(p.to);
                }
                self.advance(now, lookup, round, out);
            }
            Purpose::Announce(errand) => self.announced(errand, out),
        }
    }

    /// Looks which answers are late, and which will not come.
    pub(super) fn look_for_late(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        let due: Vec<u16> =
            self.pending.iter().filter(|(_, p)| p.due() <= now).map(|(number, _)| *number).collect();
        for number in due {
            let Some(p) = self.pending.get_mut(&number) else { continue };
            match p.purpose {
                Purpose::Lookup { lookup, round } if now < p.sent_at + limits::DHT_TIMEOUT => {
                    p.is_late = true;
                    let to = p.to;
                    if let Some(l) = self.lookups.get_mut(&lookup) {
                        l.late(to);
                    }
                    self.advance(now, lookup, round, out);
                }
                _ => {
                    let Some(p) = self.pending.remove(&number) else { continue };
                    let family = self.family(p.to.is_ipv6());
                    let before = family.table.len();
                    family.table.failed(now, p.to);
                    if before > 0 && family.table.len() == 0 {
                        self.wake(now, p.to.is_ipv6());
                    }
                    self.on_no_answer(now, p, out);
                }
            }
        }
    }

    // ---- lookups ------------------------------------------------------------------------------------------------------

    /// Begins a lookup with the nearest nodes we know; `None` if there are too many already. It runs once it
    /// is advanced.
    pub(super) fn start_lookup(
        &mut self,
        now: Instant,
        v6: bool,
        target: NodeId,
        errand: Option<QueryPurpose>,
    ) -> Option<u32> {
        if self.lookups.len() >= limits::DHT_LOOKUPS {
            return None;
        }
        let mut lookup = Lookup::new(target, v6, errand);
        let family = self.family(v6);
        let nearest = family.table.nearest(now, target, 2 * limits::DHT_K);
        nearest.iter().for_each(|n| lookup.add(n.id, n.addr, 0));
        if nearest.len() < limits::DHT_K && errand.is_none() {
            family.routers().iter().for_each(|router| lookup.add_router(*router));
        }
        self.next_lookup = self.next_lookup.wrapping_add(1);
        self.lookups.insert(self.next_lookup, lookup);
        Some(self.next_lookup)
    }

    /// Queries the next nodes after query `round` ended; ends the lookup if there are none.
    pub(super) fn advance(&mut self, now: Instant, lookup: u32, round: u32, out: &mut Vec<DhtAction>) {
        while let Some((l, to)) = self.lookups.get_mut(&lookup).and_then(|l| l.next().map(|to| (l, to))) {
            let round = round + 1;
            l.cost.rounds = l.cost.rounds.max(round);
            let question = match l.errand {
                Some(QueryPurpose { info_hash, scrape }) => Method::GetPeers { info_hash, scrape },
                None => Method::FindNode { target: l.target },
            };
            let before = self.stats.sent_bytes;
            let asked = self.ask(now, to, question, Purpose::Lookup { lookup, round }, out);
            let bytes = self.stats.sent_bytes - before;
            if let Some(l) = self.lookups.get_mut(&lookup) {
                l.cost.bytes += bytes;
                if !asked {
                    l.dead(to);
                }
            }
        }
        if self.lookups.get(&lookup).is_some_and(Lookup::is_done) {
            self.end_lookup(now, lookup, out);
        }
    }

    fn end_lookup(&mut self, now: Instant, lookup: u32, out: &mut Vec<DhtAction>) {
        let Some(mut l) = self.lookups.remove(&lookup) else { return };
        self.stats.lookups += 1;
        let Some(errand) = l.errand else { return self.upkeep_ended(now, lookup, l.target, l.v6, out) };
        self.stats.last_search = l.cost;
        let mut asked = 0;
        if let Some(Announce { port, seed }) = self.searches.get(&errand).and_then(|s| s.announce) {
            for (addr, token) in l.announce_to() {
                let question = Method::AnnouncePeer {
                    info_hash: errand.info_hash,
                    port: Some(port),
                    seed,
                    token: &token,
                };
                asked += usize::from(self.ask(now, addr, question, Purpose::Announce(errand), out));
            }
        }
        if let Some(search) = self.searches.get_mut(&errand) {
            search.lookups.remove(&lookup);
            search.announces += asked;
        }
        self.end_search(errand, out);
    }

    // ---- searches -----------------------------------------------------------------------------------------------------

    /// Starts searches in every address family that knows a node by now.
    pub(super) fn start_searches(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        if self.searches.values().all(|s| s.waits == [false; 2]) {
            return;
        }
        for v6 in [false, true] {
            let probing = self.pending.values().any(|p| p.purpose == Purpose::Probe && p.to.is_ipv6() == v6);
            let ready = match self.family(v6).is_ready() {
                Some(false) if probing => None,
                ready => ready,
            };
            let Some(ready) = ready else { continue };
            let waiting =
                self.searches.iter().filter(|(_, s)| s.waits[usize::from(v6)]).map(|(errand, _)| *errand);
            for errand in waiting.collect::<Vec<_>>() {
                // No room for another lookup: this search waits for one to end.
                let lookup = if ready {
                    self.start_lookup(now, v6, NodeId(errand.info_hash.0), Some(errand))
                } else {
                    None
                };
                let Some(search) = self.searches.get_mut(&errand).filter(|_| lookup.is_some() || !ready)
                else {
                    continue;
                };
                search.waits[usize::from(v6)] = false;
                search.lookups.extend(lookup);
                search.looked |= ready;
                match lookup {
                    Some(lookup) => self.advance(now, lookup, 0, out),
                    None => self.end_search(errand, out),
                }
            }
        }
    }

    fn announced(&mut self, errand: QueryPurpose, out: &mut Vec<DhtAction>) {
        if let Some(search) = self.searches.get_mut(&errand) {
            search.announces = search.announces.saturating_sub(1);
        }
        self.end_search(errand, out);
    }

    /// A search has ended when nothing of it is under way. A family without nodes is not waited for if the
    /// other one searched.
    fn end_search(&mut self, errand: QueryPurpose, out: &mut Vec<DhtAction>) {
        let ended =
            |s: &Search| s.lookups.is_empty() && s.announces == 0 && (s.looked || s.waits == [false; 2]);
        if self.searches.get(&errand).is_some_and(ended) {
            out.extend(self.searches.remove(&errand).map(|search| search.outcome(errand)));
        }
    }
}
