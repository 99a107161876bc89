//! Checks rill's dependencies: every package comes from the registry, has a licence that allows to distribute
//! the binary, and occurs in one version unless a reason is given. The packages named in `Cargo.toml` are on
//! a list.
//!
//! The data comes from `cargo metadata` without the network. Security advisories are not checked here.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Permissive licences: a binary may be distributed if it names them.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0", // the list of root certificates is data
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The dependencies in `Cargo.toml` and their purposes. The list catches a misspelled name, which could be a
/// package of another author.
const NAMED: [(&str, &str); 23] = [
    ("bendy", "the strict reader that ours is compared with"),
    ("clap", "the command line"),
    ("divan", "benches"),
    ("fastrand", "choices among equals"),
    ("flate2", "gzip bodies of trackers"),
    ("libc", "the few calls that rustix lacks"),
    ("log", "log lines"),
    ("memmap2", "windows into files"),
    ("mio", "readiness"),
    ("proptest", "tests over any input"),
    ("rustix", "system calls"),
    ("rustls", "an HTTPS server for tests"),
    ("serde", "bencode by derive"),
    ("serde_json", "tests read what --json prints"),
    ("sha1", "hashes of pieces"),
    ("signal-hook", "Ctrl-C and SIGBUS"),
    ("slab", "tables with stable keys"),
    ("socket2", "socket options"),
    ("tempfile", "directories for tests"),
    ("terminal_size", "how wide a line may be"),
    ("thiserror", "errors"),
    ("unicode-width", "how wide a name is"),
    ("ureq", "HTTP to trackers"),
];

/// Packages with more than one version, the number of versions, and the packages that need them.
const TWICE: [(&str, usize, &str); 2] = [
    ("getrandom", 3, "0.2 is ring's; the others belong to proptest and tempfile, which are in no binary"),
    ("syn", 2, "runs at build time only: divan's macros are a version behind those of clap and thiserror"),
];

/// Returns the metadata of all packages that are built for this machine.
fn metadata() -> Value {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let cargo = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            host,
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    serde_json::from_slice(&cargo.stdout).unwrap()
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().unwrap().iter()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

fn is_ours(package: &Value) -> bool {
    name(package) == "rill-torrent"
}

/// Returns whether an SPDX licence expression is satisfied by [`LICENCES`].
fn can_be_met(expression: &str) -> bool {
    // Some packages use the old syntax `MIT/Apache-2.0`.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    any(&mut rest) && rest.is_empty()
}

fn any(rest: &mut &[&str]) -> bool {
    let mut met = all(rest);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        met |= all(rest);
    }
    met
}

fn all(rest: &mut &[&str]) -> bool {
    let mut met = one(rest);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        met &= one(rest);
    }
    met
}

fn one(rest: &mut &[&str]) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let met = any(rest);
            let [")", after @ ..] = *rest else { return false };
            *rest = after;
            met
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            LICENCES.contains(&format!("{licence} WITH {exception}").as_str())
        }
        [licence, after @ ..] => {
            *rest = after;
            LICENCES.contains(licence)
        }
        [] => false,
    }
}

#[test]
fn licence_expressions_are_evaluated() {
    for met in [
        "MIT",
        "MIT OR GPL-3.0",
        "MIT/Apache-2.0",
        "(MIT OR GPL-3.0) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(can_be_met(met), "{met}");
    }
    for not in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT ISC", "MIT WITH x", "GPL-2.0 OR (MIT AND AGPL-3.0)"]
    {
        assert!(!can_be_met(not), "{not}");
    }
}

#[test]
fn every_package_has_a_permissive_licence() {
    for package in packages(&metadata()) {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(can_be_met(licence), "{}: {licence:?}", name(package));
    }
}

#[test]
fn every_package_comes_from_the_registry() {
    for package in packages(&metadata()).filter(|p| !is_ours(p)) {
        assert_eq!(package["source"].as_str(), Some(REGISTRY), "{}", name(package));
    }
}

#[test]
fn packages_with_several_versions_are_on_the_list() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages(&metadata) {
        versions.entry(name(package)).or_default().insert(package["version"].as_str().unwrap());
    }
    let twice: Vec<_> =
        versions.iter().filter(|(_, v)| v.len() > 1).map(|(name, v)| (*name, v.len())).collect();
    assert_eq!(twice, TWICE.map(|(name, versions, _)| (name, versions)), "{versions:?}");
}

#[test]
fn the_dependencies_in_cargo_toml_are_on_the_list() {
    let metadata = metadata();
    let ours = packages(&metadata).find(|p| is_ours(p)).unwrap();
    // rill itself is among its dev-dependencies: that enables the features that its tests need.
    let others = ours["dependencies"].as_array().unwrap().iter().filter(|package| !is_ours(package));
    let named: BTreeSet<&str> = others.clone().map(name).collect();
    assert_eq!(named.into_iter().collect::<Vec<_>>(), NAMED.map(|(name, _)| name));
    for dependency in others {
        assert_ne!(dependency["req"].as_str(), Some("*"), "any version of {}", name(dependency));
        assert_eq!(dependency["source"].as_str(), Some(REGISTRY), "{}", name(dependency));
    }
}
