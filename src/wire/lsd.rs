//! Local Service Discovery (BEP 14): a multicast datagram that announces torrents and the port of the peer
//! that has them.
//!
//! ```text
//!   BT-SEARCH * HTTP/1.1
//!   Host: 239.192.152.143:6771
//!   Port: 6881
//!   Infohash: 40 hexadecimal digits, once for each torrent
//!   cookie: any text, by which the sender recognizes its own datagram
//! ```
//!
//! Received datagrams are untrusted. Names in any case, blanks and bare line feeds are accepted, malformed
//! hashes are ignored, and the number of hashes is limited. The peer's address is the sender of the datagram.

use super::limits::{LSD_BYTES, LSD_HASHES};
use crate::units::InfoHash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of both multicast groups.
const PORT: u16 = 6771;
/// The start of every announce.
const VERB: &[u8] = b"BT-SEARCH ";
/// Bytes of a line with an info hash.
const HASH_LINE: usize = "Infohash: \r\n".len() + 40;
/// Most bytes of everything else: the first line, the longer host, a port, a cookie of 16 digits, the end.
const FRAME: usize = 128;

/// Info hashes that fit into one datagram.
pub const HASHES_PER_ANNOUNCE: usize = (LSD_BYTES - FRAME) / HASH_LINE;

/// A multicast group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The IPv4 group.
    V4,
    /// The IPv6 group.
    V6,
}

impl Group {
    /// Both groups.
    pub const BOTH: [Group; 2] = [Group::V4, Group::V6];

    /// Returns the group's address and port.
    pub const fn addr(self) -> SocketAddr {
        match self {
            Group::V4 => SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 192, 152, 143)), PORT),
            Group::V6 => {
                SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f)), PORT)
            }
        }
    }
}

/// A received announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsdAnnounce {
    /// The port on which the peer listens; never 0.
    pub port: u16,
    /// Its torrents, at most [`LSD_HASHES`].
    pub hashes: Vec<InfoHash>,
    /// The cookie, if it is a hexadecimal number as rill writes it.
    pub cookie: Option<u64>,
}

/// Returns the datagram that announces these torrents, at most [`HASHES_PER_ANNOUNCE`] of them.
pub fn write_announce(group: Group, port: u16, hashes: &[InfoHash], cookie: u64) -> Vec<u8> {
    let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {}\r\nPort: {port}\r\n", group.addr());
    for hash in hashes.iter().take(HASHES_PER_ANNOUNCE) {
        text.push_str(&format!("Infohash: {hash}\r\n"));
    }
    text.push_str(&format!("cookie: {cookie:016x}\r\n\r\n\r\n"));
    text.into_bytes()
}

/// Reads a datagram; `None` without a valid port and a valid hash.
pub fn parse_announce(packet: &[u8]) -> Option<LsdAnnounce> {
    let mut lines = packet.split(|b| *b == b'\n');
    let first = lines.next()?.trim_ascii();
    if !first.get(..VERB.len())?.eq_ignore_ascii_case(VERB) {
        return None;
    }
    let mut port = None;
    let mut cookie = None;
    let mut hashes = Vec::new();
    for line in lines {
        let mut halves = line.splitn(2, |b| *b == b':').map(<[u8]>::trim_ascii);
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        let is = |field: &str| name.eq_ignore_ascii_case(field.as_bytes());
        if is("infohash") && hashes.len() < LSD_HASHES {
            hashes.extend(hash(value).filter(|hash| !hashes.contains(hash)));
        } else if is("port") {
            port = number(value, 10).and_then(|port| u16::try_from(port).ok());
        } else if is("cookie") {
            cookie = number(value, 16);
        }
    }
    let port = port.filter(|port| *port != 0)?;
    (!hashes.is_empty()).then_some(LsdAnnounce { port, hashes, cookie })
}

/// Reads a number without a sign.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?;
    u64::from_str_radix(text, radix).ok()
}

fn hash(text: &[u8]) -> Option<InfoHash> {
    if text.len() != 40 {
        return None;
    }
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        *byte = number(pair, 16)? as u8;
    }
    Some(InfoHash(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hashes(n: usize) -> Vec<InfoHash> {
        (0..n).map(|i| InfoHash([i as u8; 20])).collect()
    }

    #[test]
    fn writes_an_announce_as_in_bep_14() {
        let text = String::from_utf8(write_announce(Group::V4, 6881, &[InfoHash([0xab; 20])], 7)).unwrap();
        let wanted = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: {}\r\ncookie: 0000000000000007\r\n\r\n\r\n",
            "ab".repeat(20)
        );
        assert_eq!(text, wanted);
        let six = write_announce(Group::V6, 6881, &hashes(1), 7);
        assert!(String::from_utf8(six).unwrap().contains("\r\nHost: [ff15::efc0:988f]:6771\r\n"));
    }

    #[test]
    fn a_full_announce_fits_one_packet_and_reads_back() {
        for group in Group::BOTH {
            let packet = write_announce(group, 65_535, &hashes(200), u64::MAX);
            assert!(packet.len() <= LSD_BYTES, "{}", packet.len());
            let call = parse_announce(&packet).unwrap();
            assert_eq!(
                call,
                LsdAnnounce { port: 65_535, hashes: hashes(HASHES_PER_ANNOUNCE), cookie: Some(u64::MAX) }
            );
        }
        const { assert!(HASHES_PER_ANNOUNCE >= 20 && HASHES_PER_ANNOUNCE <= LSD_HASHES) };
    }

    #[test]
    fn accepts_the_variants_of_other_programs() {
        let digits = "AB".repeat(20);
        for text in [
            format!("bt-search * http/1.1\nPORT:6881\nINFOHASH:{digits}\n"),
            format!(
                "BT-SEARCH * HTTP/1.0\r\nhost: somewhere\r\n port :  6881 \r\ninfohash: \t{digits}\r\ncookie: not-a-number\r\n"
            ),
            format!(
                "BT-SEARCH * HTTP/1.1\r\nPort: 6881\r\nX: y\r\nInfohash: {digits}\r\nInfohash: {digits}\r\n\r\n\r\n"
            ),
        ] {
            let wanted = LsdAnnounce { port: 6881, hashes: vec![InfoHash([0xab; 20])], cookie: None };
            assert_eq!(parse_announce(text.as_bytes()), Some(wanted), "{text}");
        }
    }

    #[test]
    fn ignores_malformed_hashes_and_keeps_the_others() {
        let good = "11".repeat(20);
        let long = "11".repeat(21);
        let odd = "zz".repeat(20);
        let signs = "+1".repeat(20);
        let text = format!(
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {long}\r\nInfohash: {odd}\r\nInfohash: {signs}\r\nInfohash:\r\nInfohash: {good}\r\n"
        );
        assert_eq!(parse_announce(text.as_bytes()).unwrap().hashes, [InfoHash([0x11; 20])]);
    }

    #[test]
    fn refuses_an_announce_without_port_or_hash() {
        let hash = "11".repeat(20);
        for text in [
            String::new(),
            "BT-SEARCH".into(),
            format!("M-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {hash}\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nInfohash: {hash}\r\n"),
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n".into(),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: {hash}\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 65536\r\nInfohash: {hash}\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: +80\r\nInfohash: {hash}\r\n"),
        ] {
            assert_eq!(parse_announce(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn limits_the_number_of_hashes() {
        let lines: String = (0..1000).map(|n| format!("Infohash: {n:040x}\n")).collect();
        let call = parse_announce(format!("BT-SEARCH * HTTP/1.1\nPort: 1\n{lines}").as_bytes()).unwrap();
        assert_eq!(call.hashes.len(), LSD_HASHES);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_announce_within_limits_or_none(head in proptest::bool::ANY, bytes: Vec<u8>) {
            let begin: &[u8] = if head { b"BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: " } else { b"" };
            if let Some(call) = parse_announce(&[begin, &bytes].concat()) {
                prop_assert!(call.port != 0 && !call.hashes.is_empty() && call.hashes.len() <= LSD_HASHES);
            }
        }

        #[test]
        fn reads_what_it_wrote(port in 1u16.., cookie: u64, n in 1usize..HASHES_PER_ANNOUNCE) {
            let call = parse_announce(&write_announce(Group::V6, port, &hashes(n), cookie));
            prop_assert_eq!(call, Some(LsdAnnounce { port, hashes: hashes(n), cookie: Some(cookie) }));
        }
    }
}
