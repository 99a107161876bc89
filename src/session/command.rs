//! The commands and questions that the handle sends to the loop.

use super::config::AddTorrent;
use super::error::CommandError;
use super::event::TorrentId;
use super::status::{FilePriority, FileStatus, PieceStatus, SessionStats, TorrentStatus};
use crate::engine::{PeerStatus, TrackerStatus};
use crate::wire::Metainfo;
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// The channel for the reply to a command or question. Sending fails if the caller has stopped waiting.
pub type Reply<T> = SyncSender<Result<T, CommandError>>;

/// A question about the session's torrents.
#[derive(Debug)]
pub enum Question {
    /// Every torrent.
    Torrents(Reply<Vec<TorrentStatus>>),
    /// Figures of the whole session.
    Stats(Reply<SessionStats>),
    /// A torrent's files.
    Files(TorrentId, Reply<Vec<FileStatus>>),
    /// A torrent's peers.
    Peers(TorrentId, Reply<Vec<PeerStatus>>),
    /// A torrent's trackers.
    Trackers(TorrentId, Reply<Vec<TrackerStatus>>),
    /// A torrent's pieces.
    Pieces(TorrentId, Reply<PieceStatus>),
}

/// A command or question of the handle.
#[derive(Debug)]
pub enum Command {
    /// Add a torrent. The third field is metadata of a magnet link that an earlier run saved.
    Add(TorrentId, Box<AddTorrent>, Option<Metainfo>, Reply<()>),
    /// Choose the files of a magnet link's torrent.
    Choose(TorrentId, Option<Vec<usize>>, Reply<()>),
    /// Remove a torrent.
    Remove(TorrentId, Reply<()>),
    /// Pause a torrent.
    Pause(TorrentId, Reply<()>),
    /// Resume a torrent.
    Resume(TorrentId, Reply<()>),
    /// Scrape a torrent.
    Scrape(TorrentId, Reply<()>),
    /// Change a setting of a torrent.
    Set(TorrentId, Setting, Reply<()>),
    /// Answer a question.
    Ask(Question),
    /// Set the session's limits, bytes a second.
    SetLimits {
        /// The limit of all downloads together; `None` is unlimited.
        download: Option<u64>,
        /// The limit of all uploads together; `None` is unlimited.
        upload: Option<u64>,
        /// The channel for the reply.
        reply: Reply<()>,
    },
    /// Stop the session.
    Stop {
        /// The time for writing records and announcing to trackers.
        within: Duration,
    },
}

/// A setting of one torrent.
#[derive(Debug)]
pub enum Setting {
    /// Limits, bytes a second.
    Limits { download: Option<u64>, upload: Option<u64> },
    /// The priority of each file.
    Files(Vec<FilePriority>),
    /// Whether pieces are requested in order rather than rarest first.
    Sequential(bool),
    /// Announce URLs, in tiers.
    Trackers(Vec<Vec<String>>),
    /// Addresses of peers to add.
    Peers(Vec<SocketAddr>),
    /// Hash the content again.
    Recheck,
    /// Announce as soon as the trackers allow.
    Reannounce,
}
