//! Files of resume records: one for a torrent in a directory, and the lock that keeps a second process away from
//! it. `resume_record.rs` has their format.
//!
//! The name is the hash and the first 8 hex digits of the SHA-1 of the canonical directory, so one torrent in two
//! directories has two records. A record that is named by its hash alone, as older versions did, is renamed at
//! the first load in the directory that its stamps fit.
//!
//! The caller syncs the files before it claims their pieces; [`replace`] then makes the record safe. On FAT,
//! where a rename is not safe at power loss, two slots take turns and the newest good one counts. Nothing here
//! changes the content.

use super::atomic_file::{open_locked, replace};
use super::dir::{Dir, FsKind, read_exact_at};
use super::fault::DiskFault;
use super::limits;
use super::place::note_place;
use super::resume_record::{Format, RecordIdentity, ResumeRecord, flags_of, tail_of};
use super::stamp::{FileStamp, StampTable};
use super::torrent_files::TorrentFiles;
use crate::engine::{Checkpoint, History};
use crate::units::TorrentHashes;
use rustix::fs::AtFlags;
use sha1::{Digest, Sha1};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The file of the record of one torrent in one directory. The torrent is locked there as long as this lives.
#[derive(Debug)]
pub(super) struct RecordFile {
    dir: Dir,
    name: String,
    /// The name that older versions gave the record.
    old_name: String,
    slots: bool,
    sequence: u64,
    history: History,
    /// The place of the content is noted beside the record.
    placed: bool,
    _lock: OwnedFd,
}

/// The name of the record of a torrent in this directory, without an ending.
pub(super) fn record_name(torrent: &TorrentHashes, content_dir: &Path) -> String {
    let digest = Sha1::digest(canonical(content_dir).as_os_str().as_bytes());
    format!("{torrent}-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

/// The canonical path of a directory that may not exist yet.
fn canonical(dir: &Path) -> PathBuf {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    let existing = absolute.ancestors().find_map(|part| Some((part, std::fs::canonicalize(part).ok()?)));
    match existing {
        Some((part, canonical)) => match absolute.strip_prefix(part) {
            // `join` of an empty path would append a slash.
            Ok(rest) if !rest.as_os_str().is_empty() => canonical.join(rest),
            _ => canonical,
        },
        None => absolute,
    }
}

impl RecordFile {
    /// Locks the torrent with content in this directory; the fault `Locked` if another process works on it.
    pub fn lock(
        state_dir: &Path,
        torrent: &TorrentHashes,
        content_dir: &Path,
    ) -> Result<RecordFile, DiskFault> {
        let dir = Dir::open(state_dir, true)?;
        let slots = matches!(FsKind::of(dir.root()), FsKind::Fat { .. });
        let name = record_name(torrent, content_dir);
        let lock = open_locked(&dir, &PathBuf::from(format!("{name}.lock")))?;
        let history = History::default();
        Ok(RecordFile {
            dir,
            name,
            old_name: torrent.to_string(),
            slots,
            sequence: 0,
            history,
            placed: false,
            _lock: lock,
        })
    }

    /// The torrent's past, as the newest good record says.
    pub fn history(&self) -> History {
        self.history
    }

    fn file_names(&self, of: &str) -> Vec<PathBuf> {
        if self.slots {
            (0..2).map(|slot| format!("{of}.resume.{slot}").into()).collect()
        } else {
            vec![format!("{of}.resume").into()]
        }
    }

    fn file_name(&self, sequence: u64) -> PathBuf {
        if self.slots {
            format!("{}.resume.{}", self.name, sequence % 2).into()
        } else {
            format!("{}.resume", self.name).into()
        }
    }

    /// The newest good record; `None` if there is none.
    pub fn load(&mut self, torrent: &TorrentFiles) -> Option<ResumeRecord> {
        let newest = |of: &str| {
            let found = self.file_names(of).into_iter().filter_map(|name| self.read(&name, torrent));
            found.max_by_key(|record| record.sequence)
        };
        let mut found = newest(&self.name);
        if found.is_none() {
            found = newest(&self.old_name).filter(|record| fits(torrent, record));
            if found.is_some() {
                self.adopt_old_name();
            }
        }
        self.sequence = found.as_ref().map_or(0, |r| r.sequence);
        self.history = found.as_ref().map(|r| r.history).unwrap_or_default();
        found
    }

    /// Renames the record of an older version. If that fails, the next save writes one under the new name.
    fn adopt_old_name(&self) {
        for (old, new) in self.file_names(&self.old_name).into_iter().zip(self.file_names(&self.name)) {
            let _ = rustix::fs::renameat(self.dir.root(), old, self.dir.root(), new);
        }
    }

    fn read(&self, name: &Path, torrent: &TorrentFiles) -> Option<ResumeRecord> {
        let opened = self.dir.open_file(name).ok()?;
        let torrent = RecordIdentity::of(torrent);
        // Only the lengths that the formats have: a hostile file makes us allocate nothing.
        let lens = Format::ALL.map(|format| torrent.encoded_len(format));
        let len = lens.into_iter().flatten().find(|len| opened.size == *len as u64)?;
        let mut bytes = vec![0; len];
        read_exact_at(&opened.fd, &mut bytes, 0).ok()?;
        ResumeRecord::decode(bytes, &torrent)
    }

    /// Saves a record. Once this returns, the record survives a power cut.
    pub fn save(
        &mut self,
        torrent: &TorrentFiles,
        checkpoint: &Checkpoint,
        stamps: &StampTable,
        running: bool,
    ) -> Result<(), DiskFault> {
        let sequence = self.sequence + 1;
        let name = self.file_name(sequence);
        let temporary =
            if self.slots { name.clone() } else { PathBuf::from(format!("{}.resume.tmp", self.name)) };
        let file = self.dir.open_or_create(&temporary)?;
        let mut head = RecordIdentity::of(torrent)
            .head(Format::V3, sequence, flags_of(running, &checkpoint.history))
            .expect("format 3 names any torrent");
        head.extend_from_slice(&tail_of(&checkpoint.history, device_of(torrent)));
        // Written in parts, since the table may be many megabytes long.
        let parts: [&[u8]; 3] = [&head, checkpoint.have.as_bytes(), stamps.as_bytes()];
        let sum = parts.iter().fold(Sha1::new(), |sum, part| sum.chain_update(part)).finalize();
        replace(&self.dir, &name, &temporary, &file.fd, &[parts[0], parts[1], parts[2], &sum])?;
        self.sequence = sequence;
        self.history = checkpoint.history;
        if !self.placed {
            self.placed = true;
            self.note_place(torrent);
        }
        Ok(())
    }
}

impl RecordFile {
    fn note_place(&self, torrent: &TorrentFiles) {
        let first = torrent.layout.path(0);
        let Some(name) = first.components().next().and_then(|name| name.as_os_str().to_str()) else { return };
        let at = |dir: &Dir| dir.full_path(Path::new(""));
        note_place(&at(&self.dir), &self.name, &canonical(&at(&torrent.dir)), name);
    }
}

/// The device of the torrent's directory; 0 if it is unknown.
#[allow(clippy::unnecessary_cast)] // the field's width differs between machines
pub(super) fn device_of(torrent: &TorrentFiles) -> u64 {
    rustix::fs::fstat(torrent.dir.root()).map_or(0, |stat| stat.st_dev as u64)
}

/// Whether the stamps of a record are of files in the torrent's directory: one of the first files that the
/// record knows is there. Inode numbers decide, or size and time where the file system makes those up.
fn fits(torrent: &TorrentFiles, record: &ResumeRecord) -> bool {
    let known = torrent.layout.on_disk().filter_map(|(file, _)| Some((file, record.stamps.get(file)?)));
    let is_there = |(file, then): (usize, FileStamp)| {
        let Ok(Some(stat)) = torrent.find_file(file, &mut |path| torrent.dir.stat(path)) else {
            return false;
        };
        let now = FileStamp::of(&stat);
        if torrent.fs.sparse() {
            now.inode == then.inode
        } else {
            (now.size, now.mtime_s) == (then.size, then.mtime_s)
        }
    };
    known.take(limits::OLD_RECORD_STATS).any(is_there)
}

impl Drop for RecordFile {
    fn drop(&mut self) {
        // Removed while it is locked: a process that opened it sees that the name is gone and creates a new
        // one.
        let _ = rustix::fs::unlinkat(self.dir.root(), format!("{}.lock", self.name), AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestDisk;
    use super::*;
    use crate::disk::StorageMode;
    use crate::units::{Bitfield, Geometry, InfoHash, InfoHashV2};

    /// Pieces 0 and 2 of three, the files of which are `a`, `d/b` (missing) and `d/c`.
    const RECORD_OF_0_1_0: &[u8] = include_bytes!("../../tests/records/0.1.0.resume");

    fn torrent_of_0_1_0() -> TestDisk {
        TestDisk::new(StorageMode::Plain, 65_536, &[("a", 65_536), ("d/b", 65_536), ("d/c", 60_000)])
    }

    #[test]
    fn a_record_that_0_1_0_wrote_is_read() {
        let torrent = RecordIdentity::of(&torrent_of_0_1_0().torrent_files());
        let record = ResumeRecord::decode(RECORD_OF_0_1_0.to_vec(), &torrent).unwrap();
        assert_eq!((record.sequence, record.running), (1, false));
        assert_eq!(record.have.iter().map(|p| p.get()).collect::<Vec<_>>(), [0, 2]);
        let sizes: Vec<_> = (0..3).map(|file| record.stamps.get(file).map(|stamp| stamp.size)).collect();
        assert_eq!(sizes, [Some(65_536), None, Some(60_000)]);
        assert_eq!(record.encode(&torrent, Format::V1).unwrap(), RECORD_OF_0_1_0);
    }

    #[test]
    fn content_with_a_record_of_0_1_0_is_not_hashed_and_its_next_record_names_the_hash() {
        let mut disk = torrent_of_0_1_0();
        std::fs::create_dir_all(disk.path("d")).unwrap();
        // Wrong bytes: hashing them would find no piece.
        std::fs::write(disk.path("a"), [1; 65_536]).unwrap();
        std::fs::write(disk.path("d/c"), [1; 60_000]).unwrap();
        let torrent = RecordIdentity::of(&disk.torrent_files());
        let mut record = ResumeRecord::decode(RECORD_OF_0_1_0.to_vec(), &torrent).unwrap();
        for (file, path) in [(0, "a"), (2, "d/c")] {
            let stamp = super::super::stamp::FileStamp::of(&rustix::fs::stat(disk.path(path)).unwrap());
            record.stamps.replace(file, Some(stamp));
        }
        let name = disk.state.path().join(format!("{}.resume", disk.torrent.info_hashes));
        std::fs::write(&name, record.encode(&torrent, Format::V1).unwrap()).unwrap();
        let opened = disk.open();
        assert_eq!((&opened.have, opened.notes), (&record.have, Vec::new()));
        disk.close(&record.have);
        assert!(!name.exists(), "the record has its new name");
        let name = disk.record_path();
        let bytes = std::fs::read(&name).unwrap();
        assert_eq!(bytes[..8], *b"rillrsm3");
        assert_eq!((bytes[17], &bytes[18..38]), (1, &[7; 20][..]), "one hash, of version 1");
        assert_eq!(disk.open().have, record.have);
    }

    #[test]
    fn a3_an_old_record_stays_as_it_is_for_the_directory_that_its_stamps_fit() {
        let mut disk = torrent_of_0_1_0();
        disk.open();
        disk.receive_piece(disk.piece(0));
        let mut have = Bitfield::empty(3);
        have.set(disk.piece(0));
        disk.close(&have);
        let old = disk.state.path().join(format!("{}.resume", disk.torrent.info_hashes));
        std::fs::rename(disk.record_path(), &old).unwrap();
        let there = std::mem::replace(&mut disk.torrent.dir, disk.state.path().join("elsewhere"));
        assert!(disk.open().have.is_empty(), "its files are not in this directory");
        assert!(old.exists());
        disk.close(&Bitfield::empty(3));
        assert!(disk.record_path().exists(), "a record of its own");
        disk.torrent.dir = there;
        assert_eq!(disk.open().have, have);
        assert!(!old.exists());
    }

    #[test]
    fn a3_two_directories_of_one_torrent_have_two_records_and_two_locks() {
        let mut disk = torrent_of_0_1_0();
        disk.open();
        let other = disk.state.path().join("other");
        let lock = |dir: &Path| RecordFile::lock(disk.state.path(), &disk.torrent.info_hashes, dir);
        assert_eq!(lock(&disk.torrent.dir).unwrap_err().kind, super::super::fault::FaultKind::Locked);
        let theirs = lock(&other).unwrap();
        assert_ne!(theirs.name, record_name(&disk.torrent.info_hashes, &disk.torrent.dir));
        // Another spelling of the directory names the same record, also before the directory exists.
        std::os::unix::fs::symlink(disk.state.path(), disk.torrent.dir.join("link")).unwrap();
        let spelled = disk.torrent.dir.join("link/./other/");
        assert_eq!(lock(&spelled).unwrap_err().kind, super::super::fault::FaultKind::Locked);
        std::fs::create_dir(&other).unwrap();
        assert_eq!(record_name(&disk.torrent.info_hashes, &other), theirs.name);
    }

    #[test]
    fn a3_the_past_of_a_torrent_survives_restarts_kills_and_a_check_of_its_content() {
        let mut disk = torrent_of_0_1_0();
        assert_eq!(disk.open().history, History::default());
        let history = History { completed: true, downloaded: 1 << 40, uploaded: 3 };
        disk.store.checkpoint(disk.key, Checkpoint { have: Bitfield::empty(3), history });
        let saved = disk.wait_for(|e| match e {
            crate::disk::DiskEvent::Saved { completed, result, .. } => Some((completed, result)),
            _ => None,
        });
        assert_eq!(saved, (true, Ok(())));
        for check in [false, true, false] {
            disk.restart();
            disk.torrent.check = check;
            assert_eq!(disk.open().history, history, "check: {check}");
        }
        disk.restart();
        assert_ne!(disk.record().unwrap().device, 0);
    }

    #[test]
    fn a_record_of_one_kind_of_hash_is_none_for_another_kind() {
        let v1 = InfoHash([7; 20]);
        let v2 = InfoHashV2([7; 32]);
        let identity = |v1, v2| {
            let hashes = TorrentHashes::new(v1, v2).unwrap();
            RecordIdentity { hashes, geometry: Geometry::new(50_000, 16_384).unwrap(), files: 1 }
        };
        let all = [identity(Some(v1), None), identity(None, Some(v2)), identity(Some(v1), Some(v2))];
        let record = ResumeRecord {
            sequence: 9,
            running: true,
            history: History { completed: true, downloaded: 5, uploaded: 6 },
            device: 7,
            have: Bitfield::full(4),
            stamps: StampTable::none(1),
        };
        for (i, written) in all.iter().enumerate() {
            let bytes = record.encode(written, Format::V3).unwrap();
            for (j, read) in all.iter().enumerate() {
                assert_eq!(ResumeRecord::decode(bytes.clone(), read).is_some(), i == j, "{i} read as {j}");
            }
        }
        assert!(record.encode(&all[1], Format::V1).is_none(), "0.1.0 had no v2 torrents");
    }

    #[test]
    fn r3_on_fat_two_slots_take_turns_and_a_torn_one_leaves_the_other() {
        let disk = TestDisk::new(StorageMode::Plain, 16_384, &[("x", 50_000)]);
        let torrent = disk.torrent_files();
        let mut file = RecordFile::lock(disk.state.path(), &torrent.info_hashes, &disk.torrent.dir).unwrap();
        file.slots = true;
        let have = |n: usize| {
            let mut have = Bitfield::empty(4);
            for piece in torrent.geometry.all_pieces().take(n) {
                have.set(piece);
            }
            have
        };
        for n in 0..=3 {
            file.save(&torrent, &Checkpoint::of(have(n)), &StampTable::none(1), true).unwrap();
            assert_eq!(file.load(&torrent).unwrap().have, have(n));
        }
        // Power fails in the middle of the next save: its slot is torn.
        std::fs::write(file.dir.full_path(&file.file_name(file.sequence + 1)), "torn").unwrap();
        let found = file.load(&torrent).unwrap();
        assert_eq!((found.have, found.sequence, found.running), (have(3), 4, true));
    }

    #[test]
    fn a_record_of_another_geometry_is_none() {
        let disk = TestDisk::new(StorageMode::Plain, 16_384, &[("x", 50_000)]);
        let other = TestDisk::new(StorageMode::Plain, 16_385, &[("x", 50_000)]);
        let torrent = disk.torrent_files();
        let mut file = RecordFile::lock(disk.state.path(), &torrent.info_hashes, &disk.torrent.dir).unwrap();
        file.save(&torrent, &Checkpoint::of(Bitfield::full(4)), &StampTable::none(1), false).unwrap();
        assert!(file.load(&torrent).is_some());
        assert!(file.load(&other.torrent_files()).is_none());
    }
}
