//! Packets of the DHT: one bencoded dictionary each (BEP 5), with IPv6 (32), scrape (33), the asker's own address (42) and read-only
//! nodes (43).
//!
//! ```text
//!   query  d1:ad2:id20:… e1:q9:find_node1:t2:aa1:y1:qe
//!   reply  d2:ip6:…1:rd2:id20:…5:nodes…e1:t2:aa1:y1:re
//!   error  d1:eli203e9:bad tokene1:t2:aa1:y1:ee
//! ```
//!
//! Reading borrows from the packet and allocates nothing; writing puts keys in ascending order by hand. What comes out is shape
//! alone: whether a reply answers anything, and whether an address may be asked, is for the engine to say.

mod write;

pub use write::{ReplyParts, write_error, write_node, write_query, write_reply};

use super::bencode::{Rules, Value, scan};
use super::bloom::Filter;
use super::compact::{V4_LEN, V6_LEN, usable};
use super::limits::{KRPC_BYTES, KRPC_NODES, KRPC_TOKENS, KRPC_TRANSACTION_BYTES, MESSAGE_DEPTH};
use crate::units::{InfoHash, NodeId};
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
    pub body: Body<'a>,
}

/// The three kinds of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Somebody asks.
    Query(Query<'a>),
    /// Somebody answers.
    Reply(Reply<'a>),
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
    pub want: Want,
    /// What it asks.
    pub question: Question<'a>,
}

/// Families of nodes that are wanted beside the one that the packet travels in (BEP 32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// `n4`
    pub v4: bool,
    /// `n6`
    pub v6: bool,
}

/// What can be asked (BEP 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question<'a> {
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
        /// What the receiver gave out in its reply to [`Question::GetPeers`].
        token: &'a [u8],
    },
    /// A method that rill knows, with arguments that are none.
    Malformed,
    /// A method that rill does not know.
    Unknown,
}

/// An answer: lists are as they were written, see [`Reply::nodes`] and [`Reply::peers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Who answers, as it says itself.
    pub id: NodeId,
    /// What an announce to it must bring.
    pub token: Option<&'a [u8]>,
    nodes: &'a [u8],
    nodes6: &'a [u8],
    values: Option<Value<'a>>,
    seeds_filter: Option<&'a [u8]>,
    peers_filter: Option<&'a [u8]>,
}

impl<'a> Reply<'a> {
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
        self.values.and_then(Value::items).into_iter().flatten().filter_map(|v| address_of(v.string()?))
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
    let value = scan(bytes, &RULES).map_err(|_| KrpcError::Alien)?.value;
    let (mut kind, mut method, mut arguments, mut results, mut refusal) = (None, None, None, None, None);
    let (mut transaction, mut read_only, mut external) = (None, None, None);
    for (key, value) in value.pairs().ok_or(KrpcError::Alien)? {
        // Of a key that comes twice the first counts.
        let slot = match key {
            b"a" => &mut arguments,
            b"e" => &mut refusal,
            b"ip" => &mut external,
            b"q" => &mut method,
            b"r" => &mut results,
            b"ro" => &mut read_only,
            b"t" => &mut transaction,
            b"y" => &mut kind,
            _ => continue,
        };
        slot.get_or_insert(value);
    }
    let transaction = transaction.and_then(Value::string).ok_or(KrpcError::Transaction)?;
    if transaction.len() > KRPC_TRANSACTION_BYTES {
        return Err(KrpcError::Transaction);
    }
    let body = match kind.and_then(Value::string) {
        Some(b"q") => query(method, arguments).map(Body::Query),
        Some(b"r") => results.and_then(reply).map(Body::Reply),
        Some(b"e") => refusal.map(error),
        _ => None,
    };
    Ok(Packet {
        transaction,
        external_ip: external.and_then(Value::string).and_then(external_ip),
        read_only: read_only.and_then(Value::int) == Some(1),
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

fn query<'a>(method: Option<Value<'a>>, arguments: Option<Value<'a>>) -> Option<Query<'a>> {
    let method = method?.string()?;
    let (mut id, mut target, mut info_hash, mut implied, mut port, mut token, mut want) =
        (None, None, None, None, None, None, None);
    let (mut scrape, mut seed) = (None, None);
    for (key, value) in arguments?.pairs()? {
        let slot = match key {
            b"id" => &mut id,
            b"implied_port" => &mut implied,
            b"info_hash" => &mut info_hash,
            b"port" => &mut port,
            b"scrape" => &mut scrape,
            b"seed" => &mut seed,
            b"target" => &mut target,
            b"token" => &mut token,
            b"want" => &mut want,
            _ => continue,
        };
        slot.get_or_insert(value);
    }
    let info_hash = info_hash.and_then(Value::string).and_then(InfoHash::from_slice);
    let question = match method {
        b"ping" => Some(Question::Ping),
        b"find_node" => target.and_then(Value::string).and_then(NodeId::from_slice).map(|target| Question::FindNode { target }),
        b"get_peers" => info_hash.map(|info_hash| Question::GetPeers { info_hash, scrape: is_set(scrape) }),
        b"announce_peer" => {
            let implied = is_set(implied);
            let port = port.and_then(Value::int).and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
            let token = token.and_then(Value::string);
            info_hash.zip(token).filter(|_| implied || port.is_some()).map(|(info_hash, token)| Question::AnnouncePeer {
                info_hash,
                port: port.filter(|_| !implied),
                seed: is_set(seed),
                token,
            })
        }
        _ => Some(Question::Unknown),
    };
    let mut families = Want::default();
    for family in want.and_then(Value::items).into_iter().flatten() {
        families.v4 |= family.string() == Some(b"n4");
        families.v6 |= family.string() == Some(b"n6");
    }
    Some(Query { id: NodeId::from_slice(id?.string()?)?, want: families, question: question.unwrap_or(Question::Malformed) })
}

fn is_set(flag: Option<Value<'_>>) -> bool {
    flag.and_then(Value::int).is_some_and(|flag| flag != 0)
}

fn reply(results: Value<'_>) -> Option<Reply<'_>> {
    let (mut id, mut nodes, mut nodes6, mut token, mut values) = (None, None, None, None, None);
    let (mut seeds_filter, mut peers_filter) = (None, None);
    for (key, value) in results.pairs()? {
        let slot = match key {
            b"BFpe" => &mut peers_filter,
            b"BFsd" => &mut seeds_filter,
            b"id" => &mut id,
            b"nodes" => &mut nodes,
            b"nodes6" => &mut nodes6,
            b"token" => &mut token,
            b"values" => &mut values,
            _ => continue,
        };
        slot.get_or_insert(value);
    }
    Some(Reply {
        id: NodeId::from_slice(id?.string()?)?,
        token: token.and_then(Value::string),
        nodes: nodes.and_then(Value::string).unwrap_or_default(),
        nodes6: nodes6.and_then(Value::string).unwrap_or_default(),
        values,
        seeds_filter: seeds_filter.and_then(Value::string),
        peers_filter: peers_filter.and_then(Value::string),
    })
}

fn error(refusal: Value<'_>) -> Body<'_> {
    let mut items = refusal.items().into_iter().flatten();
    let code = items.next().and_then(Value::int).unwrap_or(GENERIC_ERROR);
    Body::Error { code, text: items.next().and_then(Value::string).unwrap_or_default() }
}

#[cfg(test)]
mod tests;
