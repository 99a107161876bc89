//! The processes that the bench spawns, `rill bench-part`: the floor's receiver, the seeder, the downloader.
//!
//! Each process measures itself, because the CPU time of its threads must be read before they end. Costs
//! before the torrent is open (startup, hashing existing content) do not count.

use super::super::args;
use super::super::exit::{Exit, Failure};
use super::super::get::start_failure;
use super::super::plan::storage_mode;
use super::super::source::{self, SourceArg};
use super::super::{fault_exit, out};
use super::cost::Gauge;
use super::floor;
use crate::net::HttpOptions;
use crate::session::{AddTorrent, Config, Event, Session};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Interval of memory samples and progress reports.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Time limit of the session's end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the process that the options name.
pub(crate) fn run(options: &args::BenchPart) -> Result<Exit, Failure> {
    let end_requested = watch_stdin();
    match &options.part {
        args::Part::Floor { file, bytes } => {
            let cost = floor::receive(file, *bytes, |port| print_line(format_args!("port {port}")));
            let cost = cost.map_err(|e| Failure::os(Exit::Io, source::shown(file), &e))?;
            print_line(cost.line());
            Ok(Exit::Done)
        }
        args::Part::Seed { torrent, dir, storage } => engine(torrent, dir, *storage, None, &end_requested),
        args::Part::Get { torrent, dir, storage, port } => {
            engine(torrent, dir, *storage, Some(*port), &end_requested)
        }
    }
}

fn print_line(line: impl std::fmt::Display) {
    out::data(&format!("{line}\n"));
}

/// Returns a flag that is set when stdin closes: the bench has ended, or wants this process to end.
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

/// Seeds, or downloads from the seeder at `port`.
fn engine(
    torrent: &Path,
    dir: &Path,
    storage: args::Storage,
    port: Option<u16>,
    end_requested: &AtomicBool,
) -> Result<Exit, Failure> {
    let fetching = port.is_some();
    let config = Config {
        listen_ports: 0..=0,
        listen_on: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        storage: storage_mode(storage),
        state_dir: None,
        progress_every: POLL_INTERVAL,
        lsd: false,
        port_mapping: false,
        dht: None,
        ..Config::default()
    };
    let session = Session::start(config).map_err(start_failure)?;
    let mut request = AddTorrent::new(
        source::torrent(&SourceArg::File(torrent.into()), &HttpOptions::default())?,
        dir.to_path_buf(),
    );
    request.seed_only = !fetching;
    request.peers = port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).into_iter().collect();
    session.add(request).map_err(|e| Failure::new(Exit::Other, e.to_string()))?;

    let mut gauge = Gauge::start();
    let mut moving = false;
    loop {
        match session.next_event(POLL_INTERVAL) {
            Some(Event::Opened { .. }) => {
                gauge = Gauge::start();
                if !fetching {
                    print_line(format_args!("port {}", session.local_port()));
                }
            }
            Some(Event::Progress(progress)) if fetching => {
                if !moving && progress.downloaded == 0 {
                    // Connecting and waiting for the unchoke is not measured.
                    gauge = Gauge::start();
                }
                moving |= progress.downloaded > 0;
                print_line(format_args!("have {}", progress.have_bytes));
            }
            Some(Event::Completed { .. }) if fetching => break,
            Some(Event::Failed { fault, .. } | Event::DiskFull { fault, .. }) => {
                return Err(Failure::new(fault_exit(&fault), fault.to_string()));
            }
            Some(Event::Died { reason }) => return Err(Failure::new(Exit::Other, reason)),
            _ => {}
        }
        gauge.sample();
        if end_requested.load(Ordering::SeqCst) {
            break;
        }
    }
    print_line(gauge.read().line());
    session.stop(STOP_TIMEOUT);
    Ok(Exit::Done)
}
