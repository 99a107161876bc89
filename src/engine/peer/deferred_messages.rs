//! One peer's messages about pieces that arrived before the metadata.

/// One peer's messages about pieces from the time before the torrent's pieces were known.
#[derive(Debug, Default)]
pub struct DeferredMessages {
    /// The first message about pieces.
    pub has: DeferredHave,
    /// Pieces of `have` messages.
    pub haves: Vec<u32>,
    /// Pieces of `lt_donthave` messages (BEP 54).
    pub lost: Vec<u32>,
    /// Pieces of `allowed fast` messages (BEP 6).
    pub allowed_fast: Vec<u32>,
}

/// A peer's first message about pieces.
#[derive(Debug, Default)]
pub enum DeferredHave {
    /// Neither a bitfield nor a `have all`.
    #[default]
    Unknown,
    /// A `have all` (BEP 6).
    All,
    /// A bitfield, which [`DeferredBitfields`](crate::engine::torrent::DeferredBitfields) stores.
    Bits,
    /// A bitfield that exceeded the limit and was not stored.
    Dropped,
}
