//! Whole processes with failing system calls, power cuts and kills: every claim of a record is true, and the
//! same command finishes afterwards.
//!
//! ```text
//! cargo test --test faults -- --ignored --test-threads 1 short          a minute and a half
//! cargo test --test faults -- --ignored --test-threads 1 --nocapture long    everything, half an hour
//! ```
//!
//! Real file systems on loop devices need root and the programs that make them. Without those the tests say
//! so and pass; under `CI=true` they fail. All connections are on loopback.

#[path = "faults/binary.rs"]
mod binary;
#[path = "faults/crash.rs"]
mod crash;
#[path = "faults/journal.rs"]
mod journal;
#[path = "faults/kills.rs"]
mod kills;
#[path = "faults/long.rs"]
mod long;
#[path = "faults/mounts.rs"]
mod mounts;
#[path = "faults/power.rs"]
mod power;
#[path = "faults/record.rs"]
mod record;
#[path = "faults/rows.rs"]
mod rows;
#[path = "faults/short.rs"]
mod short;
#[path = "faults/stage.rs"]
mod stage;
#[path = "support/mod.rs"]
mod support;
#[path = "faults/sweep.rs"]
mod sweep;
