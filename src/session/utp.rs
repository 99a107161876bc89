//! uTP streams in the loop: datagrams in and out, and the readiness of connections over them.
//!
//! ```text
//!   UDP sockets ─▶ Endpoint ─▶ events ─▶ ready queue ─▶ reads and writes ─▶ Endpoint ─▶ one batch of packets a turn
//! ```
//!
//! Packets leave at the end of a turn: an acknowledgement then covers all that the turn received. The endpoint has
//! one deadline, which the loop's poll waits for.

use super::config::Config;
use super::event_loop::{EventLoop, OpenConnection};
use crate::engine::DialFailure;
use crate::net::{SendBatch, Transport};
use crate::units::{Instant, PeerKey, TransportKind, UtpKey};
use crate::utp::{Endpoint, UtpBudget, UtpEvent};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Streams beside those of connections: callers whose address is unproven, and streams that still end.
const SPARE_STREAMS: usize = 32;

/// The uTP endpoint, and the connections over it.
#[derive(Debug)]
pub(super) struct UtpStreams {
    pub endpoint: Endpoint,
    /// Streams are dialed and accepted.
    enabled: bool,
    peers: BTreeMap<UtpKey, PeerKey>,
    outgoing: SendBatch,
}

impl UtpStreams {
    /// Returns an endpoint without streams for a session with so many connections. The seed is secret.
    pub fn new(config: &Config, max_peers: usize, seed: [u8; 32]) -> UtpStreams {
        let share = super::memory::utp_share(config.max_memory);
        let budget =
            UtpBudget { streams: max_peers + SPARE_STREAMS, receive_bytes: share, send_bytes: share };
        UtpStreams {
            endpoint: Endpoint::new(budget, seed),
            enabled: config.transports.allow(TransportKind::Utp),
            peers: BTreeMap::new(),
            outgoing: SendBatch::default(),
        }
    }

    /// Takes a datagram that arrived at the socket with this index.
    pub fn on_datagram(&mut self, now: Instant, socket: usize, from: SocketAddr, bytes: &[u8]) {
        if self.enabled {
            self.endpoint.on_datagram(now.as_micros(), socket, from, bytes);
        }
    }

    /// Returns the deadline of the endpoint; [`Instant::ZERO`] if events wait.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.endpoint.has_events() {
            return Some(Instant::ZERO);
        }
        self.endpoint.next_deadline().map(Instant::from_micros)
    }

    /// Ends the stream of a connection: what was written is still sent.
    pub fn close(&mut self, key: UtpKey) {
        self.peers.remove(&key);
        self.endpoint.close(key);
    }

    /// Drops the packets that wait for a socket: the sockets are new ones.
    pub fn on_new_sockets(&mut self) {
        self.outgoing.clear();
    }
}

impl EventLoop {
    /// Handles the endpoint's deadline, and passes its events on.
    pub(super) fn poll_utp(&mut self) {
        let now_us = self.now.as_micros();
        if self.utp.endpoint.next_deadline().is_some_and(|at| at <= now_us) {
            self.utp.endpoint.on_deadline(now_us);
        }
        while let Some(event) = self.utp.endpoint.next_event() {
            match event {
                UtpEvent::Accepted(key, addr) => self.accept_utp(key, addr),
                UtpEvent::Established(key) | UtpEvent::Writable(key) => {
                    self.on_utp_event(key, |connection| connection.writable = true);
                }
                UtpEvent::Readable(key) => self.on_utp_event(key, |connection| connection.readable = true),
                UtpEvent::Closed(key) => {
                    self.on_utp_event(key, |connection| {
                        (connection.readable, connection.writable, connection.closing) = (true, true, true);
                    });
                    self.utp.peers.remove(&key);
                }
            }
        }
    }

    fn on_utp_event(&mut self, key: UtpKey, change: impl FnOnce(&mut OpenConnection)) {
        let Some(peer) = self.utp.peers.get(&key).copied() else { return };
        if let Some(connection) = self.connection(peer) {
            change(connection);
            self.enqueue(peer);
        }
    }

    fn accept_utp(&mut self, key: UtpKey, addr: SocketAddr) {
        match self.engine.on_accepted(self.now, addr, TransportKind::Utp, &mut self.actions) {
            Some(peer) => self.add_utp(peer, key, false),
            None => self.utp.endpoint.refuse(self.now.as_micros(), key),
        }
    }

    /// Dials an address over uTP.
    pub(super) fn dial_utp(&mut self, peer: PeerKey, addr: SocketAddr) {
        let now_us = self.now.as_micros();
        let socket = self.udp.socket_to(addr).filter(|_| self.utp.enabled);
        let failure = match socket {
            None => DialFailure::Unreachable,
            Some(socket) => match self.utp.endpoint.dial(now_us, socket, addr) {
                Some(key) => return self.add_utp(peer, key, true),
                None => DialFailure::OutOfResources,
            },
        };
        self.engine.on_dial_failed(self.now, peer, failure, &mut self.actions);
    }

    fn add_utp(&mut self, peer: PeerKey, key: UtpKey, connecting: bool) {
        self.utp.peers.insert(key, peer);
        self.add_connection(peer, Transport::Utp(key), connecting);
    }

    /// Sends the packets that wait, as far as the sockets have room.
    pub(super) fn flush_utp(&mut self) {
        let now_us = self.clock.now().as_micros();
        let outgoing = &mut self.utp.outgoing;
        loop {
            while !outgoing.is_full() && outgoing.push(|bytes| self.utp.endpoint.next_packet(now_us, bytes)) {
            }
            if outgoing.is_empty()
                || self.udp.is_blocked(outgoing)
                || !self.udp.send_batch(outgoing, self.poll.registry())
            {
                return;
            }
        }
    }
}
