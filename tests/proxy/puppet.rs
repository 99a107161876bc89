//! A SOCKS5 proxy with manners, and a web server behind it.

use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The address from which the proxy connects.
pub const WAY_OUT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// How the proxy behaves. One that lies does so on its first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Honest,
    ByteByByte,
    LongName,
    NoLogin,
    RefusesLogin,
    WrongVersion,
    UnknownAddressType,
    ShortReply,
    ClosesAtOnce,
    NeverAnswers,
    HttpServer,
}

impl Manner {
    pub const LIES: [Manner; 6] = [
        Manner::WrongVersion,
        Manner::UnknownAddressType,
        Manner::ShortReply,
        Manner::ClosesAtOnce,
        Manner::NeverAnswers,
        Manner::HttpServer,
    ];
}

/// A running proxy. It ends with the test's process.
#[derive(Clone)]
pub struct PuppetProxy {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    names: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
}

impl PuppetProxy {
    pub fn start(manner: Manner) -> PuppetProxy {
        PuppetProxy::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), manner)
    }

    pub fn start_at(addr: SocketAddr, manner: Manner) -> PuppetProxy {
        let listener = TcpListener::bind(addr).unwrap();
        let proxy = PuppetProxy {
            addr: listener.local_addr().unwrap(),
            asked: Arc::default(),
            names: Arc::default(),
        };
        let served = proxy.clone();
        thread::spawn(move || {
            for (n, stream) in listener.incoming().flatten().enumerate() {
                let lies = Manner::LIES.contains(&manner);
                let manner = if lies && n > 0 { Manner::Honest } else { manner };
                let proxy = served.clone();
                // A client that goes away ends its connection only.
                thread::spawn(move || _ = proxy.serve(stream, manner));
            }
        });
        proxy
    }

    /// Has the proxy resolve this name.
    pub fn knows(&self, name: &str, addr: SocketAddr) {
        self.names.lock().unwrap().insert(name.to_owned(), addr);
    }

    /// Returns what the proxy was asked to connect to, as it was asked.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn serve(&self, mut client: TcpStream, manner: Manner) -> io::Result<()> {
        if manner == Manner::ClosesAtOnce {
            return Ok(());
        }
        let methods = take(&mut client, 2)?[1];
        let methods = take(&mut client, usize::from(methods))?;
        match manner {
            Manner::NeverAnswers => {
                thread::sleep(Duration::from_secs(60));
                return Ok(());
            }
            Manner::WrongVersion => return client.write_all(&[4, 90, 0, 0, 0, 0, 0, 0]),
            Manner::HttpServer => return client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            Manner::NoLogin => client.write_all(&[5, 0])?,
            _ => {
                assert!(methods.contains(&2), "the login was not offered");
                say(&mut client, &[5, 2], manner)?;
                let user = take(&mut client, 2)?[1];
                let user = take(&mut client, usize::from(user))?;
                let password = take(&mut client, 1)?[0];
                let password = take(&mut client, usize::from(password))?;
                assert_eq!((&user[..], &password[..]), (&b"user"[..], &b"secret"[..]));
                let refuses = manner == Manner::RefusesLogin;
                say(&mut client, &[1, u8::from(refuses)], manner)?;
                if refuses {
                    return Ok(());
                }
            }
        }
        let head = take(&mut client, 4)?;
        assert_eq!(head[..3], [5, 1, 0]);
        let host = match head[3] {
            1 => {
                IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(take(&mut client, 4)?).unwrap())).to_string()
            }
            4 => format!("[{}]", Ipv6Addr::from(<[u8; 16]>::try_from(take(&mut client, 16)?).unwrap())),
            _ => {
                let len = take(&mut client, 1)?[0];
                String::from_utf8(take(&mut client, usize::from(len))?).unwrap()
            }
        };
        let port = u16::from_be_bytes(take(&mut client, 2)?.try_into().unwrap());
        self.asked.lock().unwrap().push(format!("{host}:{port}"));
        match manner {
            Manner::UnknownAddressType => return client.write_all(&[5, 0, 0, 9, 0, 0, 0, 0, 0, 0]),
            Manner::ShortReply => return client.write_all(&[5, 0, 0, 1, 0]),
            _ => {}
        }
        let known = self.names.lock().unwrap().get(&host).copied();
        let to = known.or_else(|| format!("{host}:{port}").parse().ok());
        let Some(Ok(server)) = to.map(connect) else {
            return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
        };
        let mut reply = vec![5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        if manner == Manner::LongName {
            reply = vec![5, 0, 0, 3, 255];
            reply.extend([b'x'; 257]);
        }
        say(&mut client, &reply, manner)?;
        relay(client, server)
    }
}

fn say(client: &mut TcpStream, bytes: &[u8], manner: Manner) -> io::Result<()> {
    if manner != Manner::ByteByByte {
        return client.write_all(bytes);
    }
    client.set_nodelay(true)?;
    for byte in bytes {
        client.write_all(&[*byte])?;
        thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

fn take(client: &mut TcpStream, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SockAddr::from(SocketAddr::new(WAY_OUT, 0)))?;
    socket.connect(&SockAddr::from(to))?;
    Ok(socket.into())
}

/// Moves bytes both ways until one side ends.
fn relay(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    io::copy(&mut from_server, &mut to_client)?;
    to_client.shutdown(std::net::Shutdown::Both)
}

/// Returns an address of loopback on which nothing listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A web server that gives one answer and records its requests.
#[derive(Clone)]
pub struct HttpServer {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<(IpAddr, String)>>>,
    body: Arc<Mutex<Vec<u8>>>,
}

impl HttpServer {
    pub fn start() -> HttpServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = HttpServer { addr, seen: Arc::default(), body: Arc::default() };
        let served = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = served.clone();
                thread::spawn(move || _ = server.serve(stream));
            }
        });
        server
    }

    /// Answers with a tracker's reply that names this peer.
    pub fn answers_with_peer(&self, peer: SocketAddr) {
        let SocketAddr::V4(peer) = peer else { panic!("{peer}") };
        let mut body = b"d8:intervali60e5:peers6:".to_vec();
        body.extend(peer.ip().octets());
        body.extend(peer.port().to_be_bytes());
        body.push(b'e');
        self.answers(body);
    }

    pub fn answers(&self, body: Vec<u8>) {
        *self.body.lock().unwrap() = body;
    }

    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }

    pub fn callers(&self) -> BTreeSet<IpAddr> {
        self.seen.lock().unwrap().iter().map(|(ip, _)| *ip).collect()
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(take(&mut stream, 1)?);
        }
        let line = String::from_utf8(head).unwrap().lines().next().unwrap_or_default().to_owned();
        self.seen.lock().unwrap().push((stream.peer_addr()?.ip(), line));
        let body = self.body.lock().unwrap().clone();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(&body)
    }
}
