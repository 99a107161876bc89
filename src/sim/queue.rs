//! The event queue: events in the order of their time, and of their insertion at equal times.

use super::link::{NodeId, PipeId};
use crate::engine::HashVerdict;
use crate::units::{Instant, PeerKey, PieceIndex};
use crate::wire::{AnnounceError, AnnounceReply};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

/// An event of the simulation.
#[derive(Debug)]
pub(super) enum SimEvent {
    /// A node joins.
    Join(NodeId),
    /// The deadline of an engine or a puppet.
    Wake(NodeId),
    /// A delayed turn: the driver runs the actions of an engine.
    Turn(NodeId),
    /// The node's line has finished its transfer.
    LineFree(NodeId),
    /// Bytes reach the receiver's line.
    Arrive(PipeId, u32),
    /// Bytes have passed the receiver's line.
    Deliver(PipeId, u32),
    /// The receiver's line or buffer may have space again.
    Unblock(PipeId),
    /// The dialing end is connected: the other side's kernel has accepted.
    Dialed(u32),
    /// The accepting node takes the connection.
    Accepted(u32),
    /// The dial is refused.
    Refused(u32),
    /// The end that reads from this pipe learns that the connection is closed.
    Lost(PipeId),
    /// A piece is prepared, or the disk is full (`false`).
    Prepared(NodeId, PieceIndex, bool),
    /// The hash verdict of a piece is ready.
    Hashed(NodeId, Box<(PieceIndex, HashVerdict)>),
    /// The resume record is written.
    Saved(NodeId),
    /// The reply to an HTTP announce, or its failure.
    Announced(NodeId, u64, Box<Result<AnnounceReply, AnnounceError>>),
    /// The reply to a name lookup.
    Resolved(NodeId, u64, SocketAddr),
    /// A datagram from the first address reaches the second.
    Datagram(SocketAddr, SocketAddr, Box<[u8]>),
    /// A torrent that was paused by a disk fault resumes.
    Resume(NodeId),
    /// A random connection is cut.
    CutConnection,
    /// The completion curve is sampled.
    Sample,
}

struct Entry {
    at: Instant,
    number: u64,
    event: SimEvent,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        // `BinaryHeap` pops its greatest element; reversed, the earliest event is popped.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Future events.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    /// Number of events inserted so far.
    pushed: u64,
}

impl Queue {
    /// Inserts an event.
    pub(super) fn push(&mut self, at: Instant, event: SimEvent) {
        self.pushed += 1;
        self.heap.push(Entry { at, number: self.pushed, event });
    }

    /// Removes the earliest event and its time.
    pub(super) fn pop(&mut self) -> Option<(Instant, SimEvent)> {
        self.heap.pop().map(|e| (e.at, e.event))
    }
}

/// A digest of all events of a run. Two runs with the same digest are the same run.
#[derive(Debug)]
pub(super) struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Fingerprint {
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Adds one event.
    pub(super) fn add(&mut self, at: Instant, event: &SimEvent) {
        let (kind, subject, detail) = match event {
            SimEvent::Join(n) => (0, *n, 0),
            SimEvent::Wake(n) => (1, *n, 0),
            SimEvent::Turn(n) => (2, *n, 0),
            SimEvent::LineFree(n) => (3, *n, 0),
            SimEvent::Arrive(p, n) => (4, p.raw(), *n),
            SimEvent::Deliver(p, n) => (5, p.raw(), *n),
            SimEvent::Unblock(p) => (6, p.raw(), 0),
            SimEvent::Dialed(l) => (7, *l, 0),
            SimEvent::Accepted(l) => (8, *l, 0),
            SimEvent::Refused(l) => (9, *l, 0),
            SimEvent::Lost(p) => (10, p.raw(), 0),
            SimEvent::Prepared(n, piece, ready) => (11, *n, piece.get() * 2 + u32::from(*ready)),
            SimEvent::Hashed(n, v) => {
                (12, *n, v.0.get() * 2 + u32::from(matches!(v.1, HashVerdict::Good { .. })))
            }
            SimEvent::Saved(n) => (13, *n, 0),
            SimEvent::Announced(n, id, result) => (14, *n, *id as u32 ^ u32::from(result.is_ok()) << 31),
            SimEvent::Resolved(n, id, _) => (15, *n, *id as u32),
            SimEvent::Datagram(_, to, bytes) => (16, u32::from(to.port()), bytes.len() as u32),
            SimEvent::Resume(n) => (17, *n, 0),
            SimEvent::CutConnection => (18, 0, 0),
            SimEvent::Sample => (19, 0, 0),
        };
        for word in [at.as_micros(), kind, u64::from(subject) << 32 | u64::from(detail)] {
            self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0
    }
}

/// The connections of an engine: for each key the pipe into which it sends.
pub(super) type PeerConnections = std::collections::BTreeMap<PeerKey, PipeId>;
