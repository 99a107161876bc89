//! Addresses that we might connect to: where they came from is remembered and does not matter, how they
//! behaved does.
//!
//! At most [`KNOWN_ADDRESSES`](limits::KNOWN_ADDRESSES) are kept; when full, one that failed gives way, and
//! otherwise the new one does. An address that failed is tried once more soon, then waits a minute a failure.
//! Among those that may be dialed the ones with fewer failures go first, then BEP 40's canonical priority,
//! which gives both ends of a connection the same opinion of it.

use crate::engine::limits;
use crate::units::{Instant, Origin, crc32c};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Copy, Debug)]
struct Candidate {
    origin: Origin,
    failures: u32,
    not_before: Instant,
    connected: bool,
    priority: u32,
}

/// The known and the banned addresses of one torrent.
#[derive(Debug, Default)]
pub struct PeerList {
    known: BTreeMap<SocketAddr, Candidate>,
    banned: VecDeque<(IpAddr, Instant)>,
    ours: Option<SocketAddr>,
}

impl PeerList {
    /// Our own address as others see it, for BEP 40; priorities follow it.
    pub fn set_ours(&mut self, ours: SocketAddr) {
        if self.ours.replace(ours) != Some(ours) {
            for (addr, c) in &mut self.known {
                c.priority = priority(ours, *addr);
            }
        }
    }

    /// Learns an address; false if it was known, is banned, or there is no room.
    pub fn learn(&mut self, now: Instant, addr: SocketAddr, origin: Origin) -> bool {
        if addr.port() == 0 || self.known.contains_key(&addr) || self.is_banned(now, addr.ip()) {
            return false;
        }
        if self.known.len() >= limits::KNOWN_ADDRESSES {
            let worst = self.known.iter().filter(|(_, c)| !c.connected).max_by_key(|(_, c)| c.failures);
            match worst {
                Some((addr, c)) if c.failures > 0 => {
                    let addr = *addr;
                    self.known.remove(&addr);
                }
                _ => return false,
            }
        }
        let priority = self.ours.map_or(0, |ours| priority(ours, addr));
        self.known.insert(
            addr,
            Candidate { origin, failures: 0, not_before: Instant::ZERO, connected: false, priority },
        );
        true
    }

    /// Takes the best address that may be dialed now, and counts it as connected; and who told us of it.
    pub fn take(&mut self, now: Instant) -> Option<(SocketAddr, Origin)> {
        let (addr, c) = self
            .known
            .iter_mut()
            .filter(|(_, c)| !c.connected && c.not_before <= now)
            .min_by_key(|(addr, c)| (c.failures, std::cmp::Reverse(c.priority), **addr))?;
        c.connected = true;
        Some((*addr, c.origin))
    }

    /// When the next address may be dialed, if there is one.
    pub fn next(&self) -> Option<Instant> {
        self.known.values().filter(|c| !c.connected).map(|c| c.not_before).min()
    }

    /// The connection is gone. `failed`: it never got to a handshake, was over as soon as it stood, or ended
    /// by the peer's fault. An address is as good as its last connection: who lets us in and hangs up at once
    /// waits longer each time, too.
    pub fn lost(&mut self, now: Instant, addr: SocketAddr, failed: bool) {
        let Some(c) = self.known.get_mut(&addr) else { return };
        c.connected = false;
        c.failures = if failed { c.failures + 1 } else { 0 };
        c.not_before = now
            + if failed && c.failures == 1 {
                limits::REDIAL_SOON
            } else {
                limits::REDIAL * c.failures.max(1)
            };
        if c.failures >= limits::DIAL_FAILURES {
            self.known.remove(&addr);
        }
    }

    /// We hung up because the torrent rests: when it goes on, the address is as good as it was.
    pub fn closed_by_us(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.connected = false;
            c.not_before = now + limits::REDIAL_SOON;
        }
    }

    /// The dial failed for a reason of ours: as if it had not been tried.
    pub fn undo_take(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.connected = false;
            c.not_before = now + limits::CONNECT_TIMEOUT;
        }
    }

    /// Never again: it is ourselves.
    pub fn forget(&mut self, addr: SocketAddr) {
        self.known.remove(&addr);
    }

    /// This host sent bad data.
    pub fn ban(&mut self, now: Instant, ip: IpAddr) {
        if self.banned.len() >= limits::BANNED_ADDRESSES {
            self.banned.pop_front();
        }
        self.banned.push_back((ip, now + limits::BAN));
        self.known.retain(|addr, _| addr.ip() != ip);
    }

    /// Whether this host is not talked to.
    pub fn is_banned(&self, now: Instant, ip: IpAddr) -> bool {
        self.banned.iter().any(|(b, until)| *b == ip && now < *until)
    }

    /// Forgets every address that came from elsewhere than `allowed` says.
    pub fn retain_origins(&mut self, allowed: impl Fn(Origin) -> bool) {
        self.known.retain(|_, c| allowed(c.origin));
    }

    /// Addresses known.
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

/// BEP 40: the same number whichever of the two computes it.
fn priority(a: SocketAddr, b: SocketAddr) -> u32 {
    let masked = |x: IpAddr, y: IpAddr| -> (Vec<u8>, Vec<u8>) {
        let (x, y) = match (x, y) {
            (IpAddr::V4(x), IpAddr::V4(y)) => (x.octets().to_vec(), y.octets().to_vec()),
            (IpAddr::V6(x), IpAddr::V6(y)) => (x.octets().to_vec(), y.octets().to_vec()),
            _ => return (Vec::new(), Vec::new()),
        };
        // Bytes that are kept whole: half of an IPv4 address (48 bits of IPv6), one more for each step of
        // nearness.
        let near = if x.len() == 4 { 2 } else { 6 };
        let same = x.iter().zip(&y).take_while(|(a, b)| a == b).count();
        let whole = if same < near { near } else { (same + 1).min(x.len()) };
        let mask = |v: Vec<u8>| {
            v.into_iter().enumerate().map(|(i, b)| if i < whole { b } else { b & 0x55 }).collect()
        };
        (mask(x), mask(y))
    };
    let (x, y) = match a.ip() == b.ip() {
        true => (a.port().to_be_bytes().to_vec(), b.port().to_be_bytes().to_vec()),
        false => masked(a.ip(), b.ip()),
    };
    let (low, high) = if x <= y { (x, y) } else { (y, x) };
    crc32c(low.iter().chain(&high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    fn at(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    #[test]
    fn bep_40_examples() {
        let p = |a, b| priority(addr(a), addr(b));
        assert_eq!(p("123.213.32.10:0", "98.76.54.32:0"), 0xec2d_7224);
        assert_eq!(p("123.213.32.10:0", "123.213.32.234:0"), 0x9956_8189);
        assert_eq!(p("98.76.54.32:7", "123.213.32.10:9"), p("123.213.32.10:1", "98.76.54.32:1"));
    }

    #[test]
    fn a_failed_address_waits_longer_each_time_and_is_forgotten_in_the_end() {
        let mut c = PeerList::default();
        let a = addr("10.0.0.1:5");
        assert!(c.learn(at(0), a, Origin::Given) && !c.learn(at(0), a, Origin::Given));
        let mut now = at(0);
        for n in 1..limits::DIAL_FAILURES {
            assert_eq!(c.take(now), Some((a, Origin::Given)));
            assert_eq!(c.take(now), None, "dialed twice at once");
            c.lost(now, a, true);
            assert_eq!(c.next(), Some(now + if n == 1 { limits::REDIAL_SOON } else { limits::REDIAL * n }));
            now = c.next().unwrap();
        }
        c.take(now);
        c.lost(now, a, true);
        assert_eq!(c.len(), 0);
    }

    #[test]
    fn whom_we_let_go_is_called_again_as_soon_as_anybody() {
        let mut c = PeerList::default();
        let a = addr("10.0.0.1:5");
        c.learn(at(0), a, Origin::Given);
        c.take(at(0));
        c.closed_by_us(at(100), a);
        assert_eq!(c.next(), Some(at(100) + limits::REDIAL_SOON));
        c.take(at(200));
        c.lost(at(200), a, true);
        assert_eq!(c.next(), Some(at(200) + limits::REDIAL_SOON), "no failure was counted");
    }

    #[test]
    fn the_table_has_a_limit_and_failures_give_way() {
        let mut c = PeerList::default();
        for i in 0..limits::KNOWN_ADDRESSES {
            assert!(c.learn(
                at(0),
                SocketAddr::from(([10, 0, (i / 250) as u8, (i % 250) as u8], 7)),
                Origin::Given
            ));
        }
        assert!(!c.learn(at(0), addr("11.0.0.1:7"), Origin::Given));
        let (a, _) = c.take(at(0)).unwrap();
        c.lost(at(0), a, true);
        assert!(c.learn(at(0), addr("11.0.0.1:7"), Origin::Given));
        assert_eq!(c.len(), limits::KNOWN_ADDRESSES);
    }

    #[test]
    fn a_banned_host_is_not_learnt_again_until_the_ban_ends() {
        let mut c = PeerList::default();
        c.learn(at(0), addr("10.0.0.1:5"), Origin::Given);
        c.ban(at(0), addr("10.0.0.1:5").ip());
        assert_eq!(c.take(at(0)), None);
        assert!(!c.learn(at(1), addr("10.0.0.1:6"), Origin::Given));
        assert!(c.learn(at(0) + limits::BAN, addr("10.0.0.1:6"), Origin::Given));
    }
}
