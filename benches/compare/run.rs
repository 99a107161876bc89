//! One run: a client on one side of the wire, its counterpart on the other, and the figures of the client
//! alone.

use crate::clients::{Client, Installed, Job, new_dir};
use crate::content::Content;
use crate::fault::{Fault, Result, check_signals, pause};
use crate::figures::{Figures, Measure, Outcome};
use crate::networks::{Networks, Side, server};
use crate::page_cache::PageReserve;
use crate::process::{Cpu, Memory, Process};
use crate::tracker::Tracker;
use crate::work::Work;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Interval in milliseconds in which the client is polled for completion.
const POLL_MILLIS: u64 = 2;
/// Interval of memory samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
/// Bytes on the wire after which payload has begun: more than 40 handshakes and bitfields.
const HANDSHAKES: u64 = 64 << 10;
/// Time limit for the announces of the seeders on the other side.
const SEEDERS_PATIENCE: Duration = Duration::from_secs(60);
/// A seeder is ready when it has been idle for this long.
const IDLE_FOR: Duration = Duration::from_millis(500);
/// A seeder is idle when it has used at most this CPU time in [`IDLE_FOR`], in seconds.
const IDLE_CPU: f64 = 0.021;
/// Time limit for a seeder that has announced itself, but not as complete.
const INCOMPLETE_PATIENCE: Duration = Duration::from_secs(15);

/// A finished transfer.
struct Transfer {
    begun: Duration,
    complete: Duration,
    /// CPU time of the downloading program.
    cpu: Cpu,
}

impl Transfer {
    fn figures(&self, bytes: u64, cpu: Cpu, memory: Memory) -> Figures {
        let per_gib = |seconds: f64| seconds / (bytes as f64 / f64::from(1 << 30));
        Figures(vec![
            (Measure::CpuPerGib, per_gib(cpu.total())),
            (Measure::UserPerGib, per_gib(cpu.user)),
            (Measure::SystemPerGib, per_gib(cpu.system)),
            (Measure::Rate, bytes as f64 / (self.complete - self.begun).as_secs_f64().max(1e-3)),
            (Measure::Wall, self.complete.as_secs_f64()),
            (Measure::PeakResident, memory.peak_resident as f64),
            (Measure::PeakPrivate, memory.peak_private as f64),
        ])
    }
}

/// Environment of all runs.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order, after every process.
    pub networks: Networks,
    pub tracker: Tracker,
    pub scratch: tempfile::TempDir,
    /// Client on the other side of the wire: libtorrent, or rill if libtorrent is missing.
    pub counterpart: Installed,
    pub rill: Installed,
    pub timeout: Duration,
}

impl Lab {
    /// Measures a client that transfers this content.
    pub fn transfer(&self, work: Work, client: &Installed, content: &Content) -> Result<Outcome> {
        self.clean(|place| match work {
            Work::Seed | Work::SeedRc4 => self.seed(work, client, content, place),
            _ => self.fetch(work, client, content, place),
        })
    }

    /// Measures the floor of this machine with `rill bench`: bytes received, hashed and written in a
    /// plain loop. At most 256 MiB, because a longer run loses the effect of [`PageReserve`].
    pub fn floor(&self, bytes: u64) -> Result<Outcome> {
        let bytes = bytes.min(256 << 20);
        self.clean(|place| {
            // `rill bench` writes its content and measures its own download first.
            drop(PageReserve::take(3 * bytes)?);
            let mut bench = Command::new(&self.rill.program);
            bench.args(["bench", "--json", "--rounds", "1", "--size", &bytes.to_string(), "-d"]).arg(place);
            let mut process = self.start(&mut bench, Side::Fetch, &place.join("log"))?;
            let begun = Instant::now();
            while process.ended().is_none() {
                if begun.elapsed() > self.timeout {
                    return Ok(Err(format!("not complete after {} s", self.timeout.as_secs())));
                }
                pause(POLL_MILLIS)?;
            }
            Ok(floor_of(&process.output())
                .ok_or_else(|| format!("rill bench gave none: {}", process.last_line())))
        })
    }

    /// Runs a function with an empty directory, which is removed afterwards, after all writes to the disk
    /// have finished.
    pub fn clean(&self, run: impl FnOnce(&Path) -> Result<Outcome>) -> Result<Outcome> {
        let place = self.scratch.path().join("run");
        fs::create_dir(&place).map_err(Fault::at(place.display()))?;
        let disk = File::open(&place).map_err(Fault::at(place.display()))?;
        rustix::fs::syncfs(&disk).map_err(|e| Fault::at(place.display())(e.into()))?;
        let outcome = run(&place);
        fs::remove_dir_all(&place).map_err(Fault::at(place.display()))?;
        outcome
    }

    fn fetch(&self, work: Work, client: &Installed, content: &Content, place: &Path) -> Result<Outcome> {
        self.tracker.forget();
        let _source = self.source(work, content, place)?;
        let dir = new_dir(place, "out")?;
        let state = new_dir(place, "state")?;
        let encrypted = work.is_encrypted();
        let job = Job { torrent: &content.torrent, dir: &dir, state: &state, encrypted };
        let page_reserve = PageReserve::take(content.shape.bytes)?;
        let mut process = self.start(&mut client.fetch(job)?, Side::Fetch, &place.join("log"))?;
        let transfer = match self.watch(&mut process, None, &job.mark(), page_reserve)? {
            Ok(transfer) => transfer,
            Err(reason) => return Ok(Err(reason)),
        };
        let memory = process.memory();
        drop(process);
        let same = content.compare(&dir)?;
        Ok(same.map(|()| transfer.figures(content.shape.bytes, transfer.cpu, memory)))
    }

    fn seed(&self, work: Work, client: &Installed, content: &Content, place: &Path) -> Result<Outcome> {
        self.tracker.forget();
        let encrypted = work.is_encrypted();
        let state = new_dir(place, "seeding")?;
        let job = Job { torrent: &content.torrent, dir: &content.dir, state: &state, encrypted };
        let mut seeder = self.start(&mut client.seed(job, None)?, Side::Serve, &place.join("log"))?;
        if let Err(reason) = self.wait_until_ready(&mut seeder)? {
            return Ok(Err(reason));
        }
        let dir = new_dir(place, "out")?;
        let job =
            Job { torrent: &content.torrent, dir: &dir, state: &new_dir(place, "fetching")?, encrypted };
        let page_reserve = PageReserve::take(content.shape.bytes)?;
        let before = seeder.cpu();
        let mut fetcher =
            self.start(&mut self.counterpart.fetch(job)?, Side::Fetch, &place.join("log-fetcher"))?;
        let transfer = match self.watch(&mut fetcher, Some(&mut seeder), &job.mark(), page_reserve)? {
            Ok(transfer) => transfer,
            Err(reason) => return Ok(Err(reason)),
        };
        let cpu = seeder.cpu().since(before);
        let memory = seeder.memory();
        let same = content.compare(&dir)?;
        Ok(same.map(|()| transfer.figures(content.shape.bytes, cpu, memory)))
    }

    /// Starts the seeder for the measured client and waits until it is ready.
    fn source(&self, work: Work, content: &Content, place: &Path) -> Result<Process> {
        let (state, encrypted) = (new_dir(place, "serving")?, work.is_encrypted());
        let job = Job { torrent: &content.torrent, dir: &content.dir, state: &state, encrypted };
        let addresses: Vec<Ipv4Addr> = (0..work.seeders()).map(server).collect();
        let mut command = match self.counterpart.client {
            Client::Libtorrent => self.counterpart.source(job, &addresses, work.limit()),
            _ => self.counterpart.seed(job, None)?,
        };
        let source = self.start(&mut command, Side::Serve, &place.join("log-source"))?;
        self.tracker.wait_for_seeds(addresses.len(), SEEDERS_PATIENCE)?;
        Ok(source)
    }

    pub fn start(&self, command: &mut Command, side: Side, log: &Path) -> Result<Process> {
        check_signals()?;
        Process::start(command, self.networks.handle(side)?, log)
    }

    /// Waits until a seeder has checked its content and announced itself. The inner error says why it has
    /// not.
    pub fn wait_until_ready(&self, seeder: &mut Process) -> Result<std::result::Result<(), String>> {
        let begun = Instant::now();
        let mut used = 0.0;
        let mut since = begun;
        loop {
            if let Some((status, _)) = seeder.ended() {
                return Ok(Err(format!("ended with {status} before it seeded; {}", seeder.last_line())));
            }
            let now = seeder.cpu().total();
            if now - used > IDLE_CPU {
                used = now;
                since = Instant::now();
            }
            let (all, complete) = self.tracker.count();
            let announced = complete > 0 || (all > 0 && begun.elapsed() > INCOMPLETE_PATIENCE);
            if announced && since.elapsed() > IDLE_FOR {
                return Ok(Ok(()));
            }
            if begun.elapsed() > self.timeout {
                return Ok(Err(format!("not seeding after {} s", self.timeout.as_secs())));
            }
            pause(50)?;
        }
    }

    /// Waits until the downloading program is complete. Samples the memory of the seeder if one is given,
    /// else of the downloader.
    fn watch(
        &self,
        fetcher: &mut Process,
        mut seeder: Option<&mut Process>,
        mark: &Path,
        mut page_reserve: PageReserve,
    ) -> Result<std::result::Result<Transfer, String>> {
        let start = Instant::now();
        // The counter includes earlier runs.
        let before = fetcher.received();
        let mut begun = None;
        let mut sampled = None;
        loop {
            let now = start.elapsed();
            let done = |cpu| Transfer { begun: begun.unwrap_or_default(), complete: now, cpu };
            match fetcher.ended() {
                Some((status, cpu)) if status.success() => return Ok(Ok(done(cpu))),
                Some((status, _)) => {
                    return Ok(Err(format!("ended with {status}; {}", fetcher.last_line())));
                }
                None if mark.exists() => return Ok(Ok(done(fetcher.cpu()))),
                None => {}
            }
            let received = fetcher.received().saturating_sub(before);
            if received > HANDSHAKES {
                begun = begun.or(Some(now));
                page_reserve.give(received);
            }
            if now > self.timeout {
                let reason = format!(
                    "not complete after {} s, {} MiB on the wire",
                    self.timeout.as_secs(),
                    received >> 20
                );
                return Ok(Err(reason));
            }
            if sampled.is_none_or(|at| now >= at + SAMPLE_EVERY) {
                sampled = Some(now);
                seeder.as_deref_mut().unwrap_or(fetcher).sample();
            }
            pause(POLL_MILLIS)?;
        }
    }
}

/// Parses the floor in the output of `rill bench --json`.
fn floor_of(output: &str) -> Option<Figures> {
    let all: serde_json::Value = serde_json::from_str(output.lines().next_back()?).ok()?;
    let floor = all.get("rounds")?.get(0)?.get("floor")?;
    let number = |name: &str| floor.get(name)?.as_f64();
    Some(Figures(vec![
        (Measure::CpuPerGib, number("cpu_s_per_gib")?),
        (Measure::Rate, number("mib_per_s")? * f64::from(1 << 20)),
        (Measure::Wall, number("wall_s")?),
        (Measure::PeakResident, number("peak_rss_bytes")?),
        (Measure::PeakPrivate, number("peak_private_bytes")?),
    ]))
}
