//! The engine against puppets: one file for each kind of trouble, tests named after the hazard they stand for.

mod blame;
mod blocks;
mod changes;
mod connections;
mod finding;
mod local;
mod metadata;
mod pex;
mod policy;
mod scraping;
mod streams;
mod swarm;
mod trackers;
mod uploads;
