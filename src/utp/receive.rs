//! The receive half of a stream: bytes for the reader, packets out of order, and our window.
//!
//! The window begins small and doubles while the peer fills it and the reader keeps up.

use super::limits::*;
use crate::wire::UTP_SACK_BYTES;
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;

/// What was received, up to what the reader took.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The last sequence number before which every packet came, itself included.
    pub received_to: u16,
    buffer: VecDeque<u8>,
    out_of_order: BTreeMap<u16, Box<[u8]>>,
    out_of_order_bytes: usize,
    fin_at: Option<u16>,
    /// Most bytes held.
    limit: usize,
    /// When the span began in which `delivered` bytes came in order.
    span_began_us: u64,
    delivered: usize,
}

impl Receiver {
    pub(super) fn new(received_to: u16) -> Receiver {
        Receiver {
            received_to,
            buffer: VecDeque::new(),
            out_of_order: BTreeMap::new(),
            out_of_order_bytes: 0,
            fin_at: None,
            limit: FIRST_RECEIVE_BYTES,
            span_began_us: 0,
            delivered: 0,
        }
    }

    /// Returns the bytes held for the reader.
    pub(super) fn held(&self) -> usize {
        self.buffer.len() + self.out_of_order_bytes
    }

    /// Returns the bytes that can still be received; `spare` is what all streams may still hold. A few packets in
    /// order are granted whatever is held out of order or by others: without them, that would be held forever.
    pub(super) fn window(&self, spare: usize) -> usize {
        self.room(spare).max(OWN_RECEIVE_BYTES.saturating_sub(self.buffer.len()))
    }

    fn room(&self, spare: usize) -> usize {
        self.limit.saturating_sub(self.held()).min(spare)
    }

    /// Returns whether the peer's FIN and every byte before it came.
    pub(super) fn has_fin(&self) -> bool {
        self.fin_at == Some(self.received_to)
    }

    /// Returns the first bytes; empty if there are none.
    fn peek(&self) -> &[u8] {
        self.buffer.as_slices().0
    }

    /// Drops bytes that the reader has copied.
    fn consume(&mut self, bytes: usize) {
        self.buffer.drain(..bytes.min(self.buffer.len()));
        if self.buffer.is_empty() && self.buffer.capacity() > FIRST_RECEIVE_BYTES {
            self.buffer = VecDeque::new();
        }
    }

    /// Moves bytes into `room`; returns their number.
    pub(super) fn read(&mut self, room: &mut [u8]) -> usize {
        let mut moved = 0;
        while moved < room.len() {
            let Ok(n @ 1..) = self.peek().read(&mut room[moved..]) else { break };
            moved += n;
            self.consume(n);
        }
        moved
    }

    /// Takes a DATA packet; returns whether the reader has something new.
    pub(super) fn on_data(&mut self, now_us: u64, seq: u16, payload: &[u8], spare: usize) -> bool {
        let ahead = seq.wrapping_sub(self.received_to);
        if ahead == 0 || ahead > OUT_OF_ORDER || self.is_after_fin(seq) {
            return false;
        }
        // Our window holds, whatever the peer sends; the byte count never passes the budget.
        let cost = payload.len() + PACKET_COST_BYTES;
        let fits = if ahead == 1 { payload.len() <= self.window(spare) } else { cost <= self.room(spare) };
        if !fits {
            return false;
        }
        if ahead > 1 {
            if !self.out_of_order.contains_key(&seq) {
                self.out_of_order_bytes += cost;
                self.out_of_order.insert(seq, payload.into());
            }
            return false;
        }
        let before = self.buffer.len();
        self.received_to = seq;
        self.buffer.extend(payload);
        while let Some(next) = self.out_of_order.remove(&self.received_to.wrapping_add(1)) {
            self.out_of_order_bytes -= next.len() + PACKET_COST_BYTES;
            self.received_to = self.received_to.wrapping_add(1);
            self.buffer.extend(&next);
        }
        let new = self.buffer.len() - before;
        self.grow(now_us, new);
        new > 0 || self.has_fin()
    }

    /// Takes a FIN packet; returns whether the reader has something new.
    pub(super) fn on_fin(&mut self, now_us: u64, seq: u16, payload: &[u8], spare: usize) -> bool {
        let ahead = seq.wrapping_sub(self.received_to);
        if self.fin_at.is_none() && (1..=OUT_OF_ORDER).contains(&ahead) {
            self.fin_at = Some(seq);
            self.out_of_order.retain(|kept, _| seq.wrapping_sub(*kept) < 1 << 15);
            self.out_of_order_bytes =
                self.out_of_order.values().map(|kept| kept.len() + PACKET_COST_BYTES).sum();
        }
        self.on_data(now_us, seq, payload, spare)
    }

    /// Doubles the limit when half of it came within [`GROW_SPAN_US`] and the reader took most of it.
    fn grow(&mut self, now_us: u64, new: usize) {
        if now_us.saturating_sub(self.span_began_us) > GROW_SPAN_US {
            (self.span_began_us, self.delivered) = (now_us, 0);
        }
        self.delivered += new;
        if self.delivered >= self.limit / 2 && self.buffer.len() <= self.limit / 4 {
            self.limit = (2 * self.limit).min(RECEIVE_BYTES);
            (self.span_began_us, self.delivered) = (now_us, 0);
        }
    }

    fn is_after_fin(&self, seq: u16) -> bool {
        self.fin_at.is_some_and(|fin| fin != seq && seq.wrapping_sub(fin) < 1 << 15)
    }

    /// Returns the bits of a selective ack.
    pub(super) fn selective_ack(&self) -> [u8; UTP_SACK_BYTES] {
        let mut bits = [0; UTP_SACK_BYTES];
        for kept in self.out_of_order.keys() {
            let bit = usize::from(kept.wrapping_sub(self.received_to).wrapping_sub(2));
            if let Some(byte) = bits.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets out of order fill the limit; the missing one must still be taken, or the stream stands forever.
    #[test]
    fn u3_the_missing_packet_is_taken_whatever_is_held_out_of_order() {
        let mut receiver = Receiver::new(0);
        (2..=100).for_each(|seq| _ = receiver.on_data(0, seq, &[7; 1_260], usize::MAX));
        assert!(FIRST_RECEIVE_BYTES - receiver.held() < 1_260 + PACKET_COST_BYTES, "the limit is reached");
        assert!(receiver.window(0) >= 1_260, "the peer may send it");
        assert!(receiver.on_data(0, 1, &[7; 1_260], 0));
        assert!(receiver.received_to > 40);
        // The grant is for packets that the reader takes.
        let mut full = Receiver::new(0);
        (1..=100).for_each(|seq| _ = full.on_data(0, seq, &[7; 1_260], 0));
        assert!(full.held() <= OWN_RECEIVE_BYTES);
    }
}
