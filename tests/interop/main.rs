//! rill among real programs: libtorrent, aria2, Transmission, rtorrent and opentracker, on this machine
//! alone.
//!
//! ```text
//! cargo test --test interop -- --ignored --test-threads 1
//! ```
//!
//! Every test is `#[ignore]`d, so that a plain `cargo test` needs nothing installed. A program that is
//! missing skips its tests with a word, but under `CI=true` it fails them. Every program runs below a
//! [`lab::Lab`], which ends it and removes its files however the test ends. Content is compared byte by byte.

mod bencode;
mod clients;
mod content;
mod lab;
mod networks;
mod puppet;
mod tracker;

mod damage;
mod dht;
mod dozen;
mod events;
mod exchange;
mod liars;
mod lsd;
mod memory;
mod pex;
mod scrape;
mod shapes;
mod trouble;
