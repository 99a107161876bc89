//! The surroundings of a transfer: a torrent, directories of the seeder and of the downloader, and processes
//! that are watched to their end.

use crate::binary::built;
use crate::record::Truth;
use crate::support::{assert_same, multi};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The longest time that a process may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The files of most tests: pieces span files and directories, one file has one byte and one is empty.
pub const FILES: [(&str, usize); 5] =
    [("a.bin", 700_000), ("sub/b.bin", 300_000), ("sub/deep/one", 1), ("none", 0), ("z.bin", 572_863)];

/// A temporary directory with the torrent and the directories.
pub struct Stage {
    dir: tempfile::TempDir,
    pub truth: Truth,
    starts: AtomicU32,
}

/// The instructions of the preloaded library.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// The calls that fail, see `preload/lib.rs`.
    pub rules: String,
    /// The file for the journal of all calls.
    pub journal: Option<PathBuf>,
    /// `fdatasync` does nothing and succeeds.
    pub ignore_flushes: bool,
}

impl Trouble {
    /// Only these rules.
    pub fn rules(rules: impl Into<String>) -> Trouble {
        Trouble { rules: rules.into(), ..Trouble::default() }
    }
}

impl Stage {
    /// A stage for [`FILES`] in pieces of 64 KiB.
    pub fn new() -> Stage {
        Stage::with(&FILES, 64 << 10)
    }

    /// A stage for other files.
    pub fn with(files: &[(&str, usize)], piece_len: u32) -> Stage {
        let dir = tempfile::Builder::new().prefix("rill-faults-").tempdir().unwrap();
        fs::create_dir_all(dir.path().join("box/content")).unwrap();
        let torrent = multi(&dir.path().join("box/content"), "it", files, piece_len);
        fs::write(dir.path().join("it.torrent"), torrent.to_file().unwrap()).unwrap();
        Stage { dir, truth: Truth::of(torrent, files), starts: AtomicU32::new(0) }
    }

    /// The whole directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path outside of the box, where calls are not counted.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path in the box, where the library counts calls.
    pub fn in_box(&self, name: &str) -> PathBuf {
        self.dir.path().join("box").join(name)
    }

    /// The download directory.
    pub fn down(&self) -> PathBuf {
        self.in_box("down")
    }

    /// The downloader's state directory.
    pub fn state(&self) -> PathBuf {
        self.in_box("state")
    }

    /// Removes downloads and states.
    pub fn clear(&self) {
        for name in ["down", "state", "seed-state"] {
            let _ = fs::remove_dir_all(self.in_box(name));
        }
    }

    /// A rill command; with trouble the library is preloaded.
    fn command(&self, args: &[&str], trouble: Option<&Trouble>) -> Command {
        let mut command = Command::new(&built().rill);
        command.args(args);
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("RILL_") || name.ends_with("_proxy"))
        {
            command.env_remove(name);
        }
        if let Some(trouble) = trouble {
            command.env("LD_PRELOAD", &built().preload).env("RILL_FAULT", &trouble.rules);
            command.env("RILL_FAULT_UNDER", self.dir.path().join("box"));
            if let Some(journal) = &trouble.journal {
                command.env("RILL_FAULT_JOURNAL", journal);
            }
            if trouble.ignore_flushes {
                command.env("RILL_FAULT_LIE", "1");
            }
        }
        command
    }

    /// Starts a process.
    pub fn start(&self, mut command: Command) -> Process {
        let n = self.starts.fetch_add(1, Relaxed);
        let log = self.at(&format!("log-{n}"));
        let counts = self.at(&format!("counts-{n}"));
        let file = File::create(&log).unwrap();
        command.env("RILL_FAULT_COUNTS", &counts);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        Process { child, pidfd, log, counts, begun: Instant::now(), ended: false }
    }

    /// Starts a seeder at this port.
    pub fn seed(&self, port: u16, trouble: Option<&Trouble>, more: &[&str]) -> Process {
        let mut command = self.seed_command(port, trouble, more);
        command.arg("--state-dir").arg(self.in_box("seed-state")).arg("-d").arg(self.in_box("content"));
        self.start(command)
    }

    /// The command of a seeder at this port, without its directories.
    pub fn seed_command(&self, port: u16, trouble: Option<&Trouble>, more: &[&str]) -> Command {
        let port = port.to_string();
        // Quiet, unless a test reads the JSON objects.
        let quiet: &[&str] = if more.contains(&"--json") { &[] } else { &["-q"] };
        let args = ["seed", "--no-lsd", "--no-dht", "--no-pex", "--listen-port", &port];
        let mut command = self.command(&[&args, quiet, more].concat(), trouble);
        command.arg(self.at("it.torrent"));
        command
    }

    /// A seeder that listens, and its address.
    pub fn seeder(&self) -> (Process, SocketAddr) {
        let port = free_port();
        // Without a state directory, so that it locks out no other seeder of the same content.
        let mut command = self.seed_command(port, None, &["--no-state"]);
        command.arg("-d").arg(self.in_box("content"));
        let mut seeder = self.start(command);
        assert!(seeder.listens(port), "the seeder does not listen: {}", seeder.output());
        (seeder, address(port))
    }

    /// The command that downloads from this address to `home/down`, with its state in `home/state`.
    pub fn get_command(
        &self,
        home: &Path,
        from: SocketAddr,
        trouble: Option<&Trouble>,
        more: &[&str],
    ) -> Command {
        let peer = from.to_string();
        let quiet: &[&str] = if more.contains(&"--json") || more.contains(&"-v") { &[] } else { &["-q"] };
        let args = ["get", "--no-lsd", "--no-dht", "--no-pex", "--listen-port", "0", "--peer", &peer];
        let mut command = self.command(&[&args, quiet, more].concat(), trouble);
        command
            .arg("--state-dir")
            .arg(home.join("state"))
            .arg("-d")
            .arg(home.join("down"))
            .arg(self.at("it.torrent"));
        command
    }

    /// Starts a download into the box.
    pub fn get(&self, from: SocketAddr, trouble: Option<&Trouble>, more: &[&str]) -> Process {
        self.get_in(&self.in_box(""), from, trouble, more)
    }

    /// Starts a download to another place.
    pub fn get_in(&self, home: &Path, from: SocketAddr, trouble: Option<&Trouble>, more: &[&str]) -> Process {
        self.start(self.get_command(home, from, trouble, more))
    }

    /// Downloads without trouble; panics unless it succeeds.
    pub fn must_finish(&self, from: SocketAddr, more: &[&str], when: &str) {
        let end = self.get(from, None, more).end();
        assert_eq!(end.code, Some(0), "{when}: the same command again: {end:?}");
        self.must_be_whole(when);
    }

    /// Panics unless every byte of the download is right.
    pub fn must_be_whole(&self, when: &str) {
        self.must_be_whole_in(&self.down(), when);
    }

    /// Panics unless every byte of the download in `down` is right.
    pub fn must_be_whole_in(&self, down: &Path, when: &str) {
        let same = std::panic::catch_unwind(|| assert_same(&self.in_box("content"), down));
        assert!(same.is_ok(), "{when}: the download has wrong bytes");
    }

    /// Panics on a false claim of the downloader's record. Returns the number of claims.
    pub fn must_hold(&self, when: &str) -> u32 {
        self.truth.must_hold(&self.down(), &self.state(), when)
    }
}

/// The loopback address with this port.
pub fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A free port for TCP and UDP, below those that the kernel gives to outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 10_000
            + (std::process::id() as u16).wrapping_mul(13).wrapping_add(NEXT.fetch_add(1, Relaxed)) % 10_000;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        {
            return port;
        }
    }
}

/// A process that is killed when it is dropped.
pub struct Process {
    child: Child,
    pidfd: OwnedFd,
    log: PathBuf,
    counts: PathBuf,
    begun: Instant,
    ended: bool,
}

/// The end of a process.
#[derive(Debug)]
pub struct End {
    /// `None`: it was killed after [`PATIENCE`], or a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub in_time: bool,
    /// stdout and stderr.
    pub output: String,
    pub wall: Duration,
    pub cpu: Duration,
    pub counts: Counts,
}

impl Process {
    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the output so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the intercepted calls so far.
    pub fn counts(&self) -> Counts {
        Counts::read(&self.counts)
    }

    /// Returns whether the process ends within this time.
    pub fn ends_within(&self, patience: Duration) -> bool {
        let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
    }

    /// Waits until the process listens at this port. Returns false if it ends before.
    pub fn listens(&mut self, port: u16) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if TcpStream::connect(address(port)).is_ok()
                || TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok()
            {
                return true;
            }
            if self.ends_within(Duration::from_millis(5)) {
                return false;
            }
        }
        false
    }

    /// Sends SIGTERM.
    pub fn send_sigterm(&self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), rustix::process::Signal::TERM);
    }

    /// Sends SIGKILL and waits.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.ended = true;
    }

    /// Waits for the end of the process; after [`PATIENCE`] kills it.
    pub fn end(mut self) -> End {
        let in_time = self.ends_within(PATIENCE);
        if !in_time {
            let _ = self.child.kill();
        }
        // Ended and not yet reaped: the kernel still has its CPU time.
        let id = WaitId::Pid(Pid::from_child(&self.child));
        waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        let wall = self.begun.elapsed();
        let cpu = cpu_of(self.pid());
        let status = self.child.wait().unwrap();
        self.ended = true;
        End {
            code: status.code().filter(|_| in_time),
            signal: status.signal(),
            in_time,
            output: self.output(),
            wall,
            cpu,
            counts: self.counts(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = fs::remove_file(&self.log);
        let _ = fs::remove_file(&self.counts);
    }
}

/// CPU time of a process, user and system.
pub fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold any byte; the fields are counted from its closing parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1))
}

/// Calls that the library intercepted, by kind.
#[derive(Clone, Debug, Default)]
pub struct Counts(Vec<u32>);

/// The kinds, in the order of `preload/rules.rs`.
pub const KINDS: [&str; 27] = [
    "open",
    "mkdir",
    "rename",
    "unlink",
    "ftruncate",
    "fallocate",
    "mmap",
    "madvise",
    "pread",
    "pwrite",
    "fsync",
    "fdatasync",
    "flock",
    "window",
    "readv",
    "recv",
    "writev",
    "preadv2",
    "socket",
    "bind",
    "listen",
    "connect",
    "accept",
    "epoll_create",
    "epoll_ctl",
    "epoll_wait",
    "eventfd",
];

const SLOTS: usize = 64;

/// In another order a sweep would read the counts of other calls.
#[test]
fn the_kinds_are_those_of_the_library() {
    let library = include_str!("preload/rules.rs");
    let names = library.split("kinds!(\n").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
    let names: Vec<&str> = names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    assert_eq!(names, KINDS);
}

impl Counts {
    fn read(path: &Path) -> Counts {
        let bytes = fs::read(path).unwrap_or_default();
        Counts(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    fn slot(kind: &str) -> usize {
        KINDS.iter().position(|k| *k == kind).unwrap_or_else(|| panic!("{kind} is no kind of call"))
    }

    /// The number of calls of this kind.
    pub fn of(&self, kind: &str) -> u32 {
        self.0.get(Counts::slot(kind)).copied().unwrap_or(0)
    }

    /// The number of those that the library made fail.
    pub fn failed(&self, kind: &str) -> u32 {
        self.0.get(SLOTS + Counts::slot(kind)).copied().unwrap_or(0)
    }
}
