//! The format of resume records. A record is untrusted input: one wrong byte rejects all of it.
//!
//! ```text
//!   "rillrsm3"  flags: 1  sequence: 8  hash kinds: 1 (1 v1, 2 v2)  v1: 20  v2: 32  total: 8  piece length: 4  pieces: 4
//!   files: 4  downloaded: 8  uploaded: 8  device: 8
//!   have: a bit a piece  stamps: 29 a file  SHA-1 of all before: 20             little-endian, absent hashes absent
//!   "rillrsm2": the same without the bytes transferred and the device
//!   "rillrsm1", written by 0.1.0: "rillrsm2" without the kinds, always with v1
//! ```
//!
//! Flags: 1, the torrent was open for writing; 2 (format 3 only), `completed` is announced.

use super::stamp::{STAMP_LEN, StampTable};
use super::torrent_files::TorrentFiles;
use crate::engine::History;
use crate::units::{Bitfield, Geometry, TorrentHashes};
use sha1::{Digest, Sha1};

/// Flags and sequence stand behind the magic in every format.
const FLAGS_AT: usize = 8;
const SEQUENCE_AT: usize = 9;
const SUM_LEN: usize = 20;
/// The torrent was open for writing.
const RUNNING: u8 = 1;
/// `completed` is announced.
const COMPLETED: u8 = 2;
/// Bytes of format 3 between the files and the pieces.
const TAIL_LEN: usize = 24;

/// The formats of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Written by 0.1.0; the v1 hash without a kind.
    V1,
    /// Says which hashes it is about.
    V2,
    /// Has the torrent's past and the device of its directory.
    V3,
}

impl Format {
    pub const ALL: [Format; 3] = [Format::V1, Format::V2, Format::V3];

    fn magic(self) -> &'static [u8; 8] {
        match self {
            Format::V1 => b"rillrsm1",
            Format::V2 => b"rillrsm2",
            Format::V3 => b"rillrsm3",
        }
    }

    fn flags(self) -> u8 {
        if self == Format::V3 { RUNNING | COMPLETED } else { RUNNING }
    }

    fn tail_len(self) -> usize {
        if self == Format::V3 { TAIL_LEN } else { 0 }
    }
}

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResumeRecord {
    /// Counts the saves.
    pub sequence: u64,
    /// The torrent was open for writing, so this process may have changed files after the save.
    pub running: bool,
    /// The torrent's past.
    pub history: History,
    /// The device of the content's directory; 0 before format 3.
    pub device: u64,
    /// The pieces that were on the disk, synced.
    pub have: Bitfield,
    /// The files as they were.
    pub stamps: StampTable,
}

impl ResumeRecord {
    /// Decodes the bytes of a record's file; `None` unless all of them are right for this torrent.
    pub fn decode(mut bytes: Vec<u8>, torrent: &RecordIdentity) -> Option<ResumeRecord> {
        let format = Format::ALL.into_iter().find(|format| bytes.starts_with(format.magic()))?;
        if Some(bytes.len()) != torrent.encoded_len(format) {
            return None;
        }
        let (body, sum) = bytes.split_at(bytes.len() - SUM_LEN);
        if Sha1::digest(body).as_slice() != sum {
            return None;
        }
        let flags = body[FLAGS_AT];
        if flags & !format.flags() != 0 {
            return None;
        }
        let u64_at = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let sequence = u64_at(SEQUENCE_AT)?;
        let head = torrent.head(format, sequence, flags)?;
        if !body.starts_with(&head) {
            return None;
        }
        let completed = flags & COMPLETED != 0;
        let (history, device) = if format == Format::V3 {
            let (downloaded, uploaded) = (u64_at(head.len())?, u64_at(head.len() + 8)?);
            (History { completed, downloaded, uploaded }, u64_at(head.len() + 16)?)
        } else {
            (History::default(), 0)
        };
        let pieces = torrent.geometry.pieces();
        let have_at = head.len() + format.tail_len();
        let stamps_at = have_at + pieces.div_ceil(8) as usize;
        let have = Bitfield::from_wire(&body[have_at..stamps_at], pieces).ok()?;
        // The bytes become the table in place: of a torrent with very many files there is no memory for two.
        bytes.truncate(bytes.len() - SUM_LEN);
        bytes.drain(..stamps_at);
        let stamps = StampTable::from_bytes(bytes);
        let running = flags & RUNNING != 0;
        Some(ResumeRecord { sequence, running, history, device, have, stamps })
    }

    /// The bytes of its file; `None` if this format cannot name the torrent.
    #[cfg(feature = "fuzzing")]
    /// Encodes the record; `None` if this format cannot name the torrent.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn encode(&self, torrent: &RecordIdentity, format: Format) -> Option<Vec<u8>> {
        let flags = flags_of(self.running, &self.history) & format.flags();
        let mut bytes = torrent.head(format, self.sequence, flags)?;
        bytes.extend_from_slice(&tail_of(&self.history, self.device)[..format.tail_len()]);
        bytes.extend_from_slice(self.have.as_bytes());
        bytes.extend_from_slice(self.stamps.as_bytes());
        let sum = Sha1::digest(&bytes);
        bytes.extend_from_slice(&sum);
        Some(bytes)
    }
}

/// The flags of a record.
pub(super) fn flags_of(running: bool, history: &History) -> u8 {
    (u8::from(running) * RUNNING) | (u8::from(history.completed) * COMPLETED)
}

/// The bytes between the files and the pieces in format 3.
pub(super) fn tail_of(history: &History, device: u64) -> [u8; TAIL_LEN] {
    let mut tail = [0; TAIL_LEN];
    for (to, figure) in tail.chunks_exact_mut(8).zip([history.downloaded, history.uploaded, device]) {
        to.copy_from_slice(&figure.to_le_bytes());
    }
    tail
}

/// The torrent that a record is about.
pub(super) struct RecordIdentity {
    pub hashes: TorrentHashes,
    pub geometry: Geometry,
    pub files: usize,
}

impl RecordIdentity {
    /// The identity of an open torrent.
    pub fn of(torrent: &TorrentFiles) -> RecordIdentity {
        RecordIdentity {
            hashes: torrent.info_hashes,
            geometry: torrent.geometry,
            files: torrent.layout.len(),
        }
    }

    /// The bytes before the bits of the pieces, but for [`tail_of`]; `None` if this format cannot name the torrent.
    pub fn head(&self, format: Format, sequence: u64, flags: u8) -> Option<Vec<u8>> {
        let mut head = format.magic().to_vec();
        head.push(flags);
        head.extend_from_slice(&sequence.to_le_bytes());
        match format {
            Format::V1 => head.extend_from_slice(self.hashes.v1()?.as_bytes()),
            Format::V2 | Format::V3 => {
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

    /// The length of the torrent's records; `None` if this format cannot name the torrent.
    pub fn encoded_len(&self, format: Format) -> Option<usize> {
        let head_len = self.head(format, 0, 0)?.len();
        Some(
            head_len
                + format.tail_len()
                + self.geometry.pieces().div_ceil(8) as usize
                + self.files * STAMP_LEN
                + SUM_LEN,
        )
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
    let format = [Format::V2, Format::V1, Format::V3, Format::V3][usize::from(choice / 16 % 4)];
    let check = |record: ResumeRecord| {
        assert_eq!(
            (record.have.pieces(), record.stamps.as_bytes().len()),
            (geometry.pieces(), torrent.files * STAMP_LEN)
        );
        assert!(record.have.iter().all(|piece| geometry.piece(piece.get()) == Some(piece)));
        assert_eq!(record.have.iter().count(), record.have.ones() as usize);
        for format in Format::ALL {
            let encoded = record.encode(&torrent, format).expect("a v1 torrent");
            let mut expected = record.clone();
            if format != Format::V3 {
                (expected.history, expected.device) = (History::default(), 0);
            }
            assert_eq!(ResumeRecord::decode(encoded, &torrent), Some(expected));
        }
    };
    ResumeRecord::decode(written.to_vec(), &torrent).into_iter().for_each(check);
    let blank = ResumeRecord {
        sequence: 0,
        running: false,
        history: History::default(),
        device: 0,
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

/// What a record says by itself, without the torrent.
#[cfg(any(feature = "cli", test))]
pub(super) struct RecordHead {
    pub sequence: u64,
    /// The device of the content's directory; 0 before format 3.
    pub device: u64,
    pub bytes: u64,
    pub pieces: u32,
    /// Verified pieces.
    pub have: u32,
}

/// Decodes a record without its torrent; `None` unless the sum is right.
#[cfg(any(feature = "cli", test))]
pub(super) fn record_head(bytes: &[u8]) -> Option<RecordHead> {
    let format = Format::ALL.into_iter().find(|format| bytes.starts_with(format.magic()))?;
    let (body, sum) = bytes.split_at(bytes.len().checked_sub(SUM_LEN)?);
    if Sha1::digest(body).as_slice() != sum {
        return None;
    }
    let u64_at = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let hashes_at = SEQUENCE_AT + 8;
    let sizes_at = match format {
        Format::V1 => hashes_at + 20,
        Format::V2 | Format::V3 => {
            let kinds = *body.get(hashes_at)?;
            hashes_at + 1 + 20 * usize::from(kinds & 1) + 32 * usize::from(kinds >> 1 & 1)
        }
    };
    // Bytes, piece length, pieces, files; then the tail, then the pieces.
    let tail_at = sizes_at + 20;
    let (bytes, pieces) = (u64_at(sizes_at)?, u32_at(sizes_at + 12)?);
    let have_at = tail_at + format.tail_len();
    let have = body.get(have_at..have_at + pieces.div_ceil(8) as usize)?;
    let have = Bitfield::from_wire(have, pieces).ok()?.ones();
    let device = if format == Format::V3 { u64_at(tail_at + 16)? } else { 0 };
    Some(RecordHead { sequence: u64_at(SEQUENCE_AT)?, device, bytes, pieces, have })
}
