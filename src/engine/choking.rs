//! Upload slots: the choker decides every ten seconds which peers are unchoked. Between two rounds a free
//! slot goes to a waiting peer at once.

use super::limits;
use super::peer::{Connection, Connections, Phase};
use super::timers::Timer;
use super::torrent::{Activity, ChokeCandidate, Torrent};
use super::turn::Turn;

/// Runs a choking round of a torrent, and arms the timer of the next one. Releases the buffers of connections
/// that received no byte since the last round.
pub(super) fn choke_round(turn: &mut Turn<'_>, t: &mut Torrent, connections: &mut Connections) {
    let mut candidates = Vec::new();
    let mut unchoked = 0;
    let mut without_request = 0;
    for key in &t.peers {
        if let Some(c) =
            connections.get_mut(*key).filter(|c| turn.now.since(c.peer.source.last_in) >= limits::CHOKE_ROUND)
        {
            c.decoder.release_memory();
            c.peer.wire.encoder.release_memory();
        }
    }
    for peer in &t.peers {
        let Some(Connection { peer, .. }) = connections.get(*peer).filter(|c| c.peer.wire.they_want) else {
            continue;
        };
        if !peer.wire.we_choke {
            unchoked += 1;
            without_request += usize::from(peer.wire.encoder.blocks() == 0);
        }
        candidates.push(ChokeCandidate {
            peer: peer.source.key,
            gives: peer.source.down.per_second(turn.now),
            we_choke: peer.wire.we_choke,
            changed: peer.wire.choke_changed,
            got: peer.wire.sent_since_change,
            since: peer.wire.since,
            snubs: peer.source.requests.is_snubbed(),
        });
    }
    // If most unchoked peers request nothing, upload is unused and the choker may open further slots.
    let unused = unchoked > 0 && without_request * 2 > unchoked;
    let chosen = t.choker.round(turn.now, t.activity() == Activity::Seeding, &candidates, unused, turn.rng);
    for candidate in candidates {
        if let Some(c) = connections.get_mut(candidate.peer) {
            c.peer.set_we_choke(turn.now, !chosen.contains(&candidate.peer), turn.out);
        }
    }
    turn.timers.arm(Timer::ChokeRound(t.key), turn.now + limits::CHOKE_ROUND);
}

/// Gives free upload slots to waiting peers without waiting for the next round.
pub(super) fn fill_slots(turn: &mut Turn<'_>, t: &Torrent, connections: &mut Connections) {
    let takes_slot = |c: &Connection| c.peer.wire.they_want && !c.peer.wire.we_choke;
    let mut free = (t.choker.slots())
        .saturating_sub(t.peers.iter().filter(|p| connections.get(**p).is_some_and(takes_slot)).count());
    for peer in t.peers.clone() {
        let Some(Connection { peer, .. }) = connections.get_mut(peer) else { continue };
        if free > 0 && peer.wire.they_want && peer.wire.we_choke && peer.wire.phase == Phase::Up {
            peer.set_we_choke(turn.now, false, turn.out);
            free -= 1;
        }
    }
}
