//! All uTP streams of one UDP port: finds the stream of a packet, bounds their number and memory, and keeps
//! their deadlines.
//!
//! An address is unproven until a packet of it acknowledges a random number of ours. To an unproven address
//! goes one STATE of 20 bytes for each SYN, never resent, and nothing else; unknown packets are not answered.

use super::limits::*;
use super::stream::{Phase, Stream, UtpRead};
use crate::units::{Rng, SlotMap, UtpKey};
use crate::wire::{UTP_HEADER_LEN, UtpKind, UtpPacket};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::net::SocketAddr;

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtpEvent {
    /// A peer dialed us and proved its address.
    Accepted(UtpKey, SocketAddr),
    /// A dialed stream is established.
    Established(UtpKey),
    /// Bytes or the end of the stream can be read.
    Readable(UtpKey),
    /// A write that was cut short may take more.
    Writable(UtpKey),
    /// The stream was reset or timed out; its key is of no use any more.
    Closed(UtpKey),
}

#[derive(Debug)]
struct Entry {
    addr: SocketAddr,
    receive_id: u16,
    stream: Stream,
    /// The caller closed it: it gets no events.
    released: bool,
    dialed: bool,
    /// In `ready`.
    queued: bool,
    deadline_us: Option<u64>,
}

/// All streams of one port.
#[derive(Debug)]
pub struct Endpoint {
    streams: SlotMap<UtpKey, Entry>,
    index: BTreeMap<(SocketAddr, u16), UtpKey>,
    deadlines: BTreeSet<(u64, UtpKey)>,
    ready: VecDeque<UtpKey>,
    events: VecDeque<UtpEvent>,
    max_streams: usize,
    unconfirmed: usize,
    held: usize,
    unacknowledged: usize,
    rng: Rng,
}

impl Endpoint {
    /// Returns an endpoint with at most `max_streams` streams. The seed decides connection ids and sequence
    /// numbers, so it must be secret outside tests.
    pub fn new(max_streams: usize, seed: u64) -> Endpoint {
        Endpoint {
            streams: SlotMap::default(),
            index: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            max_streams,
            unconfirmed: 0,
            held: 0,
            unacknowledged: 0,
            rng: Rng::new(seed),
        }
    }

    /// Begins to connect; `None` if there are too many streams.
    pub fn dial(&mut self, now_us: u64, addr: SocketAddr) -> Option<UtpKey> {
        if self.streams.len() >= self.max_streams {
            return None;
        }
        let receive_id = self.rng.u32() as u16;
        if self.index.contains_key(&(addr, receive_id)) {
            return None;
        }
        let stream = Stream::dialed(now_us, receive_id, self.rng.u32() as u16, payload_of(addr));
        Some(self.insert(addr, receive_id, stream, true))
    }

    /// Takes a datagram that [`crate::wire::Datagram`] calls uTP.
    pub fn on_datagram(&mut self, now_us: u64, from: SocketAddr, bytes: &[u8]) {
        let Some(packet) = UtpPacket::parse(bytes) else { return };
        match packet.header.kind {
            UtpKind::Syn => self.on_syn(now_us, from, &packet),
            UtpKind::Reset => self.on_reset(from, &packet),
            _ => {
                let Some(key) = self.index.get(&(from, packet.header.connection_id)).copied() else { return };
                self.with(key, |stream, spare| stream.on_packet(now_us, &packet, spare.receive));
            }
        }
    }

    fn on_syn(&mut self, now_us: u64, from: SocketAddr, syn: &UtpPacket<'_>) {
        let receive_id = syn.header.connection_id.wrapping_add(1);
        if let Some(key) = self.index.get(&(from, receive_id)).copied() {
            self.with(key, |stream, _| stream.on_repeated_syn(syn.header.seq));
        } else if self.unconfirmed < UNCONFIRMED && self.streams.len() < self.max_streams {
            let stream = Stream::accepted(now_us, syn, self.rng.u32() as u16, payload_of(from));
            self.unconfirmed += 1;
            self.insert(from, receive_id, stream, false);
        }
    }

    /// A RESET has our receive id, or, of a peer that never knew the stream, our send id.
    fn on_reset(&mut self, from: SocketAddr, packet: &UtpPacket<'_>) {
        let id = packet.header.connection_id;
        let of_id = |id: u16| self.index.get(&(from, id)).copied();
        let key = [id, id.wrapping_sub(1), id.wrapping_add(1)].into_iter().find_map(of_id);
        let Some(key) = key else { return };
        self.with(key, |stream, _| stream.changes.done |= stream.may_reset(packet.header.ack));
    }

    fn insert(&mut self, addr: SocketAddr, receive_id: u16, stream: Stream, dialed: bool) -> UtpKey {
        let entry =
            Entry { addr, receive_id, stream, released: false, dialed, queued: false, deadline_us: None };
        let key = self.streams.insert(entry);
        self.index.insert((addr, receive_id), key);
        self.with(key, |_, _| ());
        key
    }

    /// Calls `act` on a stream, and brings counters, queues, deadlines and events up to date.
    fn with<T>(&mut self, key: UtpKey, act: impl FnOnce(&mut Stream, Spare) -> T) -> Option<T> {
        let spare = self.spare();
        let entry = self.streams.get_mut(key)?;
        let stream = &mut entry.stream;
        let (held, sent) = (stream.held(), stream.unacknowledged());
        let was_unconfirmed = stream.phase == Phase::Unconfirmed;
        let result = act(stream, spare);
        self.held = self.held + stream.held() - held;
        self.unacknowledged = self.unacknowledged + stream.unacknowledged() - sent;
        if was_unconfirmed && stream.phase == Phase::Open {
            self.unconfirmed -= 1;
        }
        let changes = std::mem::take(&mut stream.changes);
        if !entry.released {
            let accepted = changes.established && !entry.dialed;
            let events = [
                accepted.then_some(UtpEvent::Accepted(key, entry.addr)),
                (changes.established && entry.dialed).then_some(UtpEvent::Established(key)),
                changes.readable.then_some(UtpEvent::Readable(key)),
                changes.writable.then_some(UtpEvent::Writable(key)),
                (changes.done && (entry.dialed || stream.phase == Phase::Open))
                    .then_some(UtpEvent::Closed(key)),
            ];
            self.events.extend(events.into_iter().flatten());
        }
        if changes.done {
            self.remove(key);
            return Some(result);
        }
        if stream.wants_to_send() && !entry.queued {
            entry.queued = true;
            self.ready.push_back(key);
        }
        let deadline_us = stream.next_deadline();
        if deadline_us != entry.deadline_us {
            if let Some(old) = std::mem::replace(&mut entry.deadline_us, deadline_us) {
                self.deadlines.remove(&(old, key));
            }
            self.deadlines.extend(deadline_us.map(|at| (at, key)));
        }
        Some(result)
    }

    fn remove(&mut self, key: UtpKey) {
        let Some(entry) = self.streams.remove(key) else { return };
        self.index.remove(&(entry.addr, entry.receive_id));
        if let Some(at) = entry.deadline_us {
            self.deadlines.remove(&(at, key));
        }
        self.held -= entry.stream.held();
        self.unacknowledged -= entry.stream.unacknowledged();
        self.unconfirmed -= usize::from(entry.stream.phase == Phase::Unconfirmed);
    }

    fn spare(&self) -> Spare {
        Spare {
            receive: RECEIVE_ALL_BYTES.saturating_sub(self.held),
            send: SEND_ALL_BYTES.saturating_sub(self.unacknowledged),
        }
    }

    // ---- the user of a stream -----------------------------------------------------------------------------------

    /// Returns the next event.
    pub fn next_event(&mut self) -> Option<UtpEvent> {
        self.events.pop_front()
    }

    /// Moves received bytes into `room`.
    pub fn read(&mut self, key: UtpKey, room: &mut [u8]) -> UtpRead {
        self.with(key, |stream, spare| stream.read(room, spare.receive)).unwrap_or(UtpRead::Ended)
    }

    /// Returns the first received bytes, which [`consume`](Endpoint::consume) drops.
    pub fn peek(&self, key: UtpKey) -> &[u8] {
        self.streams.get(key).map_or(&[], |entry| entry.stream.peek())
    }

    /// Drops received bytes that were copied.
    pub fn consume(&mut self, key: UtpKey, bytes: usize) {
        self.with(key, |stream, spare| stream.consume(bytes, spare.receive));
    }

    /// Takes bytes to send; returns how many. If it takes less than all, [`UtpEvent::Writable`] follows.
    pub fn write(&mut self, key: UtpKey, slices: &[IoSlice<'_>]) -> usize {
        self.with(key, |stream, spare| stream.write(slices, spare.send)).unwrap_or(0)
    }

    /// Ends a stream: what was written is still sent, then a FIN. Its key is of no use any more.
    pub fn close(&mut self, key: UtpKey) {
        if let Some(entry) = self.streams.get_mut(key) {
            entry.released = true;
            self.with(key, |stream, _| stream.close());
        }
    }

    // ---- the socket and the clock -------------------------------------------------------------------------------

    /// Appends the next packet to `out` and returns its destination; `None` if no packet waits. The caller
    /// must send it, or keep it until the socket is writable.
    pub fn next_packet(&mut self, now_us: u64, out: &mut Vec<u8>) -> Option<SocketAddr> {
        while let Some(key) = self.ready.pop_front() {
            let Some(entry) = self.streams.get_mut(key) else { continue };
            entry.queued = false;
            let addr = entry.addr;
            let packet = self.with(key, |stream, spare| stream.next_packet(now_us, spare.receive, out));
            if packet == Some(true) {
                return Some(addr);
            }
        }
        None
    }

    /// Returns when [`on_deadline`](Endpoint::on_deadline) is due, in microseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Handles the deadlines that have passed.
    pub fn on_deadline(&mut self, now_us: u64) {
        while let Some((_, key)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now_us) {
            self.with(key, |stream, _| stream.on_deadline(now_us));
            // A deadline that stays in the past would be handled forever.
            if self.deadlines.first().is_some_and(|first| first.1 == key && first.0 <= now_us) {
                break;
            }
        }
    }

    /// Returns the number of streams, those included that still end.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Returns the bytes held for readers, and the bytes held until peers acknowledge them.
    pub fn held_bytes(&self) -> (usize, usize) {
        (self.held, self.unacknowledged)
    }
}

/// What all streams may still hold.
#[derive(Clone, Copy)]
struct Spare {
    receive: usize,
    send: usize,
}

fn payload_of(addr: SocketAddr) -> usize {
    let packet = if addr.is_ipv4() { PACKET_V4_BYTES } else { PACKET_V6_BYTES };
    packet - UTP_HEADER_LEN
}
