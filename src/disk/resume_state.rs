//! What the home worker of an open torrent keeps for its checkpoints: the record, the stamps, the lock of the
//! content, and the files that are still too long. It renames the files that are complete.

use super::content_lock::ContentLock;
use super::fault::{DiskFault, FaultKind, Operation};
use super::limits;
use super::open_files::OpenFiles;
use super::resume::RecordFile;
use super::stamp::{FileStamp, StampTable};
use super::torrent_files::TorrentFiles;
use crate::units::Bitfield;
use rustix::fs::{FileType, Stat};
use rustix::io::retry_on_intr;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The record of an open torrent, as its home worker keeps it.
pub(super) struct ResumeState {
    pub torrent: Arc<TorrentFiles>,
    pub record: Option<RecordFile>,
    pub stamps: StampTable,
    pub lock: ContentLock,
    pub wanted: Option<Vec<bool>>,
    /// Files that are longer than in the torrent.
    pub too_long: Vec<usize>,
}

impl ResumeState {
    /// Whether each file is wanted, from now on. Fails if more files are wanted than before and another torrent
    /// uses the content.
    pub fn set_wanted(&mut self, wanted: Vec<bool>, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let more = wanted.iter().enumerate().any(|(file, wanted)| *wanted && !self.wants(file));
        self.wanted = Some(wanted);
        if more { self.lock.make_exclusive(&self.torrent, open_files) } else { Ok(()) }
    }

    /// Cuts the files that are longer than in the torrent and whose pieces are all among these.
    pub fn cut_long_files(&mut self, have: &Bitfield) -> Result<(), DiskFault> {
        let torrent = self.torrent.clone();
        let is_good = |file: usize| {
            let (start, end) = torrent.layout.range(file);
            torrent.geometry.pieces_of(start, end).all(|p| have.has(p))
        };
        let (due, later): (Vec<usize>, Vec<usize>) = self.too_long.iter().partition(|file| is_good(**file));
        self.too_long = later;
        for file in due {
            let fault = |e| torrent.fault(Operation::Create, file, e);
            let opened = torrent.dir.open_or_create(&torrent.path(file))?;
            let length = torrent.layout.file(file).length;
            if opened.size > length {
                retry_on_intr(|| rustix::fs::ftruncate(&opened.fd, length)).map_err(fault)?;
            }
            let stat = rustix::fs::fstat(&opened.fd).map_err(fault)?;
            self.stamps.replace(file, Some(FileStamp::of(&stat)));
        }
        Ok(())
    }

    /// Renames the files that these pieces complete from their part names; the pieces are synced. A file whose
    /// name is taken keeps its part name, which is a fault once nothing is missing. Nothing is renamed while
    /// another torrent reads the content.
    pub fn rename_complete(&self, have: &Bitfield) -> Result<(), DiskFault> {
        if !self.lock.is_exclusive() {
            return Ok(());
        }
        let mut first_fault = None;
        let mut dirs = BTreeSet::new();
        for file in self.complete_parts(have) {
            match self.torrent.finish_name(file) {
                Ok(()) => {
                    dirs.insert(self.torrent.path(file).parent().unwrap_or(Path::new("")).to_path_buf());
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        // Without a record nothing waits for the device.
        for dir in dirs.iter().filter(|_| self.record.is_some()) {
            self.torrent.dir.sync_dir(dir)?;
        }
        match first_fault.filter(|_| self.is_complete(have)) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// The files at their part names whose pieces are all among these.
    pub fn complete_parts<'a>(&'a self, have: &'a Bitfield) -> impl Iterator<Item = usize> + 'a {
        self.own_parts().filter(|file| {
            let (start, end) = self.torrent.layout.range(*file);
            self.torrent.geometry.pieces_of(start, end).all(|p| have.has(p))
        })
    }

    /// This torrent's files at their part names.
    pub fn own_parts(&self) -> impl Iterator<Item = usize> + '_ {
        let torrent = &self.torrent;
        let on_disk = torrent.layout.on_disk().map(|(file, _)| file);
        on_disk.filter(|file| {
            torrent.names.is_part(*file) && torrent.own.has(*file) && !torrent.redirected.has(*file)
        })
    }

    /// Whether no byte of a wanted file is missing.
    pub fn is_complete(&self, have: &Bitfield) -> bool {
        let torrent = &self.torrent;
        torrent
            .layout
            .on_disk()
            .filter(|(file, _)| self.wants(*file))
            .all(|(_, f)| torrent.geometry.pieces_of(f.offset, f.offset + f.length).all(|p| have.has(p)))
    }

    /// Whether this file is wanted.
    pub fn wants(&self, file: usize) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.get(file).copied().unwrap_or(true))
    }

    /// Checks that the wanted files exist and have their length, if these pieces complete them: a file that
    /// was removed or truncated long after it was written is noticed before the torrent is reported complete.
    /// Of very many files an evenly spread part is checked, and the rest at the next start, for the reason
    /// that `stat_many.rs` gives.
    pub fn check_wanted_files(&self, have: &Bitfield) -> Result<(), DiskFault> {
        let torrent = &self.torrent;
        let wanted = || torrent.layout.on_disk().filter(|(file, f)| f.length > 0 && self.wants(*file));
        let mut count = 0;
        for (_, f) in wanted() {
            if !torrent.geometry.pieces_of(f.offset, f.offset + f.length).all(|p| have.has(p)) {
                return Ok(());
            }
            count += 1;
        }
        for (file, f) in wanted().step_by(usize::max(1, count / limits::FINAL_STATS)) {
            let stat = torrent.dir.stat(&torrent.path(file))?;
            let whole = |s: Stat| {
                FileType::from_raw_mode(s.st_mode) == FileType::RegularFile && s.st_size as u64 >= f.length
            };
            if !stat.is_some_and(whole) {
                return Err(torrent.fault_without_errno(FaultKind::Changed, file));
            }
        }
        Ok(())
    }
}
