//! Runs `get`, `seed` and `bench` over loopback, without other programs.

#[path = "transfer/habits.rs"]
mod habits;
#[path = "transfer/options.rs"]
mod options;

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A temporary directory with content `t/{a,sub/b,empty}`, its torrent, and a `rill seed` that seeds it.
struct World {
    dir: tempfile::TempDir,
    seed: Child,
    port: u16,
}

impl World {
    fn new() -> World {
        World::seeding_at("0")
    }

    /// Returns a world whose seed has this upload limit; 0 is no limit.
    fn seeding_at(rate: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("t/sub")).unwrap();
        fs::write(dir.path().join("t/a"), pattern(1_000_000)).unwrap();
        fs::write(dir.path().join("t/empty"), "").unwrap();
        fs::write(dir.path().join("t/sub/b"), pattern(300_001)).unwrap();
        let made = rill(dir.path()).args(["create", "t", "-p", "32K", "-q"]).status().unwrap();
        assert!(made.success());
        let port = free_port();
        let mut seed = rill(dir.path());
        seed.args(["seed", "--no-state", "-q", "-u", rate, "--listen-port", &port.to_string(), "t.torrent"]);
        let seed = seed.spawn().unwrap();
        let torrent = rill::wire::Metainfo::parse(&fs::read(dir.path().join("t.torrent")).unwrap()).unwrap();
        let begun = Instant::now();
        // It listens before its content is checked, and closes connections until then.
        while !is_served(port, &torrent) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the seed does not serve");
            std::thread::sleep(Duration::from_millis(10));
        }
        World { dir, seed, port }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn get<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut get = rill(self.dir.path());
        get.args(["get", "t.torrent", "-d", "out", "--listen-port", "0", "--timeout", "60"]);
        get.args(["--peer", &format!("127.0.0.1:{}", self.port)]).args(words);
        get
    }

    fn same(&self, file: &str) -> bool {
        self.same_in("out", file)
    }

    fn same_in(&self, dir: &str, file: &str) -> bool {
        fs::read(self.at(dir).join(file)).ok() == fs::read(self.at(file)).ok()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.seed.kill();
        let _ = self.seed.wait();
    }
}

/// Returns a port that no other test uses, below the kernel's range for outgoing connections.
/// Returns whether the program that listens at this port answers a handshake for the torrent.
fn is_served(port: u16, torrent: &rill::wire::Metainfo) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let handshake = [&b"\x13BitTorrent protocol"[..], &[0; 8], &torrent.info_hash().0, &[b'w'; 20]].concat();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&handshake).is_ok() && stream.read_exact(&mut [0; 68]).is_ok()
}

fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 12_000
            + (std::process::id() as u16).wrapping_mul(13).wrapping_add(NEXT.fetch_add(1, Relaxed)) % 7_000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() && UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

fn rill(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
    command
        .env_clear()
        .envs([("RILL_NO_DHT", "1"), ("RILL_NO_LSD", "1"), ("LC_ALL", "C")])
        .env("PATH", "/usr/bin:/bin")
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn get_downloads_all_files_and_prints_plain_lines() {
    let w = World::new();
    let output = w.get(["--no-state"]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert!(w.same("t/a") && w.same("t/sub/b") && w.same("t/empty"));
    let text = stdout(&output);
    assert!(text.starts_with("t: 1.2 MiB in 3 files, 40 pieces\n"), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("t: 1.2 MiB in ") && last.ends_with("/s), saved in out"), "{text}");
    assert!(!text.contains(['\r', '\x1b']));
}

#[test]
fn the_last_json_object_has_the_exit_code() {
    let w = World::new();
    let output = w.get(["--no-state", "--json"]).output().unwrap();
    let objects = objects(&output);
    let last = objects.last().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&"end".into(), &0.into()));
    let torrent = &last["torrents"][0];
    assert_eq!((&torrent["have_bytes"], &torrent["state"]), (&1_300_001.into(), &"done".into()));
    assert!(objects.iter().any(|o| o["event"] == "complete"));
    let quiet = w.get(["--no-state", "--json", "-q"]).output().unwrap();
    assert_eq!(stdout(&quiet).lines().count(), 1);
}

#[test]
fn only_the_selected_files_are_fetched() {
    let w = World::new();
    let output = w.get(["--no-state", "--select-name", "b"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(w.same("t/sub/b") && !w.same("t/a"));
    let last = stdout(&output).lines().last().unwrap().to_string();
    assert!(last.starts_with("t: 293.0 KiB of the selected files (1.2 MiB in all) in "), "{last}");
    let again = objects(&w.get(["--no-state", "--select-name", "b", "--json"]).output().unwrap());
    let torrent = &again.last().unwrap()["torrents"][0];
    assert_eq!((&torrent["wanted_bytes"], &torrent["have_bytes"]), (&300_001.into(), &300_001.into()));
    let output = w.get(["--no-state", "--select", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(w.same("t/sub/b") && w.same("t/a"), "existing content is kept");
    assert_eq!(w.get(["--no-state", "--select", "9"]).output().unwrap().status.code(), Some(28));
}

#[test]
fn existing_content_is_not_downloaded_again() {
    let w = World::new();
    for (state, twice) in [("--state-dir=state", 0), ("--no-state", 0)] {
        assert!(w.get([state, "-q"]).status().unwrap().success());
        let output = w.get([state, "--json", "-q"]).output().unwrap();
        assert_eq!(objects(&output)[0]["torrents"][0]["downloaded_bytes"], twice, "{state}");
    }
    fs::write(w.at("out/t/a"), pattern(999_999)).unwrap();
    assert!(w.get(["--state-dir=state", "-q"]).status().unwrap().success());
    assert!(w.same("t/a"));
}

#[test]
fn the_on_complete_program_runs_once_with_path_and_variables() {
    let w = World::new();
    let hook = w.at("hook");
    let script = "#!/bin/sh\nprintf '%s\\n' \"$1\" \"$RILL_TORRENT_NAME\" \"$RILL_TORRENT_BYTES\" \"$RILL_TORRENT_DIR\" >> seen\necho talk\n";
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let output = w.get(["--no-state", "--json", "-q", "--on-complete", "./hook"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let (out, path) = (w.at("out"), w.at("out/t"));
    let expected = format!("{}\nt\n1300001\n{}\n", path.display(), out.display());
    assert_eq!(fs::read_to_string(w.at("seen")).unwrap(), expected);
    assert_eq!(
        (stderr(&output).as_str(), stdout(&output).lines().count()),
        ("talk\n", 1),
        "the program's output goes to stderr"
    );
    fs::remove_dir_all(out).unwrap();
    let output = w.get(["--no-state", "-q", "--on-complete", "./no-such-program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).starts_with("rill: --on-complete ./no-such-program: "));
}

#[test]
fn get_seeds_until_the_goal_is_reached() {
    let w = World::new();
    let begun = Instant::now();
    let output = w.get(["--no-state", "--json", "-q", "--seed-time", "0.03"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_millis(1800), "{:?}", begun.elapsed());
}

#[test]
fn a_signal_ends_get_with_7_and_seed_with_0() {
    let mut w = World::seeding_at("100K");
    let mut get = w.get(["--state-dir=state", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(get.stdout.take().unwrap()).lines().map_while(Result::ok);
    let had = lines
        .find_map(|line| {
            serde_json::from_str::<Value>(&line).ok()?["pieces_have"].as_u64().filter(|n| *n > 2)
        })
        .unwrap();
    signal(&get, "INT");
    let last = lines.last().unwrap();
    assert_eq!(get.wait().unwrap().code(), Some(7));
    assert_eq!(serde_json::from_str::<Value>(&last).unwrap()["exit_code"], 7);
    let verify = rill(w.dir.path()).args(["verify", "t.torrent", "-d", "out", "--json"]).output().unwrap();
    assert!(objects(&verify)[0]["pieces_good"].as_u64().unwrap() >= had);
    signal(&w.seed, "TERM");
    assert_eq!(w.seed.wait().unwrap().code(), Some(0));
}

#[test]
fn a_torrent_without_peers_times_out_with_2() {
    let w = World::new();
    for option in ["--timeout", "--stall-timeout"] {
        let mut get = rill(w.dir.path());
        let output = get
            .args(["get", "t.torrent", "-d", "none", "--no-state", "--listen-port", "0", option, "2"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("no peers"), "{}", stderr(&output));
    }
}

#[test]
fn a_closed_or_full_stdout_does_not_stop_the_download() {
    let w = World::new();
    let mut get = w.get(["--no-state", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(get.stdout.take());
    assert_eq!(get.wait().unwrap().code(), Some(0));
    assert!(w.same("t/a"));
    fs::remove_dir_all(w.at("out")).unwrap();
    // The pipe is held open and never read; it may fill without stopping the download.
    let mut get = w.get(["--no-state", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let held = get.stdout.take();
    assert_eq!(get.wait().unwrap().code(), Some(0));
    drop(held);
}

#[test]
fn seed_of_a_missing_directory_fails_and_creates_nothing() {
    let w = World::new();
    let output = rill(w.dir.path())
        .args(["seed", "t.torrent", "-d", "none", "--no-state", "--listen-port", "0"])
        .output()
        .unwrap();
    assert!(matches!(output.status.code(), Some(15 | 32)), "{:?} {}", output.status, stderr(&output));
    assert!(!w.at("none").exists());
}

#[test]
fn a_taken_port_is_a_network_error() {
    let w = World::new();
    let port = w.port.to_string();
    let output = rill(w.dir.path())
        .args(["get", "t.torrent", "-d", "x", "--no-state", "--listen-port", &port])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains(&port), "{}", stderr(&output));
}

#[test]
fn the_bench_prints_figures_and_removes_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let output = rill(dir.path())
        .args(["bench", "--size", "4M", "--rounds", "1", "--json", "-d", "."])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let object = &objects(&output)[0];
    assert!(object["times_floor"].as_f64().unwrap() > 0.0);
    assert!(object["rounds"][0]["download"]["loop_cpu_s_per_gib"].as_f64().unwrap() > 0.0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_interrupted_bench_removes_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = rill(dir.path())
        .args(["bench", "--size", "64M", "--rounds", "100", "-d", "."])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    signal(&bench, "INT");
    assert_eq!(bench.wait().unwrap().code(), Some(7));
    let mut words = String::new();
    bench.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!((words.as_str(), fs::read_dir(dir.path()).unwrap().count()), ("", 0));
}

// ---- links ------------------------------------------------------------------------------------------------------------

/// Returns the command `rill get LINK` for the world's torrent.
fn get_link(w: &World, words: &[&str]) -> Command {
    let torrent = rill::wire::Metainfo::parse(&fs::read(w.at("t.torrent")).unwrap()).unwrap();
    let mut get = rill(w.dir.path());
    get.args([
        "get",
        &format!("magnet:?xt=urn:btih:{}", torrent.info_hash()),
        "--listen-port",
        "0",
        "--timeout",
        "60",
    ]);
    get.args(words);
    get
}

#[test]
fn a_magnet_link_downloads_all_files() {
    let w = World::new();
    let peer = format!("127.0.0.1:{}", w.port);
    let ended = get_link(&w, &["-d", "out", "--peer", &peer, "--state-dir", "state"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    let printed = stdout(&ended);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].ends_with(": asking peers for its metadata"), "{printed}");
    assert!(lines[1].starts_with("t: 1.2 MiB in 3 files, 40 pieces"), "{printed}");
    assert!(w.same("t/a") && w.same("t/sub/b") && w.same("t/empty"));
    // Another run takes metadata and pieces from the state directory, without a peer.
    let again = get_link(&w, &["-d", "out", "--state-dir", "state", "--json"]).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    let shown =
        rill(w.dir.path()).args(["show", "--json", "--state-dir", "state"]).arg(link(&w)).output().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stdout(&shown)).unwrap()["files"][1]["path"], "t/empty");
}

fn link(w: &World) -> String {
    let torrent = rill::wire::Metainfo::parse(&fs::read(w.at("t.torrent")).unwrap()).unwrap();
    format!("magnet:?xt=urn:btih:{}", torrent.info_hash())
}

#[test]
fn files_of_a_link_are_selected_when_its_metadata_arrives() {
    let w = World::new();
    let peer = format!("127.0.0.1:{}", w.port);
    let ended =
        get_link(&w, &["-d", "out", "--no-state", "--peer", &peer, "--select-name", "b"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(w.same("t/sub/b") && !w.same("t/a"));
    let ended =
        get_link(&w, &["-d", "none", "--no-state", "--peer", &peer, "--select", "9"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(28));
    let printed = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        printed.contains("--select names file 9, but there are only 3") && printed.lines().count() == 1,
        "{printed}"
    );
    assert!(!w.at("none").exists());
}

#[test]
fn m6_a_link_that_selects_only_missing_files_selects_all() {
    let w = World::new();
    let mut get = rill(w.dir.path());
    get.args([
        "get",
        &format!("{}&so=3,100000000,7-4", link(&w)),
        "-d",
        "out",
        "--no-state",
        "--listen-port",
        "0",
    ]);
    let ended = get.args(["--timeout", "60", "--peer", &format!("127.0.0.1:{}", w.port)]).output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(w.same("t/a") && w.same("t/sub/b"));
}

#[test]
fn a_link_without_metadata_says_so_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let words =
        ["get", "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=a+name", "--no-state"];
    let ended = rill(dir.path()).args(words).args(["--listen-port", "0", "--timeout", "1"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(stderr(&ended), "rill: no metadata within 1s (no peers)\n");
    assert_eq!(stdout(&ended), "a name: asking peers for its metadata\na name: no metadata after 1s\n");
}

#[test]
fn metadata_only_saves_one_torrent_file_and_no_content() {
    let w = World::new();
    let peer = format!("127.0.0.1:{}", w.port);
    let save = |words: &[&str]| {
        let ended =
            get_link(&w, &[&["--metadata-only", "--no-state", "--peer", &peer, "-d", "out"], words].concat())
                .output()
                .unwrap();
        (ended.status.code(), stdout(&ended), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    assert_eq!(save(&[]), (Some(0), "out/t.torrent\n".to_string(), String::new()));
    let names: Vec<_> = fs::read_dir(w.at("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["t.torrent"]);
    let saved = rill::wire::Metainfo::parse(&fs::read(w.at("out/t.torrent")).unwrap()).unwrap();
    assert_eq!(link(&w), format!("magnet:?xt=urn:btih:{}", saved.info_hash()));
    assert_eq!(save(&[]).0, Some(0), "saving the same file again is no error");
    fs::write(w.at("out/t.torrent"), "another program's").unwrap();
    let (code, _, printed) = save(&[]);
    assert!(
        code == Some(13) && printed.contains("out/t.torrent: a different file of that name exists"),
        "{printed}"
    );
    assert_eq!(fs::read(w.at("out/t.torrent")).unwrap(), b"another program's");
    let of_a_file =
        rill(w.dir.path()).args(["get", "--metadata-only", "-d", "other", "t.torrent"]).output().unwrap();
    assert_eq!(
        fs::read(w.at("other/t.torrent")).unwrap(),
        fs::read(w.at("t.torrent")).unwrap(),
        "the bytes are those of the source"
    );
    assert_eq!((of_a_file.status.code(), stdout(&of_a_file)), (Some(0), "other/t.torrent\n".to_string()));
}

#[test]
fn show_fetches_metadata_with_fetch() {
    let w = World::new();
    let peer = format!("127.0.0.1:{}", w.port);
    let show = |words: &[&str]| {
        rill(w.dir.path()).args(["show", "--no-state", &link(&w)]).args(words).output().unwrap()
    };
    assert!(!stdout(&show(&[])).contains("Files:"), "no peer was asked");
    let asked = show(&["--fetch", "--peer", &peer]);
    assert!(stdout(&asked).contains("t/sub/b") && asked.status.code() == Some(0), "{asked:?}");
    let unanswered = show(&["--fetch", "--timeout", "1"]);
    assert_eq!(unanswered.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&unanswered.stderr), "rill: no metadata within 1s\n");
}

#[test]
fn m9_names_from_peers_stay_in_the_directory() {
    let w = World::new();
    let bytes = pattern(40_000);
    let hashes: Vec<u8> = bytes
        .chunks(32_768)
        .flat_map(|piece| <[u8; 20]>::from(<sha1::Sha1 as sha1::Digest>::digest(piece)))
        .collect();
    let info = [
        &b"d5:filesld6:lengthi40000e4:pathl2:..2:..4:evileee4:name9:../../out12:piece lengthi32768e6:pieces"
            [..],
        format!("{}:", hashes.len()).as_bytes(),
        &hashes,
        b"e",
    ]
    .concat();
    fs::write(w.at("evil.torrent"), [b"d4:info", &info[..], b"e"].concat()).unwrap();
    let torrent = rill::wire::Metainfo::parse(&fs::read(w.at("evil.torrent")).unwrap()).unwrap();
    let place: PathBuf = torrent.files().get(0).unwrap().to_path();
    fs::create_dir_all(w.at("from").join(&place).parent().unwrap()).unwrap();
    fs::write(w.at("from").join(&place), &bytes).unwrap();
    let port = free_port();
    let mut seed = rill(w.dir.path());
    let mut seed = seed
        .args(["seed", "--no-state", "-q", "-d", "from", "--listen-port", &port.to_string(), "evil.torrent"])
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut get = rill(w.dir.path());
    get.args([
        "get",
        &format!("magnet:?xt=urn:btih:{}", torrent.info_hash()),
        "--no-state",
        "--listen-port",
        "0",
        "--timeout",
        "60",
    ]);
    let ended = get.args(["--peer", &format!("127.0.0.1:{port}"), "-d", "deep/er/to"]).output().unwrap();
    let _ = seed.kill();
    let _ = seed.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(fs::read(w.at("deep/er/to").join(&place)).unwrap(), bytes);
    let count = |dir: &str| fs::read_dir(w.at(dir)).unwrap().count();
    assert_eq!(
        (count("deep"), count("deep/er"), count("deep/er/to")),
        (1, 1, 1),
        "no other file was written"
    );
}
