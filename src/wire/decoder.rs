//! The incoming half of a peer connection: a state machine that says where the next bytes of the stream
//! belong.
//!
//! ```text
//!   Handshake ──68 bytes──▶ Length ──4──▶ id ──1──▶ Whole ──body──▶ Length        (control message, stored in `buf`)
//!                             ▲                ├──▶ header ──8──▶ Payload ──▶ Length   (block: in `buf` only the payload
//!                             └── keep-alive   └──▶ Skip ───────────────────▶ Length    that was read along with framing)
//! ```
//!
//! The caller reads control bytes into `room`, reports them with `advance`, and takes frames from
//! `next_frame`. After [`Frame::Block`] the caller reads the payload itself: first the bytes that were read
//! along with framing ([`Decoder::buffered`], reported with `buffered_taken`), then from the socket (reported
//! with `payload_taken`).
//!
//! The buffer has [`BUFFER_LEN`] bytes. It grows only as the bytes of a long control message arrive, shrinks
//! back afterwards, and is released while the connection is idle. The frames do not depend on how the stream
//! is cut into reads.

use super::handshake::{HANDSHAKE_LEN, Handshake};
use super::message::{self, BodyKind, FrameError, MAX_MESSAGE_LEN, Message, PIECE_HEADER_LEN};

/// Bytes of the buffer of one connection, 1 KiB: a burst of 60 `request` or 113 `have` messages.
pub const BUFFER_LEN: usize = 1024;

/// Bytes of a length prefix, and of a length prefix with the message id.
const LENGTH: usize = 4;
const NUMBERED: usize = 5;

/// How far the socket may be read beyond the current message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAhead {
    /// No further than the header of the next message, which may be a block: its payload is then read without
    /// a copy.
    Header,
    /// As much as fits the buffer: no requested block is outstanding.
    Full,
}

/// One element of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The first 68 bytes.
    Handshake(Handshake),
    /// A whole message.
    Message(Message<'a>),
    /// The header of a block; the caller reads the `len` bytes of payload that follow.
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
    /// A message that is stored whole, with `body` bytes after its id.
    Whole {
        body: u32,
    },
    /// Inside a block's payload.
    Payload {
        left: u32,
    },
    /// Inside a message that is skipped.
    Skip {
        left: u32,
    },
}

/// The incoming half of one connection.
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
    /// Sets the exact length of a bitfield in bytes, once the handshake has named the torrent.
    pub fn set_bitfield_len(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.bitfield = (len, len);
    }

    /// Sets the greatest length of a bitfield in bytes, while the number of pieces is unknown (magnet links).
    pub fn set_bitfield_most(&mut self, len: usize) {
        self.bitfield = (1, u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Releases an empty buffer until bytes arrive: most connections are idle most of the time.
    pub fn release_memory(&mut self) {
        if self.start == self.end && matches!(self.state, DecoderState::Handshake | DecoderState::Length) {
            self.start = 0;
            self.end = 0;
            self.buf = Vec::new();
        }
    }

    /// Returns the buffered bytes that are not part of a frame yet.
    pub fn pending(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    /// Removes and returns the buffered bytes: those of a negotiation before the stream.
    pub fn take_pending(&mut self) -> Vec<u8> {
        let bytes = self.pending().to_vec();
        self.start = 0;
        self.end = 0;
        bytes
    }

    /// Takes the first bytes of the stream, which came with its negotiation, into the empty buffer.
    pub fn preload(&mut self, stream: Vec<u8>) {
        debug_assert!(self.start == self.end, "preload into a buffer with bytes");
        self.start = 0;
        self.end = stream.len();
        self.buf = stream;
        self.buf.resize(self.end.max(BUFFER_LEN), 0);
    }

    /// Returns the number of bytes that must be buffered to make progress with the current message.
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

    /// Returns the buffer for the next control bytes; never empty. Inside a payload, use
    /// [`spill`](Decoder::spill) instead.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "offsets in a buffer that `body_kind` limits to about 1 MiB: start <= end <= its length, and it grows when end is its length"
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
            // A message that is stored whole, so its length is within limits: the buffer doubles as its bytes
            // arrive.
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

    /// Returns how far the buffer may be filled without payload bytes in it.
    fn header_limit(&self, needed: usize) -> usize {
        match self.state {
            // The current message may be a block: no further than its header.
            DecoderState::Length => PIECE_HEADER_LEN,
            _ => needed.saturating_add(PIECE_HEADER_LEN),
        }
    }

    /// Returns the buffer for bytes that are read along with the rest of a payload: the header of the next
    /// message, or as much as fits.
    pub fn spill(&mut self, ahead: ReadAhead) -> &mut [u8] {
        debug_assert!(self.start == self.end, "spill before the buffered payload was taken");
        self.start = 0;
        self.end = 0;
        match ahead {
            ReadAhead::Header => self.buf.get_mut(..PIECE_HEADER_LEN).unwrap_or_default(),
            ReadAhead::Full => &mut self.buf,
        }
    }

    /// Records that `n` bytes were read into [`room`](Decoder::room) or [`spill`](Decoder::spill).
    ///
    /// # Panics
    /// If `n` is more than fits.
    pub fn advance(&mut self, n: usize) {
        let end = self.end.saturating_add(n);
        assert!(end <= self.buf.len(), "more bytes than there was room for");
        self.end = end;
    }

    /// Removes the first `n` pending bytes.
    fn consume(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.end);
    }

    /// Returns the number of bytes of the current block's payload that have not been taken; 0 outside a
    /// block.
    pub fn payload_left(&self) -> u32 {
        if let DecoderState::Payload { left } = self.state { left } else { 0 }
    }

    /// Returns whether any byte has arrived.
    pub fn has_received(&self) -> bool {
        !matches!(self.state, DecoderState::Handshake) || !self.pending().is_empty()
    }

    /// Returns the number of bytes left of a message that is being skipped; 0 outside one.
    pub fn skip_left(&self) -> u32 {
        if let DecoderState::Skip { left } = self.state { left } else { 0 }
    }

    /// Returns the payload bytes of the current block that were read along with framing.
    pub fn buffered(&self) -> &[u8] {
        let pending = self.pending();
        pending.get(..self.payload_left() as usize).unwrap_or(pending)
    }

    /// Records that the first `n` [`buffered`](Decoder::buffered) bytes were taken.
    pub fn buffered_taken(&mut self, n: u32) {
        assert!(n as usize <= self.buffered().len());
        self.consume(n as usize);
        self.payload_taken(n);
    }

    /// Records that `n` bytes of payload, or of a skipped message, were read from the socket.
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

    /// Returns the next frame. `None`: more bytes are needed, or a payload must be taken first.
    ///
    /// # Errors
    /// [`FrameError`] if the peer violates the framing; the connection cannot go on.
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
                    let Some((len, rest)) = self.pending().split_first_chunk::<LENGTH>() else {
                        return Ok(None);
                    };
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
                            self.state = if body > 0 {
                                DecoderState::Skip { left: body }
                            } else {
                                DecoderState::Length
                            };
                        }
                        BodyKind::Piece { payload } => {
                            let Some((piece, rest)) = rest.split_first_chunk() else { return Ok(None) };
                            let Some(begin) = rest.first_chunk() else { return Ok(None) };
                            let piece = u32::from_be_bytes(*piece);
                            let begin = u32::from_be_bytes(*begin);
                            self.consume(PIECE_HEADER_LEN);
                            self.state = DecoderState::Payload { left: payload };
                            return Ok(Some(Frame::Block { piece, begin, len: payload }));
                        }
                    }
                }
                DecoderState::Whole { .. } => {
                    let start = self.start;
                    let whole = self.needed();
                    if self.pending().len() < whole {
                        return Ok(None);
                    }
                    self.consume(whole);
                    self.state = DecoderState::Length;
                    let frame = self.buf.get(start..self.start).unwrap_or_default();
                    let Some((_, [id, body @ ..])) = frame.split_first_chunk::<LENGTH>() else {
                        return Ok(None);
                    };
                    // `body_kind` skips unknown ids, so this is always a message.
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
    fn p1_refuses_a_giant_length_prefix_without_an_allocation() {
        for len in [MAX_MESSAGE_LEN + 1, u32::MAX] {
            let mut d = after_handshake();
            feed(&mut d, &len.to_be_bytes());
            assert_eq!(d.next_frame(), Err(FrameError::TooLong(len)));
            assert_eq!(d.buf.len(), BUFFER_LEN);
        }
    }

    #[test]
    fn an_idle_decoder_releases_its_buffer_and_loses_no_bytes() {
        let mut d = after_handshake();
        feed(&mut d, &[0, 0, 0, 1, 2, 0, 0]);
        d.release_memory();
        assert_eq!(d.next_frame(), Ok(Some(Frame::Message(Message::Interested))), "buffered bytes are kept");
        d.release_memory();
        assert_eq!(d.buf.len(), BUFFER_LEN, "half a message keeps the buffer");
        feed(&mut d, &[0, 0]);
        assert_eq!(d.next_frame(), Ok(Some(Frame::Message(Message::KeepAlive))));
        d.release_memory();
        assert_eq!(d.buf.capacity(), 0);
        feed(&mut d, &[0, 0, 0, 1, 3]);
        assert_eq!(d.next_frame(), Ok(Some(Frame::Message(Message::NotInterested))));
    }

    #[test]
    fn p12_a_long_message_takes_no_more_memory_than_the_bytes_that_arrived() {
        let mut d = after_handshake();
        d.set_bitfield_len(900_000);
        feed(&mut d, &900_001u32.to_be_bytes());
        feed(&mut d, &[5]);
        assert_eq!(d.next_frame(), Ok(None));
        feed(&mut d, &[0; 3000]);
        assert!(d.buf.len() <= 8192, "{} bytes for 3 KB", d.buf.len());
    }

    #[test]
    fn shrinks_the_buffer_after_a_long_message() {
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
    fn header_read_ahead_never_buffers_payload() {
        let g = crate::units::Geometry::new(1 << 20, 1 << 18).unwrap();
        let span = g.block(g.piece(1).unwrap(), 2);
        let mut stream = Vec::new();
        Message::Have { piece: 3 }.write(&mut stream);
        for _ in 0..3 {
            stream.extend(message::piece_header(span));
            stream.extend(vec![7; span.len() as usize]);
        }
        let mut d = after_handshake();
        let mut at = 0;
        let mut blocks = 0;
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
        fn the_frames_do_not_depend_on_how_the_stream_is_cut(
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
