//! The order of announces (BEP 12, 31): tiers in order, each shuffled. The first tracker that answers moves
//! to the front of its tier and gets the next announces. A tracker that fails waits longer each time, and the
//! next one gets the announce at once.
//!
//! `started` is sent to a tracker that does not know us, `completed` once to one that does, `stopped` to all
//! that do.

use crate::engine::limits;
use crate::engine::snapshots::TrackerStats;
use crate::units::{Instant, Rng};
use crate::wire::{AnnounceError, AnnounceEvent, AnnounceReply, RetryIn};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
struct TrackerEntry {
    url: Arc<str>,
    failures: u32,
    not_before: Instant,
    /// It answered an announce, and no `stopped` was sent since.
    knows_us: bool,
    id: Option<Box<[u8]>>,
    /// The result of the last announce: the number of addresses, or the reason of the failure.
    last: Option<Result<usize, Box<str>>>,
    /// When the last announce was answered or failed.
    asked_at: Instant,
}

impl TrackerEntry {
    fn new(url: Arc<str>) -> TrackerEntry {
        TrackerEntry {
            url,
            failures: 0,
            not_before: Instant::ZERO,
            knows_us: false,
            id: None,
            last: None,
            asked_at: Instant::ZERO,
        }
    }

    fn stopped(&self) -> PlannedAnnounce {
        PlannedAnnounce { url: self.url.clone(), event: AnnounceEvent::Stopped, tracker_id: self.id.clone() }
    }
}

/// An announce to send.
#[derive(Clone, Debug)]
pub struct PlannedAnnounce {
    /// The tracker.
    pub url: Arc<str>,
    /// The event.
    pub event: AnnounceEvent,
    /// The tracker id of its last reply, which is sent back.
    pub tracker_id: Option<Box<[u8]>>,
}

/// The trackers of one torrent.
#[derive(Debug)]
pub struct TrackerList {
    tiers: Vec<Vec<TrackerEntry>>,
    /// The tracker whose reply is awaited.
    asking: Option<Arc<str>>,
    /// The tracker that answered last, if the last announce did not fail.
    current: Option<Arc<str>>,
    /// `completed` is to be sent.
    completed: bool,
}

impl TrackerList {
    /// Returns a list of these tiers, each shuffled.
    pub fn new(tiers: Vec<Vec<String>>, rng: &mut Rng) -> TrackerList {
        let tiers = tiers
            .into_iter()
            .map(|mut tier| {
                rng.shuffle(&mut tier);
                tier.into_iter().map(|url| TrackerEntry::new(url.into())).collect()
            })
            .collect();
        TrackerList { tiers, asking: None, current: None, completed: false }
    }

    /// Iterates over the announce URLs, tier by tier.
    pub fn urls(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tiers.iter().flatten().map(|t| &t.url)
    }

    fn all(&mut self) -> impl Iterator<Item = &mut TrackerEntry> {
        self.tiers.iter_mut().flatten()
    }

    /// Returns when the next announce is due; [`Instant::NEVER`] while a reply is awaited, or without a
    /// tracker.
    pub fn next(&self) -> Instant {
        if self.asking.is_some() {
            return Instant::NEVER;
        }
        let all = || self.tiers.iter().flatten();
        let current = self.current.as_ref().and_then(|url| all().find(|t| t.url == *url));
        match current {
            Some(_) if self.completed => Instant::ZERO,
            Some(t) => t.not_before,
            None => all().map(|t| t.not_before).min().unwrap_or(Instant::NEVER),
        }
    }

    /// Returns the announce that is due now, if one is. [`answered`](TrackerList::answered) must follow.
    pub fn ask(&mut self, now: Instant) -> Option<PlannedAnnounce> {
        if self.next() > now {
            return None;
        }
        let completed = self.completed;
        let current = self.current.clone();
        let tracker = match current.filter(|_| completed) {
            Some(url) => self.all().find(|t| t.url == url),
            None => self.all().find(|t| t.not_before <= now),
        }?;
        let event = if !tracker.knows_us {
            AnnounceEvent::Started
        } else if completed {
            AnnounceEvent::Completed
        } else {
            AnnounceEvent::None
        };
        let announce = PlannedAnnounce { url: tracker.url.clone(), event, tracker_id: tracker.id.clone() };
        self.asking = Some(announce.url.clone());
        Some(announce)
    }

    /// Notes that the download completed. `completed` is sent only to a tracker that got `started`, or gets
    /// it now.
    pub fn complete(&mut self) {
        self.completed = self.asking.is_some() || self.tiers.iter().flatten().any(|t| t.knows_us);
    }

    /// Returns the announce of `completed`, if it is still to be sent. [`answered`](TrackerList::answered)
    /// must follow.
    pub fn ask_completed(&mut self, now: Instant) -> Option<PlannedAnnounce> {
        (self.completed && self.current.is_some()).then(|| self.ask(now)).flatten()
    }

    /// Handles the result of an announce. A late one, of an announce before a stop, is ignored.
    pub fn answered(
        &mut self,
        now: Instant,
        announce: &PlannedAnnounce,
        result: &Result<AnnounceReply, AnnounceError>,
    ) {
        if self.asking.as_ref() != Some(&announce.url) || announce.event == AnnounceEvent::Stopped {
            return;
        }
        self.asking = None;
        let url = announce.url.clone();
        let Some(tracker) = self.all().find(|t| t.url == url) else { return };
        tracker.last =
            Some(result.as_ref().map(|reply| reply.peers.len()).map_err(|error| error.to_string().into()));
        tracker.asked_at = now;
        match result {
            Ok(reply) => {
                tracker.failures = 0;
                tracker.knows_us = true;
                let interval = reply
                    .interval
                    .unwrap_or(limits::ANNOUNCE_DEFAULT)
                    .max(reply.min_interval.unwrap_or_default());
                tracker.not_before = now + interval.clamp(limits::ANNOUNCE_MIN, limits::ANNOUNCE_MAX);
                if reply.tracker_id.is_some() {
                    tracker.id.clone_from(&reply.tracker_id);
                }
                self.current = Some(url.clone());
                self.completed &= announce.event != AnnounceEvent::Completed;
                self.move_to_front(&url);
            }
            Err(error) => {
                tracker.failures = tracker.failures.saturating_add(1);
                let retry = match error {
                    AnnounceError::Failure { retry_in: Some(RetryIn::Never), .. } => None,
                    AnnounceError::Failure { retry_in: Some(RetryIn::After(d)), .. } => {
                        Some((*d).clamp(limits::ANNOUNCE_MIN, limits::ANNOUNCE_MAX))
                    }
                    _ => Some(back_off(tracker.failures)),
                };
                tracker.not_before = retry.map_or(Instant::NEVER, |d| now + d);
                self.current = None;
            }
        }
    }

    /// Replaces the trackers. Trackers in both lists keep their state. Returns the announces of `stopped` to
    /// removed trackers that know us.
    pub fn replace(&mut self, tiers: Vec<Vec<String>>) -> Vec<PlannedAnnounce> {
        let mut old: Vec<TrackerEntry> = std::mem::take(&mut self.tiers).into_iter().flatten().collect();
        let mut entry = |url: String| match old.iter().position(|t| *t.url == *url) {
            Some(at) => old.swap_remove(at),
            None => TrackerEntry::new(url.into()),
        };
        self.tiers = tiers.into_iter().map(|tier| tier.into_iter().map(&mut entry).collect()).collect();
        let is_gone =
            |url: &Option<Arc<str>>| url.as_ref().is_some_and(|url| old.iter().any(|t| t.url == *url));
        if is_gone(&self.asking) {
            self.asking = None;
        }
        if is_gone(&self.current) {
            self.current = None;
        }
        old.iter().filter(|t| t.knows_us).map(TrackerEntry::stopped).collect()
    }

    /// Makes announces due soon: at once for a tracker that failed, and the shortest interval after its last
    /// reply for one that answered.
    pub fn reannounce(&mut self, now: Instant) {
        for t in self.all() {
            let earliest =
                if t.failures > 0 || t.last.is_none() { now } else { t.asked_at + limits::ANNOUNCE_MIN };
            t.not_before = t.not_before.min(earliest.max(now));
        }
    }

    /// Returns the state of every tracker, tier by tier.
    pub fn stats(&self, now: Instant) -> Vec<TrackerStats> {
        let tiers = self.tiers.iter().enumerate();
        let entries = tiers.flat_map(|(tier, entries)| entries.iter().map(move |entry| (tier, entry)));
        let stats = |(tier, t): (usize, &TrackerEntry)| TrackerStats {
            url: t.url.clone(),
            tier,
            last: t
                .last
                .as_ref()
                .map(|last| last.as_ref().map(|peers| *peers).map_err(|error| error.to_string())),
            announcing: self.asking.as_ref() == Some(&t.url),
            next: (t.not_before < Instant::NEVER).then(|| t.not_before.since(now)),
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

    /// Returns the announces of `stopped` to every tracker that knows us, and forgets that they do.
    pub fn stop(&mut self) -> Vec<PlannedAnnounce> {
        self.current = None;
        self.completed = false;
        if let Some(asking) = self.asking.take() {
            // It may have received the announce although its reply did not arrive.
            self.all().filter(|t| t.url == asking).for_each(|t| t.knows_us = true);
        }
        self.all().filter_map(|t| std::mem::take(&mut t.knows_us).then(|| t.stopped())).collect()
    }

    /// Makes an announce to every tracker due: the torrent runs again.
    pub fn restart(&mut self) {
        self.all().for_each(|t| t.not_before = Instant::ZERO);
    }
}

fn back_off(failures: u32) -> Duration {
    let n = failures.min(1000);
    (limits::ANNOUNCE_RETRY + limits::ANNOUNCE_RETRY_STEP * (n * n)).min(limits::ANNOUNCE_RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_trackers_keep_their_state_and_removed_ones_get_stopped() {
        let mut t = trackers(&[&["a"], &["b"]]);
        let q = t.ask(at(0)).unwrap();
        t.answered(at(1), &q, &ok(1800));
        assert_eq!(t.stats(at(1))[0].last, Some(Ok(0)));
        let tiers = |urls: &[&str]| urls.iter().map(|u| vec![(*u).to_string()]).collect::<Vec<_>>();
        assert!(t.replace(tiers(&["c", "a"])).is_empty());
        let stats = t.stats(at(1));
        let of: Vec<_> = stats.iter().map(|s| (&*s.url, s.tier, s.last.clone())).collect();
        assert_eq!(of, [("c", 0, None), ("a", 1, Some(Ok(0)))]);
        let gone = t.replace(tiers(&["c"]));
        assert_eq!(
            gone.iter().map(|p| (&*p.url, p.event)).collect::<Vec<_>>(),
            [("a", AnnounceEvent::Stopped)]
        );
        assert_eq!(&*t.ask(at(2)).unwrap().url, "c");
    }

    #[test]
    fn a_reannounce_keeps_the_shortest_interval_and_retries_a_failed_tracker_at_once() {
        let mut t = trackers(&[&["a"]]);
        let q = t.ask(at(0)).unwrap();
        t.answered(at(1), &q, &ok(1800));
        t.reannounce(at(10));
        assert_eq!(t.next(), at(1) + limits::ANNOUNCE_MIN);
        let q = t.ask(at(1000)).unwrap();
        t.answered(at(1001), &q, &failed(None));
        t.reannounce(at(1002));
        assert_eq!(t.next(), at(1002));
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
        let mut t = trackers(&[&["a"], &["b"]]);
        let q = t.ask(at(0)).unwrap();
        assert_eq!((&*q.url, q.event), ("a", AnnounceEvent::Started));
        assert!(t.ask(at(0)).is_none(), "one announce at a time");
        t.answered(at(1), &q, &failed(None));
        let q = t.ask(at(1)).unwrap();
        assert_eq!(&*q.url, "b");
        t.answered(at(2), &q, &ok(1800));
        assert_eq!(t.next(), at(1802));
        let q = t.ask(at(1802)).unwrap();
        assert_eq!(
            (&*q.url, q.event),
            ("a", AnnounceEvent::Started),
            "the first tier is tried again when it is due"
        );
    }

    #[test]
    fn a_tracker_that_answered_moves_to_the_front() {
        let mut t = trackers(&[&["a", "b", "c"]]);
        let first = t.ask(at(0)).unwrap();
        t.answered(at(0), &first, &failed(None));
        let second = t.ask(at(0)).unwrap();
        t.answered(at(0), &second, &ok(600));
        assert_eq!(t.ask(at(600)).unwrap().url, second.url);
    }

    #[test]
    fn completed_is_sent_once_and_stopped_to_trackers_that_know_us() {
        let mut t = trackers(&[&["a"], &["b"]]);
        let q = t.ask(at(0)).unwrap();
        t.answered(at(0), &q, &ok(1800));
        t.complete();
        let q = t.ask(at(5)).unwrap();
        assert_eq!(q.event, AnnounceEvent::Completed);
        t.answered(at(5), &q, &ok(1800));
        assert!(t.ask(at(6)).is_none());
        let last: Vec<_> = t.stop().into_iter().map(|q| (q.url.to_string(), q.event)).collect();
        assert_eq!(last, [("a".to_string(), AnnounceEvent::Stopped)]);
        assert!(t.stop().is_empty());
    }

    #[test]
    fn the_reply_to_stopped_is_not_taken_for_one_to_the_next_announce() {
        let mut t = trackers(&[&["a"]]);
        let q = t.ask(at(0)).unwrap();
        t.answered(at(0), &q, &ok(1800));
        let last = t.stop().remove(0);
        t.restart();
        let again = t.ask(at(1)).unwrap();
        t.answered(at(2), &last, &ok(60));
        assert_eq!(t.next(), Instant::NEVER, "the reply to the new announce is still awaited");
        t.answered(at(3), &again, &ok(1800));
        assert_eq!(t.next(), at(1803));
    }

    #[test]
    fn completed_is_sent_even_if_the_download_ends_before_the_first_reply() {
        let mut t = trackers(&[&["a"]]);
        let q = t.ask(at(0)).unwrap();
        t.complete();
        t.answered(at(1), &q, &ok(1800));
        assert_eq!(t.ask(at(1)).unwrap().event, AnnounceEvent::Completed);
    }

    #[test]
    fn completed_is_sent_before_stopped_and_only_once() {
        let mut t = trackers(&[&["a"]]);
        let q = t.ask(at(0)).unwrap();
        t.answered(at(0), &q, &ok(1800));
        t.complete();
        let q = t.ask_completed(at(1)).unwrap();
        assert_eq!(q.event, AnnounceEvent::Completed);
        t.answered(at(1), &q, &failed(None));
        assert!(t.ask_completed(at(1)).is_none(), "it is not sent again after a failure");
        assert_eq!(t.stop().len(), 1);
    }

    #[test]
    fn completed_is_not_sent_to_a_tracker_that_never_got_started() {
        let mut t = trackers(&[&["a"]]);
        t.complete();
        assert_eq!(t.ask(at(0)).unwrap().event, AnnounceEvent::Started);
    }

    #[test]
    fn k7_intervals_are_clamped() {
        for (interval, waits) in [(0, 60), (1, 60), (u64::MAX / 1_000_000_000, 24 * 3600)] {
            let mut t = trackers(&[&["a"]]);
            let q = t.ask(at(0)).unwrap();
            t.answered(at(0), &q, &ok(interval));
            assert_eq!(t.next(), at(waits), "{interval}");
        }
    }

    #[test]
    fn k5_a_tracker_that_replies_never_gets_no_more_announces() {
        let mut t = trackers(&[&["a"]]);
        let q = t.ask(at(0)).unwrap();
        t.answered(at(0), &q, &failed(Some(RetryIn::Never)));
        assert_eq!(t.next(), Instant::NEVER);
    }

    #[test]
    fn failures_wait_longer_each_time_up_to_an_hour() {
        assert_eq!(back_off(1), Duration::from_millis(17_500));
        assert!(back_off(2) > back_off(1));
        assert_eq!(back_off(u32::MAX), limits::ANNOUNCE_RETRY_MAX);
    }
}
