//! Random short lives of downloads, and the announces that a tracker sees of them: their order and their counts.
//!
//! A life is one run of `rill get`: of the whole torrent or of one file, with a fast or a slow tracker over HTTP or
//! UDP, that ends by itself, by a signal, or by a kill. Several lives share a torrent, a directory and a state
//! directory. `RILL_LIVES` is the number of lives (20), `RILL_LIVES_SEED` chooses them.

mod support;

use rill::units::Rng;
use rill::wire::Metainfo;
use rill::wire::metainfo::Builder;
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const FILES: [usize; 2] = [100_000, 500_000];
const PIECE: usize = 16_384;
/// Threads that live lives side by side.
const THREADS: u64 = 4;
/// A tracker that takes no longer answers within the second that the end waits for it.
const FAST: u64 = 300;

/// One announce, as the tracker saw it.
#[derive(Clone, Debug)]
struct Seen {
    peer: [u8; 20],
    event: String,
    left: u64,
    downloaded: u64,
    uploaded: u64,
    at: Instant,
    /// When the reply was sent.
    answered_at: Option<Instant>,
}

/// A tracker that records its announces and takes its time to answer.
#[derive(Clone, Default)]
struct Tracker {
    log: Arc<Mutex<Vec<Seen>>>,
    delay_ms: Arc<AtomicU64>,
}

impl Tracker {
    /// Records an announce, waits, and marks it as answered.
    fn take(&self, seen: Seen) {
        let at = {
            let mut log = self.log.lock().unwrap();
            log.push(seen);
            log.len() - 1
        };
        std::thread::sleep(Duration::from_millis(self.delay_ms.load(Relaxed)));
        self.log.lock().unwrap()[at].answered_at = Some(Instant::now());
    }

    fn start(&self, udp: bool) -> String {
        if udp { self.start_udp() } else { self.start_http() }
    }

    fn start_http(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let tracker = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tracker = tracker.clone();
                std::thread::spawn(move || tracker.serve_http(stream));
            }
        });
        format!("http://{addr}/announce")
    }

    fn serve_http(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let Some(query) = head.split(' ').nth(1).and_then(|url| url.split_once('?')) else { return };
        let pairs: BTreeMap<&str, &str> =
            query.1.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let number = |key: &str| pairs[key].parse().unwrap();
        self.take(Seen {
            peer: Sha1::digest(pairs["peer_id"]).into(),
            event: (*pairs.get("event").unwrap_or(&"")).to_owned(),
            left: number("left"),
            downloaded: number("downloaded"),
            uploaded: number("uploaded"),
            at: Instant::now(),
            answered_at: None,
        });
        let body = "d8:intervali1800e5:peers0:e";
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    }

    fn start_udp(&self) -> String {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let addr = socket.local_addr().unwrap();
        let tracker = self.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok((n, from)) = socket.recv_from(&mut packet) {
                let (packet, socket, tracker) = (packet[..n].to_vec(), socket.clone(), tracker.clone());
                std::thread::spawn(move || tracker.serve_udp(&packet, from, &socket));
            }
        });
        format!("udp://{addr}/announce")
    }

    fn serve_udp(&self, packet: &[u8], from: SocketAddr, socket: &UdpSocket) {
        let u64_at = |at: usize| u64::from_be_bytes(packet[at..at + 8].try_into().unwrap());
        let mut answer = packet[8..16].to_vec();
        if packet.len() < 98 {
            answer.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        } else {
            let events = ["", "completed", "started", "stopped"];
            self.take(Seen {
                peer: packet[36..56].try_into().unwrap(),
                event: events[packet[83] as usize].to_owned(),
                downloaded: u64_at(56),
                left: u64_at(64),
                uploaded: u64_at(72),
                at: Instant::now(),
                answered_at: None,
            });
            answer.extend([0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        let _ = socket.send_to(&answer, from);
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ByItself,
    Interrupt(u64),
    Kill(u64),
}

/// One life.
#[derive(Clone, Copy, Debug)]
struct Life {
    selected: bool,
    limited: bool,
    delay_ms: u64,
    end: End,
}

impl Life {
    fn random(rng: &mut Rng) -> Life {
        let after = rng.below(900) as u64;
        Life {
            selected: rng.below(3) == 0,
            limited: rng.below(2) == 0,
            delay_ms: [0, 0, 50, FAST, 1500][rng.below(5)],
            end: match rng.below(5) {
                0 | 1 => End::ByItself,
                2 | 3 => End::Interrupt(after),
                _ => End::Kill(after),
            },
        }
    }

    /// Lives it. Returns the exit code, and the moment of the end.
    fn live(self, dir: &Path, seed: SocketAddr, tracker: &Tracker) -> (Option<i32>, Instant) {
        tracker.delay_ms.store(self.delay_ms, Relaxed);
        let mut get = Command::new(env!("CARGO_BIN_EXE_rill"));
        get.env_clear().envs([("TERM", "dumb"), ("LC_ALL", "C")]).current_dir(dir).stdin(Stdio::null());
        get.args(["get", "t.torrent", "-d", "out", "--state-dir", "state", "--listen-port", "0", "-q"]);
        get.args(["--no-dht", "--no-lsd", "--timeout", "60", "--peer", &seed.to_string()]);
        if self.selected {
            get.args(["--select", "1"]);
        }
        if self.limited {
            get.args(["--max-download-limit", "600K"]);
        }
        let mut child = get.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        match self.end {
            End::ByItself => {}
            End::Interrupt(after) => {
                std::thread::sleep(Duration::from_millis(after));
                signal(&child, "INT");
            }
            End::Kill(after) => {
                std::thread::sleep(Duration::from_millis(after));
                child.kill().unwrap();
            }
        }
        let status = child.wait().unwrap();
        (status.code(), Instant::now())
    }
}

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill").args(["-s", name, &child.id().to_string()]).stderr(Stdio::null()).status();
}

/// Writes the content and a torrent file with this tracker. Returns the torrent without a tracker.
fn torrent(dir: &Path, url: &str) -> Metainfo {
    let mut bytes = Vec::new();
    let mut entries = Vec::new();
    std::fs::create_dir_all(dir.join("from/t")).unwrap();
    for (i, len) in FILES.iter().enumerate() {
        let part = support::content(*len, 7 + i as u64);
        std::fs::write(dir.join(format!("from/t/{i}")), &part).unwrap();
        bytes.extend(part);
        entries.push((vec![i.to_string()], *len as u64));
    }
    let hashes: Vec<_> =
        bytes.chunks(PIECE).map(|piece| rill::units::PieceHash(Sha1::digest(piece).into())).collect();
    let untracked = Builder { piece_len: PIECE as u32, ..Builder::multi("t", entries) };
    let tracked = Builder { trackers: vec![vec![url.to_owned()]], ..untracked.clone() };
    std::fs::write(dir.join("t.torrent"), tracked.finish(&hashes).unwrap()).unwrap();
    Metainfo::parse(&untracked.finish(&hashes).unwrap()).unwrap()
}

/// A torrent, and its lives one after the other. Returns their number.
fn lives_of_one_torrent(rng: &mut Rng, udp: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let tracker = Tracker::default();
    let url = tracker.start(udp);
    let untracked = torrent(dir.path(), &url);
    let (_seeder, seed) = support::seeder("127.0.0.1", &untracked, &dir.path().join("from"));
    let count = 1 + rng.below(5) as u64;
    let mut story = Vec::new();
    let mut completed = 0;
    for _ in 0..count {
        let life = Life::random(rng);
        let before = tracker.log.lock().unwrap().len();
        let (code, ended_at) = life.live(dir.path(), seed, &tracker);
        // What was sent before the end arrives.
        std::thread::sleep(Duration::from_millis(30));
        let seen = tracker.log.lock().unwrap()[before..].to_vec();
        let events: Vec<&str> = seen.iter().map(|s| s.event.as_str()).collect();
        story.push(format!("{life:?}, code {code:?}: {events:?}"));
        let told = || story.join("\n");
        check_order(&seen, &told());
        check_figures(&seen, life, &told());
        completed += events.iter().filter(|event| **event == "completed").count();
        assert!(completed <= 1, "completed more than once\n{}", told());
        if !matches!(life.end, End::Kill(_)) {
            check_end(&seen, ended_at, &told());
            let fetched_all = code == Some(0) && !life.selected && seen.first().is_some_and(|s| s.left > 0);
            if fetched_all && life.delay_ms <= FAST && life.end == End::ByItself {
                assert!(events.contains(&"completed"), "no completed\n{}", told());
            }
        }
        // A slow tracker that was not waited for answers before the next life begins.
        std::thread::sleep(Duration::from_millis(life.delay_ms));
    }
    count
}

/// The events of one life are in order, and each announce follows the reply to the one before it.
fn check_order(seen: &[Seen], story: &str) {
    let rank = |event: &str| match event {
        "started" => 0,
        "" | "paused" => 1,
        "completed" => 2,
        "stopped" => 3,
        other => panic!("the event {other}\n{story}"),
    };
    for (i, announce) in seen.iter().enumerate() {
        assert_eq!(i == 0, announce.event == "started", "started comes first and once\n{story}");
        assert_eq!(announce.peer, seen[0].peer, "one life has one peer id\n{story}");
    }
    for pair in seen.windows(2) {
        let answered = pair[0].answered_at.is_some_and(|at| at <= pair[1].at);
        assert!(answered, "two announces at once: {pair:?}\n{story}");
        let in_order = rank(&pair[0].event) < rank(&pair[1].event) || pair[1].event.is_empty();
        assert!(in_order, "{} before {}\n{story}", pair[0].event, pair[1].event);
    }
}

/// `left` counts the whole torrent, and bytes count from `started`.
fn check_figures(seen: &[Seen], life: Life, story: &str) {
    let total: u64 = FILES.iter().map(|len| *len as u64).sum();
    // The selected file cannot hold all that is missing.
    let selected_pieces = (FILES[0].div_ceil(PIECE) * PIECE) as u64;
    let is_part = life.selected && seen.first().is_some_and(|first| first.left > selected_pieces);
    for announce in seen {
        let Seen { event, left, downloaded, uploaded, .. } = announce;
        assert!(*left <= total, "{left} bytes left\n{story}");
        assert!(event != "completed" || (*left == 0 && !is_part), "completed of a part\n{story}");
        if event == "started" {
            assert_eq!((*downloaded, *uploaded), (0, 0), "bytes before started\n{story}");
        }
    }
    assert!(!is_part || seen.iter().all(|s| s.left > 0), "a part has all\n{story}");
}

/// A life that was not killed takes its leave of a tracker that answered it.
fn check_end(seen: &[Seen], ended_at: Instant, story: &str) {
    let Some(last) = seen.last().filter(|last| last.event != "stopped") else { return };
    let answered_in_time = last.answered_at.is_some_and(|at| at <= ended_at);
    assert!(!answered_in_time, "no stopped\n{story}");
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn live(udp: bool) {
    let lives = from_environment("RILL_LIVES", 20).div_ceil(2);
    let seed = from_environment("RILL_LIVES_SEED", 1);
    let begun = Instant::now();
    let lived: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let mut rng = Rng::new(seed * 1000 + thread * 10 + u64::from(udp));
                scope.spawn(move || {
                    let mut lived = 0;
                    while lived < lives.div_ceil(THREADS) {
                        lived += lives_of_one_torrent(&mut rng, udp);
                    }
                    lived
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{lived} lives over {}, {:?}", if udp { "UDP" } else { "HTTP" }, begun.elapsed());
}

#[test]
#[ignore = "takes long"]
fn a1_announces_over_http_are_in_order_and_counted_in_random_short_lives() {
    live(false);
}

#[test]
#[ignore = "takes long"]
fn a1_announces_over_udp_are_in_order_and_counted_in_random_short_lives() {
    live(true);
}
