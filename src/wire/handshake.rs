//! The first 68 bytes of a connection (BEP 3), and the feature bits in them (BEP 6, 10, 5).
//!
//! Other protocols are recognized at the first byte that differs, without waiting for 68 bytes.

use crate::units::{InfoHash, PeerId};

/// Bytes in a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// The start of every handshake: the length of the protocol name, and the name.
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// Bytes of feature bits, behind the protocol name.
const RESERVED_LEN: usize = 8;
const EXTENDED: [u8; RESERVED_LEN] = [0, 0, 0, 0, 0, 0x10, 0, 0];
const DHT: [u8; RESERVED_LEN] = [0, 0, 0, 0, 0, 0, 0, 0x01];
const FAST: [u8; RESERVED_LEN] = [0, 0, 0, 0, 0, 0, 0, 0x04];

/// The handshake of one side: torrent, peer id and supported extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The sender's peer id.
    pub peer_id: PeerId,
    /// Supports the Fast extension (BEP 6).
    pub fast: bool,
    /// Supports the extension protocol (BEP 10).
    pub extended: bool,
    /// Runs a DHT node (BEP 5).
    pub dht: bool,
}

impl Handshake {
    /// Returns the handshake as sent.
    pub fn to_bytes(self) -> [u8; HANDSHAKE_LEN] {
        let mut reserved = [0; RESERVED_LEN];
        for (feature, on) in [(FAST, self.fast), (EXTENDED, self.extended), (DHT, self.dht)] {
            if on {
                reserved.iter_mut().zip(feature).for_each(|(byte, bits)| *byte |= bits);
            }
        }
        let mut out = [0; HANDSHAKE_LEN];
        let parts = [&PROTOCOL[..], &reserved, self.info_hash.as_bytes(), self.peer_id.as_bytes()];
        out.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, byte)| *to = *byte);
        out
    }

    /// Returns whether `bytes` could be the start of a handshake.
    pub fn could_begin(bytes: &[u8]) -> bool {
        bytes.iter().zip(PROTOCOL).all(|(got, wanted)| got == wanted)
    }

    /// Reads a handshake; `None` for another protocol.
    pub fn parse(bytes: &[u8; HANDSHAKE_LEN]) -> Option<Handshake> {
        let (reserved, names) = bytes.strip_prefix(PROTOCOL)?.split_first_chunk::<RESERVED_LEN>()?;
        let (info_hash, peer_id) = names.split_first_chunk()?;
        let has =
            |feature: [u8; RESERVED_LEN]| reserved.iter().zip(feature).any(|(byte, bits)| byte & bits != 0);
        Some(Handshake {
            info_hash: InfoHash(*info_hash),
            peer_id: PeerId::from_slice(peer_id)?,
            fast: has(FAST),
            extended: has(EXTENDED),
            dht: has(DHT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        for bits in 0..8 {
            let h = Handshake {
                info_hash: InfoHash([7; 20]),
                peer_id: PeerId([9; 20]),
                fast: bits & 1 != 0,
                extended: bits & 2 != 0,
                dht: bits & 4 != 0,
            };
            assert_eq!(Handshake::parse(&h.to_bytes()), Some(h));
        }
    }

    #[test]
    fn p11_recognizes_another_protocol_by_its_first_byte() {
        assert!(!Handshake::could_begin(b"GET / HTTP/1.1\r\n"));
        assert!(!Handshake::could_begin(&[0]));
        assert!(!Handshake::could_begin(&[255]));
        assert!(Handshake::could_begin(b"\x13BitTor"));
        assert_eq!(Handshake::parse(&[0x13; HANDSHAKE_LEN]), None);
    }
}
