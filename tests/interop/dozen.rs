//! Is the simulator right? The swarm that it calls `dozen`, as it computes it and as twelve real processes do
//! it.
//!
//! ```text
//!   opentracker ── bridge ──┬── network 1: rill seed -u 2M
//!                           ├── network 2: rill get -u 512K        every process has a network and an address of its own,
//!                           ├── network 3: rill get -u 768K        because an engine lets only so many in from one address
//!                           └── … twelve in all
//! ```
//!
//! Everything is the scenario's: sizes, limits, how many there are. All meet through the tracker, and
//! complete peers stay. The median peer and the last one may differ by 15 % from the median of simulated
//! runs.

use crate::clients::rill;
use crate::content::{Shape, Torrent};
use crate::lab::{Kid, Lab};
use crate::need;
use crate::networks::{Family, Networks};
use crate::tracker::OpenTracker;
use rill::sim::{self, Scenario};
use std::time::{Duration, Instant};

/// Simulated runs, each from a seed of its own.
const RUNS: u64 = 15;
/// How far reality and simulator may be apart, as a share.
const TOLERANCE: f64 = 0.15;
/// How long the real swarm may take.
const PATIENCE: Duration = Duration::from_secs(240);
/// The port of every client.
const PORT: &str = "6881";
/// Seconds from each peer's start to its completion, shortest first: the real thing.
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

/// The same as the simulator has it: for each place in the order of completion the median of all runs.
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
    assert_eq!((s.seeds, s.limit_in_engine), (1, true), "another scenario than this test plays");
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
