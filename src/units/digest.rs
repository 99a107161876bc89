//! Digests and identifiers of fixed length, each with its own type: info hashes, piece hashes, peer ids, node
//! ids.

use std::fmt;

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Converts a slice; `None` if its length is wrong.
            pub fn from_slice(bytes: &[u8]) -> Option<$name> {
                bytes.try_into().ok().map($name)
            }

            /// Returns the bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        /// Writes two hexadecimal digits per byte.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

fixed_bytes!(
    /// SHA-1 of the bytes of the info dictionary: identifies a v1 torrent (BEP 3).
    InfoHash,
    20
);
fixed_bytes!(
    /// SHA-256 of the bytes of the info dictionary: identifies a v2 torrent (BEP 52).
    InfoHashV2,
    32
);
fixed_bytes!(
    /// SHA-1 of a piece (BEP 3).
    PieceHash,
    20
);
fixed_bytes!(
    /// A peer id (BEP 20). It contains arbitrary bytes and is never printed unescaped.
    PeerId,
    20
);
fixed_bytes!(
    /// The id of a DHT node or the target of a lookup (BEP 5); an info hash can be a target.
    NodeId,
    20
);

/// The info hashes of one torrent: v1, v2, or both for a hybrid (BEP 52). At least one is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TorrentHashes {
    v1: Option<InfoHash>,
    v2: Option<InfoHashV2>,
}

impl TorrentHashes {
    /// Returns the hashes of one torrent; `None` if both are absent.
    pub fn new(v1: Option<InfoHash>, v2: Option<InfoHashV2>) -> Option<TorrentHashes> {
        (v1.is_some() || v2.is_some()).then_some(TorrentHashes { v1, v2 })
    }

    /// Returns the v1 hash.
    pub const fn v1(&self) -> Option<InfoHash> {
        self.v1
    }

    /// Returns the v2 hash.
    pub const fn v2(&self) -> Option<InfoHashV2> {
        self.v2
    }
}

impl From<InfoHash> for TorrentHashes {
    fn from(v1: InfoHash) -> TorrentHashes {
        TorrentHashes { v1: Some(v1), v2: None }
    }
}

/// Writes the v1 hash, or the v2 hash of a v2-only torrent. This is the name of the torrent's files in the
/// state directory.
impl fmt::Display for TorrentHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.v1, self.v2) {
            (Some(v1), _) => v1.fmt(f),
            (None, Some(v2)) => v2.fmt(f),
            (None, None) => Ok(()),
        }
    }
}
