//! Questions about torrents and their settings: answered on the loop thread from what the engine and the
//! registry know.

use super::command::Question;
use super::config::chosen_pieces;
use super::error::CommandError;
use super::event::TorrentId;
use super::event_loop::EventLoop;
use super::registry::{ContentSource, DiskState, RegisteredTorrent};
use super::status::{FilePriority, FileStatus, PieceStatus, SessionFigures, TorrentState, TorrentStatus};
use crate::disk::OpenTorrent;
use crate::engine::{PeerStats, PiecePriority, TrackerStats};
use crate::units::{Bitfield, TorrentKey};
use crate::wire::FileEntry;

impl EventLoop {
    pub(super) fn answer(&self, question: Question) {
        // Sending fails if the caller has stopped waiting.
        match question {
            Question::Torrents(reply) => {
                // The figures that all torrents share are read once.
                let figures = self.session_figures();
                let statuses = self.registry.keys().into_iter().filter_map(|key| self.status(key, figures));
                _ = reply.send(Ok(statuses.collect()));
            }
            Question::Files(id, reply) => _ = reply.send(self.key(id).and_then(|key| self.files(key))),
            Question::Peers(id, reply) => _ = reply.send(self.key(id).map(|key| self.peers(key))),
            Question::Trackers(id, reply) => _ = reply.send(self.key(id).map(|key| self.trackers(key))),
            Question::Pieces(id, reply) => _ = reply.send(self.key(id).and_then(|key| self.pieces(key))),
        }
    }

    /// Returns the engine's key of a torrent.
    pub(super) fn key(&self, id: TorrentId) -> Result<TorrentKey, CommandError> {
        self.registry.key_of(id).ok_or(CommandError::UnknownTorrent)
    }

    fn status(&self, key: TorrentKey, figures: SessionFigures) -> Option<TorrentStatus> {
        let entry = self.registry.get(key)?;
        let progress = self.progress(key, figures)?;
        let state = match (&entry.content, entry.disk) {
            _ if entry.full.is_some() && entry.fault.is_some() => {
                TorrentState::WaitingForRoom { fault: entry.fault.clone()? }
            }
            _ if entry.fault.is_some() => TorrentState::Failed { fault: entry.fault.clone()? },
            (_, DiskState::Opening) => {
                let (checked, pieces) = entry.checking;
                TorrentState::Checking { checked, pieces }
            }
            _ if entry.paused => TorrentState::Paused,
            (ContentSource::Awaited(_), _) => TorrentState::Metadata,
            (ContentSource::Undecided(..), _) => TorrentState::Choosing,
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

    fn peers(&self, key: TorrentKey) -> Vec<PeerStats> {
        self.engine.peer_stats(self.now, key).unwrap_or_default()
    }

    fn trackers(&self, key: TorrentKey) -> Vec<TrackerStats> {
        self.engine.tracker_stats(self.now, key).unwrap_or_default()
    }

    fn pieces(&self, key: TorrentKey) -> Result<PieceStatus, CommandError> {
        let (_, open, have) = self.open_content(key)?;
        let partial = self.engine.partial_pieces(key).unwrap_or_default();
        Ok(PieceStatus { piece_len: open.geometry.nominal_piece_len(), have: have.clone(), partial })
    }

    /// Returns a torrent with known files, and its verified pieces.
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

    /// Sets the priority of each file.
    pub(super) fn set_files(
        &mut self,
        id: TorrentId,
        priorities: Vec<FilePriority>,
    ) -> Result<(), CommandError> {
        let key = self.key(id)?;
        let entry = self.registry.get_mut(key).ok_or(CommandError::UnknownTorrent)?;
        let disk = entry.disk;
        let ContentSource::Known(open) = &mut entry.content else { return Err(CommandError::NoMetadata) };
        if disk != DiskState::Open {
            return Err(CommandError::Checking);
        }
        if priorities.len() != open.files.len() {
            return Err(CommandError::FileCount { given: priorities.len(), files: open.files.len() });
        }
        if open.read_only {
            return Err(CommandError::SeedOnly);
        }
        let chosen: Vec<bool> = priorities.iter().map(|p| *p != FilePriority::Skip).collect();
        let wanted = chosen_pieces(&open.geometry, &open.files, &chosen);
        let pieces = piece_priorities(open, &priorities);
        open.wanted = Some(chosen.clone());
        entry.priorities = Some(priorities.into());
        self.store.set_wanted(key, chosen);
        self.engine.set_wanted(self.now, key, wanted, pieces, &mut self.actions);
        Ok(())
    }

    /// Hashes a torrent's content again and ignores its record.
    pub(super) fn recheck(&mut self, id: TorrentId) -> Result<(), CommandError> {
        let key = self.key(id)?;
        let entry = self.registry.get_mut(key).ok_or(CommandError::UnknownTorrent)?;
        if !matches!(entry.content, ContentSource::Known(_)) {
            return Err(CommandError::NoMetadata);
        }
        let disk = entry.disk;
        if disk == DiskState::Opening {
            return Err(CommandError::Checking);
        }
        entry.recheck = true;
        entry.reopen = disk != DiskState::Closed;
        match disk {
            DiskState::Closed => self.reopen_torrent(key),
            DiskState::Open => self.close_torrent(key),
            DiskState::Opening | DiskState::Closing => {}
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
        self.engine.set_trackers(self.now, key, tiers, &mut self.actions);
        Ok(())
    }
}

impl RegisteredTorrent {
    fn priority_of(&self, open: &OpenTorrent, file: usize) -> FilePriority {
        match (&self.priorities, &open.wanted) {
            (Some(priorities), _) => priorities.get(file).copied().unwrap_or_default(),
            (None, Some(wanted)) if !wanted.get(file).copied().unwrap_or(true) => FilePriority::Skip,
            (None, _) => FilePriority::Normal,
        }
    }
}

/// Returns the bytes of a file that lie in verified pieces.
fn have_bytes(open: &OpenTorrent, have: &Bitfield, file: &FileEntry<'_>) -> u64 {
    let end = file.offset + file.length;
    let verified = open.geometry.pieces_of(file.offset, end).filter(|piece| have.has(*piece));
    let inside = |piece| -> u64 {
        let from = open.geometry.piece_offset(piece);
        let to = from + u64::from(open.geometry.piece_len(piece));
        to.min(end) - from.max(file.offset)
    };
    verified.map(inside).sum()
}

/// Returns the priority of each piece, which is the highest of its files; `None` if all are normal.
fn piece_priorities(open: &OpenTorrent, files: &[FilePriority]) -> Option<Box<[PiecePriority]>> {
    let differ = files.iter().any(|p| matches!(p, FilePriority::Low | FilePriority::High));
    if !differ {
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
            let of = &mut pieces[piece.as_usize()];
            *of = (*of).max(priority);
        }
    }
    Some(pieces.into())
}
