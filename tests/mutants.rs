//! Does the simulator notice? Engines that are broken on purpose, one place at a time, and each of them must
//! fail a trial.
//!
//! ```text
//! cargo test --test mutants -- --ignored --nocapture          all of them, some minutes
//! MUTANT=lease cargo test --test mutants -- --ignored --nocapture    those whose fault is so named
//! ```
//!
//! The engine has no hooks for this: floors 0 to 2 and the simulator are copied into a crate of their own, a
//! text is replaced by another, and what comes of it is built and run through every trial. The copy as it is
//! must pass. A fault that no trial notices is a hole in the oracle: then a law or a trial is missing, and
//! the list below stays as it is.

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
    // The engine as it is comes first: without it, nothing means anything.
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
    // A build and its trials keep one core busy.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let missed: Vec<&str> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|number| scope.spawn(move || work(number))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(missed.is_empty(), "no trial noticed: {missed:#?}");
}

/// The fault's name, if no trial notices it; the engine as it is must pass all of them.
fn missed_by_all_trials(scratch: &Scratch, fault: Option<&Fault>) -> Option<&'static str> {
    let Some(fault) = fault else {
        assert_eq!(scratch.run(), Outcome::Held, "the engine as it is");
        return None;
    };
    scratch.breaks(fault);
    let outcome = scratch.run();
    scratch.heals(fault);
    match outcome {
        Outcome::Caught { trial, seed, words } => {
            println!("{}\n    {trial}, seed {seed}: {words}", fault.what);
            None
        }
        Outcome::Held => {
            println!("{}\n    NOT CAUGHT", fault.what);
            Some(fault.what)
        }
    }
}

/// A fault that two places share, or none any more, would be another fault than its words say.
#[test]
fn every_fault_has_its_one_place() {
    for fault in FAULTS {
        let source =
            std::fs::read_to_string(scratch::source().join(fault.file)).expect("a file of the engine");
        assert_eq!(scratch::places(&source, fault.old).len(), 1, "{}: places in {}", fault.what, fault.file);
    }
}

#[test]
fn a_place_is_found_whatever_its_white_space_and_comments() {
    let source = "fn f() {\n    // a comment\n    g(1, // one\n      2);\n}\n";
    let found =
        |source, code| scratch::places(source, code).into_iter().map(|p| &source[p]).collect::<Vec<_>>();
    assert_eq!(found(source, "g(1, 2)"), ["g(1, // one\n      2)"]);
    assert_eq!(found(source, "g(1,2);\n}"), ["g(1, // one\n      2);\n}"]);
    assert!(found(source, "a comment").is_empty());
    assert_eq!(found("ab ab", "a b"), ["ab", "ab"]);
}
