//! Peers that shake hands and keep still, each with an address of its own: from one address clients take only
//! a few.

use crate::clients::PORT;
use crate::fault::{Fault, Result, go_on, pause};
use crate::networks::{CALLERS, Networks, Side, caller, server};
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long answers may take, those that are waited for together.
const PATIENCE: Duration = Duration::from_secs(5);
/// The next one calls without the answer after so long: some clients look but twice a second who has called.
/// Others have a short queue for those who call at once.
const APART: Duration = Duration::from_millis(10);
/// So many wait for an answer at most.
const AT_ONCE: usize = 50;
/// How long they all may take.
const CALLING: Duration = Duration::from_secs(30);
/// Bytes of a handshake (BEP 3).
const HANDSHAKE: usize = 68;

/// Connections that are held.
#[derive(Debug, Default)]
pub struct Callers(Vec<TcpStream>);

impl Callers {
    /// Calls as each of these numbers, until all are there or the other side takes no more.
    pub fn call(networks: &Networks, info_hash: [u8; 20], numbers: Range<u32>) -> Result<Callers> {
        let call = move || {
            let mut callers = Vec::new();
            let begun = Instant::now();
            for some in numbers.collect::<Vec<_>>().chunks(AT_ONCE) {
                go_on()?;
                let some: Vec<_> = some.iter().filter_map(|number| dial(*number, info_hash).ok()).collect();
                let before = callers.len();
                let until = Instant::now() + PATIENCE;
                callers.extend(some.into_iter().filter_map(|stream| answered(stream, info_hash, until).ok()));
                if callers.len() == before || begun.elapsed() > CALLING {
                    break;
                }
            }
            Ok(Callers(callers))
        };
        networks.inside(Side::Fetch, call).map_err(Fault::at("cannot call a client"))?
    }

    /// How many were taken.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many the other side has not hung up on.
    pub fn alive(&mut self) -> usize {
        self.0.iter_mut().filter_map(|stream| stays(stream).ok()).filter(|stays| *stays).count()
    }
}

/// Waits until a client answers for each of these torrents; for how many it did before the patience was over.
pub fn answers_for(networks: &Networks, info_hashes: Vec<[u8; 20]>, patience: Duration) -> Result<usize> {
    let ask = move || {
        let all = info_hashes.len();
        let begun = Instant::now();
        // A torrent that was asked for in vain goes to the end; no address connects twice soon.
        let mut open = VecDeque::from(info_hashes);
        let mut callers = (0..CALLERS).cycle();
        while !open.is_empty() && begun.elapsed() < patience {
            pause(2)?;
            let some: Vec<_> = open.drain(..open.len().min(AT_ONCE)).collect();
            let dialed: Vec<_> =
                some.iter().zip(&mut callers).map(|(info_hash, caller)| dial(caller, *info_hash)).collect();
            let until = Instant::now() + PATIENCE;
            let asked = some.iter().zip(dialed);
            open.extend(asked.filter_map(|(hash, stream)| {
                stream.and_then(|s| answered(s, *hash, until)).err().map(|_| *hash)
            }));
        }
        Ok(all - open.len())
    };
    networks.inside(Side::Fetch, ask).map_err(Fault::at("cannot call a client"))?
}

/// A connection on which this caller's handshake is under way.
fn dial(number: u32, info_hash: [u8; 20]) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((caller(number), 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((server(0), PORT)).into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    // It speaks the extension protocol and the fast extension, as most do (BEP 10, BEP 6).
    let id = format!("-XX0000-{number:012}");
    stream.write_all(
        &[b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04", &info_hash[..], id.as_bytes()].concat(),
    )?;
    stream.set_read_timeout(Some(APART))?;
    // Whether it has come by then is looked at later.
    let _ = stream.peek(&mut [0]);
    Ok(stream)
}

/// The connection, once the other side has answered for this torrent, which it may do until then.
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
        // Where both speak the fast extension, who has nothing says so.
        stream.write_all(&[0, 0, 0, 1, 15])?;
    }
    Ok(stream)
}

/// Whether the connection stands; what has come is thrown away.
fn stays(stream: &mut TcpStream) -> io::Result<bool> {
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
