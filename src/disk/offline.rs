//! Hashing content without a store: for `verify` and `create`. Blocks its caller.
//!
//! The pieces are dealt out to two threads in turn where there are two cores: both stay close together in the file, so a
//! spinning disk streams, and one reads while the other hashes. Nothing is written, no lock is taken, no record believed.

use super::check::{Proof, content_of};
use super::contract::OpenTorrent;
use super::fault::{DiskFault, FaultKind};
use super::files::{Content, OpenFiles};
use super::limits;
use super::looks::Looks;
use crate::units::{Bitfield, Geometry, InfoHash, PieceIndex, SlotMap, TorrentKey};
use crate::wire::Files;
use rustix::fs::FileType;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};

/// What one file of a torrent is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Index in the torrent's list.
    pub file: usize,
    /// Pieces that hold bytes of it.
    pub pieces: u32,
    /// Those of them whose hash is wrong or that could not be read.
    pub bad: u32,
    /// What lies there.
    pub state: FileState,
}

/// The outward state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// There, as long as it should be.
    There,
    /// Nothing is there.
    Missing,
    /// There, but too short.
    Short,
    /// There, and longer than it should be.
    Long,
    /// Something that is not a regular file.
    Odd,
}

impl FileReport {
    /// Whether the file is there with nothing wrong in it.
    pub fn is_good(&self) -> bool {
        self.bad == 0 && matches!(self.state, FileState::There | FileState::Long)
    }
}

/// What `verify` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// The good pieces.
    pub have: Bitfield,
    /// Every file but the pads, in order.
    pub files: Vec<FileReport>,
}

impl VerifyReport {
    /// Whether every piece is good and every file is there.
    pub fn is_good(&self) -> bool {
        self.have.is_full() && self.files.iter().all(FileReport::is_good)
    }
}

/// Hashes what is there; `progress` gets bytes done and bytes in all. What cannot be read is bad, not an error; an error
/// is a directory that is not there or a disk that fails.
pub fn verify(torrent: OpenTorrent, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, DiskFault> {
    let content = content_of(any_key(), OpenTorrent { read_only: true, ..torrent }, false)?;
    let states = states(&content)?;
    let c = Arc::new(content);
    let readable = |p: PieceIndex| {
        c.segments(c.geometry.whole(p)).all(|s| s.pad || matches!(states[s.file], FileState::There | FileState::Long))
    };
    let todo: Vec<_> = c.geometry.all_pieces().filter(|&p| readable(p)).collect();
    let mut have = Bitfield::empty(c.geometry.pieces());
    each_piece(&c, todo, progress, Hash::Compare, &mut |piece, result| match result {
        Ok((good, _)) => {
            if good {
                have.set(piece);
            }
            Ok(())
        }
        Err(f) if matches!(f.kind, FaultKind::Changed | FaultKind::Missing | FaultKind::CannotOpen | FaultKind::Exists) => Ok(()),
        Err(f) => Err(f),
    })?;
    let files = c.layout.on_disk().map(|(file, _)| {
        let (start, end) = c.layout.range(file);
        let pieces = c.geometry.pieces_of(start, end).count() as u32;
        let bad = c.geometry.pieces_of(start, end).filter(|&p| !have.has(p)).count() as u32;
        FileReport { file, pieces, bad, state: states[file] }
    });
    let files = files.collect();
    Ok(VerifyReport { have, files })
}

/// The piece hashes of these files below `dir`, twenty bytes each, for a new torrent of this geometry.
pub fn hash_content(
    dir: &Path,
    files: Files,
    geometry: Geometry,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<u8>, DiskFault> {
    let torrent = OpenTorrent {
        info_hash: InfoHash([0; 20]),
        geometry,
        files,
        hashes: Vec::new().into(),
        dir: dir.to_path_buf(),
        wanted: None,
        read_only: true,
        check: true,
    };
    let c = Arc::new(content_of(any_key(), torrent, false)?);
    let mut hashes = vec![0; geometry.pieces() as usize * 20];
    each_piece(&c, geometry.all_pieces().collect(), progress, Hash::Full, &mut |piece, result| {
        let at = piece.as_usize() * 20;
        hashes[at..at + 20].copy_from_slice(&result?.1);
        Ok(())
    })?;
    Ok(hashes)
}

fn any_key() -> TorrentKey {
    SlotMap::<TorrentKey, ()>::default().next_key()
}

fn states(c: &Content) -> Result<Vec<FileState>, DiskFault> {
    let mut states = vec![FileState::There; c.layout.len()];
    let mut looks = Looks::at(&c.tree);
    for (file, f) in c.layout.on_disk() {
        states[file] = match looks.look(&f.to_path()) {
            Ok(None) => FileState::Missing,
            Ok(Some(s)) if FileType::from_raw_mode(s.st_mode) != FileType::RegularFile => FileState::Odd,
            Ok(Some(s)) => match (s.st_size as u64).cmp(&f.length) {
                std::cmp::Ordering::Less => FileState::Short,
                std::cmp::Ordering::Equal => FileState::There,
                std::cmp::Ordering::Greater => FileState::Long,
            },
            Err(f) if f.kind == FaultKind::Exists => FileState::Missing, // a directory on its way is a file
            Err(f) => return Err(f),
        };
    }
    Ok(states)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hash {
    /// Against the expected hash; holes need not be read.
    Compare,
    /// The hash itself.
    Full,
}

type PieceResult = Result<(bool, [u8; 20]), DiskFault>;

fn each_piece(
    c: &Arc<Content>,
    pieces: Vec<PieceIndex>,
    progress: &mut dyn FnMut(u64, u64),
    hash: Hash,
    take: &mut dyn FnMut(PieceIndex, PieceResult) -> Result<(), DiskFault>,
) -> Result<(), DiskFault> {
    let of = pieces.iter().map(|&p| u64::from(c.geometry.piece_len(p))).sum();
    let mut done = 0;
    progress(0, of);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(limits::SWEEP_THREADS);
    let (next, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let work = |say: Sender<(PieceIndex, PieceResult)>| {
        let mut files = OpenFiles::new(limits::WORKER_FILES_MIN, false);
        let mut proof = Proof::new(limits::SWEEP_BYTES);
        while !stop.load(Relaxed) {
            let Some(&piece) = pieces.get(next.fetch_add(1, Relaxed) as usize) else { return };
            let result = match hash {
                Hash::Compare => proof.is_good(c, &mut files, piece).map(|good| (good, [0; 20])),
                Hash::Full => proof.hash(c, &mut files, piece).map(|h| (true, h)),
            };
            if say.send((piece, result)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let (say, results) = channel();
        for _ in 0..threads {
            let say = say.clone();
            scope.spawn(|| work(say));
        }
        drop(say);
        for (piece, result) in results {
            if let Err(f) = take(piece, result) {
                stop.store(true, Relaxed);
                return Err(f);
            }
            done += u64::from(c.geometry.piece_len(piece));
            progress(done, of);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::World;
    use super::*;
    use crate::disk::StorageMode;
    use std::fs;

    fn world() -> World {
        let w =
            World::new(StorageMode::Plain, 65_536, &[("a", 65_536), ("d/b", 65_530), (".pad/0", 6), ("d/c", 60_000), ("e", 0)]);
        fs::create_dir_all(w.path("d")).unwrap();
        for (path, from, to) in [("a", 0, 65_536), ("d/b", 65_536, 131_066), ("d/c", 131_072, 191_072), ("e", 0, 0)] {
            fs::write(w.path(path), &w.bytes[from..to]).unwrap();
        }
        w
    }

    #[test]
    fn hashing_what_is_there_gives_the_torrents_hashes() {
        let w = world();
        let mut last = (0, 0);
        let hashes = hash_content(&w.torrent.dir, w.torrent.files.clone(), w.geometry(), &mut |d, of| last = (d, of)).unwrap();
        assert_eq!(hashes[..], w.torrent.hashes[..]);
        assert_eq!(last, (191_072, 191_072));
    }

    #[test]
    fn a_report_tells_missing_short_long_and_bad_apart() {
        let w = world();
        assert!(verify(w.torrent.clone(), &mut |_, _| ()).unwrap().is_good());
        fs::remove_file(w.path("e")).unwrap();
        fs::write(w.path("d/c"), [&w.bytes[131_072..], b"more"].concat()).unwrap();
        fs::write(w.path("a"), vec![0; 65_536]).unwrap();
        fs::write(w.path("d/b"), vec![0; 5]).unwrap();
        let r = verify(w.torrent.clone(), &mut |_, _| ()).unwrap();
        assert_eq!(r.have.iter().map(PieceIndex::get).collect::<Vec<_>>(), [2]);
        let told: Vec<_> = r.files.iter().map(|f| (f.file, f.bad, f.state)).collect();
        use FileState::*;
        assert_eq!(told, [(0, 1, There), (1, 1, Short), (3, 0, Long), (4, 0, Missing)]);
        assert!(r.files[2].is_good() && !r.is_good());
    }

    #[test]
    fn a_file_that_ends_while_being_hashed_for_a_torrent_is_an_error() {
        let w = world();
        fs::write(w.path("d/c"), "short").unwrap();
        let f = hash_content(&w.torrent.dir, w.torrent.files.clone(), w.geometry(), &mut |_, _| ()).unwrap_err();
        assert_eq!(f.kind, FaultKind::Changed);
    }
}
