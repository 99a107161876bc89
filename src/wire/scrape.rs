//! Scrapes: how many peers a tracker counts for a torrent (BEP 48 over HTTP; for UDP see
//! [`super::udp_tracker`]).
//!
//! The scrape URL of an HTTP tracker is its announce URL with `scrape` in place of `announce` at the start of
//! the last path component. A tracker with another URL cannot be scraped. Counts of other torrents are
//! ignored, and an invalid number counts as absent.

use super::announce::{AnnounceError, TextOrNumber, canonical_body, refusal};
use super::bencode::{Lenient, TypeMismatch, Value};
use super::percent::encode_into;
use super::url::url_parts;
use crate::units::InfoHash;
use serde::Deserialize;

/// The peers that a tracker counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// Peers that have all pieces.
    pub seeds: Option<u32>,
    /// Peers that lack pieces.
    pub peers: Option<u32>,
    /// Completed downloads since the tracker started to count.
    pub completed: Option<u32>,
}

/// Returns the scrape URL for a torrent at the tracker with this announce URL, or `None` if there is none.
pub fn scrape_url(announce: &str, info_hash: &InfoHash) -> Option<String> {
    let path_and_query = url_parts(announce)?.path_and_query;
    let origin = announce.strip_suffix(path_and_query)?;
    let (path, query) =
        path_and_query.split_once('?').map_or((path_and_query, None), |(path, query)| (path, Some(query)));
    let (directory, last) = path.rsplit_once('/')?;
    let rest = last.strip_prefix("announce")?;
    let mut url = format!("{origin}{directory}/scrape{rest}?");
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        url.push_str(query);
        url.push('&');
    }
    url.push_str("info_hash=");
    encode_into(info_hash.as_bytes(), &mut url);
    Some(url)
}

/// Reads the body of an HTTP tracker's reply.
pub fn parse_counts(body: &[u8], info_hash: &InfoHash) -> Result<SwarmCounts, AnnounceError> {
    let body = canonical_body(body)?;
    let response: ScrapeResponse =
        body.value().read().map_err(|TypeMismatch| AnnounceError::NotADictionary)?;
    if let Some(error) = refusal(response.failure_reason, response.retry_in) {
        return Err(error);
    }
    let of_torrent = response.files.and_then(|files| files.get(info_hash.as_bytes()));
    let entry: Option<ScrapeEntry> = of_torrent.and_then(|entry| entry.read().ok());
    entry.map(SwarmCounts::from).ok_or(AnnounceError::UnknownTorrent)
}

/// The dictionary of a reply.
#[derive(Deserialize)]
struct ScrapeResponse<'a> {
    #[serde(borrow, rename = "failure reason")]
    failure_reason: Lenient<TextOrNumber<'a>>,
    /// A dictionary from info hash to [`ScrapeEntry`]; some trackers send torrents that were not requested.
    files: Option<Value<'a>>,
    #[serde(rename = "retry in")]
    retry_in: Lenient<TextOrNumber<'a>>,
}

/// The counts of one torrent.
#[derive(Deserialize)]
struct ScrapeEntry {
    complete: Lenient<u32>,
    downloaded: Lenient<u32>,
    incomplete: Lenient<u32>,
}

impl From<ScrapeEntry> for SwarmCounts {
    fn from(entry: ScrapeEntry) -> SwarmCounts {
        SwarmCounts { seeds: entry.complete.0, peers: entry.incomplete.0, completed: entry.downloaded.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{dict, i, list, s};
    use proptest::prelude::*;

    const HASH: InfoHash = InfoHash(*b"aaaaaaaaaaaaaaaaaaaa");

    fn counts(seeds: u32, completed: u32, peers: u32) -> SwarmCounts {
        SwarmCounts { seeds: Some(seeds), peers: Some(peers), completed: Some(completed) }
    }

    fn swarm(seeds: i64, completed: i64, peers: i64) -> Vec<u8> {
        dict([("complete", i(seeds)), ("downloaded", i(completed)), ("incomplete", i(peers))])
    }

    fn read(body: &[u8]) -> Result<SwarmCounts, AnnounceError> {
        parse_counts(body, &HASH)
    }

    #[test]
    fn derives_the_scrape_url_as_in_bep_48() {
        let asked = |url: &str| scrape_url(url, &InfoHash([0xff; 20]));
        let hash = "%FF".repeat(20);
        for (announce, scrape) in [
            ("http://t.example/announce", "http://t.example/scrape?"),
            ("https://t.example:8443/x/announce", "https://t.example:8443/x/scrape?"),
            ("http://t.example/announce.php", "http://t.example/scrape.php?"),
            ("http://t.example/announce?passkey=x", "http://t.example/scrape?passkey=x&"),
            ("http://t.example/announce?x=/y/z", "http://t.example/scrape?x=/y/z&"),
            ("http://t.example/announce?", "http://t.example/scrape?"),
            ("http://t.example/announce/announce", "http://t.example/announce/scrape?"),
            ("http://announce/announce", "http://announce/scrape?"),
        ] {
            assert_eq!(asked(announce), Some(format!("{scrape}info_hash={hash}")), "{announce}");
        }
        for announce in [
            "http://t.example/a",
            "http://t.example/",
            "http://t.example",
            "http://t.example?announce",
            "http://t.example/announce/x",
            "http://t.example/announce/",
            "http://t.example/x?announce=/announce",
            "http://t.example/xannounce",
            "http://announce.example",
            "announce",
        ] {
            assert_eq!(asked(announce), None, "{announce}");
        }
    }

    #[test]
    fn reads_the_example_of_bep_48() {
        let body = b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei11e10:downloadedi13772e10:incompletei19ee20:yyyyyyyyyyyyyyyyyyyyd8:completei21e10:downloadedi206e10:incompletei20eeee";
        assert_eq!(parse_counts(body, &InfoHash(*b"xxxxxxxxxxxxxxxxxxxx")), Ok(counts(11, 13_772, 19)));
        assert_eq!(parse_counts(body, &InfoHash(*b"yyyyyyyyyyyyyyyyyyyy")), Ok(counts(21, 206, 20)));
        assert_eq!(read(body), Err(AnnounceError::UnknownTorrent));
    }

    #[test]
    fn k8_accepts_unsorted_keys() {
        let swarm = dict([("incomplete", i(3)), ("name", s("x")), ("complete", i(1)), ("downloaded", i(2))]);
        let other = dict([("complete", i(9))]);
        let files = dict([("zzzzzzzzzzzzzzzzzzzz", other), ("aaaaaaaaaaaaaaaaaaaa", swarm)]);
        assert_eq!(read(&dict([("flags", dict([])), ("files", files)])), Ok(counts(1, 2, 3)));
    }

    #[test]
    fn k5_sanitizes_a_failure() {
        let refusal = read(&dict([("failure reason", s("\x1b[2Jno"))]));
        assert_eq!(refusal, Err(AnnounceError::Failure { reason: "[2Jno".into(), retry_in: None }));
        let with_files =
            dict([("failure reason", i(7)), ("files", dict([("aaaaaaaaaaaaaaaaaaaa", swarm(1, 2, 3))]))]);
        assert!(
            matches!(read(&with_files), Err(AnnounceError::Failure { reason, .. }) if reason == "7"),
            "a failure outweighs counts"
        );
    }

    #[test]
    fn k1_refuses_a_body_that_is_not_a_reply() {
        assert_eq!(read(b"<html>not found</html>"), Err(AnnounceError::Html));
        assert_eq!(read(b"le"), Err(AnnounceError::NotADictionary));
        assert!(matches!(read(b""), Err(AnnounceError::NotBencode(_))));
        assert!(matches!(read(b"d5:filesd20:aaaa"), Err(AnnounceError::NotBencode(_))));
        assert!(matches!(
            read(&[vec![b'l'; 9000], vec![b'e'; 9000]].concat()),
            Err(AnnounceError::NotBencode(_))
        ));
        for files in [
            i(1),
            s("x"),
            list([]),
            dict([]),
            dict([("short", swarm(1, 2, 3))]),
            dict([("aaaaaaaaaaaaaaaaaaaa", i(1))]),
        ] {
            assert_eq!(read(&dict([("files", files)])), Err(AnnounceError::UnknownTorrent));
        }
        assert_eq!(read(b"de"), Err(AnnounceError::UnknownTorrent));
    }

    #[test]
    fn invalid_numbers_count_as_absent() {
        let files = |swarm| dict([("files", dict([("aaaaaaaaaaaaaaaaaaaa", swarm)]))]);
        assert_eq!(
            read(&files(swarm(-1, i64::MAX, 4))),
            Ok(SwarmCounts { peers: Some(4), ..SwarmCounts::default() })
        );
        let odd = dict([
            ("complete", s("many")),
            ("downloaded", i("99999999999999999999999")),
            ("incomplete", list([])),
        ]);
        assert_eq!(read(&files(odd)), Ok(SwarmCounts::default()));
        assert_eq!(read(&files(dict([]))), Ok(SwarmCounts::default()));
    }

    proptest! {
        #[test]
        fn any_bytes_give_counts_or_an_error(bytes: Vec<u8>, cut in 0usize..90) {
            let whole = dict([("files", dict([("aaaaaaaaaaaaaaaaaaaa", swarm(1, 2, 3))]))]);
            let _ = read(&bytes);
            let _ = read(&[&whole[..cut.min(whole.len())], &bytes].concat());
        }
    }
}
