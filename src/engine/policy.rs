//! What the protocol leaves open and we have an opinion on: the choices of [`limits`], as one value that an
//! engine is started with.
//!
//! rill runs [`Policy::default`]. Other values are for experiments of the simulator (feature `sim`), and some
//! of them are bad on purpose: serving no peer, endgame without a bound. None of them weakens data safety:
//! leases, verdicts and the limits of every queue stay as they are.

use super::limits;
use std::time::Duration;

/// The choices of one engine, the same for all its torrents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether blocks that are owed already are asked of others once nothing else is left.
    pub endgame: Endgame,
    /// The silence after which a peer with requests in flight is snubbing us; `None`: never.
    pub snub_after: Option<Duration>,
    /// Which piece begins next. A torrent that is [`sequential`](super::TorrentSpec::sequential) has an order
    /// of its own.
    pub picking: Picking,
    /// Pieces picked at random before [`picking`](Policy::picking) has its way.
    pub random_first: u32,
    /// Whether one upload slot more goes to a random peer, whatever it gives.
    pub optimistic: bool,
    /// Whether, leeching, the peers that send us most get the slots. Without it every peer has a turn, as
    /// when seeding.
    pub tit_for_tat: bool,
    /// Whether we speak the Fast extension (BEP 6).
    pub fast: bool,
    /// Peers that we upload to at once in one torrent, besides the optimistic one. 0: no peer is served in
    /// any way.
    pub upload_slots: usize,
    /// The most slots that unused upload may open. Below [`upload_slots`](Policy::upload_slots) it opens
    /// none.
    pub upload_slots_max: usize,
    /// How many requests are out to one peer.
    pub window: WindowRule,
    /// A peer that can deliver a whole piece in this time gets pieces of its own.
    pub own_piece_within: Duration,
    /// Peers asked of a tracker.
    pub numwant: u32,
}

/// What is done when every wanted block is asked for and some are not here yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endgame {
    /// Nothing: no block is requested from a second peer.
    #[cfg(feature = "sim")]
    Off,
    /// A peer with little left to do takes over what would come last, within bounds.
    Bounded {
        /// Peers that may owe us the same block.
        holders: u8,
        /// Blocks that a peer may owe us and still be asked for another.
        blocks: usize,
    },
    /// Every block that a peer has and that no peer is sending yet is requested from it, in any order, as far
    /// as its queue goes.
    #[cfg(feature = "sim")]
    Unbounded,
}

/// Which of the missing pieces begins next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picking {
    /// The one that the fewest peers have.
    RarestFirst,
    /// Any.
    #[cfg(feature = "sim")]
    Random,
}

/// How many requests are out to one peer: never more than it says it queues, nor than
/// [`limits::CANCELLED_REQUESTS`], and one while it snubs us. A window is filled up once an eighth of it is
/// free, so that requests travel together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowRule {
    /// Slow start, then as many as the peer serves in `time` at its speed.
    Adaptive {
        /// Time that the window covers.
        time: Duration,
        /// The most, in blocks.
        max: u32,
    },
    /// Always this many.
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
    /// Whether any peer is served.
    pub(super) fn serves(&self) -> bool {
        self.upload_slots > 0
    }

    /// Peers that may be served at once at the very most, besides the optimistic one.
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
    /// Peers that may owe us the same block, endgame or not.
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
    /// The most requests out to one peer. A late answer to any of them must still be known for one.
    pub(super) fn most(self) -> u32 {
        let most = match self {
            WindowRule::Adaptive { max, .. } => max,
            #[cfg(feature = "sim")]
            WindowRule::Fixed(size) => size,
        };
        most.min(limits::CANCELLED_REQUESTS as u32)
    }
}
