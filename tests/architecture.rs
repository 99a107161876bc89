//! Checks the layers ("floors") of `src`. A file may import only from lower floors; floors 0 to 2 may not use
//! the machine, clocks or randomly ordered tables; `unsafe` is allowed in two files.
//!
//! ```text
//!   6 cli   5 session   4 net | sim   3 disk   2 engine   1 wire   0 units
//! ```
//! Comments and string literals are ignored. Tests inside `src` may use clocks and threads, but the rule for
//! imports holds for them as well.

#[path = "architecture/scan.rs"]
mod scan;

use scan::{blank_comments_and_texts, blank_tests, full_paths, test_modules, words};
use std::path::{Path, PathBuf};

/// Returns the floor of a module, or `None` for an unknown module.
fn floor(module: &str) -> Option<u32> {
    let floors = [
        ("units", 0),
        ("wire", 1),
        ("engine", 2),
        ("utp", 2),
        ("disk", 3),
        ("net", 4),
        ("sim", 4),
        ("session", 5),
        ("cli", 6),
    ];
    floors.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// Imports that are forbidden although the floor is lower or equal: the simulator replaces disk and network.
const NEVER_MEET: [(&str, &str); 2] = [("sim", "disk"), ("sim", "net")];

/// Words that may not occur on floors 0 to 2: the operating system, clocks, and tables whose order differs
/// from run to run.
const IMPURE: [&str; 15] = [
    "SystemTime",
    "mio",
    "libc",
    "rustix",
    "memmap2",
    "socket2",
    "ureq",
    "signal_hook",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "unsafe",
    "HashMap",
    "HashSet",
    "RandomState",
];
/// Paths of the standard library that may not occur on floors 0 to 2. `units::Instant` is a number,
/// `std::time::Instant` a clock.
const IMPURE_STD: [&str; 6] =
    ["std::fs", "std::thread", "std::env", "std::process", "std::os", "std::time::Instant"];

/// The only files with `unsafe`: one maps memory, one makes raw system calls.
const MAY_BE_UNSAFE: [&str; 2] = ["disk/memory.rs", "net/sys.rs"];

/// Returns the violations of one file; `path` is relative to `src`.
fn faults(path: &str, source: &str, is_test: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if !source.starts_with("//!") {
        faults.push(format!("{path} does not begin with //!"));
    }
    let code = blank_comments_and_texts(source);
    let module: Vec<&str> = path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let home = module[0];
    if let Some(own) = floor(home) {
        for found in full_paths(&code, &module) {
            let Some(target) = found.strip_prefix("crate::").and_then(|p| p.split("::").next()) else {
                continue;
            };
            let allowed = match floor(target) {
                _ if target == home => true,
                Some(theirs) => theirs < own && !NEVER_MEET.contains(&(home, target)),
                None => false,
            };
            if !allowed {
                faults.push(format!("{path} ({home}) imports {found}"));
            }
        }
        if own <= 2 && !is_test {
            let code = blank_tests(&code);
            let impure = words(&code).into_iter().filter(|w| IMPURE.contains(&w.as_str()));
            faults.extend(impure.map(|word| format!("{path} uses the word {word}")));
            let below = |path: &str, part: &str| {
                path == part || path.strip_prefix(part).is_some_and(|r| r.starts_with("::"))
            };
            let impure = full_paths(&code, &module)
                .into_iter()
                .filter(|p| IMPURE_STD.iter().any(|part| below(p, part)));
            faults.extend(impure.map(|found| format!("{path} uses {found}")));
        }
    }
    if !MAY_BE_UNSAFE.contains(&path) && words(&code).iter().any(|w| w == "unsafe") {
        faults.push(format!("{path} is unsafe"));
    }
    faults
}

/// Returns the relative path and the source of every Rust file below `dir`.
fn files(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![dir.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => open.push(path),
                Some(e) if e == "rs" => {
                    let name = path.strip_prefix(dir).unwrap().to_str().unwrap().replace('\\', "/");
                    found.push((name, std::fs::read_to_string(&path).unwrap()));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[test]
fn imports_point_down_and_decisions_are_pure() {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 50, "only {} files were found", files.len());
    let tests: Vec<String> = files.iter().flat_map(|(path, source)| test_modules(path, source)).collect();
    let is_test = |path: &str| {
        tests.iter().any(|t| {
            path == format!("{t}.rs") || path.strip_prefix(t.as_str()).is_some_and(|r| r.starts_with('/'))
        })
    };
    let faults: Vec<String> =
        files.iter().flat_map(|(path, source)| faults(path, source, is_test(path))).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// All decisions use the monotonic clock, which neither a clock adjustment nor a board without a battery
/// disturbs. The wall clock gives the creation date of a new torrent and the age of records, and explains certificates
/// that are not valid yet.
#[test]
fn r4_the_wall_clock_decides_nothing() {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let readers: Vec<_> = files
        .iter()
        .filter(|(_, source)| source.contains("SystemTime"))
        .map(|(path, _)| path.as_str())
        .collect();
    let printed = ["cli/create.rs", "cli/state.rs", "disk/records.rs"];
    assert_eq!(readers, [&printed[..], &["net/blocking_pool/http.rs"]].concat());
}

#[test]
fn every_module_of_src_has_a_floor() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (path, _) in files(&src) {
        let top = path.split('/').next().unwrap();
        assert!(floor(top).is_some() || ["lib.rs", "main.rs"].contains(&top), "src/{top} has no floor");
    }
}

// ---- tests of the scanner -------------------------------------------------------------------------------------------

/// Returns the number of violations in a file of the engine with this code.
fn found(code: &str) -> usize {
    faults("engine/engine.rs", &format!("//! x\n{code}"), false).len()
}

#[test]
fn an_upward_or_sideways_import_is_found() {
    assert_eq!(
        found("use crate::wire::Message; use crate::{units::{Instant, Rng}, wire}; use super::limits;"),
        0
    );
    assert_eq!(found("use crate::disk::Store;"), 1);
    assert_eq!(found("use crate::{units::Instant, net::TcpSocket};"), 1);
    assert_eq!(found("use crate::{units::{Instant, Rng}, session, disk::{Store, Done}};"), 3);
    assert_eq!(found("fn f() { crate::session::Session::start() }"), 1);
    assert_eq!(found("use super::super::disk::Store;"), 1, "climbing out by super");
    assert_eq!(
        found("mod a { use super::super::disk::Store; } use super::limits;"),
        0,
        "out of an inner module, not out of the floor"
    );
    assert_eq!(found("mod a { mod b {} use super::super::super::disk::Store; }"), 1);
    assert_eq!(
        found("#[cfg(test)] mod tests { use crate::net::TcpSocket; }"),
        1,
        "tests may import only lower floors as well"
    );
    let sim = |code: &str| faults("sim/world.rs", &format!("//! x\n{code}"), false).len();
    assert_eq!(
        (sim("use crate::engine::Engine;"), sim("use crate::net::Clock;"), sim("use crate::disk::Store;")),
        (0, 1, 1)
    );
    let net = |code: &str| faults("net/mod.rs", &format!("//! x\n{code}"), false).len();
    assert_eq!((net("use crate::disk::Store;"), net("use crate::sim::World;")), (0, 1));
}

#[test]
fn an_impure_word_is_found() {
    for bad in [
        "use std::fs;",
        "use std::fs::File;",
        "use std::{fmt, thread::spawn};",
        "fn f() { std::thread::sleep(d) }",
        "use std::time::Instant;",
        "use std::time::{Duration, SystemTime};",
        "use std::collections::HashMap;",
        "fn f() -> std::collections::HashSet<u8> { g() }",
        "use std::net::{IpAddr, TcpStream};",
        "fn f(_: &UdpSocket) {}",
        "fn f() { libc::close(3) }",
        "use rustix::fs::fsync;",
        "use mio::Poll;",
        "fn f() { unsafe { g() } }",
    ] {
        assert!(found(bad) > 0, "{bad}");
    }
}

#[test]
fn comments_literals_and_tests_are_ignored() {
    for good in [
        "// use crate::disk::Store; Instant, unsafe\n/* std::fs /* nested */ mio */",
        "/// A HashMap would change order.\nfn f() {}",
        r##"const S: &str = "unsafe \" Instant"; const R: &str = r#"mio "libc" "#; const B: &[u8] = b"std::fs";"##,
        "fn f<'a>(c: &'a char) -> bool { *c == '\"' || *c == '\\'' } fn g() {}",
        "#[cfg(test)]\nmod tests {\n fn f() { let _ = (std::time::Instant::now(), \"}\"); }\n}",
        "#[cfg(test)]\nuse std::collections::HashMap;\nfn f() {}",
        "#[cfg(test)]\n#[allow(dead_code)]\npub fn f() -> Instant { Instant::now() }",
    ] {
        assert_eq!(
            found(good),
            0,
            "{good}: {:?}",
            faults("engine/engine.rs", &format!("//! x\n{good}"), false)
        );
    }
    assert!(
        found("#[cfg(test)] mod tests { fn f() {} }\nuse std::time::Instant;") > 0,
        "code after a test module is checked"
    );
}

#[test]
fn unsafe_is_found_outside_its_two_files() {
    let code = "//! x\nfn f() { unsafe { g() } }";
    assert_eq!(faults("net/sys.rs", code, false).len(), 0);
    assert_eq!(faults("disk/memory.rs", code, false).len(), 0);
    assert_eq!(faults("disk/worker.rs", code, false).len(), 1);
    assert_eq!(faults("disk/tests.rs", code, true).len(), 1, "in tests, too");
}

#[test]
fn a_file_without_module_documentation_is_found() {
    assert_eq!(faults("units/x.rs", "use std::fmt;", false).len(), 1);
    assert_eq!(faults("units/x.rs", "//! What it is.\nuse std::fmt;", false).len(), 0);
}

#[test]
fn modules_under_cfg_test_are_found() {
    let of = |path, source: &str| test_modules(path, source);
    assert_eq!(of("disk/mod.rs", "//! x\n#[cfg(test)]\nmod tests;\nmod store;"), ["disk/tests"]);
    assert_eq!(of("wire/announce.rs", "//! x\n#[cfg(test)]\npub(crate) mod tests;"), ["wire/announce/tests"]);
    assert!(of("wire/announce.rs", "//! x\n// #[cfg(test)] mod a;\n#[cfg(test)] mod tests { }").is_empty());
}
