//! A world in memory for the engine's tests: puppet peers that speak raw bytes, virtual time, a disk that
//! answers at once or when told, and an oracle that watches every byte of payload.
//!
//! The oracle's law, checked at each write: one writer a block, no write to a piece that is being hashed or
//! verified, and what was verified is what the torrent says. A world is built in one line; whatever breaks
//! the law panics at once.

mod hands;
mod puppet;

pub use puppet::{METADATA_ID, PEX_ID, Received, TestPeer, block, handshake, header, raw};

use super::{
    Action, Actions, DisconnectReason, Engine, EngineConfig, Notice, Policy, TorrentInfo, TorrentSpec,
};
use crate::units::{
    BLOCK_LEN, Bitfield, Geometry, InfoHash, Instant, PeerId, PeerKey, PieceIndex, Rng, TorrentKey,
};
use crate::wire::{Message, RawSpan};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

pub const HASH: InfoHash = InfoHash([7; 20]);
pub const PIECE_LEN: u64 = 4 * BLOCK_LEN as u64;

/// What the disk has not been told to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Prepare(PieceIndex),
    Hash(PieceIndex, bool),
    Save,
}

/// How a world begins.
pub struct Setup {
    pub have: Bitfield,
    pub config: EngineConfig,
    pub spec: TorrentSpec,
    /// The disk waits for `answer_disk`.
    pub slow_disk: bool,
    /// Longest run of bytes that passes at once.
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
    /// Announces, datagrams, names to resolve, notices, saves: in order, until taken.
    pub log: Vec<Action>,
    pub out: Actions,
    pub cut: Option<usize>,
    pub rng: Rng,
    writers: BTreeMap<(PieceIndex, u32), PeerKey>,
    hashing: BTreeSet<PieceIndex>,
    next_port: u16,
}

/// The torrent's byte at `offset`.
pub fn truth(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 14)) as u8
}

impl TestWorld {
    /// Four pieces of four blocks, none of them here.
    pub fn leech() -> TestWorld {
        TestWorld::built(|_| {})
    }

    /// The same, all of them here.
    pub fn seed() -> TestWorld {
        TestWorld::built(|s| s.have = Bitfield::full(4))
    }

    /// The same, changed.
    pub fn built(change: impl FnOnce(&mut Setup)) -> TestWorld {
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
                content[at as usize] = truth(at);
            }
        }
        let mut out = Actions::default();
        match known {
            true => engine.on_opened(now, torrent, s.have, &mut out),
            false => engine.resume(now, torrent),
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
        w.turn();
        w
    }

    // ---- peers ----------------------------------------------------------------------------------------------------

    /// A peer connects to us from host 10.0.0.`host`; `None` if it is refused.
    pub fn try_connect(&mut self, host: u8) -> Option<PeerKey> {
        self.next_port += 1;
        self.try_connect_from(SocketAddr::from(([10, 0, 0, host], self.next_port)))
    }

    fn try_connect_from(&mut self, addr: SocketAddr) -> Option<PeerKey> {
        let key = self.engine.on_accepted(self.now, addr, &mut self.out);
        if let Some(key) = key {
            self.puppets.insert(key, TestPeer::new(true));
        }
        self.turn();
        key
    }

    /// A peer connects to us from there.
    pub fn connect_from(&mut self, addr: SocketAddr) -> PeerKey {
        self.try_connect_from(addr).unwrap()
    }

    pub fn connect(&mut self, host: u8) -> PeerKey {
        self.try_connect(host).unwrap()
    }

    /// A peer that connected and shook hands, named after its host; what we greeted it with was heard.
    pub fn peer(&mut self, host: u8) -> PeerKey {
        let p = self.greeted(host);
        self.heard(p);
        p
    }

    /// The same, the greeting unheard.
    pub fn greeted(&mut self, host: u8) -> PeerKey {
        let p = self.connect(host);
        self.send(p, &handshake(host, true));
        p
    }

    /// A peer that does not speak the Fast extension.
    pub fn plain_peer(&mut self, host: u8) -> PeerKey {
        let p = self.connect(host);
        self.send(p, &handshake(host, false));
        self.heard(p);
        p
    }

    /// A peer that has everything and serves us.
    pub fn server(&mut self, host: u8) -> PeerKey {
        let p = self.peer(host);
        self.say(p, &[Message::HaveAll, Message::Unchoke]);
        p
    }

    /// A peer that wants what we have and was unchoked.
    pub fn taker(&mut self, host: u8) -> PeerKey {
        let p = self.peer(host);
        self.say(p, &[Message::HaveNone, Message::Interested]);
        assert!(self.heard(p).contains(&Received::Word("Unchoke")));
        p
    }

    /// Bytes from a peer to the engine.
    pub fn send(&mut self, p: PeerKey, bytes: &[u8]) {
        self.puppets.get_mut(&p).unwrap().to_engine.extend(bytes);
        self.deliver(p);
        self.turn();
    }

    pub fn say(&mut self, p: PeerKey, messages: &[Message<'_>]) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|m| m.write(&mut bytes));
        self.send(p, &bytes);
    }

    /// The true bytes of a block, with its header.
    pub fn block_bytes(&self, s: RawSpan) -> Vec<u8> {
        let mut bytes = header(s);
        let from = u64::from(s.piece) * u64::from(self.geometry.nominal_piece_len()) + u64::from(s.begin);
        bytes.extend((from..from + u64::from(s.len)).map(truth));
        bytes
    }

    pub fn send_block(&mut self, p: PeerKey, s: RawSpan) {
        let bytes = self.block_bytes(s);
        self.send(p, &bytes);
    }

    /// A block whose bytes are all wrong.
    pub fn send_lie(&mut self, p: PeerKey, s: RawSpan) {
        let mut bytes = self.block_bytes(s);
        bytes[13..].iter_mut().for_each(|b| *b ^= 0xff);
        self.send(p, &bytes);
    }

    /// What the peer heard since it was last asked. Requests are also kept in `requests`, without those
    /// cancelled.
    pub fn heard(&mut self, p: PeerKey) -> Vec<Received> {
        self.puppets.get_mut(&p).unwrap().listen(self.geometry.pieces())
    }

    /// The requests that are out to this peer.
    pub fn requests(&mut self, p: PeerKey) -> Vec<RawSpan> {
        self.heard(p);
        self.puppets[&p].requests.clone()
    }

    /// The peer answers its oldest request truly; false if it has none.
    pub fn serve_one(&mut self, p: PeerKey) -> bool {
        let Some(&s) = self.requests(p).first() else { return false };
        self.puppets.get_mut(&p).unwrap().requests.remove(0);
        self.send_block(p, s);
        true
    }

    /// The peer answers all requests, and those that come of it.
    pub fn serve_all(&mut self, p: PeerKey) {
        while self.is_open(p) && self.serve_one(p) {}
    }

    pub fn is_open(&self, p: PeerKey) -> bool {
        self.puppets[&p].closed.is_none()
    }

    /// Why the engine hung up while it read.
    pub fn why(&self, p: PeerKey) -> Option<DisconnectReason> {
        self.puppets[&p].closed.flatten()
    }

    pub fn lose(&mut self, p: PeerKey) {
        self.engine.on_lost(self.now, p, &mut self.out);
        self.puppets.get_mut(&p).unwrap().closed = Some(None);
        self.turn();
    }

    /// The connection that was dialed stands.
    pub fn dialed(&mut self, p: PeerKey) {
        self.puppets.get_mut(&p).unwrap().up = true;
        self.engine.on_dialed(self.now, p, &mut self.out);
        self.turn();
    }

    // ---- questions ------------------------------------------------------------------------------------------------

    pub fn have(&self) -> Vec<u32> {
        self.engine.have(self.torrent).unwrap().iter().map(PieceIndex::get).collect()
    }

    pub fn is_complete(&self) -> bool {
        self.engine.have(self.torrent).unwrap().is_full()
    }

    pub fn piece(&self, n: u32) -> PieceIndex {
        self.geometry.piece(n).unwrap()
    }

    /// Who was banned, by host.
    pub fn banned(&self) -> Vec<u8> {
        let of = |a: &Action| match a {
            Action::Notice(Notice::Banned { addr: SocketAddr::V4(a), .. }) => Some(a.ip().octets()[3]),
            _ => None,
        };
        self.log.iter().filter_map(of).collect()
    }
}
