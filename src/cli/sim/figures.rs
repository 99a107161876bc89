//! Figures of simulator runs: their names and units, their spread over many runs, and number formats.

use crate::sim::experiment::metric;
use crate::sim::{Report, quantile};
use std::time::Duration;

/// One finished run.
pub(super) struct Outcome {
    pub(super) seed: u64,
    pub(super) report: Report,
    /// Real time of the run.
    pub(super) took: Duration,
}

/// One figure of a run.
pub(super) struct Figure {
    /// Name in the table.
    pub(super) name: &'static str,
    /// JSON key, which ends with the unit.
    pub(super) key: &'static str,
    /// Unit after the number in the table.
    pub(super) unit: &'static str,
    pub(super) of: fn(&Outcome) -> f64,
}

const fn figure(
    name: &'static str,
    key: &'static str,
    unit: &'static str,
    of: fn(&Outcome) -> f64,
) -> Figure {
    Figure { name, key, unit, of }
}

/// Virtual times; the table compares them with the fluid limit.
pub(super) const TIMES: [Figure; 5] = [
    figure("fluid limit", "fluid_limit_s", "", |o| o.report.fluid_limit.as_secs_f64()),
    figure("first peer", "first_s", "", |o| metric::complete_s(&o.report, 0.0)),
    figure("median peer", "median_s", "", |o| metric::complete_s(&o.report, 0.5)),
    figure("90 % of the peers", "most_s", "", |o| metric::complete_s(&o.report, 0.9)),
    figure("last peer", "last_s", "", |o| metric::complete_s(&o.report, 1.0)),
];

/// All other figures.
pub(super) const REST: [Figure; 9] = [
    figure("last percent, median peer", "last_percent_median_s", "s", |o| {
        metric::last_percent_s(&o.report, 0.5)
    }),
    figure("last percent, worst peer", "last_percent_worst_s", "s", |o| {
        metric::last_percent_s(&o.report, 1.0)
    }),
    figure("complete", "complete_percent", "% of the peers", |o| metric::complete_percent(&o.report)),
    figure("wasted", "wasted_percent", "% of what was received", |o| metric::wasted_percent(&o.report)),
    figure("from the seeds", "seeds_percent", "% of what was sent", |o| metric::seeds_percent(&o.report)),
    figure("virtual time", "virtual_s", "s", |o| o.report.lasted.as_secs_f64()),
    figure("real time", "real_s", "s", |o| o.took.as_secs_f64()),
    figure("events", "events", "", |o| o.report.events as f64),
    figure("events a second", "events_per_s", "", |o| {
        o.report.events as f64 / o.took.as_secs_f64().max(1e-9)
    }),
];

/// Median of values, and a low and a high quantile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) low: f64,
    pub(super) median: f64,
    pub(super) high: f64,
}

impl Spread {
    /// Returns the quantiles `share`, 0.5 and 1 − `share` of the values. NaNs are left out.
    pub(super) fn of(values: impl Iterator<Item = f64>, share: f64) -> Spread {
        let mut values: Vec<f64> = values.filter(|v| !v.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        Spread {
            low: quantile(&values, share),
            median: quantile(&values, 0.5),
            high: quantile(&values, 1.0 - share),
        }
    }
}

/// Formats a number with about three significant digits: `0.12`, `12.3`, `1234`, `12.3 million`. Infinity is
/// `never`, NaN is `-`.
pub(super) fn short(value: f64) -> String {
    match value {
        v if v.is_nan() => "-".to_owned(),
        v if v.is_infinite() => "never".to_owned(),
        v if v >= 999_500.0 => format!("{} million", short(v / 1e6)),
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Formats a number as JSON; infinity and NaN are `null`.
pub(super) fn json_number(value: f64) -> String {
    if value.is_finite() { format!("{}", (value * 1e6).round() / 1e6) } else { "null".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits() {
        let numbers =
            [0.0, 0.123, 9.999, 12.34, 99.96, 1234.5, 12_345_678.0, f64::INFINITY, f64::NAN].map(short);
        assert_eq!(numbers, ["0.00", "0.12", "10.0", "12.3", "100", "1234", "12.3 million", "never", "-"]);
        assert_eq!(
            [1.5, 100.0, f64::INFINITY, 1.0 / 3.0].map(json_number),
            ["1.5", "100", "null", "0.333333"]
        );
    }

    #[test]
    fn a_spread_covers_the_given_quantiles() {
        let values = || (0..=10).map(f64::from).chain([f64::NAN]);
        assert_eq!(Spread::of(values(), 0.0), Spread { low: 0.0, median: 5.0, high: 10.0 });
        assert_eq!(Spread::of(values(), 0.1), Spread { low: 1.0, median: 5.0, high: 9.0 });
        assert!(Spread::of([f64::NAN].into_iter(), 0.0).median.is_nan());
    }
}
