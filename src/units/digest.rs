//! Twenty bytes with a meaning: an info hash, a piece's SHA-1, a peer's id. Types keep them from being mixed up.

use std::fmt;

macro_rules! twenty_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 20]);

        impl $name {
            /// The bytes, if there are exactly twenty.
            pub fn from_slice(bytes: &[u8]) -> Option<$name> {
                bytes.try_into().ok().map($name)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; 20] {
                &self.0
            }
        }

        /// Forty hexadecimal digits.
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

twenty_bytes!(
    /// SHA-1 of the info dictionary as it was written: the name of a torrent (BEP 3).
    InfoHash
);
twenty_bytes!(
    /// SHA-1 of one piece (BEP 3).
    PieceHash
);
twenty_bytes!(
    /// What a peer calls itself (BEP 20); arbitrary bytes, never shown raw.
    PeerId
);
twenty_bytes!(
    /// Where a node of the DHT stands (BEP 5), or the place that is looked for: an info hash is one, too.
    NodeId
);
