//! Our queries and their responses, lookups and searches.
//!
//! A response is accepted if it comes from the queried address and carries the transaction id of the query
//! (hazard D1); then its sender enters the routing table. The rest of a response is unverified.

use super::lookup::Lookup;
use super::node::{Announce, Dht, DhtAction, Search};
use super::pending::{PendingQuery, Purpose, SearchKey};
use crate::engine::limits;
use crate::units::{Instant, NodeId};
use crate::wire::krpc::{Method, Packet, PacketBody, Query, Response, WantedFamilies, parse, write_query};
use crate::wire::limits::KRPC_TOKEN_BYTES;
use std::net::{IpAddr, SocketAddr};

impl Dht {
    /// Handles a packet. Returns false if it is malformed or unsolicited.
    pub(super) fn on_packet(
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
                    self.on_query(now, from, bytes.len(), &packet, &query, out);
                }
                true
            }
            PacketBody::Response(response) => match self.take_pending(from, packet.transaction) {
                Some(pending) => {
                    self.on_response(now, pending, &packet, &response, bytes.len(), out);
                    true
                }
                None => false,
            },
            PacketBody::Error { .. } => match self.take_pending(from, packet.transaction) {
                Some(pending) => {
                    self.on_failure(now, pending, out);
                    true
                }
                None => false,
            },
        }
    }

    /// Removes and returns the query that a packet answers.
    fn take_pending(&mut self, from: SocketAddr, transaction: &[u8]) -> Option<PendingQuery> {
        let number = u16::from_be_bytes(transaction.try_into().ok()?);
        self.pending.get(&number).filter(|p| p.to == from)?;
        self.pending.remove(&number)
    }

    /// Sends a query. Returns false if too many are in flight.
    pub(super) fn query(
        &mut self,
        now: Instant,
        to: SocketAddr,
        method: Method<'_>,
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
        // A node that looks up its own id knows few nodes yet, so it asks for nodes of both families.
        let for_itself = matches!(method, Method::FindNode { target } if target == own);
        let both = for_itself && self.family(!v6).is_used();
        let query = Query { id: own, want: WantedFamilies { v4: both, v6: both }, method };
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

    /// Pings a node that has not responded to us before.
    pub(super) fn probe(&mut self, now: Instant, addr: SocketAddr, out: &mut Vec<DhtAction>) {
        let probes = self.pending.values().filter(|p| p.purpose == Purpose::Probe).count();
        if probes < limits::DHT_PROBES && self.pending.values().all(|p| p.to != addr) {
            self.query(now, addr, Method::Ping, Purpose::Probe, out);
        }
    }

    fn on_response(
        &mut self,
        now: Instant,
        p: PendingQuery,
        packet: &Packet<'_>,
        response: &Response<'_>,
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
            family.table.on_response(now, response.id, p.to);
            if first {
                self.schedule_bootstrap(now, v6);
            }
        }
        match p.purpose {
            Purpose::Ping | Purpose::Probe => {}
            Purpose::Lookup { lookup, round } => {
                if let Some(l) = self.lookups.get_mut(&lookup) {
                    l.cost.bytes += len as u64;
                }
                self.on_lookup_response(now, lookup, p.to, response, out);
                self.advance(now, lookup, round, out);
            }
            Purpose::Announce(key) => self.on_announce_ended(key, out),
        }
    }

    /// Adds the nodes, peers or counts of a response to its lookup.
    fn on_lookup_response(
        &mut self,
        now: Instant,
        lookup: u32,
        from: SocketAddr,
        response: &Response<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let Some(mut l) = self.lookups.remove(&lookup) else { return };
        let token = response.token.filter(|t| t.len() <= KRPC_TOKEN_BYTES);
        if let Some(hops) = l.on_response(response.id, from, token) {
            let own = self.family(l.v6).own;
            for (id, addr) in response.nodes(l.v6) {
                if let Some(addr) = self.check_address(from.ip(), addr).filter(|_| id != own) {
                    l.add(id, addr, hops + 1);
                }
            }
            if l.target == own {
                for (id, addr) in response.nodes(!l.v6).take(limits::DHT_K) {
                    let wanted = self.family(!l.v6).table.has_room_for(now, id, addr);
                    if let Some(addr) = self.check_address(from.ip(), addr).filter(|_| wanted) {
                        self.probe(now, addr, out);
                    }
                }
            }
            match l.search {
                Some(SearchKey { scrape: true, .. }) => self.merge_counts(l.search, response),
                Some(key) => self.report_peers(key, from.ip(), response, out),
                None => {}
            }
        }
        self.lookups.insert(lookup, l);
    }

    /// Reports the peers of a response that this search has not reported yet.
    fn report_peers(
        &mut self,
        key: SearchKey,
        from: IpAddr,
        response: &Response<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let found: Vec<SocketAddr> =
            response.peers().filter_map(|peer| self.check_address(from, peer)).collect();
        let Some(search) = self.searches.get_mut(&key) else { return };
        let room = |s: &Search| s.found.len() < limits::DHT_FOUND_PEERS;
        let peers: Vec<SocketAddr> =
            found.into_iter().filter(|peer| room(search) && search.found.insert(*peer)).collect();
        if !peers.is_empty() {
            out.push(DhtAction::Peers { info_hash: key.info_hash, peers });
        }
    }

    /// Merges the counts of a response into a scrape. Peers from a node without BEP 33 count as incomplete,
    /// because their state is unknown.
    fn merge_counts(&mut self, search: Option<SearchKey>, response: &Response<'_>) {
        let search = search.and_then(|key| self.searches.get_mut(&key));
        let Some([seeds, peers]) = search.and_then(|s| s.filters.as_deref_mut()) else { return };
        match response.filters() {
            Some([more_seeds, more_peers]) => {
                seeds.join(&more_seeds);
                peers.join(&more_peers);
            }
            None => response.peers().for_each(|peer| peers.insert(peer.ip())),
        }
    }

    /// Handles a query that failed: an error or a timeout.
    fn on_failure(&mut self, now: Instant, p: PendingQuery, out: &mut Vec<DhtAction>) {
        match p.purpose {
            Purpose::Ping | Purpose::Probe => {}
            Purpose::Lookup { lookup, round } => {
                if let Some(l) = self.lookups.get_mut(&lookup) {
                    l.mark_failed(p.to);
                }
                self.advance(now, lookup, round, out);
            }
            Purpose::Announce(key) => self.on_announce_ended(key, out),
        }
    }

    /// Marks slow queries and fails the ones that timed out.
    pub(super) fn check_timeouts(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        let due: Vec<u16> =
            self.pending.iter().filter(|(_, p)| p.due() <= now).map(|(number, _)| *number).collect();
        for number in due {
            let Some(p) = self.pending.get_mut(&number) else { continue };
            match p.purpose {
                Purpose::Lookup { lookup, round } if now < p.sent_at + limits::DHT_TIMEOUT => {
                    p.is_late = true;
                    let to = p.to;
                    if let Some(l) = self.lookups.get_mut(&lookup) {
                        l.mark_slow(to);
                    }
                    self.advance(now, lookup, round, out);
                }
                _ => {
                    let Some(p) = self.pending.remove(&number) else { continue };
                    let family = self.family(p.to.is_ipv6());
                    let before = family.table.len();
                    family.table.on_timeout(now, p.to);
                    if before > 0 && family.table.len() == 0 {
                        self.schedule_bootstrap(now, p.to.is_ipv6());
                    }
                    self.on_failure(now, p, out);
                }
            }
        }
    }

    // ---- lookups ------------------------------------------------------------------------------------------

    /// Creates a lookup from the closest known nodes; `None` if there are too many lookups. [`Dht::advance`]
    /// sends its queries.
    pub(super) fn start_lookup(
        &mut self,
        now: Instant,
        v6: bool,
        target: NodeId,
        search: Option<SearchKey>,
    ) -> Option<u32> {
        if self.lookups.len() >= limits::DHT_LOOKUPS {
            return None;
        }
        let mut lookup = Lookup::new(target, v6, search);
        let family = self.family(v6);
        let nearest = family.table.nearest(now, target, 2 * limits::DHT_K);
        nearest.iter().for_each(|n| lookup.add(n.id, n.addr, 0));
        if nearest.len() < limits::DHT_K && search.is_none() {
            family.routers().iter().for_each(|router| lookup.add_router(*router));
        }
        self.next_lookup = self.next_lookup.wrapping_add(1);
        self.lookups.insert(self.next_lookup, lookup);
        Some(self.next_lookup)
    }

    /// Sends the next queries of a lookup after query `round` ended; ends the lookup if it is complete.
    pub(super) fn advance(&mut self, now: Instant, lookup: u32, round: u32, out: &mut Vec<DhtAction>) {
        while let Some((l, to)) = self.lookups.get_mut(&lookup).and_then(|l| l.next().map(|to| (l, to))) {
            let round = round + 1;
            l.cost.rounds = l.cost.rounds.max(round);
            let method = match l.search {
                Some(SearchKey { info_hash, scrape }) => Method::GetPeers { info_hash, scrape },
                None => Method::FindNode { target: l.target },
            };
            let before = self.stats.sent_bytes;
            let sent = self.query(now, to, method, Purpose::Lookup { lookup, round }, out);
            let bytes = self.stats.sent_bytes - before;
            if let Some(l) = self.lookups.get_mut(&lookup) {
                l.cost.bytes += bytes;
                if !sent {
                    l.mark_failed(to);
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
        let Some(key) = l.search else { return self.on_maintenance_ended(now, lookup, l.target, l.v6, out) };
        self.stats.last_search = l.cost;
        let mut announces = 0;
        if let Some(Announce { ports: [v4, v6], seed }) = self.searches.get(&key).and_then(|s| s.announce) {
            for (addr, token) in l.take_announce_targets() {
                let port = if addr.is_ipv6() { v6 } else { v4 };
                let method =
                    Method::AnnouncePeer { info_hash: key.info_hash, port: Some(port), seed, token: &token };
                announces += usize::from(self.query(now, addr, method, Purpose::Announce(key), out));
            }
        }
        if let Some(search) = self.searches.get_mut(&key) {
            search.lookups.remove(&lookup);
            search.announces += announces;
        }
        self.end_search(key, out);
    }

    // ---- searches -----------------------------------------------------------------------------------------

    /// Starts waiting searches in every address family that is ready.
    pub(super) fn start_searches(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        if self.searches.values().all(|s| s.waiting == [false; 2]) {
            return;
        }
        for v6 in [false, true] {
            let probing = self.pending.values().any(|p| p.purpose == Purpose::Probe && p.to.is_ipv6() == v6);
            let Some(ready) = self.family(v6).is_ready() else { continue };
            if !ready && probing {
                continue;
            }
            let waiting =
                self.searches.iter().filter(|(_, s)| s.waiting[usize::from(v6)]).map(|(key, _)| *key);
            for key in waiting.collect::<Vec<_>>() {
                // With too many lookups in progress this search keeps waiting.
                let lookup =
                    if ready { self.start_lookup(now, v6, NodeId(key.info_hash.0), Some(key)) } else { None };
                let Some(search) = self.searches.get_mut(&key).filter(|_| lookup.is_some() || !ready) else {
                    continue;
                };
                search.waiting[usize::from(v6)] = false;
                search.lookups.extend(lookup);
                search.started |= ready;
                match lookup {
                    Some(lookup) => self.advance(now, lookup, 0, out),
                    None => self.end_search(key, out),
                }
            }
        }
    }

    fn on_announce_ended(&mut self, key: SearchKey, out: &mut Vec<DhtAction>) {
        if let Some(search) = self.searches.get_mut(&key) {
            search.announces = search.announces.saturating_sub(1);
        }
        self.end_search(key, out);
    }

    /// Reports the end of a search when its lookups and announces have ended. It does not wait for a family
    /// without nodes if the other family was searched.
    fn end_search(&mut self, key: SearchKey, out: &mut Vec<DhtAction>) {
        let ended =
            |s: &Search| s.lookups.is_empty() && s.announces == 0 && (s.started || s.waiting == [false; 2]);
        if self.searches.get(&key).is_some_and(ended) {
            out.extend(self.searches.remove(&key).map(|search| search.outcome(key)));
        }
    }
}
