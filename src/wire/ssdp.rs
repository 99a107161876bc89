//! SSDP (UPnP Device Architecture 1.1, 1.3): the search for the router's description.
//!
//! ```text
//!   M-SEARCH * HTTP/1.1          ──multicast──▶
//!   HTTP/1.1 200 OK, LOCATION    ◀──unicast──
//! ```
//!
//! Responses are untrusted: the caller compares the location with the sender.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The multicast group and port of SSDP.
pub const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1900);

/// The search targets: the two versions of an Internet gateway, and every device, because some routers answer
/// to nothing else.
pub const TARGETS: [&str; 3] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "upnp:rootdevice",
];

/// How a response begins.
pub(super) const VERB: &[u8] = b"HTTP/1.1 200";
/// Longest response that is parsed, bytes.
const RESPONSE_BYTES: usize = 2048;
/// Longest location, bytes.
const LOCATION_BYTES: usize = 256;

/// Returns a search for devices of this kind, which answer within two seconds.
pub fn search(target: &str) -> Vec<u8> {
    format!("M-SEARCH * HTTP/1.1\r\nHOST: {GROUP}\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: {target}\r\n\r\n")
        .into_bytes()
}

/// Returns the URL of the description in a response; `None` if the packet is none.
pub fn location(packet: &[u8]) -> Option<&str> {
    if packet.len() > RESPONSE_BYTES || !packet.starts_with(VERB) {
        return None;
    }
    packet.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        let value = value.trim();
        let usable = value.len() <= LOCATION_BYTES && value.bytes().all(|byte| byte.is_ascii_graphic());
        (name.trim().eq_ignore_ascii_case("location") && usable && !value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_search_as_upnp_demands() {
        let expected = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: \
                        upnp:rootdevice\r\n\r\n";
        assert_eq!(search(TARGETS[2]), expected.as_bytes());
    }

    #[test]
    fn reads_the_location_of_a_response() {
        let packet = b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: upnp:rootdevice\r\nEXT:\r\nLocation:http://192.168.1.1:5000/rootDesc.xml\r\n\r\n";
        assert_eq!(location(packet), Some("http://192.168.1.1:5000/rootDesc.xml"));
        assert_eq!(location(b"HTTP/1.1 200 OK\nLOCATION: http://10.0.0.1/d\n"), Some("http://10.0.0.1/d"));
    }

    #[test]
    fn g2_a_packet_that_is_no_response_has_no_location() {
        let long =
            [b"HTTP/1.1 200 OK\r\nLOCATION: http://10.0.0.1/".as_slice(), &[b'a'; 300], b"\r\n"].concat();
        let huge = [b"HTTP/1.1 200 OK\r\nLOCATION: http://10.0.0.1/\r\n".as_slice(), &[b'\n'; 4000]].concat();
        let packets: [&[u8]; 8] = [
            b"",
            b"NOTIFY * HTTP/1.1\r\nLOCATION: http://10.0.0.1/\r\n",
            b"HTTP/1.1 404 No\r\nLOCATION: http://10.0.0.1/\r\n",
            b"HTTP/1.1 200 OK\r\nLOCATION:\r\n",
            b"HTTP/1.1 200 OK\r\nLOCATION: http://10.0.0.1/a b\r\n",
            b"HTTP/1.1 200 OK\r\nLOCATION: http://10.0.0.1/\x1b\r\n",
            &long,
            &huge,
        ];
        for packet in packets {
            assert_eq!(location(packet), None, "{:?}", String::from_utf8_lossy(packet));
        }
    }
}
