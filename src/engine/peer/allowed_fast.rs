//! The set of pieces that a peer may have while choked (BEP 6): any two clients compute the same set from the
//! peer's address.

use crate::units::{Geometry, InfoHash, PieceIndex};
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// Returns at most `k` different pieces; none for an IPv6 address, for which BEP 6 has no rule.
///
/// BEP 6 ignores the last byte of the address, so that all addresses of a network get one set. On a private
/// network all peers would then request the same few pieces of a new torrent, so there each address has its
/// own set.
pub fn allowed_fast(geometry: &Geometry, info_hash: &InfoHash, ip: IpAddr, k: usize) -> Vec<PieceIndex> {
    let IpAddr::V4(ip) = ip.to_canonical() else { return Vec::new() };
    let [a, b, c, d] = ip.octets();
    let private = ip.is_private() || ip.is_link_local() || ip.is_loopback();
    let k = k.min(geometry.pieces() as usize);
    let mut set = Vec::with_capacity(k);
    let seed = [a, b, c, if private { d } else { 0 }];
    let mut x: [u8; 20] = Sha1::new().chain_update(seed).chain_update(info_hash.as_bytes()).finalize().into();
    // Each round yields five numbers. In a small torrent they repeat, so the rounds are bounded.
    for _ in 0..64 {
        for draw in x.chunks_exact(4) {
            let number = u32::from_be_bytes([draw[0], draw[1], draw[2], draw[3]]) % geometry.pieces();
            if let Some(piece) = geometry.piece(number).filter(|p| set.len() < k && !set.contains(p)) {
                set.push(piece);
            }
        }
        if set.len() == k {
            break;
        }
        x = Sha1::digest(x).into();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bep_6_example() {
        let g = Geometry::new(1313, 1).unwrap();
        let set = |k| {
            let ip = "80.4.4.200".parse().unwrap();
            allowed_fast(&g, &InfoHash([0xaa; 20]), ip, k).iter().map(|p| p.get()).collect::<Vec<_>>()
        };
        assert_eq!(set(7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(set(9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn public_neighbours_share_a_set_and_private_addresses_have_their_own() {
        let g = Geometry::new(1313, 1).unwrap();
        let set = |ip: &str| allowed_fast(&g, &InfoHash([0xaa; 20]), ip.parse().unwrap(), 9);
        assert_eq!(set("80.4.4.200"), set("80.4.4.7"));
        for (a, b) in [
            ("192.168.1.2", "192.168.1.3"),
            ("10.0.0.1", "10.0.0.2"),
            ("169.254.9.9", "169.254.9.8"),
            ("127.0.0.1", "127.0.0.2"),
        ] {
            assert_ne!(set(a), set(b));
        }
    }

    #[test]
    fn a_small_torrent_does_not_loop_forever() {
        let g = Geometry::new(3, 1).unwrap();
        assert!(allowed_fast(&g, &InfoHash([1; 20]), "80.4.4.200".parse().unwrap(), 10).len() <= 3);
    }
}
