//! Attacking peers: each attacks until rill disconnects it, then it connects again.

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

/// Interval in which an attacker with many connections serves them.
const TICK: Duration = Duration::from_millis(50);
/// Time limit of a write, after which the attacker checks its stop flag.
const WRITE_PATIENCE: Duration = Duration::from_millis(100);

/// Totals of an attack over all its rounds.
#[derive(Clone, Default)]
pub struct Done {
    pub bytes: Arc<AtomicU64>,
    pub connections: Arc<AtomicU64>,
}

/// Attacking threads, stopped when this is dropped.
pub struct Attackers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Attackers {
    /// Starts one thread for each number.
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
            // A panic of an attacker does not fail the test by itself; its missing bytes do.
            let _ = thread.join();
        }
    }
}

/// Returns the address of an attacker, in a network of its kind of attack.
pub fn address(network: u8, host: u8, n: u8) -> IpAddr {
    Ipv4Addr::new(127, network, host, n.max(1)).into()
}

/// Messages of a flood: `first` once after the handshake, then `burst` repeatedly.
#[derive(Clone)]
pub struct FloodMessages {
    pub first: Vec<u8>,
    pub burst: Vec<u8>,
    /// The attacker reads rill's messages.
    pub reads: bool,
}

/// Starts `peers` attackers that send their messages as fast as they can.
pub fn flood(target: Target<'_>, peers: u8, messages: &FloodMessages, done: &Done) -> Attackers {
    let to = target.address();
    let hash = target.info_hash;
    let messages = messages.clone();
    let done = done.clone();
    Attackers::start(0..peers, move |n, stop| {
        while !stop.load(Relaxed) {
            if let Ok(stream) = connect(address(60, n, 1), to) {
                done.connections.fetch_add(1, Relaxed);
                // The connection ends when rill closes it.
                let _ = send_flood(stream, hash, &messages, stop, &done);
            }
        }
    })
}

fn send_flood(
    mut stream: TcpStream,
    hash: InfoHash,
    messages: &FloodMessages,
    stop: &AtomicBool,
    done: &Done,
) -> std::io::Result<()> {
    if messages.reads {
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
        stream.write_all(&[&handshake(hash)[..], &messages.first].concat())?;
        let mut at = 0;
        while !stop.load(Relaxed) {
            match stream.write(&messages.burst[at..]) {
                Ok(n) => {
                    at = (at + n) % messages.burst.len();
                    done.bytes.fetch_add(n as u64, Relaxed);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    })();
    // The shutdown ends the reader as well.
    let _ = stream.shutdown(std::net::Shutdown::Both);
    outcome
}

/// Connects and closes as fast as it can, every other connection with a reset.
pub fn storm(target: Target<'_>, done: &Done) -> Attackers {
    let to = target.address();
    let done = done.clone();
    Attackers::start(0..2, move |n, stop| {
        for i in 0u32.. {
            if stop.load(Relaxed) {
                return;
            }
            match connect_and_close(address(61, n, (i % 250) as u8), to, i % 2 == 0) {
                Ok(true) => drop(done.connections.fetch_add(1, Relaxed)),
                // The accept queue is full: the kernel would retry only after a second.
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    })
}

/// Connects and closes. Returns whether the connection was established; on loopback that happens at once or,
/// if the accept queue is full, not at all.
fn connect_and_close(from: IpAddr, to: SocketAddr, abrupt: bool) -> std::io::Result<bool> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    // EINPROGRESS is not an error.
    let _ = socket.connect(&to.into());
    let stands = socket.peer_addr().is_ok();
    if abrupt {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    Ok(stands)
}

/// Bytes of a slow connection: the first part is sent at once, the second one byte a second.
pub type Beginning = fn(InfoHash) -> (Vec<u8>, Vec<u8>);

/// One slow connection.
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

/// Starts an attacker with `connections` slow connections, which begin in these ways in turn, from as many
/// addresses as needed.
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
