//! The claims of a resume record, read without rill's own reader, and whether they are true.
//!
//! This second reader of the format is deliberate: a mistake in rill's reader must not hide a false claim.

use crate::support::{content, lies_at};
use rill::wire::Metainfo;
use sha1::{Digest, Sha1};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"rillrsm3";
/// The record is about one hash, of version 1.
const V1_ALONE: u8 = 1;
const STAMP_LEN: usize = 29;
const HAVE_AT: usize = 82;

/// A good record.
#[derive(Clone, Debug)]
pub struct Record {
    bytes: Vec<u8>,
    pieces: u32,
}

/// The path of a torrent's record, of which this state directory has one at most.
pub fn path(state: &Path, torrent: &Metainfo) -> PathBuf {
    let hash = torrent.info_hash().to_string();
    let is_record = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(&hash) && name.ends_with(".resume")
    };
    let mut files = fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path());
    files.find(is_record).unwrap_or_else(|| state.join(format!("{hash}.resume")))
}

/// The path of a torrent's record for content in this directory: its name has a part of the path's digest.
pub fn path_of(state: &Path, torrent: &Metainfo, dir: &Path) -> PathBuf {
    let digest = Sha1::digest(fs::canonicalize(dir).unwrap().as_os_str().as_bytes());
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    state.join(format!("{}-{digits}.resume", torrent.info_hash()))
}

impl Record {
    /// Reads the record of this torrent; `None` if there is none or its checksum is wrong.
    pub fn read(state: &Path, torrent: &Metainfo) -> Option<Record> {
        let bytes = fs::read(path(state, torrent)).ok()?;
        let (body, sum) = bytes.split_at(bytes.len().checked_sub(20)?);
        if Sha1::digest(body).as_slice() != sum || !body.starts_with(MAGIC) {
            return None;
        }
        let u32_at = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
        let pieces = u32_at(50);
        assert_eq!(body[17], V1_ALONE, "the kinds of hashes");
        assert_eq!(body[18..38], *torrent.info_hash().as_bytes(), "the record of another torrent");
        assert_eq!(pieces, torrent.geometry().pieces());
        let files = u32_at(54) as usize;
        assert_eq!(body.len(), HAVE_AT + pieces.div_ceil(8) as usize + files * STAMP_LEN);
        Some(Record { pieces, bytes })
    }

    /// Whether it claims this piece.
    pub fn claims(&self, piece: u32) -> bool {
        self.bytes[HAVE_AT + piece as usize / 8] & (0x80 >> (piece % 8)) != 0
    }

    /// The same record with the stamps of these files: copied files have other inodes and times, and rill
    /// trusts no record with other stamps.
    pub fn adopt(&self, files: &[Option<fs::Metadata>]) -> Vec<u8> {
        use std::os::unix::fs::MetadataExt;
        let mut bytes = self.bytes.clone();
        let stamps = HAVE_AT + self.pieces.div_ceil(8) as usize;
        for (file, meta) in files.iter().enumerate() {
            let at = stamps + file * STAMP_LEN;
            let (Some(meta), 1) = (meta, bytes[at]) else { continue };
            bytes[at + 1..at + 9].copy_from_slice(&meta.ino().to_le_bytes());
            bytes[at + 17..at + 25].copy_from_slice(&meta.mtime().to_le_bytes());
            bytes[at + 25..at + 29].copy_from_slice(&(meta.mtime_nsec() as u32).to_le_bytes());
        }
        let body = bytes.len() - 20;
        let sum: [u8; 20] = Sha1::digest(&bytes[..body]).into();
        bytes[body..].copy_from_slice(&sum);
        bytes
    }
}

/// A torrent and its right bytes.
pub struct Truth {
    pub torrent: Metainfo,
    pub bytes: Vec<u8>,
}

impl Truth {
    /// The torrent that [`crate::support::multi`] wrote for these files.
    pub fn of(torrent: Metainfo, files: &[(&str, usize)]) -> Truth {
        let bytes =
            files.iter().enumerate().flat_map(|(i, (_, len))| content(*len, 100 + i as u64)).collect();
        Truth { torrent, bytes }
    }

    /// Whether these bytes of the torrent are right below `dir`; `None` if a file is missing or ends too
    /// early.
    fn are_right(&self, dir: &Path, start: u64, end: u64) -> Option<bool> {
        let mut right = true;
        for file in self.torrent.files().iter() {
            let from = start.max(file.offset);
            let to = end.min(file.offset + file.length);
            if from < to {
                let mut found = vec![0; (to - from) as usize];
                let handle = fs::File::open(lies_at(dir, &file.to_path())).ok()?;
                handle.read_exact_at(&mut found, from - file.offset).ok()?;
                right &= found == self.bytes[from as usize..to as usize];
            }
        }
        Some(right)
    }

    /// Checks the pieces for which `claimed` is true. A claim to a piece of a missing or too short file is
    /// counted apart: it is not false as long as rill notices the file.
    pub fn verdict(&self, dir: &Path, claimed: impl Fn(u32) -> bool) -> Claims {
        let piece_len = u64::from(self.torrent.geometry().nominal_piece_len());
        let mut claims = Claims::default();
        for piece in (0..self.torrent.geometry().pieces()).filter(|p| claimed(*p)) {
            let start = u64::from(piece) * piece_len;
            let end = (start + piece_len).min(self.bytes.len() as u64);
            match self.are_right(dir, start, end) {
                Some(true) => claims.good += 1,
                Some(false) => claims.bad.push(piece),
                None => claims.gone.push(piece),
            }
        }
        claims
    }

    /// Panics if the record below `state` makes a false claim about `dir`. Returns the number of claims.
    pub fn must_hold(&self, dir: &Path, state: &Path, when: &str) -> u32 {
        let Some(record) = Record::read(state, &self.torrent) else { return 0 };
        let claims = self.verdict(dir, |piece| record.claims(piece));
        assert!(claims.bad.is_empty() && claims.gone.is_empty(), "{when}: false claims, {claims:?}");
        claims.good
    }
}

/// Claims that were checked.
#[derive(Debug, Default)]
pub struct Claims {
    pub good: u32,
    /// Pieces with wrong bytes.
    pub bad: Vec<u32>,
    /// Pieces with a missing or too short file.
    pub gone: Vec<u32>,
}
