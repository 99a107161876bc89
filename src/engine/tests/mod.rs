//! The engine against puppets: one file for each kind of trouble, tests named after the hazard they stand
//! for.

mod blocks;
mod choking;
mod connections;
mod dht_client;
mod lsd;
mod metadata;
mod pex;
mod policy;
mod scrape;
mod smart_ban;
mod streams;
mod swarm;
mod trackers;
mod upload_only;
