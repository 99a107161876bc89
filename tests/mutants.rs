//! Mutation tests: the simulator must catch each of the injected bugs.
//!
//! ```text
//! cargo test --test mutants -- --ignored --nocapture          all of them, some minutes
//! MUTANT=lease cargo test --test mutants -- --ignored --nocapture    those whose description has this word
//! ```
//! The engine has no hooks for this: floors 0 to 2 and the simulator are copied into a crate of their own,
//! one piece of code is replaced, and the crate is built and run through every trial. The unchanged copy must
//! pass. If no trial catches a bug, an invariant check or a trial is missing: add it, and keep the bug on the
//! list.

#[path = "mutants/faults.rs"]
mod faults;
#[path = "mutants/scratch.rs"]
mod scratch;

use faults::{FAULTS, Fault};
use scratch::{Outcome, Scratch};
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
#[ignore = "builds the engine thirty times; cargo test --test mutants -- --ignored --nocapture"]
fn every_broken_engine_is_caught_by_a_trial() {
    let only = std::env::var("MUTANT").unwrap_or_default();
    let faults = FAULTS.iter().filter(|fault| fault.what.contains(&only)).map(Some);
    // The unchanged engine comes first: if it fails, the other results mean nothing.
    let jobs: Vec<Option<&Fault>> = std::iter::once(None).chain(faults).collect();
    let next = AtomicUsize::new(0);
    let work = |number| {
        let scratch = Scratch::new(number);
        let mut missed = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            missed.extend(missed_by_all_trials(&scratch, *job));
        }
        missed
    };
    // A build with its trials uses one core.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let missed: Vec<&str> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|number| scope.spawn(move || work(number))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(missed.is_empty(), "no trial noticed: {missed:#?}");
}

/// Returns the fault's description if no trial catches it. Without a fault, asserts that the unchanged engine
/// passes every trial.
fn missed_by_all_trials(scratch: &Scratch, fault: Option<&Fault>) -> Option<&'static str> {
    let Some(fault) = fault else {
        assert_eq!(scratch.run(), Outcome::Passed, "the unchanged engine");
        return None;
    };
    scratch.inject(fault);
    let outcome = scratch.run();
    scratch.restore(fault);
    match outcome {
        Outcome::Caught { trial, seed, words } => {
            println!("{}\n    {trial}, seed {seed}: {words}", fault.what);
            None
        }
        Outcome::Passed => {
            println!("{}\n    NOT CAUGHT", fault.what);
            Some(fault.what)
        }
    }
}

/// If the code of a fault occurred twice or not at all, the injected bug would not be the described one.
#[test]
fn the_code_of_every_fault_occurs_once() {
    for fault in FAULTS {
        let source =
            std::fs::read_to_string(scratch::source().join(fault.file)).expect("a file of the engine");
        assert_eq!(scratch::places(&source, fault.old).len(), 1, "{}: places in {}", fault.what, fault.file);
    }
}

#[test]
fn code_is_found_regardless_of_white_space_and_comments() {
    let source = "fn f() {\n    // a comment\n    g(1, // one\n      2);\n}\n";
    let only = |code| <[_; 1]>::try_from(scratch::places(source, code)).unwrap()[0].clone();
    assert_eq!(only("g(1, 2)"), 30..50);
    assert_eq!(only("g(1,2);\n}"), 30..53);
    assert_eq!(scratch::places(source, "a comment"), []);
    assert_eq!(scratch::places("ab ab", "ab"), [0..2, 3..5]);
}
