//! Where a torrent's bytes lie: its files one after another, and the parts of them that a range of the
//! torrent touches.
//!
//! Pure arithmetic. Invariant: the lengths of the files sum up to the geometry's total. The bytes of pad
//! files (BEP 47) count like all others, but they are zeros and on no disk.

use crate::units::Geometry;
use crate::wire::{FileEntry, Files};
use std::path::PathBuf;

/// A run of bytes inside one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileSpan {
    /// Index of the file.
    pub file: usize,
    /// Whether the bytes belong to a pad file.
    pub pad: bool,
    /// First byte, counted from the start of the file.
    pub at: u64,
    /// Bytes, at least 1.
    pub len: u64,
}

/// The files of a torrent and their offsets.
#[derive(Debug)]
pub(super) struct Layout(Files);

impl Layout {
    /// The layout of these files; `None` if their lengths do not sum up to the total.
    pub fn new(files: Files, geometry: &Geometry) -> Option<Layout> {
        (files.total() == geometry.total()).then_some(Layout(files))
    }

    /// Number of files, pads included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The file of this index.
    pub fn file(&self, index: usize) -> FileEntry<'_> {
        self.0.get(index).expect("an index of this layout")
    }

    /// The file's path below the torrent's directory.
    pub fn path(&self, index: usize) -> PathBuf {
        self.file(index).to_path()
    }

    /// The files that are on the disk (all but pads), with their indices.
    pub fn on_disk(&self) -> impl Iterator<Item = (usize, FileEntry<'_>)> {
        self.0.iter().enumerate().filter(|(_, file)| file.lands_on_disk())
    }

    /// The torrent offsets that the file covers.
    pub fn range(&self, index: usize) -> (u64, u64) {
        let file = self.file(index);
        (file.offset, file.offset + file.length)
    }

    /// The file spans of `len` bytes from torrent offset `offset` on, in order; empty files have none.
    pub fn file_spans(&self, offset: u64, len: u64) -> impl Iterator<Item = FileSpan> + '_ {
        let end = (offset + len).min(self.0.total());
        let mut next = self.0.at(offset);
        let mut at = offset;
        std::iter::from_fn(move || {
            while at < end {
                let index = next?;
                next = Some(index + 1);
                let file = self.0.get(index)?;
                let stop = file.offset + file.length;
                if stop > at {
                    let len = stop.min(end) - at;
                    let span =
                        FileSpan { file: index, pad: !file.lands_on_disk(), at: at - file.offset, len };
                    at += len;
                    return Some(span);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FileAttributes, FilesBuilder};

    fn layout_of(lengths: &[u64]) -> Layout {
        let total = lengths.iter().sum();
        let mut files = FilesBuilder::default();
        for (i, &length) in lengths.iter().enumerate() {
            files
                .push(
                    [format!("f{i}").as_str()].into_iter(),
                    length,
                    FileAttributes { pad: i == 2, ..FileAttributes::default() },
                )
                .unwrap();
        }
        Layout::new(files.finish(), &Geometry::new(total, 10).unwrap()).unwrap()
    }

    #[test]
    fn a_range_is_cut_at_each_file() {
        let layout = layout_of(&[0, 10, 5, 0, 0, 7, 0]);
        let s: Vec<_> = layout.file_spans(8, 12).map(|s| (s.file, s.pad, s.at, s.len)).collect();
        assert_eq!(s, [(1, false, 8, 2), (2, true, 0, 5), (5, false, 0, 5)]);
        assert_eq!(layout.file_spans(0, 3).map(|s| s.file).collect::<Vec<_>>(), [1]);
        assert_eq!(layout.file_spans(22, 5).count(), 0);
    }

    #[test]
    fn file_spans_cover_each_range_without_gaps() {
        let layout = layout_of(&[3, 0, 1, 9, 0, 2, 15]);
        for offset in 0..30 {
            for len in 1..=30 - offset {
                let mut at = offset;
                for s in layout.file_spans(offset, len) {
                    assert_eq!(layout.range(s.file).0 + s.at, at);
                    assert!(s.len > 0 && s.at + s.len <= layout.file(s.file).length);
                    at += s.len;
                }
                assert_eq!(at, offset + len);
            }
        }
    }

    #[test]
    fn files_that_do_not_add_up_are_refused() {
        let g = Geometry::new(10, 4).unwrap();
        assert!(Layout::new(Files::from_iter([("x", 9)]), &g).is_none());
    }
}
