//! One uTP stream: its phases, and how packets, the two halves and the timers work together.
//!
//! Sequence numbers are compared on a circle of 2¹⁶. The stream is done when its FIN is acknowledged, when it is
//! reset, or when its timeouts run out.

use super::ledbat::BaseDelay;
use super::limits::*;
use super::receive::Receiver;
use super::send::Sender;
use super::timers::Timers;
use crate::wire::{UtpHeader, UtpKind, UtpPacket};
use std::io::IoSlice;

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

impl Changes {
    /// Adds later changes; what can be read or written is of no use after the end.
    pub(super) fn add(&mut self, later: Changes) {
        self.established |= later.established;
        self.done |= later.done;
        self.readable = (self.readable || later.readable) && !self.done;
        self.writable = (self.writable || later.writable) && !self.done;
    }
}

/// A uTP stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub phase: Phase,
    pub send_id: u16,
    pub changes: Changes,
    sender: Sender,
    receiver: Receiver,
    timers: Timers,
    ack_due: bool,
    /// The window that the peer last learned.
    advertised: usize,
    /// Our clock less the peer's time stamp in its last packet.
    difference_us: u32,
    their_base: BaseDelay,
}

impl Stream {
    fn new(now_us: u64, phase: Phase, send_id: u16, seq: u16, payload: usize) -> Stream {
        Stream {
            phase,
            send_id,
            changes: Changes::default(),
            sender: Sender::new(seq, payload),
            receiver: Receiver::new(0),
            timers: Timers::new(now_us),
            ack_due: false,
            advertised: FIRST_RECEIVE_BYTES,
            difference_us: 0,
            their_base: BaseDelay::default(),
        }
    }

    /// Returns a dialed stream, which will send a SYN.
    pub(super) fn dialed(now_us: u64, receive_id: u16, seq: u16, payload: usize) -> Stream {
        let mut stream = Stream::new(now_us, Phase::SynSent, receive_id.wrapping_add(1), seq, payload);
        stream.sender.push(UtpKind::Syn, Box::default());
        stream
    }

    /// Returns the stream of a peer that dialed us and has proven its address.
    pub(super) fn accepted(now_us: u64, send_id: u16, syn_seq: u16, seq: u16, payload: usize) -> Stream {
        let mut stream = Stream::new(now_us, Phase::Open, send_id, seq, payload);
        stream.receiver.received_to = syn_seq;
        stream.timers.on_established();
        (stream.changes.established, stream.changes.writable) = (true, true);
        stream
    }

    /// Returns the bytes that the stream holds for its reader.
    pub(super) fn held(&self) -> usize {
        self.receiver.held()
    }

    /// Returns the bytes that the stream holds for the peer.
    pub(super) fn unacknowledged(&self) -> usize {
        self.sender.held()
    }

    /// Returns whether packets wait to be fetched.
    pub(super) fn wants_to_send(&self) -> bool {
        self.ack_due || self.sender.has_packet(self.phase == Phase::Open)
    }

    // ---- the reader and the writer ------------------------------------------------------------------------------

    /// Moves received bytes into `room`; `spare` is what all streams may still hold.
    pub(super) fn read(&mut self, room: &mut [u8], spare: usize) -> UtpRead {
        match self.receiver.read(room) {
            0 if self.has_ended() => UtpRead::Ended,
            0 => UtpRead::NotNow,
            n => {
                self.on_consumed(spare);
                UtpRead::Moved(n)
            }
        }
    }

    /// A window that was nearly closed opens: the peer must learn it, or waits for its timeout.
    fn on_consumed(&mut self, spare: usize) {
        let least = 2 * self.sender.packet_payload;
        self.ack_due |= self.advertised < least && self.receiver.window(spare) >= least;
    }

    fn has_ended(&self) -> bool {
        self.changes.done || self.receiver.has_fin()
    }

    /// Returns the bytes that a write would take now.
    pub(super) fn room(&self, spare: usize) -> usize {
        if self.phase != Phase::Open || self.sender.closing { 0 } else { self.sender.room(spare) }
    }

    /// Takes bytes to send, as many as the windows and `spare` allow, in whole packets; returns their number.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], spare: usize) -> usize {
        if self.phase != Phase::Open || self.sender.closing {
            return 0;
        }
        self.sender.write(slices, spare)
    }

    /// Ends our side: what was written is sent, then a FIN.
    pub(super) fn close(&mut self) {
        self.sender.closing = true;
        self.changes.done |= self.phase != Phase::Open;
    }

    // ---- receiving ----------------------------------------------------------------------------------------------

    /// Takes a packet of this stream; `spare` is what all streams may still hold for their readers.
    pub(super) fn on_packet(&mut self, now_us: u64, packet: &UtpPacket<'_>, spare: usize) {
        let header = &packet.header;
        if self.phase != Phase::Open && !self.establish(header) {
            return;
        }
        let ahead = header.ack.wrapping_sub(self.sender.acked);
        let new = usize::from(ahead) <= self.sender.transmitted();
        // An acknowledgement of a packet that we never sent is forged; one that is a little late is not.
        if !new && usize::from(self.sender.acked.wrapping_sub(header.ack)) > self.sender.late_packets() {
            return;
        }
        self.on_timestamp(now_us, header);
        self.sender.ledbat.on_delay(now_us, header.difference_us, self.timers.round_trip_us());
        if new {
            self.changes.writable |= self.sender.on_window(now_us, header.window_bytes);
            let acked = self.sender.on_ack(now_us, packet, &mut self.timers);
            self.changes.writable |= acked && self.sender.refused_write();
            self.changes.done |= self.sender.is_finished(self.has_ended());
        }
        let readable = match header.kind {
            UtpKind::Data => self.receiver.on_data(now_us, header.seq, packet.payload, spare),
            UtpKind::Fin => self.receiver.on_fin(now_us, header.seq, packet.payload, spare),
            UtpKind::State | UtpKind::Reset | UtpKind::Syn => return,
        };
        self.ack_due = true;
        self.changes.readable |= readable;
    }

    /// Opens a dialed stream if the packet answers its SYN; returns whether it is open.
    fn establish(&mut self, header: &UtpHeader) -> bool {
        let answers = header.kind == UtpKind::State
            && header.ack == self.sender.last_seq()
            && self.sender.transmitted() > 0;
        if answers {
            self.receiver.received_to = header.seq.wrapping_sub(1);
            self.phase = Phase::Open;
            self.timers.on_established();
            (self.changes.established, self.changes.writable) = (true, true);
        }
        answers
    }

    /// Returns the header of a RESET.
    pub(super) fn reset(&self, now_us: u64) -> UtpHeader {
        UtpHeader {
            kind: UtpKind::Reset,
            connection_id: self.send_id,
            timestamp_us: now_us as u32,
            difference_us: self.difference_us,
            window_bytes: 0,
            seq: self.sender.last_seq().wrapping_add(1),
            ack: self.receiver.received_to,
        }
    }

    /// Returns whether a RESET with this acknowledgement may be of this stream's peer: it names the packet that
    /// it answers, a STATE of ours included, or the last one that the peer received.
    pub(super) fn may_reset(&self, ack: u16) -> bool {
        let first = self.sender.acked.wrapping_sub(LATE_ACKS);
        let beyond = usize::from(LATE_ACKS) + self.sender.transmitted() + 1;
        usize::from(ack.wrapping_sub(first)) <= beyond
    }

    fn on_timestamp(&mut self, now_us: u64, header: &UtpHeader) {
        self.difference_us = (now_us as u32).wrapping_sub(header.timestamp_us);
        let fall = self.their_base.on_sample(now_us, self.difference_us);
        if fall > 0 {
            self.sender.ledbat.on_skew(fall);
        }
    }

    // ---- sending ------------------------------------------------------------------------------------------------

    /// Appends the next packet to `out`; returns whether there was one.
    pub(super) fn next_packet(&mut self, now_us: u64, spare: usize, out: &mut Vec<u8>) -> bool {
        let outgoing = self.sender.take(now_us, self.phase == Phase::Open);
        let (kind, seq) = match &outgoing {
            Some(outgoing) => (outgoing.kind, outgoing.seq),
            None if self.ack_due => (UtpKind::State, self.sender.last_seq().wrapping_add(1)),
            None => return false,
        };
        self.advertised = self.receiver.window(spare);
        let header = UtpHeader {
            kind,
            connection_id: self.send_id.wrapping_sub(u16::from(kind == UtpKind::Syn)),
            timestamp_us: now_us as u32,
            difference_us: self.difference_us,
            window_bytes: self.advertised as u32,
            seq,
            ack: self.receiver.received_to,
        };
        let payload = outgoing.as_ref().map_or(&[][..], |outgoing| self.sender.payload(outgoing));
        UtpPacket { header, selective_ack: &self.receiver.selective_ack(), payload }.write(out);
        self.ack_due = false;
        self.timers.on_sent(now_us);
        if outgoing.is_some() {
            self.timers.start(now_us);
        }
        true
    }

    // ---- timers -------------------------------------------------------------------------------------------------

    /// Returns when [`on_deadline`](Stream::on_deadline) is due.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let keepalive = (self.phase == Phase::Open).then(|| self.timers.keepalive_us());
        [self.timers.deadline_us, self.sender.probe_us(), keepalive].into_iter().flatten().min()
    }

    /// Handles the timeout, the keepalive and the probe of a closed window.
    pub(super) fn on_deadline(&mut self, now_us: u64) {
        if self.sender.probe_us().is_some_and(|at| at <= now_us) {
            self.sender.probe(now_us);
            self.changes.writable |= self.sender.refused_write();
        }
        if self.timers.deadline_us.is_some_and(|at| at <= now_us) {
            self.timers.deadline_us = None;
            self.on_timeout();
        }
        self.ack_due |= self.phase == Phase::Open && self.timers.keepalive_us() <= now_us;
    }

    fn on_timeout(&mut self) {
        let tries = match self.phase {
            Phase::SynSent => SYN_TRIES,
            Phase::Open if self.sender.closing => FIN_TRIES,
            Phase::Open => DATA_TRIES,
        };
        if self.sender.is_empty() {
            return;
        }
        self.timers.timeouts += 1;
        if self.timers.timeouts >= tries {
            self.changes.done = true;
            return;
        }
        self.sender.on_timeout();
        self.timers.back_off();
        if self.phase == Phase::Open {
            self.sender.ledbat.on_timeout();
        }
    }
}
