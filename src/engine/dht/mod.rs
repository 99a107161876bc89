//! The DHT: finds peers without a tracker (BEP 5; IPv6 by BEP 32, scrape by BEP 33, ids by BEP 42, read-only
//! nodes by BEP 43).
//!
//! ```text
//!   on_datagram ──▶ guard ──▶ query ──────────▶ responder ──▶ store, tokens, table
//!                     │       response, error ▶ queries ────▶ lookups ──▶ table, Peers, Done
//!                     └─ ignored
//!   on_deadline ──▶ slow and lost responses, pings, refreshes, bootstrap
//!   search ───────▶ get_peers to the closest nodes, then announce_peer to eight of them
//! ```
//!
//! The code has no socket, no clock and no thread: `now` comes in, [`DhtAction`]s go out, random choices come
//! from a seed. One [`Dht`] serves IPv4 and IPv6, with a table and an id for each; a family is used once a
//! node of it is known.
//!
//! A response is accepted only from the queried address with the transaction id of the query; only a node
//! that responded enters the table. Responses to queries, whose source may be forged, are few and small.
//!
//! Not implemented: items (BEP 44) and samples (BEP 51). Such a query gets error 204.

mod guard;
mod identity;
mod lookup;
mod node;
mod pending;
mod queries;
mod responder;
#[cfg(test)]
mod responder_tests;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod token;

pub use self::node::{Announce, Dht, DhtAction, DhtStats, NodeConfig};
#[cfg(feature = "sim")]
pub use lookup::LookupCost;
