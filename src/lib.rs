//! rill: a BitTorrent engine in which one thread does the talking.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod disk;
pub mod engine;
pub mod net;
pub mod units;
pub mod wire;
