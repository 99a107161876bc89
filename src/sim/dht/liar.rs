//! Lying DHT nodes: each kind violates the protocol in one way, and all of them report a wrong external
//! address to the querying node (BEP 42).
//!
//! A liar joins and maintains its table like an honest node, so it gets into other tables; only its responses
//! are wrong.

use crate::units::{NodeId, Rng};
use crate::wire::krpc::{Method, PacketBody, ResponseFields, parse, write_node, write_response};
use std::net::SocketAddr;

/// Behaviour of a lying node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// Returns nonexistent nodes with ids close to the target.
    Invents,
    /// Responds with a new id every time, and returns nodes of a private network.
    Poses,
    /// Returns nonexistent peers, and the addresses of other liars under ids close to the target.
    Lures,
    /// Responds only to queries without a target, such as pings.
    Ignores,
}

impl Lie {
    pub(super) fn of(number: usize) -> Lie {
        [Lie::Invents, Lie::Poses, Lie::Lures, Lie::Ignores][number % 4]
    }

    /// Returns the response to a query; `None` if `bytes` is no query or the node ignores it.
    pub(super) fn respond(
        self,
        own: NodeId,
        from: SocketAddr,
        bytes: &[u8],
        accomplices: &[SocketAddr],
        rng: &mut Rng,
    ) -> Option<Vec<u8>> {
        let packet = parse(bytes).ok()?;
        let PacketBody::Query(query) = packet.body else { return None };
        let target = match query.method {
            Method::FindNode { target } => Some(target),
            Method::GetPeers { info_hash, .. } => Some(NodeId(info_hash.0)),
            _ => None,
        };
        let mut nodes = Vec::new();
        let mut peers = Vec::new();
        let mut id = own;
        for n in 0..if target.is_some() { 8 } else { 0 } {
            let near = target.unwrap_or(own).random_at(100 + n, rng);
            match self {
                Lie::Invents => write_node(near, anywhere(rng), &mut nodes),
                Lie::Poses => {
                    write_node(near, SocketAddr::from(([192, 168, 0, n as u8 + 1], 6881)), &mut nodes);
                }
                Lie::Lures => {
                    peers.push(anywhere(rng));
                    if let Some(accomplice) = accomplices.get(rng.below(accomplices.len())) {
                        write_node(near, *accomplice, &mut nodes);
                    }
                }
                Lie::Ignores => return None,
            }
        }
        if self == Lie::Poses {
            id = NodeId::random(rng);
        }
        let parts = ResponseFields {
            id,
            nodes: Some(&nodes),
            nodes6: None,
            token: Some(b"trust me"),
            peers: &peers,
            filters: None,
        };
        let mut response = Vec::new();
        let elsewhere = SocketAddr::from(([66, 66, 66, 66], from.port()));
        write_response(packet.transaction, elsewhere, &parts, &mut response);
        Some(response)
    }
}

/// Returns an address without a node.
fn anywhere(rng: &mut Rng) -> SocketAddr {
    let [a, b, c, d] = rng.u32().to_be_bytes();
    SocketAddr::from(([130 + a % 30, b, c, d], 6881))
}
