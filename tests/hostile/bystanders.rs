//! Good peers in this process: a seed that gives, a leech that takes, each at a steady rate and counted.

use crate::rig::{Endless, GOOD_RATE, Gauge, PIECE, piece};
use crate::wire::Line;
use rill::wire::{Message, RawSpan};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes of a request.
pub const BLOCK: u32 = 16 << 10;
/// Time lost that is caught up with, so that a late wake-up of ours costs nothing; a peer that is kept
/// waiting for longer has lost it.
const CATCH_UP: Duration = Duration::from_millis(200);
/// Requests that the leech has out.
const WINDOW: u32 = 64;

/// Lets so many bytes a second through.
struct Pace {
    due: Instant,
    rate: u64,
}

impl Pace {
    fn new(rate: u64) -> Pace {
        Pace { due: Instant::now(), rate }
    }

    /// Waits until `bytes` may go.
    fn wait(&mut self, bytes: u32) {
        let now = Instant::now();
        self.due =
            self.due.max(now - CATCH_UP) + Duration::from_secs_f64(f64::from(bytes) / self.rate as f64);
        std::thread::sleep(self.due.saturating_duration_since(now));
    }
}

/// A seed that others dial.
pub struct Seed {
    pub address: SocketAddr,
    pub given: Gauge,
    /// While this is up it answers no request.
    pub rests: Arc<AtomicBool>,
    /// The handshake is complete.
    pub asked: Arc<AtomicBool>,
}

impl Seed {
    /// One that lives at 127.0.0.`last`.
    pub fn start(last: u8, torrent: &Endless) -> Seed {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
        let seed = Seed {
            address: listener.local_addr().unwrap(),
            given: Arc::default(),
            rests: Arc::default(),
            asked: Arc::default(),
        };
        let info_hash = torrent.metainfo.info_hash();
        let count = seed.given.clone();
        let resting = seed.rests.clone();
        let asked = seed.asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = count.clone();
                let resting = resting.clone();
                let asked = asked.clone();
                std::thread::spawn(move || {
                    let go_on = || {
                        asked.store(true, Relaxed);
                        while resting.load(Relaxed) {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        true
                    };
                    // It ends when the other side hangs up.
                    let _ =
                        Line::answer(stream, info_hash).and_then(|line| give(line, GOOD_RATE, &count, go_on));
                });
            }
        });
        seed
    }
}

/// Says that it has everything, and answers requests as long as it may.
pub fn give(mut line: Line, rate: u64, given: &AtomicU64, go_on: impl Fn() -> bool) -> io::Result<()> {
    let piece = piece();
    let mut pace = Pace::new(rate);
    line.say(&[Message::HaveAll, Message::Unchoke])?;
    while go_on() {
        let (id, body) = line.hear()?;
        if id != 6 || !go_on() {
            continue;
        }
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        let begin = number(4);
        let len = number(8);
        assert!(begin + len <= PIECE, "rill asks outside a piece");
        pace.wait(len);
        line.raw(
            &[&(9 + len).to_be_bytes()[..], &[7], &body[..8], &piece[begin as usize..(begin + len) as usize]]
                .concat(),
        )?;
        given.fetch_add(u64::from(len), Relaxed);
    }
    Ok(())
}

/// A leech that dials rill and takes one block after another, for ever.
pub struct Leech {
    pub taken: Gauge,
    stop: Arc<AtomicBool>,
}

impl Leech {
    /// One that lives at 127.0.0.`last`.
    pub fn start(last: u8, to: SocketAddr, torrent: &Endless) -> Leech {
        let taken = Gauge::default();
        let stop = Arc::new(AtomicBool::new(false));
        let count = taken.clone();
        let stopped = stop.clone();
        let info_hash = torrent.metainfo.info_hash();
        let pieces = torrent.metainfo.geometry().pieces();
        std::thread::spawn(move || {
            // rill may hang up on it, which shows in what it has taken.
            let _ = Line::dial(Ipv4Addr::new(127, 0, 0, last).into(), to, info_hash)
                .and_then(|line| take(line, pieces, GOOD_RATE, &count, || !stopped.load(Relaxed)));
        });
        Leech { taken, stop }
    }
}

impl Drop for Leech {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Says that it has nothing, and takes one block of so many pieces after the other as long as it may.
pub fn take(
    mut line: Line,
    pieces: u32,
    rate: u64,
    taken: &AtomicU64,
    go_on: impl Fn() -> bool,
) -> io::Result<()> {
    line.say(&[Message::HaveNone, Message::Interested])?;
    let mut pace = Pace::new(rate);
    let blocks = PIECE / BLOCK;
    let request = |n: u32| RawSpan { piece: n / blocks % pieces, begin: n % blocks * BLOCK, len: BLOCK };
    let mut next = 0;
    while go_on() {
        let (id, body) = line.hear()?;
        if id == 1 {
            let burst: Vec<_> = (next..next + WINDOW).map(|n| Message::Request(request(n))).collect();
            next += WINDOW;
            line.say(&burst)?;
        } else if id == 7 {
            let len = body.len() as u32 - 8;
            taken.fetch_add(u64::from(len), Relaxed);
            pace.wait(len);
            line.say(&[Message::Request(request(next))])?;
            next += 1;
        }
    }
    Ok(())
}
