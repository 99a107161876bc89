//! Who takes part: engines with all that their hands know, and puppets.

use super::disk::Disk;
use super::link::{LineState, PipeId};
use super::puppet::{Puppet, Talk};
use super::queue::PeerConnections;
use super::rate_checker::Cap;
use crate::engine::{Actions, Engine};
use crate::units::{Instant, TorrentKey};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The port that every node listens at.
const PORT: u16 = 6881;

/// One participant.
#[derive(Debug)]
pub(super) struct SimNode {
    pub(super) addr: SocketAddr,
    pub(super) line: LineState,
    /// Others can dial it.
    pub(super) dialable: bool,
    /// It has come and not gone.
    pub(super) present: bool,
    pub(super) arrived: Instant,
    pub(super) body: Body,
}

/// What a participant is.
#[derive(Debug)]
pub(super) enum Body {
    Engine(Box<EngineNode>),
    Puppet(Box<PuppetNode>),
}

/// A real engine, and what its hands know.
pub(super) struct EngineNode {
    pub(super) engine: Engine,
    pub(super) torrent: TorrentKey,
    pub(super) out: Actions,
    pub(super) disk: Disk,
    /// Its connections: for each key the pipe that it sends into.
    pub(super) connections: PeerConnections,
    /// Streams that are to be read in this turn.
    pub(super) to_read: Vec<PipeId>,
    /// The wake-up that is in the queue; earlier ones are void.
    pub(super) wake_at: Instant,
    /// Its actions are being carried out.
    pub(super) acting: bool,
    /// A late turn is in the queue.
    pub(super) turn_due: bool,
    /// Turns so far: the whole oracle looks only now and then.
    pub(super) turns: u64,
    /// The most requests that its policy has out to one peer.
    pub(super) most_requests: usize,
    /// Its own limits, if it has any.
    pub(super) caps: Caps,
    /// It began with everything.
    pub(super) is_seed: bool,
    pub(super) free_rider: bool,
    pub(super) verified_bytes: u64,
    pub(super) first_piece: Option<Instant>,
    pub(super) nearly: Option<Instant>,
    pub(super) complete: Option<Instant>,
}

/// An engine's limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub(super) up: Option<Cap>,
    pub(super) down: Option<Cap>,
}

impl std::fmt::Debug for EngineNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineNode").field("verified_bytes", &self.verified_bytes).finish_non_exhaustive()
    }
}

/// A puppet and its connections, by the pipe that it sends into.
#[derive(Debug)]
pub(super) struct PuppetNode {
    pub(super) puppet: Puppet,
    pub(super) talks: BTreeMap<PipeId, Talk>,
}

impl SimNode {
    /// A node with this number and line.
    pub(super) fn new(addr: SocketAddr, line: LineState, dialable: bool, body: Body) -> SimNode {
        SimNode { addr, line, dialable, present: false, arrived: Instant::ZERO, body }
    }

    pub(super) fn engine(&mut self) -> Option<&mut EngineNode> {
        if let Body::Engine(e) = &mut self.body { Some(e) } else { None }
    }

    pub(super) fn puppet(&mut self) -> Option<&mut PuppetNode> {
        if let Body::Puppet(p) = &mut self.body { Some(p) } else { None }
    }
}

/// Neighbours by number are not neighbours by address, or all of a small swarm would be one household to each
/// other: this many steps lie between them, round the whole network.
const STRIDE: u32 = 0x0101 * 3;
/// The step back: `STRIDE * BACK` is 1 in 17 bits.
const BACK: u32 = inverse(STRIDE);
/// Addresses in the network that RFC 2544 keeps for such tests, less one.
const NETWORK: u32 = 0x0001_ffff;

/// The number by which to multiply to undo a multiplication by `odd`, modulo a power of two (Newton's
/// iteration).
const fn inverse(odd: u32) -> u32 {
    let (mut x, mut step) = (odd, 0);
    while step < 5 {
        x = x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

/// Where the node with this number is reached on a private network that they all are in, one beside the
/// other.
pub(super) fn address_at_home(number: u32) -> SocketAddr {
    let [_, b, c, d] = (number + 1).to_be_bytes();
    SocketAddr::from(([10, b, c, d], PORT))
}

/// Where the node with this number is reached on the Internet.
pub(super) fn address(number: u32) -> SocketAddr {
    let [_, b, c, d] = ((number + 1).wrapping_mul(STRIDE) & NETWORK).to_be_bytes();
    SocketAddr::from(([198, 18 + b, c, d], PORT))
}

/// The number of the node at this address.
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
            assert_eq!(number(address(n)), Some(n));
            assert_eq!(number(address_at_home(n)), Some(n));
        }
        assert_eq!(number(SocketAddr::from(([192, 0, 2, 1], 6881))), None);
        let households: std::collections::BTreeSet<[u8; 3]> = (0..100)
            .map(|n| match address(n) {
                SocketAddr::V4(a) => [a.ip().octets()[0], a.ip().octets()[1], a.ip().octets()[2]],
                SocketAddr::V6(_) => unreachable!("there are none"),
            })
            .collect();
        assert_eq!(households.len(), 100, "and few share a network");
    }
}
