//! Every number of the disk floor, with its unit and the reason for its size.

/// Bytes in one pool slot: exactly one block, so that a slot never holds two writers.
pub const SLOT_LEN: usize = 16 * 1024;

/// Default bytes of the pool of receive buffers: 128 slots, enough for a full piece in flight and a run being written.
pub const POOL_BYTES: usize = 2 * 1024 * 1024;

/// Slots that a pool has at least: below this the loop and the workers wait for each other at every block.
pub const POOL_SLOTS_MIN: usize = 16;

/// Slots that a pool has at most (16 GiB of them would be a typing error, not a wish).
pub const POOL_SLOTS_MAX: usize = 16 * 1024;

/// An empty pool is called filled again when one slot in so many is free: going back to the sockets for every single
/// slot would be a wake-up and a read for each block.
pub const REFILL_PART: usize = 4;

/// Default bytes of address space that all windows of the process may take together.
pub const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// Plain bytes before auto tries windows for the first time: enough to be past the start of the download.
pub const PROBE_FIRST_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes that are sent the other way for a comparison, a piece at least: more would cost more than a wrong choice.
pub const PROBE_BYTES: u64 = 2 * 1024 * 1024;

/// How many times as long auto waits before each further comparison.
pub const PROBE_BACKOFF: u64 = 8;

/// Bytes in one window at most: 32-bit address space is fragmented, 4 MiB is found when 16 MiB is not.
pub const WINDOW_MAX: u64 = 4 * 1024 * 1024;

/// Bytes that a file's share of a piece must have before it is mapped: below four blocks a map costs more than it saves.
pub const WINDOW_MIN: u64 = 64 * 1024;

/// Bytes of one contiguous run that are written at once: see the measured table in `worker.rs`.
pub const RUN_BYTES: u32 = 256 * 1024;

/// Received blocks that wait for a worker before it is woken without need: 16 blocks are a wake-up for each 256 KiB.
pub const BATCH_BLOCKS: usize = 16;

/// Bytes read at once when a piece is hashed from its file: stays in the second-level cache between read and hash.
pub const READ_BYTES: usize = 128 * 1024;

/// Bytes read at once in a pass over whole files: long enough that a spinning disk streams.
pub const SWEEP_BYTES: usize = 1024 * 1024;

/// Threads of such a pass: one reads while the other hashes; more would make a spinning disk seek.
pub const SWEEP_THREADS: usize = 2;

/// Loads that wait for a worker at most; above this the caller is told to come again later without a new job.
pub const LOADS_WAITING: usize = 256;

/// Descriptors that the loop keeps for uploads.
pub const LOOP_FILES: usize = 16;

/// Descriptors that all workers keep together; with those of the loop 40 in all.
pub const WORKER_FILES: usize = 24;

/// Descriptors that one worker keeps at least: a block across three files must not close what it just opened.
pub const WORKER_FILES_MIN: usize = 4;

/// Workers at most: hashing scales, but nobody downloads faster than four cores hash.
pub const WORKERS_MAX: usize = 8;

/// Bytes of stack of a worker; its buffers live on the heap.
pub const WORKER_STACK: usize = 128 * 1024;

/// Milliseconds between two progress reports of a check.
pub const CHECK_REPORT_MS: u64 = 200;

/// Claimed pieces that are hashed after an unclean stop to see whether the record can be believed.
pub const SAMPLE_PIECES: usize = 64;

/// Files closed with writes that are not on the disk yet, before it is given the time to take them: a page and an inode each, which a
/// machine with little memory cannot spare for as many files as arrive between two checkpoints.
pub const UNSYNCED_FILES: usize = 1024;

/// Closed files of which a worker knows before it tells the one that keeps the record: 40 KiB.
pub const SEEN_BATCH: usize = 1024;

/// Files that are looked at before a torrent is called complete: with more than twice as many, not all of them.
pub const LAST_LOOKS: usize = 1000;

/// Paths that are looked at before room is made for what the kernel remembers of the next ones.
pub const LOOKS_PER_CUSHION: usize = 128;

/// Bytes of such room: 8 KiB a path. An inode takes 1.3, but with 2 KiB a path the kernel still ran out between two times.
pub const CUSHION_BYTES: u64 = 1024 * 1024;

/// Sentences about content that is not as it was left; whoever reads a hundred will look for himself.
pub const NOTES: usize = 100;

/// Seconds by which a modification time may differ on FAT, whose steps are two seconds.
pub const FAT_MTIME_SLACK_S: i64 = 2;

/// Bytes of the longest file that FAT32 can hold.
pub const FAT_FILE_MAX: u64 = u32::MAX as u64;

/// Slices in one vectored write, the kernel's own limit (IOV_MAX).
pub const WRITE_SLICES: usize = 1024;
