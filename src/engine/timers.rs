//! When the engine wants to be called again, and why: one heap, one name a timer.
//!
//! A timer that is armed twice keeps the earlier time; its owner looks at the clock when it fires and arms it
//! again if it was too early. So pushing a deadline back, which happens with every message, costs nothing.

use crate::units::{Instant, PeerKey, TorrentKey};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Entries of the heap, 32 bytes each, that may belong to timers that were disarmed or armed anew, besides
/// one for each that is armed. Ten thousand connections that come and go in a second leave as many behind,
/// each for its whole time-out.
const SPARE_ENTRIES: usize = 1024;

/// Why the engine wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A peer's next time-out: connect, handshake, idle, keep-alive, snub.
    Peer(PeerKey),
    /// Upload slots of a torrent are given anew.
    ChokeRound(TorrentKey),
    /// A torrent's next announce.
    Announce(TorrentKey),
    /// A torrent's next checkpoint.
    Checkpoint(TorrentKey),
    /// Peers with nothing to do look again who is late in a torrent's endgame.
    Endgame(TorrentKey),
    /// A peer that was asked for a torrent's metadata may have been silent for too long.
    Metadata(TorrentKey),
    /// A torrent's peers are to be told of others.
    Pex(TorrentKey),
    /// A torrent's next search in the DHT.
    Search(TorrentKey),
    /// Our node of the DHT has something to do.
    Dht,
    /// When to query the bootstrap nodes again.
    JoinDht,
    /// Nodes of the DHT are kept for the next run.
    KeepNodes,
    /// The next connection may be dialed.
    Dial,
    /// A rate limit has something to give again.
    Refill,
    /// A tracker datagram is sent again or given up.
    UdpTracker,
    /// Trackers that were asked for counts and did not answer are given up.
    Scrape,
    /// Torrents are called out on the local network.
    Lsd,
}

/// All timers of one engine.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
    armed: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Fires `timer` at `at`, or earlier if it was armed for earlier already.
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

    /// Forgets a timer whose owner is gone.
    pub fn disarm(&mut self, timer: Timer) {
        self.armed.remove(&timer);
    }

    /// When the next timer fires.
    pub fn next(&mut self) -> Option<Instant> {
        while let Some(&Reverse((at, timer))) = self.heap.peek() {
            if self.armed.get(&timer) == Some(&at) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes one timer that is due.
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
    fn p13_timers_of_a_hundred_thousand_that_came_and_went_take_no_room() {
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
    fn a_disarmed_timer_does_not_wake_anybody() {
        let mut t = Timers::default();
        t.arm(Timer::Dial, at(5));
        t.disarm(Timer::Dial);
        assert_eq!(t.next(), None);
    }
}
