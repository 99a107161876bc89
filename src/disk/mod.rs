//! Floor 3, the disk: files, windows, workers and resume records. It acts and decides nothing about the
//! swarm.
//!
//! The loop's thread holds a [`Store`] and never waits: work that may wait is a job for one of a few workers,
//! and its result comes back as a [`DiskEvent`]. Payload lands where [`Store::target`] says: in a slot of the
//! buffer pool, which a worker hashes and writes in long runs, or in a window of the file itself.
//!
//! ```text
//!   loop      store ── buffer_pool, mapped (Mapper), read_path          replies: worker replies become events
//!                │ jobs, in batches (workers)            ▲ replies
//!   worker    worker ── write_cache, mapped (windows), recheck, resume, content_lock
//!                └──── open_files ── torrent_files, layout, dir
//! ```
//!
//! A loop turn: `next_event` until there is none, the sockets (`target` and `received`, `copy`, `load`), and
//! `submit` last before sleeping. The program must ignore SIGXFSZ, else a file size limit kills it instead of
//! failing a write.

mod aliases;
mod api;
mod atomic_file;
mod buffer_pool;
mod content_lock;
mod dir;
mod fault;
mod file_change;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hasher;
mod job;
mod layout;
mod limits;
mod mapped;
mod memory;
mod open_files;
mod part_names;
mod parts_file;
mod piece_checker;
mod place;
mod read_path;
mod recheck;
#[cfg(any(feature = "cli", test))]
mod records;
mod replies;
mod resume;
mod resume_record;
mod resume_state;
mod slots;
mod stamp;
mod stat_many;
mod storage_mode;
mod store;
mod target;
mod torrent_files;
#[cfg(any(feature = "cli", test))]
mod verify;
mod waker;
mod worker;
mod worker_stats;
mod workers;
mod write_cache;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_fault;
#[cfg(test)]
mod tests_part_names;
#[cfg(test)]
mod tests_parts;
#[cfg(test)]
mod tests_resume;

pub use api::{DiskEvent, OpenTorrent, SpaceShortage, StoreConfig};
pub use atomic_file::read_state_file;
pub use fault::{DiskFault, FaultKind};
pub use memory::RawRange;
pub use read_path::Load;
#[cfg(any(feature = "cli", test))]
pub use records::{ContentState, RecordSummary, forget_metadata, forget_record, records};
pub use storage_mode::StorageMode;
pub use store::Store;
pub use target::{Access, Target};
#[cfg(any(feature = "cli", test))]
pub use verify::{FileReport, FileState, VerifyReport, hash_content, verify};
