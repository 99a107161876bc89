//! The body of the DHT's fuzz target: the input becomes packets from a few hosts to one node that searches,
//! announces and scrapes. After each packet every limit is checked; every sent packet must parse.
//!
//! Not part of the public API; it may change without notice.

use super::dht::{Announce, Dht, DhtAction, NodeConfig};
use super::limits;
use crate::units::{InfoHash, Instant};
use crate::wire::compact::usable;
use crate::wire::krpc::parse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const HASH: InfoHash = InfoHash([7; 20]);
/// Header of each packet in the input: the sender, a byte for the time that passes before the packet and for
/// its transaction id, and the length in two bytes.
const HEADER_BYTES: usize = 4;

/// Returns one of the senders: public, private and loopback IPv4 addresses, and IPv6 addresses.
fn host(number: u8) -> SocketAddr {
    match number % 8 {
        0..4 => SocketAddr::from(([20, number, 7, 7], 6881)),
        4 => SocketAddr::from(([192, 168, 1, number], 6881)),
        5 => SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(number))),
        _ => SocketAddr::from(([0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1], 6881)),
    }
}

struct DhtFuzzDriver {
    dht: Dht,
    now: Instant,
    /// The transaction id of the last query to each host.
    transactions: BTreeMap<SocketAddr, [u8; 2]>,
    received: u64,
    sent: u64,
}

impl DhtFuzzDriver {
    fn run_actions(&mut self, out: Vec<DhtAction>) {
        for action in out {
            match action {
                DhtAction::Send { to, bytes } => {
                    assert_eq!(usable(to.ip(), to.port()), Some(to), "a packet to an unusable address");
                    assert!(bytes.len() <= limits::DHT_ANSWER_BYTES);
                    let packet = parse(&bytes).expect("a packet that the node sends parses");
                    if let Ok(transaction) = packet.transaction.try_into() {
                        self.transactions.insert(to, transaction);
                    }
                    self.sent += bytes.len() as u64;
                }
                DhtAction::Peers { info_hash, peers } => {
                    assert!(info_hash == HASH && peers.len() <= limits::DHT_FOUND_PEERS);
                    assert!(peers.iter().all(|peer| usable(peer.ip(), peer.port()) == Some(*peer)));
                }
                DhtAction::Done { .. } | DhtAction::Scraped { .. } | DhtAction::External { .. } => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for turns in 0.. {
            assert!(turns < 10_000, "the node's deadlines do not advance");
            let at = self.dht.next_deadline();
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let mut out = Vec::new();
            self.dht.on_deadline(self.now, &mut out);
            self.run_actions(out);
        }
        self.now = end;
    }

    /// Passes a packet to the node. With `is_response`, the packet gets the transaction id of the last query
    /// to its sender.
    fn receive(&mut self, from: SocketAddr, is_response: bool, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let place = bytes.windows(5).rposition(|w| w == b"1:t2:").map(|at| at + 5);
        if let (true, Some(at), Some(transaction)) = (is_response, place, self.transactions.get(&from)) {
            if let Some(room) = bytes.get_mut(at..at + 2) {
                room.copy_from_slice(transaction);
            }
        }
        self.received += bytes.len() as u64;
        let mut out = Vec::new();
        self.dht.on_datagram(self.now, from, &bytes, &mut out);
        self.run_actions(out);
    }
}

/// Runs a node on packets with the content of `input`.
pub fn dht(input: &[u8]) {
    let now = Instant::from_micros(1_000_000);
    let dht = Dht::new(now, NodeConfig { seed: 1, port: 6881, read_only: false });
    let mut driver = DhtFuzzDriver { dht, now, transactions: BTreeMap::new(), received: 0, sent: 0 };
    let mut out = Vec::new();
    driver.dht.add_router(now, host(0));
    for n in 1..8 {
        driver.dht.add_node(now, host(n), &mut out);
    }
    driver.dht.search(now, HASH, Some(Announce { ports: [6881; 2], seed: true }), &mut out);
    driver.dht.scrape(now, HASH, &mut out);
    driver.run_actions(out);
    let mut rest = input;
    while let Some((&[from, how, high, low], after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let len = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (packet, after) = after.split_at(len);
        rest = after;
        driver.pass(Duration::from_millis(1 << (how % 21)));
        driver.receive(host(from), how & 0x80 != 0, packet);
        driver.dht.check();
    }
}
