//! Figures of one run: pure questions to a report, each with its unit in its name.
//!
//! An event that never happened has an infinite time (`INFINITY`); a figure that no peer could have is `NAN`.

use crate::sim::{PeerReport, Report};

/// The time in which this share of the peers was complete, seconds: 0 asks for the first peer, 1 for the
/// last.
pub fn complete_s(report: &Report, share: f64) -> f64 {
    group_s(report, share, |_| true)
}

/// The same among those peers alone whom `belongs` names.
pub fn group_s(report: &Report, share: f64, belongs: impl Fn(&PeerReport) -> bool) -> f64 {
    ranked(
        report
            .peers
            .iter()
            .filter(|p| belongs(p))
            .map(|p| p.complete.map_or(f64::INFINITY, |t| t.as_secs_f64())),
        share,
    )
}

/// From 99 % of its bytes to the last of them, seconds, for the peer at this rank among those who came so
/// far.
pub fn last_percent_s(report: &Report, share: f64) -> f64 {
    let of = |p: &PeerReport| {
        let nearly = p.nearly?;
        Some(p.complete.map_or(f64::INFINITY, |t| t.saturating_sub(nearly).as_secs_f64()))
    };
    ranked(report.peers.iter().filter_map(of), share)
}

/// How many times the fluid limit this time is.
pub fn times_fluid(report: &Report, seconds: f64) -> f64 {
    seconds / report.fluid_limit.as_secs_f64()
}

/// Share of the peers that have everything, percent.
pub fn complete_percent(report: &Report) -> f64 {
    let complete = report.peers.iter().filter(|p| p.complete.is_some()).count();
    100.0 * complete as f64 / report.peers.len() as f64
}

/// Share of the received payload that was received in vain, percent.
pub fn wasted_percent(report: &Report) -> f64 {
    100.0 * report.waste()
}

/// Share of the engines' upload that came from the seeds, percent.
pub fn seeds_percent(report: &Report) -> f64 {
    let peers: u64 = report.peers.iter().map(|p| p.uploaded).sum();
    100.0 * report.seeds_uploaded as f64 / (report.seeds_uploaded + peers) as f64
}

/// The value that this share of all values does not exceed; the smallest for 0.
fn ranked(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Line, Report};
    use std::time::Duration;

    fn report(times: &[Option<u64>]) -> Report {
        let peer = |(number, complete): (usize, &Option<u64>)| PeerReport {
            number: number as u32,
            line: Line::mbit(1, 1),
            dialable: true,
            free_rider: number == 0,
            first_piece: None,
            nearly: Some(Duration::from_secs(1)),
            complete: complete.map(Duration::from_secs),
            downloaded: 100,
            uploaded: 30,
            wasted: 5,
        };
        Report {
            peers: times.iter().enumerate().map(peer).collect(),
            seeds_uploaded: 40,
            samples: Vec::new(),
            fluid_limit: Duration::from_secs(2),
            lasted: Duration::from_secs(9),
            events: 1,
            faults: Default::default(),
            fingerprint: 0,
            wire_digest: 0,
        }
    }

    #[test]
    fn who_is_never_complete_counts_as_the_last() {
        let r = report(&[Some(4), Some(2), None, Some(8)]);
        assert_eq!([0.0, 0.25, 0.5, 0.75].map(|share| complete_s(&r, share)), [2.0, 2.0, 4.0, 8.0]);
        assert_eq!(
            (complete_s(&r, 1.0), last_percent_s(&r, 0.5), complete_percent(&r)),
            (f64::INFINITY, 3.0, 75.0)
        );
        assert_eq!(times_fluid(&r, 8.0), 4.0);
    }

    #[test]
    fn a_group_is_asked_alone_and_nobody_has_no_time() {
        let r = report(&[Some(4), Some(2)]);
        assert_eq!(group_s(&r, 1.0, |p| p.free_rider), 4.0);
        assert_eq!(group_s(&r, 1.0, |p| !p.free_rider), 2.0);
        assert!(group_s(&r, 1.0, |p| !p.dialable).is_nan());
    }

    #[test]
    fn shares_are_of_what_moved() {
        let r = report(&[Some(4), Some(2)]);
        assert_eq!((wasted_percent(&r), seeds_percent(&r)), (5.0, 40.0));
    }
}
