//! Keys and types of all JSON output.
//!
//! Two objects of `get` are not printed here: the event `disk full`, which has the keys of the other events,
//! and the progress of a torrent that is being checked, which also has `checked_pieces`.

use super::fixture;
use super::world::{World, end, lines, pattern, signal, udp_tracker, web};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

/// Types seen at each path.
#[derive(Default)]
struct Paths(BTreeMap<String, BTreeSet<&'static str>>);

/// Key that is printed only while content is checked; on a fast machine the check ends between two lines.
const FLEETING: &str = "checked_pieces";
/// Keys whose value is null or of this type, depending on timing.
const OF_THE_MOMENT: [(&str, &str); 4] =
    [("eta_s", "number"), ("slow", "string"), ("dht_nodes", "number"), ("reason", "string")];

impl Paths {
    fn add(&mut self, path: &str, value: &Value) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let kinds = self.0.entry(path.to_owned()).or_default();
        kinds.insert(kind);
        let other = OF_THE_MOMENT
            .iter()
            .find(|(key, _)| path.rsplit('.').next() == Some(key))
            .map(|(_, other)| *other);
        if other.is_some_and(|other| kind == other || kind == "null") {
            kinds.extend(other.into_iter().chain(["null"]));
        }
        for inner in value.as_array().into_iter().flatten() {
            self.add(&format!("{path}[]"), inner);
        }
        for (key, inner) in value.as_object().into_iter().flatten().filter(|(key, _)| *key != FLEETING) {
            self.add(&format!("{path}.{key}"), inner);
        }
    }

    /// Adds lines of `get` and `seed`, each below its event.
    fn add_events(&mut self, command: &str, events: impl IntoIterator<Item = Value>) {
        for event in events {
            self.add(&format!("{command}.{}", event["event"].as_str().unwrap()), &event);
        }
    }

    fn lines(&self) -> Vec<String> {
        let of = |(path, kinds): (&String, &BTreeSet<&str>)| {
            format!("{path}: {}", kinds.iter().copied().collect::<Vec<_>>().join(" | "))
        };
        self.0.iter().map(of).collect()
    }
}

/// Compares with the fixture's lines of these commands.
fn hold(commands: &[&str], found: &Paths) {
    fixture::compare_or_write("json.txt", &found.lines(), |line| {
        commands.contains(&line.split(['.', ':']).next().unwrap_or_default())
    });
}

#[test]
fn json_keys_of_get_and_seed_are_those_of_the_fixture() {
    let w = World::with_content();
    let mut found = Paths::default();
    let seed = w.seed("t.torrent", "400K");
    let addr = seed.addr();
    let link = format!(
        "magnet:?xt=urn:btih:{}",
        w.rill(["show", "--json", "t.torrent"]).json()["info_hash"].as_str().unwrap()
    );
    let get = |words: &[&str]| {
        let mut get = w.command();
        get.args(["get", "--json", "--no-state", "--listen-port", "0"]).args(words);
        get
    };
    let mut complete =
        get(&["t.torrent", "-d", "out", "--peer", &addr, "--timeout", "60", "--seed-time", "0.03"]);
    let mut lonely = get(&["t.torrent", "-d", "lonely", "--timeout", "2"]);
    let mut asking = get(&[&link, "-d", "asking", "--timeout", "2", "--dht-bootstrap", "127.0.0.1:1"]);
    asking.env_remove("RILL_NO_DHT");
    let mut saving = get(&[&link, "-d", "saved", "--metadata-only", "--peer", &addr, "--timeout", "60"]);
    fs::create_dir_all(w.at("way/t/a")).unwrap();
    let mut failing = get(&["t.torrent", "-d", "way"]);
    let mut serving = w.command();
    serving.args(["seed", "--json", "--no-state", "--listen-port", "0", "t.torrent"]).stdout(Stdio::piped());
    let ended = std::thread::scope(|scope| {
        let gets =
            [(&mut complete, 0), (&mut lonely, 2), (&mut asking, 2), (&mut saving, 0), (&mut failing, 13)];
        let gets: Vec<_> = gets
            .map(|(get, code)| scope.spawn(move || end(get).expect(code).objects()))
            .into_iter()
            .collect();
        let mut serving = serving.spawn().unwrap();
        let mut lines = lines(&mut serving);
        let first = lines.next().unwrap();
        signal(&serving, "TERM");
        let served: Vec<Value> =
            [first].into_iter().chain(lines).map(|line| serde_json::from_str(&line).unwrap()).collect();
        assert_eq!(serving.wait().unwrap().code(), Some(0));
        found.add_events("seed", served);
        gets.into_iter().flat_map(|get| get.join().unwrap()).collect::<Vec<Value>>()
    });
    found.add_events("get", ended);
    hold(&["get", "seed"], &found);
}

#[test]
fn json_keys_of_create_show_and_verify_are_those_of_the_fixture() {
    let w = World::with_content();
    let mut found = Paths::default();
    let web = web(Vec::new());
    let good = udp_tracker();
    let bad = format!("{web}/announce");
    let words = [
        "create",
        "t/a",
        "-o",
        "f.torrent",
        "-a",
        &good,
        "-t",
        &bad,
        "-P",
        "-c",
        "hello",
        "-n",
        "a",
        "--json",
    ];
    found.add(
        "create",
        &w.rill(words.into_iter().chain(["--web-seed", "http://w.example/a"])).expect(0).json(),
    );
    found.add("show torrent", &w.rill(["show", "--json", "f.torrent"]).expect(0).json());
    found.add("show torrent", &w.rill(["show", "--json", "t.torrent"]).expect(0).json());
    let hash = "ab".repeat(20);
    let short = format!("magnet:?xt=urn:btih:{hash}");
    let long = format!("{short}&dn=a&tr={good}&tr={bad}&ws=http://w.example/a&x.pe=192.0.2.1:6881");
    for link in [&short, &long] {
        found.add("show magnet", &w.rill(["show", "--json", link]).expect(0).json());
    }
    found.add("show scrape", &w.rill(["show", "--json", "--scrape", &long]).expect(0).json());
    found.add("verify", &w.rill(["verify", "--json", "t.torrent"]).expect(0).json());
    fs::write(w.at("t/a"), pattern(900_000)).unwrap();
    fs::remove_file(w.at("t/empty")).unwrap();
    found.add("verify", &w.rill(["verify", "--json", "t.torrent"]).expect(32).json());
    hold(&["create", "show torrent", "show magnet", "show scrape", "verify"], &found);
}

#[test]
fn json_keys_of_bench_are_those_of_the_fixture() {
    let w = World::new();
    let mut found = Paths::default();
    found.add(
        "bench",
        &w.rill(["bench", "--size", "1M", "--rounds", "1", "--json", "-d", "."]).expect(0).json(),
    );
    hold(&["bench"], &found);
}

#[cfg(feature = "sim")]
#[test]
fn json_keys_of_sim_are_those_of_the_fixture() {
    let w = World::new();
    let mut found = Paths::default();
    let sim = |words: &[&str], code| w.rill(["sim", "--json"].iter().chain(words)).expect(code).json();
    found.add("sim list", &sim(&["--list"], 0));
    found.add("sim", &sim(&["--peers", "3", "--size", "512K", "--piece", "64K", "--runs", "2"], 0));
    found.add("sim", &sim(&["--peers", "3", "--size", "8M", "--patience", "1s"], 2));
    for trial in super::library::trials() {
        found.add("sim", &sim(&[trial], 0));
    }
    found.add("sim window", &sim(&["--experiment", "window", "--runs", "1"], 0));
    hold(&["sim list", "sim", "sim window"], &found);
}

#[cfg(feature = "sim")]
#[test]
#[ignore = "minutes: every experiment but scale, which takes many"]
fn json_keys_of_experiments_are_those_of_the_fixture() {
    const NAMES: [&str; 9] = [
        "endgame",
        "snubbing",
        "picking",
        "choking",
        "choking-slots",
        "connectivity-degree",
        "connectivity-undialable",
        "connectivity-nat",
        "connectivity-addresses",
    ];
    let w = World::new();
    let mut found = Paths::default();
    for name in NAMES {
        let object = w.rill(["sim", "--json", "--experiment", name, "--runs", "1"]).expect(0).json();
        found.add(&format!("sim {name}"), &object);
    }
    hold(&NAMES.map(|name| format!("sim {name}")).each_ref().map(String::as_str), &found);
}
