//! One run: a client on one side of the wire, its counterpart on the other, and the figures of the client
//! alone.

use crate::clients::{Client, Installed, Job, new_dir};
use crate::content::Content;
use crate::fault::{Fault, Result, go_on, pause};
use crate::figures::{Figures, Measure, Outcome};
use crate::networks::{Networks, Side, server};
use crate::process::{Cpu, Memory, Process};
use crate::tracker::Tracker;
use crate::warm::Warm;
use crate::work::Work;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How often it is looked whether the client is complete.
const LOOK_MILLIS: u64 = 2;
/// How often memory is sampled.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
/// So many bytes over the wire are more than 40 handshakes and bitfields: payload has begun.
const HANDSHAKES: u64 = 64 << 10;
/// How long our own seeders may take to announce themselves.
const SEEDERS_PATIENCE: Duration = Duration::from_secs(60);
/// A seeder is ready when it has been idle for so long …
const IDLE_FOR: Duration = Duration::from_millis(500);
/// … which is when it has used no more CPU than this, in seconds.
const IDLE_CPU: f64 = 0.021;
/// How long one is waited for that has announced itself, but not as complete.
const INCOMPLETE_PATIENCE: Duration = Duration::from_secs(15);

/// A transfer that has come to its end.
struct Transfer {
    begun: Duration,
    complete: Duration,
    /// CPU of the fetching program.
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

/// Everything that runs share.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order, after every process.
    pub networks: Networks,
    pub tracker: Tracker,
    pub scratch: tempfile::TempDir,
    /// Serves and fetches where another client is measured: libtorrent, or rill if that is missing.
    pub counterpart: Installed,
    pub rill: Installed,
    pub timeout: Duration,
}

impl Lab {
    /// A client's turn at moving this content.
    pub fn transfer(&self, work: Work, client: &Installed, content: &Content) -> Result<Outcome> {
        self.clean(|place| match work {
            Work::Seed => self.seed(client, content, place),
            _ => self.fetch(work, client, content, place),
        })
    }

    /// The floor of this machine, as `rill bench` measures it: bytes received, hashed and written in a plain
    /// loop. 256 MiB at most, because more takes longer than given memory stays as it was.
    pub fn floor(&self, bytes: u64) -> Result<Outcome> {
        let bytes = bytes.min(256 << 20);
        self.clean(|place| {
            // Its content and its own download come first.
            drop(Warm::take(3 * bytes)?);
            let mut bench = Command::new(&self.rill.program);
            bench.args(["bench", "--json", "--rounds", "1", "--size", &bytes.to_string(), "-d"]).arg(place);
            let mut process = self.start(&mut bench, Side::Fetch, &place.join("log"))?;
            let begun = Instant::now();
            while process.ended().is_none() {
                if begun.elapsed() > self.timeout {
                    return Ok(Err(format!("not complete after {} s", self.timeout.as_secs())));
                }
                pause(LOOK_MILLIS)?;
            }
            Ok(floor_of(&process.words())
                .ok_or_else(|| format!("rill bench gave none: {}", process.last_words())))
        })
    }

    /// Runs something in an empty directory that is gone afterwards, on a disk that has nothing left to do.
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
        let job = Job { torrent: &content.torrent, dir: &dir, state: &state };
        let warm = Warm::take(content.shape.bytes)?;
        let mut process = self.start(&mut client.fetch(job)?, Side::Fetch, &place.join("log"))?;
        let transfer = match self.watch(&mut process, None, &job.mark(), warm)? {
            Ok(transfer) => transfer,
            Err(reason) => return Ok(Err(reason)),
        };
        let memory = process.memory();
        drop(process);
        let same = content.compare(&dir)?;
        Ok(same.map(|()| transfer.figures(content.shape.bytes, transfer.cpu, memory)))
    }

    fn seed(&self, client: &Installed, content: &Content, place: &Path) -> Result<Outcome> {
        self.tracker.forget();
        let job = Job { torrent: &content.torrent, dir: &content.dir, state: &new_dir(place, "seeding")? };
        let mut seeder = self.start(&mut client.seed(job, None)?, Side::Serve, &place.join("log"))?;
        if let Err(reason) = self.wait_until_ready(&mut seeder)? {
            return Ok(Err(reason));
        }
        let dir = new_dir(place, "out")?;
        let job = Job { torrent: &content.torrent, dir: &dir, state: &new_dir(place, "fetching")? };
        let warm = Warm::take(content.shape.bytes)?;
        let before = seeder.cpu();
        let mut fetcher =
            self.start(&mut self.counterpart.fetch(job)?, Side::Fetch, &place.join("log-fetcher"))?;
        let transfer = match self.watch(&mut fetcher, Some(&mut seeder), &job.mark(), warm)? {
            Ok(transfer) => transfer,
            Err(reason) => return Ok(Err(reason)),
        };
        let cpu = seeder.cpu().since(before);
        let memory = seeder.memory();
        let same = content.compare(&dir)?;
        Ok(same.map(|()| transfer.figures(content.shape.bytes, cpu, memory)))
    }

    /// Who serves to the client that is measured; there when this returns.
    fn source(&self, work: Work, content: &Content, place: &Path) -> Result<Process> {
        let job = Job { torrent: &content.torrent, dir: &content.dir, state: &new_dir(place, "serving")? };
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
        go_on()?;
        Process::start(command, self.networks.handle(side)?, log)
    }

    /// Waits until a seeder has checked what it has and announced itself; the inner failure says why it has
    /// not.
    pub fn wait_until_ready(&self, seeder: &mut Process) -> Result<std::result::Result<(), String>> {
        let begun = Instant::now();
        let mut used = 0.0;
        let mut since = begun;
        loop {
            if let Some((status, _)) = seeder.ended() {
                return Ok(Err(format!("ended with {status} before it seeded; {}", seeder.last_words())));
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

    /// Waits until the fetching program is complete; samples the memory of the seeder if there is one, else
    /// of the fetcher.
    fn watch(
        &self,
        fetcher: &mut Process,
        mut seeder: Option<&mut Process>,
        mark: &Path,
        mut warm: Warm,
    ) -> Result<std::result::Result<Transfer, String>> {
        let start = Instant::now();
        // The wire has carried earlier runs.
        let before = fetcher.received();
        let mut begun = None;
        let mut sampled = None;
        loop {
            let now = start.elapsed();
            let done = |cpu| Transfer { begun: begun.unwrap_or_default(), complete: now, cpu };
            match fetcher.ended() {
                Some((status, cpu)) if status.success() => return Ok(Ok(done(cpu))),
                Some((status, _)) => {
                    return Ok(Err(format!("ended with {status}; {}", fetcher.last_words())));
                }
                None if mark.exists() => return Ok(Ok(done(fetcher.cpu()))),
                None => {}
            }
            let received = fetcher.received().saturating_sub(before);
            if received > HANDSHAKES {
                begun = begun.or(Some(now));
                warm.give(received);
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
            pause(LOOK_MILLIS)?;
        }
    }
}

/// The floor in what `rill bench --json` printed.
fn floor_of(words: &str) -> Option<Figures> {
    let all: serde_json::Value = serde_json::from_str(words.lines().next_back()?).ok()?;
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
