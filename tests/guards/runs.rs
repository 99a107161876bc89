//! Fingerprints of simulator runs, and digests of the bytes that they send.

use super::world::World;
use super::{fixture, library};

const SEEDS: [u64; 3] = [1, 2, 3];
/// Scenarios that take seconds.
const QUICK: [&str; 3] = ["flash", "exchange", "dozen"];
/// Scenarios that take minutes.
const BIG: [&str; 3] = ["household", "crowd", "multitude"];

/// Returns lines `NAME SEED FINGERPRINT` from the program's JSON output.
fn fingerprints(name: &str) -> Vec<String> {
    let w = World::new();
    let runs = SEEDS.len().to_string();
    let object = w.rill(["sim", name, "--seed", "1", "--runs", &runs, "--json"]).expect(0).json();
    let runs = object["runs"].as_array().unwrap();
    assert!(runs.iter().map(|run| run["seed"].as_u64().unwrap()).eq(SEEDS), "{name}");
    runs.iter()
        .map(|run| format!("{name} {} {}", run["seed"], run["fingerprint"].as_str().unwrap()))
        .collect()
}

fn hold(file: &str, found: &[String]) {
    let name_of = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    fixture::compare_or_write(file, found, |line| found.iter().any(|found| name_of(found) == name_of(line)));
}

fn hold_scenarios(names: &[&str]) {
    let found: Vec<String> = names.iter().flat_map(|name| fingerprints(name)).collect();
    hold("fingerprints.txt", &found);
}

#[test]
fn fingerprints_of_trials_are_those_of_the_fixture() {
    hold_scenarios(&library::trials());
}

#[test]
fn fingerprints_of_quick_scenarios_are_those_of_the_fixture() {
    hold_scenarios(&QUICK);
}

#[test]
#[ignore = "seconds a seed, three seeds: a hundred machines of one network, three seeds"]
fn fingerprints_of_household_are_those_of_the_fixture() {
    hold_scenarios(&["household"]);
}

#[test]
#[ignore = "minutes a seed, three seeds: a thousand peers"]
fn fingerprints_of_crowd_are_those_of_the_fixture() {
    hold_scenarios(&["crowd"]);
}

#[test]
#[ignore = "many minutes and 3 GB a seed, three seeds: ten thousand peers"]
fn fingerprints_of_multitude_are_those_of_the_fixture() {
    hold_scenarios(&["multitude"]);
}

#[test]
#[ignore = "minutes: every arm of every experiment with three seeds"]
fn fingerprints_of_experiments_are_those_of_the_fixture() {
    let of_seed = |seed| move |(arm, fingerprint)| format!("{arm} {seed} {fingerprint:016x}");
    let found: Vec<String> =
        SEEDS.iter().flat_map(|&seed| library::experiments(seed).into_iter().map(of_seed(seed))).collect();
    hold("fingerprints.txt", &found);
}

#[test]
fn the_fixture_has_lines_for_every_scenario_and_trial() {
    let list = World::new().rill(["sim", "--list", "--json"]).expect(0).json();
    let names = |of: &str| {
        list[of]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut scenarios: Vec<String> = [QUICK, BIG].concat().iter().map(|name| name.to_string()).collect();
    scenarios.sort();
    let mut listed = names("scenarios");
    listed.sort();
    assert_eq!(listed, scenarios);
    assert_eq!(names("trials"), library::trials());
    if fixture::writing() {
        return; // other tests write the lines
    }
    let lines = fixture::lines("fingerprints.txt");
    for name in names("scenarios").into_iter().chain(names("trials")) {
        let seeds = lines.iter().filter(|line| line.split(' ').next() == Some(&name)).count();
        assert_eq!(seeds, SEEDS.len(), "{name}");
    }
    for experiment in names("experiments").iter().filter(|name| *name != "scale") {
        assert!(lines.iter().any(|line| line.starts_with(&format!("{experiment}/"))), "{experiment}");
    }
}

#[test]
fn wire_digests_of_trials_are_those_of_the_fixture() {
    let of_trial =
        |name: &str| SEEDS.map(|seed| format!("{name} {seed} {:016x}", library::wire_digest(name, seed)));
    let mut found: Vec<String> = library::trials().iter().flat_map(|name| of_trial(name)).collect();
    found.extend(SEEDS.map(|seed| format!("dht {seed} {:016x}", library::dht_digest(seed))));
    fixture::compare_or_write("wire.txt", &found, |_| true);
}
