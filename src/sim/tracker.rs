//! The tracker of a simulated swarm: it knows the present nodes and returns some of them, over HTTP or UDP
//! (BEP 3, 15, 23).
//!
//! It parses the requests of real engines and replies with the bytes that a real tracker sends.

use crate::units::Rng;
use crate::wire::compact::write_compact;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Announce URL of the HTTP tracker.
pub(super) const HTTP_URL: &str = "http://tracker.sim/announce";
/// Announce URL of the UDP tracker.
pub(super) const UDP_URL: &str = "udp://tracker.sim:6969/announce";
/// Announce interval in seconds; short, so that peers without addresses announce again soon.
const INTERVAL_S: u32 = 120;

/// State of the tracker.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Addresses of the present nodes; a removal moves the last one into the gap.
    present: Vec<SocketAddr>,
    /// Index of each address in `present`.
    positions: BTreeMap<SocketAddr, usize>,
    connections: u64,
    handout: usize,
}

impl Tracker {
    pub(super) fn new(handout: u32) -> Tracker {
        Tracker { handout: handout as usize, ..Tracker::default() }
    }

    fn insert(&mut self, addr: SocketAddr) {
        if !self.positions.contains_key(&addr) {
            self.positions.insert(addr, self.present.len());
            self.present.push(addr);
        }
    }

    fn remove(&mut self, addr: SocketAddr) {
        if let Some(at) = self.positions.remove(&addr) {
            self.present.swap_remove(at);
            if let Some(moved) = self.present.get(at) {
                self.positions.insert(*moved, at);
            }
        }
    }

    /// Returns up to `numwant` random present addresses other than the requester's.
    fn pick_addresses(&self, from: SocketAddr, numwant: usize, rng: &mut Rng) -> Vec<SocketAddr> {
        let goal = numwant.min(self.handout);
        let mut chosen: Vec<usize> = if self.present.len() <= 2 * goal {
            (0..self.present.len()).collect()
        } else {
            let mut drawn: Vec<usize> = (0..goal * 2).map(|_| rng.below(self.present.len())).collect();
            drawn.sort_unstable();
            drawn.dedup();
            drawn
        };
        rng.shuffle(&mut chosen);
        chosen.retain(|at| self.present[*at] != from);
        chosen.truncate(goal);
        chosen.into_iter().map(|at| self.present[at]).collect()
    }

    /// Handles an announce. Returns the addresses for the requester in compact form (BEP 23).
    fn announce(&mut self, from: SocketAddr, stopped: bool, numwant: usize, rng: &mut Rng) -> Vec<u8> {
        if stopped {
            self.remove(from);
            return Vec::new();
        }
        self.insert(from);
        let mut compact = Vec::new();
        self.pick_addresses(from, numwant, rng)
            .into_iter()
            .for_each(|addr| write_compact(addr, &mut compact));
        compact
    }

    /// Handles the announce of a puppet. Returns addresses, as for any peer.
    pub(super) fn announce_puppet(
        &mut self,
        addr: SocketAddr,
        numwant: usize,
        rng: &mut Rng,
    ) -> Vec<SocketAddr> {
        self.insert(addr);
        self.pick_addresses(addr, numwant, rng)
    }

    /// Returns the body of the reply to an announce over HTTP.
    pub(super) fn http(&mut self, from: SocketAddr, url: &str, rng: &mut Rng) -> Vec<u8> {
        let value =
            |key: &str| url.split(['?', '&']).find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let numwant = value("numwant").and_then(|n| n.parse().ok()).unwrap_or(50);
        let compact = self.announce(from, value("event") == Some("stopped"), numwant, rng);
        let mut body = format!("d8:intervali{INTERVAL_S}e5:peers{}:", compact.len()).into_bytes();
        body.extend(compact);
        body.push(b'e');
        body
    }

    /// Returns the reply to a datagram; `None` if it is no valid request.
    pub(super) fn udp(&mut self, from: SocketAddr, packet: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
        let word = |at: usize| packet.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let action = word(8)?;
        let transaction = word(12)?;
        let mut reply = [action.to_be_bytes(), transaction.to_be_bytes()].concat();
        match action {
            0 => {
                self.connections += 1;
                reply.extend((0x7269_6c6c_0000_0000 | self.connections).to_be_bytes());
            }
            1 => {
                const STOPPED: u32 = 3;
                let event = word(80)?;
                let numwant = word(92)?;
                let compact = self.announce(from, event == STOPPED, numwant as usize, rng);
                reply.extend([INTERVAL_S, 0, 0].map(u32::to_be_bytes).concat());
                reply.extend(compact);
            }
            _ => return None,
        }
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse_reply;

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([198, 18, 0, n], 6881))
    }

    #[test]
    fn a_requester_gets_other_addresses_and_at_most_numwant() {
        let mut t = Tracker::new(10);
        let mut rng = Rng::new(1);
        let url = format!("{HTTP_URL}?info_hash=x&numwant=80&event=started");
        assert!(parse_reply(&t.http(addr(0), &url, &mut rng)).unwrap().peers.is_empty());
        for n in 1..100 {
            let peers = parse_reply(&t.http(addr(n), &url, &mut rng)).unwrap().peers;
            assert_eq!(peers.len(), usize::from(n.min(10)));
            assert!(!peers.contains(&addr(n)));
        }
    }

    #[test]
    fn a_stopped_peer_is_not_returned() {
        let mut t = Tracker::new(10);
        let mut rng = Rng::new(1);
        for n in 0..3 {
            t.announce_puppet(addr(n), 0, &mut rng);
        }
        t.http(addr(1), "http://t/?event=stopped&numwant=0", &mut rng);
        assert_eq!(t.announce_puppet(addr(0), 9, &mut rng), [addr(2)]);
    }
}
