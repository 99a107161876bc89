//! How many blocks one peer owes us: the request window.
//!
//! ```text
//!   slow start ──rate stops growing──▶ steady ──nothing for 20 s──▶ snubbed (1) ──a block──▶ slow start
//!   +1 a block                         3 s × rate
//! ```
//!
//! The [`Policy`](crate::engine::Policy) sets both times, or a fixed size instead.
//!
//! Requests that were given up (choke, cancel, snub, too old) may still be answered: they are remembered
//! apart, so that such a block counts as asked for, and the peer is not blamed for our change of mind.

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

/// What a block that comes in was to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// It is owed.
    Yes,
    /// It was asked for once, and given up.
    Cancelled,
    /// It was never requested.
    No,
}

/// The request window of one peer.
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
    /// When the last block came, or the first was asked for after none was owed.
    last_block_at: Instant,
    mean_us: f64,
    deviation_us: f64,
}

impl RequestQueue {
    /// A window for a peer of unknown speed.
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

    /// The peer said how many requests it queues.
    pub fn set_reqq(&mut self, reqq: u32) {
        self.reqq = reqq.max(1);
    }

    /// Blocks that may be asked for now. Nothing until a useful number may go at once, so that requests
    /// travel together.
    pub fn room(&self) -> u32 {
        let goal = self.goal();
        let room = goal.saturating_sub(self.in_flight.len() as u32);
        if room >= goal.div_ceil(8) { room } else { 0 }
    }

    fn goal(&self) -> u32 {
        if self.snubbed { 1 } else { self.size.min(self.reqq).min(self.rule.most()) }
    }

    /// Blocks owed.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether this very block is owed.
    pub fn owes(&self, block: BlockSpan) -> bool {
        self.in_flight.iter().any(|a| a.block == block)
    }

    /// The blocks owed, the last one asked for first, each with the time in which it may be expected at this
    /// rate. Who has been silent is expected to stay so for as long again.
    pub fn expected(&self, now: Instant, rate: u64) -> impl Iterator<Item = (BlockSpan, Duration)> + '_ {
        let silence = now.since(self.last_block_at);
        let of = move |at: usize| {
            Duration::from_micros((at as u64 + 1) * u64::from(BLOCK_LEN) * 1_000_000 / rate.max(1))
                .max(silence)
        };
        self.in_flight.iter().enumerate().rev().map(move |(at, a)| (a.block, of(at)))
    }

    /// Whether so much is owed before this block that the peer has not begun with it, so that a cancel comes
    /// in time.
    pub fn is_far_behind(&self, block: BlockSpan) -> bool {
        self.in_flight.iter().skip(limits::QUEUED_BEYOND_RECALL).any(|a| a.block == block)
    }

    /// How long a request takes as a rule; the least time-out while nothing is known.
    pub fn response(&self) -> Duration {
        if self.mean_us == 0.0 {
            limits::REQUEST_TIMEOUT_MIN
        } else {
            Duration::from_micros(self.mean_us as u64)
        }
    }

    /// Given-up requests that are remembered.
    #[cfg(feature = "oracle")]
    pub fn cancelled(&self) -> usize {
        self.cancelled.len()
    }

    /// The piece of the last request.
    pub fn at(&self) -> Option<PieceIndex> {
        self.in_flight.back().map(|a| a.block.piece())
    }

    /// Whether the peer owes blocks and sends none.
    pub fn is_snubbed(&self) -> bool {
        self.snubbed
    }

    /// A block was asked for.
    pub fn asked(&mut self, now: Instant, block: BlockSpan) {
        if self.in_flight.is_empty() {
            self.last_block_at = now;
        }
        self.in_flight.push_back(SentRequest { block, at: now });
    }

    /// What a block that begins to come in is to us. It stays owed until it has arrived.
    pub fn lookup(&self, block: BlockSpan) -> RequestState {
        match () {
            () if self.owes(block) => RequestState::Yes,
            () if self.cancelled.contains(&block) => RequestState::Cancelled,
            () => RequestState::No,
        }
    }

    /// The block has arrived, or was skipped because another peer brought it. Peers serve in order: requests
    /// before this one were passed over, and those of them that are overdue as well are given up and
    /// returned.
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
        if let Some(ask) = self.in_flight.remove(at) {
            self.learn(now.since(ask.at));
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

    fn learn(&mut self, took: Duration) {
        let sample = took.as_micros() as f64;
        if self.mean_us == 0.0 {
            (self.mean_us, self.deviation_us) = (sample, sample / 2.0);
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
        // Still growing means a twentieth more than a second ago.
        self.slow_start &= rate > self.sampled_rate + self.sampled_rate / 20;
        self.sampled_rate = rate;
        if !self.slow_start {
            let blocks = bytes_within(rate, time) / u64::from(BLOCK_LEN);
            self.size = (blocks.min(u64::from(max)) as u32).max(limits::WINDOW_MIN_BLOCKS);
        }
    }

    /// The longest that a request may take: mean and four deviations.
    pub fn timeout(&self) -> Duration {
        Duration::from_micros((self.mean_us + 4.0 * self.deviation_us) as u64)
            .clamp(limits::REQUEST_TIMEOUT_MIN, limits::REQUEST_TIMEOUT_MAX)
    }

    /// Whether blocks are owed and none has come for longer than a request may take.
    pub fn is_silent(&self, now: Instant) -> bool {
        !self.in_flight.is_empty() && now.since(self.last_block_at) > self.timeout()
    }

    /// No block could come until now: the peer is not to blame.
    pub fn reset_timeouts(&mut self, now: Instant) {
        self.last_block_at = now;
    }

    /// When the peer is snubbing us, unless a block comes.
    pub fn snub_at(&self) -> Instant {
        match self.snub_after {
            Some(after) if !self.in_flight.is_empty() && !self.snubbed => {
                self.last_block_at + self.timeout().max(after)
            }
            _ => Instant::NEVER,
        }
    }

    /// Nothing came for too long: what it owed, all given up.
    pub fn snub(&mut self) -> Vec<BlockSpan> {
        self.snubbed = true;
        self.give_up_all(|_| false)
    }

    /// The peer will not send this block: true if it was owed.
    pub fn rejected(&mut self, block: BlockSpan) -> bool {
        self.cancelled.retain(|b| *b != block);
        let at = self.in_flight.iter().position(|a| a.block == block);
        if let Some(at) = at {
            self.in_flight.remove(at);
        }
        at.is_some()
    }

    /// We do not want this block any more; true if it was owed.
    pub fn give_up(&mut self, block: BlockSpan) -> bool {
        let in_flight = self.rejected(block);
        if in_flight {
            self.remember(block);
        }
        in_flight
    }

    /// Everything owed is given up, but for the pieces that `keep` names.
    pub fn give_up_all(&mut self, keep: impl Fn(PieceIndex) -> bool) -> Vec<BlockSpan> {
        let (kept, gone): (VecDeque<SentRequest>, VecDeque<SentRequest>) =
            self.in_flight.drain(..).partition(|a| keep(a.block.piece()));
        self.in_flight = kept;
        gone.iter().for_each(|a| self.remember(a.block));
        gone.into_iter().map(|a| a.block).collect()
    }

    /// Everything owed, for good: the peer is gone.
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

/// The size while the peer's speed is unknown.
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

    /// As rill asks.
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

    /// A peer that answers each request after `latency_ms`, at most `per_ms` blocks a millisecond: the window
    /// after `time_ms`.
    fn steady_window(w: RequestQueue, latency_ms: u64, every_ms: u64, time_ms: u64) -> u32 {
        let (mut w, mut rate, mut next, mut due) = (w, Rate::default(), 0, VecDeque::new());
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
    fn the_time_that_the_window_covers_and_its_most_are_the_rules() {
        let with = |time_s, max| {
            RequestQueue::new(WindowRule::Adaptive { time: Duration::from_secs(time_s), max }, None)
        };
        let w = steady_window(with(1, 500), 50, 25, 30_000);
        assert!((30..=50).contains(&w), "{w}");
        let w = steady_window(with(3, 60), 50, 25, 30_000);
        assert_eq!(w, 60);
    }

    #[test]
    fn a_fixed_window_follows_nothing_but_what_the_peer_queues() {
        assert_eq!(steady_window(RequestQueue::new(WindowRule::Fixed(7), None), 50, 25, 30_000), 7);
        let mut w = RequestQueue::new(WindowRule::Fixed(2000), None);
        w.set_reqq(300);
        assert_eq!(w.room(), 300);
        w.set_reqq(u32::MAX);
        assert_eq!(w.room() as usize, limits::CANCELLED_REQUESTS, "a late answer must be known");
    }

    #[test]
    fn the_window_never_exceeds_what_the_peer_queues() {
        let mut w = window();
        w.set_reqq(3);
        assert_eq!(w.room(), 3);
        w.size = 1000;
        w.set_reqq(u32::MAX);
        assert_eq!(w.room(), limits::WINDOW_MAX_BLOCKS);
    }

    #[test]
    fn a_snubbed_peer_owes_one_block_until_it_sends_one() {
        let mut w = window();
        w.asked(ms(0), block(0));
        w.asked(ms(0), block(1));
        assert_eq!(w.snub_at(), ms(0) + limits::SNUB_AFTER);
        assert_eq!(w.snub(), [block(0), block(1)]);
        assert_eq!(w.room(), 1);
        assert_eq!(w.lookup(block(1)), RequestState::Cancelled, "a late answer is not an offence");
        w.done(ms(30_000), block(1), &Rate::default());
        assert!(!w.is_snubbed() && w.room() > 1);
    }

    #[test]
    fn a_queue_that_grows_slower_is_not_overdue() {
        let mut w = window();
        for i in 0..400 {
            w.asked(ms(0), block(i));
        }
        // In order, ever later: the peer has a limit.
        let cancelled: usize =
            (0..400).map(|i| w.done(ms(u64::from(i) * 60), block(i), &Rate::default()).len()).sum();
        assert_eq!(cancelled, 0);
    }

    #[test]
    fn a_request_that_is_passed_over_is_given_up() {
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
    fn what_is_remembered_of_given_up_requests_has_a_limit() {
        let mut w = window();
        for i in 0..2000 {
            w.asked(ms(0), block(i));
            w.give_up(block(i));
        }
        assert_eq!(w.cancelled.len(), limits::CANCELLED_REQUESTS);
        assert_eq!(w.lookup(block(0)), RequestState::No);
    }
}
