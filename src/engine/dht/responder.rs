//! Other nodes' questions: answered from the table and the store, within a rate, and never larger than fits a
//! packet.
//!
//! A question proves nothing about its sender, whose address may be forged. So it changes nothing in the
//! table but the time of a node that is known; a new one is asked in turn, if there is room for it. What an
//! announce claims is believed only with a token (hazard D3). And what goes to a stranger is at most three
//! times what came from there, all together: forging senders gains little (hazard D6).

use super::node::{Dht, DhtAction};
use crate::engine::limits;
use crate::units::{InfoHash, Instant, NodeId};
use crate::wire::compact::{V4_LEN, V6_LEN, may_name};
use crate::wire::krpc::{
    METHOD_UNKNOWN, Method, PROTOCOL_ERROR, Packet, Query, ResponseFields, WantedFamilies, write_error,
    write_node, write_response,
};
use std::net::{IpAddr, SocketAddr};

/// Bytes of a ping, which is what a question of a stranger may cost beside its answer.
const PROBE_BYTES: usize = 72;

/// Bytes of a node in a list, by family.
const NODE_BYTES: [usize; 2] = [20 + V4_LEN, 20 + V6_LEN];

/// Bytes of a list beside what is in it: `6:nodes6304:`.
const LIST_BYTES: usize = 12;

/// Who asks, and how much may be answered.
#[derive(Clone, Copy)]
struct QuerySource<'a> {
    from: SocketAddr,
    t: &'a [u8],
    want: WantedFamilies,
    /// It has answered a question of ours: it is where it says it is.
    known: bool,
    /// Bytes of an answer.
    room: usize,
}

impl Dht {
    /// Answers a question that took `asked` bytes, if the rate allows.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        from: SocketAddr,
        asked: usize,
        packet: &Packet<'_>,
        query: &Query<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let mut bytes = Vec::with_capacity(512);
        let t = packet.transaction;
        let family = self.family(from.is_ipv6());
        let (own, known) = (family.own, family.table.knows(from));
        family.table.asked(now, query.id, from);
        let newcomer = !packet.read_only && family.table.has_room_for(now, query.id, from);
        let probes = newcomer && self.believable(from.ip(), from).is_some();
        let most = if known { usize::MAX } else { limits::DHT_STRANGER_TIMES * asked };
        let room = most.saturating_sub(if probes { PROBE_BYTES } else { 0 }).min(limits::DHT_ANSWER_BYTES);
        let asker = QuerySource { from, t, want: query.want, known, room };
        let nothing =
            ResponseFields { id: own, nodes: None, nodes6: None, token: None, peers: &[], filters: None };
        match query.method {
            Method::Ping => write_response(t, from, &nothing, &mut bytes),
            Method::FindNode { target } => {
                let mut nodes = self.nodes_near(now, target, query.want, from.ip());
                write_response(t, from, &nothing, &mut bytes);
                cut(&mut nodes, asker.room.saturating_sub(bytes.len()));
                bytes.clear();
                let parts =
                    ResponseFields { nodes: nodes[0].as_deref(), nodes6: nodes[1].as_deref(), ..nothing };
                write_response(t, from, &parts, &mut bytes);
            }
            Method::GetPeers { info_hash, scrape } => {
                self.tell_peers(now, asker, info_hash, scrape, &mut bytes)
            }
            Method::AnnouncePeer { info_hash, port, seed, token } => {
                let peer =
                    self.believable(from.ip(), SocketAddr::new(from.ip(), port.unwrap_or(from.port())));
                match peer.filter(|_| self.tokens.knows(now, from.ip(), token)) {
                    Some(peer) => {
                        self.store.announce(now, info_hash, peer, seed);
                        write_response(t, from, &nothing, &mut bytes);
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

    fn tell_peers(
        &mut self,
        now: Instant,
        asker: QuerySource<'_>,
        info_hash: InfoHash,
        scrape: bool,
        bytes: &mut Vec<u8>,
    ) {
        let QuerySource { from, t, mut want, known, mut room } = asker;
        // Filters are long whatever was asked, so strangers get few of them.
        let filters = if scrape { self.store.filters(now, info_hash) } else { None };
        let filters = filters.filter(|_| known || self.scrapes.take(now, limits::DHT_ANSWER_BYTES));
        let filters = filters.as_ref();
        if filters.is_some() {
            // Both filters and the nodes of both families do not fit into one packet.
            (want, room) = (WantedFamilies::default(), limits::DHT_ANSWER_BYTES);
        }
        let v6 = from.is_ipv6();
        let token = self.tokens.give(now, from.ip());
        let id = self.family(v6).own;
        let mut parts =
            ResponseFields { id, nodes: None, nodes6: None, token: Some(&token), peers: &[], filters };
        write_response(t, from, &parts, bytes);
        let free = room.saturating_sub(bytes.len());
        let mut peers = self.store.peers(now, info_hash, from.ip(), limits::DHT_PEERS_TOLD, &mut self.rng);
        // A peer takes its address and the digits of its length; the list takes ten bytes.
        let entry_len = if v6 { V6_LEN + 3 } else { V4_LEN + 2 };
        let for_peers = if peers.is_empty() { 0 } else { (10 + entry_len * peers.len()).min(free / 2) };
        let mut nodes = self.nodes_near(now, NodeId(info_hash.0), want, from.ip());
        cut(&mut nodes, free - for_peers);
        (parts.nodes, parts.nodes6) = (nodes[0].as_deref(), nodes[1].as_deref());
        bytes.clear();
        write_response(t, from, &parts, bytes);
        peers.truncate(room.saturating_sub(bytes.len() + 10) / entry_len);
        if !peers.is_empty() {
            parts.peers = &peers;
            bytes.clear();
            write_response(t, from, &parts, bytes);
        }
    }

    /// The nearest nodes in compact form: of the families that are wanted, or of the one that the question
    /// came in (BEP 32).
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
                let known_there = nearest.iter().filter(|n| may_name(asker, n.addr.ip()));
                known_there.for_each(|n| write_node(n.id, n.addr, &mut list));
                list
            })
        })
    }
}

/// Leaves the farthest nodes out until both lists together take no more than `room` bytes.
fn cut(lists: &mut [Option<Vec<u8>>; 2], room: usize) {
    loop {
        let lens = [0, 1].map(|i| lists[i].as_ref().map_or(0, Vec::len));
        let taken = lists.iter().flatten().map(|list| LIST_BYTES + list.len()).sum::<usize>();
        let longer = usize::from(lens[1] > lens[0]);
        match &mut lists[longer] {
            Some(list) if taken > room && !list.is_empty() => {
                list.truncate(lens[longer] - NODE_BYTES[longer])
            }
            _ => return,
        }
    }
}
