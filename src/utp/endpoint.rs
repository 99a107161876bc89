//! All uTP streams of one UDP port: finds the stream of a packet, bounds their number and memory, and keeps
//! their deadlines.
//!
//! An address is unproven until a packet of it acknowledges a number that only we can compute. To an unproven
//! address goes one STATE of 20 bytes for each SYN, never resent, and nothing else. Nothing is kept of a SYN: its
//! answer begins with a sequence number that is a digest of the address, the SYN and a secret, and the first DATA of
//! the caller returns it. So a flood of forged SYNs takes no place from an honest caller. Other unknown packets are
//! not answered.

use super::limits::*;
use super::stream::{Changes, Phase, Stream, UtpRead};
use crate::units::{SlotMap, UtpKey};
use crate::wire::{UTP_HEADER_LEN, UtpHeader, UtpKind, UtpPacket};
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};

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
    /// The index of the socket that its packets leave from.
    socket: usize,
    receive_id: u16,
    /// `None`: it ended, and its last event waits.
    stream: Option<Stream>,
    /// The caller closed it: it gets no events.
    released: bool,
    dialed: bool,
    /// In `ready`.
    queued: bool,
    /// In `events`.
    has_events: bool,
    pending: Changes,
    deadline_us: Option<u64>,
}

/// All streams of one port.
#[derive(Debug)]
pub struct Endpoint {
    streams: SlotMap<UtpKey, Entry>,
    index: BTreeMap<(SocketAddr, u16), UtpKey>,
    deadlines: BTreeSet<(u64, UtpKey)>,
    ready: VecDeque<UtpKey>,
    /// Streams with events, each once.
    events: VecDeque<UtpKey>,
    budget: UtpBudget,
    /// Answers to SYNs and RESETs, with the socket and the destination of each.
    answers: VecDeque<(usize, SocketAddr, UtpHeader)>,
    held: usize,
    unacknowledged: usize,
    seed: [u8; 32],
    /// Secret numbers drawn from the seed.
    drawn: u64,
}

impl Endpoint {
    /// Returns an endpoint without streams. The seed decides connection ids and sequence numbers: it is secret
    /// outside tests.
    pub fn new(budget: UtpBudget, seed: [u8; 32]) -> Endpoint {
        Endpoint {
            streams: SlotMap::default(),
            index: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            budget,
            answers: VecDeque::new(),
            held: 0,
            unacknowledged: 0,
            seed,
            drawn: 0,
        }
    }

    /// Begins to connect from the socket with this index; `None` if there are too many streams.
    pub fn dial(&mut self, now_us: u64, socket: usize, addr: SocketAddr) -> Option<UtpKey> {
        if self.streams.len() >= self.budget.streams {
            return None;
        }
        let (receive_id, seq) = self.draw();
        if self.index.contains_key(&(addr, receive_id)) {
            return None;
        }
        let stream = Stream::dialed(now_us, receive_id, seq, payload_of(addr));
        Some(self.insert(socket, addr, receive_id, stream, true))
    }

    /// Returns two numbers that a stranger can't predict: a connection id and a sequence number.
    pub(super) fn draw(&mut self) -> (u16, u16) {
        self.drawn += 1;
        let digest = Sha1::new().chain_update(self.seed).chain_update(self.drawn.to_be_bytes()).finalize();
        let [a, b, c, d, ..] = <[u8; 20]>::from(digest);
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    }

    /// Takes a datagram that [`crate::wire::Datagram`] calls uTP, which arrived at the socket with this index.
    pub fn on_datagram(&mut self, now_us: u64, socket: usize, from: SocketAddr, bytes: &[u8]) {
        let Some(packet) = UtpPacket::parse(bytes) else { return };
        match packet.header.kind {
            UtpKind::Syn => self.on_syn(now_us, socket, from, &packet),
            UtpKind::Reset => self.on_reset(from, &packet),
            _ => {
                let known = self.index.get(&(from, packet.header.connection_id)).copied();
                let key = known.or_else(|| self.accept(now_us, socket, from, &packet));
                if let Some(key) = key {
                    self.with(key, |stream, spare| stream.on_packet(now_us, &packet, spare.receive));
                }
            }
        }
    }

    /// Answers a SYN. One that comes again gets the same answer.
    fn on_syn(&mut self, now_us: u64, socket: usize, from: SocketAddr, syn: &UtpPacket<'_>) {
        let header = &syn.header;
        let is_known = self.index.contains_key(&(from, header.connection_id.wrapping_add(1)));
        if is_known || self.streams.len() >= self.budget.streams || self.answers.len() >= ANSWERS {
            return;
        }
        let answer = UtpHeader {
            kind: UtpKind::State,
            connection_id: header.connection_id,
            timestamp_us: now_us as u32,
            difference_us: (now_us as u32).wrapping_sub(header.timestamp_us),
            window_bytes: FIRST_RECEIVE_BYTES as u32,
            seq: self.first_seq(now_us / ANSWER_US, from, header.connection_id, header.seq),
            ack: header.seq,
        };
        self.answers.push_back((socket, from, answer));
    }

    /// Returns the first sequence number of our side of a stream that a peer dials.
    fn first_seq(&self, epoch: u64, from: SocketAddr, id: u16, syn_seq: u16) -> u16 {
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let [a, b, ..] = <[u8; 20]>::from(
            Sha1::new()
                .chain_update(self.seed)
                .chain_update(b"answer")
                .chain_update(epoch.to_be_bytes())
                .chain_update(ip)
                .chain_update([from.port(), id, syn_seq].map(u16::to_be_bytes).concat())
                .finalize(),
        );
        u16::from_be_bytes([a, b])
    }

    /// Creates the stream of a caller's first packets, if they return the number of our answer.
    fn accept(
        &mut self,
        now_us: u64,
        socket: usize,
        from: SocketAddr,
        packet: &UtpPacket<'_>,
    ) -> Option<UtpKey> {
        let header = &packet.header;
        let may_open = matches!(header.kind, UtpKind::Data | UtpKind::Fin);
        if !may_open || self.streams.len() >= self.budget.streams {
            return None;
        }
        let send_id = header.connection_id.wrapping_sub(1);
        let epoch = now_us / ANSWER_US;
        // The first packet after the SYN, or the second one if it overtook the first.
        let tries = [1, 2].map(|ahead| header.seq.wrapping_sub(ahead));
        let tries = tries.into_iter().flat_map(|seq| [(epoch, seq), (epoch.wrapping_sub(1), seq)]);
        for (epoch, syn_seq) in tries {
            let seq = self.first_seq(epoch, from, send_id, syn_seq);
            if header.ack == seq.wrapping_sub(1) {
                let stream = Stream::accepted(now_us, send_id, syn_seq, seq, payload_of(from));
                return Some(self.insert(socket, from, header.connection_id, stream, false));
            }
        }
        None
    }

    /// A RESET has our receive id, or, of a peer that never knew the stream, our send id.
    fn on_reset(&mut self, from: SocketAddr, packet: &UtpPacket<'_>) {
        let (id, ack) = (packet.header.connection_id, packet.header.ack);
        let of_id = |receive_id: u16| {
            let key = self.index.get(&(from, receive_id)).copied()?;
            let stream = self.streams.get(key)?.stream.as_ref()?;
            ((receive_id == id || stream.send_id == id) && stream.may_reset(ack)).then_some(key)
        };
        let key = [id, id.wrapping_sub(1), id.wrapping_add(1)].into_iter().find_map(of_id);
        if let Some(key) = key {
            self.with(key, |stream, _| stream.changes.done = true);
        }
    }

    fn insert(
        &mut self,
        socket: usize,
        addr: SocketAddr,
        receive_id: u16,
        stream: Stream,
        dialed: bool,
    ) -> UtpKey {
        let entry = Entry {
            addr,
            socket,
            receive_id,
            stream: Some(stream),
            released: false,
            dialed,
            queued: false,
            has_events: false,
            pending: Changes::default(),
            deadline_us: None,
        };
        let key = self.streams.insert(entry);
        self.index.insert((addr, receive_id), key);
        self.with(key, |_, _| ());
        key
    }

    /// Calls `act` on a stream, and brings counters, queues, deadlines and events up to date.
    fn with<T>(&mut self, key: UtpKey, act: impl FnOnce(&mut Stream, Spare) -> T) -> Option<T> {
        let spare = self.spare();
        let entry = self.streams.get_mut(key)?;
        let stream = entry.stream.as_mut()?;
        let (held, sent) = (stream.held(), stream.unacknowledged());
        let result = act(stream, spare);
        self.held = self.held + stream.held() - held;
        self.unacknowledged = self.unacknowledged + stream.unacknowledged() - sent;
        let changes = std::mem::take(&mut stream.changes);
        if !entry.released {
            entry.pending.add(changes);
            if entry.pending != Changes::default() && !entry.has_events {
                entry.has_events = true;
                self.events.push_back(key);
            }
        }
        if changes.done {
            self.end(key);
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

    /// Drops a stream, and its place if no event waits.
    fn end(&mut self, key: UtpKey) {
        let Some(entry) = self.streams.get_mut(key) else { return };
        let Some(stream) = entry.stream.take() else { return };
        self.index.remove(&(entry.addr, entry.receive_id));
        if let Some(at) = entry.deadline_us {
            self.deadlines.remove(&(at, key));
        }
        self.held -= stream.held();
        self.unacknowledged -= stream.unacknowledged();
        if !entry.has_events {
            self.streams.remove(key);
        }
    }

    fn spare(&self) -> Spare {
        Spare {
            receive: self.budget.receive_bytes.saturating_sub(self.held),
            send: self.budget.send_bytes.saturating_sub(self.unacknowledged),
        }
    }

    // ---- the user of a stream -----------------------------------------------------------------------------------

    /// Returns whether [`next_event`](Endpoint::next_event) has one.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns the next event. Events of one kind and stream that were not fetched are one.
    pub fn next_event(&mut self) -> Option<UtpEvent> {
        debug_assert!(self.events.len() <= self.streams.len(), "each stream is queued once");
        while let Some(key) = self.events.front().copied() {
            if let Some(entry) = self.streams.get_mut(key) {
                let pending = &mut entry.pending;
                if std::mem::take(&mut pending.established) {
                    let dialed = entry.dialed;
                    let accepted = UtpEvent::Accepted(key, entry.addr);
                    return Some(if dialed { UtpEvent::Established(key) } else { accepted });
                }
                if std::mem::take(&mut pending.readable) {
                    return Some(UtpEvent::Readable(key));
                }
                if std::mem::take(&mut pending.writable) {
                    return Some(UtpEvent::Writable(key));
                }
                entry.has_events = false;
                if std::mem::take(&mut pending.done) {
                    self.events.pop_front();
                    self.streams.remove(key);
                    return Some(UtpEvent::Closed(key));
                }
            }
            self.events.pop_front();
        }
        None
    }

    /// Moves received bytes into `room`.
    pub fn read(&mut self, key: UtpKey, room: &mut [u8]) -> UtpRead {
        self.with(key, |stream, spare| stream.read(room, spare.receive)).unwrap_or(UtpRead::Ended)
    }

    /// Returns the bytes that [`write`](Endpoint::write) would take now.
    pub fn room(&self, key: UtpKey) -> usize {
        let stream = self.streams.get(key).and_then(|entry| entry.stream.as_ref());
        stream.map_or(0, |stream| stream.room(self.spare().send))
    }

    /// Returns whether a dialed stream is established, `None` if it ended.
    pub fn is_established(&self, key: UtpKey) -> Option<bool> {
        let stream = self.streams.get(key)?.stream.as_ref()?;
        Some(stream.phase == Phase::Open)
    }

    /// Takes bytes to send; returns how many. If it takes less than all, [`UtpEvent::Writable`] follows.
    pub fn write(&mut self, key: UtpKey, slices: &[IoSlice<'_>]) -> usize {
        self.with(key, |stream, spare| stream.write(slices, spare.send)).unwrap_or(0)
    }

    /// Ends a stream at once with a RESET: there is no room for it.
    pub fn refuse(&mut self, now_us: u64, key: UtpKey) {
        let Some(entry) = self.streams.get_mut(key) else { return };
        let to = (entry.socket, entry.addr);
        if let Some(header) = entry.stream.as_ref().map(|stream| stream.reset(now_us)) {
            if self.answers.len() < ANSWERS {
                self.answers.push_back((to.0, to.1, header));
            }
        }
        self.close(key);
        self.with(key, |stream, _| stream.changes.done = true);
    }

    /// Ends a stream: what was written is still sent, then a FIN. Its key is of no use any more.
    pub fn close(&mut self, key: UtpKey) {
        let Some(entry) = self.streams.get_mut(key) else { return };
        entry.released = true;
        entry.pending = Changes::default();
        if std::mem::take(&mut entry.has_events) {
            self.events.retain(|other| *other != key);
        }
        if self.with(key, |stream, _| stream.close()).is_none() {
            self.streams.remove(key);
        }
    }

    // ---- the socket and the clock -------------------------------------------------------------------------------

    /// Appends the next packet to `out`, and returns the index of its socket and its destination; `None` if no
    /// packet waits. The caller must send it, or keep it until the socket is writable.
    pub fn next_packet(&mut self, now_us: u64, out: &mut Vec<u8>) -> Option<(usize, SocketAddr)> {
        if let Some((socket, to, header)) = self.answers.pop_front() {
            UtpPacket { header, selective_ack: &[], payload: &[] }.write(out);
            return Some((socket, to));
        }
        while let Some(key) = self.ready.pop_front() {
            let Some(entry) = self.streams.get_mut(key) else { continue };
            entry.queued = false;
            let to = (entry.socket, entry.addr);
            let packet = self.with(key, |stream, spare| stream.next_packet(now_us, spare.receive, out));
            if packet == Some(true) {
                return Some(to);
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
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Returns the bytes held for readers, and the bytes held until peers acknowledge them.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn held_bytes(&self) -> (usize, usize) {
        (self.held, self.unacknowledged)
    }
}

/// What all streams of an endpoint may take.
#[derive(Clone, Copy, Debug)]
pub struct UtpBudget {
    /// Most streams, those included that still end.
    pub streams: usize,
    /// Bytes held for readers; each stream may hold a little more (see [`Endpoint`]).
    pub receive_bytes: usize,
    /// Bytes held until peers acknowledge them; each stream may hold one packet more.
    pub send_bytes: usize,
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
