//! What is asked of whom: windows are filled, and in endgame the late are helped out.
//!
//! Endgame begins when every wanted block is asked for. A peer with nothing left to do then takes blocks from the end of the
//! longest queue: those that would come last. At most [`ENDGAME_HOLDERS`](limits::ENDGAME_HOLDERS) owe one block, and whoever is second is told to cancel.

use super::action::{Action, Actions};
use super::core::Engine;
use super::limits;
use super::peer::{Asked, Connection, Peer};
use super::timers::{Timer, Timers};
use super::torrent::Torrent;
use crate::units::{BlockSpan, Now, PeerKey, Rng, TorrentKey};
use crate::wire::Message;

impl Engine {
    /// Asks the peer for as many blocks as its window has room for.
    pub(super) fn top_up(&mut self, now: Now, key: PeerKey, out: &mut Actions) {
        let Some(Connection { peer, .. }) = self.connections.get_mut(key) else { return };
        let Some(t) = peer.torrent.and_then(|t| self.torrents.get_mut(t)).filter(|t| t.running) else { return };
        request_blocks(now, t, peer, &mut self.rng, &mut self.timers, out);
        self.endgame(now, key, out);
    }

    /// Asks a peer that has nothing left to do for blocks that others owe us but would bring later: those at the end of the
    /// longest queue. Whoever is second is told to cancel, most often before it has begun.
    fn endgame(&mut self, now: Now, key: PeerKey, out: &mut Actions) {
        for _ in 0..limits::ENDGAME_BLOCKS {
            let Some(Connection { peer, .. }) = self.connections.get(key) else { return };
            if peer.window.owed() >= limits::ENDGAME_BLOCKS || peer.window.is_snubbed() || !peer.may_be_asked() {
                return;
            }
            let Some(t) = peer.torrent.and_then(|t| self.torrents.get(t)).filter(|t| t.running && t.picker.is_endgame(&t.pieces))
            else {
                return;
            };
            let asker = peer.as_asker(false);
            let soon = peer.window.response();
            let others = t.peers.iter().filter(|p| **p != key).filter_map(|p| self.connections.get(*p)).map(|c| &c.peer);
            let latest = others
                .filter_map(|p| {
                    let blocks = p.window.expected(now, p.down.per_second(now));
                    let fits =
                        |b: &BlockSpan| peer.window.lookup(*b) == Asked::No && t.picker.may_ask_again(&t.pieces, &asker, *b);
                    blocks.take_while(|(_, wait)| *wait > soon).find(|(b, _)| fits(b))
                })
                .max_by_key(|(_, wait)| *wait);
            let torrent = t.key;
            let Some((block, _)) = latest else {
                // Nobody is late yet. Somebody may become so, and no message will say it.
                return self.timers.arm(Timer::Endgame(torrent), now + limits::ENDGAME_LOOK);
            };
            if let (Some(t), Some(c)) = (self.torrents.get_mut(torrent), self.connections.get_mut(key)) {
                t.pieces.ask_again(block);
                c.peer.window.asked(now, block);
                c.peer.say(&Message::Request(block.into()), out);
                self.timers.arm(Timer::Peer(key), c.peer.next_deadline());
            }
        }
    }

    /// Asks every peer of the torrent: blocks have become free.
    pub(super) fn top_up_all(&mut self, now: Now, torrent: TorrentKey, out: &mut Actions) {
        let Some(t) = self.torrents.get(torrent).filter(|t| t.running) else { return };
        for key in t.peers.clone() {
            self.top_up(now, key, out);
        }
    }
}

/// Fills a peer's window with requests.
fn request_blocks(now: Now, t: &mut Torrent, peer: &mut Peer, rng: &mut Rng, timers: &mut Timers, out: &mut Actions) {
    if !peer.may_be_asked() {
        return;
    }
    let room = peer.window.room();
    let nothing_owed = peer.window.owed() == 0;
    let small_pieces = (limits::OPEN_BYTES / t.pieces.geometry().nominal_piece_len()) as usize;
    let open_limit = t.peers.len() * 2 + limits::OPEN_PIECES_SPARE + small_pieces;
    let rate = peer.down.per_second(now);
    let is_fast = rate.saturating_mul(limits::OWN_PIECE_WITHIN.as_secs()) >= u64::from(t.pieces.geometry().nominal_piece_len());
    for _ in 0..room {
        let Some(pick) = t.picker.pick(&mut t.pieces, &peer.as_asker(is_fast), open_limit, rng) else { break };
        if pick.begun {
            let piece = pick.block.piece();
            out.push(Action::Prepare { torrent: t.key, piece });
            if t.blame.is_suspect(piece) {
                if let Some(open) = t.pieces.get_mut(piece) {
                    open.reserved = Some(peer.key);
                }
            }
        }
        peer.window.asked(now, pick.block);
        peer.say(&Message::Request(pick.block.into()), out);
    }
    if nothing_owed && peer.window.owed() > 0 {
        timers.arm(Timer::Peer(peer.key), peer.next_deadline());
    }
}
