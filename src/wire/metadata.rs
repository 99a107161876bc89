//! Metadata from peers: the messages that ask for pieces of the info dictionary and bring them (BEP 9, over BEP 10).
//!
//! A message is a dictionary, and behind that of a data message the piece's bytes. Kinds that nobody knows are passed over, as BEP 9
//! asks; so is whatever is not bencode.

use super::bencode::{Lenient, Rules, scan, write};
use super::limits::{EXTENDED_TOKENS, MESSAGE_DEPTH};
use serde::{Deserialize, Serialize};

/// Bytes of every piece of the metadata but the last, 16 KiB.
pub const METADATA_PIECE_LEN: u32 = 16 * 1024;

/// One message about metadata. Numbers are as the peer wrote them: any 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataMessage<'a> {
    /// Send me this piece.
    Request {
        /// Counted from 0.
        piece: u32,
    },
    /// Here it is.
    Data {
        /// Counted from 0.
        piece: u32,
        /// Bytes of the whole, as the sender says.
        total_size: u32,
        /// The piece.
        bytes: &'a [u8],
    },
    /// You don't get it from me.
    Reject {
        /// Counted from 0.
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
    /// Reads an extension message's payload; `None` for what means nothing.
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

    /// The payload of the extension message.
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
    fn messages_are_written_as_bep_9_shows_them() {
        assert_eq!(MetadataMessage::Request { piece: 0 }.encode(), b"d8:msg_typei0e5:piecei0ee");
        assert_eq!(MetadataMessage::Reject { piece: 7 }.encode(), b"d8:msg_typei2e5:piecei7ee");
        let data = MetadataMessage::Data { piece: 0, total_size: 3425, bytes: b"xxx" };
        assert_eq!(data.encode(), b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxx");
    }

    #[test]
    fn p17_what_cannot_be_meant_is_passed_over() {
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
        fn what_was_written_reads_back(kind in 0..3, piece: u32, total_size: u32, bytes: Vec<u8>) {
            let message = match kind {
                0 => MetadataMessage::Request { piece },
                1 => MetadataMessage::Data { piece, total_size, bytes: &bytes },
                _ => MetadataMessage::Reject { piece },
            };
            let payload = message.encode();
            prop_assert_eq!(MetadataMessage::parse(&payload), Some(message));
        }

        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>) {
            let _ = MetadataMessage::parse(&bytes);
        }
    }
}
