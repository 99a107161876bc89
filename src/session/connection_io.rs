//! One connection's share of a turn: reads into the memory that the engine names, writes what it plans.
//!
//! Reading stops when the transport has no more bytes, the budget is spent (the connection then goes to the
//! back of the ready queue), the engine pauses it, or the store has no buffer. Writing stops when the
//! transport is full, the plan is empty, or a block is not in the page cache.

use super::event::Event;
use super::event_loop::{EventLoop, OpenConnection, SEND_BUFFER_BYTES};
use super::registry::DiskState;
use super::tokens::Owner;
use crate::disk::{DiskFault, FaultKind, Load};
use crate::engine::{DialFailure, DisconnectReason, StreamCipher, Want};
use crate::net::{DialError, Transfer, Transport};
use crate::units::{BlockSpan, PeerKey, TorrentKey};
use crate::wire::Segment;
use std::io::IoSlice;

/// Bytes read from one connection in a turn.
const READ_BUDGET_BYTES: usize = 512 * 1024;
/// Reads from one connection in a turn.
const READ_BUDGET_CALLS: usize = 64;
/// Bytes discarded with one read.
const SCRATCH_BYTES: usize = 16 * 1024;
/// Slices in one `writev`.
const WRITE_SLICES: usize = 64;
/// The least payload bytes of a connection's [`OpenConnection::send_budget`].
const SEND_BUDGET_MIN_BYTES: usize = 32 * 1024;

/// Why reading from a connection stops.
#[derive(Debug, PartialEq, Eq)]
enum Halt {
    /// Until readiness, a wake-up, or a free buffer.
    Wait,
    /// Until the next turn: its budget is spent.
    Budget,
    /// For good: the connection is closed.
    Gone,
}

/// The part of a plan that can be written: its segments, and the payload bytes of these.
struct Ready {
    parts: usize,
    payload: usize,
}

impl EventLoop {
    /// Reads from and writes to a connection, within its budget.
    pub(super) fn serve(&mut self, key: PeerKey) {
        let Some(connection) = self.connection(key) else { return };
        connection.queued = false;
        if connection.connecting && !self.finish_dial(key) {
            return;
        }
        let Some(connection) = self.connection(key) else { return };
        if connection.readable && !connection.read_paused {
            match self.read(key) {
                Halt::Wait => {}
                Halt::Budget => self.enqueue(key),
                Halt::Gone => return self.drop_connection(key),
            }
        }
        self.write(key);
    }

    /// Returns whether a dialed connection is established now.
    fn finish_dial(&mut self, key: PeerKey) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(key.slot()) else { return false };
        if !connection.writable {
            return false;
        }
        match connection.transport.established(&self.utp.endpoint) {
            None => false,
            Some(Ok(())) => {
                connection.connecting = false;
                self.engine.on_dialed(self.now, key, &mut self.actions);
                true
            }
            Some(Err(e)) => {
                self.drop_connection(key);
                self.engine.on_dial_failed(self.now, key, e.failure(), &mut self.actions);
                false
            }
        }
    }

    // ---- reading --------------------------------------------------------------------------------------------------

    fn read(&mut self, key: PeerKey) -> Halt {
        let mut budget = READ_BUDGET_BYTES;
        for _ in 0..READ_BUDGET_CALLS {
            match self.read_once(key) {
                Ok(n) if n < budget => budget -= n,
                Ok(_) => return Halt::Budget,
                Err(halt) => return halt,
            }
        }
        Halt::Budget
    }

    /// Puts a cipher over the transport of a connection whose negotiation is over.
    fn settle_cipher(&mut self, key: PeerKey) {
        let cipher = self.engine.take_cipher(key);
        let Some(place) = self.connections.get_mut(key.slot()) else { return };
        if matches!(cipher, StreamCipher::Undecided) {
            return;
        }
        *place = place.take().map(|mut connection| {
            connection.undecided = false;
            if let StreamCipher::Rc4 { ciphers, clear } = cipher {
                connection.transport = connection.transport.encrypted(*ciphers, clear);
            }
            connection
        });
    }

    /// Reads or copies once; returns the number of bytes.
    fn read_once(&mut self, key: PeerKey) -> Result<usize, Halt> {
        if self.connection(key).is_some_and(|connection| connection.undecided) {
            self.settle_cipher(key);
        }
        let Some(Some(connection)) = self.connections.get_mut(key.slot()) else { return Err(Halt::Gone) };
        let transfer = match self.engine.want(key) {
            Want::Gone => return Err(Halt::Gone),
            Want::Pause => {
                connection.read_paused = true;
                return Err(Halt::Wait);
            }
            Want::Control { room } => connection.transport.read(room, &mut self.utp.endpoint),
            Want::Skip { len } => {
                if self.scratch.len() < SCRATCH_BYTES {
                    self.scratch.resize(SCRATCH_BYTES, 0);
                }
                let len = (len as usize).min(SCRATCH_BYTES);
                connection.transport.read(&mut self.scratch[..len], &mut self.utp.endpoint)
            }
            Want::Copy { torrent, span, bytes } => {
                if !self.store.copy(torrent, span, bytes) {
                    connection.read_paused = true;
                    self.waiting_for_buffer.insert(key);
                    self.engine.on_held_back(key);
                    return Err(Halt::Wait);
                }
                let n = bytes.len();
                return self
                    .engine
                    .got(self.now, key, n, &mut self.actions)
                    .map(|()| n)
                    .map_err(|why| closed(key, why));
            }
            Want::Fill { torrent, span, spill } => {
                let Some(target) = self.store.target(torrent, span, connection.transport.access()) else {
                    connection.read_paused = true;
                    self.waiting_for_buffer.insert(key);
                    self.engine.on_held_back(key);
                    return Err(Halt::Wait);
                };
                // A window may end before the block does: the bytes after the target are then payload.
                let whole = target.len() == span.len() as usize;
                let spill = if whole { spill } else { &mut [] };
                let transfer =
                    connection.transport.read_into(target, spill, &mut self.utp.endpoint, &mut self.scratch);
                if let Transfer::Moved { bytes, .. } = transfer {
                    let received = bytes.min(span.len() as usize);
                    if received > 0 {
                        self.store.received(torrent, span.first(received as u32));
                    }
                } else if transfer == Transfer::BadTarget {
                    self.store.bad_window(torrent, span.piece());
                    return Ok(0);
                }
                transfer
            }
        };
        match transfer {
            Transfer::Moved { bytes, drained } => {
                self.engine.got(self.now, key, bytes, &mut self.actions).map_err(|why| closed(key, why))?;
                if drained && !connection.closing {
                    connection.readable = false;
                    return Err(Halt::Wait);
                }
                Ok(bytes)
            }
            Transfer::NotNow => {
                connection.readable = false;
                Err(Halt::Wait)
            }
            Transfer::Ended | Transfer::BadTarget => {
                self.engine.on_lost(self.now, key, &mut self.actions);
                Err(Halt::Gone)
            }
        }
    }

    // ---- writing --------------------------------------------------------------------------------------------------

    /// Writes what the engine plans, as long as the transport takes it.
    pub(super) fn write(&mut self, key: PeerKey) {
        loop {
            if self.connection(key).is_some_and(|connection| connection.undecided) {
                self.settle_cipher(key);
            }
            let Some(connection) = self.connection(key).filter(|l| l.writable && !l.connecting) else {
                return;
            };
            let send_budget = if connection.loading.is_some() { 0 } else { connection.send_budget };
            // One byte more than a uTP stream takes: it then tells when there is room again.
            let room = connection.transport.utp_key().map(|utp| self.utp.endpoint.room(utp) + 1);
            let send_budget = send_budget.min(room.unwrap_or(usize::MAX));
            self.plan.clear();
            self.engine.plan(key, send_budget, &mut self.plan);
            if self.plan.segments.is_empty() {
                return;
            }
            // A connection that negotiates has no torrent yet, and no payload.
            let ready = match self.engine.torrent_of(key) {
                None => Ready { parts: self.plan.segments.len().min(WRITE_SLICES), payload: 0 },
                Some(torrent) => match self.load_payload(key, torrent) {
                    Ok(ready) => ready,
                    Err(fault) => return self.on_unreadable(torrent, fault),
                },
            };
            if ready.parts == 0 {
                return;
            }
            if !self.write_ready(key, &ready) {
                return;
            }
        }
    }

    /// Reads the plan's payload into the send buffer, as far as it is in the page cache.
    fn load_payload(&mut self, key: PeerKey, torrent: TorrentKey) -> Result<Ready, DiskFault> {
        let mut ready = Ready { parts: 0, payload: 0 };
        let parts = self.plan.segments.len().min(WRITE_SLICES);
        // Bytes in the buffer that were read ahead for the next segments.
        let mut cached = 0;
        while ready.parts < parts {
            if let Segment::Payload(span) = self.plan.segments[ready.parts] {
                let len = span.len() as usize;
                if cached == 0 {
                    cached = self.load_run(
                        torrent,
                        run_of(&self.plan.segments[ready.parts..parts]),
                        ready.payload,
                    );
                }
                if cached >= len {
                    cached -= len;
                } else {
                    cached = 0;
                    match self.store.load(
                        torrent,
                        span,
                        &mut self.send_buffer[ready.payload..ready.payload + len],
                    ) {
                        Load::Ready => {}
                        Load::Later => {
                            if let Some(connection) = self.connection(key) {
                                connection.loading = Some(span);
                            }
                            break;
                        }
                        Load::Fault(fault) => return Err(fault),
                    }
                }
                ready.payload += len;
            }
            ready.parts += 1;
        }
        Ok(ready)
    }

    /// Reads the cached bytes of consecutive blocks into the send buffer, which grows to hold all of them: at
    /// most the plan's budget. Returns their number.
    fn load_run(&mut self, torrent: TorrentKey, run: Option<BlockSpan>, at: usize) -> usize {
        let Some(run) = run else { return 0 };
        let end = at + run.len() as usize;
        if end > self.send_buffer.len() {
            self.send_buffer.resize(end.next_multiple_of(64 * 1024), 0);
        }
        self.store.load_cached(torrent, run, &mut self.send_buffer[at..end])
    }

    /// Writes the ready segments; returns whether the transport may take more.
    fn write_ready(&mut self, key: PeerKey, ready: &Ready) -> bool {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let mut at = 0;
        let mut offered = 0;
        for (slice, part) in slices.iter_mut().zip(&self.plan.segments[..ready.parts]) {
            *slice = match part {
                Segment::Control(range) => IoSlice::new(&self.plan.control[range.clone()]),
                Segment::Payload(span) => {
                    at += span.len() as usize;
                    IoSlice::new(&self.send_buffer[at - span.len() as usize..at])
                }
            };
            offered += slice.len();
        }
        let Some(Some(connection)) = self.connections.get_mut(key.slot()) else { return false };
        match connection.transport.write(&slices[..ready.parts], &mut self.utp.endpoint, &mut self.scratch) {
            // A signal interrupted the write: the socket may have room, and its readiness was reported
            // already.
            Transfer::Moved { bytes: 0, .. } => true,
            Transfer::Moved { bytes, .. } => {
                self.engine.sent(self.now, key, bytes, &mut self.actions);
                let all = bytes == offered;
                connection.send_budget = if all {
                    (connection.send_budget * 2).min(SEND_BUFFER_BYTES)
                } else {
                    bytes.next_multiple_of(16 * 1024).clamp(SEND_BUDGET_MIN_BYTES, SEND_BUFFER_BYTES)
                };
                connection.writable = all;
                all
            }
            Transfer::NotNow => {
                connection.writable = false;
                false
            }
            Transfer::Ended | Transfer::BadTarget => {
                self.drop_connection(key);
                self.engine.on_lost(self.now, key, &mut self.actions);
                false
            }
        }
    }

    /// Handles a loaded span: it is in the page cache now, and connections that wait for it continue.
    pub(super) fn on_fetched(&mut self, torrent: TorrentKey, span: BlockSpan) {
        for slot in 0..self.connections.len() {
            let Some(connection) = self.connections[slot].as_mut().filter(|l| l.loading == Some(span)) else {
                continue;
            };
            let key = connection.key;
            if self.engine.torrent_of(key) == Some(torrent) {
                if let Some(connection) = self.connection(key) {
                    connection.loading = None;
                }
                self.enqueue(key);
            }
        }
    }

    fn on_unreadable(&mut self, torrent: TorrentKey, fault: DiskFault) {
        self.fail(torrent, fault);
    }

    // ---- connections ----------------------------------------------------------------------------------------------------

    /// Stores a connection's transport.
    pub(super) fn add_connection(&mut self, key: PeerKey, transport: Transport, connecting: bool) {
        if self.connections.len() <= key.slot() {
            self.connections.resize_with(key.slot() + 1, || None);
        }
        self.connections[key.slot()] = Some(OpenConnection {
            key,
            transport,
            connecting,
            undecided: true,
            readable: false,
            closing: false,
            writable: false,
            queued: false,
            read_paused: false,
            loading: None,
            send_budget: SEND_BUDGET_MIN_BYTES,
        });
    }

    /// Closes a connection's transport.
    pub(super) fn drop_connection(&mut self, key: PeerKey) {
        if let Some(connection) = self.connection(key) {
            if let Some(stream) = connection.transport.utp_key() {
                self.utp.close(stream);
            }
            self.connections[key.slot()] = None;
            self.waiting_for_buffer.remove(&key);
            self.accept_retry_at = self.accept_retry_at.map(|_| self.now);
        }
    }

    /// Dials an address that the engine chose.
    pub(super) fn dial(&mut self, key: PeerKey, addr: std::net::SocketAddr) {
        let token = Owner::Connection(key.slot()).token();
        match Transport::dial(addr, &self.egress, self.poll.registry(), token) {
            Ok(transport) => {
                self.add_connection(key, transport, true);
                self.watch_proxied_dial(key);
            }
            Err(e) => {
                if let (DialError::Peer(e), DialFailure::OutOfResources) = (&e, e.failure()) {
                    log::warn!("cannot dial: {e:?}");
                }
                let failure =
                    if self.is_interface_gone() { DialFailure::OutOfResources } else { e.failure() };
                self.engine.on_dial_failed(self.now, key, failure, &mut self.actions);
            }
        }
    }

    /// Pauses a torrent after a disk fault, and reports the first fault.
    pub(super) fn fail(&mut self, torrent: TorrentKey, fault: DiskFault) {
        self.engine.on_unreadable(self.now, torrent, &mut self.actions);
        let Some(entry) = self.registry.get_mut(torrent) else { return };
        let id = entry.id;
        if entry.fault.is_some() {
            return;
        }
        entry.fault = Some(fault.clone());
        if fault.kind == FaultKind::NoSpace {
            self.on_full(torrent, fault);
        } else {
            // The new fault is another one: the torrent no longer waits for room.
            entry.full = None;
            if entry.disk == DiskState::Open {
                self.emit_progress_of(torrent, self.session_stats());
            }
            self.emit(Event::Failed { torrent: id, fault });
        }
    }
}

/// Returns the first block of these segments joined with those that follow it in its piece.
fn run_of(parts: &[Segment]) -> Option<BlockSpan> {
    let mut run: Option<BlockSpan> = None;
    for part in parts {
        let Segment::Payload(next) = part else { continue };
        match run.map_or(Some(*next), |run| run.joined(*next)) {
            Some(longer) => run = Some(longer),
            None => break,
        }
    }
    run
}

fn closed(key: PeerKey, why: DisconnectReason) -> Halt {
    log::debug!("closing {key:?}: {why}");
    Halt::Gone
}
