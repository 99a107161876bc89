//! Options that users know from other clients.

use super::{World, get_link, link, signal, stderr, stdout};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
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

#[test]
fn s17_content_gets_the_name_that_is_given() {
    let w = World::new();
    let output = w.get(["-o", "films"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("films: "), "{}", stdout(&output));
    let same = |path: &str| fs::read(w.at(path)).unwrap() == fs::read(w.at("t/a")).unwrap();
    assert!(same("out/films/a") && w.at("out/films/sub/b").exists() && !w.at("out/t").exists());
    // The record knows the content under its name.
    let again = w.get(["-o", "films", "--json"]).output().unwrap();
    let last = super::objects(&again).pop().unwrap()["torrents"][0].take();
    assert_eq!(
        (last["name"].as_str(), last["downloaded_bytes"].as_u64()),
        (Some("films"), Some(0)),
        "{last}"
    );
    let verify = |words: &[&str]| {
        super::rill(w.dir.path()).args(["verify", "t.torrent", "-d", "out"]).args(words).output().unwrap()
    };
    assert_eq!(verify(&["-o", "films"]).status.code(), Some(0));
    assert_eq!(verify(&[]).status.code(), Some(32));
    let peer = format!("127.0.0.1:{}", w.port);
    let link = get_link(&w, &["-d", "linked", "--no-state", "-o", "x y", "--peer", &peer]).output().unwrap();
    assert_eq!(link.status.code(), Some(0), "{}", stderr(&link));
    assert!(same("linked/x y/a"));
    let only = ["-d", "only", "--no-state", "--metadata-only", "-o", "mine.torrent", "--peer", &peer];
    let only = get_link(&w, &only).output().unwrap();
    assert_eq!((only.status.code(), stdout(&only).as_str()), (Some(0), "only/mine.torrent\n"));
}

#[test]
fn s17_a_name_of_the_content_is_one_plain_name_of_one_torrent() {
    let w = World::new();
    for bad in ["a/b", "..", "", ".rill-x.parts", "a\nb"] {
        let output = w.get(["-o", bad]).output().unwrap();
        assert_eq!(output.status.code(), Some(28), "{bad:?} {}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    let output = w.get(["-o", "x", "other.torrent"]).output().unwrap();
    let expected = "rill: --out names the content of one torrent, but several are given\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(28), expected));
}

#[test]
fn s17_reserved_files_have_all_their_blocks_before_the_first_piece() {
    let w = World::new();
    fs::remove_file(w.at("t.torrent")).unwrap();
    assert!(super::rill(w.dir.path()).args(["create", "t/a", "-q"]).status().unwrap().success());
    for (way, least) in [("none", 0), ("falloc", 1_000_000)] {
        let mut get = super::rill(w.dir.path());
        get.args(["get", "a.torrent", "-d", way, "--listen-port", "0", "--timeout", "1", "--no-dht"]);
        assert_eq!(get.args(["--file-allocation", way]).output().unwrap().status.code(), Some(2));
        let blocks = fs::metadata(w.at(&format!("{way}/a.part"))).map_or(0, |file| file.blocks() * 512);
        assert!(blocks >= least && (least > 0 || blocks == 0), "{way}: {blocks}");
    }
}

#[test]
fn s17_a_disk_too_small_for_the_content_is_said_before_the_download() {
    let w = World::new();
    // One tebibyte in pieces of 32 MiB.
    let pieces = 32_768_usize;
    let mut torrent = format!(
        "d4:infod6:lengthi{}e4:name3:big12:piece lengthi{}e6:pieces{}:",
        1_u64 << 40,
        32 << 20,
        pieces * 20
    )
    .into_bytes();
    torrent.extend(vec![1; pieces * 20]);
    torrent.extend(b"ee");
    fs::write(w.at("big.torrent"), torrent).unwrap();
    let get = |words: &[&str]| {
        let mut get = super::rill(w.dir.path());
        get.args(["get", "big.torrent", "-d", "out", "--listen-port", "0", "--no-dht"]).args(words);
        get.output().unwrap()
    };
    let output = get(&["--timeout", "1"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("rill: big: free space is too little: 1.0 TiB are missing, "), "{said}");
    let output = get(&["--file-allocation", "falloc", "--stall-timeout", "1"]);
    assert_eq!(output.status.code(), Some(9), "{}", stderr(&output));
    assert!(!w.at("out/big.part").exists(), "no blocks were taken");
}

#[test]
fn f22_a_complete_file_whose_name_is_taken_keeps_its_part_name_and_all_is_said() {
    let w = World::seeding_at("600K");
    let mut get = w.get(["--no-state"]);
    let child = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !w.at("out/t/a.part").exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the download does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::write(w.at("out/t/a"), "mine").unwrap();
    let output = child.wait_with_output().unwrap();
    let sentence = "rill: out/t/a.part is complete and keeps this name, because another file has the right one; \
                    move that away and run the same command again\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(13), sentence));
    assert!(stdout(&output).contains("\nt: 1.2/1.2 MiB in "), "{}", stdout(&output));
    assert_eq!(fs::read(w.at("out/t/a")).unwrap(), b"mine");
    fs::remove_file(w.at("out/t/a")).unwrap();
    let again = w.get(["--no-state", "--json"]).output().unwrap();
    let last = super::objects(&again).pop().unwrap()["torrents"][0].take();
    assert_eq!((again.status.code(), last["downloaded_bytes"].as_u64()), (Some(0), Some(0)), "{last}");
    assert!(w.same("t/a") && !w.at("out/t/a.part").exists());
}

#[test]
fn n1_an_interface_that_cannot_be_used_is_refused_with_its_name() {
    let w = World::new();
    for (interface, reason) in [
        ("none0", "no network interface has this name"),
        ("192.0.2.9", "no network interface has this address"),
    ] {
        let output = w.get(["--no-state", "-q", "--interface", interface]).output().unwrap();
        let expected = format!("rill: cannot use {interface}: {reason}\n");
        assert_eq!((output.status.code(), stderr(&output)), (Some(6), expected));
    }
}

#[test]
fn n1_only_the_chosen_family_and_address_are_used() {
    let w = World::new();
    let output = w.get(["--no-state", "-6", "--stall-timeout", "2", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "the peer has an IPv4 address");
    let end = super::objects(&output).pop().unwrap();
    // Over TCP and over uTP.
    assert_eq!(end["connections"]["dialed"]["unreachable"].as_u64(), Some(2), "{end}");
    let output = w.get(["--no-state", "-4", "--interface", "127.0.0.2", "--dscp", "8"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(w.same("t/a"));
}
