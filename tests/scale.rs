//! Limits at scale: a thousand idle connections, a thousand torrents, large torrents, and the time to the
//! first announce.
//!
//! ```text
//! cargo test --release --test scale -- --ignored --nocapture --test-threads 1
//! ```
//! Ceilings of memory hold in every build; ceilings of time hold in a release build, other builds only print
//! the times.

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

/// Returns the private memory of this process in bytes, after the allocator has returned its free memory.
fn private_memory() -> u64 {
    // SAFETY: the function takes a number and accesses no memory of this program.
    unsafe { libc::malloc_trim(0) };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * KIB
}

/// Returns the CPU time of rill's threads in this process.
fn rill_cpu_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let ours =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("rill")));
    let spent = ours.filter_map(|task| fs::read_to_string(task.join("schedstat")).ok());
    spent.map(|spent| Duration::from_nanos(spent.split_whitespace().next().unwrap().parse().unwrap())).sum()
}

/// Measures the CPU time of rill's threads for ten seconds. Returns percent of one core.
fn idle_percent() -> f64 {
    let before = rill_cpu_time();
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(10));
    100.0 * (rill_cpu_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// Prints a figure and asserts its limit.
fn at_most(what: &str, figure: f64, limit: f64) {
    println!("{what}: {figure:.3} (at most {limit})");
    assert!(figure <= limit, "{what}: {figure:.3}, more than {limit}");
}

/// Prints a time in seconds; asserts its limit in builds without debug assertions.
fn within(what: &str, took: Duration, limit: f64) {
    at_most(
        &format!("{what}, s"),
        took.as_secs_f64(),
        if cfg!(debug_assertions) { f64::INFINITY } else { limit },
    );
}

/// Raises the limit of open descriptors to the maximum.
fn many_descriptors() {
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
}

/// Returns a torrent of zeros with a sparse file.
fn sparse_torrent(dir: &Path, name: &str, bytes: u64, zeros: PieceHash) -> Metainfo {
    fs::File::create(dir.join(name)).unwrap().set_len(bytes).unwrap();
    let builder = Builder { piece_len: MIB as u32, ..Builder::single(name, bytes) };
    Metainfo::parse(&builder.finish(&vec![zeros; (bytes / MIB) as usize]).unwrap()).unwrap()
}

/// Adds all torrents as seeds. Returns the time until all are open.
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
fn an_idle_connection_takes_at_most_two_kibibytes() {
    many_descriptors();
    let dir = tempfile::tempdir().unwrap();
    let torrent = single(dir.path(), "content", MIB as usize, 1 << 18);
    let session = session_with("127.0.0.1", |c| {
        c.max_peers = 1100;
        c.max_peers_per_torrent = 1100;
        c.progress_every = Duration::from_secs(1);
    });
    open_all(&session, std::slice::from_ref(&torrent), dir.path());
    let addr = SocketAddr::from(([127, 0, 0, 1], session.local_port()));
    let connect = |number: u32| {
        let hash = torrent.info_hash();
        let id = format!("-XX0000-{number:012}");
        let handshake = [b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04", &hash.0[..], id.as_bytes()].concat();
        // Each connection has its own address: the number of connections from one address is limited.
        let [_, _, high, low] = number.to_be_bytes();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 1, high, low], 0)).into()).unwrap();
        socket.connect(&addr.into()).unwrap();
        let mut socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(&handshake).unwrap();
        // The peer sends an empty bitfield (HaveNone) and is silent.
        socket.read_exact(&mut [0; 68]).unwrap_or_else(|error| panic!("connection {number}: {error}"));
        socket.write_all(&[0, 0, 0, 1, 15]).unwrap();
        socket
    };
    let first: Vec<_> = (0..50).map(connect).collect();
    let before = private_memory();
    let sockets: Vec<_> = (50..1050).map(connect).collect();
    // Buffers of silent connections are freed within this time.
    std::thread::sleep(Duration::from_secs(21));
    at_most("private memory a connection, KiB", (private_memory() - before) as f64 / 1024.0 / 1000.0, 2.0);
    at_most("CPU of a thousand idle connections, % of a core", idle_percent(), 0.3);
    for mut socket in first.into_iter().chain(sockets) {
        let _ = socket.set_nonblocking(true);
        let mut rest = [0; 1024];
        while socket.read(&mut rest).inspect(|n| assert!(*n > 0, "the session closed the connection")).is_ok()
        {
        }
    }
}

#[test]
#[ignore = "takes half a minute"]
fn a_thousand_torrents_are_ready_from_their_records_within_two_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let zeros = PieceHash(Sha1::digest(vec![0; MIB as usize]).into());
    let torrents: Vec<_> =
        (0..1000).map(|n| sparse_torrent(dir.path(), &format!("hole {n}"), 1 << 30, zeros)).collect();
    let start = || {
        session_with("127.0.0.1", |c| {
            c.state_dir = Some(state.path().to_owned());
            c.progress_every = Duration::from_secs(1);
        })
    };
    let session = start();
    println!("hashed the first time within {:.1} s", open_all(&session, &torrents, dir.path()).as_secs_f64());
    assert!(session.stop(Duration::from_secs(30)).clean);
    let before = private_memory();
    let session = start();
    within("a thousand torrents of 1 GiB are ready", open_all(&session, &torrents, dir.path()), 2.0);
    // The torrents share their metainfo with the list above, so it is not part of the memory measured
    // below.
    let lists = torrents.iter().map(|torrent| torrent.to_file().map_or(0, |file| file.len())).sum::<usize>();
    println!("of which their metainfo: {:.1} MiB", lists as f64 / MIB as f64);
    at_most("their private memory, MiB", (private_memory() - before) as f64 / MIB as f64, 40.0);
    std::thread::sleep(Duration::from_secs(5));
    at_most("CPU while they idle, % of a core", idle_percent(), 0.5);
}

/// Parses and opens a torrent for download, and asserts the limits of time and memory.
fn assert_opens_lean(what: &str, bytes: Vec<u8>) {
    let to = tempfile::tempdir().unwrap();
    let session = session_with("127.0.0.1", |_| {});
    let before = private_memory();
    let begun = Instant::now();
    let torrent = Metainfo::parse_with_info_limit(&bytes, 4 * MIB as usize).unwrap();
    session.add(AddTorrent::new(torrent, to.path())).unwrap();
    wait(&session, |event| matches!(event, Event::Opened { .. }));
    within(&format!("{what} loads"), begun.elapsed(), 1.0);
    at_most(&format!("{what}, private memory, MiB"), (private_memory() - before) as f64 / MIB as f64, 60.0);
}

#[test]
#[ignore = "a measurement"]
fn two_hundred_thousand_files_or_two_million_pieces_load_within_a_second() {
    let files = (0..200_000)
        .map(|n| (vec![format!("directory {:04}", n / 200), format!("file number {n:06}.dat")], 1024));
    let builder = Builder { piece_len: 1 << 18, ..Builder::multi("many", files.collect()) };
    let pieces = (200_000u64 * 1024).div_ceil(1 << 18) as usize;
    assert_opens_lean("200,000 files", builder.finish(&vec![PieceHash([7; 20]); pieces]).unwrap());
    let builder = Builder { piece_len: 1 << 14, ..Builder::single("long", 2_000_000 << 14) };
    assert_opens_lean("2,000,000 pieces", builder.finish(&vec![PieceHash([7; 20]); 2_000_000]).unwrap());
}

#[test]
#[ignore = "a measurement"]
fn the_first_announce_is_sent_within_thirty_milliseconds() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
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
