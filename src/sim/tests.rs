//! Whole runs under the whole oracle: every trial from two hundred seeds, and the same seed is the same run.

use super::*;
use std::collections::BTreeMap;

/// Seeds of every trial. A longer run: `rill sim TRIAL --seed 200 --runs 10000`.
const SEEDS: u64 = 200;

/// Runs a trial from every seed. What goes wrong in it must have gone wrong, and every peer must be complete.
fn holds(name: &str) {
    let base = named(name).expect("a trial");
    let mut faults = BTreeMap::new();
    for seed in 0..SEEDS {
        let s = Scenario { seed, ..base.clone() };
        let report = run(&s);
        let left: Vec<u32> = report.peers.iter().filter(|p| p.complete.is_none()).map(|p| p.number).collect();
        assert!(
            left.is_empty(),
            "after {:?} peers {left:?} are not complete\nreplay: {}",
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
        assert!(happened >= SEEDS / 4, "{fault}: {happened} times in {SEEDS} runs of {name}");
    }
}

macro_rules! trials {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name));
        })*

        #[test]
        fn every_trial_is_held() {
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
    let (a, b) = (run(&s), run(&s));
    assert_eq!(a, b);
    assert_ne!(a.fingerprint, run(&Scenario { seed: 8, ..s }).fingerprint);
}

/// Times are differences: where the clock stands changes nothing.
#[test]
fn a_run_from_the_end_of_the_clock_is_the_run_from_its_beginning() {
    let from_start = run(&Scenario { seed: 3, ..named("plain").expect("a trial") });
    let to_end = run(&Scenario { seed: 3, ..named("clock").expect("a trial") });
    assert_eq!(from_start.times(), to_end.times());
    assert_eq!(from_start.events, to_end.events);
}

#[test]
fn seeds_that_leave_after_three_copies_leave_a_swarm_that_ends_by_itself() {
    let s = Scenario { seeds_leave_after: Some(3.0), ..named("plain").expect("a trial") };
    for seed in 0..20 {
        let report = run(&Scenario { seed, ..s.clone() });
        assert!(report.all_complete(), "replay: rill sim plain --seeds-leave-after 3 --seed {seed}");
        assert!(report.seeds_uploaded < 4 * s.size, "seeds sent {}", report.seeds_uploaded);
    }
}

/// No peer knows more than one address, and yet it takes no longer than with a tracker. Without exchange it
/// takes longer.
#[test]
fn one_address_each_is_enough_where_peers_tell_each_other_of_peers() {
    let s = named("exchange").expect("a swarm");
    let last = |s: &Scenario| *run(s).times().last().expect("everybody is complete");
    let (mut with, mut without) = (0.0, 0.0);
    for seed in 1..=3 {
        let s = Scenario { seed, ..s.clone() };
        let with_exchange = last(&s);
        assert!(
            with_exchange <= 1.6 * s.fluid_limit().as_secs_f64(),
            "{with_exchange} s\nreplay: {}",
            s.command()
        );
        with += with_exchange;
        without += last(&Scenario { pex: false, ..s });
    }
    assert!(without > 1.5 * with, "{without} s in all without, {with} s with");
}
