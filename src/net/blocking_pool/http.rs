//! One announce or scrape over HTTP or HTTPS, from URL to reply, within one deadline.
//!
//! Redirects are followed here and not by ureq, because each hop is checked: http or https only, never from
//! https to http, never from a public to a private address, at most [`REDIRECTS`]. The request carries no
//! credentials or cookies, so a redirect forwards none. The limit of the body applies after inflation.

use super::lookup::{GuardedResolver, Lookups};
use crate::units::InfoHash;
use crate::wire::limits::TRACKER_REPLY_BYTES;
use crate::wire::{
    AnnounceError, AnnounceReply, Scheme, SwarmCounts, UrlParts, parse_counts, parse_reply, printable,
    url_parts,
};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use ureq::http::{Response, header::LOCATION};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

/// The most redirects of one request.
const REDIRECTS: usize = 5;

/// The `User-Agent` header.
const USER_AGENT: &str = concat!("rill/", env!("CARGO_PKG_VERSION"));

/// 1 January 2024, in seconds since 1970. The program is younger, so an earlier clock is wrong.
const EARLIEST: Duration = Duration::from_secs(1_704_067_200);

/// Sends the announce at `url` and parses the reply.
pub(super) fn announce(
    url: &str,
    deadline: Instant,
    lookups: &Arc<Lookups>,
) -> Result<AnnounceReply, AnnounceError> {
    request(url, deadline, lookups, parse_reply)
}

/// Sends the scrape at `url` and parses the counts of the torrent.
pub(super) fn scrape(
    url: &str,
    info_hash: &InfoHash,
    deadline: Instant,
    lookups: &Arc<Lookups>,
) -> Result<SwarmCounts, AnnounceError> {
    request(url, deadline, lookups, |body| parse_counts(body, info_hash))
}

fn request<T>(
    url: &str,
    deadline: Instant,
    lookups: &Arc<Lookups>,
    parse: impl Fn(&[u8]) -> Result<T, AnnounceError>,
) -> Result<T, AnnounceError> {
    let mut url = url.to_owned();
    let mut local_allowed = is_plain_request(&http_parts(&url).ok_or(AnnounceError::Url)?);
    for _ in 0..=REDIRECTS {
        let found_local = Arc::new(AtomicBool::new(false));
        let resolver = GuardedResolver {
            lookups: lookups.clone(),
            deadline,
            local_allowed,
            found_local: found_local.clone(),
        };
        let response = get(&url, deadline, resolver)?;
        if !response.status().is_redirection() {
            return read(response, parse);
        }
        url = next_hop(&url, response.headers().get(LOCATION).and_then(|l| l.to_str().ok()))?;
        local_allowed = found_local.load(Ordering::Relaxed);
    }
    Err(AnnounceError::Redirect("more than 5 times"))
}

fn get(url: &str, deadline: Instant, resolver: GuardedResolver) -> Result<Response<Body>, AnnounceError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(AnnounceError::Timeout);
    }
    let config = Agent::config_builder()
        .timeout_global(Some(left))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(USER_AGENT)
        .max_idle_connections(0)
        .build();
    Agent::with_parts(config, DefaultConnector::new(), resolver).get(url).call().map_err(explain)
}

/// Parses a reply. Some trackers refuse with an error status and a bencoded reason: the reason is reported
/// then.
fn read<T>(
    response: Response<Body>,
    parse: impl Fn(&[u8]) -> Result<T, AnnounceError>,
) -> Result<T, AnnounceError> {
    let status = response.status();
    let mut body = Vec::new();
    let limit = TRACKER_REPLY_BYTES;
    let mut reader = response.into_body().into_reader().take(limit as u64 + 1);
    reader.read_to_end(&mut body).map_err(|e| explain(ureq::Error::from(e)))?;
    if body.len() > limit {
        return Err(AnnounceError::TooBig { limit });
    }
    match parse(&body) {
        refused @ Err(AnnounceError::Failure { .. }) => refused,
        _ if !status.is_success() => Err(AnnounceError::Status(status.as_u16())),
        answer => answer,
    }
}

/// Returns the URL that a redirect leads to, if it is allowed.
fn next_hop(from: &str, location: Option<&str>) -> Result<String, AnnounceError> {
    let location = location.ok_or(AnnounceError::Redirect("without saying where"))?;
    let here = http_parts(from).ok_or(AnnounceError::Url)?;
    let to = join(from, &here, location);
    let there = http_parts(&to).ok_or(AnnounceError::Redirect("to something that is not http"))?;
    match (here.scheme, there.scheme) {
        (Scheme::Https, Scheme::Http) => Err(AnnounceError::Redirect("from https to http")),
        _ => Ok(to),
    }
}

/// Resolves a `Location` header, which may be relative, against the URL that returned it.
fn join(from: &str, here: &UrlParts<'_>, location: &str) -> String {
    let location = location.split('#').next().unwrap_or_default();
    let scheme_end = from.find("://").map_or(0, |at| at + 1);
    let origin = &from[..from.len() - here.path_and_query.len()];
    let path = here.path_and_query.split('?').next().unwrap_or_default();
    if location.split_once(':').is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric())) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{}{location}", &from[..scheme_end])
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else if location.starts_with('?') {
        format!("{origin}{path}{location}")
    } else {
        let directory = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        format!("{origin}{directory}{location}")
    }
}

fn http_parts(url: &str) -> Option<UrlParts<'_>> {
    url_parts(url).filter(|parts| matches!(parts.scheme, Scheme::Http | Scheme::Https))
}

/// Returns whether the URL can only be an announce or a scrape, which no device on a private network takes
/// for a command.
fn is_plain_request(parts: &UrlParts<'_>) -> bool {
    let (path, query) = parts.path_and_query.split_once('?').unwrap_or((parts.path_and_query, ""));
    matches!(path, "/announce" | "/scrape") && (query.is_empty() || query.starts_with("info_hash="))
}

/// Converts an error of ureq.
fn explain(error: ureq::Error) -> AnnounceError {
    match error {
        ureq::Error::Timeout(_) => AnnounceError::Timeout,
        ureq::Error::Other(inner) => match inner.downcast::<AnnounceError>() {
            Ok(ours) => *ours,
            Err(other) => connection(&other),
        },
        ureq::Error::Io(e) if is_timeout(&e) => AnnounceError::Timeout,
        // rustls reports a bad certificate as invalid data of the stream.
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData && e.get_ref().is_some() => tls(&e),
        ureq::Error::Tls(reason) => tls(&reason),
        #[cfg(feature = "tls")]
        ureq::Error::Rustls(e) => tls(&e),
        ureq::Error::TlsRequired | ureq::Error::BadUri(_) => AnnounceError::Url,
        ureq::Error::HostNotFound => AnnounceError::NoAddress("it has none".into()),
        other => connection(&other),
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

fn connection(error: &impl ToString) -> AnnounceError {
    AnnounceError::Connection(printable(error.to_string(), 200))
}

fn tls(error: &impl ToString) -> AnnounceError {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    AnnounceError::Tls { reason: printable(error.to_string(), 200), clock_is_wrong: now < EARLIEST }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_locations_are_resolved_against_their_url() {
        let from = "http://t.example:8080/a/announce?x=/y";
        let here = http_parts(from).unwrap();
        for (location, to) in [
            ("http://u.example/b#f", "http://u.example/b"),
            ("//u.example/b", "http://u.example/b"),
            ("/b?z", "http://t.example:8080/b?z"),
            ("?z", "http://t.example:8080/a/announce?z"),
            ("b", "http://t.example:8080/a/b"),
            ("b?u=http://x/", "http://t.example:8080/a/b?u=http://x/"),
            ("file:///etc", "file:///etc"),
        ] {
            assert_eq!(join(from, &here, location), to);
        }
    }

    #[test]
    fn k4_a_redirect_never_leaves_https() {
        let hop = |from, to| next_hop(from, Some(to));
        assert!(hop("https://t.example/a", "http://t.example/a").is_err());
        assert!(hop("https://t.example/a", "HTTP://t.example/a").is_err());
        assert!(hop("https://t.example/a", "//u.example/a").is_ok_and(|to| to == "https://u.example/a"));
        assert!(hop("http://t.example/a", "https://t.example/a").is_ok());
    }

    #[test]
    fn k10_only_a_plain_announce_may_go_to_a_private_address() {
        let plain = |url| is_plain_request(&http_parts(url).unwrap());
        assert!(plain("http://10.0.0.1/announce?info_hash=x") && plain("http://10.0.0.1/announce"));
        assert!(!plain("http://10.0.0.1/reboot?info_hash=x"));
        assert!(!plain("http://10.0.0.1/announce?cmd=reboot&info_hash=x"));
        assert!(!plain("http://10.0.0.1/cgi/announce"));
    }

    #[test]
    fn k11_a_broken_certificate_is_told_apart() {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "invalid peer certificate: Expired");
        let explained = explain(ureq::Error::Io(error));
        assert!(
            matches!(&explained, AnnounceError::Tls { reason, clock_is_wrong: false } if reason.contains("Expired")),
            "{explained:?}"
        );
        let in_1970 = AnnounceError::Tls { reason: "NotValidYet".into(), clock_is_wrong: true };
        assert!(in_1970.to_string().contains("clock is wrong"));
    }
}
