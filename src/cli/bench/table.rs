//! Output of the bench: medians over the rounds as a table, or all figures as one JSON object.

use super::super::format;
use super::super::json::Object;
use super::cost::Cost;
use std::fmt::Write;

/// Parameters of the bench.
#[derive(Clone, Debug)]
pub(super) struct BenchSetup {
    pub(super) bytes: u64,
    pub(super) piece_bytes: u64,
    pub(super) storage: String,
    pub(super) filesystem: String,
    pub(super) dir: String,
}

/// Costs of one round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) floor: Cost,
    pub(super) download: Cost,
    pub(super) upload: Cost,
}

impl BenchSetup {
    fn gib(&self) -> f64 {
        self.bytes as f64 / (1u64 << 30) as f64
    }

    fn mib_per_s(&self, cost: &Cost) -> f64 {
        self.gib() * 1024.0 / cost.wall.as_secs_f64().max(1e-6)
    }

    fn cpu_per_gib(&self, cost: &Cost) -> f64 {
        cost.cpu.as_secs_f64() / self.gib()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// If the largest ratio of the rounds is more than this many times the smallest, no ratio is printed.
const NOISE: f64 = 1.5;

/// Returns the CPU time of the download over that of the floor for each round, smallest first. Each round has
/// its own floor, so other load on the machine raises both.
fn ratios(rounds: &[Figures]) -> Vec<f64> {
    let of = |f: &Figures| f.download.cpu.as_secs_f64() / f.floor.cpu.as_secs_f64().max(1e-9);
    let mut ratios: Vec<f64> = rounds.iter().map(of).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

/// Returns the sentence below the table: the ratio with its spread, or that the rounds differ too much to
/// compare.
fn conclusion(rounds: &[Figures]) -> String {
    let ratios = ratios(rounds);
    let what = "receiving, writing and hashing the same bytes in a plain loop";
    let (Some(least), Some(most)) = (ratios.first(), ratios.last()) else { return String::new() };
    if ratios.len() == 1 {
        format!(
            "The download takes {least:.2} times the CPU of the floor: {what}. One round says nothing about its spread."
        )
    } else if most / least > NOISE {
        format!(
            "Too noisy to compare: the download took {least:.2} to {most:.2} times the CPU of the floor, {what}."
        )
    } else {
        let median = median(ratios.clone());
        format!(
            "The download takes {median:.2} times the CPU of the floor ({least:.2} to {most:.2} in the rounds): {what}."
        )
    }
}

/// Formats the table.
pub(super) fn text(setting: &BenchSetup, rounds: &[Figures]) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let BenchSetup { bytes, piece_bytes, storage, filesystem, dir } = setting;
    let mut text = format!(
        "{} in pieces of {}, one peer over loopback, storage {storage}, {filesystem} at {dir}\nLinux {}, {cpus} CPU{}, {}\n\n",
        format::size(*bytes),
        format::exact(*piece_bytes),
        kernel.trim(),
        if cpus == 1 { "" } else { "s" },
        if rounds.len() == 1 { "1 round".to_string() } else { format!("medians of {} rounds", rounds.len()) },
    );
    let _ = writeln!(
        text,
        "{:<10}{:>8}{:>11}{:>8}{:>8}{:>8}{:>12}{:>14}",
        "", "MiB/s", "CPU s/GiB", "loop", "disk", "other", "peak RSS", "peak private"
    );
    let mut line = |name: &str, of: fn(&Figures) -> &Cost, threads: bool| {
        let column = |value: &dyn Fn(&Cost) -> f64| median(rounds.iter().map(|f| value(of(f))).collect());
        let memory = |value: &dyn Fn(&Cost) -> u64| format::size(column(&|c| (value(c) << 10) as f64) as u64);
        let per_gib = |value: &dyn Fn(&Cost) -> std::time::Duration| {
            format!("{:.2}", column(&|c| value(c).as_secs_f64() / setting.gib()))
        };
        let split = if threads {
            [per_gib(&|c| c.loop_cpu), per_gib(&|c| c.disk_cpu), per_gib(&Cost::other_cpu)]
        } else {
            ["-", "-", "-"].map(str::to_string)
        };
        let _ = writeln!(
            text,
            "{name:<10}{:>8.0}{:>11.2}{:>8}{:>8}{:>8}{:>12}{:>14}",
            column(&|c| setting.mib_per_s(c)),
            column(&|c| setting.cpu_per_gib(c)),
            split[0],
            split[1],
            split[2],
            memory(&|c| c.rss_kib),
            memory(&|c| c.private_kib),
        );
    };
    line("download", |f| &f.download, true);
    line("upload", |f| &f.upload, true);
    line("floor", |f| &f.floor, false);
    let _ = writeln!(text, "\n{}", conclusion(rounds));
    text
}

/// Formats one JSON object with all rounds.
pub(super) fn object(setting: &BenchSetup, rounds: &[Figures]) -> String {
    let cost = |c: &Cost| {
        let gib = setting.gib();
        let o = Object::new().dec("mib_per_s", setting.mib_per_s(c)).dec("wall_s", c.wall.as_secs_f64());
        let o = o
            .dec("cpu_s_per_gib", setting.cpu_per_gib(c))
            .dec("loop_cpu_s_per_gib", c.loop_cpu.as_secs_f64() / gib);
        let o = o
            .dec("disk_cpu_s_per_gib", c.disk_cpu.as_secs_f64() / gib)
            .dec("other_cpu_s_per_gib", c.other_cpu().as_secs_f64() / gib);
        o.num("peak_rss_bytes", c.rss_kib << 10).num("peak_private_bytes", c.private_kib << 10).end()
    };
    let all = rounds.iter().map(|f| {
        Object::new()
            .raw("download", &cost(&f.download))
            .raw("upload", &cost(&f.upload))
            .raw("floor", &cost(&f.floor))
            .end()
    });
    Object::new()
        .num("bytes", setting.bytes)
        .num("piece_bytes", setting.piece_bytes)
        .str("storage", &setting.storage)
        .str("filesystem", &setting.filesystem)
        .dec("times_floor", median(ratios(rounds)))
        .list("rounds", all)
        .end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn figures(download_s: f64, floor_s: f64) -> Figures {
        let cost = |s: f64| Cost {
            wall: Duration::from_secs(2),
            cpu: Duration::from_secs_f64(s),
            rss_kib: 2048,
            ..Cost::default()
        };
        Figures { floor: cost(floor_s), download: cost(download_s), upload: cost(0.5) }
    }

    fn setting() -> BenchSetup {
        BenchSetup {
            bytes: 1 << 29,
            piece_bytes: 1 << 20,
            storage: "auto".into(),
            filesystem: "ext4".into(),
            dir: "/var/tmp".into(),
        }
    }

    #[test]
    fn the_table_gives_speed_cost_and_the_ratio_to_the_floor() {
        let text = text(&setting(), &[figures(1.0, 0.5), figures(1.1, 0.5), figures(0.8, 0.5)]);
        assert!(text.contains("download       256       2.00"), "{text}");
        assert!(
            text.contains("takes 2.00 times the CPU of the floor (1.60 to 2.20 in the rounds)"),
            "{text}"
        );
        assert!(text.contains("2.0 MiB") && text.is_ascii(), "{text}");
    }

    #[test]
    fn rounds_that_differ_too_much_give_no_ratio() {
        let noisy = conclusion(&[figures(1.0, 0.5), figures(9.0, 0.5), figures(0.8, 0.5)]);
        assert!(noisy.starts_with("Too noisy to compare") && noisy.contains("1.60 to 18.00"), "{noisy}");
        assert!(conclusion(&[figures(1.0, 0.5)]).ends_with("One round says nothing about its spread."));
    }

    #[test]
    fn one_outlier_does_not_move_the_median() {
        assert_eq!(median(vec![3.0, 100.0, 1.0]), 3.0);
        assert_eq!(median(vec![1.0, 3.0]), 2.0);
        assert_eq!(median(vec![]), 0.0);
    }

    #[test]
    fn the_object_contains_all_rounds() {
        let text = object(&setting(), &[figures(1.0, 0.5), figures(1.0, 0.5)]);
        assert_eq!(text.matches(r#""cpu_s_per_gib":2.000"#).count(), 2, "{text}");
        assert!(text.contains(r#""times_floor":2.000"#));
    }
}
