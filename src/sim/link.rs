//! Connections and lines: how bytes get from one node to another.
//!
//! ```text
//!   sender's engine ──plan──▶ queued ──sender's line──▶ on the wire ──receiver's line──▶ arrived ──want/got──▶ receiver's engine
//!                             ≤ send buffer             ≤ TCP window, what arrived unread included
//! ```
//!
//! A sender's line serves its connections in turn, a random quantum of bytes each, so streams are cut
//! anywhere. A receiver's line is one queue, through which bytes pass while they arrive; when it holds more
//! than [`LINE_BUFFER`], senders wait. Control bytes are kept as they are; payload is a span and a length.
//! The stages of a stream are three counters over one queue, because nothing overtakes anything in it.

use super::queue::NodeId;
use super::scenario::Line;
use crate::units::{BlockSpan, Instant, PeerKey};
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes on the wire and unread at the receiver: Linux's usual largest receive window is about this.
pub(super) const TCP_WINDOW: u64 = 4 * 1024 * 1024;
/// Time's worth of bytes that wait before a receiver's line, as in a router's buffer.
pub(super) const LINE_BUFFER: Duration = Duration::from_millis(100);
/// The least and the most that one connection sends in its turn, bytes: 16 ms of its line, within these
/// bounds, on average.
const QUANTUM: (u64, u64) = (8 * 1024, 64 * 1024);
/// A packet's worth, bytes: what is smaller slips in between the packets of others, as requests and haves do.
/// Its time on the line is added to that of the next sender.
pub(super) const PACKET: u64 = 1400;

/// One direction of a connection: the link's number, and which end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PipeId(u32);

impl PipeId {
    /// The direction of `link` in which its dialing end (0) or its accepting end (1) sends.
    pub(super) fn new(link: u32, side: usize) -> PipeId {
        PipeId(link << 1 | side as u32)
    }

    pub(super) fn link(self) -> usize {
        (self.0 >> 1) as usize
    }

    /// The end that sends.
    pub(super) fn side(self) -> usize {
        (self.0 & 1) as usize
    }

    /// The other direction.
    pub(super) fn back(self) -> PipeId {
        PipeId(self.0 ^ 1)
    }

    pub(super) fn raw(self) -> u32 {
        self.0
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) ends: [LinkEnd; 2],
    /// One way.
    pub(super) latency: Duration,
}

/// One end of a connection, and the stream that it sends.
#[derive(Debug)]
pub(super) struct LinkEnd {
    pub(super) node: NodeId,
    /// What the node's engine calls it, once it knows of it.
    pub(super) key: Option<PeerKey>,
    /// It reads and writes.
    pub(super) open: bool,
    pub(super) out: Stream,
}

/// What a stretch of a stream is.
#[derive(Clone, Copy, Debug)]
enum ByteRun {
    Control(u32),
    /// `garbage` is 0 for the torrent's own bytes, and else names the lie.
    Payload {
        span: BlockSpan,
        garbage: u32,
    },
}

/// Payload that landed somewhere, or was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) span: BlockSpan,
    pub(super) garbage: u32,
}

/// One direction's bytes, from the oldest that is unread to the newest that is unsent.
#[derive(Debug, Default)]
pub(super) struct Stream {
    control: VecDeque<u8>,
    runs: VecDeque<ByteRun>,
    /// Not sent yet.
    pub(super) queued: u64,
    /// Between the two lines.
    pub(super) on_wire: u64,
    /// Not read yet.
    pub(super) arrived: u64,
    /// It waits in its sender's ring.
    pub(super) in_ring: bool,
    /// It may not send until it is unblocked.
    pub(super) blocked: bool,
    /// Its reader does not read.
    pub(super) paused: bool,
    /// Its sender had more to plan than the send buffer could hold.
    pub(super) more: bool,
    /// Payload that came along with framing and has not been placed.
    carried: VecDeque<Payload>,
}

impl Stream {
    pub(super) fn push_control(&mut self, bytes: &[u8]) {
        self.control.extend(bytes);
        self.queued += bytes.len() as u64;
        match self.runs.back_mut() {
            Some(ByteRun::Control(n)) => *n += bytes.len() as u32,
            _ => self.runs.push_back(ByteRun::Control(bytes.len() as u32)),
        }
    }

    pub(super) fn push_payload(&mut self, span: BlockSpan, garbage: u32) {
        self.queued += u64::from(span.len());
        // Between two blocks stands a header, so what adjoins is the rest of one block.
        if let Some(ByteRun::Payload { span: last, .. }) = self.runs.back_mut() {
            *last = last.joined(span).unwrap_or_else(|| panic!("{span} follows {last} without a header"));
            return;
        }
        self.runs.push_back(ByteRun::Payload { span, garbage });
    }

    /// Bytes that may be sent now, by the window's rule.
    pub(super) fn sendable(&self) -> u64 {
        self.queued.min(TCP_WINDOW.saturating_sub(self.on_wire + self.arrived))
    }

    /// Payload bytes in it.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.runs
            .iter()
            .map(|r| if let ByteRun::Payload { span, .. } = r { u64::from(span.len()) } else { 0 })
            .sum()
    }

    /// Reads up to `most` of the arrived bytes into `room`: how many, and how many of them were payload.
    /// Payload is remembered until it is placed.
    pub(super) fn read_into(&mut self, room: &mut [u8], most: u32) -> (u32, u32) {
        let goal = (room.len() as u64).min(u64::from(most)).min(self.arrived) as usize;
        let (mut n, mut taken) = (0, 0);
        // Reading goes on only when the bytes that came along are placed, or skipped as unwanted.
        self.carried.clear();
        while n < goal {
            let left = goal - n;
            match self.runs.front_mut() {
                Some(ByteRun::Control(have)) => {
                    let part = left.min(*have as usize);
                    for (to, byte) in room[n..n + part].iter_mut().zip(self.control.drain(..part)) {
                        *to = byte;
                    }
                    *have -= part as u32;
                    if *have == 0 {
                        self.runs.pop_front();
                    }
                    n += part;
                }
                Some(ByteRun::Payload { .. }) => {
                    let Some(payload) = self.cut_payload(left as u32) else { break };
                    let part = payload.span.len() as usize;
                    room[n..n + part].fill(0);
                    self.carried.push_back(payload);
                    n += part;
                    taken += part;
                }
                None => break,
            }
        }
        self.arrived -= n as u64;
        (n as u32, taken as u32)
    }

    /// Reads up to `most` bytes of payload to where they live; `None` if what comes next is no payload.
    pub(super) fn read_payload(&mut self, most: u32) -> Option<Payload> {
        let most = u64::from(most).min(self.arrived) as u32;
        let payload = if most > 0 { self.cut_payload(most)? } else { return None };
        self.arrived -= u64::from(payload.span.len());
        Some(payload)
    }

    /// Takes payload from the front.
    fn cut_payload(&mut self, most: u32) -> Option<Payload> {
        let Some(ByteRun::Payload { span, garbage }) = self.runs.front_mut() else { return None };
        let (part, garbage) = (span.first(most), *garbage);
        match span.after(part.len()) {
            Some(rest) => *span = rest,
            None => drop(self.runs.pop_front()),
        }
        Some(Payload { span: part, garbage })
    }

    /// Passes over up to `most` arrived bytes: how many, and how many of them were payload.
    pub(super) fn skip(&mut self, most: u32) -> (u32, u32) {
        let (mut n, mut payload) = (0, 0);
        while n < most && self.arrived > 0 {
            let left = u64::from(most - n).min(self.arrived) as u32;
            let part = match self.runs.front_mut() {
                Some(ByteRun::Control(have)) => {
                    let part = left.min(*have);
                    self.control.drain(..part as usize);
                    *have -= part;
                    if *have == 0 {
                        self.runs.pop_front();
                    }
                    part
                }
                Some(ByteRun::Payload { .. }) => {
                    let part = self.cut_payload(left).map_or(0, |p| p.span.len());
                    payload += part;
                    part
                }
                None => break,
            };
            n += part;
            self.arrived -= u64::from(part);
        }
        (n, payload)
    }

    /// Payload that came along with framing and belongs at `span`.
    pub(super) fn place_carried(&mut self, span: BlockSpan) -> Payload {
        loop {
            let p = self.carried.pop_front().unwrap_or_else(|| panic!("nothing came along for {span}"));
            // The bytes that came along before were of an unwanted block.
            if (p.span.piece(), p.span.begin()) == (span.piece(), span.begin()) {
                return p;
            }
        }
    }
}

/// A node's line at work.
#[derive(Debug)]
pub(super) struct LineState {
    pub(super) line: Line,
    /// Connections that have something to send, in turn.
    pub(super) ring: VecDeque<PipeId>,
    pub(super) sending: bool,
    /// Small packets that slipped in since, bytes: the next sender pays for them.
    pub(super) slipped_in: u64,
    /// When the last byte that has arrived will have passed.
    pub(super) down_free: Instant,
}

impl LineState {
    pub(super) fn new(line: Line) -> LineState {
        LineState { line, ring: VecDeque::new(), sending: false, slipped_in: 0, down_free: Instant::ZERO }
    }
}

/// How long `bytes` take at `rate` bytes a second.
pub(super) fn time_for(bytes: u64, rate: u64) -> Duration {
    match rate {
        u64::MAX => Duration::ZERO,
        rate => Duration::from_micros((u128::from(bytes) * 1_000_000 / u128::from(rate.max(1))) as u64),
    }
}

/// How much one connection sends in its turn over a line that sends `rate` bytes a second: `random` decides.
pub(super) fn quantum(rate: u64, random: u32) -> u64 {
    let mean = (rate / 64).clamp(QUANTUM.0 * 2, QUANTUM.1);
    mean / 2 + u64::from(random) % mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Geometry;

    #[test]
    fn what_is_read_is_what_was_sent_however_it_is_cut() {
        let g = Geometry::new(1 << 20, 1 << 18).unwrap();
        let block = g.block(g.piece(1).unwrap(), 2);
        let mut s = Stream::default();
        s.push_control(b"before");
        s.push_payload(block, 0);
        s.push_control(b"after");
        (s.queued, s.arrived) = (0, s.queued);
        let mut room = [9; 10];
        assert_eq!(s.read_into(&mut room, 3), (3, 0));
        assert_eq!(s.read_into(&mut room, 10), (10, 7), "the rest of the word, and payload along with it");
        assert_eq!(&room, b"ore\0\0\0\0\0\0\0");
        assert_eq!(s.place_carried(block.first(7)), Payload { span: block.first(7), garbage: 0 });
        assert_eq!(s.payload_bytes(), u64::from(block.len()) - 7);
        assert_eq!(s.read_payload(5), Some(Payload { span: block.after(7).unwrap().first(5), garbage: 0 }));
        assert_eq!(
            s.skip(block.len()),
            (block.len() - 12 + 5, block.len() - 12),
            "the rest of it and what stands behind"
        );
        assert_eq!((s.arrived, s.read_payload(1)), (0, None));
    }

    #[test]
    fn nothing_is_sent_beyond_the_window() {
        let mut s = Stream { queued: TCP_WINDOW * 2, ..Stream::default() };
        assert_eq!(s.sendable(), TCP_WINDOW);
        (s.on_wire, s.arrived) = (TCP_WINDOW / 2, TCP_WINDOW / 4);
        assert_eq!(s.sendable(), TCP_WINDOW / 4);
    }
}
