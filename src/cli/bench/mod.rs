//! `rill bench`: measures transfers on this machine, over loopback.
//!
//! One round measures the floor, then a seeder and a downloader: two processes of this program with the
//! engine that `get` and `seed` use. The downloaded content is compared byte by byte. The work directory is
//! removed at the end, also after an error.
//!
//! ```text
//!   bench ──spawns──► part floor   receive, hash, write: a lower bound for every client
//!         ──spawns──► part seed  ◄──loopback──  part get ◄──spawns── bench
//! ```

pub(super) mod cost;
mod floor;
mod part;
mod process;
mod table;
mod work_dir;

pub(crate) use part::run as run_part;

use super::args;
use super::exit::{Exit, Failure, reason};
use super::out::{self, Terminal};
use super::plan::storage_mode;
use super::progress::{DisplayPhase, Glyphs, Row};
use super::signals::StopFlag;
use cost::Cost;
use process::{BenchProcess, PartMessage};
use std::time::{Duration, Instant};
use table::{BenchSetup, Figures};
use work_dir::WorkDir;

/// Piece length in bytes, usual for torrents of this size.
const PIECE_BYTES: u64 = 1 << 20;
/// Smallest content, in bytes, that gives a useful figure.
const LEAST_BYTES: u64 = 1 << 20;
/// A process that prints nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `rill bench`.
pub(crate) fn run(options: &args::Bench) -> Result<Exit, Failure> {
    if options.size < LEAST_BYTES || options.rounds == 0 {
        return Err(Failure::new(Exit::Option, "a bench needs at least 1M and one round"));
    }
    super::log::start(0, false);
    let stop = StopFlag::on_signals(Exit::Stopped)
        .map_err(|e| Failure::os(Exit::Other, "cannot catch signals", &e))?;
    let mut show = BenchProgress::new(options.json);
    let mut bench = BenchRun { options, stop: &stop, show: &mut show };
    match bench.run() {
        Ok(text) => {
            show.clear();
            out::data(&text);
            Ok(Exit::Done)
        }
        Err(failure) => {
            show.clear();
            if stop.requested() { Ok(Exit::Stopped) } else { Err(failure) }
        }
    }
}

struct BenchRun<'a> {
    options: &'a args::Bench,
    stop: &'a StopFlag,
    show: &'a mut BenchProgress,
}

impl BenchRun<'_> {
    fn run(&mut self) -> Result<String, Failure> {
        let size = self.options.size;
        let place = WorkDir::make(self.options.dir.as_deref(), size)?;
        self.show.step("making content", 0, size);
        let torrent = place.fill(size, PIECE_BYTES, |done| {
            self.show.step("making content", done, size);
            !self.stop.requested()
        })?;
        let mut rounds = Vec::new();
        for number in 1..=self.options.rounds {
            let floor = self.floor(&place)?;
            let (download, upload) = self.transfer(&place, &torrent, number)?;
            rounds.push(Figures { floor, download, upload });
        }
        let setting = BenchSetup {
            bytes: size,
            piece_bytes: PIECE_BYTES,
            storage: format!("{:?}", storage_mode(self.options.storage)).to_lowercase(),
            filesystem: place.filesystem().to_string(),
            dir: super::source::shown(place.parent()),
        };
        Ok(if self.options.json {
            table::object(&setting, &rounds) + "\n"
        } else {
            table::text(&setting, &rounds)
        })
    }

    /// Measures the floor.
    fn floor(&mut self, place: &WorkDir) -> Result<Cost, Failure> {
        let size = self.options.size;
        self.show.step("measuring the floor", 0, size);
        let mut part = BenchProcess::spawn(&["floor", &place.path("floor"), &size.to_string()])?;
        let port = self.port(&mut part)?;
        let sender = std::thread::spawn(move || floor::send(port, size));
        let cost = self.cost(&mut part, "measuring the floor")?;
        let sent = sender.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
        sent.map_err(|e| Failure::new(Exit::Network, format!("cannot send over loopback: {}", reason(&e))))?;
        part.end();
        place.remove("floor");
        Ok(cost)
    }

    /// Transfers the torrent once. Returns the costs of the downloader and of the seeder.
    fn transfer(&mut self, place: &WorkDir, torrent: &str, number: u32) -> Result<(Cost, Cost), Failure> {
        let storage = format!("{:?}", storage_mode(self.options.storage)).to_lowercase();
        let step = format!("round {number} of {}", self.options.rounds);
        self.show.step(&step, 0, self.options.size);
        let mut seeder = BenchProcess::spawn(&["seed", torrent, &place.path("seed"), &storage])?;
        let port = self.port(&mut seeder)?;
        let mut getter =
            BenchProcess::spawn(&["get", torrent, &place.path("get"), &storage, &port.to_string()])?;
        let download = self.cost(&mut getter, &step)?;
        getter.end();
        seeder.request_end();
        let mut upload = self.cost(&mut seeder, &step)?;
        seeder.end();
        // Only the downloader knows when the transfer began and ended.
        upload.wall = download.wall;
        self.show.step("comparing", 0, self.options.size);
        place.compare("seed/payload", "get/payload")?;
        place.remove("get");
        Ok((download, upload))
    }

    fn port(&mut self, part: &mut BenchProcess) -> Result<u16, Failure> {
        self.wait_for(
            part,
            |message, _| if let PartMessage::Port(port) = message { Some(port) } else { None },
        )
    }

    fn cost(&mut self, part: &mut BenchProcess, step: &str) -> Result<Cost, Failure> {
        let size = self.options.size;
        self.wait_for(part, |message, show| match message {
            PartMessage::Cost(cost) => Some(cost),
            PartMessage::Have(bytes) => {
                show.step(step, bytes, size);
                None
            }
            PartMessage::Port(_) => None,
        })
    }

    /// Reads messages of a process until `wanted` returns a value for one.
    fn wait_for<T>(
        &mut self,
        part: &mut BenchProcess,
        mut wanted: impl FnMut(PartMessage, &mut BenchProgress) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut last_message_at = Instant::now();
        loop {
            if self.stop.requested() {
                return Err(Failure::new(Exit::Stopped, "stopped"));
            }
            match part.next_message(Duration::from_millis(100)) {
                Ok(Some(message)) => {
                    last_message_at = Instant::now();
                    if let Some(found) = wanted(message, self.show) {
                        return Ok(found);
                    }
                }
                Ok(None) if last_message_at.elapsed() < PATIENCE => {}
                Ok(None) => {
                    return Err(Failure::new(
                        Exit::TimedOut,
                        format!("a process of the bench printed nothing for {PATIENCE:?}"),
                    ));
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// Live line with the current step and its progress bar.
struct BenchProgress {
    live: bool,
    glyphs: Glyphs,
    drawn: Option<Instant>,
    step: String,
}

impl BenchProgress {
    fn new(json: bool) -> BenchProgress {
        let terminal = Terminal::of_stdout();
        BenchProgress {
            live: terminal.live && !json,
            glyphs: Glyphs::new(terminal.utf8),
            drawn: None,
            step: String::new(),
        }
    }

    fn step(&mut self, step: &str, done: u64, of: u64) {
        let soon = self.drawn.is_some_and(|at| at.elapsed() < Duration::from_millis(100));
        if !self.live || (soon && step == self.step) {
            return;
        }
        self.drawn = Some(Instant::now());
        self.step = step.to_string();
        let row = Row {
            name: format!("bench: {step}"),
            phase: DisplayPhase::Downloading,
            have_bytes: done,
            wanted_bytes: of,
            ..Row::default()
        };
        let width = Terminal::extent().0.saturating_sub(1);
        let [bar, _] = row.live(width, self.glyphs);
        out::redraw(vec![bar]);
    }

    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            out::redraw(Vec::new());
        }
    }
}
