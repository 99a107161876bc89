//! A session during churn: peers connect and disconnect, the tracker answers or not, torrents are paused,
//! resumed, removed and added, limits change. Descriptors, threads and memory must not grow.
//!
//! The session runs in a process of its own: this test again, with an environment variable:
//!
//! ```text
//!   test ──starts──▶ the same test as the watched session        test: fifty peers, a tracker, and samples of /proc
//! ```
//! `CHURN_SECONDS` sets the duration.

use crate::bystanders::{give, take};
use crate::lab::{Lab, free_port};
use crate::rig::{Endless, Target};
use crate::web::{Server, reply, with_peers};
use crate::wire::{Line, connect};
use rill::session::StorageMode;
use rill::session::{AddTorrent, Event, TorrentId};
use rill::units::Rng;
use rill::wire::Metainfo;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Environment variable that makes this test run the watched session.
const PART: &str = "RILL_CHURNED_SESSION";
/// Peers that connect and disconnect.
const PEERS: u8 = 50;
/// Pieces of the torrent that the session seeds.
const GIVEN_PIECES: u32 = 32;
/// Rate of a peer in bytes a second.
const PEER_RATE: u64 = 512 << 10;
/// How long the tracker is silent before it closes the connection.
const SILENCE: Duration = Duration::from_secs(2);
/// Interval of the samples.
const LOOK: Duration = Duration::from_millis(100);
/// Most bytes by which the peak memory of the last third may exceed that of the first.
const MEMORY_MARGIN: u64 = 1 << 20;
/// Short-lived threads of a session: four for HTTP requests, eight for name lookups.
const PASSING_THREADS: usize = 12;

#[test]
#[ignore = "measures: wants the machine for itself"]
fn churn_leaves_nothing_behind() {
    match std::env::var(PART) {
        Ok(place) => run_watched_session(Path::new(&place)),
        Err(_) => watch(),
    }
}

// ---- the session --------------------------------------------------------------------------------------------------------

/// Runs a session in the directory `place`, which holds `given/` and `taken/`, until the file `end` exists.
/// While the file `rest` exists its torrents are paused.
fn run_watched_session(place: &Path) {
    let torrent = |name: &str| Metainfo::parse(&std::fs::read(place.join(name)).unwrap()).unwrap();
    let seeded = torrent("given.torrent");
    let leeched = torrent("taken.torrent");
    let port: u16 = std::fs::read_to_string(place.join("port")).unwrap().parse().unwrap();
    let session = crate::support::session_with("127.0.0.1", |config| {
        config.listen_ports = port..=port;
        config.storage = StorageMode::Plain;
        config.state_dir = Some(place.join("state"));
    });
    let seed = AddTorrent { seed_only: true, ..AddTorrent::new(seeded, place.join("given")) };
    let give = session.add(seed).unwrap();
    let leech = || AddTorrent::new(leeched.clone(), place.join("taken"));
    let mut take: Option<TorrentId> = None;
    let mut rng = Rng::new(1);
    let mut completed = 0;
    let mut next = Instant::now();
    let mut rested = false;
    while !place.join("end").exists() {
        match session.next_event(Duration::from_millis(20)) {
            Some(Event::Completed { torrent }) if Some(torrent) == take => session.remove(torrent).unwrap(),
            Some(Event::Removed { torrent }) if Some(torrent) == take => {
                take = None;
                completed += 1;
                std::fs::write(place.join("completed"), completed.to_string()).unwrap();
            }
            Some(e @ (Event::Failed { .. } | Event::Died { .. })) => panic!("{e:?}"),
            _ => {}
        }
        let paused = place.join("rest").exists();
        if take.is_none() && !paused {
            let _ = std::fs::remove_dir_all(place.join("taken"));
            take = Some(session.add(leech()).unwrap());
        }
        if paused && !rested {
            session.pause(give).unwrap();
            take.iter().for_each(|id| session.remove(*id).unwrap());
        } else if !paused && next <= Instant::now() {
            next = Instant::now() + Duration::from_millis(200 + rng.below(1500) as u64);
            change(&session, give, take, &mut rng);
        }
        rested = paused;
    }
    // The stop may be unclean, because the tracker may be silent at that time.
    session.stop(Duration::from_secs(5));
}

fn change(session: &rill::session::Session, give: TorrentId, take: Option<TorrentId>, rng: &mut Rng) {
    let either = take.filter(|_| rng.below(2) == 0).unwrap_or(give);
    match rng.below(5) {
        0 => session.pause(either).unwrap(),
        1 | 2 => [Some(give), take].into_iter().flatten().for_each(|id| session.resume(id).unwrap()),
        3 => session.set_limits(Some(1 << (20 + rng.below(4))), Some(1 << (19 + rng.below(4)))).unwrap(),
        _ => session.set_limits(None, None).unwrap(),
    }
}

// ---- peers and tracker --------------------------------------------------------------------------------------------------

/// One sample of the session's process.
#[derive(Clone, Copy)]
struct Look {
    memory: u64,
    descriptors: usize,
    threads: usize,
}

fn look(session: Target<'_>) -> Look {
    Look { memory: session.memory(), descriptors: session.descriptors(), threads: session.threads() }
}

fn watch() {
    let seconds =
        std::env::var("CHURN_SECONDS").map_or(20, |s| s.parse().expect("CHURN_SECONDS is a number"));
    let lab = Lab::on_loopback();
    let tracker = flapping_tracker();
    let seeded = Endless::new(&lab, GIVEN_PIECES, &[vec![tracker.url()]]);
    // The other length makes it a different torrent.
    let leeched = Endless::new(&lab, GIVEN_PIECES + 1, &[vec![tracker.url()]]);
    let place = lab.new_dir("session");
    let port = free_port();
    for (torrent, name) in [(&seeded, "given.torrent"), (&leeched, "taken.torrent")] {
        std::fs::copy(&torrent.file, place.join(name)).unwrap();
    }
    std::fs::rename(seeded.write(&lab), place.join("given")).unwrap();
    std::fs::write(place.join("port"), port.to_string()).unwrap();
    let flag = |name: &str| place.join(name);
    std::fs::write(flag("rest"), "").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "--nocapture", "churn::churn_leaves_nothing_behind"])
        .env(PART, &place);
    let session = Target::process(lab.start(&mut command), port, seeded.metainfo.info_hash());
    lab.wait_for("the session listens", || connect(Ipv4Addr::LOCALHOST.into(), session.address()).is_ok());
    let whole = Duration::from_secs(seconds);
    let churn = |time: Duration| {
        std::fs::remove_file(flag("rest")).unwrap();
        let crowd = ChurningPeers::start(session.address(), &seeded, &leeched);
        let looks = watch_for(time, session);
        let figures = (crowd.connections.load(Relaxed), crowd.moved.load(Relaxed));
        drop(crowd);
        std::fs::write(flag("rest"), "").unwrap();
        (looks, figures)
    };
    // Buffers and tables that grow once have their size after a tenth of the time.
    churn(whole / 10);
    let rested = rest(session);
    let (looks, (connections, moved)) = churn(whole);
    lab.wait_for("descriptors and threads are back to their number at rest", || {
        let now = look(session);
        now.descriptors <= rested.descriptors && now.threads <= rested.threads
    });
    let completed = std::fs::read_to_string(flag("completed")).map_or(0, |n| n.parse().unwrap());
    report(
        &looks,
        rested,
        look(session),
        &format!(
            "{connections} peers, {} MiB, {completed} downloads, {} announces",
            moved >> 20,
            tracker.requests().len()
        ),
    );
    assert!(
        connections > 4 * seconds && completed > 0 && moved > 1 << 20,
        "nothing happened\n{}",
        lab.words()
    );
    assert_eq!(session.kid.ended(), None, "{}", lab.words());
    std::fs::write(flag("end"), "").unwrap();
    assert_eq!(session.kid.code(), 0, "{}", lab.words());
    assert_flat(&looks, rested);
}

/// Returns a sample after descriptors and threads have not changed for so long that no tracker request can be
/// in flight.
fn rest(session: Target<'_>) -> Look {
    let mut last = look(session);
    let mut since = Instant::now();
    while since.elapsed() < 2 * SILENCE {
        std::thread::sleep(LOOK);
        let now = look(session);
        if (now.descriptors, now.threads) != (last.descriptors, last.threads) {
            last = now;
            since = Instant::now();
        }
    }
    last
}

fn watch_for(time: Duration, session: Target<'_>) -> Vec<Look> {
    let begun = Instant::now();
    let mut looks = Vec::new();
    while begun.elapsed() < time {
        looks.push(look(session));
        std::thread::sleep(LOOK);
    }
    looks
}

fn most<T: Ord>(looks: &[Look], of: impl Fn(&Look) -> T) -> T {
    looks.iter().map(of).max().unwrap()
}

/// Returns the first and the last third.
fn thirds(looks: &[Look]) -> (&[Look], &[Look]) {
    let third = looks.len() / 3;
    (&looks[..third], &looks[looks.len() - third..])
}

fn assert_flat(looks: &[Look], rested: Look) {
    let (first, last) = thirds(looks);
    let before = most(first, |l| l.memory);
    let after = most(last, |l| l.memory);
    assert!(after <= before + MEMORY_MARGIN, "memory grew from {before} to {after} bytes");
    let before = most(first, |l| l.descriptors);
    let after = most(last, |l| l.descriptors);
    // The number of connected peers varies by chance.
    assert!(after <= before + usize::from(PEERS) / 4, "descriptors grew from {before} to {after}");
    let threads = most(looks, |l| l.threads);
    assert!(threads <= rested.threads + PASSING_THREADS, "{threads} threads");
}

fn report(looks: &[Look], rested: Look, paused: Look, what: &str) {
    let (first, last) = thirds(looks);
    let line = |name: &str, of: &dyn Fn(&Look) -> u64| {
        println!(
            "{name}: rested {}, first third {}, last third {}, rests {}",
            of(&rested),
            most(first, of),
            most(last, of),
            of(&paused)
        );
    };
    println!("{what}");
    line("private memory, KiB", &|l| l.memory / 1024);
    line("descriptors", &|l| l.descriptors as u64);
    line("threads", &|l| l.threads as u64);
    let tenths: Vec<u64> =
        looks.chunks(looks.len().div_ceil(10)).map(|part| most(part, |l| l.memory / 1024)).collect();
    println!("private memory of each tenth, KiB: {tenths:?}");
    // Least squares over all samples, in bytes an hour.
    let n = looks.len() as f64;
    let mean_x = (n - 1.0) / 2.0;
    let mean_y = looks.iter().map(|l| l.memory as f64).sum::<f64>() / n;
    let mut xy = 0.0;
    let mut xx = 0.0;
    for (i, l) in looks.iter().enumerate() {
        xy += (i as f64 - mean_x) * (l.memory as f64 - mean_y);
        xx += (i as f64 - mean_x).powi(2);
    }
    println!("memory's slope: {:.0} KiB an hour", xy / xx / LOOK.as_secs_f64() * 3600.0 / 1024.0);
}

/// Starts a tracker that in turn answers with peers, closes the connection, is silent, sends garbage, and
/// refuses.
fn flapping_tracker() -> Server {
    let peers: Vec<SocketAddr> = (1..=200).map(|n| (Ipv4Addr::new(127, 120, n, 1), 9).into()).collect();
    Server::start(move |stream, number| match number % 5 {
        0 => stream.write_all(&with_peers(60, &peers)),
        1 => Ok(()),
        2 => {
            std::thread::sleep(SILENCE);
            Ok(())
        }
        3 => stream.write_all(&reply(b"<html>")),
        _ => stream.write_all(&reply(b"d14:failure reason6:not nowe")),
    })
}

/// Fifty peers that connect, disconnect after a moment, and connect again with another peer id.
struct ChurningPeers {
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
    moved: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl ChurningPeers {
    fn start(to: SocketAddr, seeded: &Endless, leeched: &Endless) -> ChurningPeers {
        let mut crowd = ChurningPeers {
            stop: Arc::default(),
            connections: Arc::default(),
            moved: Arc::default(),
            threads: Vec::new(),
        };
        for n in 0..PEERS {
            let stop = crowd.stop.clone();
            let connections = crowd.connections.clone();
            let moved = crowd.moved.clone();
            let seeded = seeded.metainfo.info_hash();
            let leeched = leeched.metainfo.info_hash();
            crowd.threads.push(std::thread::spawn(move || {
                let mut rng = Rng::new(u64::from(n));
                while !stop.load(Relaxed) {
                    connections.fetch_add(1, Relaxed);
                    let from = Ipv4Addr::new(127, 121, n, 1 + rng.below(200) as u8).into();
                    let until = Instant::now() + Duration::from_millis(100 + rng.below(6000) as u64);
                    let kind = rng.below(8);
                    let abrupt = rng.below(2) == 0;
                    let hash = if kind <= 4 { leeched } else { seeded };
                    let line = || {
                        let line = Line::dial(from, to, hash)?;
                        line.limit(until.saturating_duration_since(Instant::now()).max(LOOK), abrupt)?;
                        Ok(line)
                    };
                    let go_on = || Instant::now() < until;
                    // Errors end this connection; the next one follows.
                    let _: std::io::Result<()> = match kind {
                        0 => connect(from, to).and_then(|mut s| s.write_all(b"GET / HTTP/1.1\r\n\r\n")),
                        1..=4 => line().and_then(|line| give(line, PEER_RATE, &moved, go_on)),
                        _ => line().and_then(|line| take(line, GIVEN_PIECES, PEER_RATE, &moved, go_on)),
                    };
                    std::thread::sleep(Duration::from_millis(rng.below(300) as u64));
                }
            }));
        }
        crowd
    }
}

impl Drop for ChurningPeers {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}
