//! Floor 3, where bytes live: files, windows, workers, resume records. Acts, never decides.
//!
//! The loop thread holds a [`Store`] and never waits: what may wait is a job for one of a few workers, and every answer
//! comes back as a [`DiskEvent`]. Block bytes land where [`Store::room`] says, either in a window of the file itself or in a
//! slot of a small pool that a worker hashes while it is hot and writes in long runs.
//!
//! A loop turn: `next_done` until there is none, sockets (`room` and `arrived`, `copy`, `load`), then `submit` last before
//! sleeping. The program must ignore SIGXFSZ, else a file size limit kills it instead of giving an error.

mod api;
mod atomic_file;
mod dir;
mod fault;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod job;
mod layout;
mod limits;
mod pool;
mod read_path;
mod recheck;
mod replies;
mod resume;
mod stat_many;
mod storage_mode;
mod store;
mod verify;
mod window;
mod worker;
mod write_cache;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_fault;
#[cfg(test)]
mod tests_resume;

pub use api::{DiskEvent, OpenTorrent, OpenedTorrent, StorageMode, StoreConfig, StoreStats, Verdict};
pub use atomic_file::read_state_file;
pub use fault::{DiskFault, FaultKind};
pub use read_path::Load;
pub use store::Store;
pub use verify::{FileReport, FileState, VerifyReport, hash_content, verify};
pub use window::Target;
