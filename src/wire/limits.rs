//! Limits on input from files, links and packets, each with its unit and its reason.
//!
//! No number read from input sizes an allocation on this floor. These limits bound what is allocated item by
//! item.

/// Levels of nesting in a .torrent file. A v1 file needs 5; the file tree of a hybrid (BEP 52) needs one more
/// per directory.
pub const METAINFO_DEPTH: usize = 32;

/// Levels of nesting in a tracker reply, an extension message or a DHT packet. Known programs use at most 4.
pub const MESSAGE_DEPTH: usize = 8;

/// Bytes of a .torrent file: 40 MiB for [`METAINFO_PIECES`] hashes, and 24 MiB for names.
pub const METAINFO_BYTES: usize = 64 << 20;

/// Tokens in a .torrent file, twelve for each of [`METAINFO_FILES`] files: a plain entry has eight,
/// `path.utf-8` adds four.
pub const METAINFO_TOKENS: usize = 4_500_000;

/// Pieces of a torrent. 2^21 pieces of 16 MiB make 32 TiB; their hashes take 40 MiB of memory.
pub const METAINFO_PIECES: u32 = 1 << 21;

/// Files of a torrent. An entry takes about 200 bytes of memory, so this many take 75 MB.
pub const METAINFO_FILES: usize = 375_000;

/// Bytes of one path component, the limit of Linux file systems. FAT's limit of 255 UTF-16 units is never
/// stricter.
pub const COMPONENT_BYTES: usize = 255;

/// Bytes of one relative path, separators included. PATH_MAX is 4096, and the rest is left to the download
/// directory.
pub const PATH_BYTES: usize = 3_072;

/// Trackers kept from a torrent or a magnet link; lists of public trackers have about a hundred.
pub const TRACKERS: usize = 128;

/// Refused trackers of one torrent or link that are named.
pub const REFUSED_TRACKERS: usize = 5;

/// Web seeds kept from a torrent or a magnet link.
pub const WEB_SEEDS: usize = 32;

/// Bytes of the URL of a tracker or web seed. Passkeys make URLs long; servers refuse them above 8 KiB.
pub const URL_BYTES: usize = 2_048;

/// Characters kept of a comment or of the name of the program that created the torrent.
pub const COMMENT_CHARS: usize = 1_024;

/// Bytes of a magnet link. Links with fifty trackers have 4 KiB.
pub const MAGNET_BYTES: usize = 64 << 10;

/// Peer addresses (`x.pe`) kept from a magnet link.
pub const MAGNET_PEERS: usize = 64;

/// File ranges (`so`, BEP 53) kept from a magnet link.
pub const MAGNET_RANGES: usize = 1_024;

/// Tokens in a tracker's reply: six for each of 50,000 peers in dictionary form, more than
/// [`TRACKER_REPLY_BYTES`] can hold.
pub const TRACKER_TOKENS: usize = 300_000;

/// Bytes of a tracker's reply after decompression. 3,000 peers in dictionary form need 200 KiB.
pub const TRACKER_REPLY_BYTES: usize = 1 << 20;

/// Peers kept from one list: as many as the engine stores for a torrent.
pub const PEERS: usize = 1_000;

/// Bytes of a `tracker id` that is sent back; a longer one is dropped. Trackers send at most 40.
pub const TRACKER_ID_BYTES: usize = 256;

/// Characters shown of a tracker's failure or warning: three lines of a terminal.
pub const REASON_CHARS: usize = 240;

/// Tokens in an extension handshake; a real one has about 40.
pub const EXTENDED_TOKENS: usize = 1_000;

/// Bytes of an info dictionary that is requested from peers (BEP 9), 30 MiB: libtorrent's limit.
pub const METADATA_BYTES: u32 = 30 << 20;

/// Outstanding requests that a peer's `reqq` may allow; our request queue holds at most 500.
pub const REQQ: u32 = 2_000;

/// Characters kept of a peer's client name.
pub const CLIENT_CHARS: usize = 40;

/// Bytes of a DHT packet. Known programs stay below 1,500; a response with 8 nodes and 100 peers in both
/// families takes 3 KB.
pub const KRPC_BYTES: usize = 4_096;

/// Tokens in a DHT packet: 400 peers in one response, and a hundred for everything else.
pub const KRPC_TOKENS: usize = 500;

/// Bytes of a transaction id that is echoed. Known programs use at most 8; a query with a longer id is not
/// answered.
pub const KRPC_TRANSACTION_BYTES: usize = 20;

/// Bytes of a token that is kept and sent back. Known programs use at most 20; a longer token counts as
/// absent.
pub const KRPC_TOKEN_BYTES: usize = 64;

/// Nodes kept from one list. BEP 5 says 8; some programs send 16 or 20.
pub const KRPC_NODES: usize = 20;

/// Nodes of each address family in the node cache: more than a routing table holds, in less than 10 KB.
pub const NODES_KEPT: usize = 400;

/// DHT nodes kept from a .torrent file.
pub const TORRENT_NODES: usize = 16;

/// Bytes of a host name (RFC 1035).
pub const HOST_BYTES: usize = 253;

/// Peers of each address family kept from one PEX message (BEP 11: 50).
pub const PEX_PEERS: usize = 50;

/// Bytes of an LSD announce: the limit of BEP 14, which keeps it within one packet.
pub const LSD_BYTES: usize = 1_400;

/// Info hashes kept from one LSD announce; 26 fit into the bytes that BEP 14 allows.
pub const LSD_HASHES: usize = 32;

/// Bytes of a selective ack that is written: 256 packets after the first missing one.
pub const UTP_SACK_BYTES: usize = 32;
