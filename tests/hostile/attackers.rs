//! Peers that attack, each kind until it is disconnected; then it comes back.

use crate::rig::Target;
use crate::wire::{connect, handshake};
use rill::units::InfoHash;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks of an attacker with many connections.
const TICK: Duration = Duration::from_millis(50);
/// How long a write may wait before the attacker looks whether it is over.
const WRITE_PATIENCE: Duration = Duration::from_millis(100);

/// What an attack has done so far, all its rounds together.
#[derive(Clone, Default)]
pub struct Done {
    pub bytes: Arc<AtomicU64>,
    pub connections: Arc<AtomicU64>,
}

/// Threads that attack.
pub struct Attackers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Attackers {
    /// One thread for each number, which runs until it is told to stop.
    pub fn start(
        numbers: std::ops::Range<u8>,
        attack: impl Fn(u8, &AtomicBool) + Clone + Send + 'static,
    ) -> Attackers {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |number| {
            let stop = stop.clone();
            let attack = attack.clone();
            std::thread::spawn(move || attack(number, &stop))
        };
        Attackers { threads: numbers.map(thread).collect(), stop }
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there fails nothing by itself; the figures will.
            let _ = thread.join();
        }
    }
}

/// An address for each attacker, of a network of this kind of attack.
pub fn address(network: u8, host: u8, n: u8) -> IpAddr {
    Ipv4Addr::new(127, network, host, n.max(1)).into()
}

/// What a flood says: once after the handshake, and then again and again.
#[derive(Clone)]
pub struct Words {
    pub hello: Vec<u8>,
    pub burst: Vec<u8>,
    /// Whether it reads what rill says.
    pub reads: bool,
}

/// So many peers that talk as fast as they can.
pub fn flood(target: Target<'_>, peers: u8, words: &Words, done: &Done) -> Attackers {
    let to = target.address();
    let hash = target.info_hash;
    let words = words.clone();
    let done = done.clone();
    Attackers::start(0..peers, move |n, stop| {
        while !stop.load(Relaxed) {
            if let Ok(stream) = connect(address(60, n, 1), to) {
                done.connections.fetch_add(1, Relaxed);
                // It ends when rill has had enough.
                let _ = talk(stream, hash, &words, stop, &done);
            }
        }
    })
}

fn talk(
    mut stream: TcpStream,
    hash: InfoHash,
    words: &Words,
    stop: &AtomicBool,
    done: &Done,
) -> std::io::Result<()> {
    if words.reads {
        let mut reading = stream.try_clone()?;
        std::thread::spawn(move || {
            let mut scratch = vec![0; 64 << 10];
            while reading.read(&mut scratch).is_ok_and(|n| n > 0) {}
        });
    } else {
        SockRef::from(&stream).set_recv_buffer_size(4 << 10)?;
    }
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    let outcome = (|| {
        stream.write_all(&[&handshake(hash)[..], &words.hello].concat())?;
        let mut at = 0;
        while !stop.load(Relaxed) {
            match stream.write(&words.burst[at..]) {
                Ok(n) => {
                    at = (at + n) % words.burst.len();
                    done.bytes.fetch_add(n as u64, Relaxed);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    })();
    // The reader ends with it.
    let _ = stream.shutdown(std::net::Shutdown::Both);
    outcome
}

/// Connects and hangs up, as fast as it can: every other time with a reset.
pub fn storm(target: Target<'_>, done: &Done) -> Attackers {
    let to = target.address();
    let done = done.clone();
    Attackers::start(0..2, move |n, stop| {
        for i in 0u32.. {
            if stop.load(Relaxed) {
                return;
            }
            match come_and_go(address(61, n, (i % 250) as u8), to, i % 2 == 0) {
                Ok(true) => drop(done.connections.fetch_add(1, Relaxed)),
                // The queue is full: waiting for the system to try again would take a second.
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    })
}

/// Whether the connection stood; on loopback it does at once, or there is no room for it.
fn come_and_go(from: IpAddr, to: SocketAddr, abrupt: bool) -> std::io::Result<bool> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    // "In progress" is no error.
    let _ = socket.connect(&to.into());
    let stands = socket.peer_addr().is_ok();
    if abrupt {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    Ok(stands)
}

/// How a connection that does nothing began: these bytes at once, then those, one a second.
pub type Beginning = fn(InfoHash) -> (Vec<u8>, Vec<u8>);

/// One connection of a slow attacker.
struct Slow {
    from: IpAddr,
    begin: Beginning,
    stream: Option<TcpStream>,
    rest: Vec<u8>,
    at: usize,
    next: Instant,
}

impl Slow {
    fn tick(&mut self, to: SocketAddr, hash: InfoHash, done: &Done) {
        let Some(stream) = &mut self.stream else {
            return self.begin_anew(to, hash, done);
        };
        match stream.read(&mut [0; 4096]) {
            Ok(n) if n > 0 => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            _ => return self.stream = None,
        }
        if self.at < self.rest.len() && self.next <= Instant::now() {
            self.next += Duration::from_secs(1);
            match stream.write_all(&self.rest[self.at..=self.at]) {
                Ok(()) => self.at += 1,
                Err(_) => self.stream = None,
            }
        }
    }

    fn begin_anew(&mut self, to: SocketAddr, hash: InfoHash, done: &Done) {
        let (at_once, rest) = (self.begin)(hash);
        let Ok(mut stream) = connect(self.from, to) else { return };
        done.connections.fetch_add(1, Relaxed);
        if stream.set_nonblocking(true).is_ok() && stream.write_all(&at_once).is_ok() {
            self.stream = Some(stream);
            self.rest = rest;
            self.at = 0;
            self.next = Instant::now();
        }
    }
}

/// So many connections, each begun in one of these ways and then as slow as can be; from as many addresses as
/// it takes.
pub fn slow_loris(target: Target<'_>, connections: u8, ways: &'static [Beginning], done: &Done) -> Attackers {
    let to = target.address();
    let hash = target.info_hash;
    let done = done.clone();
    Attackers::start(0..1, move |_, stop| {
        let slow = |i: u8| Slow {
            from: address(62, 0, i / 4),
            begin: ways[usize::from(i) % ways.len()],
            stream: None,
            rest: Vec::new(),
            at: 0,
            next: Instant::now(),
        };
        let mut all: Vec<Slow> = (0..connections).map(slow).collect();
        while !stop.load(Relaxed) {
            all.iter_mut().for_each(|one| one.tick(to, hash, &done));
            std::thread::sleep(TICK);
        }
    })
}
