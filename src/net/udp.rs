//! The UDP sockets, one for each address, shared by DHT, UDP trackers and uTP.
//!
//! A datagram that the kernel refuses with `EAGAIN` waits in its socket's send queue, and the socket is then
//! registered for writability until the queue is empty. It is not registered for writability before: Linux
//! wakes a poll for each datagram that has left a UDP socket's send buffer, so every datagram sent would cost
//! the loop a wake-up.
//!
//! A datagram is dropped, and counted, if the kernel refuses it for another reason (no route, no permission,
//! no memory), if it does not fit into the [`SEND_QUEUE_BYTES`] of its socket's queue, or if no socket has
//! its address family. The datagrams of one socket leave in the order of [`Udp::send`]. Packets of uTP have no
//! queue here: what the kernel refuses with `EAGAIN` stays in the caller's [`SendBatch`].

use super::sys::{Batch, SendBatch};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// Payload bytes that may wait in one socket's send queue: some hundred DHT queries.
const SEND_QUEUE_BYTES: usize = 64 * 1024;

/// ICMP errors of earlier datagrams that one call of [`receive`] skips.
const ICMP_ERRORS: usize = 64;

/// All UDP sockets.
#[derive(Debug)]
pub struct Udp {
    sockets: Vec<DatagramSocket>,
    port: u16,
    /// Datagrams dropped since the start.
    dropped: u64,
}

#[derive(Debug)]
struct DatagramSocket {
    udp: UdpSocket,
    v6: bool,
    token: Token,
    /// Datagrams may wait to be received.
    pending: bool,
    queue: SendQueue,
    /// A [`SendBatch`] waits until it is writable.
    blocked: bool,
}

impl Udp {
    pub(super) fn new(sockets: Vec<std::net::UdpSocket>, port: u16) -> io::Result<Udp> {
        let datagram_socket = |udp: std::net::UdpSocket| {
            let v6 = udp.local_addr()?.is_ipv6();
            let udp = UdpSocket::from_std(udp);
            Ok(DatagramSocket {
                udp,
                v6,
                token: Token(0),
                pending: false,
                queue: SendQueue::default(),
                blocked: false,
            })
        };
        let sockets = sockets.into_iter().map(datagram_socket).collect::<io::Result<_>>()?;
        Ok(Udp { sockets, port, dropped: 0 })
    }

    /// Registers the sockets; `token` maps the index of a socket to its token.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn register(&mut self, registry: &Registry, token: impl Fn(usize) -> Token) -> io::Result<()> {
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            socket.token = token(index);
            registry.register(&mut socket.udp, socket.token, Interest::READABLE)?;
        }
        Ok(())
    }

    /// Closes the sockets; the port is remembered.
    pub fn close(&mut self) {
        self.sockets.clear();
    }

    /// Returns the port, the same on every address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Notes the readiness of the socket with this index, and sends its queue if it is writable. An unknown
    /// index is ignored.
    pub fn on_ready(&mut self, index: usize, readable: bool, writable: bool, registry: &Registry) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        socket.pending |= readable;
        if writable && (socket.blocked || !socket.queue.is_empty()) {
            socket.blocked = false;
            self.dropped += socket.flush(registry);
        }
    }

    /// Returns the index of the socket from which [`send`](Udp::send) sends to this address.
    pub fn socket_to(&self, to: SocketAddr) -> Option<usize> {
        self.sockets.iter().position(|socket| socket.v6 == to.is_ipv6())
    }

    /// Returns whether a [`SendBatch`] has to wait: its socket is full.
    pub fn is_blocked(&self, batch: &SendBatch) -> bool {
        batch.socket().and_then(|index| self.sockets.get(index)).is_some_and(|socket| socket.blocked)
    }

    /// Sends the datagrams of a batch, up to the first for which its socket has no room. Datagrams that the kernel
    /// refuses for another reason are dropped. Returns whether the batch is empty.
    pub fn send_batch(&mut self, batch: &mut SendBatch, registry: &Registry) -> bool {
        while let Some(index) = batch.socket() {
            let Some(socket) = self.sockets.get_mut(index) else {
                batch.skip();
                continue;
            };
            match batch.send(socket.udp.as_fd()) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    if registry.reregister(&mut socket.udp, socket.token, both).is_ok() {
                        socket.blocked = true;
                        return false;
                    }
                    batch.skip();
                }
                Err(e) => {
                    log::trace!("packet of uTP: {e}");
                    batch.skip();
                }
            }
        }
        true
    }

    /// Returns whether datagrams may wait to be received.
    pub fn pending(&self) -> bool {
        self.sockets.iter().any(|socket| socket.pending)
    }

    /// Sends a datagram from the first socket of the destination's family: now, or when the socket is
    /// writable again. The module's documentation says when it is dropped.
    pub fn send(&mut self, to: SocketAddr, bytes: Vec<u8>, registry: &Registry) {
        let socket = self.sockets.iter_mut().find(|socket| socket.v6 == to.is_ipv6());
        let sent = socket.is_some_and(|socket| socket.send(to, bytes, registry));
        if !sent {
            self.dropped += 1;
            log::debug!("datagram to {to} dropped, {} since the start", self.dropped);
        }
    }

    /// Receives some of the datagrams that wait; returns their number and the index of their socket. Datagrams may
    /// still wait while [`pending`](Udp::pending) is true.
    pub fn receive(&mut self, batch: &mut Batch) -> (usize, usize) {
        for (index, socket) in self.sockets.iter_mut().enumerate().filter(|(_, socket)| socket.pending) {
            match receive(&socket.udp, batch) {
                Some(0) => {}
                Some(received) => return (received, index),
                None => socket.pending = false,
            }
        }
        (0, 0)
    }
}

impl DatagramSocket {
    /// Sends or queues a datagram; returns false if it is dropped.
    fn send(&mut self, to: SocketAddr, bytes: Vec<u8>, registry: &Registry) -> bool {
        if !self.queue.is_empty() {
            return self.queue.push(to, bytes);
        }
        match self.udp.send_to(&bytes, to) {
            Ok(_) => true,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                // A queue whose socket does not report writability would wait forever.
                let both = Interest::READABLE | Interest::WRITABLE;
                registry.reregister(&mut self.udp, self.token, both).is_ok() && self.queue.push(to, bytes)
            }
            Err(e) => {
                log::debug!("datagram to {to}: {e}");
                false
            }
        }
    }

    /// Sends the queue as far as the socket takes it; returns the number of dropped datagrams.
    fn flush(&mut self, registry: &Registry) -> u64 {
        let dropped = self.queue.flush(|to, bytes| self.udp.send_to(bytes, to).map(|_| ()));
        if self.queue.is_empty() {
            // Without this change the poll reports more than needed, and nothing is lost.
            let _ = registry.reregister(&mut self.udp, self.token, Interest::READABLE);
        }
        dropped
    }
}

/// Receives some of the datagrams that wait at a socket; returns their number, `None` if none waits. It is 0
/// after
/// [`ICMP_ERRORS`] errors in a row: datagrams may wait behind them.
pub(super) fn receive(socket: &UdpSocket, batch: &mut Batch) -> Option<usize> {
    for _ in 0..ICMP_ERRORS {
        match batch.receive(socket.as_fd()) {
            Ok(n) => return Some(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return None,
            // An ICMP error of a datagram sent earlier: datagrams may wait behind it.
            Err(_) => {}
        }
    }
    Some(0)
}

/// Datagrams that wait for their socket to become writable.
#[derive(Debug, Default)]
struct SendQueue {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
}

impl SendQueue {
    fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Appends a datagram; returns false if there is no room for it.
    fn push(&mut self, to: SocketAddr, bytes: Vec<u8>) -> bool {
        let room = self.bytes + bytes.len() <= SEND_QUEUE_BYTES;
        if room {
            self.bytes += bytes.len();
            self.datagrams.push_back((to, bytes));
        }
        room
    }

    /// Sends from the front until the socket is full; returns the number of datagrams that it refused for
    /// another reason.
    fn flush(&mut self, mut send: impl FnMut(SocketAddr, &[u8]) -> io::Result<()>) -> u64 {
        let mut refused = 0;
        while let Some((to, bytes)) = self.datagrams.front() {
            match send(*to, bytes) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return refused,
                Err(e) => {
                    log::debug!("datagram to {to}: {e}");
                    refused += 1;
                }
            }
            self.bytes -= bytes.len();
            self.datagrams.pop_front();
        }
        // A burst is rare: the memory goes back.
        self.datagrams = VecDeque::new();
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    const TO: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn a_queue_keeps_order_and_drops_what_exceeds_its_bytes() {
        let mut queue = SendQueue::default();
        let datagram = |n: u8| vec![n; SEND_QUEUE_BYTES / 4];
        assert!((0..4).all(|n| queue.push(TO, datagram(n))));
        assert!(!queue.push(TO, vec![9]), "a full queue takes nothing");

        let mut sent = Vec::new();
        let refused = queue.flush(|_, bytes| {
            if sent.len() == 2 {
                return Err(ErrorKind::WouldBlock.into());
            }
            sent.push(bytes[0]);
            Ok(())
        });
        assert_eq!((refused, &sent[..]), (0, &[0, 1][..]), "stops at the first that would block");
        assert!(queue.push(TO, vec![4]), "there is room again");

        let refused = queue.flush(|_, bytes| {
            sent.push(bytes[0]);
            if bytes[0] == 3 { Err(ErrorKind::PermissionDenied.into()) } else { Ok(()) }
        });
        assert_eq!((refused, &sent[..]), (1, &[0, 1, 2, 3, 4][..]), "a refused one does not block the rest");
        assert!(queue.is_empty() && queue.bytes == 0);
    }

    fn udp_on(ip: &str) -> (Poll, Udp) {
        let poll = Poll::new().unwrap();
        let socket = std::net::UdpSocket::bind((ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut udp = Udp::new(vec![socket], port).unwrap();
        udp.register(poll.registry(), |index| Token(7 + index)).unwrap();
        (poll, udp)
    }

    #[test]
    fn a_datagram_without_a_way_is_dropped_and_counted() {
        let (poll, mut udp) = udp_on("127.0.0.1");
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.send("[::1]:9".parse().unwrap(), vec![1], poll.registry());
        udp.send("192.0.2.1:9".parse().unwrap(), vec![2], poll.registry());
        assert_eq!(udp.dropped, 2, "no socket of that family, no route from loopback");
        udp.send(receiver.local_addr().unwrap(), vec![3], poll.registry());
        let mut bytes = [0; 8];
        assert_eq!((receiver.recv(&mut bytes).unwrap(), bytes[0], udp.dropped), (1, 3, 2));
    }

    #[test]
    fn datagrams_arrive_in_batches_each_with_its_sender() {
        let (mut poll, mut udp) = udp_on("127.0.0.1");
        let to = ("127.0.0.1", udp.port());
        let senders = [(); 3].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        for n in 0..20u8 {
            senders[usize::from(n) % 3].send_to(&vec![n; usize::from(n)], to).unwrap();
        }
        senders[0].send_to(&[7; 6000], to).unwrap();
        let mut events = Events::with_capacity(8);
        let mut batch = Batch::default();
        let mut received = Vec::new();
        while received.len() < 21 {
            poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
            assert!(!events.is_empty(), "{received:?}");
            for event in &events {
                assert_eq!(event.token(), Token(7));
                udp.on_ready(0, event.is_readable(), event.is_writable(), poll.registry());
            }
            while udp.receive(&mut batch).0 > 0 {
                received.extend(batch.iter().map(|(bytes, from)| (bytes.to_vec(), from)));
            }
            assert!(!udp.pending());
        }
        for (n, (bytes, from)) in received.iter().take(20).enumerate() {
            assert_eq!((bytes, *from), (&vec![n as u8; n], senders[n % 3].local_addr().unwrap()));
        }
        assert_eq!(received[20].0, [7; 4096], "a longer one is cut");
        udp.on_ready(1, true, true, poll.registry());
        assert!(!udp.pending(), "an unknown index is ignored");
    }

    const NAMESPACE: &str = "RILL_TEST_IN_NAMESPACE";

    /// Runs itself again in a network namespace with a link of 2 Mbit/s and sends more over it than the
    /// socket's buffer holds.
    #[test]
    #[ignore = "needs root, unshare, ip and tc: it builds a slow link"]
    fn what_a_full_socket_buffer_refuses_waits_and_is_sent() {
        if std::env::var_os(NAMESPACE).is_none() {
            let name = "net::udp::tests::what_a_full_socket_buffer_refuses_waits_and_is_sent";
            let mut again = std::process::Command::new("unshare");
            again.arg("--net").arg(std::env::current_exe().unwrap());
            again.args([name, "--exact", "--ignored", "--nocapture"]).env(NAMESPACE, "1");
            assert!(again.status().unwrap().success());
            return;
        }
        let run = |command: &str| {
            let mut words = command.split(' ');
            let status = std::process::Command::new(words.next().unwrap()).args(words).status().unwrap();
            assert!(status.success(), "{command}");
        };
        run("ip link add near type veth peer name far");
        run("ip link set near addrgenmode none");
        run("ip link set far addrgenmode none");
        run("ip link set far up");
        run("ip link set near up");
        run("ip addr add 10.9.9.1/24 dev near");
        run("ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:02 dev near");
        run("tc qdisc add dev near root tbf rate 2mbit burst 2kb limit 1mb");

        let (mut poll, mut udp) = udp_on("10.9.9.1");
        socket2::SockRef::from(&udp.sockets[0].udp).set_send_buffer_size(4096).unwrap();
        for n in 0..40 {
            udp.send("10.9.9.2:9".parse().unwrap(), vec![n; 1000], poll.registry());
        }
        let waiting = udp.sockets[0].queue.datagrams.len();
        assert!((20..40).contains(&waiting), "{waiting} of 40 wait");
        let mut events = Events::with_capacity(8);
        let mut wakes = 0;
        while !udp.sockets[0].queue.is_empty() {
            poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
            assert!(!events.is_empty(), "the socket does not become writable");
            wakes += 1;
            for event in &events {
                udp.on_ready(0, event.is_readable(), event.is_writable(), poll.registry());
            }
        }
        // The last of them are in the socket's buffer and the link's queue still.
        std::thread::sleep(Duration::from_millis(100));
        let interfaces = std::fs::read_to_string("/proc/self/net/dev").unwrap();
        let far = interfaces.lines().find(|line| line.trim().starts_with("far:")).unwrap();
        let received = far.split_whitespace().nth(2).unwrap();
        assert_eq!((received, udp.dropped), ("40", 0), "after {wakes} wake-ups");
        udp.send("10.9.9.2:9".parse().unwrap(), vec![0; 10], poll.registry());
        poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
        assert!(events.is_empty(), "a datagram that has left wakes the poll: {events:?}");
    }
}
