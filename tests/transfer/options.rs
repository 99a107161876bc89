//! Peers given by name, and the program of `--on-complete`.

use super::{World, stderr};
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
