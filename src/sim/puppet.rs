//! Puppets: cheap scripted peers that follow or break the protocol as their role says, with real messages.
//!
//! A puppet reads and writes the same bytes as an engine, through the same [`Decoder`] and [`Encoder`], and
//! has almost no policy: it serves peers as its role says, and a downloading puppet requests one piece at a
//! time from each peer.

use super::faults::chance;
use crate::units::{BLOCK_LEN, Bitfield, BlockSpan, Geometry, InfoHash, Instant, PeerId, PieceIndex, Rng};
use crate::wire::{Decoder, Encoder, Frame, Handshake, Message, RawSpan};
use std::time::Duration;

/// Behaviour of a puppet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PuppetRole {
    /// Has every piece and serves every peer.
    Seed,
    /// A seed over a line of 2 KiB/s: its blocks are always the last.
    Slow,
    /// A seed that sends wrong data in one of four blocks on average.
    Liar,
    /// Has every piece, serves the first few blocks, then accepts requests and sends nothing more.
    Snubber,
    /// Has every piece, chokes and unchokes several times in a row, disconnects and reconnects.
    Flapper,
    /// Has no piece, downloads, serves every peer.
    Leech,
    /// Has no piece, downloads, serves no peer.
    Hoarder,
    /// Has no piece, is never interested, and requests its allowed-fast pieces over and over while choked.
    Greedy,
}

/// Blocks that a snubber serves on a connection before it stops.
const SNUBBER_SERVES: u32 = 8;
/// Requests in flight of a downloading puppet to one peer.
const PUPPET_REQUESTS: u32 = 16;
/// Pieces that a greedy puppet requests without being allowed to.
const GREEDY_TRIES: usize = 32;
/// A liar sends wrong data in one of this many blocks.
const LIES: u32 = 4;
/// Time between two actions of a flapper.
const FLAP_INTERVAL: Duration = Duration::from_millis(700);

/// State of a puppet.
#[derive(Debug)]
pub(super) struct Puppet {
    pub(super) role: PuppetRole,
    pub(super) has: Bitfield,
    /// Pieces that are not requested yet, in the order of their requests.
    missing: Vec<PieceIndex>,
    id: PeerId,
    /// Number of blocks with wrong data sent so far.
    lies: u32,
}

/// A piece that a puppet downloads.
#[derive(Debug)]
struct Fetch {
    piece: PieceIndex,
    /// Number of blocks requested.
    next: u32,
    /// Number of blocks received.
    arrived: u32,
    /// Not 0 if a block has wrong data.
    garbage: u32,
}

/// One connection of a puppet.
#[derive(Debug)]
pub(super) struct PuppetConnection {
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    handshake_done: bool,
    /// The puppet unchokes the peer.
    serving: bool,
    they_want: bool,
    they_choke: bool,
    they_have: Bitfield,
    we_are_interested: bool,
    fetch: Option<Fetch>,
    /// Number of blocks served.
    served: u32,
    /// Number of the wrong data in the block being sent; 0 if the block is correct.
    garbage: u32,
    /// The block being received.
    incoming: Option<RawSpan>,
    incoming_garbage: u32,
}

impl Default for PuppetConnection {
    fn default() -> PuppetConnection {
        PuppetConnection {
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            handshake_done: false,
            serving: false,
            they_want: false,
            they_choke: true,
            they_have: Bitfield::empty(0),
            we_are_interested: false,
            fetch: None,
            served: 0,
            garbage: 0,
            incoming: None,
            incoming_garbage: 0,
        }
    }
}

impl PuppetConnection {
    /// Requests every block of a piece.
    fn request_piece(&mut self, geometry: &Geometry, piece: PieceIndex) {
        for n in 0..geometry.blocks(piece) {
            self.encoder.push(&Message::Request(geometry.block(piece, n).into()));
        }
    }

    /// Sends a `have` for a piece that the puppet completed.
    pub(super) fn announce_piece(&mut self, piece: PieceIndex) {
        if self.handshake_done {
            self.encoder.push(&Message::Have { piece: piece.get() });
        }
    }
}

/// Result of the input that a puppet processed.
pub(super) enum PuppetResult {
    /// The puppet needs more input.
    Nothing,
    /// The puppet completed a piece and announces it on every connection.
    Piece(PieceIndex),
    /// The input violates the protocol: close the connection.
    Invalid,
}

impl Puppet {
    pub(super) fn new(role: PuppetRole, number: u32, geometry: &Geometry, rng: &mut Rng) -> Puppet {
        let downloads = matches!(role, PuppetRole::Leech | PuppetRole::Hoarder | PuppetRole::Greedy);
        let mut missing: Vec<PieceIndex> = geometry.all_pieces().filter(|_| downloads).collect();
        rng.shuffle(&mut missing);
        let has =
            if downloads { Bitfield::empty(geometry.pieces()) } else { Bitfield::full(geometry.pieces()) };
        let mut id = *b"-PUPPET-000000000000";
        id[8..12].copy_from_slice(&number.to_be_bytes());
        Puppet { role, has, missing, id: PeerId(id), lies: 0 }
    }

    /// Sends the handshake and the pieces that the puppet has.
    pub(super) fn send_handshake(&self, conn: &mut PuppetConnection, info_hash: InfoHash) {
        let ours = Handshake { info_hash, peer_id: self.id, fast: true, extended: false, dht: false };
        conn.encoder.push_bytes(&ours.to_bytes());
        conn.encoder.push(&match (self.has.is_full(), self.has.is_empty()) {
            (true, _) => Message::HaveAll,
            (_, true) => Message::HaveNone,
            _ => Message::Bitfield { bytes: self.has.as_bytes() },
        });
    }

    /// Handles every complete message in the decoder. The caller reads payload.
    pub(super) fn on_bytes(&mut self, conn: &mut PuppetConnection, geometry: &Geometry) -> PuppetResult {
        loop {
            let PuppetConnection { decoder, .. } = conn;
            let message = match decoder.next_frame() {
                Ok(Some(Frame::Handshake(_))) => {
                    conn.handshake_done = true;
                    conn.they_have = Bitfield::empty(geometry.pieces());
                    decoder.set_bitfield_len(geometry.pieces().div_ceil(8) as usize);
                    continue;
                }
                Ok(Some(Frame::Block { piece, begin, len })) => {
                    conn.incoming = Some(RawSpan { piece, begin, len });
                    conn.incoming_garbage = 0;
                    return PuppetResult::Nothing;
                }
                Ok(Some(Frame::Message(message))) => message,
                Ok(None) => return PuppetResult::Nothing,
                Err(_) => return PuppetResult::Invalid,
            };
            match message {
                Message::Choke => conn.they_choke = true,
                Message::Unchoke => conn.they_choke = false,
                Message::Interested => conn.they_want = true,
                Message::NotInterested => conn.they_want = false,
                Message::Have { piece } => {
                    if let Some(piece) = geometry.piece(piece) {
                        conn.they_have.set(piece);
                    }
                }
                Message::HaveAll => {
                    conn.they_have = Bitfield::full(geometry.pieces());
                    if self.role == PuppetRole::Greedy {
                        geometry
                            .all_pieces()
                            .take(GREEDY_TRIES)
                            .for_each(|p| conn.request_piece(geometry, p));
                    }
                }
                Message::Bitfield { bytes } => match Bitfield::from_wire(bytes, geometry.pieces()) {
                    Ok(has) => conn.they_have = has,
                    Err(_) => return PuppetResult::Invalid,
                },
                Message::Request(raw) => {
                    let span =
                        geometry.span(raw.piece, raw.begin, raw.len).ok().filter(|s| self.has.has(s.piece()));
                    match span.filter(|_| conn.serving) {
                        Some(span) => self.serve(conn, span),
                        None => conn.encoder.push(&Message::Reject(raw)),
                    }
                }
                Message::Cancel(raw) => {
                    let span = geometry.span(raw.piece, raw.begin, raw.len).ok();
                    if span.is_some_and(|s| conn.encoder.take_back(s)) {
                        conn.encoder.push(&Message::Reject(raw));
                    }
                }
                Message::Reject(_) => self.abandon_fetch(conn),
                Message::AllowedFast { piece } if self.role == PuppetRole::Greedy => {
                    if let Some(piece) = geometry.piece(piece).filter(|_| conn.fetch.is_none()) {
                        conn.fetch = Some(Fetch { piece, next: 0, arrived: 0, garbage: 0 });
                        conn.request_piece(geometry, piece);
                    }
                }
                _ => {}
            }
            self.update_requests(conn, geometry);
        }
    }

    fn serve(&self, conn: &mut PuppetConnection, span: BlockSpan) {
        conn.served += 1;
        if self.role != PuppetRole::Snubber || conn.served <= SNUBBER_SERVES {
            conn.encoder.push_block(span);
        }
    }

    /// Unchokes an interested peer, and requests blocks from an unchoking one.
    fn update_requests(&mut self, conn: &mut PuppetConnection, geometry: &Geometry) {
        if conn.they_want && !conn.serving && self.role != PuppetRole::Hoarder {
            conn.serving = true;
            conn.encoder.push(&Message::Unchoke);
        }
        if self.role == PuppetRole::Greedy {
            return;
        }
        if conn.they_choke {
            self.abandon_fetch(conn);
        }
        let PuppetConnection { they_have, fetch, .. } = conn;
        let useful = self.missing.iter().position(|p| they_have.has(*p));
        if !conn.we_are_interested && useful.is_some() {
            conn.we_are_interested = true;
            conn.encoder.push(&Message::Interested);
        }
        if conn.they_choke {
            return;
        }
        if let (None, Some(at)) = (&fetch, useful) {
            *fetch = Some(Fetch { piece: self.missing.remove(at), next: 0, arrived: 0, garbage: 0 });
        }
        if let Some(f) = fetch {
            while f.next < geometry.blocks(f.piece) && f.next < f.arrived + PUPPET_REQUESTS {
                conn.encoder.push(&Message::Request(geometry.block(f.piece, f.next).into()));
                f.next += 1;
            }
        }
    }

    /// Drops the piece in progress on this connection; it becomes missing again.
    pub(super) fn abandon_fetch(&mut self, conn: &mut PuppetConnection) {
        if let Some(f) = conn.fetch.take() {
            self.missing.push(f.piece);
        }
    }

    /// Handles payload of the block being received; `garbage` is the number of its wrong data, or 0.
    pub(super) fn on_payload(
        &mut self,
        conn: &mut PuppetConnection,
        garbage: u32,
        geometry: &Geometry,
    ) -> PuppetResult {
        conn.incoming_garbage |= garbage;
        if conn.decoder.payload_left() > 0 {
            return PuppetResult::Nothing;
        }
        let Some(raw) = conn.incoming.take() else { return PuppetResult::Nothing };
        if self.role == PuppetRole::Greedy {
            conn.encoder.push(&Message::Request(raw));
        }
        let Some(f) = conn.fetch.as_mut().filter(|f| f.piece.get() == raw.piece) else {
            return PuppetResult::Nothing;
        };
        f.garbage |= conn.incoming_garbage;
        f.arrived += 1;
        let mut result = PuppetResult::Nothing;
        if f.arrived == geometry.blocks(f.piece) {
            let piece = f.piece;
            let good = f.garbage == 0;
            conn.fetch = None;
            if good {
                self.has.set(piece);
                result = PuppetResult::Piece(piece);
            } else {
                self.missing.push(piece);
            }
        }
        self.update_requests(conn, geometry);
        result
    }

    /// Returns the number of the wrong data in the payload `part`; 0 if it is correct.
    pub(super) fn next_garbage(
        &mut self,
        conn: &mut PuppetConnection,
        part: BlockSpan,
        rng: &mut Rng,
    ) -> u32 {
        if part.begin() % BLOCK_LEN == 0 {
            let lie = self.role == PuppetRole::Liar && chance(rng, 1.0 / f64::from(LIES));
            self.lies += u32::from(lie);
            conn.garbage = if lie { self.lies } else { 0 };
        }
        conn.garbage
    }

    /// Returns when a flapper acts next.
    pub(super) fn next_flap(&self, now: Instant) -> Option<Instant> {
        (self.role == PuppetRole::Flapper).then(|| now + FLAP_INTERVAL)
    }

    /// Chokes or unchokes one connection up to three times in a row. Returns true to close the connection
    /// instead.
    pub(super) fn flap(&self, conn: &mut PuppetConnection, rng: &mut Rng) -> bool {
        if !conn.handshake_done || !conn.they_want {
            return false;
        }
        if rng.below(12) == 0 {
            return true;
        }
        for _ in 0..=rng.below(3) {
            conn.serving = !conn.serving;
            conn.encoder.push(if conn.serving { &Message::Unchoke } else { &Message::Choke });
            if !conn.serving {
                for span in conn.encoder.take_back_all() {
                    conn.encoder.push(&Message::Reject(span.into()));
                }
            }
        }
        false
    }
}
