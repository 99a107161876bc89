//! Counting everything again: what the pieces remember agrees with what the peers do. For tests and fuzzing.

use super::{BlockContent, Pieces, Stage};
use crate::units::{BlockSpan, PeerKey};

impl Pieces {
    /// Panics unless every count is right. `holders` is the most peers that may owe us one block, `owed_by`
    /// says how many do, `received_by` who is sending it now.
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
            "a piece with free blocks is not on its way"
        );
        for (&piece, o) in &self.open {
            assert!(!self.have.has(piece), "piece {piece} is had and on its way");
            let (mut free, mut arrived, mut owed) = (0, 0, 0);
            for (i, b) in o.blocks.iter().enumerate() {
                let block = self.geometry.block(piece, i as u32);
                assert_eq!(usize::from(b.asked), owed_by(block), "peers that owe {block}");
                assert!(b.asked <= holders, "{} peers owe {block}", b.asked);
                let writers = received_by(block);
                match b.content {
                    BlockContent::Receiving(peer) => assert_eq!(writers, [peer], "the writer of {block}"),
                    _ => assert!(writers.is_empty(), "{block} has a writer without a lease"),
                }
                assert!(
                    o.stage != Stage::Hashing || b.content == BlockContent::Arrived,
                    "{block} is hashed and not here"
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
