//! The parts file: bytes of unwanted files that lie in pieces with bytes of wanted files. They are needed to
//! prove and to serve those pieces, and have no place in the user's directory (`.rill-HASH.parts` beside the
//! content).
//!
//! ```text
//!   slot 0                       slot 1
//!   ┌──────────┬──────────────┐  ┌──────────┬──────────────┐
//!   │ header   │ one piece    │  │ header   │ one piece    │  …   the last slot may be shorter
//!   └──────────┴──────────────┘  └──────────┴──────────────┘
//!   header: the mark "rillpart", piece, piece length (32 bits, little-endian); zeros: the slot is free
//! ```
//!
//! Of a piece only the bytes of unwanted files are written; the rest is a hole. Slots are assigned while the
//! torrent is opened, so the table never changes while workers use it. The headers alone say which piece lies
//! where, and every piece with a slot is hashed before it is claimed.

use super::dir::{Dir, read_exact_at};
use super::fault::{DiskFault, FaultKind, Operation};
use crate::units::{Geometry, PieceIndex, TorrentHashes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Bytes of a slot's header.
pub(super) const HEADER_LEN: u64 = 16;

const MARK: [u8; 8] = *b"rillpart";

/// The slots of one torrent's parts file.
#[derive(Debug)]
pub(super) struct PartsFile {
    path: PathBuf,
    piece_len: u32,
    /// The slots that the file had when the torrent was opened.
    found: BTreeMap<PieceIndex, u32>,
    /// Number of slots that the file had, free ones included.
    found_len: u32,
    /// The slots of the open torrent, once they are assigned.
    assigned: OnceLock<BTreeMap<PieceIndex, u32>>,
}

impl PartsFile {
    /// The parts file of this torrent as if it did not exist.
    pub fn none(torrent: &TorrentHashes) -> PartsFile {
        PartsFile {
            path: PathBuf::from(format!(".rill-{torrent}.parts")),
            piece_len: 0,
            found: BTreeMap::new(),
            found_len: 0,
            assigned: OnceLock::new(),
        }
    }

    /// Reads the headers of the torrent's parts file in this directory; no slot if the file does not exist.
    ///
    /// # Errors
    /// The file cannot be read, or is no parts file of this torrent.
    pub fn read(dir: &Dir, torrent: &TorrentHashes, geometry: &Geometry) -> Result<PartsFile, DiskFault> {
        let piece_len = geometry.nominal_piece_len();
        let mut parts = PartsFile { piece_len, ..PartsFile::none(torrent) };
        let file = match dir.open_file(&parts.path) {
            Ok(file) => file,
            Err(fault) if fault.kind == FaultKind::Missing => return Ok(parts),
            Err(fault) => return Err(fault),
        };
        let foreign = || DiskFault::without_errno(FaultKind::NotOurs, &dir.full_path(&parts.path));
        let slots = u32::try_from(file.size.div_ceil(parts.slot_len()))
            .ok()
            .filter(|slots| *slots <= geometry.pieces())
            .ok_or_else(foreign)?;
        for slot in 0..slots {
            let mut header = [0; HEADER_LEN as usize];
            let at = parts.header_at(slot);
            let len = (file.size - at).min(HEADER_LEN) as usize;
            read_exact_at(&file.fd, &mut header[..len], at).map_err(|e| match e {
                Some(e) => DiskFault::new(Operation::Read, &dir.full_path(&parts.path), e),
                None => DiskFault::without_errno(FaultKind::Changed, &dir.full_path(&parts.path)),
            })?;
            if header == [0; HEADER_LEN as usize] {
                continue;
            }
            let [m0, m1, m2, m3, m4, m5, m6, m7, p0, p1, p2, p3, l0, l1, l2, l3] = header;
            let piece = geometry.piece(u32::from_le_bytes([p0, p1, p2, p3]));
            let right_length = u32::from_le_bytes([l0, l1, l2, l3]) == piece_len;
            match piece.filter(|_| [m0, m1, m2, m3, m4, m5, m6, m7] == MARK && right_length) {
                Some(piece) => parts.found.entry(piece).or_insert(slot),
                None => return Err(foreign()),
            };
        }
        parts.found_len = slots;
        Ok(parts)
    }

    /// Its path below the torrent's directory.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Whether the file had a slot of this piece when the torrent was opened.
    pub fn found(&self, piece: PieceIndex) -> bool {
        self.found.contains_key(&piece)
    }

    /// The pieces that had slots when the torrent was opened.
    pub fn pieces_found(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.found.keys().copied()
    }

    /// Whether the file existed with at least one slot, a free one included.
    pub fn existed(&self) -> bool {
        self.found_len > 0
    }

    /// Gives a slot to each of these pieces and takes it from all others; once, before the first write.
    /// Returns the slots that become free.
    pub fn assign(&self, pieces: &BTreeSet<PieceIndex>) -> Vec<u32> {
        let kept: BTreeSet<u32> =
            self.found.iter().filter(|(piece, _)| pieces.contains(piece)).map(|(_, slot)| *slot).collect();
        let mut free = (0..).filter(|slot| !kept.contains(slot));
        let slots = pieces.iter().filter_map(|piece| {
            let slot = self.found.get(piece).copied().or_else(|| free.next())?;
            Some((*piece, slot))
        });
        let slots: BTreeMap<_, _> = slots.collect();
        let freed = self.found.iter().filter(|(piece, _)| !pieces.contains(piece)).map(|(_, slot)| *slot);
        let freed = freed.collect();
        let _ = self.assigned.set(slots);
        freed
    }

    /// The offset of a piece's first byte in the file; `None` without a slot.
    pub fn offset(&self, piece: PieceIndex) -> Option<u64> {
        let slots = self.assigned.get().unwrap_or(&self.found);
        slots.get(&piece).map(|slot| self.header_at(*slot) + HEADER_LEN)
    }

    /// The offset of a slot's header.
    pub fn header_at(&self, slot: u32) -> u64 {
        u64::from(slot) * self.slot_len()
    }

    fn slot_len(&self) -> u64 {
        HEADER_LEN + u64::from(self.piece_len)
    }

    /// The header of a slot that holds this piece.
    pub fn header(&self, piece: PieceIndex) -> [u8; HEADER_LEN as usize] {
        let mut header = [0; HEADER_LEN as usize];
        header[..8].copy_from_slice(&MARK);
        header[8..12].copy_from_slice(&piece.get().to_le_bytes());
        header[12..].copy_from_slice(&self.piece_len.to_le_bytes());
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::InfoHash;

    fn read(dir: &std::path::Path) -> Result<PartsFile, FaultKind> {
        let geometry = Geometry::new(100_000, 1000).unwrap();
        let dir = Dir::open(dir, false).unwrap();
        PartsFile::read(&dir, &InfoHash([7; 20]).into(), &geometry).map_err(|fault| fault.kind)
    }

    #[test]
    fn slots_are_found_again_by_their_headers_and_given_to_other_pieces_once_they_are_free() {
        let temp = tempfile::tempdir().unwrap();
        let geometry = Geometry::new(100_000, 1000).unwrap();
        let piece = |n| geometry.piece(n).unwrap();
        let parts = read(temp.path()).unwrap();
        assert!(!parts.existed() && parts.offset(piece(3)).is_none());
        assert!(parts.assign(&[piece(3), piece(9), piece(50)].into()).is_empty());
        let mut bytes = vec![0; 2 * 1016 + 500];
        for p in [piece(3), piece(9), piece(50)] {
            let at = parts.offset(p).unwrap() as usize - HEADER_LEN as usize;
            bytes[at..at + HEADER_LEN as usize].copy_from_slice(&parts.header(p));
        }
        std::fs::write(temp.path().join(parts.path()), bytes).unwrap();
        let again = read(temp.path()).unwrap();
        assert_eq!(again.pieces_found().collect::<Vec<_>>(), [piece(3), piece(9), piece(50)]);
        assert_eq!(again.offset(piece(9)), Some(1016 + 16));
        assert_eq!(again.assign(&[piece(9), piece(70)].into()), [0, 2]);
        assert_eq!(again.offset(piece(70)), Some(16));
        assert_eq!((again.offset(piece(9)), again.offset(piece(3))), (Some(1016 + 16), None));
    }

    #[test]
    fn a_file_that_is_no_parts_file_of_this_torrent_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(read(temp.path()).unwrap().path());
        let header = |mark: &[u8], piece: u32, piece_len: u32| {
            [mark, &piece.to_le_bytes(), &piece_len.to_le_bytes()].concat()
        };
        for (bytes, result) in [
            (header(b"rillpart", 99, 1000), None),
            (header(b"rillpart", 100, 1000), Some(FaultKind::NotOurs)),
            (header(b"rillpart", 1, 2000), Some(FaultKind::NotOurs)),
            (header(b"precious", 1, 1000), Some(FaultKind::NotOurs)),
            (vec![0; 101 * 1016], Some(FaultKind::NotOurs)),
            (b"short".to_vec(), Some(FaultKind::NotOurs)),
            (vec![0; 5], None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(temp.path()).err(), result);
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(read(temp.path()).err(), Some(FaultKind::Exists));
    }
}
