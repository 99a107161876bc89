//! The floor: receives bytes from a loopback socket, hashes them with SHA-1 and writes them to a file in a
//! plain loop.
//!
//! A client that checks and stores its content cannot spend less CPU time on this machine, so the engine's
//! CPU time is given as a multiple of the floor's. The loop uses one buffer that stays in the cache, large
//! writes and a single thread.

use super::cost::{Cost, Gauge};
use sha1::{Digest, Sha1};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

/// Bytes received, hashed and written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Receives `bytes` into a new file. `on_port` is called with the port that the sender must connect to.
pub(super) fn receive(path: &Path, bytes: u64, on_port: impl FnOnce(u16)) -> io::Result<Cost> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut file = File::create_new(path)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    on_port(listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    let mut gauge = Gauge::start();
    let mut sha1 = Sha1::new();
    let mut left = bytes;
    while left > 0 {
        let part = &mut buffer[..left.min(BUFFER_BYTES as u64) as usize];
        stream.read_exact(part)?;
        sha1.update(&*part);
        file.write_all(part)?;
        left -= part.len() as u64;
    }
    std::hint::black_box(sha1.finalize());
    Ok(gauge.read())
}

/// Sends `bytes` bytes of a fixed pattern to the port.
pub(super) fn send(port: u16, bytes: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let buffer: Vec<u8> = (0..BUFFER_BYTES).map(|i| (i * 7) as u8).collect();
    let mut left = bytes;
    while left > 0 {
        let part = left.min(BUFFER_BYTES as u64) as usize;
        stream.write_all(&buffer[..part])?;
        left -= part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_every_byte_that_was_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor");
        let bytes = BUFFER_BYTES as u64 * 3 + 1;
        let mut sender = None;
        let cost = receive(&path, bytes, |port| sender = Some(std::thread::spawn(move || send(port, bytes))))
            .unwrap();
        sender.unwrap().join().unwrap().unwrap();
        assert_eq!(path.metadata().unwrap().len(), bytes);
        assert!(!cost.wall.is_zero());
    }
}
