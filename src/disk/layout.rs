//! Where a torrent's bytes lie: the files one behind another, and the pieces of them that a range touches.
//!
//! Pure arithmetic. Invariant: the files' lengths sum up to the geometry's total, checked when a layout is made.
//! Pad files (BEP 47) are bytes like all others here, only they live nowhere and are zeros.

use crate::units::Geometry;
use crate::wire::{FileEntry, Files};
use std::path::PathBuf;

/// A run of bytes inside one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Index of the file.
    pub file: usize,
    /// Whether the bytes are padding.
    pub pad: bool,
    /// First byte, counted from the file's start.
    pub at: u64,
    /// Bytes, at least 1.
    pub len: u64,
}

/// The files, and what lies where.
#[derive(Debug)]
pub(super) struct Layout(Files);

impl Layout {
    /// The layout of these files, or `None` if they do not fit the geometry.
    pub fn new(files: Files, geometry: &Geometry) -> Option<Layout> {
        (files.total() == geometry.total()).then_some(Layout(files))
    }

    /// Number of files, pads included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The file.
    pub fn file(&self, index: usize) -> FileEntry<'_> {
        self.0.get(index).expect("an index of this layout")
    }

    /// Its path below the torrent's directory.
    pub fn path(&self, index: usize) -> PathBuf {
        self.file(index).to_path()
    }

    /// Every file that lies on the disk, with its index.
    pub fn on_disk(&self) -> impl Iterator<Item = (usize, FileEntry<'_>)> {
        self.0.iter().enumerate().filter(|(_, file)| file.lands_on_disk())
    }

    /// The torrent offsets that the file covers.
    pub fn range(&self, index: usize) -> (u64, u64) {
        let file = self.file(index);
        (file.offset, file.offset + file.length)
    }

    /// The segments of `len` bytes from torrent offset `offset`, in order; empty files never show up.
    pub fn segments(&self, offset: u64, len: u64) -> impl Iterator<Item = Segment> + '_ {
        let end = (offset + len).min(self.0.total());
        let (mut next, mut at) = (self.0.at(offset), offset);
        std::iter::from_fn(move || {
            while at < end {
                let index = next?;
                next = Some(index + 1);
                let file = self.0.get(index)?;
                let stop = file.offset + file.length;
                if stop > at {
                    let len = stop.min(end) - at;
                    let segment = Segment { file: index, pad: !file.lands_on_disk(), at: at - file.offset, len };
                    at += len;
                    return Some(segment);
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

    fn layout(lengths: &[u64]) -> Layout {
        let total = lengths.iter().sum();
        let mut files = FilesBuilder::default();
        for (i, &length) in lengths.iter().enumerate() {
            files
                .push([format!("f{i}").as_str()].into_iter(), length, FileAttributes { pad: i == 2, ..FileAttributes::default() })
                .unwrap();
        }
        Layout::new(files.finish(), &Geometry::new(total, 10).unwrap()).unwrap()
    }

    #[test]
    fn a_range_is_cut_at_every_file() {
        let l = layout(&[0, 10, 5, 0, 0, 7, 0]);
        let s: Vec<_> = l.segments(8, 12).map(|s| (s.file, s.pad, s.at, s.len)).collect();
        assert_eq!(s, [(1, false, 8, 2), (2, true, 0, 5), (5, false, 0, 5)]);
        assert_eq!(l.segments(0, 3).map(|s| s.file).collect::<Vec<_>>(), [1]);
        assert_eq!(l.segments(22, 5).count(), 0);
    }

    #[test]
    fn segments_cover_every_range_without_gaps() {
        let l = layout(&[3, 0, 1, 9, 0, 2, 15]);
        for offset in 0..30 {
            for len in 1..=30 - offset {
                let mut at = offset;
                for s in l.segments(offset, len) {
                    assert_eq!(l.range(s.file).0 + s.at, at);
                    assert!(s.len > 0 && s.at + s.len <= l.file(s.file).length);
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
