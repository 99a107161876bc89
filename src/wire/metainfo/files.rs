//! The list of a torrent's files, compact enough for two hundred thousand files on a router.
//!
//! All file names are in one string, a directory is stored once for consecutive files in it, and a file takes
//! sixteen bytes beside its name. [`FileEntry`] is a view that is created on demand. Invariants: the files
//! are contiguous; names contain no `/`, which the caller of [`FilesBuilder::push`] ensures.

use std::path::PathBuf;
use std::sync::Arc;

/// The attributes of a file (BEP 47).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAttributes {
    /// A pad file (`p`): zeros that align the next file. It is hashed and served as zeros, and never written
    /// to disk.
    pub pad: bool,
    /// A symbolic link (`l`), only with length 0; with a length it is an ordinary file. rill never creates
    /// links, because a link could lead out of the download directory.
    pub symlink: bool,
    /// Executable (`x`).
    pub executable: bool,
}

/// One file of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEntry<'a> {
    /// The torrent's name, if its files are in a directory.
    root: &'a str,
    /// The directories below `root`, joined by `/`.
    dir: &'a str,
    name: &'a str,
    /// Length in bytes; may be 0.
    pub length: u64,
    /// Offset of its first byte in the torrent.
    pub offset: u64,
    /// Its attributes.
    pub attributes: FileAttributes,
}

impl<'a> FileEntry<'a> {
    /// Returns the components of its path below the download directory: plain names, starting with the
    /// torrent's name if there is a directory.
    pub fn path(&self) -> impl DoubleEndedIterator<Item = &'a str> + Clone + use<'a> {
        let dirs = self.dir.split('/');
        [self.root].into_iter().chain(dirs).chain([self.name]).filter(|name| !name.is_empty())
    }

    /// Returns its path below the download directory, joined by `/`.
    pub fn path_text(&self) -> String {
        let mut text = String::new();
        for name in self.path() {
            if !text.is_empty() {
                text.push('/');
            }
            text.push_str(name);
        }
        text
    }

    /// Returns its path relative to the download directory.
    pub fn to_path(&self) -> PathBuf {
        self.path_text().into()
    }

    /// Returns whether the file is created on disk: not for pad files and symlinks.
    pub fn lands_on_disk(&self) -> bool {
        !self.attributes.pad && !self.attributes.symlink
    }
}

/// The stored form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileRecord {
    /// Offset of the byte after it in the torrent.
    end: u64,
    /// The end of its name in `names`.
    name_end: u32,
    /// The index of its directory in `dirs`, and the attributes in the lowest three bits.
    dir_and_attributes: u32,
}

const PAD: u32 = 1;
const SYMLINK: u32 = 2;
const EXECUTABLE: u32 = 4;
const ATTRIBUTE_BITS: u32 = 3;

#[derive(Debug, Default, PartialEq, Eq)]
struct FileTable {
    root: String,
    names: String,
    dirs: Vec<String>,
    files: Vec<FileRecord>,
}

/// The files of a torrent in order, including pad files and symlinks. Cloning copies a pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Arc<FileTable>);

impl Files {
    /// Returns the number of files.
    pub fn len(&self) -> usize {
        self.0.files.len()
    }

    /// Returns whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.0.files.is_empty()
    }

    /// Returns the file with this index.
    pub fn get(&self, index: usize) -> Option<FileEntry<'_>> {
        let table = &*self.0;
        let kept = table.files.get(index)?;
        let before = index.checked_sub(1).and_then(|before| table.files.get(before));
        let (offset, name_start) = before.map_or((0, 0), |before| (before.end, before.name_end));
        let dir = usize::try_from(kept.dir_and_attributes >> ATTRIBUTE_BITS).ok()?;
        let has = |bit| kept.dir_and_attributes & bit != 0;
        Some(FileEntry {
            root: &table.root,
            dir: table.dirs.get(dir)?,
            name: table.names.get(name_start as usize..kept.name_end as usize)?,
            length: kept.end.saturating_sub(offset),
            offset,
            attributes: FileAttributes { pad: has(PAD), symlink: has(SYMLINK), executable: has(EXECUTABLE) },
        })
    }

    /// Iterates over all files.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = FileEntry<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Returns the total length in bytes.
    pub fn total(&self) -> u64 {
        self.0.files.last().map_or(0, |last| last.end)
    }

    /// Returns the index of the first file that ends after `offset`; `None` after the last file.
    pub fn at(&self, offset: u64) -> Option<usize> {
        let index = self.0.files.partition_point(|file| file.end <= offset);
        (index < self.len()).then_some(index)
    }
}

/// Builds a list of files.
#[derive(Debug, Default)]
pub struct FilesBuilder(FileTable);

/// The total length or the names exceed what a list of files can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileListOverflow;

impl FilesBuilder {
    /// Starts a list of files in the directory `root`; an empty name means no directory.
    pub fn below(root: &str) -> FilesBuilder {
        FilesBuilder(FileTable { root: root.to_owned(), ..FileTable::default() })
    }

    /// Appends a file. `path` is below the root and consists of plain names.
    ///
    /// # Errors
    /// [`FileListOverflow`] if the total length or the names become too long; the list is then unchanged.
    pub fn push<'n>(
        &mut self,
        path: impl DoubleEndedIterator<Item = &'n str> + Clone,
        length: u64,
        attributes: FileAttributes,
    ) -> Result<(), FileListOverflow> {
        let table = &mut self.0;
        let start = table.files.last().map_or(0, |last| last.end);
        let end =
            start.checked_add(length).filter(|end| i64::try_from(*end).is_ok()).ok_or(FileListOverflow)?;
        let mut dirs = path;
        let name = dirs.next_back().unwrap_or_default();
        let name_end = table
            .names
            .len()
            .checked_add(name.len())
            .and_then(|end| u32::try_from(end).ok())
            .ok_or(FileListOverflow)?;
        let known = table
            .dirs
            .last()
            .is_some_and(|last| last.split('/').filter(|name| !name.is_empty()).eq(dirs.clone()));
        let dir = if known { table.dirs.len().saturating_sub(1) } else { table.dirs.len() };
        let dir = u32::try_from(dir)
            .ok()
            .filter(|dir| *dir <= u32::MAX >> ATTRIBUTE_BITS)
            .ok_or(FileListOverflow)?;
        if !known {
            table.dirs.push(dirs.collect::<Vec<_>>().join("/"));
        }
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let bits = bit(attributes.pad, PAD)
            | bit(attributes.symlink, SYMLINK)
            | bit(attributes.executable, EXECUTABLE);
        table.names.push_str(name);
        table.files.push(FileRecord { end, name_end, dir_and_attributes: dir << ATTRIBUTE_BITS | bits });
        Ok(())
    }

    /// Returns the number of files so far.
    pub(super) fn count(&self) -> usize {
        self.0.files.len()
    }

    /// Returns the list.
    pub fn finish(mut self) -> Files {
        self.0.names.shrink_to_fit();
        self.0.dirs.shrink_to_fit();
        self.0.files.shrink_to_fit();
        Files(Arc::new(self.0))
    }
}

/// Collects paths, joined by `/`, and lengths. Stops at the first file that overflows the list.
impl<P: AsRef<str>> FromIterator<(P, u64)> for Files {
    fn from_iter<T: IntoIterator<Item = (P, u64)>>(files: T) -> Files {
        let mut builder = FilesBuilder::default();
        for (path, length) in files {
            if builder.push(path.as_ref().split('/'), length, FileAttributes::default()).is_err() {
                break;
            }
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_files_that_were_added() {
        let mut builder = FilesBuilder::below("top");
        let pad = FileAttributes { pad: true, ..FileAttributes::default() };
        let run = FileAttributes { executable: true, ..FileAttributes::default() };
        for (path, length, attributes) in [
            ("a/b/x", 5, FileAttributes::default()),
            ("a/b/y", 0, run),
            ("z", 7, pad),
            ("a/b/w", 1, FileAttributes::default()),
        ] {
            builder.push(path.split('/'), length, attributes).unwrap();
        }
        let files = builder.finish();
        let seen: Vec<_> = files.iter().map(|f| (f.path_text(), f.offset, f.length, f.attributes)).collect();
        assert_eq!(
            seen,
            [
                ("top/a/b/x".into(), 0, 5, FileAttributes::default()),
                ("top/a/b/y".into(), 5, 0, run),
                ("top/z".into(), 5, 7, pad),
                ("top/a/b/w".into(), 12, 1, FileAttributes::default())
            ]
        );
        assert_eq!((files.total(), files.len()), (13, 4));
        assert_eq!(
            [0, 4, 5, 11, 12, 13].map(|at| files.at(at)),
            [Some(0), Some(0), Some(2), Some(2), Some(3), None]
        );
        assert_eq!(files.get(0).unwrap().path().rev().collect::<Vec<_>>(), ["x", "b", "a", "top"]);
        assert!(files.get(4).is_none());
    }

    #[test]
    fn refuses_lengths_that_overflow_without_a_change() {
        let mut builder = FilesBuilder::default();
        builder.push(["a"].into_iter(), i64::MAX as u64, FileAttributes::default()).unwrap();
        assert_eq!(builder.push(["b"].into_iter(), 1, FileAttributes::default()), Err(FileListOverflow));
        assert_eq!(
            builder.push(["b"].into_iter(), u64::MAX, FileAttributes::default()),
            Err(FileListOverflow)
        );
        let files = builder.finish();
        assert_eq!((files.len(), files.get(0).unwrap().path_text()), (1, "a".to_owned()));
    }

    #[test]
    fn a_file_takes_sixteen_bytes_beside_its_name() {
        assert_eq!(size_of::<FileRecord>(), 16);
    }
}
