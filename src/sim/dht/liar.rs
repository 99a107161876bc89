//! Nodes that lie: each kind breaks one promise of the protocol, and all of them say that the asker lives
//! elsewhere.
//!
//! A liar joins and keeps its own table as every node does, so it gets into the tables of others; only its
//! answers are wrong.

use crate::units::{NodeId, Rng};
use crate::wire::krpc::{Method, PacketBody, ResponseFields, parse, write_node, write_response};
use std::net::SocketAddr;

/// How a node lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// Names nodes beside the target that do not exist.
    Invents,
    /// Answers under a new id every time, and names nodes of the asker's own network.
    Poses,
    /// Names peers that have nothing, and other liars' addresses under ids beside the target.
    Lures,
    /// Answers pings alone.
    Ignores,
}

impl Lie {
    pub(super) fn of(number: usize) -> Lie {
        [Lie::Invents, Lie::Poses, Lie::Lures, Lie::Ignores][number % 4]
    }

    /// The answer to a query; `None` if there is none, and `bytes` is not a query at all: false.
    pub(super) fn answer(
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
        let (mut nodes, mut peers, mut id) = (Vec::new(), Vec::new(), own);
        for n in 0..if target.is_some() { 8 } else { 0 } {
            let near = target.unwrap_or(own).random_at(100 + n, rng);
            match self {
                Lie::Invents => write_node(near, anywhere(rng), &mut nodes),
                Lie::Poses => {
                    write_node(near, SocketAddr::from(([192, 168, 0, n as u8 + 1], 6881)), &mut nodes)
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
        let mut answer = Vec::new();
        let elsewhere = SocketAddr::from(([66, 66, 66, 66], from.port()));
        write_response(packet.transaction, elsewhere, &parts, &mut answer);
        Some(answer)
    }
}

/// An address without a node.
fn anywhere(rng: &mut Rng) -> SocketAddr {
    let [a, b, c, d] = rng.u32().to_be_bytes();
    SocketAddr::from(([130 + a % 30, b, c, d], 6881))
}
