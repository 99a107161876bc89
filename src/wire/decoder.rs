//! The reading half of a peer's stream: a machine that says where the next bytes belong.
//!
//! ```text
//!   Handshake ──68 bytes──▶ Length ──4──▶ Number ──1──▶ Whole ──body──▶ Length      (control, kept in `buf`)
//!                             ▲                    ├──▶ Header ──8──▶ Payload ──▶ Length   (a block: never in `buf`
//!                             └── keep-alive       └──▶ Skip ───────────────────▶ Length    but for what came along)
//! ```
//!
//! `room` and `advance` take control bytes in, `next_frame` gives frames out. After [`Frame::Block`] the owner takes the
//! payload's bytes by whatever way it likes and reports each with `payload_taken`: first those that came along with
//! framing ([`Decoder::buffered`]), then straight from the socket. The buffer is [`BUFFER_LEN`] bytes and grows only as
//! bytes of a long control message really arrive; it shrinks back afterwards, and is let go while nothing comes. Any way of cutting
//! the stream gives the same frames.

use super::handshake::{HANDSHAKE_LEN, Handshake};
use super::message::{self, BodyKind, FrameError, MAX_MESSAGE_LEN, Message, PIECE_HEADER_LEN};

/// Control bytes kept for one connection, 1 KiB: a burst of 60 requests, or 113 haves.
pub const BUFFER_LEN: usize = 1024;

/// Bytes of a length prefix, and of that and a number.
const LENGTH: usize = 4;
const NUMBERED: usize = 5;

/// How much of the stream may be read along with framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAhead {
    /// No further than the next message could be a block's header: payload then lands where it lives, uncopied.
    Header,
    /// As much as there is room for: the peer owes us no block.
    Full,
}

/// What stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The first 68 bytes.
    Handshake(Handshake),
    /// A whole message.
    Message(Message<'a>),
    /// A block's header; `len` bytes of payload follow and are the owner's to place.
    Block {
        /// Raw piece index.
        piece: u32,
        /// Raw first byte.
        begin: u32,
        /// Bytes of payload, 1…128 KiB.
        len: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    Handshake,
    /// At a message's length prefix.
    Length,
    /// A message with `body` bytes after its number is to be stored whole.
    Whole {
        body: u32,
    },
    /// Inside a block's payload.
    Payload {
        left: u32,
    },
    /// Inside a message that nobody reads.
    Skip {
        left: u32,
    },
}

/// The reading half of one connection.
#[derive(Debug)]
pub struct Decoder {
    state: DecoderState,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// The least and the most bytes of a bitfield.
    bitfield: (u32, u32),
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { state: DecoderState::Handshake, buf: Vec::new(), start: 0, end: 0, bitfield: (0, 0) }
    }
}

impl Decoder {
    /// Tells how long a bitfield of this torrent is; known once the handshake named the torrent.
    pub fn set_bitfield_len(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.bitfield = (len, len);
    }

    /// Tells how long a bitfield may be, as long as nobody knows how many pieces the torrent has.
    pub fn set_bitfield_most(&mut self, len: usize) {
        self.bitfield = (1, u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Lets the buffer go if nothing is in it, until something comes: most connections keep still most of the time.
    pub fn release_memory(&mut self) {
        if self.start == self.end && matches!(self.state, DecoderState::Handshake | DecoderState::Length) {
            (self.start, self.end, self.buf) = (0, 0, Vec::new());
        }
    }

    /// Bytes in the buffer that have not become frames.
    fn pending(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    /// Bytes that the frame at hand needs in the buffer before anything can be said.
    fn needed(&self) -> usize {
        match self.state {
            DecoderState::Handshake => HANDSHAKE_LEN,
            DecoderState::Whole { body } => NUMBERED.saturating_add(body as usize),
            DecoderState::Length => match self.pending() {
                [] | [_] | [_, _] | [_, _, _] => LENGTH,
                [0, 0, 0, 0, ..] => LENGTH,
                [_, _, _, _] => NUMBERED,
                _ => PIECE_HEADER_LEN,
            },
            DecoderState::Payload { .. } | DecoderState::Skip { .. } => 0,
        }
    }

    /// Where the next control bytes go; never empty. Not to be asked inside a payload: see [`Decoder::payload_left`].
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "places in a buffer that `body_kind` keeps near 1 MiB: start <= end <= its length, and it grows when end is its length"
    )]
    pub fn room(&mut self, ahead: ReadAhead) -> &mut [u8] {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = self.needed();
        if self.buf.is_empty() {
            self.buf.resize(BUFFER_LEN, 0);
        } else if self.end == self.buf.len() {
            // Only a message that is stored whole gets here, and its length is within limits: the buffer doubles as bytes come.
            let grown = (self.buf.len() * 2).min((needed + PIECE_HEADER_LEN).max(self.end + 1));
            self.buf.resize(grown, 0);
        } else if self.end <= BUFFER_LEN && needed <= BUFFER_LEN && self.buf.len() > BUFFER_LEN {
            self.buf.truncate(BUFFER_LEN.max(self.end + 1));
            self.buf.shrink_to_fit();
        }
        let limit = match ahead {
            ReadAhead::Full => self.buf.len(),
            ReadAhead::Header => self.header_limit(needed).min(self.buf.len()),
        };
        &mut self.buf[self.end..limit.max(self.end + 1)]
    }

    /// How far the buffer may be filled without taking payload bytes along.
    fn header_limit(&self, needed: usize) -> usize {
        match self.state {
            // The message at hand may be a block of its own: no further than its header.
            DecoderState::Length => PIECE_HEADER_LEN,
            _ => needed.saturating_add(PIECE_HEADER_LEN),
        }
    }

    /// Where bytes go that come along behind the payload being read: the next message's header, or all there is room for.
    pub fn spill(&mut self, ahead: ReadAhead) -> &mut [u8] {
        debug_assert!(self.start == self.end, "spill while buffered payload is left");
        (self.start, self.end) = (0, 0);
        match ahead {
            ReadAhead::Header => self.buf.get_mut(..PIECE_HEADER_LEN).unwrap_or_default(),
            ReadAhead::Full => &mut self.buf,
        }
    }

    /// `n` bytes were put into the room or the spill.
    pub fn advance(&mut self, n: usize) {
        let end = self.end.saturating_add(n);
        assert!(end <= self.buf.len(), "more bytes than there was room for");
        self.end = end;
    }

    /// The first `n` of the pending bytes are done with.
    fn consume(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.end);
    }

    /// Payload bytes of the block at hand that have not been taken; 0 outside a block.
    pub fn payload_left(&self) -> u32 {
        if let DecoderState::Payload { left } = self.state { left } else { 0 }
    }

    /// Bytes of an unread message that are still to be passed over; 0 outside one.
    pub fn skip_left(&self) -> u32 {
        if let DecoderState::Skip { left } = self.state { left } else { 0 }
    }

    /// Payload bytes of the block at hand that came along with framing.
    pub fn buffered(&self) -> &[u8] {
        let pending = self.pending();
        pending.get(..self.payload_left() as usize).unwrap_or(pending)
    }

    /// The first `n` of the [`buffered`](Decoder::buffered) bytes were taken.
    pub fn buffered_taken(&mut self, n: u32) {
        assert!(n as usize <= self.buffered().len());
        self.consume(n as usize);
        self.payload_taken(n);
    }

    /// `n` payload bytes, or bytes to be passed over, were taken from the socket itself.
    pub fn payload_taken(&mut self, n: u32) {
        match &mut self.state {
            DecoderState::Payload { left } | DecoderState::Skip { left } => {
                assert!(n <= *left, "more payload than the block has");
                *left = left.saturating_sub(n);
                if *left == 0 {
                    self.state = DecoderState::Length;
                }
            }
            _ => assert_eq!(n, 0, "payload outside a block"),
        }
    }

    /// The next frame, if it is there; `None` asks for more bytes, or for the payload to be taken.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        loop {
            match self.state {
                DecoderState::Payload { .. } => return Ok(None),
                DecoderState::Skip { left } => {
                    let n = left.min(self.pending().len() as u32);
                    self.consume(n as usize);
                    self.payload_taken(n);
                    if n < left {
                        return Ok(None);
                    }
                }
                DecoderState::Handshake => return self.next_handshake(),
                DecoderState::Length => {
                    let Some((len, rest)) = self.pending().split_first_chunk::<LENGTH>() else { return Ok(None) };
                    let len = u32::from_be_bytes(*len);
                    let Some(body) = len.checked_sub(1) else {
                        self.consume(LENGTH);
                        return Ok(Some(Frame::Message(Message::KeepAlive)));
                    };
                    if len > MAX_MESSAGE_LEN {
                        return Err(FrameError::TooLong(len));
                    }
                    let Some((id, rest)) = rest.split_first() else { return Ok(None) };
                    match message::body_kind(*id, body, self.bitfield)? {
                        BodyKind::Whole => self.state = DecoderState::Whole { body },
                        BodyKind::Skip => {
                            self.consume(NUMBERED);
                            self.state = if body > 0 { DecoderState::Skip { left: body } } else { DecoderState::Length };
                        }
                        BodyKind::Piece { payload } => {
                            let Some((piece, rest)) = rest.split_first_chunk() else { return Ok(None) };
                            let Some(begin) = rest.first_chunk() else { return Ok(None) };
                            let (piece, begin) = (u32::from_be_bytes(*piece), u32::from_be_bytes(*begin));
                            self.consume(PIECE_HEADER_LEN);
                            self.state = DecoderState::Payload { left: payload };
                            return Ok(Some(Frame::Block { piece, begin, len: payload }));
                        }
                    }
                }
                DecoderState::Whole { .. } => {
                    let (start, whole) = (self.start, self.needed());
                    if self.pending().len() < whole {
                        return Ok(None);
                    }
                    self.consume(whole);
                    self.state = DecoderState::Length;
                    let frame = self.buf.get(start..self.start).unwrap_or_default();
                    let Some((_, [id, body @ ..])) = frame.split_first_chunk::<LENGTH>() else { return Ok(None) };
                    // `body_kind` sends numbers without a parser to `Skip`, so there is always a message here.
                    return Ok(message::parse(*id, body).map(Frame::Message));
                }
            }
        }
    }

    fn next_handshake(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if !Handshake::could_begin(self.pending()) {
            return Err(FrameError::NotHandshake);
        }
        let Some(bytes) = self.pending().first_chunk::<HANDSHAKE_LEN>() else { return Ok(None) };
        let handshake = Handshake::parse(bytes).ok_or(FrameError::NotHandshake)?;
        self.consume(HANDSHAKE_LEN);
        self.state = DecoderState::Length;
        Ok(Some(Frame::Handshake(handshake)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fuzz_peer_stream::{DecodedFrame, decode_cut};
    use proptest::prelude::*;

    fn after_handshake() -> Decoder {
        let mut d = Decoder { state: DecoderState::Length, ..Decoder::default() };
        d.set_bitfield_len(3);
        d
    }

    fn feed(d: &mut Decoder, bytes: &[u8]) {
        for chunk in bytes.chunks(7) {
            let mut chunk = chunk;
            while !chunk.is_empty() {
                let room = d.room(ReadAhead::Full);
                let n = room.len().min(chunk.len());
                room[..n].copy_from_slice(&chunk[..n]);
                d.advance(n);
                chunk = &chunk[n..];
            }
        }
    }

    #[test]
    fn p1_a_giant_length_prefix_closes_before_anything_is_allocated() {
        for len in [MAX_MESSAGE_LEN + 1, u32::MAX] {
            let mut d = after_handshake();
            feed(&mut d, &len.to_be_bytes());
            assert_eq!(d.next_frame(), Err(FrameError::TooLong(len)));
            assert_eq!(d.buf.len(), BUFFER_LEN);
        }
    }

    #[test]
    fn a_decoder_that_rests_has_no_buffer_and_loses_nothing() {
        let mut d = after_handshake();
        feed(&mut d, &[0, 0, 0, 1, 2, 0, 0]);
        d.release_memory();
        assert_eq!(d.next_frame(), Ok(Some(Frame::Message(Message::Interested))), "what was there is still there");
        d.release_memory();
        assert_eq!(d.buf.len(), BUFFER_LEN, "half a message keeps it");
        feed(&mut d, &[0, 0]);
        assert_eq!(d.next_frame(), Ok(Some(Frame::Message(Message::KeepAlive))));
        d.release_memory();
        assert_eq!(d.buf.capacity(), 0);
        feed(&mut d, &[0, 0, 0, 1, 3]);
        assert_eq!(d.next_frame(), Ok(Some(Frame::Message(Message::NotInterested))));
    }

    #[test]
    fn p12_a_long_message_costs_no_more_than_the_bytes_that_came() {
        let mut d = after_handshake();
        d.set_bitfield_len(900_000);
        feed(&mut d, &900_001u32.to_be_bytes());
        feed(&mut d, &[5]);
        assert_eq!(d.next_frame(), Ok(None));
        feed(&mut d, &[0; 3000]);
        assert!(d.buf.len() <= 8192, "{} bytes for 3 KB", d.buf.len());
    }

    #[test]
    fn the_buffer_shrinks_after_a_long_message() {
        let mut d = after_handshake();
        d.set_bitfield_len(9000);
        let mut bytes = Vec::new();
        Message::Bitfield { bytes: &[0xff; 9000] }.write(&mut bytes);
        let mut got = 0;
        for b in bytes {
            d.room(ReadAhead::Header)[0] = b;
            d.advance(1);
            got += usize::from(d.next_frame().unwrap().is_some());
        }
        assert_eq!(got, 1);
        d.room(ReadAhead::Full);
        assert_eq!(d.buf.len(), BUFFER_LEN);
    }

    #[test]
    fn with_header_read_ahead_no_payload_is_ever_copied() {
        let g = crate::units::Geometry::new(1 << 20, 1 << 18).unwrap();
        let span = g.block(g.piece(1).unwrap(), 2);
        let mut stream = Vec::new();
        Message::Have { piece: 3 }.write(&mut stream);
        for _ in 0..3 {
            stream.extend(message::piece_header(span));
            stream.extend(vec![7; span.len() as usize]);
        }
        let mut d = after_handshake();
        let (mut at, mut blocks) = (0, 0);
        while at < stream.len() {
            if d.payload_left() > 0 {
                assert_eq!(d.buffered(), [], "payload in the control buffer");
                let n = d.payload_left() as usize;
                let spill = d.spill(ReadAhead::Header);
                let m = spill.len().min(stream.len() - at - n);
                spill[..m].copy_from_slice(&stream[at + n..at + n + m]);
                d.payload_taken(n as u32);
                d.advance(m);
                at += n + m;
            } else {
                let room = d.room(ReadAhead::Header);
                let n = room.len().min(stream.len() - at);
                room[..n].copy_from_slice(&stream[at..at + n]);
                d.advance(n);
                at += n;
            }
            while let Some(f) = d.next_frame().unwrap() {
                blocks += usize::from(matches!(f, Frame::Block { .. }));
            }
        }
        assert_eq!(blocks, 3);
    }

    fn a_message() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(vec![0, 0, 0, 0]),
            (0u32..99).prop_map(|piece| {
                let mut v = Vec::new();
                Message::Have { piece }.write(&mut v);
                v
            }),
            proptest::collection::vec(any::<u8>(), 1..3000).prop_map(|payload| {
                let mut v = Vec::new();
                Message::Extended { id: payload[0], payload: &payload }.write(&mut v);
                v
            }),
            (any::<u32>(), any::<u32>(), 1usize..20_000).prop_map(|(piece, begin, len)| {
                let mut v = (9 + len as u32).to_be_bytes().to_vec();
                v.push(7);
                v.extend(piece.to_be_bytes());
                v.extend(begin.to_be_bytes());
                v.extend((0..len).map(|i| i as u8));
                v
            }),
            (100u8..255, 0usize..5000).prop_map(|(id, len)| {
                let mut v = (1 + len as u32).to_be_bytes().to_vec();
                v.push(id);
                v.resize(5 + len, 1);
                v
            }),
        ]
    }

    proptest! {
        #[test]
        fn any_cut_of_a_stream_gives_the_same_frames(
            messages in proptest::collection::vec(a_message(), 0..12),
            cuts in proptest::collection::vec(1usize..4000, 1..40),
        ) {
            let mut stream = Handshake {
                info_hash: crate::units::InfoHash([1; 20]), peer_id: crate::units::PeerId([2; 20]),
                fast: true, extended: true, dht: false,
            }.to_bytes().to_vec();
            stream.extend(messages.concat());
            let whole = decode_cut(&stream, &[usize::MAX], ReadAhead::Full);
            prop_assert!(!matches!(whole.last(), Some(DecodedFrame::Error(_))));
            prop_assert_eq!(&decode_cut(&stream, &cuts, ReadAhead::Full), &whole);
            prop_assert_eq!(&decode_cut(&stream, &cuts, ReadAhead::Header), &whole);
        }
    }
}
