//! Resume records: one file a torrent, and the lock that keeps a second process away from it.
//!
//! ```text
//!   "rillrsm2"  flags: 1  sequence: 8  hash kinds: 1 (1 v1, 2 v2)  v1: 20  v2: 32  total: 8  piece length: 4  pieces: 4
//!   files: 4  have: a bit a piece  stamps: 29 a file  SHA-1 of all before: 20             little-endian, absent hashes absent
//!   "rillrsm1", written by 0.1.0: the same without the kinds, always with v1
//! ```
//!
//! The caller syncs the files before it claims their pieces; [`replace`] then makes the record safe. On FAT,
//! where a rename is not safe at power loss, two slots take turns and the newest good one counts. A record is
//! untrusted input: one wrong byte rejects all of it. Nothing here touches the content.

use super::atomic_file::{open_locked, replace};
use super::dir::{Dir, FsKind, read_exact_at};
use super::fault::DiskFault;
use super::stamp::{STAMP_LEN, StampTable};
use super::torrent_files::TorrentFiles;
use crate::units::{Bitfield, Geometry, TorrentHashes};
use rustix::fs::AtFlags;
use sha1::{Digest, Sha1};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Flags and sequence stand behind the magic in every format.
const FLAGS_AT: usize = 8;
const SEQUENCE_AT: usize = 9;
const SUM_LEN: usize = 20;

/// The formats of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Written by 0.1.0; the v1 hash without a kind.
    V1,
    /// Says which hashes it is about.
    V2,
}

impl Format {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Format::V1 => b"rillrsm1",
            Format::V2 => b"rillrsm2",
        }
    }
}

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResumeRecord {
    /// Counts the saves.
    pub sequence: u64,
    /// The torrent was open for writing, so this process may have changed files after the save.
    pub running: bool,
    /// The pieces that were on the disk, synced.
    pub have: Bitfield,
    /// The files as they were.
    pub stamps: StampTable,
}

impl ResumeRecord {
    /// Decodes the bytes of a record's file; `None` unless all of them are right for this torrent.
    fn decode(mut bytes: Vec<u8>, torrent: &RecordIdentity) -> Option<ResumeRecord> {
        let format = [Format::V1, Format::V2].into_iter().find(|format| bytes.starts_with(format.magic()))?;
        if Some(bytes.len()) != torrent.encoded_len(format) {
            return None;
        }
        let (body, sum) = bytes.split_at(bytes.len() - SUM_LEN);
        if Sha1::digest(body).as_slice() != sum {
            return None;
        }
        let running = match body[FLAGS_AT] {
            0 => false,
            1 => true,
            _ => return None,
        };
        let sequence = u64::from_le_bytes(body[SEQUENCE_AT..SEQUENCE_AT + 8].try_into().ok()?);
        let head = torrent.head(format, sequence, running)?;
        if !body.starts_with(&head) {
            return None;
        }
        let pieces = torrent.geometry.pieces();
        let stamps_at = head.len() + pieces.div_ceil(8) as usize;
        let have = Bitfield::from_wire(&body[head.len()..stamps_at], pieces).ok()?;
        // The bytes become the table in place: of a torrent with very many files there is no memory for two.
        bytes.truncate(bytes.len() - SUM_LEN);
        bytes.drain(..stamps_at);
        Some(ResumeRecord { sequence, running, have, stamps: StampTable::from_bytes(bytes) })
    }

    /// The bytes of its file; `None` if this format cannot name the torrent.
    #[cfg(feature = "fuzzing")]
    fn encode(&self, torrent: &RecordIdentity, format: Format) -> Option<Vec<u8>> {
        let mut bytes = torrent.head(format, self.sequence, self.running)?;
        bytes.extend_from_slice(self.have.as_bytes());
        bytes.extend_from_slice(self.stamps.as_bytes());
        let sum = Sha1::digest(&bytes);
        bytes.extend_from_slice(&sum);
        Some(bytes)
    }
}

/// The torrent that a record is about.
struct RecordIdentity {
    hashes: TorrentHashes,
    geometry: Geometry,
    files: usize,
}

impl RecordIdentity {
    fn of(torrent: &TorrentFiles) -> RecordIdentity {
        RecordIdentity {
            hashes: torrent.info_hashes,
            geometry: torrent.geometry,
            files: torrent.layout.len(),
        }
    }

    /// The bytes before the bits of the pieces; `None` if this format cannot name the torrent.
    fn head(&self, format: Format, sequence: u64, running: bool) -> Option<Vec<u8>> {
        let mut head = format.magic().to_vec();
        head.push(u8::from(running));
        head.extend_from_slice(&sequence.to_le_bytes());
        match format {
            Format::V1 => head.extend_from_slice(self.hashes.v1()?.as_bytes()),
            Format::V2 => {
                let v1 = self.hashes.v1();
                let v2 = self.hashes.v2();
                head.push(u8::from(v1.is_some()) | u8::from(v2.is_some()) << 1);
                head.extend(v1.iter().flat_map(|hash| hash.as_bytes()));
                head.extend(v2.iter().flat_map(|hash| hash.as_bytes()));
            }
        }
        head.extend_from_slice(&self.geometry.total().to_le_bytes());
        head.extend_from_slice(&self.geometry.nominal_piece_len().to_le_bytes());
        head.extend_from_slice(&self.geometry.pieces().to_le_bytes());
        head.extend_from_slice(&(self.files as u32).to_le_bytes());
        Some(head)
    }

    fn encoded_len(&self, format: Format) -> Option<usize> {
        let head_len = self.head(format, 0, false)?.len();
        Some(head_len + self.geometry.pieces().div_ceil(8) as usize + self.files * STAMP_LEN + SUM_LEN)
    }
}

/// The body of the fuzz target for records: a record that is read fits its torrent and survives being written
/// again. The first byte chooses torrent and format. The rest is read as it stands, and again laid over a
/// blank record with a right sum.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    let (choice, written) = bytes.split_first().unwrap_or((&0, bytes));
    let total = [1, 16_384, 100_001, 3_000_000][usize::from(choice % 4)];
    let geometry = Geometry::new(total, 16_384).expect("a geometry");
    let hashes = crate::units::InfoHash([7; 20]).into();
    let torrent = RecordIdentity { hashes, geometry, files: usize::from(choice / 4 % 4) };
    let format = if choice / 16 % 2 == 0 { Format::V2 } else { Format::V1 };
    let check = |record: ResumeRecord| {
        assert_eq!(
            (record.have.pieces(), record.stamps.as_bytes().len()),
            (geometry.pieces(), torrent.files * STAMP_LEN)
        );
        assert!(record.have.iter().all(|piece| geometry.piece(piece.get()) == Some(piece)));
        assert_eq!(record.have.iter().count(), record.have.ones() as usize);
        for format in [Format::V1, Format::V2] {
            let encoded = record.encode(&torrent, format).expect("a v1 torrent");
            assert_eq!(ResumeRecord::decode(encoded, &torrent).as_ref(), Some(&record));
        }
    };
    ResumeRecord::decode(written.to_vec(), &torrent).into_iter().for_each(check);
    let blank = ResumeRecord {
        sequence: 0,
        running: false,
        have: Bitfield::empty(geometry.pieces()),
        stamps: StampTable::none(torrent.files),
    };
    let mut fitting = blank.encode(&torrent, format).expect("a v1 torrent");
    let body_len = fitting.len() - SUM_LEN;
    fitting[..body_len].iter_mut().zip(written).for_each(|(to, byte)| *to ^= byte);
    if written.iter().take(body_len).any(|byte| *byte != 0) {
        assert_eq!(ResumeRecord::decode(fitting.clone(), &torrent), None, "the sum is wrong");
    }
    let sum = Sha1::digest(&fitting[..body_len]);
    fitting[body_len..].copy_from_slice(&sum);
    ResumeRecord::decode(fitting, &torrent).into_iter().for_each(check);
}

/// The file of one torrent's record. The torrent is locked as long as this lives.
#[derive(Debug)]
pub(super) struct RecordFile {
    dir: Dir,
    name: String,
    slots: bool,
    sequence: u64,
    _lock: OwnedFd,
}

impl RecordFile {
    /// Locks the torrent in this state directory; the fault `Locked` if another process works on it.
    pub fn lock(state_dir: &Path, torrent: &TorrentHashes) -> Result<RecordFile, DiskFault> {
        let dir = Dir::open(state_dir, true)?;
        let slots = matches!(FsKind::of(dir.root()), FsKind::Fat { .. });
        let name = torrent.to_string();
        let lock = open_locked(&dir, &PathBuf::from(format!("{name}.lock")))?;
        Ok(RecordFile { dir, name, slots, sequence: 0, _lock: lock })
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
        let slots = if self.slots { 0..2 } else { 0..1 };
        let found =
            slots.filter_map(|slot| self.read(&self.file_name(slot), torrent)).max_by_key(|r| r.sequence);
        self.sequence = found.as_ref().map_or(0, |r| r.sequence);
        found
    }

    fn read(&self, name: &Path, torrent: &TorrentFiles) -> Option<ResumeRecord> {
        let opened = self.dir.open_file(name).ok()?;
        let torrent = RecordIdentity::of(torrent);
        // Only the lengths that the formats have: a hostile file makes us allocate nothing.
        let lens = [Format::V1, Format::V2].map(|format| torrent.encoded_len(format));
        let len = lens.into_iter().flatten().find(|len| opened.size == *len as u64)?;
        let mut bytes = vec![0; len];
        read_exact_at(&opened.fd, &mut bytes, 0).ok()?;
        ResumeRecord::decode(bytes, &torrent)
    }

    /// Saves a record. Once this returns, the record survives a power cut.
    pub fn save(
        &mut self,
        torrent: &TorrentFiles,
        have: &Bitfield,
        stamps: &StampTable,
        running: bool,
    ) -> Result<(), DiskFault> {
        let sequence = self.sequence + 1;
        let name = self.file_name(sequence);
        let temporary =
            if self.slots { name.clone() } else { PathBuf::from(format!("{}.resume.tmp", self.name)) };
        let file = self.dir.open_or_create(&temporary)?;
        let head = RecordIdentity::of(torrent)
            .head(Format::V2, sequence, running)
            .expect("format 2 names any torrent");
        // Written in parts, since the table may be many megabytes long.
        let parts: [&[u8]; 3] = [&head, have.as_bytes(), stamps.as_bytes()];
        let sum = parts.iter().fold(Sha1::new(), |sum, part| sum.chain_update(part)).finalize();
        replace(&self.dir, &name, &temporary, &file.fd, &[parts[0], parts[1], parts[2], &sum])?;
        self.sequence = sequence;
        Ok(())
    }
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
    use crate::units::{InfoHash, InfoHashV2};

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
        let bytes = std::fs::read(&name).unwrap();
        assert_eq!(bytes[..8], *b"rillrsm2");
        assert_eq!((bytes[17], &bytes[18..38]), (1, &[7; 20][..]), "one hash, of version 1");
        assert_eq!(disk.open().have, record.have);
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
        let record =
            ResumeRecord { sequence: 9, running: true, have: Bitfield::full(4), stamps: StampTable::none(1) };
        for (i, written) in all.iter().enumerate() {
            let bytes = record.encode(written, Format::V2).unwrap();
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
        let mut file = RecordFile::lock(disk.state.path(), &torrent.info_hashes).unwrap();
        file.slots = true;
        let have = |n: usize| {
            let mut have = Bitfield::empty(4);
            for piece in torrent.geometry.all_pieces().take(n) {
                have.set(piece);
            }
            have
        };
        for n in 0..=3 {
            file.save(&torrent, &have(n), &StampTable::none(1), true).unwrap();
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
        let mut file = RecordFile::lock(disk.state.path(), &torrent.info_hashes).unwrap();
        file.save(&torrent, &Bitfield::full(4), &StampTable::none(1), false).unwrap();
        assert!(file.load(&torrent).is_some());
        assert!(file.load(&other.torrent_files()).is_none());
    }
}
