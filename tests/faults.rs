//! Whole processes among failing system calls, power cuts and kills: what was claimed is there, and the same command goes on.
//!
//! ```text
//! cargo test --test faults -- --ignored --test-threads 1 short          a minute and a half
//! cargo test --test faults -- --ignored --test-threads 1 --nocapture long    everything, half an hour
//! ```
//!
//! Real file systems on loop devices need root; without it, or without the programs that make them, those tests say so and
//! pass, and under `CI=true` they fail. All of it plays on loopback.

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
