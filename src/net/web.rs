//! One HTTP(S) request for a bencoded file or reply, with limits, and the URL that a redirect leads to.
//!
//! Redirects are not followed here: the caller decides about every hop and its resolver about every address.
//! User name and password of a URL are sent as Basic credentials (RFC 7617) to the scheme, host and port that
//! they were given for, and never to another.

use super::egress::Egress;
use super::http_socket::EgressConnector;
use super::mended_response::MendingConnector;
use crate::wire::{
    Magnet, Scheme, is_whole_bencode, percent, resolve_reference, same_origin, url_parts, without_user_info,
};
use flate2::read::GzDecoder;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use ureq::http::{Response, header};
use ureq::unversioned::resolver::Resolver;
#[cfg(feature = "tls")]
use ureq::unversioned::transport::RustlsConnector;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, DefaultConnector};
use ureq::{Agent, Body};

/// The most redirects of one request.
pub const MAX_REDIRECTS: usize = 5;

/// The `User-Agent` header.
const USER_AGENT: &str = concat!("rill/", env!("CARGO_PKG_VERSION"));

/// The first bytes of a gzip file (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The certificate authorities that vouch for HTTPS servers; by default those that rill was built with.
#[derive(Clone, Debug, Default)]
pub struct RootCertificates {
    #[cfg(feature = "tls")]
    given: Option<ureq::tls::RootCerts>,
}

impl RootCertificates {
    /// Returns the certificates of a PEM file, which replace the built-in ones. `None` if there are none, or an
    /// item of the file is broken.
    #[cfg(feature = "tls")]
    pub fn from_pem(pem: &[u8]) -> Option<RootCertificates> {
        use ureq::tls::{PemItem, parse_pem};
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) = item.ok()? {
                certificates.push(certificate);
            }
        }
        (!certificates.is_empty()).then(|| RootCertificates { given: Some(certificates.into()) })
    }
}

/// How HTTP servers are reached.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// Who vouches for HTTPS servers.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "nothing is reached over HTTPS"))]
    pub roots: RootCertificates,
    /// Where connections leave the machine.
    pub egress: Egress,
}

impl HttpOptions {
    /// Returns what stands for the addresses of this host if a proxy resolves names; `None` for a literal address,
    /// and without a proxy. Nothing is sent to the address: it only tells loopback apart.
    pub fn unresolved(&self, host: &str, port: u16) -> Option<SocketAddr> {
        self.egress.proxy.as_ref()?;
        if host.parse::<IpAddr>().is_ok() {
            return None;
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_loopback = name == "localhost" || name.ends_with(".localhost");
        let ip = if is_loopback { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(198, 51, 100, 1) };
        Some(SocketAddr::from((ip, port)))
    }
}

/// An http(s) URL, and the credentials for its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl {
    /// Without user name and password.
    url: String,
    /// The value of the header `Authorization`.
    authorization: Option<String>,
}

/// The place that a redirect names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectTarget {
    /// An http(s) URL.
    Web(WebUrl),
    /// A magnet link.
    Magnet(String),
}

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectError {
    /// It has no `Location`.
    Nowhere,
    /// It leads to another scheme or a malformed URL, or has credentials.
    Unusable,
    /// It leads from https to http.
    Downgrade,
}

impl WebUrl {
    /// Returns the URL to request, or `None` if `url` is not http(s).
    pub fn new(url: &str) -> Option<WebUrl> {
        let parts = url_parts(url).filter(|parts| matches!(parts.scheme, Scheme::Http | Scheme::Https))?;
        Some(WebUrl { url: without_user_info(url), authorization: parts.user_info.map(basic) })
    }

    /// Returns the URL without user name and password.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Sends a GET request. A redirect is returned and not followed.
    pub fn get(
        &self,
        timeout: Duration,
        resolver: impl Resolver,
        options: &HttpOptions,
    ) -> Result<Response<Body>, Box<ureq::Error>> {
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .max_idle_connections(0);
        #[cfg(feature = "tls")]
        let config = match &options.roots.given {
            Some(given) => {
                config.tls_config(ureq::tls::TlsConfig::builder().root_certs(given.clone()).build())
            }
            None => config,
        };
        // The session's proxy stands above those of the environment.
        let config = if options.egress.proxy.is_some() { config.proxy(None) } else { config };
        let config = config.build();
        let agent = if options.egress == Egress::default() {
            Agent::with_parts(config, DefaultConnector::new().chain(MendingConnector), resolver)
        } else {
            let connector = ().chain(ConnectProxyConnector::default());
            let connector = connector.chain(EgressConnector(options.egress.clone()));
            #[cfg(feature = "tls")]
            let connector = connector.chain(RustlsConnector::default());
            Agent::with_parts(config, connector.chain(MendingConnector), resolver)
        };
        let request = agent.get(&self.url).header(header::ACCEPT_ENCODING, "gzip");
        let mut request = request.header(header::CONNECTION, "close");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.call().map_err(Box::new)
    }

    /// Returns where the redirect leads that this URL answered with.
    pub fn redirect(&self, response: &Response<Body>) -> Result<RedirectTarget, RedirectError> {
        let location = response.headers().get(header::LOCATION).ok_or(RedirectError::Nowhere)?;
        self.follow(location.as_bytes())
    }

    fn follow(&self, location: &[u8]) -> Result<RedirectTarget, RedirectError> {
        let target = resolve_reference(&self.url, location).ok_or(RedirectError::Unusable)?;
        if Magnet::looks_like(&target) {
            return Ok(RedirectTarget::Magnet(target));
        }
        let (Some(here), Some(there)) = (url_parts(&self.url), url_parts(&target)) else {
            return Err(RedirectError::Unusable);
        };
        match (here.scheme, there.scheme) {
            (_, Scheme::Udp) => Err(RedirectError::Unusable),
            (Scheme::Https, Scheme::Http) => Err(RedirectError::Downgrade),
            _ if there.user_info.is_some() => Err(RedirectError::Unusable),
            _ => {
                let authorization = self.authorization.clone().filter(|_| same_origin(&here, &there));
                Ok(RedirectTarget::Web(WebUrl { url: target, authorization }))
            }
        }
    }
}

/// Reads the body of a response, at most `limit` bytes after decompression.
///
/// Gzip is recognised by its first bytes, whatever coding the server names. A body that ends with an error is
/// accepted if it holds a whole bencoded value: some servers send a wrong length.
pub fn read_body(response: Response<Body>, limit: usize) -> Result<Vec<u8>, Box<ureq::Error>> {
    // A gzip stream of empty blocks has no end and no output.
    let mut reader = response.into_body().into_reader().take(2 * limit as u64);
    let mut body = Vec::new();
    let mut read = reader.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut body);
    if read.is_ok() {
        read = if body == GZIP_MAGIC {
            body.clear();
            inflate(GZIP_MAGIC.chain(reader), limit, &mut body)
        } else {
            reader.take((limit + 1 - body.len()) as u64).read_to_end(&mut body)
        };
    }
    if body.len() > limit {
        return Err(Box::new(ureq::Error::BodyExceedsLimit(limit as u64)));
    }
    match read {
        Err(e) if !is_whole_bencode(&body) => Err(Box::new(e.into())),
        _ => Ok(body),
    }
}

fn inflate(from: impl Read, limit: usize, into: &mut Vec<u8>) -> io::Result<usize> {
    GzDecoder::new(from).take(limit as u64 + 1).read_to_end(into)
}

/// Returns the header value for user name and password as a URL has them, percent-encoded.
fn basic(user_info: &str) -> String {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let plain = [percent::decode(user), b":".to_vec(), percent::decode(password)].concat();
    format!("Basic {}", base64(&plain))
}

/// Encodes bytes in base 64 (RFC 4648, 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0, |bits, (i, b)| bits | u32::from(*b) << (16 - 8 * i));
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(if digit <= group.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(from: &str, location: &str) -> Result<RedirectTarget, RedirectError> {
        WebUrl::new(from).unwrap().follow(location.as_bytes())
    }

    fn web(url: &str, authorization: Option<&str>) -> Result<RedirectTarget, RedirectError> {
        let authorization = authorization.map(str::to_owned);
        Ok(RedirectTarget::Web(WebUrl { url: url.into(), authorization }))
    }

    #[test]
    fn k4_a_redirect_never_leaves_https() {
        let downgrade = Err(RedirectError::Downgrade);
        assert_eq!(followed("https://t.example/a", "http://t.example/a"), downgrade);
        assert_eq!(followed("https://t.example/a", "HTTP://t.example/a"), downgrade);
        assert_eq!(followed("https://t.example/a", "//u.example/a"), web("https://u.example/a", None));
        assert_eq!(followed("http://t.example/a", "https://t.example/a"), web("https://t.example/a", None));
    }

    #[test]
    fn k4_a_redirect_to_a_magnet_link_is_told_apart() {
        let magnet = "magnet:?xt=urn:btih:00";
        assert_eq!(followed("https://t.example/a", magnet), Ok(RedirectTarget::Magnet(magnet.into())));
        for location in
            ["file:///etc/passwd", "http://u:p@u.example/", "udp://t.example:1/", "http://", "mailto:x"]
        {
            assert_eq!(followed("http://t.example/a", location), Err(RedirectError::Unusable), "{location}");
        }
    }

    #[test]
    fn k16_credentials_are_sent_to_the_host_of_their_url_only() {
        let from = "http://user:p%40ss@t.example:81/x/y";
        let ours = Some("Basic dXNlcjpwQHNz");
        assert_eq!(WebUrl::new(from).unwrap().authorization.as_deref(), ours);
        assert_eq!(WebUrl::new(from).unwrap().as_str(), "http://t.example:81/x/y");
        assert_eq!(followed(from, "z"), web("http://t.example:81/x/z", ours));
        assert_eq!(followed(from, "http://T.example:81/"), web("http://T.example:81/", ours));
        for other in ["http://t.example/", "https://t.example:81/", "http://u.example:81/", "//t.example:82/"]
        {
            let Ok(RedirectTarget::Web(next)) = followed(from, other) else { panic!("{other}") };
            assert_eq!(next.authorization, None, "{other}");
        }
    }

    #[test]
    fn n3_with_a_proxy_only_its_own_name_is_resolved() {
        let proxy = crate::net::Proxy::parse("socks5://192.0.2.1:1080").ok();
        let through = HttpOptions { egress: Egress { proxy, ..Egress::default() }, ..HttpOptions::default() };
        let loopback = |host| through.unresolved(host, 80).map(|addr| addr.ip().is_loopback());
        assert_eq!(loopback("t.example"), Some(false));
        for host in ["localhost", "LOCALHOST.", "a.localhost"] {
            assert_eq!(
                loopback(host),
                Some(true),
                "{host}: the torrent may not name what listens at the proxy"
            );
        }
        assert_eq!((loopback("10.0.0.1"), loopback("::1")), (None, None), "an address is checked as one");
        assert_eq!(HttpOptions::default().unresolved("t.example", 80), None);
    }

    #[test]
    fn base_64_is_padded() {
        let encoded = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
        assert_eq!(basic("user"), format!("Basic {}", base64(b"user:")));
    }
}
