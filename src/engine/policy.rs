//! The choices that the protocol leaves open, in one value for the start of an engine. The defaults are in
//! [`limits`].
//!
//! rill runs [`Policy::default`]. Other values are for experiments of the simulator (feature `sim`), and some
//! of them are bad on purpose: no upload, endgame without a bound. None of them weakens data safety: leases,
//! hash checks and the limits of every queue do not depend on the policy.

use super::limits;
use std::time::Duration;

/// The choices of one engine, the same for all its torrents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether and how blocks are requested from a second peer once every wanted block is requested.
    pub endgame: Endgame,
    /// Time without a block after which a peer with requests in flight counts as snubbing us; `None` disables
    /// snubbing.
    pub snub_after: Option<Duration>,
    /// Order in which pieces begin. A [`sequential`](super::TorrentSpec::sequential) torrent ignores it.
    pub picking: Picking,
    /// Number of pieces picked at random before [`picking`](Policy::picking) applies.
    pub random_first: u32,
    /// Whether one further upload slot goes to a random peer, regardless of its upload rate (optimistic
    /// unchoke).
    pub optimistic: bool,
    /// Whether a leeching torrent gives its slots to the peers that send us most. Otherwise peers take turns,
    /// as they do when the torrent seeds.
    pub tit_for_tat: bool,
    /// Whether we support the Fast extension (BEP 6).
    pub fast: bool,
    /// Peers that we upload to at once in one torrent, besides the optimistic one. 0 disables uploads
    /// altogether.
    pub upload_slots: usize,
    /// Upper bound of the upload slots when further slots open for unused upload. A value below
    /// [`upload_slots`](Policy::upload_slots) opens none.
    pub upload_slots_max: usize,
    /// Rule for the number of requests in flight to one peer.
    pub window: WindowRule,
    /// A peer that can deliver a whole piece within this time gets pieces of its own.
    pub own_piece_within: Duration,
    /// Number of peers requested from a tracker (`numwant`).
    pub numwant: u32,
}

/// How blocks are requested once every wanted block is requested and some are outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endgame {
    /// No block is requested from a second peer.
    #[cfg(feature = "sim")]
    Off,
    /// A peer with an almost empty queue takes over blocks that would arrive last, within bounds.
    Bounded {
        /// Most peers that have the same block requested.
        holders: u8,
        /// Requests in flight below which a peer takes over another block.
        blocks: usize,
    },
    /// Every peer is sent requests in random order for all its blocks that no peer is sending yet, as many as
    /// its queue has room for.
    #[cfg(feature = "sim")]
    Unbounded,
}

/// Order in which missing pieces begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picking {
    /// The piece that the fewest peers have comes first.
    RarestFirst,
    /// Random order.
    #[cfg(feature = "sim")]
    Random,
}

/// The number of requests in flight to one peer (the window): never more than the peer's `reqq` (BEP 10), nor
/// than
/// [`limits::CANCELLED_REQUESTS`], and one while the peer snubs us. A window is filled once an eighth of it is
/// free, so that several requests share a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowRule {
    /// Slow start, then the number of blocks that the peer sends in `time` at its current rate.
    Adaptive {
        /// Time that the window covers.
        time: Duration,
        /// Upper bound in blocks.
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
    /// Returns whether we upload at all.
    pub(super) fn serves(&self) -> bool {
        self.upload_slots > 0
    }

    /// Returns the upper bound of peers that are unchoked at once, besides the optimistic one.
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
    /// Returns the most peers that may have the same block requested, in endgame or not.
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
    /// Returns the upper bound of requests in flight to one peer. All of them fit into the list of cancelled
    /// requests, so that a late block is still recognized as requested.
    pub(super) fn most(self) -> u32 {
        let most = match self {
            WindowRule::Adaptive { max, .. } => max,
            #[cfg(feature = "sim")]
            WindowRule::Fixed(size) => size,
        };
        most.min(limits::CANCELLED_REQUESTS as u32)
    }
}
