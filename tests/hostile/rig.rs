//! One rill under attack, a good peer beside it, and what the attack costs both.
//!
//! ```text
//!   quiet │ attack │ quiet │ attack │ quiet │ attack        the good peer's bytes and rill's memory in each
//! ```
//!
//! Phases alternate, so that whatever else the machine does falls on both sides, and medians are compared.
//! The good peer is slow enough for any machine: what is measured is whether it is kept waiting, not who gets
//! the processor.

use crate::attackers::Attackers;
use crate::lab::{Kid, Lab, free_port};
use rill::units::{InfoHash, PieceHash};
use rill::wire::Metainfo;
use rill::wire::metainfo::Builder;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use sha1::{Digest, Sha1};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes of a piece.
pub const PIECE: u32 = 256 << 10;
/// What the good peer gives or takes, bytes a second.
pub const GOOD_RATE: u64 = 8 << 20;
/// What memory may grow by under an attack.
pub const MEMORY_MARGIN: u64 = 4 << 20;
/// Of one core, what rill may use while nothing happens.
pub const IDLE_SHARE: f64 = 0.05;

/// Attacks of one trial, each between two quiet phases.
const ROUNDS: usize = 3;
/// One phase.
const PHASE: Duration = Duration::from_millis(700);
/// Between two phases: connections come and go.
const SETTLE: Duration = Duration::from_millis(200);

/// A torrent whose pieces are all the same, so that it may be as large as it likes.
pub struct Endless {
    pub metainfo: Metainfo,
    pub file: PathBuf,
}

impl Endless {
    /// `pieces` of it, with these trackers.
    pub fn new(lab: &Lab, pieces: u32, trackers: &[Vec<String>]) -> Endless {
        let builder = Builder {
            piece_len: PIECE,
            trackers: trackers.to_vec(),
            ..Builder::single("endless", u64::from(pieces) * u64::from(PIECE))
        };
        let hash = PieceHash(Sha1::digest(piece()).into());
        let bytes = builder.finish(&vec![hash; pieces as usize]).unwrap();
        let file = lab.new_dir("torrent").join("endless.torrent");
        fs::write(&file, &bytes).unwrap();
        Endless { metainfo: Metainfo::parse(&bytes).unwrap(), file }
    }

    /// Writes the content below a new directory.
    pub fn write(&self, lab: &Lab) -> PathBuf {
        let dir = lab.new_dir("content");
        fs::write(dir.join("endless"), piece().repeat(self.metainfo.geometry().pieces() as usize)).unwrap();
        dir
    }
}

/// The bytes of every piece.
pub fn piece() -> Vec<u8> {
    crate::support::content(PIECE as usize, 7)
}

/// The program, in the plainest of environments; it finds no peer by itself.
pub fn rill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
    command.env_clear().envs([("LC_ALL", "C"), ("PATH", "/usr/bin:/bin")]);
    command.envs([
        ("RILL_NO_DHT", "1"),
        ("RILL_NO_LSD", "1"),
        ("RILL_STORAGE", "plain"),
        ("RILL_NO_STATE", "1"),
    ]);
    command
}

/// The same with so few descriptors.
pub fn rill_with_descriptors(most: u32) -> Command {
    let plain = rill();
    let mut command = Command::new("/bin/sh");
    command.env_clear().envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")]).arg(plain.get_program());
    command
}

/// A running rill that is watched.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub kid: Kid<'a>,
    pub port: u16,
    pub info_hash: InfoHash,
}

impl<'a> Target<'a> {
    /// Downloads `torrent` from these peers; `command` may have options already.
    pub fn getting(lab: &'a Lab, command: Command, torrent: &Endless, peers: &[SocketAddr]) -> Target<'a> {
        Target::getting_to(lab, command, torrent, &lab.new_dir("out"), peers)
    }

    /// The same, into this directory.
    pub fn getting_to(
        lab: &'a Lab,
        mut command: Command,
        torrent: &Endless,
        out: &Path,
        peers: &[SocketAddr],
    ) -> Target<'a> {
        let port = free_port();
        command.args(["get", "--json", "--listen-port", &port.to_string()]);
        command.args(peers.iter().map(|peer| format!("--peer={peer}")));
        let kid = lab.start(command.arg("-d").arg(out).arg(&torrent.file));
        Target { kid, port, info_hash: torrent.metainfo.info_hash() }
    }

    /// Seeds `torrent`, and listens already.
    pub fn seeding(lab: &'a Lab, mut command: Command, torrent: &Endless) -> Target<'a> {
        let port = free_port();
        command.args(["seed", "--json", "--listen-port", &port.to_string()]);
        let kid = lab.start(command.arg("-d").arg(torrent.write(lab)).arg(&torrent.file));
        let target = Target { kid, port, info_hash: torrent.metainfo.info_hash() };
        lab.wait_for("it seeds", || target.has_been("seeding"));
        target
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The JSON objects that it has printed.
    pub fn said(&self) -> Vec<serde_json::Value> {
        self.kid.words().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Whether it has said that it is so far. It listens before, and refuses peers of a torrent that it still
    /// checks.
    pub fn has_been(&self, state: &str) -> bool {
        self.said().iter().any(|said| said["state"] == state)
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.kid.pid()))
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A process that is no command of the program: it is watched alone.
    pub fn process(kid: Kid<'a>, port: u16, info_hash: InfoHash) -> Target<'a> {
        Target { kid, port, info_hash }
    }

    /// Memory that is its own, in bytes: what the kernel calls anonymous.
    pub fn memory(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // Behind the name in brackets: state is the first field, user time the twelfth, system time the
        // thirteenth.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|n| n.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        self.numbers().len()
    }

    fn numbers(&self) -> BTreeSet<u64> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.kid.pid())).unwrap().flatten();
        open.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).collect()
    }

    /// From here on it gets no more than so many new ones; the limit, for
    /// [`has_all_below`](Target::has_all_below).
    pub fn limit_descriptors(&self, new: usize) -> u64 {
        let open = self.numbers();
        let limit = (0..).filter(|n| !open.contains(n)).nth(new).unwrap();
        let both = Rlimit { current: Some(limit), maximum: Some(limit) };
        prlimit(Pid::from_raw(self.kid.pid() as i32), Resource::Nofile, both).unwrap();
        limit
    }

    /// Whether it has them all.
    pub fn has_all_below(&self, limit: u64) -> bool {
        self.numbers().range(..limit).count() as u64 == limit
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.kid.pid())).unwrap().count()
    }

    /// The share of one core that it takes in this time.
    pub fn share(&self, time: Duration) -> f64 {
        let before = self.cpu();
        std::thread::sleep(time);
        (self.cpu() - before).as_secs_f64() / time.as_secs_f64()
    }

    /// Fails unless it is as good as asleep.
    pub fn must_be_idle(&self) {
        let share = self.share(Duration::from_secs(2));
        assert!(share < IDLE_SHARE, "it does nothing and takes {:.0} % of a core", share * 100.0);
    }
}

/// Bytes that the good peer has given or taken.
pub type Gauge = Arc<AtomicU64>;

/// What an attack cost.
#[derive(Debug)]
pub struct Cost {
    /// The good peer's rate under attack, as a share of the quiet one.
    pub kept: f64,
    /// The quiet one, bytes a second.
    pub quiet_rate: f64,
    /// The most memory under attack beyond the most before any attack, bytes.
    pub grown: u64,
}

/// The most memory of a process before its first attack: later ones find what the first has left in the heap.
#[derive(Default)]
pub struct Unharmed(OnceCell<u64>);

/// Alternates between quiet and attack.
pub fn trial(target: Target<'_>, good: &Gauge, unharmed: &Unharmed, attack: impl Fn() -> Attackers) -> Cost {
    let begun = Instant::now();
    while good.load(Relaxed) < GOOD_RATE / 4 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the good peer never got going: {:?}",
            target.said().pop()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut quiet = Vec::new();
    let mut attacked = Vec::new();
    for _ in 0..ROUNDS {
        quiet.push(phase(target, good));
        unharmed.0.get_or_init(|| quiet[0].memory);
        let attack = attack();
        attacked.push(phase(target, good));
        drop(attack);
    }
    let before = unharmed.0.get().copied().unwrap_or_default();
    let most = attacked.iter().map(|p| p.memory).max().unwrap_or_default();
    let kept = median(&attacked) / median(&quiet);
    let quiet_rate = median(&quiet);
    Cost { kept, quiet_rate, grown: most.saturating_sub(before) }
}

impl Cost {
    /// The bars: nine tenths of the rate, and the memory of a quiet run.
    pub fn must_be_small(&self, what: &str) {
        let Cost { kept, quiet_rate, grown } = self;
        let quiet = quiet_rate / (1 << 20) as f64;
        let grown = grown / 1024;
        println!(
            "{what}: the good peer keeps {:.0} % of {quiet:.1} MiB/s, memory +{grown} KiB",
            kept * 100.0
        );
        assert!(
            *quiet_rate > GOOD_RATE as f64 * 0.5,
            "{what}: {quiet:.1} MiB/s in quiet, so nothing can be said"
        );
        assert!(*kept >= 0.9, "{what}: the good peer keeps {:.0} % of its rate", kept * 100.0);
        assert!(self.grown <= MEMORY_MARGIN, "{what}: memory grew by {grown} KiB");
    }
}

#[derive(Clone, Copy)]
struct Phase {
    rate: f64,
    memory: u64,
}

fn phase(target: Target<'_>, good: &Gauge) -> Phase {
    let mut memory = 0;
    let mut watch = |time: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            memory = memory.max(target.memory());
            std::thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    };
    watch(SETTLE);
    let before = good.load(Relaxed);
    let took = watch(PHASE);
    Phase { rate: (good.load(Relaxed) - before) as f64 / took.as_secs_f64(), memory }
}

fn median(phases: &[Phase]) -> f64 {
    let mut rates: Vec<f64> = phases.iter().map(|p| p.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
