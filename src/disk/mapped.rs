//! Mapped storage: payload lands in mapped windows of the file, without a buffer and without a write call.
//!
//! ```text
//!   loop    begin_piece ──► Mapping ──on_mapped──► Mapped ──take_windows──► (hash job, or unmap job)
//!                  └──────► Plain ◄────────────────fall_back──┘  disk fault, closing, or slots exhausted
//!   worker  map_piece: presize, reserve blocks, map, advise, populate       unmap: mark the files unsynced
//! ```
//!
//! The loop's part is [`Mapper`]: the budget of address space and the storage mode of each piece. The
//! worker's part are the functions below it. Invariants: a window never reaches past the end of its file
//! (there the kernel would take the bytes of the last page and drop the rest); a piece that had windows
//! leaves its files unsynced; windows are unmapped by a worker.

use super::fault::{DiskFault, Operation};
use super::layout::FileSpan;
use super::limits;
use super::memory::{FileMap, RawRange};
use super::open_files::{OpenFiles, check_not_truncated};
use super::storage_mode::{ModeChooser, ModeCosts, StorageMode};
use super::torrent_files::TorrentFiles;
use crate::units::{BlockSpan, PieceIndex};
use memmap2::Advice;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A stretch of a file in the address space that only the kernel touches.
#[derive(Debug)]
pub(super) struct Window {
    map: FileMap,
    /// The piece's bytes that it covers.
    begin: u32,
    end: u32,
}

impl Window {
    /// Maps `len` bytes of the file from `at` on, which are the piece's bytes from `begin` on, and makes them
    /// resident.
    fn map(fd: BorrowedFd<'_>, at: u64, len: u32, begin: u32) -> io::Result<Window> {
        let map = FileMap::new(fd, at, len as usize)?;
        let _ = map.advise(Advice::DontFork);
        let _ = map.advise(Advice::DontDump);
        // Without this the kernel reads ahead into large folios, and each first touch of a page walks one of
        // them.
        let _ = map.advise(Advice::Random);
        Ok(Window { map, begin, end: begin + len })
    }

    /// Makes every page resident and writable. Linux before 5.14 answers EINVAL: there the first touch of a
    /// page does it.
    fn populate(&self) -> io::Result<()> {
        match self.map.advise(Advice::PopulateWrite) {
            Err(e) if e.raw_os_error() != Some(libc::EINVAL) => Err(e),
            _ => Ok(()),
        }
    }

    fn covers(&self, begin: u32, end: u32) -> bool {
        begin >= self.begin && end <= self.end && begin < end
    }

    /// The addresses of the piece's bytes `begin..end`, if this window covers them.
    fn range(&self, begin: u32, end: u32) -> Option<RawRange<'_>> {
        self.covers(begin, end)
            .then(|| self.map.range((begin - self.begin) as usize, (end - self.begin) as usize))
    }
}

/// Storage mode of one piece that is being received.
pub(super) enum PieceMode {
    /// Through slots of the buffer pool.
    Plain,
    /// A worker makes windows.
    Mapping { reserved: usize },
    /// Through windows, and through slots where no window covers a block.
    Mapped { windows: Vec<Window>, reserved: usize },
}

impl PieceMode {
    /// Whether a window covers this span.
    pub fn covers(&self, span: BlockSpan) -> bool {
        matches!(self, PieceMode::Mapped { windows, .. } if windows.iter().any(|w| w.covers(span.begin(), span.end())))
    }

    /// The addresses of this span in a window.
    pub fn range(&self, span: BlockSpan) -> Option<RawRange<'_>> {
        let PieceMode::Mapped { windows, .. } = self else { return None };
        windows.iter().find_map(|w| w.range(span.begin(), span.end()))
    }
}

/// The loop's half: which pieces go through windows, and how much address space they take.
#[derive(Debug)]
pub(super) struct Mapper {
    chooser: ModeChooser,
    /// Bytes that all windows together may take.
    budget: usize,
    /// Bytes of windows that are open or being made.
    reserved: usize,
}

impl Mapper {
    /// No window yet.
    pub fn new(mode: StorageMode, budget: usize) -> Mapper {
        Mapper { chooser: ModeChooser::new(mode), budget, reserved: 0 }
    }

    /// Bytes of windows that are open or being made.
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// Sets what new windows may take together; open ones stay.
    pub fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    /// Chooses the way of a piece; `Mapping` reserves address space, and a worker must call [`map_piece`].
    pub fn begin_piece(
        &mut self,
        torrent: &TorrentFiles,
        piece: PieceIndex,
        costs: impl FnOnce() -> ModeCosts,
    ) -> PieceMode {
        let len = torrent.geometry.piece_len(piece) as usize;
        let possible = torrent.fs.maps() && !torrent.read_only && self.reserved + len <= self.budget;
        if possible && self.chooser.choose_mapped(len as u64, costs) {
            self.reserved += len;
            PieceMode::Mapping { reserved: len }
        } else {
            PieceMode::Plain
        }
    }

    /// The worker's reply to [`map_piece`]: the piece goes through its windows, or plain if there are none.
    pub fn on_mapped(
        &mut self,
        mode: &mut PieceMode,
        result: Result<Vec<Window>, DiskFault>,
        costs: impl FnOnce() -> ModeCosts,
    ) -> Result<(), DiskFault> {
        let PieceMode::Mapping { reserved } = *mode else { return Ok(()) };
        let windows = match result {
            Ok(windows) if !windows.is_empty() => {
                *mode = PieceMode::Mapped { windows, reserved };
                return Ok(());
            }
            Ok(_) => Ok(()),
            Err(fault) => Err(fault),
        };
        self.reserved -= reserved;
        *mode = PieceMode::Plain;
        if windows.is_ok() {
            self.chooser.on_refused(costs());
        }
        windows
    }

    /// Gives the piece's share of the budget back; a worker has to unmap the windows.
    pub fn take_windows(&mut self, mode: PieceMode) -> Vec<Window> {
        match mode {
            PieceMode::Mapped { windows, reserved } => {
                self.reserved -= reserved;
                windows
            }
            PieceMode::Mapping { reserved } => {
                self.reserved -= reserved;
                Vec::new()
            }
            PieceMode::Plain => Vec::new(),
        }
    }

    /// Sends the rest of a mapped piece through slots. Returns its windows, for a worker to unmap.
    pub fn fall_back(&mut self, mode: &mut PieceMode) -> Vec<Window> {
        if !matches!(mode, PieceMode::Mapped { .. }) {
            return Vec::new();
        }
        let mapped = std::mem::replace(mode, PieceMode::Plain);
        self.take_windows(mapped)
    }
}

/// Maps a piece as far as windows are worth their cost. No windows at all means that the system refuses to
/// map.
pub(super) fn map_piece(
    open_files: &mut OpenFiles,
    torrent: &Arc<TorrentFiles>,
    piece: PieceIndex,
) -> Result<Vec<Window>, DiskFault> {
    let mut windows = Vec::new();
    let mut begin = 0u32;
    for span in torrent.file_spans(torrent.geometry.whole(piece)) {
        let at = begin;
        let end = begin + span.len as u32;
        begin = end;
        if span.pad || span.file == torrent.parts_index() || span.len < limits::WINDOW_MIN {
            continue;
        }
        let fd = open_files.get(torrent, span.file, true)?.clone();
        open_files.mark_dirty(torrent.key, span.file);
        reserve_blocks(torrent, &fd, span)?;
        check_not_truncated(torrent, span.file, &fd)?;
        let mut done = 0;
        while done < span.len {
            let len = (span.len - done).min(limits::WINDOW_MAX);
            let Ok(window) = Window::map(fd.as_fd(), span.at + done, len as u32, at + done as u32) else {
                return Ok(Vec::new());
            };
            if let Err(e) = window.populate() {
                // EFAULT: the disk cannot give the page. The piece goes plain, and its write reports the
                // reason.
                log::debug!("cannot populate a window of {}: {e}", torrent.full_path(span.file).display());
                return Ok(Vec::new());
            }
            windows.push(window);
            done += len;
        }
    }
    Ok(windows)
}

/// Unmaps the windows of a piece. Bytes may have come through them after the last checkpoint, so its files
/// are unsynced again.
pub(super) fn unmap(
    open_files: &mut OpenFiles,
    torrent: Option<&Arc<TorrentFiles>>,
    piece: PieceIndex,
    windows: Vec<Window>,
) {
    if let Some(torrent) = torrent.filter(|_| !windows.is_empty()) {
        open_files.mark_unsynced(torrent, piece);
    }
    drop(windows);
}

/// Finds out why the kernel could not write to a window: reserving the piece's blocks fails with the true
/// error number. `Ok`: the disk has no fault, and plain writes go on.
pub(super) fn find_fault(
    open_files: &mut OpenFiles,
    torrent: &Arc<TorrentFiles>,
    piece: PieceIndex,
) -> Result<(), DiskFault> {
    let is_file = |span: &FileSpan| !span.pad && span.file != torrent.parts_index();
    for span in torrent.file_spans(torrent.geometry.whole(piece)).filter(is_file) {
        let fd = open_files.get(torrent, span.file, true)?.clone();
        check_not_truncated(torrent, span.file, &fd)?;
        reserve_blocks(torrent, &fd, span)?;
    }
    Ok(())
}

/// Reserves the blocks of a span, so that a full disk is an error number now. A file system without
/// reservation is no fault.
fn reserve_blocks(torrent: &TorrentFiles, fd: &impl AsFd, span: FileSpan) -> Result<(), DiskFault> {
    if !torrent.fs.sparse() {
        return Ok(());
    }
    match rustix::fs::fallocate(fd, FallocateFlags::empty(), span.at, span.len) {
        Ok(()) | Err(Errno::NOTSUP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => Ok(()),
        Err(e) => Err(torrent.fault(Operation::Write, span.file, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_gives_a_range_only_inside_itself() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100_000).unwrap();
        let window = Window::map(file.as_fd(), 5_000, 50_000, 16_384).unwrap();
        window.populate().unwrap();
        assert!(window.range(16_383, 20_000).is_none());
        assert!(window.range(60_000, 66_385).is_none());
        assert!(window.range(20_000, 20_000).is_none());
        assert_eq!(window.range(16_384, 66_384).unwrap().len(), 50_000);
    }
}
