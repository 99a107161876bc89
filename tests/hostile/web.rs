//! Web servers with scripted answers, which record the requests.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server that calls `answer` for each request, with the number of the request from 0.
    pub fn start(answer: impl Fn(&mut TcpStream, usize) -> io::Result<()> + Send + Sync + 'static) -> Server {
        Server::at(Ipv4Addr::LOCALHOST, answer)
    }

    /// Starts a server at another address of this machine.
    pub fn at(
        ip: Ipv4Addr,
        answer: impl Fn(&mut TcpStream, usize) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let answer = Arc::new(answer);
        let seen = requests.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let seen = seen.clone();
                let answer = answer.clone();
                std::thread::spawn(move || {
                    let Ok(head) = head(&mut stream) else { return };
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(head.lines().next().unwrap_or_default().to_owned());
                        seen.len() - 1
                    };
                    // The client may close the connection.
                    let _ = answer(&mut stream, number);
                });
            }
        });
        Server { address, requests }
    }

    /// Starts a server that answers with these bytes.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Server {
        let bytes = bytes.into();
        Server::start(move |stream, _| stream.write_all(&bytes))
    }

    /// Returns the announce URL.
    pub fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    /// Returns the first lines of all requests.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn head(stream: &mut TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16 << 10 {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Returns a complete response with this body.
pub fn reply(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Returns a redirect.
pub fn redirect(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// Sends an endless body.
pub fn endless(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let zeros = vec![b'0'; 64 << 10];
    loop {
        stream.write_all(&zeros)?;
    }
}

/// Sends endless zeros, compressed a thousand to one.
pub fn bomb(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff")?;
    // A deflate block with fixed codes: the literal 0, then endless copies of 258 bytes at distance one.
    // Eight copies take 13 bytes, and from the third byte on the same 13 bytes repeat.
    let bits =
        "11000110000".bytes().chain("1100010100000".bytes().cycle()).take(8 * (2 + 13)).collect::<Vec<_>>();
    let packed: Vec<u8> =
        bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | (bit - b'0'))).collect();
    stream.write_all(&packed[..2])?;
    let again = packed[2..].repeat(4096);
    loop {
        stream.write_all(&again)?;
    }
}

/// Sends a valid answer, one byte per interval.
pub fn send_slowly(stream: &mut TcpStream, every: Duration) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
    for byte in b"d8:intervali1800e5:peers99000:".iter().chain(std::iter::repeat(&b'1')) {
        stream.write_all(&[*byte])?;
        std::thread::sleep(every);
    }
    Ok(())
}

/// Sends nothing until the other side closes the connection.
pub fn silence(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    stream.read(&mut [0]).map(drop)
}

/// Returns a tracker's response with these peers in compact form.
pub fn with_peers(interval: u32, peers: &[SocketAddr]) -> Vec<u8> {
    let mut list = Vec::new();
    for peer in peers {
        let std::net::IpAddr::V4(ip) = peer.ip() else { continue };
        list.extend_from_slice(&ip.octets());
        list.extend_from_slice(&peer.port().to_be_bytes());
    }
    let head = format!("d8:intervali{interval}e12:min intervali{interval}e5:peers{}:", list.len());
    reply(&[head.as_bytes(), &list, b"e"].concat())
}
