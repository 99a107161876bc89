//! Peer addresses in lists: 6 bytes for IPv4 (BEP 23), 18 for IPv6 (BEP 7), or a dictionary each (BEP 3).
//!
//! Addresses read here can be dialed: the port is not 0, and the address is that of a single host. Whether to
//! dial one (our own address, a private network, a banned peer) is decided by the engine.

use super::bencode::{Lenient, List, Value};
use super::limits::PEERS;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of an IPv4 address and port.
pub const V4_LEN: usize = 6;
/// Bytes of an IPv6 address and port.
pub const V6_LEN: usize = 18;

/// Returns the usable addresses of a compact IPv4 list. An incomplete entry at its end is ignored.
pub fn peers_v4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    bytes.chunks_exact(V4_LEN).filter_map(|entry| {
        let (ip, port) = entry.split_first_chunk::<4>()?;
        usable(IpAddr::from(*ip), u16::from_be_bytes(port.try_into().ok()?))
    })
}

/// Returns the usable addresses of a compact IPv6 list. An incomplete entry at its end is ignored.
pub fn peers_v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    bytes.chunks_exact(V6_LEN).filter_map(|entry| {
        let (ip, port) = entry.split_first_chunk::<16>()?;
        usable(IpAddr::from(*ip), u16::from_be_bytes(port.try_into().ok()?))
    })
}

/// Appends `addr` in compact form: 6 bytes for IPv4, 18 for IPv6.
pub fn write_compact(addr: SocketAddr, out: &mut Vec<u8>) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// Returns the address if it can be dialed. An IPv4-mapped IPv6 address becomes IPv4.
pub fn usable(ip: IpAddr, port: u16) -> Option<SocketAddr> {
    let ip = ip.to_canonical();
    let one_host = match ip {
        IpAddr::V4(ip) => is_one_host_v4(ip),
        IpAddr::V6(ip) => is_one_host_v6(ip),
    };
    (one_host && port != 0).then_some(SocketAddr::new(ip, port))
}

fn is_one_host_v4(ip: Ipv4Addr) -> bool {
    ip.octets()[0] != 0 && !ip.is_multicast() && !ip.is_broadcast()
}

/// A link-local address needs a zone, which address lists lack.
fn is_one_host_v6(ip: Ipv6Addr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local()
}

/// Returns whether the address belongs to this machine or to a private network, which remote peers must not
/// direct us to.
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.octets()[0] == 0 || shared
        }
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
    }
}

/// Returns whether an address received from the host `source` may be used: private addresses only from hosts
/// with a private address, loopback addresses only from loopback. Otherwise the address is a mistake, or an
/// attempt to make us attack a local host.
pub fn may_name(source: IpAddr, addr: IpAddr) -> bool {
    if addr.to_canonical().is_loopback() {
        source.to_canonical().is_loopback()
    } else {
        !is_local(addr) || is_local(source)
    }
}

/// Returns whether an address in a .torrent file may be used. Private addresses may, because the file can
/// come from that network. Loopback and link-local addresses may not: services there trust every client that
/// reaches them.
pub fn torrent_may_name(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

/// The value of `peers` in a tracker's reply: a compact string, or a list of dictionaries.
pub(super) enum TrackerPeers<'a> {
    Compact(&'a [u8]),
    Dictionaries(List<'a, PeerEntry<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for TrackerPeers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TrackerPeers<'a>, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.string() {
            Some(compact) => Ok(TrackerPeers::Compact(compact)),
            None => value.read().map(TrackerPeers::Dictionaries).map_err(D::Error::custom),
        }
    }
}

impl TrackerPeers<'_> {
    /// Returns the usable addresses, at most [`PEERS`].
    pub fn addresses(self) -> Vec<SocketAddr> {
        match self {
            TrackerPeers::Compact(compact) => peers_v4(compact).take(PEERS).collect(),
            TrackerPeers::Dictionaries(list) => {
                list.iter().flatten().filter_map(PeerEntry::address).take(PEERS).collect()
            }
        }
    }
}

/// One peer as a dictionary (BEP 3); its peer id is not used.
#[derive(Deserialize)]
pub(super) struct PeerEntry<'a> {
    #[serde(borrow)]
    ip: Lenient<&'a str>,
    port: Lenient<u16>,
}

impl PeerEntry<'_> {
    /// BEP 3 allows a host name in `ip`. Names are ignored: a tracker could make rill resolve a thousand of
    /// them.
    fn address(self) -> Option<SocketAddr> {
        usable(self.ip.0?.parse().ok()?, self.port.0?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn drops_addresses_that_cannot_be_dialed() {
        for bad in
            ["0.0.0.0:1", "0.1.2.3:1", "1.2.3.4:0", "224.0.0.1:1", "239.255.255.255:1", "255.255.255.255:1"]
        {
            let addr: SocketAddr = bad.parse().unwrap();
            assert_eq!(usable(addr.ip(), addr.port()), None, "{bad}");
        }
        for bad in ["[::]:1", "[ff02::1]:1", "[fe80::1]:1", "[2001:db8::1]:0", "[::ffff:0.0.0.0]:1"] {
            let addr: SocketAddr = bad.parse().unwrap();
            assert_eq!(usable(addr.ip(), addr.port()), None, "{bad}");
        }
        assert_eq!(usable("::ffff:1.2.3.4".parse().unwrap(), 5), Some("1.2.3.4:5".parse().unwrap()));
    }

    #[test]
    fn recognizes_local_addresses() {
        for local in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for public in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1"] {
            assert!(!is_local(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn d2_a_torrent_may_name_private_addresses_but_not_loopback() {
        for taken in ["192.0.2.1", "10.1.2.3", "192.168.1.1", "2001:db8::1", "fd00::1"] {
            assert!(torrent_may_name(taken.parse().unwrap()), "{taken}");
        }
        for left in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1"] {
            assert!(!torrent_may_name(left.parse().unwrap()), "{left}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(ip: [u8; 4], ip6: [u8; 16], port: u16, rest in 0usize..6) {
            for addr in [usable(ip.into(), port), usable(ip6.into(), port)].into_iter().flatten() {
                let mut bytes = Vec::new();
                write_compact(addr, &mut bytes);
                bytes.extend(std::iter::repeat_n(9, rest.min(5)));
                let read: Vec<_> = if addr.is_ipv4() { peers_v4(&bytes).collect() } else { peers_v6(&bytes).collect() };
                prop_assert_eq!(read, [addr]);
            }
        }
    }
}
