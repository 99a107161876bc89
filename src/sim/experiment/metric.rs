//! Figures of one run, as pure functions of its report; the unit is in the name.
//!
//! The time of an event that did not occur is `INFINITY`; a figure of an empty group is `NAN`.

use crate::sim::{PeerReport, Report};

/// Returns the time in seconds until this share of the peers was complete: 0 is the first peer, 1 the last.
pub fn complete_s(report: &Report, share: f64) -> f64 {
    group_s(report, share, |_| true)
}

/// Returns the same as [`complete_s`] for the peers that `belongs` selects.
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

/// Returns the time in seconds from 99 % of the bytes to completion, at this rank of the peers that reached
/// 99 %.
pub fn last_percent_s(report: &Report, share: f64) -> f64 {
    let of = |p: &PeerReport| {
        let nearly = p.nearly?;
        Some(p.complete.map_or(f64::INFINITY, |t| t.saturating_sub(nearly).as_secs_f64()))
    };
    ranked(report.peers.iter().filter_map(of), share)
}

/// Returns a time as a multiple of the fluid limit.
pub fn times_fluid(report: &Report, seconds: f64) -> f64 {
    seconds / report.fluid_limit.as_secs_f64()
}

/// Returns the share of the complete peers, percent.
pub fn complete_percent(report: &Report) -> f64 {
    let complete = report.peers.iter().filter(|p| p.complete.is_some()).count();
    100.0 * complete as f64 / report.peers.len() as f64
}

/// Returns the wasted share of the received payload, percent.
pub fn wasted_percent(report: &Report) -> f64 {
    100.0 * report.waste()
}

/// Returns the seeds' share of the engines' upload, percent.
pub fn seeds_percent(report: &Report) -> f64 {
    let peers: u64 = report.peers.iter().map(|p| p.uploaded).sum();
    100.0 * report.seeds_uploaded as f64 / (report.seeds_uploaded + peers) as f64
}

/// Returns the smallest value that at least this share of all values does not exceed; the minimum for 0.
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
            connections: Default::default(),
            faults: Default::default(),
            fingerprint: 0,
            wire_digest: 0,
        }
    }

    #[test]
    fn an_incomplete_peer_ranks_last_with_infinite_time() {
        let r = report(&[Some(4), Some(2), None, Some(8)]);
        assert_eq!([0.0, 0.25, 0.5, 0.75].map(|share| complete_s(&r, share)), [2.0, 2.0, 4.0, 8.0]);
        assert_eq!(
            (complete_s(&r, 1.0), last_percent_s(&r, 0.5), complete_percent(&r)),
            (f64::INFINITY, 3.0, 75.0)
        );
        assert_eq!(times_fluid(&r, 8.0), 4.0);
    }

    #[test]
    fn a_group_ranks_only_its_peers_and_an_empty_group_is_nan() {
        let r = report(&[Some(4), Some(2)]);
        assert_eq!(group_s(&r, 1.0, |p| p.free_rider), 4.0);
        assert_eq!(group_s(&r, 1.0, |p| !p.free_rider), 2.0);
        assert!(group_s(&r, 1.0, |p| !p.dialable).is_nan());
    }

    #[test]
    fn shares_are_computed_from_totals() {
        let r = report(&[Some(4), Some(2)]);
        assert_eq!((wasted_percent(&r), seeds_percent(&r)), (5.0, 40.0));
    }
}
