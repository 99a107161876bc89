//! A simulated DHT: thousands of `Dht` nodes on virtual time, reproducible from
//! one seed.
//!
//! Nodes join and leave, packets are delayed and lost, and a share of the nodes lie. Some nodes announce
//! torrents, others search for them later; the [`DhtReport`] gives the success rate and the cost of the
//! searches.

mod liar;
#[cfg(test)]
mod tests;
mod world;

pub use world::{DhtReport, DhtScenario, Percentiles, run};
