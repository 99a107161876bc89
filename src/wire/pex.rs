//! Peer exchange, `ut_pex` (BEP 11, over BEP 10): peers that the sender has connected to or lost since its
//! last message.
//!
//! A message is a dictionary of compact lists, with a byte of flags for each added peer. An incomplete entry
//! at the end of a list is ignored, and missing flags are 0. Dropped peers are written but not read.

use super::bencode::{Bytes, Lenient, Rules, scan, to_bytes};
use super::compact::{V4_LEN, V6_LEN, peers_v4, peers_v6, write_compact};
use super::limits::{EXTENDED_TOKENS, MESSAGE_DEPTH, PEX_PEERS};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Flag: the peer prefers encrypted connections (MSE).
pub const PEX_ENCRYPTION: u8 = 0x01;
/// Flag: the peer is a seed or upload-only.
pub const PEX_SEED: u8 = 0x02;
/// Flag: the peer answers over uTP.
pub const PEX_UTP: u8 = 0x04;
/// Flag: the peer speaks `ut_holepunch` (BEP 55).
pub const PEX_HOLEPUNCH: u8 = 0x08;
/// Flag: the sender has connected to the peer at this address.
pub const PEX_REACHABLE: u8 = 0x10;

/// A PEX message; its lists are kept as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct PexMessage<'a> {
    #[serde(borrow)]
    added: Lenient<Bytes<'a>>,
    #[serde(rename = "added.f")]
    added_flags: Lenient<Bytes<'a>>,
    added6: Lenient<Bytes<'a>>,
    #[serde(rename = "added6.f")]
    added6_flags: Lenient<Bytes<'a>>,
    dropped: Lenient<Bytes<'a>>,
    dropped6: Lenient<Bytes<'a>>,
}

impl<'a> PexMessage<'a> {
    /// Reads the payload of an extension message; `None` unless it is a dictionary.
    pub fn parse(payload: &'a [u8]) -> Option<PexMessage<'a>> {
        const RULES: Rules = Rules { depth: MESSAGE_DEPTH, tokens: EXTENDED_TOKENS, strict: false };
        scan(payload, &RULES).ok()?.value.read().ok()
    }

    /// Returns the added peers that can be dialed, with their flags; at most [`PEX_PEERS`] of each address
    /// family.
    pub fn added(&self) -> impl Iterator<Item = (SocketAddr, u8)> + 'a {
        let bytes = |list: Lenient<Bytes<'a>>| list.bytes().unwrap_or_default();
        let v4 = bytes(self.added).chunks_exact(V4_LEN).map(|entry| peers_v4(entry).next());
        let v6 = bytes(self.added6).chunks_exact(V6_LEN).map(|entry| peers_v6(entry).next());
        with_flags(v4, bytes(self.added_flags)).chain(with_flags(v6, bytes(self.added6_flags)))
    }
}

fn with_flags<'a>(
    peers: impl Iterator<Item = Option<SocketAddr>> + 'a,
    flags: &'a [u8],
) -> impl Iterator<Item = (SocketAddr, u8)> + 'a {
    let flags = flags.iter().copied().chain(std::iter::repeat(0));
    peers.zip(flags).take(PEX_PEERS).filter_map(|(peer, flags)| Some((peer?, flags)))
}

/// Returns the payload of a message; empty lists are left out.
pub fn write_pex(added: &[(SocketAddr, u8)], dropped: &[SocketAddr]) -> Vec<u8> {
    let of_family = |v6| added.iter().filter(move |(peer, _)| peer.is_ipv6() == v6);
    let peers = |v6| compact_list(of_family(v6).map(|(peer, _)| *peer));
    let flags = |v6| of_family(v6).map(|(_, flags)| *flags).collect();
    let dropped_list = |v6| compact_list(dropped.iter().copied().filter(|peer| peer.is_ipv6() == v6));
    let lists: [Vec<u8>; 6] =
        [peers(false), flags(false), peers(true), flags(true), dropped_list(false), dropped_list(true)];
    let [added, added_flags, added6, added6_flags, dropped, dropped6] =
        lists.each_ref().map(|list| Lenient(Some(Bytes(list)).filter(|_| !list.is_empty())));
    to_bytes(&PexMessage { added, added_flags, added6, added6_flags, dropped, dropped6 })
}

fn compact_list(peers: impl Iterator<Item = SocketAddr>) -> Vec<u8> {
    let mut list = Vec::new();
    peers.for_each(|peer| write_compact(peer, &mut list));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{dict, i, list as written_list, s};
    use proptest::prelude::*;

    fn v4(n: u8) -> SocketAddr {
        SocketAddr::from(([8, 8, 8, n], 1000 + u16::from(n)))
    }

    fn v6(n: u8) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()], 1000))
    }

    fn added(payload: &[u8]) -> Vec<(SocketAddr, u8)> {
        PexMessage::parse(payload).unwrap().added().collect()
    }

    #[test]
    fn keys_are_sorted_and_empty_lists_are_left_out() {
        let bytes = write_pex(&[(v4(1), 0x12), (v6(1), 2)], &[v4(2), v6(2)]);
        let tidy = scan(&bytes, &Rules { depth: 2, tokens: 20, strict: true }).unwrap();
        assert!(tidy.is_canonical && tidy.rest.is_empty());
        let keys: Vec<_> = tidy.value.pairs().unwrap().map(|(key, _)| key.to_vec()).collect();
        assert_eq!(keys, [&b"added"[..], b"added.f", b"added6", b"added6.f", b"dropped", b"dropped6"]);
        assert_eq!(write_pex(&[], &[]), b"de");
    }

    #[test]
    fn p18_ignores_incomplete_entries_and_lists_of_another_type() {
        let two = [write_compact_of(v4(1)), write_compact_of(v4(2))].concat();
        assert_eq!(added(&dict([("added", s(&two[..11]))])), [(v4(1), 0)], "flags are optional");
        assert_eq!(added(&dict([("added", s(&two)), ("added.f", s([2]))])), [(v4(1), 2), (v4(2), 0)]);
        assert_eq!(added(&dict([("added", i(5)), ("added6", written_list([])), ("added.f", dict([]))])), []);
        for nothing in [&b""[..], b"le", b"i5e", b"d", b"4:text"] {
            assert_eq!(PexMessage::parse(nothing), None);
        }
    }

    #[test]
    fn p18_caps_ten_thousand_entries_and_keeps_flags_aligned_past_a_bad_one() {
        let many: Vec<u8> =
            (0..10_000u16).flat_map(|n| [&[9, 9, 9, 9][..], &(n + 1).to_be_bytes()].concat()).collect();
        assert_eq!(added(&dict([("added", s(many))])).len(), PEX_PEERS);
        let with_a_bad_one = [&[0, 0, 0, 0, 0, 7][..], &write_compact_of(v4(1))].concat();
        assert_eq!(added(&dict([("added", s(with_a_bad_one)), ("added.f", s([1, 2]))])), [(v4(1), 2)]);
    }

    fn write_compact_of(addr: SocketAddr) -> Vec<u8> {
        let mut out = Vec::new();
        write_compact(addr, &mut out);
        out
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(fours in proptest::collection::vec((1u8.., any::<u8>()), 0..50), sixes in proptest::collection::vec((1u8.., any::<u8>()), 0..50)) {
            let all: Vec<_> = fours.iter().map(|(n, f)| (v4(*n), *f)).chain(sixes.iter().map(|(n, f)| (v6(*n), *f))).collect();
            let dropped: Vec<_> = all.iter().map(|(peer, _)| *peer).collect();
            prop_assert_eq!(added(&write_pex(&all, &dropped)), all);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let whole = [b"d5:added".to_vec(), bytes.clone()].concat();
            for payload in [&bytes, &whole] {
                PexMessage::parse(payload).iter().for_each(|m| assert!(m.added().count() <= 2 * PEX_PEERS));
            }
        }
    }
}
