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
use super::selected::SelectedFiles;
use super::troubles::Troubles;
use crate::session::{Event, PortMapping, Progress, SlowReason, SpaceShortage, TorrentId};
use crate::units::Bitfield;
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
    /// Whether every wanted piece was there when the content was opened first.
    complete_at_start: Option<bool>,
    finished: bool,
    /// The selected files, unless all are.
    selected: Option<SelectedFiles>,
    /// When the content was checked and the torrent started.
    opened_at: Option<Instant>,
    troubles: Troubles,
    /// Troubles that were returned to the caller, see [`MOST_TROUBLES`].
    troubles_told: usize,
}

/// Most sentences about the troubles of one torrent.
const MOST_TROUBLES: usize = 5;
/// How long a row says where its download resumes.
const RESUME_SHOWN: Duration = Duration::from_secs(10);

/// Effect of an event that the caller has to handle. Numbers are indices of rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing beyond the updated rows.
    None,
    /// The progress report of this torrent, due once a second.
    Second(usize),
    /// The torrent's content is checked and it starts; with lines for stderr. `again`: it waited for free disk
    /// space.
    Opened { row: usize, notes: Vec<String>, space: Option<SpaceShortage>, again: bool },
    /// The sentence about the torrent's trackers and given peers has changed.
    Trouble(usize),
    /// Every wanted piece is verified and durable.
    Completed(usize),
    /// A magnet link's metadata has arrived.
    Metadata(usize),
    /// The torrent failed.
    Failed(usize),
    /// The torrent's disk is full, and the torrent waits for free space; with the sentence about it.
    DiskFull(usize, String),
    /// The router opened the listening port to peers outside, or refused to.
    PortMapping(PortMapping),
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
    begun: Instant,
    /// When payload last arrived or a check last made progress.
    last_progress_at: Instant,
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
            begun: now,
            last_progress_at: now,
        }
    }

    /// Adds a torrent that was added to the session, with its metadata if known. Torrents are added in
    /// order of their ids.
    pub(crate) fn add(&mut self, id: TorrentId, metainfo: Option<Metainfo>, row: Row, troubles: Troubles) {
        debug_assert!(
            self.torrents.last().is_none_or(|last| last.id < id),
            "torrents are added in order of their ids"
        );
        self.rows.push(Row { trouble: troubles.sentence(), ..row });
        self.torrents.push(TableEntry {
            id,
            failure: None,
            disk_full: None,
            metainfo,
            complete_since: None,
            complete_at_start: None,
            finished: false,
            selected: None,
            opened_at: None,
            troubles,
            troubles_told: 0,
        });
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
            Event::Opened { torrent, have, have_bytes, pieces, complete, notes, space } => {
                self.find(torrent).map_or(Change::None, |i| {
                    // Opening the torrent again after a full disk is no progress.
                    let again = self.torrents[i].disk_full.take().is_some();
                    if !again {
                        self.last_progress_at = now;
                    }
                    self.torrents[i].opened_at = Some(now);
                    self.torrents[i].complete_at_start.get_or_insert(complete);
                    self.rows[i].slow_reason = None;
                    self.rows[i].phase =
                        if self.seed_only { DisplayPhase::Seeding } else { DisplayPhase::Downloading };
                    self.rows[i].pieces_have = have;
                    self.rows[i].pieces = pieces;
                    if self.seed_only {
                        // The time of a seeding goal starts now, even if pieces are missing.
                        self.torrents[i].complete_since.get_or_insert(now);
                    }
                    if !self.seed_only && !again {
                        self.resume_at(i, have_bytes);
                    }
                    Change::Opened { row: i, notes, space, again }
                })
            }
            Event::Metadata { torrent, metainfo } => self.find(torrent).map_or(Change::None, |i| {
                self.last_progress_at = now;
                let trouble = self.rows[i].trouble.take();
                let trouble_words = self.rows[i].trouble_words.take();
                let phase = DisplayPhase::Starting;
                self.rows[i] = Row { phase, trouble, trouble_words, ..Row::of(&metainfo) };
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
                row.took.get_or_insert(now.duration_since(self.begun));
                row.download_rate = 0;
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
            Event::TrackerFailed { torrent, url, error } => {
                log::info!("tracker {}: {error}", origin_without_secrets(url.as_bytes()));
                self.on_answer(torrent, |troubles| troubles.on_tracker(&url, Err(&error)))
            }
            Event::TrackerReplied { torrent, url, peers, warning } => {
                log::info!(
                    "tracker {}: {peers} peers{}",
                    origin_without_secrets(url.as_bytes()),
                    warning.map(|w| format!(" and a warning: {w}")).unwrap_or_default()
                );
                self.on_answer(torrent, |troubles| troubles.on_tracker(&url, Ok(peers)))
            }
            Event::GivenPeerFailed { torrent, addr, error } => {
                log::info!("peer {addr}: {error}");
                self.on_answer(torrent, |troubles| troubles.on_given_peer(addr, &error))
            }
            Event::PeerBanned { addr, .. } => {
                log::info!("{addr} sent data that does not match and is banned");
                Change::None
            }
            Event::Removed { torrent } => {
                if let Some(i) = self.find(torrent) {
                    self.torrents[i].finished = true;
                }
                Change::None
            }
            // In a container and beside many routers this is the normal case.
            Event::PortMapping(mapping @ PortMapping::Silent { .. }) => {
                log::info!("{mapping}");
                Change::None
            }
            Event::PortMapping(mapping) => Change::PortMapping(mapping),
            Event::Scraped { .. } | Event::ScrapeDone { .. } | Event::Missed { .. } => Change::None,
            Event::Died { reason } => Change::Died(reason),
        }
    }

    /// Records the answer of a tracker or a peer.
    fn on_answer(&mut self, id: TorrentId, record: impl FnOnce(&mut Troubles)) -> Change {
        let Some(i) = self.find(id) else { return Change::None };
        let entry = &mut self.torrents[i];
        record(&mut entry.troubles);
        let before = std::mem::replace(&mut self.rows[i].trouble, entry.troubles.sentence());
        self.rows[i].trouble_words = entry.troubles.words();
        let row = &self.rows[i];
        if row.shown_trouble().is_none() || before == row.trouble || entry.troubles_told == MOST_TROUBLES {
            return Change::None;
        }
        entry.troubles_told += 1;
        Change::Trouble(i)
    }

    /// Sets which files are selected, unless all are; `have` are the verified pieces.
    pub(crate) fn select(&mut self, i: usize, selected: Option<SelectedFiles>, have: &Bitfield) {
        let whole = self.torrents[i].metainfo.as_ref().map(|metainfo| metainfo.geometry().total());
        if let (Some(files), Some(whole)) = (&selected, whole) {
            let has_resumed = self.rows[i].resumed_bytes > 0;
            self.rows[i].wanted_bytes = files.bytes();
            self.rows[i].selected_of = Some(whole);
            self.resume_at(i, if has_resumed { files.bytes_in(have) } else { 0 });
        }
        self.torrents[i].selected = selected;
    }

    /// Returns whether only some files of the torrent are selected; its progress then needs
    /// [`count_selected`](TorrentTable::count_selected).
    pub(crate) fn is_selection(&self, i: usize) -> bool {
        self.torrents[i].selected.is_some() && self.torrents[i].complete_since.is_none()
    }

    /// Counts the bytes of the selected files in the verified pieces.
    pub(crate) fn count_selected(&mut self, i: usize, have: &Bitfield) {
        if let Some(selected) = &self.torrents[i].selected {
            self.rows[i].have_bytes = selected.bytes_in(have);
        }
    }

    /// Sets how much of the torrent is verified at its start.
    fn resume_at(&mut self, i: usize, have_bytes: u64) {
        let row = &mut self.rows[i];
        row.have_bytes = have_bytes;
        row.resumed_bytes = have_bytes;
        row.has_just_resumed = have_bytes > 0 && have_bytes < row.wanted_bytes;
    }

    fn on_progress(&mut self, i: usize, p: &Progress, now: Instant) {
        let row = &mut self.rows[i];
        if p.downloaded > row.downloaded {
            self.last_progress_at = now;
        }
        row.dht_nodes = p.dht_nodes;
        let opened_at = self.torrents[i].opened_at;
        row.has_just_resumed &= opened_at.is_some_and(|at| now.duration_since(at) < RESUME_SHOWN);
        if row.phase == DisplayPhase::Metadata {
            row.peers = p.peers;
            row.slow_reason = p.slow.map(slow_reason);
            row.peers_by_origin = p.peers_by_origin;
            return;
        }
        if !self.seed_only && self.torrents[i].selected.is_none() {
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
                self.rows[i].clear_traffic();
                sources.push(i);
            }
        }
        sources
    }

    /// Marks a torrent as failed and finished.
    pub(crate) fn fail(&mut self, i: usize, failure: Failure) {
        self.rows[i].phase = DisplayPhase::Failed;
        self.rows[i].clear_traffic();
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

    /// Returns whether the torrent's last wanted piece was downloaded in this run.
    pub(crate) fn completed_in_this_run(&self, i: usize) -> bool {
        self.torrents[i].complete_since.is_some() && self.torrents[i].complete_at_start == Some(false)
    }

    /// Returns the torrent's failure, if it failed.
    pub(crate) fn failure(&self, i: usize) -> Option<&Failure> {
        self.torrents[i].failure.as_ref()
    }

    /// Returns the first torrent that failed or is not complete.
    pub(crate) fn first_bad(&self) -> Option<usize> {
        self.torrents.iter().position(|t| t.failure.is_some() || t.complete_since.is_none())
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
