//! The body of the engine's fuzz target: the input becomes events, commands and received bytes of a small
//! engine. After each step the audit recomputes every counter and checks every limit.
//!
//! Not part of the public API; it may change without notice.

use super::{
    Action, Actions, DialFailure, Encryption, Engine, EngineConfig, HashVerdict, Policy, TorrentInfo,
    TorrentSpec, Want,
};
use crate::units::{
    BLOCK_LEN, Bitfield, BlockSpan, Geometry, InfoHash, Instant, PeerId, PeerKey, PieceIndex, TorrentKey,
    TransportKind, Transports,
};
use crate::wire::{
    AnnounceError, AnnounceReply, ExtendedHandshake, ExtensionIds, Handshake, HolepunchKind,
    HolepunchMessage, METADATA_PIECE_LEN, Message, MetadataMessage, RawSpan, WritePlan, write_dont_have,
    write_pex,
};
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const HASH: InfoHash = InfoHash([7; 20]);
/// Input that begins with this byte uses a torrent whose info hash alone is known.
const BY_HASH: u8 = 0xff;
const MAX_PEERS: usize = 12;

/// The engine's caller: its clock, the unread bytes of each connection, and the actions that await an answer.
struct FuzzDriver<'a> {
    engine: Engine,
    out: Actions,
    now: Instant,
    geometry: Geometry,
    torrent: TorrentKey,
    hash: InfoHash,
    /// The engine passed the metadata on, and `on_metadata` has not answered yet.
    metadata_pending: bool,
    input: &'a [u8],
    streams: BTreeMap<PeerKey, VecDeque<u8>>,
    dials: Vec<PeerKey>,
    preparing: Vec<PieceIndex>,
    hashing: Vec<PieceIndex>,
    /// Ids of unanswered requests.
    requests: Vec<u64>,
    writers: BTreeMap<(PieceIndex, u32), PeerKey>,
    flushes: BTreeSet<PeerKey>,
}

/// Three pieces of metadata, the last one short.
static METADATA: LazyLock<Arc<[u8]>> =
    LazyLock::new(|| (0..2 * METADATA_PIECE_LEN + 100).map(|n| (n % 251) as u8).collect());

/// Runs an engine with a torrent of five small pieces, two of them verified, on the steps that `input`
/// encodes.
pub fn engine(input: &[u8]) {
    let (by_hash, input) = match input {
        [BY_HASH, rest @ ..] => (true, rest),
        _ => (false, input),
    };
    let hash = if by_hash { InfoHash(Sha1::digest(&METADATA[..]).into()) } else { HASH };
    let info = Some(METADATA.clone());
    let geometry =
        Geometry::new(4 * 3 * u64::from(BLOCK_LEN) + 100, 3 * u64::from(BLOCK_LEN)).expect("a geometry");
    let mut engine = Engine::new(EngineConfig {
        peer_id: PeerId([0x55; 20]),
        port: 6881,
        max_peers: MAX_PEERS,
        max_peers_per_torrent: MAX_PEERS - 2,
        download_limit: None,
        upload_limit: None,
        seed: 1,
        version: "rill".into(),
        policy: Policy::default(),
        pex: true,
        lsd: true,
        transports: Transports::Both,
        encryption: Encryption::Off,
        secret: [0; 32],
    });
    let spec = TorrentSpec {
        info_hash: hash,
        torrent_info: (!by_hash).then(|| TorrentInfo {
            geometry,
            wanted: Bitfield::full(5),
            private: false,
            info,
        }),
        trackers: vec![vec!["http://t/announce".into(), "udp://t:1/announce".into()]],
        peers: vec![SocketAddr::from(([10, 1, 0, 1], 1))],
        sequential: false,
        download_limit: None,
        upload_limit: None,
    };
    let now = Instant::from_micros(1);
    let torrent = engine.add_torrent(now, spec).expect("the first torrent");
    let mut out = Actions::default();
    if by_hash {
        engine.resume(now, torrent);
    } else {
        engine.on_opened(now, torrent, some_pieces(), &mut out);
    }
    let mut driver = FuzzDriver {
        engine,
        out,
        now,
        geometry,
        torrent,
        hash,
        metadata_pending: false,
        input,
        streams: BTreeMap::new(),
        dials: Vec::new(),
        preparing: Vec::new(),
        hashing: Vec::new(),
        requests: Vec::new(),
        writers: BTreeMap::new(),
        flushes: BTreeSet::new(),
    };
    while !driver.input.is_empty() {
        driver.step();
        driver.run_actions();
        driver.engine.audit();
    }
    driver.engine.shut_down(driver.now, &mut driver.out);
    driver.run_actions();
    for id in std::mem::take(&mut driver.requests) {
        driver.engine.on_announced(driver.now, id, Err(AnnounceError::Timeout), &mut driver.out);
    }
    driver.pass(Duration::from_secs(60));
    assert!(driver.engine.is_idle(), "the engine is not idle a minute after the shutdown");
}

/// Returns the pieces that are verified at the start.
fn some_pieces() -> Bitfield {
    Bitfield::from_wire(&[0b0100_1000], 5).expect("five bits")
}

impl FuzzDriver<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.input.split_first() else { return 0 };
        self.input = rest;
        *first
    }

    fn peer(&mut self) -> Option<PeerKey> {
        let n = usize::from(self.byte());
        let known = self.streams.len();
        self.streams.keys().nth(n % known.max(1)).copied()
    }

    fn raw_span(&mut self) -> RawSpan {
        let piece = u32::from(self.byte() % 6);
        let block = u32::from(self.byte() % 4);
        let len = self.byte();
        let whole = if piece == 4 { 100 } else { BLOCK_LEN };
        RawSpan { piece, begin: block * BLOCK_LEN, len: if len < 224 { whole } else { u32::from(len) } }
    }

    fn step(&mut self) {
        let step = match self.byte() {
            n @ 240.. => return self.extended(n),
            n => n % 20,
        };
        match step {
            0 => {
                let host = self.byte() % 8;
                let over = if host % 2 == 0 { TransportKind::Tcp } else { TransportKind::Utp };
                let addr = SocketAddr::from(([10, 0, 0, host], 5));
                if let Some(key) = self.engine.on_accepted(self.now, addr, over, &mut self.out) {
                    self.streams.insert(key, VecDeque::new());
                }
            }
            1 => {
                let id = self.byte() % 16;
                let fast = self.byte() % 4 > 0;
                let bytes = Handshake {
                    info_hash: self.hash,
                    peer_id: PeerId([id; 20]),
                    fast,
                    extended: fast,
                    dht: false,
                }
                .to_bytes();
                self.feed(&bytes);
            }
            2 => {
                let n = usize::from(self.byte()).min(self.input.len());
                let (bytes, rest) = self.input.split_at(n);
                self.input = rest;
                self.feed(bytes);
            }
            3..=6 => {
                let mut bytes = Vec::new();
                self.message(&mut bytes);
                self.feed(&bytes);
            }
            7..=11 => {
                let s = self.raw_span();
                let mut bytes = (9 + s.len).to_be_bytes().to_vec();
                bytes.push(7);
                bytes.extend([s.piece.to_be_bytes(), s.begin.to_be_bytes()].concat());
                bytes.resize(13 + s.len as usize, 1);
                let cut = if self.byte() < 64 { bytes.len() / 2 } else { bytes.len() };
                self.feed(&bytes[..cut]);
            }
            12 => {
                if let Some(key) = self.peer() {
                    self.engine.on_lost(self.now, key, &mut self.out);
                    self.streams.remove(&key);
                }
            }
            13 => {
                if let Some(piece) = self.preparing.pop() {
                    let ready = self.byte() > 16;
                    self.engine.on_prepared(self.now, self.torrent, piece, ready, &mut self.out);
                }
            }
            14 => self.on_hashed(),
            15 => {
                let n = u64::from(self.byte());
                self.pass(Duration::from_millis(n * n * 4));
            }
            16 => match self.byte() % 8 {
                0 => self.engine.pause(self.now, self.torrent, &mut self.out),
                1 => self.engine.set_limits(self.now, Some(50_000), Some(50_000), &mut self.out),
                2 => self.engine.set_limits(self.now, None, None, &mut self.out),
                3 => {
                    self.engine.on_saved(self.now, self.torrent, &mut self.out);
                    self.engine.on_completed_saved(self.now, self.torrent, true, &mut self.out);
                }
                4 => self.engine.on_unreadable(self.now, self.torrent, &mut self.out),
                _ => self.engine.resume(self.now, self.torrent),
            },
            17 => {
                if let Some(key) = self.dials.pop() {
                    match self.byte() % 4 {
                        0 => self.engine.on_dial_failed(self.now, key, DialFailure::Refused, &mut self.out),
                        1 => self.engine.on_dial_failed(
                            self.now,
                            key,
                            DialFailure::OutOfResources,
                            &mut self.out,
                        ),
                        _ => {
                            self.streams.insert(key, VecDeque::new());
                            self.engine.on_dialed(self.now, key, &mut self.out);
                        }
                    }
                }
            }
            18 => {
                if let Some(id) = self.requests.pop() {
                    let host = self.byte();
                    let reply = AnnounceReply {
                        peers: vec![SocketAddr::from(([10, 2, 0, host], 9))],
                        ..AnnounceReply::default()
                    };
                    let result = if host < 64 { Err(AnnounceError::Timeout) } else { Ok(reply) };
                    self.engine.on_announced(self.now, id, result, &mut self.out);
                }
            }
            _ => {
                let n = usize::from(self.byte()) * 200;
                if let Some(key) = self.peer() {
                    self.write(key, n);
                }
            }
        }
    }

    fn message(&mut self, bytes: &mut Vec<u8>) {
        let n = self.byte();
        let piece = u32::from(self.byte() % 6);
        let upload_only = [&b"d11:upload_onlyi0ee"[..], b"d11:upload_onlyi1ee"];
        let dont_have = write_dont_have(piece);
        let message = match n % 14 {
            _ if n >= 254 => Message::Extended { id: 0, payload: upload_only[usize::from(n % 2)] },
            _ if n >= 252 => Message::Extended { id: ExtensionIds::OURS.lt_donthave, payload: &dont_have },
            0 => Message::Choke,
            1 | 2 => Message::Unchoke,
            3 => Message::Interested,
            4 => Message::NotInterested,
            5 => Message::Have { piece },
            6 => Message::HaveAll,
            7 => Message::HaveNone,
            8 => Message::Request(self.raw_span()),
            9 => Message::Cancel(self.raw_span()),
            10 => Message::Reject(self.raw_span()),
            11 => Message::AllowedFast { piece },
            12 => Message::Suggest { piece },
            _ => return Message::Bitfield { bytes: &[n] }.write(bytes),
        };
        message.write(bytes);
    }

    /// Receives an extension message (BEP 9, 10, 11), or answers the engine's pending metadata.
    fn extended(&mut self, kind: u8) {
        let metadata = &METADATA[..];
        let (id, payload) = match kind % 8 {
            0 | 1 => {
                let bits = self.byte();
                let size = self.byte();
                let on = |bit: u8| bits & (1 << bit) != 0;
                let ids = ExtensionIds {
                    ut_metadata: 3 * (bits & 1),
                    ut_pex: 4 * u8::from(on(1)),
                    ut_holepunch: 6 * u8::from(on(1)),
                    lt_donthave: 5 * u8::from(on(2)),
                };
                let handshake = ExtendedHandshake {
                    ids,
                    port: on(3).then_some(9),
                    reqq: on(4).then_some(u32::from(size) + 1),
                    metadata_size: on(0).then_some(if size < 192 {
                        metadata.len() as u32
                    } else {
                        u32::from(size) * 100
                    }),
                    upload_only: on(5).then_some(on(6)),
                    your_ip: on(7).then_some([9, 9, 9, size].into()),
                    ..ExtendedHandshake::default()
                };
                (0, handshake.encode())
            }
            2 | 3 => {
                let piece = u32::from(self.byte() % 4);
                let damage = self.byte();
                let from = (piece * METADATA_PIECE_LEN) as usize;
                let mut bytes: Vec<u8> =
                    metadata.iter().copied().skip(from).take(METADATA_PIECE_LEN as usize).collect();
                match damage % 16 {
                    0 => bytes.iter_mut().take(1).for_each(|b| *b ^= 1),
                    1 => bytes.truncate(5),
                    _ => {}
                }
                let total_size = if damage % 16 == 2 { 7 } else { metadata.len() as u32 };
                (
                    ExtensionIds::OURS.ut_metadata,
                    MetadataMessage::Data { piece, total_size, bytes: &bytes }.encode(),
                )
            }
            4 => {
                let piece = u32::from(self.byte());
                let rejects = piece % 2 == 1;
                let piece = piece / 2;
                let message = if rejects {
                    MetadataMessage::Reject { piece }
                } else {
                    MetadataMessage::Request { piece }
                };
                (ExtensionIds::OURS.ut_metadata, message.encode())
            }
            5 => {
                let first = self.byte();
                let count = self.byte() % 64;
                let host = |n: u8| (SocketAddr::from(([10, 3, first, n], 1 + u16::from(n))), n);
                (ExtensionIds::OURS.ut_pex, write_pex(&(0..count).map(host).collect::<Vec<_>>(), &[]))
            }
            6 if self.input.first().is_some_and(|b| b % 4 == 3) => {
                let (kind, host) = (self.byte(), self.byte());
                let addr = SocketAddr::from(([10, 0, 0, host], 5));
                let kind = if kind & 4 == 0 { HolepunchKind::Rendezvous } else { HolepunchKind::Connect };
                (ExtensionIds::OURS.ut_holepunch, HolepunchMessage { kind, addr }.encode())
            }
            6 => {
                let id = self.byte();
                let len = usize::from(self.byte()).min(self.input.len());
                let (payload, rest) = self.input.split_at(len);
                self.input = rest;
                (id, payload.to_vec())
            }
            _ => return self.on_metadata(),
        };
        let mut bytes = Vec::new();
        Message::Extended { id, payload: &payload }.write(&mut bytes);
        self.feed(&bytes);
    }

    /// Answers the engine's pending metadata, and reports the verified pieces.
    fn on_metadata(&mut self) {
        if std::mem::take(&mut self.metadata_pending) {
            let info = TorrentInfo {
                geometry: self.geometry,
                wanted: Bitfield::full(5),
                private: false,
                info: Some(METADATA.clone()),
            };
            self.engine.on_metadata(self.now, self.torrent, info, &mut self.out);
            self.engine.on_opened(self.now, self.torrent, some_pieces(), &mut self.out);
        }
    }

    fn on_hashed(&mut self) {
        let Some(piece) = self.hashing.pop() else { return };
        let blocks = self.geometry.blocks(piece) as usize;
        let verdict = match self.byte() % 8 {
            0 => HashVerdict::Unreadable,
            1..=3 => HashVerdict::Bad { digests: vec![u64::from(self.byte()); blocks].into() },
            n => HashVerdict::Good { digests: (n > 5).then(|| vec![1; blocks].into()) },
        };
        self.engine.on_hashed(self.now, self.torrent, piece, &verdict, &mut self.out);
    }

    /// Appends bytes to the stream of a connection that the input chooses, and reads it.
    fn feed(&mut self, bytes: &[u8]) {
        let Some(key) = self.peer() else { return };
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.extend(bytes);
        }
        self.read(key);
    }

    fn read(&mut self, key: PeerKey) {
        loop {
            let Some(stream) = self.streams.get_mut(&key) else { return };
            let most = stream.len();
            let mut written = None;
            let n = match self.engine.want(key) {
                Want::Pause => return,
                Want::Gone => {
                    self.streams.remove(&key);
                    return;
                }
                Want::Copy { span, bytes, .. } => {
                    written = Some(span);
                    bytes.len()
                }
                _ if most == 0 => return,
                Want::Control { room } => {
                    let n = room.len().min(most);
                    room.iter_mut().zip(stream.drain(..n)).for_each(|(to, b)| *to = b);
                    n
                }
                Want::Skip { len } => stream.drain(..most.min(len as usize)).count(),
                Want::Fill { span, spill, .. } => {
                    let filled = stream.drain(..most.min(span.len() as usize)).count();
                    let spilled = (most - filled).min(spill.len());
                    spill.iter_mut().zip(stream.drain(..spilled)).for_each(|(to, b)| *to = b);
                    written = Some(span.first(filled as u32));
                    filled + spilled
                }
            };
            if let Some(span) = written {
                self.check_lease(key, span);
            }
            if self.engine.got(self.now, key, n, &mut self.out).is_err() {
                self.streams.remove(&key);
            }
        }
    }

    /// Checks the lease: a block has one writer, and none if its piece is being hashed or verified.
    fn check_lease(&mut self, key: PeerKey, span: BlockSpan) {
        assert!(!self.hashing.contains(&span.piece()), "{span} was written while it was hashed");
        assert!(
            self.engine.have(self.torrent).is_some_and(|h| !h.has(span.piece())),
            "{span} was written although its piece is verified"
        );
        let block = (span.piece(), span.begin() / BLOCK_LEN);
        let leased_to = self.engine.swarms.torrents.get(self.torrent).and_then(|t| t.pieces.writer(span));
        assert_eq!(leased_to, Some(key), "{span} is written without a lease");
        if span.begin() % BLOCK_LEN == 0 {
            self.writers.insert(block, key); // a peer that begins the block has taken its lease over
        }
        assert_eq!(self.writers.get(&block), Some(&key), "{span} has two writers");
        if span.end() == self.geometry.block(block.0, block.1).end() {
            self.writers.remove(&block);
        }
    }

    fn write(&mut self, key: PeerKey, most: usize) {
        let mut plan = WritePlan::default();
        self.engine.plan(key, 64 * 1024, &mut plan);
        let n = plan.bytes().min(most);
        if n > 0 {
            self.engine.sent(self.now, key, n, &mut self.out);
        }
        self.flushes.remove(&key);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.on_deadline(self.now, &mut self.out);
            self.run_actions();
            turns += 1;
            assert!(turns < 100_000, "the engine's deadlines do not advance");
        }
        self.now = end;
    }

    /// Carries out the engine's actions, or stores them for a later step.
    fn run_actions(&mut self) {
        while !self.out.is_empty() {
            for action in self.out.drain().collect::<Vec<_>>() {
                match action {
                    Action::Dial { peer, .. } => self.dials.push(peer),
                    Action::Flush { peer } => {
                        self.flushes.insert(peer);
                    }
                    Action::Close { peer } => {
                        self.streams.remove(&peer);
                    }
                    Action::Wake { peer } => self.read(peer),
                    Action::Prepare { piece, .. } => self.preparing.push(piece),
                    Action::Hash { piece, .. } => {
                        assert!(
                            !self.writers.keys().any(|(p, _)| *p == piece),
                            "piece {piece} is hashed while a peer writes it"
                        );
                        self.hashing.push(piece);
                    }
                    Action::Release { block, .. } => {
                        self.writers.remove(&(block.piece(), block.begin() / BLOCK_LEN));
                    }
                    Action::Announce { id, .. } | Action::Scrape { id, .. } | Action::Resolve { id, .. } => {
                        self.requests.push(id);
                    }
                    Action::Save { .. }
                    | Action::Datagram { .. }
                    | Action::KeepNodes { .. }
                    | Action::DatagramFrom { .. }
                    | Action::FindGateways
                    | Action::RouterRequest { .. }
                    | Action::Multicast { .. } => {}
                    Action::Metadata { info, .. } => {
                        assert_eq!(info[..], METADATA[..], "metadata that does not match the info hash");
                        self.metadata_pending = true;
                    }
                    Action::Notice(_) => {}
                }
            }
        }
    }
}
