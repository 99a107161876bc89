//! Floor 2, the BitTorrent engine: decides which addresses are dialed, which blocks are requested from which
//! peer, which peers are unchoked and which are banned. It performs no I/O.
//!
//! The engine holds no file descriptor, no file, no thread and no clock. The rules of its interface:
//!
//! * **Events** are methods `on_…` with `now`, **commands** are imperative verbs, **queries** are nouns.
//!   Events and commands may push [`Action`]s. `now` never goes back; one clock reading serves a whole turn
//!   of the event loop.
//! * The caller may carry out the actions of one turn together at its end. A late action costs time only.
//! * Keys carry a generation: a late answer about a closed connection or a removed torrent is a no-op.
//! * The bytes of a connection pass through four methods only: [`Engine::want`] returns where the next bytes
//!   belong,
//!   [`Engine::got`] takes the number of bytes read, [`Engine::plan`] returns the bytes to write, [`Engine::sent`]
//!   takes the number of bytes written. The payload itself never passes through the engine.
//! * **The lease**: a block has at most one writer. A piece is hashed only when every block has arrived and
//!   no lease is out. A verified piece never grants a lease again. So no late duplicate overwrites good data,
//!   and no block is written while the hasher reads.
//! * Every queue has a limit in [`limits`]. Every deadline is a variant of one `Timer` enum, and
//!   [`Engine::next_deadline`] returns the earliest one.

mod action;
#[cfg(feature = "oracle")]
mod audit;
mod bandwidth;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod bench_support;
mod choking;
mod config;
mod connection_counts;
mod connections;
mod deferred;
pub(crate) mod dht;
mod dht_client;
mod dialer;
mod disconnect;
mod discovery;
mod dont_have;
mod effects;
mod endgame;
#[expect(clippy::module_inception, reason = "the file is named for the type that it holds, as every other")]
mod engine;
mod extended_handshake;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz_dht;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz_engine;
mod holepunch;
mod key_exchange;
pub(crate) mod limits;
mod lsd;
mod messages;
mod metadata_exchange;
mod negotiation;
mod peer;
mod pex;
mod piece_results;
mod policy;
mod port_mapper;
mod replay;
mod requests;
mod settings;
mod snapshots;
mod stats;
mod stream;
mod swarms;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timers;
mod torrent;
mod tracker_client;
mod transports;
mod turn;
mod upload_only;

pub use self::engine::Engine;
pub use action::{Action, Actions, DialFailure, HashVerdict, Notice, RouterCall, RouterReply, ScrapeSource};
pub use config::{DhtSetup, EngineConfig, TorrentInfo, TorrentSpec};
pub use connection_counts::{AttemptCounts, ConnectionCounts};
pub use disconnect::DisconnectReason;
#[cfg(test)]
pub use disconnect::ProtocolViolation;
pub use negotiation::{Encryption, StreamCipher, StreamEncryption};
#[cfg(feature = "sim")]
pub use policy::{Endgame, WindowRule};
pub use policy::{Picking, Policy};
pub use port_mapper::{Gateway, Gateways, MappingProtocol, MappingSetup, PortMapping};
pub use snapshots::{Checkpoint, History, PartialPiece, PeerStatus, TrackerStatus};
pub use stats::SlowReason;
#[cfg(feature = "sim")]
pub use stats::TorrentStats;
pub use stream::Want;
pub use torrent::PiecePriority;
