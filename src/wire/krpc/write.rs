//! Writes DHT packets. Appends to a buffer and allocates nothing else.

use super::dictionaries::{Arguments, ErrorList, KrpcMessage, ReturnValues};
use super::{Method, Query, WantedFamilies};
use crate::units::NodeId;
use crate::wire::bencode::{Bytes, Encoded, Lenient, write};
use crate::wire::bloom::Filter;
use crate::wire::compact::{V4_LEN, V6_LEN, write_compact};
use serde::{Serialize, Serializer};
use std::net::{IpAddr, SocketAddr};

/// The client version in `v` (BEP 5): two letters and two bytes of version.
const VERSION: &[u8] = b"RL\x01\x00";

/// The return values of a response; absent ones are left out.
#[derive(Clone, Copy, Debug)]
pub struct ResponseFields<'a> {
    /// Our node id.
    pub id: NodeId,
    /// Nodes in compact form, 26 bytes each; an empty list is written.
    pub nodes: Option<&'a [u8]>,
    /// Nodes in compact form, 38 bytes each (BEP 32).
    pub nodes6: Option<&'a [u8]>,
    /// The token that an announce needs.
    pub token: Option<&'a [u8]>,
    /// Peers; an empty list is left out.
    pub peers: &'a [SocketAddr],
    /// Bloom filters of seeds and of other peers (BEP 33).
    pub filters: Option<&'a [Filter; 2]>,
}

/// A packet to write, with our own types for its lists.
type WrittenMessage<'a> = KrpcMessage<'a, Values<'a>, &'a [&'a str]>;

fn bytes(bytes: &[u8]) -> Lenient<Bytes<'_>> {
    Lenient(Some(Bytes(bytes)))
}

/// Returns a flag that is written only if it is set.
fn flag(is_set: bool) -> Lenient<i64> {
    Lenient(is_set.then_some(1))
}

/// Returns a packet with the fields that all kinds have.
fn message<'a>(transaction: &'a [u8], kind: &'a [u8]) -> WrittenMessage<'a> {
    KrpcMessage {
        a: Lenient(None),
        e: None,
        ip: Lenient(None),
        q: Lenient(None),
        r: Lenient(None),
        ro: Lenient(None),
        t: bytes(transaction),
        v: bytes(VERSION),
        y: bytes(kind),
    }
}

/// Appends a query.
pub fn write_query(transaction: &[u8], query: &Query<'_>, read_only: bool, out: &mut Vec<u8>) {
    let families: &[&str] = match query.want {
        WantedFamilies { v4: false, v6: false } => &[],
        WantedFamilies { v4: true, v6: false } => &["n4"],
        WantedFamilies { v4: false, v6: true } => &["n6"],
        WantedFamilies { v4: true, v6: true } => &["n4", "n6"],
    };
    let mut arguments = Arguments {
        id: bytes(query.id.as_bytes()),
        implied_port: Lenient(None),
        info_hash: Lenient(None),
        port: Lenient(None),
        scrape: Lenient(None),
        seed: Lenient(None),
        target: Lenient(None),
        token: Lenient(None),
        want: Lenient(Some(families).filter(|families| !families.is_empty())),
    };
    let method = match &query.method {
        Method::Ping | Method::Malformed | Method::Unknown => "ping",
        Method::FindNode { target } => {
            arguments.target = bytes(target.as_bytes());
            "find_node"
        }
        Method::GetPeers { info_hash, scrape } => {
            arguments.info_hash = bytes(info_hash.as_bytes());
            arguments.scrape = flag(*scrape);
            "get_peers"
        }
        Method::AnnouncePeer { info_hash, port, seed, token } => {
            arguments.implied_port = flag(port.is_none());
            arguments.info_hash = bytes(info_hash.as_bytes());
            arguments.port = Lenient(*port);
            arguments.seed = flag(*seed);
            arguments.token = bytes(token);
            "announce_peer"
        }
    };
    let q = bytes(method.as_bytes());
    let ro = flag(read_only);
    write(&KrpcMessage { a: Lenient(Some(arguments)), q, ro, ..message(transaction, b"q") }, out);
}

/// Appends a response to `to`; it contains that address (BEP 42).
pub fn write_response(transaction: &[u8], to: SocketAddr, reply: &ResponseFields<'_>, out: &mut Vec<u8>) {
    let [seeds, peers] = reply
        .filters
        .map_or([None, None], |filters| filters.each_ref().map(|filter| Some(filter.as_bytes())));
    let results = ReturnValues {
        peers_filter: Lenient::of(peers),
        seeds_filter: Lenient::of(seeds),
        id: bytes(reply.id.as_bytes()),
        nodes: Lenient::of(reply.nodes),
        nodes6: Lenient::of(reply.nodes6),
        token: Lenient::of(reply.token),
        values: Lenient(Some(Values(reply.peers)).filter(|_| !reply.peers.is_empty())),
    };
    let to = CompactAddr::from(to);
    write(
        &KrpcMessage { ip: bytes(to.address()), r: Lenient(Some(results)), ..message(transaction, b"r") },
        out,
    );
}

/// Appends an error to `to`; it contains that address (BEP 42).
pub fn write_error(transaction: &[u8], to: SocketAddr, code: i64, text: &str, out: &mut Vec<u8>) {
    let e = Some(Lenient(Some(ErrorList(Lenient(Some(code)), bytes(text.as_bytes())))));
    let to = CompactAddr::from(to);
    write(&KrpcMessage { e, ip: bytes(to.address()), ..message(transaction, b"e") }, out);
}

/// The peers of a response, one string each.
struct Values<'a>(&'a [SocketAddr]);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|peer| CompactAddr::from(*peer)))
    }
}

/// An address and port in compact form, bencoded as a string.
enum CompactAddr {
    V4([u8; 2 + V4_LEN]),
    V6([u8; 3 + V6_LEN]),
}

impl From<SocketAddr> for CompactAddr {
    fn from(addr: SocketAddr) -> CompactAddr {
        let [p, q] = addr.port().to_be_bytes();
        match addr.ip() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                CompactAddr::V4([b'6', b':', a, b, c, d, p, q])
            }
            IpAddr::V6(ip) => {
                let mut encoded = *b"18:................pq";
                let parts = ip.octets().into_iter().chain([p, q]);
                encoded.iter_mut().skip(3).zip(parts).for_each(|(to, from)| *to = from);
                CompactAddr::V6(encoded)
            }
        }
    }
}

impl CompactAddr {
    fn encoded(&self) -> &[u8] {
        match self {
            CompactAddr::V4(encoded) => encoded,
            CompactAddr::V6(encoded) => encoded,
        }
    }

    /// Returns the address and port without the string's length prefix.
    fn address(&self) -> &[u8] {
        match self {
            CompactAddr::V4([_, _, address @ ..]) => address,
            CompactAddr::V6([_, _, _, address @ ..]) => address,
        }
    }
}

impl Serialize for CompactAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Encoded(self.encoded()).serialize(serializer)
    }
}

/// Appends a node in compact form: 26 bytes, or 38 for IPv6 (BEP 32).
pub fn write_node(id: NodeId, addr: SocketAddr, out: &mut Vec<u8>) {
    out.extend(id.as_bytes());
    write_compact(addr, out);
}
