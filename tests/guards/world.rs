//! Test environment on loopback: content, its torrent, the program, and scripted servers.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Time limit of every wait.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A temporary directory, in which the program runs without home directory and environment.
pub struct World {
    dir: tempfile::TempDir,
}

/// Result of a command.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    /// Returns an empty world.
    pub fn new() -> World {
        World { dir: tempfile::tempdir().unwrap() }
    }

    /// Returns a world with content `t/{a,empty,sub/b}` and `t.torrent`.
    pub fn with_content() -> World {
        let w = World::new();
        w.make_content(".");
        w.rill(["create", "t", "-p", "32K", "-q", "--no-date"]).expect(0);
        w
    }

    /// Writes `t/{a,empty,sub/b}` below `place`.
    pub fn make_content(&self, place: &str) {
        let at = self.at(place).join("t");
        fs::create_dir_all(at.join("sub")).unwrap();
        fs::write(at.join("a"), pattern(1_000_000)).unwrap();
        fs::write(at.join("empty"), "").unwrap();
        fs::write(at.join("sub/b"), pattern(300_001)).unwrap();
    }

    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Returns a command for the program, without home, locale, terminal, DHT and LSD.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
        command
            .env_clear()
            .envs([("TERM", "dumb"), ("LC_ALL", "C"), ("RILL_NO_DHT", "1"), ("RILL_NO_LSD", "1")])
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn rill<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ended {
        end(self.command().args(words))
    }

    /// Starts a seed of `torrent` in this directory with this upload limit (0: no limit). It ends when it
    /// is dropped.
    pub fn seed(&self, torrent: &str, rate: &str) -> Seed {
        let port = free_port();
        let mut seed = self.command();
        seed.args(["seed", "--no-state", "-q", "-u", rate, "--listen-port", &port.to_string(), torrent]);
        let seed = Seed { child: seed.spawn().unwrap(), port };
        wait("the seed does not listen", || TcpStream::connect(("127.0.0.1", port)).ok());
        seed
    }
}

/// A seeding process.
pub struct Seed {
    pub child: Child,
    pub port: u16,
}

impl Seed {
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub fn end(command: &mut Command) -> Ended {
    let out = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended {
        code: out.status.code().expect("rill ends by itself"),
        stdout: text(out.stdout),
        stderr: text(out.stderr),
    }
}

impl Ended {
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Parses stdout as one JSON object.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", self.stdout, self.stderr))
    }

    /// Parses each line of stdout as a JSON object.
    pub fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Returns the lines of a running program's stdout.
pub fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let stdout: ChildStdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).lines().map_while(Result::ok)
}

/// Polls until `answer` returns a value.
pub fn wait<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal by name.
pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// Waits until the process catches the signal of this name.
pub fn wait_for_handler(child: &Child, name: &str) {
    let bit = match name {
        "INT" => 1 << 1,
        "TERM" => 1 << 14,
        other => panic!("SIG{other}"),
    };
    let catches = |status: String| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        (u64::from_str_radix(mask.trim(), 16).ok()? & bit != 0).then_some(())
    };
    let status = format!("/proc/{}/status", child.id());
    wait("the process does not catch signals", || catches(fs::read_to_string(&status).unwrap_or_default()));
}

/// Ends a process with a signal. Returns its exit code. The signal is repeated, because the first one may
/// arrive while the handlers are being installed.
pub fn end_by(child: &mut Child, name: &str) -> i32 {
    loop {
        signal(child, name);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code().expect("rill ends by itself");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Returns a port that no other test uses, below the kernel's range for outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 19_000
            + (std::process::id() as u16).wrapping_mul(17).wrapping_add(NEXT.fetch_add(1, Relaxed)) % 9_000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() && UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// Starts a web server and returns its base URL: `/t.torrent` is `torrent`, `/page` is no torrent, `/circle`
/// redirects to itself, `/announce` and `/scrape` refuse, other paths do not exist.
pub fn web(torrent: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &torrent)));
    base
}

fn answer(mut stream: TcpStream, torrent: &[u8]) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split([' ', '?']).nth(1).unwrap_or_default();
    let (status, body): (&str, &[u8]) = match path {
        "/t.torrent" => ("200 OK", torrent),
        "/page" => ("200 OK", b"<html>log in</html>"),
        "/circle" => ("302 Found\r\nLocation: /circle", b""),
        "/announce" | "/scrape" => ("200 OK", b"d14:failure reason2:noe"),
        _ => ("404 Not Found", b""),
    };
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(body);
}

/// Starts a UDP tracker that counts 3 seeds, 4 completed downloads and 5 peers for every torrent. Returns its
/// URL.
pub fn udp_tracker() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut packet) {
            let Some(head) = packet[..n].get(8..16) else { continue };
            let words: &[u32] = if head[3] == 0 { &[1, 2] } else { &[3, 4, 5] };
            let words = words.iter().flat_map(|word| word.to_be_bytes());
            let _ = socket.send_to(&head.iter().copied().chain(words).collect::<Vec<u8>>(), from);
        }
    });
    url
}
