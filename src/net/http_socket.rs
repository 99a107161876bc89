//! TCP connections of ureq that leave where an [`Egress`] says.

use super::egress::Egress;
use crate::wire::socks5::Target;
use socket2::{SockAddr, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};

/// Opens the connections.
#[derive(Debug)]
pub(super) struct EgressConnector(pub Egress);

impl<In: Transport> Connector<In> for EgressConnector {
    type Out = Either<In, HttpSocket>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        below: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(below) = below {
            // The connection through an HTTP proxy, which this connector opened before.
            return Ok(Some(Either::A(below)));
        }
        let config = &details.config;
        let socket = |stream| {
            let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
            Ok(Some(Either::B(HttpSocket { stream, buffers })))
        };
        if let Some(proxy) = &self.0.proxy {
            let target = target_of(details.uri).ok_or(Error::HostNotFound)?;
            let stream = proxy.connect_blocking(&target, &self.0, limit(details.timeout));
            return stream.map_err(|e| explain(e, details.timeout)).and_then(socket);
        }
        let begun = Instant::now();
        let mut failure = Error::HostNotFound;
        for addr in &details.addrs {
            let left = limit(details.timeout).map(|limit| limit.saturating_sub(begun.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::Timeout(details.timeout.reason));
            }
            match self.0.connect_blocking(*addr, left) {
                Ok(stream) => return socket(stream),
                Err(e) if is_timeout(&e) => failure = Error::Timeout(details.timeout.reason),
                Err(e) => failure = Error::Io(e),
            }
        }
        Err(failure)
    }
}

/// Returns what a proxy is asked to connect to: a name stays one.
fn target_of(uri: &Uri) -> Option<Target> {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    Target::of_host(uri.host()?.trim_matches(['[', ']']), port)
}

impl Egress {
    fn connect_blocking(&self, to: SocketAddr, limit: Option<Duration>) -> io::Result<TcpStream> {
        let socket = self.outgoing(to, Type::STREAM)?;
        match limit {
            Some(limit) => socket.connect_timeout(&SockAddr::from(to), limit)?,
            None => socket.connect(&SockAddr::from(to))?,
        }
        Ok(socket.into())
    }
}

/// A TCP connection.
#[derive(Debug)]
pub(super) struct HttpSocket {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for HttpSocket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(limit(timeout))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        (&self.stream).write_all(output).map_err(|e| explain(e, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(limit(timeout))?;
        let room = self.buffers.input_append_buf();
        let read = loop {
            match (&self.stream).read(room) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|e| explain(e, timeout))?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        false // no connection is used twice
    }
}

/// The time limit, at least a millisecond: zero would be none.
fn limit(timeout: NextTimeout) -> Option<Duration> {
    (!timeout.after.is_not_happening()).then(|| (*timeout.after).max(Duration::from_millis(1)))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn explain(error: io::Error, timeout: NextTimeout) -> Error {
    if is_timeout(&error) { Error::Timeout(timeout.reason) } else { Error::Io(error) }
}
