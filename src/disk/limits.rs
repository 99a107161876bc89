//! Every number of the disk floor, with its unit and the reason for its size.

/// Bytes in one slot of the buffer pool: exactly one block, so a slot never has two writers.
pub const SLOT_LEN: usize = 16 * 1024;

/// Default bytes of the buffer pool: 128 slots, enough for a full piece in flight and a run being written.
pub const POOL_BYTES: usize = 2 * 1024 * 1024;

/// The fewest slots of a pool: with fewer, loop and workers wait for each other at each block.
pub const POOL_SLOTS_MIN: usize = 16;

/// The most slots of a pool: 256 MiB, more than any use of it needs.
pub const POOL_SLOTS_MAX: usize = 16 * 1024;

/// An exhausted pool reports free slots once one in so many is free. Reporting each slot would cost a wake-up
/// and a read for each block.
pub const REFILL_PART: usize = 4;

/// Default bytes of address space that all windows of the process take together.
pub const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// Plain bytes before `auto` tries windows for the first time: enough to be past the start of the download.
pub const PROBE_FIRST_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes written in the other mode for a comparison, at least one piece: more would cost more than a wrong
/// choice.
pub const PROBE_BYTES: u64 = 2 * 1024 * 1024;

/// The factor by which `auto` waits longer before each further comparison.
pub const PROBE_BACKOFF: u64 = 8;

/// The most bytes in one window: in a fragmented 32-bit address space 4 MiB are found where 16 MiB are not.
pub const WINDOW_MAX: u64 = 4 * 1024 * 1024;

/// The fewest bytes of a piece in one file that are mapped: below four blocks a map costs more than it saves.
pub const WINDOW_MIN: u64 = 64 * 1024;

/// Bytes of one contiguous run of hashed blocks before it is written.
pub const RUN_BYTES: u32 = 256 * 1024;

/// Received blocks that wait before their worker is woken for them alone: a wake-up for each 256 KiB.
pub const BATCH_BLOCKS: usize = 16;

/// Bytes of one read when a piece is hashed from its file: they stay in the second-level cache between read
/// and hash.
pub const READ_BYTES: usize = 128 * 1024;

/// Bytes of one read in a pass over whole files: long enough for a spinning disk to stream.
#[cfg(any(feature = "cli", test))]
pub const SWEEP_BYTES: usize = 1024 * 1024;

/// Threads of such a pass: one reads while the other hashes. More would make a spinning disk seek.
#[cfg(any(feature = "cli", test))]
pub const SWEEP_THREADS: usize = 2;

/// Most loads under way. Above this no new job is queued, and the caller has to call again.
pub const LOADS_WAITING: usize = 256;

/// Descriptors that the loop keeps for uploads.
pub const LOOP_FILES: usize = 16;

/// Descriptors that all workers keep together; with those of the loop 40 in all.
pub const WORKER_FILES: usize = 24;

/// The fewest descriptors of one worker: a block across three files must not close what it just opened.
pub const WORKER_FILES_MIN: usize = 4;

/// The most workers: hashing scales with cores, but no download is faster than four cores hash.
pub const WORKERS_MAX: usize = 8;

/// Bytes of stack of a worker; its buffers are on the heap.
pub const WORKER_STACK: usize = 128 * 1024;

/// Milliseconds between two progress reports of a recheck.
pub const CHECK_REPORT_MS: u64 = 200;

/// Claimed pieces that are hashed after an unclean stop to decide whether the record is right.
pub const SAMPLE_PIECES: usize = 64;

/// Files closed with unsynced writes before their file system is synced. Each holds a page and an inode in
/// the kernel, and a machine with little memory has no room for as many files as arrive between two
/// checkpoints.
pub const UNSYNCED_FILES: usize = 1024;

/// Stamps of closed files that a worker keeps before it sends them to the worker that keeps the record: 40
/// KiB.
pub const STAMPS_BATCH: usize = 1024;

/// Files that are looked at before a torrent is reported complete; of more than twice as many only a part.
pub const FINAL_STATS: usize = 1000;

/// Calls of `stat` between two fillings of the page cache, see `stat_many.rs`.
pub const STATS_PER_CUSHION: usize = 128;

/// Bytes of such a filling: 8 KiB a path. An inode takes 1.3 KiB, but with 2 KiB a path the kernel ran out in
/// between.
pub const CUSHION_BYTES: u64 = 1024 * 1024;

/// Notes about changed content; a user with more than that has to look at the files.
pub const NOTES: usize = 100;

/// Seconds by which a modification time may differ on FAT, which counts in steps of two seconds.
pub const FAT_MTIME_SLACK_S: i64 = 2;

/// Bytes of the longest file on FAT32.
pub const FAT_FILE_MAX: u64 = u32::MAX as u64;

/// Slices in one vectored write: the kernel's limit, `IOV_MAX`.
pub const WRITE_SLICES: usize = 1024;
/// Files that are looked at to find out whether a record under an old name is of this directory.
pub const OLD_RECORD_STATS: usize = 64;
