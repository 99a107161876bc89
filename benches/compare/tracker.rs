//! The tracker of all clients: HTTP, compact IPv4 peers (BEP 3, BEP 23). It does not tell torrents apart:
//! there is one at a time, or a thousand of one client.

use crate::fault::{Fault, Result, pause};
use crate::networks::{Networks, server};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PORT: u16 = 6969;
/// Announce interval in seconds, as trackers usually have it. It is longer than a run, so clients find each
/// other at the first announce.
const INTERVAL: u32 = 1800;
/// Time limit of a silent connection.
const SILENCE: Duration = Duration::from_secs(5);

/// A peer as it announced itself.
#[derive(Clone, Copy, Debug)]
struct Peer {
    address: SocketAddrV4,
    complete: bool,
}

type Peers = Arc<Mutex<Vec<Peer>>>;

/// A running tracker; it serves until this program ends.
#[derive(Debug)]
pub struct Tracker(Peers);

impl Tracker {
    /// Starts the tracker on the serving side.
    pub fn start(networks: &Networks) -> Result<Tracker> {
        let listener = networks.listen(SocketAddrV4::new(server(0), PORT))?;
        let peers = Peers::default();
        let known = peers.clone();
        std::thread::spawn(move || accept(&listener, &known));
        Ok(Tracker(peers))
    }

    /// Returns the announce URL.
    pub fn url() -> String {
        format!("http://{}:{PORT}/announce", server(0))
    }

    /// Removes all peers.
    pub fn forget(&self) {
        locked(&self.0).clear();
    }

    /// Returns the number of peers, and of those that are complete.
    pub fn count(&self) -> (usize, usize) {
        let peers = locked(&self.0);
        (peers.len(), peers.iter().filter(|p| p.complete).count())
    }

    /// Waits until this number of peers is complete.
    pub fn wait_for_seeds(&self, seeds: usize, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        while self.count().1 < seeds {
            if begun.elapsed() > patience {
                let there = self.count().1;
                return Err(Fault::Wrong(format!(
                    "only {there} of {seeds} seeders announced themselves within {patience:?}"
                )));
            }
            pause(10)?;
        }
        Ok(())
    }
}

fn locked(peers: &Peers) -> std::sync::MutexGuard<'_, Vec<Peer>> {
    peers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, peers: &Peers) {
    for stream in listener.incoming().flatten() {
        let peers = peers.clone();
        // Each connection has its own thread, so a silent client does not delay others.
        std::thread::spawn(move || answer(stream, &peers));
    }
}

/// Answers one announce and closes the connection. Other requests get no answer.
fn answer(mut stream: TcpStream, peers: &Peers) -> Option<()> {
    stream.set_read_timeout(Some(SILENCE)).ok()?;
    let IpAddr::V4(ip) = stream.peer_addr().ok()?.ip() else { return None };
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(std::io::Result::ok);
    let request = lines.next()?;
    lines.find(String::is_empty)?;
    let query = request.split(' ').nth(1)?.split_once("/announce?")?.1;
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let address = SocketAddrV4::new(ip, value("port")?.parse().ok()?);
    let peer = Peer { address, complete: value("left") == Some("0") };
    let body = reply(&note(peers, peer, value("event") == Some("stopped")));
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).ok()
}

/// Records the announcing peer. Returns all others.
fn note(peers: &Peers, peer: Peer, stopped: bool) -> Vec<SocketAddrV4> {
    let mut peers = locked(peers);
    peers.retain(|p| p.address != peer.address);
    let others = peers.iter().map(|p| p.address).collect();
    if !stopped {
        peers.push(peer);
    }
    others
}

fn reply(peers: &[SocketAddrV4]) -> Vec<u8> {
    let mut body =
        format!("d8:intervali{INTERVAL}e12:min intervali{INTERVAL}e5:peers{}:", 6 * peers.len()).into_bytes();
    for peer in peers {
        body.extend(peer.ip().octets());
        body.extend(peer.port().to_be_bytes());
    }
    body.push(b'e');
    body
}
