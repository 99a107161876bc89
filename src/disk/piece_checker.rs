//! Whether a piece on the disk is good, with the least reading: holes are recognised and not read.

use super::fault::DiskFault;
use super::hasher::{PieceDigest, PieceHasher};
use super::open_files::OpenFiles;
use super::torrent_files::TorrentFiles;
use crate::units::PieceIndex;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::sync::Arc;

/// Hashes pieces of content that is on the disk, one after the other.
pub(super) struct PieceChecker {
    /// Allocated for the first piece: of a thousand torrents that are opened most read none.
    buf: Vec<u8>,
    read_bytes: usize,
    /// The digest of so many zeros, for pieces that are one hole.
    zeros: Option<(u32, PieceDigest)>,
}

impl PieceChecker {
    /// A checker that reads `read_bytes` at a time.
    pub fn new(read_bytes: usize) -> PieceChecker {
        PieceChecker { buf: Vec::new(), read_bytes, zeros: None }
    }

    /// Whether the piece has the expected hash.
    pub fn is_good(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        open_files: &mut OpenFiles,
        piece: PieceIndex,
    ) -> Result<bool, DiskFault> {
        let expected = torrent.expected(piece);
        let digest = if is_hole(torrent, open_files, piece)? {
            self.digest_of_zeros(torrent.geometry.piece_len(piece), expected.hasher())
        } else {
            self.digest(torrent, open_files, piece, expected.hasher())?
        };
        Ok(expected.matches(digest))
    }

    /// Whether the piece is all zeros according to its expected hash.
    pub fn expects_zeros(&mut self, torrent: &TorrentFiles, piece: PieceIndex) -> bool {
        let expected = torrent.expected(piece);
        expected.matches(self.digest_of_zeros(torrent.geometry.piece_len(piece), expected.hasher()))
    }

    /// The digest of the piece's bytes on the disk.
    pub fn digest(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        open_files: &mut OpenFiles,
        piece: PieceIndex,
        mut hasher: PieceHasher,
    ) -> Result<PieceDigest, DiskFault> {
        let mut rest = Some(torrent.geometry.whole(piece));
        self.buf.resize(self.read_bytes, 0);
        while let Some(span) = rest {
            let now = span.first(self.buf.len() as u32);
            let part = &mut self.buf[..now.len() as usize];
            open_files.read(torrent, torrent.geometry.offset(now), part)?;
            hasher.update(part);
            rest = span.after(now.len());
        }
        Ok(hasher.finish())
    }

    fn digest_of_zeros(&mut self, len: u32, mut hasher: PieceHasher) -> PieceDigest {
        if let Some((known_len, digest)) = self.zeros {
            if known_len == len {
                return digest;
            }
        }
        self.buf.clear();
        self.buf.resize(self.read_bytes, 0);
        let mut left = len as usize;
        while left > 0 {
            let n = left.min(self.buf.len());
            hasher.update(&self.buf[..n]);
            left -= n;
        }
        let digest = hasher.finish();
        self.zeros = Some((len, digest));
        digest
    }
}

/// Whether no byte of the piece was ever written, as far as the file system reports.
fn is_hole(
    torrent: &Arc<TorrentFiles>,
    open_files: &mut OpenFiles,
    piece: PieceIndex,
) -> Result<bool, DiskFault> {
    if !torrent.fs.sparse() {
        return Ok(false);
    }
    for span in torrent.file_spans(torrent.geometry.whole(piece)).filter(|span| !span.pad) {
        if span.file == torrent.parts_index() {
            return Ok(false);
        }
        let fd = open_files.get(torrent, span.file, false)?;
        match rustix::fs::seek(&**fd, SeekFrom::Data(span.at)) {
            Ok(data) if data < span.at + span.len => return Ok(false),
            // ENXIO: there is no data behind this offset.
            Ok(_) | Err(Errno::NXIO) => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}
