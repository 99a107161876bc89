//! The oracle on the wire: reads every message that an engine sends and compares it with the state of that
//! engine.
//!
//! Its invariants, checked in strict runs:
//!
//! - a choked peer gets only blocks of allowed-fast pieces, and each piece a limited number of times;
//! - only verified pieces are announced or served;
//! - a peer that chokes the engine is asked only for its allowed-fast pieces;
//! - no block is requested that the engine has, or twice from one peer, or beyond the limit of requests in
//!   flight;
//! - when a block has arrived, its requests to other peers are cancelled, unless they expired because the
//!   peer sent nothing for too long.
//!
//! It has its own parser, so that a bug in the engine's decoder cannot hide a bug in the engine.

use super::link::NodeId;
use super::link::PipeId;
use super::node::EngineNode;
use crate::engine::limits;
use crate::units::{BlockSpan, Instant};
use crate::wire::{HANDSHAKE_LEN, Segment, WritePlan};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A block as on the wire: piece, first byte, length.
type Raw = (u32, u32, u32);

/// Time without a whole block after which the engine may have dropped its requests without a cancel, because
/// it considers the peer a snubber. Half the engine's value, because requests wait in the encoder before they
/// are seen here.
const EXPIRE_AFTER: Duration = limits::SNUB_AFTER.checked_div(2).expect("two is not zero");
/// Longest time of a request between the engine's encoder and its send buffer. Requests in the encoder at the
/// time of a choke are still sent, and only the engine knows which of them it has dropped.
const IN_ENCODER: Duration = Duration::from_secs(10);

/// Parser of one direction.
#[derive(Debug)]
struct MessageParser {
    bytes: Vec<u8>,
    handshake: bool,
    /// Payload bytes of the current block still to come.
    payload: u32,
    /// A block has ended since the last check.
    block_ended: bool,
}

impl Default for MessageParser {
    fn default() -> MessageParser {
        MessageParser { bytes: Vec::new(), handshake: true, payload: 0, block_ended: false }
    }
}

/// A parsed message.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SeenMessage {
    Choke,
    Unchoke,
    Have(u32),
    Bitfield(Vec<u8>),
    HaveAll,
    Request(Raw),
    Cancel(Raw),
    Reject(Raw),
    Block(Raw),
    AllowedFast(u32),
    Other,
}

impl MessageParser {
    /// Skips `n` bytes of unknown content: payload of a block, or the body of a message that the receiver
    /// skips.
    fn pass(&mut self, n: u32) {
        let payload = self.take_payload(n);
        self.bytes.resize(self.bytes.len() + (n - payload) as usize, 0);
    }

    /// Adds bytes, which may contain payload.
    fn feed(&mut self, bytes: &[u8]) {
        let payload = self.take_payload(bytes.len() as u32);
        self.bytes.extend(&bytes[payload as usize..]);
    }

    /// Takes up to `n` bytes as payload of the current block. Returns their number.
    fn take_payload(&mut self, n: u32) -> u32 {
        let taken = n.min(self.payload);
        self.payload -= taken;
        self.block_ended |= taken > 0 && self.payload == 0;
        taken
    }

    /// Returns the next complete message.
    fn next(&mut self) -> Option<SeenMessage> {
        let word =
            |b: &[u8], at: usize| b.get(at..at + 4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
        if self.handshake {
            if self.bytes.len() < HANDSHAKE_LEN {
                return None;
            }
            self.bytes.drain(..HANDSHAKE_LEN);
            self.handshake = false;
        }
        if self.payload > 0 {
            return None;
        }
        let len = word(&self.bytes, 0)? as usize;
        if len == 0 {
            self.bytes.drain(..4);
            return Some(SeenMessage::Other);
        }
        let kind = *self.bytes.get(4)?;
        if kind == 7 {
            let piece = word(&self.bytes, 5)?;
            let begin = word(&self.bytes, 9)?;
            self.bytes.drain(..13);
            self.payload = len as u32 - 9;
            let buffered = self.take_payload(self.bytes.len() as u32);
            self.bytes.drain(..buffered as usize);
            return Some(SeenMessage::Block((piece, begin, len as u32 - 9)));
        }
        if self.bytes.len() < 4 + len {
            return None;
        }
        let message: Vec<u8> = self.bytes.drain(..4 + len).collect();
        let raw = || Some((word(&message, 5)?, word(&message, 9)?, word(&message, 13)?));
        Some(match kind {
            0 => SeenMessage::Choke,
            1 => SeenMessage::Unchoke,
            4 => SeenMessage::Have(word(&message, 5)?),
            5 => SeenMessage::Bitfield(message[5..].to_vec()),
            6 => SeenMessage::Request(raw()?),
            8 => SeenMessage::Cancel(raw()?),
            14 => SeenMessage::HaveAll,
            16 => SeenMessage::Reject(raw()?),
            17 => SeenMessage::AllowedFast(word(&message, 5)?),
            _ => SeenMessage::Other,
        })
    }
}

/// State of a connection between an engine and one peer, derived from their messages.
#[derive(Debug)]
struct CheckedConnection {
    sent: MessageParser,
    received: MessageParser,
    /// The engine chokes the peer.
    we_choke: bool,
    /// Pieces that the engine allows the choked peer (BEP 6), and the bytes of each that it sent while
    /// choking.
    granted: BTreeMap<u32, u64>,
    /// Since when the peer chokes the engine; `None` if it does not.
    they_choke_since: Option<Instant>,
    /// When the peer last sent a choke.
    last_choke_at: Instant,
    /// Blocks that arrived or were rejected after their request was dropped by a choke or a cancel. If one is
    /// requested again, it is unknown which request the answer belongs to.
    answered_late: BTreeSet<Raw>,
    /// Pieces that the choking peer allows the engine (BEP 6).
    allowed_by_peer: BTreeSet<u32>,
    /// Unanswered requests of the engine.
    in_flight: BTreeSet<Raw>,
    /// Those of them whose block arrived from another peer.
    to_cancel: BTreeSet<Raw>,
    /// When the last block from the peer ended, or the first request was sent.
    last_block_at: Instant,
    /// When a block from the peer was last written completely.
    last_stored_block_at: Instant,
}

impl CheckedConnection {
    fn new(now: Instant) -> CheckedConnection {
        CheckedConnection {
            sent: MessageParser::default(),
            received: MessageParser::default(),
            we_choke: true,
            granted: BTreeMap::new(),
            they_choke_since: Some(now),
            last_choke_at: Instant::ZERO,
            answered_late: BTreeSet::new(),
            allowed_by_peer: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            to_cancel: BTreeSet::new(),
            last_block_at: now,
            last_stored_block_at: now,
        }
    }
}

/// State of every connection, by the pipe into which an engine sends.
#[derive(Debug, Default)]
pub(super) struct WireChecker {
    connections: BTreeMap<PipeId, CheckedConnection>,
}

impl WireChecker {
    /// Checks what an engine writes into this pipe.
    pub(super) fn out(&mut self, now: Instant, pipe: PipeId, plan: &WritePlan, e: &EngineNode) {
        let conn = self.connections.entry(pipe).or_insert_with(|| CheckedConnection::new(now));
        for part in &plan.segments {
            match part {
                Segment::Control(range) => {
                    assert_eq!(conn.sent.payload, 0, "control bytes inside a block's payload");
                    conn.sent.feed(&plan.control[range.clone()]);
                    while let Some(message) = conn.sent.next() {
                        conn.on_sent(now, message, e);
                    }
                }
                Segment::Payload(span) => {
                    assert!(conn.sent.payload >= span.len(), "{span} exceeds the length in its header");
                    conn.sent.pass(span.len());
                }
            }
        }
    }

    /// Notes what the engine that writes into `pipe` received from its peer: `passed` skipped bytes, then
    /// `bytes`.
    pub(super) fn read(&mut self, now: Instant, pipe: PipeId, passed: u32, bytes: &[u8]) {
        let conn = self.connections.entry(pipe).or_insert_with(|| CheckedConnection::new(now));
        conn.received.pass(passed);
        conn.received.feed(bytes);
        while let Some(message) = conn.received.next() {
            conn.on_received(now, message);
        }
        if std::mem::take(&mut conn.received.block_ended) {
            // Before this block arrived, the engine may have considered the peer a snubber and dropped its
            // requests.
            if now.since(conn.last_block_at) >= EXPIRE_AFTER {
                conn.answered_late.append(&mut conn.in_flight);
                conn.to_cancel.clear();
            }
            conn.last_block_at = now;
        }
    }

    /// Notes the last byte of a block, received from the peer that `from` sends to.
    pub(super) fn block_complete(&mut self, now: Instant, from: PipeId, span: BlockSpan, e: &EngineNode) {
        let whole = block_of(span);
        for pipe in e.connections.values() {
            let Some(conn) = self.connections.get_mut(pipe) else { continue };
            if *pipe == from {
                conn.last_stored_block_at = now;
            }
            let of_block = |raw: &&Raw| (raw.0, raw.1) == whole;
            let Some(raw) = conn.in_flight.iter().find(of_block).copied() else { continue };
            if *pipe == from {
                conn.in_flight.remove(&raw);
                conn.to_cancel.remove(&raw);
            } else if now.since(conn.last_block_at.min(conn.last_stored_block_at)) < EXPIRE_AFTER {
                conn.to_cancel.insert(raw);
            } else {
                conn.in_flight.remove(&raw);
            }
        }
    }

    /// Checks after a turn, when every planned message is in the pipe, that no cancel is missing.
    pub(super) fn check_cancels(&mut self, node: NodeId, pipe: PipeId) {
        // In the middle of a block that a rate limit delays, no message can be sent.
        let conn = self.connections.get(&pipe).filter(|t| t.sent.payload == 0);
        if let Some(raw) = conn.and_then(|t| t.to_cancel.first()) {
            panic!("node {node} has received block {raw:?} from another peer and did not cancel it");
        }
    }

    /// Drops the state of a closed connection.
    pub(super) fn forget(&mut self, pipe: PipeId) {
        self.connections.remove(&pipe);
        self.connections.remove(&pipe.back());
    }
}

/// Returns piece and first byte of the block that contains a span.
fn block_of(span: BlockSpan) -> (u32, u32) {
    (span.piece().get(), span.begin() / crate::units::BLOCK_LEN * crate::units::BLOCK_LEN)
}

impl CheckedConnection {
    fn on_sent(&mut self, now: Instant, message: SeenMessage, e: &EngineNode) {
        let verified = |raw: u32| e.disk.has(raw);
        match message {
            SeenMessage::Choke => self.we_choke = true,
            SeenMessage::Unchoke => self.we_choke = false,
            SeenMessage::AllowedFast(piece) => {
                self.granted.entry(piece).or_default();
            }
            SeenMessage::Block((piece, begin, len)) => {
                if self.we_choke {
                    let taken = self.granted.get_mut(&piece);
                    let taken = taken.unwrap_or_else(|| {
                        panic!("the engine sends piece {piece} byte {begin} to a choked peer")
                    });
                    *taken += u64::from(len);
                    let most = u64::from(limits::ALLOWED_FAST_TIMES) * e.disk.piece_len(piece);
                    assert!(
                        *taken <= most,
                        "the engine sends {taken} bytes of piece {piece} to a choked peer, allowed are {most}"
                    );
                }
                assert!(verified(piece), "piece {piece} is served but not verified");
            }
            SeenMessage::Have(piece) => {
                assert!(verified(piece), "piece {piece} is announced but not verified");
            }
            SeenMessage::Bitfield(bytes) => {
                let claimed = |p: usize| bytes.get(p / 8).is_some_and(|b| b >> (7 - p % 8) & 1 == 1);
                let unverified = (0..bytes.len() * 8).find(|p| claimed(*p) && !verified(*p as u32));
                assert_eq!(unverified, None, "a piece in the bitfield is not verified");
            }
            SeenMessage::HaveAll => {
                assert!(e.disk.verified().is_full(), "have all is sent without all pieces");
            }
            SeenMessage::Request(raw) => {
                let choked = self.they_choke_since.filter(|_| !self.allowed_by_peer.contains(&raw.0));
                let late = choked.is_some_and(|since| now.since(since) > IN_ENCODER);
                assert!(!late, "{raw:?} is requested from a peer that chokes");
                // It was in the encoder when the choke arrived: the engine has dropped it already.
                let crossed =
                    self.last_choke_at > Instant::ZERO && now.since(self.last_choke_at) < IN_ENCODER;
                if choked.is_some() || crossed || self.answered_late.contains(&raw) {
                    return;
                }
                // A request in the encoder is still sent after the piece arrived from other peers; its cancel
                // follows.
                if verified(raw.0) {
                    self.to_cancel.insert(raw);
                }
                if self.in_flight.is_empty() {
                    self.last_block_at = now;
                }
                // An old unanswered request may have been dropped; then the block may be requested again.
                let repeated = !self.in_flight.insert(raw) && now.since(self.last_block_at) < EXPIRE_AFTER;
                assert!(!repeated, "{raw:?} is requested twice");
                let most = e.most_requests;
                assert!(
                    self.in_flight.len() <= most,
                    "{} requests in flight, allowed are {most}",
                    self.in_flight.len()
                );
            }
            SeenMessage::Cancel(raw) => {
                self.to_cancel.remove(&raw);
                // The block is on its way already.
                if !self.in_flight.remove(&raw) {
                    self.answered_late.insert(raw);
                }
            }
            SeenMessage::Reject(_) | SeenMessage::Other => {}
        }
    }

    fn on_received(&mut self, now: Instant, message: SeenMessage) {
        match message {
            SeenMessage::Choke => {
                self.they_choke_since.get_or_insert(now);
                self.last_choke_at = now;
                let CheckedConnection { in_flight, to_cancel, allowed_by_peer, .. } = self;
                in_flight.retain(|raw| allowed_by_peer.contains(&raw.0));
                to_cancel.retain(|raw| allowed_by_peer.contains(&raw.0));
            }
            SeenMessage::Unchoke => self.they_choke_since = None,
            SeenMessage::AllowedFast(piece) => {
                self.allowed_by_peer.insert(piece);
            }
            SeenMessage::Reject(raw) => {
                if self.in_flight.remove(&raw) {
                    // The peer no longer allows a piece of which it rejects a block.
                    self.allowed_by_peer.remove(&raw.0);
                } else {
                    // The peer rejects a cancelled request. If the engine has requested the block again
                    // meanwhile, it takes the new request for rejected.
                    self.answered_late.insert(raw);
                }
                self.to_cancel.remove(&raw);
            }
            SeenMessage::Block(raw) => {
                if !self.in_flight.remove(&raw) {
                    self.answered_late.insert(raw);
                }
                self.to_cancel.remove(&raw);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{InfoHash, PeerId};
    use crate::wire::{Handshake, Message, RawSpan};

    #[test]
    fn parses_messages_byte_by_byte() {
        let mut bytes = Handshake {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            fast: true,
            extended: true,
            dht: false,
        }
        .to_bytes()
        .to_vec();
        let raw = RawSpan { piece: 1, begin: 2, len: 3 };
        for m in [
            Message::Unchoke,
            Message::Have { piece: 9 },
            Message::KeepAlive,
            Message::Request(raw),
            Message::HaveAll,
        ] {
            m.write(&mut bytes);
        }
        let mut reader = MessageParser::default();
        let mut messages = Vec::new();
        for byte in bytes {
            reader.feed(&[byte]);
            messages.extend(reader.next());
        }
        assert_eq!(
            messages,
            [
                SeenMessage::Unchoke,
                SeenMessage::Have(9),
                SeenMessage::Other,
                SeenMessage::Request((1, 2, 3)),
                SeenMessage::HaveAll
            ]
        );
    }
}
