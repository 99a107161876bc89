//! Compares the simulator with reality: the scenario `dozen`, simulated and with twelve real processes.
//!
//! ```text
//!   opentracker ── bridge ──┬── network 1: rill seed -u 2M
//!                           ├── network 2: rill get -u 512K        every process has its own network and address, because
//!                           ├── network 3: rill get -u 768K        the engine limits the connections from one address
//!                           └── … twelve in all
//! ```
//! Sizes, limits and the number of peers are those of the scenario. The peers find each other through the
//! tracker, and complete peers stay. The times of the median peer and of the last one may differ by 15 % from
//! the median of simulated runs.

use crate::clients::rill;
use crate::content::{Shape, Torrent};
use crate::lab::{Kid, Lab};
use crate::need;
use crate::networks::{Family, Networks};
use crate::tracker::OpenTracker;
use rill::sim::{self, Scenario};
use std::time::{Duration, Instant};

/// Simulated runs, each with its own seed.
const RUNS: u64 = 15;
/// Largest relative difference of reality and simulator.
const TOLERANCE: f64 = 0.15;
/// Time limit of the real swarm.
const PATIENCE: Duration = Duration::from_secs(240);
/// The port of every client.
const PORT: &str = "6881";
/// Runs the real swarm. Returns the seconds from each peer's start to its completion, shortest first.
fn real(s: &Scenario, networks: &Networks) -> Vec<f64> {
    let lab = Lab::new();
    let tracker = OpenTracker::new();
    let torrent = Torrent::make(&lab, Shape::single(s.size, s.piece_len.into()), &[&[&tracker.http()]]);
    tracker.start(&lab, &[&torrent]);
    let mut seed = rill();
    seed.args([
        "seed",
        "--no-state",
        "--no-pex",
        "--listen-port",
        PORT,
        "-u",
        &s.seed_line(0).up.to_string(),
        "-d",
    ]);
    lab.start(&mut networks.inside(0, seed.arg(&torrent.dir).arg(&torrent.file)));
    tracker.wait_for_seeds(&lab, &torrent, 1);

    let mut peers: Vec<(Kid<'_>, Instant, Option<f64>)> = Vec::new();
    for n in 0..s.peers {
        let dir = lab.new_dir("peer");
        let mut get = rill();
        get.args([
            "get",
            "--no-state",
            "--no-pex",
            "--listen-port",
            PORT,
            "-u",
            &s.line(n).up.to_string(),
            "--seed-time",
            "30",
            "-d",
        ]);
        let kid = lab.start(&mut networks.inside(1 + n, get.arg(&dir).arg(&torrent.file)));
        peers.push((kid, Instant::now(), None));
    }
    lab.wait_up_to(PATIENCE, "all peers are complete", &mut || {
        for (kid, started, complete) in peers.iter_mut().filter(|(.., complete)| complete.is_none()) {
            if kid.words().lines().any(|line| line.ends_with(": complete")) {
                *complete = Some(started.elapsed().as_secs_f64());
            }
        }
        peers.iter().all(|(.., complete)| complete.is_some())
    });
    let mut times: Vec<f64> = peers.into_iter().filter_map(|(.., complete)| complete).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Runs the simulated swarm. Returns for each place in the order of completion the median seconds of all
/// runs.
fn simulated(s: &Scenario) -> Vec<f64> {
    let runs: Vec<Vec<f64>> =
        (1..=RUNS).map(|seed| sim::run(&Scenario { seed, ..s.clone() }).times()).collect();
    let median = |place: usize| {
        let mut times: Vec<f64> = runs.iter().map(|times| times[place]).collect();
        times.sort_by(f64::total_cmp);
        sim::quantile(&times, 0.5)
    };
    (0..s.peers as usize).map(median).collect()
}

#[test]
#[ignore = "needs other programs"]
fn a_dozen_real_processes_take_as_long_as_the_simulator_says() {
    need!("opentracker", "ip");
    let s = sim::named("dozen").expect("a swarm of the simulator's");
    assert_eq!((s.seeds, s.limit_in_engine), (1, true), "the scenario is not the one that this test runs");
    let Some(networks) = Networks::new("rilldozen", 78, Family::V4, s.seeds + s.peers) else { return };
    let real = real(&s, &networks);
    let simulated = simulated(&s);
    println!("place    real s    simulated s    apart");
    for (place, (r, v)) in real.iter().zip(&simulated).enumerate() {
        println!("{:>5}  {r:>8.1}  {v:>13.1}  {:>+6.1} %", place + 1, (r / v - 1.0) * 100.0);
    }
    let middle = (real.len() - 1) / 2;
    for (who, place) in [("median", middle), ("last", real.len() - 1)] {
        let apart = real[place] / simulated[place] - 1.0;
        assert!(
            apart.abs() <= TOLERANCE,
            "the {who} peer: {:.1} s and not {:.1} s",
            real[place],
            simulated[place]
        );
    }
}
