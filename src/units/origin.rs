//! Where an address of a peer came from.

/// Who told us of a peer, first of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The user, a magnet link, or an earlier run.
    Given,
    /// None: the peer connected to us.
    Incoming,
    /// A tracker.
    Tracker,
    /// The DHT (BEP 5).
    Dht,
    /// Another peer (BEP 11).
    Pex,
    /// The peer itself, on the local network (BEP 14).
    Lsd,
}

impl Origin {
    /// Every origin, in the order of their numbers.
    pub const ALL: [Origin; 6] =
        [Origin::Given, Origin::Incoming, Origin::Tracker, Origin::Dht, Origin::Pex, Origin::Lsd];

    /// Its place in [`ALL`](Origin::ALL).
    pub const fn number(self) -> usize {
        self as usize
    }

    /// The word for it, as scripts read it.
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

    /// Whether a private torrent may use it (BEP 27).
    pub const fn is_for_private(self) -> bool {
        matches!(self, Origin::Given | Origin::Incoming | Origin::Tracker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_in_the_list() {
        for (place, origin) in Origin::ALL.into_iter().enumerate() {
            assert_eq!(origin.number(), place);
        }
    }
}
