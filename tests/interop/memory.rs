//! Memory limits: with `--max-memory N` rill runs in a cgroup of N plus 8 MiB, page cache included. The
//! kernel kills a process that exceeds it.
//!
//! The short forms are part of the usual run. The long ones, with large torrents, are
//!
//! ```text
//! RILL_LONG=1 cargo test --release --test interop -- --ignored --nocapture --test-threads 1 max_memory
//! ```
//!
//! Needs root, for the cgroup.

use crate::clients::{rill, rill_at};
use crate::content::{Shape, Torrent, file};
use crate::lab::{Kid, Lab, free_port};
use crate::puppet::{Liar, is_served};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Memory for the kernel and the program's own pages, in bytes.
const MARGIN: u64 = 8 * MIB;

fn is_long() -> bool {
    std::env::var_os("RILL_LONG").is_some()
}

/// A cgroup with a limit, removed when it is dropped.
struct Group {
    dir: PathBuf,
    first_version: bool,
}

impl Group {
    fn with_limit(name: &str, bytes: u64) -> Option<Group> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let v2 = Path::new("/sys/fs/cgroup");
        let first_version = v1.join("memory.limit_in_bytes").exists();
        let dir = if first_version { v1 } else { v2 }.join(format!("rill-{name}-{}", std::process::id()));
        let limit = if first_version { "memory.limit_in_bytes" } else { "memory.max" };
        let made = fs::create_dir(&dir).and_then(|()| fs::write(dir.join(limit), bytes.to_string()));
        if let Err(error) = made {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no cgroup can be made here: {error}");
            eprintln!("skipped, no cgroup can be made here: {error}");
            return None;
        }
        Some(Group { dir, first_version })
    }

    /// Returns the command, run in the group.
    fn around(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.dir.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    fn number(&self, file: &str, line: &str) -> u64 {
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_default();
        found.trim().parse().unwrap_or(0)
    }

    fn kills(&self) -> u64 {
        let file = if self.first_version { "memory.oom_control" } else { "memory.events" };
        self.number(file, "oom_kill ")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Only an empty group can be removed; its last process may need a moment to end.
        for _ in 0..50 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns the private memory of a process in KiB.
fn private_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Downloads in a group, and starts once more from the record. Returns the peak of private memory in KiB.
fn download_in(
    group: &Group,
    lab: &Lab,
    torrent: &Torrent,
    mib: u64,
    storage: &str,
    peers: &[String],
) -> u64 {
    let out = lab.new_dir("out");
    let state = lab.new_dir("state");
    let mut get = rill();
    get.args([
        "get",
        "--listen-port",
        "0",
        "--max-peers",
        "60",
        "--max-memory",
        &format!("{mib}M"),
        "--storage",
        storage,
    ]);
    get.args(peers.iter().flat_map(|peer| ["--peer", peer]));
    get.arg("--state-dir").arg(&state).arg("-d").arg(&out).arg(&torrent.file);
    let mut most = 0;
    for again in [false, true] {
        // Page and inode caches are charged to the group that first used them, which must be this
        // group. If caches cannot be dropped, the second run is easier.
        Command::new("sync").status().unwrap();
        if let Err(error) = fs::write("/proc/sys/vm/drop_caches", "3") {
            eprintln!("caches cannot be dropped: {error}");
        }
        let kid: Kid<'_> = lab.start(&mut group.around(&get));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = kid.ended() {
                break status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(1800),
                "not over after half an hour\n{}",
                lab.words()
            );
            most = most.max(private_kib(kid.pid()));
            std::thread::sleep(Duration::from_millis(20));
        };
        let which = if again { "again" } else { "first" };
        assert_eq!(
            (group.kills(), status.code()),
            (0, Some(0)),
            "{mib} MiB, {storage}, {which}\n{}",
            lab.words()
        );
        let took = begun.elapsed().as_secs();
        println!(
            "--max-memory {mib}M --storage {storage}, {which}: {took} s, so far at most {most} KiB private, no process killed"
        );
    }
    torrent.must_be_in(&out, lab);
    fs::remove_dir_all(&out).unwrap();
    most
}

#[test]
#[ignore = "needs root"]
fn max_memory_holds_with_large_pieces_and_fifty_peers() {
    let lab = Lab::new();
    let mut shape = Shape::single(if is_long() { 4096 * MIB } else { 256 * MIB }, 16 * MIB);
    shape.files[0].sparse = true; // reads return zeros, writes allocate blocks
    let torrent = Torrent::make(&lab, shape, &[]);
    let peers: Vec<_> =
        (2..52).map(|last| Liar::honest(IpAddr::from(Ipv4Addr::new(127, 0, 1, last)), &torrent)).collect();
    let addresses: Vec<String> = peers.iter().map(|peer| peer.address.to_string()).collect();
    for mib in if is_long() { vec![16, 32, 64] } else { vec![16] } {
        for storage in ["auto", "mapped"] {
            let Some(group) = Group::with_limit(&format!("pieces-{storage}-{mib}"), mib * MIB + MARGIN)
            else {
                return;
            };
            let most = download_in(&group, &lab, &torrent, mib, storage, &addresses);
            assert!(most <= mib * 1024, "{most} KiB private of {mib} MiB");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn max_memory_holds_with_very_many_files() {
    let lab = Lab::new();
    let files = if is_long() { 200_000 } else { 5_000 };
    let entry = |i: usize| file(format!("directory {:04}/file number {i:06}.dat", i / 200), 1024);
    let torrent = Torrent::make(&lab, Shape::multi((0..files).map(entry).collect(), 256 << 10), &[]);
    let port = free_port();
    rill_at(&lab, &torrent, port, "0");
    // rill hashes all files before it accepts peers.
    lab.wait_up_to(Duration::from_secs(300), "the seed serves", &mut || is_served(port, &torrent));
    for mib in if is_long() { vec![16, 32, 64] } else { vec![16] } {
        let Some(group) = Group::with_limit(&format!("files-{mib}"), mib * MIB + MARGIN) else { return };
        let most = download_in(&group, &lab, &torrent, mib, "auto", &[format!("127.0.0.1:{port}")]);
        // While the torrent is parsed, its file is in memory as well.
        let file = fs::metadata(&torrent.file).unwrap().len();
        assert!(most <= 16 * 1024 + file / 1024, "{most} KiB private");
    }
}
