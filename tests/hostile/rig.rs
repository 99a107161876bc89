//! Measures what an attack costs a rill and a good peer that transfers with it.
//!
//! ```text
//!   quiet │ attack │ quiet │ attack │ quiet │ attack        the good peer's bytes and rill's memory in each
//! ```
//! Phases alternate, so that other load on the machine affects both, and medians are compared. The rate of
//! the good peer is low enough for every machine: the test measures whether rill delays it, not the share of
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
/// Rate of the good peer in bytes a second.
pub const GOOD_RATE: u64 = 8 << 20;
/// Most bytes by which memory may grow under an attack.
pub const MEMORY_MARGIN: u64 = 4 << 20;
/// Share of one core that an idle rill may use.
pub const IDLE_SHARE: f64 = 0.05;

/// Attacks of one trial, each between two quiet phases.
const ROUNDS: usize = 3;
/// Duration of a phase.
const PHASE: Duration = Duration::from_millis(700);
/// Time between two phases, for connections to open and close.
const SETTLE: Duration = Duration::from_millis(200);

/// A torrent with equal pieces, so that peers can serve any size from one buffer.
pub struct Endless {
    pub metainfo: Metainfo,
    pub file: PathBuf,
}

impl Endless {
    /// Creates a torrent with this number of pieces and these trackers.
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

/// Returns the bytes of every piece.
pub fn piece() -> Vec<u8> {
    crate::support::content(PIECE as usize, 7)
}

/// Returns a command for rill without environment variables, DHT and LSD.
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

/// Returns a command for rill with at most `most` descriptors.
pub fn rill_with_descriptors(most: u32) -> Command {
    let plain = rill();
    let mut command = Command::new("/bin/sh");
    command.env_clear().envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")]).arg(plain.get_program());
    command
}

/// A running rill that is measured.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub kid: Kid<'a>,
    pub port: u16,
    pub info_hash: InfoHash,
}

impl<'a> Target<'a> {
    /// Starts a download of `torrent` from these peers; `command` may have options already.
    pub fn getting(lab: &'a Lab, command: Command, torrent: &Endless, peers: &[SocketAddr]) -> Target<'a> {
        Target::getting_to(lab, command, torrent, &lab.new_dir("out"), peers)
    }

    /// Starts a download of `torrent` into this directory.
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

    /// Starts a seed of `torrent` and waits until it seeds.
    pub fn seeding(lab: &'a Lab, mut command: Command, torrent: &Endless) -> Target<'a> {
        let port = free_port();
        command.args(["seed", "--json", "--listen-port", &port.to_string()]);
        let kid = lab.start(command.arg("-d").arg(torrent.write(lab)).arg(&torrent.file));
        let target = Target { kid, port, info_hash: torrent.metainfo.info_hash() };
        lab.wait_for("rill seeds", || target.has_been("seeding"));
        target
    }

    /// Returns the address at which rill listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the JSON objects that rill has printed.
    pub fn json_objects(&self) -> Vec<serde_json::Value> {
        self.kid.words().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Returns whether rill has printed this state. rill listens before it seeds, and refuses peers of a
    /// torrent that is being checked.
    pub fn has_been(&self, state: &str) -> bool {
        self.json_objects().iter().any(|object| object["state"] == state)
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.kid.pid()))
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Wraps a process that prints no JSON objects; only its resources are measured.
    pub fn process(kid: Kid<'a>, port: u16, info_hash: InfoHash) -> Target<'a> {
        Target { kid, port, info_hash }
    }

    /// Returns the anonymous memory of the process in bytes.
    pub fn memory(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Returns the CPU time so far.
    pub fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // Fields after the name in parentheses: state is the first, user time the twelfth, system
        // time the thirteenth.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|n| n.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Returns the number of open descriptors.
    pub fn descriptors(&self) -> usize {
        self.numbers().len()
    }

    fn numbers(&self) -> BTreeSet<u64> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.kid.pid())).unwrap().flatten();
        open.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).collect()
    }

    /// Lowers the limit of descriptors so that `new` more can be opened. Returns the limit, for
    /// [`has_all_below`](Target::has_all_below).
    pub fn limit_descriptors(&self, new: usize) -> u64 {
        let open = self.numbers();
        let limit = (0..).filter(|n| !open.contains(n)).nth(new).unwrap();
        let both = Rlimit { current: Some(limit), maximum: Some(limit) };
        prlimit(Pid::from_raw(self.kid.pid() as i32), Resource::Nofile, both).unwrap();
        limit
    }

    /// Returns whether all descriptors below the limit are open.
    pub fn has_all_below(&self, limit: u64) -> bool {
        self.numbers().range(..limit).count() as u64 == limit
    }

    /// Returns the number of threads.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.kid.pid())).unwrap().count()
    }

    /// Measures the CPU time for this duration. Returns the share of one core.
    pub fn share(&self, time: Duration) -> f64 {
        let before = self.cpu();
        std::thread::sleep(time);
        (self.cpu() - before).as_secs_f64() / time.as_secs_f64()
    }

    /// Asserts that the process is idle.
    pub fn assert_idle(&self) {
        let share = self.share(Duration::from_secs(2));
        assert!(share < IDLE_SHARE, "rill is idle and takes {:.0} % of a core", share * 100.0);
    }
}

/// Payload bytes of the good peer.
pub type Gauge = Arc<AtomicU64>;

/// Cost of an attack.
#[derive(Debug)]
pub struct Cost {
    /// The good peer's rate under attack, as a share of the quiet one.
    pub kept: f64,
    /// The good peer's rate without attack, in bytes a second.
    pub quiet_rate: f64,
    /// Peak memory under attack minus peak memory before the first attack, in bytes.
    pub grown: u64,
}

/// Peak memory of a process before its first attack. Later quiet phases include heap memory that an attack
/// has left.
#[derive(Default)]
pub struct Unharmed(OnceCell<u64>);

/// Measures quiet and attacked phases in turn.
pub fn trial(target: Target<'_>, good: &Gauge, unharmed: &Unharmed, attack: impl Fn() -> Attackers) -> Cost {
    let begun = Instant::now();
    while good.load(Relaxed) < GOOD_RATE / 4 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the good peer transferred nothing: {:?}",
            target.json_objects().pop()
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
    /// Asserts that the good peer keeps nine tenths of its rate and that memory grows by at most
    /// [`MEMORY_MARGIN`].
    pub fn assert_small(&self, what: &str) {
        let Cost { kept, quiet_rate, grown } = self;
        let quiet = quiet_rate / (1 << 20) as f64;
        let grown = grown / 1024;
        println!(
            "{what}: the good peer keeps {:.0} % of {quiet:.1} MiB/s, memory +{grown} KiB",
            kept * 100.0
        );
        assert!(
            *quiet_rate > GOOD_RATE as f64 * 0.5,
            "{what}: {quiet:.1} MiB/s without attack, which is too slow to compare"
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
