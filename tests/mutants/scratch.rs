//! A crate with floors 0 to 2 and the simulator, in which bugs are injected.
//!
//! The crate is kept below the target directory, so that its dependencies are built once. Several such crates
//! can exist side by side.

use crate::faults::Fault;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Modules that are copied.
const FLOORS: [&str; 4] = ["units", "wire", "engine", "sim"];
/// Runs of each trial. A fault that a trial declares (connection lost, disk full, …) must have occurred in a
/// quarter of the runs.
const SEEDS: u64 = 200;

/// Result of running all trials.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Caught { trial: String, seed: String, words: String },
}

pub struct Scratch {
    dir: PathBuf,
}

/// Returns the directory of rill's source.
pub fn source() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
}

impl Scratch {
    /// Creates copy number `number` anew.
    pub fn new(number: usize) -> Scratch {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutants{number}"));
        let src = dir.join("src");
        let _ = fs::remove_dir_all(&src);
        FLOORS.iter().for_each(|floor| copy(&source().join(floor), &src.join(floor)));
        fs::write(src.join("main.rs"), main()).unwrap();
        let all = fs::read_to_string(source().with_file_name("Cargo.toml")).unwrap();
        fs::write(dir.join("Cargo.toml"), manifest(&all, &words(&src))).unwrap();
        fs::copy(source().with_file_name("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
        Scratch { dir }
    }

    /// Injects a bug.
    pub fn inject(&self, fault: &Fault) {
        let path = self.dir.join("src").join(fault.file);
        let text = fs::read_to_string(&path).unwrap();
        let places = places(&text, fault.old);
        let [place] = &places[..] else {
            panic!("{}: {} places in {}", fault.what, places.len(), fault.file)
        };
        fs::write(path, [&text[..place.start], fault.new, &text[place.end..]].concat()).unwrap();
    }

    /// Restores the file of a bug.
    pub fn restore(&self, fault: &Fault) {
        let text = fs::read(source().join(fault.file)).unwrap();
        fs::write(self.dir.join("src").join(fault.file), text).unwrap();
    }

    /// Builds the crate and runs every trial.
    pub fn run(&self) -> Outcome {
        let target = self.dir.join("target");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline"]).current_dir(&self.dir).env("CARGO_TARGET_DIR", &target);
        let built = cargo.output().unwrap();
        assert!(
            built.status.success(),
            "the crate does not build:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let Output { status, stdout, stderr } = Command::new(target.join("debug/mutant")).output().unwrap();
        let printed = String::from_utf8_lossy(&stdout);
        let parts: Vec<&str> = printed.trim().splitn(3, '\t').collect();
        match (status.code(), &parts[..]) {
            (Some(0), _) => Outcome::Passed,
            (Some(1), &[trial, seed, words]) => {
                Outcome::Caught { trial: trial.into(), seed: seed.into(), words: words.into() }
            }
            _ => panic!("{status}, not an outcome:\n{printed}\n{}", String::from_utf8_lossy(&stderr)),
        }
    }
}

/// Returns where `code` occurs in `source`, whatever the white space and comments in either.
pub fn places(source: &str, code: &str) -> Vec<Range<usize>> {
    let source = significant(source);
    let code = significant(code);
    let equal = |at: &[(usize, char)]| at.iter().zip(&code).all(|((_, a), (_, b))| a == b);
    let found = source.windows(code.len()).filter(|at| equal(at));
    found.map(|at| at[0].0..at[at.len() - 1].0 + at[at.len() - 1].1.len_utf8()).collect()
}

/// Returns the characters that are neither white space nor part of a line comment, with their offsets.
fn significant(text: &str) -> Vec<(usize, char)> {
    let mut offset = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        let comment = if line.trim_start().starts_with("//") { Some(0) } else { line.find(" // ") };
        let code = &line[..comment.unwrap_or(line.len())];
        found.extend(code.char_indices().filter(|(_, c)| !c.is_whitespace()).map(|(at, c)| (offset + at, c)));
        offset += line.len();
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            // A write sets the modification time, which makes cargo rebuild the crate.
            fs::write(to, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// Returns the word before every `::` in the copied files, such as `log` of `log::debug!`.
fn words(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(words(&entry.path()));
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        let parts: Vec<&str> = text.split("::").collect();
        let last_word = |part: &&str| {
            part.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned()
        };
        found.extend(parts.iter().map(last_word));
    }
    found
}

/// Returns a manifest with those of rill's dependencies that are used.
fn manifest(all: &str, used: &[String]) -> String {
    let lines =
        all.lines().skip_while(|l| *l != "[dependencies]").skip(1).take_while(|l| !l.starts_with('['));
    let named = |line: &&str| {
        line.split_once(" = ").is_some_and(|(name, _)| used.iter().any(|w| *w == name.replace('-', "_")))
    };
    let dependencies: Vec<&str> = lines.filter(named).collect();
    format!(
        "[package]\nname = \"mutant\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n[workspace]\n\n\
         [features]\ndefault = [\"sim\", \"oracle\"]\nsim = []\noracle = []\n\n\
         [profile.dev]\nopt-level = 1\ndebug = false\ndebug-assertions = true\noverflow-checks = true\nincremental = true\n\n\
         [dependencies]\n{}\n",
        dependencies.join("\n")
    )
}

/// Returns the main program, which runs all trials with one seed before the next seed: most bugs are caught
/// with the first seeds.
fn main() -> String {
    let modules: String = FLOORS.iter().map(|floor| format!("pub mod {floor};\n")).collect();
    format!(
        r#"#![allow(warnings)]
{modules}
use std::collections::BTreeMap;

fn caught(trial: &str, seed: impl std::fmt::Display, words: &str) -> ! {{
    println!("{{trial}}\t{{seed}}\t{{}}", words.replace(['\n', '\t'], " "));
    std::process::exit(1);
}}

fn main() {{
    std::panic::set_hook(Box::new(|_| {{}}));
    let mut faults = BTreeMap::new();
    for seed in 0..{SEEDS} {{
        for (trial, ..) in sim::TRIALS {{
            let scenario = sim::Scenario {{ seed, ..sim::named(trial).unwrap() }};
            match std::panic::catch_unwind(|| sim::run(&scenario)) {{
                Ok(report) => {{
                    let left = report.peers.iter().filter(|p| p.complete.is_none()).count();
                    if left > 0 {{
                        caught(trial, seed, &format!("{{left}} peers are not complete after {{:?}}", report.lasted));
                    }}
                    for (fault, n) in report.faults {{
                        *faults.entry((trial, fault)).or_insert(0) += n;
                    }}
                }}
                Err(panic) => {{
                    let words = panic.downcast_ref::<String>().map(String::as_str);
                    caught(trial, seed, words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words"));
                }}
            }}
        }}
    }}
    for (trial, _, expected) in sim::TRIALS {{
        for fault in expected {{
            let n = faults.get(&(trial, *fault)).copied().unwrap_or(0);
            if n < {SEEDS} / 4 {{
                caught(trial, "all", &format!("{{fault}}: {{n}} times in {SEEDS} runs"));
            }}
        }}
    }}
}}
"#
    )
}
