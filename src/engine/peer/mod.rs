//! One connection: what it said, what it may do, what it owes us and we owe it.

mod allowed_fast;
mod request_queue;

pub use allowed_fast::allowed_fast;
pub use request_queue::{RequestQueue, RequestState};

use super::action::{Action, Actions};
use super::deferred::DeferredMessages;
use super::limits;
use super::policy::Policy;
use super::torrent::{PexCursor, PickInput};
use crate::units::{Bitfield, BlockSpan, Instant, Origin, PeerId, PeerKey, PieceIndex, Rate, TorrentKey};
use crate::wire::{Decoder, Encoder, ExtensionIds, Message, ReadAhead};
use std::net::SocketAddr;
use std::time::Duration;

/// A connection: the stream that is read, and everything else. They stand apart because a message that is
/// still in the decoder's buffer changes the rest.
#[derive(Debug)]
pub struct Connection {
    /// The reading half of the stream.
    pub decoder: Decoder,
    /// The rest.
    pub peer: Peer,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Dialed, not answered.
    Connecting,
    /// Connected; the other side has not said who it is.
    Handshaking,
    /// Both have.
    Up,
}

/// What the payload that is coming in is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// No payload.
    Nothing,
    /// A leased block: where the next byte goes, and the block. `owed`: it was asked for and not given up.
    Block {
        /// What is still to come.
        rest: BlockSpan,
        /// All of it.
        block: BlockSpan,
        /// Still owed when it began.
        owed: bool,
    },
    /// An unwanted block, which is skipped.
    Unwanted {
        /// The block as it was owed, if it was.
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
    /// How its address came to us.
    pub origin: Origin,
    /// Pieces that it has.
    pub has: Bitfield,
    /// The number of pieces that it has and we miss.
    pub wanted_pieces: u32,
    /// It has a piece that we miss, and was told so.
    pub we_want: bool,
    /// It does not serve us.
    pub they_choke: bool,
    /// Pieces that it serves while it chokes us (BEP 6).
    pub fast_to_us: Vec<PieceIndex>,
    /// Pieces that it suggested (BEP 6).
    pub suggested: Vec<PieceIndex>,
    /// Blocks requested from it.
    pub requests: RequestQueue,
    /// Payload that it sends, bytes a second.
    pub down: Rate,
    /// The payload that is arriving.
    pub reading: Reading,
    /// When the leased block that is arriving began.
    pub block_began: Instant,
    /// When its last byte arrived.
    pub last_in: Instant,
    /// Its stream is not read until it is woken.
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

    /// Whether a request may be sent to it now: it serves us, or some pieces in spite of choking us.
    pub fn may_be_asked(&self) -> bool {
        self.we_want && (!self.they_choke || !self.fast_to_us.is_empty())
    }

    /// The picker's input.
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

    /// The block that arrives under its lease, and the time in which the rest of it may be expected.
    pub fn being_sent(&self, now: Instant) -> Option<(BlockSpan, Duration)> {
        let Reading::Block { rest, block, .. } = self.reading else { return None };
        let wait =
            Duration::from_micros(u64::from(rest.len()) * 1_000_000 / self.down.per_second(now).max(1));
        Some((block, wait.max(now.since(self.last_in))))
    }

    /// When the block that is arriving has taken too long.
    pub fn block_due(&self) -> Instant {
        match self.reading {
            Reading::Block { .. } => self.block_began + limits::BLOCK_TIMEOUT,
            _ => Instant::NEVER,
        }
    }

    /// Its silence until now was our doing.
    pub fn reset_timeouts(&mut self, now: Instant) {
        self.requests.reset_timeouts(now);
        self.last_in = now;
        self.block_began = now;
    }
}

/// The BitTorrent conversation with a peer: what was said, and what we serve it.
#[derive(Debug)]
pub struct Wire {
    /// We dialed it.
    pub dialed: bool,
    /// How far the connection is.
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
    /// An upload limit keeps its blocks back.
    pub upload_throttled: bool,
    /// Its peer id, once known.
    pub id: Option<PeerId>,
    /// Both sides speak the Fast extension (BEP 6).
    pub fast: bool,
    /// It was counted as a seed when it sent its bitfield.
    pub joined_as_seed: bool,
    /// It has sent its bitfield, or another message that had to come after it.
    pub sent_have_info: bool,
    /// We do not serve it.
    pub we_choke: bool,
    /// We have a piece that it misses, and it said so.
    pub they_want: bool,
    /// Payload that we send, bytes a second.
    pub up: Rate,
    /// Pieces that it may request while we choke it, and the bytes that it took that way (BEP 6).
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
    /// The port where it listens, as it says.
    pub listen_port: Option<u16>,
    /// Other peers are told of it (BEP 11).
    pub advertised: bool,
    /// What it was told of other peers (BEP 11).
    pub pex_cursor: PexCursor,
    /// Message ids of the extensions that it speaks (BEP 10).
    pub extensions: ExtensionIds,
    /// The client's name and version, as it says (BEP 10).
    pub client: Option<Box<str>>,
    /// It says that it is upload-only (BEP 21).
    pub upload_only: bool,
    /// What we last said of ourselves about that; `None` if it does not speak the extension protocol.
    pub sent_upload_only: Option<bool>,
    /// Messages that wait for the metadata.
    pub deferred: DeferredMessages,
}

impl Wire {
    fn new(now: Instant, dialed: bool) -> Wire {
        Wire {
            dialed,
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
            sent_have_info: false,
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
            extensions: ExtensionIds::default(),
            client: None,
            upload_only: false,
            sent_upload_only: None,
            deferred: DeferredMessages::default(),
        }
    }
}

/// A peer: a source of blocks, and the conversation that brings them.
#[derive(Debug)]
pub struct Peer {
    /// What is requested from it.
    pub source: Source,
    /// What is said.
    pub wire: Wire,
}

impl Peer {
    /// A peer of which only the address is known.
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

    /// There is something to write.
    pub fn flush(&mut self, out: &mut Actions) {
        if !self.wire.flush_queued {
            self.wire.flush_queued = true;
            out.push(Action::Flush { peer: self.source.key });
        }
    }

    /// The hands ask what to write: the next message needs another [`Action::Flush`].
    pub fn flushing(&mut self) {
        self.wire.flush_queued = false;
    }

    /// How far the stream may be read along with framing: no further than a block's header while blocks may
    /// come.
    pub fn read_ahead(&self) -> ReadAhead {
        if self.source.requests.in_flight() > 0 { ReadAhead::Header } else { ReadAhead::Full }
    }

    /// Says whether we want something of it, if that changed.
    pub fn set_we_want(&mut self, now: Instant, want: bool, out: &mut Actions) {
        if self.source.we_want != want && self.wire.phase == Phase::Up {
            self.source.we_want = want;
            self.wire.last_wanted = now;
            self.send(if want { &Message::Interested } else { &Message::NotInterested }, out);
        }
    }

    /// Begins or ends serving it. What it had asked for and has not begun is dropped, or rejected (BEP 6).
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

    /// When something has to be said or done about its silence, and ours.
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

    /// Whether it is our limit or our disk that keeps us from reading, and not its own refusal to read.
    pub fn is_held_back(&self) -> bool {
        self.source.read_paused && self.wire.encoder.control_bytes() <= limits::ENCODER_STOP_READING_BYTES
    }

    /// When neither side will have wanted a piece for too long.
    pub fn uninteresting_at(&self) -> Instant {
        match self.source.we_want || self.wire.they_want {
            true => Instant::NEVER,
            false => self.wire.last_wanted + limits::UNINTERESTING_TIMEOUT,
        }
    }
}
