//! Responses to queries of other nodes, from the routing table and the peer store, within a rate limit and
//! the size of a packet.
//!
//! The source address of a query may be forged. So a query only updates the time of a known node; an unknown
//! node is pinged if the table has space for it. An announce is accepted only with a valid token (hazard D3).
//! An unknown address is sent at most three times the bytes received from it, so forging gains little (hazard
//! D6).

use super::node::{Dht, DhtAction};
use crate::engine::limits;
use crate::units::{InfoHash, Instant, NodeId};
use crate::wire::compact::{V4_LEN, V6_LEN, may_name};
use crate::wire::krpc::{
    METHOD_UNKNOWN, Method, PROTOCOL_ERROR, Packet, Query, ResponseFields, WantedFamilies, write_error,
    write_node, write_response,
};
use std::net::{IpAddr, SocketAddr};

/// Bytes of the ping to an unknown node, in addition to the response.
const PROBE_BYTES: usize = 72;

/// Bytes of a node in a list: IPv4, IPv6.
const NODE_BYTES: [usize; 2] = [20 + V4_LEN, 20 + V6_LEN];

/// Bytes of a list without its entries: `6:nodes6304:`.
const LIST_BYTES: usize = 12;

/// The sender of a query, and the limits of the response.
#[derive(Clone, Copy)]
struct QuerySource<'a> {
    from: SocketAddr,
    transaction: &'a [u8],
    want: WantedFamilies,
    /// The sender is in the routing table: its address is verified.
    known: bool,
    /// Largest size of the response, bytes.
    max_bytes: usize,
}

impl Dht {
    /// Responds to a query of `query_len` bytes, if the rate limit allows.
    pub(super) fn on_query(
        &mut self,
        now: Instant,
        from: SocketAddr,
        query_len: usize,
        packet: &Packet<'_>,
        query: &Query<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let mut bytes = Vec::with_capacity(512);
        let t = packet.transaction;
        let family = self.family(from.is_ipv6());
        let own = family.own;
        let known = family.table.contains(from);
        family.table.on_query(now, query.id, from);
        let newcomer = !packet.read_only && family.table.has_room_for(now, query.id, from);
        let probes = newcomer && self.check_address(from.ip(), from).is_some();
        let most = if known { usize::MAX } else { limits::DHT_STRANGER_TIMES * query_len };
        let room = most.saturating_sub(if probes { PROBE_BYTES } else { 0 }).min(limits::DHT_ANSWER_BYTES);
        let source = QuerySource { from, transaction: t, want: query.want, known, max_bytes: room };
        let empty =
            ResponseFields { id: own, nodes: None, nodes6: None, token: None, peers: &[], filters: None };
        match query.method {
            Method::Ping => write_response(t, from, &empty, &mut bytes),
            Method::FindNode { target } => {
                let mut nodes = self.nodes_near(now, target, query.want, from.ip());
                write_response(t, from, &empty, &mut bytes);
                cut(&mut nodes, source.max_bytes.saturating_sub(bytes.len()));
                bytes.clear();
                let fields =
                    ResponseFields { nodes: nodes[0].as_deref(), nodes6: nodes[1].as_deref(), ..empty };
                write_response(t, from, &fields, &mut bytes);
            }
            Method::GetPeers { info_hash, scrape } => {
                self.respond_get_peers(now, source, info_hash, scrape, &mut bytes);
            }
            Method::AnnouncePeer { info_hash, port, seed, token } => {
                let peer =
                    self.check_address(from.ip(), SocketAddr::new(from.ip(), port.unwrap_or(from.port())));
                match peer.filter(|_| self.tokens.verify(now, from.ip(), token)) {
                    Some(peer) => {
                        self.store.announce(now, info_hash, peer, seed);
                        write_response(t, from, &empty, &mut bytes);
                    }
                    None => write_error(t, from, PROTOCOL_ERROR, "bad token", &mut bytes),
                }
            }
            Method::Malformed => write_error(t, from, PROTOCOL_ERROR, "bad arguments", &mut bytes),
            Method::Unknown => write_error(t, from, METHOD_UNKNOWN, "unknown method", &mut bytes),
        }
        debug_assert!(bytes.len() <= limits::DHT_ANSWER_BYTES);
        let probes = probes && bytes.len() + PROBE_BYTES <= most;
        if self.budget.take(now, bytes.len()) {
            self.send(from, bytes, out);
        } else {
            self.stats.withheld_answers += 1;
        }
        if probes && self.budget.take(now, PROBE_BYTES) {
            self.probe(now, from, out);
        }
    }

    fn respond_get_peers(
        &mut self,
        now: Instant,
        source: QuerySource<'_>,
        info_hash: InfoHash,
        scrape: bool,
        bytes: &mut Vec<u8>,
    ) {
        let QuerySource { from, transaction: t, mut want, known, max_bytes: mut room } = source;
        // Filters are long regardless of the query, so unknown nodes get few of them.
        let filters = if scrape { self.store.filters(now, info_hash) } else { None };
        let filters = filters.filter(|_| known || self.scrapes.take(now, limits::DHT_ANSWER_BYTES));
        let filters = filters.as_ref();
        if filters.is_some() {
            // Both filters and nodes of both families do not fit into one packet.
            want = WantedFamilies::default();
            room = limits::DHT_ANSWER_BYTES;
        }
        let v6 = from.is_ipv6();
        let token = self.tokens.issue(now, from.ip());
        let id = self.family(v6).own;
        let mut fields =
            ResponseFields { id, nodes: None, nodes6: None, token: Some(&token), peers: &[], filters };
        write_response(t, from, &fields, bytes);
        let free = room.saturating_sub(bytes.len());
        let mut peers = self.store.peers(now, info_hash, from.ip(), limits::DHT_PEERS_TOLD, &mut self.rng);
        // An entry is an address with its length prefix; the list itself takes ten bytes.
        let entry_len = if v6 { V6_LEN + 3 } else { V4_LEN + 2 };
        let for_peers = if peers.is_empty() { 0 } else { (10 + entry_len * peers.len()).min(free / 2) };
        let mut nodes = self.nodes_near(now, NodeId(info_hash.0), want, from.ip());
        cut(&mut nodes, free - for_peers);
        fields.nodes = nodes[0].as_deref();
        fields.nodes6 = nodes[1].as_deref();
        bytes.clear();
        write_response(t, from, &fields, bytes);
        peers.truncate(room.saturating_sub(bytes.len() + 10) / entry_len);
        if !peers.is_empty() {
            fields.peers = &peers;
            bytes.clear();
            write_response(t, from, &fields, bytes);
        }
    }

    /// Returns the closest nodes in compact form: of the requested families, or of the family of the query if
    /// it requests none (BEP 32).
    fn nodes_near(
        &self,
        now: Instant,
        target: NodeId,
        want: WantedFamilies,
        asker: IpAddr,
    ) -> [Option<Vec<u8>>; 2] {
        let v6 = asker.is_ipv6();
        let wanted = if want == WantedFamilies::default() { [!v6, v6] } else { [want.v4, want.v6] };
        [0, 1].map(|i| {
            wanted[i].then(|| {
                let mut list = Vec::with_capacity(limits::DHT_K * NODE_BYTES[i]);
                let nearest = self.families[i].table.nearest(now, target, limits::DHT_K);
                let allowed = nearest.iter().filter(|n| may_name(asker, n.addr.ip()));
                allowed.for_each(|n| write_node(n.id, n.addr, &mut list));
                list
            })
        })
    }
}

/// Removes the farthest nodes until both lists together take at most `room` bytes.
fn cut(lists: &mut [Option<Vec<u8>>; 2], room: usize) {
    loop {
        let lens = [0, 1].map(|i| lists[i].as_ref().map_or(0, Vec::len));
        let taken = lists.iter().flatten().map(|list| LIST_BYTES + list.len()).sum::<usize>();
        let longer = usize::from(lens[1] > lens[0]);
        match &mut lists[longer] {
            Some(list) if taken > room && !list.is_empty() => {
                list.truncate(lens[longer] - NODE_BYTES[longer]);
            }
            _ => return,
        }
    }
}
