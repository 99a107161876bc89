//! Experiments: questions about the engine's policies, each answered by scenarios that differ in one
//! parameter.
//!
//! An experiment is pure data: the scenarios to run and the figures to compute from their reports. `cli::sim`
//! runs them with many seeds and prints the results. Each takes minutes: a swarm of a few dozen engines for
//! about a minute of virtual time.

mod behaviour;
mod link;
pub mod metric;
mod population;

use super::{Line, Report, Scenario};
use std::time::Duration;

/// A question and the scenarios that answer it.
#[derive(Clone, Copy, Debug)]
pub struct Experiment {
    /// Name on the command line.
    pub name: &'static str,
    /// The question.
    pub question: &'static str,
    /// The parameter that differs between the series.
    pub series: &'static str,
    /// The parameter on the x axis.
    pub x: &'static str,
    /// Whether the x axis is logarithmic.
    pub x_log: bool,
    /// Figures of every run; the first is the main one.
    pub metrics: &'static [Metric],
    /// Default number of seeds per arm.
    pub runs: u32,
    /// Runs must not be in parallel, because the experiment measures the cost of the simulation.
    pub alone: bool,
    arms: fn() -> Vec<Arm>,
}

/// A figure of one run.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name on the command line.
    pub name: &'static str,
    /// Description.
    pub label: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Whether a logarithmic axis suits it.
    pub log: bool,
    /// Lower bound under any policy.
    pub ideal: Option<f64>,
    /// Computes the figure.
    pub of: fn(&Scenario, &Report) -> f64,
}

/// One scenario of an experiment, without its seed.
#[derive(Clone, Debug)]
pub struct Arm {
    /// The series of the arm.
    pub series: String,
    /// Position on the x axis.
    pub x: f64,
    /// The position as text.
    pub at: String,
    /// The scenario to run.
    pub scenario: Scenario,
}

impl Experiment {
    /// Returns the arms, series by series, each in ascending order of x.
    pub fn arms(&self) -> Vec<Arm> {
        let mut arms = (self.arms)();
        arms.iter_mut().for_each(|arm| arm.scenario.name = format!("--experiment {}", self.name));
        arms
    }
}

/// All experiments.
pub const ALL: [Experiment; 11] = [
    behaviour::ENDGAME,
    behaviour::SNUBBING,
    behaviour::PICKING,
    behaviour::CHOKING,
    behaviour::CHOKING_SLOTS,
    population::DEGREE,
    population::UNDIALABLE,
    population::NAT,
    population::ADDRESSES,
    link::WINDOW,
    population::SCALE,
];

/// Returns the experiment of this name.
pub fn experiment(name: &str) -> Option<Experiment> {
    ALL.into_iter().find(|e| e.name == name)
}

/// Returns the default swarm of the experiments: peers on home lines, and one seed.
fn household(peers: u32, size: u64) -> Scenario {
    Scenario {
        size,
        piece_len: 256 * 1024,
        peers,
        seed_lines: vec![Line::mbit(20, 100)],
        lines: vec![Line::mbit(5, 20), Line::mbit(10, 50), Line::mbit(20, 100)],
        patience: Duration::from_secs(3600),
        ..Scenario::default()
    }
}

/// Returns an arm for each series and x.
fn grid<S: Copy>(series: &[(&str, S)], xs: &[f64], scenario: impl Fn(S, f64) -> Scenario) -> Vec<Arm> {
    let arm = |(name, choice): &(&str, S), x: f64| Arm {
        series: (*name).to_owned(),
        x,
        at: format!("{x}"),
        scenario: scenario(*choice, x),
    };
    series.iter().flat_map(|s| xs.iter().map(move |x| (s, *x))).map(|(s, x)| arm(s, x)).collect()
}

const fn times_fluid(name: &'static str, label: &'static str, of: fn(&Scenario, &Report) -> f64) -> Metric {
    Metric { name, label, unit: "x fluid limit", log: false, ideal: Some(1.0), of }
}

const MEDIAN: Metric = times_fluid("median", "time of the median peer", |_, r| {
    metric::times_fluid(r, metric::complete_s(r, 0.5))
});
const LAST: Metric =
    times_fluid("last", "time of the last peer", |_, r| metric::times_fluid(r, metric::complete_s(r, 1.0)));

const fn plain(
    name: &'static str,
    label: &'static str,
    unit: &'static str,
    of: fn(&Scenario, &Report) -> f64,
) -> Metric {
    Metric { name, label, unit, log: false, ideal: None, of }
}

const WASTED: Metric = plain("wasted", "received in vain", "%", |_, r| metric::wasted_percent(r));
const COMPLETE: Metric =
    plain("complete", "peers that are complete", "%", |_, r| metric::complete_percent(r));
const FROM_SEEDS: Metric = plain("from-seeds", "sent by the seed", "%", |_, r| metric::seeds_percent(r));
const LAST_PERCENT: Metric = Metric {
    log: true,
    ..plain("last-percent", "last percent of the median peer", "s", |_, r| metric::last_percent_s(r, 0.5))
};
const LAST_PERCENT_WORST: Metric = Metric {
    log: true,
    ..plain("last-percent-worst", "last percent of the worst peer", "s", |_, r| {
        metric::last_percent_s(r, 1.0)
    })
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{BLOCK_LEN, Geometry};
    use std::collections::BTreeSet;

    #[test]
    fn names_of_experiments_and_metrics_are_unique() {
        for e in ALL {
            assert_eq!(experiment(e.name).map(|found| found.question), Some(e.question));
            let names: BTreeSet<&str> = e.metrics.iter().map(|m| m.name).collect();
            assert!(!names.is_empty() && names.len() == e.metrics.len(), "{}", e.name);
        }
        assert_eq!(ALL.iter().map(|e| e.name).collect::<BTreeSet<_>>().len(), ALL.len());
        assert!(experiment("").is_none());
    }

    #[test]
    fn every_arm_is_valid_and_has_its_own_position() {
        for e in ALL {
            let mut places = BTreeSet::new();
            for Arm { series, x, scenario, .. } in e.arms() {
                assert!(
                    Geometry::new(scenario.size, scenario.piece_len.into()).is_ok() && scenario.peers > 0,
                    "{}",
                    e.name
                );
                assert!(
                    x.is_finite()
                        && (!e.x_log || x > 0.0)
                        && scenario.patience <= Duration::from_secs(3600 * 3),
                    "{}",
                    e.name
                );
                assert!(places.insert((series, x.to_bits())), "{} has two arms at {x}", e.name);
            }
            assert!(places.len() > 2, "{}", e.name);
        }
    }

    #[test]
    fn every_experiment_takes_minutes() {
        for e in ALL {
            let blocks: u64 = e
                .arms()
                .iter()
                .map(|a| u64::from(a.scenario.peers) * a.scenario.size / u64::from(BLOCK_LEN))
                .sum();
            let all = blocks * u64::from(e.runs);
            // The simulation of a block takes about 3 µs of one core.
            assert!(all <= 120_000_000, "{} moves {all} blocks", e.name);
        }
    }
}
