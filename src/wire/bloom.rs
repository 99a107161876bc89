//! Bloom filters of peer addresses for DHT scrapes (BEP 33).
//!
//! A filter has 2,048 bits; an address sets two. The union of several nodes' filters counts an address that
//! all of them know once.

use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// Bytes of a filter.
pub const FILTER_BYTES: usize = 256;

const BITS: usize = 8 * FILTER_BYTES;

/// A Bloom filter of addresses: it can be counted and united with others, but not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter([u8; FILTER_BYTES]);

impl Default for Filter {
    fn default() -> Filter {
        Filter([0; FILTER_BYTES])
    }
}

impl Filter {
    /// Reads a filter; `None` unless there are exactly [`FILTER_BYTES`] bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Filter> {
        bytes.try_into().ok().map(Filter)
    }

    /// Returns the filter as sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds an address.
    pub fn insert(&mut self, ip: IpAddr) {
        let hash: [u8; 20] = match ip {
            IpAddr::V4(ip) => Sha1::digest(ip.octets()).into(),
            IpAddr::V6(ip) => Sha1::digest(ip.octets()).into(),
        };
        for pair in [[hash[0], hash[1]], [hash[2], hash[3]]] {
            let bit = usize::from(u16::from_le_bytes(pair)) % BITS;
            if let Some(byte) = self.0.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }

    /// Adds the addresses of `other`.
    pub fn join(&mut self, other: &Filter) {
        self.0.iter_mut().zip(other.0).for_each(|(ours, theirs)| *ours |= theirs);
    }

    /// Estimates the number of addresses. Beyond about 6,000 the filter is saturated.
    pub fn estimate(&self) -> f64 {
        const MOST: u32 = BITS as u32 - 1;
        let zeros = self.0.iter().map(|byte| byte.count_zeros()).sum::<u32>().clamp(1, MOST);
        let empty = self.0.iter().all(|byte| *byte == 0);
        let m = BITS as f64;
        if empty { 0.0 } else { (f64::from(zeros) / m).ln() / (2.0 * (1.0 - 1.0 / m).ln()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BEP 33's test vector: 192.0.2.0 to 192.0.2.255, then 2001:DB8:: to 2001:DB8::3E7.
    #[test]
    fn reproduces_the_test_vector_of_bep_33() {
        let mut filter = Filter::default();
        (0..=255).for_each(|n| filter.insert(IpAddr::from([192, 0, 2, n])));
        (0..=0x3e7u16).for_each(|n| filter.insert(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])));
        let first: String = filter.as_bytes()[..32].iter().map(|b| format!("{b:02X}")).collect();
        assert_eq!(first, "F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75");
        assert!((filter.estimate() - 1224.9308).abs() < 0.001, "{}", filter.estimate());
    }

    #[test]
    fn counts_an_address_in_two_filters_once() {
        let mut a = Filter::default();
        let mut b = Filter::default();
        assert_eq!(a.estimate(), 0.0);
        (0..100).for_each(|n| a.insert(IpAddr::from([10, 0, 0, n])));
        (50..150).for_each(|n| b.insert(IpAddr::from([10, 0, 0, n])));
        a.join(&Filter::from_slice(b.as_bytes()).unwrap());
        assert!((140.0..160.0).contains(&a.estimate()), "{}", a.estimate());
        assert_eq!(Filter::from_slice(&[0; 255]), None);
        assert!(Filter([0xff; FILTER_BYTES]).estimate().is_finite());
    }
}
