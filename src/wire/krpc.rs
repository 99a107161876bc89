//! Packets of the DHT: one bencoded dictionary each (BEP 5), with IPv6 (32), scrape (33), the asker's own address (42) and read-only
//! nodes (43).
//!
//! ```text
//!   query  d1:ad2:id20:… e1:q9:find_node1:t2:aa1:y1:qe
//!   reply  d2:ip6:…1:rd2:id20:…5:nodes…e1:t2:aa1:y1:re
//!   error  d1:eli203e9:bad tokene1:t2:aa1:y1:ee
//! ```
//!
//! Reading borrows from the packet and allocates nothing; writing appends to a buffer. What comes out is shape
//! alone: whether a reply answers anything, and whether an address may be asked, is for the engine to say.

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

/// Error code: something else (BEP 5).
pub const GENERIC_ERROR: i64 = 201;
/// Error code: malformed packet, invalid arguments or bad token (BEP 5).
pub const PROTOCOL_ERROR: i64 = 203;
/// Error code: no such method (BEP 5).
pub const METHOD_UNKNOWN: i64 = 204;

/// Bytes of a node id in a list of nodes.
const ID_LEN: usize = 20;

/// Why a packet is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KrpcError {
    /// Not a dictionary of bencode, too long or too full: somebody else's packet, or noise.
    #[error("no packet of the DHT")]
    Alien,
    /// No transaction, or one that is too long to be sent back.
    #[error("no usable transaction id")]
    Transaction,
    /// Neither query nor reply nor error, or one without a sender.
    #[error("neither a query nor a reply nor an error")]
    Kind,
}

/// One packet, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The asker's number of the conversation, at most [`KRPC_TRANSACTION_BYTES`] long.
    pub transaction: &'a [u8],
    /// The receiver's address as the sender sees it (BEP 42).
    pub external_ip: Option<IpAddr>,
    /// Whether the sender wants to stay out of tables (BEP 43).
    pub read_only: bool,
    /// What it is about.
    pub body: PacketBody<'a>,
}

/// The three kinds of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketBody<'a> {
    /// Somebody asks.
    Query(Query<'a>),
    /// Somebody answers.
    Response(Response<'a>),
    /// Somebody refuses.
    Error {
        /// The code, as BEP 5 lists them.
        code: i64,
        /// Words for people; arbitrary bytes.
        text: &'a [u8],
    },
}

/// A question and who asks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// Who asks, as it says itself.
    pub id: NodeId,
    /// Which nodes it wants to hear of (BEP 32).
    pub want: WantedFamilies,
    /// What it asks.
    pub method: Method<'a>,
}

/// Families of nodes that are wanted beside the one that the packet travels in (BEP 32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedFamilies {
    /// `n4`
    pub v4: bool,
    /// `n6`
    pub v6: bool,
}

/// What can be asked (BEP 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// Are you there?
    Ping,
    /// Who is near this place?
    FindNode {
        /// The place.
        target: NodeId,
    },
    /// Who has this torrent?
    GetPeers {
        /// The torrent.
        info_hash: InfoHash,
        /// How many are there? (BEP 33)
        scrape: bool,
    },
    /// I have this torrent.
    AnnouncePeer {
        /// The torrent.
        info_hash: InfoHash,
        /// Where the announcer listens; `None`: at the port that the packet came from (`implied_port`).
        port: Option<u16>,
        /// Whether the announcer has everything (BEP 33).
        seed: bool,
        /// What the receiver gave out in its reply to [`Method::GetPeers`].
        token: &'a [u8],
    },
    /// A method that rill knows, with arguments that are none.
    Malformed,
    /// A method that rill does not know.
    Unknown,
}

/// An answer: lists are as they were written, see [`Response::nodes`] and [`Response::peers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Who answers, as it says itself.
    pub id: NodeId,
    /// What an announce to it must bring.
    pub token: Option<&'a [u8]>,
    nodes: &'a [u8],
    nodes6: &'a [u8],
    values: Lenient<List<'a, Bytes<'a>>>,
    seeds_filter: Option<&'a [u8]>,
    peers_filter: Option<&'a [u8]>,
}

impl<'a> Response<'a> {
    /// The nodes it knows, of one family; addresses are usable. A list of odd length is none at all.
    pub fn nodes(&self, v6: bool) -> impl Iterator<Item = (NodeId, SocketAddr)> + 'a {
        let (list, entry_len) = if v6 { (self.nodes6, ID_LEN + V6_LEN) } else { (self.nodes, ID_LEN + V4_LEN) };
        let entries = list.chunks_exact(entry_len);
        let whole = if entries.remainder().is_empty() { entries } else { [].chunks_exact(entry_len) };
        whole.take(KRPC_NODES).filter_map(|entry| {
            let (id, address) = entry.split_first_chunk::<ID_LEN>()?;
            Some((NodeId(*id), address_of(address)?))
        })
    }

    /// Who has everything and who has not, among those whom it knows, if it counts them (BEP 33).
    pub fn filters(&self) -> Option<[Filter; 2]> {
        Some([Filter::from_slice(self.seeds_filter?)?, Filter::from_slice(self.peers_filter?)?])
    }

    /// The peers it knows, usable addresses all.
    pub fn peers(&self) -> impl Iterator<Item = SocketAddr> + 'a {
        self.values.good_items().filter_map(|Bytes(address)| address_of(address))
    }
}

/// A compact address with its port, if one host can be meant.
fn address_of(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
    usable(ip_of(ip)?, u16::from_be_bytes(port.try_into().ok()?))
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|ip| ip.to_canonical())
}

/// Whether the bytes claim to be a packet of the DHT. No packet of uTP or of a tracker starts like this.
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
    let transaction = message.t.bytes().filter(|t| t.len() <= KRPC_TRANSACTION_BYTES).ok_or(KrpcError::Transaction)?;
    let body = match message.y.bytes() {
        Some(b"q") => {
            message.q.bytes().zip(message.a.0).and_then(|(method, arguments)| query(method, &arguments)).map(PacketBody::Query)
        }
        Some(b"r") => message.r.0.and_then(reply).map(PacketBody::Response),
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

/// The asker's address; most send the port along, some do not.
fn external_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        V4_LEN | V6_LEN => ip_of(bytes.split_last_chunk::<2>()?.0),
        _ => ip_of(bytes),
    }
}

fn query<'a>(method: &[u8], arguments: &Arguments<'a>) -> Option<Query<'a>> {
    let info_hash = arguments.info_hash.bytes().and_then(InfoHash::from_slice);
    let request = match method {
        b"ping" => Some(Method::Ping),
        b"find_node" => arguments.target.bytes().and_then(NodeId::from_slice).map(|target| Method::FindNode { target }),
        b"get_peers" => info_hash.map(|info_hash| Method::GetPeers { info_hash, scrape: arguments.scrape.is_set() }),
        b"announce_peer" => {
            let implied = arguments.implied_port.is_set();
            let port = arguments.port.0.filter(|port| *port != 0);
            info_hash.zip(arguments.token.bytes()).filter(|_| implied || port.is_some()).map(|(info_hash, token)| {
                Method::AnnouncePeer { info_hash, port: port.filter(|_| !implied), seed: arguments.seed.is_set(), token }
            })
        }
        _ => Some(Method::Unknown),
    };
    let mut want = WantedFamilies::default();
    for Bytes(family) in arguments.want.good_items() {
        want.v4 |= family == b"n4";
        want.v6 |= family == b"n6";
    }
    Some(Query { id: NodeId::from_slice(arguments.id.bytes()?)?, want, method: request.unwrap_or(Method::Malformed) })
}

fn reply(results: ReturnValues<'_>) -> Option<Response<'_>> {
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
