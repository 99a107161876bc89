//! The engine's timers, in one heap.
//!
//! A timer that is armed twice keeps the earlier time. When it fires, its owner compares the clock with the
//! current deadline and arms the timer again if it fired too early. So a deadline is postponed at no cost, as
//! happens with every message.

use crate::units::{Instant, PeerKey, TorrentKey};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Stale heap entries that are tolerated, 32 bytes each, besides one for each armed timer. An entry is stale
/// if its timer was disarmed or armed again. Without the limit, ten thousand connections that open and close
/// within a second would leave ten thousand stale entries, each for its whole time-out.
const SPARE_ENTRIES: usize = 1024;

/// A timer: its purpose, and the peer or torrent that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A peer's next time-out: connect, handshake, idle, keep-alive, snub.
    Peer(PeerKey),
    /// A torrent's next choking round.
    ChokeRound(TorrentKey),
    /// A torrent's next announce.
    Announce(TorrentKey),
    /// A torrent's next checkpoint.
    Checkpoint(TorrentKey),
    /// A torrent's next search for late blocks in endgame.
    Endgame(TorrentKey),
    /// The time-out of the oldest request for a torrent's metadata.
    Metadata(TorrentKey),
    /// A torrent's next PEX messages.
    Pex(TorrentKey),
    /// A torrent's next search in the DHT.
    Search(TorrentKey),
    /// The next deadline of our DHT node.
    Dht,
    /// When to query the bootstrap nodes again.
    JoinDht,
    /// The DHT nodes are saved for the next run.
    KeepNodes,
    /// The next dial.
    Dial,
    /// A rate limit has tokens again.
    Refill,
    /// The next resend or time-out of a UDP tracker request.
    UdpTracker,
    /// The next time-out of a scrape.
    Scrape,
    /// The shutdown's wait for a tracker ends.
    TrackerEnd,
    /// The next announcement to the local network.
    Lsd,
    /// The next question to a router, or the next look for one.
    PortMapping,
    /// The next shared secret of an incoming encrypted connection.
    KeyExchange,
}

/// The timers of one engine.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
    armed: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Arms `timer` for `at`; an earlier time that it is armed for stays. [`Instant::NEVER`] arms nothing.
    pub fn arm(&mut self, timer: Timer, at: Instant) {
        if at == Instant::NEVER || self.armed.get(&timer).is_some_and(|t| *t <= at) {
            return;
        }
        self.armed.insert(timer, at);
        self.heap.push(Reverse((at, timer)));
        if self.heap.len() > SPARE_ENTRIES + 2 * self.armed.len() {
            self.heap.retain(|Reverse((at, timer))| self.armed.get(timer) == Some(at));
        }
    }

    /// Disarms a timer.
    pub fn disarm(&mut self, timer: Timer) {
        self.armed.remove(&timer);
    }

    /// Returns when the next timer fires.
    pub fn next(&mut self) -> Option<Instant> {
        while let Some(&Reverse((at, timer))) = self.heap.peek() {
            if self.armed.get(&timer) == Some(&at) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// Disarms and returns one timer that is due.
    pub fn due(&mut self, now: Instant) -> Option<Timer> {
        let at = self.next().filter(|at| *at <= now)?;
        let Reverse((_, timer)) = self.heap.pop()?;
        debug_assert_eq!(self.armed.get(&timer), Some(&at));
        self.armed.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    #[test]
    fn a_timer_fires_once_at_its_earliest_time() {
        let mut t = Timers::default();
        t.arm(Timer::Dial, at(5));
        t.arm(Timer::Dial, at(9));
        t.arm(Timer::Dial, at(3));
        t.arm(Timer::Refill, at(4));
        assert_eq!(t.next(), Some(at(3)));
        assert_eq!(t.due(at(2)), None);
        assert_eq!(t.due(at(10)), Some(Timer::Dial));
        assert_eq!(t.due(at(10)), Some(Timer::Refill));
        assert_eq!(t.due(at(10)), None);
    }

    #[test]
    fn p13_disarmed_timers_of_a_hundred_thousand_peers_take_no_memory() {
        let mut t = Timers::default();
        t.arm(Timer::Dial, at(20));
        let mut peers = crate::units::SlotMap::default();
        for _ in 0..100_000 {
            let key = peers.insert(());
            t.arm(Timer::Peer(key), at(10));
            t.disarm(Timer::Peer(key));
            peers.remove(key);
        }
        assert!(
            t.heap.len() <= SPARE_ENTRIES + 3 && t.heap.capacity() <= 4 * SPARE_ENTRIES,
            "{}",
            t.heap.capacity()
        );
        assert_eq!((t.due(at(30)), t.due(at(30))), (Some(Timer::Dial), None));
    }

    #[test]
    fn a_disarmed_timer_does_not_fire() {
        let mut t = Timers::default();
        t.arm(Timer::Dial, at(5));
        t.disarm(Timer::Dial);
        assert_eq!(t.next(), None);
    }
}
