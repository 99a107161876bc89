//! Experiments on endgame, snubbing, picking and choking.

use super::{
    COMPLETE, Experiment, FROM_SEEDS, LAST, LAST_PERCENT, LAST_PERCENT_WORST, MEDIAN, Metric, WASTED,
};
use super::{grid, household, metric, plain, times_fluid};
use crate::engine::{Endgame, Picking, Policy};
use crate::sim::{MIB, PuppetRole, Report, Scenario};
use std::time::Duration;

/// Half of the disturbing puppets are slow, half are snubbers.
pub(super) const ENDGAME: Experiment = Experiment {
    name: "endgame",
    question: "What does endgame save at the end, and what does it waste?",
    series: "endgame",
    x: "slow and silent peers beside 40 engines",
    x_log: false,
    metrics: &[LAST_PERCENT, LAST_PERCENT_WORST, WASTED, MEDIAN, LAST],
    runs: 20,
    alone: false,
    arms: || {
        let series = [
            ("off", Endgame::Off),
            ("bounded", Policy::default().endgame),
            ("unbounded", Endgame::Unbounded),
        ];
        grid(&series, &[0.0, 4.0, 8.0, 16.0, 24.0], |endgame, puppets| {
            let half = puppets as u32 / 2;
            let policy = Policy { endgame, ..Policy::default() };
            Scenario {
                puppets: vec![(PuppetRole::Slow, half), (PuppetRole::Snubber, half)],
                policy,
                ..household(40, 64 * MIB)
            }
        })
    },
};

/// Number of engines; snubbers are added to them.
const FAITHFUL: u32 = 30;

pub(super) const SNUBBING: Experiment = Experiment {
    name: "snubbing",
    question: "How soon should a peer that sends nothing count as snubbing us?",
    series: "snubbed after",
    x: "peers that fall silent, % of all",
    x_log: false,
    metrics: &[LAST, MEDIAN, LAST_PERCENT, LAST_PERCENT_WORST, WASTED, COMPLETE],
    runs: 20,
    alone: false,
    arms: || {
        let after = |s| Some(Duration::from_secs(s));
        let series = [("10 s", after(10)), ("20 s", after(20)), ("60 s", after(60)), ("never", None)];
        grid(&series, &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0], |snub_after, silent| {
            let policy = Policy { snub_after, ..Policy::default() };
            let snubbers = (f64::from(FAITHFUL) * silent / (100.0 - silent)).round() as u32;
            Scenario {
                puppets: vec![(PuppetRole::Snubber, snubbers)],
                policy,
                ..household(FAITHFUL, 64 * MIB)
            }
        })
    },
};

/// The picking policy, and whether pieces are downloaded in order.
type Order = (Picking, bool);

pub(super) const PICKING: Experiment = Experiment {
    name: "picking",
    question: "Which order of pieces survives that the only seed leaves early?",
    series: "picking",
    x: "copies that the seed sends before it leaves",
    x_log: false,
    metrics: &[
        COMPLETE,
        plain("had", "bytes had in the end", "%", |_, r| {
            100.0 * r.samples.last().map_or(f64::NAN, |s| s.have)
        }),
        MEDIAN,
        LAST,
    ],
    runs: 20,
    alone: false,
    arms: || {
        let orders: [(&str, Order); 3] = [
            ("rarest first", (Picking::RarestFirst, false)),
            ("random", (Picking::Random, false)),
            ("sequential", (Picking::RarestFirst, true)),
        ];
        grid(&orders, &[1.01, 1.05, 1.1, 1.2, 1.5, 2.0], |(picking, sequential), copies| Scenario {
            seeds_leave_after: Some(copies),
            policy: Policy { picking, ..Policy::default() },
            sequential,
            // A peer that is incomplete after this time stays incomplete: no peer has the missing pieces.
            patience: Duration::from_secs(1200),
            ..household(40, 64 * MIB)
        })
    },
};

/// Returns the median time of the free riders, or of the other peers, in fluid limits.
fn group(report: &Report, free_riders: bool) -> f64 {
    metric::times_fluid(report, metric::group_s(report, 0.5, |p| p.free_rider == free_riders))
}

pub(super) const CHOKING: Experiment = Experiment {
    name: "choking",
    question: "What does tit-for-tat give to those who give, and what is left to those who do not?",
    series: "slots go to",
    x: "peers that serve nobody, % of all",
    x_log: false,
    metrics: &[
        times_fluid("contributors", "median contributor", |_, r| group(r, false)),
        times_fluid("free-riders", "median free rider", |_, r| group(r, true)),
        Metric {
            ideal: None,
            ..plain("penalty", "free rider's time over contributor's", "times", |_, r| {
                group(r, true) / group(r, false)
            })
        },
        LAST,
    ],
    runs: 20,
    alone: false,
    arms: || {
        let series = [("who gives most", true), ("everybody in turn", false)];
        grid(&series, &[0.0, 10.0, 20.0, 30.0, 40.0], |tit_for_tat, share| {
            let crowd = household(50, 128 * MIB);
            let free_riders = (f64::from(crowd.peers) * share / 100.0).round() as u32;
            Scenario {
                free_riders,
                piece_len: 512 * 1024,
                policy: Policy { tit_for_tat, ..Policy::default() },
                ..crowd
            }
        })
    },
};

pub(super) const CHOKING_SLOTS: Experiment = Experiment {
    name: "choking-slots",
    question: "How many peers should be served at once?",
    series: "unused upload",
    x: "upload slots",
    x_log: true,
    metrics: &[LAST, MEDIAN, FROM_SEEDS],
    runs: 20,
    alone: false,
    arms: || {
        let usual = Policy::default().upload_slots_max;
        let series = [("opens more slots", usual), ("opens no slot", 0)];
        grid(&series, &[2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0], |upload_slots_max, slots| Scenario {
            policy: Policy { upload_slots: slots as usize, upload_slots_max, ..Policy::default() },
            ..household(50, 64 * MIB)
        })
    },
};
