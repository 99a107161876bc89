//! A peer connection to rill, over which a test sends messages or raw bytes.

use rill::units::{InfoHash, PeerId};
use rill::wire::{HANDSHAKE_LEN, Handshake, Message};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Time limit of a read.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A connection after the handshake.
pub struct Line {
    stream: TcpStream,
}

/// Connects from this address, one of the sixteen million loopback addresses.
pub fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
    Ok(socket.into())
}

/// Returns a handshake with a peer id that no other connection has.
pub fn handshake(info_hash: InfoHash) -> [u8; HANDSHAKE_LEN] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut peer_id = *b"-XX0000-............";
    peer_id[8..].copy_from_slice(format!("{:012}", NEXT.fetch_add(1, Relaxed)).as_bytes());
    Handshake { info_hash, peer_id: PeerId(peer_id), fast: true, extended: true, dht: false }.to_bytes()
}

/// Encodes messages.
pub fn bytes(messages: &[Message<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    messages.iter().for_each(|m| m.write(&mut bytes));
    bytes
}

impl Line {
    /// Connects and completes the handshake.
    pub fn dial(from: IpAddr, to: SocketAddr, info_hash: InfoHash) -> io::Result<Line> {
        let mut line = Line { stream: connect(from, to)? };
        line.raw(&handshake(info_hash))?;
        line.their_handshake()?;
        Ok(line)
    }

    /// Completes the handshake of an incoming connection.
    pub fn answer(stream: TcpStream, info_hash: InfoHash) -> io::Result<Line> {
        let mut line = Line { stream };
        line.their_handshake()?;
        line.raw(&handshake(info_hash))?;
        Ok(line)
    }

    fn their_handshake(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.read_exact(&mut [0; HANDSHAKE_LEN])
    }

    /// Sends messages.
    pub fn send(&mut self, messages: &[Message<'_>]) -> io::Result<()> {
        self.raw(&bytes(messages))
    }

    /// Sends raw bytes.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Returns the id and the body of the next message that is not a keep-alive.
    pub fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let mut len = [0; 4];
            self.stream.read_exact(&mut len)?;
            let mut body = vec![0; u32::from_be_bytes(len) as usize];
            self.stream.read_exact(&mut body)?;
            if !body.is_empty() {
                let id = body.remove(0);
                return Ok((id, body));
            }
        }
    }

    /// Sets the time limit of reads; if `abrupt`, closing the connection sends a reset.
    pub fn limit(&self, patience: Duration, abrupt: bool) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))?;
        if abrupt { SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) } else { Ok(()) }
    }
}
