//! Output: a table for each work, then the machine and the versions.

use crate::clients::Installed;
use crate::figures::{Figures, Measure, Outcome};
use crate::work::Work;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Result of one run.
#[derive(Clone, Debug)]
pub struct Run {
    pub work: Work,
    /// Number of the round, from 1.
    pub round: u32,
    /// The client, or `floor`.
    pub client: String,
    pub outcome: Outcome,
}

impl Run {
    /// Returns one JSON object without a newline.
    pub fn json(&self) -> String {
        let mut object = json!({ "work": self.work.name(), "round": self.round, "client": self.client, "ok": self.outcome.is_ok() });
        match &self.outcome {
            Err(reason) => object["reason"] = json!(reason),
            Ok(figures) => figures.0.iter().for_each(|(measure, value)| object[measure.key()] = json!(value)),
        }
        object.to_string()
    }

    /// Returns a line of progress.
    pub fn line(&self, rounds: u32) -> String {
        let Run { work, round, client, .. } = self;
        let what = match &self.outcome {
            Ok(figures) => {
                let shown = |measure: &Measure| {
                    Some(format!("{} {}", measure.shown(figures.get(*measure)?), measure.head()))
                };
                work.columns().iter().chain(&[Measure::Wall]).filter_map(shown).collect::<Vec<_>>().join(", ")
            }
            Err(reason) => format!("FAILED: {reason}"),
        };
        format!("{} {round}/{rounds} {client}: {what}", work.name())
    }
}

/// Median, smallest and greatest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let low = *values.first()?;
        let high = *values.last()?;
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Spread { median, low, high })
    }
}

/// All runs of one client at one work.
#[derive(Debug)]
pub struct Row<'a> {
    pub client: &'a str,
    columns: &'static [Measure],
    good: Vec<&'a Figures>,
    pub reasons: Vec<&'a str>,
}

impl<'a> Row<'a> {
    /// Returns the rows of a work, in the order of their first run.
    pub fn all(runs: &'a [Run], work: Work) -> Vec<Row<'a>> {
        let mut rows: Vec<Row<'a>> = Vec::new();
        for run in runs.iter().filter(|run| run.work == work) {
            let at = rows.iter().position(|row| row.client == run.client).unwrap_or_else(|| {
                rows.push(Row {
                    client: &run.client,
                    columns: work.columns(),
                    good: Vec::new(),
                    reasons: Vec::new(),
                });
                rows.len() - 1
            });
            match &run.outcome {
                Ok(figures) => rows[at].good.push(figures),
                Err(reason) => rows[at].reasons.push(reason),
            }
        }
        rows
    }

    /// Returns the spread of a measure over the successful runs, or `None` without any.
    fn spread(&self, measure: Measure) -> Option<Spread> {
        Spread::of(self.good.iter().filter_map(|figures| figures.get(measure)).collect())
    }

    /// Returns the spread of the leading measure.
    pub fn leading(&self) -> Option<Spread> {
        self.spread(*self.columns.first()?)
    }

    fn cells(&self, rill: Option<f64>) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
        let median =
            |measure: &Measure| or_dash(self.spread(*measure).map(|spread| measure.shown(spread.median)));
        let good = self.good.len();
        let all = self.good.len() + self.reasons.len();
        let mut cells = vec![self.client.to_owned()];
        if let [first, others @ ..] = self.columns {
            let leading = self.leading();
            cells.push(median(first));
            cells.push(or_dash(leading.map(|s| format!("[{}…{}]", first.shown(s.low), first.shown(s.high)))));
            cells.push(or_dash(leading.zip(rill).map(|(s, rill)| format!("{:.2}", s.median / rill))));
            cells.extend(others.iter().map(median));
        }
        cells.push(if good == 0 { "failed".to_owned() } else { format!("{good}/{all}") });
        cells
    }
}

/// Formats the table of a work, and the reasons of failed runs.
pub fn table(runs: &[Run], work: Work) -> String {
    let rows = Row::all(runs, work);
    let rill = rows.iter().find(|row| row.client == "rill").and_then(|row| Some(row.leading()?.median));
    let mut heads: Vec<&str> = work.columns().iter().map(|measure| measure.head()).collect();
    heads.splice(1..1, ["[min…max]", "× rill"]);
    let heads = std::iter::once("").chain(heads).chain(["runs"]).map(str::to_owned).collect();
    let mut cells = vec![heads];
    cells.extend(rows.iter().map(|row| row.cells(rill)));
    let mut text = aligned(&cells);
    for row in rows.iter().filter(|row| !row.reasons.is_empty()) {
        let mut reasons = row.reasons.clone();
        reasons.dedup();
        text += &format!(
            "{} failed in {} of {}: {}\n",
            row.client,
            row.reasons.len(),
            row.reasons.len() + row.good.len(),
            reasons.join("; ")
        );
    }
    text
}

/// Aligns columns: the first to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let cell = if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            text += &cell;
        }
        text.push('\n');
    }
    text
}

/// Machine, time and versions of the comparison.
#[derive(Debug)]
pub struct Setting {
    machine: String,
    filesystem: String,
    /// Day and time in UTC.
    pub date: String,
    load: String,
    versions: String,
    command: String,
}

impl Setting {
    /// Returns the setting of this process.
    pub fn now(clients: &[Installed], dir: &Path) -> Setting {
        let versions = clients.iter().map(|c| {
            if c.version.contains(&c.name) { c.version.clone() } else { format!("{}: {}", c.name, c.version) }
        });
        let args = std::env::args().skip(1).filter(|word| word != "--bench");
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Setting {
            machine: format!("{cpus} × {}, Linux {}", processor(), kernel.trim()),
            filesystem: filesystem(dir),
            date: date(),
            load: fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
            versions: versions.collect::<Vec<_>>().join("; "),
            command: format!("cargo bench --bench compare -- {}", args.collect::<Vec<_>>().join(" "))
                .trim_end()
                .to_owned(),
        }
    }

    /// Returns processor, kernel and file system in one line.
    pub fn place(&self) -> String {
        format!("{}, {}", self.machine, self.filesystem)
    }

    /// Returns the lines below the tables.
    pub fn text(&self) -> String {
        let Setting { date, load, versions, command, .. } = self;
        format!("{}\n{date}, load before it began {load}\n{versions}\n{command}\n", self.place())
    }
}

fn processor() -> String {
    let table = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |key: &str| {
        Some(table.lines().find(|line| line.starts_with(key))?.split_once(':')?.1.trim().to_owned())
    };
    // ARM has no model name.
    named("model name").or_else(|| named("Hardware")).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Returns the type of a directory's file system, which is that of the longest mount point above it.
fn filesystem(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kinds = mounts
        .lines()
        .filter_map(|line| Some((line.split(' ').nth(4)?, line.split_once(" - ")?.1.split(' ').next()?)));
    let above = kinds.filter(|(point, _)| dir.starts_with(point));
    above
        .max_by_key(|(point, _)| point.len())
        .map_or("an unknown file system".to_owned(), |(_, kind)| kind.to_owned())
}

fn date() -> String {
    let output = Command::new("date").args(["-u", "+%F %H:%M UTC"]).output();
    output.map_or_else(
        |_| "on an unknown day".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
