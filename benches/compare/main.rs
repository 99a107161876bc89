//! Compares rill with the other BitTorrent clients on this machine in one run.
//!
//! ```text
//! cargo bench --bench compare -- --size 256 --rounds 3 --plot compare.svg
//! ```
//! Needs root, because each side of the wire has its own network namespace. Clients take turns within every
//! round, so that slow changes of the machine affect all of them. Every download is compared byte by byte; a
//! wrong or late one is shown as failed and is in no median. Figures are those of the measured client alone:
//! the other side is libtorrent (or rill if libtorrent is missing), the same for every client.
//!
//! A client that ends when it is complete is measured to its end; one that does not (Transmission, rtorrent)
//! is measured until it reports completion. libtorrent runs in Python: the start of the interpreter is part
//! of its CPU time, and the interpreter is part of its memory. The CPU time of a seeding client is that of
//! the transfer, its peak memory that of the whole process.
//!
//! Two works transfer nothing: a thousand idle connections, and a thousand idle torrents.
//!
//! ```text
//! cargo bench --bench compare -- --work connections,torrents --rounds 5
//! ```

mod clients;
mod content;
mod fault;
mod figures;
mod handshakers;
mod idle;
mod idle_torrents;
mod networks;
mod options;
mod page_cache;
mod plot;
mod process;
mod report;
mod run;
mod sparse_torrents;
mod tracker;
mod work;

use clap::{Parser, ValueEnum};
use clients::{Client, Installed};
use content::Content;
use fault::{Fault, Result};
use figures::{Figures, Measure, Outcome};
use networks::Networks;
use options::Options;
use report::{Run, Setting};
use rill::wire::Rc4;
use run::Lab;
use rustix::time::{ClockId, clock_gettime};
use sparse_torrents::SparseTorrents;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracker::Tracker;
use work::Work;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return refuse(&error),
    };
    match compare(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault::Stopped) => {
            eprintln!("compare: stopped");
            ExitCode::from(130)
        }
        Err(Fault::Wrong(sentence)) => {
            eprintln!("compare: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Prints help on stdout, and errors of the parser as one line on stderr.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if !error.use_stderr() {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    let lines = text.trim_start_matches("error: ").lines().map(str::trim).take_while(|line| !line.is_empty());
    eprintln!("compare: {} (see --help)", lines.collect::<Vec<_>>().join(" "));
    ExitCode::from(2)
}

fn compare(options: &Options) -> Result<()> {
    fault::watch_signals()?;
    let rill = Installed::rill(&rill_path(options)?)?;
    if !rustix::process::geteuid().is_root() {
        return Err(Fault::Wrong("the networks that it makes need root".to_owned()));
    }
    let mut clients = vec![rill.clone()];
    for program in &options.beside {
        clients.push(Installed::another_rill(program)?);
    }
    if options.beside.is_empty() || !options.against.is_empty() {
        clients.extend(others(options));
    }
    let libtorrent = clients
        .iter()
        .find(|c| c.client == Client::Libtorrent)
        .cloned()
        .or_else(|| Installed::find(Client::Libtorrent));
    let works = works(options, libtorrent.is_some());
    let mut outputs = Outputs::open(options)?;
    let networks = Networks::new()?;
    let tracker = Tracker::start(&networks)?;
    let scratch = scratch(options)?;
    let counterpart = libtorrent.unwrap_or_else(|| rill.clone());
    let setting = Setting::now(&clients, scratch.path());
    let lab = Lab { networks, tracker, scratch, counterpart, rill, timeout: options.timeout };
    let mut runs = Vec::new();
    for work in &works {
        measure(&lab, *work, &clients, options, &mut runs, &mut outputs)?;
        // Tables go to stdout, lines of progress to stderr.
        eprintln!();
        println!("{}; {}", work.describe(options.size), rounds(options.rounds));
        println!("\n{}", report::table(&runs, *work));
    }
    println!("{}The other side of the wire: {}", setting.text(), lab.counterpart.version);
    outputs.plot(&plot::svg(&runs, &works, options.size, &setting))
}

fn rounds(rounds: u32) -> String {
    if rounds == 1 { "1 round".to_owned() } else { format!("medians of {rounds} rounds") }
}

/// Measures a client once.
type Turn<'a> = Box<dyn Fn(&Installed) -> Result<Outcome> + 'a>;

/// Runs all rounds of one work.
fn measure(
    lab: &Lab,
    work: Work,
    clients: &[Installed],
    options: &Options,
    runs: &mut Vec<Run>,
    outputs: &mut Outputs,
) -> Result<()> {
    let place = tempfile::tempdir_in(lab.scratch.path()).map_err(Fault::at(lab.scratch.path().display()))?;
    let make = || Content::make(place.path(), work.shape(options.size), &lab.rill.program);
    let turn: Turn<'_> = match work {
        Work::Torrents => {
            let sparse_torrents = SparseTorrents::make(place.path())?;
            Box::new(move |client| lab.torrents(client, &sparse_torrents))
        }
        Work::Connections => {
            let content = make()?;
            Box::new(move |client| lab.connections(client, &content))
        }
        _ => {
            let content = make()?;
            Box::new(move |client| lab.transfer(work, client, &content))
        }
    };
    for round in 1..=options.rounds {
        let mut note = |client: String, outcome| {
            let run = Run { work, round, client, outcome };
            eprintln!("{}", run.line(options.rounds));
            outputs.run(&run)?;
            runs.push(run);
            Ok(())
        };
        // rqbit has no encryption.
        for client in clients.iter().filter(|c| !work.is_encrypted() || c.client != Client::Rqbit) {
            note(client.name.clone(), turn(client)?)?;
        }
        if work == Work::Download {
            note("floor".to_owned(), lab.floor(work.shape(options.size).bytes)?)?;
        }
        if work.is_encrypted() {
            note("rc4 alone".to_owned(), Ok(rc4_alone(work.shape(options.size).bytes)))?;
        }
    }
    Ok(())
}

/// Measures RC4 from one buffer of a block into another, without a transfer.
fn rc4_alone(bytes: u64) -> Figures {
    const BLOCK: usize = 16 << 10;
    let (from, mut to) = (vec![0x5a; BLOCK], vec![0; BLOCK]);
    let mut cipher = Rc4::new(&[7; 20]);
    let used = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let before = used();
    for _ in 0..bytes / BLOCK as u64 {
        cipher.apply_to(&from, &mut to);
        std::hint::black_box(&mut to);
    }
    let seconds = used() - before;
    let (gib, rate) = (bytes as f64 / f64::from(1 << 30), bytes as f64 / seconds);
    Figures(vec![(Measure::CpuPerGib, seconds / gib), (Measure::Rate, rate)])
}

/// Returns the requested works that are possible on this machine.
fn works(options: &Options, libtorrent: bool) -> Vec<Work> {
    let mut works: Vec<Work> = Vec::new();
    for work in &options.work {
        if !works.contains(work) {
            works.push(*work);
        }
    }
    if !libtorrent {
        eprintln!("libtorrent for Python is not installed, so rill is on the other side of the wire");
        if works.contains(&Work::Many) {
            eprintln!("skipped: many (its seeders need libtorrent, which can give each its own address)");
        }
        works.retain(|work| *work != Work::Many);
    }
    works
}

/// Returns the other requested clients that are installed; prints the missing ones.
fn others(options: &Options) -> Vec<Installed> {
    let signalled = if options.against.is_empty() { Client::value_variants() } else { &options.against };
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for client in signalled {
        match Installed::find(*client) {
            Some(installed) => found.push(installed),
            None => missing.push(client.to_string()),
        }
    }
    if !missing.is_empty() {
        eprintln!("not installed: {}", missing.join(", "));
    }
    found
}

/// Returns the requested rill, or the one that cargo built, which is two directories above its benches.
fn rill_path(options: &Options) -> Result<PathBuf> {
    if let Some(path) = &options.rill {
        return path.canonicalize().map_err(Fault::at(format_args!("no rill at {}", path.display())));
    }
    let me = std::env::current_exe().map_err(Fault::at("cannot find this program itself"))?;
    let path = me.parent().and_then(Path::parent).map(|dir| dir.join("rill")).filter(|path| path.is_file());
    path.ok_or_else(|| {
        Fault::Wrong(
            "no rill beside this bench: build it with cargo build --release, or name one with --rill".into(),
        )
    })
}

/// Creates the work directory. Fails if there is too little space.
fn scratch(options: &Options) -> Result<tempfile::TempDir> {
    let usual = || {
        std::env::var_os("TMPDIR")
            .map(PathBuf::from)
            .into_iter()
            .chain(["/var/tmp".into()])
            .find(|dir| dir.is_dir())
    };
    let dir = options.dir.clone().or_else(usual).unwrap_or_else(|| "/tmp".into());
    let room = rustix::fs::statvfs(&dir).map_err(|e| Fault::at(dir.display())(e.into()))?;
    // The content, its download, and the files of `rill bench`.
    let needed = 3 * options.size + 64;
    if (room.f_bavail * room.f_frsize) >> 20 < needed {
        return Err(Fault::Wrong(format!(
            "{} has no room for {needed} MiB; --dir names another directory",
            dir.display()
        )));
    }
    let dir = dir.canonicalize().map_err(Fault::at(dir.display()))?;
    tempfile::Builder::new().prefix("rill-compare-").tempdir_in(&dir).map_err(Fault::at(dir.display()))
}

/// Creates a file at this path, if one is given.
fn create(path: Option<&Path>) -> Result<Option<(File, &Path)>> {
    let Some(path) = path else { return Ok(None) };
    let file = File::create(path).map_err(Fault::at(format_args!("cannot write {}", path.display())))?;
    Ok(Some((file, path)))
}

/// The output files. They are created before the first measurement, so that an error is found early.
struct Outputs<'a> {
    json: Option<(File, &'a Path)>,
    plot: Option<(File, &'a Path)>,
}

impl Outputs<'_> {
    fn open(options: &Options) -> Result<Outputs<'_>> {
        Ok(Outputs { json: create(options.json.as_deref())?, plot: create(options.plot.as_deref())? })
    }

    fn run(&mut self, run: &Run) -> Result<()> {
        let Some((file, path)) = &mut self.json else { return Ok(()) };
        writeln!(file, "{}", run.json()).map_err(Fault::at(path.display()))
    }

    fn plot(&mut self, svg: &str) -> Result<()> {
        let Some((file, path)) = &mut self.plot else { return Ok(()) };
        file.write_all(svg.as_bytes()).map_err(Fault::at(path.display()))
    }
}
