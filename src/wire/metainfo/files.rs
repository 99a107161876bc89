//! The files of a torrent, small enough that a router can hold two hundred thousand of them.
//!
//! All names stand in one string, a directory's once for the files that follow each other in it, and a file is sixteen bytes
//! beside its name. [`FileEntry`] is a view that is made when it is asked for. Invariants: the files follow each other without a
//! gap; names are plain (whoever adds them has seen to that), so that no name holds a `/`.

use std::path::PathBuf;
use std::sync::Arc;

/// What a file is besides its bytes (BEP 47).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAttributes {
    /// Zeros that only align what follows (`p`): hashed and served as zeros, never written.
    pub pad: bool,
    /// A symbolic link (`l`). rill does not create these: a link is a way out of the directory. Only an entry of
    /// length 0 counts as one; with a length it is a file like any other.
    pub symlink: bool,
    /// Meant to be run (`x`).
    pub executable: bool,
}

/// One file of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEntry<'a> {
    /// The torrent's own name, if it has a directory around its files.
    root: &'a str,
    /// Directories below that, with a `/` between them.
    dir: &'a str,
    name: &'a str,
    /// Bytes in it; may be 0.
    pub length: u64,
    /// Where its bytes start, counted from the torrent's start.
    pub offset: u64,
    /// What it is besides.
    pub attributes: FileAttributes,
}

impl<'a> FileEntry<'a> {
    /// Where it lies below the download directory: plain names, the torrent's own first if it has a directory.
    pub fn path(&self) -> impl DoubleEndedIterator<Item = &'a str> + Clone + use<'a> {
        let dirs = self.dir.split('/');
        [self.root].into_iter().chain(dirs).chain([self.name]).filter(|name| !name.is_empty())
    }

    /// The same as one text, with a `/` between the names.
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

    /// The same, relative to the download directory.
    pub fn to_path(&self) -> PathBuf {
        self.path_text().into()
    }

    /// Whether anything of that name is to be created.
    pub fn lands_on_disk(&self) -> bool {
        !self.attributes.pad && !self.attributes.symlink
    }
}

/// What is kept of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileRecord {
    /// Where the torrent's bytes go on behind it.
    end: u64,
    /// Where its name ends in the text of names.
    name_end: u32,
    /// Its directory's place in the list of directories, and its attributes in the lowest three bits.
    dir_and_marks: u32,
}

const PAD: u32 = 1;
const SYMLINK: u32 = 2;
const EXECUTABLE: u32 = 4;
const MARK_BITS: u32 = 3;

#[derive(Debug, Default, PartialEq, Eq)]
struct FileTable {
    root: String,
    names: String,
    dirs: Vec<String>,
    files: Vec<FileRecord>,
}

/// The files of a torrent in its order, pads and links included. Cloning copies a pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Arc<FileTable>);

impl Files {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.files.is_empty()
    }

    /// The file at this place in the list.
    pub fn get(&self, index: usize) -> Option<FileEntry<'_>> {
        let table = &*self.0;
        let kept = table.files.get(index)?;
        let before = index.checked_sub(1).and_then(|before| table.files.get(before));
        let (offset, name_start) = before.map_or((0, 0), |before| (before.end, before.name_end));
        let dir = usize::try_from(kept.dir_and_marks >> MARK_BITS).ok()?;
        let marked = |bit| kept.dir_and_marks & bit != 0;
        Some(FileEntry {
            root: &table.root,
            dir: table.dirs.get(dir)?,
            name: table.names.get(name_start as usize..kept.name_end as usize)?,
            length: kept.end.saturating_sub(offset),
            offset,
            attributes: FileAttributes { pad: marked(PAD), symlink: marked(SYMLINK), executable: marked(EXECUTABLE) },
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = FileEntry<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Bytes of all of them.
    pub fn total(&self) -> u64 {
        self.0.files.last().map_or(0, |last| last.end)
    }

    /// The first file that ends behind `offset`; `None` behind the last one.
    pub fn at(&self, offset: u64) -> Option<usize> {
        let index = self.0.files.partition_point(|file| file.end <= offset);
        (index < self.len()).then_some(index)
    }
}

/// A list of files that is being made.
#[derive(Debug, Default)]
pub struct FilesBuilder(FileTable);

/// More than a list of files can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileListOverflow;

impl FilesBuilder {
    /// Files below a directory of this name; none for an empty one.
    pub fn below(root: &str) -> FilesBuilder {
        FilesBuilder(FileTable { root: root.to_owned(), ..FileTable::default() })
    }

    /// One more file, behind all others. `path` is below the root, and plain names all of it.
    ///
    /// # Errors
    /// [`FileListOverflow`] if the torrent's bytes or its names are more than can be counted; the list is as it was then.
    pub fn push<'n>(
        &mut self,
        path: impl DoubleEndedIterator<Item = &'n str> + Clone,
        length: u64,
        attributes: FileAttributes,
    ) -> Result<(), FileListOverflow> {
        let table = &mut self.0;
        let start = table.files.last().map_or(0, |last| last.end);
        let end = start.checked_add(length).filter(|end| i64::try_from(*end).is_ok()).ok_or(FileListOverflow)?;
        let mut dirs = path;
        let name = dirs.next_back().unwrap_or_default();
        let name_end =
            table.names.len().checked_add(name.len()).and_then(|end| u32::try_from(end).ok()).ok_or(FileListOverflow)?;
        let known = table.dirs.last().is_some_and(|last| last.split('/').filter(|name| !name.is_empty()).eq(dirs.clone()));
        let dir = if known { table.dirs.len().saturating_sub(1) } else { table.dirs.len() };
        let dir = u32::try_from(dir).ok().filter(|dir| *dir <= u32::MAX >> MARK_BITS).ok_or(FileListOverflow)?;
        if !known {
            table.dirs.push(dirs.collect::<Vec<_>>().join("/"));
        }
        let bit = |marked, bit| if marked { bit } else { 0 };
        let bits = bit(attributes.pad, PAD) | bit(attributes.symlink, SYMLINK) | bit(attributes.executable, EXECUTABLE);
        table.names.push_str(name);
        table.files.push(FileRecord { end, name_end, dir_and_marks: dir << MARK_BITS | bits });
        Ok(())
    }

    /// How many there are so far.
    pub(super) fn count(&self) -> usize {
        self.0.files.len()
    }

    /// The list.
    pub fn finish(mut self) -> Files {
        self.0.names.shrink_to_fit();
        self.0.dirs.shrink_to_fit();
        self.0.files.shrink_to_fit();
        Files(Arc::new(self.0))
    }
}

/// Paths with a `/` between their names, and lengths; whatever could not be counted is left out.
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
    fn files_read_back_as_they_were_added() {
        let mut builder = FilesBuilder::below("top");
        let pad = FileAttributes { pad: true, ..FileAttributes::default() };
        let run = FileAttributes { executable: true, ..FileAttributes::default() };
        for (path, length, attributes) in
            [("a/b/x", 5, FileAttributes::default()), ("a/b/y", 0, run), ("z", 7, pad), ("a/b/w", 1, FileAttributes::default())]
        {
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
        assert_eq!([0, 4, 5, 11, 12, 13].map(|at| files.at(at)), [Some(0), Some(0), Some(2), Some(2), Some(3), None]);
        assert_eq!(files.get(0).unwrap().path().rev().collect::<Vec<_>>(), ["x", "b", "a", "top"]);
        assert!(files.get(4).is_none());
    }

    #[test]
    fn lengths_that_cannot_be_counted_are_refused_and_change_nothing() {
        let mut builder = FilesBuilder::default();
        builder.push(["a"].into_iter(), i64::MAX as u64, FileAttributes::default()).unwrap();
        assert_eq!(builder.push(["b"].into_iter(), 1, FileAttributes::default()), Err(FileListOverflow));
        assert_eq!(builder.push(["b"].into_iter(), u64::MAX, FileAttributes::default()), Err(FileListOverflow));
        let files = builder.finish();
        assert_eq!((files.len(), files.get(0).unwrap().path_text()), (1, "a".to_owned()));
    }

    #[test]
    fn a_file_takes_its_name_and_sixteen_bytes() {
        assert_eq!(size_of::<FileRecord>(), 16);
    }
}
