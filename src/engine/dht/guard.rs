//! Flood protection: ignores addresses that send too many packets and limits the rate of responses, so that
//! forged queries cannot make us flood another host (hazard D6).

use crate::engine::limits;
use crate::units::{Instant, bytes_within};
use crate::wire::compact::is_local;
use std::net::SocketAddr;

/// Packet count of one address.
#[derive(Clone, Copy, Debug)]
struct CountedSender {
    address: SocketAddr,
    packets: u32,
    since: Instant,
    ignored_until: Instant,
}

/// Packet counts of the addresses that send most.
#[derive(Debug, Default)]
pub(super) struct Guard {
    senders: Vec<CountedSender>,
}

impl Guard {
    /// Counts a packet. Returns false if it is to be ignored.
    pub(super) fn accepts(&mut self, now: Instant, from: SocketAddr) -> bool {
        // A local address may run several nodes, so its port counts; a public address counts as one.
        let address = if is_local(from.ip()) { from } else { SocketAddr::new(from.ip(), 0) };
        if let Some(t) = self.senders.iter_mut().find(|t| t.address == address) {
            if now < t.ignored_until {
                return false;
            }
            if now.since(t.since) >= limits::DHT_GUARD_TIME {
                t.since = now;
                t.packets = 0;
            }
            t.packets += 1;
            if t.packets > limits::DHT_GUARD_PACKETS {
                t.ignored_until = now + limits::DHT_GUARD_SILENCE;
                return false;
            }
            return true;
        }
        let sender = CountedSender { address, packets: 1, since: now, ignored_until: Instant::ZERO };
        if self.senders.len() < limits::DHT_GUARDED_ADDRESSES {
            self.senders.push(sender);
        } else {
            // Replace the address with the fewest packets, the oldest of them first; ignored addresses stay.
            let replaced = self
                .senders
                .iter_mut()
                .filter(|t| t.ignored_until <= now)
                .min_by_key(|t| (t.packets, t.since));
            if let Some(replaced) = replaced {
                *replaced = sender;
            }
        }
        true
    }

    /// Returns the number of counted addresses.
    pub(super) fn len(&self) -> usize {
        self.senders.len()
    }
}

/// A token bucket for bytes of responses.
#[derive(Debug)]
pub(super) struct Budget {
    per_second_bytes: u64,
    burst_bytes: u64,
    left_bytes: u64,
    at: Instant,
}

impl Budget {
    /// Returns a full bucket with this rate and capacity.
    pub(super) fn new(now: Instant, per_second_bytes: u64, burst_bytes: u64) -> Budget {
        Budget { per_second_bytes, burst_bytes, left_bytes: burst_bytes, at: now }
    }

    /// Takes `bytes` from the bucket. Returns false, and takes nothing, if it holds less.
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
    fn d6_a_sender_of_more_than_fifty_packets_in_ten_seconds_is_ignored_for_five_minutes() {
        let mut guard = Guard::default();
        assert!((0..50).all(|n| guard.accepts(at(n * 100), host(1))));
        assert!(
            !guard.accepts(at(5_000), SocketAddr::new(host(1).ip(), 7)),
            "another port of the same address is ignored too"
        );
        assert!(guard.accepts(at(5_000), host(2)));
        assert!(!guard.accepts(at(304_999), host(1)));
        assert!(guard.accepts(at(305_000), host(1)));
    }

    #[test]
    fn d6_a_slow_sender_is_never_ignored() {
        let mut guard = Guard::default();
        assert!((0..1000).all(|n| guard.accepts(at(n * 250), host(1))));
    }

    #[test]
    fn d6_the_guard_counts_twenty_addresses_and_keeps_ignored_ones() {
        let mut guard = Guard::default();
        assert_eq!((0..60).filter(|n| guard.accepts(at(*n), host(1))).count(), 50);
        for n in 2..=255 {
            assert!(guard.accepts(at(100 + u64::from(n)), host(n)));
        }
        assert_eq!(guard.len(), limits::DHT_GUARDED_ADDRESSES);
        assert!(!guard.accepts(at(1000), host(1)));
    }

    #[test]
    fn d6_responses_have_a_rate_limit() {
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
