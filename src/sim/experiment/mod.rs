//! Experiments: questions to the engine's choices, each answered by many scenarios that differ in one thing.
//!
//! Pure data. An experiment says which scenarios to run and what to ask of their reports; running them with
//! many seeds, and telling the answer, is for others. Every one is small enough to be run in minutes: a swarm
//! of a few dozen engines, a minute of its time.

mod behaviour;
mod link;
pub mod metric;
mod population;

use super::{Line, Report, Scenario};
use std::time::Duration;

/// A question, and the runs that answer it.
#[derive(Clone, Copy, Debug)]
pub struct Experiment {
    /// What it is called.
    pub name: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// What tells the series apart.
    pub series: &'static str,
    /// What changes from left to right.
    pub x: &'static str,
    /// Whether that goes by factors and not by steps.
    pub x_log: bool,
    /// What is asked of every run; the first is what it is about.
    pub metrics: &'static [Metric],
    /// Seeds for each arm, by default.
    pub runs: u32,
    /// It is about what the simulation itself costs: nothing may run beside it.
    pub alone: bool,
    arms: fn() -> Vec<Arm>,
}

/// A figure of one run.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// What it is called on a command line.
    pub name: &'static str,
    /// What it is.
    pub label: &'static str,
    /// What it counts in.
    pub unit: &'static str,
    /// Whether it is better seen by factors.
    pub log: bool,
    /// What no policy can beat.
    pub ideal: Option<f64>,
    /// The figure.
    pub of: fn(&Scenario, &Report) -> f64,
}

/// One scenario of an experiment, without its seed.
#[derive(Clone, Debug)]
pub struct Arm {
    /// The series that it belongs to.
    pub series: String,
    /// Where it stands in the series.
    pub x: f64,
    /// The same in words.
    pub at: String,
    /// What is run.
    pub scenario: Scenario,
}

impl Experiment {
    /// Everything that is run, series by series, each from left to right.
    pub fn arms(&self) -> Vec<Arm> {
        let mut arms = (self.arms)();
        arms.iter_mut().for_each(|arm| arm.scenario.name = format!("--experiment {}", self.name));
        arms
    }
}

/// Every experiment.
pub const ALL: [Experiment; 10] = [
    behaviour::ENDGAME,
    behaviour::SNUBBING,
    behaviour::PICKING,
    behaviour::CHOKING,
    behaviour::CHOKING_SLOTS,
    population::DEGREE,
    population::UNDIALABLE,
    population::ADDRESSES,
    link::WINDOW,
    population::SCALE,
];

/// The experiment of this name.
pub fn experiment(name: &str) -> Option<Experiment> {
    ALL.into_iter().find(|e| e.name == name)
}

/// Who takes part where nothing else is said: people at home, and one of them has everything.
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

/// The arms of every series at every x.
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
    fn names_are_found_and_are_one_experiments_each() {
        for e in ALL {
            assert_eq!(experiment(e.name).map(|found| found.question), Some(e.question));
            let names: BTreeSet<&str> = e.metrics.iter().map(|m| m.name).collect();
            assert!(!names.is_empty() && names.len() == e.metrics.len(), "{}", e.name);
        }
        assert_eq!(ALL.iter().map(|e| e.name).collect::<BTreeSet<_>>().len(), ALL.len());
        assert!(experiment("").is_none());
    }

    #[test]
    fn every_arm_can_be_run_and_has_a_place_of_its_own() {
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
                assert!(places.insert((series, x.to_bits())), "{} says the same twice at {x}", e.name);
            }
            assert!(places.len() > 2, "{}", e.name);
        }
    }

    #[test]
    fn every_experiment_takes_minutes_and_not_hours() {
        for e in ALL {
            let blocks: u64 = e
                .arms()
                .iter()
                .map(|a| u64::from(a.scenario.peers) * a.scenario.size / u64::from(BLOCK_LEN))
                .sum();
            let all = blocks * u64::from(e.runs);
            // A block takes some 3 µs of one processor.
            assert!(all <= 120_000_000, "{} moves {all} blocks", e.name);
        }
    }
}
