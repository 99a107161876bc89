//! Floor 1: the formats of files and packets, and their validation.
//!
//! Bytes from outside are parsed into types whose values are safe to use: lengths are bounded and paths
//! cannot leave their directory. Piece and block indices stay raw numbers until [`crate::units::Geometry`]
//! checks them. This floor makes no decisions and does no I/O.
//!
//! Public API: [`Metainfo`], [`Magnet`] and [`metainfo`]. The rest is private to the crate, and public with
//! the feature `internals`.

// Bytes from outside: code that could panic is denied, and each exception states why it cannot.
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

mod announce;
pub(crate) mod bencode;
pub(crate) mod bloom;
pub(crate) mod compact;
mod datagram;
mod decoder;
mod diffie_hellman;
mod dont_have;
mod encoder;
mod extended_handshake;
mod handshake;
mod holepunch;
#[cfg(not(feature = "internals"))]
pub(crate) mod krpc;
#[cfg(feature = "internals")]
pub mod krpc;
pub(crate) mod limits;
pub(crate) mod lsd;
mod magnet;
mod message;
mod metadata;
pub mod metainfo;
#[cfg(not(feature = "internals"))]
pub(crate) mod mse;
#[cfg(feature = "internals")]
pub mod mse;
mod node_cache;
pub(crate) mod percent;
mod pex;
pub(crate) mod port_mapping;
mod rc4;
mod scrape;
pub(crate) mod soap;
pub(crate) mod socks5;
pub(crate) mod ssdp;
#[cfg(test)]
pub(crate) mod testing;
mod text;
pub(crate) mod udp_tracker;
mod url;
mod utp;

pub use magnet::{Magnet, MagnetError};
pub use metainfo::{FileAttributes, FileEntry, Files, Metainfo, MetainfoError, PieceHashes};
pub use scrape::SwarmCounts;
pub use url::{RefusedTracker, RefusedTrackers, UrlError};

#[cfg(not(feature = "internals"))]
pub(crate) use internals::*;
#[cfg(feature = "internals")]
pub use internals::*;

mod internals {
    // Files and links.
    pub use super::bencode::is_whole_bencode;
    #[cfg(test)]
    pub use super::metainfo::FilesBuilder;
    pub use super::metainfo::{for_fat, is_plain_name, part_name};
    pub use super::text::printable;
    pub use super::url::host_and_port;
    pub use super::url::{
        Scheme, UrlParts, resolve_reference, same_origin, tracker_url, url_parts, without_user_info,
    };
    #[cfg(feature = "cli")]
    pub use super::url::{
        checked_http_url, checked_tracker_url, origin_without_secrets, url_without_secrets, web_seed_url,
    };
    // Trackers, the DHT and the extension handshake.
    pub use super::announce::{
        AnnounceError, AnnounceEvent, AnnounceReply, AnnounceRequest, RetryIn, parse_reply,
    };
    pub use super::datagram::Datagram;
    pub use super::dont_have::{read_dont_have, write_dont_have};
    pub use super::extended_handshake::{ExtendedHandshake, ExtensionIds, HANDSHAKE_ID};
    pub use super::holepunch::{HolepunchError, HolepunchKind, HolepunchMessage};
    pub use super::limits::UTP_SACK_BYTES;
    pub use super::metadata::{METADATA_PIECE_LEN, MetadataMessage};
    pub use super::node_cache::{read_nodes, write_nodes};
    pub use super::pex::{
        PEX_ENCRYPTION, PEX_HOLEPUNCH, PEX_REACHABLE, PEX_SEED, PEX_UTP, PexMessage, write_pex,
    };
    pub use super::scrape::{parse_counts, scrape_url};
    pub use super::utp::{UTP_HEADER_LEN, UtpHeader, UtpKind, UtpPacket};
    // Between peers.
    pub use super::decoder::{Decoder, Frame, ReadAhead};
    #[cfg(feature = "internals")]
    pub use super::diffie_hellman::{EXPONENT_LEN, KEY_LEN, public_key, shared_secret};
    pub use super::encoder::{Encoder, Segment, WritePlan};
    pub use super::handshake::{HANDSHAKE_LEN, Handshake};
    pub use super::message::{FrameError, MAX_BLOCK_LEN, Message, RawSpan};
    #[cfg(feature = "internals")]
    pub use super::rc4::Rc4;
}

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a fuzz target reports a violation by panicking"
)]
pub mod fuzz_metainfo;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
#[expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a fuzz target reports a violation by panicking"
)]
pub mod fuzz_mse;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
#[expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a fuzz target reports a violation by panicking"
)]
pub mod fuzz_packets;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a fuzz target reports a violation by panicking"
)]
pub mod fuzz_peer_stream;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a fuzz target reports a violation by panicking"
)]
pub mod fuzz_socks5;
