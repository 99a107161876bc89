//! An in-memory world for the engine's tests: scripted peers that send raw bytes, virtual time, a disk that
//! replies at once or on command, and checks of every write of payload.
//!
//! Checked at each write: a block has one writer; a piece is not written while it is hashed or after it is
//! verified; verified bytes are the torrent's. A violation panics.

mod driver;
mod puppet;

pub use puppet::{HOLEPUNCH_ID, METADATA_ID, PEX_ID, Received, TestPeer, block, handshake, header, raw};

use super::{
    Action, Actions, DisconnectReason, Encryption, Engine, EngineConfig, Notice, Policy, TorrentInfo,
    TorrentSpec,
};
use crate::units::{
    BLOCK_LEN, Bitfield, Geometry, InfoHash, Instant, PeerId, PeerKey, PieceIndex, Rng, TorrentKey,
    TransportKind, Transports,
};
use crate::wire::{Message, RawSpan};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

pub const HASH: InfoHash = InfoHash([7; 20]);
pub const PIECE_LEN: u64 = 4 * BLOCK_LEN as u64;

/// A disk job without a reply yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Prepare(PieceIndex),
    Hash(PieceIndex, bool),
    Save,
}

/// Initial state of a world.
pub struct Setup {
    pub have: Bitfield,
    pub config: EngineConfig,
    pub spec: TorrentSpec,
    /// The disk replies only on [`TestWorld::finish_disk_job`].
    pub slow_disk: bool,
    /// Largest number of bytes that is transferred at once.
    pub cut: Option<usize>,
}

pub struct TestWorld {
    pub engine: Engine,
    pub now: Instant,
    pub torrent: TorrentKey,
    pub geometry: Geometry,
    pub puppets: BTreeMap<PeerKey, TestPeer>,
    pub content: Vec<u8>,
    pub jobs: VecDeque<Job>,
    pub slow_disk: bool,
    pub dials: Vec<(PeerKey, SocketAddr)>,
    /// Actions that the world does not run itself, such as announces, datagrams, name lookups, notices and
    /// saves, in order.
    pub log: Vec<Action>,
    pub out: Actions,
    pub cut: Option<usize>,
    pub rng: Rng,
    writers: BTreeMap<(PieceIndex, u32), PeerKey>,
    hashing: BTreeSet<PieceIndex>,
    next_port: u16,
}

/// Returns the torrent's byte at `offset`.
pub fn content_byte(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 14)) as u8
}

impl TestWorld {
    /// Creates a world with four pieces of four blocks, none of which is present.
    pub fn leech() -> TestWorld {
        TestWorld::with_setup(|_| {})
    }

    /// Creates a world with four pieces, all of them present.
    pub fn seed() -> TestWorld {
        TestWorld::with_setup(|s| s.have = Bitfield::full(4))
    }

    /// Creates a world with four pieces and a changed setup.
    pub fn with_setup(change: impl FnOnce(&mut Setup)) -> TestWorld {
        let geometry = Geometry::new(4 * PIECE_LEN, PIECE_LEN).unwrap();
        TestWorld::with_geometry(geometry, change)
    }

    pub fn with_geometry(geometry: Geometry, change: impl FnOnce(&mut Setup)) -> TestWorld {
        let config = EngineConfig {
            peer_id: PeerId([0x55; 20]),
            port: 6881,
            max_peers: 200,
            max_peers_per_torrent: 55,
            download_limit: None,
            upload_limit: None,
            seed: 1,
            version: "rill test".into(),
            policy: Policy::default(),
            pex: true,
            lsd: false,
            transports: Transports::Tcp,
            encryption: Encryption::Off,
            secret: [0; 32],
        };
        let spec = TorrentSpec {
            info_hash: HASH,
            torrent_info: Some(TorrentInfo {
                geometry,
                wanted: Bitfield::full(geometry.pieces()),
                private: false,
                info: None,
            }),
            trackers: Vec::new(),
            peers: Vec::new(),
            sequential: false,
            download_limit: None,
            upload_limit: None,
        };
        let have = Bitfield::empty(geometry.pieces());
        let mut s = Setup { have, config, spec, slow_disk: false, cut: None };
        change(&mut s);
        let now = Instant::from_micros(1_000_000);
        let rng = Rng::new(s.config.seed);
        let mut engine = Engine::new(s.config);
        let known = s.spec.torrent_info.is_some();
        let torrent = engine.add_torrent(now, s.spec).unwrap();
        let mut content = vec![0; geometry.total() as usize];
        for piece in s.have.iter() {
            let from = geometry.piece_offset(piece);
            for at in from..from + u64::from(geometry.piece_len(piece)) {
                content[at as usize] = content_byte(at);
            }
        }
        let mut out = Actions::default();
        if known {
            engine.on_opened(now, torrent, s.have, &mut out);
        } else {
            engine.resume(now, torrent);
        }
        let mut w = TestWorld {
            engine,
            now,
            torrent,
            geometry,
            puppets: BTreeMap::new(),
            content,
            jobs: VecDeque::new(),
            slow_disk: s.slow_disk,
            dials: Vec::new(),
            log: Vec::new(),
            out,
            cut: s.cut,
            rng,
            writers: BTreeMap::new(),
            hashing: BTreeSet::new(),
            next_port: 10_000,
        };
        w.run_actions();
        w
    }

    // ---- peers --------------------------------------------------------------------------------------------

    /// Connects a peer from host 10.0.0.`host`; `None` if the engine refuses it.
    pub fn try_connect(&mut self, host: u8) -> Option<PeerKey> {
        self.next_port += 1;
        self.try_connect_from(SocketAddr::from(([10, 0, 0, host], self.next_port)))
    }

    fn try_connect_from(&mut self, addr: SocketAddr) -> Option<PeerKey> {
        self.try_connect_over(addr, TransportKind::Tcp)
    }

    fn try_connect_over(&mut self, addr: SocketAddr, over: TransportKind) -> Option<PeerKey> {
        let key = self.engine.on_accepted(self.now, addr, over, &mut self.out);
        if let Some(key) = key {
            self.puppets.insert(key, TestPeer::new(true));
        }
        self.run_actions();
        key
    }

    /// Connects a peer from this address over this transport.
    pub fn connect_over(&mut self, addr: SocketAddr, over: TransportKind) -> PeerKey {
        self.try_connect_over(addr, over).unwrap()
    }

    /// Connects a peer from this address.
    pub fn connect_from(&mut self, addr: SocketAddr) -> PeerKey {
        self.try_connect_from(addr).unwrap()
    }

    pub fn connect(&mut self, host: u8) -> PeerKey {
        self.try_connect(host).unwrap()
    }

    /// Connects a peer whose id is its host number and exchanges handshakes.
    pub fn peer(&mut self, host: u8) -> PeerKey {
        let p = self.connect_with_handshake(host);
        self.received(p);
        p
    }

    /// Connects a peer and sends its handshake, but does not read the engine's.
    pub fn connect_with_handshake(&mut self, host: u8) -> PeerKey {
        let p = self.connect(host);
        self.send(p, &handshake(host, true));
        p
    }

    /// Connects a peer without the Fast extension.
    pub fn peer_without_fast(&mut self, host: u8) -> PeerKey {
        let p = self.connect(host);
        self.send(p, &handshake(host, false));
        self.received(p);
        p
    }

    /// Connects a peer that has every piece and unchokes the engine.
    pub fn unchoking_seed(&mut self, host: u8) -> PeerKey {
        let p = self.peer(host);
        self.send_messages(p, &[Message::HaveAll, Message::Unchoke]);
        p
    }

    /// Connects a peer without pieces that is interested and unchoked.
    pub fn unchoked_leech(&mut self, host: u8) -> PeerKey {
        let p = self.peer(host);
        self.send_messages(p, &[Message::HaveNone, Message::Interested]);
        assert!(self.received(p).contains(&Received::Simple("Unchoke")));
        p
    }

    /// Sends bytes from a peer to the engine.
    pub fn send(&mut self, p: PeerKey, bytes: &[u8]) {
        self.puppets.get_mut(&p).unwrap().to_engine.extend(bytes);
        self.deliver(p);
        self.run_actions();
    }

    pub fn send_messages(&mut self, p: PeerKey, messages: &[Message<'_>]) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|m| m.write(&mut bytes));
        self.send(p, &bytes);
    }

    /// Returns the header and the correct bytes of a block.
    pub fn block_bytes(&self, s: RawSpan) -> Vec<u8> {
        let mut bytes = header(s);
        let from = u64::from(s.piece) * u64::from(self.geometry.nominal_piece_len()) + u64::from(s.begin);
        bytes.extend((from..from + u64::from(s.len)).map(content_byte));
        bytes
    }

    pub fn send_block(&mut self, p: PeerKey, s: RawSpan) {
        let bytes = self.block_bytes(s);
        self.send(p, &bytes);
    }

    /// Sends a block whose bytes are all wrong.
    pub fn send_wrong_block(&mut self, p: PeerKey, s: RawSpan) {
        let mut bytes = self.block_bytes(s);
        bytes[13..].iter_mut().for_each(|b| *b ^= 0xff);
        self.send(p, &bytes);
    }

    /// Returns the messages that the peer received since the last call. Requests are also kept in `requests`,
    /// without cancelled ones.
    pub fn received(&mut self, p: PeerKey) -> Vec<Received> {
        self.puppets.get_mut(&p).unwrap().read_messages(self.geometry.pieces())
    }

    /// Returns the engine's requests in flight to this peer.
    pub fn requests(&mut self, p: PeerKey) -> Vec<RawSpan> {
        self.received(p);
        self.puppets[&p].requests.clone()
    }

    /// Sends the block of the oldest request. Returns false if there is none.
    pub fn serve_one(&mut self, p: PeerKey) -> bool {
        let Some(&s) = self.requests(p).first() else { return false };
        self.puppets.get_mut(&p).unwrap().requests.remove(0);
        self.send_block(p, s);
        true
    }

    /// Sends the blocks of all requests, including those that the blocks cause.
    pub fn serve_all(&mut self, p: PeerKey) {
        while self.is_open(p) && self.serve_one(p) {}
    }

    pub fn is_open(&self, p: PeerKey) -> bool {
        self.puppets[&p].closed.is_none()
    }

    /// Returns why the engine closed the connection while reading.
    pub fn disconnect_reason(&self, p: PeerKey) -> Option<DisconnectReason> {
        self.puppets[&p].closed.flatten()
    }

    pub fn disconnect(&mut self, p: PeerKey) {
        self.engine.on_lost(self.now, p, &mut self.out);
        self.puppets.get_mut(&p).unwrap().closed = Some(None);
        self.run_actions();
    }

    /// Completes a dial.
    pub fn dialed(&mut self, p: PeerKey) {
        self.puppets.get_mut(&p).unwrap().connected = true;
        self.engine.on_dialed(self.now, p, &mut self.out);
        self.run_actions();
    }

    // ---- state ----------------------------------------------------------------------------------------

    pub fn have(&self) -> Vec<u32> {
        self.engine.have(self.torrent).unwrap().iter().map(PieceIndex::get).collect()
    }

    pub fn is_complete(&self) -> bool {
        self.engine.have(self.torrent).unwrap().is_full()
    }

    pub fn piece(&self, n: u32) -> PieceIndex {
        self.geometry.piece(n).unwrap()
    }

    /// Returns the host numbers of the banned peers.
    pub fn banned(&self) -> Vec<u8> {
        let of = |a: &Action| match a {
            Action::Notice(Notice::Banned { addr: SocketAddr::V4(a), .. }) => Some(a.ip().octets()[3]),
            _ => None,
        };
        self.log.iter().filter_map(of).collect()
    }
}
