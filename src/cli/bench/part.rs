//! The bench's other processes, seen from inside: the floor's receiver, the seeder, the fetcher.
//!
//! Each measures itself, because only the process itself can tell its threads apart before they end. What is
//! paid before the torrent is open (startup, hashing what is there) does not count.

use super::super::args;
use super::super::exit::{Exit, Failure};
use super::super::get::start_failure;
use super::super::plan::storage_mode;
use super::super::source::{self, SourceArg};
use super::super::{fault_exit, out};
use super::cost::Gauge;
use super::floor;
use crate::session::{AddTorrent, Config, Event, Session};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often memory is looked at and progress told.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a session may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Plays the part that the words name.
pub(crate) fn run(typed: &args::BenchPart) -> Result<Exit, Failure> {
    let told_to_end = watch_stdin();
    match &typed.part {
        args::Part::Floor { file, bytes } => {
            let cost = floor::receive(file, *bytes, |port| say(format_args!("port {port}")));
            let cost = cost.map_err(|e| Failure::os(Exit::Io, source::shown(file), &e))?;
            say(cost.line());
            Ok(Exit::Done)
        }
        args::Part::Seed { torrent, dir, storage } => engine(torrent, dir, *storage, None, &told_to_end),
        args::Part::Get { torrent, dir, storage, port } => {
            engine(torrent, dir, *storage, Some(*port), &told_to_end)
        }
    }
}

fn say(line: impl std::fmt::Display) {
    out::data(&format!("{line}\n"));
}

/// A flag that goes up when stdin closes: the bench is gone, or has asked for the end.
fn watch_stdin() -> Arc<AtomicBool> {
    let closed = Arc::new(AtomicBool::new(false));
    let flag = closed.clone();
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while matches!(std::io::stdin().read(&mut sink), Ok(n) if n > 0) {}
        flag.store(true, Ordering::SeqCst);
    });
    closed
}

/// Seeds, or fetches from the seeder at `port`.
fn engine(
    torrent: &Path,
    dir: &Path,
    storage: args::Storage,
    port: Option<u16>,
    told_to_end: &AtomicBool,
) -> Result<Exit, Failure> {
    let fetching = port.is_some();
    let config = Config {
        listen_ports: 0..=0,
        listen_on: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        storage: storage_mode(storage),
        state_dir: None,
        progress_every: LOOK_EVERY,
        lsd: false,
        dht: None,
        ..Config::default()
    };
    let session = Session::start(config).map_err(start_failure)?;
    let mut order = AddTorrent::new(source::torrent(&SourceArg::File(torrent.into()))?, dir.to_path_buf());
    order.seed_only = !fetching;
    order.peers = port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).into_iter().collect();
    session.add(order).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;

    let mut gauge = Gauge::start();
    let mut moving = false;
    loop {
        match session.next_event(LOOK_EVERY) {
            Some(Event::Opened { .. }) => {
                gauge = Gauge::start();
                if !fetching {
                    say(format_args!("port {}", session.local_port()));
                }
            }
            Some(Event::Progress(progress)) if fetching => {
                if !moving && progress.downloaded == 0 {
                    // Still connecting and waiting for the unchoke: not what is measured.
                    gauge = Gauge::start();
                }
                moving |= progress.downloaded > 0;
                say(format_args!("have {}", progress.have_bytes));
            }
            Some(Event::Completed { .. }) if fetching => break,
            Some(Event::Failed { fault, .. } | Event::DiskFull { fault, .. }) => {
                return Err(Failure::new(fault_exit(&fault), fault.to_string()));
            }
            Some(Event::Died { reason }) => return Err(Failure::new(Exit::Other, reason)),
            _ => {}
        }
        gauge.sample();
        if told_to_end.load(Ordering::SeqCst) {
            break;
        }
    }
    say(gauge.read().line());
    session.stop(STOP_WITHIN);
    Ok(Exit::Done)
}
