//! `rill sim`: simulates swarms of rill's engine in virtual time, one scenario or an experiment over many.
//!
//! ```text
//!   options ──plan──► Scenario ──runs──► Report ──figures──► table | object | plot ──► chart
//!           ──trial──► Experiment: many scenarios
//! ```

mod chart;
mod figures;
mod plan;
mod plot;
mod runs;
mod table;
mod trial;
pub(crate) mod values;

use super::args::Sim;
use super::exit::{Exit, Failure};
use super::json::Object;
use super::out;
use crate::sim::{self, experiment::ALL};
use chart::Chart;
use figures::Outcome;
use plan::refused;
use runs::RunProgress;
use std::fs;
use std::path::Path;
use trial::Trial;

/// Most runs of a scenario: all their reports are in memory at once.
const MOST_RUNS: u32 = 10_000;

/// Runs `rill sim`.
pub(crate) fn run(options: &Sim) -> Result<Exit, Failure> {
    if options.list {
        out::data(&list(options.json));
        return Ok(Exit::Done);
    }
    if let Some(runs) = options.runs.filter(|runs| !(1..=MOST_RUNS).contains(runs)) {
        return Err(refused(format!("--runs {runs} is not a number from 1 to {MOST_RUNS}")));
    }
    match &options.experiment {
        Some(name) => experiment(options, name),
        None => swarm(options),
    }
}

/// Runs every arm of an experiment with many seeds. An incomplete peer is a result, not an error.
fn experiment(options: &Sim, name: &str) -> Result<Exit, Failure> {
    let experiment = trial::find(options, name)?;
    plot_is_possible(options.plot.as_deref())?;
    let trial = Trial::run(options, experiment)?;
    out::data(&if options.json { trial.object() + "\n" } else { trial.markdown() });
    if let Some(file) = &options.plot {
        draw(file, &trial.chart(&options.metric))?;
    }
    Ok(Exit::Done)
}

/// Runs one scenario, once or with several seeds.
fn swarm(options: &Sim) -> Result<Exit, Failure> {
    if !options.metric.is_empty() {
        return Err(refused("--metric belongs to an experiment"));
    }
    let scenario = plan::scenario(options)?;
    plot_is_possible(options.plot.as_deref())?;
    let seeds = (0..u64::from(options.runs.unwrap_or(1))).map(|n| options.seed.wrapping_add(n));
    let jobs: Vec<_> = seeds.map(|seed| sim::Scenario { seed, ..scenario.clone() }).collect();
    let mut show = RunProgress::new(options.json);
    let outcomes = runs::each(&jobs, runs::at_once(), &mut show, |job, report, took| Outcome {
        seed: job.seed,
        report,
        took,
    })?;
    out::data(&if options.json {
        table::object(&scenario, &outcomes) + "\n"
    } else {
        table::text(&scenario, &outcomes)
    });
    if let Some(file) = &options.plot {
        draw(file, &plot::chart(&scenario, &outcomes))?;
    }
    match table::incomplete(&scenario, &outcomes) {
        None => Ok(Exit::Done),
        Some(sentence) => Err(Failure::new(Exit::TimedOut, sentence)),
    }
}

/// Checks before the runs that the chart's file can be written.
fn plot_is_possible(file: Option<&Path>) -> Result<(), Failure> {
    let open = |file| fs::OpenOptions::new().append(true).create(true).open(file).map(drop);
    file.map_or(Ok(()), |file| open(file).map_err(|e| Failure::os(Exit::Create, file.display(), &e)))
}

fn draw(file: &Path, chart: &Chart) -> Result<(), Failure> {
    fs::write(file, chart.svg()).map_err(|e| Failure::os(Exit::Io, file.display(), &e))
}

/// Lists all scenarios and experiments.
fn list(json: bool) -> String {
    let experiments = ALL.map(|e| (e.name, e.question));
    let trials = sim::TRIALS.map(|(name, about, _)| (name, about));
    if json {
        let object = |(name, about): &(&str, &str)| Object::new().str("name", name).str("about", about).end();
        let lists = Object::new().list("scenarios", sim::NAMES.iter().map(object));
        let lists = lists.list("trials", trials.iter().map(object));
        return lists.list("experiments", experiments.iter().map(object)).end() + "\n";
    }
    let lines = |names: &[(&str, &str)]| {
        names.iter().map(|(name, about)| format!("  {name:<26}{about}\n")).collect::<String>()
    };
    let scenarios = lines(&sim::NAMES);
    let trials = lines(&trials);
    let experiments = lines(&experiments);
    format!(
        "Scenarios: rill sim NAME\n{scenarios}\nTrials, small and under the whole oracle: rill sim NAME\n{trials}\n\
         Experiments: rill sim --experiment NAME\n{experiments}"
    )
}
