//! `rill get`, and the run that `rill seed` shares: torrents into a session, events out, and one exit code.
//!
//! ```text
//!   sources ──► torrents, links ──► session ──► events ──► watch ──► display
//!                                    │  ▲                    │
//!                                    │  └── files chosen ◄───┤ metadata
//!                                    └──── stop ◄── over, signal, time-out, death
//! ```
//!
//! Everything that can be wrong with the command line or a source is found before the session starts; what is
//! in a link's torrent comes later, and is then held to the same.

use super::display::Display;
use super::exit::{Exit, Failure};
use super::on_complete::Hooks;
use super::plan::Plan;
use super::progress::{DisplayPhase, Row};
use super::signals::Stop;
use super::source::Found;
use super::torrent_table::{Change, Watch};
use super::{args, format, log, out, save_torrent, source};
use crate::session::{Session, StartError, TorrentId, info_share};
use crate::wire::Metainfo;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The longest that a signal or a time-out waits to be seen.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long records and last announces may take at the end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Does what `get` was told.
pub(crate) fn run(typed: args::Get) -> Result<Exit, Failure> {
    go(Plan::get(typed, |name| std::env::var(name).ok())?)
}

/// Does what the plan says.
pub(crate) fn go(plan: Plan) -> Result<Exit, Failure> {
    log::start(plan.style.verbose, plan.style.quiet);
    let told_twice = if plan.seed_only { Exit::Done } else { Exit::Stopped };
    let stop =
        Stop::on_signals(told_twice).map_err(|e| Failure::os(Exit::Other, "cannot catch signals", &e))?;
    let found = found(&plan)?;
    if plan.metadata_only && found.is_empty() {
        return Ok(Exit::Done);
    }
    let orders = found.iter().map(|found| plan.order(found)).collect::<Result<Vec<_>, _>>()?;
    if !plan.style.quiet {
        plan.remarks.iter().for_each(out::error);
    }
    let session = Session::start(plan.config.clone()).map_err(start_failure)?;
    let now = Instant::now();
    let mut watch = Watch::new(plan.seed_only, plan.goal, now);
    let mut display = Display::new(plan.style, now);
    for (order, found) in orders.into_iter().zip(found) {
        let id = session.add(order).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
        let (metainfo, row) = match found {
            Found::Torrent(metainfo) => (Some(metainfo.clone()), Row::of(&metainfo)),
            Found::Magnet(magnet) => (None, Row::of_link(&magnet)),
        };
        display.begin(&row, metainfo.as_ref().map(files_on_disk));
        watch.add(id, metainfo, row);
    }
    let mut run =
        GetRun { display, hooks: Hooks::default(), saved: String::new(), begun: now, plan, watch, session };
    let end = run.pump(&stop);
    run.finish(end)
}

/// What a session that does not start means for the exit code.
pub(crate) fn start_failure(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Listen { .. } => Exit::Network,
        StartError::System(_) => Exit::Other,
        StartError::Disk(fault) => super::fault_exit(fault),
    };
    Failure::new(exit, error.to_string())
}

/// What is behind all sources, each torrent once. If files of them are all that is wanted, those that are
/// here already are saved at once.
fn found(plan: &Plan) -> Result<Vec<Found>, Failure> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for source in &plan.sources {
        let (found, bytes) = source::read(source, info_share(plan.config.max_memory))?;
        found.metainfo().into_iter().for_each(source::remark);
        if !seen.insert(found.info_hash()) {
            out::error(format_args!("{} is given twice", found.name()));
            continue;
        }
        match found.metainfo().filter(|_| plan.metadata_only) {
            Some(metainfo) => drop(out::data(&save_torrent::save(plan.dir(), metainfo, &bytes, plan.style)?)),
            None => all.push(found),
        }
    }
    Ok(all)
}

fn files_on_disk(metainfo: &Metainfo) -> usize {
    metainfo.files().iter().filter(|file| file.lands_on_disk()).count()
}

/// Why the pump stopped, and the sentence about it if there is anything to explain.
struct GetOutcome {
    exit: Exit,
    sentence: Option<String>,
}

impl GetOutcome {
    fn silent(exit: Exit) -> GetOutcome {
        GetOutcome { exit, sentence: None }
    }

    fn because(exit: Exit, sentence: impl Into<String>) -> GetOutcome {
        GetOutcome { exit, sentence: Some(sentence.into()) }
    }
}

/// A session at work for one command.
struct GetRun {
    plan: Plan,
    session: Session,
    watch: Watch,
    display: Display,
    hooks: Hooks,
    /// What is to be printed of files that were saved, once progress is over.
    saved: String,
    begun: Instant,
}

impl GetRun {
    /// Removes a torrent from the session; one that the session does not have any more needs no removal.
    fn remove(&self, id: TorrentId) {
        let _ = self.session.remove(id);
    }

    /// Turns events into rows until there is a reason to end.
    fn pump(&mut self, stop: &Stop) -> GetOutcome {
        loop {
            let mut event = self.session.next_event(LOOK_EVERY);
            let now = Instant::now();
            // What follows looks at every torrent: once for all that has happened, and not for each of a
            // thousand events.
            let mut left = self.watch.rows.len();
            while let Some(news) = event.map(|event| self.watch.on_event(event, now)) {
                if let Some(end) = self.tell(news) {
                    return end;
                }
                event = if left > 0 { self.session.next_event(Duration::ZERO) } else { None };
                left = left.saturating_sub(1);
            }
            self.hooks.reap();
            for i in self.watch.newly_over(self.plan.goal, now) {
                if self.plan.goal.is_some() {
                    self.display.moment(&self.watch.rows[i], "done");
                }
                // The last one goes with the session itself.
                if !self.watch.all_over() {
                    self.remove(self.watch.id(i));
                }
            }
            self.display.tick(&self.watch.rows, now);
            if let Some(end) = self.reason_to_end(stop, now) {
                return end;
            }
        }
    }

    /// Tells the person what is worth telling; some news are the end.
    fn tell(&mut self, news: Change) -> Option<GetOutcome> {
        match news {
            Change::None => {}
            Change::Second(i) => self.display.second(&self.watch.rows[i]),
            Change::Notes(i, notes) => {
                let row = &self.watch.rows[i];
                notes
                    .iter()
                    .filter(|_| !self.plan.style.quiet)
                    .for_each(|note| out::error(format_args!("{}: {note}", row.name)));
                if self.plan.seed_only && row.pieces_have < row.pieces {
                    let sentence =
                        format!("{}: only {} of {} pieces are there", row.name, row.pieces_have, row.pieces);
                    if row.pieces_have == 0 && self.watch.rows.len() == 1 {
                        return Some(GetOutcome::because(Exit::Mismatch, sentence));
                    }
                    out::error(sentence);
                }
            }
            Change::Completed(i) => {
                self.display.moment(&self.watch.rows[i], "complete");
                let hook = self.plan.on_complete.as_ref().filter(|_| !self.plan.seed_only);
                if let Some((program, metainfo)) = hook.zip(self.watch.metainfo(i)) {
                    self.hooks.start(program, metainfo, self.plan.dir());
                }
            }
            Change::Failed(i) => {
                self.display.moment(&self.watch.rows[i], "failed");
                // With one torrent the sentence comes at the end anyway.
                if let (Some((row, failure)), true) = (self.watch.first_failure(), self.watch.rows.len() > 1)
                {
                    out::error(format_args!("{}: {}", row.name, failure.sentence));
                }
            }
            Change::DiskFull(i, sentence) => {
                if !self.plan.style.quiet {
                    out::error(format_args!("{sentence}; waiting for room"));
                }
                self.display.moment(&self.watch.rows[i], "disk full");
            }
            Change::Metadata(i) => {
                if let Err(failure) = self.on_metadata(i) {
                    self.remove(self.watch.id(i));
                    self.watch.fail(i, failure);
                    return self.tell(Change::Failed(i));
                }
            }
            Change::Died(reason) => return Some(GetOutcome::because(Exit::Other, reason)),
        }
        None
    }

    /// It is known what is in a link's torrent: files are chosen, or that was all that was wanted.
    fn on_metadata(&mut self, i: usize) -> Result<(), Failure> {
        let (Some(metainfo), id) = (self.watch.metainfo(i), self.watch.id(i)) else { return Ok(()) };
        if self.plan.metadata_only {
            let file = metainfo.to_file().unwrap_or_default();
            self.saved.push_str(&save_torrent::save(self.plan.dir(), metainfo, &file, self.plan.style)?);
            self.watch.finish(i, Instant::now());
            // The last one goes with the session itself.
            if !self.watch.all_over() {
                self.remove(id);
            }
            return Ok(());
        }
        source::remark(metainfo);
        let chosen = self.session.choose(id, self.plan.choose(metainfo)?);
        chosen.map_err(|e| Failure::new(Exit::Other, e.to_string()))?;
        self.display.begin(&self.watch.rows[i], Some(files_on_disk(metainfo)));
        Ok(())
    }

    fn reason_to_end(&self, stop: &Stop, now: Instant) -> Option<GetOutcome> {
        if self.watch.all_over() {
            let failure = self.watch.first_failure();
            return Some(failure.map_or(GetOutcome::silent(Exit::Done), |(_, f)| {
                GetOutcome::because(f.exit, f.sentence.clone())
            }));
        }
        let waited = |exit| {
            self.watch
                .waits_for_room()
                .map(|f| GetOutcome::because(f.exit, f.sentence.clone()))
                .unwrap_or(exit)
        };
        if stop.asked() {
            let finished = self.plan.seed_only || self.watch.all_complete();
            return Some(waited(GetOutcome::silent(if finished { Exit::Done } else { Exit::Stopped })));
        }
        if self.plan.timeout.is_some_and(|limit| now.duration_since(self.begun) >= limit) {
            if self.watch.all_complete() {
                return Some(GetOutcome::silent(Exit::Done));
            }
            return Some(waited(GetOutcome::because(
                Exit::TimedOut,
                self.explain(self.unfinished("not complete"), self.plan.timeout),
            )));
        }
        if self.plan.stall_timeout.is_some_and(|limit| self.watch.stalled_for(now) >= limit) {
            let sentence = self.explain(self.unfinished("nothing arrived"), self.plan.stall_timeout);
            return Some(waited(GetOutcome::because(Exit::TimedOut, sentence)));
        }
        None
    }

    /// What has not come to pass: before anything else, metadata.
    fn unfinished(&self, otherwise: &'static str) -> &'static str {
        if self.watch.rows.iter().any(|row| row.phase == DisplayPhase::Metadata) {
            "no metadata"
        } else {
            otherwise
        }
    }

    /// `nothing arrived within 60s (no peers; the tracker said: not found)`.
    fn explain(&self, what: &str, limit: Option<Duration>) -> String {
        let why = self.watch.rows.iter().find_map(|row| row.why).map(str::to_string);
        let tracker = self.watch.tracker_error.as_ref().map(|error| format!("the tracker said: {error}"));
        let details: Vec<String> = why.into_iter().chain(tracker).collect();
        let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
        format!("{what} within {}{details}", format::duration(limit.unwrap_or_default()))
    }

    /// Stops the session, says the last words, gives the code.
    fn finish(mut self, end: GetOutcome) -> Result<Exit, Failure> {
        let stopped = self.session.stop(STOP_WITHIN);
        if self.plan.style.json {
            out::data(&std::mem::take(&mut self.saved));
        }
        self.display.end(&self.watch.rows, end.exit, end.sentence.as_deref(), Instant::now());
        out::data(&self.saved);
        if !stopped.clean {
            ::log::info!("a record could not be written or a tracker not be told in {STOP_WITHIN:?}");
        }
        self.hooks.wait();
        match end.sentence {
            None => Ok(end.exit),
            Some(sentence) => Err(Failure::new(end.exit, sentence)),
        }
    }
}
