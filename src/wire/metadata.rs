//! The messages of `ut_metadata` (BEP 9, over BEP 10), which request and transfer pieces of the info
//! dictionary.
//!
//! A message is a dictionary; in a data message the bytes of the piece follow it. Unknown message types are
//! ignored, as BEP 9 demands, and so are malformed messages.

use super::bencode::{Lenient, Rules, scan, write};
use super::limits::{EXTENDED_TOKENS, MESSAGE_DEPTH};
use serde::{Deserialize, Serialize};

/// Bytes of each piece of the metadata except the last, 16 KiB.
pub const METADATA_PIECE_LEN: u32 = 16 * 1024;

/// A message. Its numbers are as the peer wrote them, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataMessage<'a> {
    /// Requests a piece.
    Request {
        /// Index of the piece.
        piece: u32,
    },
    /// Transfers a piece.
    Data {
        /// Index of the piece.
        piece: u32,
        /// Bytes of the info dictionary, as the sender claims.
        total_size: u32,
        /// The bytes of the piece.
        bytes: &'a [u8],
    },
    /// Refuses a request.
    Reject {
        /// Index of the piece.
        piece: u32,
    },
}

/// The dictionary of a message.
#[derive(Deserialize, Serialize)]
struct Header {
    msg_type: u32,
    piece: u32,
    total_size: Lenient<u32>,
}

impl<'a> MetadataMessage<'a> {
    /// Reads the payload of an extension message; `None` if it is malformed or of an unknown type.
    pub fn parse(payload: &'a [u8]) -> Option<MetadataMessage<'a>> {
        const RULES: Rules = Rules { depth: MESSAGE_DEPTH, tokens: EXTENDED_TOKENS, strict: false };
        let scanned = scan(payload, &RULES).ok()?;
        let Header { msg_type, piece, total_size } = scanned.value.read().ok()?;
        match msg_type {
            0 => Some(MetadataMessage::Request { piece }),
            1 => Some(MetadataMessage::Data { piece, total_size: total_size.0?, bytes: scanned.rest }),
            2 => Some(MetadataMessage::Reject { piece }),
            _ => None,
        }
    }

    /// Returns the payload of an extension message.
    pub fn encode(&self) -> Vec<u8> {
        let (msg_type, piece, total_size, bytes) = match *self {
            MetadataMessage::Request { piece } => (0, piece, None, &[][..]),
            MetadataMessage::Data { piece, total_size, bytes } => (1, piece, Some(total_size), bytes),
            MetadataMessage::Reject { piece } => (2, piece, None, &[][..]),
        };
        let mut payload = Vec::with_capacity(bytes.len().saturating_add(64));
        write(&Header { msg_type, piece, total_size: Lenient(total_size) }, &mut payload);
        payload.extend_from_slice(bytes);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_the_examples_of_bep_9() {
        assert_eq!(MetadataMessage::Request { piece: 0 }.encode(), b"d8:msg_typei0e5:piecei0ee");
        assert_eq!(MetadataMessage::Reject { piece: 7 }.encode(), b"d8:msg_typei2e5:piecei7ee");
        let data = MetadataMessage::Data { piece: 0, total_size: 3425, bytes: b"xxx" };
        assert_eq!(data.encode(), b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxx");
    }

    #[test]
    fn p17_ignores_malformed_messages() {
        for odd in [
            &b""[..],
            b"garbage",
            b"le",
            b"de",
            b"d8:msg_typei0ee",
            b"d8:msg_typei0e5:piecei-1ee",
            b"d8:msg_typei0e5:piecei4294967296ee",
            b"d8:msg_typei3e5:piecei0ee",
            b"d8:msg_typei1e5:piecei0eexxx",
            b"d8:msg_typei1e5:piecei0e10:total_sizei2147483648000eexxx",
        ] {
            assert_eq!(MetadataMessage::parse(odd), None, "{}", odd.escape_ascii());
        }
        let far = MetadataMessage::Request { piece: u32::MAX };
        assert_eq!(MetadataMessage::parse(b"d8:msg_typei0e5:piecei4294967295ee"), Some(far));
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(kind in 0..3, piece: u32, total_size: u32, bytes: Vec<u8>) {
            let message = match kind {
                0 => MetadataMessage::Request { piece },
                1 => MetadataMessage::Data { piece, total_size, bytes: &bytes },
                _ => MetadataMessage::Reject { piece },
            };
            let payload = message.encode();
            prop_assert_eq!(MetadataMessage::parse(&payload), Some(message));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = MetadataMessage::parse(&bytes);
        }
    }
}
