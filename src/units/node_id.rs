//! Distances between DHT ids (BEP 5), and ids derived from an address (BEP 42).
//!
//! The distance of two ids is their XOR as a number: ids with more leading bits in common are closer. BEP 42
//! derives the first 21 bits of a node id from its address, so that a node cannot choose its position.

use super::{NodeId, Rng, crc32c};
use std::net::IpAddr;

/// Distance of two ids; smaller is closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance(u128, u32);

impl Distance {
    /// Returns the number of leading bits in common; 160 if the ids are equal.
    pub const fn common_bits(self) -> u32 {
        if self.0 != 0 { self.0.leading_zeros() } else { self.1.leading_zeros().saturating_add(128) }
    }
}

impl NodeId {
    /// Returns the distance to `other`.
    pub fn distance(self, other: NodeId) -> Distance {
        let high = self.halves();
        let low = other.halves();
        Distance(high.0 ^ low.0, high.1 ^ low.1)
    }

    fn halves(self) -> (u128, u32) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = self.0;
        (
            u128::from_be_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]),
            u32::from_be_bytes([q, r, s, t]),
        )
    }

    /// Returns a random id.
    pub fn random(rng: &mut Rng) -> NodeId {
        let mut id = [0; 20];
        rng.fill(&mut id);
        NodeId(id)
    }

    /// Returns a random id that shares exactly the first `bits` bits with this one.
    pub fn random_at(self, bits: u32, rng: &mut Rng) -> NodeId {
        let mut id = NodeId::random(rng).0;
        let mut left = bits;
        for (byte, own) in id.iter_mut().zip(self.0) {
            let same = left.min(8);
            left = left.saturating_sub(8);
            let mask = (!(0xffu32 >> same)) as u8;
            *byte = (own & mask) | (*byte & !mask);
            if same < 8 {
                let bit = 0x80 >> same;
                *byte = (*byte & !bit) | (!own & bit);
                break;
            }
        }
        NodeId(id)
    }

    /// Returns a random id that matches `ip` (BEP 42).
    pub fn random_for(ip: IpAddr, rng: &mut Rng) -> NodeId {
        let mut id = NodeId::random(rng).0;
        let crc = address_crc(ip, id[19]).to_be_bytes();
        id[0] = crc[0];
        id[1] = crc[1];
        id[2] = (crc[2] & 0xf8) | (id[2] & 7);
        NodeId(id)
    }

    /// Returns whether the id matches `ip` (BEP 42): its first 21 bits are derived from the address. The
    /// exemption of local addresses is the caller's task.
    pub fn is_secure_for(self, ip: IpAddr) -> bool {
        let crc = address_crc(ip, self.0[19]).to_be_bytes();
        (self.0[0], self.0[1], self.0[2] & 0xf8) == (crc[0], crc[1], crc[2] & 0xf8)
    }
}

/// Returns the checksum whose first 21 bits begin the id: of the address's leading bits and three chosen
/// bits.
fn address_crc(ip: IpAddr, choice: u8) -> u32 {
    let choice = choice & 7;
    match ip.to_canonical() {
        IpAddr::V4(ip) => crc32c(&((u32::from(ip) & 0x030f_3fff) | u32::from(choice) << 29).to_be_bytes()),
        IpAddr::V6(ip) => {
            let network = (u128::from(ip) >> 64) as u64;
            crc32c(&((network & 0x0103_070f_1f3f_7fff) | u64::from(choice) << 61).to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn d5_the_published_vectors_of_bep_42_hold() {
        for (address, prefix, rest, last) in [
            ("124.31.75.21", [0x5f, 0xbf, 0xbf], "f10c5d6a4ec8a88e4c6ab4c28b95eee4", 0x01),
            ("21.75.31.124", [0x5a, 0x3c, 0xe9], "c14e7a08645677bbd1cfe7d8f956d532", 0x56),
            ("65.23.51.170", [0xa5, 0xd4, 0x32], "20bc8f112a3d426c84764f8c2a1150e6", 0x16),
            ("84.124.73.14", [0x1b, 0x03, 0x21], "dd1bb1fe518101ceef99462b947a01ff", 0x41),
            ("43.213.53.83", [0xe5, 0x6f, 0x6c], "bf5b7c4be0237986d5243b87aa6d5130", 0x5a),
        ] {
            let mut id = [0; 20];
            id[..3].copy_from_slice(&prefix);
            for (i, byte) in id[3..19].iter_mut().enumerate() {
                *byte = u8::from_str_radix(&rest[2 * i..2 * i + 2], 16).unwrap();
            }
            id[19] = last;
            assert!(NodeId(id).is_secure_for(ip(address)), "{address}");
            assert!(!NodeId(id).is_secure_for(ip("1.2.3.4")), "{address}");
            id[1] ^= 1;
            assert!(!NodeId(id).is_secure_for(ip(address)), "{address}");
        }
    }

    #[test]
    fn d5_an_id_created_for_an_address_is_secure_for_it() {
        let mut rng = Rng::new(1);
        for address in ["8.8.8.8", "::ffff:8.8.8.8", "2001:db8:1:2:3::4"] {
            for _ in 0..50 {
                let id = NodeId::random_for(ip(address), &mut rng);
                assert!(id.is_secure_for(ip(address)), "{address} {id}");
                assert!(!id.is_secure_for(ip("9.9.9.9")));
            }
        }
        let id = NodeId::random_for(ip("2001:db8:1:2::1"), &mut rng);
        assert!(id.is_secure_for(ip("2001:db8:1:2:ffff::7")), "only the /64 counts");
    }

    #[test]
    fn common_bits_ends_at_the_first_different_bit() {
        let zero = NodeId([0; 20]);
        for bit in 0..160 {
            let mut id = [0; 20];
            id[bit / 8] = 0x80 >> (bit % 8);
            assert_eq!(zero.distance(NodeId(id)).common_bits(), bit as u32);
        }
        assert_eq!(zero.distance(zero).common_bits(), 160);
        let at = |b: u8| NodeId([b; 20]).distance(NodeId([8; 20]));
        assert!(at(9) < at(12) && at(12) < at(0), "closer is smaller");
    }

    #[test]
    fn random_at_shares_exactly_the_given_bits() {
        let mut rng = Rng::new(3);
        let own = NodeId::random(&mut rng);
        for bits in 0..160 {
            assert_eq!(own.random_at(bits, &mut rng).distance(own).common_bits(), bits);
        }
        assert_eq!(own.random_at(160, &mut rng), own);
    }
}
