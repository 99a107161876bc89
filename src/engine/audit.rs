//! Invariants of an engine between any two calls: the oracle of its fuzz target, of its tests and of the
//! simulator.

use super::peer::{Phase, Reading};
use super::{Engine, limits};
use crate::units::{BlockSpan, PeerKey};

impl Engine {
    /// Recomputes every counter.
    ///
    /// # Panics
    /// If a counter is wrong or a queue is longer than its limit.
    #[doc(hidden)]
    pub fn audit(&self) {
        let policy = &self.context.config.policy;
        assert!(self.context.effects.is_empty(), "effects are left unapplied");
        assert!(self.swarms.connections.len() <= self.context.config.max_peers);
        let connecting =
            self.swarms.connections.iter().filter(|(_, c)| c.peer.wire.phase == Phase::Connecting).count();
        assert_eq!(connecting, self.swarms.half_open);
        for (_, c) in self.swarms.connections.iter() {
            let p = &c.peer;
            assert!(
                p.source.requests.in_flight() <= policy.window.most() as usize
                    && p.source.requests.cancelled() <= limits::CANCELLED_REQUESTS
            );
            assert!(
                policy.fast || !p.wire.fast,
                "a connection uses the Fast extension although the policy disables it"
            );
            assert!(
                policy.snub_after.is_some() || !p.source.requests.is_snubbed(),
                "a peer is snubbed although the policy disables snubbing"
            );
            assert!(
                p.wire.encoder.blocks() <= limits::REQQ_OURS_BLOCKS
                    && p.source.suggested.len() <= limits::SUGGESTED_PIECES
            );
            assert!(
                p.source.fast_to_us.len() <= limits::ALLOWED_FAST_REMEMBERED
                    && p.wire.fast_to_them.len() <= limits::ALLOWED_FAST_PIECES
            );
            assert!(p.wire.encoder.control_bytes() <= 2 * limits::ENCODER_CONTROL_BYTES);
        }
        for (key, t) in self.swarms.torrents.iter() {
            let is_of_torrent = |p: &PeerKey| {
                self.swarms.connections.get(*p).is_some_and(|c| c.peer.source.torrent == Some(key))
            };
            assert!(
                t.peers.iter().all(is_of_torrent)
                    && t.peers.len() <= self.context.config.max_peers_per_torrent
            );
            assert!(t.peer_list.len() <= limits::KNOWN_ADDRESSES);
            assert!(
                t.deferred_bitfields.bytes() <= if t.open { 0 } else { limits::DEFERRED_BITFIELDS_BYTES }
            );
            let up: Vec<_> =
                t.peers.iter().filter_map(|p| self.swarms.connections.get(*p)).map(|c| &c.peer).collect();
            let up: Vec<_> = up.into_iter().filter(|p| p.wire.phase == Phase::Up).collect();
            let receives =
                |r: &Reading, b: BlockSpan| matches!(r, Reading::Block { block, .. } if *block == b);
            let unchoked = up.iter().filter(|p| !p.wire.we_choke).count();
            assert!(
                unchoked <= policy.most_slots() + usize::from(policy.optimistic && policy.serves()),
                "{unchoked} peers are unchoked"
            );
            assert!(
                policy.serves()
                    || up.iter().all(|p| p.wire.fast_to_them.is_empty() && p.wire.encoder.blocks() == 0)
            );
            t.pieces.audit(
                policy.endgame.holders(),
                |b| up.iter().filter(|p| p.source.requests.owes(b)).count(),
                |b| up.iter().filter(|p| receives(&p.source.reading, b)).map(|p| p.source.key).collect(),
            );
            for piece in t.pieces.geometry().all_pieces() {
                let holders = up.iter().filter(|p| p.source.has.has(piece)).count();
                assert_eq!(t.picker.availability.count(piece) as usize, holders, "holders of piece {piece}");
                let candidate = t.pieces.is_missing(piece) && t.pieces.get(piece).is_none();
                assert_eq!(
                    t.picker.availability.is_candidate(piece),
                    candidate,
                    "whether piece {piece} is a candidate of the picker"
                );
            }
            for p in up {
                assert_eq!(
                    p.source.wanted_pieces,
                    t.wanted_pieces(&p.source.has),
                    "wanted pieces of {:?}",
                    p.source.key
                );
                assert!(p.source.we_want == (p.source.wanted_pieces > 0));
            }
        }
    }
}
