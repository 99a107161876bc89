//! Other nodes' questions: answered from the table and the store, within a rate, and never larger than fits a packet.
//!
//! A question proves nothing about its sender, whose address may be forged. So it changes nothing in the table but the time of a node that
//! is known; a new one is asked in turn, if there is room for it. What an announce claims is believed only with a token (hazard D3).

use super::core::{Dht, DhtAction};
use crate::engine::limits;
use crate::units::{InfoHash, NodeId, Now};
use crate::wire::compact::{V4_LEN, V6_LEN, can_tell_of};
use crate::wire::krpc::{
    METHOD_UNKNOWN, PROTOCOL_ERROR, Packet, Query, Question, ReplyParts, Want, write_error, write_node, write_reply,
};
use std::net::{IpAddr, SocketAddr};

/// Bytes of a ping, which is what a question of a stranger may cost beside its answer.
const PROBE_BYTES: usize = 72;

/// Who asks for a torrent's peers, and how.
struct Asker<'a> {
    from: SocketAddr,
    t: &'a [u8],
    want: Want,
    scrape: bool,
}

impl Dht {
    /// Answers a question, if the rate allows.
    pub(super) fn answer(
        &mut self,
        now: Now,
        from: SocketAddr,
        packet: &Packet<'_>,
        query: &Query<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let mut bytes = Vec::with_capacity(512);
        let t = packet.transaction;
        let own = self.family(from.is_ipv6()).own;
        let nothing = ReplyParts { id: own, nodes: None, nodes6: None, token: None, peers: &[], filters: None };
        match query.question {
            Question::Ping => write_reply(t, from, &nothing, &mut bytes),
            Question::FindNode { target } => {
                let [nodes, nodes6] = self.nodes_near(now, target, query.want, from.ip());
                let parts = ReplyParts { nodes: nodes.as_deref(), nodes6: nodes6.as_deref(), ..nothing };
                write_reply(t, from, &parts, &mut bytes);
            }
            Question::GetPeers { info_hash, scrape } => {
                self.tell_peers(now, Asker { from, t, want: query.want, scrape }, info_hash, &mut bytes);
            }
            Question::AnnouncePeer { info_hash, port, seed, token } => {
                let peer = self.believable(from.ip(), SocketAddr::new(from.ip(), port.unwrap_or(from.port())));
                match peer.filter(|_| self.tokens.knows(now, from.ip(), token)) {
                    Some(peer) => {
                        self.store.announce(now, info_hash, peer, seed);
                        write_reply(t, from, &nothing, &mut bytes);
                    }
                    None => write_error(t, from, PROTOCOL_ERROR, "bad token", &mut bytes),
                }
            }
            Question::Malformed => write_error(t, from, PROTOCOL_ERROR, "bad arguments", &mut bytes),
            Question::Unknown => write_error(t, from, METHOD_UNKNOWN, "unknown method", &mut bytes),
        }
        debug_assert!(bytes.len() <= limits::DHT_ANSWER_BYTES);
        if self.budget.take(now, bytes.len()) {
            self.send(from, bytes, out);
        } else {
            self.stats.withheld_answers += 1;
        }
        if !packet.read_only {
            self.meet(now, query.id, from, out);
        }
    }

    /// Somebody asked us: a node of ours is still there, another may become one.
    fn meet(&mut self, now: Now, id: NodeId, from: SocketAddr, out: &mut Vec<DhtAction>) {
        let table = &mut self.family(from.is_ipv6()).table;
        table.asked(now, id, from);
        if table.has_room_for(now, id, from) && self.believable(from.ip(), from).is_some() && self.budget.take(now, PROBE_BYTES) {
            self.probe(now, from, out);
        }
    }

    fn tell_peers(&mut self, now: Now, asker: Asker<'_>, info_hash: InfoHash, bytes: &mut Vec<u8>) {
        let Asker { from, t, want, scrape } = asker;
        let filters = if scrape { self.store.filters(now, info_hash) } else { None };
        let filters = filters.as_ref();
        // Both filters and the nodes of both families do not fit into one packet.
        let want = if filters.is_some() { Want::default() } else { want };
        let v6 = from.is_ipv6();
        let token = self.tokens.give(now, from.ip());
        let [nodes, nodes6] = self.nodes_near(now, NodeId(info_hash.0), want, from.ip());
        let id = self.family(v6).own;
        let (nodes, nodes6) = (nodes.as_deref(), nodes6.as_deref());
        let mut parts = ReplyParts { id, nodes, nodes6, token: Some(&token), peers: &[], filters };
        write_reply(t, from, &parts, bytes);
        // A peer takes its address and the digits of its length; the list takes ten bytes.
        let entry_len = if v6 { V6_LEN + 3 } else { V4_LEN + 2 };
        let room = limits::DHT_ANSWER_BYTES.saturating_sub(bytes.len() + 10) / entry_len;
        let peers = self.store.peers(now, info_hash, from.ip(), room.min(limits::DHT_PEERS_TOLD), &mut self.rng);
        if !peers.is_empty() {
            parts.peers = &peers;
            bytes.clear();
            write_reply(t, from, &parts, bytes);
        }
    }

    /// The nearest nodes in compact form: of the families that are wanted, or of the one that the question came in (BEP 32).
    fn nodes_near(&self, now: Now, target: NodeId, want: Want, asker: IpAddr) -> [Option<Vec<u8>>; 2] {
        let v6 = asker.is_ipv6();
        let wanted = if want == Want::default() { [!v6, v6] } else { [want.v4, want.v6] };
        [0, 1].map(|i| {
            wanted[i].then(|| {
                let mut list = Vec::with_capacity(limits::DHT_K * (20 + V6_LEN));
                let nearest = self.families[i].table.nearest(now, target, limits::DHT_K);
                let known_there = nearest.iter().filter(|n| can_tell_of(asker, n.addr.ip()));
                known_there.for_each(|n| write_node(n.id, n.addr, &mut list));
                list
            })
        })
    }
}
