//! Floor 2, decisions: who is dialed, what is asked of whom, who may ask us, who is to blame. Never acts.
//!
//! The engine holds no file descriptor, no file, no thread and no clock. The rules of its contract:
//!
//! * **Facts** are methods `on_…` with `now`; **wishes** are imperative; **questions** are nouns. Facts and
//!   wishes may push
//!   [`Action`]s. `now` never goes back; one clock reading serves a whole turn of the loop.
//! * Actions of one turn may be carried out together at its end. Doing them late changes nothing but time.
//! * Keys carry a generation: a late answer about a closed peer or a removed torrent is a no-op.
//! * Stream bytes meet the engine at four places only: [`Engine::want`] says where the next bytes belong,
//!   [`Engine::got`] takes what came, [`Engine::plan`] names what goes out, [`Engine::sent`] takes what went.
//!   Payload itself never passes through.
//! * **The lease**: at most one writer a block; a piece is hashed only when every block has arrived and no
//!   lease is out; a verified piece never leases again. So no late duplicate lands on good data, and no block
//!   is written while the hasher reads.
//! * Every queue has a limit in [`limits`]; every timer is one name in one enum, and
//!   [`Engine::next_deadline`] says when it is due.

mod action;
#[cfg(feature = "oracle")]
mod audit;
mod bandwidth;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod bench_support;
mod choking;
mod config;
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
pub(crate) mod limits;
mod lsd;
mod messages;
mod metadata_exchange;
mod peer;
mod pex;
mod piece_results;
mod policy;
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
mod turn;
mod upload_only;

pub use self::engine::Engine;
pub use action::{Action, Actions, DialFailure, HashVerdict, Notice, ScrapeSource};
pub use config::{DhtSetup, EngineConfig, TorrentInfo, TorrentSpec};
pub use disconnect::DisconnectReason;
#[cfg(test)]
pub use disconnect::ProtocolViolation;
#[cfg(feature = "sim")]
pub use policy::{Endgame, WindowRule};
pub use policy::{Picking, Policy};
pub use snapshots::{PartialPiece, PeerStats, TrackerStats};
pub use stats::SlowReason;
#[cfg(feature = "sim")]
pub use stats::TorrentStats;
pub use stream::Want;
pub use torrent::PiecePriority;
