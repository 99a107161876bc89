//! Floor 0: the basic types of every other floor: time, indices, spans, keys, digests, random numbers.
//!
//! The code does no I/O and has no policy. A raw number from the wire becomes an index only through
//! [`Geometry`]; the caller provides each [`Instant`].

// Every floor builds on this one: code that could panic is denied, and each exception states why it cannot.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod bitfield;
mod crc32c;
mod digest;
mod geometry;
mod index;
mod keys;
mod node_id;
mod origin;
mod rate;
mod rng;
mod time;
mod transport;

pub use bitfield::{Bitfield, BitfieldError};
pub use crc32c::crc32c;
pub use digest::{InfoHash, InfoHashV2, NodeId, PeerId, PieceHash, TorrentHashes};
pub use geometry::{BLOCK_LEN, Geometry, GeometryError, MAX_PIECE_LEN, SpanError};
pub use index::{BlockSpan, PieceIndex};
pub use keys::{PeerKey, SlotMap, TorrentKey, UtpKey};
pub use node_id::Distance;
pub use origin::Origin;
pub use rate::{Rate, bytes_within};
pub use rng::Rng;
pub use time::Instant;
pub use transport::{TransportKind, Transports};
