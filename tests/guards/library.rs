//! The guards' only use of the library: runs of the simulator.

use rill::sim::experiment::ALL;
use rill::sim::{Scenario, TRIALS, dht, named, run};
use std::time::Duration;

/// Returns the names of all trials.
pub fn trials() -> Vec<&'static str> {
    TRIALS.iter().map(|(name, ..)| *name).collect()
}

/// Returns the digest of all bytes that a named scenario sends.
pub fn wire_digest(name: &str, seed: u64) -> u64 {
    run(&Scenario { seed, ..named(name).expect("a scenario") }).wire_digest
}

/// Returns the digest of all bytes that sixty DHT nodes send, with lying nodes, losses and churn.
pub fn dht_digest(seed: u64) -> u64 {
    let scenario = dht::DhtScenario {
        seed,
        nodes: 60,
        loss_percent: 5,
        liars_percent: 20,
        stay: Some(Duration::from_secs(600)),
        arrival: Duration::from_secs(60),
        settling: Duration::from_secs(60),
        torrents: 20,
        wait: Duration::from_secs(60),
    };
    dht::run(&scenario).wire_digest
}

/// Returns `EXPERIMENT/SERIES/AT` and the fingerprint of every arm of every experiment but `scale`, which
/// repeats large scenarios.
pub fn experiments(seed: u64) -> Vec<(String, u64)> {
    let arms =
        ALL.iter().filter(|e| e.name != "scale").flat_map(|e| e.arms().into_iter().map(|arm| (e.name, arm)));
    let of_arm = |(name, arm): (&str, rill::sim::experiment::Arm)| {
        let fingerprint = run(&Scenario { seed, ..arm.scenario }).fingerprint;
        (format!("{name}/{}/{}", arm.series, arm.at).replace(' ', "-"), fingerprint)
    };
    arms.map(of_arm).collect()
}
