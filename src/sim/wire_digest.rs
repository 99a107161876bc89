//! Digest of all bytes that cross the virtual network, to compare what two versions of the program send.
//!
//! Two runs with the same digest sent the same bytes over the same connections in the same order, and the
//! same announces and datagrams. Payload has no content here, so only its length counts.

use super::link::PipeId;
use crate::wire::{Segment, WritePlan};
use std::net::SocketAddr;

/// FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WireDigest(u64);

impl Default for WireDigest {
    fn default() -> WireDigest {
        WireDigest(0xcbf2_9ce4_8422_2325)
    }
}

/// Prefixes that keep records of different kinds apart.
const CONNECTION: u8 = 1;
const PAYLOAD: u8 = 2;
const HTTP: u8 = 3;
const DATAGRAM: u8 = 4;

impl WireDigest {
    /// Adds a write of one end of a connection. The division of the plan into segments does not matter.
    pub(super) fn plan(&mut self, pipe: PipeId, plan: &WritePlan) {
        self.bytes(&[CONNECTION]);
        self.bytes(&pipe.raw().to_be_bytes());
        let mut payload = 0;
        for part in &plan.segments {
            match part {
                Segment::Control(range) => {
                    self.payload(std::mem::take(&mut payload));
                    self.bytes(&plan.control[range.clone()]);
                }
                Segment::Payload(span) => payload += u64::from(span.len()),
            }
        }
        self.payload(payload);
    }

    /// Adds an announce URL or a reply of the HTTP tracker; `node` is the requesting node.
    pub(super) fn http(&mut self, node: SocketAddr, text: &[u8]) {
        self.bytes(&[HTTP]);
        self.text(node.to_string().as_bytes());
        self.text(text);
    }

    /// Adds a datagram, lost or not.
    pub(super) fn datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.bytes(&[DATAGRAM]);
        self.text(from.to_string().as_bytes());
        self.text(to.to_string().as_bytes());
        self.text(bytes);
    }

    /// Returns the digest of all bytes so far.
    pub(super) fn get(self) -> u64 {
        self.0
    }

    fn payload(&mut self, len: u64) {
        if len > 0 {
            self.bytes(&[PAYLOAD]);
            self.bytes(&len.to_be_bytes());
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.bytes(&(text.len() as u64).to_be_bytes());
        self.bytes(text);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Geometry;

    fn digest(pipe: u32, control: &[u8], segments: &[Segment]) -> u64 {
        let mut digest = WireDigest::default();
        digest.plan(
            PipeId::new(pipe, 0),
            &WritePlan { control: control.to_vec(), segments: segments.to_vec() },
        );
        digest.get()
    }

    #[test]
    fn depends_on_bytes_lengths_and_connection_but_not_on_segments() {
        let geometry = Geometry::new(1 << 20, 1 << 18).unwrap();
        let block = geometry.block(geometry.piece(1).unwrap(), 2);
        let head = Segment::Payload(block.first(100));
        let tail = Segment::Payload(block.after(100).unwrap());
        let whole = digest(1, b"abcd", &[Segment::Control(0..4), Segment::Payload(block)]);
        assert_eq!(
            digest(1, b"abcd", &[Segment::Control(0..1), Segment::Control(1..4), head.clone(), tail]),
            whole
        );
        assert_ne!(digest(1, b"abce", &[Segment::Control(0..4), Segment::Payload(block)]), whole);
        assert_ne!(digest(2, b"abcd", &[Segment::Control(0..4), Segment::Payload(block)]), whole);
        assert_ne!(digest(1, b"abcd", &[Segment::Control(0..4), head]), whole);
        assert_ne!(digest(1, b"abcd", &[Segment::Payload(block), Segment::Control(0..4)]), whole);
    }
}
