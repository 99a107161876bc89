//! Calling on the local network: one datagram to a multicast group that names torrents and the port of whoever has them (BEP 14).
//!
//! ```text
//!   BT-SEARCH * HTTP/1.1
//!   Host: 239.192.152.143:6771
//!   Port: 6881
//!   Infohash: 40 hexadecimal digits, once for each torrent
//!   cookie: anything, by which we know our own
//! ```
//!
//! What comes in is a stranger's: upper and lower case, blanks and bare line feeds are taken as they come, a hash that is none is passed
//! over, and there is room for so many hashes and no more. Who called is in the datagram's sender, not in it.

use super::limits::{LSD_BYTES, LSD_HASHES};
use crate::units::InfoHash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of both groups.
const PORT: u16 = 6771;
/// What every call begins with, up to HTTP's version.
const VERB: &[u8] = b"BT-SEARCH ";
/// Bytes of one line with a hash.
const HASH_LINE: usize = "Infohash: \r\n".len() + 40;
/// Bytes of everything else at most: the first line, the longer host, a port, a cookie of 16 digits, the end.
const FRAME: usize = 128;

/// Hashes that fit into one datagram.
pub const HASHES_PER_ANNOUNCE: usize = (LSD_BYTES - FRAME) / HASH_LINE;

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Everybody who listens over IPv4.
    V4,
    /// Everybody who listens over IPv6.
    V6,
}

impl Group {
    /// Both.
    pub const BOTH: [Group; 2] = [Group::V4, Group::V6];

    /// The group's address.
    pub const fn addr(self) -> SocketAddr {
        match self {
            Group::V4 => SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 192, 152, 143)), PORT),
            Group::V6 => SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f)), PORT),
        }
    }
}

/// A call, as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsdAnnounce {
    /// Where the caller listens; never 0.
    pub port: u16,
    /// What it looks for, at most [`LSD_HASHES`].
    pub hashes: Vec<InfoHash>,
    /// Its cookie, if it is a number as ours is.
    pub cookie: Option<u64>,
}

/// The datagram that looks for these torrents; those beyond [`HASHES_PER_ANNOUNCE`] are left out.
pub fn write_announce(group: Group, port: u16, hashes: &[InfoHash], cookie: u64) -> Vec<u8> {
    let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {}\r\nPort: {port}\r\n", group.addr());
    for hash in hashes.iter().take(HASHES_PER_ANNOUNCE) {
        text.push_str(&format!("Infohash: {hash}\r\n"));
    }
    text.push_str(&format!("cookie: {cookie:016x}\r\n\r\n\r\n"));
    text.into_bytes()
}

/// The call in a datagram, or `None` if there is none in it that could be answered.
pub fn parse_announce(packet: &[u8]) -> Option<LsdAnnounce> {
    let mut lines = packet.split(|b| *b == b'\n');
    let first = lines.next()?.trim_ascii();
    if !first.get(..VERB.len())?.eq_ignore_ascii_case(VERB) {
        return None;
    }
    let (mut port, mut cookie, mut hashes) = (None, None, Vec::new());
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

/// Digits and nothing else.
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
    fn a_call_is_written_as_bep_14_says() {
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
    fn a_full_call_stays_below_every_mtu_and_comes_back_whole() {
        for group in Group::BOTH {
            let packet = write_announce(group, 65_535, &hashes(200), u64::MAX);
            assert!(packet.len() <= LSD_BYTES, "{}", packet.len());
            let call = parse_announce(&packet).unwrap();
            assert_eq!(call, LsdAnnounce { port: 65_535, hashes: hashes(HASHES_PER_ANNOUNCE), cookie: Some(u64::MAX) });
        }
        const { assert!(HASHES_PER_ANNOUNCE >= 20 && HASHES_PER_ANNOUNCE <= LSD_HASHES) };
    }

    #[test]
    fn others_write_it_in_other_ways() {
        let digits = "AB".repeat(20);
        for text in [
            format!("bt-search * http/1.1\nPORT:6881\nINFOHASH:{digits}\n"),
            format!(
                "BT-SEARCH * HTTP/1.0\r\nhost: somewhere\r\n port :  6881 \r\ninfohash: \t{digits}\r\ncookie: not-a-number\r\n"
            ),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 6881\r\nX: y\r\nInfohash: {digits}\r\nInfohash: {digits}\r\n\r\n\r\n"),
        ] {
            let wanted = LsdAnnounce { port: 6881, hashes: vec![InfoHash([0xab; 20])], cookie: None };
            assert_eq!(parse_announce(text.as_bytes()), Some(wanted), "{text}");
        }
    }

    #[test]
    fn a_bad_hash_is_passed_over_and_the_good_ones_are_taken() {
        let (good, long, odd) = ("11".repeat(20), "11".repeat(21), "zz".repeat(20));
        let signs = "+1".repeat(20);
        let text = format!(
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {long}\r\nInfohash: {odd}\r\nInfohash: {signs}\r\nInfohash:\r\nInfohash: {good}\r\n"
        );
        assert_eq!(parse_announce(text.as_bytes()).unwrap().hashes, [InfoHash([0x11; 20])]);
    }

    #[test]
    fn what_cannot_be_answered_is_no_call() {
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
    fn a_thousand_hashes_are_not_all_taken() {
        let lines: String = (0..1000).map(|n| format!("Infohash: {n:040x}\n")).collect();
        let call = parse_announce(format!("BT-SEARCH * HTTP/1.1\nPort: 1\n{lines}").as_bytes()).unwrap();
        assert_eq!(call.hashes.len(), LSD_HASHES);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_call_within_bounds_or_none(head in proptest::bool::ANY, bytes: Vec<u8>) {
            let begin: &[u8] = if head { b"BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: " } else { b"" };
            if let Some(call) = parse_announce(&[begin, &bytes].concat()) {
                prop_assert!(call.port != 0 && !call.hashes.is_empty() && call.hashes.len() <= LSD_HASHES);
            }
        }

        #[test]
        fn what_is_written_is_what_is_read(port in 1u16.., cookie: u64, n in 1usize..HASHES_PER_ANNOUNCE) {
            let call = parse_announce(&write_announce(Group::V6, port, &hashes(n), cookie));
            prop_assert_eq!(call, Some(LsdAnnounce { port, hashes: hashes(n), cookie: Some(cookie) }));
        }
    }
}
