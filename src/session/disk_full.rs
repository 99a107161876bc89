//! Full disks: a torrent whose disk is full is paused, and restarted when there is room again.
//!
//! ```text
//!   running ──no space──► waiting ──check──► room ──► opened again, running
//!                            ▲       │ none    │
//!                            └───────┴─────────┘ full again at once: the wait doubles
//! ```
//!
//! A worker checks the free space; no peer or tracker is contacted for it. A quota or an exhausted inode
//! table may refuse writes although the file system reports free space, so each restart that fails again
//! before a piece is verified doubles the wait.

use super::event::Event;
use super::event_loop::EventLoop;
use super::registry::{ContentSource, FullDisk, RegisteredTorrent};
use crate::disk::DiskFault;
use crate::units::{Instant, TorrentKey};
use std::time::Duration;

/// The interval of checks of the free space: short for a user who has just made room, and cheap for the disk.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait after failed restarts.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Bytes that must be free even if fewer are missing, for records and directories.
const ROOM_MIN_BYTES: u64 = 256 * 1024;

impl EventLoop {
    /// Handles a full disk: reports it, and checks the free space from now on. The torrent is paused already.
    pub(super) fn on_full(&mut self, torrent: TorrentKey, fault: DiskFault) {
        let pieces_have = self.engine.stats(self.now, torrent).map_or(0, |s| s.pieces_have);
        let Some(entry) = self.registry.get_mut(torrent) else { return };
        let repeated = entry.full.as_ref().filter(|full| pieces_have <= full.pieces_have);
        let backoff = repeated.map_or(SPACE_CHECK_INTERVAL, |full| full.backoff);
        let next = (backoff * 2).min(BACKOFF_MAX);
        entry.full = Some(FullDisk {
            path: fault.path.clone(),
            check_at: self.now + backoff,
            backoff: next,
            pieces_have,
        });
        let id = entry.id;
        self.emit(Event::DiskFull { torrent: id, fault });
    }

    /// Returns when to check the free space next.
    pub(super) fn next_space_check(&self) -> Option<Instant> {
        self.registry.iter().filter_map(|(_, entry)| entry.waits_for_room()).min()
    }

    /// Queries the free space for each waiting torrent whose check is due.
    pub(super) fn check_disk_space(&mut self) {
        let now = self.now;
        for (key, entry) in self.registry.iter_mut() {
            if entry.waits_for_room().is_some_and(|at| at <= now) {
                if let Some(full) = &mut entry.full {
                    full.check_at = now + SPACE_CHECK_INTERVAL;
                    self.store.query_free_space(key, full.path.clone());
                }
            }
        }
    }

    /// Handles the reply of a check: restarts the torrent if there is room for two pieces, or for all missing
    /// bytes.
    pub(super) fn on_space(&mut self, torrent: TorrentKey, bytes: u64) {
        let Some(stats) = self.engine.stats(self.now, torrent) else { return };
        let Some(entry) = self.registry.get(torrent).filter(|entry| entry.waits_for_room().is_some()) else {
            return;
        };
        let ContentSource::Known(content) = &entry.content else { return };
        let missing = stats.wanted_bytes - stats.have_bytes;
        let two_pieces = 2 * u64::from(content.geometry.nominal_piece_len());
        if bytes >= missing.min(two_pieces).max(ROOM_MIN_BYTES) {
            self.restart(torrent);
        }
    }
}

impl RegisteredTorrent {
    /// Returns when to check the free space, if the torrent waits for room.
    fn waits_for_room(&self) -> Option<Instant> {
        let idle = self.fault.is_some() && !self.paused && !self.removing && !self.reopen;
        self.full.as_ref().filter(|_| idle).map(|full| full.check_at)
    }
}
