//! The bytes of a connection: where the caller reads the next bytes to, and which bytes it writes next.
//!
//! ```text
//!   want ──▶ Control ─┐
//!        ──▶ Copy    ─┤
//!        ──▶ Fill    ─┼─ the caller reads ─▶ got(n) ──▶ frames ──▶ messages ──▶ requests topped up, actions pushed
//!        ──▶ Skip    ─┘
//!        ──▶ Pause   ──▶ nothing is read until Action::Wake
//! ```
//!
//! `got` does not name the place that `want` returned: no other call changes it in between, so both derive it
//! from the same state.

use super::disconnect::{DisconnectReason, ProtocolViolation};
use super::effects::Effect;
use super::endgame::take_over_block;
use super::limits;
use super::messages::on_message;
use super::peer::{Connection, Peer, Phase, Reading, RequestState};
use super::requests::top_up;
use super::swarms::Swarms;
use super::torrent::{Stage, Torrent};
use super::turn::Turn;
use crate::units::{BLOCK_LEN, BlockSpan, PeerKey, TorrentKey};
use crate::wire::{Frame, Message, RawSpan, WritePlan};

/// Where the next bytes of a stream belong.
#[derive(Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// Framing: read up to `room.len()` bytes to `room`.
    Control {
        /// The decoder's buffer; never empty.
        room: &'a mut [u8],
    },
    /// Payload: read up to the span's length to the span's place in the torrent. Bytes that follow a full
    /// span go to `spill`.
    Fill {
        /// The torrent.
        torrent: TorrentKey,
        /// The rest of a block. Under a rate limit a part of the rest, with an empty `spill`.
        span: BlockSpan,
        /// The decoder's buffer; may be empty.
        spill: &'a mut [u8],
    },
    /// Payload that was read together with framing: copy it to the span's place in the torrent.
    Copy {
        /// The torrent.
        torrent: TorrentKey,
        /// The span of the payload, as long as `bytes`.
        span: BlockSpan,
        /// The payload; never empty.
        bytes: &'a [u8],
    },
    /// Read up to `len` bytes and discard them.
    Skip {
        /// Bytes to discard, at least 1.
        len: u32,
    },
    /// Read nothing until [`Action::Wake`](super::Action::Wake).
    Pause,
    /// The connection does not exist.
    Gone,
}

impl Swarms {
    // ---- reading --------------------------------------------------------------------------------------------------

    /// See [`Engine::want`](super::Engine::want).
    pub(super) fn want(&mut self, key: PeerKey) -> Want<'_> {
        let Some(Connection { decoder, peer, negotiation }) = self.connections.get_mut(key) else {
            return Want::Gone;
        };
        peer.source.read_paused = false;
        if peer.wire.encoder.control_bytes() > limits::ENCODER_STOP_READING_BYTES
            || negotiation.as_ref().is_some_and(|n| n.waits_for_secret())
        {
            peer.source.read_paused = true;
            return Want::Pause;
        }
        let unread = decoder.skip_left();
        if unread > 0 {
            return Want::Skip { len: unread };
        }
        let rest = match peer.source.reading {
            Reading::Nothing => return Want::Control { room: decoder.room(peer.read_ahead()) },
            Reading::Unwanted { .. } => return Want::Skip { len: decoder.payload_left() },
            Reading::Block { rest, .. } => rest,
        };
        let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get_mut(t)) else { return Want::Gone };
        let ready = t.pieces.get(rest.piece()).is_some_and(|o| o.stage == Stage::Open);
        let allowance = self.down.allowance().min(t.down.allowance());
        let allowance = if ready { allowance.min(t.down_share.ask()) } else { 0 };
        if allowance == 0 {
            peer.source.read_paused = true;
            return Want::Pause;
        }
        let torrent = t.key;
        let buffered = decoder.buffered().len();
        if buffered > 0 {
            return Want::Copy { torrent, span: rest.first(buffered as u32), bytes: decoder.buffered() };
        }
        let span = rest.first(u32::try_from(allowance).unwrap_or(u32::MAX));
        let spill = if span == rest { decoder.spill(peer.read_ahead()) } else { &mut [] };
        Want::Fill { torrent, span, spill }
    }

    /// See [`Engine::on_held_back`](super::Engine::on_held_back).
    pub(super) fn on_held_back(&mut self, key: PeerKey) {
        if let Some(c) = self.connections.get_mut(key) {
            c.peer.source.read_paused = true;
        }
    }

    /// See [`Engine::got`](super::Engine::got). On an error the connection is removed already.
    pub(super) fn got(
        &mut self,
        turn: &mut Turn<'_>,
        key: PeerKey,
        n: usize,
    ) -> Result<(), DisconnectReason> {
        let result = self.on_received(turn, key, n);
        if let Err(why) = result {
            self.remove_connection(turn, key, why);
        }
        result
    }

    fn on_received(&mut self, turn: &mut Turn<'_>, key: PeerKey, n: usize) -> Result<(), DisconnectReason> {
        let Some(Connection { decoder, peer, .. }) = self.connections.get_mut(key) else { return Ok(()) };
        peer.source.last_in = turn.now;
        let payload = match peer.source.reading {
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
            let done = self.count_payload(turn, key, payload);
            self.on_payload(turn, key, payload, done);
        }
        if self.connections.get(key).is_some_and(|c| c.peer.wire.phase != Phase::Up)
            && !self.negotiate(turn, key)?
        {
            return Ok(());
        }
        loop {
            let Some(Connection { decoder, peer, .. }) = self.connections.get_mut(key) else { return Ok(()) };
            if peer.source.reading != Reading::Nothing || decoder.skip_left() > 0 {
                break;
            }
            let Some(frame) = decoder.next_frame().map_err(ProtocolViolation::Frame)? else { break };
            match frame {
                Frame::Handshake(theirs) => self.on_handshake(turn, key, &theirs)?,
                Frame::Message(message) => {
                    let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get_mut(t)) else {
                        return Err(DisconnectReason::UnknownTorrent);
                    };
                    on_message(turn, t, peer, message)?;
                }
                Frame::Block { piece, begin, len } => {
                    let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get_mut(t)) else {
                        return Err(DisconnectReason::UnknownTorrent);
                    };
                    if let Ok(block) = t.pieces.geometry().span(piece, begin, len) {
                        take_over_block(turn.now, t, &mut self.connections, key, block);
                    }
                    let Some(Connection { decoder, peer, .. }) = self.connections.get_mut(key) else {
                        return Ok(());
                    };
                    let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get_mut(t)) else {
                        return Err(DisconnectReason::UnknownTorrent);
                    };
                    peer.source.reading = begin_block(turn, t, peer, RawSpan { piece, begin, len })?;
                    peer.source.block_began = turn.now;
                    if let Reading::Unwanted { .. } = peer.source.reading {
                        let buffered = decoder.buffered().len() as u32;
                        decoder.buffered_taken(buffered);
                        let done = decoder.payload_left() == 0;
                        self.count_payload(turn, key, buffered);
                        self.on_payload(turn, key, buffered, done);
                    }
                }
            }
        }
        if let Some(t) = self.torrent_of(key).and_then(|t| self.torrents.get_mut(t)) {
            top_up(turn, t, &mut self.connections, key);
        }
        // Without a requested block on either side the connection may be silent for long: release its
        // buffers.
        if let Some(c) = self
            .connections
            .get_mut(key)
            .filter(|c| c.peer.source.requests.in_flight() == 0 && c.peer.wire.encoder.blocks() == 0)
        {
            c.decoder.release_memory();
        }
        Ok(())
    }

    /// Counts payload in every statistic and rate limit. Returns whether the payload ends its block's
    /// message.
    fn count_payload(&mut self, turn: &mut Turn<'_>, key: PeerKey, n: u32) -> bool {
        let Some(Connection { decoder, peer, .. }) = self.connections.get_mut(key) else { return false };
        peer.source.down.add(turn.now, u64::from(n));
        self.down.take(turn.now, u64::from(n));
        let done = decoder.payload_left() == 0;
        if let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get_mut(t)) {
            t.down_rate.add(turn.now, u64::from(n));
            t.down.take(turn.now, u64::from(n));
            t.downloaded += u64::from(n);
            if matches!(peer.source.reading, Reading::Unwanted { .. }) {
                t.wasted += u64::from(n);
            }
            t.down_share.take(u64::from(n));
            if self.down.wait().is_some() || t.down.wait().is_some() || t.down_share.is_spent() {
                self.arm_refill(turn);
            }
        }
        done
    }

    /// `n` bytes of the current block were received. `done` says whether they end the block's message.
    fn on_payload(&mut self, turn: &mut Turn<'_>, key: PeerKey, n: u32, done: bool) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get_mut(t)) else { return };
        match peer.source.reading {
            Reading::Block { rest, block, owed } => match rest.after(n) {
                Some(rest) => peer.source.reading = Reading::Block { rest, block, owed },
                None => {
                    peer.source.reading = Reading::Nothing;
                    on_block(turn, t, peer, block);
                }
            },
            Reading::Unwanted { owed } if done => {
                peer.source.reading = Reading::Nothing;
                if let Some(block) = owed.filter(|block| answered(turn, t, peer, *block)) {
                    t.pieces.cancel_request(block);
                }
            }
            _ => {}
        }
    }

    // ---- writing --------------------------------------------------------------------------------------------------

    /// See [`Engine::plan`](super::Engine::plan).
    pub(super) fn plan(&mut self, key: PeerKey, payload_budget: usize, plan: &mut WritePlan) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        peer.flushing();
        let torrent = peer.source.torrent.and_then(|t| self.torrents.get_mut(t));
        let torrent = torrent.filter(|_| peer.wire.encoder.blocks() > 0);
        let own = torrent.map_or(u64::MAX, |t| t.up.allowance().min(t.up_share.ask()));
        let allowance = usize::try_from(self.up.allowance().min(own)).unwrap_or(usize::MAX);
        peer.wire.upload_throttled = allowance < payload_budget && peer.wire.encoder.blocks() > 0;
        peer.wire.encoder.plan(payload_budget.min(allowance), plan);
    }

    /// See [`Engine::sent`](super::Engine::sent).
    pub(super) fn sent(&mut self, turn: &mut Turn<'_>, key: PeerKey, n: usize) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        let was_full = peer.wire.encoder.control_bytes() > limits::ENCODER_STOP_READING_BYTES;
        let sent = peer.wire.encoder.sent(n);
        let is_active = peer.wire.they_want && !peer.wire.we_choke || peer.source.requests.in_flight() > 0;
        if !is_active {
            peer.wire.encoder.release_memory();
        }
        peer.wire.last_out = turn.now;
        if sent.payload > 0 {
            let payload = u64::from(sent.payload);
            peer.wire.up.add(turn.now, payload);
            peer.wire.sent_since_change += payload;
            self.up.take(turn.now, payload);
            if let Some(t) = peer.source.torrent.and_then(|t| self.torrents.get_mut(t)) {
                t.up_rate.add(turn.now, payload);
                t.up.take(turn.now, payload);
                t.uploaded += payload;
                t.up_share.take(payload);
                if self.up.wait().is_some() || t.up.wait().is_some() || t.up_share.is_spent() {
                    self.arm_refill(turn);
                }
            }
        }
        if was_full {
            self.wake(turn, key);
        }
    }
}

/// Decides on the header of a block: the payload gets a lease, or is unwanted.
///
/// # Errors
/// The peer sent too many blocks without a request.
fn begin_block(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    peer: &mut Peer,
    raw: RawSpan,
) -> Result<Reading, DisconnectReason> {
    let block = match t.pieces.geometry().span(raw.piece, raw.begin, raw.len) {
        Ok(span) if span.begin() % BLOCK_LEN == 0 && span.len() <= BLOCK_LEN => Some(span),
        _ => None, // never requested: we request only whole blocks
    };
    let state = block.map_or(RequestState::Unrequested, |b| peer.source.requests.lookup(b));
    match (block, state) {
        (Some(block), RequestState::InFlight | RequestState::Cancelled) => {
            let owed = state == RequestState::InFlight;
            // A duplicate in endgame, or a late block of a piece that is being hashed, gets no lease.
            if t.pieces.lease(block, peer.source.key) {
                if t.pieces.was_abandoned(block) {
                    turn.out.retract_release(t.key, block);
                }
                Ok(Reading::Block { rest: block, block, owed })
            } else {
                Ok(Reading::Unwanted { owed: Some(block) })
            }
        }
        _ => {
            peer.source.unasked_blocks += 1;
            if peer.source.unasked_blocks > limits::UNASKED_BLOCKS {
                Err(ProtocolViolation::Unasked(peer.source.unasked_blocks).into())
            } else {
                Ok(Reading::Unwanted { owed: None })
            }
        }
    }
}

/// A request was answered, be it with an unwanted block. Returns whether the request was still in flight, and
/// not cancelled while its block arrived. Overdue requests that the peer skipped are cancelled.
fn answered(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer, block: BlockSpan) -> bool {
    let was_in_flight = peer.source.requests.owes(block);
    for late in peer.source.requests.done(turn.now, block, &peer.source.down) {
        t.pieces.cancel_request(late);
        peer.send(&Message::Cancel(late.into()), turn.out);
    }
    was_in_flight
}

/// A leased block is complete.
fn on_block(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer, block: BlockSpan) {
    peer.source.rejects = 0;
    let was_in_flight = answered(turn, t, peer, block);
    let arrival = t.pieces.arrived(block, peer.source.key, peer.source.addr.ip(), was_in_flight);
    if arrival.others_owe {
        turn.effects.push(Effect::Cancel { torrent: t.key, block, but: peer.source.key });
    }
    if arrival.piece_full {
        turn.effects.push(Effect::Hash { torrent: t.key, piece: block.piece() });
    }
}
