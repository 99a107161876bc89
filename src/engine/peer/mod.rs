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

/// A connection: the stream that is read, and everything else. They stand apart because a message that is still in the
/// decoder's buffer changes the rest.
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
    /// A block that nobody wants.
    Unwanted {
        /// The block as it was owed, if it was.
        owed: Option<BlockSpan>,
    },
}

/// Everything about a peer but the stream that is read.
#[derive(Debug)]
pub struct Peer {
    /// Its key.
    pub key: PeerKey,
    /// Its address; for one that we dialed, where it listens.
    pub addr: SocketAddr,
    /// Who told us of it.
    pub origin: Origin,
    /// We dialed it.
    pub dialed: bool,
    /// Its torrent, once known.
    pub torrent: Option<TorrentKey>,
    /// How far the connection is.
    pub phase: Phase,
    /// When this phase began.
    pub since: Instant,
    /// When the last byte came.
    pub last_in: Instant,
    /// When the last byte went.
    pub last_out: Instant,
    /// When either side last wanted something.
    pub last_wanted: Instant,
    /// What goes out.
    pub encoder: Encoder,
    flush_queued: bool,
    /// `want` said Pause, and nothing has woken it since.
    pub read_paused: bool,
    /// An upload limit held its blocks back.
    pub upload_throttled: bool,
    /// The payload that is coming in.
    pub reading: Reading,
    /// What it calls itself.
    pub id: Option<PeerId>,
    /// Both speak the Fast extension.
    pub fast: bool,
    /// What it has.
    pub has: Bitfield,
    /// It was counted as a seed when it said what it has.
    pub joined_as_seed: bool,
    /// It has said what it has, or something else first.
    pub sent_have_info: bool,
    /// We do not serve it.
    pub we_choke: bool,
    /// It has what we want.
    pub we_want: bool,
    /// It does not serve us.
    pub they_choke: bool,
    /// We have what it wants.
    pub they_want: bool,
    /// Pieces that it has and we miss.
    pub wanted_pieces: u32,
    /// What it owes us.
    pub requests: RequestQueue,
    /// What it sends; bytes of payload.
    pub down: Rate,
    /// What we send; bytes of payload.
    pub up: Rate,
    /// Pieces that it lets us have while choking us.
    pub fast_to_us: Vec<PieceIndex>,
    /// Pieces that it may have while we choke it, and the bytes that it took that way.
    pub fast_to_them: Vec<(PieceIndex, u64)>,
    /// Pieces that it suggested.
    pub suggested: Vec<PieceIndex>,
    /// When we last choked or unchoked it.
    pub choke_changed: Instant,
    /// Bytes sent since then.
    pub sent_since_change: u64,
    /// Requests that could not be served.
    pub invalid_requests: u32,
    /// Blocks that nobody asked for.
    pub unasked_blocks: u32,
    /// Requests that it rejected since its last block.
    pub rejects: u32,
    /// When the leased block that comes in began.
    pub block_began: Instant,
    /// It has said how it sees our address; once is enough.
    pub reported_our_ip: bool,
    /// It has said where its node of the DHT is; once is enough.
    pub reported_dht_port: bool,
    /// The port that it listens at, as it says.
    pub listen_port: Option<u16>,
    /// Others are told of it.
    pub advertised: bool,
    /// What it was told of others.
    pub pex_cursor: PexCursor,
    /// Message ids of the extensions that it speaks.
    pub extensions: ExtensionIds,
    /// It says that it wants nothing more of anybody (BEP 21).
    pub upload_only: bool,
    /// What we last told it of ourselves in that; `None`: it does not speak the extension protocol.
    pub sent_upload_only: Option<bool>,
    /// What it said before the torrent's shape was known.
    pub deferred: DeferredMessages,
}

impl Peer {
    /// A peer of which nothing is known but its address.
    pub fn new(
        now: Instant,
        key: PeerKey,
        addr: SocketAddr,
        origin: Origin,
        torrent: Option<TorrentKey>,
        policy: &Policy,
    ) -> Peer {
        let dialed = origin != Origin::Incoming;
        Peer {
            key,
            addr,
            origin,
            dialed,
            torrent,
            phase: if dialed { Phase::Connecting } else { Phase::Handshaking },
            since: now,
            last_in: now,
            last_out: now,
            last_wanted: now,
            encoder: Encoder::default(),
            flush_queued: false,
            read_paused: false,
            upload_throttled: false,
            reading: Reading::Nothing,
            id: None,
            fast: false,
            has: Bitfield::empty(0),
            joined_as_seed: false,
            sent_have_info: false,
            we_choke: true,
            we_want: false,
            they_choke: true,
            they_want: false,
            wanted_pieces: 0,
            requests: RequestQueue::new(policy.window, policy.snub_after),
            down: Rate::default(),
            up: Rate::default(),
            fast_to_us: Vec::new(),
            fast_to_them: Vec::new(),
            suggested: Vec::new(),
            choke_changed: now,
            sent_since_change: 0,
            invalid_requests: 0,
            unasked_blocks: 0,
            rejects: 0,
            block_began: now,
            reported_our_ip: false,
            reported_dht_port: false,
            listen_port: None,
            advertised: false,
            pex_cursor: PexCursor::default(),
            extensions: ExtensionIds::default(),
            upload_only: false,
            sent_upload_only: None,
            deferred: DeferredMessages::default(),
        }
    }

    /// Sends a message.
    pub fn say(&mut self, message: &Message<'_>, out: &mut Actions) {
        self.encoder.push(message);
        self.flush(out);
    }

    /// There is something to write.
    pub fn flush(&mut self, out: &mut Actions) {
        if !self.flush_queued {
            self.flush_queued = true;
            out.push(Action::Flush { peer: self.key });
        }
    }

    /// The hands ask what to write: the next message needs another [`Action::Flush`].
    pub fn flushing(&mut self) {
        self.flush_queued = false;
    }

    /// How far the stream may be read along with framing: no further than a block's header while blocks may come.
    pub fn read_ahead(&self) -> ReadAhead {
        if self.requests.in_flight() > 0 { ReadAhead::Header } else { ReadAhead::Full }
    }

    /// Says whether we want something of it, if that changed.
    pub fn set_we_want(&mut self, now: Instant, want: bool, out: &mut Actions) {
        if self.we_want != want && self.phase == Phase::Up {
            self.we_want = want;
            self.last_wanted = now;
            self.say(if want { &Message::Interested } else { &Message::NotInterested }, out);
        }
    }

    /// Begins or ends serving it. What it had asked for and has not begun is dropped, or rejected (BEP 6).
    pub fn set_we_choke(&mut self, now: Instant, choke: bool, out: &mut Actions) {
        if self.we_choke == choke {
            return;
        }
        self.we_choke = choke;
        self.choke_changed = now;
        self.sent_since_change = 0;
        self.say(if choke { &Message::Choke } else { &Message::Unchoke }, out);
        if choke {
            for span in self.encoder.take_back_all() {
                if self.fast {
                    self.say(&Message::Reject(span.into()), out);
                }
            }
        }
    }

    /// Whether a request goes out to it now: it serves us, or allows some pieces all the same.
    pub fn may_be_asked(&self) -> bool {
        self.phase == Phase::Up && self.we_want && (!self.they_choke || !self.fast_to_us.is_empty())
    }

    /// What the picker has to know of it.
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

    /// When something has to be said or done about its silence, and ours.
    pub fn next_deadline(&self) -> Instant {
        match self.phase {
            Phase::Connecting => self.since + limits::CONNECT_TIMEOUT,
            Phase::Handshaking => self.since + limits::HANDSHAKE_TIMEOUT,
            Phase::Up => (self.last_in + limits::IDLE_TIMEOUT)
                .min(self.last_out + limits::KEEP_ALIVE)
                .min(self.requests.snub_at())
                .min(self.block_due())
                .min(self.uninteresting_at()),
        }
    }

    /// The block that comes in under its lease, and the time in which the rest of it may be expected.
    pub fn being_sent(&self, now: Instant) -> Option<(BlockSpan, Duration)> {
        let Reading::Block { rest, block, .. } = self.reading else { return None };
        let wait = Duration::from_micros(u64::from(rest.len()) * 1_000_000 / self.down.per_second(now).max(1));
        Some((block, wait.max(now.since(self.last_in))))
    }

    /// When the block that comes in has taken too long.
    pub fn block_due(&self) -> Instant {
        match self.reading {
            Reading::Block { .. } => self.block_began + limits::BLOCK_TIMEOUT,
            _ => Instant::NEVER,
        }
    }

    /// Whether it is our limit or our disk that keeps us from reading, and not its own refusal to read.
    pub fn is_held_back(&self) -> bool {
        self.read_paused && self.encoder.control_bytes() <= limits::OUTBOX_STOP_READING_BYTES
    }

    /// Its silence until now was our doing.
    pub fn reset_timeouts(&mut self, now: Instant) {
        self.requests.reset_timeouts(now);
        (self.last_in, self.block_began) = (now, now);
    }

    /// When nobody will have wanted anything for too long.
    pub fn uninteresting_at(&self) -> Instant {
        match self.we_want || self.they_want {
            true => Instant::NEVER,
            false => self.last_wanted + limits::UNINTERESTING_TIMEOUT,
        }
    }
}
