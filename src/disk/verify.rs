//! Hashing content without a store, for `verify` and `create`. The functions block their caller.
//!
//! Where there are two cores, two threads take turns at the pieces. They stay close together in the file, so
//! a spinning disk streams, and one reads while the other hashes. Nothing is written, no lock is taken and no
//! record is read.

use super::api::OpenTorrent;
use super::fault::{DiskFault, FaultKind};
use super::hasher::{PieceDigest, PieceHasher};
use super::limits;
use super::open_files::OpenFiles;
use super::piece_checker::PieceChecker;
use super::slots::for_each_chunk;
use super::stat_many::StatMany;
use super::torrent_files::TorrentFiles;
use crate::units::{Bitfield, Geometry, InfoHash, PieceIndex, SlotMap, TorrentKey};
use crate::wire::Files;
use rustix::fs::{FileType, Stat};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};

/// The state of one file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its index in the torrent.
    pub file: usize,
    /// Pieces that hold bytes of it.
    pub pieces: u32,
    /// The part of them that is wrong or could not be read.
    pub bad: u32,
    /// Its state on the disk.
    pub state: FileState,
}

/// The state of a file on the disk, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It has the right length.
    Present,
    /// Nothing is at its path.
    Missing,
    /// It is too short.
    TooShort,
    /// It is too long.
    TooLong,
    /// Something else than a regular file is at its path.
    NotAFile,
    /// It cannot be opened, for the reason with this number of the system; nothing is known of its content.
    CannotOpen(i32),
}

impl FileReport {
    /// Whether the file is long enough and has no bad piece.
    #[cfg(test)]
    pub fn is_good(&self) -> bool {
        self.bad == 0 && matches!(self.state, FileState::Present | FileState::TooLong)
    }
}

/// The result of `verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// The good pieces.
    pub have: Bitfield,
    /// Every file but the pads, in order.
    pub files: Vec<FileReport>,
}

impl VerifyReport {
    /// Whether every piece and every file is good.
    #[cfg(test)]
    pub fn is_good(&self) -> bool {
        self.have.is_full() && self.files.iter().all(FileReport::is_good)
    }
}

/// Hashes the content of a torrent. `progress` gets the bytes hashed and the bytes to hash. A file
/// that cannot be opened is reported with the reason.
///
/// # Errors
/// The directory does not exist, or the disk fails.
pub fn verify(torrent: OpenTorrent, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, DiskFault> {
    let torrent = TorrentFiles::open(any_key(), OpenTorrent { read_only: true, ..torrent }, false)?;
    let on_disk = files_on_disk(&torrent)?;
    let torrent = Arc::new(torrent);
    let geometry = &torrent.geometry;
    // The pieces in front of the end of a truncated file may be good.
    let is_readable = |p: PieceIndex| {
        torrent.file_spans(geometry.whole(p)).all(|s| s.pad || s.at + s.len <= on_disk[s.file].readable)
    };
    let todo: Vec<_> = geometry.all_pieces().filter(|&p| is_readable(p)).collect();
    let mut have = Bitfield::empty(geometry.pieces());
    let check: &CheckPiece<bool> = &|checker, open_files, piece| checker.is_good(&torrent, open_files, piece);
    for_each_piece(geometry, todo, progress, check, &mut |piece, result| match result {
        Ok(good) => {
            if good {
                have.set(piece);
            }
            Ok(())
        }
        Err(fault) => match fault.kind {
            FaultKind::Changed | FaultKind::Missing | FaultKind::CannotOpen | FaultKind::Exists => Ok(()),
            _ => Err(fault),
        },
    })?;
    // The files whose own bytes belong to a piece that is good with the parts file.
    let mut proven = BTreeSet::new();
    let in_parts: Vec<_> = torrent.parts.pieces_found().filter(|p| !have.has(*p)).collect();
    for piece in in_parts {
        if let Some(files) = check_with_parts(&torrent, &on_disk, piece)? {
            have.set(piece);
            proven.insert((piece, None));
            proven.extend(files.into_iter().map(|file| (piece, Some(file))));
        }
    }
    let is_good = |file, piece| {
        have.has(piece) && (!proven.contains(&(piece, None)) || proven.contains(&(piece, Some(file))))
    };
    let files = torrent.layout.on_disk().map(|(file, _)| {
        let (start, end) = torrent.layout.range(file);
        let pieces = geometry.pieces_of(start, end).count() as u32;
        let bad = geometry.pieces_of(start, end).filter(|&p| !is_good(file, p)).count() as u32;
        FileReport { file, pieces, bad, state: on_disk[file].state }
    });
    let files = files.collect();
    Ok(VerifyReport { have, files })
}

/// Hashes a piece with the bytes of its slot in the parts file: of each file there, unless they are zeros.
/// Returns the files whose own bytes were used, if the piece is good.
fn check_with_parts(
    torrent: &Arc<TorrentFiles>,
    on_disk: &[FileOnDisk],
    piece: PieceIndex,
) -> Result<Option<Vec<usize>>, DiskFault> {
    let mut open_files = OpenFiles::new(limits::WORKER_FILES_MIN, false);
    let mut hasher = torrent.expected(piece).hasher();
    let mut files = Vec::new();
    let mut at = torrent.geometry.piece_offset(piece);
    for span in torrent.layout.file_spans(at, u64::from(torrent.geometry.piece_len(piece))) {
        let end = at + span.len;
        // A slot holds all bytes of a file in its piece, or none.
        let in_slot = !span.pad && open_files.slot_has_bytes(torrent, piece, at..end)?;
        if !in_slot {
            if !span.pad && on_disk[span.file].readable < span.at + span.len {
                return Ok(None);
            }
            files.push(span.file);
        }
        for_each_chunk(at..end, |from, chunk| {
            if in_slot {
                open_files.read_slot(torrent, piece, from, chunk)?;
            } else {
                open_files.read(torrent, from, chunk)?;
            }
            hasher.update(chunk);
            Ok(())
        })?;
        at = end;
    }
    Ok(torrent.expected(piece).matches(hasher.finish()).then_some(files))
}

/// Hashes these files below `dir` for a new torrent. Returns the SHA-1 of each piece, 20 bytes a piece.
///
/// # Errors
/// A file is missing, shorter than listed or unreadable.
pub fn hash_content(
    dir: &Path,
    files: Files,
    geometry: Geometry,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<u8>, DiskFault> {
    let no_hashes = Vec::new().into();
    let torrent = OpenTorrent {
        read_only: true,
        check: true,
        ..OpenTorrent::new(InfoHash([0; 20]).into(), geometry, files, no_hashes, dir)
    };
    let torrent = Arc::new(TorrentFiles::open(any_key(), torrent, false)?);
    let mut hashes = vec![0; geometry.pieces() as usize * 20];
    let hash: &CheckPiece<PieceDigest> =
        &|checker, open_files, piece| checker.digest(&torrent, open_files, piece, PieceHasher::sha1());
    for_each_piece(&geometry, geometry.all_pieces().collect(), progress, hash, &mut |piece, result| {
        let PieceDigest::Sha1(digest) = result?;
        let at = piece.as_usize() * 20;
        hashes[at..at + 20].copy_from_slice(&digest);
        Ok(())
    })?;
    Ok(hashes)
}

/// A key for a torrent outside of any store.
fn any_key() -> TorrentKey {
    SlotMap::<TorrentKey, ()>::default().next_key()
}

/// A file as it is on the disk.
#[derive(Clone, Copy)]
struct FileOnDisk {
    state: FileState,
    /// Bytes from its start that can be read.
    readable: u64,
}

/// Looks at every file, and opens those that are regular.
fn files_on_disk(torrent: &TorrentFiles) -> Result<Vec<FileOnDisk>, DiskFault> {
    let mut files = vec![FileOnDisk { state: FileState::Present, readable: 0 }; torrent.layout.len()];
    let mut stats = StatMany::new(&torrent.dir);
    for (file, f) in torrent.layout.on_disk() {
        let found = torrent.find_file(file, &mut |path| stats.stat(path)).and_then(|stat| {
            let is_regular = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            Ok(match stat {
                None => FileOnDisk { state: FileState::Missing, readable: 0 },
                Some(stat) if !is_regular(&stat) => FileOnDisk { state: FileState::NotAFile, readable: 0 },
                Some(_) => {
                    let readable = torrent.dir.open_file(&torrent.path(file))?.size;
                    let state = match readable.cmp(&f.length) {
                        Ordering::Less => FileState::TooShort,
                        Ordering::Equal => FileState::Present,
                        Ordering::Greater => FileState::TooLong,
                    };
                    FileOnDisk { state, readable }
                }
            })
        });
        files[file] = found.or_else(|fault| match fault.kind {
            // `Exists`: one of its directories is a file.
            FaultKind::Missing | FaultKind::Exists => {
                Ok(FileOnDisk { state: FileState::Missing, readable: 0 })
            }
            FaultKind::CannotOpen => {
                Ok(FileOnDisk { state: FileState::CannotOpen(fault.errno), readable: 0 })
            }
            _ => Err(fault),
        })?;
    }
    Ok(files)
}

/// The work on one piece.
type CheckPiece<'a, T> =
    dyn Fn(&mut PieceChecker, &mut OpenFiles, PieceIndex) -> Result<T, DiskFault> + Sync + 'a;

/// Runs `check` for each piece on the threads of a pass, and `take` with each result on the caller's. Stops
/// at the first error of `take`.
fn for_each_piece<T: Send>(
    geometry: &Geometry,
    pieces: Vec<PieceIndex>,
    progress: &mut dyn FnMut(u64, u64),
    check: &CheckPiece<'_, T>,
    take: &mut dyn FnMut(PieceIndex, Result<T, DiskFault>) -> Result<(), DiskFault>,
) -> Result<(), DiskFault> {
    let total = pieces.iter().map(|&p| u64::from(geometry.piece_len(p))).sum();
    let mut done = 0;
    progress(0, total);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(limits::SWEEP_THREADS);
    let next = AtomicU32::new(0);
    let stop = AtomicBool::new(false);
    let work = |results: Sender<(PieceIndex, Result<T, DiskFault>)>| {
        let mut open_files = OpenFiles::new(limits::WORKER_FILES_MIN, false);
        let mut checker = PieceChecker::new(limits::SWEEP_BYTES);
        while !stop.load(Relaxed) {
            let Some(&piece) = pieces.get(next.fetch_add(1, Relaxed) as usize) else { return };
            if results.send((piece, check(&mut checker, &mut open_files, piece))).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let (send, results) = channel();
        for _ in 0..threads {
            let send = send.clone();
            scope.spawn(|| work(send));
        }
        drop(send);
        for (piece, result) in results {
            if let Err(fault) = take(piece, result) {
                stop.store(true, Relaxed);
                return Err(fault);
            }
            done += u64::from(geometry.piece_len(piece));
            progress(done, total);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestDisk;
    use super::*;
    use crate::disk::StorageMode;
    use std::fs;

    fn complete_content() -> TestDisk {
        let files = [("a", 65_536), ("d/b", 65_530), (".pad/0", 6), ("d/c", 60_000), ("e", 0)];
        let disk = TestDisk::new(StorageMode::Plain, 65_536, &files);
        fs::create_dir_all(disk.path("d")).unwrap();
        for (path, from, to) in
            [("a", 0, 65_536), ("d/b", 65_536, 131_066), ("d/c", 131_072, 191_072), ("e", 0, 0)]
        {
            fs::write(disk.path(path), &disk.bytes[from..to]).unwrap();
        }
        disk
    }

    #[test]
    fn hashing_the_content_gives_the_torrents_hashes() {
        let disk = complete_content();
        let mut last = (0, 0);
        let files = disk.torrent.files.clone();
        let hashes =
            hash_content(&disk.torrent.dir, files, disk.geometry(), &mut |done, total| last = (done, total))
                .unwrap();
        assert_eq!(hashes[..], disk.torrent.piece_hashes[..]);
        assert_eq!(last, (191_072, 191_072));
    }

    #[test]
    fn a_report_tells_missing_short_long_and_bad_apart() {
        let disk = complete_content();
        assert!(verify(disk.torrent.clone(), &mut |_, _| ()).unwrap().is_good());
        fs::remove_file(disk.path("e")).unwrap();
        fs::write(disk.path("d/c"), [&disk.bytes[131_072..], b"more"].concat()).unwrap();
        fs::write(disk.path("a"), vec![0; 65_536]).unwrap();
        fs::write(disk.path("d/b"), vec![0; 5]).unwrap();
        let report = verify(disk.torrent.clone(), &mut |_, _| ()).unwrap();
        assert_eq!(report.have.iter().map(PieceIndex::get).collect::<Vec<_>>(), [2]);
        let states: Vec<_> = report.files.iter().map(|f| (f.file, f.bad, f.state)).collect();
        use FileState::*;
        assert_eq!(states, [(0, 1, Present), (1, 1, TooShort), (3, 0, TooLong), (4, 0, Missing)]);
        assert!(report.files[2].is_good() && !report.is_good());
    }

    #[test]
    fn r13_the_good_pieces_of_a_truncated_file_count() {
        let disk = complete_content();
        fs::write(disk.path("a"), &disk.bytes[..65_535]).unwrap();
        fs::write(disk.path("d/c"), &disk.bytes[131_072..191_071]).unwrap();
        let torrent = OpenTorrent { geometry: disk.geometry(), ..disk.torrent.clone() };
        let report = verify(torrent, &mut |_, _| ()).unwrap();
        assert_eq!(report.have.ones(), 1);
        let disk = TestDisk::new(StorageMode::Plain, 16_384, &[("a", 65_536)]);
        fs::create_dir_all(&disk.torrent.dir).unwrap();
        fs::write(disk.path("a"), &disk.bytes[..50_000]).unwrap();
        let report = verify(disk.torrent.clone(), &mut |_, _| ()).unwrap();
        assert_eq!(report.have.iter().map(PieceIndex::get).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(report.files[0], FileReport { file: 0, pieces: 4, bad: 1, state: FileState::TooShort });
    }

    #[test]
    fn t12_content_behind_links_is_verified() {
        let disk = complete_content();
        let store = tempfile::tempdir().unwrap();
        fs::rename(disk.path("d"), store.path().join("d")).unwrap();
        std::os::unix::fs::symlink(store.path().join("d"), disk.path("d")).unwrap();
        fs::rename(disk.path("a"), store.path().join("a")).unwrap();
        std::os::unix::fs::symlink(store.path().join("a"), disk.path("a")).unwrap();
        assert!(verify(disk.torrent.clone(), &mut |_, _| ()).unwrap().is_good());
    }

    #[test]
    fn a_file_that_ends_while_it_is_hashed_for_a_new_torrent_is_an_error() {
        let disk = complete_content();
        fs::write(disk.path("d/c"), "short").unwrap();
        let files = disk.torrent.files.clone();
        let fault = hash_content(&disk.torrent.dir, files, disk.geometry(), &mut |_, _| ()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Changed);
    }
}
