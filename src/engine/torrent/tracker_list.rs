//! The trackers of one torrent: which one gets the next announce, when, and with which event (BEP 3, 12, 21, 31).
//!
//! An announce goes to the first tracker in the list that is due. The list has the tiers in order, each
//! shuffled when the torrent is added. A tracker that answers moves to the front of its tier, and its
//! interval says when the next announce is due. After a failed announce the next tracker in the list gets one
//! at once, and the failed tracker is due after a wait: the one in its reply, or one that grows with each
//! failure.
//!
//! A tracker has at most one announce under way, and gets its events in this order:
//!
//! ```text
//!   started ──answered──▶ none, paused … ──▶ completed ──▶ none, paused … ──▶ stopped
//! ```
//!
//! `completed` goes to one tracker that answered `started`, once. It is due when the last piece of the whole
//! torrent is downloaded and the record that says so is durable. `stopped` goes to every tracker that may list
//! us, after the announce that is under way to it; not to one that refused us or was sent nothing.

use crate::engine::limits;
use crate::engine::snapshots::TrackerStatus;
use crate::units::{Instant, Rng};
use crate::wire::{AnnounceError, AnnounceEvent, AnnounceReply, RetryIn};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// One tracker.
#[derive(Debug)]
struct TrackerEntry {
    url: Arc<str>,
    /// Failed announces since its last reply.
    failures: u32,
    /// When its next announce is due; [`Instant::NEVER`] if it refuses retries.
    due_at: Instant,
    /// The event of the announce that is under way to it.
    in_flight: Option<AnnounceEvent>,
    /// It answered an announce since it was added.
    answered: bool,
    /// It answered an announce, and no `stopped` was sent since.
    knows_us: bool,
    /// It may have received an announce that it did not answer, and no `stopped` was sent since.
    may_list_us: bool,
    /// The `tracker id` of its last reply that has one.
    tracker_id: Option<Box<[u8]>>,
    /// The result of the last announce: the number of peer addresses, or an error message. `None` before it.
    last_result: Option<Result<usize, Box<str>>>,
    /// When the last announce was answered or failed.
    ended_at: Instant,
}

impl TrackerEntry {
    fn new(url: Arc<str>) -> TrackerEntry {
        TrackerEntry {
            url,
            failures: 0,
            due_at: Instant::ZERO,
            in_flight: None,
            answered: false,
            knows_us: false,
            may_list_us: false,
            tracker_id: None,
            last_result: None,
            ended_at: Instant::ZERO,
        }
    }

    fn announce(&mut self, event: AnnounceEvent) -> PlannedAnnounce {
        self.in_flight = Some(event);
        PlannedAnnounce {
            url: self.url.clone(),
            event,
            answered: self.answered,
            tracker_id: self.tracker_id.clone(),
        }
    }

    fn is_awaited(&self) -> bool {
        self.in_flight.is_some_and(|event| event != AnnounceEvent::Stopped)
    }

    /// Returns the announce of `stopped`, unless another announce is under way or the tracker does not list
    /// us.
    fn begin_stopped(&mut self) -> Option<PlannedAnnounce> {
        if self.in_flight.is_some() || !(self.knows_us || self.may_list_us) {
            return None;
        }
        self.knows_us = false;
        self.may_list_us = false;
        Some(self.announce(AnnounceEvent::Stopped))
    }

    fn is_done(&self) -> bool {
        self.in_flight.is_none() && !self.knows_us && !self.may_list_us
    }
}

/// An announce to send.
#[derive(Clone, Debug)]
pub struct PlannedAnnounce {
    /// The tracker's announce URL.
    pub url: Arc<str>,
    /// Its event (BEP 3).
    pub event: AnnounceEvent,
    /// The tracker answered an earlier announce of this torrent.
    pub answered: bool,
    /// The `tracker id` of the tracker's last reply that has one, which is sent back (BEP 3).
    pub tracker_id: Option<Box<[u8]>>,
}

/// The state of the torrent's one `completed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completed {
    /// Not due: the torrent is incomplete, or it was sent.
    NotDue,
    /// The torrent is complete, and its record does not say yet that `completed` is sent.
    Unsaved,
    /// To be sent to a tracker that knows us.
    Due,
}

/// The trackers of one torrent.
#[derive(Debug)]
pub struct TrackerList {
    tiers: Vec<Vec<TrackerEntry>>,
    /// Removed trackers that have an announce under way or may list us.
    removed: Vec<TrackerEntry>,
    /// The tracker that answered last; `None` if the last announce failed.
    current: Option<Arc<str>>,
    completed: Completed,
    /// The torrent is stopped: no announce but `completed` and `stopped` is sent.
    stopping: bool,
}

impl TrackerList {
    /// Returns a list of these tiers, each shuffled (BEP 12).
    pub fn new(tiers: Vec<Vec<String>>, rng: &mut Rng) -> TrackerList {
        let tiers = without_repeats(tiers)
            .into_iter()
            .map(|mut tier| {
                rng.shuffle(&mut tier);
                tier.into_iter().map(|url| TrackerEntry::new(url.into())).collect()
            })
            .collect();
        TrackerList {
            tiers,
            removed: Vec::new(),
            current: None,
            completed: Completed::NotDue,
            stopping: false,
        }
    }

    /// Iterates over the announce URLs, tier by tier.
    pub fn urls(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries().map(|t| &t.url)
    }

    fn entries(&self) -> impl Iterator<Item = &TrackerEntry> {
        self.tiers.iter().flatten()
    }

    fn entries_mut(&mut self) -> impl Iterator<Item = &mut TrackerEntry> {
        self.tiers.iter_mut().flatten()
    }

    /// Returns when the next announce is due; [`Instant::NEVER`] while a reply is awaited, without a tracker,
    /// or if every tracker refuses retries. A tracker is not due while its `stopped` is under way.
    pub fn next_at(&self) -> Instant {
        if self.entries().any(TrackerEntry::is_awaited) {
            return Instant::NEVER;
        }
        // `completed` does not wait for the tracker's interval.
        if self.completed == Completed::Due && self.entries().any(|t| t.knows_us) {
            return Instant::ZERO;
        }
        let current = self.current.as_ref().and_then(|url| self.entries().find(|t| t.url == *url));
        match current {
            Some(t) => t.due_at,
            None => {
                let idle = self.entries().filter(|t| t.in_flight.is_none());
                idle.map(|t| t.due_at).min().unwrap_or(Instant::NEVER)
            }
        }
    }

    /// Returns the announce that is due now, if one is. `paused`: the torrent is a partial seed (BEP 21).
    /// `is_busy` says whether an announce of another entry of the torrent is under way to this URL. The caller
    /// sends the announce, and passes its result to [`on_result`](TrackerList::on_result).
    pub fn begin_announce(
        &mut self,
        now: Instant,
        paused: bool,
        is_busy: impl Fn(&str) -> bool,
    ) -> Option<PlannedAnnounce> {
        if self.next_at() > now {
            return None;
        }
        if let Some(announce) = self.begin_completed() {
            return Some(announce);
        }
        let is_due = |t: &&mut TrackerEntry| t.due_at <= now && t.in_flight.is_none() && !is_busy(&t.url);
        let tracker = self.entries_mut().find(is_due)?;
        let event = match (tracker.knows_us, paused) {
            (false, _) => AnnounceEvent::Started,
            (true, false) => AnnounceEvent::None,
            (true, true) => AnnounceEvent::Paused,
        };
        Some(tracker.announce(event))
    }

    /// Handles the end of the download of the whole torrent. `completed` is due once
    /// [`on_completed_saved`](TrackerList::on_completed_saved) is called.
    pub fn on_completed(&mut self) {
        self.completed = Completed::Unsaved;
    }

    /// The record that says that `completed` is sent is durable; or, if not `saved`, could not be written: then
    /// `completed` is not sent.
    pub fn on_completed_saved(&mut self, saved: bool) {
        if self.completed == Completed::Unsaved {
            self.completed = if saved { Completed::Due } else { Completed::NotDue };
        }
    }

    /// Returns the tracker that gets `completed`: the one that answered last, or any that knows us.
    fn receiver_of_completed(&mut self) -> Option<&mut TrackerEntry> {
        let current = self.current.clone();
        let is_current = |t: &TrackerEntry| t.knows_us && current.as_ref() == Some(&t.url);
        let url = self.entries().find(|t| is_current(t)).or_else(|| self.entries().find(|t| t.knows_us));
        let url = url.map(|t| t.url.clone())?;
        self.entries_mut().find(|t| t.url == url)
    }

    /// Returns the announce of `completed` if it is due and no announce is under way to its receiver.
    fn begin_completed(&mut self) -> Option<PlannedAnnounce> {
        if self.completed != Completed::Due {
            return None;
        }
        let receiver = self.receiver_of_completed().filter(|t| t.in_flight.is_none())?;
        let announce = receiver.announce(AnnounceEvent::Completed);
        self.completed = Completed::NotDue;
        Some(announce)
    }

    /// Handles the result of an announce. Ignores the result of an announce that is not under way.
    pub fn on_result(
        &mut self,
        now: Instant,
        announce: &PlannedAnnounce,
        result: &Result<AnnounceReply, AnnounceError>,
    ) {
        let stopping = self.stopping;
        let is_meant = |t: &&mut TrackerEntry| t.url == announce.url && t.in_flight == Some(announce.event);
        let all = self.tiers.iter_mut().flatten().chain(&mut self.removed);
        let Some(tracker) = all.into_iter().find(is_meant) else { return };
        tracker.in_flight = None;
        tracker.answered |= result.is_ok();
        if announce.event == AnnounceEvent::Stopped {
            return;
        }
        tracker.last_result =
            Some(result.as_ref().map(|reply| reply.peers.len()).map_err(|error| error.to_string().into()));
        tracker.ended_at = now;
        match result {
            Ok(reply) => {
                tracker.failures = 0;
                tracker.knows_us = true;
                let interval = reply
                    .interval
                    .unwrap_or(limits::ANNOUNCE_DEFAULT)
                    .max(reply.min_interval.unwrap_or_default());
                tracker.due_at = now + interval.clamp(limits::ANNOUNCE_MIN, limits::ANNOUNCE_MAX);
                if reply.tracker_id.is_some() {
                    tracker.tracker_id.clone_from(&reply.tracker_id);
                }
                if self.urls().any(|url| *url == announce.url) {
                    self.current = Some(announce.url.clone());
                    self.move_to_front(&announce.url);
                }
            }
            Err(error) => {
                tracker.failures = tracker.failures.saturating_add(1);
                tracker.may_list_us |= !error.is_certain_refusal();
                let wait = match error {
                    AnnounceError::Failure { retry_in: Some(RetryIn::Never), .. } => None,
                    AnnounceError::Failure { retry_in: Some(RetryIn::After(wait)), .. } => {
                        Some((*wait).clamp(limits::ANNOUNCE_MIN, limits::ANNOUNCE_MAX))
                    }
                    _ => Some(back_off(tracker.failures)),
                };
                tracker.due_at = wait.map_or(Instant::NEVER, |wait| now + wait);
                if announce.event == AnnounceEvent::Completed && error.is_unsent() && !stopping {
                    self.completed = Completed::Due;
                }
                self.current = None;
            }
        }
    }

    /// Replaces the trackers, in the given order. A tracker in both lists keeps its state. The removed trackers
    /// that may list us are sent `stopped`, see [`begin_last`](TrackerList::begin_last).
    pub fn replace(&mut self, tiers: Vec<Vec<String>>) {
        let mut removed: Vec<TrackerEntry> = std::mem::take(&mut self.tiers).into_iter().flatten().collect();
        removed.append(&mut self.removed);
        let mut entry_of = |url: String| match removed.iter().position(|t| *t.url == *url) {
            Some(at) => removed.swap_remove(at),
            None => TrackerEntry::new(url.into()),
        };
        let tiers = without_repeats(tiers).into_iter();
        self.tiers = tiers.map(|tier| tier.into_iter().map(&mut entry_of).collect()).collect();
        removed.retain(|t| !t.is_done());
        if self.current.as_ref().is_some_and(|url| !self.urls().any(|known| known == url)) {
            self.current = None;
        }
        self.removed = removed;
    }

    /// Handles the user's request to announce: a tracker that failed or got no announce yet is due at once,
    /// even if it refuses retries; any other [`limits::ANNOUNCE_MIN`] after its last reply.
    pub fn reannounce(&mut self, now: Instant) {
        for t in self.entries_mut() {
            let earliest = if t.failures > 0 || t.last_result.is_none() {
                now
            } else {
                t.ended_at + limits::ANNOUNCE_MIN
            };
            t.due_at = t.due_at.min(earliest.max(now));
        }
    }

    /// Returns the state of every tracker, tier by tier.
    pub fn stats(&self, now: Instant) -> Vec<TrackerStatus> {
        let tiers = self.tiers.iter().enumerate();
        let entries = tiers.flat_map(|(tier, entries)| entries.iter().map(move |entry| (tier, entry)));
        let stats = |(tier, t): (usize, &TrackerEntry)| TrackerStatus {
            url: t.url.clone(),
            tier,
            last: t
                .last_result
                .as_ref()
                .map(|last| last.as_ref().map(|peers| *peers).map_err(|error| error.to_string())),
            announcing: t.is_awaited(),
            next: (t.due_at < Instant::NEVER).then(|| t.due_at.since(now)),
        };
        entries.map(stats).collect()
    }

    fn move_to_front(&mut self, url: &Arc<str>) {
        for tier in &mut self.tiers {
            if let Some(at) = tier.iter().position(|t| t.url == *url) {
                tier[..=at].rotate_right(1);
            }
        }
    }

    /// Handles the stop of the torrent. [`begin_last`](TrackerList::begin_last) returns the announces that are
    /// owed.
    pub fn stop(&mut self) {
        self.stopping = true;
        if self.completed == Completed::Due && !self.entries().any(|t| t.knows_us || t.is_awaited()) {
            self.completed = Completed::NotDue;
        }
    }

    /// Returns the announces that end the presence at trackers and can be sent now: `completed` of a stopped
    /// torrent, and `stopped` to removed trackers and to all trackers of a stopped torrent. The caller sends
    /// them, passes their results to [`on_result`](TrackerList::on_result), and calls this again after every
    /// result.
    pub fn begin_last(&mut self) -> Vec<PlannedAnnounce> {
        let mut last: Vec<_> = self.removed.iter_mut().filter_map(TrackerEntry::begin_stopped).collect();
        self.removed.retain(|t| !t.is_done());
        if !self.stopping {
            return last;
        }
        last.extend(self.begin_completed());
        // The receiver of a `completed` that is not sent yet gets `stopped` after it.
        let held = if self.completed == Completed::NotDue {
            None
        } else {
            self.receiver_of_completed().map(|t| t.url.clone())
        };
        let others = self.entries_mut().filter(|t| held.as_ref() != Some(&t.url));
        last.extend(others.filter_map(TrackerEntry::begin_stopped));
        last
    }

    /// Returns whether no announce is under way, and none is owed after [`stop`](TrackerList::stop).
    pub fn is_over(&self) -> bool {
        self.removed.is_empty() && self.entries().all(TrackerEntry::is_done)
    }

    /// Returns whether no tracker knows of the torrent: the next announce to each is `started`.
    pub fn is_unknown(&self) -> bool {
        self.entries().all(|t| !t.knows_us && !t.is_awaited())
    }

    /// Handles the restart of the torrent: every tracker is due at once.
    pub fn restart(&mut self) {
        self.stopping = false;
        self.current = None;
        self.entries_mut().for_each(|t| t.due_at = Instant::ZERO);
    }
}

/// Keeps the first entry of each URL: a second one would stay due while the first waits after a failure.
fn without_repeats(mut tiers: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let mut seen = BTreeSet::new();
    for tier in &mut tiers {
        tier.retain(|url| seen.insert(url.clone()));
    }
    tiers
}

/// Returns the wait after this many failed announces in a row.
fn back_off(failures: u32) -> Duration {
    // The longest wait is reached at 17 failures; the bound keeps the square inside 32 bits.
    let n = failures.min(1000);
    (limits::ANNOUNCE_RETRY + limits::ANNOUNCE_RETRY_STEP * (n * n)).min(limits::ANNOUNCE_RETRY_MAX)
}

#[cfg(test)]
mod tests;
