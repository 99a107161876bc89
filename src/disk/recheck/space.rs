//! Room for the missing content: a shortage is found before the first piece arrives, and blocks are reserved.

use super::Recheck;
use crate::disk::api::SpaceShortage;
use crate::disk::fault::{DiskFault, Operation};
use crate::disk::open_files::OpenFiles;
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, retry_on_intr};

/// Bytes of a block of `st_blocks`, whatever the file system's blocks are.
const STAT_BLOCK: u64 = 512;

impl Recheck {
    /// Returns the shortage of space for the missing content, if there is one. Without a shortage it reserves the
    /// blocks if the torrent is opened so.
    ///
    /// # Errors
    /// Blocks are to be reserved and there is too little space, which nothing was taken of then; or a file cannot
    /// be created.
    pub(super) fn provide_space(
        &mut self,
        open_files: &mut OpenFiles,
    ) -> Result<Option<SpaceShortage>, DiskFault> {
        let torrent = self.state.torrent.clone();
        let mut missing = Vec::new();
        let mut needed = 0u64;
        for (file, f) in torrent.layout.on_disk().filter(|(file, _)| self.state.wants(*file)) {
            let bytes = self.missing_bytes(file);
            if bytes == 0 {
                continue;
            }
            let stat = if self.exists(file) { torrent.dir.stat(&torrent.path(file))? } else { None };
            let blocks = stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0));
            // Blocks of the file may be reserved already, or be those of other pieces.
            needed += bytes.min(f.length.saturating_sub(blocks.saturating_mul(STAT_BLOCK)));
            missing.push(file);
        }
        let free = torrent.dir.free_bytes();
        if let Some(free) = free.filter(|free| *free < needed) {
            return match missing.first().filter(|_| self.preallocate) {
                Some(file) => Err(torrent.fault(Operation::Create, *file, Errno::NOSPC)),
                None => Ok(Some(SpaceShortage { needed, free })),
            };
        }
        if self.preallocate {
            self.reserve(&missing, open_files)?;
        }
        Ok(None)
    }

    /// Reserves the blocks of these files.
    fn reserve(&mut self, files: &[usize], open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let torrent = self.state.torrent.clone();
        for &file in files {
            let fd = open_files.get(&torrent, file, true)?;
            // FAT writes zeros to all of them.
            let reserved = if torrent.fs.sparse() {
                let length = torrent.length(file);
                retry_on_intr(|| rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, length))
            } else {
                Err(Errno::OPNOTSUPP)
            };
            match reserved {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    self.notes.add(|| "this file system cannot reserve space for files".into());
                    return Ok(());
                }
                Err(e) => return Err(torrent.fault(Operation::Create, file, e)),
            }
        }
        Ok(())
    }

    /// The bytes of a file that no good piece holds.
    fn missing_bytes(&self, file: usize) -> u64 {
        let torrent = &self.state.torrent;
        let (start, end) = torrent.layout.range(file);
        let missing = torrent.geometry.pieces_of(start, end).filter(|piece| !self.have.has(*piece));
        let inside = missing.map(|piece| {
            let from = torrent.geometry.piece_offset(piece);
            let to = from + u64::from(torrent.geometry.piece_len(piece));
            to.min(end) - from.max(start)
        });
        inside.sum()
    }
}
