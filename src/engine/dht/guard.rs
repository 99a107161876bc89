//! Which senders are ignored for a while, and how much is answered: no sender can use us to flood another
//! host (hazard D6).

use crate::engine::limits;
use crate::units::{Instant, bytes_within};
use crate::wire::compact::is_local;
use std::net::SocketAddr;

/// One address that talks.
#[derive(Clone, Copy, Debug)]
struct Talker {
    address: SocketAddr,
    packets: u32,
    since: Instant,
    silenced_until: Instant,
}

/// Counts packets of the few loudest addresses.
#[derive(Debug, Default)]
pub(super) struct Guard {
    talkers: Vec<Talker>,
}

impl Guard {
    /// A packet came: is it heard?
    pub(super) fn hears(&mut self, now: Instant, from: SocketAddr) -> bool {
        // Behind a local address there may be many programs, behind a public one a single one.
        let address = if is_local(from.ip()) { from } else { SocketAddr::new(from.ip(), 0) };
        if let Some(t) = self.talkers.iter_mut().find(|t| t.address == address) {
            if now < t.silenced_until {
                return false;
            }
            if now.since(t.since) >= limits::DHT_GUARD_TIME {
                (t.since, t.packets) = (now, 0);
            }
            t.packets += 1;
            if t.packets > limits::DHT_GUARD_PACKETS {
                t.silenced_until = now + limits::DHT_GUARD_SILENCE;
                return false;
            }
            return true;
        }
        let talker = Talker { address, packets: 1, since: now, silenced_until: Instant::ZERO };
        if self.talkers.len() < limits::DHT_GUARDED_ADDRESSES {
            self.talkers.push(talker);
        } else {
            // Ignored senders stay; of the others the one with the fewest packets gives way, and of those the
            // oldest.
            let quietest = self
                .talkers
                .iter_mut()
                .filter(|t| t.silenced_until <= now)
                .min_by_key(|t| (t.packets, t.since));
            if let Some(quietest) = quietest {
                *quietest = talker;
            }
        }
        true
    }

    /// Addresses that are counted.
    pub(super) fn len(&self) -> usize {
        self.talkers.len()
    }
}

/// Bytes that may be answered.
#[derive(Debug)]
pub(super) struct Budget {
    per_second_bytes: u64,
    burst_bytes: u64,
    left_bytes: u64,
    at: Instant,
}

impl Budget {
    /// So much a second, and at most so much at once.
    pub(super) fn new(now: Instant, per_second_bytes: u64, burst_bytes: u64) -> Budget {
        Budget { per_second_bytes, burst_bytes, left_bytes: burst_bytes, at: now }
    }

    /// Takes `bytes`, if there are as many.
    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let earned = bytes_within(self.per_second_bytes, now.since(self.at));
        if earned > 0 {
            self.left_bytes = self.left_bytes.saturating_add(earned).min(self.burst_bytes);
            self.at = now;
        }
        match self.left_bytes.checked_sub(bytes as u64) {
            Some(left) => {
                self.left_bytes = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn host(n: u8) -> SocketAddr {
        SocketAddr::from(([8, 8, 8, n], 1000 + u16::from(n)))
    }

    #[test]
    fn d6_who_sends_fifty_packets_in_ten_seconds_is_not_heard_for_five_minutes() {
        let mut guard = Guard::default();
        assert!((0..50).all(|n| guard.hears(at(n * 100), host(1))));
        assert!(!guard.hears(at(5_000), SocketAddr::new(host(1).ip(), 7)), "another port is no way out");
        assert!(guard.hears(at(5_000), host(2)));
        assert!(!guard.hears(at(304_999), host(1)));
        assert!(guard.hears(at(305_000), host(1)));
    }

    #[test]
    fn d6_who_talks_slowly_is_always_heard() {
        let mut guard = Guard::default();
        assert!((0..1000).all(|n| guard.hears(at(n * 250), host(1))));
    }

    #[test]
    fn d6_the_table_holds_twenty_and_keeps_the_loud() {
        let mut guard = Guard::default();
        assert_eq!((0..60).filter(|n| guard.hears(at(*n), host(1))).count(), 50);
        for n in 2..=255 {
            assert!(guard.hears(at(100 + u64::from(n)), host(n)));
        }
        assert_eq!(guard.len(), limits::DHT_GUARDED_ADDRESSES);
        assert!(!guard.hears(at(1000), host(1)));
    }

    #[test]
    fn d6_answers_have_a_rate() {
        let mut budget =
            Budget::new(at(0), limits::DHT_ANSWERS_PER_SECOND_BYTES, limits::DHT_ANSWERS_BURST_BYTES);
        let mut sent = 0;
        for ms in 0..60_000 {
            sent += if budget.take(at(ms), 300) { 300 } else { 0 };
        }
        let allowed = limits::DHT_ANSWERS_BURST_BYTES + 60 * limits::DHT_ANSWERS_PER_SECOND_BYTES;
        assert!((allowed - 600..=allowed).contains(&sent), "{sent}");
    }
}
