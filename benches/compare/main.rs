//! rill beside the other BitTorrent clients of this machine, in one run, so that every claim can be repeated.
//!
//! ```text
//! cargo bench --bench compare -- --size 256 --rounds 3 --plot compare.svg
//! ```
//!
//! Needs root, because both sides of the wire get a network of their own. Clients take turns within every
//! round, so what drifts with the hour hits all alike. Every download is compared byte for byte; one that is
//! wrong, or late, is shown as failed and enters no median. Figures are those of the measured client alone:
//! the other side is libtorrent (or rill where that is missing), the same for every client.
//!
//! What the figures hold and what not: a client that ends when it is complete is measured to its end, one
//! that does not (Transmission, rtorrent) to its own word that it is complete. libtorrent runs inside Python,
//! whose start is in its CPU and whose interpreter is in its memory. When a client seeds, its CPU is that of
//! the transfer, its peak memory that of its life.
//!
//! Two works move nothing: a thousand connections that keep still, and a thousand idle torrents.
//!
//! ```text
//! cargo bench --bench compare -- --work connections,torrents --rounds 5
//! ```

mod callers;
mod clients;
mod content;
mod fault;
mod figures;
mod hold;
mod holes;
mod keep;
mod networks;
mod options;
mod plot;
mod process;
mod report;
mod run;
mod tracker;
mod warm;
mod work;

use clap::{Parser, ValueEnum};
use clients::{Client, Installed};
use content::Content;
use fault::{Fault, Result};
use figures::Outcome;
use holes::Holes;
use networks::Networks;
use options::Options;
use report::{Run, Setting};
use run::Lab;
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

/// Help goes to stdout; anything else is one sentence on stderr.
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
        // Apart from the lines of progress, which may go elsewhere.
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

/// What a client does in its turn.
type Turn<'a> = Box<dyn Fn(&Installed) -> Result<Outcome> + 'a>;

/// All rounds of one work.
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
            let holes = Holes::make(place.path())?;
            Box::new(move |client| lab.torrents(client, &holes))
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
        let mut note = |who: String, outcome| {
            let run = Run { work, round, who, outcome };
            eprintln!("{}", run.line(options.rounds));
            outputs.run(&run)?;
            runs.push(run);
            Ok(())
        };
        for client in clients {
            note(client.name.clone(), turn(client)?)?;
        }
        if work == Work::Download {
            note("floor".to_owned(), lab.floor(work.shape(options.size).bytes)?)?;
        }
    }
    Ok(())
}

/// The works that were asked for and can be done.
fn works(options: &Options, libtorrent: bool) -> Vec<Work> {
    let mut works: Vec<Work> = Vec::new();
    for work in &options.work {
        if !works.contains(work) {
            works.push(*work);
        }
    }
    if !libtorrent {
        eprintln!("libtorrent for Python is not here, so rill is on the other side of the wire");
        if works.contains(&Work::Many) {
            eprintln!("skipped: many (its seeders need libtorrent, which gives each an address of its own)");
        }
        works.retain(|work| *work != Work::Many);
    }
    works
}

/// The other clients that were asked for and are here; says which are not.
fn others(options: &Options) -> Vec<Installed> {
    let asked = if options.against.is_empty() { Client::value_variants() } else { &options.against };
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for client in asked {
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

/// What was asked for, or what cargo has built: it lies two directories above its benches.
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

/// A directory to work in, if there is room.
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
    // The content, what is fetched, and what `rill bench` needs besides.
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

/// A new file at this path, if there is one.
fn create(path: Option<&Path>) -> Result<Option<(File, &Path)>> {
    let Some(path) = path else { return Ok(None) };
    let file = File::create(path).map_err(Fault::at(format_args!("cannot write {}", path.display())))?;
    Ok(Some((file, path)))
}

/// The files that were asked for; opened before anything is measured, so that nothing is measured in vain.
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
