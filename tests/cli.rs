//! Runs the program and checks stdout, stderr and exit codes.
//!
//! These tests need no other program and no network; tests with other programs are in `interop`.

#[path = "cli/outputs.rs"]
mod outputs;
#[path = "cli/screen.rs"]
mod screen;
#[path = "cli/sources.rs"]
mod sources;
#[path = "cli/usage.rs"]
mod usage;

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A temporary directory with content `t/{a,sub/b,empty}` and its torrent `t.torrent`.
struct World {
    dir: tempfile::TempDir,
}

/// Result of a command.
struct CommandResult {
    code: i32,
    stdout: String,
    stderr: String,
}

impl World {
    fn new() -> World {
        let world = World { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.at("t/sub")).unwrap();
        fs::write(world.at("t/a"), pattern(100_000)).unwrap();
        fs::write(world.at("t/empty"), "").unwrap();
        fs::write(world.at("t/sub/b"), pattern(50_001)).unwrap();
        world.rill(["create", "t", "-p", "16K", "-a", "http://127.0.0.1:1/announce", "--no-date"]).expect(0);
        world
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Returns a command for rill without home directory and locale, with a dumb terminal.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
        command
            .env_clear()
            .envs([("TERM", "dumb"), ("LC_ALL", "C"), ("RILL_NO_DHT", "1"), ("RILL_NO_LSD", "1")])
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn rill<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> CommandResult {
        run(self.command().args(args))
    }
}

fn run(command: &mut Command) -> CommandResult {
    let out = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("rill prints UTF-8");
    CommandResult {
        code: out.status.code().expect("rill ends by itself"),
        stdout: text(out.stdout),
        stderr: text(out.stderr),
    }
}

impl CommandResult {
    fn expect(self, code: i32) -> CommandResult {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts this exit code, an empty stdout, and one line without control characters on stderr, and
    /// returns that line.
    fn fails_with(self, code: i32) -> String {
        let ended = self.expect(code);
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.starts_with("rill: ") && ended.stderr.lines().count() == 1, "{}", ended.stderr);
        assert!(!ended.stderr.trim_end().contains(char::is_control), "{:?}", ended.stderr);
        ended.stderr
    }

    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1);
        serde_json::from_str(&self.stdout).expect("one JSON object")
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn create_makes_a_torrent_that_show_reads() {
    let w = World::new();
    let show = w.rill(["show", "--json", "t.torrent"]).expect(0).json();
    assert_eq!(
        (&show["name"], &show["bytes"], &show["piece_length"]),
        (&"t".into(), &150_001.into(), &16384.into())
    );
    assert_eq!(show["trackers"][0][0], "http://127.0.0.1:1/announce");
    let paths: Vec<&str> =
        show["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["t/a", "t/empty", "t/sub/b"]);
    let table = w.rill(["show", "t.torrent"]).expect(0).stdout;
    assert!(
        table.contains("146.5 KiB (150001 bytes)") && table.contains("Magnet:     magnet:?xt=urn:btih:"),
        "{table}"
    );
}

#[test]
fn the_same_content_gives_the_same_torrent() {
    let w = World::new();
    let args = ["create", "t", "-p", "16K", "-a", "http://127.0.0.1:1/announce", "--no-date", "-o", "-"];
    let again = w.command().args(args).output().unwrap();
    assert_eq!(again.stdout, fs::read(w.at("t.torrent")).unwrap());
    // With the torrent on stdout the summary goes to stderr.
    assert!(String::from_utf8(again.stderr).unwrap().contains("Info hash: "));
}

#[test]
fn create_writes_every_field_that_an_option_sets() {
    let w = World::new();
    let args = [
        "create",
        "t/a",
        "-o",
        "f.torrent",
        "-a",
        "http://a.example/announce",
        "-a",
        "udp://b.example:1/announce",
    ];
    let more =
        ["-t", "http://c.example/announce,http://d.example/announce", "-P", "-c", "hello", "-n", "renamed"];
    let ended = w.rill(args.into_iter().chain(more).chain(["--web-seed", "http://w.example/a"])).expect(0);
    assert!(ended.stdout.starts_with("f.torrent: 97.7 KiB in 1 file, "), "{}", ended.stdout);
    let show = w.rill(["show", "--json", "f.torrent"]).expect(0).json();
    assert_eq!(
        (&show["private"], &show["comment"], &show["name"]),
        (&true.into(), &"hello".into(), &"renamed".into())
    );
    let tiers: Vec<usize> =
        show["trackers"].as_array().unwrap().iter().map(|t| t.as_array().unwrap().len()).collect();
    assert_eq!(tiers, [1, 1, 2]);
    assert_eq!(show["web_seeds"][0], "http://w.example/a");
}

#[test]
fn create_overwrites_only_with_force() {
    let w = World::new();
    let before = fs::read(w.at("t.torrent")).unwrap();
    assert!(w.rill(["create", "t"]).fails_with(13).contains("--force"));
    assert_eq!(fs::read(w.at("t.torrent")).unwrap(), before);
    w.rill(["create", "t", "--force", "-c", "new"]).expect(0);
    assert_ne!(fs::read(w.at("t.torrent")).unwrap(), before);
}

#[test]
fn create_fails_with_the_exit_code_of_the_cause() {
    let w = World::new();
    w.rill(["create", "nowhere"]).fails_with(15);
    w.rill(["create", "t/empty"]).fails_with(1);
    w.rill(["create", "t", "-o", "no/such/dir.torrent"]).fails_with(16);
    w.rill(["create", "t", "-p", "1K", "-o", "x"]).fails_with(28);
    w.rill(["create", "t", "-a", "file:///etc/passwd", "-o", "x"]).fails_with(28);
}

#[test]
fn verify_of_complete_content_ends_with_0() {
    let w = World::new();
    let ended = w.rill(["verify", "t.torrent"]).expect(0);
    assert!(ended.stdout.ends_with("t: 10 of 10 pieces and 3 of 3 files are good\n"), "{}", ended.stdout);
}

#[test]
fn verify_names_the_file_that_is_bad() {
    let w = World::new();
    let mut content = pattern(50_001);
    content[50_000] ^= 1;
    fs::write(w.at("t/sub/b"), content).unwrap();
    let ended = w.rill(["verify", "--json", "t.torrent"]).expect(32);
    let states: Vec<String> =
        ended.json()["files"].as_array().unwrap().iter().map(|f| f["state"].to_string()).collect();
    assert_eq!(states, [r#""good""#, r#""good""#, r#""bad""#]);
    assert_eq!(ended.json()["pieces_bad"], serde_json::json!([9]));
    assert_eq!(w.rill(["verify", "-q", "t.torrent"]).expect(32).stdout, "");
}

#[test]
fn verify_tells_missing_short_and_long_files_apart() {
    let w = World::new();
    let state = |file: &str| {
        let object = w.rill(["verify", "--json", "t.torrent"]).expect(32).json();
        let files = object["files"].as_array().unwrap().clone();
        files.into_iter().find(|f| f["path"] == file).unwrap()["state"].as_str().unwrap().to_string()
    };
    fs::remove_file(w.at("t/empty")).unwrap();
    assert_eq!(state("t/empty"), "missing");
    fs::write(w.at("t/a"), pattern(100_001)).unwrap();
    assert_eq!(state("t/a"), "longer");
    fs::write(w.at("t/a"), pattern(99_999)).unwrap();
    assert_eq!(state("t/a"), "shorter");
}

#[test]
fn verify_of_a_missing_directory_is_a_mismatch_and_creates_nothing() {
    let w = World::new();
    w.rill(["verify", "t.torrent", "-d", "elsewhere"]).expect(32);
    assert!(!w.at("elsewhere").exists());
}

#[test]
fn a_file_that_is_no_torrent_ends_with_25_or_26() {
    let w = World::new();
    let cases: [(&[u8], i32); 6] = [
        (b"", 25),
        (b"<!DOCTYPE html><html>", 25),
        (b"d4:infod", 25),
        (b"i1e", 26),
        (b"de", 26),
        (b"d4:infod4:name1:aee", 26),
    ];
    for (bytes, code) in cases {
        fs::write(w.at("bad.torrent"), bytes).unwrap();
        for command in ["show", "verify", "get", "seed"] {
            let sentence = w.rill([command, "bad.torrent"]).fails_with(code);
            assert!(sentence.contains("bad.torrent: "), "{sentence}");
        }
    }
    w.rill(["show", "no.torrent"]).fails_with(15);
    w.rill(["show", "t"]).fails_with(15);
}

#[test]
fn control_characters_of_a_torrent_are_not_printed() {
    let w = World::new();
    let evil = b"d7:comment10:\x1b]0;own\x07\xc2\x9b13:announce-list4:junk4:infod6:lengthi1e4:name12:a\x1b[2J\x07\n\x7f\xe2\x80\xaeb12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    fs::write(w.at("evil.torrent"), evil).unwrap();
    let clean = |text: &str| !text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}'));
    for args in
        [&["show", "evil.torrent"][..], &["show", "--json", "evil.torrent"], &["verify", "evil.torrent"]]
    {
        let ended = w.rill(args);
        assert!(
            clean(&ended.stdout) && clean(&ended.stderr),
            "{args:?}: {:?} {:?}",
            ended.stdout,
            ended.stderr
        );
    }
    let sentence = w.rill(["show", "no\x1b[2Jsuch\nfile"]).fails_with(15);
    assert!(clean(&sentence));
}

#[test]
fn bad_options_end_with_28_and_one_sentence() {
    let w = World::new();
    let cases: [&[&str]; 9] = [
        &["frobnicate"],
        &["get"],
        &["get", "--no-such-option", "x"],
        &["get", "--max-download-limit", "fast", "x"],
        &["get", "--select", "3-1", "t.torrent"],
        &["get", "--listen-port", "99999", "x"],
        &["get", "--peer", "somewhere", "x"],
        &["show"],
        &["show", "a", "b"],
    ];
    for args in cases {
        w.rill(args).fails_with(28);
    }
}

#[test]
fn sim_lists_scenarios_and_experiments() {
    let w = World::new();
    let list = w.rill(["sim", "--list"]).expect(0).stdout;
    assert!(list.lines().any(|line| line.trim_start().starts_with("flash ")), "{list}");
    assert!(list.lines().any(|line| line.trim_start().starts_with("endgame ")), "{list}");
    let json = w.rill(["sim", "--list", "--json"]).expect(0).json();
    assert!(json["scenarios"].as_array().unwrap().iter().any(|s| s["name"] == "flash"));
    assert!(json["experiments"].as_array().unwrap().iter().any(|s| s["name"] == "endgame"));
}

/// A swarm that completes within milliseconds.
const SMALL: [&str; 9] = ["sim", "--peers", "3", "--size", "512K", "--piece", "64K", "--up", "10Mbit,1Gbit"];

#[test]
fn sim_prints_a_table_that_begins_with_the_command() {
    let w = World::new();
    let table = w.rill(SMALL).expect(0).stdout;
    assert!(
        table.starts_with("rill sim flash --peers 3 --size 512K --piece 64K --up 10Mbit,1Gbit --seed 1\n"),
        "{table}"
    );
    for figure in ["fluid limit", "median peer", "last peer", "wasted", "events a second", "fingerprint"] {
        assert!(table.lines().any(|line| line.starts_with(figure)), "{figure} in {table}");
    }
    let again: Vec<String> = table.lines().next().unwrap().split(' ').skip(1).map(str::to_owned).collect();
    let fingerprint = |table: &str| table.lines().find(|l| l.starts_with("fingerprint")).unwrap().to_owned();
    assert_eq!(
        fingerprint(&w.rill(again).expect(0).stdout),
        fingerprint(&table),
        "the printed command repeats the run"
    );
}

#[test]
fn sim_gives_every_run_and_peer_as_json() {
    let w = World::new();
    let object = w.rill(SMALL.into_iter().chain(["--json", "--runs", "3", "--seed", "7"])).expect(0).json();
    let runs = object["runs"].as_array().unwrap();
    assert_eq!(runs.iter().map(|r| r["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [7, 8, 9]);
    assert!(runs.iter().all(|r| r["peers"].as_array().unwrap().len() == 3 && r["last_s"].is_number()));
    assert!(object["summary"]["last_s"]["median"].as_f64() >= object["summary"]["last_s"]["min"].as_f64());
}

#[test]
fn sim_draws_completion_over_time() {
    let w = World::new();
    w.rill(SMALL.into_iter().chain(["--plot", "p.svg", "--runs", "2"])).expect(0);
    let svg = fs::read_to_string(w.at("p.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains(">fluid limit<"), "{svg}");
    assert!(
        w.rill(SMALL.into_iter().chain(["--plot", "no/such/p.svg"])).fails_with(16).contains("no/such/p.svg")
    );
}

#[test]
fn sim_refuses_impossible_options() {
    let w = World::new();
    let cases: [&[&str]; 15] = [
        &["nowhere"],
        &["--peers", "0"],
        &["--seeds", "0"],
        &["--piece", "0"],
        &["--undialable", "101"],
        &["--up", "1Mbit,,2Mbit"],
        &["--down", "fast"],
        &["--fault", "fire=1"],
        &["--puppet", "giant=1"],
        &["--without", "luck"],
        &["--runs", "0"],
        &["--metric", "x"],
        &["--experiment", "nothing"],
        &["--experiment", "endgame", "--peers", "3"],
        &["--experiment", "endgame", "--metric", "luck"],
    ];
    for args in cases {
        w.rill(["sim"].iter().chain(args)).fails_with(28);
    }
}

#[test]
fn an_environment_variable_sets_an_option_and_the_command_line_overrides_it() {
    let w = World::new();
    let json = run(w.command().args(["show", "t.torrent"]).env("RILL_JSON", "1")).expect(0);
    json.json();
    let table = run(w.command().args(["show", "t.torrent"]).env("RILL_JSON", "0")).expect(0);
    assert!(table.stdout.starts_with("Name:"));
    run(w.command().args(["verify", "t.torrent"]).env("RILL_DIR", "elsewhere")).expect(32);
    run(w.command().args(["verify", "t.torrent", "-d", "."]).env("RILL_DIR", "elsewhere")).expect(0);
    run(w.command().args(["get", "t.torrent"]).env("RILL_STORAGE", "tape")).fails_with(28);
}

#[test]
fn help_goes_to_stdout_and_ends_with_0() {
    let w = World::new();
    for args in [&["--help"][..], &["get", "--help"], &["help", "create"]] {
        let ended = w.rill(args).expect(0);
        assert!(ended.stdout.contains("Usage: rill") && ended.stderr.is_empty());
    }
    assert!(w.rill(["--version"]).expect(0).stdout.starts_with("rill "));
}

#[test]
fn show_prints_a_magnet_link_and_refuses_a_bad_one_with_27() {
    let w = World::new();
    let link = format!(
        "magnet:?xt=urn:btih:{}&dn=a%1b%5b2Jb&tr=udp://a.example:1&x.pe=192.0.2.1:6881",
        "ab".repeat(20)
    );
    let show = w.rill(["show", "--json", &link]).expect(0).json();
    assert_eq!((&show["info_hash"], &show["peers"][0]), (&"ab".repeat(20).into(), &"192.0.2.1:6881".into()));
    for command in ["show", "get", "seed", "verify"] {
        w.rill([command, "magnet:?xt=urn:btih:abc"]).fails_with(27);
    }
}

#[test]
fn a_torrent_is_read_from_stdin() {
    let w = World::new();
    let file = fs::File::open(w.at("t.torrent")).unwrap();
    let ended = run(w.command().args(["show", "--json", "-"]).stdin(file)).expect(0);
    assert_eq!(ended.json()["name"], "t");
}

#[test]
fn a_closed_pipe_causes_no_panic() {
    let w = World::new();
    for args in [
        &["show", "t.torrent"][..],
        &["verify", "t.torrent"],
        &["--help"],
        &["create", "t", "-o", "n.torrent"],
    ] {
        let mut child = w.command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    let mut child = w.command().args(["show", "nowhere"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(15));
}

/// Starts a web server that answers each connection with the next of the replies. Returns its URL.
fn serve(replies: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            if head_of(&mut stream).is_empty() {
                return;
            }
            // The client may close the connection early, so errors are ignored.
            let _ = stream.write_all(&reply);
        }
    });
    url
}

/// Reads the head of a request. Returns an empty string if the stream ends inside it.
fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return String::new(),
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn reply(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_torrent_is_fetched_over_http_through_a_redirect() {
    let w = World::new();
    let torrent = fs::read(w.at("t.torrent")).unwrap();
    let url = serve(vec![reply("302 Found\r\nLocation: /there", b""), reply("200 OK", &torrent)]);
    assert_eq!(w.rill(["show", "--json", &url]).expect(0).json()["name"], "t");
}

#[test]
fn k14_proxies_of_the_environment_are_used_and_the_help_names_them() {
    let w = World::new();
    let help = w.rill(["--help"]).expect(0).stdout;
    assert!(
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].iter().all(|name| help.contains(name)),
        "{help}"
    );
    // The proxy answers for a host that does not exist: first the CONNECT, then the request for the file.
    let torrent = fs::read(w.at("t.torrent")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let request = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = head_of(&mut stream);
        if head.starts_with("CONNECT ") {
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
            head_of(&mut stream);
        }
        stream.write_all(&reply("200 OK", &torrent)).unwrap();
        head
    });
    let ended = run(w.command().env("HTTP_PROXY", &proxy).args([
        "show",
        "--json",
        "http://absent.invalid/t.torrent",
    ]));
    assert_eq!(ended.expect(0).json()["name"], "t");
    let request = request.join().unwrap();
    assert!(request.contains("absent.invalid"), "{request}");
}

#[test]
fn s10_errors_of_a_web_server_end_with_6_and_a_missing_file_with_3() {
    let w = World::new();
    let missing =
        serve(vec![reply("404 Not Found", b""), reply("410 Gone", b""), reply("403 Forbidden", b"")]);
    assert!(w.rill(["show", &missing]).fails_with(3).contains("404"));
    assert!(w.rill(["show", &missing]).fails_with(3).contains("410"));
    assert!(w.rill(["show", &missing]).fails_with(6).contains("403"));
    let page = serve(vec![reply("200 OK", b"<html>log in</html>")]);
    w.rill(["show", &page]).fails_with(25);
    let circle = serve(vec![reply("302 Found\r\nLocation: /again", b""); 10]);
    assert!(w.rill(["show", &circle]).fails_with(6).contains("redirects"));
    let local_file = serve(vec![reply("302 Found\r\nLocation: file:///etc/passwd", b"")]);
    w.rill(["show", &local_file]).fails_with(6);
    let flood = serve(vec![reply("200 OK", &vec![b'x'; 11 << 20])]);
    assert!(w.rill(["show", &flood]).fails_with(6).contains("10 MiB"));
    w.rill(["show", "http://127.0.0.1:1/x"]).fails_with(6);
}
