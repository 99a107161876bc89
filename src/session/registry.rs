//! What the session itself remembers of a torrent: its names, and what its user waits for.

use super::config::AddTorrent;
use super::disk_full::FullDisk;
use super::event::TorrentId;
use super::status::FilePriority;
use crate::disk::{DiskFault, OpenTorrent};
use crate::units::{InfoHash, TorrentKey};
use crate::wire::Metainfo;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a torrent stands with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// Being looked at.
    Opening,
    /// Open.
    Open,
    /// Being let go.
    Closing,
    /// Not open: it never was, or it is let go.
    Closed,
}

/// What is known of a torrent's content.
#[derive(Debug)]
pub enum ContentSource {
    /// How it was opened, for opening it again after a fault.
    Known(OpenTorrent),
    /// Nothing: peers are asked for its metadata. What is to be done when it comes.
    Awaited(Box<AddTorrent>),
    /// Its metadata; the user has to choose among its files.
    Undecided(Box<AddTorrent>, Metainfo),
}

/// One torrent of the session.
#[derive(Debug)]
pub struct RegisteredTorrent {
    /// The user's name for it.
    pub id: TorrentId,
    /// What the disk has to know of it, or who waits for it.
    pub content: ContentSource,
    /// Where it stands with the disk.
    pub disk: DiskState,
    /// It is complete, and the user is to be told once it is durable.
    pub announce_completion: bool,
    /// The user let it rest before it was open.
    pub paused: bool,
    /// The user took it out.
    pub removing: bool,
    /// The fault that paused it; more of the same are not told.
    pub fault: Option<DiskFault>,
    /// Its disk was full, and nothing was verified since.
    pub full: Option<FullDisk>,
    /// It is to be opened again as soon as it is closed.
    pub reopen: bool,
    /// Its content is to be hashed when it is opened the next time, whatever its record says.
    pub recheck: bool,
    /// Pieces checked since it was last opened, and pieces to check.
    pub checking: (u32, u32),
    /// How urgently each file is wanted; `None` until it was set.
    pub priorities: Option<Box<[FilePriority]>>,
    /// Its info hash.
    pub info_hash: InfoHash,
    /// Its name, once known.
    pub name: Option<String>,
    /// The directory that its files are under.
    pub dir: PathBuf,
}

/// All torrents of the session, by the engine's key.
#[derive(Debug, Default)]
pub struct Registry {
    by_key: BTreeMap<TorrentKey, RegisteredTorrent>,
}

impl Registry {
    /// Takes one in.
    pub fn insert(&mut self, key: TorrentKey, entry: RegisteredTorrent) {
        self.by_key.insert(key, entry);
    }

    /// The one with this key.
    pub fn get(&self, key: TorrentKey) -> Option<&RegisteredTorrent> {
        self.by_key.get(&key)
    }

    /// The one with this key.
    pub fn get_mut(&mut self, key: TorrentKey) -> Option<&mut RegisteredTorrent> {
        self.by_key.get_mut(&key)
    }

    /// Forgets one.
    pub fn remove(&mut self, key: TorrentKey) -> Option<RegisteredTorrent> {
        self.by_key.remove(&key)
    }

    /// The engine's key for the user's.
    pub fn key_of(&self, id: TorrentId) -> Option<TorrentKey> {
        self.by_key.iter().find(|(_, e)| e.id == id).map(|(k, _)| *k)
    }

    /// Every key.
    pub fn keys(&self) -> Vec<TorrentKey> {
        self.by_key.keys().copied().collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (TorrentKey, &RegisteredTorrent)> {
        self.by_key.iter().map(|(key, entry)| (*key, entry))
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (TorrentKey, &mut RegisteredTorrent)> {
        self.by_key.iter_mut().map(|(key, entry)| (*key, entry))
    }

    /// Whether the disk has let everything go.
    pub fn all_closed(&self) -> bool {
        self.by_key.values().all(|e| e.disk == DiskState::Closed)
    }
}
