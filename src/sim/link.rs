//! Connections and lines: the transfer of bytes from one node to another.
//!
//! ```text
//!   sender's engine ──plan──▶ queued ──sender's line──▶ on the wire ──receiver's line──▶ arrived ──want/got──▶ receiver's engine
//!                             ≤ send buffer             ≤ TCP window, including arrived unread bytes
//! ```
//!
//! A sender's line serves its connections round-robin, a random quantum of bytes each, so streams are cut at
//! arbitrary bytes. A receiver's line is one queue that forwards bytes while they arrive; when it holds more
//! than [`LINE_BUFFER`], senders wait. Control bytes are kept; payload is a span and a length. The stages of
//! a stream are three counters over one queue, because bytes of a stream stay in order.

use super::scenario::Line;
use crate::units::{BlockSpan, Instant, PeerKey, TransportKind};
use std::collections::VecDeque;
use std::time::Duration;

/// Largest number of bytes on the wire and unread at the receiver, per stream. Linux's usual largest receive
/// window is about this.
pub(super) const TCP_WINDOW: u64 = 4 * 1024 * 1024;
/// Largest queue before a receiver's line, as transmission time; as in a router's buffer.
pub(super) const LINE_BUFFER: Duration = Duration::from_millis(100);
/// Bounds in bytes of the quantum that one connection sends in its turn: on average 16 ms of its line.
const QUANTUM: (u64, u64) = (8 * 1024, 64 * 1024);
/// Payload of a packet, bytes. A smaller transfer, such as a request or a have, does not wait for the line.
/// Its transmission time is added to that of the next sender.
pub(super) const PACKET: u64 = 1400;

/// Number of a node.
pub(super) type NodeId = u32;

/// One direction of a connection: the number of the link and the sending end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PipeId(u32);

impl PipeId {
    /// Returns the direction of `link` in which the dialing end (0) or the accepting end (1) sends.
    pub(super) fn new(link: u32, side: usize) -> PipeId {
        PipeId(link << 1 | side as u32)
    }

    pub(super) fn link(self) -> usize {
        (self.0 >> 1) as usize
    }

    /// Returns the sending end, 0 or 1.
    pub(super) fn side(self) -> usize {
        (self.0 & 1) as usize
    }

    /// Returns the other direction.
    pub(super) fn back(self) -> PipeId {
        PipeId(self.0 ^ 1)
    }

    pub(super) fn raw(self) -> u32 {
        self.0
    }
}

/// A connection between two nodes.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) ends: [LinkEnd; 2],
    /// One-way latency.
    pub(super) latency: Duration,
    pub(super) over: TransportKind,
}

/// One end of a connection, and the stream that it sends.
#[derive(Debug)]
pub(super) struct LinkEnd {
    pub(super) node: NodeId,
    /// The engine's key of the connection; `None` for a puppet, before the accept and after the close.
    pub(super) key: Option<PeerKey>,
    /// The end is connected: it reads and writes.
    pub(super) open: bool,
    pub(super) out: Stream,
}

/// A run of bytes of one kind in a stream.
#[derive(Clone, Copy, Debug)]
enum ByteRun {
    Control(u32),
    /// `garbage` is 0 for correct bytes; any other number identifies the wrong data of a liar.
    Payload {
        span: BlockSpan,
        garbage: u32,
    },
}

/// Payload that was read or skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) span: BlockSpan,
    pub(super) garbage: u32,
}

/// The bytes of one direction, from the oldest unread byte to the newest unsent byte.
#[derive(Debug, Default)]
pub(super) struct Stream {
    control: VecDeque<u8>,
    runs: VecDeque<ByteRun>,
    /// Bytes in the sender's send buffer.
    pub(super) queued: u64,
    /// Bytes between the sender's line and the end of the receiver's line.
    pub(super) on_wire: u64,
    /// Bytes in the receiver's buffer that are not read.
    pub(super) arrived: u64,
    /// The stream is in the ring of its sender's line.
    pub(super) in_ring: bool,
    /// The stream waits for `SimEvent::Unblock`.
    pub(super) blocked: bool,
    /// The receiving engine has paused reading.
    pub(super) paused: bool,
    /// The send buffer is full; the sender may have more to plan.
    pub(super) more: bool,
    /// Payload that was read together with message headers and is not written yet.
    read_ahead: VecDeque<Payload>,
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
        // A header separates two blocks, so adjacent payload is the rest of the same block.
        if let Some(ByteRun::Payload { span: last, .. }) = self.runs.back_mut() {
            *last = last.joined(span).unwrap_or_else(|| panic!("{span} follows {last} without a header"));
            return;
        }
        self.runs.push_back(ByteRun::Payload { span, garbage });
    }

    /// Returns the number of bytes that the TCP window allows to send now.
    pub(super) fn sendable(&self) -> u64 {
        self.queued.min(TCP_WINDOW.saturating_sub(self.on_wire + self.arrived))
    }

    /// Returns the number of payload bytes in the stream.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.runs
            .iter()
            .map(|r| if let ByteRun::Payload { span, .. } = r { u64::from(span.len()) } else { 0 })
            .sum()
    }

    /// Reads up to `most` arrived bytes into `room`. Returns the number of bytes and how many of them are
    /// payload. The payload is kept until [`Stream::take_read_ahead`].
    pub(super) fn read_into(&mut self, room: &mut [u8], most: u32) -> (u32, u32) {
        let goal = (room.len() as u64).min(u64::from(most)).min(self.arrived) as usize;
        let mut n = 0;
        let mut taken = 0;
        // The receiver reads again only after it has stored or skipped the payload of the last read.
        self.read_ahead.clear();
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
                    self.read_ahead.push_back(payload);
                    n += part;
                    taken += part;
                }
                None => break,
            }
        }
        self.arrived -= n as u64;
        (n as u32, taken as u32)
    }

    /// Reads up to `most` bytes of payload into their block; `None` if the next byte is not payload.
    pub(super) fn read_payload(&mut self, most: u32) -> Option<Payload> {
        let most = u64::from(most).min(self.arrived) as u32;
        let payload = if most > 0 { self.cut_payload(most)? } else { return None };
        self.arrived -= u64::from(payload.span.len());
        Some(payload)
    }

    /// Removes up to `most` bytes of payload from the front.
    fn cut_payload(&mut self, most: u32) -> Option<Payload> {
        let Some(ByteRun::Payload { span, garbage }) = self.runs.front_mut() else { return None };
        let part = span.first(most);
        let garbage = *garbage;
        match span.after(part.len()) {
            Some(rest) => *span = rest,
            None => {
                self.runs.pop_front();
            }
        }
        Some(Payload { span: part, garbage })
    }

    /// Skips up to `most` arrived bytes. Returns the number of bytes and how many of them are payload.
    pub(super) fn skip(&mut self, most: u32) -> (u32, u32) {
        let mut n = 0;
        let mut payload = 0;
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

    /// Returns the payload at `span` that was read together with message headers.
    pub(super) fn take_read_ahead(&mut self, span: BlockSpan) -> Payload {
        loop {
            let p = self
                .read_ahead
                .pop_front()
                .unwrap_or_else(|| panic!("no payload of {span} was read with the headers"));
            // Earlier entries belong to an unwanted block.
            if (p.span.piece(), p.span.begin()) == (span.piece(), span.begin()) {
                return p;
            }
        }
    }
}

/// State of a node's line.
#[derive(Debug)]
pub(super) struct LineState {
    pub(super) line: Line,
    /// Connections that wait to send, served round-robin.
    pub(super) ring: VecDeque<PipeId>,
    /// A transfer is in progress.
    pub(super) sending: bool,
    /// Bytes of small transfers that did not wait; their time is added to the next transfer.
    pub(super) small_bytes: u64,
    /// When the last byte in the queue of the receiving direction will have passed.
    pub(super) down_free_at: Instant,
}

impl LineState {
    pub(super) fn new(line: Line) -> LineState {
        LineState { line, ring: VecDeque::new(), sending: false, small_bytes: 0, down_free_at: Instant::ZERO }
    }
}

/// Returns the transmission time of `bytes` at `rate` bytes per second.
pub(super) fn time_for(bytes: u64, rate: u64) -> Duration {
    match rate {
        u64::MAX => Duration::ZERO,
        rate => Duration::from_micros((u128::from(bytes) * 1_000_000 / u128::from(rate.max(1))) as u64),
    }
}

/// Returns the bytes that one connection sends in its turn over a line of `rate` bytes per second; `random`
/// varies it.
pub(super) fn quantum(rate: u64, random: u32) -> u64 {
    let mean = (rate / 64).clamp(QUANTUM.0 * 2, QUANTUM.1);
    mean / 2 + u64::from(random) % mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Geometry;

    #[test]
    fn reads_return_the_sent_bytes_at_any_cut() {
        let g = Geometry::new(1 << 20, 1 << 18).unwrap();
        let block = g.block(g.piece(1).unwrap(), 2);
        let mut s = Stream::default();
        s.push_control(b"before");
        s.push_payload(block, 0);
        s.push_control(b"after");
        s.arrived = std::mem::take(&mut s.queued);
        let mut room = [9; 10];
        assert_eq!(s.read_into(&mut room, 3), (3, 0));
        assert_eq!(s.read_into(&mut room, 10), (10, 7), "the rest of the word and payload");
        assert_eq!(&room, b"ore\0\0\0\0\0\0\0");
        assert_eq!(s.take_read_ahead(block.first(7)), Payload { span: block.first(7), garbage: 0 });
        assert_eq!(s.payload_bytes(), u64::from(block.len()) - 7);
        assert_eq!(s.read_payload(5), Some(Payload { span: block.after(7).unwrap().first(5), garbage: 0 }));
        assert_eq!(
            s.skip(block.len()),
            (block.len() - 12 + 5, block.len() - 12),
            "the rest of the block and the control bytes after it"
        );
        assert_eq!((s.arrived, s.read_payload(1)), (0, None));
    }

    #[test]
    fn nothing_is_sent_beyond_the_window() {
        let mut s = Stream { queued: TCP_WINDOW * 2, ..Stream::default() };
        assert_eq!(s.sendable(), TCP_WINDOW);
        s.on_wire = TCP_WINDOW / 2;
        s.arrived = TCP_WINDOW / 4;
        assert_eq!(s.sendable(), TCP_WINDOW / 4);
    }
}
