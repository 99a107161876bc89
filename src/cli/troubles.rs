//! Why a torrent has no peers, in one sentence: what its trackers and the peers that the user gave answered, and
//! what was left out.
//!
//! The texts are safe to print, hold no secrets, and are bounded in number and length.

use crate::wire::{origin_without_secrets, printable};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Most trackers and most peers that are remembered.
const MOST: usize = 64;
/// Longest answer of a tracker that is shown, characters.
const ANSWER_CHARS: usize = 120;

/// How the error of a refusal begins.
const REFUSAL: &str = "the tracker refuses: ";

/// Answers about one torrent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Troubles {
    /// The last answer of each tracker, by its host: the number of addresses, or an error.
    trackers: BTreeMap<String, Result<usize, String>>,
    /// The last error of each peer that the user gave.
    given_peers: BTreeMap<SocketAddr, String>,
    /// Trackers of the source that are left out because they cannot be used.
    left_out: usize,
    /// The source has web seeds and no trackers.
    web_seeds_only: bool,
}

impl Troubles {
    /// Returns what is known before the first answer.
    pub(crate) fn new(left_out: usize, web_seeds_only: bool) -> Troubles {
        Troubles { left_out, web_seeds_only, ..Troubles::default() }
    }

    /// Records a tracker's answer.
    pub(crate) fn on_tracker(&mut self, url: &str, answer: Result<usize, &str>) {
        let host = tracker_host(url);
        if self.trackers.len() < MOST || self.trackers.contains_key(&host) {
            self.trackers.insert(host, answer.map_err(|error| printable(error, ANSWER_CHARS)));
        }
    }

    /// Records that a peer which the user gave could not be reached.
    pub(crate) fn on_given_peer(&mut self, addr: SocketAddr, error: &str) {
        if self.given_peers.len() < MOST || self.given_peers.contains_key(&addr) {
            self.given_peers.insert(addr, error.to_string());
        }
    }

    /// Returns the reasons as one sentence, most important first; `None` if there are none.
    pub(crate) fn sentence(&self) -> Option<String> {
        let left_out = match self.left_out {
            0 => None,
            1 => Some("1 tracker is left out".to_string()),
            more => Some(format!("{more} trackers are left out")),
        };
        let web_seeds =
            self.web_seeds_only.then(|| "web seeds only, which rill does not use yet".to_string());
        let parts = [self.of_trackers(), left_out, web_seeds, self.of_peers()];
        let sentence = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        (!sentence.is_empty()).then_some(sentence)
    }

    /// Returns the most important reason in a few words, without addresses.
    pub(crate) fn words(&self) -> Option<String> {
        let tracker = self.failed_trackers().next().map(|(_, error)| match error.strip_prefix(REFUSAL) {
            Some(reason) => format!("refused: {reason}"),
            None => format!("tracker: {error}"),
        });
        let peer = || self.given_peers.values().next().map(|error| format!("peer: {error}"));
        let is_known = self.trackers.values().any(|answer| answer.as_ref().is_ok_and(|peers| *peers > 0));
        tracker.filter(|_| !is_known).or_else(peer)
    }

    fn failed_trackers(&self) -> impl Iterator<Item = (&String, &String)> {
        self.trackers.iter().filter_map(|(host, answer)| Some((host, answer.as_ref().err()?)))
    }

    fn of_trackers(&self) -> Option<String> {
        if self.trackers.values().any(|answer| answer.as_ref().is_ok_and(|peers| *peers > 0)) {
            return None;
        }
        let mut failed = self.failed_trackers();
        let Some((host, error)) = failed.next() else {
            return self.trackers.keys().next().map(|host| format!("tracker {host} knows no other peers"));
        };
        let text = match error.strip_prefix(REFUSAL) {
            Some(reason) => format!("tracker {host} refuses: {reason}"),
            None => format!("tracker {host}: {error}"),
        };
        Some(with_more(text, failed.count(), "tracker", "fail"))
    }

    fn of_peers(&self) -> Option<String> {
        let (addr, error) = self.given_peers.first_key_value()?;
        Some(with_more(format!("peer {addr}: {error}"), self.given_peers.len() - 1, "peer", "fail"))
    }
}

fn with_more(text: String, more: usize, noun: &str, verb: &str) -> String {
    match more {
        0 => text,
        1 => format!("{text} (and 1 more {noun} {verb}s)"),
        more => format!("{text} (and {more} more {noun}s {verb})"),
    }
}

/// Returns the host and port of a tracker's URL, without user name, path and query.
pub(crate) fn tracker_host(url: &str) -> String {
    let origin = origin_without_secrets(url.as_bytes());
    let host = origin.split_once("://").map_or(origin.as_str(), |(_, rest)| rest);
    host.split('/').next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_a_refusal_is_named_with_its_tracker_and_without_secrets() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.sentence(), None);
        troubles.on_tracker(
            "http://user:secret@t.example:8080/secret/announce?passkey=secret",
            Err("the tracker refuses: unregistered torrent"),
        );
        troubles.on_tracker("udp://b.example:1", Err("no reply in time"));
        troubles.left_out = 2;
        assert_eq!(
            troubles.sentence().unwrap(),
            "tracker b.example:1: no reply in time (and 1 more tracker fails); 2 trackers are left out"
        );
        assert_eq!(troubles.words().unwrap(), "tracker: no reply in time");
        troubles.on_tracker("udp://b.example:1", Ok(0));
        assert_eq!(troubles.words().unwrap(), "refused: unregistered torrent");
        assert_eq!(
            troubles.sentence().unwrap(),
            "tracker t.example:8080 refuses: unregistered torrent; 2 trackers are left out"
        );
    }

    #[test]
    fn a_tracker_with_addresses_is_no_trouble_and_one_without_is() {
        let mut troubles = Troubles::default();
        troubles.on_tracker("http://a.example/announce", Ok(0));
        assert_eq!(troubles.sentence().unwrap(), "tracker a.example knows no other peers");
        troubles.on_tracker("http://b.example/announce", Ok(3));
        troubles.on_tracker("http://c.example/announce", Err("HTTP status 500"));
        assert_eq!(troubles.sentence(), None);
    }

    #[test]
    fn s2_given_peers_that_fail_are_named_once() {
        let mut troubles = Troubles::default();
        for port in 1..=1000 {
            troubles.on_given_peer(([127, 0, 0, 1], port).into(), "connection refused");
        }
        assert_eq!(
            troubles.sentence().unwrap(),
            "peer 127.0.0.1:1: connection refused (and 63 more peers fail)"
        );
        assert_eq!(troubles.words().unwrap(), "peer: connection refused");
        for n in 0..1000 {
            troubles.on_tracker(&format!("http://{n}.example/"), Err(&"x".repeat(5000)));
        }
        assert!(troubles.sentence().unwrap().len() < 400);
    }
}
