//! Peers given by name, and the program of `--on-complete`.

use super::{World, stderr};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

#[test]
fn s10_a_peer_is_found_by_its_host_name() {
    let w = World::new();
    let get = |peers: &[&str], more: &[&str]| {
        let mut command = super::rill(w.dir.path());
        command.args(["get", "t.torrent", "--no-state", "-q", "--listen-port", "0"]);
        peers.iter().for_each(|peer| _ = command.args(["--peer", peer]));
        command.args(more).output().unwrap()
    };
    let named = format!("localhost:{}", w.port);
    let output = get(&[&named], &["-d", "out"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert!(w.same("t/a"));
    let output = get(&["absent.invalid:1", &named], &["-d", "second"]);
    assert_eq!(output.status.code(), Some(0));
    let output = get(&["absent.invalid:1"], &["-d", "third"]);
    assert_eq!(output.status.code(), Some(6));
    let lines = stderr(&output);
    assert!(lines.starts_with("rill: peer absent.invalid:1 is left out: "), "{lines}");
    assert!(lines.ends_with("rill: no --peer has an address, and nothing else finds peers\n"), "{lines}");
    let output = get(
        &["absent.invalid:1"],
        &["-d", "fourth", "--tracker", "http://127.0.0.1:1/announce", "--timeout", "2s"],
    );
    assert_eq!(output.status.code(), Some(2), "a tracker is another source of peers");
}

/// Writes a program that appends its arguments and some variables to the file `seen`.
fn hook(w: &World, name: &str) {
    let script = "#!/bin/sh\nfor a in \"$@\"; do printf '[%s]' \"$a\"; done >> seen\n\
                  printf ' %s' \"$RILL_TORRENT_BYTES\" >> seen\nenv | grep '^RILL_' | grep -v '^RILL_TORRENT_' >> seen\necho >> seen\n";
    fs::write(w.at(name), script).unwrap();
    fs::set_permissions(w.at(name), fs::Permissions::from_mode(0o755)).unwrap();
}

fn get(w: &World, more: &[&str]) -> Command {
    let mut get = w.get(["-q"]);
    get.args(more);
    get
}

#[test]
fn s12_a_completion_is_reported_once_and_never_for_a_torrent_that_was_complete() {
    let w = World::new();
    hook(&w, "hook");
    let path = w.at("out/t");
    let state = ["--state-dir=state", "--on-complete", "./hook"];
    for _ in 0..2 {
        assert!(get(&w, &state).status().unwrap().success());
    }
    for _ in 0..2 {
        assert!(get(&w, &["--no-state", "--on-complete", "./hook"]).status().unwrap().success());
    }
    assert_eq!(fs::read_to_string(w.at("seen")).unwrap(), format!("[{}] 1300001\n", path.display()));
    fs::write(w.at("out/t/a"), "damaged").unwrap();
    assert!(
        get(&w, &["--state-dir=state", "--check", "--on-complete", "./hook"]).status().unwrap().success()
    );
    assert_eq!(fs::read_to_string(w.at("seen")).unwrap().lines().count(), 2);
}

#[test]
fn s12_the_program_gets_its_words_the_selected_bytes_and_no_option_of_rill() {
    let w = World::new();
    hook(&w, "my hook");
    let path = w.at("out/t");
    let command = r#"'./my hook' one "two $HOME *" three\ four"#;
    let output = get(&w, &["--no-state", "--select", "3", "--on-complete", command]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let expected = format!("[one][two $HOME *][three four][{}] 300001\n", path.display());
    assert_eq!(fs::read_to_string(w.at("seen")).unwrap(), expected);
    fs::remove_file(w.at("seen")).unwrap();
    fs::remove_dir_all(w.at("out")).unwrap();
    let output = get(&w, &["--no-state", "--on-complete", "./my hook"]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert_eq!(fs::read_to_string(w.at("seen")).unwrap(), format!("[{}] 1300001\n", path.display()));
    assert_eq!(get(&w, &["--on-complete", "x 'y"]).status().unwrap().code(), Some(28));
}

#[test]
fn s15_an_executable_file_gets_its_bits_within_the_umask() {
    let w = World::new();
    // `rill create` writes no attributes (BEP 47), so one is put into its torrent.
    let mut bytes = fs::read(w.at("t.torrent")).unwrap();
    let file = b"d6:lengthi300001e";
    let at = bytes.windows(file.len()).position(|part| part == file).unwrap();
    bytes.splice(at + 1..at + 1, *b"4:attr1:x");
    fs::write(w.at("x.torrent"), bytes).unwrap();
    let mut seed = super::rill(w.dir.path());
    let port = super::free_port().to_string();
    seed.args(["seed", "x.torrent", "--no-state", "-q", "--listen-port", &port]);
    let mut seed = seed.stdout(Stdio::null()).spawn().unwrap();
    let mode = |path: &str| fs::metadata(w.at(path)).unwrap().permissions().mode() & 0o7777;
    for (umask, executable, other) in [("077", 0o700, 0o600), ("022", 0o755, 0o644), ("0133", 0o644, 0o644)] {
        for storage in ["plain", "mapped"] {
            let dir = format!("{umask}-{storage}");
            let rill = super::rill(w.dir.path());
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "umask \"$0\" && exec \"$@\"", umask]).arg(rill.get_program());
            shell.args([
                "get",
                "x.torrent",
                "--no-state",
                "-q",
                "--listen-port",
                "0",
                "--timeout",
                "60",
                "-d",
                &dir,
            ]);
            shell.args([
                "--storage",
                storage,
                "--peer",
                &format!("127.0.0.1:{port}"),
                "--no-dht",
                "--no-lsd",
            ]);
            let output = shell.current_dir(w.dir.path()).output().unwrap();
            assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
            let modes = (mode(&format!("{dir}/t/sub/b")), mode(&format!("{dir}/t/a")));
            assert_eq!(modes, (executable, other), "{dir}");
        }
    }
    assert_eq!(mode("t/sub/b") & 0o111, 0, "a file that rill did not create keeps its mode");
    seed.kill().unwrap();
    seed.wait().unwrap();
}

#[test]
fn r14_records_are_listed_forgotten_and_cleaned() {
    let w = World::new();
    let state = |words: &[&str]| {
        let output =
            super::rill(w.dir.path()).arg("state").args(words).args(["--state-dir", "state"]).output();
        let output = output.unwrap();
        (output.status.code(), super::stdout(&output), stderr(&output))
    };
    assert_eq!(state(&["list"]), (Some(0), String::new(), String::new()));
    for dir in ["one", "two", "three"] {
        let mut get = super::rill(w.dir.path());
        get.args(["get", "t.torrent", "--state-dir", "state", "-q", "-d", dir, "--listen-port", "0"]);
        get.args(["--peer", &format!("127.0.0.1:{}", w.port), "--timeout", "60"]);
        assert!(get.status().unwrap().success());
    }
    let list = || {
        let json: Value = serde_json::from_str(&state(&["list", "--json"]).1).unwrap();
        json["records"].as_array().unwrap().clone()
    };
    let dirs = |records: &[Value]| {
        let mut dirs: Vec<_> = records.iter().map(|r| r["dir"].as_str().unwrap().to_owned()).collect();
        dirs.sort();
        dirs
    };
    let paths =
        |names: &[&str]| names.iter().map(|name| w.at(name).display().to_string()).collect::<Vec<_>>();
    let records = list();
    assert_eq!(dirs(&records), paths(&["one", "three", "two"]));
    let hash = records[0]["info_hash"].as_str().unwrap().to_owned();
    for record in &records {
        assert_eq!((&record["name"], &record["content"]), (&"t".into(), &"present".into()));
        assert_eq!((&record["bytes"], &record["pieces"]), (&1_300_001.into(), &record["pieces_have"]));
    }
    let lines = state(&["list"]).1;
    assert!(lines.lines().all(|l| l.starts_with(&hash) && l.contains(" 100% of 1.2 MiB, ")), "{lines}");
    assert!(lines.contains(&format!(", {}\n", w.at("one/t").display())), "{lines}");

    // Content that was moved away is gone; a directory of another device may come back.
    assert_eq!(state(&["clean"]), (Some(0), String::new(), String::new()));
    fs::rename(w.at("one/t"), w.at("moved")).unwrap();
    fs::remove_dir_all(w.at("two")).unwrap();
    let (code, listed, said) = state(&["clean"]);
    assert_eq!((code, listed.lines().count()), (Some(0), 2));
    assert_eq!(said, "rill: 2 of 3 records are of content that is gone; --yes removes them\n");
    assert_eq!(list().len(), 3, "nothing is removed without --yes");
    assert_eq!(state(&["clean", "--yes"]).1.lines().filter(|l| l.starts_with("removed ")).count(), 2);
    assert_eq!(dirs(&list()), paths(&["three"]));

    assert_eq!(state(&["forget", &hash, "-d", "one"]).0, Some(28));
    assert_eq!(state(&["forget", "nonsense"]).0, Some(28));
    assert_eq!(state(&["forget", &hash.to_uppercase(), "-d", "three"]).0, Some(0));
    assert!(list().is_empty() && w.same_in("three", "t/a"), "the content is kept");
    let left: Vec<_> = fs::read_dir(w.at("state")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(&hash)), "{left:?}");
}
