//! A scripted seed in this process that sends wrong blocks.
//!
//! It sends a full bitfield, unchokes at once and answers each request with a block that has one wrong byte;
//! an honest one answers with right blocks.

use crate::content::Torrent;
use sha1::{Digest, Sha1};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A lying seeder of a single-file torrent.
pub struct Liar {
    pub address: SocketAddr,
    served: Arc<AtomicU64>,
}

/// Data of each connection.
#[derive(Clone)]
struct Script {
    info_hash: [u8; 20],
    pieces: usize,
    piece_len: u64,
    content: Arc<File>,
    /// Value by which one byte of every block is changed; 0 for an honest seed.
    twist: u8,
    served: Arc<AtomicU64>,
}

impl Liar {
    /// Starts a lying seed at this address.
    pub fn start(ip: IpAddr, torrent: &Torrent) -> Liar {
        Liar::twisting(ip, torrent, 0x55)
    }

    /// Starts an honest seed at this address.
    pub fn honest(ip: IpAddr, torrent: &Torrent) -> Liar {
        Liar::twisting(ip, torrent, 0)
    }

    fn twisting(ip: IpAddr, torrent: &Torrent, twist: u8) -> Liar {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::new(AtomicU64::new(0));
        let script = Script {
            info_hash: torrent.info_hash,
            pieces: torrent.hashes.len() / 20,
            piece_len: torrent.shape.piece_len,
            content: Arc::new(File::open(torrent.path(&torrent.dir, 0)).unwrap()),
            twist,
            served: served.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let script = script.clone();
                // rill closes the connection when it bans the liar.
                std::thread::spawn(move || script.play(stream));
            }
        });
        Liar { address, served }
    }

    /// Returns the number of blocks sent.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

impl Script {
    fn play(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut handshake = [0; 68];
        stream.read_exact(&mut handshake)?;
        stream.write_all(&greeting(&self.info_hash, &stream.local_addr()?.to_string()))?;
        let mut bitfield = vec![0xff; self.pieces.div_ceil(8)];
        if self.pieces % 8 != 0 {
            *bitfield.last_mut().unwrap() = 0xff << (8 - self.pieces % 8);
        }
        stream.write_all(&message(5, &bitfield))?;
        stream.write_all(&message(1, &[]))?;
        loop {
            let mut len = [0; 4];
            stream.read_exact(&mut len)?;
            let mut body = vec![0; u32::from_be_bytes(len).min(1 << 20) as usize];
            stream.read_exact(&mut body)?;
            if let (Some(6), 13) = (body.first(), body.len()) {
                self.answer(&mut stream, &body[1..])?;
            }
        }
    }

    fn answer(&self, stream: &mut TcpStream, request: &[u8]) -> io::Result<()> {
        let number = |at: usize| u64::from(u32::from_be_bytes(request[at..at + 4].try_into().unwrap()));
        let mut block = vec![0; number(8).min(1 << 17) as usize];
        self.content.read_exact_at(&mut block, number(0) * self.piece_len + number(4))?;
        let middle = block.len() / 2;
        block[middle] ^= self.twist;
        self.served.fetch_add(1, Ordering::SeqCst);
        stream.write_all(&message(7, &[&request[..8], &block].concat()))
    }
}

/// Returns a handshake without extensions, with a peer id made from `name`.
fn greeting(info_hash: &[u8; 20], name: &str) -> Vec<u8> {
    [&b"\x13BitTorrent protocol"[..], &[0; 8], info_hash, &Sha1::digest(name.as_bytes())].concat()
}

/// Returns whether the client at this port answers a handshake for the torrent. Clients wait a minute after a
/// failed dial, so a test waits for this first.
pub fn is_served(port: u16, torrent: &Torrent) -> bool {
    let greet = || -> io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(&greeting(&torrent.info_hash, "a peer which only looks"))?;
        stream.read_exact(&mut [0; 68])
    };
    greet().is_ok()
}

/// A peer that requests one block after another and measures how long each takes.
pub struct Prober {
    stream: TcpStream,
}

impl Prober {
    /// Connects, sends `interested` and waits for the unchoke.
    pub fn meet(address: SocketAddr, torrent: &Torrent, patience: Duration) -> io::Result<Prober> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(&[greeting(&torrent.info_hash, "prober"), message(2, &[])].concat())?;
        stream.read_exact(&mut [0; 68])?;
        let mut prober = Prober { stream };
        prober.wait_for(1)?;
        Ok(prober)
    }

    /// Requests the first block of a piece and waits for it. Returns the time that it took.
    pub fn probe(&mut self, piece: u32) -> io::Result<Duration> {
        let begun = Instant::now();
        self.stream
            .write_all(&message(6, &[piece.to_be_bytes(), [0; 4], (1u32 << 14).to_be_bytes()].concat()))?;
        self.wait_for(7)?;
        Ok(begun.elapsed())
    }

    fn wait_for(&mut self, wanted: u8) -> io::Result<()> {
        loop {
            let mut len = [0; 4];
            self.stream.read_exact(&mut len)?;
            let mut body = vec![0; u32::from_be_bytes(len).min(1 << 20) as usize];
            self.stream.read_exact(&mut body)?;
            if body.first() == Some(&wanted) {
                return Ok(());
            }
        }
    }
}

fn message(id: u8, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 1).to_be_bytes()[..], &[id], body].concat()
}
