//! Runs the commands of the first session in README.md and compares their output; rates and times may differ.
//! Runs its example of the library, too.

#[path = "readme/library.rs"]
mod library;
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Returns the commands of the `console` block, each with its output lines.
fn session() -> Vec<(String, Vec<String>)> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block =
        readme.split("```console\n").nth(1).expect("README has a console block").split("```").next().unwrap();
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command.to_string(), Vec::new())),
            None => commands.last_mut().expect("a command comes first").1.push(line.to_string()),
        }
    }
    commands
}

/// Removes the variable parts of a line: the time in `in 0.6s (` and rates.
fn steady(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut steady: Vec<&str> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let after = words.get(at + 1).copied().unwrap_or_default();
        let is_rate = word.starts_with('(') || word.ends_with("/s)") || word.ends_with("/s),");
        if !is_rate && !after.starts_with('(') {
            steady.push(word);
        }
    }
    steady.join(" ")
}

/// Processes in the background, killed at the end, also after a failed assertion.
struct Background(Vec<Child>);

impl Drop for Background {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn shell(command: &str, dir: &Path) -> Command {
    let rill = Path::new(env!("CARGO_BIN_EXE_rill")).parent().unwrap();
    let path = format!("{}:{}", rill.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell
        .args(["-c", command])
        .current_dir(dir)
        .env("PATH", path)
        .env("HOME", dir)
        .env_remove("XDG_STATE_HOME");
    shell.stdin(Stdio::null());
    shell
}

#[test]
fn the_first_session_prints_the_output_in_readme() {
    let dir = tempfile::tempdir().unwrap();
    let mut background = Background(Vec::new());
    let commands = session();
    assert!(commands.len() >= 5, "{commands:?}");
    for (command, expected) in commands {
        if let Some(command) = command.strip_suffix(" &") {
            let child = shell(&format!("exec {command}"), dir.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            background.0.push(child.unwrap());
            // A user types the next command after a moment; the test waits until the port is
            // open.
            let begun = Instant::now();
            while std::net::TcpStream::connect("127.0.0.1:7001").is_err() {
                assert!(begun.elapsed() < Duration::from_secs(30), "{command} does not listen");
                std::thread::sleep(Duration::from_millis(20));
            }
            continue;
        }
        let output = shell(&command, dir.path()).output().unwrap();
        let printed =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command}: {}\n{printed}", output.status);
        for line in &expected {
            assert!(
                printed.lines().any(|l| steady(l) == steady(line)),
                "{command} does not print {line:?}, but:\n{printed}"
            );
        }
    }
    assert_eq!(
        std::fs::read(dir.path().join("here/film.bin")).unwrap(),
        std::fs::read(dir.path().join("there/film.bin")).unwrap()
    );
}

#[test]
fn only_times_and_rates_are_removed_from_a_line() {
    let line = "film.bin: 57.2 MiB in 0.6s (89.1 MiB/s), saved in here";
    assert_eq!(steady(line), "film.bin: 57.2 MiB in saved in here");
}

#[test]
fn the_example_of_the_library_is_the_one_that_runs_here() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = readme.split("```rust\n").nth(1).expect("README has an example").split("```").next().unwrap();
    assert_eq!(block, include_str!("readme/library.rs"));

    let dir = tempfile::tempdir().unwrap();
    let torrent = support::single(dir.path(), "one", 300_000, 16 * 1024);
    let file = dir.path().join("one.torrent");
    std::fs::write(&file, torrent.to_file().unwrap()).unwrap();
    let config = || rill::session::Config {
        listen_ports: 0..=0,
        listen_on: vec!["127.0.0.1".parse().unwrap()],
        lsd: false,
        dht: None,
        ..Default::default()
    };
    library::download(&file, dir.path(), config()).unwrap();
    std::fs::create_dir_all(dir.path().join("way/one")).unwrap();
    let fault = library::download(&file, &dir.path().join("way"), config()).unwrap_err().to_string();
    assert!(fault.contains("way/one"), "{fault}");
    library::download(&dir.path().join("none"), dir.path(), config()).unwrap_err();
}
