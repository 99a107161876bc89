//! The loop's answers to questions about torrents, and three of its commands: to set the file priorities, to
//! set the trackers, and to check the content again.
//!
//! A question reads the engine and the registry; no peer, tracker or disk is contacted for it.

use super::command::Question;
use super::config::chosen_pieces;
use super::error::CommandError;
use super::event::TorrentId;
use super::event_loop::EventLoop;
use super::registry::{ContentSource, DiskState, RegisteredTorrent};
use super::status::{FilePriority, FileStatus, PieceStatus, SessionStats, TorrentState, TorrentStatus};
use crate::disk::OpenTorrent;
use crate::engine::{PeerStatus, PiecePriority, TrackerStatus};
use crate::units::{Bitfield, TorrentKey};
use crate::wire::FileEntry;

impl EventLoop {
    /// Sends the answer to a question. A caller that no longer waits is ignored.
    pub(super) fn answer(&self, question: Question) {
        match question {
            Question::Torrents(reply) => {
                // Computed once, because they are the same for every torrent.
                let figures = self.session_stats();
                let statuses = self.registry.keys().into_iter().filter_map(|key| self.status(key, figures));
                _ = reply.send(Ok(statuses.collect()));
            }
            Question::Stats(reply) => _ = reply.send(Ok(self.session_stats())),
            Question::Files(id, reply) => _ = reply.send(self.key(id).and_then(|key| self.files(key))),
            Question::Peers(id, reply) => _ = reply.send(self.key(id).map(|key| self.peers(key))),
            Question::Trackers(id, reply) => _ = reply.send(self.key(id).map(|key| self.trackers(key))),
            Question::Pieces(id, reply) => _ = reply.send(self.key(id).and_then(|key| self.pieces(key))),
        }
    }

    /// Returns the engine's key of the torrent with this id.
    pub(super) fn key(&self, id: TorrentId) -> Result<TorrentKey, CommandError> {
        self.registry.key_of(id).ok_or(CommandError::UnknownTorrent)
    }

    /// Returns the status of a torrent; `None` if it is not registered.
    fn status(&self, key: TorrentKey, figures: SessionStats) -> Option<TorrentStatus> {
        let entry = self.registry.get(key)?;
        let progress = self.progress(key, figures)?;
        let state = match (&entry.fault, &entry.content, entry.disk) {
            (Some(fault), ..) if entry.full.is_some() => {
                TorrentState::WaitingForRoom { fault: fault.clone() }
            }
            (Some(fault), ..) => TorrentState::Failed { fault: fault.clone() },
            (None, _, DiskState::Opening) => {
                let (checked, pieces) = entry.checking;
                TorrentState::Checking { checked, pieces }
            }
            _ if entry.paused => TorrentState::Paused,
            (None, ContentSource::Awaited(_), _) => TorrentState::Metadata,
            (None, ContentSource::Undecided(..), _) => TorrentState::Choosing,
            _ if progress.complete => TorrentState::Seeding,
            _ => TorrentState::Downloading,
        };
        Some(TorrentStatus {
            id: entry.id,
            info_hash: entry.info_hash,
            name: entry.name.clone(),
            dir: entry.dir.clone(),
            state,
            progress,
        })
    }

    fn files(&self, key: TorrentKey) -> Result<Vec<FileStatus>, CommandError> {
        let (entry, open, have) = self.open_content(key)?;
        let status = |(index, file): (usize, FileEntry<'_>)| FileStatus {
            index,
            path: file.to_path(),
            length: file.length,
            have_bytes: have_bytes(open, have, &file),
            priority: entry.priority_of(open, index),
            pad: file.attributes.pad,
        };
        Ok(open.files.iter().enumerate().map(status).collect())
    }

    fn peers(&self, key: TorrentKey) -> Vec<PeerStatus> {
        self.engine.peer_stats(self.now, key).unwrap_or_default()
    }

    fn trackers(&self, key: TorrentKey) -> Vec<TrackerStatus> {
        self.engine.tracker_stats(self.now, key).unwrap_or_default()
    }

    fn pieces(&self, key: TorrentKey) -> Result<PieceStatus, CommandError> {
        let (_, open, have) = self.open_content(key)?;
        let partial = self.engine.partial_pieces(key).unwrap_or_default();
        Ok(PieceStatus { piece_len: open.geometry.nominal_piece_len(), have: have.clone(), partial })
    }

    /// Returns a torrent, its content and its verified pieces.
    ///
    /// # Errors
    /// If the torrent is not registered, or its metadata is not known or its files are not chosen yet.
    fn open_content(
        &self,
        key: TorrentKey,
    ) -> Result<(&RegisteredTorrent, &OpenTorrent, &Bitfield), CommandError> {
        let entry = self.registry.get(key).ok_or(CommandError::UnknownTorrent)?;
        let ContentSource::Known(open) = &entry.content else { return Err(CommandError::NoMetadata) };
        let have = self.engine.have(key).ok_or(CommandError::UnknownTorrent)?;
        Ok((entry, open, have))
    }

    // ---- settings -------------------------------------------------------------------------------------------------

    /// Sets the priority of each file, in the torrent's order of files.
    pub(super) fn set_files(
        &mut self,
        id: TorrentId,
        priorities: Vec<FilePriority>,
    ) -> Result<(), CommandError> {
        let key = self.key(id)?;
        let entry = self.registry.get_mut(key).ok_or(CommandError::UnknownTorrent)?;
        let disk_state = entry.disk;
        let ContentSource::Known(open) = &mut entry.content else { return Err(CommandError::NoMetadata) };
        if disk_state != DiskState::Open {
            return Err(CommandError::Checking);
        }
        if priorities.len() != open.files.len() {
            return Err(CommandError::FileCount { given: priorities.len(), files: open.files.len() });
        }
        if open.read_only {
            return Err(CommandError::SeedOnly);
        }
        let wanted_files: Vec<bool> = priorities.iter().map(|p| *p != FilePriority::Skip).collect();
        let wanted_pieces = chosen_pieces(&open.geometry, &open.files, &wanted_files);
        let piece_priorities = piece_priorities(open, &priorities, entry.first_last);
        open.wanted = Some(wanted_files.clone());
        entry.priorities = Some(priorities.into());
        let reopen = self.store.set_wanted(key, wanted_files);
        entry.reopen |= reopen;
        self.engine.set_wanted(self.now, key, wanted_pieces, piece_priorities, &mut self.actions);
        if reopen {
            self.close_torrent(key);
        }
        Ok(())
    }

    /// Reopens a torrent so that its whole content is hashed and its record ignored.
    pub(super) fn recheck(&mut self, id: TorrentId) -> Result<(), CommandError> {
        let key = self.key(id)?;
        let entry = self.registry.get_mut(key).ok_or(CommandError::UnknownTorrent)?;
        if !matches!(entry.content, ContentSource::Known(_)) {
            return Err(CommandError::NoMetadata);
        }
        match entry.disk {
            DiskState::Opening => return Err(CommandError::Checking),
            DiskState::Closed => {
                entry.recheck = true;
                self.reopen_torrent(key);
            }
            // With `reopen` set, the torrent is reopened as soon as it is closed.
            DiskState::Open => {
                entry.recheck = true;
                entry.reopen = true;
                self.close_torrent(key);
            }
            DiskState::Closing => {
                entry.recheck = true;
                entry.reopen = true;
            }
        }
        Ok(())
    }

    /// Replaces a torrent's trackers, in tiers.
    pub(super) fn set_trackers(
        &mut self,
        id: TorrentId,
        tiers: Vec<Vec<String>>,
    ) -> Result<(), CommandError> {
        let key = self.key(id)?;
        if let Some(url) =
            tiers.iter().flatten().find(|url| crate::wire::tracker_url(url.as_bytes()).is_none())
        {
            return Err(CommandError::NotATracker(url.clone()));
        }
        tiers.iter().flatten().for_each(|url| self.blocking_pool.trust(url));
        self.engine.set_trackers(self.now, key, tiers, &mut self.actions);
        Ok(())
    }
}

impl RegisteredTorrent {
    /// Returns the priority of the file with this index. Until [`EventLoop::set_files`] sets it, a file is
    /// skipped or normal, as it was chosen when the torrent was added.
    fn priority_of(&self, open: &OpenTorrent, file: usize) -> FilePriority {
        if let Some(priorities) = &self.priorities {
            return priorities.get(file).copied().unwrap_or_default();
        }
        let wanted = open.wanted.as_ref().and_then(|wanted| wanted.get(file).copied());
        if wanted.unwrap_or(true) { FilePriority::Normal } else { FilePriority::Skip }
    }
}

/// Returns the bytes of a file that lie in verified pieces.
fn have_bytes(open: &OpenTorrent, have: &Bitfield, file: &FileEntry<'_>) -> u64 {
    let file_end = file.offset + file.length;
    let verified = open.geometry.pieces_of(file.offset, file_end).filter(|piece| have.has(*piece));
    let bytes_in_file = |piece| -> u64 {
        let piece_start = open.geometry.piece_offset(piece);
        let piece_end = piece_start + u64::from(open.geometry.piece_len(piece));
        piece_end.min(file_end) - piece_start.max(file.offset)
    };
    verified.map(bytes_in_file).sum()
}

/// Returns the priority of each piece: the highest of the files in it, where a skipped file counts as low.
/// With `first_last`, the first and the last piece of a wanted file are high. `None` if no piece is low or
/// high: then all wanted pieces are normal.
fn piece_priorities(
    open: &OpenTorrent,
    files: &[FilePriority],
    first_last: bool,
) -> Option<Box<[PiecePriority]>> {
    if !first_last && !files.iter().any(|p| matches!(p, FilePriority::Low | FilePriority::High)) {
        return None;
    }
    let mut pieces = vec![PiecePriority::Low; open.geometry.pieces() as usize];
    for (file, priority) in open.files.iter().zip(files) {
        let priority = match priority {
            FilePriority::Skip | FilePriority::Low => PiecePriority::Low,
            FilePriority::Normal => PiecePriority::Normal,
            FilePriority::High => PiecePriority::High,
        };
        for piece in open.geometry.pieces_of(file.offset, file.offset + file.length) {
            let highest = &mut pieces[piece.as_usize()];
            *highest = (*highest).max(priority);
        }
    }
    let wanted = open.files.iter().zip(files).filter(|(file, priority)| {
        first_last && !file.attributes.pad && file.length > 0 && **priority != FilePriority::Skip
    });
    for (file, _) in wanted {
        let end = file.offset + file.length;
        let first = open.geometry.pieces_of(file.offset, file.offset + 1);
        for piece in first.chain(open.geometry.pieces_of(end - 1, end)) {
            pieces[piece.as_usize()] = PiecePriority::High;
        }
    }
    Some(pieces.into())
}
