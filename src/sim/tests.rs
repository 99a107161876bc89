//! Runs every trial with two hundred seeds and all checks of the oracle, and checks that a seed determines
//! its run.

use super::*;
use std::collections::BTreeMap;

/// Seeds per trial. For a longer run use `rill sim TRIAL --seed 200 --runs 10000`.
const SEEDS: u64 = 200;

/// Runs a trial with every seed. Every peer must complete, and each fault of the trial must occur often
/// enough.
fn holds(name: &str) {
    let base = named(name).expect("a trial");
    let mut faults = BTreeMap::new();
    for seed in 0..SEEDS {
        let s = Scenario { seed, ..base.clone() };
        let report = run(&s);
        let incomplete: Vec<u32> =
            report.peers.iter().filter(|p| p.complete.is_none()).map(|p| p.number).collect();
        assert!(
            incomplete.is_empty(),
            "after {:?} peers {incomplete:?} are not complete\nreplay: {}",
            report.lasted,
            s.command()
        );
        for (name, count) in report.faults {
            *faults.entry(name).or_insert(0) += count;
        }
    }
    let (.., expected) = TRIALS.iter().find(|t| t.0 == name).expect("a trial");
    for fault in *expected {
        let happened = faults.get(fault).copied().unwrap_or(0);
        assert!(happened >= SEEDS / 4, "{fault} occurred {happened} times in {SEEDS} runs of {name}");
    }
}

macro_rules! trials {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name));
        })*

        #[test]
        fn every_trial_has_a_test() {
            assert_eq!([$(stringify!($name)),*], TRIALS.map(|t| t.0));
        }
    };
}

mod trials {
    use super::*;

    trials! {
        plain motley lose liars storms silent spikes unreadable full silence
        datagrams late refused clock behind limits slots narrow greedy slow chain suspects
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let s = Scenario { seed: 7, ..named("motley").expect("a trial") };
    let a = run(&s);
    let b = run(&s);
    assert_eq!(a, b);
    assert_ne!(a.fingerprint, run(&Scenario { seed: 8, ..s }).fingerprint);
}

/// Only differences of times matter: a clock near its largest value changes nothing.
#[test]
fn a_run_from_the_end_of_the_clock_is_the_run_from_its_beginning() {
    let from_start = run(&Scenario { seed: 3, ..named("plain").expect("a trial") });
    let to_end = run(&Scenario { seed: 3, ..named("clock").expect("a trial") });
    assert_eq!(from_start.times(), to_end.times());
    assert_eq!(from_start.events, to_end.events);
}

#[test]
fn a_swarm_completes_after_its_seeds_left() {
    let s = Scenario { seeds_leave_after: Some(3.0), ..named("plain").expect("a trial") };
    for seed in 0..20 {
        let report = run(&Scenario { seed, ..s.clone() });
        assert!(report.all_complete(), "replay: rill sim plain --seeds-leave-after 3 --seed {seed}");
        assert!(report.seeds_uploaded < 4 * s.size, "seeds sent {}", report.seeds_uploaded);
    }
}

/// Every peer knows one address, and the swarm completes as fast as with a tracker. Without PEX it takes
/// longer.
#[test]
fn with_pex_one_known_address_per_peer_is_enough() {
    let s = named("exchange").expect("a swarm");
    let last = |s: &Scenario| *run(s).times().last().expect("every peer is complete");
    let mut with = 0.0;
    let mut without = 0.0;
    for seed in 1..=3 {
        let s = Scenario { seed, ..s.clone() };
        let with_pex = last(&s);
        assert!(with_pex <= 1.6 * s.fluid_limit().as_secs_f64(), "{with_pex} s\nreplay: {}", s.command());
        with += with_pex;
        without += last(&Scenario { pex: false, ..s });
    }
    assert!(without > 1.5 * with, "{without} s in total without PEX, {with} s with it");
}
