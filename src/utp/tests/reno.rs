//! A TCP stream with Reno congestion control, as far as its rate goes: no packet is resent, since a queue that keeps
//! the order tells the receiver what was lost.

use super::{SECOND, World};

/// The place of packets at the receiver; acknowledgements are at the next one.
pub(super) const RECEIVER: usize = 2;
/// UDP payload with which a full TCP segment takes 1,500 bytes of the link.
const SEGMENT: usize = 1_472;
const TIMEOUT_US: u64 = SECOND;

pub(super) struct Reno {
    /// The path of its data.
    way: usize,
    /// The window in thousandths of a segment.
    window: u64,
    threshold: u64,
    next: u64,
    /// Segments below are acknowledged or lost.
    done: u64,
    received: u64,
    acked: u64,
    recover: u64,
    last_ack_us: u64,
}

impl Reno {
    /// Returns a stream whose data takes the path of this number, and its acknowledgements the other.
    pub(super) fn new(way: usize) -> Reno {
        let (window, threshold) = (2_000, u64::MAX);
        Reno { way, window, threshold, next: 0, done: 0, received: 0, acked: 0, recover: 0, last_ack_us: 0 }
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received * SEGMENT as u64
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        (self.next > self.done).then_some(self.last_ack_us + TIMEOUT_US)
    }

    pub(super) fn send(&mut self, world: &mut World) {
        if self.next > self.done && world.now_us >= self.last_ack_us + TIMEOUT_US {
            self.threshold = (self.window / 2).max(2_000);
            (self.window, self.done, self.recover) = (1_000, self.next, self.next);
        }
        while (self.next - self.done) * 1_000 < self.window {
            if self.next == self.done {
                self.last_ack_us = world.now_us;
            }
            self.pass(world, self.way, SEGMENT, RECEIVER, &[self.next]);
            self.next += 1;
        }
    }

    fn pass(&self, world: &mut World, way: usize, len: usize, to: usize, numbers: &[u64]) {
        if let Some(at) = world.paths[way].pass(world.now_us, len, &mut world.rng) {
            world.sequence += 1;
            let bytes = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
            world.flying.insert((at, world.sequence), (to, bytes));
        }
    }

    pub(super) fn on_packet(&mut self, world: &mut World, at: usize, bytes: &[u8]) {
        let number = |n: usize| u64::from_be_bytes(bytes[8 * n..8 * n + 8].try_into().unwrap());
        if at == RECEIVER {
            self.received += 1;
            self.pass(world, 1 - self.way, 12, RECEIVER + 1, &[number(0), self.received]);
            return;
        }
        let (seq, received) = (number(0), number(1));
        self.last_ack_us = world.now_us;
        let new = received - self.acked;
        let passed = (seq + 1).saturating_sub(self.done);
        self.acked = received;
        self.done = self.done.max(seq + 1);
        if passed > new && seq >= self.recover {
            self.window = (self.window / 2).max(2_000);
            (self.threshold, self.recover) = (self.window, self.next);
        } else if self.window < self.threshold {
            self.window += new * 1_000;
        } else {
            self.window += new * 1_000_000 / self.window;
        }
    }
}
