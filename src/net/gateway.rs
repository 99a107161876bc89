//! Finds the default routers in `/proc/net`, and our addresses in their networks.
//!
//! The files lie in memory: nothing here waits for a disk. No packet is sent: our address is the one that the
//! kernel gives to a connected UDP socket.

use super::egress::Egress;
use crate::engine::{Gateway, Gateways};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The port of PCP and NAT-PMP.
const PORT: u16 = crate::wire::port_mapping::PORT;
/// Most bytes read of a routing table: some thousand routes.
const TABLE_BYTES: u64 = 256 * 1024;
/// `RTF_UP | RTF_GATEWAY` (`route.h`): the route is up and leads to a router.
const UP_AND_GATEWAY: u32 = 0x1 | 0x2;
/// `RTF_REJECT`: packets are refused.
const REJECT: u32 = 0x200;
/// An address beyond every default router (RFC 3849). Nothing is sent to it.
const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Returns the default routers for a session that listens on these addresses.
pub fn gateways(listen_on: &[IpAddr], egress: &Egress) -> Gateways {
    let listen_on = egress.listen_on(listen_on);
    let device = egress.interface_name();
    let is_listening = |gateway: &Gateway| {
        listen_on.iter().any(|ip| {
            *ip == gateway.local || (ip.is_unspecified() && ip.is_ipv4() == gateway.local.is_ipv4())
        })
    };
    let v4 = table("/proc/net/route").and_then(|table| default_v4(&table, device)).and_then(|router| {
        let addr = SocketAddr::from((router, PORT));
        Some(Gateway { addr, local: source_of(addr, egress)? })
    });
    let v6 = table("/proc/net/ipv6_route").and_then(|table| default_v6(&table, device)).and_then(
        |(router, device)| {
            let zone = if router.is_unicast_link_local() { interface_index(&device)? } else { 0 };
            let addr = SocketAddrV6::new(router, PORT, 0, zone).into();
            let local = source_of((OUTSIDE_V6, PORT).into(), egress)?;
            is_global(local).then_some(Gateway { addr, local })
        },
    );
    Gateways { v4: v4.filter(is_listening), v6: v6.filter(is_listening) }
}

fn table(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(TABLE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns the router of the default route with the least metric, of this device if one is named: destination and
/// mask 0.
fn default_v4(table: &str, device: Option<&str>) -> Option<Ipv4Addr> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [interface, destination, router, flags, _, _, metric, mask, ..] = fields[..] else { return None };
        if device.is_some_and(|device| device != interface) {
            return None;
        }
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let is_default = destination == "00000000" && mask == "00000000";
        let is_usable = flags & UP_AND_GATEWAY == UP_AND_GATEWAY && flags & REJECT == 0;
        // The words are in the machine's byte order.
        let router = Ipv4Addr::from(u32::from_str_radix(router, 16).ok()?.to_ne_bytes());
        (is_default && is_usable).then_some((metric.parse::<u32>().ok()?, router))
    };
    table.lines().filter_map(route).min().map(|(_, router)| router)
}

/// Returns the router of the default route with the least metric, of this device if one is named, and its interface.
fn default_v6(table: &str, only: Option<&str>) -> Option<(Ipv6Addr, String)> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, length, _, _, router, metric, _, _, flags, device] = fields[..] else {
            return None;
        };
        if only.is_some_and(|only| only != device) {
            return None;
        }
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let is_default = length == "00" && destination.bytes().all(|digit| digit == b'0');
        let is_usable = flags & UP_AND_GATEWAY == UP_AND_GATEWAY && flags & REJECT == 0;
        let router = Ipv6Addr::from(u128::from_str_radix(router, 16).ok()?);
        let metric = u32::from_str_radix(metric, 16).ok()?;
        (is_default && is_usable).then(|| (metric, router, device.to_owned()))
    };
    table.lines().filter_map(route).min().map(|(_, router, device)| (router, device))
}

/// Returns the address that packets to `to` leave from.
fn source_of(to: SocketAddr, egress: &Egress) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = egress.datagram_socket(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Returns the index of an interface; `None` for a name that is not one path component.
fn interface_index(device: &str) -> Option<u32> {
    if device.contains('/') || device.starts_with('.') {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{device}/ifindex")).ok()?.trim().parse().ok()
}

/// Returns whether peers outside can reach the address if routers let them: it is in 2000::/3.
fn is_global(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.segments()[0] & 0xe000 == 0x2000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes an address as `/proc/net/route` does on this machine.
    fn word(ip: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(ip))
    }

    #[test]
    fn the_default_router_of_the_least_metric_is_asked() {
        let line = |router, flags, metric, mask| {
            format!("eth0\t00000000\t{}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n", word(router))
        };
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let table = [
            head.to_owned(),
            line([10, 0, 0, 1], "0003", 600, "00000000"),
            line([192, 168, 1, 1], "0003", 100, "00000000"),
            line([0, 0, 0, 0], "0001", 0, "00000000"),
            line([172, 16, 0, 1], "0203", 0, "00000000"),
            line([172, 17, 0, 1], "0003", 0, "000000FF"),
        ]
        .concat();
        assert_eq!(default_v4(&table, None), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(default_v4(&table, Some("eth0")), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(default_v4(&table, Some("tun0")), None);
    }

    #[test]
    fn g3_a_default_route_without_a_router_is_not_used() {
        let tunnel = "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_v4(tunnel, None), None);
        for text in ["", "\n", "a b", "x 00000000 zz 0003 0 0 0 00000000"] {
            assert_eq!(default_v4(text, None), None, "{text:?}");
            assert_eq!(default_v6(text, None), None, "{text:?}");
        }
        assert_eq!(gateways(&[], &Egress::default()), Gateways::default(), "a session that listens nowhere");
    }

    #[test]
    fn the_default_router_of_ipv6_has_an_interface() {
        let zeros = "0".repeat(32);
        let table = format!(
            "{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n"
        );
        assert_eq!(default_v6(&table, None), Some(("fe80::1".parse().unwrap(), "eth0".to_owned())));
    }
}
