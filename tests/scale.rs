//! Much of everything: connections that idle, torrents that seed, files and pieces in one torrent, and how
//! soon a start is over.
//!
//! ```text
//! cargo test --release --test scale -- --ignored --nocapture --test-threads 1
//! ```
//!
//! Memory is held in any build; times are held in a release build and only printed in others.

mod support;

use rill::session::{AddTorrent, Event, Session};
use rill::units::PieceHash;
use rill::wire::Metainfo;
use rill::wire::metainfo::Builder;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha1::{Digest, Sha1};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{session_with, single, wait};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Private memory of this process, bytes, once what is free is given back.
fn private() -> u64 {
    // SAFETY: it takes a number and touches nothing of ours.
    unsafe { libc::malloc_trim(0) };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * KIB
}

/// CPU time of rill's own threads in this process.
fn cpu() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let ours =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("rill")));
    let spent = ours.filter_map(|task| fs::read_to_string(task.join("schedstat")).ok());
    spent.map(|spent| Duration::from_nanos(spent.split_whitespace().next().unwrap().parse().unwrap())).sum()
}

/// The share of one core that rill takes in the next ten seconds, %.
fn idle_percent() -> f64 {
    let (before, begun) = (cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    100.0 * (cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// Says a figure, and holds it.
fn at_most(what: &str, figure: f64, most: f64) {
    println!("{what}: {figure:.3} (at most {most})");
    assert!(figure <= most, "{what}: {figure:.3}, more than {most}");
}

/// The same for a time in seconds, which a build for tests may take longer for.
fn within(what: &str, took: Duration, most: f64) {
    at_most(
        &format!("{what}, s"),
        took.as_secs_f64(),
        if cfg!(debug_assertions) { f64::INFINITY } else { most },
    );
}

/// As many descriptors as the system lets us have.
fn many_descriptors() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}

/// A torrent of zeros; its file is one hole.
fn hole(dir: &Path, name: &str, bytes: u64, zeros: PieceHash) -> Metainfo {
    fs::File::create(dir.join(name)).unwrap().set_len(bytes).unwrap();
    let builder = Builder { piece_len: MIB as u32, ..Builder::single(name, bytes) };
    Metainfo::parse(&builder.finish(&vec![zeros; (bytes / MIB) as usize]).unwrap()).unwrap()
}

/// Adds them all to seed; how long it takes until all are open.
fn open_all(session: &Session, torrents: &[Metainfo], dir: &Path) -> Duration {
    let begun = Instant::now();
    for torrent in torrents {
        session.add(AddTorrent { seed_only: true, ..AddTorrent::new(torrent.clone(), dir) }).unwrap();
    }
    for _ in torrents {
        wait(session, |event| matches!(event, Event::Opened { .. }));
    }
    begun.elapsed()
}

#[test]
#[ignore = "takes a minute"]
fn a_thousand_idle_connections_take_two_kibibytes_each() {
    many_descriptors();
    let dir = tempfile::tempdir().unwrap();
    let torrent = single(dir.path(), "content", MIB as usize, 1 << 18);
    let session = session_with("127.0.0.1", |c| {
        (c.max_peers, c.max_peers_per_torrent, c.progress_every) = (1100, 1100, Duration::from_secs(1));
    });
    open_all(&session, std::slice::from_ref(&torrent), dir.path());
    let addr = SocketAddr::from(([127, 0, 0, 1], session.local_port()));
    let call = |number: u32| {
        let (hash, id) = (torrent.info_hash(), format!("-XX0000-{number:012}"));
        let handshake = [b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04", &hash.0[..], id.as_bytes()].concat();
        // An address of its own: from each only a few may come.
        let [_, _, high, low] = number.to_be_bytes();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 1, high, low], 0)).into()).unwrap();
        socket.connect(&addr.into()).unwrap();
        let mut socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(&handshake).unwrap();
        // A peer that is not interested and silent.
        socket.read_exact(&mut [0; 68]).unwrap_or_else(|error| panic!("connection {number}: {error}"));
        socket.write_all(&[0, 0, 0, 1, 15]).unwrap();
        socket
    };
    let first: Vec<_> = (0..50).map(call).collect();
    let before = private();
    let sockets: Vec<_> = (50..1050).map(call).collect();
    // Buffers of connections that are silent for a while are freed.
    std::thread::sleep(Duration::from_secs(21));
    at_most("private memory a connection, KiB", (private() - before) as f64 / 1024.0 / 1000.0, 2.0);
    at_most("CPU of a thousand idle connections, % of a core", idle_percent(), 0.3);
    for mut socket in first.into_iter().chain(sockets) {
        let _ = socket.set_nonblocking(true);
        let mut rest = [0; 1024];
        while socket.read(&mut rest).inspect(|n| assert!(*n > 0, "hung up on")).is_ok() {}
    }
}

#[test]
#[ignore = "takes half a minute"]
fn a_thousand_torrents_are_ready_from_their_records_within_two_seconds() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let zeros = PieceHash(Sha1::digest(vec![0; MIB as usize]).into());
    let torrents: Vec<_> =
        (0..1000).map(|n| hole(dir.path(), &format!("hole {n}"), 1 << 30, zeros)).collect();
    let start = || {
        session_with("127.0.0.1", |c| {
            (c.state_dir, c.progress_every) = (Some(state.path().to_owned()), Duration::from_secs(1))
        })
    };
    let session = start();
    println!("hashed the first time within {:.1} s", open_all(&session, &torrents, dir.path()).as_secs_f64());
    assert!(session.stop(Duration::from_secs(30)).clean);
    let before = private();
    let session = start();
    within("a thousand torrents of 1 GiB are ready", open_all(&session, &torrents, dir.path()), 2.0);
    // Their metainfo is shared with the list above.
    let lists = torrents.iter().map(|torrent| torrent.to_file().map_or(0, |file| file.len())).sum::<usize>();
    println!("of which their metainfo: {:.1} MiB", lists as f64 / MIB as f64);
    at_most("their private memory, MiB", (private() - before) as f64 / MIB as f64, 40.0);
    std::thread::sleep(Duration::from_secs(5));
    at_most("CPU while they idle, % of a core", idle_percent(), 0.5);
}

/// The torrent from its bytes, opened to get; what that takes.
fn opens_lean(what: &str, bytes: Vec<u8>) {
    let to = tempfile::tempdir().unwrap();
    let session = session_with("127.0.0.1", |_| {});
    let (before, begun) = (private(), Instant::now());
    let torrent = Metainfo::parse_with_info_limit(&bytes, 4 * MIB as usize).unwrap();
    session.add(AddTorrent::new(torrent, to.path())).unwrap();
    wait(&session, |event| matches!(event, Event::Opened { .. }));
    within(&format!("{what} loads"), begun.elapsed(), 1.0);
    at_most(&format!("{what}, private memory, MiB"), (private() - before) as f64 / MIB as f64, 60.0);
}

#[test]
#[ignore = "a measurement"]
fn two_hundred_thousand_files_or_two_million_pieces_load_within_a_second() {
    let files = (0..200_000)
        .map(|n| (vec![format!("directory {:04}", n / 200), format!("file number {n:06}.dat")], 1024));
    let builder = Builder { piece_len: 1 << 18, ..Builder::multi("many", files.collect()) };
    let pieces = (200_000u64 * 1024).div_ceil(1 << 18) as usize;
    opens_lean("200,000 files", builder.finish(&vec![PieceHash([7; 20]); pieces]).unwrap());
    let builder = Builder { piece_len: 1 << 14, ..Builder::single("long", 2_000_000 << 14) };
    opens_lean("2,000,000 pieces", builder.finish(&vec![PieceHash([7; 20]); 2_000_000]).unwrap());
}

#[test]
#[ignore = "a measurement"]
fn the_first_announce_comes_within_thirty_milliseconds() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    let announce = format!("http://{}/announce", tracker.local_addr().unwrap());
    let zeros = PieceHash([7; 20]);
    let mut builder = Builder { piece_len: MIB as u32, ..Builder::single("x", MIB) };
    builder.trackers = vec![vec![announce]];
    let file = from.path().join("x.torrent");
    fs::write(&file, builder.finish(&[zeros]).unwrap()).unwrap();
    let mut took: Vec<Duration> = (0..9)
        .map(|_| {
            let begun = Instant::now();
            let mut rill = Command::new(env!("CARGO_BIN_EXE_rill"));
            let mut kid = rill
                .args(["get", "-q", "--no-state", "--no-dht", "--no-lsd", "-d"])
                .arg(to.path())
                .arg(&file)
                .spawn()
                .unwrap();
            let (mut socket, _) = tracker.accept().unwrap();
            let mut request = [0; 5];
            socket.read_exact(&mut request).unwrap();
            let took = begun.elapsed();
            assert_eq!(&request, b"GET /");
            kid.kill().unwrap();
            kid.wait().unwrap();
            took
        })
        .collect();
    took.sort();
    within("start to first announce, median of nine", took[4], 0.030);
}
