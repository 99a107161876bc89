//! Peers that complete the handshake and stay idle, each from its own address, because clients limit the
//! connections from one address.

use crate::clients::PORT;
use crate::fault::{Fault, Result, check_signals, pause};
use crate::networks::{HANDSHAKERS, Networks, Side, caller, server};
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Time limit of the handshakes that are awaited together.
const PATIENCE: Duration = Duration::from_secs(5);
/// Interval between two connections, without waiting for the handshake: some clients accept only twice a
/// second, others have a short accept queue.
const APART: Duration = Duration::from_millis(10);
/// Most connections that wait for a handshake at once.
const AT_ONCE: usize = 50;
/// Time limit of all connections.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Length of a handshake in bytes (BEP 3).
const HANDSHAKE: usize = 68;

/// Open connections.
#[derive(Debug, Default)]
pub struct Handshakers(Vec<TcpStream>);

impl Handshakers {
    /// Connects from the addresses with these numbers, until all are connected or the client accepts no
    /// more.
    pub fn connect(networks: &Networks, info_hash: [u8; 20], numbers: Range<u32>) -> Result<Handshakers> {
        let connect = move || {
            let mut handshakers = Vec::new();
            let begun = Instant::now();
            for some in numbers.collect::<Vec<_>>().chunks(AT_ONCE) {
                check_signals()?;
                let some: Vec<_> = some.iter().filter_map(|number| dial(*number, info_hash).ok()).collect();
                let before = handshakers.len();
                let until = Instant::now() + PATIENCE;
                handshakers
                    .extend(some.into_iter().filter_map(|stream| answered(stream, info_hash, until).ok()));
                if handshakers.len() == before || begun.elapsed() > CALL_LIMIT {
                    break;
                }
            }
            Ok(Handshakers(handshakers))
        };
        networks.inside(Side::Fetch, connect).map_err(Fault::at("cannot call a client"))?
    }

    /// Returns the number of accepted connections.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the number of connections that the client has not closed.
    pub fn alive(&mut self) -> usize {
        self.0.iter_mut().filter_map(|stream| is_open(stream).ok()).filter(|is_open| *is_open).count()
    }
}

/// Waits until a client answers a handshake for each of these torrents. Returns the number of answers within
/// `patience`.
pub fn count_answers(networks: &Networks, info_hashes: Vec<[u8; 20]>, patience: Duration) -> Result<usize> {
    let ask = move || {
        let all = info_hashes.len();
        let begun = Instant::now();
        // A torrent without an answer goes to the end of the queue. No address connects twice in a
        // short time.
        let mut open = VecDeque::from(info_hashes);
        let mut handshakers = (0..HANDSHAKERS).cycle();
        while !open.is_empty() && begun.elapsed() < patience {
            pause(2)?;
            let some: Vec<_> = open.drain(..open.len().min(AT_ONCE)).collect();
            let dialed: Vec<_> = some
                .iter()
                .zip(&mut handshakers)
                .map(|(info_hash, caller)| dial(caller, *info_hash))
                .collect();
            let until = Instant::now() + PATIENCE;
            let signalled = some.iter().zip(dialed);
            open.extend(signalled.filter_map(|(hash, stream)| {
                stream.and_then(|s| answered(s, *hash, until)).err().map(|_| *hash)
            }));
        }
        Ok(all - open.len())
    };
    networks.inside(Side::Fetch, ask).map_err(Fault::at("cannot call a client"))?
}

/// Connects from the address with this number and sends a handshake.
fn dial(number: u32, info_hash: [u8; 20]) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((caller(number), 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((server(0), PORT)).into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    // The handshake has the bits of the extension protocol (BEP 10) and the Fast extension (BEP 6), as
    // most clients have.
    let id = format!("-XX0000-{number:012}");
    stream.write_all(
        &[b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04", &info_hash[..], id.as_bytes()].concat(),
    )?;
    stream.set_read_timeout(Some(APART))?;
    // The answer is read later.
    let _ = stream.peek(&mut [0]);
    Ok(stream)
}

/// Waits until `until` for the client's handshake for this torrent. Returns the connection.
fn answered(mut stream: TcpStream, info_hash: [u8; 20], until: Instant) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(
        until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
    ))?;
    let mut answer = [0; HANDSHAKE];
    stream.read_exact(&mut answer)?;
    if answer[28..48] != info_hash {
        return Err(ErrorKind::InvalidData.into());
    }
    if answer[27] & 4 != 0 {
        // With the Fast extension a peer without pieces must send HaveNone.
        stream.write_all(&[0, 0, 0, 1, 15])?;
    }
    Ok(stream)
}

/// Returns whether the connection is open. Received bytes are discarded.
fn is_open(stream: &mut TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(e) => return Err(e),
        }
    }
}
