//! Output of `rill sim`: a table, with medians and their spread if there are several runs, or one JSON
//! object.

use super::figures::{Figure, Outcome, REST, Spread, TIMES, json_number, short};
use super::plan::description;
use crate::cli::connections;
use crate::cli::json::{Object, array};
use crate::session::ConnectionCounts;
use crate::sim::{PeerReport, Scenario};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Returns the command that repeats these runs.
pub(super) fn command(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let runs = if outcomes.len() == 1 { String::new() } else { format!(" --runs {}", outcomes.len()) };
    format!("rill sim {} --seed {}{runs}", scenario.name, scenario.seed)
}

/// Formats the table.
pub(super) fn text(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let mut text = format!("{}\n{}\n", command(scenario, outcomes), description(scenario));
    if outcomes.len() > 1 {
        let _ = writeln!(text, "medians of {} runs (smallest to greatest)", outcomes.len());
    }
    let times = TIMES.iter().map(|figure| {
        let fluid = |o: &Outcome| (figure.of)(o) / o.report.fluid_limit.as_secs_f64();
        [
            figure.name.to_owned(),
            spread(outcomes, figure.of),
            if figure.key == "fluid_limit_s" { String::new() } else { spread(outcomes, fluid) },
        ]
    });
    let head = ["", "seconds", "x fluid limit"].map(str::to_owned);
    let rows: Vec<_> = [head].into_iter().chain(times).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let names = REST.iter().map(|f| f.name.len()).max().unwrap_or(0).max(width(0)) + 3;
    let seconds = width(1) + 3;
    text.push('\n');
    for [name, first, second] in &rows {
        let line = format!("{name:<names$}{first:<seconds$}{second}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push('\n');
    for Figure { name, unit, of, .. } in &REST {
        let words = spread(outcomes, of);
        // `never` and `-` have no unit.
        let unit = if words.starts_with(|c: char| c.is_ascii_digit()) { unit } else { "" };
        let line = format!("{name:<names$}{words} {unit}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let mut counts = ConnectionCounts::default();
    outcomes.iter().for_each(|o| counts.add(&o.report.connections));
    let _ = writeln!(text, "{:<names$}{}", "connections", connections::words(&counts));
    for (name, words) in
        [("fingerprint", format!("{:016x}", fingerprint(outcomes))), ("went wrong", faults(outcomes))]
    {
        if !words.is_empty() {
            let _ = writeln!(text, "{name:<names$}{words}");
        }
    }
    text
}

/// Formats a spread, as in `12.3 (11.9 to 13.0)`, or one number if all are equal.
fn spread(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> String {
    let Spread { low, median, high } = Spread::of(outcomes.iter().map(of), 0.0);
    let low = short(low);
    let median = short(median);
    let high = short(high);
    if low == high { median } else { format!("{median} ({low} to {high})") }
}

/// Returns the fingerprint of a single run, or a digest of the fingerprints of all runs in order.
fn fingerprint(outcomes: &[Outcome]) -> u64 {
    match outcomes {
        [only] => only.report.fingerprint,
        all => all.iter().fold(0xcbf2_9ce4_8422_2325, |digest, o| {
            (digest ^ o.report.fingerprint).wrapping_mul(0x0100_0000_01b3)
        }),
    }
}

/// Formats the counts of injected faults, summed over all runs.
fn faults(outcomes: &[Outcome]) -> String {
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in outcomes.iter().flat_map(|o| &o.report.faults) {
        *all.entry(name).or_default() += count;
    }
    all.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// Returns the sentence about incomplete peers, or `None` if all are complete.
pub(super) fn incomplete(scenario: &Scenario, outcomes: &[Outcome]) -> Option<String> {
    let missing: usize =
        outcomes.iter().map(|o| o.report.peers.iter().filter(|p| p.complete.is_none()).count()).sum();
    let peers: usize = outcomes.iter().map(|o| o.report.peers.len()).sum();
    let seeds: Vec<String> =
        outcomes.iter().filter(|o| !o.report.all_complete()).map(|o| o.seed.to_string()).collect();
    let patience = crate::cli::format::duration(scenario.patience);
    let first = seeds.first()?;
    let which = match (outcomes.len(), seeds.len()) {
        (1, _) => String::new(),
        (_, 1) => format!(", all in the run with seed {first}"),
        (all, some) => format!(", in {some} of {all} runs, the first with seed {first}"),
    };
    Some(format!("{missing} of {peers} peers were not complete within {patience} of virtual time{which}"))
}

/// Formats one JSON object: the command, the spread of every figure, and every run with its peers.
pub(super) fn object(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let figures = || TIMES.iter().chain(&REST);
    let summary = figures().fold(Object::new(), |o, figure| {
        let Spread { low, median, high } = Spread::of(outcomes.iter().map(figure.of), 0.0);
        let spread = Object::new()
            .raw("median", &json_number(median))
            .raw("min", &json_number(low))
            .raw("max", &json_number(high));
        o.raw(figure.key, &spread.end())
    });
    let run = |o: &Outcome| {
        let faults =
            o.report.faults.iter().fold(Object::new(), |object, (name, count)| object.num(name, *count));
        let samples = o.report.samples.iter();
        figures()
            .fold(Object::new().num("seed", o.seed), |object, figure| {
                object.raw(figure.key, &json_number((figure.of)(o)))
            })
            .str("fingerprint", &format!("{:016x}", o.report.fingerprint))
            .raw("connections", &connections::object(&o.report.connections))
            .raw("faults", &faults.end())
            .list(
                "samples",
                samples.map(|s| array([s.at.as_secs_f64(), s.have, s.complete].map(json_number))),
            )
            .list("peers", o.report.peers.iter().map(peer))
            .end()
    };
    Object::new()
        .str("command", &command(scenario, outcomes))
        .num("bytes", scenario.size)
        .num("piece_bytes", scenario.piece_len.into())
        .num("peers", scenario.peers.into())
        .num("seeds", scenario.seeds.into())
        .bool("complete", outcomes.iter().all(|o| o.report.all_complete()))
        .raw("summary", &summary.end())
        .list("runs", outcomes.iter().map(run))
        .end()
}

fn peer(p: &PeerReport) -> String {
    let time = |time: Option<Duration>| json_number(time.map_or(f64::NAN, |t| t.as_secs_f64()));
    Object::new()
        .num("number", p.number.into())
        .num("up_bytes_per_s", p.line.up)
        .num("down_bytes_per_s", p.line.down)
        .bool("dialable", p.dialable)
        .bool("free_rider", p.free_rider)
        .raw("first_piece_s", &time(p.first_piece))
        .raw("nearly_s", &time(p.nearly))
        .raw("complete_s", &time(p.complete))
        .num("downloaded_bytes", p.downloaded)
        .num("uploaded_bytes", p.uploaded)
        .num("wasted_bytes", p.wasted)
        .end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim;

    fn world() -> (Scenario, Vec<Outcome>) {
        let scenario = Scenario {
            name: "flash --peers 4".to_owned(),
            peers: 4,
            size: 1 << 20,
            piece_len: 1 << 15,
            ..Scenario::default()
        };
        let outcome = |seed| {
            let report = sim::run(&Scenario { seed, ..scenario.clone() });
            Outcome { seed, report, took: Duration::from_secs(1) }
        };
        let outcomes = (1..=3).map(outcome).collect();
        (scenario, outcomes)
    }

    #[test]
    fn the_table_has_the_command_and_all_figures() {
        let (scenario, outcomes) = world();
        let text = text(&scenario, &outcomes[..1]);
        assert!(
            text.starts_with(
                "rill sim flash --peers 4 --seed 1\n1.0 MiB in pieces of 32 KiB, 4 peers from 1 seed\n"
            ),
            "{text}"
        );
        for name in ["fluid limit ", "last peer ", "wasted ", "events a second ", "fingerprint "] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
        }
        assert!(
            text.is_ascii() && !text.contains(" to ") && text.lines().all(|l| l == l.trim_end()),
            "{text}"
        );
    }

    #[test]
    fn several_runs_give_medians() {
        let (scenario, outcomes) = world();
        let text = text(&scenario, &outcomes);
        assert!(text.starts_with("rill sim flash --peers 4 --seed 1 --runs 3\n"), "{text}");
        assert!(text.contains("medians of 3 runs (smallest to greatest)\n"), "{text}");
        assert_ne!(fingerprint(&outcomes), fingerprint(&outcomes[1..]));
    }

    #[test]
    fn incomplete_peers_are_counted() {
        let (scenario, mut outcomes) = world();
        assert_eq!(incomplete(&scenario, &outcomes), None);
        outcomes[1].report.peers[0].complete = None;
        outcomes[1].report.peers[2].complete = None;
        let sentence =
            "2 of 12 peers were not complete within 6h00m of virtual time, all in the run with seed 2";
        assert_eq!(incomplete(&scenario, &outcomes).as_deref(), Some(sentence));
        assert!(text(&scenario, &outcomes[1..2]).contains("worst peer    never\n"));
    }

    #[test]
    fn the_object_holds_every_run_with_its_peers() {
        let (scenario, mut outcomes) = world();
        outcomes[0].report.peers[0].complete = None;
        outcomes[0].report.faults.insert("lost", 7);
        let line = object(&scenario, &outcomes);
        assert_eq!(
            (line.matches(r#""number":"#).count(), line.matches(r#"{"seed":"#).count()),
            (12, 3),
            "{line}"
        );
        assert!(
            line.contains(r#""complete":false"#)
                && line.contains(r#""complete_s":null"#)
                && line.contains(r#""faults":{"lost":7}"#)
        );
        assert!(
            line.contains(r#""last_s":null"#) && !line.contains("inf") && !line.contains("NaN"),
            "{line}"
        );
    }
}
