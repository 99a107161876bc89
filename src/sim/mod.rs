//! Floor 4, the virtual world: real engines by the thousand, on virtual time, from one seed.
//!
//! The simulator is another pair of hands for the same engine: it calls the same methods with times from an
//! event queue, carries control bytes as they are and payload by its length alone. No byte of content exists.
//! Same scenario, same seed, same commit: the same run, on any machine, as [`Report::fingerprint`] shows.
//!
//! ```text
//!   Scenario ──▶ World ──▶ Report
//!                  │  queue    what happens next
//!                  │  node     engines with their hands' knowledge, puppets with theirs
//!                  │  link     lines, pipes: latency, rates up and down, loss of connection
//!                  │  traffic  bytes from plan to want/got
//!                  │  hands    actions, answers of disk and tracker, late and wrong where faults say so
//!                  └─ disk, tap, cap: the oracle
//! ```
//!
//! The **oracle** holds its laws at every step and ends the run at once when one is broken, naming the
//! command that repeats it: one writer a block, in order, under a lease (`disk`); nothing said that is not
//! so, nothing sent to the choked, nothing asked in vain, every cancel said (`tap`, in strict runs); no more
//! sent or received than a limit allows (`cap`); only liars banned, no engine accused by another; every book
//! of the engine recounted (strict runs); payload out is payload in, lost, or on its way; time never goes
//! back and no deadline stays due; at the end every node is idle.

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
