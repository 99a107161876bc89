//! How much rill takes from a file, a link or a packet before it says no. Every number has its unit and its reason.
//!
//! Nothing on this floor allocates by a number that it read; these limits bound what is allocated by *counting*.

/// Levels of nesting in a .torrent file. A v1 file needs 5; the file tree of a hybrid needs one more a directory.
pub const METAINFO_DEPTH: usize = 32;

/// Levels of nesting in a tracker reply, an extension message or a DHT packet. The deepest real one has 4.
pub const MESSAGE_DEPTH: usize = 8;

/// Bytes of a .torrent file. [`METAINFO_PIECES`] hashes take 40 MiB, which leaves 24 MiB for names.
pub const METAINFO_BYTES: usize = 64 << 20;

/// Tokens in a .torrent file, twelve for each of [`METAINFO_FILES`] files: a plain entry has eight, a twin path adds four.
pub const METAINFO_TOKENS: usize = 4_500_000;

/// Pieces of a torrent. 2^21 pieces of 16 MiB are 32 TiB; the hashes alone are 40 MiB of memory.
pub const METAINFO_PIECES: u32 = 1 << 21;

/// Files of a torrent. An entry costs about 200 bytes of memory, so this many cost 75 MB.
pub const METAINFO_FILES: usize = 375_000;

/// Bytes of one path component: what Linux file systems take; FAT takes 255 UTF-16 units, which are never more.
pub const COMPONENT_BYTES: usize = 255;

/// Bytes of one relative path, separators included. PATH_MAX is 4096 and the download directory needs some.
pub const PATH_BYTES: usize = 3_072;

/// Trackers kept of a torrent or a magnet link; lists of public trackers have about a hundred.
pub const TRACKERS: usize = 128;

/// Web seeds kept of a torrent or a magnet link.
pub const WEB_SEEDS: usize = 32;

/// Bytes of a tracker's or web seed's URL. Passkeys make them long, servers refuse them above 8 KiB.
pub const URL_BYTES: usize = 2_048;

/// Characters of a comment, a display name or a client's name that are kept for showing.
pub const COMMENT_CHARS: usize = 1_024;

/// Bytes of a magnet link. Links with fifty trackers have 4 KiB.
pub const MAGNET_BYTES: usize = 64 << 10;

/// Peer addresses kept of a magnet link's `x.pe`.
pub const MAGNET_PEERS: usize = 64;

/// Ranges of files kept of a magnet link's `so`.
pub const MAGNET_RANGES: usize = 1_024;

/// Tokens in a tracker's reply: six for each of 50,000 peers in the long form, more than fit into the bytes taken.
pub const TRACKER_TOKENS: usize = 300_000;

/// Bytes of a tracker's reply after inflation. 3,000 peers in the long form need 200 KiB.
pub const TRACKER_REPLY_BYTES: usize = 1 << 20;

/// Peers kept of one list; as many as rill knows of a torrent.
pub const PEERS: usize = 1_000;

/// Bytes of a tracker id that are sent back; a longer one is dropped. Seen in the wild: at most 40.
pub const TRACKER_ID_BYTES: usize = 256;

/// Characters of a tracker's failure or warning that are shown: three lines of a terminal.
pub const REASON_CHARS: usize = 240;

/// Tokens in an extension handshake; a real one has about 40.
pub const EXTENDED_TOKENS: usize = 1_000;

/// Bytes of metadata that are asked of peers, 30 MiB: libtorrent's own limit.
pub const METADATA_BYTES: u32 = 30 << 20;

/// Outstanding requests that a peer's `reqq` may allow; our window ends at 500.
pub const REQQ: u32 = 2_000;

/// Characters of a peer's client name that are kept.
pub const CLIENT_CHARS: usize = 40;

/// Bytes of a DHT packet. Others stay below 1,500; a reply of 8 nodes and 100 peers in both families has 3 KB.
pub const KRPC_BYTES: usize = 4_096;

/// Tokens in a DHT packet: 400 peers in one reply, and a hundred for everything else.
pub const KRPC_TOKENS: usize = 500;

/// Bytes of a transaction id that are echoed. Seen in the wild: at most 8; a query with a longer one gets no answer.
pub const KRPC_TRANSACTION_BYTES: usize = 20;

/// Bytes of a token that are kept and sent back. Seen in the wild: at most 20; a longer one is as good as none.
pub const KRPC_TOKEN_BYTES: usize = 64;

/// Nodes taken of one list. BEP 5 says 8, some programs send 16 or 20.
pub const KRPC_NODES: usize = 20;

/// Nodes of one family that are kept from one run to the next: more than a table holds, in less than 10 KB.
pub const NODES_KEPT: usize = 400;

/// Nodes of the DHT that a torrent file names.
pub const TORRENT_NODES: usize = 16;

/// Bytes of a host's name (RFC 1035).
pub const HOST_BYTES: usize = 253;

/// Peers of each family taken of one message of peer exchange (BEP 11: 50).
pub const PEX_PEERS: usize = 50;

/// Bytes of a call on the local network: what BEP 14 allows, so no packet is cut in two.
pub const LSD_BYTES: usize = 1_400;

/// Hashes taken of one such call; BEP 14's bytes have room for 26.
pub const LSD_HASHES: usize = 32;
