//! The messages between peers (BEP 3, 6, 10): their ids, lengths and encoding.
//!
//! Indices in a [`Message`] are raw numbers; the engine checks them against the torrent's `Geometry`.

use crate::units::BlockSpan;
use thiserror::Error;

/// Message ids.
mod id {
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const PORT: u8 = 9;
    pub const SUGGEST: u8 = 13;
    pub const HAVE_ALL: u8 = 14;
    pub const HAVE_NONE: u8 = 15;
    pub const REJECT: u8 = 16;
    pub const ALLOWED_FAST: u8 = 17;
    pub const EXTENDED: u8 = 20;
}

/// Bytes before a block's payload: length prefix, message id, piece, begin.
pub const PIECE_HEADER_LEN: usize = 13;

/// Bytes of the longest block that rill accepts or serves, 128 KiB: known clients request at most that.
pub const MAX_BLOCK_LEN: u32 = 128 * 1024;

/// Bytes of the longest message that a peer may send, 1 MiB (libtorrent's limit): a greater length is an
/// attack or another protocol.
pub const MAX_MESSAGE_LEN: u32 = 1024 * 1024;

/// Bytes of the longest extension message that is read, 32 KiB: room for 16 KiB of metadata with its
/// dictionary, or a full PEX message. A longer one is skipped.
pub const MAX_EXTENDED_LEN: u32 = 32 * 1024;

/// A range of bytes in a piece, as the peer wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawSpan {
    /// Piece index.
    pub piece: u32,
    /// First byte in the piece.
    pub begin: u32,
    /// Bytes.
    pub len: u32,
}

impl From<BlockSpan> for RawSpan {
    fn from(s: BlockSpan) -> RawSpan {
        RawSpan { piece: s.piece().get(), begin: s.begin(), len: s.len() }
    }
}

/// One message. `piece` is missing: its payload is never held in memory together with its header, see
/// [`super::Frame::Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are those of the BEPs
pub enum Message<'a> {
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have { piece: u32 },
    Bitfield { bytes: &'a [u8] },
    Request(RawSpan),
    Cancel(RawSpan),
    Port { port: u16 },
    Suggest { piece: u32 },
    HaveAll,
    HaveNone,
    Reject(RawSpan),
    AllowedFast { piece: u32 },
    Extended { id: u8, payload: &'a [u8] },
}

/// How a peer violated the message framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The first bytes are not those of the BitTorrent protocol.
    #[error("not a BitTorrent handshake")]
    NotHandshake,
    /// The length prefix is above `MAX_MESSAGE_LEN`, 1 MiB.
    #[error("the message has {0} bytes, more than 1 MiB")]
    TooLong(u32),
    /// A message of fixed length has another length.
    #[error("message {id} has a body of {len} bytes, which its type does not allow")]
    BadLength {
        /// Message id.
        id: u8,
        /// Bytes after the message id.
        len: u32,
    },
    /// A bitfield has a length that does not fit the torrent.
    #[error("the bitfield has {got} bytes instead of {expected}")]
    Bitfield {
        /// Bytes that the length prefix announces.
        got: u32,
        /// Bytes that the torrent's pieces need.
        expected: u32,
    },
}

/// How to read the body of a message, decided by its length prefix and id alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// Read the whole body, then parse it.
    Whole,
    /// A `piece` message: 8 bytes of header, then payload.
    Piece {
        /// Bytes of payload, 1…[`MAX_BLOCK_LEN`].
        payload: u32,
    },
    /// Skip the body.
    Skip,
}

/// Decides how to read a message before any byte of its body is stored. `body` counts the bytes after the id;
/// `bitfield` is the least and the greatest length of a bitfield.
pub(super) fn body_kind(id: u8, body: u32, bitfield: (u32, u32)) -> Result<BodyKind, FrameError> {
    let exactly =
        |n: u32| if body == n { Ok(BodyKind::Whole) } else { Err(FrameError::BadLength { id, len: body }) };
    match id {
        id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED | id::HAVE_ALL | id::HAVE_NONE => {
            exactly(0)
        }
        id::HAVE | id::SUGGEST | id::ALLOWED_FAST => exactly(4),
        id::REQUEST | id::CANCEL | id::REJECT => exactly(12),
        id::PORT => exactly(2),
        id::BITFIELD if (bitfield.0..=bitfield.1).contains(&body) => Ok(BodyKind::Whole),
        id::BITFIELD => Err(FrameError::Bitfield { got: body, expected: bitfield.1 }),
        id::PIECE => match body.checked_sub(8) {
            Some(payload @ 1..=MAX_BLOCK_LEN) => Ok(BodyKind::Piece { payload }),
            _ => Err(FrameError::BadLength { id, len: body }),
        },
        id::EXTENDED if body == 0 => Err(FrameError::BadLength { id, len: body }),
        id::EXTENDED if body <= MAX_EXTENDED_LEN => Ok(BodyKind::Whole),
        _ => Ok(BodyKind::Skip),
    }
}

/// Reads a body of one number.
fn number(body: &[u8]) -> Option<u32> {
    body.try_into().ok().map(u32::from_be_bytes)
}

/// Reads a body of three numbers.
fn span(body: &[u8]) -> Option<RawSpan> {
    let (piece, rest) = body.split_first_chunk()?;
    let (begin, len) = rest.split_first_chunk()?;
    Some(RawSpan { piece: u32::from_be_bytes(*piece), begin: u32::from_be_bytes(*begin), len: number(len)? })
}

/// Reads a message whose length [`body_kind`] has checked; `None` for an unknown id.
pub(super) fn parse(id: u8, body: &[u8]) -> Option<Message<'_>> {
    Some(match id {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have { piece: number(body)? },
        id::BITFIELD => Message::Bitfield { bytes: body },
        id::REQUEST => Message::Request(span(body)?),
        id::CANCEL => Message::Cancel(span(body)?),
        id::PORT => Message::Port { port: body.try_into().ok().map(u16::from_be_bytes)? },
        id::SUGGEST => Message::Suggest { piece: number(body)? },
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject(span(body)?),
        id::ALLOWED_FAST => Message::AllowedFast { piece: number(body)? },
        id::EXTENDED => body.split_first().map(|(id, payload)| Message::Extended { id: *id, payload })?,
        _ => return None,
    })
}

/// Returns the header before a block's payload.
pub(super) fn piece_header(span: BlockSpan) -> [u8; PIECE_HEADER_LEN] {
    let mut h = [0; PIECE_HEADER_LEN];
    h[..4].copy_from_slice(&span.len().saturating_add(9).to_be_bytes());
    h[4] = id::PIECE;
    h[5..9].copy_from_slice(&span.piece().get().to_be_bytes());
    h[9..].copy_from_slice(&span.begin().to_be_bytes());
    h
}

impl Message<'_> {
    /// Appends the message with its length prefix.
    pub fn write(&self, out: &mut impl Extend<u8>) {
        let mut put = |id: u8, numbers: &[u32], tail: &[u8]| {
            let len = size_of_val(numbers).saturating_add(tail.len()).saturating_add(1);
            out.extend((len as u32).to_be_bytes());
            out.extend([id]);
            for n in numbers {
                out.extend(n.to_be_bytes());
            }
            out.extend(tail.iter().copied());
        };
        match *self {
            Message::KeepAlive => out.extend([0; 4]),
            Message::Choke => put(id::CHOKE, &[], &[]),
            Message::Unchoke => put(id::UNCHOKE, &[], &[]),
            Message::Interested => put(id::INTERESTED, &[], &[]),
            Message::NotInterested => put(id::NOT_INTERESTED, &[], &[]),
            Message::Have { piece } => put(id::HAVE, &[piece], &[]),
            Message::Bitfield { bytes } => put(id::BITFIELD, &[], bytes),
            Message::Request(s) => put(id::REQUEST, &[s.piece, s.begin, s.len], &[]),
            Message::Cancel(s) => put(id::CANCEL, &[s.piece, s.begin, s.len], &[]),
            Message::Port { port } => put(id::PORT, &[], &port.to_be_bytes()),
            Message::Suggest { piece } => put(id::SUGGEST, &[piece], &[]),
            Message::HaveAll => put(id::HAVE_ALL, &[], &[]),
            Message::HaveNone => put(id::HAVE_NONE, &[], &[]),
            Message::Reject(s) => put(id::REJECT, &[s.piece, s.begin, s.len], &[]),
            Message::AllowedFast { piece } => put(id::ALLOWED_FAST, &[piece], &[]),
            Message::Extended { id, payload } => {
                out.extend((payload.len() as u32).saturating_add(2).to_be_bytes());
                out.extend([id::EXTENDED, id]);
                out.extend(payload.iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::FIXED_LENGTHS;

    const EXACTLY: (u32, u32) = (5, 5);

    #[test]
    fn p3_refuses_a_fixed_length_message_of_another_length() {
        for (id, right) in FIXED_LENGTHS {
            for body in 0..40 {
                assert_eq!(
                    body_kind(id, body, EXACTLY).is_ok(),
                    body == right,
                    "message {id} with {body} bytes"
                );
            }
        }
    }

    #[test]
    fn p2_refuses_a_block_longer_than_any_request() {
        assert_eq!(body_kind(7, 8 + MAX_BLOCK_LEN, EXACTLY), Ok(BodyKind::Piece { payload: MAX_BLOCK_LEN }));
        assert!(body_kind(7, 9 + MAX_BLOCK_LEN, EXACTLY).is_err());
        assert!(body_kind(7, 8, EXACTLY).is_err(), "a block of no bytes");
        assert!(body_kind(7, 2, EXACTLY).is_err());
    }

    #[test]
    fn p4_skips_an_unknown_message() {
        assert_eq!(body_kind(99, 70_000, EXACTLY), Ok(BodyKind::Skip));
        assert_eq!(parse(99, &[]), None);
    }

    #[test]
    fn p5_refuses_a_bitfield_of_another_length_before_reading_it() {
        assert_eq!(body_kind(5, 5, EXACTLY), Ok(BodyKind::Whole));
        assert_eq!(body_kind(5, 6, EXACTLY), Err(FrameError::Bitfield { got: 6, expected: 5 }));
        assert!(body_kind(5, 0, EXACTLY).is_err());
        for (body, taken) in [(0, false), (1, true), (9, true), (10, false)] {
            assert_eq!(
                body_kind(5, body, (1, 9)).is_ok(),
                taken,
                "{body} bytes while the number of pieces is unknown"
            );
        }
    }

    #[test]
    fn skips_an_extension_message_above_the_limit() {
        assert_eq!(body_kind(20, MAX_EXTENDED_LEN, EXACTLY), Ok(BodyKind::Whole));
        assert_eq!(body_kind(20, MAX_EXTENDED_LEN + 1, EXACTLY), Ok(BodyKind::Skip));
        assert!(body_kind(20, 0, EXACTLY).is_err(), "without an extension id");
    }
}
