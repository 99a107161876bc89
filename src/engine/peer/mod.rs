//! One connection: its stream decoder, the peer as a source of blocks, and the BitTorrent conversation.

mod allowed_fast;
mod deferred_messages;
mod request_queue;

pub use allowed_fast::allowed_fast;
pub use deferred_messages::{DeferredHave, DeferredMessages};
pub use request_queue::{RequestQueue, RequestState};

use super::action::{Action, Actions};
use super::holepunch::HolepunchBudget;
use super::limits;
use super::negotiation::{Negotiation, StreamEncryption};
use super::policy::Policy;
use super::timers::Timer;
use super::torrent::{PexCursor, PickInput};
use super::turn::Turn;
use crate::units::{
    Bitfield, BlockSpan, Instant, Origin, PeerId, PeerKey, PieceIndex, Rate, SlotMap, TorrentKey,
    TransportKind,
};
use crate::wire::{Decoder, Encoder, ExtensionIds, Message, ReadAhead};
use std::net::SocketAddr;
use std::time::Duration;

/// A connection. The decoder is a field of its own because a message that borrows from its buffer changes the
/// peer.
#[derive(Debug)]
pub struct Connection {
    /// Splits the received bytes into messages.
    pub decoder: Decoder,
    /// The rest of the connection.
    pub peer: Peer,
    /// The negotiation of an encrypted connection (MSE), until the caller has the ciphers.
    pub negotiation: Option<Box<Negotiation>>,
}

/// Every connection of the engine.
pub type Connections = SlotMap<PeerKey, Connection>;

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Dialed, not established.
    Connecting,
    /// Established; the peer's handshake is missing.
    Handshaking,
    /// Both handshakes are done.
    Up,
}

/// The payload that is arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// No payload.
    Nothing,
    /// A block whose lease the peer has.
    Block {
        /// The bytes that are still to arrive.
        rest: BlockSpan,
        /// The whole block.
        block: BlockSpan,
        /// Whether it was in flight when its header arrived, and not cancelled.
        owed: bool,
    },
    /// An unwanted block, which is discarded.
    Unwanted {
        /// The block, if it was in flight.
        owed: Option<BlockSpan>,
    },
}

/// A source of blocks: what the picker, endgame, smart ban and stats may know of a peer.
#[derive(Debug)]
pub struct Source {
    /// Its key.
    pub key: PeerKey,
    /// Its torrent, once known.
    pub torrent: Option<TorrentKey>,
    /// Its address; of a peer that we dialed, the address where it listens.
    pub addr: SocketAddr,
    /// The source of its address.
    pub origin: Origin,
    /// Its pieces.
    pub has: Bitfield,
    /// The number of its pieces that we miss.
    pub wanted_pieces: u32,
    /// It has a missing piece, and we sent `interested`.
    pub we_want: bool,
    /// It chokes us.
    pub they_choke: bool,
    /// Pieces that it serves while it chokes us (BEP 6).
    pub fast_to_us: Vec<PieceIndex>,
    /// Pieces that it suggested (BEP 6).
    pub suggested: Vec<PieceIndex>,
    /// Blocks requested from it.
    pub requests: RequestQueue,
    /// Its upload rate to us, payload bytes a second.
    pub down: Rate,
    /// The payload that is arriving.
    pub reading: Reading,
    /// When the first byte of the arriving block was received.
    pub block_began: Instant,
    /// When the last byte was received.
    pub last_in: Instant,
    /// Its stream is not read until [`Action::Wake`].
    pub read_paused: bool,
    /// Requests that it rejected since its last block.
    pub rejects: u32,
    /// Blocks that it sent without a request.
    pub unasked_blocks: u32,
}

impl Source {
    fn new(
        now: Instant,
        key: PeerKey,
        addr: SocketAddr,
        origin: Origin,
        torrent: Option<TorrentKey>,
        policy: &Policy,
    ) -> Source {
        Source {
            key,
            torrent,
            addr,
            origin,
            has: Bitfield::empty(0),
            wanted_pieces: 0,
            we_want: false,
            they_choke: true,
            fast_to_us: Vec::new(),
            suggested: Vec::new(),
            requests: RequestQueue::new(policy.window, policy.snub_after),
            down: Rate::default(),
            reading: Reading::Nothing,
            block_began: now,
            last_in: now,
            read_paused: false,
            rejects: 0,
            unasked_blocks: 0,
        }
    }

    /// Returns whether a request may be sent to it now: it does not choke us, or allows some pieces
    /// nevertheless.
    pub fn may_be_asked(&self) -> bool {
        self.we_want && (!self.they_choke || !self.fast_to_us.is_empty())
    }

    /// Returns the picker's input.
    pub fn pick_input(&self, is_fast: bool) -> PickInput<'_> {
        PickInput {
            peer: self.key,
            has: &self.has,
            only: self.they_choke.then_some(self.fast_to_us.as_slice()),
            suggested: &self.suggested,
            at: self.requests.at(),
            is_fast,
        }
    }

    /// Returns the block that is arriving, and the expected time until its last byte.
    pub fn being_sent(&self, now: Instant) -> Option<(BlockSpan, Duration)> {
        let Reading::Block { rest, block, .. } = self.reading else { return None };
        let wait =
            Duration::from_micros(u64::from(rest.len()) * 1_000_000 / self.down.per_second(now).max(1));
        Some((block, wait.max(now.since(self.last_in))))
    }

    /// Returns when the arriving block times out.
    pub fn block_due(&self) -> Instant {
        match self.reading {
            Reading::Block { .. } => self.block_began + limits::BLOCK_TIMEOUT,
            _ => Instant::NEVER,
        }
    }

    /// Restarts every timeout: we caused its silence until now.
    pub fn reset_timeouts(&mut self, now: Instant) {
        self.requests.reset_timeouts(now);
        self.last_in = now;
        self.block_began = now;
    }
}

/// The state of the BitTorrent conversation with a peer, and of our uploads to it.
#[derive(Debug)]
pub struct Wire {
    /// We dialed the connection.
    pub dialed: bool,
    /// The transport of the connection.
    pub over: TransportKind,
    /// A dialed connection begins with a negotiation (MSE).
    pub encrypt: bool,
    /// The info hash that a successful negotiation (MSE) named, be its method plaintext or RC4.
    pub negotiated: Option<[u8; 20]>,
    /// The whole stream is encrypted with RC4.
    pub rc4: bool,
    /// The peer answered the negotiation with a plain handshake.
    pub plain_answer: bool,
    /// At least one byte of a negotiation has arrived.
    pub heard: bool,
    /// The phase of the connection.
    pub phase: Phase,
    /// When this phase began.
    pub since: Instant,
    /// When our last byte was sent.
    pub last_out: Instant,
    /// When either side last wanted a piece.
    pub last_wanted: Instant,
    /// Messages and blocks to send.
    pub encoder: Encoder,
    flush_queued: bool,
    /// An upload limit holds its blocks back.
    pub upload_throttled: bool,
    /// Its peer id, once known.
    pub id: Option<PeerId>,
    /// Both sides speak the Fast extension (BEP 6).
    pub fast: bool,
    /// It was counted as a seed when it sent its bitfield.
    pub joined_as_seed: bool,
    /// It has sent its bitfield, `have all` or `have none`.
    pub sent_have_set: bool,
    /// We choke it.
    pub we_choke: bool,
    /// It sent `interested`.
    pub they_want: bool,
    /// Our upload rate to it, payload bytes a second.
    pub up: Rate,
    /// Pieces that it may request while we choke it, and the bytes sent of each (BEP 6).
    pub fast_to_them: Vec<(PieceIndex, u64)>,
    /// When we last choked or unchoked it.
    pub choke_changed: Instant,
    /// Payload sent since then, bytes.
    pub sent_since_change: u64,
    /// Requests that could not be served.
    pub invalid_requests: u32,
    /// It has reported our address; only its first report counts.
    pub reported_our_ip: bool,
    /// It has reported its DHT node; only its first report counts.
    pub reported_dht_port: bool,
    /// The port where it listens, from its extension handshake.
    pub listen_port: Option<u16>,
    /// Other peers are told of it (BEP 11).
    pub advertised: bool,
    /// The part of the PEX log that it has received (BEP 11).
    pub pex_cursor: PexCursor,
    /// What it may still have of us for hole punching (BEP 55).
    pub holepunch: HolepunchBudget,
    /// Message ids of the extensions that it speaks (BEP 10).
    pub extensions: ExtensionIds,
    /// The length of the metadata, as it says (BEP 9).
    pub metadata_size: Option<u32>,
    /// The name and version of its client (BEP 10).
    pub client: Option<Box<str>>,
    /// It prefers encrypted connections, as it says.
    pub wants_encryption: bool,
    /// It is upload-only (BEP 21).
    pub upload_only: bool,
    /// Our upload-only state as it last received it; `None` if it does not support the extension protocol.
    pub sent_upload_only: Option<bool>,
    /// Messages that wait for the metadata.
    pub deferred: DeferredMessages,
}

impl Wire {
    fn new(now: Instant, dialed: bool) -> Wire {
        Wire {
            dialed,
            over: TransportKind::Tcp,
            encrypt: false,
            negotiated: None,
            rc4: false,
            plain_answer: false,
            heard: false,
            phase: if dialed { Phase::Connecting } else { Phase::Handshaking },
            since: now,
            last_out: now,
            last_wanted: now,
            encoder: Encoder::default(),
            flush_queued: false,
            upload_throttled: false,
            id: None,
            fast: false,
            joined_as_seed: false,
            sent_have_set: false,
            we_choke: true,
            they_want: false,
            up: Rate::default(),
            fast_to_them: Vec::new(),
            choke_changed: now,
            sent_since_change: 0,
            invalid_requests: 0,
            reported_our_ip: false,
            reported_dht_port: false,
            listen_port: None,
            advertised: false,
            pex_cursor: PexCursor::default(),
            holepunch: HolepunchBudget::default(),
            extensions: ExtensionIds::default(),
            metadata_size: None,
            client: None,
            wants_encryption: false,
            upload_only: false,
            sent_upload_only: None,
            deferred: DeferredMessages::default(),
        }
    }
}

/// A peer: a source of blocks, and the conversation that brings them.
#[derive(Debug)]
pub struct Peer {
    /// Its side as a source of blocks.
    pub source: Source,
    /// Its side as a partner of the protocol.
    pub wire: Wire,
}

impl Wire {
    /// Returns how the connection is encrypted.
    pub fn encryption(&self) -> StreamEncryption {
        match self.negotiated {
            None => StreamEncryption::Plain,
            Some(_) if self.rc4 => StreamEncryption::Rc4,
            Some(_) => StreamEncryption::Negotiation,
        }
    }

    /// Returns the words that tell this connection from a plain one over TCP, each after a comma.
    pub fn kind_words(&self) -> &'static str {
        match (self.over, self.encryption()) {
            (TransportKind::Tcp, StreamEncryption::Plain) => "",
            (TransportKind::Tcp, StreamEncryption::Negotiation) => ", MSE",
            (TransportKind::Tcp, StreamEncryption::Rc4) => ", RC4",
            (TransportKind::Utp, StreamEncryption::Plain) => ", uTP",
            (TransportKind::Utp, StreamEncryption::Negotiation) => ", uTP, MSE",
            (TransportKind::Utp, StreamEncryption::Rc4) => ", uTP, RC4",
        }
    }
}

impl Peer {
    /// Returns a peer of which only the address is known.
    pub fn new(
        now: Instant,
        key: PeerKey,
        addr: SocketAddr,
        origin: Origin,
        torrent: Option<TorrentKey>,
        policy: &Policy,
    ) -> Peer {
        Peer {
            source: Source::new(now, key, addr, origin, torrent, policy),
            wire: Wire::new(now, origin != Origin::Incoming),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message<'_>, out: &mut Actions) {
        self.wire.encoder.push(message);
        self.flush(out);
    }

    /// Announces with [`Action::Flush`] that there is something to write.
    pub fn flush(&mut self, out: &mut Actions) {
        if !self.wire.flush_queued {
            self.wire.flush_queued = true;
            out.push(Action::Flush { peer: self.source.key });
        }
    }

    /// Notes that the caller asks what to write: the next message needs another [`Action::Flush`].
    pub fn flushing(&mut self) {
        self.wire.flush_queued = false;
    }

    /// Sends a request for a block that is counted as requested in [`Pieces`](super::torrent::Pieces)
    /// already.
    pub fn request(&mut self, turn: &mut Turn<'_>, block: BlockSpan) {
        let first = self.source.requests.in_flight() == 0;
        self.source.requests.asked(turn.now, block);
        self.send(&Message::Request(block.into()), turn.out);
        if first {
            turn.timers.arm(Timer::Peer(self.source.key), self.next_deadline());
        }
    }

    /// Returns how far the decoder may read ahead: not past a block's header while blocks are in flight, so
    /// that payload is read into its target.
    pub fn read_ahead(&self) -> ReadAhead {
        if self.source.requests.in_flight() > 0 { ReadAhead::Header } else { ReadAhead::Full }
    }

    /// Sends `interested` or `not interested`, if that changed.
    pub fn set_we_want(&mut self, now: Instant, want: bool, out: &mut Actions) {
        if self.source.we_want != want && self.wire.phase == Phase::Up {
            self.source.we_want = want;
            self.wire.last_wanted = now;
            self.send(if want { &Message::Interested } else { &Message::NotInterested }, out);
        }
    }

    /// Chokes or unchokes it. Choking drops its queued blocks, and rejects them with the Fast extension (BEP
    /// 6).
    pub fn set_we_choke(&mut self, now: Instant, choke: bool, out: &mut Actions) {
        if self.wire.we_choke == choke {
            return;
        }
        self.wire.we_choke = choke;
        self.wire.choke_changed = now;
        self.wire.sent_since_change = 0;
        self.send(if choke { &Message::Choke } else { &Message::Unchoke }, out);
        if choke {
            for span in self.wire.encoder.take_back_all() {
                if self.wire.fast {
                    self.send(&Message::Reject(span.into()), out);
                }
            }
        }
    }

    /// Returns the time of its next timeout or keep-alive.
    pub fn next_deadline(&self) -> Instant {
        match self.wire.phase {
            Phase::Connecting => self.wire.since + limits::CONNECT_TIMEOUT,
            Phase::Handshaking => self.wire.since + limits::HANDSHAKE_TIMEOUT,
            Phase::Up => (self.source.last_in + limits::IDLE_TIMEOUT)
                .min(self.wire.last_out + limits::KEEP_ALIVE)
                .min(self.source.requests.snub_at())
                .min(self.source.block_due())
                .min(self.uninteresting_at()),
        }
    }

    /// Returns whether our limit or disk pauses reading, rather than the peer, which does not read our
    /// replies.
    pub fn is_held_back(&self) -> bool {
        self.source.read_paused && self.wire.encoder.control_bytes() <= limits::ENCODER_STOP_READING_BYTES
    }

    /// Returns when the connection is closed because neither side has wanted a piece.
    pub fn uninteresting_at(&self) -> Instant {
        if self.source.we_want || self.wire.they_want {
            Instant::NEVER
        } else {
            self.wire.last_wanted + limits::UNINTERESTING_TIMEOUT
        }
    }
}
