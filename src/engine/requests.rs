//! The request pipeline: fills each peer's request queue with blocks. [`endgame`] follows for peers whose
//! queue stays almost empty.

use super::action::Action;
use super::endgame;
use super::limits;
use super::peer::{Connection, Connections, Peer};
use super::torrent::Torrent;
use super::turn::Turn;
use crate::units::{PeerKey, bytes_within};

/// Requests as many blocks from the peer as its queue has room for.
pub(super) fn top_up(turn: &mut Turn<'_>, t: &mut Torrent, connections: &mut Connections, key: PeerKey) {
    if !t.running {
        return;
    }
    let Some(Connection { peer, .. }) = connections.get_mut(key) else { return };
    let requested = fill_queue(turn, t, peer);
    endgame::help(turn, t, connections, key, requested);
}

/// Fills the request queue of every peer of the torrent: blocks may have become free.
pub(super) fn top_up_all(turn: &mut Turn<'_>, t: &mut Torrent, connections: &mut Connections) {
    for key in t.peers.clone() {
        top_up(turn, t, connections, key);
    }
}

/// Requests the blocks that the picker chooses for a peer until its queue is full. Returns whether a block
/// was requested.
fn fill_queue(turn: &mut Turn<'_>, t: &mut Torrent, peer: &mut Peer) -> bool {
    let room = peer.source.requests.room();
    if room == 0 || !peer.source.may_be_asked() {
        return false;
    }
    let piece_len = t.pieces.geometry().nominal_piece_len();
    let partial_limit = t.peers.len() * 2 + limits::PARTIAL_PIECES_SPARE;
    let rate = peer.source.down.per_second(turn.now);
    let is_fast = bytes_within(rate, turn.config.policy.own_piece_within) >= u64::from(piece_len);
    let mut requested = false;
    for _ in 0..room {
        let Some(pick) =
            t.picker.pick(&mut t.pieces, &peer.source.pick_input(is_fast), partial_limit, turn.rng)
        else {
            break;
        };
        if pick.begun {
            let piece = pick.block.piece();
            turn.out.push(Action::Prepare { torrent: t.key, piece });
            if t.smart_ban.is_suspect(piece) && !peer.source.requests.is_snubbed() {
                if let Some(open) = t.pieces.get_mut(piece) {
                    open.reserved = Some(peer.source.key);
                }
            }
        }
        peer.request(turn, pick.block);
        requested = true;
    }
    requested
}
