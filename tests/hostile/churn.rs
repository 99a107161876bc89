//! A session that lives while everything around it changes: peers come and go, the tracker is there or not,
//! torrents rest, go on, leave and come back, limits move. Nothing of that may stay behind: not a descriptor,
//! not a thread, not memory.
//!
//! The session has a process of its own, which is this test again, told by its environment to be the one that
//! is watched:
//!
//! ```text
//!   test ──starts──▶ the same test as the watched session        test: fifty peers, a tracker, and a look at /proc now and then
//! ```
//!
//! `CHURN_SECONDS` says how long.

use crate::bystanders::{give, take};
use crate::lab::{Lab, free_port};
use crate::rig::{Endless, Target};
use crate::web::{Server, reply, with_peers};
use crate::wire::{Line, connect};
use rill::disk::StorageMode;
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

/// Tells this test that it is the watched session.
const PART: &str = "RILL_CHURNED_SESSION";
/// Peers that come and go.
const PEERS: u8 = 50;
/// Pieces of the torrent that the session gives.
const GIVEN_PIECES: u32 = 32;
/// What a peer gives or takes, bytes a second.
const PEER_RATE: u64 = 512 << 10;
/// How long the tracker says nothing before it hangs up.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// What the most memory of the last third may exceed that of the first by.
const MEMORY_MARGIN: u64 = 1 << 20;
/// Threads that a session has for a while: four that wait for trackers, eight that look names up.
const PASSING_THREADS: usize = 12;

#[test]
#[ignore = "measures: wants the machine for itself"]
fn churn_leaves_nothing_behind() {
    match std::env::var(PART) {
        Ok(place) => be_watched(Path::new(&place)),
        Err(_) => watch(),
    }
}

// ---- the session --------------------------------------------------------------------------------------------------------

/// Lives in `place`, which holds `given/` and `taken/`, until the file `end` is there; while `rest` is there
/// it gives nothing and takes nothing.
fn be_watched(place: &Path) {
    let torrent = |name: &str| Metainfo::parse(&std::fs::read(place.join(name)).unwrap()).unwrap();
    let given = torrent("given.torrent");
    let taken = torrent("taken.torrent");
    let port: u16 = std::fs::read_to_string(place.join("port")).unwrap().parse().unwrap();
    let session = crate::support::session_with("127.0.0.1", |config| {
        config.listen_ports = port..=port;
        config.storage = StorageMode::Plain;
        config.state_dir = Some(place.join("state"));
    });
    let seed = AddTorrent { seed_only: true, ..AddTorrent::new(given, place.join("given")) };
    let give = session.add(seed).unwrap();
    let leech = || AddTorrent::new(taken.clone(), place.join("taken"));
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
        let rests = place.join("rest").exists();
        if take.is_none() && !rests {
            let _ = std::fs::remove_dir_all(place.join("taken"));
            take = Some(session.add(leech()).unwrap());
        }
        if rests && !rested {
            session.pause(give).unwrap();
            take.iter().for_each(|id| session.remove(*id).unwrap());
        } else if !rests && next <= Instant::now() {
            next = Instant::now() + Duration::from_millis(200 + rng.below(1500) as u64);
            change(&session, give, take, &mut rng);
        }
        rested = rests;
    }
    // Whether it is clean depends on what the tracker is about at the moment.
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

// ---- the world around it ------------------------------------------------------------------------------------------------

/// One look at the session.
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
    let given = Endless::new(&lab, GIVEN_PIECES, &[vec![tracker.url()]]);
    // Another length makes it another torrent.
    let taken = Endless::new(&lab, GIVEN_PIECES + 1, &[vec![tracker.url()]]);
    let place = lab.new_dir("session");
    let port = free_port();
    for (torrent, name) in [(&given, "given.torrent"), (&taken, "taken.torrent")] {
        std::fs::copy(&torrent.file, place.join(name)).unwrap();
    }
    std::fs::rename(given.write(&lab), place.join("given")).unwrap();
    std::fs::write(place.join("port"), port.to_string()).unwrap();
    let flag = |name: &str| place.join(name);
    std::fs::write(flag("rest"), "").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "--nocapture", "churn::churn_leaves_nothing_behind"])
        .env(PART, &place);
    let session = Target::process(lab.start(&mut command), port, given.metainfo.info_hash());
    lab.wait_for("the session listens", || connect(Ipv4Addr::LOCALHOST.into(), session.address()).is_ok());
    let whole = Duration::from_secs(seconds);
    let churn = |time: Duration| {
        std::fs::remove_file(flag("rest")).unwrap();
        let crowd = Crowd::come(session.address(), &given, &taken);
        let looks = watch_for(time, session);
        let figures = (crowd.came.load(Relaxed), crowd.moved.load(Relaxed));
        drop(crowd);
        std::fs::write(flag("rest"), "").unwrap();
        (looks, figures)
    };
    // What grows once, buffers and tables, has grown after a tenth of the time.
    churn(whole / 10);
    let rested = rest(session);
    let (looks, (came, moved)) = churn(whole);
    lab.wait_for("no descriptor and no thread is left over", || {
        let now = look(session);
        now.descriptors <= rested.descriptors && now.threads <= rested.threads
    });
    let completed = std::fs::read_to_string(flag("completed")).map_or(0, |n| n.parse().unwrap());
    report(
        &looks,
        rested,
        look(session),
        &format!(
            "{came} peers, {} MiB, {completed} downloads, {} announces",
            moved >> 20,
            tracker.asked().len()
        ),
    );
    assert!(came > 4 * seconds && completed > 0 && moved > 1 << 20, "nothing happened\n{}", lab.words());
    assert_eq!(session.kid.ended(), None, "{}", lab.words());
    std::fs::write(flag("end"), "").unwrap();
    assert_eq!(session.kid.code(), 0, "{}", lab.words());
    must_be_flat(&looks, rested);
}

/// A look when descriptors and threads have not changed for so long that no errand of a tracker can be left.
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

/// First and last third.
fn thirds(looks: &[Look]) -> (&[Look], &[Look]) {
    let third = looks.len() / 3;
    (&looks[..third], &looks[looks.len() - third..])
}

fn must_be_flat(looks: &[Look], rested: Look) {
    let (first, last) = thirds(looks);
    let before = most(first, |l| l.memory);
    let after = most(last, |l| l.memory);
    assert!(after <= before + MEMORY_MARGIN, "memory grew from {before} to {after} bytes");
    let before = most(first, |l| l.descriptors);
    let after = most(last, |l| l.descriptors);
    // Every peer that came at once has a connection; which are there at one moment is chance.
    assert!(after <= before + usize::from(PEERS) / 4, "descriptors grew from {before} to {after}");
    let threads = most(looks, |l| l.threads);
    assert!(threads <= rested.threads + PASSING_THREADS, "{threads} threads");
}

fn report(looks: &[Look], rested: Look, rests: Look, what: &str) {
    let (first, last) = thirds(looks);
    let line = |name: &str, of: &dyn Fn(&Look) -> u64| {
        println!(
            "{name}: rested {}, first third {}, last third {}, rests {}",
            of(&rested),
            most(first, of),
            most(last, of),
            of(&rests)
        );
    };
    println!("{what}");
    line("private memory, KiB", &|l| l.memory / 1024);
    line("descriptors", &|l| l.descriptors as u64);
    line("threads", &|l| l.threads as u64);
    let tenths: Vec<u64> =
        looks.chunks(looks.len().div_ceil(10)).map(|part| most(part, |l| l.memory / 1024)).collect();
    println!("private memory of each tenth, KiB: {tenths:?}");
    // Least squares over all looks, in bytes an hour.
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

/// Answers with peers, hangs up, is silent, talks nonsense, refuses; one after the other.
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

/// Fifty peers, each there for a moment, gone, and back under another name.
struct Crowd {
    stop: Arc<AtomicBool>,
    came: Arc<AtomicU64>,
    moved: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Crowd {
    fn come(to: SocketAddr, given: &Endless, taken: &Endless) -> Crowd {
        let mut crowd =
            Crowd { stop: Arc::default(), came: Arc::default(), moved: Arc::default(), threads: Vec::new() };
        for n in 0..PEERS {
            let stop = crowd.stop.clone();
            let came = crowd.came.clone();
            let moved = crowd.moved.clone();
            let given = given.metainfo.info_hash();
            let taken = taken.metainfo.info_hash();
            crowd.threads.push(std::thread::spawn(move || {
                let mut rng = Rng::new(u64::from(n));
                while !stop.load(Relaxed) {
                    came.fetch_add(1, Relaxed);
                    let from = Ipv4Addr::new(127, 121, n, 1 + rng.below(200) as u8).into();
                    let until = Instant::now() + Duration::from_millis(100 + rng.below(6000) as u64);
                    let kind = rng.below(8);
                    let abrupt = rng.below(2) == 0;
                    let hash = if kind <= 4 { taken } else { given };
                    let line = || {
                        let line = Line::dial(from, to, hash)?;
                        line.limit(until.saturating_duration_since(Instant::now()).max(LOOK), abrupt)?;
                        Ok(line)
                    };
                    let go_on = || Instant::now() < until;
                    // Whatever becomes of it, it ends, and the next one comes.
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

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}
