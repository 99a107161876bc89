//! The DHT: finding peers without a tracker (BEP 5; IPv6 by BEP 32, scrape by BEP 33, ids by BEP 42,
//! read-only nodes by BEP 43).
//!
//! ```text
//!   on_datagram ──▶ guard ──▶ query ─────▶ answering ──▶ store, tokens, table
//!                     │       reply, error ▶ asking ────▶ lookups ──▶ table, Peers, Done
//!                     └─ silence
//!   on_deadline ──▶ late and lost answers, pings, refreshes, bootstrap
//!   search ───────▶ get_peers to the nearest, then announce_peer to eight of them
//! ```
//!
//! Pure decisions: no socket, no clock, no thread; `now` comes in, [`DhtAction`]s go out, choices come from a
//! seed. One [`Dht`] serves both families with a table and an id each; a family is used once an address of it
//! is known.
//!
//! Nothing that a stranger says is believed but this: an answer from the address that was asked, with the
//! transaction of the question; a node that answered is there. Only such nodes enter the table, and answers
//! to forged senders are few and small.
//!
//! Left out: BEP 44's items, BEP 51's samples. A query of theirs gets error 204.

mod guard;
mod identity;
mod lookup;
mod node;
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
