//! Options that users know from other clients.

use super::{World, get_link, link, signal, stderr};
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn s17_excluded_files_of_a_torrent_and_of_a_link_are_not_fetched() {
    let w = World::new();
    let output = w.get(["--no-state", "--exclude-name", "a", "--exclude-name", "none"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(w.same("t/sub/b") && !w.at("out/t/a").exists());
    let peer = format!("127.0.0.1:{}", w.port);
    let link = |dir, more: &[&str]| {
        get_link(&w, &["-d", dir, "--no-state", "--peer", &peer]).args(more).output().unwrap()
    };
    let output = link("linked", &["--exclude-name", "sub/*"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(w.same_in("linked", "t/a") && !w.at("linked/t/sub/b").exists());
    let output = link("none", &["--select-name", "a", "--exclude-name", "*"]);
    let expected = "rill: --exclude-name leaves no file to fetch\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(28), expected));
    assert!(!w.at("none").exists());
}

#[test]
fn s17_sources_of_a_list_are_fetched_beside_those_typed_and_a_bad_line_is_named() {
    let w = World::new();
    fs::write(w.at("u"), super::pattern(70_000)).unwrap();
    assert!(super::rill(w.dir.path()).args(["create", "u", "-q"]).status().unwrap().success());
    fs::create_dir(w.at("out")).unwrap();
    fs::copy(w.at("u"), w.at("out/u")).unwrap();
    fs::write(w.at("list"), "\u{feff}# files\r\n\r\nu.torrent\r\nnone.torrent\r\n").unwrap();
    let output = w.get(["--no-state", "-i", "list"]).output().unwrap();
    let expected = "rill: list, line 4: none.torrent: no such file or directory\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(15), expected));
    assert!(w.same("t/a") && w.same("t/sub/b"));
    let text = super::stdout(&output);
    assert!(text.contains("\nu: ") || text.starts_with("u: "), "{text}");
    // The list alone, from standard input.
    let peer = format!("127.0.0.1:{}", w.port);
    let mut get = super::rill(w.dir.path());
    get.args(["get", "-i", "-", "-d", "piped", "--no-state", "--listen-port", "0", "--timeout", "60"]);
    let mut child = get.args(["-q", "--peer", &peer]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(link(&w).as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(w.same_in("piped", "t/a"));
}

#[test]
fn s17_a_signal_ends_the_reading_of_a_list() {
    let w = World::new();
    let mut get = super::rill(w.dir.path());
    let mut child = get.args(["get", "-i", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    // A signal before the handler is installed ends the process without an exit code.
    let has_handler = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
        u64::from_str_radix(mask, 16).unwrap() & 1 << 14 != 0
    };
    while !has_handler() {
        assert!(begun.elapsed() < Duration::from_secs(20), "no handler");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, "TERM");
    let input = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    drop(input);
}
