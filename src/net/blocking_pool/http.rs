//! One announce or scrape over HTTP or HTTPS, from URL to reply, within one deadline.
//!
//! Each hop of a redirect is checked: http or https only, never from https to http, never from a public to a
//! private address, at most five.

use super::lookup::{GuardedResolver, Lookups, PrivateHosts};
use crate::net::web::{HttpOptions, MAX_REDIRECTS, RedirectError, RedirectTarget, WebUrl, read_body};
use crate::units::InfoHash;
use crate::wire::limits::TRACKER_REPLY_BYTES;
use crate::wire::{
    AnnounceError, AnnounceReply, SwarmCounts, UrlParts, parse_counts, parse_reply, printable, url_parts,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use ureq::Body;
use ureq::http::Response;

/// 1 January 2024, in seconds since 1970. The program is younger, so an earlier clock is wrong.
const EARLIEST: Duration = Duration::from_secs(1_704_067_200);

/// What a request may reach, and until when.
pub(super) struct RequestLimits {
    pub deadline: Instant,
    pub lookups: Arc<Lookups>,
    /// The user named the tracker, so its first hop may have any address.
    pub trusted: bool,
    pub private_hosts: PrivateHosts,
    pub http: HttpOptions,
}

/// Sends the announce at `url` and parses the reply.
pub(super) fn announce(url: &str, limits: RequestLimits) -> Result<AnnounceReply, AnnounceError> {
    request(url, limits, parse_reply)
}

/// Sends the scrape at `url` and parses the counts of the torrent.
pub(super) fn scrape(
    url: &str,
    info_hash: &InfoHash,
    limits: RequestLimits,
) -> Result<SwarmCounts, AnnounceError> {
    request(url, limits, |body| parse_counts(body, info_hash))
}

fn request<T>(
    url: &str,
    limits: RequestLimits,
    parse: impl Fn(&[u8]) -> Result<T, AnnounceError>,
) -> Result<T, AnnounceError> {
    let RequestLimits { deadline, lookups, trusted, mut private_hosts, http } = limits;
    let mut url = WebUrl::new(url).ok_or(AnnounceError::Url)?;
    let is_plain = || url_parts(url.as_str()).is_some_and(|parts| is_plain_request(&parts));
    let mut local_allowed = trusted || is_plain();
    for _ in 0..=MAX_REDIRECTS {
        let found_local = Arc::new(AtomicBool::new(false));
        let resolver = GuardedResolver {
            lookups: lookups.clone(),
            deadline,
            local_allowed,
            private_hosts,
            http: http.clone(),
            found_local: found_local.clone(),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(AnnounceError::Timeout);
        }
        let response = url.get(left, resolver, &http).map_err(|e| explain(*e))?;
        if !response.status().is_redirection() {
            return read(response, parse);
        }
        url = match url.redirect(&response) {
            Ok(RedirectTarget::Web(next)) => next,
            Err(RedirectError::Nowhere) => return Err(AnnounceError::Redirect("without saying where")),
            Err(RedirectError::Downgrade) => return Err(AnnounceError::Redirect("from https to http")),
            Ok(RedirectTarget::Magnet(_)) | Err(RedirectError::Unusable) => {
                return Err(AnnounceError::Redirect("to something that is not http"));
            }
        };
        // A redirect is not named by the torrent or the user: only a local host may lead to a local one.
        local_allowed = found_local.load(Ordering::Relaxed);
        private_hosts = PrivateHosts::Refused;
    }
    Err(AnnounceError::Redirect("more than 5 times"))
}

/// Parses a reply. Some trackers refuse with an error status and a bencoded reason: the reason is reported
/// then.
fn read<T>(
    response: Response<Body>,
    parse: impl Fn(&[u8]) -> Result<T, AnnounceError>,
) -> Result<T, AnnounceError> {
    let status = response.status();
    let limit = TRACKER_REPLY_BYTES;
    let body = read_body(response, limit).map_err(|e| match *e {
        ureq::Error::BodyExceedsLimit(_) => AnnounceError::TooBig { limit },
        other => explain(other),
    })?;
    match parse(&body) {
        refused @ Err(AnnounceError::Failure { .. }) => refused,
        _ if !status.is_success() => Err(AnnounceError::Status(status.as_u16())),
        answer => answer,
    }
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

/// Returns the error of a connection: ureq's text without the name of its variant and the number of the system's
/// error.
fn connection(error: &impl ToString) -> AnnounceError {
    let text = error.to_string();
    let text = text.strip_prefix("io: ").unwrap_or(&text);
    let text = text.split(" (os error").next().unwrap_or_default();
    AnnounceError::Connection(printable(text.replacen("Connection ", "connection ", 1), 200))
}

fn tls(error: &impl ToString) -> AnnounceError {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    AnnounceError::Tls { reason: printable(error.to_string(), 200), clock_is_wrong: now < EARLIEST }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k10_only_a_plain_announce_may_go_to_a_private_address() {
        let plain = |url| is_plain_request(&url_parts(url).unwrap());
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
