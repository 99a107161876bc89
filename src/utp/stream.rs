//! One uTP stream: sequence numbers, acknowledgements, resends, windows and buffers.
//!
//! Sequence numbers are compared on a circle of 2¹⁶. `sent` holds the packets from `acked + 1` on, without a
//! gap. The stream is done when its FIN is acknowledged, when it is reset, or when its timeouts run out.

use super::ledbat::{BaseDelay, Ledbat};
use super::limits::*;
use crate::wire::{UTP_HEADER_LEN, UtpHeader, UtpKind, UtpPacket};
use std::collections::{BTreeMap, VecDeque};
use std::io::{IoSlice, Read};

/// Result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtpRead {
    /// So many bytes were moved.
    Moved(usize),
    /// No byte is there yet.
    NotNow,
    /// The peer ended the stream, or the stream is closed.
    Ended,
}

/// How far the stream is established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// We sent a SYN.
    SynSent,
    /// We answered a SYN; the address is unproven.
    Unconfirmed,
    /// Both sides have proven their address.
    Open,
}

/// What the owner of the stream must learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub established: bool,
    pub readable: bool,
    pub writable: bool,
    pub done: bool,
}

#[derive(Debug)]
struct Sent {
    kind: UtpKind,
    payload: Box<[u8]>,
    at_us: u64,
    sends: u32,
    acked: bool,
    resend: bool,
}

/// A uTP stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub phase: Phase,
    pub send_id: u16,
    pub changes: Changes,
    packet_payload: usize,
    // Sending.
    acked: u16,
    sent: VecDeque<Sent>,
    unsent: VecDeque<u8>,
    in_flight: usize,
    peer_window: usize,
    window_closed_at_us: Option<u64>,
    was_full: bool,
    refused_write: bool,
    closing: bool,
    fin_sent: bool,
    duplicates: usize,
    recover_until: Option<u16>,
    ledbat: Ledbat,
    // Timers.
    rtt: Option<(u64, u64)>,
    timeout_us: u64,
    timeouts: u32,
    pub deadline_us: Option<u64>,
    last_sent_us: u64,
    // Receiving.
    received_to: u16,
    buffer: VecDeque<u8>,
    out_of_order: BTreeMap<u16, Box<[u8]>>,
    out_of_order_bytes: usize,
    fin_at: Option<u16>,
    ack_due: bool,
    advertised: usize,
    difference_us: u32,
    their_base: BaseDelay,
}

impl Stream {
    fn new(now_us: u64, phase: Phase, send_id: u16, seq: u16, payload: usize) -> Stream {
        Stream {
            phase,
            send_id,
            changes: Changes::default(),
            packet_payload: payload,
            acked: seq.wrapping_sub(1),
            sent: VecDeque::new(),
            unsent: VecDeque::new(),
            in_flight: 0,
            peer_window: payload,
            window_closed_at_us: None,
            was_full: false,
            refused_write: false,
            closing: false,
            fin_sent: false,
            duplicates: 0,
            recover_until: None,
            ledbat: Ledbat::new(payload),
            rtt: None,
            timeout_us: FIRST_TIMEOUT_US,
            timeouts: 0,
            deadline_us: None,
            last_sent_us: now_us,
            received_to: 0,
            buffer: VecDeque::new(),
            out_of_order: BTreeMap::new(),
            out_of_order_bytes: 0,
            fin_at: None,
            ack_due: false,
            advertised: RECEIVE_BYTES,
            difference_us: 0,
            their_base: BaseDelay::default(),
        }
    }

    /// Returns a dialed stream, which will send a SYN.
    pub(super) fn dialed(now_us: u64, receive_id: u16, seq: u16, payload: usize) -> Stream {
        let mut stream = Stream::new(now_us, Phase::SynSent, receive_id.wrapping_add(1), seq, payload);
        stream.push(UtpKind::Syn, Box::default());
        stream
    }

    /// Returns the stream of a received SYN, which will answer with one STATE.
    pub(super) fn accepted(now_us: u64, syn: &UtpPacket<'_>, seq: u16, payload: usize) -> Stream {
        let mut stream = Stream::new(now_us, Phase::Unconfirmed, syn.header.connection_id, seq, payload);
        stream.received_to = syn.header.seq;
        stream.deadline_us = Some(now_us.saturating_add(FIRST_TIMEOUT_US));
        stream.on_timestamp(now_us, &syn.header);
        stream.ack_due = true;
        stream
    }

    /// Returns the bytes that the stream holds for its reader.
    pub(super) fn held(&self) -> usize {
        self.buffer.len() + self.out_of_order_bytes
    }

    /// Returns the bytes that the stream holds for the peer.
    pub(super) fn unacknowledged(&self) -> usize {
        self.unsent.len() + self.sent.iter().map(|p| p.payload.len()).sum::<usize>()
    }

    /// Returns whether packets wait to be fetched.
    pub(super) fn wants_to_send(&self) -> bool {
        self.ack_due || self.next_resend().is_some() || self.may_cut()
    }

    fn push(&mut self, kind: UtpKind, payload: Box<[u8]>) {
        self.sent.push_back(Sent { kind, payload, at_us: 0, sends: 0, acked: false, resend: true });
    }

    fn last_seq(&self) -> u16 {
        self.acked.wrapping_add(self.sent.len() as u16)
    }

    // ---- the reader and the writer ----------------------------------------------------------------------------

    /// Returns the first received bytes; empty if there are none.
    pub(super) fn peek(&self) -> &[u8] {
        self.buffer.as_slices().0
    }

    /// Drops received bytes that the reader has copied; `spare` is what all streams may still hold.
    pub(super) fn consume(&mut self, bytes: usize, spare: usize) {
        self.buffer.drain(..bytes.min(self.buffer.len()));
        if self.buffer.is_empty() && self.buffer.capacity() > 64 * 1024 {
            self.buffer = VecDeque::new();
        }
        // A window that was nearly closed opens: the peer must learn it, or waits for its timeout.
        if self.advertised < 2 * self.packet_payload && self.window(spare) >= 2 * self.packet_payload {
            self.ack_due = true;
        }
    }

    /// Moves received bytes into `room`.
    pub(super) fn read(&mut self, room: &mut [u8], spare: usize) -> UtpRead {
        let mut moved = 0;
        while moved < room.len() {
            let Ok(n @ 1..) = self.peek().read(&mut room[moved..]) else { break };
            moved += n;
            self.consume(n, spare);
        }
        match moved {
            0 if self.has_ended() => UtpRead::Ended,
            0 => UtpRead::NotNow,
            n => UtpRead::Moved(n),
        }
    }

    fn has_ended(&self) -> bool {
        self.changes.done || self.fin_at == Some(self.received_to)
    }

    /// Takes bytes to send, as many as the windows and `spare` allow, in whole packets; returns their number.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], spare: usize) -> usize {
        if self.phase != Phase::Open || self.closing {
            return 0;
        }
        let queued = self.unacknowledged();
        let window = self.ledbat.window().min(self.peer_window);
        let mut room = window.saturating_sub(queued);
        // At least one packet is under way; more only as whole packets.
        room -= room % self.packet_payload;
        if queued == 0 && self.peer_window > 0 {
            room = room.max(self.packet_payload.min(self.peer_window));
        }
        let room = room.min(spare);
        let mut taken = 0;
        for slice in slices {
            let n = slice.len().min(room - taken);
            self.unsent.extend(&slice[..n]);
            taken += n;
        }
        let offered: usize = slices.iter().map(|s| s.len()).sum();
        self.refused_write = taken < offered;
        self.was_full |= self.refused_write && spare > room;
        taken
    }

    /// Ends our side: what was written is sent, then a FIN.
    pub(super) fn close(&mut self) {
        self.closing = true;
        if self.phase != Phase::Open {
            self.changes.done = true;
        }
    }

    // ---- receiving ----------------------------------------------------------------------------------------------

    /// Takes a packet of this stream; `spare` is what all streams may still hold for their readers.
    pub(super) fn on_packet(&mut self, now_us: u64, packet: &UtpPacket<'_>, spare: usize) {
        let header = &packet.header;
        match self.phase {
            Phase::SynSent => {
                if header.kind != UtpKind::State || header.ack != self.last_seq() || self.sent[0].sends == 0 {
                    return;
                }
                self.phase = Phase::Open;
                self.received_to = header.seq.wrapping_sub(1);
                self.changes.established = true;
                self.changes.writable = true;
            }
            Phase::Unconfirmed => {
                let proves = matches!(header.kind, UtpKind::Data | UtpKind::Fin) && header.ack == self.acked;
                if !proves || header.seq.wrapping_sub(self.received_to) > OUT_OF_ORDER {
                    return;
                }
                self.phase = Phase::Open;
                self.deadline_us = None;
                self.timeout_us = MIN_TIMEOUT_US;
                self.changes.established = true;
                self.changes.writable = true;
            }
            Phase::Open => {}
        }
        let ahead = header.ack.wrapping_sub(self.acked);
        // An acknowledgement of a packet that we never sent is forged; one that is a little late is not.
        if usize::from(ahead) > self.transmitted() && self.acked.wrapping_sub(header.ack) > OUT_OF_ORDER {
            return;
        }
        self.on_timestamp(now_us, header);
        self.ledbat.on_delay(now_us, header.difference_us);
        if usize::from(ahead) <= self.transmitted() {
            self.on_window(now_us, header.window_bytes);
            self.on_ack(now_us, packet);
        }
        match header.kind {
            UtpKind::Data => self.on_data(header.seq, packet.payload, spare),
            UtpKind::Fin => self.on_fin(header.seq, packet.payload, spare),
            UtpKind::State | UtpKind::Reset | UtpKind::Syn => {}
        }
    }

    /// Returns whether a RESET with this acknowledgement may be of this stream's peer.
    pub(super) fn may_reset(&self, ack: u16) -> bool {
        usize::from(ack.wrapping_sub(self.acked)) <= self.transmitted()
            || self.acked.wrapping_sub(ack) < OUT_OF_ORDER
    }

    /// Repeats the answer to a SYN that came twice.
    pub(super) fn on_repeated_syn(&mut self, syn_seq: u16) {
        if self.phase == Phase::Unconfirmed && self.received_to == syn_seq {
            self.ack_due = true;
        }
    }

    /// Returns the number of packets that were sent at least once.
    fn transmitted(&self) -> usize {
        let unsent = self.sent.iter().rev().take_while(|packet| packet.sends == 0).count();
        self.sent.len() - unsent
    }

    fn on_timestamp(&mut self, now_us: u64, header: &UtpHeader) {
        self.difference_us = (now_us as u32).wrapping_sub(header.timestamp_us);
        let fall = self.their_base.on_sample(now_us, self.difference_us);
        if fall > 0 {
            self.ledbat.on_skew(fall);
        }
    }

    fn on_window(&mut self, now_us: u64, bytes: u32) {
        let before = self.peer_window;
        self.peer_window = (bytes as usize).min(SEND_BYTES);
        if self.peer_window == 0 {
            self.window_closed_at_us.get_or_insert(now_us);
        } else {
            self.window_closed_at_us = None;
            self.changes.writable |= self.refused_write && self.peer_window > before;
        }
    }

    fn on_ack(&mut self, now_us: u64, packet: &UtpPacket<'_>) {
        let count = usize::from(packet.header.ack.wrapping_sub(self.acked));
        let mut bytes = 0;
        for _ in 0..count {
            if let Some(sent) = self.sent.pop_front() {
                bytes += self.on_delivered(now_us, &sent);
            }
        }
        self.acked = packet.header.ack;
        let mut sacked_behind = 0;
        for seq in packet.selectively_acked() {
            let index = usize::from(seq.wrapping_sub(self.acked).wrapping_sub(1));
            let Some(sent) = self.sent.get_mut(index).filter(|sent| sent.sends > 0) else { continue };
            sacked_behind += 1;
            if !sent.acked {
                let delivered = Sent { payload: std::mem::take(&mut sent.payload), ..*sent };
                (sent.acked, sent.resend) = (true, false);
                bytes += self.on_delivered(now_us, &delivered);
            }
        }
        if bytes > 0 || count > 0 {
            self.timeouts = 0;
            self.duplicates = 0;
            let full = std::mem::take(&mut self.was_full);
            self.ledbat.on_ack(bytes, full);
            self.was_full = full && !self.sent.is_empty();
            self.changes.writable |= self.refused_write;
            self.deadline_us = (!self.sent.is_empty()).then(|| now_us.saturating_add(self.timeout_us));
        } else if packet.header.kind == UtpKind::State && !self.sent.is_empty() {
            self.duplicates += 1;
        }
        // A peer whose reader is slow refuses the probes of its window, and is there.
        if self.peer_window < self.packet_payload {
            self.timeouts = 0;
        }
        if self.recover_until.is_some_and(|seq| self.acked.wrapping_sub(seq) < 1 << 15) {
            self.recover_until = None;
        }
        if sacked_behind >= REORDER || self.duplicates >= REORDER {
            self.on_loss(now_us);
        }
        // libtorrent does not count a FIN of ours.
        let only_fin = self.sent.len() == 1 && self.sent[0].kind == UtpKind::Fin && self.sent[0].sends > 0;
        self.changes.done |= self.fin_sent && (self.sent.is_empty() || (only_fin && self.has_ended()));
    }

    /// Notes that a packet arrived; returns its bytes.
    fn on_delivered(&mut self, now_us: u64, sent: &Sent) -> usize {
        if sent.acked {
            return 0;
        }
        if !sent.resend {
            self.in_flight = self.in_flight.saturating_sub(sent.payload.len());
        }
        // The acknowledgement of a packet that was sent twice does not tell which of the two it is of.
        if sent.sends == 1 {
            let sample = now_us.saturating_sub(sent.at_us);
            let (mean, deviation) = match self.rtt {
                None => (sample, sample / 2),
                Some((mean, deviation)) => {
                    ((7 * mean + sample) / 8, (3 * deviation + mean.abs_diff(sample)) / 4)
                }
            };
            self.rtt = Some((mean, deviation));
            self.timeout_us = (mean + 4 * deviation).clamp(MIN_TIMEOUT_US, MAX_TIMEOUT_US);
        }
        sent.payload.len()
    }

    /// Resends the packets before those that the peer has already.
    fn on_loss(&mut self, now_us: u64) {
        let mut behind = self.sent.iter().filter(|sent| sent.acked).count();
        let mut resent = 0;
        let round_trip = self.rtt.map_or(self.timeout_us, |(mean, deviation)| mean + deviation);
        for (index, sent) in self.sent.iter_mut().enumerate() {
            let lost = behind >= REORDER || (index == 0 && self.duplicates >= REORDER);
            if resent == FAST_RESENDS || !lost {
                break;
            }
            if sent.acked {
                behind -= 1;
            } else if !sent.resend && (sent.sends == 1 || now_us.saturating_sub(sent.at_us) > round_trip) {
                sent.resend = true;
                self.in_flight = self.in_flight.saturating_sub(sent.payload.len());
                resent += 1;
            }
        }
        if resent > 0 && self.recover_until.is_none() {
            self.recover_until = Some(self.last_seq());
            self.ledbat.on_loss(now_us);
        }
    }

    fn on_data(&mut self, seq: u16, payload: &[u8], spare: usize) {
        self.ack_due = true;
        let ahead = seq.wrapping_sub(self.received_to);
        if ahead == 0 || ahead > OUT_OF_ORDER || self.is_after_fin(seq) {
            return;
        }
        // Our window holds, whatever the peer sends; the byte count never passes the budget.
        let cost = payload.len() + PACKET_COST_BYTES;
        if cost > self.window(spare) + PACKET_COST_BYTES || (ahead > 1 && cost > self.window(spare)) {
            return;
        }
        if ahead == 1 {
            self.received_to = seq;
            self.deliver(payload);
            while let Some(next) = self.out_of_order.remove(&self.received_to.wrapping_add(1)) {
                self.out_of_order_bytes -= next.len() + PACKET_COST_BYTES;
                self.received_to = self.received_to.wrapping_add(1);
                self.deliver(&next);
            }
            self.changes.readable |= self.has_ended();
        } else if !self.out_of_order.contains_key(&seq) {
            self.out_of_order_bytes += cost;
            self.out_of_order.insert(seq, payload.into());
        }
    }

    fn deliver(&mut self, payload: &[u8]) {
        self.buffer.extend(payload);
        self.changes.readable |= !payload.is_empty();
    }

    fn on_fin(&mut self, seq: u16, payload: &[u8], spare: usize) {
        let ahead = seq.wrapping_sub(self.received_to);
        if self.fin_at.is_none() && (1..=OUT_OF_ORDER).contains(&ahead) {
            self.fin_at = Some(seq);
            self.out_of_order.retain(|kept, _| seq.wrapping_sub(*kept) < 1 << 15);
            self.out_of_order_bytes =
                self.out_of_order.values().map(|kept| kept.len() + PACKET_COST_BYTES).sum();
        }
        self.on_data(seq, payload, spare);
    }

    fn is_after_fin(&self, seq: u16) -> bool {
        self.fin_at.is_some_and(|fin| fin != seq && seq.wrapping_sub(fin) < 1 << 15)
    }

    /// Returns the bytes that we can still receive.
    fn window(&self, spare: usize) -> usize {
        RECEIVE_BYTES.saturating_sub(self.held()).min(spare)
    }

    // ---- sending ------------------------------------------------------------------------------------------------

    fn next_resend(&self) -> Option<usize> {
        let index = self.sent.iter().position(|sent| sent.resend)?;
        let len = self.sent[index].payload.len();
        (self.in_flight == 0 || self.in_flight + len <= self.ledbat.window()).then_some(index)
    }

    fn may_cut(&self) -> bool {
        let has_data = !self.unsent.is_empty();
        self.phase == Phase::Open && (has_data || (self.closing && !self.fin_sent))
    }

    /// Appends the next packet to `out`; returns whether there was one.
    pub(super) fn next_packet(&mut self, now_us: u64, spare: usize, out: &mut Vec<u8>) -> bool {
        let index = match self.next_resend() {
            Some(index) => index,
            None if self.may_cut() => {
                let len = self.unsent.len().min(self.packet_payload);
                let kind = if len == 0 { UtpKind::Fin } else { UtpKind::Data };
                self.fin_sent |= len == 0;
                let payload: Box<[u8]> = self.unsent.drain(..len).collect();
                self.push(kind, payload);
                self.sent.len() - 1
            }
            None if self.ack_due => {
                let seq = self.last_seq().wrapping_add(1);
                self.encode(now_us, UtpKind::State, seq, &[], spare, out);
                return true;
            }
            None => return false,
        };
        let seq = self.acked.wrapping_add(1).wrapping_add(index as u16);
        let sent = &mut self.sent[index];
        (sent.resend, sent.at_us, sent.sends) = (false, now_us, sent.sends + 1);
        let (kind, payload) = (sent.kind, std::mem::take(&mut sent.payload));
        self.in_flight += payload.len();
        self.encode(now_us, kind, seq, &payload, spare, out);
        self.sent[index].payload = payload;
        if self.deadline_us.is_none() {
            self.deadline_us = Some(now_us.saturating_add(self.timeout_us));
        }
        true
    }

    fn encode(
        &mut self,
        now_us: u64,
        kind: UtpKind,
        seq: u16,
        payload: &[u8],
        spare: usize,
        out: &mut Vec<u8>,
    ) {
        let is_syn = kind == UtpKind::Syn;
        let connection_id = if is_syn { self.send_id.wrapping_sub(1) } else { self.send_id };
        self.advertised = self.window(spare);
        let header = UtpHeader {
            kind,
            connection_id,
            timestamp_us: now_us as u32,
            difference_us: self.difference_us,
            window_bytes: self.advertised as u32,
            seq,
            ack: self.received_to,
        };
        let mut bits = [0; 32];
        for kept in self.out_of_order.keys() {
            let bit = usize::from(kept.wrapping_sub(self.received_to).wrapping_sub(2));
            if let Some(byte) = bits.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
        debug_assert!(out.is_empty() || out.len() >= UTP_HEADER_LEN);
        UtpPacket { header, selective_ack: &bits, payload }.write(out);
        self.ack_due = false;
        self.last_sent_us = now_us;
    }

    // ---- timers -------------------------------------------------------------------------------------------------

    /// Returns when [`on_deadline`](Stream::on_deadline) is due.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let closed = self.window_closed_at_us.map(|at| at.saturating_add(ZERO_WINDOW_US));
        let keepalive = (self.phase == Phase::Open).then_some(self.last_sent_us.saturating_add(KEEPALIVE_US));
        [self.deadline_us, closed, keepalive].into_iter().flatten().min()
    }

    /// Handles the timeout, the keepalive and the probe of a closed window.
    pub(super) fn on_deadline(&mut self, now_us: u64) {
        if self.window_closed_at_us.is_some_and(|at| at.saturating_add(ZERO_WINDOW_US) <= now_us) {
            self.window_closed_at_us = Some(now_us);
            self.peer_window = self.packet_payload;
            self.changes.writable |= self.refused_write;
        }
        if self.deadline_us.is_some_and(|at| at <= now_us) {
            self.deadline_us = None;
            self.on_timeout();
        }
        if self.phase == Phase::Open && self.last_sent_us.saturating_add(KEEPALIVE_US) <= now_us {
            self.ack_due = true;
        }
    }

    fn on_timeout(&mut self) {
        let tries = match self.phase {
            Phase::Unconfirmed => 0,
            Phase::SynSent => SYN_TRIES,
            Phase::Open if self.fin_sent => FIN_TRIES,
            Phase::Open => DATA_TRIES,
        };
        if self.sent.is_empty() && self.phase != Phase::Unconfirmed {
            return;
        }
        self.timeouts += 1;
        if self.timeouts >= tries {
            self.changes.done = true;
            return;
        }
        self.sent.iter_mut().filter(|sent| !sent.acked && sent.sends > 0).for_each(|sent| sent.resend = true);
        self.in_flight = 0;
        self.duplicates = 0;
        self.timeout_us = (2 * self.timeout_us).min(MAX_TIMEOUT_US);
        if self.phase == Phase::Open {
            self.ledbat.on_timeout();
        }
    }
}
