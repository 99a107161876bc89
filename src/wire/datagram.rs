//! Classifies the datagrams of the protocols that share our UDP sockets, by their first bytes.
//!
//! | protocol | first bytes | source |
//! |---|---|---|
//! | DHT | `d`, a bencoded dictionary | BEP 5 |
//! | UDP tracker | a 32-bit action of which only the last byte is used, so two zero bytes | BEP 15 |
//! | uTP | type 0 to 4 and version 1 in one byte | BEP 29 |
//! | port mapping | version 0 or 2, then an opcode with the response bit | RFC 6886, RFC 6887 |
//! | SSDP | `HTTP/1.1 200` | UPnP Device Architecture |
//!
//! A packet is classified only; whether it is valid is decided by the protocol's own parser.

use super::ssdp;

/// The protocol of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// A query, response or error of the DHT (BEP 5).
    Dht,
    /// A response of a UDP tracker (BEP 15).
    UdpTracker,
    /// A packet of a uTP connection (BEP 29).
    Utp,
    /// A response of a router to a NAT-PMP or PCP request.
    PortMapping,
    /// A response of a device to a search (UPnP).
    Ssdp,
    /// None of these.
    Unknown,
}

impl Datagram {
    /// Returns the protocol that these bytes belong to.
    pub fn of(bytes: &[u8]) -> Datagram {
        match bytes {
            [b'd', ..] => Datagram::Dht,
            [0 | 2, 0x80..=0xff, ..] => Datagram::PortMapping,
            [0, 0, ..] => Datagram::UdpTracker,
            bytes if bytes.starts_with(ssdp::VERB) => Datagram::Ssdp,
            [0x01 | 0x11 | 0x21 | 0x31 | 0x41, ..] => Datagram::Utp,
            _ => Datagram::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::udp_tracker::connect_request;

    #[test]
    fn tells_the_protocols_apart() {
        assert_eq!(Datagram::of(b"d1:rd2:id20:abcdefghij0123456789e1:t2:aa1:y1:re"), Datagram::Dht);
        for action in 0..=3u32 {
            let mut packet = action.to_be_bytes().to_vec();
            packet.extend([9; 12]);
            assert_eq!(Datagram::of(&packet), Datagram::UdpTracker, "action {action}");
        }
        for kind in 0..=4u8 {
            assert_eq!(Datagram::of(&[kind << 4 | 1, 0, 0, 0]), Datagram::Utp, "type {kind}");
        }
        assert_eq!(Datagram::of(&[0, 128, 0, 0]), Datagram::PortMapping, "NAT-PMP");
        assert_eq!(Datagram::of(&[2, 129, 0, 0]), Datagram::PortMapping, "PCP");
        assert_eq!(Datagram::of(b"HTTP/1.1 200 OK\r\n"), Datagram::Ssdp);
    }

    #[test]
    fn a_packet_of_no_known_protocol_is_unknown() {
        for bytes in [&b""[..], b"\0", b"x", b"HTTP/1.1 404", &[0x51, 0], &[0x02, 0x01], &[0x12, 0]] {
            assert_eq!(Datagram::of(bytes), Datagram::Unknown, "{bytes:?}");
        }
        assert_eq!(
            Datagram::of(&connect_request(7)),
            Datagram::UdpTracker,
            "a request that was sent back to us: its parser refuses it"
        );
    }
}
