//! The dialer: the rate limit of dials, and the order in which torrents dial.

use super::limits;
use crate::units::Instant;
use std::time::Duration;

/// Time between two dials in the long run.
pub(super) const DIAL_STEP: Duration = Duration::from_micros(1_000_000 / limits::DIALS_PER_SECOND as u64);
/// How far the virtual clock may run ahead: a burst of [`limits::DIALS_AT_ONCE`] dials.
const DIAL_LEAD: Duration = DIAL_STEP.saturating_mul(limits::DIALS_AT_ONCE - 1);

/// The rate limiter of dials, and the round robin of torrents.
#[derive(Debug, Default)]
pub struct Dialer {
    /// Virtual clock of the rate limit (GCRA): ahead of the real time after a burst.
    paid_until: Instant,
    /// Index of the torrent whose turn is next.
    next: usize,
}

impl Dialer {
    /// Returns when the next address may be dialed; `None` if it may be dialed now.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        let ahead = self.paid_until.since(now);
        (ahead > DIAL_LEAD).then(|| now + (ahead - DIAL_LEAD))
    }

    /// Returns the torrents and their indices in the order of their turns.
    pub fn in_turns<'a, T>(&self, torrents: &'a [T]) -> impl Iterator<Item = (usize, &'a T)> + use<'a, T> {
        let start = self.next.min(torrents.len());
        let with_index =
            move |from: usize, part: &'a [T]| part.iter().enumerate().map(move |(at, t)| (from + at, t));
        with_index(start, &torrents[start..]).chain(with_index(0, &torrents[..start]))
    }

    /// Counts a dial of the torrent at index `at`; the turn passes to the torrent after it.
    pub fn on_dial(&mut self, now: Instant, at: usize) {
        self.next = at + 1;
        self.paid_until = self.paid_until.max(now) + DIAL_STEP;
    }

    /// Delays the next dial by a second: the system is out of descriptors, ports or memory.
    pub fn pause(&mut self, now: Instant) {
        self.paid_until = now + DIAL_LEAD + Duration::from_secs(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_the_long_run_rate() {
        let mut dialer = Dialer::default();
        let now = Instant::from_micros(10_000_000);
        for _ in 0..limits::DIALS_AT_ONCE {
            assert_eq!(dialer.wait_until(now), None);
            dialer.on_dial(now, 0);
        }
        assert_eq!(dialer.wait_until(now), Some(now + DIAL_STEP));
        dialer.pause(now);
        assert_eq!(dialer.wait_until(now), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn torrents_take_turns() {
        let mut dialer = Dialer::default();
        let order = |d: &Dialer| d.in_turns(&["a", "b", "c"]).map(|(_, t)| *t).collect::<String>();
        assert_eq!(order(&dialer), "abc");
        dialer.on_dial(Instant::ZERO, 1);
        assert_eq!(order(&dialer), "cab");
        dialer.on_dial(Instant::ZERO, 2);
        assert_eq!(order(&dialer), "abc", "the turn wraps around after the last torrent");
    }
}
