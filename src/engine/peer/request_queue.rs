//! The request queue of one peer: the blocks in flight, and how many there may be.
//!
//! ```text
//!   slow start ──rate stops growing──▶ steady ──no block for 20 s──▶ snubbed (1) ──a block──▶ slow start
//!   +1 a block                         3 s × rate
//! ```
//!
//! The [`Policy`](crate::engine::Policy) sets both times, or a fixed size instead.
//!
//! Cancelled requests (by choke, cancel, snub or timeout) may still be answered. They are remembered apart,
//! so that such a block does not count as sent without a request.

use crate::engine::limits;
use crate::engine::policy::WindowRule;
use crate::units::{BLOCK_LEN, BlockSpan, Instant, PieceIndex, Rate, bytes_within};
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
struct SentRequest {
    block: BlockSpan,
    at: Instant,
}

/// The state of the request for an arriving block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// It is in flight.
    InFlight,
    /// It was requested and cancelled.
    Cancelled,
    /// It was never requested.
    Unrequested,
}

/// The request queue of one peer.
#[derive(Debug)]
pub struct RequestQueue {
    rule: WindowRule,
    snub_after: Option<Duration>,
    in_flight: VecDeque<SentRequest>,
    cancelled: VecDeque<BlockSpan>,
    size: u32,
    reqq: u32,
    slow_start: bool,
    snubbed: bool,
    sampled_at: Instant,
    sampled_rate: u64,
    /// When the last block arrived, or a request was added to the empty queue.
    last_block_at: Instant,
    mean_us: f64,
    deviation_us: f64,
}

impl RequestQueue {
    /// Returns the queue of a peer of unknown speed.
    pub fn new(rule: WindowRule, snub_after: Option<Duration>) -> RequestQueue {
        RequestQueue {
            rule,
            snub_after,
            in_flight: VecDeque::new(),
            cancelled: VecDeque::new(),
            size: start(rule),
            reqq: limits::REQQ_DEFAULT_BLOCKS,
            slow_start: true,
            snubbed: false,
            sampled_at: Instant::ZERO,
            sampled_rate: 0,
            last_block_at: Instant::ZERO,
            mean_us: 0.0,
            deviation_us: 0.0,
        }
    }

    /// Sets the number of requests that the peer queues (BEP 10 `reqq`).
    pub fn set_reqq(&mut self, reqq: u32) {
        self.reqq = reqq.max(1);
    }

    /// Returns the number of blocks to request now: 0 until an eighth of the window is free, so that requests
    /// travel together.
    pub fn room(&self) -> u32 {
        let goal = self.goal();
        let room = goal.saturating_sub(self.in_flight.len() as u32);
        if room >= goal.div_ceil(8) { room } else { 0 }
    }

    fn goal(&self) -> u32 {
        if self.snubbed { 1 } else { self.size.min(self.reqq).min(self.rule.most()) }
    }

    /// Returns the number of blocks in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns whether this block is in flight.
    pub fn owes(&self, block: BlockSpan) -> bool {
        self.in_flight.iter().any(|a| a.block == block)
    }

    /// Iterates over the blocks in flight, the last requested first, each with the expected time until it
    /// arrives at `rate`, bytes a second. A silent peer is expected to be silent for as long again.
    pub fn expected(&self, now: Instant, rate: u64) -> impl Iterator<Item = (BlockSpan, Duration)> + '_ {
        let silence = now.since(self.last_block_at);
        let wait = move |at: usize| {
            Duration::from_micros((at as u64 + 1) * u64::from(BLOCK_LEN) * 1_000_000 / rate.max(1))
                .max(silence)
        };
        self.in_flight.iter().enumerate().rev().map(move |(at, request)| (request.block, wait(at)))
    }

    /// Returns whether so many blocks are in flight before this one that the peer has not begun to send it,
    /// and a cancel arrives in time.
    pub fn is_far_behind(&self, block: BlockSpan) -> bool {
        self.in_flight.iter().skip(limits::QUEUED_BEYOND_RECALL).any(|a| a.block == block)
    }

    /// Returns the mean time from request to block; the shortest timeout while it is unknown.
    pub fn response(&self) -> Duration {
        if self.mean_us == 0.0 {
            limits::REQUEST_TIMEOUT_MIN
        } else {
            Duration::from_micros(self.mean_us as u64)
        }
    }

    /// Returns the number of remembered cancelled requests.
    #[cfg(feature = "oracle")]
    pub fn cancelled(&self) -> usize {
        self.cancelled.len()
    }

    /// Returns the piece of the last request.
    pub fn at(&self) -> Option<PieceIndex> {
        self.in_flight.back().map(|a| a.block.piece())
    }

    /// Returns whether the peer snubs us: blocks are in flight and none arrives.
    pub fn is_snubbed(&self) -> bool {
        self.snubbed
    }

    /// Notes a sent request.
    pub fn asked(&mut self, now: Instant, block: BlockSpan) {
        if self.in_flight.is_empty() {
            self.last_block_at = now;
        }
        self.in_flight.push_back(SentRequest { block, at: now });
    }

    /// Returns the state of the request for a block whose header arrived. It stays in flight until its last
    /// byte.
    pub fn lookup(&self, block: BlockSpan) -> RequestState {
        if self.owes(block) {
            RequestState::InFlight
        } else if self.cancelled.contains(&block) {
            RequestState::Cancelled
        } else {
            RequestState::Unrequested
        }
    }

    /// Notes that the block arrived, or was discarded because another peer sent it. Peers serve in order, so
    /// the peer skipped earlier requests; those that have also timed out are cancelled and returned.
    pub fn done(&mut self, now: Instant, block: BlockSpan, rate: &Rate) -> Vec<BlockSpan> {
        self.last_block_at = now;
        if std::mem::take(&mut self.snubbed) {
            self.slow_start = true;
            self.size = start(self.rule);
        }
        let mut overdue = Vec::new();
        let Some(at) = self.in_flight.iter().position(|a| a.block == block) else {
            self.cancelled.retain(|b| *b != block);
            return overdue;
        };
        if let Some(request) = self.in_flight.remove(at) {
            self.sample(now.since(request.at));
            self.grow(now, rate);
        }
        let limit = self.timeout();
        for i in (0..at).rev() {
            if now.since(self.in_flight[i].at) > limit {
                overdue.extend(self.in_flight.remove(i).map(|a| a.block));
            }
        }
        overdue.iter().for_each(|b| self.remember(*b));
        overdue
    }

    fn sample(&mut self, response: Duration) {
        let sample = response.as_micros() as f64;
        if self.mean_us == 0.0 {
            self.mean_us = sample;
            self.deviation_us = sample / 2.0;
        } else {
            self.deviation_us += ((sample - self.mean_us).abs() - self.deviation_us) / 16.0;
            self.mean_us += (sample - self.mean_us) / 16.0;
        }
    }

    fn grow(&mut self, now: Instant, rate: &Rate) {
        let (time, max) = match self.rule {
            WindowRule::Adaptive { time, max } => (time, max),
            #[cfg(feature = "sim")]
            WindowRule::Fixed(_) => return,
        };
        if self.slow_start {
            self.size = (self.size + 1).min(max);
        }
        if now.since(self.sampled_at) < limits::WINDOW_SAMPLE_INTERVAL {
            return;
        }
        self.sampled_at = now;
        let rate = rate.per_second(now);
        // The rate still grows if it is a twentieth higher than at the last sample.
        self.slow_start &= rate > self.sampled_rate + self.sampled_rate / 20;
        self.sampled_rate = rate;
        if !self.slow_start {
            let blocks = bytes_within(rate, time) / u64::from(BLOCK_LEN);
            self.size = (blocks.min(u64::from(max)) as u32).max(limits::WINDOW_MIN_BLOCKS);
        }
    }

    /// Returns the timeout of a request: the mean and four deviations.
    pub fn timeout(&self) -> Duration {
        Duration::from_micros((self.mean_us + 4.0 * self.deviation_us) as u64)
            .clamp(limits::REQUEST_TIMEOUT_MIN, limits::REQUEST_TIMEOUT_MAX)
    }

    /// Returns whether blocks are in flight and none arrived within the timeout of a request.
    pub fn is_silent(&self, now: Instant) -> bool {
        !self.in_flight.is_empty() && now.since(self.last_block_at) > self.timeout()
    }

    /// Restarts the timeouts: no block could arrive until now.
    pub fn reset_timeouts(&mut self, now: Instant) {
        self.last_block_at = now;
    }

    /// Returns when the peer counts as snubbing us unless a block arrives.
    pub fn snub_at(&self) -> Instant {
        match self.snub_after {
            Some(after) if !self.in_flight.is_empty() && !self.snubbed => {
                self.last_block_at + self.timeout().max(after)
            }
            _ => Instant::NEVER,
        }
    }

    /// Marks the peer as snubbing us; cancels and returns every request.
    pub fn snub(&mut self) -> Vec<BlockSpan> {
        self.snubbed = true;
        self.give_up_all(|_| false)
    }

    /// Removes a request that the peer will not serve; returns whether it was in flight.
    pub fn rejected(&mut self, block: BlockSpan) -> bool {
        self.cancelled.retain(|b| *b != block);
        let at = self.in_flight.iter().position(|a| a.block == block);
        if let Some(at) = at {
            self.in_flight.remove(at);
        }
        at.is_some()
    }

    /// Cancels a request; returns whether it was in flight.
    pub fn give_up(&mut self, block: BlockSpan) -> bool {
        let in_flight = self.rejected(block);
        if in_flight {
            self.remember(block);
        }
        in_flight
    }

    /// Cancels and returns every request, except those of pieces that `keep` accepts.
    pub fn give_up_all(&mut self, keep: impl Fn(PieceIndex) -> bool) -> Vec<BlockSpan> {
        let (kept, gone): (VecDeque<SentRequest>, VecDeque<SentRequest>) =
            self.in_flight.drain(..).partition(|a| keep(a.block.piece()));
        self.in_flight = kept;
        gone.iter().for_each(|a| self.remember(a.block));
        gone.into_iter().map(|a| a.block).collect()
    }

    /// Removes and returns every request: the connection is closed.
    pub fn drain(&mut self) -> Vec<BlockSpan> {
        self.in_flight.drain(..).map(|a| a.block).collect()
    }

    fn remember(&mut self, block: BlockSpan) {
        if self.cancelled.len() >= limits::CANCELLED_REQUESTS {
            self.cancelled.pop_front();
        }
        self.cancelled.push_back(block);
    }
}

/// Returns the window of a peer of unknown speed, blocks.
fn start(rule: WindowRule) -> u32 {
    match rule {
        WindowRule::Adaptive { .. } => limits::WINDOW_START_BLOCKS,
        #[cfg(feature = "sim")]
        WindowRule::Fixed(size) => size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Policy;
    use crate::units::Geometry;

    /// Returns a queue with the default policy.
    fn window() -> RequestQueue {
        let policy = Policy::default();
        RequestQueue::new(policy.window, policy.snub_after)
    }

    fn block(n: u32) -> BlockSpan {
        let g = Geometry::new(1 << 30, 1 << 20).unwrap();
        g.block(g.piece(n / 64).unwrap(), n % 64)
    }

    fn ms(n: u64) -> Instant {
        Instant::from_micros(n * 1000)
    }

    /// Returns the window after `time_ms` of a peer that serves each request after `latency_ms`, and one
    /// block every `every_ms`.
    fn steady_window(w: RequestQueue, latency_ms: u64, every_ms: u64, time_ms: u64) -> u32 {
        let mut w = w;
        let mut rate = Rate::default();
        let mut next = 0;
        let mut due = VecDeque::new();
        let mut free_at = 0;
        for t in 0..time_ms {
            for _ in 0..w.room() {
                w.asked(ms(t), block(next % 10_000));
                free_at = (free_at + every_ms).max(t + latency_ms);
                due.push_back((free_at, next % 10_000));
                next += 1;
            }
            while due.front().is_some_and(|(at, _)| *at <= t) {
                let (_, n) = due.pop_front().unwrap();
                rate.add(ms(t), u64::from(BLOCK_LEN));
                w.done(ms(t), block(n), &rate);
            }
        }
        w.size
    }

    #[test]
    fn the_window_settles_at_three_seconds_of_the_peers_speed() {
        let w = steady_window(window(), 50, 25, 30_000); // 40 blocks a second
        assert!((90..=140).contains(&w), "{w}");
        let w = steady_window(window(), 50, 1000, 60_000); // one block a second
        assert!((2..=5).contains(&w), "{w}");
    }

    #[test]
    fn the_policy_sets_the_time_and_the_maximum_of_the_window() {
        let with = |time_s, max| {
            RequestQueue::new(WindowRule::Adaptive { time: Duration::from_secs(time_s), max }, None)
        };
        let w = steady_window(with(1, 500), 50, 25, 30_000);
        assert!((30..=50).contains(&w), "{w}");
        let w = steady_window(with(3, 60), 50, 25, 30_000);
        assert_eq!(w, 60);
    }

    #[test]
    fn a_fixed_window_is_limited_by_the_peers_reqq_only() {
        assert_eq!(steady_window(RequestQueue::new(WindowRule::Fixed(7), None), 50, 25, 30_000), 7);
        let mut w = RequestQueue::new(WindowRule::Fixed(2000), None);
        w.set_reqq(300);
        assert_eq!(w.room(), 300);
        w.set_reqq(u32::MAX);
        assert_eq!(w.room() as usize, limits::CANCELLED_REQUESTS, "a late answer must be known");
    }

    #[test]
    fn the_window_never_exceeds_the_peers_reqq() {
        let mut w = window();
        w.set_reqq(3);
        assert_eq!(w.room(), 3);
        w.size = 1000;
        w.set_reqq(u32::MAX);
        assert_eq!(w.room(), limits::WINDOW_MAX_BLOCKS);
    }

    #[test]
    fn a_snubbing_peer_gets_one_request_until_it_sends_a_block() {
        let mut w = window();
        w.asked(ms(0), block(0));
        w.asked(ms(0), block(1));
        assert_eq!(w.snub_at(), ms(0) + limits::SNUB_AFTER);
        assert_eq!(w.snub(), [block(0), block(1)]);
        assert_eq!(w.room(), 1);
        assert_eq!(w.lookup(block(1)), RequestState::Cancelled, "a late block is not a violation");
        w.done(ms(30_000), block(1), &Rate::default());
        assert!(!w.is_snubbed() && w.room() > 1);
    }

    #[test]
    fn a_peer_that_slows_down_is_not_overdue() {
        let mut w = window();
        for i in 0..400 {
            w.asked(ms(0), block(i));
        }
        // In order and ever later: the peer has an upload limit.
        let cancelled: usize =
            (0..400).map(|i| w.done(ms(u64::from(i) * 60), block(i), &Rate::default()).len()).sum();
        assert_eq!(cancelled, 0);
    }

    #[test]
    fn a_request_that_the_peer_skips_is_cancelled() {
        let mut w = window();
        w.asked(ms(0), block(0));
        let mut cancelled = Vec::new();
        for i in 1..100 {
            w.asked(ms(i * 100), block(i as u32));
            cancelled.extend(w.done(ms(i * 100 + 50), block(i as u32), &Rate::default()));
        }
        assert_eq!(cancelled, [block(0)]);
    }

    #[test]
    fn remembered_cancelled_requests_have_a_limit() {
        let mut w = window();
        for i in 0..2000 {
            w.asked(ms(0), block(i));
            w.give_up(block(i));
        }
        assert_eq!(w.cancelled.len(), limits::CANCELLED_REQUESTS);
        assert_eq!(w.lookup(block(0)), RequestState::Unrequested);
    }
}
