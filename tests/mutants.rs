//! Does the simulator notice? Engines that are broken on purpose, one place at a time, and each of them must fail a trial.
//!
//! ```text
//! cargo test --test mutants -- --ignored --nocapture          all of them, some minutes
//! MUTANT=lease cargo test --test mutants -- --ignored --nocapture    those whose fault is so named
//! ```
//!
//! The engine has no hooks for this: floors 0 to 2 and the simulator are copied into a crate of their own, a text is replaced by
//! another, and what comes of it is built and run through every trial. The copy as it is must pass. A fault that no trial notices is
//! a hole in the oracle: then a law or a trial is missing, and the list below stays as it is.

#[path = "mutants/faults.rs"]
mod faults;
#[path = "mutants/scratch.rs"]
mod scratch;

use faults::FAULTS;
use scratch::{Outcome, Scratch};

#[test]
#[ignore = "builds the engine thirty times; cargo test --test mutants -- --ignored --nocapture"]
fn every_broken_engine_is_caught_by_a_trial() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run(), Outcome::Held, "the engine as it is");
    let only = std::env::var("MUTANT").unwrap_or_default();
    let mut missed = Vec::new();
    for fault in FAULTS.iter().filter(|f| f.what.contains(&only)) {
        scratch.breaks(fault);
        match scratch.run() {
            Outcome::Caught { trial, seed, words } => println!("{}\n    {trial}, seed {seed}: {words}", fault.what),
            Outcome::Held => {
                println!("{}\n    NOT CAUGHT", fault.what);
                missed.push(fault.what);
            }
        }
        scratch.heals(fault);
    }
    assert!(missed.is_empty(), "nobody noticed: {missed:#?}");
}

/// A fault that two places share, or none any more, would be another fault than its words say.
#[test]
fn every_fault_has_its_one_place() {
    for fault in FAULTS {
        let source = std::fs::read_to_string(scratch::source().join(fault.file)).expect("a file of the engine");
        assert_eq!(source.matches(fault.old).count(), 1, "{}: places in {}", fault.what, fault.file);
    }
}
