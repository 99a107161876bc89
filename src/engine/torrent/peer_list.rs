//! The known addresses of a torrent: which to dial next, and which are banned.
//!
//! At most [`KNOWN_ADDRESSES`](limits::KNOWN_ADDRESSES) are kept. A new address replaces one that failed, and
//! is dropped if none did. After its first failure an address is dialed again soon, then after a minute a
//! failure. Addresses with fewer failures are dialed first, then by canonical peer priority (BEP 40), which
//! is the same on both ends of a connection.

use crate::engine::limits;
use crate::units::{Instant, Origin, PeerKey, TransportKind, crc32c};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Copy, Debug)]
struct Candidate {
    origin: Origin,
    failures: u32,
    not_before: Instant,
    connected: bool,
    /// Its last connection with a handshake lasted, and ended without its fault.
    reliable: bool,
    priority: u32,
    /// Whether the peer is expected to want encryption (MSE); `None` if nothing is known.
    encrypted: Option<bool>,
    /// It was dialed again at once, the other way, and has not answered since.
    retried: bool,
    /// The transport of the next attempt, if both are allowed.
    transport: TransportKind,
    /// The last attempt over uTP failed.
    utp_failed: bool,
    /// Another peer says that it answers over uTP.
    utp_hinted: bool,
    /// The peer that named it and can introduce us (BEP 55).
    introducer: Option<PeerKey>,
    /// An introducer may be asked from this time on.
    ask_from: Instant,
    /// It was told to dial us, and is dialed before all others.
    punched: bool,
}

/// The known and the banned addresses of one torrent.
#[derive(Debug, Default)]
pub struct PeerList {
    known: BTreeMap<SocketAddr, Candidate>,
    banned: VecDeque<(IpAddr, Instant)>,
    ours: Option<SocketAddr>,
}

impl PeerList {
    /// Sets our external address, and computes the priorities anew (BEP 40).
    pub fn set_ours(&mut self, ours: SocketAddr) {
        if self.ours.replace(ours) != Some(ours) {
            for (addr, c) in &mut self.known {
                c.priority = priority(ours, *addr);
            }
        }
    }

    /// Adds an address; returns false if it is known or banned, or there is no room.
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
            Candidate {
                origin,
                failures: 0,
                not_before: Instant::ZERO,
                connected: false,
                reliable: false,
                priority,
                encrypted: None,
                retried: false,
                transport: TransportKind::Tcp,
                utp_failed: false,
                utp_hinted: false,
                introducer: None,
                ask_from: Instant::ZERO,
                punched: false,
            },
        );
        true
    }

    /// Returns the best address that may be dialed now and its origin, and marks it as connected.
    pub fn take(&mut self, now: Instant) -> Option<(SocketAddr, Origin)> {
        let (addr, c) = self
            .known
            .iter_mut()
            .filter(|(_, c)| !c.connected && c.not_before <= now)
            .min_by_key(|(addr, c)| (!c.punched, c.failures, std::cmp::Reverse(c.priority), **addr))?;
        c.connected = true;
        c.punched = false;
        Some((*addr, c.origin))
    }

    /// Returns when the next address may be dialed, if there is one.
    pub fn next(&self) -> Option<Instant> {
        self.known.values().filter(|c| !c.connected).map(|c| c.not_before).min()
    }

    /// Handles the end of a connection. `failed`: it had no handshake, ended right after it, or ended through
    /// the peer's fault. A success resets the failures, so a peer that accepts and closes at once must count
    /// as failed.
    pub fn lost(&mut self, now: Instant, addr: SocketAddr, failed: bool) {
        let Some(c) = self.known.get_mut(&addr) else { return };
        c.connected = false;
        c.retried &= failed;
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

    /// Notes whether the last connection with this peer lasted, and ended without the peer's fault.
    pub fn set_reliable(&mut self, addr: SocketAddr, reliable: bool) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.reliable = reliable;
        }
    }

    /// The same as [`lost`](PeerList::lost) while pieces are missing and no other peer is connected. A reliable
    /// peer is dialed again within [`REDIAL_ONLY_MAX`](limits::REDIAL_ONLY_MAX), and kept.
    pub fn lost_only(&mut self, now: Instant, addr: SocketAddr, failed: bool) {
        match self.known.get_mut(&addr) {
            Some(c) if c.reliable => {
                c.connected = false;
                c.retried &= failed;
                c.failures = if failed { (c.failures + 1).min(limits::DIAL_FAILURES - 1) } else { 0 };
                c.not_before = now + (limits::REDIAL_SOON * c.failures.max(1)).min(limits::REDIAL_ONLY_MAX);
            }
            _ => self.lost(now, addr, failed),
        }
    }

    /// Handles a connection that we closed because the torrent was paused: its failures are unchanged.
    pub fn closed_by_us(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.connected = false;
            c.not_before = now + limits::REDIAL_SOON;
        }
    }

    /// Handles a dial that failed on this machine: its failures are unchanged.
    pub fn undo_take(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.connected = false;
            c.not_before = now + limits::CONNECT_TIMEOUT;
        }
    }

    /// The network was away: every address may be dialed again soon, however often it failed meanwhile.
    pub fn retry(&mut self, now: Instant) {
        for c in self.known.values_mut().filter(|c| !c.connected) {
            c.not_before = c.not_before.min(now + limits::REDIAL_SOON);
        }
    }

    /// Returns whether the peer is expected to want encryption (MSE); `None` if nothing is known.
    pub fn encrypted(&self, addr: SocketAddr) -> Option<bool> {
        self.known.get(&addr)?.encrypted
    }

    /// Notes whether the next attempt is to be encrypted.
    pub fn set_encrypted(&mut self, addr: SocketAddr, encrypted: bool) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.encrypted = Some(encrypted);
        }
    }

    /// Notes that another peer says that this one wants encryption; own experience outweighs it.
    pub fn hint_encrypted(&mut self, addr: SocketAddr) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.encrypted.get_or_insert(true);
        }
    }

    /// Has an address dialed again at once, without a failure counted. Returns false if that happened already
    /// since the peer last answered.
    pub fn dial_again(&mut self, addr: SocketAddr) -> bool {
        let Some(c) = self.known.get_mut(&addr).filter(|c| !c.retried) else { return false };
        c.retried = true;
        c.connected = false;
        true
    }

    /// Returns the transport over which to dial an address, if both are allowed.
    pub fn transport(&self, addr: SocketAddr) -> TransportKind {
        self.known.get(&addr).map_or(TransportKind::Tcp, |c| c.transport)
    }

    /// Notes the transport of a connection that had its handshake: the next attempt begins with it.
    pub fn on_connected_over(&mut self, addr: SocketAddr, over: TransportKind) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.transport = over;
            c.utp_failed &= over != TransportKind::Utp;
        }
    }

    /// Notes that another peer says that this one answers over uTP.
    pub fn hint_utp(&mut self, addr: SocketAddr) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.utp_hinted = true;
        }
    }

    /// Notes the peer that named this address and can introduce us (BEP 55), which is done over uTP.
    pub fn set_introducer(&mut self, addr: SocketAddr, introducer: PeerKey) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.introducer = Some(introducer);
            c.utp_hinted = true;
        }
    }

    /// Returns the peer that can introduce us to this address, unless one was asked lately.
    pub fn introducer(&self, now: Instant, addr: SocketAddr) -> Option<PeerKey> {
        self.known.get(&addr).filter(|c| c.ask_from <= now)?.introducer
    }

    /// Notes that an introducer was asked.
    pub fn on_asked(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.ask_from = now + limits::HOLEPUNCH_ASK_AGAIN;
        }
    }

    /// An introduced peer dials us: has it dialed over uTP before all others. Returns false if it is connected,
    /// being dialed or banned, or there is no room.
    pub fn punch(&mut self, now: Instant, addr: SocketAddr) -> bool {
        self.learn(now, addr, Origin::Pex);
        let Some(c) = self.known.get_mut(&addr).filter(|c| !c.connected) else { return false };
        c.transport = TransportKind::Utp;
        c.not_before = now;
        c.punched = true;
        true
    }

    /// TCP could not reach an address: has it dialed over uTP at once, without a failure counted. Returns false
    /// if uTP is hopeless, too.
    pub fn dial_over_utp(&mut self, addr: SocketAddr) -> bool {
        let Some(c) = self.known.get_mut(&addr).filter(|c| !c.utp_failed || c.utp_hinted) else {
            return false;
        };
        c.transport = TransportKind::Utp;
        c.connected = false;
        // Encryption has its own attempts over each transport.
        c.retried = false;
        true
    }

    /// An attempt over uTP failed, or its connection ended at once: the next attempt goes over TCP.
    pub fn on_utp_failed(&mut self, addr: SocketAddr) {
        if let Some(c) = self.known.get_mut(&addr) {
            c.transport = TransportKind::Tcp;
            c.utp_failed = true;
        }
    }

    /// Removes an address: it is our own.
    pub fn forget(&mut self, addr: SocketAddr) {
        self.known.remove(&addr);
    }

    /// Bans a host that sent bad data, and removes its addresses.
    pub fn ban(&mut self, now: Instant, ip: IpAddr) {
        if self.banned.len() >= limits::BANNED_ADDRESSES {
            self.banned.pop_front();
        }
        self.banned.push_back((ip, now + limits::BAN));
        self.known.retain(|addr, _| addr.ip() != ip);
    }

    /// Returns whether a host is banned.
    pub fn is_banned(&self, now: Instant, ip: IpAddr) -> bool {
        self.banned.iter().any(|(b, until)| *b == ip && now < *until)
    }

    /// Removes the addresses of every origin that is not `allowed`.
    pub fn retain_origins(&mut self, allowed: impl Fn(Origin) -> bool) {
        self.known.retain(|_, c| allowed(c.origin));
    }

    /// Returns the number of known addresses.
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

/// Returns the canonical peer priority of a connection, the same on both ends (BEP 40).
fn priority(a: SocketAddr, b: SocketAddr) -> u32 {
    let masked = |x: IpAddr, y: IpAddr| -> (Vec<u8>, Vec<u8>) {
        let (x, y) = match (x, y) {
            (IpAddr::V4(x), IpAddr::V4(y)) => (x.octets().to_vec(), y.octets().to_vec()),
            (IpAddr::V6(x), IpAddr::V6(y)) => (x.octets().to_vec(), y.octets().to_vec()),
            _ => return (Vec::new(), Vec::new()),
        };
        // Unmasked leading bytes: 2 of an IPv4 and 6 of an IPv6 address, or one more than both have in
        // common.
        let least = if x.len() == 4 { 2 } else { 6 };
        let same = x.iter().zip(&y).take_while(|(a, b)| a == b).count();
        let whole = if same < least { least } else { (same + 1).min(x.len()) };
        let mask = |v: Vec<u8>| {
            v.into_iter().enumerate().map(|(i, b)| if i < whole { b } else { b & 0x55 }).collect()
        };
        (mask(x), mask(y))
    };
    let (x, y) = if a.ip() == b.ip() {
        (a.port().to_be_bytes().to_vec(), b.port().to_be_bytes().to_vec())
    } else {
        masked(a.ip(), b.ip())
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
    fn a_failed_address_waits_longer_each_time_and_is_removed_at_last() {
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
    fn the_only_peer_is_dialed_again_within_half_a_minute_and_kept() {
        let mut c = PeerList::default();
        let a = addr("10.0.0.1:5");
        c.learn(at(0), a, Origin::Given);
        c.take(at(0));
        c.set_reliable(a, true);
        c.lost_only(at(100), a, false);
        assert_eq!(c.next(), Some(at(100) + limits::REDIAL_SOON));
        for n in 0..50 {
            c.take(at(1000 * n));
            c.lost_only(at(1000 * n), a, true);
            assert!(c.next().unwrap() <= at(1000 * n) + limits::REDIAL_ONLY_MAX);
        }
        let never = addr("10.0.0.2:5");
        c.learn(at(0), never, Origin::Given);
        c.take(at(0));
        for _ in 0..limits::DIAL_FAILURES {
            c.lost_only(at(0), never, true);
        }
        assert_eq!(c.len(), 1, "an address without a lasting connection is removed");
    }

    #[test]
    fn a_connection_that_we_closed_counts_no_failure() {
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
    fn a_full_list_replaces_addresses_that_failed() {
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
    fn a_banned_host_is_not_added_again_until_the_ban_ends() {
        let mut c = PeerList::default();
        c.learn(at(0), addr("10.0.0.1:5"), Origin::Given);
        c.ban(at(0), addr("10.0.0.1:5").ip());
        assert_eq!(c.take(at(0)), None);
        assert!(!c.learn(at(1), addr("10.0.0.1:6"), Origin::Given));
        assert!(c.learn(at(0) + limits::BAN, addr("10.0.0.1:6"), Origin::Given));
    }
}
