//! Reading and writing the slots of a parts file through a worker's descriptors.

use super::dir::read_exact_at;
use super::fault::{DiskFault, FaultKind, Operation};
use super::limits;
use super::open_files::OpenFiles;
use super::parts_file::HEADER_LEN;
use super::torrent_files::TorrentFiles;
use crate::units::PieceIndex;
use rustix::io::retry_on_intr;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

impl OpenFiles {
    /// Writes the header of the slot that holds the piece of this torrent offset: with every write, so that no
    /// worker has to know whether it is there.
    pub fn write_slot_header(&mut self, torrent: &Arc<TorrentFiles>, offset: u64) -> Result<(), DiskFault> {
        let file = torrent.parts_index();
        let piece = torrent.geometry.pieces_of(offset, offset + 1).next();
        let slot = piece.and_then(|piece| Some((piece, torrent.parts.offset(piece)?)));
        let Some((piece, at)) = slot else {
            // Only a file that was wanted all along is written outside of the slots.
            return Err(torrent.fault_without_errno(FaultKind::Internal, file));
        };
        let header = torrent.parts.header(piece);
        self.write_all(torrent, file, at - HEADER_LEN, &mut [IoSlice::new(&header)])?;
        Ok(())
    }

    /// Moves a range of the torrent's bytes, which lie in one piece, out of the parts file into their file.
    /// Zeros are left in the slot: bytes that are moved twice could overwrite newer ones.
    pub fn move_from_slot(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        piece: PieceIndex,
        range: Range<u64>,
    ) -> Result<(), DiskFault> {
        for_each_chunk(range.clone(), |at, chunk| {
            if self.read_slot(torrent, piece, at, chunk)? {
                self.write(torrent, at, &[chunk])
            } else {
                Ok(())
            }
        })?;
        for span in torrent.layout.file_spans(range.start, 1) {
            let fd = self.get(torrent, span.file, true)?;
            retry_on_intr(|| rustix::fs::fdatasync(&**fd))
                .map_err(|e| torrent.fault(Operation::Sync, span.file, e))?;
        }
        let Some(slot) = torrent.parts.offset(piece) else { return Ok(()) };
        let base = torrent.geometry.piece_offset(piece);
        for_each_chunk(range, |at, zeros| {
            let mut list = [IoSlice::new(zeros)];
            self.write_all(torrent, torrent.parts_index(), slot + (at - base), &mut list).map(|_| ())
        })
    }

    /// Whether the slot of a piece has a byte other than zero in a range of the torrent's bytes.
    pub fn slot_has_bytes(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        piece: PieceIndex,
        range: Range<u64>,
    ) -> Result<bool, DiskFault> {
        let mut found = false;
        for_each_chunk(range, |at, chunk| {
            found =
                found || self.read_slot(torrent, piece, at, chunk)? && chunk.iter().any(|byte| *byte != 0);
            Ok(())
        })?;
        Ok(found)
    }

    /// Reads bytes of a piece from torrent offset `offset` on out of the parts file. False: its slot does not
    /// hold them.
    pub fn read_slot(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        piece: PieceIndex,
        offset: u64,
        into: &mut [u8],
    ) -> Result<bool, DiskFault> {
        let parts = torrent.parts_index();
        let Some(slot) = torrent.parts.offset(piece) else { return Ok(false) };
        let fd = self.get(torrent, parts, false)?;
        match read_exact_at(fd, into, slot + (offset - torrent.geometry.piece_offset(piece))) {
            Ok(()) => Ok(true),
            Err(None) => Ok(false),
            Err(Some(e)) => Err(torrent.fault(Operation::Read, parts, e)),
        }
    }

    /// Frees slots of the parts file; removes the file if none is left in use.
    pub fn free_slots(
        &mut self,
        torrent: &Arc<TorrentFiles>,
        slots: &[u32],
        all: bool,
    ) -> Result<(), DiskFault> {
        let file = torrent.parts_index();
        if all {
            self.close_unsynced(torrent.key, file);
            return torrent.dir.remove_file(torrent.parts.path());
        }
        for slot in slots {
            let header = [0; HEADER_LEN as usize];
            let at = torrent.parts.header_at(*slot);
            self.write_all(torrent, file, at, &mut [IoSlice::new(&header)])?;
        }
        Ok(())
    }
}

/// Calls `f` with the offset and a buffer of zeros for each part of a range of bytes.
pub(super) fn for_each_chunk(
    range: Range<u64>,
    mut f: impl FnMut(u64, &mut [u8]) -> Result<(), DiskFault>,
) -> Result<(), DiskFault> {
    let mut buf = vec![0; (range.end - range.start).min(limits::READ_BYTES as u64) as usize];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(buf.len() as u64);
        let chunk = &mut buf[..len as usize];
        chunk.fill(0);
        f(at, chunk)?;
        at += len;
    }
    Ok(())
}
