//! What survives a restart: one record a torrent, and the lock that keeps a second process away.
//!
//! The order that loses nothing is the caller's in its first half (sync the files, only then claim their pieces) and that of
//! `keep` in the second: write aside, `fdatasync`, rename, sync the directory. On FAT, where a rename is not safe at power
//! loss, two slots take turns and the newest good one counts. A record that is read is untrusted input: any byte that is
//! not as written rejects all of it. Nothing here touches the content.

use super::atomic_file::{locked, replace};
use super::dir::{Dir, FsKind};
use super::fault::DiskFault;
use super::files::TorrentFiles;
use crate::units::{Bitfield, Geometry, InfoHash};
use rustix::fs::{AtFlags, Stat};
use sha1::{Digest, Sha1};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"rillrsm1";
const HEAD_LEN: usize = 8 + 1 + 8 + 20 + 8 + 4 + 4 + 4;
const STAMP_LEN: usize = 1 + 8 + 8 + 8 + 4;
const SUM_LEN: usize = 20;

/// What a file looked like: enough to see that somebody else wrote to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    pub inode: u64,
    pub size: u64,
    pub mtime_s: i64,
    pub mtime_ns: u32,
}

impl FileStamp {
    /// The stamp of what `stat` saw.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)] // field widths differ between machines
    pub fn of(stat: &Stat) -> FileStamp {
        FileStamp {
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            mtime_s: stat.st_mtime as i64,
            mtime_ns: stat.st_mtime_nsec as u32,
        }
    }
}

/// A file as it was found to be at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenFile {
    /// Its index; a torrent has fewer files than this can count.
    pub file: u32,
    pub stamp: FileStamp,
}

/// The stamp of every file of a torrent, in the bytes that a record holds: a torrent may have hundreds of thousands of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StampTable(Vec<u8>);

impl StampTable {
    /// Of so many files, none of which is there.
    pub fn none(files: usize) -> StampTable {
        StampTable(vec![0; files * STAMP_LEN])
    }

    /// The file's, `None` where there is none.
    pub fn get(&self, file: usize) -> Option<FileStamp> {
        let mut r = FieldReader(self.0.get(file * STAMP_LEN..)?);
        let there = r.take(1)?[0] != 0;
        let s = FileStamp { inode: r.u64()?, size: r.u64()?, mtime_s: r.u64()? as i64, mtime_ns: r.u32()? };
        there.then_some(s)
    }

    /// The file looked like this. Of one and the same file what is newer counts: two workers may have seen it, and the one who closed it
    /// first may be heard last.
    pub fn add_stamps(&mut self, seen: SeenFile) {
        let age = |stamp: FileStamp| (stamp.mtime_s, stamp.mtime_ns, stamp.size);
        let newer = |known: &FileStamp| known.inode == seen.stamp.inode && age(*known) > age(seen.stamp);
        if !self.get(seen.file as usize).is_some_and(|known| newer(&known)) {
            self.set(seen.file as usize, seen.stamp);
        }
    }

    /// The file looks like this now, or is not there; what was known of it before.
    pub fn replace(&mut self, file: usize, now: Option<FileStamp>) -> Option<FileStamp> {
        let before = self.get(file);
        match now {
            Some(stamp) => self.set(file, stamp),
            None => self.0.iter_mut().skip(file * STAMP_LEN).take(STAMP_LEN).for_each(|byte| *byte = 0),
        }
        before
    }

    fn set(&mut self, file: usize, stamp: FileStamp) {
        let Some(room) = self.0.get_mut(file * STAMP_LEN..(file + 1) * STAMP_LEN) else { return };
        room[0] = 1;
        room[1..9].copy_from_slice(&stamp.inode.to_le_bytes());
        room[9..17].copy_from_slice(&stamp.size.to_le_bytes());
        room[17..25].copy_from_slice(&stamp.mtime_s.to_le_bytes());
        room[25..].copy_from_slice(&stamp.mtime_ns.to_le_bytes());
    }
}

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResumeRecord {
    /// Counts up with every save.
    pub sequence: u64,
    /// The torrent was open for writing when this was saved: files may have changed since, by us.
    pub running: bool,
    /// The pieces that were safe on the disk.
    pub have: Bitfield,
    /// What each file looked like.
    pub stamps: StampTable,
}

impl ResumeRecord {
    /// From the bytes of its file, which hold it and nothing else.
    fn decode(mut bytes: Vec<u8>, c: &RecordIdentity) -> Option<ResumeRecord> {
        if bytes.len() != c.encoded_len() {
            return None;
        }
        let (body, sum) = bytes.split_at(bytes.len() - SUM_LEN);
        if Sha1::digest(body).as_slice() != sum {
            return None;
        }
        let mut r = FieldReader(body);
        let fits = r.take(MAGIC.len())? == MAGIC;
        let flags = r.take(1)?[0];
        let sequence = r.u64()?;
        let fits = fits
            && flags <= 1
            && r.take(20)? == c.info_hash.as_bytes()
            && r.u64()? == c.geometry.total()
            && r.u32()? == c.geometry.nominal_piece_len()
            && r.u32()? == c.geometry.pieces()
            && r.u32()? == c.files as u32;
        if !fits {
            return None;
        }
        let pieces = c.geometry.pieces();
        let have = Bitfield::from_wire(r.take(pieces.div_ceil(8) as usize)?, pieces).ok()?;
        let stamps = body.len() - r.0.len();
        bytes.truncate(bytes.len() - SUM_LEN);
        bytes.drain(..stamps);
        Some(ResumeRecord { sequence, running: flags & 1 != 0, have, stamps: StampTable(bytes) })
    }

    /// The bytes of its file.
    fn encode(&self, c: &RecordIdentity) -> Vec<u8> {
        let (head, sum) = around(c, self.sequence, self.running, &self.have, &self.stamps);
        [&head, &self.stamps.0, &sum[..]].concat()
    }
}

/// What stands before the stamps in a record, and what stands behind them.
fn around(c: &RecordIdentity, sequence: u64, running: bool, have: &Bitfield, stamps: &StampTable) -> (Vec<u8>, [u8; SUM_LEN]) {
    let mut head = Vec::with_capacity(HEAD_LEN + have.as_bytes().len());
    head.extend_from_slice(MAGIC);
    head.push(u8::from(running));
    head.extend_from_slice(&sequence.to_le_bytes());
    head.extend_from_slice(c.info_hash.as_bytes());
    head.extend_from_slice(&c.geometry.total().to_le_bytes());
    head.extend_from_slice(&c.geometry.nominal_piece_len().to_le_bytes());
    head.extend_from_slice(&c.geometry.pieces().to_le_bytes());
    head.extend_from_slice(&(c.files as u32).to_le_bytes());
    head.extend_from_slice(have.as_bytes());
    let sum = Sha1::new().chain_update(&head).chain_update(&stamps.0).finalize().into();
    (head, sum)
}

/// What a record is about: it must say the same.
struct RecordIdentity {
    info_hash: InfoHash,
    geometry: Geometry,
    files: usize,
}

impl RecordIdentity {
    fn of(c: &TorrentFiles) -> RecordIdentity {
        RecordIdentity { info_hash: c.info_hash, geometry: c.geometry, files: c.layout.len() }
    }

    fn encoded_len(&self) -> usize {
        HEAD_LEN + self.geometry.pieces().div_ceil(8) as usize + self.files * STAMP_LEN + SUM_LEN
    }
}

/// The body of the fuzz target for records: whatever stands in one, what is read fits its torrent, and is what would be written.
/// The first byte chooses the torrent; what follows is cut or filled up to the length that fits, with the right sum and as it stands.
pub(super) fn fuzz(bytes: &[u8]) {
    let (choice, written) = bytes.split_first().unwrap_or((&0, bytes));
    let total = [1, 16_384, 100_001, 3_000_000][usize::from(choice % 4)];
    let geometry = Geometry::new(total, 16_384).expect("a geometry");
    let about = RecordIdentity { info_hash: InfoHash([7; 20]), geometry, files: usize::from(choice / 4 % 4) };
    let check = |record: ResumeRecord| {
        assert_eq!((record.have.pieces(), record.stamps.0.len()), (geometry.pieces(), about.files * STAMP_LEN));
        assert!(record.have.iter().all(|piece| geometry.piece(piece.get()) == Some(piece)));
        assert_eq!(record.have.iter().count(), record.have.ones() as usize);
        assert_eq!(ResumeRecord::decode(record.encode(&about), &about), Some(record));
    };
    ResumeRecord::decode(written.to_vec(), &about).into_iter().for_each(check);
    // As it would stand there, the head right where it is not said otherwise.
    let blank = ResumeRecord {
        sequence: 0,
        running: false,
        have: Bitfield::empty(geometry.pieces()),
        stamps: StampTable::none(about.files),
    };
    let mut fitting = blank.encode(&about);
    let body_len = fitting.len() - SUM_LEN;
    fitting[..body_len].iter_mut().zip(written).for_each(|(to, byte)| *to ^= byte);
    if written.iter().take(body_len).any(|byte| *byte != 0) {
        assert_eq!(ResumeRecord::decode(fitting.clone(), &about), None, "the sum is another");
    }
    let sum = Sha1::digest(&fitting[..body_len]);
    fitting[body_len..].copy_from_slice(&sum);
    ResumeRecord::decode(fitting, &about).into_iter().for_each(check);
}

struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }
}

/// The place of one torrent's record, locked as long as this lives.
#[derive(Debug)]
pub(super) struct RecordFile {
    dir: Dir,
    name: String,
    slots: bool,
    sequence: u64,
    _lock: OwnedFd,
}

impl RecordFile {
    /// Locks the torrent in this state directory; `Locked` if another process has it.
    pub fn lock(state_dir: &Path, torrent: &InfoHash) -> Result<RecordFile, DiskFault> {
        let dir = Dir::open(state_dir, true)?;
        let slots = matches!(FsKind::of(dir.root()), FsKind::Fat { .. });
        let name = torrent.to_string();
        let lock_name = PathBuf::from(format!("{name}.lock"));
        let lock = locked(&dir, &lock_name)?;
        Ok(RecordFile { dir, name, slots, sequence: 0, _lock: lock })
    }

    fn file_name(&self, sequence: u64) -> PathBuf {
        match self.slots {
            false => format!("{}.resume", self.name).into(),
            true => format!("{}.resume.{}", self.name, sequence % 2).into(),
        }
    }

    /// The newest good record, if there is one.
    pub fn load(&mut self, c: &TorrentFiles) -> Option<ResumeRecord> {
        let slots = if self.slots { 0..2 } else { 0..1 };
        let found = slots.filter_map(|slot| self.read(&self.file_name(slot), c)).max_by_key(|r| r.sequence);
        self.sequence = found.as_ref().map_or(0, |r| r.sequence);
        found
    }

    fn read(&self, name: &Path, c: &TorrentFiles) -> Option<ResumeRecord> {
        let opened = self.dir.file(name, false).ok()?;
        // The length is known beforehand, so a hostile file makes us allocate nothing.
        let about = RecordIdentity::of(c);
        if opened.size != about.encoded_len() as u64 {
            return None;
        }
        let mut bytes = vec![0; about.encoded_len()];
        super::files::read_exact_at(&opened.fd, &mut bytes, 0).ok()?;
        ResumeRecord::decode(bytes, &about)
    }

    /// Saves a record; when this returns, it will be found after a power cut.
    pub fn save(&mut self, c: &TorrentFiles, have: &Bitfield, stamps: &StampTable, running: bool) -> Result<(), DiskFault> {
        let sequence = self.sequence + 1;
        let name = self.file_name(sequence);
        let aside = if self.slots { name.clone() } else { PathBuf::from(format!("{}.resume.tmp", self.name)) };
        let file = self.dir.open_or_create(&aside)?;
        let (head, sum) = around(&RecordIdentity::of(c), sequence, running, have, stamps);
        replace(&self.dir, &name, &aside, &file.fd, &[&head, &stamps.0, &sum])?;
        self.sequence = sequence;
        Ok(())
    }
}

impl Drop for RecordFile {
    fn drop(&mut self) {
        // Removed while still locked; whoever waits for it sees that the name is gone and makes a new one.
        let _ = rustix::fs::unlinkat(self.dir.root(), format!("{}.lock", self.name), AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::super::recheck::torrent_files;
    use super::super::tests::TestDisk;
    use super::*;
    use crate::disk::StorageMode;

    #[test]
    fn r3_on_fat_two_slots_take_turns_and_a_torn_one_leaves_the_other() {
        let w = TestDisk::new(StorageMode::Plain, 16_384, &[("x", 50_000)]);
        let c = torrent_files(w.key, w.torrent.clone(), true).unwrap();
        let mut r = RecordFile::lock(w.state.path(), &c.info_hash).unwrap();
        r.slots = true;
        let have = |n: u32| {
            let mut b = Bitfield::empty(4);
            for p in c.geometry.all_pieces().take(n as usize) {
                b.set(p);
            }
            b
        };
        for n in 0..=3 {
            r.save(&c, &have(n), &StampTable::none(1), true).unwrap();
            assert_eq!(r.load(&c).unwrap().have, have(n));
        }
        // Power fails in the middle of the next save: its slot is torn.
        std::fs::write(r.dir.full(&r.file_name(r.sequence + 1)), "torn").unwrap();
        let found = r.load(&c).unwrap();
        assert_eq!((found.have, found.sequence, found.running), (have(3), 4, true));
    }

    #[test]
    fn of_two_who_saw_a_file_the_later_one_counts_whoever_is_heard_last() {
        let early = FileStamp { inode: 5, size: 10, mtime_s: 100, mtime_ns: 1 };
        let cases = [
            (FileStamp { mtime_ns: 2, ..early }, early, false),
            (early, FileStamp { mtime_ns: 2, ..early }, true),
            (FileStamp { size: 11, ..early }, early, false),
            (FileStamp { mtime_s: 101, ..early }, FileStamp { inode: 6, ..early }, true),
        ];
        for (first, second, counts) in cases {
            let mut stamps = StampTable::none(2);
            stamps.add_stamps(SeenFile { file: 1, stamp: first });
            stamps.add_stamps(SeenFile { file: 1, stamp: second });
            assert_eq!(stamps.get(1), Some(if counts { second } else { first }));
            assert_eq!(stamps.get(0), None);
        }
    }

    #[test]
    fn a_record_of_another_geometry_is_none() {
        let w = TestDisk::new(StorageMode::Plain, 16_384, &[("x", 50_000)]);
        let other = TestDisk::new(StorageMode::Plain, 16_385, &[("x", 50_000)]);
        let c = torrent_files(w.key, w.torrent.clone(), true).unwrap();
        let mut r = RecordFile::lock(w.state.path(), &c.info_hash).unwrap();
        r.save(&c, &Bitfield::full(4), &StampTable::none(1), false).unwrap();
        assert!(r.load(&c).is_some());
        assert!(r.load(&torrent_files(w.key, other.torrent.clone(), true).unwrap()).is_none());
    }
}
