//! Floor 4: simulates swarms of up to thousands of real engines on virtual time, reproducibly from one seed.
//!
//! The simulator is a driver of the engine, as the session is: it calls the same methods, with times from an
//! event queue. It transfers control bytes unchanged and payload as spans with a length; payload has no
//! content. The same scenario and seed give the same run on every machine with the same commit;
//! [`Report::fingerprint`] shows it.
//!
//! ```text
//!   Scenario ──▶ World ──▶ Report
//!                  │  queue    events in the order of their time
//!                  │  node     engines and puppets, each with the state of its driver
//!                  │  link     lines and pipes: latency, upload and download rates, lost connections
//!                  │  traffic  bytes from the sender's `plan` to the receiver's `want` and `got`
//!                  │  driver   actions of engines, replies of disk and tracker, delays and errors of `Faults`
//!                  └─ disk, wire_checker, rate_checker: the oracle
//! ```
//!
//! The **oracle** checks invariants at every step and ends the run at the first violation, with the command
//! that repeats the run. Its checks:
//! - `disk`: each block has one writer, which writes it in order and under a lease;
//! - `wire_checker` (strict runs): an engine announces only verified pieces, serves a choked peer only
//!   allowed-fast pieces, requests no block that it has, and cancels every request whose block arrived from
//!   another peer;
//! - `rate_checker`: an engine sends and receives no more payload than its limits allow;
//! - engines ban only puppets that send wrong data, and report protocol violations only of puppets;
//! - the engine's counters equal a recount (strict runs);
//! - payload sent is payload received, lost or in transit;
//! - time never decreases, and no deadline remains due after the engine handled it;
//! - at the end every engine is idle.

pub mod dht;
mod disk;
mod driver;
pub mod experiment;
mod faults;
mod link;
mod node;
mod presets;
mod puppet;
mod queue;
mod rate_checker;
mod report;
mod scenario;
#[cfg(test)]
mod tests;
mod tracker;
mod traffic;
mod wire_checker;
mod wire_digest;
mod world;

pub use faults::Faults;
pub use presets::{NAMES, TRIALS, named};
pub use puppet::PuppetRole;
pub use report::{PeerReport, Report, Sample, quantile};
pub use scenario::{Line, MBIT, MIB, Scenario};
pub use world::run;
