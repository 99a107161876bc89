//! A download without a network, for the benches of the picker.
//!
//! Not part of the public API; it may change without notice.

use super::policy::Policy;
use super::torrent::{PickInput, Picker, Pieces};
use crate::units::{BLOCK_LEN, Bitfield, Geometry, PeerKey, PieceIndex, Rng, SlotMap};
use std::net::{IpAddr, Ipv4Addr};

/// A torrent whose pieces have 16 blocks, and peers that each have about half of its pieces.
#[derive(Debug)]
pub struct Download {
    pieces: Pieces,
    picker: Picker,
    peers: Vec<(PeerKey, Bitfield, Option<PieceIndex>)>,
    rng: Rng,
}

impl Download {
    /// Returns a download without verified pieces.
    pub fn new(pieces: u32, peers: usize) -> Download {
        let piece_len = 16 * u64::from(BLOCK_LEN);
        let g = Geometry::new(u64::from(pieces) * piece_len, piece_len).expect("a geometry");
        let mut rng = Rng::new(1);
        let pieces = Pieces::new(g, Bitfield::empty(g.pieces()), Bitfield::full(g.pieces()));
        let mut picker = Picker::new(&pieces, false, &Policy::default(), &mut rng);
        let mut keys: SlotMap<PeerKey, ()> = SlotMap::default();
        let peers = (0..peers).map(|_| {
            let mut has = Bitfield::empty(g.pieces());
            for p in g.all_pieces().filter(|_| rng.below(2) == 0) {
                has.set(p);
            }
            picker.availability.join(&has);
            (keys.insert(()), has, None)
        });
        let peers = peers.collect();
        Download { pieces, picker, peers, rng }
    }

    /// Downloads the torrent: each peer in turn requests one block and delivers it at once. Returns the
    /// number of picks.
    pub fn run(&mut self) -> u32 {
        let mut picks = 0;
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let open_limit = 2 * self.peers.len() + 8;
        loop {
            let before = picks;
            for (peer, has, at) in &mut self.peers {
                let input =
                    PickInput { peer: *peer, has, only: None, suggested: &[], at: *at, is_fast: false };
                let Some(pick) = self.picker.pick(&mut self.pieces, &input, open_limit, &mut self.rng) else {
                    continue;
                };
                picks += 1;
                let piece = pick.block.piece();
                *at = Some(piece);
                self.pieces.prepared(piece);
                self.pieces.lease(pick.block, *peer);
                if self.pieces.arrived(pick.block, *peer, from, true).piece_full {
                    self.pieces.verified(piece);
                }
            }
            if picks == before {
                return picks;
            }
        }
    }

    /// Counts one HAVE of every peer for a piece.
    pub fn haves(&mut self, piece: u32) {
        if let Some(piece) = self.pieces.geometry().piece(piece) {
            for _ in &self.peers {
                self.picker.availability.add(piece);
            }
        }
    }
}
