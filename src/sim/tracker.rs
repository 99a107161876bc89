//! The tracker of a virtual world: it knows who has come and hands out some of them, over HTTP or UDP (BEP 3,
//! 15, 23).
//!
//! It reads the questions that real engines write and answers in the bytes that real trackers send.

use crate::units::Rng;
use crate::wire::compact::write_compact;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Where the HTTP tracker lives.
pub(super) const HTTP_URL: &str = "http://tracker.sim/announce";
/// Where the UDP tracker lives, by name.
pub(super) const UDP_URL: &str = "udp://tracker.sim:6969/announce";
/// Its interval, seconds: short, so that peers without addresses soon ask again.
const INTERVAL_S: u32 = 120;

/// Who is there.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Those who may be handed out, in the order they came, and where each stands in it.
    present: Vec<SocketAddr>,
    place: BTreeMap<SocketAddr, usize>,
    connections: u64,
    handout: usize,
}

impl Tracker {
    pub(super) fn new(handout: u32) -> Tracker {
        Tracker { handout: handout as usize, ..Tracker::default() }
    }

    fn come(&mut self, addr: SocketAddr) {
        if !self.place.contains_key(&addr) {
            self.place.insert(addr, self.present.len());
            self.present.push(addr);
        }
    }

    fn go(&mut self, addr: SocketAddr) {
        if let Some(at) = self.place.remove(&addr) {
            self.present.swap_remove(at);
            if let Some(moved) = self.present.get(at) {
                self.place.insert(*moved, at);
            }
        }
    }

    /// Some of those who are there, but not who asks.
    fn some(&self, asks: SocketAddr, numwant: usize, rng: &mut Rng) -> Vec<SocketAddr> {
        let goal = numwant.min(self.handout);
        let mut chosen: Vec<usize> = match self.present.len() <= 2 * goal {
            true => {
                let mut all: Vec<usize> = (0..self.present.len()).collect();
                rng.shuffle(&mut all);
                all
            }
            false => {
                let mut drawn: Vec<usize> = (0..goal * 2).map(|_| rng.below(self.present.len())).collect();
                drawn.sort_unstable();
                drawn.dedup();
                rng.shuffle(&mut drawn);
                drawn
            }
        };
        chosen.retain(|at| self.present[*at] != asks);
        chosen.truncate(goal);
        chosen.into_iter().map(|at| self.present[at]).collect()
    }

    /// One announce: who asks, what happened, how many it wants.
    fn announce(&mut self, asks: SocketAddr, stopped: bool, numwant: usize, rng: &mut Rng) -> Vec<u8> {
        if stopped {
            self.go(asks);
            return Vec::new();
        }
        self.come(asks);
        let mut compact = Vec::new();
        self.some(asks, numwant, rng).into_iter().for_each(|addr| write_compact(addr, &mut compact));
        compact
    }

    /// A puppet announces; it gets addresses as every peer.
    pub(super) fn enter(&mut self, addr: SocketAddr, numwant: usize, rng: &mut Rng) -> Vec<SocketAddr> {
        self.come(addr);
        self.some(addr, numwant, rng)
    }

    /// The body of the reply to an announce over HTTP.
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

    /// The reply to a datagram, if it deserves one.
    pub(super) fn udp(&mut self, from: SocketAddr, packet: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
        let word = |at: usize| packet.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let (action, transaction) = (word(8)?, word(12)?);
        let mut reply = [action.to_be_bytes(), transaction.to_be_bytes()].concat();
        match action {
            0 => {
                self.connections += 1;
                reply.extend((0x7269_6c6c_0000_0000 | self.connections).to_be_bytes());
            }
            1 => {
                const STOPPED: u32 = 3;
                let (event, numwant) = (word(80)?, word(92)?);
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
    fn who_asks_gets_others_and_no_more_than_it_wants() {
        let (mut t, mut rng) = (Tracker::new(10), Rng::new(1));
        let url = format!("{HTTP_URL}?info_hash=x&numwant=80&event=started");
        assert!(parse_reply(&t.http(addr(0), &url, &mut rng)).unwrap().peers.is_empty());
        for n in 1..100 {
            let peers = parse_reply(&t.http(addr(n), &url, &mut rng)).unwrap().peers;
            assert_eq!(peers.len(), usize::from(n.min(10)));
            assert!(!peers.contains(&addr(n)));
        }
    }

    #[test]
    fn who_left_is_not_handed_out() {
        let (mut t, mut rng) = (Tracker::new(10), Rng::new(1));
        for n in 0..3 {
            t.enter(addr(n), 0, &mut rng);
        }
        t.http(addr(1), "http://t/?event=stopped&numwant=0", &mut rng);
        assert_eq!(t.enter(addr(0), 9, &mut rng), [addr(2)]);
    }
}
