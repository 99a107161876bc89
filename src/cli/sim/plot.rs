//! Chart of completion over time: the share of bytes that peers have, and the share of complete peers.
//!
//! With several runs each curve is the median at each time, and its band goes from the smallest to the
//! greatest value.

use super::chart::{Axis, Chart, Mark, Point, Series};
use super::figures::{Outcome, Spread};
use crate::sim::{Sample, Scenario};

/// Points of a curve: more would not be visible and only make the file larger.
const POINTS: u32 = 200;

/// Returns the chart of these runs.
pub(super) fn chart(scenario: &Scenario, outcomes: &[Outcome]) -> Chart {
    let end = outcomes
        .iter()
        .filter_map(|o| o.report.samples.last())
        .map(|s| s.at.as_secs_f64())
        .fold(0.0, f64::max);
    let fluid = outcomes.first().map_or(0.0, |o| o.report.fluid_limit.as_secs_f64());
    let series = |name: &str, of: fn(&Sample) -> f64| {
        let point = |i| {
            let at = end * f64::from(i) / f64::from(POINTS);
            let spread =
                Spread::of(outcomes.iter().map(|o| 100.0 * value_at(&o.report.samples, at, of)), 0.0);
            Point { x: at, y: spread.median, low: spread.low, high: spread.high }
        };
        Series { name: name.to_owned(), points: (0..=POINTS).map(point).collect() }
    };
    Chart {
        title: super::table::command(scenario, outcomes),
        x: Axis::linear("seconds of virtual time"),
        y: Axis::linear("percent"),
        legend: String::new(),
        series: vec![
            series("bytes that are there", |s| s.have),
            series("peers that are complete", |s| s.complete),
        ],
        note: String::new(),
        marks: vec![Mark::Vertical(fluid, "fluid limit".to_owned())],
    }
}

/// Returns the curve's value at a time: linear between samples, constant before the first and after the last.
fn value_at(samples: &[Sample], at: f64, of: fn(&Sample) -> f64) -> f64 {
    let after = samples.partition_point(|s| s.at.as_secs_f64() < at);
    let left = samples.get(after.wrapping_sub(1));
    let right = samples.get(after);
    match (left, right) {
        (Some(left), Some(right)) => {
            let from = left.at.as_secs_f64();
            let to = right.at.as_secs_f64();
            let share = if to > from { (at - from) / (to - from) } else { 1.0 };
            of(left) + share * (of(right) - of(left))
        }
        (Some(only), None) | (None, Some(only)) => of(only),
        (None, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_curve_is_linear_between_samples() {
        let sample = |s, have| Sample { at: Duration::from_secs(s), have, complete: 0.0 };
        let samples = [sample(2, 0.2), sample(4, 0.4), sample(4, 0.6)];
        let at = |t| (value_at(&samples, t, |s| s.have) * 1000.0).round();
        assert_eq!([0.0, 2.0, 3.0, 4.0, 9.0].map(at), [200.0, 200.0, 300.0, 400.0, 600.0]);
        assert!(value_at(&[], 1.0, |s| s.have).is_nan());
    }
}
