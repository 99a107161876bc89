//! The trackers of one torrent: which one gets the next announce, when, and with which event (BEP 3, 12, 31).
//!
//! An announce goes to the first tracker in the list that is due. The list has the tiers in order, each
//! shuffled when the torrent is added. A tracker that answers moves to the front of its tier, and its
//! interval says when the next announce is due. After a failed announce the next tracker in the list gets one
//! at once, and the failed tracker is due after a wait: the one in its reply, or one that grows with each
//! failure.
//!
//! A tracker knows us from its reply to an announce until it is sent `stopped`. It gets `started` as its
//! first announce. `completed` is due from the end of the download until one tracker has answered it or the
//! torrent is stopped. `stopped` goes to every tracker that knows us.

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
    /// It answered an announce, and no `stopped` was sent since.
    knows_us: bool,
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
            knows_us: false,
            tracker_id: None,
            last_result: None,
            ended_at: Instant::ZERO,
        }
    }

    fn announce(&self, event: AnnounceEvent) -> PlannedAnnounce {
        PlannedAnnounce { url: self.url.clone(), event, tracker_id: self.tracker_id.clone() }
    }
}

/// An announce to send.
#[derive(Clone, Debug)]
pub struct PlannedAnnounce {
    /// The tracker's announce URL.
    pub url: Arc<str>,
    /// Its event (BEP 3).
    pub event: AnnounceEvent,
    /// The `tracker id` of the tracker's last reply that has one, which is sent back (BEP 3).
    pub tracker_id: Option<Box<[u8]>>,
}

/// The trackers of one torrent.
#[derive(Debug)]
pub struct TrackerList {
    tiers: Vec<Vec<TrackerEntry>>,
    /// The tracker whose reply is awaited. At most one announce is outstanding, apart from `stopped`.
    awaited: Option<Arc<str>>,
    /// The tracker that answered last; `None` if the last announce failed.
    current: Option<Arc<str>>,
    /// No tracker has answered `completed` yet, and one has to.
    completed_due: bool,
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
        TrackerList { tiers, awaited: None, current: None, completed_due: false }
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
    /// or if every tracker refuses retries.
    pub fn next_at(&self) -> Instant {
        if self.awaited.is_some() {
            return Instant::NEVER;
        }
        let current = self.current.as_ref().and_then(|url| self.entries().find(|t| t.url == *url));
        match current {
            // `completed` does not wait for the tracker's interval.
            Some(_) if self.completed_due => Instant::ZERO,
            Some(t) => t.due_at,
            None => self.entries().map(|t| t.due_at).min().unwrap_or(Instant::NEVER),
        }
    }

    /// Returns the announce that is due now, if one is. The caller sends it, and passes its result to
    /// [`on_result`](TrackerList::on_result).
    pub fn begin_announce(&mut self, now: Instant) -> Option<PlannedAnnounce> {
        if self.next_at() > now {
            return None;
        }
        let completed = self.completed_due;
        let receiver_of_completed = if completed { self.current.clone() } else { None };
        let tracker = match receiver_of_completed {
            Some(url) => self.entries_mut().find(|t| t.url == url),
            None => self.entries_mut().find(|t| t.due_at <= now),
        }?;
        let event = if !tracker.knows_us {
            AnnounceEvent::Started
        } else if completed {
            AnnounceEvent::Completed
        } else {
            AnnounceEvent::None
        };
        let announce = tracker.announce(event);
        self.awaited = Some(announce.url.clone());
        Some(announce)
    }

    /// Handles the end of the download: `completed` becomes due. It does not if no tracker knows us and no
    /// announce is outstanding: then `started` already reports that no byte is left (BEP 3).
    pub fn on_completed(&mut self) {
        self.completed_due = self.awaited.is_some() || self.entries().any(|t| t.knows_us);
    }

    /// Returns the announce of `completed` if it is due, no reply is awaited, and the last announce did not
    /// fail. The caller sends it, and passes its result to [`on_result`](TrackerList::on_result).
    pub fn begin_completed(&mut self, now: Instant) -> Option<PlannedAnnounce> {
        (self.completed_due && self.current.is_some()).then(|| self.begin_announce(now)).flatten()
    }

    /// Handles the result of an announce. Ignores a result that is not awaited: that of `stopped`, or of an
    /// announce that was outstanding when the torrent was stopped or the tracker removed.
    pub fn on_result(
        &mut self,
        now: Instant,
        announce: &PlannedAnnounce,
        result: &Result<AnnounceReply, AnnounceError>,
    ) {
        if self.awaited.as_ref() != Some(&announce.url) || announce.event == AnnounceEvent::Stopped {
            return;
        }
        self.awaited = None;
        let url = announce.url.clone();
        let Some(tracker) = self.entries_mut().find(|t| t.url == url) else { return };
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
                self.current = Some(url.clone());
                if announce.event == AnnounceEvent::Completed {
                    self.completed_due = false;
                }
                self.move_to_front(&url);
            }
            Err(error) => {
                tracker.failures = tracker.failures.saturating_add(1);
                let wait = match error {
                    AnnounceError::Failure { retry_in: Some(RetryIn::Never), .. } => None,
                    AnnounceError::Failure { retry_in: Some(RetryIn::After(wait)), .. } => {
                        Some((*wait).clamp(limits::ANNOUNCE_MIN, limits::ANNOUNCE_MAX))
                    }
                    _ => Some(back_off(tracker.failures)),
                };
                tracker.due_at = wait.map_or(Instant::NEVER, |wait| now + wait);
                self.current = None;
            }
        }
    }

    /// Replaces the trackers, in the given order. A tracker in both lists keeps its state. Returns the
    /// announces of `stopped` to the removed trackers that know us.
    pub fn replace(&mut self, tiers: Vec<Vec<String>>) -> Vec<PlannedAnnounce> {
        let mut removed: Vec<TrackerEntry> = std::mem::take(&mut self.tiers).into_iter().flatten().collect();
        let mut entry_of = |url: String| match removed.iter().position(|t| *t.url == *url) {
            Some(at) => removed.swap_remove(at),
            None => TrackerEntry::new(url.into()),
        };
        let tiers = without_repeats(tiers).into_iter();
        self.tiers = tiers.map(|tier| tier.into_iter().map(&mut entry_of).collect()).collect();
        let is_removed =
            |url: &Option<Arc<str>>| url.as_ref().is_some_and(|url| removed.iter().any(|t| t.url == *url));
        if is_removed(&self.awaited) {
            self.awaited = None;
        }
        if is_removed(&self.current) {
            self.current = None;
        }
        removed.iter().filter(|t| t.knows_us).map(|t| t.announce(AnnounceEvent::Stopped)).collect()
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
            announcing: self.awaited.as_ref() == Some(&t.url),
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

    /// Handles the stop of the torrent: returns the announces of `stopped` to every tracker that knows us. No
    /// tracker knows us from then on.
    pub fn stop(&mut self) -> Vec<PlannedAnnounce> {
        self.current = None;
        self.completed_due = false;
        if let Some(awaited) = self.awaited.take() {
            // This tracker may have received the announce although its reply did not arrive.
            self.entries_mut().filter(|t| t.url == awaited).for_each(|t| t.knows_us = true);
        }
        let know_us = self.entries_mut().filter_map(|t| std::mem::take(&mut t.knows_us).then_some(t));
        know_us.map(|t| t.announce(AnnounceEvent::Stopped)).collect()
    }

    /// Handles the restart of the torrent: every tracker is due at once.
    pub fn restart(&mut self) {
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
mod tests {
    use super::*;

    #[test]
    fn kept_trackers_keep_their_state_and_removed_ones_get_stopped() {
        let mut list = trackers(&[&["a"], &["b"]]);
        let announce = list.begin_announce(at(0)).unwrap();
        list.on_result(at(1), &announce, &ok(1800));
        assert_eq!(list.stats(at(1))[0].last, Some(Ok(0)));
        let tiers = |urls: &[&str]| urls.iter().map(|u| vec![(*u).to_string()]).collect::<Vec<_>>();
        assert!(list.replace(tiers(&["c", "a"])).is_empty());
        let stats = list.stats(at(1));
        let kept: Vec<_> = stats.iter().map(|s| (&*s.url, s.tier, s.last.clone())).collect();
        assert_eq!(kept, [("c", 0, None), ("a", 1, Some(Ok(0)))]);
        let stopped = list.replace(tiers(&["c"]));
        assert_eq!(
            stopped.iter().map(|announce| (&*announce.url, announce.event)).collect::<Vec<_>>(),
            [("a", AnnounceEvent::Stopped)]
        );
        assert_eq!(&*list.begin_announce(at(2)).unwrap().url, "c");
    }

    #[test]
    fn a_reannounce_keeps_the_minimum_interval_and_retries_a_failed_tracker_at_once() {
        let mut list = trackers(&[&["a"]]);
        let announce = list.begin_announce(at(0)).unwrap();
        list.on_result(at(1), &announce, &ok(1800));
        list.reannounce(at(10));
        assert_eq!(list.next_at(), at(1) + limits::ANNOUNCE_MIN);
        let announce = list.begin_announce(at(1000)).unwrap();
        list.on_result(at(1001), &announce, &failed(None));
        list.reannounce(at(1002));
        assert_eq!(list.next_at(), at(1002));
    }

    fn trackers(tiers: &[&[&str]]) -> TrackerList {
        TrackerList::new(
            tiers.iter().map(|t| t.iter().map(|u| (*u).to_string()).collect()).collect(),
            &mut Rng::new(3),
        )
    }

    fn ok(interval_s: u64) -> Result<AnnounceReply, AnnounceError> {
        Ok(AnnounceReply { interval: Some(Duration::from_secs(interval_s)), ..AnnounceReply::default() })
    }

    fn failed(retry_in: Option<RetryIn>) -> Result<AnnounceReply, AnnounceError> {
        Err(AnnounceError::Failure { reason: "no".into(), retry_in })
    }

    fn at(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    #[test]
    fn after_a_failed_first_tier_the_second_is_announced_to_at_once() {
        let mut list = trackers(&[&["a"], &["b"]]);
        let announce = list.begin_announce(at(0)).unwrap();
        assert_eq!((&*announce.url, announce.event), ("a", AnnounceEvent::Started));
        assert!(list.begin_announce(at(0)).is_none(), "one announce at a time");
        list.on_result(at(1), &announce, &failed(None));
        let announce = list.begin_announce(at(1)).unwrap();
        assert_eq!(&*announce.url, "b");
        list.on_result(at(2), &announce, &ok(1800));
        assert_eq!(list.next_at(), at(1802));
        let announce = list.begin_announce(at(1802)).unwrap();
        assert_eq!(
            (&*announce.url, announce.event),
            ("a", AnnounceEvent::Started),
            "the first tier is tried again when it is due"
        );
    }

    #[test]
    fn a_tracker_that_answered_moves_to_the_front() {
        let mut list = trackers(&[&["a", "b", "c"]]);
        let first = list.begin_announce(at(0)).unwrap();
        list.on_result(at(0), &first, &failed(None));
        let second = list.begin_announce(at(0)).unwrap();
        list.on_result(at(0), &second, &ok(600));
        assert_eq!(list.begin_announce(at(600)).unwrap().url, second.url);
    }

    #[test]
    fn completed_is_sent_once_and_stopped_to_trackers_that_know_us() {
        let mut list = trackers(&[&["a"], &["b"]]);
        let announce = list.begin_announce(at(0)).unwrap();
        list.on_result(at(0), &announce, &ok(1800));
        list.on_completed();
        let announce = list.begin_announce(at(5)).unwrap();
        assert_eq!(announce.event, AnnounceEvent::Completed);
        list.on_result(at(5), &announce, &ok(1800));
        assert!(list.begin_announce(at(6)).is_none());
        let last: Vec<_> =
            list.stop().into_iter().map(|announce| (announce.url.to_string(), announce.event)).collect();
        assert_eq!(last, [("a".to_string(), AnnounceEvent::Stopped)]);
        assert!(list.stop().is_empty());
    }

    #[test]
    fn ignores_the_reply_to_stopped_while_another_is_awaited() {
        let mut list = trackers(&[&["a"]]);
        let announce = list.begin_announce(at(0)).unwrap();
        list.on_result(at(0), &announce, &ok(1800));
        let last = list.stop().remove(0);
        list.restart();
        let again = list.begin_announce(at(1)).unwrap();
        list.on_result(at(2), &last, &ok(60));
        assert_eq!(list.next_at(), Instant::NEVER, "the reply to the new announce is still awaited");
        list.on_result(at(3), &again, &ok(1800));
        assert_eq!(list.next_at(), at(1803));
    }

    #[test]
    fn completed_is_sent_even_if_the_download_ends_before_the_first_reply() {
        let mut list = trackers(&[&["a"]]);
        let announce = list.begin_announce(at(0)).unwrap();
        list.on_completed();
        list.on_result(at(1), &announce, &ok(1800));
        assert_eq!(list.begin_announce(at(1)).unwrap().event, AnnounceEvent::Completed);
    }

    #[test]
    fn completed_is_sent_before_stopped_and_only_once() {
        let mut list = trackers(&[&["a"]]);
        let announce = list.begin_announce(at(0)).unwrap();
        list.on_result(at(0), &announce, &ok(1800));
        list.on_completed();
        let announce = list.begin_completed(at(1)).unwrap();
        assert_eq!(announce.event, AnnounceEvent::Completed);
        list.on_result(at(1), &announce, &failed(None));
        assert!(list.begin_completed(at(1)).is_none(), "it is not sent again after a failure");
        assert_eq!(list.stop().len(), 1);
    }

    #[test]
    fn completed_is_not_sent_to_a_tracker_that_never_got_started() {
        let mut list = trackers(&[&["a"]]);
        list.on_completed();
        assert_eq!(list.begin_announce(at(0)).unwrap().event, AnnounceEvent::Started);
    }

    #[test]
    fn k7_intervals_are_clamped() {
        for (interval, waits) in [(0, 60), (1, 60), (u64::MAX / 1_000_000_000, 24 * 3600)] {
            let mut list = trackers(&[&["a"]]);
            let announce = list.begin_announce(at(0)).unwrap();
            list.on_result(at(0), &announce, &ok(interval));
            assert_eq!(list.next_at(), at(waits), "{interval}");
        }
    }

    #[test]
    fn k5_a_tracker_that_refuses_retries_gets_no_more_announces() {
        let mut list = trackers(&[&["a"]]);
        let announce = list.begin_announce(at(0)).unwrap();
        list.on_result(at(0), &announce, &failed(Some(RetryIn::Never)));
        assert_eq!(list.next_at(), Instant::NEVER);
    }

    #[test]
    fn a_failing_tracker_that_is_listed_twice_waits_as_one() {
        let twice = || vec![vec!["a".to_string(), "b".to_string()], vec!["a".to_string()]];
        let mut list = TrackerList::new(twice(), &mut Rng::new(3));
        assert_eq!(list.urls().count(), 2);
        let mut replaced = trackers(&[&["c"]]);
        replaced.replace(twice());
        for list in [&mut list, &mut replaced] {
            for _ in 0..2 {
                let announce = list.begin_announce(at(0)).unwrap();
                list.on_result(at(0), &announce, &failed(None));
            }
            assert!(list.begin_announce(at(1)).is_none(), "both wait");
        }
    }

    #[test]
    fn the_wait_grows_with_each_failure_up_to_an_hour() {
        assert_eq!(back_off(1), Duration::from_millis(17_500));
        assert!(back_off(2) > back_off(1));
        assert_eq!(back_off(u32::MAX), limits::ANNOUNCE_RETRY_MAX);
    }
}
