//! Runs an experiment: every arm with many seeds. The results are a Markdown table, a chart, or a JSON
//! object.
//!
//! An experiment that measures the simulation's own cost runs one job at a time.

use super::chart::{Axis, Chart, Mark, Point, Series};
use super::figures::{Spread, json_number, short};
use super::plan::{flags, refused};
use super::runs::{self, RunProgress};
use crate::cli::args::Sim;
use crate::cli::bench::cost::status_kib;
use crate::cli::exit::Failure;
use crate::cli::format;
use crate::cli::json::{Object, array};
use crate::sim::experiment::{self, Arm, Experiment};
use crate::sim::{Report, Scenario};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Share of the runs that a spread leaves out at each end.
const TAIL: f64 = 0.1;

/// An experiment and its results.
pub(super) struct Trial {
    experiment: Experiment,
    arms: Vec<Arm>,
    columns: Vec<Column>,
    /// Figures by arm, seed and column.
    values: Vec<Vec<Vec<f64>>>,
    seed: u64,
    runs: u32,
    strict: bool,
    took: Duration,
}

/// One column of the table: a figure that every run has.
#[derive(Clone, Copy)]
struct Column {
    name: &'static str,
    label: &'static str,
    unit: &'static str,
    log: bool,
    ideal: Option<f64>,
}

/// Columns of the simulation's own cost, for experiments that run one job at a time.
const MEASURED: [Column; 3] = [
    Column { name: "real", label: "real time", unit: "s", log: true, ideal: None },
    Column { name: "speed", label: "simulated", unit: "events/s", log: false, ideal: None },
    Column { name: "memory", label: "memory a peer", unit: "KiB", log: false, ideal: None },
];

impl Trial {
    /// Runs the experiment that [`find`] found.
    pub(super) fn run(options: &Sim, experiment: Experiment) -> Result<Trial, Failure> {
        let arms = experiment.arms();
        let runs = options.runs.unwrap_or(experiment.runs);
        let seeds = || (0..u64::from(runs)).map(|n| options.seed.wrapping_add(n));
        let job = |arm: &Arm, seed| Scenario { seed, strict: options.strict, ..arm.scenario.clone() };
        let jobs: Vec<Scenario> =
            arms.iter().flat_map(|arm| seeds().map(move |seed| job(arm, seed))).collect();
        let threads = if experiment.alone { 1 } else { runs::at_once() };
        let begun = Instant::now();
        let memory = Memory::watch();
        let keep = |job: &Scenario, report: Report, took: Duration| {
            let mut figures: Vec<f64> = experiment.metrics.iter().map(|m| (m.of)(job, &report)).collect();
            if experiment.alone {
                let peers = job.peers + job.seeds + job.puppets.iter().map(|(_, n)| n).sum::<u32>();
                let s = took.as_secs_f64().max(1e-9);
                figures.extend([s, report.events as f64 / s, memory.peak_kib() / f64::from(peers)]);
            }
            figures
        };
        let all = runs::each(&jobs, threads, &mut RunProgress::new(options.json), keep)?;
        let values = all.chunks(runs as usize).map(<[_]>::to_vec).collect();
        let columns = columns(&experiment);
        let seed = options.seed;
        let strict = options.strict;
        let took = begun.elapsed();
        Ok(Trial { experiment, arms, columns, values, seed, runs, strict, took })
    }

    /// Returns the command that repeats this table.
    fn command(&self) -> String {
        let strict = if self.strict { " --strict" } else { "" };
        format!(
            "rill sim --experiment {} --runs {} --seed {}{strict}",
            self.experiment.name, self.runs, self.seed
        )
    }

    fn spread(&self, arm: usize, column: usize) -> Spread {
        Spread::of(self.values[arm].iter().map(|figures| figures[column]), TAIL)
    }

    /// Formats the results as a Markdown table.
    pub(super) fn markdown(&self) -> String {
        let Experiment { question, series, x, .. } = self.experiment;
        let runs = if self.runs == 1 {
            "1 run".to_owned()
        } else {
            format!("{} runs, median (10 %…90 %)", self.runs)
        };
        let mut text = format!("{question} ({runs})\n\n| {series} | {x} |");
        for column in &self.columns {
            let _ = write!(text, " {}, {} |", column.label, column.unit);
        }
        text += "\n|---|--:|";
        text += &"--:|".repeat(self.columns.len());
        text.push('\n');
        for (at, arm) in self.arms.iter().enumerate() {
            let _ = write!(text, "| {} | {} |", arm.series, arm.at);
            for column in 0..self.columns.len() {
                let Spread { low, median, high } = self.spread(at, column);
                let low = short(low);
                let median = short(median);
                let high = short(high);
                let _ = if low == high {
                    write!(text, " {median} |")
                } else {
                    write!(text, " {median} ({low}…{high}) |")
                };
            }
            text.push('\n');
        }
        let _ = writeln!(text, "\n`{}` took {}", self.command(), format::duration(self.took));
        text
    }

    /// Formats one JSON object with every value of every run.
    pub(super) fn object(&self) -> String {
        let metric =
            |c: &Column| Object::new().str("name", c.name).str("label", c.label).str("unit", c.unit).end();
        let arm = |(at, arm): (usize, &Arm)| {
            let figures = self.columns.iter().enumerate().fold(Object::new(), |o, (column, c)| {
                let Spread { low, median, high } = self.spread(at, column);
                let spread = Object::new()
                    .raw("median", &json_number(median))
                    .raw("p10", &json_number(low))
                    .raw("p90", &json_number(high));
                let values = array(self.values[at].iter().map(|figures| json_number(figures[column])));
                o.raw(c.name, &spread.raw("values", &values).end())
            });
            Object::new()
                .str("series", &arm.series)
                .raw("x", &json_number(arm.x))
                .str("at", &arm.at)
                .raw("figures", &figures.end())
                .end()
        };
        Object::new()
            .str("command", &self.command())
            .str("experiment", self.experiment.name)
            .str("question", self.experiment.question)
            .str("x", self.experiment.x)
            .num("runs", self.runs.into())
            .num("seed", self.seed)
            .raw("real_s", &json_number(self.took.as_secs_f64()))
            .list("metrics", self.columns.iter().map(metric))
            .list("arms", self.arms.iter().enumerate().map(arm))
            .end()
    }

    /// Returns the chart of these metrics, or of the first metric if none is named.
    pub(super) fn chart(&self, metrics: &[String]) -> Chart {
        let is_drawn = |c: &Column| metrics.iter().any(|name| name == c.name);
        let all = self.columns.iter().enumerate();
        let drawn: Vec<(usize, &Column)> = if metrics.is_empty() {
            all.take(1).collect()
        } else {
            all.filter(|(_, c)| is_drawn(c)).collect()
        };
        let mut names: Vec<&str> = self.arms.iter().map(|arm| arm.series.as_str()).collect();
        names.dedup();
        let mut series = Vec::new();
        for (column, c) in &drawn {
            for name in &names {
                let of_series = self.arms.iter().enumerate().filter(|(_, arm)| arm.series == *name);
                let points = of_series.map(|(at, arm)| {
                    let Spread { low, median, high } = self.spread(at, *column);
                    Point { x: arm.x, y: median, low, high }
                });
                let name = match (drawn.len(), names.len()) {
                    (1, _) => (*name).to_owned(),
                    (_, 1) => c.label.to_owned(),
                    _ => format!("{name}: {}", c.label),
                };
                series.push(Series { name, points: points.collect() });
            }
        }
        let label = match drawn[..] {
            [(_, c)] => format!("{}, {}", c.label, c.unit),
            _ => drawn.first().map_or(String::new(), |(_, c)| c.unit.to_owned()),
        };
        let ideal = drawn.iter().find_map(|(_, c)| c.ideal);
        Chart {
            title: self.experiment.question.to_owned(),
            x: Axis { label: self.experiment.x.to_owned(), log: self.experiment.x_log },
            y: Axis { label, log: drawn.iter().all(|(_, c)| c.log) },
            legend: self.experiment.series.to_owned(),
            series,
            note: self.command(),
            marks: ideal.map(|y| Mark::Horizontal(y, "fluid limit".to_owned())).into_iter().collect(),
        }
    }
}

fn columns(experiment: &Experiment) -> Vec<Column> {
    let column = |m: &experiment::Metric| Column {
        name: m.name,
        label: m.label,
        unit: m.unit,
        log: m.log,
        ideal: m.ideal,
    };
    let measured = if experiment.alone { &MEASURED[..] } else { &[] };
    experiment.metrics.iter().map(column).chain(measured.iter().copied()).collect()
}

/// Returns the named experiment. Refuses options that do not apply to it.
pub(super) fn find(options: &Sim, name: &str) -> Result<Experiment, Failure> {
    let experiment = experiment::experiment(name)
        .ok_or_else(|| refused(format!("there is no experiment '{name}' (rill sim --list names them)")))?;
    let foreign =
        options.scenario.clone().or_else(|| flags(options).into_iter().find(|flag| flag != "--strict"));
    if let Some(foreign) = foreign {
        return Err(refused(format!(
            "an experiment brings its own swarms, '{foreign}' changes nothing in them"
        )));
    }
    let columns = columns(&experiment);
    let mut units = Vec::new();
    for is_drawn in &options.metric {
        let Some(column) = columns.iter().find(|c| c.name == is_drawn) else {
            let names = columns.iter().map(|c| c.name).collect::<Vec<_>>().join(", ");
            return Err(refused(format!("'{is_drawn}' is none of the metrics of {name}: {names}")));
        };
        units.push(column.unit);
    }
    if units.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(refused(format!("metrics in {} do not go into one chart", units.join(" and "))));
    }
    Ok(experiment)
}

/// Measures the process's memory above its size at the start.
struct Memory {
    before_kib: f64,
}

impl Memory {
    fn watch() -> Memory {
        forget_peak();
        Memory { before_kib: status_kib("VmRSS:") as f64 }
    }

    /// Returns the peak since the last call.
    fn peak_kib(&self) -> f64 {
        let peak = status_kib("VmHWM:") as f64;
        forget_peak();
        (peak - self.before_kib).max(0.0)
    }
}

/// Resets the kernel's peak of the resident set. If the kernel refuses, the peak stays that of the largest
/// run so far.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests;
