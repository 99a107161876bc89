//! Trackers: opentracker, and a small one in this process that records every announce.

use crate::bencode::Value;
use crate::content::Torrent;
use crate::lab::{Lab, free_port, host};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An opentracker. It is created before the torrents that have its URL, and started after them.
pub struct OpenTracker {
    ip: IpAddr,
    port: u16,
}

impl OpenTracker {
    /// Chooses address and port.
    pub fn new() -> OpenTracker {
        OpenTracker { ip: host(), port: free_port() }
    }

    /// Returns the announce URL for HTTP.
    pub fn http(&self) -> String {
        format!("http://{}:{}/announce", self.ip, self.port)
    }

    /// Returns the announce URL for UDP.
    pub fn udp(&self) -> String {
        format!("udp://{}:{}/announce", self.ip, self.port)
    }

    /// Starts the tracker for these torrents alone.
    pub fn start(&self, lab: &Lab, torrents: &[&Torrent]) {
        let list: String = torrents.iter().map(|t| t.hex() + "\n").collect();
        std::fs::write(lab.at("white"), list).unwrap();
        let mut command = std::process::Command::new("opentracker");
        let ip = self.ip.to_string();
        let port = self.port.to_string();
        command.args(["-i", &ip, "-p", &port, "-P", &port, "-d"]).arg(lab.at("")).args(["-w", "/white"]);
        lab.start(&mut command);
        lab.wait_for("opentracker answers", || TcpStream::connect((self.ip, self.port)).is_ok());
    }

    /// Returns the tracker's numbers of seeds and of other peers.
    pub fn scrape(&self, torrent: &Torrent) -> (u64, u64) {
        let hash: String = torrent.info_hash.iter().map(|b| format!("%{b:02x}")).collect();
        let reply = get((self.ip, self.port).into(), &format!("/scrape?info_hash={hash}"));
        (number_after(&reply, b"8:completei"), number_after(&reply, b"10:incompletei"))
    }

    /// Waits until the tracker has this number of seeds.
    pub fn wait_for_seeds(&self, lab: &Lab, torrent: &Torrent, seeds: u64) {
        lab.wait_for(&format!("opentracker knows {seeds} seeds"), || {
            std::thread::sleep(Duration::from_millis(100));
            self.scrape(torrent).0 >= seeds
        });
    }
}

fn number_after(text: &[u8], key: &[u8]) -> u64 {
    let at = text.windows(key.len()).position(|w| w == key).map(|at| at + key.len());
    let digits = at.map_or(&[][..], |at| &text[at..]).iter().take_while(|b| b.is_ascii_digit());
    digits.fold(0, |n, b| n * 10 + u64::from(b - b'0'))
}

fn get(address: SocketAddr, target: &str) -> Vec<u8> {
    let mut reply = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = write!(stream, "GET {target} HTTP/1.0\r\nHost: tracker\r\n\r\n");
        let _ = stream.read_to_end(&mut reply);
    }
    reply
}

/// One announce.
#[derive(Clone, Debug)]
pub struct Announce {
    pub event: String,
    pub left: u64,
    pub downloaded: u64,
    pub port: u16,
}

/// A tracker in this process, which answers with fixed peers and records every announce.
pub struct Listening {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Announce>>>,
}

impl Listening {
    /// Starts a tracker at this address that answers with these peers.
    pub fn start(ip: IpAddr, peers: Vec<SocketAddr>) -> Listening {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let remembered = seen.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if let Some(announce) = read_announce(&mut stream) {
                    remembered.lock().unwrap().push(announce);
                    let body = peers_reply(&peers);
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
                }
            }
        });
        Listening { address, seen }
    }

    /// Returns the announce URL.
    pub fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    /// Returns all announces so far.
    pub fn seen(&self) -> Vec<Announce> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns the events so far in order, without regular announces.
    pub fn events(&self) -> Vec<String> {
        self.seen().into_iter().map(|a| a.event).filter(|event| !event.is_empty()).collect()
    }
}

fn peers_reply(peers: &[SocketAddr]) -> Vec<u8> {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for peer in peers {
        match peer.ip() {
            IpAddr::V4(ip) => v4.extend(ip.octets().into_iter().chain(peer.port().to_be_bytes())),
            IpAddr::V6(ip) => v6.extend(ip.octets().into_iter().chain(peer.port().to_be_bytes())),
        }
    }
    Value::Dict(vec![
        ("interval", Value::Int(1800)),
        ("peers", Value::Bytes(v4)),
        ("peers6", Value::Bytes(v6)),
    ])
    .encode()
}

fn read_announce(stream: &mut TcpStream) -> Option<Announce> {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let query = head.strip_prefix("GET /announce?")?.split(' ').next()?;
    let pairs: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let number = |key: &str| pairs.get(key).and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
    Some(Announce {
        event: pairs.get("event").unwrap_or(&"").to_string(),
        left: number("left"),
        downloaded: number("downloaded"),
        port: number("port") as u16,
    })
}
