//! What it costs to hold much and do nothing: idle connections, idle torrents.

use crate::callers::{Callers, answers_for};
use crate::clients::{Installed, Job, new_dir};
use crate::content::Content;
use crate::fault::{Fault, Result, pause};
use crate::figures::{Figures, Measure, Outcome};
use crate::holes::Holes;
use crate::networks::Side;
use crate::process::Process;
use crate::run::Lab;
use std::time::{Duration, Instant};

/// Connections that are measured …
pub const CONNECTIONS: u32 = 1000;
/// … after these, with which everything comes that a client has but once.
const FIRST: u32 = 50;
/// How long all connections are silent before memory is read: clients free buffers after a while.
const REST: Duration = Duration::from_secs(25);
/// How long it is looked.
const LOOK: Duration = Duration::from_secs(10);

/// A process that does nothing.
struct Idle {
    private: u64,
    /// CPU seconds a second.
    cpu: f64,
}

impl Lab {
    /// A client's turn at holding connections to the one torrent that it seeds.
    pub fn connections(&self, client: &Installed, content: &Content) -> Result<Outcome> {
        self.clean(|place| {
            self.tracker.forget();
            let job = Job { torrent: &content.torrent, dir: &content.dir, state: &new_dir(place, "state")? };
            let mut command = client.seed(job, Some((FIRST + CONNECTIONS) as usize))?;
            let mut process = self.start(&mut command, Side::Serve, &place.join("log"))?;
            if let Err(reason) = self.wait_until_ready(&mut process)? {
                return Ok(Err(reason));
            }
            let first = Callers::call(&self.networks, content.info_hash, 0..FIRST)?;
            rest(Duration::from_secs(1))?;
            let before = process.private_now();
            let begun = Instant::now();
            let mut callers = Callers::call(&self.networks, content.info_hash, FIRST..FIRST + CONNECTIONS)?;
            let ready = begun.elapsed();
            if callers.len() == 0 {
                return Ok(Err(format!("takes no more than {} connections", first.len())));
            }
            Ok(idle(&mut process)?.map(|idle| {
                Figures(vec![
                    (Measure::PrivateEach, idle.private.saturating_sub(before) as f64 / callers.len() as f64),
                    (Measure::Private, idle.private as f64),
                    (Measure::IdleCpu, idle.cpu),
                    (Measure::Ready, ready.as_secs_f64()),
                    (Measure::Held, callers.alive() as f64),
                ])
            }))
        })
    }

    /// A client's turn at holding a thousand torrents.
    pub fn torrents(&self, client: &Installed, holes: &Holes) -> Result<Outcome> {
        self.clean(|place| {
            self.tracker.forget();
            let state = new_dir(place, "state")?;
            if client.remembers() {
                let mut process =
                    self.start(&mut client.keep(holes, &state)?, Side::Serve, &place.join("log-before"))?;
                let served = answers_for(&self.networks, holes.hashes(), self.timeout)?;
                if served < holes.list.len() || !process.interrupt(self.timeout)? {
                    return Ok(Err(format!("leaves no records; {}", process.last_words())));
                }
            }
            let mut command = client.keep(holes, &state)?;
            let begun = Instant::now();
            let mut process = match self.start(&mut command, Side::Serve, &place.join("log")) {
                // The program that serves may be another than the one that was found.
                Err(Fault::Wrong(reason)) => return Ok(Err(reason)),
                started => started?,
            };
            let served = answers_for(&self.networks, holes.hashes(), self.timeout)?;
            if served == 0 {
                let reason =
                    format!("answers for none after {} s; {}", self.timeout.as_secs(), process.last_words());
                return Ok(Err(reason));
            }
            let ready = (served == holes.list.len()).then(|| (Measure::Ready, begun.elapsed().as_secs_f64()));
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

/// Lets a process do nothing, and says what that takes; the inner failure says why it does not.
fn idle(process: &mut Process) -> Result<std::result::Result<Idle, String>> {
    rest(REST)?;
    let before = process.cpu_now();
    let begun = Instant::now();
    rest(LOOK)?;
    let cpu = (process.cpu_now() - before).max(0.0) / begun.elapsed().as_secs_f64();
    match process.ended() {
        None => Ok(Ok(Idle { private: process.private_now(), cpu })),
        Some((status, _)) => Ok(Err(format!("ended with {status}; {}", process.last_words()))),
    }
}

fn rest(time: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        pause(20)?;
    }
    Ok(())
}
