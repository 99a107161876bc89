//! The writing half of a peer's stream: what goes out next, in order, and how far it got.
//!
//! ```text
//!   [rest of the block that has begun] [all control bytes] [block] [block] …
//! ```
//!
//! Control bytes overtake blocks that have not begun, so a request never waits behind half a second of upload, and a
//! block that has not begun can still be taken back. `plan` copies the few control bytes and names the spans; payload
//! stays on disk until the hands fetch it. `sent` takes whatever the socket accepted, down to a single byte.

use super::message::{Message, PIECE_HEADER_LEN, piece_header};
use crate::units::BlockSpan;
use std::collections::VecDeque;
use std::ops::Range;

/// One run of bytes in a [`WritePlan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These bytes of [`WritePlan::control`].
    Control(Range<usize>),
    /// Payload, from wherever it lives.
    Payload(BlockSpan),
}

/// What to write next, in order. One plan serves all connections: it is cleared, not made anew.
#[derive(Debug, Default)]
pub struct WritePlan {
    /// Framing and control bytes.
    pub control: Vec<u8>,
    /// Runs, in order.
    pub segments: Vec<Segment>,
}

impl WritePlan {
    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.control.clear();
        self.segments.clear();
    }

    /// Bytes that the plan would write.
    pub fn bytes(&self) -> usize {
        self.payload_bytes().saturating_add(self.control.len())
    }

    /// Bytes of payload that the plan would write.
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

/// What [`Encoder::sent`] found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of payload among those sent.
    pub payload: u32,
    /// Blocks whose last byte went out.
    pub blocks: u32,
}

/// The writing half of one connection.
#[derive(Debug, Default)]
pub struct Encoder {
    control: VecDeque<u8>,
    blocks: VecDeque<BlockSpan>,
    /// Bytes of the first block, header included, that are out already.
    begun: u32,
    /// Payload bytes of all blocks, those of the first one that are out included.
    queued_payload: u64,
}

impl Encoder {
    /// Lets its memory go if nothing is in it, until something is.
    pub fn release_memory(&mut self) {
        if self.is_empty() {
            (self.control, self.blocks) = (VecDeque::new(), VecDeque::new());
        }
    }

    /// Appends a message.
    pub fn push(&mut self, message: &Message<'_>) {
        message.write(&mut self.control);
    }

    /// Appends raw control bytes: a handshake.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.control.extend(bytes);
    }

    /// Appends a block.
    pub fn push_block(&mut self, span: BlockSpan) {
        self.queued_payload = self.queued_payload.saturating_add(span.len().into());
        self.blocks.push_back(span);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.blocks.is_empty()
    }

    /// Whether there are control bytes to write.
    pub fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Control bytes waiting.
    pub fn control_bytes(&self) -> usize {
        self.control.len()
    }

    /// Blocks waiting, the one that has begun included.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Payload bytes waiting, or already out for the block that has begun.
    pub fn payload_bytes(&self) -> u64 {
        self.queued_payload
    }

    /// Whether this very span waits here.
    pub fn contains(&self, span: BlockSpan) -> bool {
        self.blocks.contains(&span)
    }

    /// Takes a block back that has not begun; false if it has, or is not here.
    pub fn take_back(&mut self, span: BlockSpan) -> bool {
        let fixed = usize::from(self.begun > 0);
        let Some((at, _)) = self.blocks.iter().enumerate().skip(fixed).find(|(_, s)| **s == span) else { return false };
        self.blocks.remove(at);
        self.dequeued(span);
        true
    }

    /// Takes every block back that has not begun.
    pub fn take_back_all(&mut self) -> impl Iterator<Item = BlockSpan> + use<> {
        let fixed = usize::from(self.begun > 0).min(self.blocks.len());
        let taken = self.blocks.split_off(fixed);
        taken.iter().for_each(|span| self.dequeued(*span));
        taken.into_iter()
    }

    /// A block no longer waits.
    fn dequeued(&mut self, span: BlockSpan) {
        self.queued_payload = self.queued_payload.saturating_sub(span.len().into());
    }

    /// Appends to `plan` what goes next: all control bytes, and at most `payload_budget` bytes of payload.
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

    /// The first `n` bytes of what [`plan`](Encoder::plan) named are out.
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

    /// Counts up to `n` bytes against the first block, if `applies`; what is left of `n`.
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
            self.blocks.pop_front().into_iter().for_each(|span| self.dequeued(span));
            self.begun = 0;
        }
        n.saturating_sub(step as usize)
    }
}

/// Names the rest of a block of which `begun` bytes are out; false if the budget ended inside it.
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

    /// What a plan's bytes look like on the wire; payload bytes are taken from the span's place.
    fn render(plan: &WritePlan) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &plan.segments {
            match part {
                Segment::Control(r) => out.extend_from_slice(&plan.control[r.clone()]),
                Segment::Payload(s) => out.extend((0..s.len()).map(|i| (geometry().offset(*s) + u64::from(i)) as u8)),
            }
        }
        assert_eq!(out.len(), plan.bytes());
        out
    }

    #[test]
    fn a_request_overtakes_blocks_that_have_not_begun() {
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
        assert!(matches!(plan.segments[0], Segment::Payload(s) if s.begin() == 7), "but not one that has: {:?}", plan.segments);
    }

    #[test]
    fn a_block_that_has_begun_is_not_taken_back() {
        let g = geometry();
        let (a, b) = (g.block(g.piece(0).unwrap(), 0), g.block(g.piece(0).unwrap(), 1));
        let mut o = Encoder::default();
        o.push_block(a);
        o.push_block(b);
        o.sent(1);
        assert!(!o.take_back(a));
        assert!(o.take_back(b) && !o.take_back(b));
        assert_eq!(o.payload_bytes(), u64::from(a.len()));
        assert_eq!(o.take_back_all().count(), 0);
        assert_eq!(o.sent(12 + a.len() as usize), Sent { payload: a.len(), blocks: 1 });
        assert!(o.is_empty());
    }

    proptest! {
        #[test]
        fn however_little_the_socket_takes_the_stream_is_the_same(seed in any::<u64>(), budget in 1usize..40_000) {
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
            let (mut stream, mut payload) = (Vec::new(), 0);
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
