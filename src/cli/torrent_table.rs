//! The torrents of a command, updated from the session's events: rows of the display, failures, and the end.
//!
//! A fold: events and moments go in, [`Change`] and questions come out; nothing is printed and nothing is
//! waited for here. A torrent's way:
//!
//! ```text
//!   (metadata) ──► starting ──► checking ──► downloading ──► complete ──► over (goal reached)
//!        └──────────────┴────────────┴─────────────┴────► failed, over
//! ```

use super::exit::{Exit, Failure};
use super::plan::SeedGoal;
use super::progress::{DisplayPhase, Row};
use crate::session::{Event, Progress, SlowReason, TorrentId};
use crate::wire::Metainfo;
use std::time::{Duration, Instant};

/// One torrent under watch.
#[derive(Debug)]
pub(crate) struct TableEntry {
    pub(crate) id: TorrentId,
    pub(crate) failure: Option<Failure>,
    /// Its disk is full and it waits for room; what to say if it does so in vain.
    disk_full: Option<Failure>,
    /// Its metadata, once known.
    pub(crate) metainfo: Option<Metainfo>,
    complete_since: Option<Instant>,
    finished: bool,
}

/// The change that an event makes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing to tell beyond the rows.
    None,
    /// A second of this torrent is over.
    Second(usize),
    /// Lines for stderr about this torrent.
    Notes(usize, Vec<String>),
    /// Every wanted piece is verified and durable.
    Completed(usize),
    /// A link's metadata is known.
    Metadata(usize),
    /// It failed.
    Failed(usize),
    /// Its disk is full, and it waits for room.
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
    /// When payload last came in or a check moved on.
    last_progress_at: Instant,
    /// What a tracker said last, if it was a complaint.
    pub(crate) tracker_error: Option<String>,
}

impl TorrentTable {
    /// Nothing yet.
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

    /// A torrent that was handed to the session, and what is in it if that is known.
    pub(crate) fn add(&mut self, id: TorrentId, metainfo: Option<Metainfo>, row: Row) {
        debug_assert!(
            self.torrents.last().is_none_or(|last| last.id < id),
            "later torrents have greater names"
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
        // Later ones have greater names.
        self.torrents.binary_search_by_key(&id, |t| t.id).ok()
    }

    /// Takes one event in.
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) -> Change {
        match event {
            Event::Checking { torrent, checked, pieces } => {
                if let Some(i) = self.find(torrent) {
                    self.last_progress_at = now;
                    self.rows[i].phase = DisplayPhase::Checking { checked, pieces };
                }
                Change::None
            }
            Event::Opened { torrent, have, pieces, notes } => self.find(torrent).map_or(Change::None, |i| {
                // Another try after a full disk brings nothing yet.
                if self.torrents[i].disk_full.take().is_none() {
                    self.last_progress_at = now;
                }
                self.rows[i].slow_reason = None;
                self.rows[i].phase =
                    if self.seed_only { DisplayPhase::Seeding } else { DisplayPhase::Downloading };
                (self.rows[i].pieces_have, self.rows[i].pieces) = (have, pieces);
                if self.seed_only {
                    // The clock of a seeding goal starts now, even if something is missing.
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
                (row.have_bytes, row.eta, row.slow_reason) = (row.wanted_bytes, None, None);
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
                log::info!("tracker {url}: {error}");
                self.tracker_error = Some(error);
                Change::None
            }
            Event::TrackerReplied { url, peers, warning, .. } => {
                log::info!(
                    "tracker {url}: {peers} peers{}",
                    warning.map(|w| format!(" and a warning: {w}")).unwrap_or_default()
                );
                self.tracker_error = None;
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
            (row.peers, row.slow_reason) = (p.peers, p.slow.map(slow_reason));
            row.peers_by_origin = p.peers_by_origin;
            return;
        }
        if !self.seed_only {
            // Who only serves wants nothing, but its content has a size.
            (row.wanted_bytes, row.have_bytes) = (p.wanted_bytes, p.have_bytes);
        }
        (row.pieces, row.pieces_have) = (p.pieces, p.pieces_have);
        (row.downloaded, row.uploaded, row.wasted) = (p.downloaded, p.uploaded, p.wasted);
        (row.download_rate, row.upload_rate) = (p.download_rate, p.upload_rate);
        (row.peers, row.seeds, row.peers_by_origin, row.eta) = (p.peers, p.seeds, p.peers_by_origin, p.eta);
        if row.phase == DisplayPhase::Downloading && self.torrents[i].disk_full.is_none() {
            row.slow_reason = p.slow.map(slow_reason);
        }
    }

    /// Torrents whose goal is reached by now and that were not over before.
    pub(crate) fn newly_finished(&mut self, goal: SeedGoal, now: Instant) -> Vec<usize> {
        let mut sources = Vec::new();
        for (i, torrent) in self.torrents.iter_mut().enumerate().filter(|(_, t)| !t.finished) {
            let Some(since) = torrent.complete_since else { continue };
            // `seed` without a goal goes on until it is told to stop.
            let endless = self.seed_only && !goal.is_some();
            if !endless && goal.reached(self.rows[i].ratio(), now.duration_since(since)) {
                torrent.finished = true;
                self.rows[i].phase = DisplayPhase::Done;
                sources.push(i);
            }
        }
        sources
    }

    /// This torrent cannot go on, and why.
    pub(crate) fn fail(&mut self, i: usize, failure: Failure) {
        self.rows[i].phase = DisplayPhase::Failed;
        (self.torrents[i].failure, self.torrents[i].finished) = (Some(failure), true);
    }

    /// Nothing more is wanted of this torrent.
    pub(crate) fn finish(&mut self, i: usize, now: Instant) {
        self.rows[i].phase = DisplayPhase::Done;
        self.torrents[i].complete_since.get_or_insert(now);
        self.torrents[i].finished = true;
    }

    /// Returns the torrent's metadata, if known.
    pub(crate) fn metainfo(&self, i: usize) -> Option<&Metainfo> {
        self.torrents[i].metainfo.as_ref()
    }

    /// The session's name of the torrent.
    pub(crate) fn id(&self, i: usize) -> TorrentId {
        self.torrents[i].id
    }

    /// Whether nothing is left to do.
    pub(crate) fn all_finished(&self) -> bool {
        self.torrents.iter().all(|t| t.finished)
    }

    /// Whether everything wanted is there, whatever is left to seed.
    pub(crate) fn all_complete(&self) -> bool {
        self.torrents.iter().all(|t| t.complete_since.is_some())
    }

    /// How long nothing has come in although something is wanted.
    pub(crate) fn stalled_for(&self, now: Instant) -> Duration {
        let waiting = self.torrents.iter().any(|t| !t.finished && t.complete_since.is_none());
        if waiting { now.duration_since(self.last_progress_at) } else { Duration::ZERO }
    }

    /// Why a torrent waits for room, if one does.
    pub(crate) fn waits_for_room(&self) -> Option<&Failure> {
        self.torrents.iter().find_map(|t| t.disk_full.as_ref().filter(|_| !t.finished))
    }

    /// The first torrent that failed, and why.
    pub(crate) fn first_failure(&self) -> Option<(&Row, &Failure)> {
        self.torrents
            .iter()
            .zip(&self.rows)
            .find_map(|(t, row)| t.failure.as_ref().map(|failure| (row, failure)))
    }
}

/// What the display says of a torrent that waits for room.
const DISK_FULL: &str = "disk full";

/// The word that goes on the display.
fn slow_reason(slow: SlowReason) -> &'static str {
    match slow {
        SlowReason::NoPeers => "no peers",
        SlowReason::NothingToGet => "no peer has the missing pieces",
        SlowReason::Choked => "choked",
        SlowReason::Disk => "disk",
        SlowReason::OwnLimit => "own limit",
    }
}
