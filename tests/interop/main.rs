//! Tests with other programs on this machine: libtorrent, aria2, Transmission, rtorrent, opentracker, miniupnpd,
//! dante and microsocks.
//!
//! ```text
//! cargo test --test interop -- --ignored --test-threads 1
//! ```
//! Every test is ignored by default, so that `cargo test` needs no other program. If a program is missing,
//! its tests print a line and pass; under `CI=true` they fail. Every program runs in a [`lab::Lab`], which
//! ends it and removes its files, also after a failure. Content is compared byte by byte.

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
mod encryption;
mod events;
mod exchange;
mod holepunch;
mod interface;
mod liars;
mod lsd;
mod memory;
mod pex;
mod port_mapping;
mod proxy;
mod scrape;
mod shapes;
mod trouble;
mod utp;
