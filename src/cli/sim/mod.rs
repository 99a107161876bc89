//! `rill sim`: whole swarms of rill's own engine in virtual time, one scenario or an experiment over many.
//!
//! ```text
//!   typed ──plan──► Scenario ──runs──► Report ──figures──► table | JSON object | chart
//! ```

mod chart;
mod figures;
mod plan;
mod plot;
mod runs;
mod table;
pub(crate) mod values;

use super::args::Sim;
use super::exit::{Exit, Failure};
use super::json::Object;
use super::{out, signals};
use crate::sim;
use chart::Chart;
use figures::Outcome;
use plan::refused;
use runs::Show;
use std::fs;
use std::path::Path;

/// Does it.
pub(crate) fn run(typed: &Sim) -> Result<Exit, Failure> {
    if typed.list {
        out::data(&list(typed.json));
        return Ok(Exit::Done);
    }
    if typed.runs == Some(0) {
        return Err(refused("--runs 0 asks for nothing"));
    }
    if let Some(name) = &typed.experiment {
        return Err(refused(format!("there is no experiment '{name}' (rill sim --list names them)")));
    }
    signals::end_at_once(Exit::Stopped).map_err(|e| Failure::os(Exit::Other, "cannot catch signals", &e))?;
    swarm(typed)
}

/// One scenario, once or with several seeds.
fn swarm(typed: &Sim) -> Result<Exit, Failure> {
    if !typed.metric.is_empty() {
        return Err(refused("--metric belongs to an experiment"));
    }
    let scenario = plan::scenario(typed)?;
    plot_is_possible(typed.plot.as_deref())?;
    let seeds = (0..u64::from(typed.runs.unwrap_or(1))).map(|n| typed.seed.wrapping_add(n));
    let jobs: Vec<_> = seeds.map(|seed| sim::Scenario { seed, ..scenario.clone() }).collect();
    let mut show = Show::new(typed.json);
    let outcomes = runs::each(&jobs, runs::at_once(), &mut show, |job, report, took| Outcome { seed: job.seed, report, took })?;
    out::data(&if typed.json { table::object(&scenario, &outcomes) + "\n" } else { table::text(&scenario, &outcomes) });
    if let Some(file) = &typed.plot {
        draw(file, &plot::chart(&scenario, &outcomes))?;
    }
    match table::incomplete(&scenario, &outcomes) {
        None => Ok(Exit::Done),
        Some(sentence) => Err(Failure::new(Exit::TimedOut, sentence)),
    }
}

/// Finds out before the work begins whether its chart can be kept.
fn plot_is_possible(file: Option<&Path>) -> Result<(), Failure> {
    let open = |file| fs::OpenOptions::new().append(true).create(true).open(file).map(drop);
    file.map_or(Ok(()), |file| open(file).map_err(|e| Failure::os(Exit::Create, file.display(), &e)))
}

fn draw(file: &Path, chart: &Chart) -> Result<(), Failure> {
    fs::write(file, chart.svg()).map_err(|e| Failure::os(Exit::Io, file.display(), &e))
}

/// What there is to run.
fn list(json: bool) -> String {
    if json {
        let object = |(name, about): &(&str, &str)| Object::new().str("name", name).str("about", about).end();
        return Object::new().list("scenarios", sim::NAMES.iter().map(object)).end() + "\n";
    }
    let lines = |names: &[(&str, &str)]| names.iter().map(|(name, about)| format!("  {name:<28}{about}\n")).collect::<String>();
    format!("Scenarios: rill sim NAME\n{}", lines(&sim::NAMES))
}
