//! Floor 1: the formats of files and packets, and their validation.
//!
//! Bytes from outside are parsed into types whose values are safe to use: lengths are bounded and paths
//! cannot leave their directory. Piece and block indices stay raw numbers until [`crate::units::Geometry`]
//! checks them. This floor makes no decisions and does no I/O.

// Files and links.
pub mod bencode;
pub mod limits;
mod magnet;
pub mod metainfo;
pub mod percent;
#[cfg(test)]
pub(crate) mod testing;
mod text;
mod url;

pub use magnet::{Magnet, MagnetError};
pub use metainfo::{
    FileAttributes, FileEntry, Files, FilesBuilder, Metainfo, MetainfoError, PieceHashes, for_fat,
};
pub use text::printable;
pub use url::{Scheme, UrlParts, host_and_port, tracker_url, url_parts, web_seed_url};

#[doc(hidden)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a fuzz target reports a violation by panicking"
)]
pub mod fuzz_metainfo;
#[doc(hidden)]
#[expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a fuzz target reports a violation by panicking"
)]
pub mod fuzz_packets;

// Trackers, the DHT and the extension handshake.
mod announce;
pub mod bloom;
pub mod compact;
mod datagram;
mod dont_have;
mod extended_handshake;
pub mod krpc;
pub mod lsd;
mod metadata;
mod node_cache;
mod pex;
mod scrape;
pub mod udp_tracker;

pub use announce::{AnnounceError, AnnounceEvent, AnnounceReply, AnnounceRequest, RetryIn, parse_reply};
pub use datagram::Datagram;
pub use dont_have::{read_dont_have, write_dont_have};
pub use extended_handshake::{ExtendedHandshake, ExtensionIds, HANDSHAKE_ID};
pub use metadata::{METADATA_PIECE_LEN, MetadataMessage};
pub use node_cache::{read_nodes, write_nodes};
pub use pex::{PEX_REACHABLE, PEX_SEED, PexMessage, write_pex};
pub use scrape::{SwarmCounts, parse_counts, scrape_url};

// Between peers.
mod decoder;
mod encoder;
#[doc(hidden)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a fuzz target reports a violation by panicking"
)]
pub mod fuzz_peer_stream;
mod handshake;
mod message;

pub use decoder::{Decoder, Frame, ReadAhead};
pub use encoder::{Encoder, Segment, Sent, WritePlan};
pub use handshake::{HANDSHAKE_LEN, Handshake};
pub use message::{FrameError, MAX_BLOCK_LEN, Message, PIECE_HEADER_LEN, RawSpan};
