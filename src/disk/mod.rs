//! Floor 3, where bytes live: files, windows, workers, resume records. Acts, never decides.
//!
//! The loop thread holds a [`Store`] and never waits: what may wait is a job for one of a few workers, and every answer
//! comes back as a [`Done`]. Block bytes land where [`Store::room`] says, either in a window of the file itself or in a
//! slot of a small pool that a worker hashes while it is hot and writes in long runs.
//!
//! A loop turn: `next_done` until there is none, sockets (`room` and `arrived`, `copy`, `load`), then `submit` last before
//! sleeping. The program must ignore SIGXFSZ, else a file size limit kills it instead of giving an error.

mod answers;
mod check;
mod contract;
mod fault;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod job;
mod keep;
mod layout;
mod limits;
mod looks;
mod offline;
mod piece;
mod pool;
mod reads;
mod resume;
mod store;
mod tree;
mod ways;
mod window;
mod worker;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_fault;
#[cfg(test)]
mod tests_resume;

pub use contract::{Done, OpenTorrent, Opened, StorageMode, StoreConfig, StoreStats, Verdict};
pub use fault::{DiskFault, FaultKind};
pub use keep::kept;
pub use offline::{FileReport, FileState, VerifyReport, hash_content, verify};
pub use reads::Load;
pub use store::Store;
pub use window::Room;
