//! Nodes of the DHT as they are kept from one run to the next: one dictionary with two compact lists, `nodes` and `nodes6`.
//!
//! Their ids are not kept: whoever answers says who it is. The file is as untrusted as a packet.

use super::bencode::{Rules, scan};
use super::compact::{peers_v4, peers_v6, write_compact};
use super::limits::{MESSAGE_DEPTH, NODES_KEPT};
use std::net::SocketAddr;

/// The file's bytes.
pub fn write_nodes(nodes: &[SocketAddr]) -> Vec<u8> {
    let mut out = vec![b'd'];
    for (key, v6) in [("5:nodes", false), ("6:nodes6", true)] {
        let mut list = Vec::new();
        nodes.iter().filter(|n| n.is_ipv6() == v6).take(NODES_KEPT).for_each(|n| write_compact(*n, &mut list));
        out.extend(format!("{key}{}:", list.len()).bytes());
        out.extend(list);
    }
    out.push(b'e');
    out
}

/// The nodes of such a file; of a broken one, none.
pub fn read_nodes(bytes: &[u8]) -> Vec<SocketAddr> {
    const RULES: Rules = Rules { depth: MESSAGE_DEPTH, tokens: 16, strict: false };
    let mut nodes = Vec::new();
    let Ok(scanned) = scan(bytes, &RULES) else { return nodes };
    for (key, value) in scanned.value.pairs().into_iter().flatten() {
        let list = value.string().unwrap_or_default();
        match key {
            b"nodes" => nodes.extend(peers_v4(list).take(NODES_KEPT)),
            b"nodes6" => nodes.extend(peers_v6(list).take(NODES_KEPT)),
            _ => {}
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_were_kept_come_back() {
        let nodes: Vec<SocketAddr> =
            ["1.2.3.4:5", "10.0.0.1:6881", "[2001:db8::1]:7"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(read_nodes(&write_nodes(&nodes)), nodes);
        assert_eq!(read_nodes(&write_nodes(&[])), []);
    }

    #[test]
    fn a_broken_file_holds_nobody_and_a_long_one_not_too_many() {
        for broken in [&b""[..], b"d", b"le", b"d5:nodesi5ee", b"d5:nodes5:aaaaae"] {
            assert_eq!(read_nodes(broken), []);
        }
        let many: Vec<SocketAddr> = (0..9999u16).map(|n| SocketAddr::from(([1, 2, 3, 4], n + 1))).collect();
        assert_eq!(read_nodes(&write_nodes(&many)).len(), NODES_KEPT);
    }
}
