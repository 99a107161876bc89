//! Good peers in this process: a seed and a leech, each with a steady rate and a counter of its bytes.

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
/// Longest delay that the pace makes up for, so that a late wake-up of this thread costs no rate; a longer
/// delay caused by rill does.
const CATCH_UP: Duration = Duration::from_millis(200);
/// Outstanding requests of the leech.
const WINDOW: u32 = 64;

/// Limits a rate in bytes a second.
struct Pace {
    due: Instant,
    rate: u64,
}

impl Pace {
    fn new(rate: u64) -> Pace {
        Pace { due: Instant::now(), rate }
    }

    /// Waits until `bytes` may be sent.
    fn wait(&mut self, bytes: u32) {
        let now = Instant::now();
        self.due =
            self.due.max(now - CATCH_UP) + Duration::from_secs_f64(f64::from(bytes) / self.rate as f64);
        std::thread::sleep(self.due.saturating_duration_since(now));
    }
}

/// A seed that listens.
pub struct Seed {
    pub address: SocketAddr,
    pub uploaded: Gauge,
    /// While this is set the seed answers no request.
    pub paused: Arc<AtomicBool>,
    /// A handshake is complete.
    pub connected: Arc<AtomicBool>,
}

impl Seed {
    /// Starts a seed at 127.0.0.`last`.
    pub fn start(last: u8, torrent: &Endless) -> Seed {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
        let seed = Seed {
            address: listener.local_addr().unwrap(),
            uploaded: Arc::default(),
            paused: Arc::default(),
            connected: Arc::default(),
        };
        let info_hash = torrent.metainfo.info_hash();
        let count = seed.uploaded.clone();
        let resting = seed.paused.clone();
        let connected = seed.connected.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = count.clone();
                let resting = resting.clone();
                let connected = connected.clone();
                std::thread::spawn(move || {
                    let go_on = || {
                        connected.store(true, Relaxed);
                        while resting.load(Relaxed) {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        true
                    };
                    // The connection ends when rill closes it.
                    let _ =
                        Line::answer(stream, info_hash).and_then(|line| give(line, GOOD_RATE, &count, go_on));
                });
            }
        });
        seed
    }
}

/// Sends HaveAll, and answers requests while `go_on` returns true.
pub fn give(mut line: Line, rate: u64, uploaded: &AtomicU64, go_on: impl Fn() -> bool) -> io::Result<()> {
    let piece = piece();
    let mut pace = Pace::new(rate);
    line.send(&[Message::HaveAll, Message::Unchoke])?;
    while go_on() {
        let (id, body) = line.receive()?;
        if id != 6 || !go_on() {
            continue;
        }
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        let begin = number(4);
        let len = number(8);
        assert!(begin + len <= PIECE, "rill requests a block outside the piece");
        pace.wait(len);
        line.raw(
            &[&(9 + len).to_be_bytes()[..], &[7], &body[..8], &piece[begin as usize..(begin + len) as usize]]
                .concat(),
        )?;
        uploaded.fetch_add(u64::from(len), Relaxed);
    }
    Ok(())
}

/// A leech that dials rill and requests blocks until it is dropped.
pub struct Leech {
    pub downloaded: Gauge,
    stop: Arc<AtomicBool>,
}

impl Leech {
    /// Starts a leech at 127.0.0.`last`.
    pub fn start(last: u8, to: SocketAddr, torrent: &Endless) -> Leech {
        let downloaded = Gauge::default();
        let stop = Arc::new(AtomicBool::new(false));
        let count = downloaded.clone();
        let stopped = stop.clone();
        let info_hash = torrent.metainfo.info_hash();
        let pieces = torrent.metainfo.geometry().pieces();
        std::thread::spawn(move || {
            // rill may close the connection, which shows in the count of downloaded bytes.
            let _ = Line::dial(Ipv4Addr::new(127, 0, 0, last).into(), to, info_hash)
                .and_then(|line| take(line, pieces, GOOD_RATE, &count, || !stopped.load(Relaxed)));
        });
        Leech { downloaded, stop }
    }
}

impl Drop for Leech {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Sends HaveNone, and requests the blocks of the first `pieces` pieces in turn while `go_on` returns true.
pub fn take(
    mut line: Line,
    pieces: u32,
    rate: u64,
    downloaded: &AtomicU64,
    go_on: impl Fn() -> bool,
) -> io::Result<()> {
    line.send(&[Message::HaveNone, Message::Interested])?;
    let mut pace = Pace::new(rate);
    let blocks = PIECE / BLOCK;
    let request = |n: u32| RawSpan { piece: n / blocks % pieces, begin: n % blocks * BLOCK, len: BLOCK };
    let mut next = 0;
    while go_on() {
        let (id, body) = line.receive()?;
        if id == 1 {
            let burst: Vec<_> = (next..next + WINDOW).map(|n| Message::Request(request(n))).collect();
            next += WINDOW;
            line.send(&burst)?;
        } else if id == 7 {
            let len = body.len() as u32 - 8;
            downloaded.fetch_add(u64::from(len), Relaxed);
            pace.wait(len);
            line.send(&[Message::Request(request(next))])?;
            next += 1;
        }
    }
    Ok(())
}
