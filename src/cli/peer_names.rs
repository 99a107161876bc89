//! Peers on the command line: addresses, and host names that are resolved while the command runs.
//!
//! A name server may take half a minute, so each name is resolved by a thread of its own, and the command's loop
//! polls for the results. Signals are handled meanwhile. A name that cannot be resolved is named on stderr.

use super::exit::reason;
use super::out;
use crate::wire::host_and_port;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Most names that are resolved at the same time.
const MOST_THREADS: usize = 8;
/// Most addresses of one name that are used.
const MOST_ADDRESSES: usize = 8;

/// A peer of the option `--peer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerArg {
    Addr(SocketAddr),
    Name(String, u16),
}

impl PeerArg {
    /// Parses `192.0.2.1:6881`, `[2001:db8::1]:6881` or `box.lan:6881`.
    pub(crate) fn parse(text: &str) -> Result<PeerArg, String> {
        let bad = || {
            format!(
                "'{text}' is not a host and a port like 192.0.2.1:6881, [2001:db8::1]:6881 or box.lan:6881"
            )
        };
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return if addr.port() == 0 { Err(bad()) } else { Ok(PeerArg::Addr(addr)) };
        }
        let (host, port) = host_and_port(text).filter(|(_, port)| *port > 0).ok_or_else(bad)?;
        // Digits and dots that are no address are a mistake, and no name.
        let is_number = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if is_number || host.contains([':', '[']) { Err(bad()) } else { Ok(PeerArg::Name(host, port)) }
    }
}

/// Peers of a command line.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) names: Vec<(String, u16)>,
}

impl Peers {
    /// Separates addresses from names.
    pub(crate) fn of(peers: &[PeerArg]) -> Peers {
        let mut all = Peers::default();
        for peer in peers {
            match peer {
                PeerArg::Addr(addr) => all.addrs.push(*addr),
                PeerArg::Name(host, port) => all.names.push((host.clone(), *port)),
            }
        }
        all
    }
}

type Answer = (String, Result<Vec<SocketAddr>, String>);

/// Names that are being resolved.
#[derive(Debug)]
pub(crate) struct PeerNames {
    answers: Receiver<Answer>,
    ended: bool,
    /// Whether a name was resolved.
    any_found: bool,
}

impl PeerNames {
    /// Starts to resolve these names. With a proxy none is: the system's lookup would not go through it.
    pub(crate) fn resolve(names: &[(String, u16)], proxied: bool) -> PeerNames {
        let (sender, answers) = channel();
        if proxied {
            for (host, port) in names {
                let why = "with --proxy a peer needs an address".to_owned();
                // The receiver is here.
                let _ = sender.send((format!("{host}:{port}"), Err(why)));
            }
            return PeerNames { answers, ended: names.is_empty(), any_found: false };
        }
        let waiting = Arc::new(Mutex::new(names.to_vec()));
        for _ in 0..names.len().min(MOST_THREADS) {
            let (waiting, sender) = (waiting.clone(), sender.clone());
            // The threads end with the process; a name server that hangs holds nothing up.
            let started = std::thread::Builder::new()
                .name("rill-peer-name".into())
                .spawn(move || resolve_all(&waiting, &sender));
            if let Err(error) = started {
                out::error(format_args!("the host names of --peer are not resolved: {}", reason(&error)));
                break;
            }
        }
        PeerNames { answers, ended: names.is_empty(), any_found: false }
    }

    /// Returns the addresses found since the last call, and names each host without one on stderr.
    pub(crate) fn take(&mut self) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        while !self.ended {
            match self.answers.try_recv() {
                Ok((_, Ok(addrs))) => {
                    self.any_found = true;
                    found.extend(addrs);
                }
                Ok((host, Err(why))) => out::error(format_args!("peer {host} is left out: {why}")),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.ended = true,
            }
        }
        found
    }

    /// Returns whether every name has failed.
    pub(crate) fn all_failed(&self) -> bool {
        self.ended && !self.any_found
    }
}

fn resolve_all(waiting: &Mutex<Vec<(String, u16)>>, answers: &Sender<Answer>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some((host, port)) = next else { return };
        let found = match (host.as_str(), port).to_socket_addrs() {
            Ok(addrs) => Ok(addrs.take(MOST_ADDRESSES).collect::<Vec<_>>()),
            Err(error) => Err(lookup_reason(&error)),
        };
        let found =
            found.and_then(|addrs| if addrs.is_empty() { Err("no such host".into()) } else { Ok(addrs) });
        // If the command has ended, its result matters no more.
        if answers.send((format!("{host}:{port}"), found)).is_err() {
            return;
        }
    }
}

/// Returns the resolver's reason, without the words that the standard library puts before it.
fn lookup_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    reason(&std::io::Error::other(text.rsplit(": ").next().unwrap_or(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn peers_are_addresses_or_names() {
        let name = |host: &str| Ok(PeerArg::Name(host.into(), 6881));
        assert_eq!(PeerArg::parse("192.0.2.1:6881"), Ok(PeerArg::Addr("192.0.2.1:6881".parse().unwrap())));
        assert_eq!(PeerArg::parse("[::1]:6881"), Ok(PeerArg::Addr("[::1]:6881".parse().unwrap())));
        assert_eq!(PeerArg::parse("box.lan:6881"), name("box.lan"));
        assert_eq!(PeerArg::parse("localhost:6881"), name("localhost"));
        for text in [
            "",
            "somewhere",
            "a:b",
            "a:0",
            "a:70000",
            ":1",
            "192.0.2.1",
            "1.2.3:1",
            "::1:6881",
            "[::1",
            "192.0.2.1:0",
            "u@a:1",
            "a:1/x",
            "http://a:1",
        ] {
            assert!(PeerArg::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_resolved_in_the_background() {
        let names = [("localhost".to_owned(), 7001), ("absent.invalid".to_owned(), 7001)];
        let mut peers = PeerNames::resolve(&names, false);
        let begun = Instant::now();
        let mut found = Vec::new();
        while !peers.ended && begun.elapsed() < Duration::from_secs(60) {
            found.extend(peers.take());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 7001) && !found.is_empty());
        assert!(!peers.all_failed());
        assert!(!PeerNames::resolve(&names, false).all_failed(), "nothing has failed yet");
    }

    #[test]
    fn n3_with_a_proxy_the_name_of_a_peer_is_not_looked_up() {
        let mut peers = PeerNames::resolve(&[("localhost".to_owned(), 7001)], true);
        assert!(peers.take().is_empty() && peers.all_failed());
    }
}
