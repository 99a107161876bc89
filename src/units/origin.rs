//! Source of a peer's address.

/// First source of a peer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The user, a magnet link, or an earlier run.
    Given,
    /// The peer connected to us.
    Incoming,
    /// A tracker.
    Tracker,
    /// The DHT (BEP 5).
    Dht,
    /// Another peer (BEP 11).
    Pex,
    /// Local service discovery (BEP 14).
    Lsd,
}

impl Origin {
    /// Every origin, in the order of their numbers.
    pub const ALL: [Origin; 6] =
        [Origin::Given, Origin::Incoming, Origin::Tracker, Origin::Dht, Origin::Pex, Origin::Lsd];

    /// Returns the index in [`ALL`](Origin::ALL).
    pub const fn number(self) -> usize {
        self as usize
    }

    /// Returns the name in JSON output.
    pub const fn word(self) -> &'static str {
        match self {
            Origin::Given => "given",
            Origin::Incoming => "incoming",
            Origin::Tracker => "tracker",
            Origin::Dht => "dht",
            Origin::Pex => "pex",
            Origin::Lsd => "lsd",
        }
    }

    /// Returns whether a private torrent may use this source (BEP 27).
    pub const fn is_for_private(self) -> bool {
        matches!(self, Origin::Given | Origin::Incoming | Origin::Tracker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_in_all() {
        for (index, origin) in Origin::ALL.into_iter().enumerate() {
            assert_eq!(origin.number(), index);
        }
    }
}
