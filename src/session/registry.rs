//! The session's registry: each torrent's identifiers, its state on disk, and the user's pending requests.

use super::config::AddTorrent;
use super::event::TorrentId;
use super::status::FilePriority;
use crate::disk::{DiskFault, OpenTorrent};
use crate::units::{InfoHash, Instant, TorrentKey};
use crate::wire::Metainfo;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The state of a torrent's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// Its content is being checked.
    Opening,
    /// Open.
    Open,
    /// Being closed.
    Closing,
    /// Not open, or closed again.
    Closed,
}

/// The session's knowledge of a torrent's content.
#[derive(Debug)]
pub enum ContentSource {
    /// The parameters that it was opened with, for reopening after a fault.
    Known(OpenTorrent),
    /// Unknown: the metadata is requested from peers. Holds the parameters for opening it.
    Awaited(Box<AddTorrent>),
    /// Its metadata; the user has to choose among its files.
    Undecided(Box<AddTorrent>, Metainfo),
}

/// A full disk that a torrent waits for.
#[derive(Debug)]
pub struct FullDisk {
    /// The file whose write failed.
    pub path: PathBuf,
    /// When to check next.
    pub check_at: Instant,
    /// The wait after the next fault.
    pub backoff: Duration,
    /// Verified pieces at the time of the fault.
    pub pieces_have: u32,
}

/// One torrent of the session.
#[derive(Debug)]
pub struct RegisteredTorrent {
    /// The user's id of it.
    pub id: TorrentId,
    /// Its content, as far as it is known.
    pub content: ContentSource,
    /// The state of its storage.
    pub disk: DiskState,
    /// It is complete; `Completed` is sent once the content is durable.
    pub announce_completion: bool,
    /// The user paused it before it was open.
    pub paused: bool,
    /// The user removed it.
    pub removing: bool,
    /// The fault that paused it; repetitions are not reported.
    pub fault: Option<DiskFault>,
    /// Its disk was full, and no piece has been verified since.
    pub full: Option<FullDisk>,
    /// It is reopened as soon as it is closed.
    pub reopen: bool,
    /// The next open hashes its content and ignores its record.
    pub recheck: bool,
    /// Pieces checked since it was last opened, and pieces to check.
    pub checking: (u32, u32),
    /// Each file's priority; `None` until it is set.
    pub priorities: Option<Box<[FilePriority]>>,
    /// The first and the last piece of each wanted file are requested first.
    pub first_last: bool,
    /// Its info hash.
    pub info_hash: InfoHash,
    /// Its name, once known.
    pub name: Option<String>,
    /// The directory of its files.
    pub dir: PathBuf,
}

impl RegisteredTorrent {
    /// Returns the priorities that the engine must be given when the torrent is open: those that were set, or
    /// with `first_last` the wanted files. `None` if all wanted pieces are normal, and of a torrent that is only
    /// seeded.
    pub fn priorities_to_restore(&self) -> Option<Vec<FilePriority>> {
        if let Some(priorities) = &self.priorities {
            return Some(priorities.to_vec());
        }
        let ContentSource::Known(open) = &self.content else { return None };
        if !self.first_last || open.read_only {
            return None;
        }
        let is_wanted = |file| open.wanted.as_ref().is_none_or(|wanted| wanted.get(file) == Some(&true));
        let priority = |file| if is_wanted(file) { FilePriority::Normal } else { FilePriority::Skip };
        Some((0..open.files.len()).map(priority).collect())
    }
}

/// All torrents of the session, by the engine's key.
#[derive(Debug, Default)]
pub struct Registry {
    by_key: BTreeMap<TorrentKey, RegisteredTorrent>,
}

impl Registry {
    /// Inserts a torrent.
    pub fn insert(&mut self, key: TorrentKey, entry: RegisteredTorrent) {
        self.by_key.insert(key, entry);
    }

    /// Returns the torrent with this key.
    pub fn get(&self, key: TorrentKey) -> Option<&RegisteredTorrent> {
        self.by_key.get(&key)
    }

    /// Returns the torrent with this key.
    pub fn get_mut(&mut self, key: TorrentKey) -> Option<&mut RegisteredTorrent> {
        self.by_key.get_mut(&key)
    }

    /// Removes a torrent.
    pub fn remove(&mut self, key: TorrentKey) -> Option<RegisteredTorrent> {
        self.by_key.remove(&key)
    }

    /// Returns the id of the torrent with this info hash.
    pub fn id_of(&self, info_hash: InfoHash) -> Option<TorrentId> {
        self.iter().map(|(_, entry)| entry).find(|entry| entry.info_hash == info_hash).map(|entry| entry.id)
    }

    /// Returns the engine's key of the user's id.
    pub fn key_of(&self, id: TorrentId) -> Option<TorrentKey> {
        self.by_key.iter().find(|(_, e)| e.id == id).map(|(k, _)| *k)
    }

    /// Returns every key.
    pub fn keys(&self) -> Vec<TorrentKey> {
        self.by_key.keys().copied().collect()
    }

    /// Iterates over all torrents.
    pub fn iter(&self) -> impl Iterator<Item = (TorrentKey, &RegisteredTorrent)> {
        self.by_key.iter().map(|(key, entry)| (*key, entry))
    }

    /// Iterates over all torrents.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (TorrentKey, &mut RegisteredTorrent)> {
        self.by_key.iter_mut().map(|(key, entry)| (*key, entry))
    }

    /// Returns whether the storage of every torrent is closed.
    pub fn all_closed(&self) -> bool {
        self.by_key.values().all(|e| e.disk == DiskState::Closed)
    }
}
