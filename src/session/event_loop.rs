//! The loop: one thread, one poll, one turn after another.
//!
//! ```text
//!   poll ─▶ readiness, commands, replies ─▶ deadlines ─▶ ready queue ─▶ actions ─▶ writes ─▶ disk requests ─▶ poll
//! ```
//!
//! Readiness is edge-triggered: a connection that used up its budget goes to the back of the ready queue,
//! since the kernel reports it only once. While that queue is not empty the poll does not wait. One clock
//! reading serves a turn.

use super::command::Command;
use super::config::Config;
use super::error::StartError;
use super::event::{Event, TorrentId};
use super::event_queue::EventSender;
use super::interface::InterfaceWatch;
use super::memory::{MemoryBudget, pool_share};
use super::registry::Registry;
use super::tokens::Owner;
use super::utp::UtpStreams;
use crate::disk::{Store, StoreConfig, read_state_file};
use crate::engine::{Actions, DhtSetup, Engine, EngineConfig, MappingSetup, Policy};
use crate::net::{
    Batch, BlockingPool, BoundUdp, Clock, Egress, MulticastSockets, TcpListeners, Transport, Udp, bind,
    connections_within,
};
use crate::units::{BlockSpan, Instant, PeerId, PeerKey, Rng, TorrentKey, TransportKind, Transports};
use crate::wire::{Datagram, WritePlan, read_nodes};
use mio::{Events, Poll, Waker};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Readiness events of one poll.
const EVENTS: usize = 256;
/// Threads that wait for HTTP trackers and name servers.
const TRACKER_WORKERS: usize = 4;
/// Connections accepted in a turn, so that a flood of them does not delay the others.
pub(super) const ACCEPTS_PER_TURN: usize = 16;
/// Datagrams received in a turn, for the same reason.
const DATAGRAMS_PER_TURN: usize = 256;
/// LSD announcements received in a turn: a hundred hosts announce once in three seconds.
const MULTICAST_PER_TURN: usize = 32;
/// The longest poll.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// When accepting is retried after descriptors ran out, if no socket closes before.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);
/// Makes the secret numbers of uTP others than those of encryption if the user gave a seed.
const UTP_SEED: u64 = 0x7574_7000;
/// Bytes of the buffer for blocks to upload.
pub(super) const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// The file of DHT nodes in the state directory.
pub(super) const NODES_FILE: &str = "dht.nodes";
/// The most bytes read from it: 400 nodes of each family take 10 KB.
const NODES_FILE_BYTES: u64 = 64 * 1024;

/// A connection's transport and its state in the loop.
#[derive(Debug)]
pub(super) struct OpenConnection {
    pub key: PeerKey,
    pub transport: Transport,
    /// Dialed and not established yet.
    pub connecting: bool,
    /// Whether its bytes are encrypted is open: it has no handshake yet.
    pub undecided: bool,
    /// Bytes may wait to be read.
    pub readable: bool,
    /// The peer has sent its last byte. A short read then does not mean that the next would block: it may
    /// return the end of the stream.
    pub closing: bool,
    /// The transport may take bytes.
    pub writable: bool,
    /// It is in the ready queue.
    pub queued: bool,
    /// Reading waits for an [`Action::Wake`](crate::engine::Action::Wake) or for a free buffer.
    pub read_paused: bool,
    /// The block that a worker loads into the page cache for it.
    pub loading: Option<BlockSpan>,
    /// Payload bytes to offer in the next write; grows while the transport takes all of them.
    pub send_budget: usize,
}

/// The state of the loop thread.
pub struct EventLoop {
    pub(super) poll: Poll,
    waker: Arc<Waker>,
    pub(super) clock: Clock,
    pub(super) now: Instant,
    pub(super) engine: Engine,
    pub(super) store: Store,
    memory: MemoryBudget,
    pub(super) blocking_pool: BlockingPool,
    pub(super) egress: Egress,
    pub(super) interface: Option<InterfaceWatch>,
    /// Connections dialed through the proxy, and when it should have taken each.
    pub(super) proxied_dials: VecDeque<(Instant, PeerKey)>,
    /// The addresses that the session listens on.
    pub(super) listen_on: Vec<IpAddr>,
    pub(super) lsd: bool,
    pub(super) listeners: TcpListeners,
    pub(super) udp: Udp,
    pub(super) transports: Transports,
    pub(super) utp: UtpStreams,
    pub(super) multicast: MulticastSockets,
    pub(super) bound_udp: BoundUdp,
    pub(super) accept_retry_at: Option<Instant>,
    pub(super) connections: Vec<Option<OpenConnection>>,
    pub(super) ready_queue: VecDeque<PeerKey>,
    /// Connections that wait for a buffer of the store.
    pub(super) waiting_for_buffer: BTreeSet<PeerKey>,
    pub(super) actions: Actions,
    pub(super) plan: WritePlan,
    pub(super) send_buffer: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    /// The memory for received datagrams.
    datagrams: Batch,
    pub(super) registry: Registry,
    pub(super) events: EventSender,
    commands: Receiver<Command>,
    progress_every: Duration,
    next_progress: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) clean: bool,
}

impl EventLoop {
    /// Binds the sockets and creates engine, store and pools.
    pub fn new(
        config: Config,
        commands: Receiver<Command>,
        events: EventSender,
    ) -> Result<EventLoop, StartError> {
        let config = config.behind_proxy();
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Owner::Waker.token())?);
        let egress = config.egress();
        egress.check().map_err(|(interface, reason)| StartError::Interface { interface, reason })?;
        let interface = InterfaceWatch::start(&egress);
        let udp_port = config.dht.as_ref().and_then(|dht| dht.port);
        let tcp = config.transports.allow(TransportKind::Tcp);
        let (mut listeners, mut udp) =
            bind(&config.listen_on, config.listen_ports.clone(), udp_port, tcp, &egress).map_err(
                |source| {
                    let (first, last) = config.listen_ports.clone().into_inner();
                    StartError::Listen { first, last, source }
                },
            )?;
        listeners.register(poll.registry(), |index| Owner::TcpListener(index).token())?;
        udp.register(poll.registry(), |index| Owner::Udp(index).token())?;
        let mut multicast = MulticastSockets::default();
        if config.lsd {
            multicast = MulticastSockets::join(&config.listen_on, &egress);
            multicast.register(poll.registry(), |index| Owner::Multicast(index).token())?;
        }
        let wake_loop: Arc<dyn Fn() + Send + Sync> = {
            let waker = waker.clone();
            Arc::new(move || {
                // Fails only if the eventfd is full, and then the loop is awake.
                let _ = waker.wake();
            })
        };
        let seed = config.seed.map_or_else(system_seed, Ok)?;
        let max_peers = if tcp { connections_within(config.max_peers) } else { config.max_peers };
        let mut engine = Engine::new(EngineConfig {
            peer_id: peer_id(seed),
            port: listeners.port(),
            max_peers,
            max_peers_per_torrent: config.max_peers_per_torrent,
            download_limit: config.download_limit,
            upload_limit: config.upload_limit,
            seed,
            version: concat!("rill ", env!("CARGO_PKG_VERSION")).to_string(),
            policy: Policy::default(),
            pex: config.pex,
            lsd: config.lsd,
            transports: config.transports,
            encryption: config.encryption,
            secret: secret(config.seed)?,
        });
        let utp = UtpStreams::new(&config, max_peers, secret(config.seed.map(|seed| seed ^ UTP_SEED))?);
        let memory = MemoryBudget::new(config.max_memory);
        let store = Store::new(store_config(&config, &memory), wake_loop.clone())?;
        let mut actions = Actions::default();
        if let Some(setup) = dht_setup(&config, udp.port(), seed)? {
            engine.join_dht(Instant::ZERO, setup, &mut actions);
        }
        if config.port_mapping {
            let seed = if config.seed.is_some() { seed } else { system_seed()? };
            let setup = MappingSetup { tcp_port: listeners.port(), udp_port: udp.port(), seed };
            engine.map_ports(Instant::ZERO, setup, &mut actions);
        }
        let mut blocking_pool = BlockingPool::new(TRACKER_WORKERS, config.private_hosts, wake_loop);
        blocking_pool.set_http(config.http_options());
        Ok(EventLoop {
            blocking_pool,
            poll,
            waker,
            clock: Clock::start(),
            now: Instant::ZERO,
            engine,
            store,
            memory,
            egress,
            interface,
            proxied_dials: VecDeque::new(),
            listen_on: config.listen_on,
            lsd: config.lsd,
            listeners,
            udp,
            transports: config.transports,
            utp,
            multicast,
            bound_udp: BoundUdp::default(),
            accept_retry_at: None,
            connections: Vec::new(),
            ready_queue: VecDeque::new(),
            waiting_for_buffer: BTreeSet::new(),
            actions,
            plan: WritePlan::default(),
            send_buffer: Vec::new(),
            scratch: Vec::new(),
            datagrams: Batch::default(),
            registry: Registry::default(),
            events,
            commands,
            progress_every: config.progress_every.max(Duration::from_millis(10)),
            next_progress: Instant::ZERO,
            deadline: None,
            clean: true,
        })
    }

    /// Returns the waker of this loop, for other threads.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Returns the port of the listening sockets.
    pub fn port(&self) -> u16 {
        self.listeners.port()
    }

    /// Runs until the stop command; returns whether every record was written and every tracker told in time.
    pub fn run(mut self) -> io::Result<bool> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            self.now = self.clock.now();
            for event in &events {
                self.on_readiness(event);
            }
            self.poll_commands();
            self.poll_replies();
            self.poll_datagrams();
            self.poll_utp();
            self.poll_multicast();
            self.accept();
            if self.engine.next_deadline().is_some_and(|at| at <= self.now) {
                self.engine.on_deadline(self.now, &mut self.actions);
            }
            self.check_disk_space();
            self.check_interface();
            self.check_proxied_dials();
            self.run_actions();
            for _ in 0..self.ready_queue.len() {
                if let Some(key) = self.ready_queue.pop_front() {
                    self.serve(key);
                }
            }
            self.run_actions();
            self.flush_utp();
            self.emit_progress();
            self.store.submit();
            if self.deadline.is_some_and(|at| self.now >= at || self.is_done()) {
                return Ok(self.clean && self.is_done());
            }
        }
    }

    fn is_done(&self) -> bool {
        self.engine.is_idle() && self.registry.all_closed()
    }

    fn timeout(&mut self) -> Duration {
        if !self.ready_queue.is_empty()
            || self.udp.pending()
            || self.multicast.pending()
            || self.bound_udp.pending()
            || (self.listeners.pending() && self.accept_retry_at.is_none())
        {
            return Duration::ZERO;
        }
        let progress = (!self.registry.keys().is_empty()).then_some(self.next_progress);
        let next = [
            self.engine.next_deadline(),
            progress,
            self.accept_retry_at,
            self.deadline,
            self.next_space_check(),
            self.interface.as_ref().map(|watch| watch.next),
            self.utp.next_deadline(),
            self.next_proxied_dial(),
        ];
        let next = next.into_iter().flatten().min();
        next.map_or(LONGEST_WAIT, |at| at.since(self.clock.now())).min(LONGEST_WAIT)
    }

    fn on_readiness(&mut self, event: &mio::event::Event) {
        match Owner::of(event.token()) {
            // Commands and replies are polled every turn.
            Some(Owner::Waker) | None => {}
            Some(Owner::TcpListener(index)) => self.listeners.on_ready(index),
            Some(Owner::Udp(index)) => {
                let readable = event.is_readable() || event.is_error();
                self.udp.on_ready(index, readable, event.is_writable(), self.poll.registry());
            }
            Some(Owner::Multicast(index)) => self.multicast.on_ready(index),
            Some(Owner::BoundUdp(index)) => self.bound_udp.on_ready(index),
            Some(Owner::Connection(slot)) => self.on_connection_readiness(slot, event),
        }
    }

    fn on_connection_readiness(&mut self, slot: usize, event: &mio::event::Event) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        connection.closing |= event.is_read_closed() || event.is_error();
        connection.writable |= event.is_writable() || event.is_error();
        let key = connection.key;
        self.enqueue(key);
    }

    /// Puts a connection into the ready queue, unless it is there.
    pub(super) fn enqueue(&mut self, key: PeerKey) {
        if let Some(connection) = self.connection(key) {
            if !std::mem::replace(&mut connection.queued, true) {
                self.ready_queue.push_back(key);
            }
        }
    }

    pub(super) fn connection(&mut self, key: PeerKey) -> Option<&mut OpenConnection> {
        self.connections.get_mut(key.slot())?.as_mut().filter(|l| l.key == key)
    }

    fn poll_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            // A command of another handle after the stop is dropped with its reply: its caller finds the
            // session gone.
            if self.deadline.is_none() {
                self.handle_command(command);
            }
        }
    }

    fn poll_datagrams(&mut self) {
        let mut left = DATAGRAMS_PER_TURN;
        while left > 0 && (self.udp.pending() || self.bound_udp.pending()) {
            let (mut received, socket) = self.udp.receive(&mut self.datagrams);
            let is_bound = received == 0;
            if is_bound {
                received = self.bound_udp.receive(&mut self.datagrams);
            }
            left = left.saturating_sub(received.max(1));
            // Delays are measured: the time at the start of the turn would be too early.
            let received_at = self.clock.now();
            for (bytes, from) in self.datagrams.iter() {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                if is_bound {
                    self.engine.on_bound_datagram(self.now, from, bytes, &mut self.actions);
                } else if Datagram::of(bytes) == Datagram::Utp {
                    self.utp.on_datagram(received_at, socket, from, bytes);
                } else {
                    self.engine.on_datagram(self.now, from, bytes, &mut self.actions);
                }
            }
        }
    }

    fn poll_multicast(&mut self) {
        let mut left = MULTICAST_PER_TURN;
        while left > 0 && self.multicast.pending() {
            left = left.saturating_sub(self.multicast.receive(&mut self.datagrams).max(1));
            for (bytes, from) in self.datagrams.iter() {
                self.engine.on_multicast(self.now, from, bytes);
            }
        }
    }

    fn emit_progress(&mut self) {
        if self.now < self.next_progress {
            return;
        }
        self.next_progress = self.now + self.progress_every;
        self.store.set_window_budget(self.memory.windows());
        let stats = self.session_stats();
        for key in self.registry.keys() {
            self.emit_progress_of(key, stats);
        }
    }

    /// Sends an event to every subscriber.
    pub(super) fn emit(&self, event: Event) {
        self.events.send(event);
    }

    pub(super) fn id_of(&self, key: TorrentKey) -> Option<TorrentId> {
        self.registry.get(key).map(|e| e.id)
    }

    /// Stops accepting until a connection closes, or for [`ACCEPT_RETRY`].
    pub(super) fn pause_accepting(&mut self) {
        self.accept_retry_at = Some(self.now + ACCEPT_RETRY);
    }
}

fn store_config(config: &Config, memory: &MemoryBudget) -> StoreConfig {
    StoreConfig {
        mode: config.storage,
        pool_bytes: pool_share(config.max_memory),
        window_bytes: memory.windows(),
        workers: config.workers,
        state_dir: config.state_dir.clone(),
    }
}

/// Returns the parameters of the DHT. Its secrets come from the system, unless the user gave a seed.
fn dht_setup(config: &Config, port: u16, seed: u64) -> io::Result<Option<DhtSetup>> {
    let Some(dht) = &config.dht else { return Ok(None) };
    let kept = config.state_dir.as_deref().and_then(|dir| read_state_file(dir, NODES_FILE, NODES_FILE_BYTES));
    Ok(Some(DhtSetup {
        port,
        seed: if config.seed.is_some() { seed } else { system_seed()? },
        read_only: dht.read_only,
        nodes: kept.map(|bytes| read_nodes(&bytes)).unwrap_or_default(),
        bootstrap: dht.bootstrap.clone(),
        routers: dht.routers.clone(),
    }))
}

/// Returns the peer id: client and version, then random characters (BEP 20).
fn peer_id(seed: u64) -> PeerId {
    let mut id = *b"-RL0100-............";
    let mut rng = Rng::new(seed ^ 0x7065_6572);
    for byte in &mut id[8..] {
        *byte = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[rng.below(62)];
    }
    PeerId(id)
}

/// Returns the seed of secret numbers. It comes from the system, unless the user gave one.
fn secret(given: Option<u64>) -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    for part in secret.chunks_mut(8) {
        part.copy_from_slice(&given.map_or_else(system_seed, Ok)?.to_be_bytes());
    }
    Ok(secret)
}

fn system_seed() -> io::Result<u64> {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds its hasher from the system; that is all the chance that choices need.
    Ok(std::collections::hash_map::RandomState::new().build_hasher().finish())
}
