//! A torrent with known bytes, a directory for it, and a store: the surroundings of most tests of this floor.

use super::api::OpenedTorrent;
use super::dir::Dir;
use super::fault::DiskFault;
use super::memory::read_into_range;
use super::resume::RecordFile;
use super::resume_record::ResumeRecord;
use super::torrent_files::TorrentFiles;
use super::{Access, DiskEvent, Load, OpenTorrent, StorageMode, Store, StoreConfig, Target};
use crate::engine::{Checkpoint, HashVerdict};
use crate::units::{Bitfield, BlockSpan, Geometry, InfoHash, PieceIndex, Rng, SlotMap, TorrentKey};
use crate::wire::{FileAttributes, Files, FilesBuilder};
use sha1::{Digest, Sha1};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub const MODES: [StorageMode; 3] = [StorageMode::Plain, StorageMode::Mapped, StorageMode::Auto];

/// The longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct TestDisk {
    pub store: Store,
    pub key: TorrentKey,
    pub torrent: OpenTorrent,
    pub bytes: Vec<u8>,
    pub have: Bitfield,
    _dir: TempDir,
    pub state: TempDir,
    pub woken: Receiver<()>,
    pub keys: SlotMap<TorrentKey, ()>,
    pub config: StoreConfig,
}

/// Files of these paths and lengths; a path that begins with `.pad` is a pad file.
fn files_of(shape: &[(&str, u64)]) -> Files {
    let mut files = FilesBuilder::default();
    for (path, length) in shape {
        files
            .push(
                path.split('/'),
                *length,
                FileAttributes { pad: path.starts_with(".pad"), ..FileAttributes::default() },
            )
            .unwrap();
    }
    files.finish()
}

/// A store, and the receiver of its wake-ups.
pub fn start(config: &StoreConfig) -> (Store, Receiver<()>) {
    let (send, woken) = channel();
    let send = Mutex::new(send);
    let wake = Arc::new(move || {
        let _ = send.lock().unwrap().send(());
    });
    (Store::new(config.clone(), wake).unwrap(), woken)
}

/// Sends the bytes through a socket and reads them into the target, as a connection does.
pub fn receive_into(target: Target<'_>, bytes: &[u8]) -> io::Result<usize> {
    let (mut from, mut to) = UnixStream::pair()?;
    let n = bytes.len().min(target.len()).min(super::limits::SLOT_LEN);
    to.write_all(&bytes[..n])?;
    match target {
        Target::Buffer(buffer) => from.read(&mut buffer[..n]),
        Target::Mapped(range) => read_into_range(&from, range, n),
    }
}

impl TestDisk {
    pub fn new(mode: StorageMode, piece_len: u64, files: &[(&str, u64)]) -> TestDisk {
        let dir = tempfile::tempdir().unwrap();
        let files = files_of(files);
        let mut bytes = Vec::new();
        for f in files.iter() {
            let mut part = vec![0; f.length as usize];
            if f.lands_on_disk() {
                Rng::new(f.length).fill(&mut part);
            }
            bytes.extend(part);
        }
        let hashes: Vec<u8> =
            bytes.chunks(piece_len as usize).flat_map(|p| <[u8; 20]>::from(Sha1::digest(p))).collect();
        let geometry = Geometry::new(bytes.len() as u64, piece_len).unwrap();
        let info_hashes = InfoHash([7; 20]).into();
        let torrent = OpenTorrent {
            part_names: true,
            ..OpenTorrent::new(info_hashes, geometry, files, hashes.into(), dir.path().join("down"))
        };
        let state = tempfile::tempdir().unwrap();
        let state_dir = Some(state.path().to_path_buf());
        let config =
            StoreConfig { mode, state_dir, workers: 2, pool_bytes: 1 << 20, ..StoreConfig::default() };
        let mut keys: SlotMap<TorrentKey, ()> = SlotMap::default();
        let (store, woken) = start(&config);
        let have = Bitfield::empty(torrent.geometry.pieces());
        TestDisk { store, key: keys.insert(()), torrent, bytes, have, _dir: dir, state, woken, keys, config }
    }

    /// The path at which a file lies now: its part name if only that exists.
    pub fn path(&self, rel: &str) -> PathBuf {
        let (name, part) = (self.name(rel), self.name(&format!("{rel}.part")));
        if !name.exists() && part.exists() { part } else { name }
    }

    /// The path of this name in the torrent's directory.
    pub fn name(&self, rel: &str) -> PathBuf {
        self.torrent.dir.join(rel)
    }

    pub fn geometry(&self) -> Geometry {
        self.torrent.geometry
    }

    pub fn piece(&self, raw: u32) -> PieceIndex {
        self.geometry().piece(raw).unwrap()
    }

    /// The torrent's files outside of the store; creates their directory.
    pub fn torrent_files(&self) -> TorrentFiles {
        let dir = Dir::open(&self.torrent.dir, true).unwrap();
        let fs = super::dir::FsKind::of(dir.root());
        TorrentFiles::in_dir(fs, dir, self.key, self.torrent.clone()).unwrap()
    }

    pub fn next_event(&mut self) -> DiskEvent {
        loop {
            if let Some(event) = self.store.next_event() {
                return event;
            }
            self.store.submit();
            self.woken.recv_timeout(PATIENCE).expect("the store has no event");
        }
    }

    /// Waits for an event that `f` turns into a value.
    pub fn wait_for<T>(&mut self, mut f: impl FnMut(DiskEvent) -> Option<T>) -> T {
        loop {
            let event = self.next_event();
            if let Some(value) = f(event) {
                return value;
            }
        }
    }

    pub fn wait_for_buffer(&mut self) {
        self.wait_for(|e| matches!(e, DiskEvent::BufferFreed).then_some(()));
    }

    pub fn try_open(&mut self) -> Result<OpenedTorrent, DiskFault> {
        self.store.open(self.key, self.torrent.clone());
        self.wait_for(|e| if let DiskEvent::Opened { result, .. } = e { Some(result) } else { None })
    }

    pub fn open(&mut self) -> OpenedTorrent {
        self.try_open().unwrap()
    }

    pub fn try_save(&mut self, have: &Bitfield) -> Result<(), DiskFault> {
        self.store.checkpoint(self.key, Checkpoint::of(have.clone()));
        self.wait_for(|e| if let DiskEvent::Saved { result, .. } = e { Some(result) } else { None })
    }

    /// Closes the torrent with these pieces, and restarts.
    pub fn close(&mut self, have: &Bitfield) {
        self.store.close(self.key, Checkpoint::of(have.clone()));
        self.wait_for(|e| if let DiskEvent::Closed { result, .. } = e { Some(result) } else { None })
            .unwrap();
        self.restart();
    }

    /// Replaces the store by a new one, as after a kill.
    pub fn restart(&mut self) {
        let config = StoreConfig { workers: 1, ..self.config.clone() };
        // The old store has to free its lock first.
        let idle = StoreConfig { pool_bytes: 0, state_dir: None, ..config.clone() };
        (self.store, self.woken) = start(&idle);
        (self.store, self.woken) = start(&config);
        self.key = self.keys.insert(());
    }

    /// The path of the record.
    pub fn record_path(&self) -> PathBuf {
        let name = super::resume::record_name(&self.torrent.info_hashes, &self.torrent.dir);
        self.state.path().join(format!("{name}.resume"))
    }

    /// The record on the disk.
    pub fn record(&self) -> Option<ResumeRecord> {
        let torrent = TorrentFiles::open(self.key, self.torrent.clone(), false).unwrap();
        RecordFile::lock(self.state.path(), &torrent.info_hashes, &self.torrent.dir).unwrap().load(&torrent)
    }

    pub fn try_prepare(&mut self, piece: PieceIndex) -> Result<(), DiskFault> {
        self.store.prepare(self.key, piece);
        self.wait_for(|e| if let DiskEvent::Prepared { result, .. } = e { Some(result) } else { None })
    }

    pub fn prepare(&mut self, piece: PieceIndex) {
        self.try_prepare(piece).unwrap();
    }

    /// Receives at most `n` bytes of the span with one read. Returns the rest of the span.
    pub fn receive(&mut self, span: BlockSpan, n: u32) -> Option<BlockSpan> {
        let at = self.geometry().offset(span) as usize;
        let bytes = self.bytes[at..at + n.min(span.len()) as usize].to_vec();
        self.receive_bytes(span, &bytes)
    }

    /// The same with other bytes than the right ones.
    pub fn receive_bytes(&mut self, span: BlockSpan, bytes: &[u8]) -> Option<BlockSpan> {
        let n = loop {
            if let Some(target) = self.store.target(self.key, span, Access::Kernel) {
                assert!(target.len() <= span.len() as usize);
                break receive_into(target, bytes).unwrap() as u32;
            }
            self.wait_for_buffer();
        };
        self.store.received(self.key, span.first(n));
        span.after(n)
    }

    pub fn receive_block(&mut self, mut span: BlockSpan) {
        while let Some(rest) = self.receive(span, u32::MAX) {
            span = rest;
        }
    }

    pub fn verdict(&mut self, piece: PieceIndex, want_blocks: bool) -> Result<HashVerdict, DiskFault> {
        self.store.hash(self.key, piece, want_blocks);
        self.wait_for(|e| if let DiskEvent::Hashed { result, .. } = e { Some(result) } else { None })
    }

    pub fn must_be_good(&mut self, piece: PieceIndex) {
        let verdict = self.verdict(piece, false);
        assert!(matches!(verdict, Ok(HashVerdict::Good { .. })), "piece {piece}: {verdict:?}");
    }

    pub fn receive_blocks_of(&mut self, piece: PieceIndex) {
        for block in 0..self.geometry().blocks(piece) {
            self.receive_block(self.geometry().block(piece, block));
        }
    }

    pub fn receive_piece(&mut self, piece: PieceIndex) {
        self.prepare(piece);
        self.receive_blocks_of(piece);
        self.must_be_good(piece);
    }

    /// Receives all missing pieces from many peers at once, each with a block in some state, in random order
    /// and in reads of random length.
    pub fn receive_at_random(&mut self, peers: usize, rng: &mut Rng) {
        let g = self.geometry();
        let missing = g.all_pieces().filter(|&p| !self.have.has(p));
        let mut blocks: Vec<_> = missing.flat_map(|p| (0..g.blocks(p)).map(move |b| g.block(p, b))).collect();
        g.all_pieces().for_each(|p| self.prepare(p));
        rng.shuffle(&mut blocks);
        let mut blocks_left: Vec<u32> = g.all_pieces().map(|p| g.blocks(p)).collect();
        let mut under_way: Vec<BlockSpan> = Vec::new();
        while !blocks.is_empty() || !under_way.is_empty() {
            while under_way.len() < peers && !blocks.is_empty() {
                under_way.extend(blocks.pop());
            }
            let i = rng.below(under_way.len());
            let span = under_way[i];
            let n = 1 + rng.below(12_000) as u32;
            if rng.below(20) == 0 {
                self.store.abandon(self.key, span);
                under_way[i] = g.block(span.piece(), span.begin() / crate::units::BLOCK_LEN);
                continue;
            }
            let rest = if rng.below(8) == 0 { self.copy_a_little(span) } else { self.receive(span, n) };
            match rest {
                Some(rest) => under_way[i] = rest,
                None => {
                    under_way.swap_remove(i);
                    let piece = span.piece();
                    blocks_left[piece.as_usize()] -= 1;
                    if blocks_left[piece.as_usize()] == 0 {
                        self.must_be_good(piece);
                    }
                }
            }
            if rng.below(4) == 0 {
                self.store.submit();
            }
        }
    }

    fn copy_a_little(&mut self, span: BlockSpan) -> Option<BlockSpan> {
        let at = self.geometry().offset(span) as usize;
        let bytes = self.bytes[at..at + span.len().min(300) as usize].to_vec();
        while !self.store.copy(self.key, span, &bytes) {
            self.wait_for_buffer();
        }
        span.after(bytes.len() as u32)
    }

    pub fn assert_content(&self) {
        let mut at = 0;
        for f in self.torrent.files.iter() {
            let end = at + f.length as usize;
            if f.lands_on_disk() {
                assert!(
                    std::fs::read(self.path(&f.path_text())).unwrap() == self.bytes[at..end],
                    "{}",
                    f.path_text()
                );
            }
            at = end;
        }
    }

    pub fn load(&mut self, span: BlockSpan) -> Vec<u8> {
        let mut into = vec![9; span.len() as usize];
        loop {
            match self.store.load(self.key, span, &mut into) {
                Load::Ready => return into,
                Load::Later => {
                    self.wait_for(
                        |e| if let DiskEvent::Loaded { result, .. } = e { Some(result) } else { None },
                    )
                    .unwrap();
                }
                Load::Fault(fault) => panic!("{fault}"),
            }
        }
    }

    /// Loads a span and compares it with the torrent's bytes.
    pub fn assert_loads(&mut self, span: BlockSpan) {
        let at = self.geometry().offset(span) as usize;
        assert!(self.load(span) == self.bytes[at..at + span.len() as usize], "{span}");
    }
}
