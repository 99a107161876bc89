//! Magnet links: an info hash, and sources of peers (BEP 9; `so`: BEP 53; `ws`: BEP 19).
//!
//! A link is untrusted: lists are capped, text is sanitized, URLs are checked like those of a torrent, and
//! file numbers in `so` are only compared, never used as indices.

use super::limits::{MAGNET_BYTES, MAGNET_PEERS, MAGNET_RANGES, TRACKERS, WEB_SEEDS};
use super::metainfo::component;
use super::percent;
use super::url::{RefusedTrackers, checked_tracker_url, web_seed_url};
use crate::units::InfoHash;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use thiserror::Error;

/// A magnet link. Its `Display` is the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// The torrent (`xt`).
    pub info_hash: InfoHash,
    /// The name to show until the metadata is known (`dn`): one plain path component.
    pub name: Option<String>,
    /// Trackers (`tr`), each in a tier of its own.
    pub trackers: Vec<String>,
    /// Trackers that were left out because their URLs are unusable.
    pub refused_trackers: RefusedTrackers,
    /// Web seeds (`ws`).
    pub web_seeds: Vec<String>,
    /// Peers (`x.pe`); host names are ignored.
    pub peers: Vec<SocketAddr>,
    /// Files to download (`so`), counted from 0; empty means all. The files may not exist.
    pub select_only: Vec<RangeInclusive<u32>>,
}

/// Why a magnet link is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MagnetError {
    /// The text is not a magnet link.
    #[error("this is not a magnet link: it does not start with `magnet:?`")]
    NotAMagnet,
    /// The link is longer than any that programs write.
    #[error("the magnet link has {bytes} bytes; at most {MAGNET_BYTES} are accepted")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// There is no `xt=urn:btih:`.
    #[error("the magnet link has no `xt=urn:btih:…`, so it names no torrent")]
    NoHash,
    /// The info hash is neither hexadecimal nor base 32.
    #[error(
        "the hash in `xt` must be 40 hexadecimal or 32 base-32 digits; this one has {digits} characters or a wrong digit"
    )]
    BadHash {
        /// Its length in bytes.
        digits: usize,
    },
    /// There is only a v2 hash, `urn:btmh` (BEP 52).
    #[error("the magnet link names a BitTorrent v2 torrent (`btmh`) only; v2 is not supported")]
    V2Only,
}

impl Magnet {
    /// Returns a link with nothing but an info hash.
    pub fn new(info_hash: InfoHash) -> Magnet {
        Magnet {
            info_hash,
            name: None,
            trackers: Vec::new(),
            refused_trackers: RefusedTrackers::default(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            select_only: Vec::new(),
        }
    }

    /// Returns whether the text starts like a magnet link.
    pub fn looks_like(text: &str) -> bool {
        text.trim_start().get(..7).is_some_and(|head| head.eq_ignore_ascii_case("magnet:"))
    }

    /// Reads a link. Unknown and malformed parameters are ignored, except for the info hash.
    pub fn parse(link: &str) -> Result<Magnet, MagnetError> {
        let link = link.trim();
        if !Magnet::looks_like(link) {
            return Err(MagnetError::NotAMagnet);
        }
        if link.len() > MAGNET_BYTES {
            return Err(MagnetError::TooLong { bytes: link.len() });
        }
        let query = link[7..].trim_start_matches('/').strip_prefix('?').ok_or(MagnetError::NotAMagnet)?;
        let mut magnet = Magnet::new(find_hash(query)?);
        for (key, value) in parameters(query) {
            magnet.take(&key, &value);
        }
        Ok(magnet)
    }

    /// Returns whether `so` selects the file with this number; without `so` every file is selected.
    pub fn selects(&self, file: u32) -> bool {
        self.select_only.is_empty() || self.select_only.iter().any(|range| range.contains(&file))
    }

    fn take(&mut self, key: &str, value: &[u8]) {
        match key {
            "dn" if self.name.is_none() => {
                let spaced: Vec<u8> = value.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
                self.name = component(&spaced);
            }
            "tr" if value.trim_ascii().is_empty() => {}
            "tr" => match checked_tracker_url(value) {
                Ok(url) => keep(&mut self.trackers, Some(url), TRACKERS),
                Err(error) => self.refused_trackers.push(value, error),
            },
            "ws" => keep(&mut self.web_seeds, web_seed_url(value), WEB_SEEDS),
            "x.pe" => {
                let peer = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                keep(&mut self.peers, peer.filter(|p: &SocketAddr| p.port() != 0), MAGNET_PEERS);
            }
            "so" => {
                for range in value.split(|b| *b == b',').filter_map(parse_range) {
                    keep(&mut self.select_only, Some(range), MAGNET_RANGES);
                }
            }
            _ => {}
        }
    }
}

/// Adds an item that is not in the list, up to `limit` items.
fn keep<T: PartialEq>(list: &mut Vec<T>, item: Option<T>, limit: usize) {
    if let Some(item) = item {
        if list.len() < limit && !list.contains(&item) {
            list.push(item);
        }
    }
}

/// Returns the parameters: keys in lower case, without the number that some programs append (`tr.1`), and
/// decoded values.
fn parameters(query: &str) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
    query.split('&').filter_map(|pair| {
        // Links copied from the source of a web page have `&amp;` between parameters.
        let (key, value) = pair.strip_prefix("amp;").unwrap_or(pair).split_once('=')?;
        let key = String::from_utf8(percent::decode(key)).ok()?.to_ascii_lowercase();
        let numbered =
            key.rsplit_once('.').filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        Some((numbered.map_or(key.as_str(), |(name, _)| name).to_owned(), percent::decode(value)))
    })
}

/// Returns the info hash of the first `xt` that names a v1 torrent.
fn find_hash(query: &str) -> Result<InfoHash, MagnetError> {
    let mut failure = MagnetError::NoHash;
    for (_, topic) in parameters(query).filter(|(key, _)| key == "xt") {
        if let Some(digits) = after_prefix(&topic, b"urn:btih:") {
            match parse_hash(digits) {
                Some(hash) => return Ok(hash),
                None => failure = MagnetError::BadHash { digits: digits.len() },
            }
        } else if after_prefix(&topic, b"urn:btmh:").is_some() && failure == MagnetError::NoHash {
            failure = MagnetError::V2Only;
        }
    }
    Err(failure)
}

fn after_prefix<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Reads 40 hexadecimal digits (10 for 5 bytes) or 32 base-32 digits (8 for 5 bytes).
fn parse_hash(digits: &[u8]) -> Option<InfoHash> {
    let (bits, group_len) = match digits.len() {
        40 => (4, 10),
        32 => (5, 8),
        _ => return None,
    };
    let mut hash = [0; 20];
    for (group, out) in digits.chunks(group_len).zip(hash.chunks_mut(5)) {
        let value =
            group.iter().try_fold(0u64, |value, digit| Some(value << bits | digit_value(*digit, bits)?))?;
        out.copy_from_slice(&value.to_be_bytes()[3..]);
    }
    Some(InfoHash(hash))
}

fn digit_value(digit: u8, bits: u32) -> Option<u64> {
    if bits == 4 {
        return (digit as char).to_digit(16).map(u64::from);
    }
    let value = match digit.to_ascii_lowercase() {
        letter @ b'a'..=b'z' => letter.checked_sub(b'a'),
        number @ b'2'..=b'7' => number.checked_sub(b'2' - 26),
        _ => None,
    };
    value.map(u64::from)
}

/// Reads `7` or `4-9`.
fn parse_range(text: &[u8]) -> Option<RangeInclusive<u32>> {
    let text = std::str::from_utf8(text).ok()?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first = first.parse().ok()?;
    let last = last.parse().ok()?;
    (first <= last).then_some(first..=last)
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = format!("magnet:?xt=urn:btih:{}", self.info_hash);
        let mut add = |key: &str, value: &[u8]| {
            link.push('&');
            link.push_str(key);
            link.push('=');
            percent::encode_into(value, &mut link);
        };
        self.name.iter().for_each(|name| add("dn", name.as_bytes()));
        self.trackers.iter().for_each(|url| add("tr", url.as_bytes()));
        self.web_seeds.iter().for_each(|url| add("ws", url.as_bytes()));
        self.peers.iter().for_each(|peer| add("x.pe", peer.to_string().as_bytes()));
        if !self.select_only.is_empty() {
            let ranges: Vec<String> = self.select_only.iter().map(range_text).collect();
            link.push_str("&so=");
            link.push_str(&ranges.join(","));
        }
        f.write_str(&link)
    }
}

fn range_text(range: &RangeInclusive<u32>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef01234567";
    const BASE32: &str = "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH";

    fn hash() -> InfoHash {
        Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}")).unwrap().info_hash
    }

    /// Returns the link with a valid hash and these parameters.
    fn with(parameters: &str) -> Magnet {
        Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}&{parameters}")).unwrap()
    }

    #[test]
    fn m1_refuses_a_malformed_hash() {
        for xt in [
            "",
            &HEX[1..],
            &format!("{HEX}0"),
            &HEX.replace('a', "g"),
            &HEX.replace('a', " "),
            "01234567 89",
            &BASE32.replace('A', "1"),
        ] {
            let got = Magnet::parse(&format!("magnet:?xt=urn:btih:{xt}"));
            assert_eq!(got, Err(MagnetError::BadHash { digits: xt.len() }), "{xt}");
        }
        assert_eq!(Magnet::parse("magnet:?dn=x"), Err(MagnetError::NoHash));
        assert_eq!(Magnet::parse("http://x/?xt=urn:btih:"), Err(MagnetError::NotAMagnet));
        assert_eq!(Magnet::parse("magnet:xt=urn:btih:"), Err(MagnetError::NotAMagnet));
        assert_eq!(Magnet::parse("magnét"), Err(MagnetError::NotAMagnet));
    }

    #[test]
    fn m2_accepts_the_spellings_of_other_programs() {
        for link in [
            format!("magnet:?xt=urn:btih:{}", HEX.to_uppercase()),
            format!("magnet:?xt=urn:btih:{BASE32}"),
            format!("magnet:?xt=urn:btih:{}", BASE32.to_lowercase()),
            format!("MAGNET:?XT=urn%3Abtih%3A{HEX}"),
            format!("  magnet:///?xt.1=URN:BTIH:{HEX}\n"),
            format!("magnet:?&&=&junk&x=%zz&dn&xl=5&amp;xt=urn:btih:{HEX}&as="),
            format!("magnet:?xt=urn:btmh:1220aa&xt=urn:btih:{HEX}"),
        ] {
            assert_eq!(Magnet::parse(&link).map(|m| m.info_hash), Ok(hash()), "{link}");
        }
    }

    #[test]
    fn m3_refuses_a_v2_link_with_its_own_error() {
        assert_eq!(Magnet::parse("magnet:?xt=urn:btmh:1220abcd"), Err(MagnetError::V2Only));
    }

    #[test]
    fn m4_caps_thousands_of_trackers() {
        let many: String =
            (0..1000).map(|n| format!("tr=http://t{n}.example/&ws=http://w{n}.example/&")).collect();
        let magnet = with(&many);
        assert_eq!((magnet.trackers.len(), magnet.web_seeds.len()), (TRACKERS, WEB_SEEDS));
        let huge = format!("magnet:?xt=urn:btih:{HEX}&dn={}", "x".repeat(MAGNET_BYTES));
        assert!(matches!(Magnet::parse(&huge), Err(MagnetError::TooLong { .. })));
    }

    #[test]
    fn m5_the_display_name_is_a_plain_path_component() {
        assert_eq!(with("dn=..%2F..%2Fetc%2Fpasswd").name.as_deref(), Some(".._.._etc_passwd"));
        assert_eq!(with("dn=a%00%1b[2Jb+c").name.as_deref(), Some("a__[2Jb c"));
        assert_eq!(with("dn=..").name, None);
        assert!(with(&format!("dn={}", "y".repeat(5_000))).name.unwrap().len() <= 255);
    }

    #[test]
    fn m6_file_numbers_are_capped_and_never_index_anything() {
        let magnet = with("so=100000000,0-4294967295,7-4,text,-1,3,,9-");
        assert_eq!(magnet.select_only, [100_000_000..=100_000_000, 0..=u32::MAX, 3..=3]);
        assert!(with("so=7-4,text").selects(5), "without a valid range all files are selected");
        assert!(with("so=1,4-6").selects(5) && !with("so=1,4-6").selects(3));
        let many: String = (0..5_000).map(|n| format!("{n},")).collect();
        assert_eq!(with(&format!("so={many}")).select_only.len(), MAGNET_RANGES);
    }

    #[test]
    fn m7_ignores_malformed_peer_addresses() {
        let magnet = with(
            "x.pe=1.2.3.4:5&x.pe=1.2.3.4&x.pe=1.2.3.4:0&x.pe=1.2.3.4:99999&x.pe=host:1&x.pe=[::1]:7&dht=bad",
        );
        assert_eq!(magnet.peers, ["1.2.3.4:5".parse().unwrap(), "[::1]:7".parse().unwrap()]);
    }

    #[test]
    fn m8_refuses_local_files_as_web_seeds_and_trackers() {
        let magnet = with("ws=file:///etc/passwd&tr=file:///etc/passwd&ws=https://w.example/");
        assert_eq!(magnet.web_seeds, ["https://w.example/"]);
        assert_eq!(magnet.trackers, Vec::<String>::new());
    }

    #[test]
    fn reads_what_it_wrote() {
        let magnet =
            with("dn=a%26b%3Dc+d&tr=http://t.example/a%3Fk%3Dv&ws=http://w.example/&x.pe=1.2.3.4:5&so=1,4-6");
        assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
    }
}
