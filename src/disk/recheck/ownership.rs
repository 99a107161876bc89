//! Whose files these are: what is written into, what is refused, and which bytes go to the parts file instead.

use super::Recheck;
use crate::disk::aliases::{check_dirs, check_inodes, check_names};
use crate::disk::fault::{DiskFault, FaultKind, PrintablePath};
use crate::disk::open_files::OpenFiles;
use crate::disk::stamp::FileStamp;
use crate::disk::torrent_files::TorrentFiles;
use crate::units::PieceIndex;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Recheck {
    /// Fails if no file of the content exists: its record was written on another device.
    pub(super) fn check_mounted(&self) -> Result<(), DiskFault> {
        let torrent = &self.state.torrent;
        let mut files = torrent.layout.on_disk().filter(|(_, f)| f.length > 0);
        if files.any(|(file, _)| self.exists(file)) {
            return Ok(());
        }
        Err(DiskFault::without_errno(FaultKind::NotMounted, torrent.dir.path()))
    }

    /// Finds out whether bytes of a file lie in slots of the parts file. There they stay while the file is
    /// unwanted, and are moved into the file once it is wanted. True: they were moved. The pieces are hashed
    /// later.
    pub(super) fn find_slots(
        &mut self,
        file: usize,
        now: Option<FileStamp>,
        wanted: bool,
        open_files: &mut OpenFiles,
    ) -> Result<bool, DiskFault> {
        let torrent = self.state.torrent.clone();
        let mut held = Vec::new();
        let (start, end) = torrent.layout.range(file);
        for piece in torrent.geometry.pieces_of(start, end).filter(|p| torrent.parts.found(*p)) {
            let from = torrent.geometry.piece_offset(piece);
            let to = from + u64::from(torrent.geometry.piece_len(piece));
            let range = from.max(start)..to.min(end);
            if open_files.slot_has_bytes(&torrent, piece, range.clone())? {
                held.push((piece, range));
            }
        }
        if torrent.read_only || !wanted {
            if !torrent.own.has(file) && (now.is_none() || !held.is_empty()) {
                torrent.redirected.set(file);
            }
            return Ok(false);
        }
        if held.is_empty() || !torrent.own.has(file) && now.is_some_and(|now| now.size > 0) {
            return Ok(false);
        }
        self.state.lock.make_exclusive(&torrent, open_files)?;
        for (piece, range) in held {
            open_files.move_from_slot(&torrent, piece, range)?;
        }
        let stat = torrent.dir.stat(&torrent.path(file))?;
        self.state.stamps.replace(file, stat.as_ref().map(FileStamp::of));
        Ok(true)
    }

    /// Refuses to write to a file of which nothing shows that it is this torrent's. A file that is too long
    /// needs a good piece of its own. An empty file counts as absent, and so does one that is a single hole.
    pub(super) fn check_ownership(&mut self, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let torrent = self.state.torrent.clone();
        let allow_overwrite = self.allow_overwrite;
        let ours = self.ours || self.has_good_bytes(0, torrent.geometry.total());
        for (file, f) in torrent.layout.on_disk() {
            let beside_part = self.beside_part.contains(&file);
            let exists = self.state.stamps.get(file).filter(|stamp| stamp.size > 0 || beside_part);
            let Some(stamp) = exists else { continue };
            let wanted = self.state.wants(file);
            let (start, end) = torrent.layout.range(file);
            // A file beside the wanted ones may be of another origin even if the torrent has a record.
            if torrent.redirected.has(file) {
                self.state.stamps.replace(file, None);
                continue;
            }
            let own = torrent.own.has(file)
                || if wanted && stamp.size <= f.length && !beside_part {
                    ours
                } else {
                    self.has_good_bytes(start, end)
                };
            let counts_as_own = own
                || allow_overwrite
                || !beside_part && (self.opened_before || is_hole(&torrent, open_files, file)?);
            if counts_as_own {
                torrent.own.set(file);
                if beside_part {
                    let part = torrent.part_path(file);
                    self.notes.add(|| format!("{}: is not used", PrintablePath(&part)));
                }
            } else if torrent.names.is_part(file) && !torrent.names.enabled {
                // Not this torrent's, and not in its way.
                torrent.names.set_part(file, false);
                self.state.stamps.replace(file, None);
                for piece in torrent.geometry.pieces_of(start, end) {
                    self.have.clear(piece);
                }
            } else if wanted {
                return Err(torrent.fault_without_errno(FaultKind::NotOurs, file));
            } else {
                self.state.stamps.replace(file, None);
            }
        }
        Ok(())
    }

    /// Fails if two wanted files are one file, as far as they or their directories exist.
    pub(super) fn check_aliases(&self) -> Result<(), DiskFault> {
        let torrent = &self.state.torrent;
        let wanted = || torrent.layout.on_disk().filter(|(file, _)| self.state.wants(*file));
        let inodes = wanted().filter_map(|(file, f)| {
            let stamp = self.state.stamps.get(file).filter(|_| f.length > 0)?;
            Some((stamp.inode, file))
        });
        check_inodes(torrent, inodes)?;
        check_dirs(torrent, wanted().map(|(file, _)| file))
    }

    /// Redirects the unwanted files that are not this torrent's to the parts file, and gives a slot to each
    /// piece that such a file shares with a wanted one.
    pub(super) fn assign_slots(&mut self, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let torrent = self.state.torrent.clone();
        let mut needed = BTreeSet::new();
        for (file, _) in torrent.layout.on_disk().filter(|(_, f)| f.length > 0) {
            if self.state.wants(file) || torrent.own.has(file) {
                continue;
            }
            torrent.redirected.set(file);
            let (start, end) = torrent.layout.range(file);
            let mut pieces = torrent.geometry.pieces_of(start, end);
            needed.extend(pieces.next());
            needed.extend(torrent.geometry.pieces_of(end - 1, end));
        }
        let is_shared = |piece: &PieceIndex| {
            let spans = torrent.layout.file_spans(
                torrent.geometry.piece_offset(*piece),
                u64::from(torrent.geometry.piece_len(*piece)),
            );
            spans.into_iter().any(|span| !span.pad && !torrent.redirected.has(span.file))
        };
        needed.retain(|piece| is_shared(piece) || torrent.parts.found(*piece) && self.have.has(*piece));
        let freed = torrent.parts.assign(&needed);
        let unused =
            torrent.parts.existed() && !torrent.parts.pieces_found().any(|piece| needed.contains(&piece));
        if !freed.is_empty() || unused {
            open_files.sync(&torrent)?;
            open_files.free_slots(&torrent, &freed, unused)?;
        }
        Ok(())
    }

    /// Whether a good piece holds bytes of this range and is not all zeros: zeros may lie in any file.
    fn has_good_bytes(&mut self, start: u64, end: u64) -> bool {
        let torrent = self.state.torrent.clone();
        let good = torrent.geometry.pieces_of(start, end).filter(|piece| self.have.has(*piece));
        good.into_iter().any(|piece| !self.checker.expects_zeros(&torrent, piece))
    }

    /// Locks the content for writing, unless nothing is missing. Creates the empty files, and cuts files that
    /// are too long.
    pub(super) fn prepare_files(&mut self, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let torrent = self.state.torrent.clone();
        let creates = self.missing_files().next().is_some();
        let wanted_too_long: Vec<usize> =
            self.state.too_long.iter().copied().filter(|file| self.state.wants(*file)).collect();
        self.state.too_long = wanted_too_long;
        let renames = self.state.own_parts().next().is_some()
            && (!torrent.names.enabled || self.state.complete_parts(&self.have).next().is_some());
        let complete = self.state.is_complete(&self.have) && self.state.too_long.is_empty() && !creates;
        if complete && !renames {
            self.state.lock.share();
            return Ok(());
        }
        match self.state.lock.make_exclusive(&torrent, open_files) {
            Err(fault) if complete && matches!(fault.kind, FaultKind::Held | FaultKind::Locked) => {
                self.notes
                    .add(|| "another torrent uses the content, so complete files are not renamed yet".into());
                return Ok(());
            }
            locked => locked?,
        }
        for file in &self.linked {
            let (start, end) = torrent.layout.range(*file);
            if !torrent.geometry.pieces_of(start, end).all(|p| self.have.has(p)) {
                self.state.lock.add_linked(&torrent, *file)?;
            }
        }
        let wanted = torrent.layout.on_disk().map(|(file, _)| file).filter(|file| self.state.wants(*file));
        check_names(&torrent, open_files, wanted)?;
        self.create_empty_files(open_files)?;
        for file in &self.state.too_long {
            let size = self.state.stamps.get(*file).map_or(0, |stamp| stamp.size);
            let more = size - torrent.layout.file(*file).length;
            let path = torrent.path(*file);
            self.notes.add(|| {
                let path = PrintablePath(&path);
                format!("{path}: is longer than in the torrent; the last {more} bytes are cut off once its pieces are verified")
            });
        }
        self.state.cut_long_files(&self.have)?;
        if renames {
            self.rename_parts(open_files)?;
        }
        Ok(())
    }

    /// Renames the files that an earlier run left at their part names: the complete ones, and without part names
    /// the others, too.
    fn rename_parts(&mut self, open_files: &mut OpenFiles) -> Result<(), DiskFault> {
        let torrent = self.state.torrent.clone();
        if !torrent.names.enabled {
            let unfinished: Vec<usize> = self.state.own_parts().collect();
            for file in unfinished {
                torrent.finish_name(file)?;
            }
            return Ok(());
        }
        // The pieces that were hashed just now may be in the page cache only.
        open_files.sync(&torrent)?;
        self.state.rename_complete(&self.have)
    }
}

/// Fails if the name of the content begins with a dot: in a home directory that is a name of settings.
pub(super) fn check_hidden(torrent: &TorrentFiles) -> Result<(), DiskFault> {
    match torrent.layout.on_disk().find(|(_, f)| f.path_text().starts_with('.')) {
        Some((file, _)) => Err(torrent.fault_without_errno(FaultKind::Hidden, file)),
        None => Ok(()),
    }
}

/// Whether the file has no data, as far as its file system reports.
fn is_hole(torrent: &Arc<TorrentFiles>, open_files: &mut OpenFiles, file: usize) -> Result<bool, DiskFault> {
    if !torrent.fs.sparse() {
        return Ok(false);
    }
    let fd = open_files.get(torrent, file, false)?;
    Ok(matches!(rustix::fs::seek(&**fd, SeekFrom::Data(0)), Err(Errno::NXIO)))
}
