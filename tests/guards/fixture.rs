//! Compares with a fixture, or writes it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

/// Serialises tests of one process that write lines of the same file.
static WRITING: Mutex<()> = Mutex::new(());

/// Returns the path of a fixture.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/guards").join(name)
}

/// Returns whether fixtures are written.
pub fn writing() -> bool {
    std::env::var("RILL_WRITE_GUARDS").is_ok_and(|value| value == "1")
}

/// Returns the lines of a fixture, or none if it does not exist and fixtures are written.
pub fn lines(name: &str) -> Vec<String> {
    match fs::read_to_string(path(name)) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(_) if writing() => Vec::new(),
        Err(e) => panic!("{name}: {e}"),
    }
}

/// Writes a fixture.
pub fn write(name: &str, lines: &[String]) {
    fs::write(path(name), lines.join("\n") + "\n").unwrap();
}

/// Compares the lines of a fixture that `is_ours` selects with `found`, in order, or replaces them.
pub fn compare_or_write(name: &str, found: &[String], is_ours: impl Fn(&str) -> bool) {
    if writing() {
        let _guard = WRITING.lock().unwrap();
        let before = lines(name);
        let place = before.iter().take_while(|line| !is_ours(line)).count();
        let mut all: Vec<String> = before.into_iter().filter(|line| !is_ours(line)).collect();
        all.splice(place..place, found.iter().cloned());
        return write(name, &all);
    }
    let expected: Vec<String> = lines(name).into_iter().filter(|line| is_ours(line)).collect();
    assert!(!expected.is_empty(), "{name} has no such lines");
    assert!(expected == found, "{}", difference(name, &expected, found));
}

/// Describes the lines that only one of the two has.
pub fn difference(name: &str, expected: &[String], found: &[String]) -> String {
    let (before, now): (BTreeSet<&String>, BTreeSet<&String>) =
        (expected.iter().collect(), found.iter().collect());
    let list = |mark: char, lines: Vec<&&String>| {
        lines.iter().map(|line| format!("{mark} {line}\n")).collect::<String>()
    };
    let (lost, new) = (before.difference(&now).collect(), now.difference(&before).collect());
    format!("{name} does not hold any more (- expected, + found):\n{}{}", list('-', lost), list('+', new))
}
