//! Asking a tracker over HTTP: the question as a URL, the answer out of bencode (BEP 3, 7, 23, 24, 31).
//!
//! A reply is a stranger's: text is cleaned, lists and ids are bounded, and a number that makes no sense is as good
//! as absent. Intervals come out as written (never negative); what is a sane one is for the engine to say.

use super::bencode::{BencodeError, Bytes, Canonical, Lenient, Rules, TypeMismatch, Value, canonicalize, scan};
use super::compact::{TrackerPeers, peers_v6};
use super::limits::{MESSAGE_DEPTH, PEERS, REASON_CHARS, TRACKER_ID_BYTES, TRACKER_TOKENS};
use super::percent::encode_into;
use super::printable;
use crate::units::{InfoHash, PeerId};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use thiserror::Error;

/// Why the tracker hears from us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// Its interval is over.
    #[default]
    None,
    /// We are here.
    Started,
    /// We leave.
    Stopped,
    /// We have just got the last piece.
    Completed,
}

/// What a tracker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Who asks.
    pub peer_id: PeerId,
    /// Where we listen.
    pub port: u16,
    /// Bytes sent to peers since `Started`.
    pub uploaded: u64,
    /// Bytes received from peers since `Started`.
    pub downloaded: u64,
    /// Bytes still missing.
    pub left: u64,
    /// Why we ask.
    pub event: AnnounceEvent,
    /// Peers wished for.
    pub numwant: u32,
    /// Proves that it is us when our address has changed.
    pub key: u32,
    /// What this tracker gave us as its id.
    pub tracker_id: Option<Box<[u8]>>,
    /// Our other address, if we ask over IPv6 (BEP 7).
    pub ipv4: Option<Ipv4Addr>,
    /// Our other address, if we ask over IPv4 (BEP 7).
    pub ipv6: Option<Ipv6Addr>,
}

impl AnnounceRequest {
    /// The question as a URL for the tracker at `tracker`, which may have a query of its own.
    pub fn http_url(&self, tracker: &str) -> String {
        let mut url = tracker.to_owned();
        url.push(if tracker.contains('?') { '&' } else { '?' });
        url.push_str("info_hash=");
        encode_into(self.info_hash.as_bytes(), &mut url);
        url.push_str("&peer_id=");
        encode_into(self.peer_id.as_bytes(), &mut url);
        let AnnounceRequest { port, uploaded, downloaded, left, numwant, key, .. } = self;
        url.push_str(&format!("&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}"));
        url.push_str(&format!("&compact=1&no_peer_id=1&numwant={numwant}&key={key:08x}"));
        url.push_str(match self.event {
            AnnounceEvent::None => "",
            AnnounceEvent::Started => "&event=started",
            AnnounceEvent::Stopped => "&event=stopped",
            AnnounceEvent::Completed => "&event=completed",
        });
        let other_addresses = [("&ipv4=", self.ipv4.map(IpAddr::from)), ("&ipv6=", self.ipv6.map(IpAddr::from))];
        for (name, ip) in other_addresses.into_iter().filter_map(|(name, ip)| Some((name, ip?))) {
            url.push_str(name);
            encode_into(ip.to_string().as_bytes(), &mut url);
        }
        if let Some(id) = &self.tracker_id {
            url.push_str("&trackerid=");
            encode_into(id, &mut url);
        }
        url
    }
}

/// What a tracker answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceReply {
    /// Ask again after this; unclamped.
    pub interval: Option<Duration>,
    /// Never ask before this; unclamped.
    pub min_interval: Option<Duration>,
    /// Peers of both families, at most [`PEERS`].
    pub peers: Vec<SocketAddr>,
    /// Peers that have all.
    pub seeders: Option<u32>,
    /// Peers that lack something.
    pub leechers: Option<u32>,
    /// To be sent back from now on.
    pub tracker_id: Option<Box<[u8]>>,
    /// For the user, fit for showing.
    pub warning: Option<String>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

/// When a tracker that refused may be asked again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryIn {
    /// After this; unclamped.
    After(Duration),
    /// Not in this life.
    Never,
}

/// Why an announce gave no peers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnnounceError {
    /// The tracker says no.
    #[error("the tracker refuses: {reason}")]
    Failure {
        /// Its words, fit for showing.
        reason: String,
        /// When to come back, if it said so.
        retry_in: Option<RetryIn>,
    },
    /// Not an answer at all.
    #[error("the reply is not bencode: {0}")]
    NotBencode(BencodeError),
    /// Somebody's error page.
    #[error("the reply is an HTML page")]
    Html,
    /// Bencode, but no dictionary.
    #[error("the reply is not a dictionary")]
    NotADictionary,
    /// An answer of a UDP tracker that breaks BEP 15.
    #[error("{0}")]
    Packet(super::udp_tracker::PacketError),
    /// HTTP, but not 200.
    #[error("HTTP status {0}")]
    Status(u16),
    /// More bytes than any reply needs.
    #[error("the reply has more than {limit} bytes")]
    TooBig {
        /// What is taken.
        limit: usize,
    },
    /// The total time is over.
    #[error("no reply in time")]
    Timeout,
    /// The name leads nowhere.
    #[error("no address for its name: {0}")]
    NoAddress(String),
    /// No connection, or one that broke.
    #[error("{0}")]
    Connection(String),
    /// A certificate that does not hold.
    #[error("TLS: {reason}{}", if *.clock_is_wrong { " (this machine's clock is wrong, so no certificate can be checked)" } else { "" })]
    Tls {
        /// What is wrong with it.
        reason: String,
        /// The clock stands before this program was written.
        clock_is_wrong: bool,
    },
    /// Sent elsewhere once too often, or to where we do not go.
    #[error("redirected {0}")]
    Redirect(&'static str),
    /// An address that this tracker has no business to use.
    #[error("a private address with a path other than /announce")]
    LocalAddress,
    /// Not a URL that an HTTP announce can go to.
    #[error("not an http or https URL, or https was left out of this build")]
    Url,
    /// It counts torrents, and this one is not among them.
    #[error("the tracker does not know this torrent")]
    UnknownTorrent,
    /// BEP 48 makes the address for counts out of the one for announces, and from this one it cannot.
    #[error("it cannot be scraped, its address does not end in /announce")]
    NotScrapable,
    /// More announces at once than the queue holds.
    #[error("too many announces at once")]
    Busy,
}

/// Reads the body of an HTTP reply.
pub fn parse_reply(body: &[u8]) -> Result<AnnounceReply, AnnounceError> {
    let tidy = canonical_body(body)?;
    let response: AnnounceResponse = tidy.value().read().map_err(|TypeMismatch| AnnounceError::NotADictionary)?;
    match refusal(response.failure_reason, response.retry_in) {
        Some(error) => Err(error),
        None => Ok(response.into()),
    }
}

const RULES: Rules = Rules { depth: MESSAGE_DEPTH, tokens: TRACKER_TOKENS, strict: false };

/// The body of a tracker's reply, in order and ready to be read.
pub(super) fn canonical_body(body: &[u8]) -> Result<Canonical<'_>, AnnounceError> {
    let scanned = scan(body, &RULES).map_err(|e| match body.trim_ascii_start().first() {
        Some(b'<') => AnnounceError::Html,
        _ => AnnounceError::NotBencode(e),
    })?;
    Ok(canonicalize(&scanned))
}

/// The tracker's no, if its reply holds one (BEP 3, 31).
pub(super) fn refusal(reason: Lenient<TextOrNumber<'_>>, retry: Lenient<TextOrNumber<'_>>) -> Option<AnnounceError> {
    let TextOrNumber(reason) = reason.0?;
    Some(AnnounceError::Failure { reason: printable(reason, REASON_CHARS), retry_in: retry.0.and_then(retry_in) })
}

/// BEP 31: a number of minutes, or `never`.
fn retry_in(TextOrNumber(text): TextOrNumber<'_>) -> Option<RetryIn> {
    if text.eq_ignore_ascii_case(b"never") {
        return Some(RetryIn::Never);
    }
    let minutes: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(RetryIn::After(Duration::from_secs(minutes.saturating_mul(60))))
}

/// A reply as it is written.
#[derive(Deserialize)]
struct AnnounceResponse<'a> {
    complete: Lenient<u32>,
    #[serde(borrow, rename = "external ip")]
    external_ip: Lenient<Bytes<'a>>,
    #[serde(rename = "failure reason")]
    failure_reason: Lenient<TextOrNumber<'a>>,
    incomplete: Lenient<u32>,
    interval: Lenient<TextOrNumber<'a>>,
    #[serde(rename = "min interval")]
    min_interval: Lenient<TextOrNumber<'a>>,
    peers: Lenient<TrackerPeers<'a>>,
    peers6: Lenient<Bytes<'a>>,
    #[serde(rename = "retry in")]
    retry_in: Lenient<TextOrNumber<'a>>,
    #[serde(rename = "tracker id")]
    tracker_id: Lenient<Bytes<'a>>,
    #[serde(rename = "warning message")]
    warning: Lenient<TextOrNumber<'a>>,
}

impl From<AnnounceResponse<'_>> for AnnounceReply {
    fn from(response: AnnounceResponse<'_>) -> AnnounceReply {
        let mut peers = response.peers.0.map(TrackerPeers::addresses).unwrap_or_default();
        peers.extend(peers_v6(response.peers6.bytes().unwrap_or_default()).take(PEERS.saturating_sub(peers.len())));
        AnnounceReply {
            interval: response.interval.0.and_then(TextOrNumber::seconds),
            min_interval: response.min_interval.0.and_then(TextOrNumber::seconds),
            peers,
            seeders: response.complete.0,
            leechers: response.incomplete.0,
            tracker_id: response.tracker_id.bytes().filter(|id| id.len() <= TRACKER_ID_BYTES).map(Into::into),
            warning: response.warning.0.map(|TextOrNumber(text)| printable(text, REASON_CHARS)).filter(|text| !text.is_empty()),
            external_ip: response.external_ip.bytes().and_then(ip_from_bytes),
        }
    }
}

fn ip_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A string, or a number as its digits: trackers confuse the two.
#[derive(Clone, Copy)]
pub(super) struct TextOrNumber<'a>(&'a [u8]);

impl<'de: 'a, 'a> Deserialize<'de> for TextOrNumber<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TextOrNumber<'a>, D::Error> {
        let value = Value::deserialize(deserializer)?;
        value.string().or(value.digits()).map(TextOrNumber).ok_or_else(|| D::Error::custom(TypeMismatch))
    }
}

impl TextOrNumber<'_> {
    fn seconds(self) -> Option<Duration> {
        let seconds: u64 = std::str::from_utf8(self.0).ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests;
