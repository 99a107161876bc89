//! Runs `rill` on loopback among hostile peers, trackers and DHT nodes, and in hostile environments. Tests
//! that measure are ignored by default, because they need the machine for themselves:
//!
//! ```text
//!   cargo test --test hostile                                                  half a minute, part of `cargo test`
//!   cargo test --test hostile -- --ignored --test-threads 1                    seven minutes: the attacks, and a little churn
//!   CHURN_SECONDS=1800 cargo test --test hostile -- --ignored --nocapture churn     half an hour of churn, and its figures
//! ```
//! Two tests need other programs: one creates a certificate (`openssl`), one adds a public address (root,
//! `unshare`, `ip`). A test's name begins with its row in `tests/HAZARDS.md`.

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
