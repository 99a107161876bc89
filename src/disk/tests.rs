//! The whole disk floor at work: the same stories for every way of storage.

use super::window::pour;
use super::*;
use crate::units::{Bitfield, BlockSpan, Geometry, InfoHash, PieceIndex, Rng, SlotMap, TorrentKey};
use crate::wire::{FileAttributes, Files, FilesBuilder};
use sha1::{Digest, Sha1};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

pub(super) const WAYS: [StorageMode; 3] = [StorageMode::Plain, StorageMode::Mapped, StorageMode::Auto];

/// A torrent, a directory for it, and a store.
pub(super) struct World {
    pub store: Store,
    pub key: TorrentKey,
    pub torrent: OpenTorrent,
    pub bytes: Vec<u8>,
    pub have: Bitfield,
    _dir: TempDir,
    pub state: TempDir,
    wake: Receiver<()>,
    keys: SlotMap<TorrentKey, ()>,
    config: StoreConfig,
}

/// Files of these paths and lengths; what is called `.pad…` is padding.
fn listed(shape: &[(&str, u64)]) -> Files {
    let mut files = FilesBuilder::default();
    for (path, length) in shape {
        files
            .push(path.split('/'), *length, FileAttributes { pad: path.starts_with(".pad"), ..FileAttributes::default() })
            .unwrap();
    }
    files.finish()
}

impl World {
    pub fn new(mode: StorageMode, piece_len: u64, files: &[(&str, u64)]) -> World {
        let dir = tempfile::tempdir().unwrap();
        let files = listed(files);
        let mut bytes = Vec::new();
        for f in files.iter() {
            let mut part = vec![0; f.length as usize];
            if f.lands_on_disk() {
                Rng::new(f.length).fill(&mut part);
            }
            bytes.extend(part);
        }
        let hashes: Vec<u8> = bytes.chunks(piece_len as usize).flat_map(|p| <[u8; 20]>::from(Sha1::digest(p))).collect();
        let torrent = OpenTorrent {
            info_hash: InfoHash([7; 20]),
            geometry: Geometry::new(bytes.len() as u64, piece_len).unwrap(),
            files,
            hashes: hashes.into(),
            dir: dir.path().join("down"),
            wanted: None,
            read_only: false,
            check: false,
        };
        let state = tempfile::tempdir().unwrap();
        let state_dir = Some(state.path().to_path_buf());
        let config = StoreConfig { mode, state_dir, workers: 2, pool_bytes: 1 << 20, ..StoreConfig::default() };
        let mut keys: SlotMap<TorrentKey, ()> = SlotMap::default();
        let (store, wake) = start(&config);
        let have = Bitfield::empty(torrent.geometry.pieces());
        World { store, key: keys.insert(()), torrent, bytes, have, _dir: dir, state, wake, keys, config }
    }

    pub fn path(&self, rel: &str) -> std::path::PathBuf {
        self.torrent.dir.join(rel)
    }

    pub fn geometry(&self) -> Geometry {
        self.torrent.geometry
    }

    pub fn piece(&self, raw: u32) -> PieceIndex {
        self.geometry().piece(raw).unwrap()
    }

    pub fn next(&mut self) -> Done {
        loop {
            if let Some(done) = self.store.next_done() {
                return done;
            }
            self.store.submit();
            self.wake.recv_timeout(Duration::from_secs(20)).expect("the store went quiet");
        }
    }

    pub fn until<T>(&mut self, mut f: impl FnMut(Done) -> Option<T>) -> T {
        loop {
            let done = self.next();
            if let Some(t) = f(done) {
                return t;
            }
        }
    }

    pub fn try_open(&mut self) -> Result<Opened, DiskFault> {
        self.store.open(self.key, self.torrent.clone());
        self.until(|d| if let Done::Opened { result, .. } = d { Some(result) } else { None })
    }

    pub fn open(&mut self) -> Opened {
        self.try_open().unwrap()
    }

    /// Closes with these pieces, and makes a new process of it.
    pub fn close(&mut self, have: &Bitfield) {
        self.store.close(self.key, have);
        self.until(|d| if let Done::Closed { result, .. } = d { Some(result) } else { None }).unwrap();
        self.restart();
    }

    /// The process is gone, as after a kill.
    pub fn restart(&mut self) {
        let config = StoreConfig { workers: 1, ..self.config.clone() };
        // The old one has to let go of its lock first.
        let idle = StoreConfig { pool_bytes: 0, state_dir: None, ..config.clone() };
        (self.store, self.wake) = start(&idle);
        (self.store, self.wake) = start(&config);
        self.key = self.keys.insert(());
    }

    /// The record as it lies on the disk.
    pub fn record(&self) -> Option<resume::Record> {
        let c = check::content_of(self.key, self.torrent.clone(), false).unwrap();
        resume::Resume::lock(self.state.path(), &c.info_hash).unwrap().load(&c)
    }

    pub fn prepare(&mut self, piece: PieceIndex) {
        self.store.prepare(self.key, piece);
        self.until(|d| if let Done::Prepared { result, .. } = d { Some(result) } else { None }).unwrap();
    }

    /// One read of a socket that has `n` of the span's bytes; answers with what is left.
    pub fn receive(&mut self, span: BlockSpan, n: u32) -> Option<BlockSpan> {
        let at = self.geometry().offset(span) as usize;
        let bytes = self.bytes[at..at + n.min(span.len()) as usize].to_vec();
        self.receive_bytes(span, &bytes)
    }

    pub fn receive_bytes(&mut self, span: BlockSpan, bytes: &[u8]) -> Option<BlockSpan> {
        let room = loop {
            if let Some(room) = self.store.room(self.key, span) {
                break room;
            }
            self.until(|d| matches!(d, Done::RoomFreed).then_some(()));
        };
        assert!(room.len() <= span.len() as usize);
        let n = pour(room, bytes).unwrap() as u32;
        self.store.arrived(self.key, span.first(n));
        span.after(n)
    }

    pub fn receive_block(&mut self, mut span: BlockSpan) {
        while let Some(rest) = self.receive(span, u32::MAX) {
            span = rest;
        }
    }

    pub fn verdict(&mut self, piece: PieceIndex, want_blocks: bool) -> Verdict {
        self.store.hash(self.key, piece, want_blocks);
        self.until(|d| if let Done::Hashed { verdict, .. } = d { Some(verdict) } else { None })
    }

    pub fn receive_piece(&mut self, piece: PieceIndex) {
        self.prepare(piece);
        for b in 0..self.geometry().blocks(piece) {
            self.receive_block(self.geometry().block(piece, b));
        }
        assert!(matches!(self.verdict(piece, false), Verdict::Good { .. }));
    }

    /// Many peers at once, each with a block in some state, in random order and in bites of random size.
    pub fn receive_wildly(&mut self, peers: usize, rng: &mut Rng) {
        let g = self.geometry();
        let mut blocks: Vec<_> =
            g.all_pieces().filter(|&p| !self.have.has(p)).flat_map(|p| (0..g.blocks(p)).map(move |b| g.block(p, b))).collect();
        g.all_pieces().for_each(|p| self.prepare(p));
        rng.shuffle(&mut blocks);
        let mut left: Vec<u32> = g.all_pieces().map(|p| g.blocks(p)).collect();
        let mut busy: Vec<BlockSpan> = Vec::new();
        while !blocks.is_empty() || !busy.is_empty() {
            while busy.len() < peers && !blocks.is_empty() {
                busy.extend(blocks.pop());
            }
            let i = rng.below(busy.len());
            let span = busy[i];
            let bite = 1 + rng.below(12_000) as u32;
            if rng.below(20) == 0 {
                self.store.abandon(self.key, span);
                let b = span.begin() / crate::units::BLOCK_LEN;
                busy[i] = g.block(span.piece(), b);
                continue;
            }
            let rest = if rng.below(8) == 0 {
                let at = g.offset(span) as usize;
                let few = self.bytes[at..at + span.len().min(300) as usize].to_vec();
                while !self.store.copy(self.key, span, &few) {
                    self.until(|d| matches!(d, Done::RoomFreed).then_some(()));
                }
                span.after(few.len() as u32)
            } else {
                self.receive(span, bite)
            };
            match rest {
                Some(rest) => busy[i] = rest,
                None => {
                    busy.swap_remove(i);
                    let p = span.piece();
                    left[p.as_usize()] -= 1;
                    if left[p.as_usize()] == 0 {
                        assert!(matches!(self.verdict(p, false), Verdict::Good { .. }), "piece {p}");
                    }
                }
            }
            if rng.below(4) == 0 {
                self.store.submit();
            }
        }
    }

    pub fn assert_content(&self) {
        let mut at = 0;
        for f in self.torrent.files.iter() {
            let end = at + f.length as usize;
            if f.lands_on_disk() {
                assert!(std::fs::read(self.torrent.dir.join(f.to_path())).unwrap() == self.bytes[at..end], "{}", f.path_text());
            }
            at = end;
        }
    }

    pub fn load(&mut self, span: BlockSpan) -> Vec<u8> {
        let mut into = vec![9; span.len() as usize];
        loop {
            match self.store.load(self.key, span, &mut into) {
                Load::Ready => return into,
                Load::Later => self.until(|d| if let Done::Loaded { result, .. } = d { Some(result) } else { None }).unwrap(),
                Load::Fault(f) => panic!("{f}"),
            }
        }
    }
}

fn start(config: &StoreConfig) -> (Store, Receiver<()>) {
    let (ring, wake) = channel();
    let ring = std::sync::Mutex::new(ring);
    let wake_up = Arc::new(move || {
        let _ = ring.lock().unwrap().send(());
    });
    (Store::new(config.clone(), wake_up).unwrap(), wake)
}

const SHAPES: [(u64, &[(&str, u64)]); 6] = [
    (1 << 20, &[("one", 5_000_001)]),
    (65_536, &[("a/b/c", 200_000), ("empty", 0), (".pad/1", 61_144 + 1000), ("a/d", 3), ("a/b/e", 700_000)]),
    (16_385, &[("x", 100_000), ("y", 1), ("z", 33_000)]),
    (999, &[("x", 10_000), (".pad/2", 5_000), ("y", 7)]),
    (16 << 20, &[("big", 20_000_000)]),
    (1, &[("x", 40)]),
];

#[test]
fn a_torrent_arrives_whole_whatever_its_shape_and_the_order_of_blocks() {
    for mode in WAYS {
        for (n, (piece_len, files)) in SHAPES.iter().enumerate() {
            let mut w = World::new(mode, *piece_len, files);
            let nothing_but_pads = w.open().have;
            w.have = nothing_but_pads.clone();
            assert!(nothing_but_pads.is_empty() || *piece_len == 999);
            w.receive_wildly(40, &mut Rng::new(n as u64));
            w.assert_content();
            let s = w.store.stats();
            assert_eq!(s.panics, 0);
            assert_eq!(s.window_bytes, 0, "windows are given back");
        }
    }
}

#[test]
fn a_pool_smaller_than_the_number_of_peers_never_stops() {
    let mut w = World::new(StorageMode::Plain, 262_144, &[("x", 3_000_000)]);
    w.config.pool_bytes = 16 * 16_384;
    w.restart();
    w.open();
    w.receive_wildly(150, &mut Rng::new(3));
    w.assert_content();
    assert!(w.store.stats().starved > 0);
    assert_eq!(w.store.stats().slots, 16);
}

#[test]
fn a_corrupt_block_is_named_by_its_digest() {
    for mode in WAYS {
        let mut w = World::new(mode, 200_000, &[("x", 500_000)]);
        w.open();
        let (g, p) = (w.geometry(), w.piece(1));
        w.prepare(p);
        let bad = w.geometry().block(p, 3);
        for b in (0..g.blocks(p)).rev() {
            let span = g.block(p, b);
            if span == bad {
                w.receive_bytes(span, &[1; 16_384]);
            } else {
                w.receive_block(span);
            }
        }
        let Verdict::Bad { blocks: first } = w.verdict(p, false) else { panic!("not seen") };
        w.prepare(p);
        (0..g.blocks(p)).for_each(|b| w.receive_block(g.block(p, b)));
        let Verdict::Good { blocks: Some(then) } = w.verdict(p, true) else { panic!("not good") };
        let differ: Vec<_> = (0..first.len()).filter(|&i| first[i] != then[i]).collect();
        assert_eq!(differ, [3]);
    }
}

#[test]
fn a_block_begun_by_one_peer_and_finished_by_another_is_the_others() {
    for mode in WAYS {
        let mut w = World::new(mode, 1 << 19, &[("x", 1 << 19)]);
        w.config.pool_bytes = 16 * 16_384;
        w.restart();
        w.open();
        let (g, p) = (w.geometry(), w.piece(0));
        w.prepare(p);
        // The first peers lie, and leave when what they brought was already written out for want of room.
        for b in 0..16 {
            assert!(w.store.copy(w.key, g.block(p, b), &[0x55; 500]));
        }
        assert!(!w.store.copy(w.key, g.block(p, 16), &[0x55; 500]));
        (0..16).for_each(|b| w.store.abandon(w.key, g.block(p, b)));
        w.until(|d| matches!(d, Done::RoomFreed).then_some(()));
        (0..32).for_each(|b| w.receive_block(g.block(p, b)));
        assert!(matches!(w.verdict(p, false), Verdict::Good { .. }), "{mode:?}");
        w.assert_content();
        assert_eq!(w.store.stats().window_bytes, 0);
    }
}

#[test]
fn t29_what_was_received_can_be_served_pads_included() {
    for mode in WAYS {
        let mut w = World::new(mode, 65_536, SHAPES[1].1);
        w.open();
        w.receive_wildly(5, &mut Rng::new(1));
        let g = w.geometry();
        for p in g.all_pieces() {
            let span = g.whole(p);
            let at = g.offset(span) as usize;
            assert!(w.load(span) == w.bytes[at..at + span.len() as usize]);
        }
        let late = w.store.stats().loads_late;
        assert!(late < 8 || w.store.reads.always_waits(w.key), "descriptors stay with the loop");
    }
}

#[test]
fn f9_empty_files_are_made_and_larger_ones_left_alone() {
    let mut w = World::new(StorageMode::Plain, 32_768, &[("d/x", 40_000), ("d/empty", 0)]);
    std::fs::create_dir_all(w.path("d")).unwrap();
    std::fs::write(w.path("d/x"), vec![3; 50_000]).unwrap();
    let opened = w.open();
    assert!(opened.have.is_empty());
    assert_eq!(std::fs::metadata(w.path("d/empty")).unwrap().len(), 0);
    w.receive_wildly(3, &mut Rng::new(1));
    let now = std::fs::read(w.path("d/x")).unwrap();
    assert_eq!(now.len(), 50_000);
    assert!(now[..40_000] == w.bytes[..] && now[40_000..] == [3; 10_000]);
}

#[test]
fn something_in_the_way_is_a_fault_and_stays_as_it_is() {
    for mode in WAYS {
        let mut w = World::new(mode, 32_768, &[("d/x", 40_000)]);
        std::fs::create_dir_all(w.path("d/x")).unwrap();
        assert_eq!(w.try_open().unwrap_err().exit_code(), 13);
        w.restart();
        std::fs::remove_dir(w.path("d/x")).unwrap();
        std::fs::remove_dir(w.path("d")).unwrap();
        std::os::unix::fs::symlink(w.state.path(), w.path("d")).unwrap();
        w.open();
        let p = w.piece(0);
        w.store.prepare(w.key, p);
        let fault = w.until(|d| match d {
            Done::Prepared { result: Err(f), .. } => Some(f),
            Done::Prepared { .. } => Some(DiskFault { kind: FaultKind::Internal, path: "".into(), errno: 0 }),
            _ => None,
        });
        let g = w.geometry();
        let kind = match fault.kind {
            FaultKind::Internal => {
                (0..2).for_each(|b| w.receive_block(g.block(p, b)));
                let Verdict::Fault(f) = w.verdict(p, false) else { panic!("wrote through a link") };
                f.kind
            }
            kind => kind,
        };
        assert_eq!(kind, FaultKind::Exists);
        assert!(!Path::new(&w.state.path().join("x")).exists());
    }
}

#[test]
fn f12_a_second_process_on_the_same_torrent_is_kept_away() {
    let mut w = World::new(StorageMode::Plain, 32_768, &[("x", 40_000)]);
    w.open();
    let (mut other, wake) = start(&w.config);
    std::mem::swap(&mut w.store, &mut other);
    let first_wake = std::mem::replace(&mut w.wake, wake);
    let f = w.try_open().unwrap_err();
    assert_eq!((f.kind, f.exit_code()), (FaultKind::Locked, 1));
    w.store = other;
    w.wake = first_wake;
    let have = Bitfield::empty(2);
    w.close(&have);
    w.open();
}

#[test]
fn where_reading_without_waiting_is_unknown_the_worker_sends_the_bytes() {
    let mut w = World::new(StorageMode::Plain, 65_536, &[("x", 200_000)]);
    w.open();
    w.receive_wildly(5, &mut Rng::new(1));
    w.store.reads.waits_for(w.key);
    let g = w.geometry();
    for p in g.all_pieces() {
        let span = g.whole(p);
        let at = g.offset(span) as usize;
        assert!(w.load(span) == w.bytes[at..at + span.len() as usize]);
    }
    assert_eq!(w.store.stats().loads_late, 4);
}

#[test]
fn what_is_cached_is_read_as_far_as_it_goes_and_nobody_is_sent_for_the_rest() {
    let mut w = World::new(StorageMode::Plain, 65_536, &[("x", 100_000), ("y", 31_072)]);
    w.open();
    w.receive_wildly(5, &mut Rng::new(1));
    let g = w.geometry();
    let span = g.whole(w.piece(1));
    let mut into = vec![9; span.len() as usize];
    assert_eq!(w.store.load_cached(w.key, span, &mut into), 0, "no descriptor is here yet");
    assert!(w.load(g.block(w.piece(1), 0)) == w.bytes[65_536..81_920], "this brings the first file's");
    assert_eq!(w.store.load_cached(w.key, span, &mut into), 100_000 - 65_536);
    assert!(into[..34_464] == w.bytes[65_536..100_000] && into[34_464..].iter().all(|b| *b == 9));
    assert_eq!(w.store.stats().loads_late, 1);
}

#[test]
fn closing_one_torrent_in_the_middle_leaves_the_other_alone() {
    for mode in WAYS {
        let mut w = World::new(mode, 65_536, &[("x", 400_000)]);
        w.open();
        let second = OpenTorrent { info_hash: InfoHash([8; 20]), dir: w.torrent.dir.join("second"), ..w.torrent.clone() };
        let (key, other) = (w.key, w.keys.insert(()));
        w.store.open(other, second);
        w.until(|d| matches!(d, Done::Opened { .. }).then_some(()));
        let g = w.geometry();
        for k in [key, other] {
            w.key = k;
            g.all_pieces().for_each(|p| w.prepare(p));
        }
        for p in g.all_pieces() {
            for k in [key, other] {
                w.key = k;
                (0..g.blocks(p)).for_each(|b| w.receive_block(g.block(p, b)));
            }
        }
        w.key = other;
        w.receive(g.block(w.piece(0), 0), 100);
        w.store.close(other, &Bitfield::empty(g.pieces()));
        // Whatever comes for it from here on has no effect, and no answer.
        w.store.arrived(other, g.block(w.piece(0), 0));
        w.store.hash(other, w.piece(0), false);
        assert!(w.store.room(other, g.block(w.piece(0), 0)).is_none());
        w.until(|d| matches!(d, Done::Closed { .. }).then_some(()));
        w.key = key;
        for p in g.all_pieces() {
            let verdict = w.verdict(p, false);
            assert!(matches!(verdict, Verdict::Good { .. }), "{mode:?}, {p:?}: {verdict:?}");
        }
        w.assert_content();
        let s = w.store.stats();
        assert_eq!((s.slots_free, s.window_bytes), (s.slots, 0), "{mode:?}");
    }
}
