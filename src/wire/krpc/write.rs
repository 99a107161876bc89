//! Packets of the DHT as rill writes them: by hand, keys in ascending order, no tree in between.

use super::{Query, Question, Want};
use crate::units::NodeId;
use crate::wire::bloom::Filter;
use crate::wire::compact::write_compact;
use std::net::SocketAddr;

/// What rill calls itself in `v`: two letters, two bytes of version.
const VERSION: &[u8] = b"RL\x01\x00";

/// What goes into a reply; empty lists are left out.
#[derive(Clone, Copy, Debug)]
pub struct ReplyParts<'a> {
    /// Who answers.
    pub id: NodeId,
    /// Nodes in compact form, 26 bytes each; `Some` and empty is an empty list.
    pub nodes: Option<&'a [u8]>,
    /// Nodes in compact form, 38 bytes each (BEP 32).
    pub nodes6: Option<&'a [u8]>,
    /// What an announce must bring.
    pub token: Option<&'a [u8]>,
    /// Peers.
    pub peers: &'a [SocketAddr],
    /// Seeds and other peers, to be counted (BEP 33).
    pub filters: Option<&'a [Filter; 2]>,
}

/// Appends a query.
pub fn write_query(transaction: &[u8], query: &Query<'_>, read_only: bool, out: &mut Vec<u8>) {
    out.extend(b"d1:ad2:id");
    string(query.id.as_bytes(), out);
    let method: &[u8] = match query.question {
        Question::Ping | Question::Malformed | Question::Unknown => b"ping",
        Question::FindNode { target } => {
            out.extend(b"6:target");
            string(target.as_bytes(), out);
            b"find_node"
        }
        Question::GetPeers { info_hash, scrape } => {
            out.extend(b"9:info_hash");
            string(info_hash.as_bytes(), out);
            out.extend(if scrape { &b"6:scrapei1e"[..] } else { b"" });
            b"get_peers"
        }
        Question::AnnouncePeer { info_hash, port, seed, token } => {
            out.extend(if port.is_none() { &b"12:implied_porti1e"[..] } else { b"" });
            out.extend(b"9:info_hash");
            string(info_hash.as_bytes(), out);
            if let Some(port) = port {
                out.extend(format!("4:porti{port}e").bytes());
            }
            out.extend(if seed { &b"4:seedi1e"[..] } else { b"" });
            out.extend(b"5:token");
            string(token, out);
            b"announce_peer"
        }
    };
    if query.want != Want::default() {
        out.extend(b"4:wantl");
        out.extend(if query.want.v4 { &b"2:n4"[..] } else { b"" });
        out.extend(if query.want.v6 { &b"2:n6"[..] } else { b"" });
        out.push(b'e');
    }
    out.extend(b"e1:q");
    string(method, out);
    if read_only {
        out.extend(b"2:roi1e");
    }
    tail(transaction, b'q', out);
}

/// Appends a reply to `to`, who learns its own address from it.
pub fn write_reply(transaction: &[u8], to: SocketAddr, reply: &ReplyParts<'_>, out: &mut Vec<u8>) {
    out.extend(b"d2:ip");
    string_of_address(to, out);
    out.extend(b"1:rd");
    if let Some([seeds, peers]) = reply.filters {
        for (key, filter) in [(&b"4:BFpe"[..], peers), (b"4:BFsd", seeds)] {
            out.extend(key);
            string(filter.as_bytes(), out);
        }
    }
    out.extend(b"2:id");
    string(reply.id.as_bytes(), out);
    for (key, list) in [(&b"5:nodes"[..], reply.nodes), (b"6:nodes6", reply.nodes6), (b"5:token", reply.token)] {
        if let Some(list) = list {
            out.extend(key);
            string(list, out);
        }
    }
    if !reply.peers.is_empty() {
        out.extend(b"6:valuesl");
        reply.peers.iter().for_each(|peer| string_of_address(*peer, out));
        out.push(b'e');
    }
    out.push(b'e');
    tail(transaction, b'r', out);
}

/// Appends a refusal to `to`.
pub fn write_error(transaction: &[u8], to: SocketAddr, code: i64, text: &str, out: &mut Vec<u8>) {
    out.extend(format!("d1:eli{code}e").bytes());
    string(text.as_bytes(), out);
    out.extend(b"e2:ip");
    string_of_address(to, out);
    tail(transaction, b'e', out);
}

fn tail(transaction: &[u8], kind: u8, out: &mut Vec<u8>) {
    out.extend(b"1:t");
    string(transaction, out);
    out.extend(b"1:v");
    string(VERSION, out);
    out.extend([b'1', b':', b'y', b'1', b':', kind, b'e']);
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    let len = bytes.len();
    for (rest, least) in [(len / 1000, 1000), (len / 100, 100), (len / 10, 10), (len, 0)] {
        if len >= least {
            out.push(b'0' | (rest % 10) as u8);
        }
    }
    out.push(b':');
    out.extend(bytes);
}

fn string_of_address(addr: SocketAddr, out: &mut Vec<u8>) {
    out.extend(if addr.is_ipv4() { &b"6:"[..] } else { b"18:" });
    write_compact(addr, out);
}

/// Appends a node in compact form: 26 bytes, or 38 for IPv6 (BEP 32).
pub fn write_node(id: NodeId, addr: SocketAddr, out: &mut Vec<u8>) {
    out.extend(id.as_bytes());
    write_compact(addr, out);
}
