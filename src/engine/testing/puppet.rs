//! The other end of a connection: bytes in transit, and the messages received from the engine.

use super::HASH;
use crate::engine::DisconnectReason;
use crate::units::{BLOCK_LEN, PeerId};
use crate::wire::{Decoder, Frame, Handshake, Message, RawSpan, ReadAhead};
use std::collections::VecDeque;

/// Extension id under which scripted peers receive metadata messages.
pub const METADATA_ID: u8 = 77;
/// Extension id under which scripted peers receive PEX messages.
pub const PEX_ID: u8 = 78;
/// The id that test peers announce for `ut_holepunch`, if they do.
pub const HOLEPUNCH_ID: u8 = 79;

/// A message from the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Handshake,
    /// A message without content, by its name.
    Simple(&'static str),
    Have(u32),
    Bitfield(Vec<u8>),
    Request(RawSpan),
    Cancel(RawSpan),
    Reject(RawSpan),
    AllowedFast(u32),
    Extended(u8),
    /// An extension handshake.
    ExtendedHandshake(Vec<u8>),
    /// An extension message under [`METADATA_ID`].
    Metadata(Vec<u8>),
    Pex(Vec<u8>),
    /// An extension message under [`HOLEPUNCH_ID`].
    Holepunch(Vec<u8>),
    /// A complete block.
    Block(RawSpan),
}

/// State of one connection at its other end.
pub struct TestPeer {
    /// Bytes in transit to the engine.
    pub to_engine: VecDeque<u8>,
    /// Bytes that the engine sent and the test has not read.
    pub from_engine: VecDeque<u8>,
    /// The peer reads from its socket.
    pub reads: bool,
    pub connected: bool,
    /// Set when the connection is closed, with the reason if the engine's read failed.
    pub closed: Option<Option<DisconnectReason>>,
    decoder: Decoder,
    pub requests: Vec<RawSpan>,
}

impl TestPeer {
    pub fn new(connected: bool) -> TestPeer {
        TestPeer {
            to_engine: VecDeque::new(),
            from_engine: VecDeque::new(),
            reads: true,
            connected,
            closed: None,
            decoder: Decoder::default(),
            requests: Vec::new(),
        }
    }

    pub fn read_messages(&mut self, pieces: u32) -> Vec<Received> {
        self.decoder.set_bitfield_len(pieces.div_ceil(8) as usize);
        let mut messages = Vec::new();
        loop {
            let buffered = self.decoder.buffered().len();
            if buffered > 0 {
                self.decoder.buffered_taken(buffered as u32);
            }
            let next =
                self.decoder.next_frame().expect("the engine follows the protocol").map(
                    |frame| match frame {
                        Frame::Handshake(_) => Received::Handshake,
                        Frame::Block { piece, begin, len } => Received::Block(RawSpan { piece, begin, len }),
                        Frame::Message(m) => Received::from(m),
                    },
                );
            match next {
                Some(s) => messages.push(s),
                None if self.decoder.payload_left() > 0 && !self.from_engine.is_empty() => {
                    let n = self.from_engine.len().min(self.decoder.payload_left() as usize);
                    self.from_engine.drain(..n);
                    self.decoder.payload_taken(n as u32);
                }
                None if self.from_engine.is_empty() => break,
                None => {
                    let room = self.decoder.room(ReadAhead::Full);
                    let n = room.len().min(self.from_engine.len());
                    room.iter_mut().zip(self.from_engine.drain(..n)).for_each(|(to, b)| *to = b);
                    self.decoder.advance(n);
                }
            }
        }
        for s in &messages {
            match s {
                Received::Request(r) => self.requests.push(*r),
                Received::Cancel(c) => self.requests.retain(|r| r != c),
                _ => {}
            }
        }
        messages
    }
}

impl From<Message<'_>> for Received {
    fn from(m: Message<'_>) -> Received {
        match m {
            Message::KeepAlive => Received::Simple("KeepAlive"),
            Message::Choke => Received::Simple("Choke"),
            Message::Unchoke => Received::Simple("Unchoke"),
            Message::Interested => Received::Simple("Interested"),
            Message::NotInterested => Received::Simple("NotInterested"),
            Message::HaveAll => Received::Simple("HaveAll"),
            Message::HaveNone => Received::Simple("HaveNone"),
            Message::Have { piece } => Received::Have(piece),
            Message::Bitfield { bytes } => Received::Bitfield(bytes.to_vec()),
            Message::Request(s) => Received::Request(s),
            Message::Cancel(s) => Received::Cancel(s),
            Message::Reject(s) => Received::Reject(s),
            Message::AllowedFast { piece } => Received::AllowedFast(piece),
            Message::Extended { id: 0, payload } => Received::ExtendedHandshake(payload.to_vec()),
            Message::Extended { id: METADATA_ID, payload } => Received::Metadata(payload.to_vec()),
            Message::Extended { id: PEX_ID, payload } => Received::Pex(payload.to_vec()),
            Message::Extended { id: HOLEPUNCH_ID, payload } => Received::Holepunch(payload.to_vec()),
            Message::Extended { id, .. } => Received::Extended(id),
            Message::Port { .. } => Received::Simple("Port"),
            Message::Suggest { .. } => Received::Simple("other"),
        }
    }
}

/// Returns the handshake of the peer with id `host` for the world's torrent.
pub fn handshake(host: u8, fast: bool) -> Vec<u8> {
    Handshake { info_hash: HASH, peer_id: PeerId([host; 20]), fast, extended: false, dht: false }
        .to_bytes()
        .to_vec()
}

pub fn raw(piece: u32, begin: u32, len: u32) -> RawSpan {
    RawSpan { piece, begin, len }
}

/// Returns the whole block number `block` of piece `piece`.
pub fn block(piece: u32, block: u32) -> RawSpan {
    raw(piece, block * BLOCK_LEN, BLOCK_LEN)
}

/// Returns the header of a block message.
pub fn header(s: RawSpan) -> Vec<u8> {
    let mut bytes = (9 + s.len).to_be_bytes().to_vec();
    bytes.push(7);
    [s.piece, s.begin].iter().for_each(|n| bytes.extend(n.to_be_bytes()));
    bytes
}
