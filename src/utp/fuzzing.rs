//! The fuzz target of uTP streams; `fuzz/` and the test over its corpus call it. Not part of the public API.

use super::limits::OWN_RECEIVE_BYTES;
use super::{Endpoint, UtpBudget, UtpEvent, UtpRead};
use std::io::IoSlice;
use std::net::SocketAddr;

/// What the endpoint may hold: few bytes, so that short inputs reach the limit.
const BUDGET: UtpBudget = UtpBudget { streams: 8, receive_bytes: 8 * 1024, send_bytes: 8 * 1024 };
/// More than the payload of a packet.
const PACKET: usize = 1_500;

/// Feeds an endpoint with datagrams: a length byte, then so many bytes; between them it is asked for packets
/// and its deadlines pass. Panics if it holds too much, or answers an unproven address with more than it sent.
pub fn utp_stream(mut bytes: &[u8]) {
    let peer = SocketAddr::from(([192, 0, 2, 1], 6881));
    let mut endpoint = Endpoint::new(BUDGET, [1; 32]);
    let dialed = endpoint.dial(0, 0, peer);
    let mut now_us = 0;
    let mut open = Vec::from_iter(dialed);
    let mut packet = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (datagram, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        bytes = rest;
        now_us += u64::from(*len) * 10_000;
        endpoint.on_datagram(now_us, 0, peer, datagram);
        endpoint.on_deadline(now_us);
        while let Some(event) = endpoint.next_event() {
            if let UtpEvent::Accepted(key, _) = event {
                open.push(key);
            }
        }
        for key in &open {
            endpoint.write(*key, &[IoSlice::new(&[7; 100])]);
            if let UtpRead::Moved(n) = endpoint.read(*key, &mut [0; 10]) {
                assert!(n <= 10);
            }
        }
        let mut packets = 0;
        while endpoint.next_packet(now_us, &mut packet).is_some() {
            packet.clear();
            packets += 1;
            assert!(packets < 2_000, "packets without end");
        }
        let (held, unacknowledged) = endpoint.held_bytes();
        assert!(
            endpoint.streams() <= BUDGET.streams
                && held <= BUDGET.receive_bytes + BUDGET.streams * OWN_RECEIVE_BYTES
                && unacknowledged <= BUDGET.send_bytes + BUDGET.streams * PACKET
        );
    }
}
