//! Tests of the engine with scripted peers, one file per subject. Tests with a hazard code belong to a row of
//! `tests/HAZARDS.md`.

mod blocks;
mod choking;
mod connections;
mod dht_client;
mod encryption;
mod holepunch;
mod lsd;
mod metadata;
mod pex;
mod policy;
mod scrape;
mod smart_ban;
mod streams;
mod swarm;
mod trackers;
mod transports;
mod upload_only;
