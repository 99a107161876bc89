//! Peers given by name, and the program of `--on-complete`.

use super::{World, stderr};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn a_peer_is_found_by_its_host_name() {
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
fn a_completion_is_reported_once_and_never_for_a_torrent_that_was_complete() {
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
fn the_program_gets_its_words_the_selected_bytes_and_no_option_of_rill() {
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
