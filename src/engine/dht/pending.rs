//! Queries that await their responses.

use crate::engine::limits;
use crate::units::{InfoHash, Instant};
use std::net::SocketAddr;

/// Key of a search: the torrent, and whether its peers are searched for or counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SearchKey {
    pub(super) info_hash: InfoHash,
    pub(super) scrape: bool,
}

/// Reason of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Checks a node of the table.
    Ping,
    /// Checks a node that another node or a user named.
    Probe,
    /// A query of a lookup; `round` is its position in a chain of queries.
    Lookup { lookup: u32, round: u32 },
    /// An announce of this search.
    Announce(SearchKey),
}

/// A query without a response yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingQuery {
    pub(super) to: SocketAddr,
    pub(super) sent_at: Instant,
    pub(super) is_late: bool,
    pub(super) purpose: Purpose,
}

impl PendingQuery {
    /// Returns when the query counts as slow or, later, as failed.
    pub(super) fn due(&self) -> Instant {
        let waits = matches!(self.purpose, Purpose::Lookup { .. }) && !self.is_late;
        self.sent_at + if waits { limits::DHT_LATE } else { limits::DHT_TIMEOUT }
    }
}
