//! The nodes of a swarm: engines with the state of their driver, and puppets.

use super::disk::Disk;
use super::link::{LineState, NodeId, PipeId};
use super::puppet::{Puppet, PuppetConnection};
use super::queue::PeerConnections;
use super::rate_checker::RateChecker;
use crate::engine::{Actions, Engine};
use crate::units::{Instant, TorrentKey};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Listening port of every node.
const PORT: u16 = 6881;

/// An engine or a puppet, with its address and line.
#[derive(Debug)]
pub(super) struct SimNode {
    pub(super) addr: SocketAddr,
    pub(super) line: LineState,
    /// Other nodes can connect to it.
    pub(super) dialable: bool,
    /// Until when its router lets packets of another node in.
    pub(super) opened: BTreeMap<NodeId, Instant>,
    /// It has joined and not left.
    pub(super) present: bool,
    /// When it joined.
    pub(super) arrived: Instant,
    pub(super) body: Body,
}

/// The implementation of a node.
#[derive(Debug)]
pub(super) enum Body {
    Engine(Box<EngineNode>),
    Puppet(Box<PuppetNode>),
}

/// A real engine and the state of its driver.
pub(super) struct EngineNode {
    pub(super) engine: Engine,
    pub(super) torrent: TorrentKey,
    /// Actions that are not run yet.
    pub(super) out: Actions,
    pub(super) disk: Disk,
    /// For each connection the pipe into which the engine sends.
    pub(super) connections: PeerConnections,
    /// Streams to read in this turn.
    pub(super) to_read: Vec<PipeId>,
    /// Time of the valid wake-up in the queue; earlier ones are ignored.
    pub(super) wake_at: Instant,
    /// The driver is running its actions.
    pub(super) running_actions: bool,
    /// A delayed turn is in the queue.
    pub(super) turn_due: bool,
    /// Turns so far, to audit the engine at intervals.
    pub(super) turns: u64,
    /// Largest number of requests in flight to one peer under its policy.
    pub(super) most_requests: usize,
    /// Checks of its own rate limits.
    pub(super) rate_checkers: RateCheckers,
    /// It had every piece at the start.
    pub(super) is_seed: bool,
    /// Its policy has no upload slots.
    pub(super) free_rider: bool,
    pub(super) verified_bytes: u64,
    /// When it verified its first piece.
    pub(super) first_piece: Option<Instant>,
    /// When it had 99 % of its bytes.
    pub(super) at_99_percent: Option<Instant>,
    /// When it was complete.
    pub(super) complete: Option<Instant>,
}

/// The upload and the download limit of an engine; `None`: unlimited.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateCheckers {
    pub(super) up: Option<RateChecker>,
    pub(super) down: Option<RateChecker>,
}

impl std::fmt::Debug for EngineNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineNode").field("verified_bytes", &self.verified_bytes).finish_non_exhaustive()
    }
}

/// A puppet and its connections, by the pipe into which it sends.
#[derive(Debug)]
pub(super) struct PuppetNode {
    pub(super) puppet: Puppet,
    pub(super) connections: BTreeMap<PipeId, PuppetConnection>,
}

impl SimNode {
    /// Returns a node that has not joined.
    pub(super) fn new(addr: SocketAddr, line: LineState, dialable: bool, body: Body) -> SimNode {
        SimNode {
            addr,
            line,
            dialable,
            opened: BTreeMap::new(),
            present: false,
            arrived: Instant::ZERO,
            body,
        }
    }

    pub(super) fn engine(&mut self) -> Option<&mut EngineNode> {
        if let Body::Engine(e) = &mut self.body { Some(e) } else { None }
    }

    pub(super) fn puppet(&mut self) -> Option<&mut PuppetNode> {
        if let Body::Puppet(p) = &mut self.body { Some(p) } else { None }
    }
}

/// Distance between the addresses of nodes with consecutive numbers. It spreads a small swarm over many
/// networks, as on the Internet; the peer priority of BEP 40 depends on common prefixes.
const STRIDE: u32 = 0x0101 * 3;
/// Inverse of `STRIDE`: `STRIDE * BACK` is 1 modulo 2¹⁷.
const BACK: u32 = inverse(STRIDE);
/// Mask of the host bits of 198.18.0.0/15, the network for benchmarks (RFC 2544).
const NETWORK: u32 = 0x0001_ffff;

/// Returns the multiplicative inverse of `odd` modulo 2³² (Newton's iteration).
const fn inverse(odd: u32) -> u32 {
    let mut x = odd;
    let mut step = 0;
    while step < 5 {
        x = x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

/// Returns the address of a node in a shared private network, where consecutive nodes have consecutive
/// addresses.
pub(super) fn private_address(number: u32) -> SocketAddr {
    let [_, b, c, d] = (number + 1).to_be_bytes();
    SocketAddr::from(([10, b, c, d], PORT))
}

/// Returns the public address of a node.
pub(super) fn public_address(number: u32) -> SocketAddr {
    let [_, b, c, d] = ((number + 1).wrapping_mul(STRIDE) & NETWORK).to_be_bytes();
    SocketAddr::from(([198, 18 + b, c, d], PORT))
}

/// Returns the number of the node at this address.
pub(super) fn number(addr: SocketAddr) -> Option<u32> {
    let SocketAddr::V4(addr) = addr else { return None };
    let [a, b, c, d] = addr.ip().octets();
    match (a, b) {
        (10, _) => u32::from_be_bytes([0, b, c, d]).checked_sub(1),
        (198, 18 | 19) => (u32::from_be_bytes([0, b - 18, c, d]).wrapping_mul(BACK) & NETWORK).checked_sub(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_address_of_its_own() {
        for n in [0, 1, 254, 255, 256, 65_534, 65_535, 100_000] {
            assert_eq!(number(public_address(n)), Some(n));
            assert_eq!(number(private_address(n)), Some(n));
        }
        assert_eq!(number(SocketAddr::from(([192, 0, 2, 1], 6881))), None);
        let households: std::collections::BTreeSet<[u8; 3]> = (0..100)
            .map(|n| match public_address(n) {
                SocketAddr::V4(a) => [a.ip().octets()[0], a.ip().octets()[1], a.ip().octets()[2]],
                SocketAddr::V6(_) => unreachable!("there are none"),
            })
            .collect();
        assert_eq!(households.len(), 100, "each of 100 nodes has a /24 of its own");
    }
}
