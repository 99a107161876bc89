//! Fetches a torrent file over http(s) with limits.
//!
//! All requests together have one deadline, the file at most [`MAX_TORRENT_BYTES`] after decompression. At
//! most [`MAX_HOPS`] redirects are followed, to http and https only, never from https to http, and never from
//! a public address to a private one. A redirect carries no credentials.

use super::exit::{Exit, Failure};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// Largest torrent file that is fetched, in bytes after decompression: real files have at most about 8 MiB.
const MAX_TORRENT_BYTES: u64 = 10 << 20;
/// Most redirects that are followed.
const MAX_HOPS: usize = 5;
/// Time limit of all requests together: a user is waiting.
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns the body of the file at `url`.
pub(crate) fn fetch(url: &str) -> Result<Vec<u8>, Failure> {
    let until = Instant::now() + DEADLINE;
    let mut uri: Uri = url.parse().map_err(|_| network(url, "not a URL that can be fetched"))?;
    let saw_public = Arc::new(AtomicBool::new(false));
    for _ in 0..=MAX_HOPS {
        let resolver = PrivateAddressGuard {
            public_only: saw_public.load(Ordering::Relaxed),
            saw_public: saw_public.clone(),
        };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(until.saturating_duration_since(Instant::now())))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("rill/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = ureq::Agent::with_parts(config, DefaultConnector::new(), resolver);
        let mut reply = agent.get(uri.clone()).call().map_err(|e| network(url, &explain(&e)))?;
        let status = reply.status();
        if !status.is_redirection() {
            if !status.is_success() {
                return Err(network(url, &format!("the server answered {}", status.as_u16())));
            }
            let body = reply.body_mut().with_config().limit(MAX_TORRENT_BYTES).read_to_vec();
            return body.map_err(|e| network(url, &explain(&e)));
        }
        let next = reply.headers().get("location").and_then(|l| l.to_str().ok()).and_then(|l| join(&uri, l));
        let next = next.ok_or_else(|| network(url, "the server redirects without a usable address"))?;
        if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
            return Err(network(url, "the server redirects from https to http"));
        }
        uri = next;
    }
    Err(network(url, &format!("more than {MAX_HOPS} redirects")))
}

fn network(url: &str, reason: &str) -> Failure {
    Failure::new(Exit::Network, format!("cannot fetch {url}: {reason}"))
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
}

impl Resolver for PrivateAddressGuard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
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

/// Resolves a `Location` header against `base`. Returns `None` for schemes but http and https and for URLs
/// with credentials. The user information of `base` is dropped.
fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let authority = base.authority()?.as_str();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = base.path();
    let target = if location.contains("://") {
        location.to_string()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{path}{location}")
    } else {
        let directory = &path[..path.rfind('/').map_or(0, |at| at + 1)];
        format!("{scheme}://{authority}{directory}{location}")
    };
    let target: Uri = target.parse().ok()?;
    let known = matches!(target.scheme_str(), Some("http" | "https"));
    (known && !target.authority()?.as_str().contains('@')).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, location: &str) -> Option<String> {
        join(&base.parse().unwrap(), location).map(|uri| uri.to_string())
    }

    #[test]
    fn redirects_resolve_as_in_a_browser() {
        let base = "http://u:p@a.example/x/y?z";
        assert_eq!(joined(base, "https://b.example/t"), Some("https://b.example/t".into()));
        assert_eq!(joined(base, "//b.example/t"), Some("http://b.example/t".into()));
        assert_eq!(joined(base, "/t#frag"), Some("http://a.example/t".into()));
        assert_eq!(joined(base, "t"), Some("http://a.example/x/t".into()));
        assert_eq!(joined(base, "?q"), Some("http://a.example/x/y?q".into()));
    }

    #[test]
    fn other_schemes_and_credentials_are_not_followed() {
        for location in
            ["file:///etc/passwd", "ftp://b.example/", "http://u:p@b.example/", "gopher://x/", "http://"]
        {
            assert_eq!(joined("http://a.example/", location), None, "{location}");
        }
    }

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
