//! Tokens: a node may announce only to whom it asked before, from the same address (BEP 5, hazard D3).
//!
//! A token is a digest of the address and a secret. The secret is a digest of the seed and of the five
//! minutes that it serves, so there is nothing to store and nothing to renew; the seed cannot be found out
//! from tokens, because SHA-1 goes one way.

use crate::engine::limits;
use crate::units::Instant;
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// Bytes of a token: too many to be guessed within ten minutes.
pub(super) const TOKEN_BYTES: usize = 8;

/// Gives tokens out and knows them again.
#[derive(Debug)]
pub(super) struct Tokens {
    seed: u64,
}

impl Tokens {
    pub(super) fn new(seed: u64) -> Tokens {
        Tokens { seed }
    }

    /// The token for `ip` now.
    pub(super) fn give(&self, now: Instant, ip: IpAddr) -> [u8; TOKEN_BYTES] {
        self.token(period(now), ip)
    }

    /// Whether `token` was given to `ip`, under the present secret or the one before.
    pub(super) fn knows(&self, now: Instant, ip: IpAddr, token: &[u8]) -> bool {
        let period = period(now);
        token == self.token(period, ip)
            || period.checked_sub(1).is_some_and(|before| token == self.token(before, ip))
    }

    fn token(&self, period: u64, ip: IpAddr) -> [u8; TOKEN_BYTES] {
        let secret = digest(&[b"dht secret", &self.seed.to_be_bytes(), &period.to_be_bytes()]);
        let address = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let whole = digest(&[&secret, &address.octets()]);
        whole.first_chunk().copied().unwrap_or_default()
    }
}

fn period(now: Instant) -> u64 {
    now.as_micros() / limits::DHT_SECRET.as_micros() as u64
}

/// SHA-1 of the parts, one after the other.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 20] {
    parts.iter().fold(Sha1::new(), |sum, part| sum.chain_update(part)).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    #[test]
    fn d3_a_token_is_good_for_five_to_ten_minutes_and_one_address() {
        let tokens = Tokens::new(7);
        let (ip, other): (IpAddr, IpAddr) = ("1.2.3.4".parse().unwrap(), "1.2.3.5".parse().unwrap());
        for given in [0, 1, 299, 300, 451, 599] {
            let token = tokens.give(at(given), ip);
            assert!(tokens.knows(at(given), ip, &token) && tokens.knows(at(given + 300), ip, &token));
            assert!(!tokens.knows(at(given + 600), ip, &token));
            assert!(!tokens.knows(at(given), other, &token) && !tokens.knows(at(given), ip, b""));
            assert!(!Tokens::new(8).knows(at(given), ip, &token));
        }
        assert_ne!(tokens.give(at(0), ip), tokens.give(at(300), ip));
    }
}
