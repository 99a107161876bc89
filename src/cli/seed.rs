//! `rill seed`: the run of `get`, only that nothing is fetched, nothing is written, and being told to stop is
//! the good end.

use super::args;
use super::exit::{Exit, Failure};
use super::get;
use super::plan::Plan;

/// Does what `seed` was told.
pub(crate) fn run(typed: args::Seed) -> Result<Exit, Failure> {
    get::go(Plan::seed(typed, |name| std::env::var(name).ok())?)
}
