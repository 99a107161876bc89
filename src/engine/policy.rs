//! The policy of an engine: the choices that the protocol leaves open, as one value.
//!
//! rill runs [`Policy::default`]. Other values are for experiments of the simulator (feature `sim`), and some
//! of them are bad on purpose: serving no peer, endgame without a bound. None of them weakens data safety:
//! leases, verdicts and the limits of every queue stay as they are.

use super::limits;
use std::time::Duration;

/// The choices of one engine, the same for all its torrents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether and how blocks in flight are requested from other peers once every wanted block is requested.
    pub endgame: Endgame,
    /// The time without a block, with requests in flight, after which a peer counts as snubbing us; `None`:
    /// never.
    pub snub_after: Option<Duration>,
    /// The order of new pieces. A [`sequential`](super::TorrentSpec::sequential) torrent ignores it.
    pub picking: Picking,
    /// Pieces picked at random before [`picking`](Policy::picking) applies.
    pub random_first: u32,
    /// Whether there is an optimistic upload slot.
    pub optimistic: bool,
    /// Whether, while leeching, the fastest uploaders get the slots. Without it peers take turns, as while
    /// seeding.
    pub tit_for_tat: bool,
    /// Whether we use the Fast extension (BEP 6).
    pub fast: bool,
    /// Upload slots of one torrent, besides the optimistic one. 0: no peer is served in any way.
    pub upload_slots: usize,
    /// Upper bound of the upload slots when further slots open for unused upload. A value below
    /// [`upload_slots`](Policy::upload_slots) opens none.
    pub upload_slots_max: usize,
    /// The number of requests in flight to one peer.
    pub window: WindowRule,
    /// A peer that can deliver a whole piece within this time gets pieces of its own.
    pub own_piece_within: Duration,
    /// Peers requested from a tracker.
    pub numwant: u32,
}

/// The kind of endgame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endgame {
    /// None: no block is requested from a second peer.
    #[cfg(feature = "sim")]
    Off,
    /// A peer with an almost empty queue takes over the blocks that would arrive last, within bounds.
    Bounded {
        /// Peers that may have the same block in flight.
        holders: u8,
        /// Blocks in flight below which a peer may be given another.
        blocks: usize,
    },
    /// Every block that no peer is sending yet is requested from every peer that has it, in random order, as
    /// far as the request queues allow.
    #[cfg(feature = "sim")]
    Unbounded,
}

/// The order of new pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picking {
    /// The piece that the fewest peers have is first.
    RarestFirst,
    /// Random.
    #[cfg(feature = "sim")]
    Random,
}

/// The number of requests in flight to one peer: never more than its `reqq` or
/// [`limits::CANCELLED_REQUESTS`], and one while it snubs us. A window is filled once an eighth of it is
/// free, so that requests travel together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowRule {
    /// Slow start, then as many as the peer serves in `time` at its rate.
    Adaptive {
        /// The time that the window covers.
        time: Duration,
        /// The most blocks.
        max: u32,
    },
    /// A constant number of blocks.
    #[cfg(feature = "sim")]
    Fixed(u32),
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            endgame: Endgame::Bounded { holders: limits::ENDGAME_HOLDERS, blocks: limits::ENDGAME_BLOCKS },
            snub_after: Some(limits::SNUB_AFTER),
            picking: Picking::RarestFirst,
            random_first: limits::RANDOM_FIRST_PIECES,
            optimistic: true,
            tit_for_tat: true,
            fast: true,
            upload_slots: limits::UPLOAD_SLOTS,
            upload_slots_max: limits::UPLOAD_SLOTS_MAX,
            window: WindowRule::Adaptive { time: limits::WINDOW_TIME, max: limits::WINDOW_MAX_BLOCKS },
            own_piece_within: limits::OWN_PIECE_WITHIN,
            numwant: limits::NUMWANT,
        }
    }
}

impl Policy {
    /// Returns whether any peer is served.
    pub(super) fn serves(&self) -> bool {
        self.upload_slots > 0
    }

    /// Returns the most upload slots, besides the optimistic one.
    pub(super) fn most_slots(&self) -> usize {
        if self.serves() { self.upload_slots.max(self.upload_slots_max) } else { 0 }
    }
}

impl Picking {
    /// Returns whether each piece is picked at random.
    pub(super) fn is_random(self) -> bool {
        match self {
            Picking::RarestFirst => false,
            #[cfg(feature = "sim")]
            Picking::Random => true,
        }
    }
}

impl Endgame {
    /// Returns the most peers that may have the same block in flight.
    #[cfg(feature = "oracle")]
    pub(super) fn holders(self) -> u16 {
        match self {
            #[cfg(feature = "sim")]
            Endgame::Off => 1,
            Endgame::Bounded { holders, .. } => u16::from(holders.max(1)),
            #[cfg(feature = "sim")]
            Endgame::Unbounded => u16::MAX,
        }
    }
}

impl WindowRule {
    /// Returns the most requests in flight to one peer; each must be remembered after it is cancelled.
    pub(super) fn most(self) -> u32 {
        let most = match self {
            WindowRule::Adaptive { max, .. } => max,
            #[cfg(feature = "sim")]
            WindowRule::Fixed(size) => size,
        };
        most.min(limits::CANCELLED_REQUESTS as u32)
    }
}
