//! Messages of hole punching, `ut_holepunch` (BEP 55, over BEP 10): two peers ask a third one for an
//! introduction, so that both dial each other at once.
//!
//! ```text
//! type u8   family u8 (0: IPv4, 1: IPv6)   address 4 or 16   port u16   error u32
//! ```
//! Some programs leave the error out of messages that are none, others refuse a message without it: it is
//! always written and never needed. Bytes after it are ignored.

use super::compact::{usable, write_compact};
use std::net::{IpAddr, SocketAddr};

/// A message; the address is that of the other peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolepunchMessage {
    /// What the sender wants or says.
    pub kind: HolepunchKind,
    /// The other peer: which one to meet, to dial, or which could not be introduced.
    pub addr: SocketAddr,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolepunchKind {
    /// To a relay: introduce us to this peer.
    Rendezvous,
    /// From a relay: dial this peer now, it dials you.
    Connect,
    /// From a relay: why it introduced no peer to this one.
    Error(HolepunchError),
}

/// Why a relay does not introduce two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolepunchError {
    /// The address is that of no peer.
    NoSuchPeer,
    /// The relay is not connected to the peer.
    NotConnected,
    /// The peer does not speak `ut_holepunch`.
    NoSupport,
    /// The address is that of the asking peer.
    NoSelf,
    /// Another number.
    Unknown(u32),
}

impl HolepunchError {
    fn number(self) -> u32 {
        match self {
            HolepunchError::NoSuchPeer => 1,
            HolepunchError::NotConnected => 2,
            HolepunchError::NoSupport => 3,
            HolepunchError::NoSelf => 4,
            HolepunchError::Unknown(number) => number,
        }
    }

    fn from_number(number: u32) -> HolepunchError {
        match number {
            1 => HolepunchError::NoSuchPeer,
            2 => HolepunchError::NotConnected,
            3 => HolepunchError::NoSupport,
            4 => HolepunchError::NoSelf,
            other => HolepunchError::Unknown(other),
        }
    }
}

impl HolepunchMessage {
    /// Reads the payload of an extension message; `None` if its type is unknown, it is too short, or its address
    /// cannot be dialed.
    pub fn parse(payload: &[u8]) -> Option<HolepunchMessage> {
        let (kind, rest) = payload.split_first()?;
        let (family, rest) = rest.split_first()?;
        let (ip, rest) = match family {
            0 => rest.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
            1 => rest.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
            _ => return None,
        };
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let kind = match kind {
            0 => HolepunchKind::Rendezvous,
            1 => HolepunchKind::Connect,
            2 => {
                let number = u32::from_be_bytes(*rest.first_chunk::<4>()?);
                HolepunchKind::Error(HolepunchError::from_number(number))
            }
            _ => return None,
        };
        Some(HolepunchMessage { kind, addr: usable(ip, u16::from_be_bytes(*port))? })
    }

    /// Returns the payload of an extension message.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, error) = match self.kind {
            HolepunchKind::Rendezvous => (0, 0),
            HolepunchKind::Connect => (1, 0),
            HolepunchKind::Error(error) => (2, error.number()),
        };
        let mut bytes = vec![kind, u8::from(self.addr.is_ipv6())];
        write_compact(self.addr, &mut bytes);
        bytes.extend(error.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: HolepunchKind, addr: &str) -> HolepunchMessage {
        HolepunchMessage { kind, addr: addr.parse().unwrap() }
    }

    #[test]
    fn messages_are_written_in_the_long_form_and_read_in_both() {
        let connect = message(HolepunchKind::Connect, "1.2.3.4:258");
        assert_eq!(connect.encode(), [1, 0, 1, 2, 3, 4, 1, 2, 0, 0, 0, 0]);
        assert_eq!(HolepunchMessage::parse(&connect.encode()), Some(connect));
        assert_eq!(HolepunchMessage::parse(&connect.encode()[..8]), Some(connect), "as libtorrent writes it");
        let meet = message(HolepunchKind::Rendezvous, "[2001:db8::1]:6881");
        assert_eq!((meet.encode().len(), HolepunchMessage::parse(&meet.encode())), (24, Some(meet)));
        let error = message(HolepunchKind::Error(HolepunchError::NoSupport), "1.2.3.4:5");
        assert_eq!(error.encode()[8..], [0, 0, 0, 3]);
        assert_eq!(HolepunchMessage::parse(&error.encode()), Some(error));
        assert_eq!(HolepunchMessage::parse(&error.encode()[..11]), None, "an error without its number");
    }

    #[test]
    fn addresses_that_are_not_those_of_one_host_are_refused() {
        for ip in [[0, 0, 0, 0], [224, 0, 0, 1], [255; 4]] {
            let [a, b, c, d] = ip;
            assert_eq!(HolepunchMessage::parse(&[1, 0, a, b, c, d, 1, 2, 0, 0, 0, 0]), None);
        }
        assert_eq!(HolepunchMessage::parse(&[1, 0, 1, 2, 3, 4, 0, 0]), None, "port 0");
        assert_eq!(HolepunchMessage::parse(&[3, 0, 1, 2, 3, 4, 1, 2]), None, "an unknown type");
        assert_eq!(HolepunchMessage::parse(&[1, 2, 1, 2, 3, 4, 1, 2]), None, "an unknown family");
    }

    proptest! {
        #[test]
        fn every_payload_is_read_or_refused_and_what_is_read_is_written_the_same(
            payload in prop::collection::vec(any::<u8>(), 0..30)
        ) {
            if let Some(read) = HolepunchMessage::parse(&payload) {
                prop_assert_eq!(HolepunchMessage::parse(&read.encode()), Some(read));
            }
        }
    }
}
