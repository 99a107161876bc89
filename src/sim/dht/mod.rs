//! A virtual DHT: the same `Dht` by the thousand, on virtual time, from one seed.
//!
//! Nodes come and go, packets are late and lost, and a share of the nodes lie. Some nodes announce torrents,
//! others look for them later; the [`DhtReport`] says who found what, and at which cost.

mod liar;
#[cfg(test)]
mod tests;
mod world;

pub use world::{DhtReport, DhtScenario, Percentiles, run};
