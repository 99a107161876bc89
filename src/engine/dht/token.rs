//! Tokens: a node may announce only with a token that it got in a response to the same address (BEP 5, hazard
//! D3).
//!
//! A token is a digest of the address and a secret. The secret is a digest of the seed and of the current
//! five-minute period, so no state is stored. SHA-1 is one-way, so tokens do not reveal the seed.

use crate::engine::limits;
use crate::units::Instant;
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// Bytes of a token: too many to be guessed within ten minutes.
pub(super) const TOKEN_BYTES: usize = 8;

/// Issues and verifies tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    seed: u64,
}

impl Tokens {
    pub(super) fn new(seed: u64) -> Tokens {
        Tokens { seed }
    }

    /// Returns the current token of `ip`.
    pub(super) fn issue(&self, now: Instant, ip: IpAddr) -> [u8; TOKEN_BYTES] {
        self.token(period(now), ip)
    }

    /// Returns whether `token` was issued to `ip` in the current or the previous period.
    pub(super) fn verify(&self, now: Instant, ip: IpAddr, token: &[u8]) -> bool {
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

/// Returns the SHA-1 of the concatenated parts.
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
    fn d3_a_token_is_valid_for_five_to_ten_minutes_and_one_address() {
        let tokens = Tokens::new(7);
        let ip: IpAddr = "1.2.3.4".parse().unwrap();
        let other: IpAddr = "1.2.3.5".parse().unwrap();
        for issued_at in [0, 1, 299, 300, 451, 599] {
            let token = tokens.issue(at(issued_at), ip);
            assert!(
                tokens.verify(at(issued_at), ip, &token) && tokens.verify(at(issued_at + 300), ip, &token)
            );
            assert!(!tokens.verify(at(issued_at + 600), ip, &token));
            assert!(!tokens.verify(at(issued_at), other, &token) && !tokens.verify(at(issued_at), ip, b""));
            assert!(!Tokens::new(8).verify(at(issued_at), ip, &token));
        }
        assert_ne!(tokens.issue(at(0), ip), tokens.issue(at(300), ip));
    }
}
