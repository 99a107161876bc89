//! The body of the DHT's fuzz target: bytes become packets from a few hosts to one node that searches,
//! announces and counts; after each of them every limit is looked at, and everything that is sent reads back.
//!
//! It promises nothing to users of the library.

use super::dht::{Announce, Dht, DhtAction, NodeConfig};
use super::limits;
use crate::units::{InfoHash, Instant};
use crate::wire::compact::usable;
use crate::wire::krpc::parse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const HASH: InfoHash = InfoHash([7; 20]);
/// Each packet is led in by: its host, what happens before it in this order of magnitude of time, and its
/// length.
const HEADER_BYTES: usize = 4;

/// Some hosts in the world, at home, and of the other family.
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
    /// The transaction of the last question to each host.
    asked: BTreeMap<SocketAddr, [u8; 2]>,
    received: u64,
    sent: u64,
}

impl DhtFuzzDriver {
    fn carry_out(&mut self, out: Vec<DhtAction>) {
        for action in out {
            match action {
                DhtAction::Send { to, bytes } => {
                    assert_eq!(usable(to.ip(), to.port()), Some(to), "a packet to nowhere");
                    assert!(bytes.len() <= limits::DHT_ANSWER_BYTES);
                    let packet = parse(&bytes).expect("what is written is what is read");
                    if let Ok(transaction) = packet.transaction.try_into() {
                        self.asked.insert(to, transaction);
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
            assert!(turns < 10_000, "the node wakes without end");
            let at = self.dht.next_deadline();
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let mut out = Vec::new();
            self.dht.on_deadline(self.now, &mut out);
            self.carry_out(out);
        }
        self.now = end;
    }

    /// A packet comes. With `answers`, it carries the transaction of the last question to its sender.
    fn hear(&mut self, from: SocketAddr, answers: bool, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let place = bytes.windows(5).rposition(|w| w == b"1:t2:").map(|at| at + 5);
        if let (true, Some(at), Some(transaction)) = (answers, place, self.asked.get(&from)) {
            if let Some(room) = bytes.get_mut(at..at + 2) {
                room.copy_from_slice(transaction);
            }
        }
        self.received += bytes.len() as u64;
        let mut out = Vec::new();
        self.dht.on_datagram(self.now, from, &bytes, &mut out);
        self.carry_out(out);
    }
}

/// A node among strangers who say whatever the bytes say.
pub fn dht(input: &[u8]) {
    let now = Instant::from_micros(1_000_000);
    let dht = Dht::new(now, NodeConfig { seed: 1, port: 6881, read_only: false });
    let mut hands = DhtFuzzDriver { dht, now, asked: BTreeMap::new(), received: 0, sent: 0 };
    let mut out = Vec::new();
    hands.dht.add_router(now, host(0));
    (1..8).for_each(|n| hands.dht.add_node(now, host(n), &mut out));
    hands.dht.search(now, HASH, Some(Announce { port: 6881, seed: true }), &mut out);
    hands.dht.scrape(now, HASH, &mut out);
    hands.carry_out(out);
    let mut rest = input;
    while let Some((&[from, how, high, low], after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let len = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (packet, after) = after.split_at(len);
        rest = after;
        hands.pass(Duration::from_millis(1 << (how % 21)));
        hands.hear(host(from), how & 0x80 != 0, packet);
        hands.dht.check();
    }
}
