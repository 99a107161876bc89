//! Full disks: a torrent whose disk is full rests, and goes on by itself when there is room again.
//!
//! ```text
//!   running ──no space──► resting ──look──► room ──► opened again, running
//!                            ▲      │ none    │
//!                            └──────┴─────────┘ full again at once: rests twice as long
//! ```
//!
//! Checking is a question to a worker: no peer is dialed and no tracker is told for it. Since a quota or a
//! table of inodes may refuse what the file system calls free, each try that ends in the same fault before a
//! piece was verified doubles the rest.

use super::event::Event;
use super::event_loop::EventLoop;
use super::registry::{ContentSource, RegisteredTorrent};
use crate::disk::DiskFault;
use crate::units::{Instant, TorrentKey};
use std::path::PathBuf;
use std::time::Duration;

/// How often free space is checked: soon enough for a user that has just made room, and no work for the disk.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The longest rest after tries in vain.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Bytes that must be free even if less is missing: records and directories need some, too.
const ROOM_MIN_BYTES: u64 = 256 * 1024;

/// A full disk that a torrent waits for.
#[derive(Debug)]
pub struct FullDisk {
    /// What could not be written.
    path: PathBuf,
    /// When to check next.
    check_at: Instant,
    /// How long it rests after the next fault.
    backoff: Duration,
    /// Verified pieces when it was found full.
    pieces_have: u32,
}

impl EventLoop {
    /// A torrent's disk is full: it is paused, the user is told, and free space is checked from now on.
    pub(super) fn on_full(&mut self, torrent: TorrentKey, fault: DiskFault) {
        let pieces_have = self.engine.stats(self.now, torrent).map_or(0, |s| s.pieces_have);
        let Some(entry) = self.entries.get_mut(torrent) else { return };
        let in_vain = entry.full.as_ref().filter(|full| pieces_have <= full.pieces_have);
        let backoff = in_vain.map_or(SPACE_CHECK_INTERVAL, |full| full.backoff);
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

    /// When to check free space next.
    pub(super) fn next_space_check(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|(_, entry)| entry.waits_for_room()).min()
    }

    /// Asks how much room there is, for whom it is time.
    pub(super) fn check_disk_space(&mut self) {
        let now = self.now;
        for (key, entry) in self.entries.iter_mut() {
            if entry.waits_for_room().is_some_and(|at| at <= now) {
                if let Some(full) = &mut entry.full {
                    full.check_at = now + SPACE_CHECK_INTERVAL;
                    self.store.query_free_space(key, full.path.clone());
                }
            }
        }
    }

    /// So much room there is. If it is enough for two pieces, or for all that is missing, the torrent goes
    /// on.
    pub(super) fn on_space(&mut self, torrent: TorrentKey, bytes: u64) {
        let Some(stats) = self.engine.stats(self.now, torrent) else { return };
        let Some(entry) = self.entries.get(torrent).filter(|entry| entry.waits_for_room().is_some()) else {
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
    /// When to look for room, if that is what it waits for.
    fn waits_for_room(&self) -> Option<Instant> {
        let idle = self.fault.is_some() && !self.paused && !self.removing && !self.reopen;
        self.full.as_ref().filter(|_| idle).map(|full| full.check_at)
    }
}
