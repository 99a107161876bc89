//! Packets of the DHT (BEP 5): one bencoded dictionary each, with IPv6 (BEP 32), scrapes (BEP 33), the
//! querier's external address (BEP 42) and read-only nodes (BEP 43).
//!
//! ```text
//!   query     d1:ad2:id20:… e1:q9:find_node1:t2:aa1:y1:qe
//!   response  d2:ip6:…1:rd2:id20:…5:nodes…e1:t2:aa1:y1:re
//!   error     d1:eli203e9:bad tokene1:t2:aa1:y1:ee
//! ```
//!
//! Reading borrows from the packet and allocates nothing; writing appends to a buffer. The engine decides
//! whether a response matches a query and whether an address may be queried.

mod dictionaries;
mod write;

pub use write::{ResponseFields, write_error, write_node, write_query, write_response};

use super::bencode::{Bytes, Lenient, List, Rules, TypeMismatch, scan};
use super::bloom::Filter;
use super::compact::{V4_LEN, V6_LEN, usable};
use super::limits::{KRPC_BYTES, KRPC_NODES, KRPC_TOKENS, KRPC_TRANSACTION_BYTES, MESSAGE_DEPTH};
use crate::units::{InfoHash, NodeId};
use dictionaries::{Arguments, ErrorList, KrpcMessage, ReturnValues};
use std::net::{IpAddr, SocketAddr};
use thiserror::Error;

/// Error code for any other error (BEP 5).
pub const GENERIC_ERROR: i64 = 201;
/// Error code for a malformed packet, invalid arguments or a bad token (BEP 5).
pub const PROTOCOL_ERROR: i64 = 203;
/// Error code for an unknown method (BEP 5).
pub const METHOD_UNKNOWN: i64 = 204;

/// Bytes of a node id in a compact list.
const ID_LEN: usize = 20;

/// Why a packet is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KrpcError {
    /// Not a bencoded dictionary, or one above the limits: a packet of another protocol, or noise.
    #[error("not a DHT packet")]
    Alien,
    /// The transaction id is missing, or too long to echo.
    #[error("no usable transaction id")]
    Transaction,
    /// Neither query, response nor error, or without the sender's id.
    #[error("neither a query nor a response nor an error")]
    Kind,
}

/// A packet, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The querier's transaction id, at most [`KRPC_TRANSACTION_BYTES`] long.
    pub transaction: &'a [u8],
    /// The receiver's address as the sender sees it (BEP 42).
    pub external_ip: Option<IpAddr>,
    /// Whether the sender must not be added to routing tables (BEP 43).
    pub read_only: bool,
    /// The query, response or error.
    pub body: PacketBody<'a>,
}

/// The three kinds of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketBody<'a> {
    /// A query.
    Query(Query<'a>),
    /// A response.
    Response(Response<'a>),
    /// An error.
    Error {
        /// The error code, as in BEP 5.
        code: i64,
        /// A message for humans; arbitrary bytes.
        text: &'a [u8],
    },
}

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The id that the querier claims.
    pub id: NodeId,
    /// The address families of nodes that the querier wants (BEP 32).
    pub want: WantedFamilies,
    /// The method and its arguments.
    pub method: Method<'a>,
}

/// Address families of the nodes that a response should contain (BEP 32); without any, that of the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedFamilies {
    /// IPv4 (`n4`).
    pub v4: bool,
    /// IPv6 (`n6`).
    pub v6: bool,
}

/// The methods of BEP 5 with their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// Checks that the node is alive.
    Ping,
    /// Requests the nodes closest to an id.
    FindNode {
        /// The id.
        target: NodeId,
    },
    /// Requests peers of a torrent.
    GetPeers {
        /// The torrent.
        info_hash: InfoHash,
        /// Whether the response should count the peers (BEP 33).
        scrape: bool,
    },
    /// Announces the querier as a peer of a torrent.
    AnnouncePeer {
        /// The torrent.
        info_hash: InfoHash,
        /// The port of the peer; `None`: the source port of the packet (`implied_port`).
        port: Option<u16>,
        /// Whether the peer has all pieces (BEP 33).
        seed: bool,
        /// The token from the receiver's response to [`Method::GetPeers`].
        token: &'a [u8],
    },
    /// A known method with invalid arguments.
    Malformed,
    /// An unknown method.
    Unknown,
}

/// A response. Its lists are kept as written: see [`Response::nodes`] and [`Response::peers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The id that the responder claims.
    pub id: NodeId,
    /// The token that an announce to this node needs.
    pub token: Option<&'a [u8]>,
    nodes: &'a [u8],
    nodes6: &'a [u8],
    values: Lenient<List<'a, Bytes<'a>>>,
    seeds_filter: Option<&'a [u8]>,
    peers_filter: Option<&'a [u8]>,
}

impl<'a> Response<'a> {
    /// Returns the nodes of one address family that can be queried, at most [`KRPC_NODES`]. A list of odd
    /// length counts as absent.
    pub fn nodes(&self, v6: bool) -> impl Iterator<Item = (NodeId, SocketAddr)> + 'a {
        let (list, entry_len) =
            if v6 { (self.nodes6, ID_LEN + V6_LEN) } else { (self.nodes, ID_LEN + V4_LEN) };
        let entries = list.chunks_exact(entry_len);
        let whole = if entries.remainder().is_empty() { entries } else { [].chunks_exact(entry_len) };
        whole.take(KRPC_NODES).filter_map(|entry| {
            let (id, address) = entry.split_first_chunk::<ID_LEN>()?;
            Some((NodeId(*id), address_of(address)?))
        })
    }

    /// Returns the Bloom filters of seeds and of other peers, if the node counted them (BEP 33).
    pub fn filters(&self) -> Option<[Filter; 2]> {
        Some([Filter::from_slice(self.seeds_filter?)?, Filter::from_slice(self.peers_filter?)?])
    }

    /// Returns the peers that can be dialed.
    pub fn peers(&self) -> impl Iterator<Item = SocketAddr> + 'a {
        self.values.good_items().filter_map(|Bytes(address)| address_of(address))
    }
}

/// Reads a compact address with its port; `None` if it cannot be dialed.
fn address_of(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
    usable(ip_of(ip)?, u16::from_be_bytes(port.try_into().ok()?))
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|ip| ip.to_canonical())
}

/// Returns whether the bytes start like a DHT packet. Packets of uTP and of trackers start with another byte.
pub fn claims_to_be(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'd')
}

/// Reads a packet.
pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, KrpcError> {
    const RULES: Rules = Rules { depth: MESSAGE_DEPTH, tokens: KRPC_TOKENS, strict: false };
    if bytes.len() > KRPC_BYTES {
        return Err(KrpcError::Alien);
    }
    let scanned = scan(bytes, &RULES).map_err(|_| KrpcError::Alien)?;
    let message: KrpcMessage = scanned.value.read().map_err(|TypeMismatch| KrpcError::Alien)?;
    let transaction =
        message.t.bytes().filter(|t| t.len() <= KRPC_TRANSACTION_BYTES).ok_or(KrpcError::Transaction)?;
    let body = match message.y.bytes() {
        Some(b"q") => message
            .q
            .bytes()
            .zip(message.a.0)
            .and_then(|(method, arguments)| query(method, &arguments))
            .map(PacketBody::Query),
        Some(b"r") => message.r.0.and_then(response).map(PacketBody::Response),
        Some(b"e") => message.e.map(error),
        _ => None,
    };
    Ok(Packet {
        transaction,
        external_ip: message.ip.bytes().and_then(external_ip),
        read_only: message.ro.0 == Some(1),
        body: body.ok_or(KrpcError::Kind)?,
    })
}

/// Reads our external address; most nodes append the port, some do not.
fn external_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        V4_LEN | V6_LEN => ip_of(bytes.split_last_chunk::<2>()?.0),
        _ => ip_of(bytes),
    }
}

/// Builds a query from its dictionary; `None` without a valid id.
fn query<'a>(method: &[u8], arguments: &Arguments<'a>) -> Option<Query<'a>> {
    let info_hash = arguments.info_hash.bytes().and_then(InfoHash::from_slice);
    let method = match method {
        b"ping" => Some(Method::Ping),
        b"find_node" => {
            arguments.target.bytes().and_then(NodeId::from_slice).map(|target| Method::FindNode { target })
        }
        b"get_peers" => {
            info_hash.map(|info_hash| Method::GetPeers { info_hash, scrape: arguments.scrape.is_set() })
        }
        b"announce_peer" => {
            let implied = arguments.implied_port.is_set();
            let port = arguments.port.0.filter(|port| *port != 0);
            info_hash.zip(arguments.token.bytes()).filter(|_| implied || port.is_some()).map(
                |(info_hash, token)| Method::AnnouncePeer {
                    info_hash,
                    port: port.filter(|_| !implied),
                    seed: arguments.seed.is_set(),
                    token,
                },
            )
        }
        _ => Some(Method::Unknown),
    };
    let mut want = WantedFamilies::default();
    for Bytes(family) in arguments.want.good_items() {
        want.v4 |= family == b"n4";
        want.v6 |= family == b"n6";
    }
    Some(Query {
        id: NodeId::from_slice(arguments.id.bytes()?)?,
        want,
        method: method.unwrap_or(Method::Malformed),
    })
}

fn response(results: ReturnValues<'_>) -> Option<Response<'_>> {
    Some(Response {
        id: NodeId::from_slice(results.id.bytes()?)?,
        token: results.token.bytes(),
        nodes: results.nodes.bytes().unwrap_or_default(),
        nodes6: results.nodes6.bytes().unwrap_or_default(),
        values: results.values,
        seeds_filter: results.seeds_filter.bytes(),
        peers_filter: results.peers_filter.bytes(),
    })
}

fn error(refusal: Lenient<ErrorList<'_>>) -> PacketBody<'_> {
    let (code, text) = refusal.0.map_or((None, None), |ErrorList(code, text)| (code.0, text.bytes()));
    PacketBody::Error { code: code.unwrap_or(GENERIC_ERROR), text: text.unwrap_or_default() }
}

#[cfg(test)]
mod tests;
