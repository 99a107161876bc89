//! Stamps of files: inode, size and modification time, by which a change by another program is noticed.
//!
//! Plain data. The table of a torrent holds stamps in the bytes of a resume record, since a torrent may have
//! hundreds of thousands of files.

use rustix::fs::Stat;

/// Bytes of one stamp in a table: a flag, inode, size, seconds and nanoseconds, little-endian.
pub(super) const STAMP_LEN: usize = 1 + 8 + 8 + 8 + 4;

/// The state of one file at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    pub inode: u64,
    pub size: u64,
    pub mtime_s: i64,
    pub mtime_ns: u32,
}

impl FileStamp {
    /// The stamp of what `stat` returned.
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

/// A stamp that a worker took of a file when it closed or synced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenFile {
    /// The file's index; a torrent has fewer files than this can count.
    pub file: u32,
    pub stamp: FileStamp,
}

/// The stamps of all files of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StampTable(Vec<u8>);

impl StampTable {
    /// A table of so many files, none of which exists.
    pub fn none(files: usize) -> StampTable {
        StampTable(vec![0; files * STAMP_LEN])
    }

    /// The table with these bytes, [`STAMP_LEN`] a file.
    pub fn from_bytes(bytes: Vec<u8>) -> StampTable {
        StampTable(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The file's stamp; `None` if the file does not exist.
    pub fn get(&self, file: usize) -> Option<FileStamp> {
        let entry = self.0.get(file * STAMP_LEN..(file + 1) * STAMP_LEN)?;
        let u64_at = |at: usize| entry[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        let stamp = FileStamp {
            inode: u64_at(1)?,
            size: u64_at(9)?,
            mtime_s: u64_at(17)? as i64,
            mtime_ns: u32::from_le_bytes(entry[25..].try_into().ok()?),
        };
        (entry[0] != 0).then_some(stamp)
    }

    /// Adds a stamp, unless a newer one of the same inode is known: two workers may have taken stamps of one
    /// file, and the older of the two may arrive last.
    pub fn add(&mut self, seen: SeenFile) {
        let age = |stamp: FileStamp| (stamp.mtime_s, stamp.mtime_ns, stamp.size);
        let newer = |known: &FileStamp| known.inode == seen.stamp.inode && age(*known) > age(seen.stamp);
        if !self.get(seen.file as usize).is_some_and(|known| newer(&known)) {
            self.set(seen.file as usize, seen.stamp);
        }
    }

    /// Sets the file's stamp, `None` if it does not exist. Returns the stamp before.
    pub fn replace(&mut self, file: usize, now: Option<FileStamp>) -> Option<FileStamp> {
        let before = self.get(file);
        match now {
            Some(stamp) => self.set(file, stamp),
            None => self.0.iter_mut().skip(file * STAMP_LEN).take(STAMP_LEN).for_each(|byte| *byte = 0),
        }
        before
    }

    fn set(&mut self, file: usize, stamp: FileStamp) {
        let Some(entry) = self.0.get_mut(file * STAMP_LEN..(file + 1) * STAMP_LEN) else { return };
        entry[0] = 1;
        entry[1..9].copy_from_slice(&stamp.inode.to_le_bytes());
        entry[9..17].copy_from_slice(&stamp.size.to_le_bytes());
        entry[17..25].copy_from_slice(&stamp.mtime_s.to_le_bytes());
        entry[25..].copy_from_slice(&stamp.mtime_ns.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_stamps_of_one_file_the_newer_counts_whichever_arrives_last() {
        let early = FileStamp { inode: 5, size: 10, mtime_s: 100, mtime_ns: 1 };
        let cases = [
            (FileStamp { mtime_ns: 2, ..early }, early, false),
            (early, FileStamp { mtime_ns: 2, ..early }, true),
            (FileStamp { size: 11, ..early }, early, false),
            (FileStamp { mtime_s: 101, ..early }, FileStamp { inode: 6, ..early }, true),
        ];
        for (first, second, counts) in cases {
            let mut stamps = StampTable::none(2);
            stamps.add(SeenFile { file: 1, stamp: first });
            stamps.add(SeenFile { file: 1, stamp: second });
            assert_eq!(stamps.get(1), Some(if counts { second } else { first }));
            assert_eq!(stamps.get(0), None);
        }
    }
}
