//! The file of known DHT nodes that is kept between runs: a dictionary with two compact lists, `nodes` and
//! `nodes6`.
//!
//! Node ids are not stored, because each node sends its id with its first response. The file is untrusted
//! input.

use super::bencode::{Bytes, Lenient, Rules, scan, to_bytes};
use super::compact::{peers_v4, peers_v6, write_compact};
use super::limits::{MESSAGE_DEPTH, NODES_KEPT};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The file's dictionary: compact lists of addresses.
#[derive(Deserialize, Serialize)]
struct NodeCache<'a> {
    #[serde(borrow)]
    nodes: Lenient<Bytes<'a>>,
    nodes6: Lenient<Bytes<'a>>,
}

/// Returns the content of the file; at most [`NODES_KEPT`] nodes of each address family.
pub fn write_nodes(nodes: &[SocketAddr]) -> Vec<u8> {
    let of_family = |v6| {
        let mut list = Vec::new();
        nodes
            .iter()
            .filter(|n| n.is_ipv6() == v6)
            .take(NODES_KEPT)
            .for_each(|n| write_compact(*n, &mut list));
        list
    };
    let v4 = of_family(false);
    let v6 = of_family(true);
    to_bytes(&NodeCache { nodes: Lenient(Some(Bytes(&v4))), nodes6: Lenient(Some(Bytes(&v6))) })
}

/// Reads the content of the file; a damaged one has no nodes.
pub fn read_nodes(bytes: &[u8]) -> Vec<SocketAddr> {
    const RULES: Rules = Rules { depth: MESSAGE_DEPTH, tokens: 16, strict: false };
    let Ok(scanned) = scan(bytes, &RULES) else { return Vec::new() };
    let Ok(NodeCache { nodes, nodes6 }) = scanned.value.read() else { return Vec::new() };
    let v4 = peers_v4(nodes.bytes().unwrap_or_default()).take(NODES_KEPT);
    v4.chain(peers_v6(nodes6.bytes().unwrap_or_default()).take(NODES_KEPT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let nodes: Vec<SocketAddr> = ["1.2.3.4:5", "10.0.0.1:6881", "[2001:db8::1]:7"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(read_nodes(&write_nodes(&nodes)), nodes);
        assert_eq!(read_nodes(&write_nodes(&[])), []);
    }

    #[test]
    fn a_damaged_file_has_no_nodes_and_a_long_one_is_capped() {
        for broken in [&b""[..], b"d", b"le", b"d5:nodesi5ee", b"d5:nodes5:aaaaae"] {
            assert_eq!(read_nodes(broken), []);
        }
        let many: Vec<SocketAddr> = (0..9999u16).map(|n| SocketAddr::from(([1, 2, 3, 4], n + 1))).collect();
        assert_eq!(read_nodes(&write_nodes(&many)).len(), NODES_KEPT);
    }
}
