//! Validates, splits and resolves URLs of trackers, web seeds and redirects from untrusted sources.
//!
//! An accepted URL is printable ASCII without blanks, has an allowed scheme, a host, and a port other than 0.
//! `file:` and other schemes are refused here, so the other floors need no check. No names are resolved.

use super::limits::{HOST_BYTES, MAGNET_BYTES, REFUSED_TRACKERS, URL_BYTES};
use super::percent;
use super::printable;
use thiserror::Error;

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

/// Why a URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// It is too long.
    #[error("it is too long")]
    TooLong,
    /// Its scheme is missing or unknown.
    #[error("its scheme is not http, https or udp")]
    Scheme,
    /// It has no host.
    #[error("it has no host")]
    NoHost,
    /// Its host is an internationalized name.
    #[error("its host name has letters outside of ASCII; only its xn-- form can be used")]
    Internationalized,
    /// Its host has other characters than a name or an address.
    #[error("its host is not a name or an address")]
    Host,
    /// Its port is no port.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// It is a UDP URL without a port.
    #[error("a UDP tracker needs a port")]
    NoPort,
    /// It has a blank, a control character or another character that is not allowed.
    #[error("it has a character that is not allowed in a URL")]
    Character,
}

/// A refused tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedTracker {
    /// Its scheme and host, sanitized for display, without anything that may be a secret.
    pub url: String,
    /// Why it is refused.
    pub error: UrlError,
}

/// The refused trackers of a torrent or link: the first few, and the number of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedTrackers {
    first: Vec<RefusedTracker>,
    count: usize,
}

impl RefusedTrackers {
    /// Adds a tracker, as written.
    pub(super) fn push(&mut self, written: &[u8], error: UrlError) {
        self.count = self.count.saturating_add(1);
        if self.first.len() < REFUSED_TRACKERS {
            self.first.push(RefusedTracker { url: origin_without_secrets(written), error });
        }
    }

    /// Returns the first few.
    pub fn first(&self) -> &[RefusedTracker] {
        &self.first
    }

    /// Returns the number of all.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// The parts of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlParts<'a> {
    /// The protocol.
    pub scheme: Scheme,
    /// User name and password as written, percent-encoded; empty text counts as absent.
    pub user_info: Option<&'a str>,
    /// A name or an address; an IPv6 address is without brackets.
    pub host: &'a str,
    /// The port, or the scheme's default; `None` for UDP without a port.
    pub port: Option<u16>,
    /// Everything from the first `/` or `?` on; may be empty.
    pub path_and_query: &'a str,
}

/// Splits `url`; `None` if it is malformed or has a scheme that rill does not use.
pub fn url_parts(url: &str) -> Option<UrlParts<'_>> {
    checked_parts(url).ok()
}

fn checked_parts(url: &str) -> Result<UrlParts<'_>, UrlError> {
    let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
    let (scheme, default_port) = if scheme.eq_ignore_ascii_case("http") {
        (Scheme::Http, Some(80))
    } else if scheme.eq_ignore_ascii_case("https") {
        (Scheme::Https, Some(443))
    } else if scheme.eq_ignore_ascii_case("udp") {
        (Scheme::Udp, None)
    } else {
        return Err(UrlError::Scheme);
    };
    let (authority, path_and_query) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user_info, address) =
        authority.rsplit_once('@').map_or((None, authority), |(user, address)| (Some(user), address));
    let (host, port) = match address.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']').ok_or(UrlError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| UrlError::Host)?;
            let port =
                if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(UrlError::Port)?) };
            (host, port)
        }
        None => {
            let (host, port) = address.split_once(':').map_or((address, None), |(h, p)| (h, Some(p)));
            let in_names = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if !host.is_ascii() {
                return Err(UrlError::Internationalized);
            }
            if !host.bytes().all(in_names) {
                return Err(UrlError::Host);
            }
            (host, port)
        }
    };
    let port = match port.filter(|p| !p.is_empty()) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|p| *p != 0).ok_or(UrlError::Port)?)
        }
        Some(_) => return Err(UrlError::Port),
        None => default_port,
    };
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    let user_info = user_info.filter(|user| !user.is_empty());
    Ok(UrlParts { scheme, user_info, host, port, path_and_query })
}

/// Reads a host and port: `router.example:6881`, `192.0.2.1:6881` or `[2001:db8::1]:6881`. The host is
/// checked as in a URL.
pub fn host_and_port(text: &str) -> Option<(String, u16)> {
    let url = format!("udp://{text}");
    let parts =
        url_parts(&url).filter(|parts| parts.path_and_query.is_empty() && parts.host.len() <= HOST_BYTES)?;
    if parts.user_info.is_some() {
        return None;
    }
    Some((parts.host.to_owned(), parts.port?))
}

/// Returns the tracker URL to use, or `None` if it is refused.
pub fn tracker_url(written: &[u8]) -> Option<String> {
    checked_tracker_url(written).ok()
}

/// Returns the tracker URL to use, or why it is refused.
pub fn checked_tracker_url(written: &[u8]) -> Result<String, UrlError> {
    let url = clean(written)?;
    // UDP trackers have no default port (BEP 15).
    checked_parts(url)?.port.ok_or(UrlError::NoPort)?;
    Ok(url.to_owned())
}

/// Returns the URL of the web seed (BEP 19) to use, or `None` if it is refused.
pub fn web_seed_url(written: &[u8]) -> Option<String> {
    let url = clean(written).ok()?;
    matches!(url_parts(url)?.scheme, Scheme::Http | Scheme::Https).then(|| url.to_owned())
}

/// Returns the http(s) URL that a user typed or a redirect leads to, or why it cannot be used. Blanks and
/// other characters that are not allowed in a URL are percent-encoded, except in the host; the fragment is
/// dropped.
#[cfg(any(feature = "cli", test))]
pub fn checked_http_url(written: &[u8]) -> Result<String, UrlError> {
    let text = std::str::from_utf8(written.trim_ascii()).map_err(|_| UrlError::Character)?;
    if text.len() > MAGNET_BYTES {
        return Err(UrlError::TooLong);
    }
    match checked_parts(text)?.scheme {
        Scheme::Http | Scheme::Https => Ok(mended(text.as_bytes())),
        Scheme::Udp => Err(UrlError::Scheme),
    }
}

/// Strips surrounding blanks and the fragment; an error if the rest is too long or has characters that a URL
/// must not contain.
fn clean(written: &[u8]) -> Result<&str, UrlError> {
    let url = std::str::from_utf8(written.trim_ascii()).map_err(|_| UrlError::Character)?;
    let url = url.split('#').next().unwrap_or_default();
    if url.len() > URL_BYTES {
        return Err(UrlError::TooLong);
    }
    if url.bytes().all(is_allowed) {
        return Ok(url);
    }
    // A host outside of ASCII has a reason of its own.
    Err(checked_parts(url).err().unwrap_or(UrlError::Character))
}

/// Returns whether a URL may contain this byte as it is.
fn is_allowed(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Returns the URL or reference without surrounding blanks and without its fragment. Bytes that a URL must
/// not contain are percent-encoded.
fn mended(written: &[u8]) -> String {
    let mut out = String::with_capacity(written.len());
    for &b in written.trim_ascii().split(|b| *b == b'#').next().unwrap_or_default() {
        if is_allowed(b) {
            out.push(char::from(b));
        } else {
            percent::encode_into(&[b], &mut out);
        }
    }
    out
}

/// Resolves the reference of a redirect against the absolute URL that returned it (RFC 3986, 5.2). `None` if
/// the reference is too long or `base` is not absolute. The result has no fragment and may have any scheme.
///
/// As 5.2.2 allows, a reference with the scheme of `base` and without `//` counts as relative.
pub fn resolve_reference(base: &str, reference: &[u8]) -> Option<String> {
    if reference.len() > MAGNET_BYTES {
        return None;
    }
    let reference = mended(reference);
    let mut target = Reference::parse(&reference);
    let base = Reference::parse(base);
    let scheme = base.scheme?;
    if target.authority.is_none() && target.scheme.is_some_and(|s| s.eq_ignore_ascii_case(scheme)) {
        target.scheme = None;
    }
    if target.scheme.is_some() {
        return Some(target.text(&remove_dot_segments(target.path)));
    }
    target.scheme = Some(scheme);
    if target.authority.is_some() {
        return Some(target.text(&remove_dot_segments(target.path)));
    }
    target.authority = base.authority;
    if target.path.is_empty() {
        target.query = target.query.or(base.query);
        return Some(target.text(base.path));
    }
    if target.path.starts_with('/') {
        return Some(target.text(&remove_dot_segments(target.path)));
    }
    let directory = base.path.rfind('/').and_then(|slash| base.path.get(..=slash)).unwrap_or("/");
    Some(target.text(&remove_dot_segments(&format!("{directory}{}", target.path))))
}

/// The components of a URL or reference (RFC 3986, 3), without the fragment.
struct Reference<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Reference<'a> {
        let text = text.split('#').next().unwrap_or_default();
        let (before_query, query) = text.split_once('?').map_or((text, None), |(b, q)| (b, Some(q)));
        let is_scheme = |s: &str| {
            s.starts_with(|c: char| c.is_ascii_alphabetic())
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        };
        let (scheme, rest) = match before_query.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            _ => (None, before_query),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, rest),
        };
        Reference { scheme, authority, path, query }
    }

    /// Returns the text with another path (RFC 3986, 5.3).
    fn text(&self, path: &str) -> String {
        let mut text = String::new();
        if let Some(scheme) = self.scheme {
            text.push_str(scheme);
            text.push(':');
        }
        if let Some(authority) = self.authority {
            text.push_str("//");
            text.push_str(authority);
        }
        text.push_str(path);
        if let Some(query) = self.query {
            text.push('?');
            text.push_str(query);
        }
        text
    }
}

/// Resolves `.` and `..` in a path (RFC 3986, 5.2.4). A path that does not begin with `/` is kept.
fn remove_dot_segments(path: &str) -> String {
    let Some(below) = path.strip_prefix('/') else { return path.to_owned() };
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = below.split('/').peekable();
    while let Some(segment) = segments.next() {
        if !matches!(segment, "." | "..") {
            kept.push(segment);
            continue;
        }
        if segment == ".." {
            kept.pop();
        }
        // A dot segment at the end leaves the slash in front of it.
        if segments.peek().is_none() {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Returns whether both URLs lead to the same scheme, host and port.
pub fn same_origin(a: &UrlParts<'_>, b: &UrlParts<'_>) -> bool {
    a.scheme == b.scheme && a.port == b.port && a.host.eq_ignore_ascii_case(b.host)
}

/// Returns a URL without its user name and password.
pub fn without_user_info(url: &str) -> String {
    let (scheme, authority, rest) = split_authority(url);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}{host}{rest}")
}

/// Returns a URL for logs and errors: without user name, password and query, which may be secrets.
#[cfg(any(feature = "cli", test))]
pub fn url_without_secrets(url: &str) -> String {
    let (plain, query) = url.split_once('?').map_or((url, ""), |(plain, _)| (plain, "?…"));
    printable(without_user_info(plain) + query, 200)
}

/// Returns a URL's scheme and host for logs and errors, without user name, password, path and query, in any
/// of which a passkey may be.
pub fn origin_without_secrets(written: &[u8]) -> String {
    let text = String::from_utf8_lossy(written.trim_ascii().get(..URL_BYTES).unwrap_or(written.trim_ascii()));
    let (scheme, authority, rest) = split_authority(&text);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = if matches!(path, "" | "/" | "/announce") { path } else { "/…" };
    printable(format!("{scheme}{host}{path}"), 120)
}

/// Splits a URL, which may be malformed, before its authority and behind it.
fn split_authority(url: &str) -> (&str, &str, &str) {
    let start = url.find("://").map_or(0, |at| at.saturating_add(3));
    let (scheme, rest) = url.split_at(start);
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    (scheme, authority, rest)
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
            "http://user:pass%40word@t.example/announce",
            "udp://user@t.example:6969",
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

    #[test]
    fn a_refused_tracker_has_a_reason_of_its_own() {
        use UrlError::*;
        for (url, reason) in [
            ("wss://t.example/", Scheme),
            ("t.example/announce", Scheme),
            ("http:///announce", NoHost),
            ("http://b\u{fc}cher.example/announce", Internationalized),
            ("http://t.example/b\u{fc}cher", Character),
            ("http://[zz]/", Host),
            ("http://t.ex!mple/", Host),
            ("http://t.example:0/", Port),
            ("http://t.example:70000/", Port),
            ("http://t.example:x/", Port),
            ("udp://t.example", NoPort),
            ("http://t.example/a b", Character),
        ] {
            assert_eq!(checked_tracker_url(url.as_bytes()), Err(reason), "{url}");
        }
        assert_eq!(
            checked_tracker_url(&[b"http://t.example/".as_slice(), &[b'a'; 3000]].concat()),
            Err(TooLong)
        );
    }

    #[test]
    fn user_info_is_split_from_the_host_at_the_last_at_sign() {
        let parts = url_parts("http://user:p@ss@t.example:81/a@b").unwrap();
        assert_eq!((parts.user_info, parts.host, parts.port), (Some("user:p@ss"), "t.example", Some(81)));
        assert_eq!(url_parts("http://@t.example/").unwrap().user_info, None);
        assert_eq!(url_parts("http://t.example/?a@b").unwrap().user_info, None);
        assert_eq!(host_and_port("user@t.example:1"), None);
    }

    #[test]
    fn k16_secrets_of_a_url_are_not_shown() {
        let url = "http://user:secret@t.example:81/a/announce?passkey=0123";
        assert_eq!(without_user_info(url), "http://t.example:81/a/announce?passkey=0123");
        assert_eq!(url_without_secrets(url), "http://t.example:81/a/announce?…");
        assert_eq!(origin_without_secrets(url.as_bytes()), "http://t.example:81/…");
        assert_eq!(
            origin_without_secrets("http://user:x@b\u{fc}cher.example".as_bytes()),
            "http://b\u{fc}cher.example"
        );
        assert_eq!(origin_without_secrets(b"user:secret@t.example?x"), "t.example");
    }

    #[test]
    fn k4_references_are_resolved_as_rfc_3986_says() {
        // The examples of RFC 3986, 5.4, without their fragments.
        for (reference, target) in [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            ("g?y#s", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("http:g", "http://a/b/c/g"),
            // What servers send besides.
            ("HTTPS://b/x/../y", "HTTPS://b/y"),
            ("/ok?from=http://site.example/page", "http://a/ok?from=http://site.example/page"),
            ("ok?from=http://site.example/page", "http://a/b/c/ok?from=http://site.example/page"),
            ("?ok=http://site.example/", "http://a/b/c/d;p?ok=http://site.example/"),
            (" /a b\u{fc}.torrent\t", "http://a/a%20b%C3%BC.torrent"),
            ("magnet:?xt=urn:btih:00&dn=a b", "magnet:?xt=urn:btih:00&dn=a%20b"),
            ("//user:p@g/", "http://user:p@g/"),
        ] {
            assert_eq!(
                resolve_reference("http://a/b/c/d;p?q", reference.as_bytes()).as_deref(),
                Some(target),
                "{reference}"
            );
        }
        assert_eq!(resolve_reference("http://u:p@a", b"g?x").as_deref(), Some("http://u:p@a/g?x"));
        assert_eq!(resolve_reference("http://a?q", b"?x").as_deref(), Some("http://a?x"));
        assert_eq!(resolve_reference("relative", b"x"), None);
        assert_eq!(resolve_reference("http://a", &[b'a'; MAGNET_BYTES + 1]), None);
    }

    #[test]
    fn a_typed_url_is_mended_outside_of_its_host() {
        let mended = |url: &str| checked_http_url(url.as_bytes());
        assert_eq!(mended(" http://t.example/a b?\u{e9}#f ").as_deref(), Ok("http://t.example/a%20b?%C3%A9"));
        assert_eq!(mended("http://b\u{fc}cher.example/"), Err(UrlError::Internationalized));
        assert_eq!(mended("http://t.exa mple/"), Err(UrlError::Host));
        assert_eq!(mended("udp://t.example:1/"), Err(UrlError::Scheme));
    }
}
