//! Refused options, and the content of an experiment's table and chart.

use super::*;
use crate::cli::args::{CliArgs, CliCommand};

fn options(line: &str) -> Sim {
    let words = ["rill", "sim"].into_iter().chain(line.split_whitespace()).map(Into::into);
    match CliArgs::parse_words(words).unwrap().command {
        CliCommand::Sim(options) => *options,
        other => panic!("{other:?}"),
    }
}

/// Returns a trial with made-up figures: 1, 2, 3… by arm, column and seed.
fn trial(name: &str, runs: u32) -> Trial {
    let experiment = experiment::experiment(name).unwrap();
    let arms = experiment.arms();
    let columns = columns(&experiment);
    let value = |arm: usize, run: u32, column: usize| (1 + arm * 100 + column * 10) as f64 + f64::from(run);
    let of_run = |arm, run| (0..columns.len()).map(|column| value(arm, run, column)).collect();
    let values = (0..arms.len()).map(|arm| (0..runs).map(|run| of_run(arm, run)).collect()).collect();
    Trial { experiment, arms, columns, values, seed: 1, runs, strict: false, took: Duration::from_secs(61) }
}

#[test]
fn refuses_options_that_do_not_apply_to_an_experiment() {
    for line in [
        "nothing",
        "endgame --peers 3",
        "endgame flash",
        "endgame --metric luck",
        "endgame --metric wasted,last",
    ] {
        let failure =
            find(&options(&format!("--experiment {line}")), line.split(' ').next().unwrap()).expect_err(line);
        assert_eq!(failure.exit.code(), 28, "{line}");
    }
    for line in [
        "endgame",
        "endgame --strict --runs 3 --seed 9 --json",
        "choking --metric contributors,free-riders",
        "scale --metric memory",
    ] {
        assert!(
            find(&options(&format!("--experiment {line}")), line.split(' ').next().unwrap()).is_ok(),
            "{line}"
        );
    }
}

#[test]
fn the_table_has_a_row_for_every_arm_and_the_command_that_repeats_it() {
    let trial = trial("endgame", 20);
    let text = trial.markdown();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), trial.arms.len() + 2);
    let cells = |row: &str| row.matches('|').count();
    assert!(rows.iter().all(|row| cells(row) == trial.columns.len() + 3), "{text}");
    assert!(rows[2].starts_with("| off | 0 | 11.0 (3.00…18.0) |"), "{text}");
    assert!(text.ends_with("`rill sim --experiment endgame --runs 20 --seed 1` took 1m01s\n"), "{text}");
}

#[test]
fn one_run_has_no_spread() {
    let text = trial("endgame", 1).markdown();
    assert!(text.contains("| off | 0 | 1.00 | 11.0 |") && !text.contains('…'), "{text}");
}

#[test]
fn the_chart_has_a_curve_for_every_series_and_metric() {
    let choking = trial("choking", 3);
    let scale = trial("scale", 3);
    let names = |chart: &Chart| chart.series.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&choking.chart(&[])), ["who gives most", "everybody in turn"]);
    assert_eq!(choking.chart(&[]).y.label, "median contributor, x fluid limit");
    let both = choking.chart(&["contributors".to_owned(), "free-riders".to_owned()]);
    assert_eq!((names(&both).len(), both.y.label.as_str()), (4, "x fluid limit"));
    assert_eq!(names(&both)[3], "everybody in turn: median free rider");
    assert_eq!(both.series[0].points.len(), 5);
    assert_eq!(
        names(&scale.chart(&["last".to_owned(), "median".to_owned()])),
        ["time of the last peer", "time of the median peer"]
    );
}

#[test]
fn only_experiments_that_run_alone_have_columns_of_cost() {
    assert!(trial("scale", 1).columns.iter().any(|c| c.name == "memory"));
    assert!(trial("endgame", 1).columns.iter().all(|c| c.name != "memory"));
}

#[test]
fn the_object_holds_every_value() {
    let trial = trial("endgame", 3);
    let line = trial.object();
    assert!(line.contains(r#""last-percent":{"median":2,"p10":1,"p90":3,"values":[1,2,3]}"#), "{line}");
    assert_eq!(line.matches(r#"{"series":"#).count(), trial.arms.len());
}

#[test]
fn memory_counts_only_the_growth_since_the_start() {
    let memory = Memory::watch();
    let block = std::hint::black_box(vec![1u8; 32 << 20]);
    let peak = memory.peak_kib();
    assert!(peak > 16.0 * 1024.0 && block.len() == 32 << 20, "{peak}");
}
