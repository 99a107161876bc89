//! `rill get`, and the run that `rill seed` shares: adds torrents to a session, handles its events, and
//! returns one exit code.
//!
//! ```text
//!   sources ──► torrents, links ──► session ──► events ──► table ──► display
//!                                    │  ▲                    │
//!                                    │  └── files chosen ◄───┤ metadata
//!                                    └──── stop ◄── all finished, signal, time-out, session died
//! ```
//!
//! Errors of the command line and of the sources are found before the session starts; of several sources the
//! good ones are downloaded. The metadata of a magnet link arrives later; the same checks are made then.

use super::display::Display;
use super::exit::{Exit, Failure};
use super::on_complete::Hooks;
use super::peer_names::PeerNames;
use super::plan::Plan;
use super::progress::{DisplayPhase, Row};
use super::selected::SelectedFiles;
use super::signals::StopFlag;
use super::source::{BadSources, LoadedSource, SourceArg};
use super::summary::RunEnd;
use super::torrent_table::{Change, TorrentTable};
use super::troubles::{Troubles, tracker_host};
use super::{args, connections, format, log, out, save_torrent, source};
use crate::session::{FilePriority, FileStatus, Session, StartError, Stopped, TorrentId, info_share};
use crate::units::InfoHash;
use crate::wire::{Magnet, Metainfo};
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest delay before a signal or a time-out is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The end of the session is silent for this long; then a line says what it waits for.
const SILENT_STOP: Duration = Duration::from_millis(300);
/// Time limit of the last records and announces at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `rill get`.
pub(crate) fn run(options: args::Get) -> Result<Exit, Failure> {
    run_plan(Plan::get(options, |name| std::env::var(name).ok())?)
}

/// Runs a plan of `get` or `seed` until it ends.
pub(crate) fn run_plan(plan: Plan) -> Result<Exit, Failure> {
    log::start(plan.style.verbose, plan.style.quiet);
    let mut bad = BadSources::of(plan.sources.len());
    let mut torrents = Vec::new();
    for (place, source) in read_sources(&plan, &mut bad)? {
        match plan.add_request(&source) {
            Ok(request) => torrents.push((place, source, request)),
            Err(failure) => bad.add(place, plan.located(place, failure))?,
        }
    }
    if torrents.is_empty() {
        return Ok(bad.before(usize::MAX).map_or(Exit::Done, |failure| failure.exit));
    }
    let only_named_peers = plan.has_only_named_peers(torrents.iter().map(|(_, source, _)| source));
    if !plan.style.quiet {
        plan.remarks.iter().for_each(out::error);
    }
    // Until here a signal ends the process.
    let second_signal_exit = if plan.seed_only { Exit::Done } else { Exit::Stopped };
    let stop = StopFlag::on_signals(second_signal_exit)
        .map_err(|e| Failure::os(Exit::Other, "cannot catch signals", &e))?;
    let session = Session::start(plan.config.clone()).map_err(start_failure)?;
    let now = Instant::now();
    let mut table = TorrentTable::new(plan.seed_only, plan.goal, now);
    let mut display = Display::new(plan.style, now);
    let (mut places, mut links) = (Vec::new(), Vec::new());
    for (place, source, request) in torrents {
        places.push(place);
        let id = session.add(request).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
        let troubles = known_troubles(&source);
        let (metainfo, row, link) = match source {
            LoadedSource::Torrent(metainfo) => (Some(metainfo.clone()), Row::of(&metainfo), None),
            LoadedSource::Magnet(magnet) => (None, Row::of_link(&magnet), Some(magnet)),
        };
        links.push(link);
        display.announce(&row, metainfo.as_ref().map(files_on_disk));
        table.add(id, metainfo, row, troubles);
    }
    let names = PeerNames::resolve(&plan.peers.names, plan.config.proxy.is_some());
    let mut run = GetRun {
        display,
        hooks: Hooks::default(),
        saved: String::new(),
        begun: now,
        plan,
        table,
        session,
        names,
        only_named_peers,
        bad,
        places,
        links,
    };
    let end = run.run_until_end(&stop);
    run.finish(end)
}

/// Returns the failure of a session that does not start.
pub(crate) fn start_failure(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Listen { .. } | StartError::Interface { .. } => Exit::Network,
        StartError::System(_) => Exit::Other,
        StartError::Disk(fault) => super::fault_exit(fault),
    };
    Failure::new(exit, error.to_string())
}

/// Reads all sources, each torrent once, and returns them with their places on the command line. With
/// `--metadata-only`, torrent files are saved here and only magnet links are returned.
fn read_sources(plan: &Plan, bad: &mut BadSources) -> Result<Vec<(usize, LoadedSource)>, Failure> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for (place, source) in plan.sources.iter().enumerate() {
        match read_source(plan, source, &mut seen) {
            Ok(loaded) => all.extend(loaded.map(|loaded| (place, loaded))),
            Err(failure) => bad.add(place, plan.located(place, failure))?,
        }
    }
    Ok(all)
}

/// Returns what a source says about its own lack of peers.
fn known_troubles(source: &LoadedSource) -> Troubles {
    let (refused, has_trackers, has_web_seeds) = match source {
        LoadedSource::Torrent(t) => {
            (t.refused_trackers(), !t.trackers().is_empty(), !t.web_seeds().is_empty())
        }
        LoadedSource::Magnet(m) => (&m.refused_trackers, !m.trackers.is_empty(), !m.web_seeds.is_empty()),
    };
    Troubles::new(refused.count(), has_web_seeds && !has_trackers)
}

/// Reads a source. Returns `None` if nothing is left to do for it.
fn read_source(
    plan: &Plan,
    source: &SourceArg,
    seen: &mut BTreeSet<InfoHash>,
) -> Result<Option<LoadedSource>, Failure> {
    let (loaded, bytes) =
        source::read(source, info_share(plan.config.max_memory), &plan.config.http_options())?;
    let loaded = plan.named(loaded);
    loaded.metainfo().into_iter().for_each(source::report_repairs);
    if !seen.insert(loaded.info_hash()) {
        out::error(format_args!("{} is given twice", loaded.name()));
        return Ok(None);
    }
    source::report_refused_trackers(&loaded);
    match loaded.metainfo().filter(|_| plan.metadata_only) {
        Some(metainfo) => {
            out::data(&save_torrent::save(plan.dir(), metainfo, &bytes, plan.style)?);
            Ok(None)
        }
        None => Ok(Some(loaded)),
    }
}

fn files_on_disk(metainfo: &Metainfo) -> usize {
    metainfo.files().iter().filter(|file| file.lands_on_disk()).count()
}

/// Exit code of the run, and a sentence for stderr unless the code needs none.
struct GetOutcome {
    exit: Exit,
    sentence: Option<String>,
    /// The sentence was printed when its torrent failed.
    said: bool,
}

impl GetOutcome {
    fn silent(exit: Exit) -> GetOutcome {
        GetOutcome { exit, sentence: None, said: false }
    }

    fn with_reason(exit: Exit, sentence: impl Into<String>) -> GetOutcome {
        GetOutcome { exit, sentence: Some(sentence.into()), said: false }
    }
}

/// A running session of one command.
struct GetRun {
    plan: Plan,
    session: Session,
    table: TorrentTable,
    display: Display,
    hooks: Hooks,
    /// Lines about the saved torrent files, printed after the live block is gone.
    saved: String,
    begun: Instant,
    names: PeerNames,
    /// No torrent has another source of peers than the host names of `--peer`.
    only_named_peers: bool,
    bad: BadSources,
    /// Place of each row's source on the command line.
    places: Vec<usize>,
    /// Link of each row, if its source is one.
    links: Vec<Option<Magnet>>,
}

impl GetRun {
    /// Adds the peers whose names are resolved. Returns an outcome if none is and there are no others.
    fn add_named_peers(&mut self) -> Option<GetOutcome> {
        let found = self.names.take();
        if !found.is_empty() {
            for i in 0..self.table.rows.len() {
                // A torrent may be finished and removed, which is no error.
                let _ = self.session.add_peers(self.table.id(i), found.clone());
            }
        }
        let alone = self.only_named_peers && self.names.all_failed() && !self.table.all_complete();
        alone.then(|| {
            GetOutcome::with_reason(Exit::Network, "no --peer has an address, and nothing else finds peers")
        })
    }

    /// Returns the bytes of the torrent's wanted files.
    fn wanted_bytes(&self, i: usize) -> u64 {
        let files = self.session.files(self.table.id(i)).unwrap_or_default();
        let wanted = files.iter().filter(|file| !file.pad && file.priority != FilePriority::Skip);
        wanted.map(|file| file.length).sum()
    }

    /// Returns the failure of a bad source that decides the exit code: the first one in the order of the
    /// command line does, unless a signal ended the run.
    fn deciding_source(&self, end: &GetOutcome) -> Option<&Failure> {
        if end.exit == Exit::Stopped {
            return None;
        }
        let place = if end.exit == Exit::Done { None } else { self.table.first_bad() };
        self.bad.before(place.and_then(|i| self.places.get(i).copied()).unwrap_or(usize::MAX))
    }

    /// Returns the outcome of a run that ends with the failure of a torrent.
    fn failed_with(&self, failure: &Failure) -> GetOutcome {
        let said = self.has_said_failures();
        GetOutcome { said, ..GetOutcome::with_reason(failure.exit, failure.sentence.clone()) }
    }

    /// Whether a failure of one of several torrents is printed at once; that of a single torrent is printed at the
    /// end of the run.
    fn has_said_failures(&self) -> bool {
        self.table.rows.len() > 1
    }

    /// Removes a torrent from the session. It may be removed already, which is no error.
    fn remove(&self, id: TorrentId) {
        let _ = self.session.remove(id);
    }

    /// Handles events until the run ends.
    fn run_until_end(&mut self, stop: &StopFlag) -> GetOutcome {
        loop {
            let mut event = self.session.next_event(POLL_INTERVAL);
            let now = Instant::now();
            // The code after this loop visits every torrent, so it runs once for a batch of
            // events and not after each event.
            let mut batch = self.table.rows.len();
            while let Some(change) = event.map(|event| self.table.on_event(event, now)) {
                if let Some(end) = self.handle_change(change) {
                    return end;
                }
                event = if batch > 0 { self.session.next_event(Duration::ZERO) } else { None };
                batch = batch.saturating_sub(1);
            }
            self.hooks.reap();
            for i in self.table.newly_finished(self.plan.goal, now) {
                if self.plan.goal.is_some() {
                    self.display.event(&self.table.rows[i], "done");
                }
                // The end of the session removes the last torrent.
                if !self.table.all_finished() {
                    self.remove(self.table.id(i));
                }
            }
            self.display.refresh(&self.table.rows, now);
            let end = self.add_named_peers().or_else(|| self.end_reason(stop, now));
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Prints a change of the torrent table. Returns an outcome if the change ends the run.
    fn handle_change(&mut self, change: Change) -> Option<GetOutcome> {
        match change {
            Change::None => {}
            Change::Second(i) => {
                self.count_selected(i);
                self.display.on_second(&self.table.rows[i]);
            }
            Change::Trouble(i) => self.display.trouble(&self.table.rows[i]),
            Change::Opened { row: i, notes, space, again } => {
                if !self.plan.seed_only && !again {
                    self.on_opened(i);
                }
                let row = &self.table.rows[i];
                notes
                    .iter()
                    .filter(|_| !self.plan.style.quiet)
                    .for_each(|note| out::error(format_args!("{}: {note}", row.name)));
                if let Some(space) = space.filter(|_| !again) {
                    let (needed, free) = (format::size(space.needed), format::size(space.free));
                    out::error(format_args!(
                        "{}: free space is too little: {needed} are missing, {free} are free",
                        row.name
                    ));
                }
                if self.plan.seed_only && row.pieces_have < row.pieces {
                    let sentence =
                        format!("{}: only {} of {} pieces are there", row.name, row.pieces_have, row.pieces);
                    if row.pieces_have == 0 && self.table.rows.len() == 1 {
                        return Some(GetOutcome::with_reason(Exit::Mismatch, sentence));
                    }
                    out::error(sentence);
                }
            }
            Change::Completed(i) => {
                self.display.event(&self.table.rows[i], "complete");
                let hook = self.plan.on_complete.as_ref().filter(|_| self.table.completed_in_this_run(i));
                if let Some((hook, metainfo)) = hook.zip(self.table.metainfo(i)) {
                    self.hooks.start(hook, metainfo, self.plan.dir(), self.wanted_bytes(i));
                }
            }
            Change::Failed(i) => {
                self.display.event(&self.table.rows[i], "failed");
                if let Some(failure) = self.table.failure(i).filter(|_| self.has_said_failures()) {
                    out::error(format_args!("{}: {}", self.table.rows[i].name, failure.sentence));
                }
            }
            Change::DiskFull(i, sentence) => {
                if !self.plan.style.quiet {
                    out::error(format_args!("{sentence}; waiting for room"));
                }
                self.display.event(&self.table.rows[i], "disk full");
            }
            Change::Metadata(i) => {
                if let Err(failure) = self.choose_files_of_link(i) {
                    self.remove(self.table.id(i));
                    self.table.fail(i, failure);
                    return self.handle_change(Change::Failed(i));
                }
            }
            Change::PortMapping(mapping) => {
                if !self.plan.style.quiet {
                    out::note(format_args!("rill: {mapping}"));
                }
            }
            Change::Died(reason) => return Some(GetOutcome::with_reason(Exit::Other, reason)),
        }
        None
    }

    /// Takes the selection of files of a torrent whose content is checked, and says where it resumes.
    fn on_opened(&mut self, i: usize) {
        let id = self.table.id(i);
        // A torrent that was removed or failed in the meantime has no answers.
        if let (Ok(files), Some(metainfo)) = (self.session.files(id), self.table.metainfo(i)) {
            let is_selected =
                |index| files.get(index).is_none_or(|f: &FileStatus| f.priority != FilePriority::Skip);
            let selected = SelectedFiles::of(metainfo, is_selected);
            if let Some(pieces) = selected.as_ref().and_then(|_| self.session.pieces(id).ok()) {
                self.table.select(i, selected, &pieces.have);
            }
        }
        if self.table.rows[i].has_just_resumed {
            self.display.resume(&self.table.rows[i]);
        }
    }

    /// Counts the bytes of the selected files.
    fn count_selected(&mut self, i: usize) {
        if self.table.is_selection(i) {
            if let Ok(pieces) = self.session.pieces(self.table.id(i)) {
                self.table.count_selected(i, &pieces.have);
            }
        }
    }

    /// Handles the metadata of a magnet link: chooses its files, or saves it with `--metadata-only`.
    fn choose_files_of_link(&mut self, i: usize) -> Result<(), Failure> {
        let (Some(metainfo), id) = (self.table.metainfo(i), self.table.id(i)) else { return Ok(()) };
        if self.plan.metadata_only {
            let file = metainfo.to_file().unwrap_or_default();
            self.saved.push_str(&save_torrent::save(self.plan.dir(), metainfo, &file, self.plan.style)?);
            self.table.finish(i, Instant::now());
            // The end of the session removes the last torrent.
            if !self.table.all_finished() {
                self.remove(id);
            }
            return Ok(());
        }
        source::report_repairs(metainfo);
        let chosen = self.session.choose(id, self.plan.choose(metainfo, self.links[i].as_ref())?);
        chosen.map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
        self.display.announce(&self.table.rows[i], Some(files_on_disk(metainfo)));
        Ok(())
    }

    fn end_reason(&self, stop: &StopFlag, now: Instant) -> Option<GetOutcome> {
        if self.table.all_finished() {
            let failure = self.table.first_failure();
            return Some(failure.map_or(GetOutcome::silent(Exit::Done), |(_, f)| self.failed_with(f)));
        }
        let waited = |outcome| {
            let full = self.table.waits_for_room();
            full.map_or(outcome, |f| GetOutcome::with_reason(f.exit, f.sentence.clone()))
        };
        if stop.requested() {
            let finished = self.plan.seed_only || self.table.all_complete();
            return Some(waited(GetOutcome::silent(if finished { Exit::Done } else { Exit::Stopped })));
        }
        if self.plan.timeout.is_some_and(|limit| now.duration_since(self.begun) >= limit) {
            if self.table.all_complete() {
                return Some(GetOutcome::silent(Exit::Done));
            }
            return Some(waited(GetOutcome::with_reason(
                Exit::TimedOut,
                self.explain(self.unfinished("not complete"), self.plan.timeout),
            )));
        }
        if self.plan.stall_timeout.is_some_and(|limit| self.table.stalled_for(now) >= limit) {
            let sentence = self.explain(self.unfinished("nothing arrived"), self.plan.stall_timeout);
            return Some(waited(GetOutcome::with_reason(Exit::TimedOut, sentence)));
        }
        None
    }

    /// Returns what a time-out waited for: metadata if a link has none yet, else `otherwise`.
    fn unfinished(&self, otherwise: &'static str) -> &'static str {
        if self.table.rows.iter().any(|row| row.phase == DisplayPhase::Metadata) {
            "no metadata"
        } else {
            otherwise
        }
    }

    /// Formats a time-out, as in `nothing arrived within 60s (no peers; tracker t.example refuses: banned)`.
    fn explain(&self, what: &str, limit: Option<Duration>) -> String {
        let slow_reason = self.table.rows.iter().find_map(|row| row.slow_reason);
        let trouble = self.table.rows.iter().find_map(Row::shown_trouble);
        let details: Vec<&str> = slow_reason.into_iter().chain(trouble).collect();
        let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
        format!("{what} within {}{details}", format::duration(limit.unwrap_or_default()))
    }

    /// Prints the last lines, stops the session and returns the exit code of the run.
    fn finish(mut self, end: GetOutcome) -> Result<Exit, Failure> {
        let decides = self.deciding_source(&end).cloned();
        let place = self.plan.place();
        let run_end = RunEnd {
            exit: end.exit,
            elapsed: self.begun.elapsed(),
            place: &place,
            seed_only: self.plan.seed_only,
        };
        self.display.summaries(&self.table.rows, run_end);
        let counts = self.session.stats().map(|stats| stats.connections).unwrap_or_default();
        let stopped = self.stop();
        if self.plan.style.json {
            out::data(&std::mem::take(&mut self.saved));
        }
        let exit = decides.as_ref().map_or(end.exit, |failure| failure.exit);
        let reason = end.sentence.as_ref().or(decides.as_ref().map(|failure| &failure.sentence));
        self.display.end(&self.table.rows, exit, reason.map(String::as_str), &counts, Instant::now());
        ::log::info!("connections: {}", connections::words(&counts));
        out::data(&self.saved);
        if !stopped.clean {
            ::log::info!(
                "a resume record could not be written, or a tracker did not answer the last announce, within {STOP_TIMEOUT:?}"
            );
        }
        self.hooks.wait();
        match end.sentence.filter(|_| !end.said) {
            None => Ok(exit),
            Some(sentence) => Err(Failure::new(exit, sentence)),
        }
    }

    /// Stops the session, and says what it waits for if that takes longer than a moment.
    fn stop(&mut self) -> Stopped {
        let awaited = self.awaited_at_the_end();
        let session = self.session.clone();
        let (sender, stopped) = mpsc::channel();
        let stop = std::thread::Builder::new()
            .name("rill-stop".into())
            .spawn(move || _ = sender.send(session.stop(STOP_TIMEOUT)));
        if stop.is_err() {
            return self.session.clone().stop(STOP_TIMEOUT);
        }
        if let Ok(stopped) = stopped.recv_timeout(SILENT_STOP) {
            return stopped;
        }
        self.display.waiting(Some(&awaited), STOP_TIMEOUT);
        let stopped = stopped.recv().unwrap_or(Stopped { clean: false });
        self.display.waiting(None, STOP_TIMEOUT);
        stopped
    }

    /// Returns what the end may wait for: a tracker by its name, several, or the disk.
    fn awaited_at_the_end(&self) -> String {
        let ids = (0..self.table.rows.len()).map(|i| self.table.id(i));
        let mut hosts = BTreeSet::new();
        for tracker in ids.filter_map(|id| self.session.trackers(id).ok()).flatten() {
            if tracker.announcing || tracker.last.is_some() {
                hosts.insert(tracker_host(&tracker.url));
            }
        }
        match (hosts.len(), hosts.first()) {
            (0, _) | (_, None) => "the last writes to the disk".to_string(),
            (1, Some(host)) => format!("tracker {host}"),
            (more, _) => format!("{more} trackers"),
        }
    }
}
