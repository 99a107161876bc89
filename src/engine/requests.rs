//! What is asked of whom: windows are filled, and in endgame the late are helped out.
//!
//! Endgame begins when every wanted block is asked for. A peer with nothing left to do then takes blocks from the end of the longest
//! queue: those that would come last. What lies so far behind that the other has not begun with it is cancelled there at once; what may
//! be on its way is owed by both. A block that comes in so slowly that another peer would bring all of it sooner is asked of that one as
//! well, which takes its lease over when it begins. At most [`ENDGAME_HOLDERS`](limits::ENDGAME_HOLDERS) owe one block, the silent not
//! counted, and whoever is second is told to cancel.
//! The [`Policy`](super::Policy) may ask for another endgame, or for none.

use super::action::{Action, Actions};
use super::engine::{Effect, Engine};
use super::limits;
use super::peer::{Connection, Peer, Reading, RequestState};
use super::policy::{Endgame, Policy};
use super::timers::{Timer, Timers};
use super::torrent::Torrent;
use crate::units::{BlockSpan, Instant, PeerKey, Rng, TorrentKey, bytes_within};
use crate::wire::Message;
use std::time::Duration;

impl Engine {
    /// Asks the peer for as many blocks as its window has room for.
    pub(super) fn top_up(&mut self, now: Instant, key: PeerKey, out: &mut Actions) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)).filter(|t| t.running) else { return };
        let policy = &self.config.policy;
        let mut cx = Cx { now, policy, rng: &mut self.rng, timers: &mut self.timers, out };
        let asked = request_blocks(&mut cx, t, peer);
        match policy.endgame {
            Endgame::Off => {}
            Endgame::Bounded { holders, blocks } => {
                let blocks = blocks.min(policy.window.most() as usize);
                self.assist_slow_peers(now, key, u16::from(holders), blocks, out);
            }
            Endgame::Unbounded if !t.picker.is_endgame(&t.pieces) => {}
            Endgame::Unbounded if asked => {
                // It has begun just now, and nobody else knows.
                let begun = Effect::TopUp { torrent: t.key };
                if !self.effects.contains(&begun) {
                    self.effects.push(begun);
                }
            }
            Endgame::Unbounded => ask_for_everything(&mut cx, t, peer),
        }
    }

    /// Asks a peer that has nothing left to do for blocks that others owe us but would bring later: those at the end of the
    /// longest queue. They are cancelled there, at once or when the first of the two has brought them.
    fn assist_slow_peers(&mut self, now: Instant, key: PeerKey, holders: u16, blocks: usize, out: &mut Actions) {
        for _ in 0..blocks {
            let Some(Connection { peer, .. }) = self.connections.get(key) else { return };
            if peer.requests.in_flight() >= blocks || peer.requests.is_snubbed() || !peer.may_be_asked() {
                return;
            }
            let Some(t) = peer.torrent.and_then(|t| self.torrents.get(t)).filter(|t| t.running && t.picker.is_endgame(&t.pieces))
            else {
                return;
            };
            let input = peer.pick_input(false);
            let soon = peer.requests.response();
            let others = t.peers.iter().filter(|p| **p != key).filter_map(|p| self.connections.get(*p)).map(|c| &c.peer);
            let latest = others
                .filter_map(|p| {
                    let rate = p.down.per_second(now);
                    // What it sends already would be received twice for a while, so that must be worth it.
                    let late = |(b, wait): &(BlockSpan, Duration)| match t.pieces.writer(*b) {
                        None => *wait > soon,
                        Some(writer) => {
                            let slow = writer == p.key && !p.is_held_back() && *wait > soon * limits::TAKE_OVER_FACTOR;
                            slow && t.pieces.can_steal_lease(*b)
                        }
                    };
                    // Who is silent gives its place up, or three silent ones would keep a block from everybody else.
                    let silent = p.requests.is_silent(now);
                    let fits = |b: &BlockSpan| {
                        let holders = holders + u16::from(silent && p.requests.owes(*b));
                        peer.requests.lookup(*b) == RequestState::No && t.picker.may_ask_again(&t.pieces, &input, *b, holders)
                    };
                    let owed = p.requests.expected(now, rate);
                    let (block, wait) = p.being_sent(now).into_iter().chain(owed).filter(late).find(|(b, _)| fits(b))?;
                    let gives_up = silent || p.requests.is_far_behind(block);
                    Some((block, wait, gives_up.then_some(p.key)))
                })
                .max_by_key(|(_, wait, _)| *wait);
            let torrent = t.key;
            let Some((block, _, gives_up)) = latest else {
                // Nobody is late yet. Somebody may become so, and no message will say it.
                return self.timers.arm(Timer::Endgame(torrent), now + limits::ENDGAME_INTERVAL);
            };
            let Some(t) = self.torrents.get_mut(torrent) else { return };
            if let Some(c) = gives_up.and_then(|p| self.connections.get_mut(p)).filter(|c| c.peer.requests.owes(block)) {
                c.peer.requests.give_up(block);
                t.pieces.cancel_request(block);
                c.peer.say(&Message::Cancel(block.into()), out);
            }
            if let Some(c) = self.connections.get_mut(key) {
                t.pieces.ask_again(block);
                c.peer.requests.asked(now, block);
                c.peer.say(&Message::Request(block.into()), out);
                self.timers.arm(Timer::Peer(key), c.peer.next_deadline());
            }
        }
    }

    /// A block that comes in from a peer much slower than this one, which begins to send it now, is this one's from here on: what the
    /// slow one still sends of it is passed over.
    pub(super) fn take_over_block(&mut self, now: Instant, key: PeerKey, block: BlockSpan) {
        let Some(Connection { peer, .. }) = self.connections.get(key).filter(|c| c.peer.requests.owes(block)) else { return };
        let soon = peer.requests.response();
        let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)) else { return };
        let Some(slow) = t.pieces.writer(block).filter(|w| *w != key) else { return };
        let Some(Connection { decoder, peer }) = self.connections.get_mut(slow) else { return };
        let Some((_, wait)) = peer.being_sent(now) else { return };
        let Reading::Block { rest, .. } = peer.reading else { return };
        if decoder.buffered().is_empty() && !peer.is_held_back() && wait > soon && t.pieces.steal_lease(block, slow) {
            peer.reading = Reading::Unwanted { owed: Some(block) };
            t.wasted += u64::from(block.len() - rest.len());
        }
    }

    /// Asks every peer of the torrent: blocks have become free.
    pub(super) fn top_up_all(&mut self, now: Instant, torrent: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get(torrent).filter(|t| t.running) else { return };
        for key in t.peers.clone() {
            self.top_up(now, key, out);
        }
    }
}

/// What asking one peer needs beside it and its torrent.
struct Cx<'a> {
    now: Instant,
    policy: &'a Policy,
    rng: &'a mut Rng,
    timers: &'a mut Timers,
    out: &'a mut Actions,
}

impl Cx<'_> {
    /// Asks for one block, which the pieces count as owed already.
    fn request(&mut self, peer: &mut Peer, block: BlockSpan) {
        let nothing_owed = peer.requests.in_flight() == 0;
        peer.requests.asked(self.now, block);
        peer.say(&Message::Request(block.into()), self.out);
        if nothing_owed {
            self.timers.arm(Timer::Peer(peer.key), peer.next_deadline());
        }
    }
}

/// Fills a peer's window with requests; whether there were any.
fn request_blocks(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer) -> bool {
    let room = peer.requests.room();
    if room == 0 || !peer.may_be_asked() {
        return false;
    }
    let piece_len = t.pieces.geometry().nominal_piece_len();
    let partial_limit = t.peers.len() * 2 + limits::PARTIAL_PIECES_SPARE;
    let is_fast = bytes_within(peer.down.per_second(cx.now), cx.policy.own_piece_within) >= u64::from(piece_len);
    let mut asked = false;
    for _ in 0..room {
        let Some(pick) = t.picker.pick(&mut t.pieces, &peer.pick_input(is_fast), partial_limit, cx.rng) else { break };
        if pick.begun {
            let piece = pick.block.piece();
            cx.out.push(Action::Prepare { torrent: t.key, piece });
            if t.smart_ban.is_suspect(piece) && !peer.requests.is_snubbed() {
                if let Some(open) = t.pieces.get_mut(piece) {
                    open.reserved = Some(peer.key);
                }
            }
        }
        cx.request(peer, pick.block);
        asked = true;
    }
    asked
}

/// The endgame of folklore: asks a peer for whatever nobody is sending yet, as far as its window goes.
fn ask_for_everything(cx: &mut Cx<'_>, t: &mut Torrent, peer: &mut Peer) {
    let room = peer.requests.room() as usize;
    if room == 0 || !peer.may_be_asked() {
        return;
    }
    let (input, holders) = (peer.pick_input(false), Endgame::Unbounded.holders());
    let unsent = |b: &BlockSpan| t.pieces.writer(*b).is_none();
    let fits = |b: &BlockSpan| unsent(b) && t.picker.may_ask_again(&t.pieces, &input, *b, holders) && !peer.requests.owes(*b);
    let mut blocks: Vec<BlockSpan> = t.pieces.open().flat_map(|(p, _)| t.pieces.blocks(p)).filter(fits).collect();
    // Peers that all began at the same end would all bring the same.
    cx.rng.shuffle(&mut blocks);
    for block in blocks.into_iter().take(room) {
        t.pieces.ask_again(block);
        cx.request(peer, block);
    }
}
