//! Where the hands and the codec meet: what the next bytes of a stream are, and what they mean.
//!
//! ```text
//!   want ──▶ Control ─┐
//!        ──▶ Copy    ─┤
//!        ──▶ Fill    ─┼─ the hands read ─▶ got(n) ──▶ frames ──▶ messages ──▶ requests topped up, actions pushed
//!        ──▶ Skip    ─┘
//!        ──▶ Pause   ──▶ nothing is read until Action::Wake
//! ```
//!
//! `want` and `got` agree without a word on what is being read, because nothing changes it in between.

use super::action::Actions;
use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::engine::{Effect, Engine};
use super::limits;
use super::messages::on_message;
use super::peer::{Connection, Peer, Reading, RequestState};
use super::torrent::{Stage, Torrent};
use crate::units::{BLOCK_LEN, BlockSpan, Instant, PeerKey, TorrentKey};
use crate::wire::{Frame, Message, RawSpan, WritePlan};

/// Where the next bytes of a stream belong.
#[derive(Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// Framing: read up to `room.len()` bytes here.
    Control {
        /// Never empty.
        room: &'a mut [u8],
    },
    /// Payload: read up to the span's length to where it lives; what follows goes to `spill`, if the span was filled.
    Fill {
        /// Whose.
        torrent: TorrentKey,
        /// The rest of a block, or less of it under a rate limit; then `spill` is empty.
        span: BlockSpan,
        /// May be empty.
        spill: &'a mut [u8],
    },
    /// Payload that came along with framing: put it where it lives.
    Copy {
        /// Whose.
        torrent: TorrentKey,
        /// As long as `bytes`.
        span: BlockSpan,
        /// Never empty.
        bytes: &'a [u8],
    },
    /// Read up to `len` bytes and throw them away.
    Skip {
        /// At least 1.
        len: u32,
    },
    /// Read nothing until [`Action::Wake`].
    Pause,
    /// No such connection.
    Gone,
}

/// What handling one frame needs beside its peer.
pub(super) struct Cx<'a> {
    pub now: Instant,
    pub out: &'a mut Actions,
    pub effects: &'a mut Vec<Effect>,
}

impl Cx<'_> {
    /// To be done when this turn is over; once is enough.
    pub fn effect(&mut self, effect: Effect) {
        if !self.effects.contains(&effect) {
            self.effects.push(effect);
        }
    }
}

impl Engine {
    // ---- reading --------------------------------------------------------------------------------------------------

    /// Where do the next bytes of this stream belong?
    pub fn want(&mut self, key: PeerKey) -> Want<'_> {
        let Some(Connection { decoder, peer }) = self.connections.get_mut(key) else { return Want::Gone };
        peer.read_paused = false;
        if peer.encoder.control_bytes() > limits::OUTBOX_STOP_READING_BYTES {
            peer.read_paused = true;
            return Want::Pause;
        }
        let unread = decoder.skip_left();
        if unread > 0 {
            return Want::Skip { len: unread };
        }
        let rest = match peer.reading {
            Reading::Nothing => return Want::Control { room: decoder.room(peer.read_ahead()) },
            Reading::Unwanted { .. } => return Want::Skip { len: decoder.payload_left() },
            Reading::Block { rest, .. } => rest,
        };
        let Some(t) = peer.torrent.and_then(|t| self.torrents.get(t)) else { return Want::Gone };
        let ready = t.pieces.get(rest.piece()).is_some_and(|o| o.stage == Stage::Open);
        let allowance = self.down.allowance().min(t.down.allowance());
        if !ready || allowance == 0 {
            peer.read_paused = true;
            return Want::Pause;
        }
        let torrent = t.key;
        let came_along = decoder.buffered().len();
        if came_along > 0 {
            return Want::Copy { torrent, span: rest.first(came_along as u32), bytes: decoder.buffered() };
        }
        let span = rest.first(u32::try_from(allowance).unwrap_or(u32::MAX));
        let spill = if span == rest { decoder.spill(peer.read_ahead()) } else { &mut [] };
        Want::Fill { torrent, span, spill }
    }

    /// The hands have no room for what [`want`](Engine::want) named, and do not read until they have: that the peer seems silent is not
    /// its fault. They ask again by themselves.
    pub fn on_held_back(&mut self, key: PeerKey) {
        if let Some(c) = self.connections.get_mut(key) {
            c.peer.read_paused = true;
        }
    }

    /// `n` bytes came, and went where [`want`](Engine::want) said: the span first, then the spill. On an error the
    /// connection is forgotten already: hang up.
    pub fn got(&mut self, now: Instant, key: PeerKey, n: usize, out: &mut Actions) -> Result<(), DisconnectReason> {
        let result = self.on_received(now, key, n, out);
        if let Err(why) = result {
            self.remove_connection(now, key, why, out);
        }
        self.apply_effects(now, out);
        result
    }

    fn on_received(&mut self, now: Instant, key: PeerKey, n: usize, out: &mut Actions) -> Result<(), DisconnectReason> {
        let Some(Connection { decoder, peer }) = self.connections.get_mut(key) else { return Ok(()) };
        peer.last_in = now;
        let payload = match peer.reading {
            _ if decoder.skip_left() > 0 => {
                decoder.payload_taken(n as u32);
                0
            }
            Reading::Nothing => {
                decoder.advance(n);
                0
            }
            Reading::Unwanted { .. } => {
                decoder.payload_taken(n as u32);
                n as u32
            }
            Reading::Block { .. } if !decoder.buffered().is_empty() => {
                decoder.buffered_taken(n as u32);
                n as u32
            }
            Reading::Block { rest, .. } => {
                let filled = (n as u32).min(rest.len());
                decoder.payload_taken(filled);
                decoder.advance(n - filled as usize);
                filled
            }
        };
        if payload > 0 {
            let done = self.count_payload(now, key, payload);
            self.on_payload(now, key, payload, done, out);
        }
        loop {
            let Some(Connection { decoder, peer }) = self.connections.get_mut(key) else { return Ok(()) };
            if peer.reading != Reading::Nothing || decoder.skip_left() > 0 {
                break;
            }
            let Some(frame) = decoder.next_frame().map_err(ProtocolViolation::Frame)? else { break };
            match frame {
                Frame::Handshake(theirs) => self.on_handshake(now, key, &theirs, out)?,
                Frame::Message(message) => {
                    let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)) else {
                        return Err(DisconnectReason::UnknownTorrent);
                    };
                    let mut cx = Cx { now, out, effects: &mut self.effects };
                    on_message(&mut cx, t, peer, message)?;
                }
                Frame::Block { piece, begin, len } => {
                    let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)) else {
                        return Err(DisconnectReason::UnknownTorrent);
                    };
                    if let Ok(block) = t.pieces.geometry().span(piece, begin, len) {
                        self.take_over_block(now, key, block);
                    }
                    let Some(Connection { decoder, peer }) = self.connections.get_mut(key) else { return Ok(()) };
                    let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)) else {
                        return Err(DisconnectReason::UnknownTorrent);
                    };
                    peer.reading = begin_block(t, peer, RawSpan { piece, begin, len }, out)?;
                    peer.block_began = now;
                    if let Reading::Unwanted { .. } = peer.reading {
                        let came_along = decoder.buffered().len() as u32;
                        decoder.buffered_taken(came_along);
                        let done = decoder.payload_left() == 0;
                        self.count_payload(now, key, came_along);
                        self.on_payload(now, key, came_along, done, out);
                    }
                }
            }
        }
        self.top_up(now, key, out);
        // Whoever neither owes a block nor is owed one may keep still for long.
        if let Some(c) =
            self.connections.get_mut(key).filter(|c| c.peer.requests.in_flight() == 0 && c.peer.encoder.blocks() == 0)
        {
            c.decoder.release_memory();
        }
        Ok(())
    }

    /// Counts payload in every figure and limit; whether it was an unwanted block's last.
    fn count_payload(&mut self, now: Instant, key: PeerKey, n: u32) -> bool {
        let Some(Connection { decoder, peer }) = self.connections.get_mut(key) else { return false };
        peer.down.add(now, u64::from(n));
        self.down.take(now, u64::from(n));
        let done = decoder.payload_left() == 0;
        if let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)) {
            t.down_rate.add(now, u64::from(n));
            t.down.take(now, u64::from(n));
            t.downloaded += u64::from(n);
            if matches!(peer.reading, Reading::Unwanted { .. }) {
                t.wasted += u64::from(n);
            }
            if self.down.wait().is_some() || t.down.wait().is_some() {
                self.arm_refill(now);
            }
        }
        done
    }

    /// `n` bytes of the block at hand are in place.
    fn on_payload(&mut self, now: Instant, key: PeerKey, n: u32, done: bool, out: &mut Actions) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)) else { return };
        match peer.reading {
            Reading::Block { rest, block, owed } => match rest.after(n) {
                Some(rest) => peer.reading = Reading::Block { rest, block, owed },
                None => {
                    peer.reading = Reading::Nothing;
                    on_block(&mut Cx { now, out, effects: &mut self.effects }, t, peer, block);
                }
            },
            Reading::Unwanted { owed } if done => {
                peer.reading = Reading::Nothing;
                let cx = &mut Cx { now, out, effects: &mut self.effects };
                if let Some(block) = owed.filter(|block| answered(cx, t, peer, *block)) {
                    t.pieces.cancel_request(block);
                }
            }
            _ => {}
        }
    }

    // ---- writing --------------------------------------------------------------------------------------------------

    /// Appends to `plan` what to write next, with at most `payload_budget` bytes of payload. Nothing is changed but that
    /// the next message will push another [`Action::Flush`].
    pub fn plan(&mut self, key: PeerKey, payload_budget: usize, plan: &mut WritePlan) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        peer.flushing();
        let torrent = peer.torrent.and_then(|t| self.torrents.get(t)).map_or(u64::MAX, |t| t.up.allowance());
        let allowance = usize::try_from(self.up.allowance().min(torrent)).unwrap_or(usize::MAX);
        peer.upload_throttled = allowance < payload_budget && peer.encoder.blocks() > 0;
        peer.encoder.plan(payload_budget.min(allowance), plan);
    }

    /// `n` bytes of the plan went out.
    pub fn sent(&mut self, now: Instant, key: PeerKey, n: usize, out: &mut Actions) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        let was_stuck = peer.encoder.control_bytes() > limits::OUTBOX_STOP_READING_BYTES;
        let sent = peer.encoder.sent(n);
        let more_to_say = peer.they_want && !peer.we_choke || peer.requests.in_flight() > 0;
        if !more_to_say {
            peer.encoder.release_memory();
        }
        peer.last_out = now;
        if sent.payload > 0 {
            let payload = u64::from(sent.payload);
            peer.up.add(now, payload);
            peer.sent_since_change += payload;
            self.up.take(now, payload);
            if let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)) {
                t.up_rate.add(now, payload);
                t.up.take(now, payload);
                t.uploaded += payload;
                if self.up.wait().is_some() || t.up.wait().is_some() {
                    self.arm_refill(now);
                }
            }
        }
        if was_stuck {
            self.wake(key, out);
        }
    }
}

/// What a block's header means: a lease, or payload that nobody wants.
fn begin_block(t: &mut Torrent, peer: &mut Peer, raw: RawSpan, out: &mut Actions) -> Result<Reading, DisconnectReason> {
    let block = match t.pieces.geometry().span(raw.piece, raw.begin, raw.len) {
        Ok(span) if span.begin() % BLOCK_LEN == 0 && span.len() <= BLOCK_LEN => Some(span),
        _ => None, // never asked for: we ask for whole blocks of real pieces
    };
    let asked = block.map_or(RequestState::No, |b| peer.requests.lookup(b));
    match (block, asked) {
        (Some(block), RequestState::Yes | RequestState::Cancelled) => {
            let owed = asked == RequestState::Yes;
            // A duplicate in endgame, or a late answer for a piece that is being hashed, gets no lease.
            match t.pieces.lease(block, peer.key) {
                true => {
                    if t.pieces.was_abandoned(block) {
                        out.retract_release(t.key, block);
                    }
                    Ok(Reading::Block { rest: block, block, owed })
                }
                false => Ok(Reading::Unwanted { owed: Some(block) }),
            }
        }
        _ => {
            peer.unasked_blocks += 1;
            match peer.unasked_blocks > limits::UNASKED_BLOCKS {
                true => Err(ProtocolViolation::Unasked(peer.unasked_blocks).into()),
                false => Ok(Reading::Unwanted { owed: None }),
            }
        }
    }
}

/// A request was answered, if only with a block that nobody wants any more: true if the block was still owed, and not given up while
/// it came in. Requests that the peer passed over and that are overdue are given up, and it is told so.
fn answered(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, block: BlockSpan) -> bool {
    let still_owed = peer.requests.owes(block);
    for late in peer.requests.done(cx.now, block, &peer.down) {
        t.pieces.cancel_request(late);
        peer.say(&Message::Cancel(late.into()), cx.out);
    }
    still_owed
}

/// A leased block is complete.
fn on_block(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer, block: BlockSpan) {
    peer.rejects = 0;
    let still_owed = answered(cx, t, peer, block);
    let arrival = t.pieces.arrived(block, peer.key, peer.addr.ip(), still_owed);
    if arrival.others_owe {
        cx.effects.push(Effect::Cancel { torrent: t.key, block, but: peer.key });
    }
    if arrival.piece_full {
        cx.effects.push(Effect::Hash { torrent: t.key, piece: block.piece() });
    }
}
