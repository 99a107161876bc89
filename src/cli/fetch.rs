//! Fetches a torrent file over http(s) with limits.
//!
//! All requests together have one deadline, the file at most [`MAX_TORRENT_BYTES`] after decompression. At
//! most five redirects are followed: to http and https, never from https to http, never from a public address
//! to a private one; a magnet link ends them.

use super::exit::{Exit, Failure};
use crate::net::{HttpOptions, MAX_REDIRECTS, RedirectError, RedirectTarget, WebUrl, read_body};
use crate::wire::{checked_http_url, url_without_secrets};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Largest torrent file that is fetched, in bytes after decompression: real files have at most about 8 MiB.
const MAX_TORRENT_BYTES: usize = 10 << 20;
/// Time limit of all requests together: a user is waiting.
const DEADLINE: Duration = Duration::from_secs(60);

/// The result of fetching a URL.
pub(crate) enum Fetched {
    /// The body of the file.
    File(Vec<u8>),
    /// The magnet link to which the server redirects.
    Magnet(String),
}

/// Fetches the file at `url`.
pub(crate) fn fetch(url: &str, http: &HttpOptions) -> Result<Fetched, Failure> {
    let until = Instant::now() + DEADLINE;
    let mended = checked_http_url(url.as_bytes())
        .map_err(|e| network(url, &format!("not a URL that can be fetched, {e}")))?;
    let mut at = WebUrl::new(&mended).ok_or_else(|| network(url, "not a URL that can be fetched"))?;
    let saw_public = Arc::new(AtomicBool::new(false));
    for _ in 0..=MAX_REDIRECTS {
        let resolver = PrivateAddressGuard {
            public_only: saw_public.load(Ordering::Relaxed),
            saw_public: saw_public.clone(),
            http: http.clone(),
        };
        let left = until.saturating_duration_since(Instant::now());
        let reply = at.get(left, resolver, http).map_err(|e| network(url, &explain(&e)))?;
        let status = reply.status();
        if !status.is_redirection() {
            if !status.is_success() {
                let exit = if matches!(status.as_u16(), 404 | 410) { Exit::NotFound } else { Exit::Network };
                return Err(cannot_fetch(exit, url, &format!("the server answered {}", status.as_u16())));
            }
            let body = read_body(reply, MAX_TORRENT_BYTES);
            return body.map(Fetched::File).map_err(|e| network(url, &explain(&e)));
        }
        at = match at.redirect(&reply) {
            Ok(RedirectTarget::Web(next)) => next,
            Ok(RedirectTarget::Magnet(link)) => return Ok(Fetched::Magnet(link)),
            Err(RedirectError::Downgrade) => {
                return Err(network(url, "the server redirects from https to http"));
            }
            Err(RedirectError::Nowhere | RedirectError::Unusable) => {
                return Err(network(url, "the server redirects without a usable address"));
            }
        };
    }
    Err(network(url, &format!("more than {MAX_REDIRECTS} redirects")))
}

fn network(url: &str, reason: &str) -> Failure {
    cannot_fetch(Exit::Network, url, reason)
}

fn cannot_fetch(exit: Exit, url: &str, reason: &str) -> Failure {
    Failure::new(exit, format!("cannot fetch {}: {reason}", url_without_secrets(url)))
}

fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "the server took too long".to_string(),
        ureq::Error::HostNotFound => "no such host".to_string(),
        ureq::Error::BodyExceedsLimit(_) => format!("larger than {} MiB", MAX_TORRENT_BYTES >> 20),
        ureq::Error::ConnectionFailed => "no connection".to_string(),
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            "redirected to a private address".to_string()
        }
        ureq::Error::Io(e) => super::exit::reason(e),
        ureq::Error::TlsRequired => "this rill was built without https".to_string(),
        other => other.to_string(),
    }
}

/// Resolver that refuses private addresses after a request has reached a public one.
#[derive(Debug)]
struct PrivateAddressGuard {
    /// Refuse a name if one of its addresses is not public.
    public_only: bool,
    /// Set when a name resolves to public addresses only.
    saw_public: Arc<AtomicBool>,
    http: HttpOptions,
}

impl Resolver for PrivateAddressGuard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let found = match self.http.unresolved(host, 1) {
            Some(placeholder) => {
                let mut found = self.empty();
                found.push(placeholder);
                found
            }
            None => DefaultResolver::default().resolve(uri, config, timeout)?,
        };
        let all_public = found.iter().all(|addr| is_public(addr.ip()));
        if self.public_only && !all_public {
            return Err(ureq::Error::Io(std::io::ErrorKind::PermissionDenied.into()));
        }
        self.saw_public.fetch_or(all_public, Ordering::Relaxed);
        Ok(found)
    }
}

/// Returns whether the address is reachable from the Internet: not loopback, private, link-local, multicast
/// or reserved.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && b & 0xc0 == 64;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || shared
                || a == 0
                || a >= 240)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_public_addresses_are_told_apart() {
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["1.1.1.1", "100.128.0.1", "2606:4700::1111", "172.32.0.1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
