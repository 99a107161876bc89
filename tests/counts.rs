//! The cost of a block in counts that do not depend on the machine's speed: allocations, system calls,
//! instructions.
//!
//! A count is that of a large transfer minus that of a small one, so that costs of start and end cancel out.
//! A ceiling is the count at the time of writing plus a fifth for instructions, plus half for the others,
//! because the bytes that one read returns vary. A change that exceeds a ceiling has made every block more
//! expensive; a change that stays well below may lower the ceiling.
//!
//! ```text
//! cargo test --test counts -- --ignored --nocapture --test-threads 1
//! ```
//!
//! Needs strace and valgrind for all but the allocations.

mod support;

use rill::session::Event;
use rill::wire::Metainfo;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use support::{assert_same, download, seeder, session_with, single, wait};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
const SMALL: usize = 16 * MIB;
const LARGE: usize = 80 * MIB;
const BLOCKS: f64 = ((LARGE - SMALL) / 16_384) as f64;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(at, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Content to seed, its torrent, and a directory for the downloader.
struct Work {
    from: TempDir,
    to: TempDir,
    torrent: Metainfo,
    file: PathBuf,
}

impl Work {
    fn of(bytes: usize) -> Work {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        let torrent = single(from.path(), "content", bytes, MIB as u32);
        let file = to.path().join("the.torrent");
        fs::write(&file, torrent.to_file().unwrap()).unwrap();
        Work { from, to, torrent, file }
    }

    fn assert_complete(&self) {
        assert_same(&self.from.path().join("content"), &self.to.path().join("content"));
    }
}

/// Asserts that the cost of one more block is at most `ceiling`.
fn assert_cost_per_block(what: &str, ceiling: f64, count: impl Fn(&Work) -> u64) {
    let small = count(&Work::of(SMALL));
    let large = count(&Work::of(LARGE));
    let each = (large as f64 - small as f64) / BLOCKS;
    println!("{what} a block: {each:.2} (ceiling {ceiling})");
    assert!(each <= ceiling, "{what} a block: {each:.2}, more than {ceiling}");
}

/// Runs `rill get` under the program `outer`, with a seeder in this process.
fn get_inside(work: &Work, outer: &mut Command) {
    let (_seeder, addr) = seeder("127.0.0.1", &work.torrent, work.from.path());
    let rill =
        [env!("CARGO_BIN_EXE_rill"), "get", "-q", "--no-state", "--no-dht", "--no-lsd", "--listen-port", "0"];
    outer.args(rill).arg("--peer").arg(addr.to_string()).arg("-d").arg(work.to.path()).arg(&work.file);
    assert!(outer.status().unwrap().success());
    work.assert_complete();
}

/// Runs `rill seed` under the program `outer` until a session in this process has downloaded all content.
fn seed_inside(work: &Work, outer: &mut Command) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let rill =
        [env!("CARGO_BIN_EXE_rill"), "seed", "-q", "--no-state", "--no-dht", "--no-lsd", "--seed-ratio", "1"];
    outer
        .args(rill)
        .arg("--listen-port")
        .arg(port.to_string())
        .arg("-d")
        .arg(work.from.path())
        .arg(&work.file);
    let mut kid = outer.spawn().unwrap();
    let begun = Instant::now();
    while !has_torrent_open(addr, &work.torrent) {
        assert!(begun.elapsed() < support::PATIENCE, "rill seed does not accept a handshake");
        std::thread::sleep(Duration::from_millis(50));
    }
    let session = session_with("127.0.0.2", |_| {});
    download(&session, &work.torrent, work.to.path(), &[addr]);
    wait(&session, |event| matches!(event, Event::Completed { .. }));
    work.assert_complete();
    assert!(kid.wait().unwrap().success());
}

/// Returns whether the client at this address answers a handshake for the torrent.
fn has_torrent_open(addr: SocketAddr, torrent: &Metainfo) -> bool {
    let Ok(mut socket) = TcpStream::connect(addr) else { return false };
    let handshake =
        [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", &torrent.info_hash().0[..], &[b'x'; 20]].concat();
    let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
    socket.write_all(&handshake).is_ok() && socket.read_exact(&mut [0; 68]).is_ok()
}

fn strace(out: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(out);
    command
}

/// Returns the total number of calls in a summary of strace.
fn calls(out: &Path) -> u64 {
    let text = fs::read_to_string(out).unwrap();
    let total = text.lines().find(|line| line.trim_end().ends_with("total")).expect("a line with the total");
    total.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
fn both_ends_of_a_transfer_allocate_at_most_once_per_block() {
    assert_cost_per_block("allocations of both ends for", 1.0, |work| {
        let (_seeder, addr) = seeder("127.0.0.1", &work.torrent, work.from.path());
        let session = session_with("127.0.0.2", |c| c.progress_every = Duration::from_secs(60));
        let before = ALLOCATIONS.load(Relaxed);
        download(&session, &work.torrent, work.to.path(), &[addr]);
        wait(&session, |event| matches!(event, Event::Completed { .. }));
        let count = ALLOCATIONS.load(Relaxed) - before;
        work.assert_complete();
        count
    });
}

#[test]
#[ignore = "needs strace"]
fn a_download_makes_few_system_calls() {
    assert_cost_per_block("system calls of a download for", 2.0, |work| {
        let out = work.to.path().join("calls");
        get_inside(work, &mut strace(&out));
        calls(&out)
    });
}

#[test]
#[ignore = "needs strace"]
fn a_seed_makes_few_system_calls() {
    assert_cost_per_block("system calls of a seed for", 0.6, |work| {
        let out = work.to.path().join("calls");
        seed_inside(work, &mut strace(&out));
        calls(&out)
    });
}

#[test]
#[ignore = "needs valgrind"]
fn a_download_needs_few_instructions() {
    // The thread with the most instructions is the worker that hashes; it is left out.
    assert_cost_per_block("instructions of a download, hashing aside, for", 7000.0, |work| {
        let name = "profile";
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--tool=callgrind", "--separate-threads=yes"]);
        command.arg(format!("--callgrind-out-file={}", work.to.path().join(name).display()));
        get_inside(work, &mut command);
        let profiles = fs::read_dir(work.to.path()).unwrap().map(|entry| entry.unwrap().path());
        let profiles = profiles
            .filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)));
        let threads: Vec<u64> = profiles.filter_map(|path| instructions(&path)).collect();
        assert!(threads.len() >= 3, "expected a main thread, a loop and a worker: {threads:?}");
        threads.iter().sum::<u64>() - threads.iter().max().unwrap()
    });
}

/// Returns the instruction count of one thread's profile, or `None` for the file that belongs to no thread.
fn instructions(profile: &Path) -> Option<u64> {
    let text = fs::read_to_string(profile).unwrap();
    text.lines().find_map(|line| line.strip_prefix("totals: ")).map(|total| total.trim().parse().unwrap())
}
