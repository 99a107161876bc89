//! The SOCKS5 proxy that everything goes through: how it is reached, and whether it works.
//!
//! The proxy's own name is the only one that the system resolves: once at the start, and again after a connection
//! to the proxy failed. The lookup runs on a thread of its own, one at a time.
//!
//! ```text
//!   name ──lookup──▶ addresses ──a connection fails──▶ the next address, and another lookup
//! ```

use super::egress::Egress;
use crate::wire::host_and_port;
use crate::wire::percent;
use crate::wire::socks5::{Login, Socks5Error, Socks5Negotiation, Target};
use socket2::{SockAddr, Type};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most addresses of the proxy's name.
const ADDRESSES: usize = 8;
/// The least time between two lookups of the proxy's name.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);
/// How long a connection waits for the proxy if it has no time limit.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A SOCKS5 proxy (RFC 1928). Its debug output and its text are without user name and password.
#[derive(Clone)]
pub struct Proxy(Arc<Shared>);

struct Shared {
    host: String,
    port: u16,
    login: Option<Login>,
    state: Mutex<State>,
    /// A lookup has ended.
    found: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The addresses of the proxy; the first one is used.
    addresses: Vec<SocketAddr>,
    looking_up: bool,
    /// When the last lookup began.
    looked_up: Option<Instant>,
    /// What does not work at the proxy, as it was said.
    trouble: Option<String>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.host.contains(':') {
            write!(f, "[{}]:{}", self.0.host, self.0.port)
        } else {
            write!(f, "{}:{}", self.0.host, self.0.port)
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Proxy) -> bool {
        let parts = |proxy: &Proxy| (proxy.0.host.clone(), proxy.0.port, proxy.0.login.clone());
        parts(self) == parts(other)
    }
}

impl Eq for Proxy {}

impl Proxy {
    /// Parses `socks5://host:port` or `socks5://user:password@host:port`; user and password may be
    /// percent-encoded. `socks5h` is the same: the proxy resolves all names.
    ///
    /// # Errors
    /// What is wrong with the URL, in words that do not repeat it: it may hold a password.
    pub fn parse(url: &str) -> Result<Proxy, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme; it must begin with socks5://")?;
        if !["socks5", "socks5h"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err("its scheme is not socks5");
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user_info, address) = rest.rsplit_once('@').map_or((None, rest), |(u, a)| (Some(u), a));
        let (host, port) = host_and_port(address).ok_or("it has no host and port like proxy.example:1080")?;
        let login = match user_info {
            None => None,
            Some(info) => {
                let (user, password) = info.split_once(':').unwrap_or((info, ""));
                let login = Login::new(percent::decode(user), percent::decode(password));
                Some(login.ok_or("its user name is empty, or a part of the login has more than 255 bytes")?)
            }
        };
        let addresses = host.parse().map(|ip| vec![SocketAddr::new(ip, port)]).unwrap_or_default();
        let state = Mutex::new(State { addresses, ..State::default() });
        Ok(Proxy(Arc::new(Shared { host, port, login, state, found: Condvar::new() })))
    }

    /// Returns whether the proxy is given by a name, which the system resolves.
    pub fn is_named(&self) -> bool {
        self.0.host.parse::<IpAddr>().is_err()
    }

    /// Returns a negotiation with the proxy.
    pub(super) fn negotiation(&self, target: &Target) -> Box<Socks5Negotiation> {
        Box::new(Socks5Negotiation::new(target, self.0.login.clone()))
    }

    /// Returns the address of the proxy, as far as sockets may use it; begins a lookup if there is none.
    pub(super) fn address(&self, egress: &Egress) -> Option<SocketAddr> {
        let known = self.state().addresses.iter().copied().find(|addr| egress.allows(addr.ip()));
        if known.is_none() && self.is_named() {
            self.look_up();
        } else if known.is_none() {
            self.set_trouble(Some("cannot be reached over the chosen address family".into()));
        }
        known
    }

    /// Notes that this address of the proxy cannot be reached: another one is next, and the name is resolved again.
    pub(super) fn on_unreachable(&self, addr: Option<SocketAddr>, error: &io::Error) {
        let reason = error.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        {
            let mut state = self.state();
            if addr.is_some() && state.addresses.first() == addr.as_ref() {
                state.addresses.rotate_left(1);
            }
        }
        self.look_up();
        self.set_trouble(Some(format!("cannot be reached, {}", reason.to_lowercase())));
    }

    /// Notes the result of a negotiation with the proxy.
    pub(super) fn on_answer(&self, result: Result<(), Socks5Error>) {
        match result {
            Err(error) if !error.is_of_target() => self.set_trouble(Some(error.to_string())),
            _ => self.set_trouble(None),
        }
    }

    /// Says what does not work at the proxy, or that it works again; each once.
    fn set_trouble(&self, trouble: Option<String>) {
        let before = std::mem::replace(&mut self.state().trouble, trouble.clone());
        match trouble {
            Some(trouble) if before.as_ref() != Some(&trouble) => {
                log::warn!("the proxy {self}: {trouble}; nothing is sent beside it");
            }
            None if before.is_some() => log::warn!("the proxy {self} works"),
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a lookup of the proxy's name, if it has one and none is under way or was just made.
    fn look_up(&self) {
        if !self.is_named() {
            return;
        }
        {
            let mut state = self.state();
            let early = state.looked_up.is_some_and(|at| at.elapsed() < LOOKUP_INTERVAL);
            if state.looking_up || early {
                return;
            }
            (state.looking_up, state.looked_up) = (true, Some(Instant::now()));
        }
        let proxy = self.clone();
        let spawned = std::thread::Builder::new().name("rill-proxy-name".into()).spawn(move || {
            let found = (proxy.0.host.as_str(), proxy.0.port).to_socket_addrs();
            let mut state = proxy.state();
            state.looking_up = false;
            let failed = match found {
                Ok(found) => {
                    let found: Vec<SocketAddr> = found.take(ADDRESSES).collect();
                    let none = found.is_empty();
                    // An address that works stays the first.
                    if !none && !state.addresses.first().is_some_and(|first| found.contains(first)) {
                        state.addresses = found;
                    }
                    none
                }
                Err(_) => true,
            };
            drop(state);
            proxy.0.found.notify_all();
            if failed {
                proxy.set_trouble(Some("its name has no address".into()));
            }
        });
        if spawned.is_err() {
            self.state().looking_up = false;
        }
    }

    /// Connects to the target through the proxy, and waits for it until the time limit is over.
    ///
    /// # Errors
    /// Of the connection to the proxy, or a [`Socks5Error`] with the proxy's words.
    pub(super) fn connect_blocking(
        &self,
        target: &Target,
        egress: &Egress,
        limit: Option<Duration>,
    ) -> io::Result<TcpStream> {
        let until = Instant::now() + limit.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        let addr = self.wait_for_address(egress, until)?;
        let mut stream = self.connect_to_proxy(addr, egress, until).inspect_err(|e| {
            self.on_unreachable(Some(addr), e);
        })?;
        let mut negotiation = self.negotiation(target);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_write_timeout(Some(left))?;
            stream.set_read_timeout(Some(left))?;
            stream.write_all(negotiation.output())?;
            let written = negotiation.output().len();
            negotiation.on_written(written);
            let read = match stream.read(negotiation.room()) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                return Err(closed());
            }
            let result = negotiation.on_read(read);
            if !matches!(result, Ok(false)) {
                self.on_answer(result.map(|_| ()));
            }
            if result.map_err(refused)? {
                return Ok(stream);
            }
        }
    }

    fn connect_to_proxy(&self, addr: SocketAddr, egress: &Egress, until: Instant) -> io::Result<TcpStream> {
        let socket = egress.outgoing(addr, Type::STREAM)?;
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        socket.connect_timeout(&SockAddr::from(addr), left)?;
        Ok(socket.into())
    }

    fn wait_for_address(&self, egress: &Egress, until: Instant) -> io::Result<SocketAddr> {
        loop {
            if let Some(addr) = self.address(egress) {
                return Ok(addr);
            }
            let state = self.state();
            let left = until.saturating_duration_since(Instant::now());
            if !state.looking_up || left.is_zero() {
                return Err(io::Error::new(ErrorKind::NotFound, "the proxy's name has no address"));
            }
            drop(self.0.found.wait_timeout_while(state, left, |state| state.looking_up));
        }
    }
}

/// Returns the error of a connection that the proxy did not make.
pub(super) fn refused(error: Socks5Error) -> io::Error {
    let kind = if error.is_refusal() { ErrorKind::ConnectionRefused } else { ErrorKind::HostUnreachable };
    io::Error::new(kind, format!("the proxy says: {error}"))
}

/// Returns the error of a connection that the proxy closed during the negotiation.
pub(super) fn closed() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the proxy closed the connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url_with_host_and_port() {
        let proxy = Proxy::parse("socks5://us%40er:p%3Aw@[2001:db8::1]:1080/").unwrap();
        assert_eq!(proxy.to_string(), "[2001:db8::1]:1080");
        assert_eq!(proxy.0.login, Login::new(b"us@er".to_vec(), b"p:w".to_vec()));
        assert_eq!(format!("{proxy:?}"), "Proxy([2001:db8::1]:1080)");
        assert!(!proxy.is_named() && proxy.address(&Egress::default()).is_some());
        let named = Proxy::parse("SOCKS5H://proxy.invalid:9050").unwrap();
        assert!(named.is_named() && named.0.login.is_none());
        for url in [
            "",
            "proxy.example:1080",
            "http://proxy.example:1080",
            "socks5://proxy.example",
            "socks5://proxy.example:0",
            "socks5://:1080",
            "socks5://@proxy.example:1080",
            "socks5://:word@proxy.example:1080",
            "socks5://proxy.example:1080/path",
        ] {
            assert!(Proxy::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_name_of_the_proxy_is_resolved_once_and_again_after_a_failure() {
        let proxy = Proxy::parse("socks5://localhost:9050").unwrap();
        let v4 = Egress { family: Some(crate::net::IpFamily::V4), ..Egress::default() };
        let until = Instant::now() + Duration::from_secs(20);
        let addr = proxy.wait_for_address(&v4, until).unwrap();
        assert_eq!(addr, "127.0.0.1:9050".parse().unwrap());
        let first = proxy.state().looked_up;
        assert_eq!(proxy.address(&v4), Some(addr));
        assert_eq!(proxy.state().looked_up, first, "one lookup is enough");
        proxy.state().looked_up = None;
        proxy.on_unreachable(Some(addr), &ErrorKind::ConnectionRefused.into());
        assert!(proxy.state().looked_up.is_some());
        assert_eq!(proxy.wait_for_address(&v4, until).unwrap(), addr);
    }
}
