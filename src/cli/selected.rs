//! Progress of a selection of files in bytes of those files.
//!
//! The engine counts whole pieces, which may hold bytes of neighbours that the user did not select.

use crate::units::{Bitfield, Geometry};
use crate::wire::Metainfo;
use std::ops::Range;

/// The selected files of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelectedFiles {
    files: Vec<Range<u64>>,
    geometry: Geometry,
}

impl SelectedFiles {
    /// Returns the selection of the files for which `is_selected` returns true; `None` if that is all of them.
    /// Pad files count as selected.
    pub(crate) fn of(metainfo: &Metainfo, is_selected: impl Fn(usize) -> bool) -> Option<SelectedFiles> {
        let all = || metainfo.files().iter().enumerate().filter(|(_, file)| !file.attributes.pad);
        if all().all(|(index, _)| is_selected(index)) {
            return None;
        }
        let files = all().filter(|(index, _)| is_selected(*index));
        let files = files.map(|(_, file)| file.offset..file.offset + file.length).collect();
        Some(SelectedFiles { files, geometry: metainfo.geometry() })
    }

    /// Returns the bytes of the files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.end - file.start).sum()
    }

    /// Returns the bytes of the files that lie in these pieces.
    pub(crate) fn bytes_in(&self, have: &Bitfield) -> u64 {
        let in_file = |file: &Range<u64>| -> u64 {
            let pieces = self.geometry.pieces_of(file.start, file.end).filter(|piece| have.has(*piece));
            let part = |piece| {
                let start = self.geometry.piece_offset(piece);
                (start + u64::from(self.geometry.piece_len(piece))).min(file.end) - start.max(file.start)
            };
            pieces.map(part).sum()
        };
        self.files.iter().map(in_file).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PieceHash;
    use crate::wire::metainfo::Builder;

    #[test]
    fn s5_a_selection_counts_its_own_bytes_and_not_those_of_its_neighbours() {
        let files = vec![(vec!["a".into()], 10_000), (vec!["b".into()], 20_000), (vec!["c".into()], 30_000)];
        let builder = Builder { piece_len: 16_384, ..Builder::multi("t", files) };
        let torrent = Metainfo::parse(&builder.finish(&[PieceHash([0; 20]); 4]).unwrap()).unwrap();
        assert_eq!(SelectedFiles::of(&torrent, |_| true), None);
        let middle = SelectedFiles::of(&torrent, |index| index == 1).unwrap();
        assert_eq!(middle.bytes(), 20_000);
        let mut have = Bitfield::empty(4);
        let pieces: Vec<_> = torrent.geometry().pieces_of(0, u64::MAX).collect();
        have.set(pieces[0]);
        assert_eq!(middle.bytes_in(&have), 6_384);
        have.set(pieces[1]);
        have.set(pieces[3]);
        assert_eq!(middle.bytes_in(&have), 20_000);
    }
}
