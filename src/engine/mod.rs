//! Floor 2, decisions: who is dialed, what is asked of whom, who may ask us, who is to blame. Never acts.
//!
//! The engine holds no file descriptor, no file, no thread and no clock. The rules of its contract:
//!
//! * **Facts** are methods `on_…` with `now`; **wishes** are imperative; **questions** are nouns. Facts and wishes may push
//!   [`Action`]s. `now` never goes back; one clock reading serves a whole turn of the loop.
//! * Actions of one turn may be carried out together at its end. Doing them late changes nothing but time.
//! * Keys carry a generation: a late answer about a closed peer or a removed torrent is a no-op.
//! * Stream bytes meet the engine at four places only: [`Engine::want`] says where the next bytes belong, [`Engine::got`] takes
//!   what came, [`Engine::plan`] names what goes out, [`Engine::sent`] takes what went. Payload itself never passes through.
//! * **The lease**: at most one writer a block; a piece is hashed only when every block has arrived and no lease is out; a
//!   verified piece never leases again. So no late duplicate lands on good data, and nobody writes while the hasher reads.
//! * Every queue has a limit in [`limits`]; every timer is one name in one enum, and [`Engine::next_deadline`] says when it is due.

mod action;
mod asking;
mod bandwidth;
#[doc(hidden)]
pub mod benching;
mod changes;
mod conduct;
mod core;
pub mod dht;
mod dialing;
mod early;
mod exchanging;
mod finding;
#[doc(hidden)]
pub mod fuzzing;
mod fuzzing_audit;
#[doc(hidden)]
pub mod fuzzing_dht;
pub mod limits;
mod local;
mod messages;
mod peer;
mod policy;
mod scraping;
mod stats;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timers;
mod torrent;
mod tracking;
mod uploads;
mod verdicts;

pub use self::core::{Engine, EngineConfig, Shape, TorrentSpec};
pub use action::{Action, Actions, DialFailure, HashVerdict, Notice};
pub use conduct::{Close, Misconduct};
pub use finding::DhtSetup;
pub use policy::{Endgame, Picking, Policy, WindowRule};
pub use stats::{Slow, TorrentStats};
pub use stream::Want;
