//! The oracle on the wire: it reads every message that an engine sends and holds it to what that engine
//! knows.
//!
//! Its laws, held in strict runs: no block goes to a peer that is choked, but for pieces that it was allowed,
//! so many times; nothing is claimed or served that is not verified; nothing is asked of a peer that chokes
//! us, but for pieces that it allowed; nothing is asked that is here, or twice of the same peer, or of more
//! peers than endgame may, or beyond the limit of requests; and who owes a block that has come from elsewhere
//! is told to cancel, unless it has brought nothing for so long that it was given up.
//!
//! It has a parser of its own, so that an engine is not believed by its own decoder.

use super::link::PipeId;
use super::node::EngineNode;
use super::queue::NodeId;
use crate::engine::limits;
use crate::units::{BlockSpan, Instant};
use crate::wire::{HANDSHAKE_LEN, Segment, WritePlan};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A raw span: piece, first byte, length.
type Raw = (u32, u32, u32);

/// Time without a whole block after which a request may have been given up without a word: the peer is taken
/// for a snubber then. Half of that, because requests wait in the engine's encoder before they are seen here.
const GIVEN_UP_AFTER: Duration = limits::SNUB_AFTER.checked_div(2).expect("two is not zero");
/// Time that requests may take from the engine's encoder to its send buffer: those that stand there when a
/// choke comes still go out, and only the engine knows which of them it has cancelled.
const UNDERWAY: Duration = Duration::from_secs(10);

/// Reads one direction.
#[derive(Debug)]
struct Reader {
    bytes: Vec<u8>,
    handshake: bool,
    /// Payload of the block at hand that is still to come.
    payload: u32,
    /// A block has ended since the last look.
    block_ended: bool,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader { bytes: Vec::new(), handshake: true, payload: 0, block_ended: false }
    }
}

/// A message as the tap reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
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

impl Reader {
    /// `n` bytes that were not read: a block's payload, or the body of a message that is skipped.
    fn pass(&mut self, n: u32) {
        let payload = self.take_payload(n);
        self.bytes.resize(self.bytes.len() + (n - payload) as usize, 0);
    }

    /// Bytes as they are, payload among them.
    fn feed(&mut self, bytes: &[u8]) {
        let payload = self.take_payload(bytes.len() as u32);
        self.bytes.extend(&bytes[payload as usize..]);
    }

    /// Up to `n` bytes of the block at hand; how many.
    fn take_payload(&mut self, n: u32) -> u32 {
        let taken = n.min(self.payload);
        self.payload -= taken;
        self.block_ended |= taken > 0 && self.payload == 0;
        taken
    }

    /// The next message, if all of it is there.
    fn next(&mut self) -> Option<Said> {
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
            return Some(Said::Other);
        }
        let kind = *self.bytes.get(4)?;
        if kind == 7 {
            let (piece, begin) = (word(&self.bytes, 5)?, word(&self.bytes, 9)?);
            self.bytes.drain(..13);
            self.payload = len as u32 - 9;
            let along = self.take_payload(self.bytes.len() as u32);
            self.bytes.drain(..along as usize);
            return Some(Said::Block((piece, begin, len as u32 - 9)));
        }
        if self.bytes.len() < 4 + len {
            return None;
        }
        let message: Vec<u8> = self.bytes.drain(..4 + len).collect();
        let raw = || Some((word(&message, 5)?, word(&message, 9)?, word(&message, 13)?));
        Some(match kind {
            0 => Said::Choke,
            1 => Said::Unchoke,
            4 => Said::Have(word(&message, 5)?),
            5 => Said::Bitfield(message[5..].to_vec()),
            6 => Said::Request(raw()?),
            8 => Said::Cancel(raw()?),
            14 => Said::HaveAll,
            16 => Said::Reject(raw()?),
            17 => Said::AllowedFast(word(&message, 5)?),
            _ => Said::Other,
        })
    }
}

/// What an engine and one peer have said to each other.
#[derive(Debug)]
struct Tap {
    out: Reader,
    incoming: Reader,
    /// The engine chokes the peer.
    chokes: bool,
    /// Pieces that it lets it have all the same, and the bytes of them that it has let it have so.
    allows: BTreeMap<u32, u64>,
    /// Since when the peer chokes the engine.
    choked_since: Option<Instant>,
    /// When it last began to.
    last_choke: Instant,
    /// Blocks that came or were rejected although they had been given up, by a choke or a cancel: if they are
    /// requested again, it is unknown which request they answer.
    late: BTreeSet<Raw>,
    /// Pieces that it lets it have all the same.
    allowed: BTreeSet<u32>,
    /// Requests that nothing has come of yet.
    asked: BTreeSet<Raw>,
    /// Of these, blocks that have come from elsewhere.
    to_cancel: BTreeSet<Raw>,
    /// When a block last came from there to its end, or the first request went there.
    heard: Instant,
    /// When a block last came from there that was wanted.
    served: Instant,
}

impl Tap {
    fn new(now: Instant) -> Tap {
        Tap {
            out: Reader::default(),
            incoming: Reader::default(),
            chokes: true,
            allows: BTreeMap::new(),
            choked_since: Some(now),
            last_choke: Instant::ZERO,
            late: BTreeSet::new(),
            allowed: BTreeSet::new(),
            asked: BTreeSet::new(),
            to_cancel: BTreeSet::new(),
            heard: now,
            served: now,
        }
    }
}

/// Every direction in which an engine speaks.
#[derive(Debug, Default)]
pub(super) struct Taps {
    taps: BTreeMap<PipeId, Tap>,
}

impl Taps {
    /// An engine writes into this pipe.
    pub(super) fn out(&mut self, now: Instant, pipe: PipeId, plan: &WritePlan, e: &EngineNode) {
        let tap = self.taps.entry(pipe).or_insert_with(|| Tap::new(now));
        for part in &plan.segments {
            match part {
                Segment::Control(range) => {
                    assert_eq!(tap.out.payload, 0, "control bytes inside a block's payload");
                    tap.out.feed(&plan.control[range.clone()]);
                    while let Some(said) = tap.out.next() {
                        tap.hold(now, said, e);
                    }
                }
                Segment::Payload(span) => {
                    assert!(tap.out.payload >= span.len(), "{span} is more than its header said");
                    tap.out.pass(span.len());
                }
            }
        }
    }

    /// The engine that writes into this pipe read these bytes, or passed over so many, on the way back.
    pub(super) fn read(&mut self, now: Instant, pipe: PipeId, passed: u32, bytes: &[u8]) {
        let tap = self.taps.entry(pipe).or_insert_with(|| Tap::new(now));
        tap.incoming.pass(passed);
        tap.incoming.feed(bytes);
        while let Some(said) = tap.incoming.next() {
            tap.hear(now, said);
        }
        if std::mem::take(&mut tap.incoming.block_ended) {
            // Before it came the peer may have been given up, and with it all that it was asked for.
            if now.since(tap.heard) >= GIVEN_UP_AFTER {
                tap.late.append(&mut tap.asked);
                tap.to_cancel.clear();
            }
            tap.heard = now;
        }
    }

    /// A block's last byte came in from the peer that `from` speaks to.
    pub(super) fn block_complete(&mut self, now: Instant, from: PipeId, span: BlockSpan, e: &EngineNode) {
        let whole = block_of(span);
        for pipe in e.connections.values() {
            let Some(tap) = self.taps.get_mut(pipe) else { continue };
            if *pipe == from {
                tap.served = now;
            }
            let of_block = |raw: &&Raw| (raw.0, raw.1) == whole;
            let Some(raw) = tap.asked.iter().find(of_block).copied() else { continue };
            if *pipe == from {
                tap.asked.remove(&raw);
                tap.to_cancel.remove(&raw);
            } else if now.since(tap.heard.min(tap.served)) < GIVEN_UP_AFTER {
                tap.to_cancel.insert(raw);
            } else {
                tap.asked.remove(&raw);
            }
        }
    }

    /// The engine's turn is over, and all that it had to say here is said.
    pub(super) fn turn_over(&mut self, node: NodeId, pipe: PipeId) {
        // In the middle of a block that a limit holds back nothing can be said.
        let tap = self.taps.get(&pipe).filter(|t| t.out.payload == 0);
        if let Some(raw) = tap.and_then(|t| t.to_cancel.first()) {
            panic!("node {node} has block {raw:?} from elsewhere and did not cancel it");
        }
    }

    /// The connection is gone.
    pub(super) fn forget(&mut self, pipe: PipeId) {
        self.taps.remove(&pipe);
        self.taps.remove(&pipe.back());
    }
}

/// Piece and first byte of the block that a span lies in.
fn block_of(span: BlockSpan) -> (u32, u32) {
    (span.piece().get(), span.begin() / crate::units::BLOCK_LEN * crate::units::BLOCK_LEN)
}

impl Tap {
    fn hold(&mut self, now: Instant, said: Said, e: &EngineNode) {
        let verified = |raw: u32| e.disk.has(raw);
        match said {
            Said::Choke => self.chokes = true,
            Said::Unchoke => self.chokes = false,
            Said::AllowedFast(piece) => drop(self.allows.entry(piece).or_default()),
            Said::Block((piece, begin, len)) => {
                if self.chokes {
                    let taken = self.allows.get_mut(&piece);
                    let taken = taken.unwrap_or_else(|| {
                        panic!("piece {piece} byte {begin} goes to a peer that is choked")
                    });
                    *taken += u64::from(len);
                    let most = u64::from(limits::ALLOWED_FAST_TIMES) * e.disk.piece_len(piece);
                    assert!(
                        *taken <= most,
                        "{taken} bytes of piece {piece} go to a peer that is choked, and {most} may"
                    );
                }
                assert!(verified(piece), "piece {piece} is served and not verified");
            }
            Said::Have(piece) => assert!(verified(piece), "piece {piece} is claimed and not verified"),
            Said::Bitfield(bytes) => {
                let claimed = |p: usize| bytes.get(p / 8).is_some_and(|b| b >> (7 - p % 8) & 1 == 1);
                let lie = (0..bytes.len() * 8).find(|p| claimed(*p) && !verified(*p as u32));
                assert_eq!(lie, None, "a piece is claimed and not verified");
            }
            Said::HaveAll => assert!(e.disk.verified().is_full(), "everything is claimed and not verified"),
            Said::Request(raw) => {
                let choked = self.choked_since.filter(|_| !self.allowed.contains(&raw.0));
                let late = choked.is_some_and(|since| now.since(since) > UNDERWAY);
                assert!(!late, "{raw:?} is asked of a peer that chokes");
                // It stood in the encoder when the choke came: it is given up already.
                let crossed = self.last_choke > Instant::ZERO && now.since(self.last_choke) < UNDERWAY;
                if choked.is_some() || crossed || self.late.contains(&raw) {
                    return;
                }
                // What stood there while the piece came from elsewhere still goes out, and its cancel behind
                // it.
                if verified(raw.0) {
                    self.to_cancel.insert(raw);
                }
                if self.asked.is_empty() {
                    self.heard = now;
                }
                // What was asked long ago and not answered may have been given up; then it may be asked
                // again.
                let again = !self.asked.insert(raw) && now.since(self.heard) < GIVEN_UP_AFTER;
                assert!(!again, "{raw:?} is asked for twice");
                let most = e.most_requests;
                assert!(self.asked.len() <= most, "{} requests are out, and {most} may be", self.asked.len());
            }
            Said::Cancel(raw) => {
                self.to_cancel.remove(&raw);
                // It comes already.
                if !self.asked.remove(&raw) {
                    self.late.insert(raw);
                }
            }
            Said::Reject(_) | Said::Other => {}
        }
    }

    fn hear(&mut self, now: Instant, said: Said) {
        match said {
            Said::Choke => {
                self.choked_since.get_or_insert(now);
                self.last_choke = now;
                let Tap { asked, to_cancel, allowed, .. } = self;
                asked.retain(|raw| allowed.contains(&raw.0));
                to_cancel.retain(|raw| allowed.contains(&raw.0));
            }
            Said::Unchoke => self.choked_since = None,
            Said::AllowedFast(piece) => drop(self.allowed.insert(piece)),
            Said::Reject(raw) => {
                // What it rejects is not allowed after all.
                match self.asked.remove(&raw) {
                    true => drop(self.allowed.remove(&raw.0)),
                    // It rejects what was cancelled. The engine may have asked for it again meanwhile, and
                    // takes that for rejected.
                    false => drop(self.late.insert(raw)),
                }
                self.to_cancel.remove(&raw);
            }
            Said::Block(raw) => {
                if !self.asked.remove(&raw) {
                    self.late.insert(raw);
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
    fn messages_are_read_however_they_are_cut() {
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
        let mut reader = Reader::default();
        let mut said = Vec::new();
        for byte in bytes {
            reader.feed(&[byte]);
            said.extend(reader.next());
        }
        assert_eq!(
            said,
            [Said::Unchoke, Said::Have(9), Said::Other, Said::Request((1, 2, 3)), Said::HaveAll]
        );
    }
}
