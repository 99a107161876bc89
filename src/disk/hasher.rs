//! The hash of a piece: the one file that knows how the content of a torrent is hashed.
//!
//! Write cache, recheck and verify feed a [`PieceHasher`] the bytes of a piece in order and compare its
//! digest with what the torrent expects. Another hash (the Merkle trees of BEP 52) is another variant of the
//! three types here.

use sha1::{Digest, Sha1};

/// The hash that a torrent expects of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected<'a> {
    /// SHA-1 of the piece's bytes (BEP 3).
    Sha1(&'a [u8; 20]),
}

impl Expected<'_> {
    /// A hasher that makes digests to compare with this hash.
    pub fn hasher(self) -> PieceHasher {
        match self {
            Expected::Sha1(_) => PieceHasher::sha1(),
        }
    }

    /// Whether this is the digest of the piece.
    pub fn matches(self, digest: PieceDigest) -> bool {
        let (Expected::Sha1(expected), PieceDigest::Sha1(got)) = (self, digest);
        *expected == got
    }
}

/// The digest of the bytes that a [`PieceHasher`] was fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceDigest {
    Sha1([u8; 20]),
}

/// A hash under way.
pub(super) enum PieceHasher {
    Sha1(Sha1),
}

impl PieceHasher {
    /// A hasher for the pieces of a v1 torrent.
    pub fn sha1() -> PieceHasher {
        PieceHasher::Sha1(Sha1::new())
    }

    /// Takes the next bytes of the piece.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            PieceHasher::Sha1(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes so far; the hasher starts over.
    pub fn finish(&mut self) -> PieceDigest {
        match self {
            PieceHasher::Sha1(hasher) => PieceDigest::Sha1(hasher.finalize_reset().into()),
        }
    }

    /// Forgets the bytes so far.
    pub fn reset(&mut self) {
        match self {
            PieceHasher::Sha1(hasher) => Digest::reset(hasher),
        }
    }
}

/// The first eight bytes of a block's SHA-1. It tells two versions of a block apart and is compared with
/// nothing from outside.
pub(super) fn block_digest(bytes: &[u8]) -> u64 {
    let digest: [u8; 20] = Sha1::digest(bytes).into();
    u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hasher_that_was_reset_or_finished_starts_over() {
        let abc: [u8; 20] = Sha1::digest("abc").into();
        let expected = Expected::Sha1(&abc);
        let mut hasher = expected.hasher();
        hasher.update(b"spoiled");
        hasher.reset();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert!(expected.matches(hasher.finish()));
        hasher.update(b"abc");
        assert!(expected.matches(hasher.finish()));
        assert!(!expected.matches(hasher.finish()), "no bytes have another hash");
    }
}
