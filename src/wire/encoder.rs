//! The outgoing half of a peer connection: queued messages and blocks, their order, and how much has been
//! sent.
//!
//! ```text
//!   [rest of the block being sent] [all control bytes] [block] [block] …
//! ```
//!
//! Control bytes overtake blocks of which nothing has been sent, so that a request does not wait behind half
//! a second of upload. Such a block can also be withdrawn. [`Encoder::plan`] copies the control bytes and
//! names the spans of payload, which the session reads from disk; [`Encoder::sent`] accepts any number of
//! bytes that the socket took.

use super::message::{Message, PIECE_HEADER_LEN, piece_header};
use crate::units::BlockSpan;
use std::collections::VecDeque;
use std::ops::Range;

/// A contiguous run of bytes in a [`WritePlan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These bytes of [`WritePlan::control`].
    Control(Range<usize>),
    /// Payload of the torrent, to be read from disk.
    Payload(BlockSpan),
}

/// The bytes to write next, in order. One plan is reused for all connections to avoid allocations.
#[derive(Debug, Default)]
pub struct WritePlan {
    /// Framing and control bytes.
    pub control: Vec<u8>,
    /// The runs in the order to write them.
    pub segments: Vec<Segment>,
}

impl WritePlan {
    /// Empties the plan and keeps its memory.
    pub fn clear(&mut self) {
        self.control.clear();
        self.segments.clear();
    }

    /// Returns the number of bytes of all segments.
    #[cfg(feature = "oracle")]
    pub fn bytes(&self) -> usize {
        self.payload_bytes().saturating_add(self.control.len())
    }

    /// Returns the number of payload bytes in all segments.
    #[cfg(feature = "oracle")]
    pub fn payload_bytes(&self) -> usize {
        self.segments.iter().map(|p| if let Segment::Payload(s) = p { s.len() as usize } else { 0 }).sum()
    }

    fn put_control<'a>(&mut self, bytes: impl Iterator<Item = &'a u8>) {
        let start = self.control.len();
        self.control.extend(bytes);
        match self.segments.last_mut() {
            _ if start == self.control.len() => {}
            Some(Segment::Control(range)) if range.end == start => range.end = self.control.len(),
            _ => self.segments.push(Segment::Control(start..self.control.len())),
        }
    }
}

/// What was among the bytes sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of payload.
    pub payload: u32,
    /// Blocks whose last byte was sent.
    pub blocks: u32,
}

/// The outgoing half of one connection.
#[derive(Debug, Default)]
pub struct Encoder {
    control: VecDeque<u8>,
    blocks: VecDeque<BlockSpan>,
    /// Bytes of the first block that have been sent, header included.
    begun: u32,
}

impl Encoder {
    /// Releases the memory of an empty queue: most connections are idle most of the time.
    pub fn release_memory(&mut self) {
        if self.is_empty() {
            self.control = VecDeque::new();
            self.blocks = VecDeque::new();
        }
    }

    /// Queues a message.
    pub fn push(&mut self, message: &Message<'_>) {
        message.write(&mut self.control);
    }

    /// Queues raw control bytes, such as a handshake.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.control.extend(bytes);
    }

    /// Queues a block.
    pub fn push_block(&mut self, span: BlockSpan) {
        self.blocks.push_back(span);
    }

    /// Returns whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.blocks.is_empty()
    }

    /// Returns the number of control bytes in the queue.
    pub fn control_bytes(&self) -> usize {
        self.control.len()
    }

    /// Returns the number of blocks in the queue, including the one being sent.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Returns whether exactly this span is queued.
    pub fn contains(&self, span: BlockSpan) -> bool {
        self.blocks.contains(&span)
    }

    /// Withdraws a block. Returns false if a part of it has been sent, or if it is not queued.
    pub fn take_back(&mut self, span: BlockSpan) -> bool {
        let fixed = usize::from(self.begun > 0);
        let Some((at, _)) = self.blocks.iter().enumerate().skip(fixed).find(|(_, s)| **s == span) else {
            return false;
        };
        self.blocks.remove(at);
        true
    }

    /// Withdraws every block of which nothing has been sent, and returns them.
    pub fn take_back_all(&mut self) -> impl Iterator<Item = BlockSpan> + use<> {
        let fixed = usize::from(self.begun > 0).min(self.blocks.len());
        let taken = self.blocks.split_off(fixed);
        taken.into_iter()
    }

    /// Appends the bytes to send next to `plan`: all control bytes, and at most `payload_budget` bytes of
    /// payload.
    pub fn plan(&self, payload_budget: usize, plan: &mut WritePlan) {
        let mut budget = u32::try_from(payload_budget).unwrap_or(u32::MAX);
        if self.begun > 0 {
            if let Some(&first) = self.blocks.front() {
                if !plan_block(first, self.begun, &mut budget, plan) {
                    return;
                }
            }
        }
        plan.put_control(self.control.iter());
        for &span in self.blocks.iter().skip(usize::from(self.begun > 0)) {
            if budget == 0 || !plan_block(span, 0, &mut budget, plan) {
                return;
            }
        }
    }

    /// Records that the first `n` bytes of the last [`plan`](Encoder::plan) were sent.
    ///
    /// # Panics
    /// If `n` is more than was planned.
    pub fn sent(&mut self, n: usize) -> Sent {
        let mut sent = Sent::default();
        let mut n = self.sent_of_block(n, self.begun > 0, &mut sent);
        let control = n.min(self.control.len());
        if control > 0 && self.begun == 0 {
            self.control.drain(..control);
            n = n.saturating_sub(control);
        }
        while n > 0 {
            assert!(!self.blocks.is_empty(), "more bytes sent than planned");
            n = self.sent_of_block(n, true, &mut sent);
        }
        sent
    }

    /// Counts up to `n` bytes as sent of the first block, if `applies`; returns the rest of `n`.
    fn sent_of_block(&mut self, n: usize, applies: bool, sent: &mut Sent) -> usize {
        let Some(first) = self.blocks.front().copied().filter(|_| applies) else { return n };
        let header = PIECE_HEADER_LEN as u32;
        let whole = first.len().saturating_add(header);
        let step = whole.saturating_sub(self.begun).min(u32::try_from(n).unwrap_or(u32::MAX));
        let payload_before = self.begun.saturating_sub(header);
        self.begun = self.begun.saturating_add(step);
        let payload = self.begun.saturating_sub(header).saturating_sub(payload_before);
        sent.payload = sent.payload.saturating_add(payload);
        if self.begun == whole {
            sent.blocks = sent.blocks.saturating_add(1);
            self.blocks.pop_front();
            self.begun = 0;
        }
        n.saturating_sub(step as usize)
    }
}

/// Adds the unsent rest of a block, of which `begun` bytes have been sent; false if the budget ended inside
/// it.
fn plan_block(span: BlockSpan, begun: u32, budget: &mut u32, plan: &mut WritePlan) -> bool {
    let header = piece_header(span);
    plan.put_control(header.iter().skip(begun as usize));
    let out = begun.saturating_sub(PIECE_HEADER_LEN as u32);
    let Some(rest) = span.after(out) else { return true };
    if *budget == 0 {
        return false;
    }
    let now = rest.first(*budget);
    *budget = budget.saturating_sub(now.len());
    plan.segments.push(Segment::Payload(now));
    now.len() == rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Geometry, Rng};
    use proptest::prelude::*;

    fn geometry() -> Geometry {
        Geometry::new(10 << 18, 1 << 18).unwrap()
    }

    /// Returns the planned bytes as sent; a payload byte is derived from its offset in the torrent.
    fn render(plan: &WritePlan) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &plan.segments {
            match part {
                Segment::Control(r) => out.extend_from_slice(&plan.control[r.clone()]),
                Segment::Payload(s) => {
                    out.extend((0..s.len()).map(|i| (geometry().offset(*s) + u64::from(i)) as u8));
                }
            }
        }
        assert_eq!(out.len(), plan.bytes());
        out
    }

    #[test]
    fn control_bytes_overtake_blocks_that_are_not_being_sent() {
        let g = geometry();
        let mut o = Encoder::default();
        o.push_block(g.block(g.piece(0).unwrap(), 0));
        o.push(&Message::Interested);
        let mut plan = WritePlan::default();
        o.plan(usize::MAX, &mut plan);
        assert_eq!(plan.control[..5], [0, 0, 0, 1, 2]);
        o.sent(5 + 20);
        o.push(&Message::Choke);
        plan.clear();
        o.plan(usize::MAX, &mut plan);
        assert!(
            matches!(plan.segments[0], Segment::Payload(s) if s.begin() == 7),
            "the block being sent comes first: {:?}",
            plan.segments
        );
    }

    #[test]
    fn withdraws_a_block_only_before_its_first_byte_is_sent() {
        let g = geometry();
        let a = g.block(g.piece(0).unwrap(), 0);
        let b = g.block(g.piece(0).unwrap(), 1);
        let mut o = Encoder::default();
        o.push_block(a);
        o.push_block(b);
        o.sent(1);
        assert!(!o.take_back(a));
        assert!(o.take_back(b) && !o.take_back(b));
        assert_eq!(o.blocks(), 1);
        assert_eq!(o.take_back_all().count(), 0);
        assert_eq!(o.sent(12 + a.len() as usize), Sent { payload: a.len(), blocks: 1 });
        assert!(o.is_empty());
    }

    proptest! {
        #[test]
        fn the_stream_is_the_same_however_few_bytes_the_socket_accepts(seed in any::<u64>(), budget in 1usize..40_000) {
            let g = geometry();
            let mut rng = Rng::new(seed);
            let fill = |o: &mut Encoder| {
                for i in 0..5 {
                    o.push(&Message::Have { piece: i });
                    o.push_block(g.block(g.piece(i).unwrap(), i));
                }
            };
            let mut whole = Encoder::default();
            fill(&mut whole);
            let mut plan = WritePlan::default();
            whole.plan(usize::MAX, &mut plan);
            let expected = render(&plan);
            let mut o = Encoder::default();
            fill(&mut o);
            let mut stream = Vec::new();
            let mut payload = 0;
            while !o.is_empty() {
                plan.clear();
                o.plan(budget, &mut plan);
                let bytes = render(&plan);
                prop_assert!(plan.payload_bytes() <= budget && !bytes.is_empty());
                let n = 1 + rng.below(bytes.len().min(9000));
                stream.extend_from_slice(&bytes[..n]);
                payload += o.sent(n).payload;
            }
            prop_assert_eq!(stream.len(), expected.len());
            prop_assert!(stream == expected);
            prop_assert_eq!(payload, 5 * 16384);
        }
    }
}
