//! Tests of the trackers of one torrent.

use super::*;

#[test]
fn kept_trackers_keep_their_state_and_removed_ones_get_stopped() {
    let mut list = trackers(&[&["a"], &["b"]]);
    let announce = list.begin_announce(at(0), false, not_busy).unwrap();
    list.on_result(at(1), &announce, &ok(1800));
    assert_eq!(list.stats(at(1))[0].last, Some(Ok(0)));
    let tiers = |urls: &[&str]| urls.iter().map(|u| vec![(*u).to_string()]).collect::<Vec<_>>();
    list.replace(tiers(&["c", "a"]));
    assert_eq!(last(&mut list), []);
    let stats = list.stats(at(1));
    let kept: Vec<_> = stats.iter().map(|s| (&*s.url, s.tier, s.last.clone())).collect();
    assert_eq!(kept, [("c", 0, None), ("a", 1, Some(Ok(0)))]);
    list.replace(tiers(&["c"]));
    assert_eq!(last(&mut list), stopped("a"));
    assert_eq!(&*list.begin_announce(at(2), false, not_busy).unwrap().url, "c");
}

#[test]
fn a_reannounce_keeps_the_minimum_interval_and_retries_a_failed_tracker_at_once() {
    let mut list = trackers(&[&["a"]]);
    let announce = list.begin_announce(at(0), false, not_busy).unwrap();
    list.on_result(at(1), &announce, &ok(1800));
    list.reannounce(at(10));
    assert_eq!(list.next_at(), at(1) + limits::ANNOUNCE_MIN);
    let announce = list.begin_announce(at(1000), false, not_busy).unwrap();
    list.on_result(at(1001), &announce, &failed(None));
    list.reannounce(at(1002));
    assert_eq!(list.next_at(), at(1002));
}

fn not_busy(_: &str) -> bool {
    false
}

/// Returns the announces that are owed after a stop: URL and event.
fn last(list: &mut TrackerList) -> Vec<(String, AnnounceEvent)> {
    list.begin_last().into_iter().map(|announce| (announce.url.to_string(), announce.event)).collect()
}

fn stopped(url: &str) -> Vec<(String, AnnounceEvent)> {
    vec![(url.to_string(), AnnounceEvent::Stopped)]
}

/// Answers `started` of a list's only tracker.
fn started(list: &mut TrackerList) {
    let announce = list.begin_announce(at(0), false, not_busy).unwrap();
    assert_eq!(announce.event, AnnounceEvent::Started);
    list.on_result(at(0), &announce, &ok(1800));
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
    let announce = list.begin_announce(at(0), false, not_busy).unwrap();
    assert_eq!((&*announce.url, announce.event), ("a", AnnounceEvent::Started));
    assert!(list.begin_announce(at(0), false, not_busy).is_none(), "one announce at a time");
    list.on_result(at(1), &announce, &failed(None));
    let announce = list.begin_announce(at(1), false, not_busy).unwrap();
    assert_eq!(&*announce.url, "b");
    list.on_result(at(2), &announce, &ok(1800));
    assert_eq!(list.next_at(), at(1802));
    let announce = list.begin_announce(at(1802), false, not_busy).unwrap();
    assert_eq!(
        (&*announce.url, announce.event),
        ("a", AnnounceEvent::Started),
        "the first tier is tried again when it is due"
    );
}

#[test]
fn a_tracker_that_answered_moves_to_the_front() {
    let mut list = trackers(&[&["a", "b", "c"]]);
    let first = list.begin_announce(at(0), false, not_busy).unwrap();
    list.on_result(at(0), &first, &failed(None));
    let second = list.begin_announce(at(0), false, not_busy).unwrap();
    list.on_result(at(0), &second, &ok(600));
    assert_eq!(list.begin_announce(at(600), false, not_busy).unwrap().url, second.url);
}

#[test]
fn completed_is_sent_once_and_stopped_to_trackers_that_know_us() {
    let mut list = trackers(&[&["a"], &["b"]]);
    let announce = list.begin_announce(at(0), false, not_busy).unwrap();
    list.on_result(at(0), &announce, &ok(1800));
    list.on_completed();
    assert!(list.begin_announce(at(4), false, not_busy).is_none(), "the record does not say so yet");
    list.on_completed_saved(true);
    let announce = list.begin_announce(at(5), false, not_busy).unwrap();
    assert_eq!(announce.event, AnnounceEvent::Completed);
    list.on_result(at(5), &announce, &ok(1800));
    list.on_completed_saved(true);
    assert!(list.begin_announce(at(6), false, not_busy).is_none());
    list.stop();
    assert_eq!(last(&mut list), stopped("a"));
    assert_eq!(last(&mut list), []);
}

#[test]
fn a1_the_next_started_waits_for_the_result_of_stopped() {
    let mut list = trackers(&[&["a"]]);
    started(&mut list);
    list.stop();
    let last = list.begin_last().remove(0);
    list.restart();
    assert!(list.begin_announce(at(1), false, not_busy).is_none(), "stopped is under way");
    list.on_result(at(2), &last, &ok(60));
    let again = list.begin_announce(at(2), false, not_busy).unwrap();
    assert_eq!(again.event, AnnounceEvent::Started);
    list.on_result(at(2), &last, &ok(60));
    assert_eq!(list.next_at(), Instant::NEVER, "a second result of stopped is ignored");
    list.on_result(at(3), &again, &ok(1800));
    assert_eq!(list.next_at(), at(1803));
}

#[test]
fn a1_stopped_waits_for_started_and_is_not_sent_after_a_refusal() {
    let timed_out = || Err(AnnounceError::Timeout);
    for (result, expected) in [(ok(1800), stopped("a")), (timed_out(), stopped("a")), (failed(None), vec![])]
    {
        let mut list = trackers(&[&["a"], &["b"]]);
        let announce = list.begin_announce(at(0), false, not_busy).unwrap();
        list.stop();
        assert_eq!(last(&mut list), [], "started is under way");
        assert!(!list.is_over());
        list.on_result(at(1), &announce, &result);
        assert_eq!(last(&mut list), expected, "{result:?}");
    }
    let mut list = trackers(&[&["a"]]);
    list.stop();
    assert_eq!(last(&mut list), [], "started was never sent");
}

#[test]
fn a1_a_removed_tracker_gets_stopped_after_the_announce_that_is_under_way() {
    let mut list = trackers(&[&["a"]]);
    let announce = list.begin_announce(at(0), false, not_busy).unwrap();
    list.replace(vec![vec!["b".into()]]);
    assert_eq!(last(&mut list), []);
    list.on_result(at(1), &announce, &ok(1800));
    assert_eq!(last(&mut list), stopped("a"));
    assert_eq!(&*list.begin_announce(at(1), false, not_busy).unwrap().url, "b");
    // A tracker that comes back while its `stopped` is under way waits for it.
    list.replace(vec![vec!["a".into()]]);
    assert!(list.begin_announce(at(2), false, not_busy).is_none());
}

#[test]
fn a2_completed_is_sent_after_the_first_reply_and_before_stopped() {
    for stops_first in [false, true] {
        let mut list = trackers(&[&["a"]]);
        let announce = list.begin_announce(at(0), false, not_busy).unwrap();
        list.on_completed();
        if stops_first {
            list.stop();
            assert_eq!(last(&mut list), []);
        }
        list.on_result(at(1), &announce, &ok(1800));
        assert_eq!(last(&mut list), [], "the record is not saved");
        list.on_completed_saved(true);
        list.stop();
        let completed = list.begin_last().remove(0);
        assert_eq!(completed.event, AnnounceEvent::Completed);
        assert_eq!(last(&mut list), [], "stopped waits for the reply");
        list.on_result(at(2), &completed, &failed(None));
        assert_eq!(last(&mut list), stopped("a"), "completed is not sent again after a failure");
    }
}

#[test]
fn a2_completed_that_is_due_during_a_periodic_announce_is_sent_after_it_although_the_torrent_stops() {
    let mut list = trackers(&[&["a"]]);
    started(&mut list);
    let periodic = list.begin_announce(at(1800), false, not_busy).unwrap();
    list.on_completed();
    list.on_completed_saved(true);
    list.stop();
    assert_eq!(last(&mut list), []);
    list.on_result(at(1801), &periodic, &ok(1800));
    assert_eq!(last(&mut list), [("a".to_string(), AnnounceEvent::Completed)]);
}

#[test]
fn a2_completed_that_no_record_could_keep_is_not_sent() {
    let mut list = trackers(&[&["a"]]);
    started(&mut list);
    list.on_completed();
    list.stop();
    assert_eq!(last(&mut list), [], "stopped waits for the record");
    list.on_completed_saved(false);
    assert_eq!(last(&mut list), stopped("a"));
}

#[test]
fn completed_is_not_sent_to_a_tracker_that_never_got_started() {
    let mut list = trackers(&[&["a"]]);
    list.on_completed();
    list.on_completed_saved(true);
    started(&mut list);
    assert_eq!(list.begin_announce(at(0), false, not_busy).unwrap().event, AnnounceEvent::Completed);
}

#[test]
fn a2_a_partial_seed_sends_paused_in_each_periodic_announce() {
    let mut list = trackers(&[&["a"]]);
    let first = list.begin_announce(at(0), true, not_busy).unwrap();
    assert_eq!(first.event, AnnounceEvent::Started);
    list.on_result(at(0), &first, &ok(1800));
    let mut now = 1800;
    for paused in [true, true, false] {
        let announce = list.begin_announce(at(now), paused, not_busy).unwrap();
        assert_eq!(announce.event, if paused { AnnounceEvent::Paused } else { AnnounceEvent::None });
        list.on_result(at(now), &announce, &ok(1800));
        now += 1800;
    }
}

#[test]
fn a_tracker_that_an_earlier_entry_of_the_torrent_still_announces_to_is_not_announced_to() {
    let mut list = trackers(&[&["a"], &["b"]]);
    assert_eq!(&*list.begin_announce(at(0), false, |url| url == "a").unwrap().url, "b");
}

#[test]
fn k7_intervals_are_clamped() {
    for (interval, waits) in [(0, 60), (1, 60), (u64::MAX / 1_000_000_000, 24 * 3600)] {
        let mut list = trackers(&[&["a"]]);
        let announce = list.begin_announce(at(0), false, not_busy).unwrap();
        list.on_result(at(0), &announce, &ok(interval));
        assert_eq!(list.next_at(), at(waits), "{interval}");
    }
}

#[test]
fn k5_a_tracker_that_refuses_retries_gets_no_more_announces() {
    let mut list = trackers(&[&["a"]]);
    let announce = list.begin_announce(at(0), false, not_busy).unwrap();
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
            let announce = list.begin_announce(at(0), false, not_busy).unwrap();
            list.on_result(at(0), &announce, &failed(None));
        }
        assert!(list.begin_announce(at(1), false, not_busy).is_none(), "both wait");
    }
}

#[test]
fn the_wait_grows_with_each_failure_up_to_an_hour() {
    assert_eq!(back_off(1), Duration::from_millis(17_500));
    assert!(back_off(2) > back_off(1));
    assert_eq!(back_off(u32::MAX), limits::ANNOUNCE_RETRY_MAX);
}
