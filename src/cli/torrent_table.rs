//! The torrents of a command, updated from the session's events: display rows, failures, and completion.
//!
//! The table takes events and the current time and returns a [`Change`] for the caller to handle; it does not
//! print and does not wait. States of a torrent:
//!
//! ```text
//!   (metadata) ──► starting ──► checking ──► downloading ──► complete ──► finished (goal reached)
//!        └──────────────┴────────────┴─────────────┴────► failed, finished
//! ```

use super::exit::{Exit, Failure};
use super::plan::SeedGoal;
use super::progress::{DisplayPhase, Row};
use crate::session::{Event, Progress, SlowReason, TorrentId};
use crate::wire::{Metainfo, origin_without_secrets};
use std::time::{Duration, Instant};

/// One torrent of the table.
#[derive(Debug)]
pub(crate) struct TableEntry {
    pub(crate) id: TorrentId,
    pub(crate) failure: Option<Failure>,
    /// Set while the torrent waits for free disk space: the failure to report if the command ends before
    /// there is any.
    disk_full: Option<Failure>,
    /// Metadata, once known.
    pub(crate) metainfo: Option<Metainfo>,
    complete_since: Option<Instant>,
    finished: bool,
}

/// Effect of an event that the caller has to handle. Numbers are indices of rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing beyond the updated rows.
    None,
    /// The progress report of this torrent, due once a second.
    Second(usize),
    /// Lines for stderr about this torrent.
    Notes(usize, Vec<String>),
    /// Every wanted piece is verified and durable.
    Completed(usize),
    /// A magnet link's metadata has arrived.
    Metadata(usize),
    /// The torrent failed.
    Failed(usize),
    /// The torrent's disk is full, and the torrent waits for free space; with the sentence about it.
    DiskFull(usize, String),
    /// The session has ended.
    Died(String),
}

/// All torrents of a command.
#[derive(Debug)]
pub(crate) struct TorrentTable {
    torrents: Vec<TableEntry>,
    pub(crate) rows: Vec<Row>,
    seed_only: bool,
    seeding_follows: bool,
    /// When payload last arrived or a check last made progress.
    last_progress_at: Instant,
    /// The last tracker error, if no tracker has replied since.
    pub(crate) tracker_error: Option<String>,
}

impl TorrentTable {
    /// Returns an empty table.
    pub(crate) fn new(seed_only: bool, goal: SeedGoal, now: Instant) -> TorrentTable {
        let seeding_follows = seed_only || goal.is_some();
        TorrentTable {
            torrents: Vec::new(),
            rows: Vec::new(),
            seed_only,
            seeding_follows,
            last_progress_at: now,
            tracker_error: None,
        }
    }

    /// Adds a torrent that was added to the session, with its metadata if known. Torrents are added in
    /// order of their ids.
    pub(crate) fn add(&mut self, id: TorrentId, metainfo: Option<Metainfo>, row: Row) {
        debug_assert!(
            self.torrents.last().is_none_or(|last| last.id < id),
            "torrents are added in order of their ids"
        );
        self.torrents.push(TableEntry {
            id,
            failure: None,
            disk_full: None,
            metainfo,
            complete_since: None,
            finished: false,
        });
        self.rows.push(row);
    }

    fn find(&self, id: TorrentId) -> Option<usize> {
        // `add` keeps the order of ids.
        self.torrents.binary_search_by_key(&id, |t| t.id).ok()
    }

    /// Updates the table with one event.
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) -> Change {
        match event {
            Event::Checking { torrent, checked, pieces } => {
                if let Some(i) = self.find(torrent) {
                    self.last_progress_at = now;
                    self.rows[i].phase = DisplayPhase::Checking { checked, pieces };
                }
                Change::None
            }
            Event::Opened { torrent, have, pieces, notes, .. } => self.find(torrent).map_or(Change::None, |i| {
                // Opening the torrent again after a full disk is no progress.
                if self.torrents[i].disk_full.take().is_none() {
                    self.last_progress_at = now;
                }
                self.rows[i].slow_reason = None;
                self.rows[i].phase =
                    if self.seed_only { DisplayPhase::Seeding } else { DisplayPhase::Downloading };
                self.rows[i].pieces_have = have;
                self.rows[i].pieces = pieces;
                if self.seed_only {
                    // The time of a seeding goal starts now, even if pieces are missing.
                    self.torrents[i].complete_since.get_or_insert(now);
                }
                Change::Notes(i, notes)
            }),
            Event::Metadata { torrent, metainfo } => self.find(torrent).map_or(Change::None, |i| {
                self.last_progress_at = now;
                self.rows[i] = Row { phase: DisplayPhase::Starting, ..Row::of(&metainfo) };
                self.torrents[i].metainfo = Some(metainfo);
                Change::Metadata(i)
            }),
            Event::BadMetadata { torrent, error } => self.find(torrent).map_or(Change::None, |i| {
                self.fail(i, Failure::new(Exit::Torrent, format!("{}: {error}", self.rows[i].name)));
                Change::Failed(i)
            }),
            Event::Progress(progress) => self.find(progress.torrent).map_or(Change::None, |i| {
                self.on_progress(i, &progress, now);
                Change::Second(i)
            }),
            Event::Completed { torrent } => self.find(torrent).map_or(Change::None, |i| {
                let first = self.torrents[i].complete_since.is_none();
                self.torrents[i].complete_since.get_or_insert(now);
                let row = &mut self.rows[i];
                row.have_bytes = row.wanted_bytes;
                row.eta = None;
                row.slow_reason = None;
                row.phase = if self.seeding_follows { DisplayPhase::Seeding } else { DisplayPhase::Done };
                if first && !self.seed_only { Change::Completed(i) } else { Change::None }
            }),
            Event::Failed { torrent, fault } => self.find(torrent).map_or(Change::None, |i| {
                self.fail(i, Failure::new(super::fault_exit(&fault), fault.to_string()));
                self.rows[i].slow_reason = Some("disk");
                Change::Failed(i)
            }),
            Event::DiskFull { torrent, fault } => self.find(torrent).map_or(Change::None, |i| {
                self.rows[i].slow_reason = Some(DISK_FULL);
                self.torrents[i].disk_full = Some(Failure::new(super::fault_exit(&fault), fault.to_string()));
                Change::DiskFull(i, fault.to_string())
            }),
            Event::TrackerFailed { url, error, .. } => {
                log::info!("tracker {}: {error}", origin_without_secrets(url.as_bytes()));
                self.tracker_error = Some(error);
                Change::None
            }
            Event::TrackerReplied { url, peers, warning, .. } => {
                log::info!(
                    "tracker {}: {peers} peers{}",
                    origin_without_secrets(url.as_bytes()),
                    warning.map(|w| format!(" and a warning: {w}")).unwrap_or_default()
                );
                self.tracker_error = None;
                Change::None
            }
            Event::GivenPeerFailed { addr, error, .. } => {
                log::info!("peer {addr}: {error}");
                Change::None
            }
            Event::PeerBanned { addr, .. } => {
                log::info!("{addr} sent data that does not match and is banned");
                Change::None
            }
            Event::Removed { torrent } | Event::Duplicate { torrent } => {
                if let Some(i) = self.find(torrent) {
                    self.torrents[i].finished = true;
                }
                Change::None
            }
            Event::Scraped { .. } | Event::ScrapeDone { .. } | Event::Missed { .. } => Change::None,
            Event::Died { reason } => Change::Died(reason),
        }
    }

    fn on_progress(&mut self, i: usize, p: &Progress, now: Instant) {
        let row = &mut self.rows[i];
        if p.downloaded > row.downloaded {
            self.last_progress_at = now;
        }
        row.dht_nodes = p.dht_nodes;
        if row.phase == DisplayPhase::Metadata {
            row.peers = p.peers;
            row.slow_reason = p.slow.map(slow_reason);
            row.peers_by_origin = p.peers_by_origin;
            return;
        }
        if !self.seed_only {
            // With `seed` no piece is wanted; the row keeps the size of the whole content.
            row.wanted_bytes = p.wanted_bytes;
            row.have_bytes = p.have_bytes;
        }
        row.pieces = p.pieces;
        row.pieces_have = p.pieces_have;
        row.downloaded = p.downloaded;
        row.uploaded = p.uploaded;
        row.total_uploaded = p.total_uploaded;
        row.wasted = p.wasted;
        row.download_rate = p.download_rate;
        row.upload_rate = p.upload_rate;
        row.peers = p.peers;
        row.seeds = p.seeds;
        row.peers_by_origin = p.peers_by_origin;
        row.eta = p.eta;
        if row.phase == DisplayPhase::Downloading && self.torrents[i].disk_full.is_none() {
            row.slow_reason = p.slow.map(slow_reason);
        }
    }

    /// Marks torrents that have reached the goal as finished and returns the newly marked ones.
    pub(crate) fn newly_finished(&mut self, goal: SeedGoal, now: Instant) -> Vec<usize> {
        let mut sources = Vec::new();
        for (i, torrent) in self.torrents.iter_mut().enumerate().filter(|(_, t)| !t.finished) {
            let Some(since) = torrent.complete_since else { continue };
            // `seed` without a goal runs until a signal stops it.
            let endless = self.seed_only && !goal.is_some();
            if !endless && goal.reached(self.rows[i].ratio(), now.duration_since(since)) {
                torrent.finished = true;
                self.rows[i].phase = DisplayPhase::Done;
                sources.push(i);
            }
        }
        sources
    }

    /// Marks a torrent as failed and finished.
    pub(crate) fn fail(&mut self, i: usize, failure: Failure) {
        self.rows[i].phase = DisplayPhase::Failed;
        self.torrents[i].failure = Some(failure);
        self.torrents[i].finished = true;
    }

    /// Marks a torrent as complete and finished.
    pub(crate) fn finish(&mut self, i: usize, now: Instant) {
        self.rows[i].phase = DisplayPhase::Done;
        self.torrents[i].complete_since.get_or_insert(now);
        self.torrents[i].finished = true;
    }

    /// Returns the torrent's metadata, if known.
    pub(crate) fn metainfo(&self, i: usize) -> Option<&Metainfo> {
        self.torrents[i].metainfo.as_ref()
    }

    /// Returns the session's id of the torrent.
    pub(crate) fn id(&self, i: usize) -> TorrentId {
        self.torrents[i].id
    }

    /// Returns whether every torrent is finished.
    pub(crate) fn all_finished(&self) -> bool {
        self.torrents.iter().all(|t| t.finished)
    }

    /// Returns whether every torrent is complete; some may still be seeding.
    pub(crate) fn all_complete(&self) -> bool {
        self.torrents.iter().all(|t| t.complete_since.is_some())
    }

    /// Returns the time without progress, or zero if no torrent is incomplete.
    pub(crate) fn stalled_for(&self, now: Instant) -> Duration {
        let waiting = self.torrents.iter().any(|t| !t.finished && t.complete_since.is_none());
        if waiting { now.duration_since(self.last_progress_at) } else { Duration::ZERO }
    }

    /// Returns the failure of the first torrent that waits for free disk space.
    pub(crate) fn waits_for_room(&self) -> Option<&Failure> {
        self.torrents.iter().find_map(|t| t.disk_full.as_ref().filter(|_| !t.finished))
    }

    /// Returns the first failed torrent and its failure.
    pub(crate) fn first_failure(&self) -> Option<(&Row, &Failure)> {
        self.torrents
            .iter()
            .zip(&self.rows)
            .find_map(|(t, row)| t.failure.as_ref().map(|failure| (row, failure)))
    }
}

/// Display text for a torrent that waits for free disk space.
const DISK_FULL: &str = "disk full";

/// Returns the display text of a reason.
fn slow_reason(slow: SlowReason) -> &'static str {
    match slow {
        SlowReason::NoPeers => "no peers",
        SlowReason::NothingToGet => "no peer has the missing pieces",
        SlowReason::Choked => "choked",
        SlowReason::Disk => "disk",
        SlowReason::OwnLimit => "own limit",
    }
}
