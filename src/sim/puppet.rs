//! Scripted peers: cheap, as good or as bad as their part says, and real on the wire.
//!
//! A puppet reads and writes the same bytes as an engine, through the same [`Decoder`] and [`Encoder`], and
//! decides almost nothing: it serves whom it likes, and one that downloads asks each peer for one piece at a
//! time.

use super::faults::chance;
use crate::units::{BLOCK_LEN, Bitfield, BlockSpan, Geometry, InfoHash, Instant, PeerId, PieceIndex, Rng};
use crate::wire::{Decoder, Encoder, Frame, Handshake, Message, RawSpan};
use std::time::Duration;

/// What a puppet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PuppetRole {
    /// Has every piece and serves every peer.
    Seed,
    /// The same over a line of 2 KiB a second: its blocks are always the last.
    Slow,
    /// The same, but every fourth block is a lie.
    Liar,
    /// Has everything, serves the first few blocks, takes requests and then says nothing more.
    Snubber,
    /// Has everything, chokes and unchokes in storms, hangs up and comes back.
    Flapper,
    /// Has no piece, downloads, serves every peer.
    Leech,
    /// Has no piece, downloads, serves no peer.
    Hoarder,
    /// Has nothing, wants nothing, and takes what it is allowed without being served, over and over.
    Greedy,
}

/// Blocks that a snubber serves before it falls silent.
const SNUBBER_SERVES: u32 = 8;
/// Requests that a downloading puppet has out to one peer.
const PUPPET_REQUESTS: u32 = 16;
/// Pieces that a greedy puppet asks for without being allowed them.
const GREEDY_TRIES: usize = 32;
/// One block in so many is a lie.
const LIES: u32 = 4;
/// Time between two whims of a flapper.
const WHIM: Duration = Duration::from_millis(700);

/// One puppet's mind.
#[derive(Debug)]
pub(super) struct Puppet {
    pub(super) part: PuppetRole,
    pub(super) has: Bitfield,
    /// Pieces that were not requested yet, in the order in which they will be.
    missing: Vec<PieceIndex>,
    id: PeerId,
    lies: u32,
}

/// A piece on its way to a downloading puppet.
#[derive(Debug)]
struct Fetch {
    piece: PieceIndex,
    next: u32,
    arrived: u32,
    garbage: u32,
}

/// One connection of a puppet.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    up: bool,
    /// We serve it.
    serve: bool,
    they_want: bool,
    they_choke: bool,
    they_have: Bitfield,
    we_said_interested: bool,
    fetch: Option<Fetch>,
    served: u32,
    /// The lie in the block that is going out.
    garbage: u32,
    /// The block that comes in.
    incoming: Option<RawSpan>,
    incoming_garbage: u32,
}

impl Default for Talk {
    fn default() -> Talk {
        Talk {
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            up: false,
            serve: false,
            they_want: false,
            they_choke: true,
            they_have: Bitfield::empty(0),
            we_said_interested: false,
            fetch: None,
            served: 0,
            garbage: 0,
            incoming: None,
            incoming_garbage: 0,
        }
    }
}

impl Talk {
    /// Asks for all of a piece, allowed or not.
    fn ask_for(&mut self, geometry: &Geometry, piece: PieceIndex) {
        for n in 0..geometry.blocks(piece) {
            self.encoder.push(&Message::Request(geometry.block(piece, n).into()));
        }
    }

    /// A piece has come from elsewhere.
    pub(super) fn tell(&mut self, piece: PieceIndex) {
        if self.up {
            self.encoder.push(&Message::Have { piece: piece.get() });
        }
    }
}

/// What a puppet's message means for its other connections.
pub(super) enum HeardMessage {
    Nothing,
    /// It has a new piece: every peer is told.
    Piece(PieceIndex),
    /// What was said makes no sense: hang up.
    Nonsense,
}

impl Puppet {
    pub(super) fn new(part: PuppetRole, number: u32, geometry: &Geometry, rng: &mut Rng) -> Puppet {
        let downloads = matches!(part, PuppetRole::Leech | PuppetRole::Hoarder | PuppetRole::Greedy);
        let mut missing: Vec<PieceIndex> = geometry.all_pieces().filter(|_| downloads).collect();
        rng.shuffle(&mut missing);
        let has =
            if downloads { Bitfield::empty(geometry.pieces()) } else { Bitfield::full(geometry.pieces()) };
        let mut id = *b"-PUPPET-000000000000";
        id[8..12].copy_from_slice(&number.to_be_bytes());
        Puppet { part, has, missing, id: PeerId(id), lies: 0 }
    }

    /// The connection stands.
    pub(super) fn greet(&self, talk: &mut Talk, info_hash: InfoHash) {
        let ours = Handshake { info_hash, peer_id: self.id, fast: true, extended: false, dht: false };
        talk.encoder.push_bytes(&ours.to_bytes());
        talk.encoder.push(&match (self.has.is_full(), self.has.is_empty()) {
            (true, _) => Message::HaveAll,
            (_, true) => Message::HaveNone,
            _ => Message::Bitfield { bytes: self.has.as_bytes() },
        });
    }

    /// Everything that stands in the decoder. Payload is taken by the caller.
    pub(super) fn hear(&mut self, talk: &mut Talk, geometry: &Geometry) -> HeardMessage {
        loop {
            let Talk { decoder, .. } = talk;
            let message = match decoder.next_frame() {
                Ok(Some(Frame::Handshake(_))) => {
                    talk.up = true;
                    talk.they_have = Bitfield::empty(geometry.pieces());
                    decoder.set_bitfield_len(geometry.pieces().div_ceil(8) as usize);
                    continue;
                }
                Ok(Some(Frame::Block { piece, begin, len })) => {
                    (talk.incoming, talk.incoming_garbage) = (Some(RawSpan { piece, begin, len }), 0);
                    return HeardMessage::Nothing;
                }
                Ok(Some(Frame::Message(message))) => message,
                Ok(None) => return HeardMessage::Nothing,
                Err(_) => return HeardMessage::Nonsense,
            };
            match message {
                Message::Choke => talk.they_choke = true,
                Message::Unchoke => talk.they_choke = false,
                Message::Interested => talk.they_want = true,
                Message::NotInterested => talk.they_want = false,
                Message::Have { piece } => drop(geometry.piece(piece).map(|p| talk.they_have.set(p))),
                Message::HaveAll => {
                    talk.they_have = Bitfield::full(geometry.pieces());
                    if self.part == PuppetRole::Greedy {
                        geometry.all_pieces().take(GREEDY_TRIES).for_each(|p| talk.ask_for(geometry, p));
                    }
                }
                Message::Bitfield { bytes } => match Bitfield::from_wire(bytes, geometry.pieces()) {
                    Ok(has) => talk.they_have = has,
                    Err(_) => return HeardMessage::Nonsense,
                },
                Message::Request(raw) => {
                    let span =
                        geometry.span(raw.piece, raw.begin, raw.len).ok().filter(|s| self.has.has(s.piece()));
                    match span.filter(|_| talk.serve) {
                        Some(span) => self.serve(talk, span),
                        None => talk.encoder.push(&Message::Reject(raw)),
                    }
                }
                Message::Cancel(raw) => {
                    let span = geometry.span(raw.piece, raw.begin, raw.len).ok();
                    if span.is_some_and(|s| talk.encoder.take_back(s)) {
                        talk.encoder.push(&Message::Reject(raw));
                    }
                }
                Message::Reject(_) => self.give_up(talk),
                Message::AllowedFast { piece } if self.part == PuppetRole::Greedy => {
                    if let Some(piece) = geometry.piece(piece).filter(|_| talk.fetch.is_none()) {
                        talk.fetch = Some(Fetch { piece, next: 0, arrived: 0, garbage: 0 });
                        talk.ask_for(geometry, piece);
                    }
                }
                _ => {}
            }
            self.settle(talk, geometry);
        }
    }

    fn serve(&self, talk: &mut Talk, span: BlockSpan) {
        talk.served += 1;
        if self.part != PuppetRole::Snubber || talk.served <= SNUBBER_SERVES {
            talk.encoder.push_block(span);
        }
    }

    /// Serves who wants, asks who serves.
    fn settle(&mut self, talk: &mut Talk, geometry: &Geometry) {
        if talk.they_want && !talk.serve && self.part != PuppetRole::Hoarder {
            talk.serve = true;
            talk.encoder.push(&Message::Unchoke);
        }
        if self.part == PuppetRole::Greedy {
            return;
        }
        if talk.they_choke {
            self.give_up(talk);
        }
        let Talk { they_have, fetch, .. } = talk;
        let useful = self.missing.iter().position(|p| they_have.has(*p));
        if !talk.we_said_interested && useful.is_some() {
            talk.we_said_interested = true;
            talk.encoder.push(&Message::Interested);
        }
        if talk.they_choke {
            return;
        }
        if let (None, Some(at)) = (&fetch, useful) {
            *fetch = Some(Fetch { piece: self.missing.remove(at), next: 0, arrived: 0, garbage: 0 });
        }
        if let Some(f) = fetch {
            while f.next < geometry.blocks(f.piece) && f.next < f.arrived + PUPPET_REQUESTS {
                talk.encoder.push(&Message::Request(geometry.block(f.piece, f.next).into()));
                f.next += 1;
            }
        }
    }

    /// Nothing more comes of what was asked here.
    pub(super) fn give_up(&mut self, talk: &mut Talk) {
        if let Some(f) = talk.fetch.take() {
            self.missing.push(f.piece);
        }
    }

    /// `n` bytes of the block that comes in were taken.
    pub(super) fn taken(&mut self, talk: &mut Talk, garbage: u32, geometry: &Geometry) -> HeardMessage {
        talk.incoming_garbage |= garbage;
        if talk.decoder.payload_left() > 0 {
            return HeardMessage::Nothing;
        }
        let Some(raw) = talk.incoming.take() else { return HeardMessage::Nothing };
        if self.part == PuppetRole::Greedy {
            talk.encoder.push(&Message::Request(raw));
        }
        let Some(f) = talk.fetch.as_mut().filter(|f| f.piece.get() == raw.piece) else {
            return HeardMessage::Nothing;
        };
        f.garbage |= talk.incoming_garbage;
        f.arrived += 1;
        let mut heard = HeardMessage::Nothing;
        if f.arrived == geometry.blocks(f.piece) {
            let (piece, good) = (f.piece, f.garbage == 0);
            talk.fetch = None;
            if good {
                self.has.set(piece);
                heard = HeardMessage::Piece(piece);
            } else {
                self.missing.push(piece);
            }
        }
        self.settle(talk, geometry);
        heard
    }

    /// Whether the payload that goes out now is a lie, and which.
    pub(super) fn garbage(&mut self, talk: &mut Talk, part: BlockSpan, rng: &mut Rng) -> u32 {
        if part.begin() % BLOCK_LEN == 0 {
            let lie = self.part == PuppetRole::Liar && chance(rng, 1.0 / f64::from(LIES));
            self.lies += u32::from(lie);
            talk.garbage = if lie { self.lies } else { 0 };
        }
        talk.garbage
    }

    /// When it does something of its own accord.
    pub(super) fn next_whim(&self, now: Instant) -> Option<Instant> {
        (self.part == PuppetRole::Flapper).then(|| now + WHIM)
    }

    /// A flapper's whim about one connection; true if it hangs up.
    pub(super) fn whim(&self, talk: &mut Talk, rng: &mut Rng) -> bool {
        if !talk.up || !talk.they_want {
            return false;
        }
        if rng.below(12) == 0 {
            return true;
        }
        for _ in 0..=rng.below(3) {
            talk.serve = !talk.serve;
            talk.encoder.push(if talk.serve { &Message::Unchoke } else { &Message::Choke });
            if !talk.serve {
                for span in talk.encoder.take_back_all() {
                    talk.encoder.push(&Message::Reject(span.into()));
                }
            }
        }
        false
    }
}
