//! Settings of a torrent that may change while it runs: wanted pieces and their priorities, piece order, rate
//! limits.

use super::bandwidth::TokenBucket;
use super::effects::Effect;
use super::peer::Phase;
use super::swarms::Swarms;
use super::timers::Timer;
use super::torrent::{Picker, PiecePriority};
use super::turn::Turn;
use crate::units::{Bitfield, TorrentKey};

impl Swarms {
    /// Sets which pieces are wanted, and their priorities: one entry for each piece, or `None` if all are
    /// normal. A partial piece stays wanted until it is verified. Returns whether the change completed the
    /// torrent: every wanted piece is verified now and one was missing before. Ignored before the torrent's
    /// pieces are known.
    pub(super) fn set_wanted(
        &mut self,
        turn: &mut Turn<'_>,
        key: TorrentKey,
        wanted: Bitfield,
        priorities: Option<Box<[PiecePriority]>>,
    ) -> bool {
        let Some(t) = self.torrents.get_mut(key).filter(|t| t.open) else { return false };
        let was_incomplete = t.pieces.missing() > 0;
        t.pieces.set_wanted(wanted);
        let sequential = t.picker.is_sequential();
        t.picker = Picker::new(&t.pieces, sequential, &turn.config.policy, turn.rng);
        t.picker.set_priorities(priorities);
        for peer in t.peers.clone() {
            let Some(c) = self.connections.get_mut(peer).filter(|c| c.peer.wire.phase == Phase::Up) else {
                continue;
            };
            let peer = &mut c.peer;
            t.picker.availability.join(&peer.source.has);
            peer.wire.joined_as_seed = peer.source.has.is_full();
            peer.source.wanted_pieces = t.wanted_pieces(&peer.source.has);
            peer.set_we_want(turn.now, peer.source.wanted_pieces > 0, turn.out);
        }
        turn.effects.push_once(Effect::TopUp { torrent: key });
        turn.timers.arm(Timer::Dial, turn.now);
        was_incomplete && t.pieces.missing() == 0
    }

    /// Sets whether pieces are requested in order rather than rarest first.
    pub(super) fn set_sequential(&mut self, key: TorrentKey, sequential: bool) {
        if let Some(t) = self.torrents.get_mut(key) {
            t.picker.set_sequential(sequential);
        }
    }

    /// Sets a torrent's own limits, in bytes a second; `None` is unlimited.
    pub(super) fn set_torrent_limits(
        &mut self,
        turn: &mut Turn<'_>,
        key: TorrentKey,
        down: Option<u64>,
        up: Option<u64>,
    ) {
        let Some(t) = self.torrents.get_mut(key) else { return };
        t.down = TokenBucket::new(down);
        t.up = TokenBucket::new(up);
        self.refill(turn);
    }
}
