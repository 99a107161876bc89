//! Endgame: once every wanted block is requested, a peer with an almost empty queue is sent requests for
//! blocks that slower peers would deliver later.
//!
//! The blocks are taken from the end of a slow peer's queue: those that would arrive last. A block so far
//! back in a queue that its peer has not begun to send it is cancelled there at once. A block that may be
//! under way is requested from both peers, and the slower peer is sent a cancel when the faster one has
//! delivered it. A block that arrives so slowly that a faster peer would deliver all of it sooner is
//! requested from the faster peer as well, which takes the lease over when it begins to send. At most
//! [`ENDGAME_HOLDERS`](limits::ENDGAME_HOLDERS) peers have the same block requested, silent peers not
//! counted. The [`Policy`](super::Policy) may choose another endgame, or none.

use super::limits;
use super::peer::{Connection, Connections, Reading, RequestState, Source};
use super::policy::Endgame;
use super::timers::Timer;
use super::torrent::{PickInput, Torrent};
use super::turn::Turn;
use crate::units::{BlockSpan, Instant, PeerKey};
use crate::wire::Message;
use std::time::Duration;

/// Applies the policy's endgame to a peer whose queue was just filled. `requested` says whether the picker
/// still found blocks for it.
#[cfg_attr(
    not(feature = "sim"),
    expect(unused_variables, reason = "only unbounded endgame needs `requested`")
)]
pub(super) fn help(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    connections: &mut Connections,
    key: PeerKey,
    requested: bool,
) {
    match turn.config.policy.endgame {
        Endgame::Bounded { holders, blocks } => {
            let blocks = blocks.min(turn.config.policy.window.most() as usize);
            assist_slow_peers(turn, t, connections, key, u16::from(holders), blocks);
        }
        #[cfg(feature = "sim")]
        Endgame::Off => {}
        #[cfg(feature = "sim")]
        Endgame::Unbounded => {
            if t.picker.is_endgame(&t.pieces) {
                unbounded::help(turn, t, connections, key, requested);
            }
        }
    }
}

/// A block to take from a slower peer.
struct LateBlock {
    block: BlockSpan,
    /// Expected time until the slow peer would deliver it.
    wait: Duration,
    /// The slow peer, if the block has to be cancelled there at once.
    cancel_at: Option<PeerKey>,
}

/// Requests blocks that slower peers would deliver later from a peer with an almost empty queue. At the
/// slower peer a block is cancelled at once, or when the other peer has delivered it.
fn assist_slow_peers(
    turn: &mut Turn<'_>,
    t: &mut Torrent,
    connections: &mut Connections,
    key: PeerKey,
    holders: u16,
    blocks: usize,
) {
    for _ in 0..blocks {
        let Some(Connection { peer, .. }) = connections.get(key) else { return };
        if peer.source.requests.in_flight() >= blocks
            || peer.source.requests.is_snubbed()
            || !peer.source.may_be_asked()
        {
            return;
        }
        if !t.picker.is_endgame(&t.pieces) {
            return;
        }
        let input = peer.source.pick_input(false);
        let source = &peer.source;
        let others =
            t.peers.iter().filter(|p| **p != key).filter_map(|p| connections.get(*p)).map(|c| &c.peer);
        let latest = others
            .filter_map(|slow| {
                late_block(turn.now, t, source, &input, &slow.source, slow.is_held_back(), holders)
            })
            .max_by_key(|late| late.wait);
        let Some(LateBlock { block, cancel_at, .. }) = latest else {
            // No block is late yet. A block becomes late by the passing of time alone, so a timer looks
            // again.
            return turn.timers.arm(Timer::Endgame(t.key), turn.now + limits::ENDGAME_INTERVAL);
        };
        if let Some(c) =
            cancel_at.and_then(|p| connections.get_mut(p)).filter(|c| c.peer.source.requests.owes(block))
        {
            c.peer.source.requests.give_up(block);
            t.pieces.cancel_request(block);
            c.peer.send(&Message::Cancel(block.into()), turn.out);
        }
        if let Some(c) = connections.get_mut(key) {
            t.pieces.ask_again(block);
            c.peer.source.requests.asked(turn.now, block);
            c.peer.send(&Message::Request(block.into()), turn.out);
            turn.timers.arm(Timer::Peer(key), c.peer.next_deadline());
        }
    }
}

/// Returns the first block from the end of the `slow` source's queue that `source` would deliver sooner and
/// may be requested from `source`. `is_held_back` says that our limit or our disk keeps us from reading the
/// slow source.
fn late_block(
    now: Instant,
    t: &Torrent,
    source: &Source,
    input: &PickInput<'_>,
    slow: &Source,
    is_held_back: bool,
    holders: u16,
) -> Option<LateBlock> {
    let soon = source.requests.response();
    let is_late = |(block, wait): &(BlockSpan, Duration)| match t.pieces.writer(*block) {
        None => *wait > soon,
        // A block that is arriving would be received twice for a while: take it over for a large gain only.
        Some(writer) => {
            let is_slow = writer == slow.key && !is_held_back && *wait > soon * limits::TAKE_OVER_FACTOR;
            is_slow && t.pieces.can_steal_lease(*block)
        }
    };
    // A silent peer does not count as a holder; otherwise three of them would keep a block from every other
    // peer.
    let silent = slow.requests.is_silent(now);
    let fits = |block: &BlockSpan| {
        let holders = holders + u16::from(silent && slow.requests.owes(*block));
        source.requests.lookup(*block) == RequestState::Unrequested
            && t.picker.may_ask_again(&t.pieces, input, *block, holders)
    };
    let in_flight = slow.requests.expected(now, slow.down.per_second(now));
    let (block, wait) =
        slow.being_sent(now).into_iter().chain(in_flight).filter(is_late).find(|(block, _)| fits(block))?;
    let cancel = silent || slow.requests.is_far_behind(block);
    Some(LateBlock { block, wait, cancel_at: cancel.then_some(slow.key) })
}

/// Moves the lease of a block from a much slower peer that is sending it to this peer, which begins to send
/// it now. The slow peer's remaining bytes of the block are skipped.
pub(super) fn take_over_block(
    now: Instant,
    t: &mut Torrent,
    connections: &mut Connections,
    key: PeerKey,
    block: BlockSpan,
) {
    let Some(Connection { peer, .. }) = connections.get(key).filter(|c| c.peer.source.requests.owes(block))
    else {
        return;
    };
    let soon = peer.source.requests.response();
    let Some(slow) = t.pieces.writer(block).filter(|w| *w != key) else { return };
    let Some(Connection { decoder, peer, .. }) = connections.get_mut(slow) else { return };
    let Some((_, wait)) = peer.source.being_sent(now) else { return };
    let Reading::Block { rest, .. } = peer.source.reading else { return };
    if decoder.buffered().is_empty()
        && !peer.is_held_back()
        && wait > soon
        && t.pieces.steal_lease(block, slow)
    {
        peer.source.reading = Reading::Unwanted { owed: Some(block) };
        t.wasted += u64::from(block.len() - rest.len());
    }
}

/// The endgame of the original BitTorrent client, for comparison.
#[cfg(feature = "sim")]
mod unbounded {
    use super::*;
    use crate::engine::effects::Effect;
    use crate::engine::peer::Peer;

    pub fn help(
        turn: &mut Turn<'_>,
        t: &mut Torrent,
        connections: &mut Connections,
        key: PeerKey,
        requested: bool,
    ) {
        if requested {
            // Endgame began with this peer's last request: fill the other peers' queues again, too.
            turn.effects.push_once(Effect::TopUp { torrent: t.key });
        } else if let Some(Connection { peer, .. }) = connections.get_mut(key) {
            request_everything(turn, t, peer);
        }
    }

    /// Requests every block that no peer is sending yet, as many as the peer's queue has room for.
    fn request_everything(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer) {
        let room = peer.source.requests.room() as usize;
        if room == 0 || !peer.source.may_be_asked() {
            return;
        }
        let input = peer.source.pick_input(false);
        let holders = Endgame::Unbounded.holders();
        let requests = &peer.source.requests;
        let fits = |block: &BlockSpan| {
            t.pieces.writer(*block).is_none()
                && t.picker.may_ask_again(&t.pieces, &input, *block, holders)
                && !requests.owes(*block)
        };
        let mut blocks: Vec<BlockSpan> =
            t.pieces.open().flat_map(|(piece, _)| t.pieces.blocks(piece)).filter(fits).collect();
        // Peers whose requests begin with the same block would send the same blocks.
        turn.rng.shuffle(&mut blocks);
        for block in blocks.into_iter().take(room) {
            t.pieces.ask_again(block);
            peer.request(turn, block);
        }
    }
}
