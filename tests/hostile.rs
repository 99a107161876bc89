//! The real `rill` on loopback among peers, trackers and nodes of the DHT that mean it harm, and on a machine
//! that does not help.
//!
//! What measures is `#[ignore]`d, because it wants the machine for itself:
//!
//! ```text
//!   cargo test --test hostile                                                  half a minute, part of `cargo test`
//!   cargo test --test hostile -- --ignored --test-threads 1                    seven minutes: the attacks, and a little churn
//!   CHURN_SECONDS=1800 cargo test --test hostile -- --ignored --nocapture churn     half an hour of it, and its figures
//! ```
//!
//! Nothing but rill itself is needed, but for a certificate (`openssl`) and a public address (root,
//! `unshare`, `ip`). Names begin with the hazard that they prove.

#[allow(dead_code)] // the programs and addresses of `interop` are not needed here
#[path = "interop/lab.rs"]
mod lab;
mod support;

#[path = "hostile/attackers.rs"]
mod attackers;
#[path = "hostile/bystanders.rs"]
mod bystanders;
#[path = "hostile/churn.rs"]
mod churn;
#[path = "hostile/dht.rs"]
mod dht;
#[path = "hostile/peers.rs"]
mod peers;
#[path = "hostile/process.rs"]
mod process;
#[path = "hostile/rig.rs"]
mod rig;
#[path = "hostile/trackers.rs"]
mod trackers;
#[path = "hostile/web.rs"]
mod web;
#[path = "hostile/wire.rs"]
mod wire;
