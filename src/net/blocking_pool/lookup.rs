//! Lookups of host names with a deadline, and the check of which addresses a tracker may have.
//!
//! The system's resolver cannot be interrupted, so each lookup runs on a thread that is abandoned at the
//! deadline. The number of these threads is limited: while all of them hang, further lookups fail at once.

use crate::net::web::HttpOptions;
use crate::wire::AnnounceError;
use crate::wire::compact::is_local;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Instant;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Bytes of a lookup thread's stack; resolvers of C libraries keep whole packets on it.
const STACK_BYTES: usize = 256 << 10;

/// The most addresses of one name.
const ADDRESSES: usize = 16;

/// Limits the number of running lookups, abandoned ones included.
#[derive(Debug)]
pub(super) struct Lookups {
    under_way: AtomicUsize,
    limit: usize,
}

impl Lookups {
    pub fn new(limit: usize) -> Lookups {
        Lookups { under_way: AtomicUsize::new(0), limit }
    }

    /// Returns the addresses of `host`, at least one. A literal address needs no lookup.
    pub fn find(
        self: &Arc<Self>,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, AnnounceError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let host = host.to_owned();
        self.run(deadline, move || Ok((host.as_str(), port).to_socket_addrs()?.take(ADDRESSES).collect()))
    }

    /// Runs one blocking lookup and abandons it at the deadline.
    fn run(
        self: &Arc<Self>,
        deadline: Instant,
        lookup: impl FnOnce() -> std::io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> Result<Vec<SocketAddr>, AnnounceError> {
        let permit =
            LookupPermit::take(self).ok_or_else(|| AnnounceError::NoAddress("all lookups hang".into()))?;
        let (answer, answers) = sync_channel(1);
        let spawned =
            thread::Builder::new().name("rill-lookup".into()).stack_size(STACK_BYTES).spawn(move || {
                let _permit = permit;
                // After the deadline the receiver is gone.
                answer.send(lookup()).ok();
            });
        spawned.map_err(|e| AnnounceError::NoAddress(e.to_string()))?;
        match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(found)) if found.is_empty() => Err(AnnounceError::NoAddress("it has none".into())),
            Ok(found) => found.map_err(|e| AnnounceError::NoAddress(e.to_string())),
            Err(RecvTimeoutError::Timeout) => Err(AnnounceError::Timeout),
            Err(RecvTimeoutError::Disconnected) => Err(AnnounceError::NoAddress("the lookup died".into())),
        }
    }
}

/// The right to run one lookup; returned when dropped.
struct LookupPermit(Arc<Lookups>);

impl LookupPermit {
    fn take(lookups: &Arc<Lookups>) -> Option<LookupPermit> {
        let count = |n: usize| (n < lookups.limit).then_some(n + 1);
        lookups.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).ok()?;
        Some(LookupPermit(lookups.clone()))
    }
}

impl Drop for LookupPermit {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which addresses of this machine and of private networks the trackers of a torrent may have with any path,
/// and not only for a plain announce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivateHosts {
    /// None.
    #[default]
    Refused,
    /// Those of private networks: 10/8, 172.16/12, 192.168/16, 100.64/10 and fc00::/7.
    Allowed,
    /// Those of private networks and loopback.
    AllowedWithLoopback,
}

impl PrivateHosts {
    /// Returns whether the local address is among them.
    fn include(self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let private = match ip {
            IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
            IpAddr::V6(v6) => v6.is_unique_local(),
        };
        match self {
            PrivateHosts::Refused => false,
            PrivateHosts::Allowed => private,
            PrivateHosts::AllowedWithLoopback => private || ip.is_loopback(),
        }
    }
}

/// The resolver for every hop of one request. A torrent file can name any address as its tracker, and a
/// tracker can redirect to any, so addresses of this machine and of private networks are returned only if
/// `local_allowed`, or if `private_hosts` includes them.
#[derive(Clone, Debug)]
pub(super) struct GuardedResolver {
    pub lookups: Arc<Lookups>,
    pub deadline: Instant,
    pub local_allowed: bool,
    pub private_hosts: PrivateHosts,
    pub http: HttpOptions,
    /// Set when a local address was found and allowed.
    pub found_local: Arc<AtomicBool>,
}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let mut found = match self.http.unresolved(host, port) {
            Some(placeholder) => vec![placeholder],
            None => {
                self.lookups.find(host, port, self.deadline).map_err(|e| ureq::Error::Other(Box::new(e)))?
            }
        };
        // The address of the user's own proxy is not restricted.
        if config.proxy().is_none_or(|proxy| proxy.uri().host() != uri.host()) {
            if !self.local_allowed {
                found.retain(|addr| !is_local(addr.ip()) || self.private_hosts.include(addr.ip()));
            }
            if found.is_empty() {
                return Err(ureq::Error::Other(Box::new(AnnounceError::LocalAddress)));
            }
            self.found_local.fetch_or(found.iter().any(|addr| is_local(addr.ip())), Ordering::Relaxed);
        }
        let mut addresses = self.empty();
        found.into_iter().take(ADDRESSES).for_each(|addr| addresses.push(addr));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(30)
    }

    #[test]
    fn k12_a_lookup_that_hangs_is_abandoned_and_counted() {
        let lookups = Arc::new(Lookups::new(2));
        let (release, gate) = sync_channel::<()>(0);
        let gate = Arc::new(std::sync::Mutex::new(gate));
        for _ in 0..2 {
            let gate = gate.clone();
            let hangs = move || {
                gate.lock().unwrap().recv().ok();
                Ok(Vec::new())
            };
            assert_eq!(lookups.run(soon(), hangs), Err(AnnounceError::Timeout));
        }
        assert_eq!(
            lookups.run(soon(), || Ok(Vec::new())),
            Err(AnnounceError::NoAddress("all lookups hang".into()))
        );
        drop(release);
        let patience = Instant::now() + Duration::from_secs(2);
        while lookups.under_way.load(Ordering::Relaxed) > 0 && Instant::now() < patience {
            thread::yield_now();
        }
        assert_eq!(
            lookups.run(soon(), || Ok(Vec::new())),
            Err(AnnounceError::NoAddress("it has none".into()))
        );
    }

    #[test]
    fn an_address_needs_no_lookup() {
        let lookups = Arc::new(Lookups::new(0));
        assert_eq!(lookups.find("::1", 5, soon()), Ok(vec!["[::1]:5".parse().unwrap()]));
        assert!(lookups.find("localhost", 5, soon()).is_err());
    }

    #[test]
    fn k10_allowed_private_hosts_never_include_link_local_addresses() {
        use PrivateHosts::*;
        let included = |hosts: PrivateHosts, ip: &str| hosts.include(ip.parse().unwrap());
        for ip in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(
                !included(Refused, ip) && included(Allowed, ip) && included(AllowedWithLoopback, ip),
                "{ip}"
            );
        }
        for ip in ["127.0.0.1", "::1"] {
            assert!(!included(Allowed, ip) && included(AllowedWithLoopback, ip), "{ip}");
        }
        for ip in ["169.254.1.1", "fe80::1", "0.0.0.0", "::"] {
            assert!(!included(AllowedWithLoopback, ip), "{ip}");
        }
    }
}
