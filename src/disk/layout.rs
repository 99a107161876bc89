//! Where a torrent's bytes lie: the files one behind another, and the pieces of them that a range touches.
//!
//! Pure arithmetic. Invariant: the files' lengths sum up to the geometry's total, checked when a layout is made.
//! Pad files (BEP 47) are bytes like all others here, only they live nowhere and are zeros.

use crate::units::Geometry;
use std::path::{Path, PathBuf};

/// One file of a torrent, as whoever opens the torrent describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentFile {
    /// Path below the torrent's directory; its components are already safe (no `..`, no root).
    pub path: PathBuf,
    /// Bytes.
    pub length: u64,
    /// Whether it only pads (BEP 47): never on a disk, zeros in the hash.
    pub pad: bool,
}

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

/// The files and where each of them starts.
#[derive(Debug)]
pub(super) struct Layout {
    files: Vec<ContentFile>,
    /// Start of each file in the torrent, and the total at the end.
    starts: Vec<u64>,
}

impl Layout {
    /// The layout of these files, or `None` if they do not fit the geometry.
    pub fn new(files: Vec<ContentFile>, geometry: &Geometry) -> Option<Layout> {
        let mut starts = Vec::with_capacity(files.len() + 1);
        let mut at = 0u64;
        for f in &files {
            starts.push(at);
            at = at.checked_add(f.length)?;
        }
        starts.push(at);
        (at == geometry.total()).then_some(Layout { files, starts })
    }

    /// Number of files, pads included.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// The file.
    pub fn file(&self, index: usize) -> &ContentFile {
        &self.files[index]
    }

    /// Its path below the torrent's directory.
    pub fn path(&self, index: usize) -> &Path {
        &self.files[index].path
    }

    /// Every file with its index.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &ContentFile)> {
        self.files.iter().enumerate()
    }

    /// The torrent offsets that the file covers.
    pub fn range(&self, index: usize) -> (u64, u64) {
        (self.starts[index], self.starts[index + 1])
    }

    /// The segments of `len` bytes from torrent offset `offset`, in order; empty files never show up.
    pub fn segments(&self, offset: u64, len: u64) -> impl Iterator<Item = Segment> + '_ {
        let end = (offset + len).min(*self.starts.last().unwrap_or(&0));
        // The last file that starts at or before the offset; empty files before it share its start.
        let mut file = self.starts.partition_point(|&s| s <= offset).saturating_sub(1);
        let mut at = offset;
        std::iter::from_fn(move || {
            while at < end {
                let (start, stop) = (self.starts[file], self.starts[file + 1]);
                let index = file;
                file += 1;
                if stop > at {
                    let len = stop.min(end) - at;
                    let segment = Segment { file: index, pad: self.files[index].pad, at: at - start, len };
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

    fn layout(lengths: &[u64]) -> Layout {
        let total = lengths.iter().sum();
        let files =
            lengths.iter().enumerate().map(|(i, &length)| ContentFile { path: format!("f{i}").into(), length, pad: i == 2 });
        Layout::new(files.collect(), &Geometry::new(total, 10).unwrap()).unwrap()
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
        let f = |length| ContentFile { path: "x".into(), length, pad: false };
        let g = Geometry::new(10, 4).unwrap();
        assert!(Layout::new(vec![f(9)], &g).is_none());
        assert!(Layout::new(vec![f(u64::MAX), f(11)], &g).is_none());
    }
}
