//! The torrents of the matrix, and the session that seeds all of them.

use crate::support;
use rill::session::{AddTorrent, Event, Session};
use rill::units::PieceHash;
use rill::wire::Metainfo;
use rill::wire::metainfo::Builder;
use sha1::{Digest, Sha1};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub const PIECE: u32 = 32 << 10;

/// A torrent and its right bytes.
pub struct Torrent {
    pub metainfo: Metainfo,
    /// The torrent file.
    pub file: PathBuf,
    pub bytes: Vec<u8>,
}

impl Torrent {
    /// Its files: path below the download directory, and right bytes.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, &[u8])> {
        self.metainfo.files().iter().map(|f| {
            let (start, len) = (f.offset as usize, f.length as usize);
            (f.to_path(), &self.bytes[start..start + len])
        })
    }

    /// Whether every file below `dir` has its right bytes and nothing else.
    pub fn is_exact(&self, dir: &Path) -> bool {
        self.files().all(|(path, bytes)| fs::read(dir.join(path)).is_ok_and(|found| found == bytes))
    }

    /// The same, where a file may lie at its part name.
    pub fn is_there(&self, dir: &Path) -> bool {
        self.files()
            .all(|(path, bytes)| fs::read(support::lies_at(dir, &path)).is_ok_and(|found| found == bytes))
    }

    /// Whether a piece is good below `dir`; a file that is not complete may have the ending `.part`.
    pub fn is_good(&self, dir: &Path, piece: usize) -> bool {
        let start = piece * PIECE as usize;
        let end = (start + PIECE as usize).min(self.bytes.len());
        self.metainfo.files().iter().all(|f| {
            let (from, to) = (start.max(f.offset as usize), end.min((f.offset + f.length) as usize));
            let mut part = dir.join(f.to_path()).into_os_string();
            part.push(".part");
            from >= to
                || [dir.join(f.to_path()), part.into()].iter().any(|path: &PathBuf| {
                    let mut found = vec![0; to - from];
                    let at = (from - f.offset as usize) as u64;
                    fs::File::open(path).is_ok_and(|file| file.read_exact_at(&mut found, at).is_ok())
                        && found == self.bytes[from..to]
                })
        })
    }

    /// The pieces that a session with this state directory claims of `dir` and that are bad; empty if it
    /// refuses the content.
    pub fn false_claims(&self, dir: &Path, state: &Path) -> Vec<usize> {
        let session = support::session_with("127.0.0.1", |c| c.state_dir = Some(state.to_path_buf()));
        let torrent = AddTorrent { paused: true, ..AddTorrent::new(self.metainfo.clone(), dir) };
        let id = session.add(torrent).unwrap();
        let mut claimed = Vec::new();
        loop {
            match session.next_event(support::PATIENCE).expect("an event") {
                Event::Opened { .. } => break,
                Event::Failed { .. } => return Vec::new(),
                _ => {}
            }
        }
        let have = session.pieces(id).unwrap().have;
        for (n, piece) in self.metainfo.geometry().all_pieces().enumerate() {
            if have.has(piece) {
                claimed.push(n);
            }
        }
        claimed.retain(|n| !self.is_good(dir, *n));
        claimed
    }
}

/// All torrents.
pub struct Library {
    shelf: Shelf,
    /// Torrents for two processes.
    pub alone: Vec<Torrent>,
    /// Pairs of torrents with the same paths.
    pub same: Vec<[Torrent; 2]>,
    /// Pairs of torrents whose paths are equal in a folding file system.
    pub folding: Vec<[Torrent; 2]>,
    /// Pairs of torrents with different paths.
    pub different: Vec<[Torrent; 2]>,
    /// Torrents with two entries of one path, and of paths that are equal in a folding file system.
    pub entries: Vec<Torrent>,
    pub folding_entries: Vec<Torrent>,
    /// The entries `a/x.bin` and `b/x.bin`.
    pub entries_in_directories: Torrent,
    /// The entries `one.bin` and `two.bin`.
    pub plain_entries: Torrent,
}

/// Spellings of one name: case, normalisation, both.
pub const SPELLINGS: [[&str; 2]; 3] = [
    ["Data.bin", "dATA.bin"],
    ["caf\u{e9}.bin", "cafe\u{301}.bin"],
    ["R\u{c9}SUM\u{c9}.bin", "re\u{301}sume\u{301}.bin"],
];

impl Library {
    /// The address of the seeder.
    pub fn seeder(&self) -> SocketAddr {
        self.shelf.seeder()
    }

    pub fn new() -> Library {
        let mut b = Shelf::new();
        let alone = vec![b.single("it.bin", 900_000), b.multi("it", &["a.bin", "sub/b.bin"], 450_000)];
        let same = vec![
            [b.single("it.bin", 900_000), b.single("it.bin", 900_000)],
            [b.single("it.bin", 900_000), b.single("it.bin", 1_100_000)],
            [b.multi("it", &["a.bin", "b.bin"], 400_000), b.multi("it", &["a.bin", "b.bin"], 400_000)],
            [b.multi("it", &["a.bin", "b.bin"], 400_000), b.multi("it", &["b.bin"], 600_000)],
        ];
        let mut folding = Vec::new();
        let mut folding_entries = Vec::new();
        for [one, two] in SPELLINGS {
            folding.push([b.single(one, 900_000), b.single(two, 900_000)]);
            folding.push([b.multi(one, &["a.bin"], 800_000), b.multi(two, &["a.bin"], 800_000)]);
            folding.push([b.multi("it", &[one], 800_000), b.multi("it", &[two], 800_000)]);
            folding_entries.push(b.multi("it", &[one, two], 450_000));
            let [one, two] = [format!("{one}/x"), format!("{two}/x")];
            folding_entries.push(b.multi("it", &[&one, &two], 450_000));
        }
        let different = vec![[b.single("one.bin", 900_000), b.single("two.bin", 900_000)]];
        let entries = vec![
            b.multi("it", &["x.bin", "x.bin"], 450_000),
            b.multi("it", &["x.bin", "X.bin"], 450_000),
            b.multi("it", &["d/x.bin", "y.bin", "d/x.bin"], 300_000),
        ];
        let entries_in_directories = b.multi("it", &["a/x.bin", "b/x.bin"], 450_000);
        let plain_entries = b.multi("it", &["one.bin", "two.bin"], 450_000);
        b.wait();
        Library {
            shelf: b,
            alone,
            same,
            folding,
            different,
            entries,
            folding_entries,
            entries_in_directories,
            plain_entries,
        }
    }
}

/// A session that seeds torrents of random content.
pub struct Shelf {
    dir: tempfile::TempDir,
    session: Session,
    count: u64,
}

impl Shelf {
    pub fn new() -> Shelf {
        let dir = tempfile::Builder::new().prefix("rill-ownership-").tempdir().unwrap();
        Shelf { dir, session: support::session("127.0.0.1"), count: 0 }
    }

    /// Waits until all torrents are open.
    pub fn wait(&self) {
        for _ in 0..self.count {
            support::wait(&self.session, |e| matches!(e, Event::Opened { .. }));
        }
    }

    /// The address of the seeder.
    pub fn seeder(&self) -> SocketAddr {
        SocketAddr::new([127, 0, 0, 1].into(), self.session.local_port())
    }

    pub fn single(&mut self, name: &str, len: u64) -> Torrent {
        self.add(Builder::single(name, len))
    }

    /// Every file has this length.
    pub fn multi(&mut self, name: &str, paths: &[&str], len: u64) -> Torrent {
        let files = paths.iter().map(|path| (path.split('/').map(str::to_owned).collect(), len));
        self.add(Builder::multi(name, files.collect()))
    }

    fn add(&mut self, builder: Builder) -> Torrent {
        let builder = Builder { piece_len: PIECE, ..builder };
        let total: u64 = builder.files.iter().map(|(_, len)| len).sum();
        self.count += 1;
        let bytes = support::content(total as usize, 1000 + self.count);
        let hashes: Vec<PieceHash> =
            bytes.chunks(PIECE as usize).map(|piece| PieceHash(Sha1::digest(piece).into())).collect();
        let file = builder.finish(&hashes).unwrap();
        let dir = self.dir.path().join(self.count.to_string());
        let torrent =
            Torrent { metainfo: Metainfo::parse(&file).unwrap(), file: dir.join("it.torrent"), bytes };
        for (path, bytes) in torrent.files() {
            let path = dir.join("content").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        fs::write(&torrent.file, file).unwrap();
        let seed = AddTorrent::new(torrent.metainfo.clone(), dir.join("content"));
        self.session.add(AddTorrent { seed_only: true, ..seed }).unwrap();
        torrent
    }
}
