//! `rill seed`: the run of `get` without downloading and without writing to the content; a signal ends it
//! with exit code 0.

use super::args;
use super::exit::{Exit, Failure};
use super::get;
use super::plan::Plan;

/// Runs `rill seed`.
pub(crate) fn run(options: args::Seed) -> Result<Exit, Failure> {
    get::run_plan(Plan::seed(options, |name| std::env::var(name).ok())?)
}
