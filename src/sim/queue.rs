//! What happens next: events in the order of their time, and of their making where times are equal.

use super::link::PipeId;
use crate::engine::HashVerdict;
use crate::units::{Instant, PeerKey, PieceIndex};
use crate::wire::{AnnounceError, AnnounceReply};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

/// The number of a node.
pub(super) type NodeId = u32;

/// Something that happens at a moment.
#[derive(Debug)]
pub(super) enum SimEvent {
    /// A node comes.
    Join(NodeId),
    /// An engine's deadline, or a puppet's.
    Wake(NodeId),
    /// A busy loop gets round to its actions.
    Turn(NodeId),
    /// The node's line has sent what it was sending.
    LineFree(NodeId),
    /// Bytes have crossed the network and reach the receiver's line.
    Arrive(PipeId, u32),
    /// Bytes have passed the receiver's line.
    Deliver(PipeId, u32),
    /// The receiver's line, or its reader, may have room again.
    Unblock(PipeId),
    /// The other side's system has accepted the connection.
    Dialed(u32),
    /// The accepting side's loop hears of it.
    Accepted(u32),
    /// No node takes this connection.
    Refused(u32),
    /// The end that reads from this pipe hears that the connection is gone.
    Lost(PipeId),
    /// Files and memory for a piece are ready, or are not.
    Prepared(NodeId, PieceIndex, bool),
    /// The hasher is done.
    Hashed(NodeId, Box<(PieceIndex, HashVerdict)>),
    /// The record is written.
    Saved(NodeId),
    /// The tracker answers.
    Announced(NodeId, u64, Box<Result<AnnounceReply, AnnounceError>>),
    /// A name is found.
    Resolved(NodeId, u64, SocketAddr),
    /// A datagram from the first reaches the second.
    Datagram(SocketAddr, SocketAddr, Box<[u8]>),
    /// A torrent that rested because of a fault goes on.
    Resume(NodeId),
    /// Some connection is lost.
    LoseOne,
    /// The curve gets a point.
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
        // The heap gives its greatest first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Everything that is to happen.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    made: u64,
}

impl Queue {
    /// This will happen then.
    pub(super) fn push(&mut self, at: Instant, event: SimEvent) {
        self.made += 1;
        self.heap.push(Entry { at, number: self.made, event });
    }

    /// What happens next, and when.
    pub(super) fn pop(&mut self) -> Option<(Instant, SimEvent)> {
        self.heap.pop().map(|e| (e.at, e.event))
    }
}

/// A digest of a run: every event goes in, so two runs with the same digest are the same.
#[derive(Debug)]
pub(super) struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Fingerprint {
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Takes one event in.
    pub(super) fn add(&mut self, at: Instant, event: &SimEvent) {
        let (kind, who, what) = match event {
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
            SimEvent::LoseOne => (18, 0, 0),
            SimEvent::Sample => (19, 0, 0),
        };
        for word in [at.as_micros(), kind, u64::from(who) << 32 | u64::from(what)] {
            self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0
    }
}

/// A connection that a node has.
pub(super) type PeerConnections = std::collections::BTreeMap<PeerKey, PipeId>;
