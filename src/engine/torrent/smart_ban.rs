//! Smart ban: finds the sender of bad data. A single sender of a failed piece is known at once, one of
//! several when the piece is verified later.
//!
//! When a piece with several senders fails, eight bytes of each block's SHA-1 are kept with its sender, and
//! the piece is then requested from a single peer. Once it is verified, the senders of differing blocks are
//! banned. At most
//! [`SUSPECT_PIECES`](limits::SUSPECT_PIECES) failed pieces are remembered. Failures of our own disk are no evidence and
//! never reach this file.

use super::pieces::OpenPiece;
use crate::engine::limits;
use crate::units::PieceIndex;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Debug)]
struct Evidence {
    blocks: Vec<(IpAddr, u64)>,
}

/// The failed pieces of one torrent.
#[derive(Debug, Default)]
pub struct SmartBan {
    failed: BTreeMap<PieceIndex, Vec<Evidence>>,
}

/// The most failures of one piece that are remembered.
const FAILURES_PER_PIECE: usize = 4;

impl SmartBan {
    /// Returns whether this piece failed before: the digests of its blocks are then needed when it is hashed.
    pub fn is_suspect(&self, piece: PieceIndex) -> bool {
        self.failed.contains_key(&piece)
    }

    /// Notes a failed piece; returns its sender if there is only one.
    pub fn failed(&mut self, piece: PieceIndex, open: &OpenPiece, digests: &[u64]) -> Option<IpAddr> {
        if let [only] = open.senders() {
            return Some(*only);
        }
        let room = self.failed.len() < limits::SUSPECT_PIECES || self.failed.contains_key(&piece);
        if room {
            let evidence = self.failed.entry(piece).or_default();
            if evidence.len() < FAILURES_PER_PIECE {
                evidence
                    .push(Evidence { blocks: open.sender_of_each().zip(digests.iter().copied()).collect() });
            }
        }
        None
    }

    /// Handles a verified piece; returns the senders of blocks that differed in earlier failures.
    pub fn verified(&mut self, piece: PieceIndex, digests: Option<&[u64]>) -> Vec<IpAddr> {
        let mut liars = Vec::new();
        let (Some(failures), Some(digests)) = (self.failed.remove(&piece), digests) else { return liars };
        for (i, good) in digests.iter().enumerate() {
            for (sender, digest) in failures.iter().filter_map(|e| e.blocks.get(i)) {
                if digest != good && !liars.contains(sender) {
                    liars.push(*sender);
                }
            }
        }
        liars
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::torrent::pieces::Pieces;
    use crate::units::{Bitfield, Geometry, PeerKey, SlotMap};

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    /// Returns a complete piece of four blocks from these senders.
    fn full_piece(senders: [u8; 4]) -> (PieceIndex, OpenPiece) {
        let g = Geometry::new(65536, 65536).unwrap();
        let mut t: SlotMap<PeerKey, ()> = SlotMap::default();
        let peer = t.insert(());
        let piece = g.piece(0).unwrap();
        let mut p = Pieces::new(g, Bitfield::empty(1), Bitfield::full(1));
        p.begin(piece);
        p.prepared(piece);
        for s in senders {
            let block = p.ask_free(piece).unwrap();
            p.lease(block, peer);
            p.arrived(block, peer, ip(s), true);
        }
        (piece, p.spoiled(piece).unwrap())
    }

    #[test]
    fn a_single_sender_is_returned_at_once() {
        let (piece, open) = full_piece([7; 4]);
        assert_eq!(SmartBan::default().failed(piece, &open, &[1, 2, 3, 4]), Some(ip(7)));
    }

    #[test]
    fn the_sender_of_a_differing_block_is_returned_when_the_piece_is_verified() {
        let mut b = SmartBan::default();
        let (piece, open) = full_piece([1, 2, 3, 2]);
        assert_eq!(b.failed(piece, &open, &[10, 99, 30, 40]), None);
        assert!(b.is_suspect(piece));
        assert_eq!(b.verified(piece, Some(&[10, 20, 30, 40])), [ip(2)]);
        assert!(!b.is_suspect(piece));
    }

    #[test]
    fn no_sender_is_returned_without_evidence() {
        let mut b = SmartBan::default();
        let (piece, open) = full_piece([1, 2, 3, 4]);
        assert!(b.verified(piece, Some(&[1])).is_empty());
        b.failed(piece, &open, &[1, 2, 3, 4]);
        assert!(b.verified(piece, None).is_empty());
    }
}
