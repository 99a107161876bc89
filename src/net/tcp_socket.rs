//! A TCP connection: moves bytes without waiting, and says what its errors mean.

use super::egress::Egress;
use super::proxied_dial::ProxiedDial;
use super::sys;
use super::transfer::{DialError, Transfer};
use crate::disk::Target;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// A non-blocking TCP connection, registered with the loop's poll.
#[derive(Debug)]
pub struct TcpSocket {
    stream: TcpStream,
    /// The negotiation with the proxy that comes before the peer's bytes, until it is over.
    proxied: Option<Box<ProxiedDial>>,
}

impl TcpSocket {
    /// Begins to connect. The first writable event says that the attempt is over:
    /// [`established`](TcpSocket::established) then tells its result.
    pub fn dial(
        addr: SocketAddr,
        egress: &Egress,
        registry: &Registry,
        token: Token,
    ) -> Result<TcpSocket, DialError> {
        let (stream, proxied) = egress.dial(addr)?;
        let socket = TcpSocket::register(stream, registry, token).map_err(DialError::Peer)?;
        Ok(TcpSocket { proxied: proxied.map(Box::new), ..socket })
    }

    /// Takes over an accepted stream.
    pub fn accepted(
        stream: TcpStream,
        egress: &Egress,
        registry: &Registry,
        token: Token,
    ) -> io::Result<TcpSocket> {
        if let Ok(own) = stream.local_addr() {
            egress.mark(SockRef::from(&stream), own.is_ipv6());
        }
        TcpSocket::register(stream, registry, token)
    }

    fn register(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<TcpSocket> {
        stream.register(registry, token, Interest::READABLE | Interest::WRITABLE)?;
        // Requests are small, and a delay of them delays the blocks. A socket without the option works too.
        let _ = stream.set_nodelay(true);
        Ok(TcpSocket { stream, proxied: None })
    }

    /// Returns the result of dialing, `None` while it is pending. A negotiation with a proxy goes on meanwhile.
    pub fn established(&mut self) -> Option<Result<(), DialError>> {
        let connected = match (self.stream.take_error(), self.stream.peer_addr()) {
            (Ok(Some(e)) | Err(e), _) => Err(e),
            (Ok(None), Ok(_)) => Ok(()),
            (Ok(None), Err(e)) if e.kind() == ErrorKind::NotConnected => return None,
            (Ok(None), Err(e)) => Err(e),
        };
        let Some(proxied) = &mut self.proxied else { return Some(connected.map_err(DialError::Peer)) };
        let result = match connected {
            Ok(()) => proxied.advance(&mut self.stream)?,
            Err(e) => Err(proxied.on_unreachable(e)),
        };
        if result.is_ok() {
            self.proxied = None;
        }
        Some(result)
    }

    /// Gives up dialing if the proxy has not yet taken the request. The peer is not the cause then.
    pub fn proxy_overdue(&mut self) -> Option<DialError> {
        self.proxied.as_mut().filter(|proxied| !proxied.is_requested()).map(|proxied| proxied.on_overdue())
    }

    /// Reads control bytes.
    pub fn read(&mut self, room: &mut [u8]) -> Transfer {
        let n = self.stream.read(room);
        transfer(n, room.len())
    }

    /// Reads payload into its target, and the bytes that follow it into `spill`.
    pub fn read_into(&mut self, target: Target<'_>, spill: &mut [u8]) -> Transfer {
        let wanted = target.len() + spill.len();
        match target {
            Target::Buffer(buffer) => {
                let count = if spill.is_empty() { 1 } else { 2 };
                let mut slices = [IoSliceMut::new(buffer), IoSliceMut::new(spill)];
                transfer(self.stream.read_vectored(&mut slices[..count]), wanted)
            }
            Target::Mapped(range) => {
                match transfer(sys::read_into(self.stream.as_fd(), &range, spill), wanted) {
                    // The kernel stops before a page that it cannot write, with bytes left in the socket:
                    // only the next read can tell.
                    Transfer::Moved { bytes, .. } => Transfer::Moved { bytes, drained: false },
                    other => other,
                }
            }
        }
    }

    /// Writes as much of the slices as the socket takes.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> Transfer {
        let n = self.stream.write_vectored(slices);
        transfer(n, slices.iter().map(|s| s.len()).sum())
    }
}

fn transfer(result: io::Result<usize>, wanted: usize) -> Transfer {
    match result {
        Ok(0) => Transfer::Ended,
        Ok(bytes) => Transfer::Moved { bytes, drained: bytes < wanted },
        Err(e) if e.kind() == ErrorKind::WouldBlock => Transfer::NotNow,
        // A signal interrupted the call: nothing moved, and the socket may still be ready.
        Err(e) if e.kind() == ErrorKind::Interrupted => Transfer::Moved { bytes: 0, drained: false },
        Err(e) if e.raw_os_error() == Some(libc::EFAULT) => Transfer::BadTarget,
        Err(_) => Transfer::Ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, DiskEvent, OpenTorrent, StorageMode, Store, StoreConfig};
    use crate::units::{Geometry, InfoHash, SlotMap, TorrentKey};
    use crate::wire::Files;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    const PIECE_LEN: u64 = 256 * 1024;

    /// Returns a store with one torrent of one piece, which is prepared for receiving.
    fn store(mode: StorageMode, dir: &std::path::Path) -> (Store, TorrentKey, Geometry) {
        let (wake, woken) = channel();
        let config = StoreConfig { mode, workers: 1, ..StoreConfig::default() };
        let mut store = Store::new(config, Arc::new(move || wake.send(()).unwrap_or_default())).unwrap();
        let geometry = Geometry::new(PIECE_LEN, PIECE_LEN).unwrap();
        let key = SlotMap::<TorrentKey, ()>::default().insert(());
        let files = Files::from_iter([("x", PIECE_LEN)]);
        let torrent = OpenTorrent::new(InfoHash([7; 20]).into(), geometry, files, vec![0; 20].into(), dir);
        store.open(key, torrent);
        loop {
            match store.next_event() {
                Some(DiskEvent::Opened { .. }) => store.prepare(key, geometry.piece(0).unwrap()),
                Some(DiskEvent::Prepared { .. }) => return (store, key, geometry),
                _ => {
                    store.submit();
                    woken.recv_timeout(Duration::from_secs(20)).unwrap();
                }
            }
        }
    }

    /// The kernel copies one received segment after another and stops at a page that it cannot write, whether
    /// or not more bytes wait. A caller that took this for an empty socket would wait for readiness that was
    /// reported already.
    #[test]
    fn f2_a_short_read_into_a_window_does_not_mark_the_socket_as_drained() {
        for (mode, dry) in [(StorageMode::Mapped, false), (StorageMode::Plain, true)] {
            let dir = tempfile::tempdir().unwrap();
            let (mut store, key, geometry) = store(mode, dir.path());
            let poll = mio::Poll::new().unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut socket = TcpSocket::dial(
                listener.local_addr().unwrap(),
                &Egress::default(),
                poll.registry(),
                Token(0),
            )
            .unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(&[1; 100]).unwrap();
            let mut read = || {
                let target =
                    store.target(key, geometry.block(geometry.piece(0).unwrap(), 0), Access::Kernel).unwrap();
                assert_eq!(matches!(target, Target::Mapped(_)), mode == StorageMode::Mapped);
                socket.read_into(target, &mut [])
            };
            let mut first = read();
            while first == Transfer::NotNow {
                first = read();
            }
            assert_eq!(first, Transfer::Moved { bytes: 100, drained: dry });
            assert_eq!(read(), Transfer::NotNow, "only now the socket is known to be empty");
        }
    }
}
