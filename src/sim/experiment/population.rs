//! Experiments on the number of connections, peers that cannot be dialed, the number of known addresses, and
//! the size of the swarm.

use super::{COMPLETE, Experiment, FROM_SEEDS, LAST, MEDIAN, grid, household};
use crate::sim::{MIB, Scenario};
use std::time::Duration;

pub(super) const DEGREE: Experiment = Experiment {
    name: "connectivity-degree",
    question: "How many connections does an engine need?",
    series: "who can be dialed",
    x: "connections of one engine among 100",
    x_log: true,
    metrics: &[LAST, MEDIAN, FROM_SEEDS, COMPLETE],
    runs: 20,
    alone: false,
    arms: || {
        let series = [("everybody", 0.0), ("half of the peers", 0.5)];
        grid(&series, &[4.0, 6.0, 10.0, 16.0, 25.0, 40.0, 80.0], |undialable, degree| Scenario {
            max_peers: degree as u32,
            undialable,
            ..household(100, 32 * MIB)
        })
    },
};

pub(super) const UNDIALABLE: Experiment = Experiment {
    name: "connectivity-undialable",
    question: "What is lost when many peers cannot be dialed?",
    series: "connections of one engine",
    x: "peers that nobody can dial, %",
    x_log: false,
    metrics: &[LAST, MEDIAN, FROM_SEEDS, COMPLETE],
    runs: 20,
    alone: false,
    arms: || {
        let series = [("10", 10), ("20", 20), ("55", 55)];
        grid(&series, &[0.0, 20.0, 40.0, 60.0, 80.0], |max_peers, percent| Scenario {
            max_peers,
            undialable: percent / 100.0,
            ..household(60, 32 * MIB)
        })
    },
};

pub(super) const NAT: Experiment = Experiment {
    name: "connectivity-nat",
    question: "What do port mapping and hole punching win back?",
    series: "engines use",
    x: "peers that cannot be dialed, %",
    x_log: false,
    metrics: &[LAST, MEDIAN, FROM_SEEDS, COMPLETE],
    runs: 20,
    alone: false,
    arms: || {
        let series = [
            ("nothing", (0.0, None)),
            ("mapping (40 % of the routers)", (0.4, None)),
            ("mapping, uTP and punching (70 % of the pairs)", (0.4, Some(0.7))),
            ("all of it in vain", (0.0, Some(0.0))),
        ];
        grid(&series, &[0.0, 20.0, 40.0, 60.0, 80.0], |(mappable, punches), percent| Scenario {
            undialable: percent / 100.0,
            mappable,
            punches,
            pex: true,
            ..household(60, 32 * MIB)
        })
    },
};

pub(super) const ADDRESSES: Experiment = Experiment {
    name: "connectivity-addresses",
    question: "How many addresses must a tracker hand out?",
    series: "the peers come",
    x: "addresses handed out at once, of 81 in the swarm",
    x_log: true,
    metrics: &[LAST, MEDIAN, FROM_SEEDS, COMPLETE],
    runs: 20,
    alone: false,
    arms: || {
        let series = [("all at once", Duration::ZERO), ("within a minute", Duration::from_secs(60))];
        grid(&series, &[3.0, 5.0, 10.0, 20.0, 40.0, 80.0], |arrive_within, addresses| Scenario {
            handout: addresses as u32,
            arrive_within,
            ..household(80, 32 * MIB)
        })
    },
};

pub(super) const SCALE: Experiment = Experiment {
    name: "scale",
    question: "How does a swarm of ten thousand do, and what does it cost to simulate?",
    series: "seeds",
    x: "peers",
    x_log: true,
    metrics: &[LAST, MEDIAN, FROM_SEEDS, COMPLETE],
    runs: 3,
    alone: true,
    arms: || {
        grid(&[("one", ())], &[100.0, 1000.0, 10_000.0], |(), peers| Scenario {
            piece_len: 512 * 1024,
            ..household(peers as u32, 16 * MIB)
        })
    },
};
