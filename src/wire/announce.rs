//! Announces to HTTP trackers: the request URL and the bencoded reply (BEP 3, 7, 23, 24, 31).
//!
//! A reply is untrusted: text is sanitized, lists and ids are bounded, and an invalid number counts as
//! absent. Intervals are returned as written, but never negative; the engine clamps them.

use super::bencode::{
    BencodeError, Bytes, Canonical, Lenient, Rules, TypeMismatch, Value, canonicalize, scan,
};
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

/// The event of an announce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// A regular announce after the interval.
    #[default]
    None,
    /// The first announce of a transfer.
    Started,
    /// The transfer stops.
    Stopped,
    /// The last piece has just been downloaded.
    Completed,
    /// A regular announce of a partial seed: no wanted piece is missing, but the torrent is incomplete
    /// (BEP 21).
    Paused,
}

/// An announce to a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Our peer id.
    pub peer_id: PeerId,
    /// The port on which we listen.
    pub port: u16,
    /// Bytes sent to peers since `Started`.
    pub uploaded: u64,
    /// Bytes received from peers since `Started`.
    pub downloaded: u64,
    /// Missing bytes of the whole torrent, unwanted files included.
    pub left: u64,
    /// The event.
    pub event: AnnounceEvent,
    /// Number of peers requested.
    pub numwant: u32,
    /// Identifies us to the tracker after our address has changed.
    pub key: u32,
    /// The `tracker id` from this tracker's last reply.
    pub tracker_id: Option<Box<[u8]>>,
    /// Peers with encryption (MSE): `Some(true)` if no others are of use; `None` does not name it.
    pub encryption: Option<bool>,
    /// Our IPv4 address, for an announce over IPv6 (BEP 7).
    pub ipv4: Option<Ipv4Addr>,
    /// Our IPv6 address, for an announce over IPv4 (BEP 7).
    pub ipv6: Option<Ipv6Addr>,
}

impl AnnounceRequest {
    /// Returns the URL of the request to `tracker`, whose URL may already have a query.
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
        url.push_str(match self.encryption {
            None => "",
            Some(false) => "&supportcrypto=1",
            Some(true) => "&supportcrypto=1&requirecrypto=1",
        });
        url.push_str(match self.event {
            AnnounceEvent::None => "",
            AnnounceEvent::Started => "&event=started",
            AnnounceEvent::Stopped => "&event=stopped",
            AnnounceEvent::Completed => "&event=completed",
            AnnounceEvent::Paused => "&event=paused",
        });
        let other_addresses =
            [("&ipv4=", self.ipv4.map(IpAddr::from)), ("&ipv6=", self.ipv6.map(IpAddr::from))];
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

/// A tracker's reply to an announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceReply {
    /// Announce again after this time; not clamped.
    pub interval: Option<Duration>,
    /// Do not announce before this time; not clamped.
    pub min_interval: Option<Duration>,
    /// Peers of both families, at most [`PEERS`].
    pub peers: Vec<SocketAddr>,
    /// Peers that have all pieces.
    pub seeders: Option<u32>,
    /// Peers that lack pieces.
    pub leechers: Option<u32>,
    /// To send with the next announces.
    pub tracker_id: Option<Box<[u8]>>,
    /// A warning for the user, sanitized for display.
    pub warning: Option<String>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

/// When to announce again to a tracker that refused (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryIn {
    /// After this time; not clamped.
    After(Duration),
    /// Never.
    Never,
}

/// Why an announce or a scrape failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnnounceError {
    /// The tracker refuses.
    #[error("the tracker refuses: {reason}")]
    Failure {
        /// The tracker's reason, sanitized for display.
        reason: String,
        /// When to announce again, if the tracker says so.
        retry_in: Option<RetryIn>,
    },
    /// The body is not bencode.
    #[error("the reply is not bencode: {0}")]
    NotBencode(BencodeError),
    /// The body is an HTML page, such as a web server's error page.
    #[error("the reply is an HTML page")]
    Html,
    /// The body is bencode, but not a dictionary.
    #[error("the reply is not a dictionary")]
    NotADictionary,
    /// A UDP tracker's packet violates BEP 15.
    #[error("{0}")]
    Packet(super::udp_tracker::PacketError),
    /// The HTTP status is not 200.
    #[error("HTTP status {0}")]
    Status(u16),
    /// The body is too long.
    #[error("the reply has more than {limit} bytes")]
    TooBig {
        /// The limit in bytes.
        limit: usize,
    },
    /// The time limit for the whole request has passed.
    #[error("no reply in time")]
    Timeout,
    /// The host name has no usable address.
    #[error("no address for its name: {0}")]
    NoAddress(String),
    /// The connection failed.
    #[error("{0}")]
    Connection(String),
    /// The TLS certificate is invalid.
    #[error("TLS: {reason}{}", if *.clock_is_wrong { " (this machine's clock is wrong, so no certificate can be checked)" } else { "" })]
    Tls {
        /// Why it is invalid.
        reason: String,
        /// Whether the system clock is before the release date of this program.
        clock_is_wrong: bool,
    },
    /// The redirect is not followed.
    #[error("redirected {0}")]
    Redirect(&'static str),
    /// The tracker has a private address, which only an /announce path may use.
    #[error("a private address with a path other than /announce")]
    LocalAddress,
    /// The URL cannot be announced to over HTTP.
    #[error("not an http or https URL, or https was left out of this build")]
    Url,
    /// The scrape reply does not contain this torrent.
    #[error("the tracker does not know this torrent")]
    UnknownTorrent,
    /// The announce URL has no scrape URL (BEP 48).
    #[error("it cannot be scraped, its address does not end in /announce")]
    NotScrapable,
    /// The queue of announces is full.
    #[error("too many announces at once")]
    Busy,
}

impl AnnounceError {
    /// Returns whether the tracker certainly did not add us to the swarm: it refuses, or the request was never
    /// sent. After any other error it may list us.
    pub fn is_certain_refusal(&self) -> bool {
        let is_refusal = matches!(
            self,
            AnnounceError::Failure { .. } | AnnounceError::Status(400..=499) | AnnounceError::Redirect(_)
        );
        is_refusal || self.is_unsent()
    }

    /// Returns whether the request certainly was not sent.
    pub fn is_unsent(&self) -> bool {
        matches!(
            self,
            AnnounceError::NoAddress(_)
                | AnnounceError::LocalAddress
                | AnnounceError::Url
                | AnnounceError::Tls { .. }
                | AnnounceError::Busy
        )
    }
}

/// Reads the body of an HTTP tracker's reply.
pub fn parse_reply(body: &[u8]) -> Result<AnnounceReply, AnnounceError> {
    let body = canonical_body(body)?;
    let response: AnnounceResponse =
        body.value().read().map_err(|TypeMismatch| AnnounceError::NotADictionary)?;
    match refusal(response.failure_reason, response.retry_in) {
        Some(error) => Err(error),
        None => Ok(response.into()),
    }
}

const RULES: Rules = Rules { depth: MESSAGE_DEPTH, tokens: TRACKER_TOKENS, strict: false };

/// Scans the body of a tracker's reply and returns it in canonical form.
pub(super) fn canonical_body(body: &[u8]) -> Result<Canonical<'_>, AnnounceError> {
    let scanned = scan(body, &RULES).map_err(|e| match body.trim_ascii_start().first() {
        Some(b'<') => AnnounceError::Html,
        _ => AnnounceError::NotBencode(e),
    })?;
    Ok(canonicalize(&scanned))
}

/// Returns the tracker's failure, if the reply has one (BEP 3, 31).
pub(super) fn refusal(
    reason: Lenient<TextOrNumber<'_>>,
    retry: Lenient<TextOrNumber<'_>>,
) -> Option<AnnounceError> {
    let TextOrNumber(reason) = reason.0?;
    Some(AnnounceError::Failure {
        reason: printable(reason, REASON_CHARS),
        retry_in: retry.0.and_then(retry_in),
    })
}

/// Reads `retry in` (BEP 31): a number of minutes, or `never`.
fn retry_in(TextOrNumber(text): TextOrNumber<'_>) -> Option<RetryIn> {
    if text.eq_ignore_ascii_case(b"never") {
        return Some(RetryIn::Never);
    }
    let minutes: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(RetryIn::After(Duration::from_secs(minutes.saturating_mul(60))))
}

/// The dictionary of a reply.
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
        peers.extend(
            peers_v6(response.peers6.bytes().unwrap_or_default()).take(PEERS.saturating_sub(peers.len())),
        );
        AnnounceReply {
            interval: response.interval.0.and_then(TextOrNumber::seconds),
            min_interval: response.min_interval.0.and_then(TextOrNumber::seconds),
            peers,
            seeders: response.complete.0,
            leechers: response.incomplete.0,
            tracker_id: response.tracker_id.bytes().filter(|id| id.len() <= TRACKER_ID_BYTES).map(Into::into),
            warning: response
                .warning
                .0
                .map(|TextOrNumber(text)| printable(text, REASON_CHARS))
                .filter(|text| !text.is_empty()),
            external_ip: response.external_ip.bytes().and_then(ip_from_bytes),
        }
    }
}

fn ip_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A string, or the digits of an integer: trackers confuse the two types.
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
