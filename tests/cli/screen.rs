//! The live display on a pseudoterminal: what stands on the screen at each moment of a download.

use super::{World, head_of, pattern, reply, run, serve};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A terminal that knows what rill writes: text, newlines, carriage returns, and two escape sequences.
struct Screen {
    columns: usize,
    rows: usize,
    lines: Vec<String>,
    /// Lines that have left the screen at its top.
    scrolled: usize,
    row: usize,
    column: usize,
}

impl Screen {
    fn new(columns: usize, rows: usize) -> Screen {
        Screen { columns, rows, lines: vec![String::new()], scrolled: 0, row: 0, column: 0 }
    }

    fn write(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => self.column = 0,
                '\n' => {
                    self.row += 1;
                    if self.row == self.lines.len() {
                        self.lines.push(String::new());
                    }
                    self.scrolled = self.scrolled.max((self.row + 1).saturating_sub(self.rows));
                }
                '\x1b' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).expect("a whole escape sequence");
                    let (sequence, after) = rest.split_at(end + 1);
                    rest = after;
                    self.escape(sequence);
                }
                c => {
                    assert!(
                        self.column + 1 < self.columns,
                        "a line reaches the last column: {:?}",
                        self.lines
                    );
                    let line = &mut self.lines[self.row];
                    *line = line.chars().take(self.column).chain([c]).collect();
                    self.column += 1;
                }
            }
        }
    }

    fn escape(&mut self, sequence: &str) {
        match (sequence.trim_matches(['[', 'A', 'J']), &sequence[sequence.len() - 1..]) {
            (up, "A") => {
                self.row = self.row.checked_sub(up.parse().unwrap()).expect("the cursor stays on the screen");
                assert!(self.row >= self.scrolled, "the block is higher than the screen");
            }
            ("", "J") => {
                self.lines.truncate(self.row + 1);
                self.lines[self.row] = self.lines[self.row].chars().take(self.column).collect();
            }
            other => panic!("rill writes an unknown sequence {other:?}"),
        }
    }

    fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// Runs a command on a terminal of this size. After each piece of output calls `look` with the text on the screen
/// and the process. Returns the last text and the exit code.
fn on_terminal(
    mut command: Command,
    columns: u16,
    rows: u16,
    mut look: impl FnMut(&str, &Child),
) -> (String, Option<i32>) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = rustix::termios::Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = || File::options().read(true).write(true).open(&name).unwrap();
    command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").stdout(slave()).stderr(slave());
    let mut child = command.spawn().unwrap();
    // The only writer left is the process, so that the end of its output is noticed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut screen = Screen::new(columns.into(), rows.into());
    let mut bytes = vec![0; 65536];
    let mut start = 0;
    while let Ok(n @ 1..) = rustix::io::read(&master, &mut bytes[start..]) {
        let end = start + n;
        // A read may end inside a character or an escape sequence: each of rill's writes ends with a newline
        // or a sequence.
        let whole = bytes[..end].iter().rposition(|b| matches!(b, b'\n' | b'J')).map_or(0, |at| at + 1);
        screen.write(std::str::from_utf8(&bytes[..whole]).unwrap());
        bytes.copy_within(whole..end, 0);
        start = end - whole;
        look(&screen.text(), &child);
    }
    let code = child.wait().unwrap().code();
    (screen.text(), code)
}

/// A seed of the world's torrent, killed at the end.
struct Seed {
    child: Child,
    peer: String,
}

impl Seed {
    fn start(w: &World, limit: &str) -> Seed {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let port = 19_000 + (std::process::id() * 7 + NEXT.fetch_add(1, Relaxed)) % 7_000;
        let mut seed = w.command();
        seed.args(["seed", "t.torrent", "--no-state", "-q", "-u", limit, "--listen-port", &port.to_string()]);
        let child = seed.spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port as u16)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the seed does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Seed { child, peer: format!("127.0.0.1:{port}") }
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stop(child: &Child) {
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn s7_a_download_is_drawn_in_place_stopped_resumed_and_summed_up_in_one_line() {
    let w = World::new();
    fs::write(w.at("t/a"), pattern(2_000_000)).unwrap();
    w.rill(["create", "t", "-p", "16K", "--force", "-q"]).expect(0);
    let seed = Seed::start(&w, "400K");
    let get = || {
        let mut get = w.command();
        get.args(["get", "t.torrent", "-d", "out", "--state-dir", "state", "--listen-port", "0"]);
        get.args(["--timeout", "50", "--peer", &seed.peer]);
        get
    };
    let mut stopped = false;
    let (last, code) = on_terminal(get(), 80, 24, |text, child| {
        assert!(text.lines().count() <= 4, "one torrent has two lines:\n{text}");
        let is_under_way =
            |line: &str| line.contains("MiB ↓ ") && line.contains("KiB/s") && line.contains(" 1 peer");
        if !stopped && text.lines().any(|line| is_under_way(line) && !line.starts_with(" 0.0%")) {
            stop(child);
            stopped = true;
        }
    });
    assert_eq!(code, Some(7), "{last}");
    let unfolded = |text: &str| text.replace("\n  ", " ").trim_end().to_string();
    let line = unfolded(&last);
    assert!(line.starts_with("t: 0.") || line.starts_with("t: 1."), "{line}");
    assert!(line.contains("/2.0 MiB in ") && line.contains(", stopped at "), "{line}");
    assert!(line.ends_with("%: run the same command to continue") && line.lines().count() == 1, "{line}");

    let mut has_resumed = false;
    let (last, code) = on_terminal(get(), 40, 24, |text, _| {
        has_resumed |= text.lines().any(|line| line.contains("% ") && line.contains(" resuming at "));
    });
    assert_eq!((code, has_resumed), (Some(0), true), "{last}");
    let line = unfolded(&last);
    assert!(line.starts_with("t: 2.0 MiB, the last "), "{line}");
    assert!(line.ends_with(", saved in out") && line.lines().count() == 1, "{line}");
}

#[test]
fn s1_the_screen_says_at_once_that_the_tracker_and_the_peer_refuse() {
    let w = World::new();
    let tracker = serve(vec![reply("200 OK", b"d14:failure reason14:not registerede"); 8]);
    let announce = format!("{tracker}/announce");
    w.rill(["create", "t", "-p", "16K", "--force", "-q", "-a", &announce]).expect(0);
    let host = tracker.strip_prefix("http://").unwrap().to_string();
    for columns in [40, 80, 200] {
        let mut get = w.command();
        get.args(["get", "t.torrent", "-d", "out", "--no-state", "--listen-port", "0", "--timeout", "50"]);
        get.args(["--peer", "127.0.0.1:9"]);
        let begun = Instant::now();
        let mut seen = false;
        let (last, code) = on_terminal(get, columns, 24, |text, child| {
            let whole = text.replace("\n  ", " ");
            if !seen
                && whole.contains(&format!("tracker {host} refuses: not registered"))
                && whole.contains("peer 127.0.0.1:9: connection refused")
            {
                seen = true;
                stop(child);
            }
        });
        assert!(seen && begun.elapsed() < Duration::from_secs(20), "{columns}: {last}");
        assert_eq!(code, Some(7));
        assert!(last.starts_with("t: nothing of 146.5 KiB in"), "{last}");
    }
    let ended = w
        .rill(["get", "t.torrent", "-d", "out", "--no-state", "--listen-port", "0", "--timeout", "2"])
        .expect(2);
    let refusal = format!("tracker {host} refuses: not registered");
    assert!(ended.stdout.lines().any(|line| line == format!("t: {refusal}")), "{}", ended.stdout);
    assert_eq!(ended.stderr, format!("rill: not complete within 2s (no peers; {refusal})\n"));
    assert!(ended.stdout.ends_with("s, timed out at 0.0%: run the same command to continue\n"));
}

#[test]
fn s8_the_end_says_at_once_that_it_waits_for_a_tracker() {
    let w = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    w.rill(["create", "t", "-p", "16K", "--force", "-q", "-a", &format!("http://{host}/announce")]).expect(0);
    // The tracker answers every announce but the last one.
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if head_of(&mut stream).contains("event=stopped") {
                silent.push(stream);
            } else {
                stream.write_all(&reply("200 OK", b"d8:intervali1800e5:peers0:e")).unwrap();
            }
        }
    });
    let get = || {
        let mut get = w.command();
        get.args(["get", "t.torrent", "-d", "out", "--no-state", "--listen-port", "0", "--timeout", "50"]);
        get
    };
    let knows = format!("tracker {host} knows no other peers");
    let waits = format!("waiting for tracker {host}, 5s at most; Ctrl-C ends it now");
    let mut stopped_at = None;
    let mut waited = None;
    let (last, code) = on_terminal(get(), 80, 24, |text, child| {
        if stopped_at.is_none() && text.contains(&knows) {
            stop(child);
            stopped_at = Some(Instant::now());
        }
        if waited.is_none() && text.contains(&waits) {
            assert!(text.contains("stopped at 0.0%"), "the last line comes first:\n{text}");
            waited = Some(stopped_at.unwrap().elapsed());
            stop(child);
        }
    });
    assert!(waited.is_some_and(|after| after < Duration::from_secs(2)), "{waited:?}: {last}");
    assert_eq!(code, Some(7));
    assert!(stopped_at.unwrap().elapsed() < Duration::from_secs(4), "the second signal ends the wait");

    let mut get = get();
    get.args(["--stall-timeout", "1"]);
    let ended = run(&mut get).expect(2);
    assert!(ended.stderr.contains(&format!("rill: {waits}\n")), "{}", ended.stderr);
    assert!(ended.stdout.contains(&format!("t: {knows}\n")), "{}", ended.stdout);
}

#[test]
fn s3_rates_are_zero_three_seconds_after_the_last_byte() {
    let w = World::new();
    fs::write(w.at("t/a"), pattern(4_000_000)).unwrap();
    w.rill(["create", "t", "-p", "16K", "--force", "-q"]).expect(0);
    let mut seed = Seed::start(&w, "400K");
    let mut get = w.command();
    get.args([
        "get",
        "t.torrent",
        "-d",
        "out",
        "--no-state",
        "--listen-port",
        "0",
        "--json",
        "--timeout",
        "50",
    ]);
    let mut get = get.args(["--peer", &seed.peer]).stdout(Stdio::piped()).spawn().unwrap();
    let mut killed_at: Option<Instant> = None;
    for line in BufReader::new(get.stdout.take().unwrap()).lines() {
        let object: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let rate = object["download_rate"].as_u64().unwrap();
        match killed_at {
            None if rate > 100_000 => {
                seed.child.kill().unwrap();
                killed_at = Some(Instant::now());
            }
            Some(at) if rate == 0 => {
                assert!(at.elapsed() < Duration::from_millis(3500), "{:?}", at.elapsed());
                stop(&get);
                break;
            }
            _ => {}
        }
    }
    assert!(killed_at.is_some());
    get.wait().unwrap();
}
