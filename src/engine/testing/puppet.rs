//! The other end of a connection: bytes on their way, and what was heard in them.

use super::HASH;
use crate::engine::DisconnectReason;
use crate::units::{BLOCK_LEN, PeerId};
use crate::wire::{Decoder, Frame, Handshake, Message, RawSpan, ReadAhead};
use std::collections::VecDeque;

/// The number under which puppets want to be sent metadata messages.
pub const METADATA_ID: u8 = 77;
/// Under which id puppets want to be told of peers.
pub const PEX_ID: u8 = 78;

/// What a puppet heard the engine say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Handshake,
    /// Any message without numbers, by its name.
    Word(&'static str),
    Have(u32),
    Bitfield(Vec<u8>),
    Request(RawSpan),
    Cancel(RawSpan),
    Reject(RawSpan),
    AllowedFast(u32),
    Extended(u8),
    /// An extension handshake.
    Hello(Vec<u8>),
    /// An extension message under [`METADATA_ID`].
    Metadata(Vec<u8>),
    Pex(Vec<u8>),
    /// A block, all of it.
    Block(RawSpan),
}

/// One connection as its other end sees it.
pub struct TestPeer {
    /// On its way to the engine.
    pub to_engine: VecDeque<u8>,
    /// What the engine wrote and the test has not read yet.
    pub from_engine: VecDeque<u8>,
    /// It takes bytes from the engine.
    pub reads: bool,
    pub up: bool,
    /// Ended, and why if the engine said so by an error.
    pub closed: Option<Option<DisconnectReason>>,
    heard: Decoder,
    pub requests: Vec<RawSpan>,
}

impl TestPeer {
    pub fn new(up: bool) -> TestPeer {
        TestPeer {
            to_engine: VecDeque::new(),
            from_engine: VecDeque::new(),
            reads: true,
            up,
            closed: None,
            heard: Decoder::default(),
            requests: Vec::new(),
        }
    }

    pub fn listen(&mut self, pieces: u32) -> Vec<Received> {
        self.heard.set_bitfield_len(pieces.div_ceil(8) as usize);
        let mut said = Vec::new();
        loop {
            let buffered = self.heard.buffered().len();
            if buffered > 0 {
                self.heard.buffered_taken(buffered as u32);
            }
            let next =
                self.heard.next_frame().expect("the engine speaks the protocol").map(|frame| match frame {
                    Frame::Handshake(_) => Received::Handshake,
                    Frame::Block { piece, begin, len } => Received::Block(RawSpan { piece, begin, len }),
                    Frame::Message(m) => Received::from(m),
                });
            match next {
                Some(s) => said.push(s),
                None if self.heard.payload_left() > 0 && !self.from_engine.is_empty() => {
                    let n = self.from_engine.len().min(self.heard.payload_left() as usize);
                    self.from_engine.drain(..n);
                    self.heard.payload_taken(n as u32);
                }
                None if self.from_engine.is_empty() => break,
                None => {
                    let room = self.heard.room(ReadAhead::Full);
                    let n = room.len().min(self.from_engine.len());
                    room.iter_mut().zip(self.from_engine.drain(..n)).for_each(|(to, b)| *to = b);
                    self.heard.advance(n);
                }
            }
        }
        for s in &said {
            match s {
                Received::Request(r) => self.requests.push(*r),
                Received::Cancel(c) => self.requests.retain(|r| r != c),
                _ => {}
            }
        }
        said
    }
}

impl From<Message<'_>> for Received {
    fn from(m: Message<'_>) -> Received {
        match m {
            Message::KeepAlive => Received::Word("KeepAlive"),
            Message::Choke => Received::Word("Choke"),
            Message::Unchoke => Received::Word("Unchoke"),
            Message::Interested => Received::Word("Interested"),
            Message::NotInterested => Received::Word("NotInterested"),
            Message::HaveAll => Received::Word("HaveAll"),
            Message::HaveNone => Received::Word("HaveNone"),
            Message::Have { piece } => Received::Have(piece),
            Message::Bitfield { bytes } => Received::Bitfield(bytes.to_vec()),
            Message::Request(s) => Received::Request(s),
            Message::Cancel(s) => Received::Cancel(s),
            Message::Reject(s) => Received::Reject(s),
            Message::AllowedFast { piece } => Received::AllowedFast(piece),
            Message::Extended { id: 0, payload } => Received::Hello(payload.to_vec()),
            Message::Extended { id: METADATA_ID, payload } => Received::Metadata(payload.to_vec()),
            Message::Extended { id: PEX_ID, payload } => Received::Pex(payload.to_vec()),
            Message::Extended { id, .. } => Received::Extended(id),
            Message::Port { .. } => Received::Word("Port"),
            Message::Suggest { .. } => Received::Word("other"),
        }
    }
}

/// A handshake of the peer named after `host`, for the world's torrent.
pub fn handshake(host: u8, fast: bool) -> Vec<u8> {
    Handshake { info_hash: HASH, peer_id: PeerId([host; 20]), fast, extended: false, dht: false }
        .to_bytes()
        .to_vec()
}

pub fn raw(piece: u32, begin: u32, len: u32) -> RawSpan {
    RawSpan { piece, begin, len }
}

/// Block number `block` of piece `piece`, whole.
pub fn block(piece: u32, block: u32) -> RawSpan {
    raw(piece, block * BLOCK_LEN, BLOCK_LEN)
}

/// What stands before a block's payload.
pub fn header(s: RawSpan) -> Vec<u8> {
    let mut bytes = (9 + s.len).to_be_bytes().to_vec();
    bytes.push(7);
    [s.piece, s.begin].iter().for_each(|n| bytes.extend(n.to_be_bytes()));
    bytes
}
