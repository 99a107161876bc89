//! The congestion window of one stream: LEDBAT (RFC 6817), in integers.
//!
//! The delay of a packet is measured by two unsynchronized clocks, so only its difference to the least delay
//! seen, the base, has a meaning: it is the time in queues. All delays wrap at 2³² µs.

use super::limits::{
    BASE_BIN_US, BASE_BINS, CUT_INTERVAL_US, GAIN_BYTES, SEND_BYTES, SKEW_STEP_US, TARGET_US,
};

/// The least delays of the last minutes.
#[derive(Debug, Default)]
pub(super) struct BaseDelay {
    bins: [u32; BASE_BINS],
    used: usize,
    bin_began_us: u64,
}

impl BaseDelay {
    /// Takes a sample; returns by how much the base fell, 0 if it did not.
    pub(super) fn on_sample(&mut self, now_us: u64, delay: u32) -> u32 {
        let before = self.base();
        if self.used == 0 || now_us.saturating_sub(self.bin_began_us) >= BASE_BIN_US {
            self.bins.rotate_right(1);
            self.bins[0] = delay;
            self.used = (self.used + 1).min(BASE_BINS);
            self.bin_began_us = now_us;
        } else if is_less(delay, self.bins[0]) {
            self.bins[0] = delay;
        }
        match (before, self.base()) {
            (Some(before), Some(now)) if is_less(now, before) => before.wrapping_sub(now),
            _ => 0,
        }
    }

    /// Returns the least delay.
    pub(super) fn base(&self) -> Option<u32> {
        let bins = &self.bins[..self.used];
        bins.iter().copied().reduce(|a, b| if is_less(a, b) { a } else { b })
    }

    fn raise(&mut self, by: u32) {
        self.bins.iter_mut().for_each(|bin| *bin = bin.wrapping_add(by));
    }
}

/// Returns whether `a` is less than `b` on a circle of 2³².
fn is_less(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// The congestion window.
#[derive(Debug)]
pub(super) struct Ledbat {
    window: i64,
    packet: i64,
    threshold: i64,
    base: BaseDelay,
    recent: [u32; 3],
    samples: usize,
    /// The least delays of this half of a round trip and of the one before.
    halves: [Option<u32>; 2],
    half_began_us: u64,
    cut_at_us: Option<u64>,
}

impl Ledbat {
    /// Returns the window of a new stream with packets of this size.
    pub(super) fn new(packet: usize) -> Ledbat {
        let packet = packet as i64;
        Ledbat {
            window: 2 * packet,
            packet,
            threshold: SEND_BYTES as i64,
            base: BaseDelay::default(),
            recent: [0; 3],
            samples: 0,
            halves: [None; 2],
            half_began_us: 0,
            cut_at_us: None,
        }
    }

    /// Returns the window in bytes.
    pub(super) fn window(&self) -> usize {
        self.window as usize
    }

    /// Takes a delay that the peer measured; 0 and 0x7fffffff mean that it has none.
    pub(super) fn on_delay(&mut self, now_us: u64, delay: u32, round_trip_us: u64) {
        if delay == 0 || delay == 0x7fff_ffff {
            return;
        }
        self.base.on_sample(now_us, delay);
        self.recent[self.samples % 3] = delay;
        self.samples += 1;
        if now_us.saturating_sub(self.half_began_us) > round_trip_us / 2 {
            self.halves = [None, self.halves[0]];
            self.half_began_us = now_us;
        }
        self.halves[0] =
            Some(self.halves[0].map_or(delay, |least| if is_less(delay, least) { delay } else { least }));
    }

    /// Takes a fall of the base of the delays that we measure: the peer's clock is slower than ours, so the
    /// delays that the peer measures rise without a queue.
    pub(super) fn on_skew(&mut self, fall: u32) {
        if fall <= SKEW_STEP_US {
            self.base.raise(fall);
        }
    }

    /// Returns the time that packets wait in queues, in microseconds: the least of the last three in slow start,
    /// which must end soon. Later the least of a round trip: a burst, such as delayed acknowledgements let off,
    /// makes a queue that empties again.
    pub(super) fn queuing_us(&self) -> i64 {
        let Some(base) = self.base.base() else { return 0 };
        let recent = &self.recent[..self.samples.min(3)];
        let slow_start = self.window < self.threshold;
        let halves = self.halves.iter().flatten().filter(|_| !slow_start);
        let waits = recent.iter().chain(halves).map(|delay| i64::from(delay.wrapping_sub(base) as i32));
        waits.min().unwrap_or(0).max(0)
    }

    /// Takes an acknowledgement of new bytes; `full` says that the window limited the sender.
    pub(super) fn on_ack(&mut self, bytes: usize, full: bool) {
        if !full {
            return;
        }
        let off = (TARGET_US - self.queuing_us()).clamp(-TARGET_US, TARGET_US);
        let bytes = bytes as i64;
        if self.window < self.threshold && off > TARGET_US / 10 {
            self.window += bytes;
        } else if self.window < self.threshold {
            // The queue that is measured now is that of the window of a round trip ago, half of this one.
            self.window /= 2;
            self.threshold = self.window.max(self.packet);
        } else {
            self.window += GAIN_BYTES * bytes * off / (self.window * TARGET_US);
        }
        self.window = self.window.clamp(self.packet, SEND_BYTES as i64);
    }

    /// Halves the window after a loss, at most once in [`CUT_INTERVAL_US`].
    pub(super) fn on_loss(&mut self, now_us: u64) {
        if self.cut_at_us.is_some_and(|at| now_us.saturating_sub(at) < CUT_INTERVAL_US) {
            return;
        }
        self.cut_at_us = Some(now_us);
        self.window = (self.window / 2).max(self.packet);
        self.threshold = self.window;
    }

    /// Begins again with one packet after a timeout.
    pub(super) fn on_timeout(&mut self) {
        self.threshold = (self.window / 2).max(2 * self.packet);
        self.window = self.packet;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_the_least_delay_on_a_circle() {
        let mut base = BaseDelay::default();
        assert_eq!(base.on_sample(0, 5), 0);
        assert_eq!(base.on_sample(1, u32::MAX - 4), 10, "below 5 although the number is larger");
        assert_eq!(base.on_sample(2, 100), 0);
        assert_eq!(base.base(), Some(u32::MAX - 4));
        for minute in 1..=BASE_BINS as u64 {
            base.on_sample(minute * BASE_BIN_US + 1, 50);
        }
        assert_eq!(base.base(), Some(50), "the old minimum is forgotten");
    }

    #[test]
    fn the_window_grows_below_the_target_and_shrinks_above_it() {
        let mut ledbat = Ledbat::new(1_000);
        ledbat.on_delay(0, 1_000, 10);
        ledbat.on_loss(0);
        let before = ledbat.window();
        (0..50).for_each(|_| ledbat.on_ack(1_000, false));
        assert_eq!(ledbat.window(), before, "a sender that does not fill its window gains nothing");
        (0..50).for_each(|_| ledbat.on_ack(1_000, true));
        let grown = ledbat.window();
        assert!(grown > before);
        for at in [1_000, 2_000, 3_000] {
            ledbat.on_delay(at, 251_000, 10);
        }
        (0..50).for_each(|_| ledbat.on_ack(1_000, true));
        assert!(ledbat.window() < grown);
        (0..5000).for_each(|_| ledbat.on_ack(1_000, true));
        assert_eq!(ledbat.window(), 1_000, "never below one packet");
    }
}
