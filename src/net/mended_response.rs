//! A layer between ureq and the connection that mends the head of a response, so that servers are understood
//! that browsers and curl understand.
//!
//! - A folded header line (RFC 9112, 5.2) is joined to the line before; a line that is no header is left out.
//! - `Content-Length` is removed, because it may be wrong: the body ends with the connection. If the server
//!   keeps the connection open, it ends [`GRACE`] after as many bytes as the server named.

use std::mem;
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// How long more bytes are awaited after those that the server announced.
const GRACE: Duration = Duration::from_millis(300);
/// Longest head, in bytes. A longer one is passed on as it is, and ureq refuses it.
const HEAD_BYTES: usize = 32 << 10;
/// Bytes of the input buffer, which holds a whole head.
const INPUT_BYTES: usize = 2 * HEAD_BYTES;
/// Bytes of the output buffer.
const OUTPUT_BYTES: usize = 16 << 10;

/// Puts the layer on each connection.
#[derive(Debug)]
pub struct MendingConnector;

impl<In: Transport> Connector<In> for MendingConnector {
    type Out = MendedTransport<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, below: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(below.map(|below| MendedTransport {
            below,
            buffers: LazyBuffers::new(INPUT_BYTES, OUTPUT_BYTES),
            part: Part::Head(Vec::new()),
            ready: Vec::new(),
        }))
    }
}

/// A connection whose responses are mended.
#[derive(Debug)]
pub struct MendedTransport<In> {
    below: In,
    buffers: LazyBuffers,
    part: Part,
    /// Bytes to pass on.
    ready: Vec<u8>,
}

/// The part of the response that comes next.
#[derive(Debug)]
enum Part {
    /// The head; its bytes so far.
    Head(Vec<u8>),
    /// The body; `left` counts down from its announced length, if there is one.
    Body { left: Option<u64> },
}

impl<In: Transport> MendedTransport<In> {
    /// Takes what has arrived; waits if nothing has. Returns an empty vector at the end.
    fn receive(&mut self, timeout: NextTimeout) -> Result<Vec<u8>, Error> {
        if self.below.buffers().input().is_empty() {
            self.below.await_input(timeout)?;
        }
        let bytes = self.below.buffers().input().to_vec();
        self.below.buffers().input_consume(bytes.len());
        Ok(bytes)
    }

    /// Receives a whole head, and mends it.
    fn receive_head(&mut self, mut head: Vec<u8>, timeout: NextTimeout) -> Result<(), Error> {
        let begun = Instant::now();
        let end = loop {
            if let Some(end) = end_of_head(&head) {
                break end;
            }
            let mut left = timeout;
            if !timeout.after.is_not_happening() {
                left.after = timeout.after.saturating_sub(begun.elapsed()).into();
                if left.after.is_zero() {
                    return Err(Error::Timeout(timeout.reason));
                }
            }
            let more = self.receive(left)?;
            if more.is_empty() || head.len() > HEAD_BYTES {
                self.ready = head;
                self.part = Part::Body { left: None };
                return Ok(());
            }
            head.extend(more);
        };
        let body = head.split_off(end);
        let (mended, length) = mend(&head);
        self.ready = mended;
        if is_interim(&head) {
            self.part = Part::Head(body);
        } else {
            self.part = Part::Body { left: length };
            self.pass_on(body);
        }
        Ok(())
    }

    fn receive_body(&mut self, left: Option<u64>, mut timeout: NextTimeout) -> Result<(), Error> {
        let complete = left == Some(0);
        if complete {
            timeout.after = (*timeout.after).min(GRACE).into();
        }
        match self.receive(timeout) {
            Ok(more) => self.pass_on(more),
            // The announced bytes are there.
            Err(Error::Timeout(_) | Error::Io(_)) if complete => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Passes on bytes of the body.
    fn pass_on(&mut self, bytes: Vec<u8>) {
        if let Part::Body { left: Some(left) } = &mut self.part {
            *left = left.saturating_sub(bytes.len() as u64);
        }
        self.ready.extend(bytes);
    }
}

impl<In: Transport> Transport for MendedTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let mut rest = self.buffers.output().get(..amount).unwrap_or_default();
        while !rest.is_empty() {
            let into = self.below.buffers().output();
            let n = rest.len().min(into.len());
            let (now, later) = rest.split_at(n);
            into[..n].copy_from_slice(now);
            self.below.transmit_output(n, timeout)?;
            rest = later;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        if self.ready.is_empty() {
            match &mut self.part {
                Part::Head(head) => {
                    let head = mem::take(head);
                    self.receive_head(head, timeout)?;
                }
                Part::Body { left } => {
                    let left = *left;
                    self.receive_body(left, timeout)?;
                }
            }
        }
        let into = self.buffers.input_append_buf();
        let n = self.ready.len().min(into.len());
        into[..n].copy_from_slice(&self.ready[..n]);
        self.buffers.input_appended(n);
        self.ready.drain(..n);
        Ok(n > 0)
    }

    fn is_open(&mut self) -> bool {
        self.below.is_open()
    }

    fn is_tls(&self) -> bool {
        self.below.is_tls()
    }
}

/// Returns where the head ends: behind its empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    while let Some(n) = bytes.get(start..)?.iter().position(|b| *b == b'\n') {
        if matches!(bytes.get(start..start + n), Some(b"" | b"\r")) && start > 0 {
            return Some(start + n + 1);
        }
        start += n + 1;
    }
    None
}

/// Returns whether another head follows (RFC 9110, 15.2).
fn is_interim(head: &[u8]) -> bool {
    head.split(|b| *b == b' ').nth(1).is_some_and(|status| status.len() == 3 && status.starts_with(b"1"))
}

/// Returns the mended head, and the body's length as the server announces it.
fn mend(head: &[u8]) -> (Vec<u8>, Option<u64>) {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        match lines.last_mut().filter(|_| line.starts_with(b" ") || line.starts_with(b"\t")) {
            Some(folded) => {
                folded.push(b' ');
                folded.extend_from_slice(line.trim_ascii());
            }
            None => lines.push(line.to_vec()),
        }
    }
    let mut lines = lines.into_iter();
    let mut mended = lines.next().unwrap_or_default();
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let (name, value) = (name.trim_ascii(), value[1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).or(length);
            continue;
        }
        chunked |= name.eq_ignore_ascii_case(b"transfer-encoding");
        for part in [b"\r\n", name, b": ", value] {
            mended.extend_from_slice(part);
        }
    }
    mended.extend_from_slice(b"\r\n\r\n");
    (mended, length.filter(|_| !chunked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k15_a_head_is_mended() {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\n  b\r\n\tc\r\nrubbish\r\nName : value\r\n\r\n";
        let (mended, length) = mend(head.as_bytes());
        assert_eq!(String::from_utf8(mended).unwrap(), "HTTP/1.1 200 OK\r\nX: a b c\r\nName: value\r\n\r\n");
        assert_eq!(length, Some(5));
        assert_eq!(mend(b"HTTP/1.1 200 OK\nContent-Length: 5\ntransfer-encoding: chunked\n\n").1, None);
        assert_eq!(mend(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n").1, None);
    }

    #[test]
    fn k15_a_head_ends_with_its_first_empty_line() {
        assert_eq!(end_of_head(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nbody\n\n"), Some(25));
        assert_eq!(end_of_head(b"HTTP/1.1 200 OK\n\nbody"), Some(17));
        assert_eq!(end_of_head(b"HTTP/1.1 200 OK\r\nX: y\r\n"), None);
        assert!(is_interim(b"HTTP/1.1 100 Continue\r\n\r\n") && !is_interim(b"HTTP/1.1 200 OK\r\n\r\n"));
    }
}
