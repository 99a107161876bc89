//! Validates and splits URLs of trackers and web seeds from untrusted sources.
//!
//! An accepted URL is printable ASCII without blanks, has an allowed scheme, a host, a port other than 0, and
//! no user name or password. `file:` and other schemes are refused here, so the other floors need no check.
//! No names are resolved.

use super::limits::{HOST_BYTES, URL_BYTES};

/// The protocol of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP (BEP 3).
    Http,
    /// HTTP over TLS.
    Https,
    /// UDP (BEP 15).
    Udp,
}

/// The parts of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlParts<'a> {
    /// The protocol.
    pub scheme: Scheme,
    /// A name or an address; an IPv6 address is without brackets.
    pub host: &'a str,
    /// The port, or the scheme's default; `None` for UDP without a port.
    pub port: Option<u16>,
    /// Everything from the first `/` or `?` on; may be empty.
    pub path_and_query: &'a str,
}

/// Splits `url`; `None` if it is malformed or has a scheme that rill does not use.
pub fn url_parts(url: &str) -> Option<UrlParts<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let (scheme, default_port) = if scheme.eq_ignore_ascii_case("http") {
        (Scheme::Http, Some(80))
    } else if scheme.eq_ignore_ascii_case("https") {
        (Scheme::Https, Some(443))
    } else if scheme.eq_ignore_ascii_case("udp") {
        (Scheme::Udp, None)
    } else {
        return None;
    };
    let (authority, path_and_query) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (host, port) = authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p)));
            let in_names = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if !host.bytes().all(in_names) {
                return None;
            }
            (host, port.filter(|p| !p.is_empty()))
        }
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|p| *p != 0)?)
        }
        Some(_) => return None,
        None => default_port,
    };
    (!host.is_empty()).then_some(UrlParts { scheme, host, port, path_and_query })
}

/// Reads a host and port: `router.example:6881`, `192.0.2.1:6881` or `[2001:db8::1]:6881`. The host is
/// checked as in a URL.
pub fn host_and_port(text: &str) -> Option<(String, u16)> {
    let url = format!("udp://{text}");
    let parts =
        url_parts(&url).filter(|parts| parts.path_and_query.is_empty() && parts.host.len() <= HOST_BYTES)?;
    Some((parts.host.to_owned(), parts.port?))
}

/// Returns the tracker URL to use, or `None` if it is refused.
pub fn tracker_url(written: &[u8]) -> Option<String> {
    let url = clean(written)?;
    let parts = url_parts(url)?;
    // UDP trackers have no default port (BEP 15).
    parts.port.is_some().then(|| url.to_owned())
}

/// Returns the URL of the web seed (BEP 19) to use, or `None` if it is refused.
pub fn web_seed_url(written: &[u8]) -> Option<String> {
    let url = clean(written)?;
    matches!(url_parts(url)?.scheme, Scheme::Http | Scheme::Https).then(|| url.to_owned())
}

/// Strips surrounding blanks and the fragment; `None` if the rest is too long or has characters that a URL
/// must not contain.
fn clean(written: &[u8]) -> Option<&str> {
    let url = std::str::from_utf8(written.trim_ascii()).ok()?;
    let url = url.split('#').next()?;
    let plain = |b: u8| {
        b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    (url.len() <= URL_BYTES && url.bytes().all(plain)).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_http_https_and_udp_trackers() {
        for url in [
            "http://t.example/announce",
            "HTTPS://t.example:8443/a?passkey=x",
            "udp://t.example:6969",
            "udp://[2001:db8::1]:6969/announce",
            "http://192.0.2.1",
        ] {
            assert_eq!(tracker_url(url.as_bytes()).as_deref(), Some(url));
        }
        assert_eq!(tracker_url(b" http://t.example/a#frag \n").as_deref(), Some("http://t.example/a"));
    }

    #[test]
    fn refuses_every_other_url() {
        for url in [
            "file:///etc/passwd",
            "ftp://t.example/",
            "wss://t.example/",
            "dht://abc",
            "http://",
            "http:///announce",
            "http://user:password@t.example/",
            "http://user@t.example/",
            "http://t.example:0/",
            "http://t.example:99999/",
            "http://t.example:+80/",
            "http://t.example/a\r\nHost: evil",
            "http://t.example/\x1b[2J",
            "http://t.exa mple/",
            "http://[::1/",
            "http://[zz]/",
            "udp://t.example",
            "",
        ] {
            assert_eq!(tracker_url(url.as_bytes()), None, "{url:?}");
        }
        assert_eq!(tracker_url(&[b"http://t.example/".as_slice(), &[b'a'; 3000]].concat()), None);
        assert_eq!(web_seed_url(b"udp://t.example:1/"), None);
        assert_eq!(web_seed_url(b"file:///etc"), None);
    }

    #[test]
    fn splits_a_url_into_its_parts() {
        let parts = url_parts("udp://[2001:db8::1]:6969/announce?x").unwrap();
        assert_eq!((parts.scheme, parts.host, parts.port), (Scheme::Udp, "2001:db8::1", Some(6969)));
        assert_eq!(parts.path_and_query, "/announce?x");
        assert_eq!(url_parts("https://t.example?x").unwrap().port, Some(443));
    }
}
