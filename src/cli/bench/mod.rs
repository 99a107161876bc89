//! `rill bench`: this machine's own figures, without network and without arguments.
//!
//! A round is: the floor, then one process that seeds and one that fetches from it over loopback, both this
//! very program with the engine that `get` and `seed` use. What was fetched is compared byte by byte. The
//! work directory goes away however the bench ends.
//!
//! ```text
//!   bench ──spawns──► part floor   receive, write, SHA-1: what no client can undercut
//!         ──spawns──► part seed  ◄──loopback──  part get ◄──spawns── bench
//! ```

pub(super) mod cost;
mod floor;
mod part;
mod process;
mod table;
mod workplace;

pub(crate) use part::run as run_part;

use super::args;
use super::exit::{Exit, Failure, reason};
use super::out::{self, Terminal};
use super::plan::storage_mode;
use super::progress::{DisplayPhase, Glyphs, Row};
use super::signals::Stop;
use cost::Cost;
use process::{BenchProcess, Told};
use std::time::{Duration, Instant};
use table::{Figures, Setting};
use workplace::Workplace;

/// Bytes a piece: what torrents of this size usually have.
const PIECE_BYTES: u64 = 1 << 20;
/// The least that says anything.
const LEAST_BYTES: u64 = 1 << 20;
/// A part that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does it.
pub(crate) fn run(typed: &args::Bench) -> Result<Exit, Failure> {
    if typed.size < LEAST_BYTES || typed.rounds == 0 {
        return Err(Failure::new(Exit::Option, "a bench needs at least 1M and one round"));
    }
    super::log::start(0, false);
    let stop =
        Stop::on_signals(Exit::Stopped).map_err(|e| Failure::os(Exit::Other, "cannot catch signals", &e))?;
    let mut show = TablePrinter::new(typed.json);
    let mut bench = BenchRun { typed, stop: &stop, show: &mut show };
    match bench.go() {
        Ok(text) => {
            show.clear();
            out::data(&text);
            Ok(Exit::Done)
        }
        Err(failure) => {
            show.clear();
            if stop.asked() { Ok(Exit::Stopped) } else { Err(failure) }
        }
    }
}

struct BenchRun<'a> {
    typed: &'a args::Bench,
    stop: &'a Stop,
    show: &'a mut TablePrinter,
}

impl BenchRun<'_> {
    fn go(&mut self) -> Result<String, Failure> {
        let size = self.typed.size;
        let place = Workplace::make(self.typed.dir.as_deref(), size)?;
        self.show.step("making content", 0, size);
        let torrent = place.fill(size, PIECE_BYTES, |done| {
            self.show.step("making content", done, size);
            !self.stop.asked()
        })?;
        let mut rounds = Vec::new();
        for number in 1..=self.typed.rounds {
            let floor = self.floor(&place)?;
            let (download, upload) = self.transfer(&place, &torrent, number)?;
            rounds.push(Figures { floor, download, upload });
        }
        let setting = Setting {
            bytes: size,
            piece_bytes: PIECE_BYTES,
            storage: format!("{:?}", storage_mode(self.typed.storage)).to_lowercase(),
            filesystem: place.filesystem().to_string(),
            dir: super::source::shown(place.parent()),
        };
        Ok(if self.typed.json {
            table::object(&setting, &rounds) + "\n"
        } else {
            table::text(&setting, &rounds)
        })
    }

    /// What receiving, writing and hashing cost at the very least.
    fn floor(&mut self, place: &Workplace) -> Result<Cost, Failure> {
        let size = self.typed.size;
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

    /// One torrent through two engines; what it cost the fetching one and the serving one.
    fn transfer(&mut self, place: &Workplace, torrent: &str, number: u32) -> Result<(Cost, Cost), Failure> {
        let storage = format!("{:?}", storage_mode(self.typed.storage)).to_lowercase();
        let step = format!("round {number} of {}", self.typed.rounds);
        self.show.step(&step, 0, self.typed.size);
        let mut seeder = BenchProcess::spawn(&["seed", torrent, &place.path("seed"), &storage])?;
        let port = self.port(&mut seeder)?;
        let mut getter =
            BenchProcess::spawn(&["get", torrent, &place.path("get"), &storage, &port.to_string()])?;
        let download = self.cost(&mut getter, &step)?;
        getter.end();
        seeder.ask();
        let mut upload = self.cost(&mut seeder, &step)?;
        seeder.end();
        // Both ran for the same transfer; only the getter knows when it began and ended.
        upload.wall = download.wall;
        self.show.step("comparing", 0, self.typed.size);
        place.compare("seed/payload", "get/payload")?;
        place.remove("get");
        Ok((download, upload))
    }

    fn port(&mut self, part: &mut BenchProcess) -> Result<u16, Failure> {
        self.until(part, |told, _| if let Told::Port(port) = told { Some(port) } else { None })
    }

    fn cost(&mut self, part: &mut BenchProcess, step: &str) -> Result<Cost, Failure> {
        let size = self.typed.size;
        self.until(part, |told, show| match told {
            Told::Cost(cost) => Some(cost),
            Told::Have(bytes) => {
                show.step(step, bytes, size);
                None
            }
            Told::Port(_) => None,
        })
    }

    /// Listens to a part until `wanted` has what it wants.
    fn until<T>(
        &mut self,
        part: &mut BenchProcess,
        mut wanted: impl FnMut(Told, &mut TablePrinter) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut heard = Instant::now();
        loop {
            if self.stop.asked() {
                return Err(Failure::new(Exit::Stopped, "stopped"));
            }
            match part.listen(Duration::from_millis(100)) {
                Ok(Some(told)) => {
                    heard = Instant::now();
                    if let Some(found) = wanted(told, self.show) {
                        return Ok(found);
                    }
                }
                Ok(None) if heard.elapsed() < PATIENCE => {}
                Ok(None) => {
                    return Err(Failure::new(
                        Exit::TimedOut,
                        format!("a part of the bench said nothing for {PATIENCE:?}"),
                    ));
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// The live line: which step, and how far.
struct TablePrinter {
    live: bool,
    glyphs: Glyphs,
    drawn: Option<Instant>,
    step: String,
}

impl TablePrinter {
    fn new(json: bool) -> TablePrinter {
        let terminal = Terminal::of_stdout();
        TablePrinter {
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
        (self.drawn, self.step) = (Some(Instant::now()), step.to_string());
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
