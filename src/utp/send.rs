//! The send half of a stream: what the writer gave, packets until they are acknowledged, and their resends.
//!
//! `sent` holds the packets from `acked + 1` on, without a gap. Packets and bytes are counted as they change:
//! no question about the queue walks it.

use super::ledbat::Ledbat;
use super::limits::*;
use super::timers::Timers;
use crate::wire::{UtpKind, UtpPacket};
use std::collections::VecDeque;
use std::io::IoSlice;

#[derive(Debug)]
struct Sent {
    kind: UtpKind,
    payload: Box<[u8]>,
    at_us: u64,
    sends: u32,
    acked: bool,
    resend: bool,
}

/// What is sent and not yet acknowledged.
#[derive(Debug)]
pub(super) struct Sender {
    pub packet_payload: usize,
    pub ledbat: Ledbat,
    /// The last sequence number before which the peer has acknowledged every packet, itself included.
    pub acked: u16,
    sent: VecDeque<Sent>,
    unsent: VecDeque<u8>,
    /// Bytes of payload in `sent`.
    kept: usize,
    /// Bytes of packets that were sent and are neither acknowledged nor lost.
    in_flight: usize,
    /// Packets at the front of `sent` that were sent at least once.
    transmitted: usize,
    /// Packets in `sent` that a selective ack named.
    sacked: usize,
    /// The first packet in `sent` to resend; its length if there is none.
    first_resend: usize,
    peer_window: usize,
    window_closed_at_us: Option<u64>,
    was_full: bool,
    refused_write: bool,
    pub closing: bool,
    pub fin_sent: bool,
    duplicates: usize,
    recover_until: Option<u16>,
}

/// A packet to encode.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub kind: UtpKind,
    pub seq: u16,
    index: usize,
}

impl Sender {
    pub(super) fn new(seq: u16, packet_payload: usize) -> Sender {
        Sender {
            packet_payload,
            ledbat: Ledbat::new(packet_payload),
            acked: seq.wrapping_sub(1),
            sent: VecDeque::new(),
            unsent: VecDeque::new(),
            kept: 0,
            in_flight: 0,
            transmitted: 0,
            sacked: 0,
            first_resend: 0,
            peer_window: packet_payload,
            window_closed_at_us: None,
            was_full: false,
            refused_write: false,
            closing: false,
            fin_sent: false,
            duplicates: 0,
            recover_until: None,
        }
    }

    /// Appends a packet, which is sent next.
    pub(super) fn push(&mut self, kind: UtpKind, payload: Box<[u8]>) {
        self.kept += payload.len();
        self.sent.push_back(Sent { kind, payload, at_us: 0, sends: 0, acked: false, resend: true });
    }

    /// Returns the bytes held for the peer.
    pub(super) fn held(&self) -> usize {
        self.unsent.len() + self.kept
    }

    /// Returns whether all packets are acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Returns the number of packets that were sent at least once and are not acknowledged in order.
    pub(super) fn transmitted(&self) -> usize {
        self.transmitted
    }

    /// Returns how many packets before the last acknowledged one a packet of the peer may name: one that was
    /// overtaken says what the peer had a round trip ago.
    pub(super) fn late_packets(&self) -> usize {
        usize::from(LATE_ACKS) + 2 * self.ledbat.window() / self.packet_payload
    }

    pub(super) fn last_seq(&self) -> u16 {
        self.acked.wrapping_add(self.sent.len() as u16)
    }

    // ---- the writer ---------------------------------------------------------------------------------------------

    /// Returns the bytes that a write would take: as many as the windows and `spare` allow, in whole packets. With
    /// nothing under way it is one packet at least, so a stream goes on whatever the others hold.
    pub(super) fn room(&self, spare: usize) -> usize {
        let queued = self.held();
        let window = self.ledbat.window().min(self.peer_window);
        let room = window.saturating_sub(queued).min(spare);
        let room = room - room % self.packet_payload;
        if queued == 0 { room.max(self.packet_payload.min(self.peer_window)) } else { room }
    }

    /// Takes bytes to send, as many as there is room for; returns their number.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], spare: usize) -> usize {
        let room = self.room(spare);
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

    /// Returns whether a write was cut short.
    pub(super) fn refused_write(&self) -> bool {
        self.refused_write
    }

    // ---- the peer's acknowledgements ----------------------------------------------------------------------------

    /// Takes the peer's window; returns whether the writer may go on.
    pub(super) fn on_window(&mut self, now_us: u64, bytes: u32) -> bool {
        let before = self.peer_window;
        self.peer_window = (bytes as usize).min(SEND_BYTES);
        if self.peer_window == 0 {
            self.window_closed_at_us.get_or_insert(now_us);
            return false;
        }
        self.window_closed_at_us = None;
        self.refused_write && self.peer_window > before
    }

    /// Returns when a closed window of the peer counts as one packet.
    pub(super) fn probe_us(&self) -> Option<u64> {
        self.window_closed_at_us.map(|at| at.saturating_add(ZERO_WINDOW_US))
    }

    /// Counts a closed window as one packet.
    pub(super) fn probe(&mut self, now_us: u64) {
        self.window_closed_at_us = Some(now_us);
        self.peer_window = self.packet_payload;
    }

    /// Takes the acknowledgements of a packet; returns whether one was new.
    pub(super) fn on_ack(&mut self, now_us: u64, packet: &UtpPacket<'_>, timers: &mut Timers) -> bool {
        let count = usize::from(packet.header.ack.wrapping_sub(self.acked)).min(self.sent.len());
        let mut bytes = 0;
        for _ in 0..count {
            bytes += self.deliver(now_us, 0, timers);
            if let Some(sent) = self.sent.pop_front() {
                self.sacked -= usize::from(sent.acked);
            }
        }
        self.transmitted = self.transmitted.saturating_sub(count);
        self.first_resend = self.first_resend.saturating_sub(count);
        self.acked = packet.header.ack;
        let mut behind = 0;
        for seq in packet.selectively_acked() {
            let index = usize::from(seq.wrapping_sub(self.acked).wrapping_sub(1));
            if index < self.transmitted {
                behind += 1;
                bytes += self.deliver(now_us, index, timers);
            }
        }
        self.skip_to_resend();
        let new = bytes > 0 || count > 0;
        if new {
            timers.timeouts = 0;
            self.duplicates = 0;
            let full = std::mem::take(&mut self.was_full);
            self.ledbat.on_ack(bytes, full);
            self.was_full = full && !self.sent.is_empty();
            timers.restart(now_us, !self.sent.is_empty());
        } else if packet.header.kind == UtpKind::State && !self.sent.is_empty() {
            self.duplicates += 1;
        }
        // A peer whose reader is slow refuses the probes of its window, and is there.
        if self.peer_window < self.packet_payload {
            timers.timeouts = 0;
        }
        if self.recover_until.is_some_and(|seq| self.acked.wrapping_sub(seq) < 1 << 15) {
            self.recover_until = None;
        }
        if behind >= REORDER || self.duplicates >= REORDER {
            self.on_loss(now_us, timers.late_after_us());
        }
        new
    }

    /// Notes that a packet arrived, and drops its payload; returns its bytes, 0 if that was known.
    fn deliver(&mut self, now_us: u64, index: usize, timers: &mut Timers) -> usize {
        let Some(sent) = self.sent.get_mut(index).filter(|sent| !sent.acked) else { return 0 };
        let bytes = std::mem::take(&mut sent.payload).len();
        self.kept -= bytes;
        if !sent.resend {
            self.in_flight = self.in_flight.saturating_sub(bytes);
        }
        (sent.acked, sent.resend) = (true, false);
        self.sacked += 1;
        // The acknowledgement of a packet that was sent twice does not tell which of the two it is of.
        if sent.sends == 1 {
            timers.on_round_trip(now_us.saturating_sub(sent.at_us));
        }
        bytes
    }

    /// Resends the packets before those that the peer has already.
    fn on_loss(&mut self, now_us: u64, late_after_us: u64) {
        let mut behind = self.sacked;
        let mut resent = 0;
        for (index, sent) in self.sent.iter_mut().enumerate() {
            let lost = behind >= REORDER || (index == 0 && self.duplicates >= REORDER);
            if resent == FAST_RESENDS || !lost {
                break;
            }
            if sent.acked {
                behind -= 1;
            } else if !sent.resend && (sent.sends == 1 || now_us.saturating_sub(sent.at_us) > late_after_us) {
                sent.resend = true;
                self.in_flight = self.in_flight.saturating_sub(sent.payload.len());
                self.first_resend = self.first_resend.min(index);
                resent += 1;
            }
        }
        if resent > 0 && self.recover_until.is_none() {
            self.recover_until = Some(self.last_seq());
            self.ledbat.on_loss(now_us);
        }
    }

    /// Counts every packet in flight as lost.
    pub(super) fn on_timeout(&mut self) {
        self.sent.iter_mut().filter(|sent| !sent.acked).for_each(|sent| sent.resend = true);
        self.first_resend = 0;
        self.skip_to_resend();
        self.in_flight = 0;
        self.duplicates = 0;
    }

    fn skip_to_resend(&mut self) {
        while self.sent.get(self.first_resend).is_some_and(|sent| !sent.resend) {
            self.first_resend += 1;
        }
    }

    /// Returns whether our FIN and all before it arrived. libtorrent does not acknowledge a FIN of ours: then the
    /// peer's own end is enough.
    pub(super) fn is_finished(&self, peer_ended: bool) -> bool {
        let only_fin = self.sent.len() == 1 && self.transmitted == 1 && self.sent[0].kind == UtpKind::Fin;
        self.fin_sent && (self.sent.is_empty() || (only_fin && peer_ended))
    }

    // ---- packets ------------------------------------------------------------------------------------------------

    /// Returns whether [`take`](Sender::take) would give a packet; `open` says that data may be sent.
    pub(super) fn has_packet(&self, open: bool) -> bool {
        self.may_resend() || (open && (!self.unsent.is_empty() || (self.closing && !self.fin_sent)))
    }

    fn may_resend(&self) -> bool {
        self.sent.get(self.first_resend).is_some_and(|sent| {
            self.in_flight == 0 || self.in_flight + sent.payload.len() <= self.ledbat.window()
        })
    }

    /// Chooses the next packet and counts it as sent.
    pub(super) fn take(&mut self, now_us: u64, open: bool) -> Option<Outgoing> {
        if !self.has_packet(open) {
            return None;
        }
        if !self.may_resend() {
            let len = self.unsent.len().min(self.packet_payload);
            let kind = if len == 0 { UtpKind::Fin } else { UtpKind::Data };
            self.fin_sent |= len == 0;
            let payload = take_first(&mut self.unsent, len);
            self.push(kind, payload);
        }
        let index = if self.may_resend() { self.first_resend } else { self.sent.len() - 1 };
        let sent = self.sent.get_mut(index)?;
        self.transmitted += usize::from(sent.sends == 0);
        (sent.resend, sent.at_us, sent.sends) = (false, now_us, sent.sends + 1);
        self.in_flight += sent.payload.len();
        let kind = sent.kind;
        self.skip_to_resend();
        Some(Outgoing { kind, seq: self.acked.wrapping_add(1).wrapping_add(index as u16), index })
    }

    /// Returns the payload of a packet that was just taken.
    pub(super) fn payload(&self, outgoing: &Outgoing) -> &[u8] {
        self.sent.get(outgoing.index).map_or(&[], |sent| &sent.payload)
    }
}

/// Removes and returns the first bytes: whole slices are copied, which is much faster than byte by byte.
fn take_first(bytes: &mut VecDeque<u8>, len: usize) -> Box<[u8]> {
    let mut taken = Vec::with_capacity(len);
    let (front, back) = bytes.as_slices();
    taken.extend_from_slice(&front[..len.min(front.len())]);
    taken.extend_from_slice(&back[..len - taken.len()]);
    bytes.drain(..len);
    taken.into()
}
