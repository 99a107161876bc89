//! The cost of idle connections and idle torrents.

use crate::clients::{Installed, Job, new_dir};
use crate::content::Content;
use crate::fault::{Fault, Result, pause};
use crate::figures::{Figures, Measure, Outcome};
use crate::handshakers::{Handshakers, count_answers};
use crate::networks::Side;
use crate::process::Process;
use crate::run::Lab;
use crate::sparse_torrents::SparseTorrents;
use std::time::{Duration, Instant};

/// Connections that are measured.
pub const CONNECTIONS: u32 = 1000;
/// Connections opened before the measurement, so that one-time allocations of a client do not count.
const FIRST: u32 = 50;
/// How long all connections are silent before memory is read: clients free buffers after a while.
const REST: Duration = Duration::from_secs(25);
/// Duration of the measurement.
const LOOK: Duration = Duration::from_secs(10);

/// Costs of an idle process.
struct Idle {
    private: u64,
    /// CPU seconds a second.
    cpu: f64,
}

impl Lab {
    /// Measures a client that seeds one torrent and has idle connections.
    pub fn connections(&self, client: &Installed, content: &Content) -> Result<Outcome> {
        self.clean(|place| {
            self.tracker.forget();
            let job = Job {
                torrent: &content.torrent,
                dir: &content.dir,
                state: &new_dir(place, "state")?,
                encrypted: false,
            };
            let mut command = client.seed(job, Some((FIRST + CONNECTIONS) as usize))?;
            let mut process = self.start(&mut command, Side::Serve, &place.join("log"))?;
            if let Err(reason) = self.wait_until_ready(&mut process)? {
                return Ok(Err(reason));
            }
            let first = Handshakers::connect(&self.networks, content.info_hash, 0..FIRST)?;
            rest(Duration::from_secs(1))?;
            let before = process.private_now();
            let begun = Instant::now();
            let mut handshakers =
                Handshakers::connect(&self.networks, content.info_hash, FIRST..FIRST + CONNECTIONS)?;
            let ready = begun.elapsed();
            if handshakers.len() == 0 {
                return Ok(Err(format!("takes no more than {} connections", first.len())));
            }
            Ok(idle(&mut process)?.map(|idle| {
                Figures(vec![
                    (
                        Measure::PrivateEach,
                        idle.private.saturating_sub(before) as f64 / handshakers.len() as f64,
                    ),
                    (Measure::Private, idle.private as f64),
                    (Measure::IdleCpu, idle.cpu),
                    (Measure::Ready, ready.as_secs_f64()),
                    (Measure::Held, handshakers.alive() as f64),
                ])
            }))
        })
    }

    /// Measures a client that seeds a thousand idle torrents.
    pub fn torrents(&self, client: &Installed, sparse_torrents: &SparseTorrents) -> Result<Outcome> {
        self.clean(|place| {
            self.tracker.forget();
            let state = new_dir(place, "state")?;
            if client.saves_records() {
                let mut process = self.start(
                    &mut client.seed_all(sparse_torrents, &state)?,
                    Side::Serve,
                    &place.join("log-before"),
                )?;
                let served = count_answers(&self.networks, sparse_torrents.hashes(), self.timeout)?;
                if served < sparse_torrents.list.len() || !process.interrupt(self.timeout)? {
                    return Ok(Err(format!("leaves no records; {}", process.last_line())));
                }
            }
            let mut command = client.seed_all(sparse_torrents, &state)?;
            let begun = Instant::now();
            let mut process = match self.start(&mut command, Side::Serve, &place.join("log")) {
                // The seeding program may be another than the downloading one
                // (transmission-daemon).
                Err(Fault::Wrong(reason)) => return Ok(Err(reason)),
                started => started?,
            };
            let served = count_answers(&self.networks, sparse_torrents.hashes(), self.timeout)?;
            if served == 0 {
                let reason =
                    format!("answers for none after {} s; {}", self.timeout.as_secs(), process.last_line());
                return Ok(Err(reason));
            }
            let ready = (served == sparse_torrents.list.len())
                .then(|| (Measure::Ready, begun.elapsed().as_secs_f64()));
            Ok(idle(&mut process)?.map(|idle| {
                let held = [
                    (Measure::Private, idle.private as f64),
                    (Measure::IdleCpu, idle.cpu),
                    (Measure::Held, served as f64),
                ];
                Figures(ready.into_iter().chain(held).collect())
            }))
        })
    }
}

/// Measures a process while it is idle. The inner error says why it ended.
fn idle(process: &mut Process) -> Result<std::result::Result<Idle, String>> {
    rest(REST)?;
    let before = process.cpu_now();
    let begun = Instant::now();
    rest(LOOK)?;
    let cpu = (process.cpu_now() - before).max(0.0) / begun.elapsed().as_secs_f64();
    match process.ended() {
        None => Ok(Ok(Idle { private: process.private_now(), cpu })),
        Some((status, _)) => Ok(Err(format!("ended with {status}; {}", process.last_line()))),
    }
}

fn rest(time: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        pause(20)?;
    }
    Ok(())
}
