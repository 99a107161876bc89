//! The audit of the pieces: their counters agree with the peers' request queues. For tests and fuzzing.

use super::{BlockContent, Pieces, Stage};
use crate::units::{BlockSpan, PeerKey};

impl Pieces {
    /// Panics if a counter is wrong. `holders` is the most peers that may have one block in flight, `owed_by`
    /// counts those that have, and `received_by` returns those that are sending it.
    pub fn audit(
        &self,
        holders: u16,
        owed_by: impl Fn(BlockSpan) -> usize,
        received_by: impl Fn(BlockSpan) -> Vec<PeerKey>,
    ) {
        let missing = self.wanted.iter().filter(|p| !self.have.has(*p)).count();
        assert_eq!(missing, self.missing as usize, "missing pieces");
        assert!(
            self.partial.iter().all(|p| self.open.contains_key(p)),
            "a piece with free blocks is not open"
        );
        for (&piece, o) in &self.open {
            assert!(!self.have.has(piece), "piece {piece} is verified and open");
            let mut free = 0;
            let mut arrived = 0;
            let mut owed = 0;
            for (i, b) in o.blocks.iter().enumerate() {
                let block = self.geometry.block(piece, i as u32);
                assert_eq!(usize::from(b.asked), owed_by(block), "peers with {block} in flight");
                assert!(b.asked <= holders, "{} peers have {block} in flight", b.asked);
                let writers = received_by(block);
                match b.content {
                    BlockContent::Receiving(peer) => assert_eq!(writers, [peer], "the writer of {block}"),
                    _ => assert!(writers.is_empty(), "{block} has a writer without a lease"),
                }
                assert!(
                    o.stage != Stage::Hashing || b.content == BlockContent::Arrived,
                    "{block} is hashed and has not arrived"
                );
                let is_free = b.content == BlockContent::Missing && b.asked == 0;
                assert!(!is_free || i as u32 >= o.first_free, "{block} is free before the first free one");
                free += u32::from(is_free);
                arrived += u32::from(b.content == BlockContent::Arrived);
                owed += u32::from(b.asked);
            }
            assert_eq!((free, arrived, owed), (o.free, o.arrived, o.owed), "blocks of piece {piece}");
            assert_eq!(free > 0, self.partial.contains(&piece), "piece {piece} among those with free blocks");
            assert_eq!(
                arrived as usize == o.blocks.len(),
                o.stage == Stage::Hashing,
                "the stage of piece {piece}"
            );
        }
    }
}
