//! Packets of UDP trackers (BEP 15, with the URL option of BEP 41).
//!
//! ```text
//!   connect(transaction) ──▶      ◀── connection id (good for a minute)
//!   announce(id, transaction) ──▶ ◀── interval, counts, compact peers
//!   scrape(id, transaction) ──▶   ◀── counts
//! ```
//!
//! Formats only: timeouts, retries and pending requests belong to the engine. A packet that does not answer
//! the request gives a typed error, so that the engine can ignore forged packets and report a tracker's
//! failure.

use super::announce::{AnnounceError, AnnounceEvent, AnnounceReply, AnnounceRequest};
use super::compact::{peers_v4, peers_v6};
use super::limits::{PEERS, REASON_CHARS};
use super::printable;
use super::scrape::SwarmCounts;
use crate::units::InfoHash;
use std::time::Duration;
use thiserror::Error;

/// The protocol id at the start of every connect request.
const PROTOCOL: u64 = 0x0417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Options of BEP 41: end of options, and a part of the URL's path and query.
const OPTION_END: u8 = 0;
const OPTION_URL: u8 = 2;

/// Most bytes of path and query in an announce: a passkey fits, and the packet stays below every MTU.
const URL_DATA_BYTES: usize = 510;

/// Why a tracker's packet is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// The packet is too short for its action.
    #[error("the packet has {got} bytes instead of at least {needed}")]
    Short {
        /// Bytes received.
        got: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// The packet answers another request, or is forged. Ignore it.
    #[error("the transaction id {got:#x} matches no request")]
    Transaction {
        /// The transaction id received.
        got: u32,
    },
    /// The packet has another action than the request.
    #[error("the packet has action {got} instead of {expected}")]
    Action {
        /// The action received.
        got: u32,
        /// The action of the request.
        expected: u32,
    },
    /// The tracker refuses the request, with this reason, sanitized for display.
    #[error("the tracker refuses: {0}")]
    Refused(String),
}

impl From<PacketError> for AnnounceError {
    fn from(error: PacketError) -> AnnounceError {
        match error {
            PacketError::Refused(reason) => AnnounceError::Failure { reason, retry_in: None },
            broken => AnnounceError::Packet(broken),
        }
    }
}

/// Returns a connect request, which precedes all others.
pub fn connect_request(transaction: u32) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[..8].copy_from_slice(&PROTOCOL.to_be_bytes());
    packet[8..12].copy_from_slice(&CONNECT.to_be_bytes());
    packet[12..].copy_from_slice(&transaction.to_be_bytes());
    packet
}

/// Returns an announce request. `path_and_query` is that of the tracker's URL, sent as an option (BEP 41).
pub fn announce_request(
    connection_id: u64,
    transaction: u32,
    request: &AnnounceRequest,
    path_and_query: &str,
) -> Vec<u8> {
    let event: u32 = match request.event {
        // BEP 15 has no number for the event of BEP 21.
        AnnounceEvent::None | AnnounceEvent::Paused => 0,
        AnnounceEvent::Completed => 1,
        AnnounceEvent::Started => 2,
        AnnounceEvent::Stopped => 3,
    };
    let mut packet = Vec::with_capacity(98 + URL_DATA_BYTES + 5);
    packet.extend(connection_id.to_be_bytes());
    packet.extend(ANNOUNCE.to_be_bytes());
    packet.extend(transaction.to_be_bytes());
    packet.extend(request.info_hash.as_bytes());
    packet.extend(request.peer_id.as_bytes());
    packet.extend(request.downloaded.to_be_bytes());
    packet.extend(request.left.to_be_bytes());
    packet.extend(request.uploaded.to_be_bytes());
    packet.extend(event.to_be_bytes());
    // Our IP address; 0: the sender of the packet.
    packet.extend([0; 4]);
    packet.extend(request.key.to_be_bytes());
    packet.extend(request.numwant.to_be_bytes());
    packet.extend(request.port.to_be_bytes());
    debug_assert_eq!(packet.len(), 98);
    let url = path_and_query.as_bytes();
    if !url.is_empty() && url.len() <= URL_DATA_BYTES {
        for part in url.chunks(255) {
            packet.extend([OPTION_URL, part.len() as u8]);
            packet.extend(part);
        }
        packet.push(OPTION_END);
    }
    packet
}

/// Returns a scrape request. It has no URL option, which BEP 41 defines for announces only.
pub fn scrape_request(connection_id: u64, transaction: u32, info_hash: &InfoHash) -> Vec<u8> {
    let mut packet = Vec::with_capacity(36);
    packet.extend(connection_id.to_be_bytes());
    packet.extend(SCRAPE.to_be_bytes());
    packet.extend(transaction.to_be_bytes());
    packet.extend(info_hash.as_bytes());
    packet
}

/// Returns the transaction id of a packet, by which the engine finds the request; `None` if the packet is too
/// short.
pub fn transaction_of(packet: &[u8]) -> Option<u32> {
    u32_at(packet, 4).ok()
}

/// Reads the response to [`connect_request`]: the connection id.
pub fn parse_connect(packet: &[u8], transaction: u32) -> Result<u64, PacketError> {
    check_head(packet, transaction, CONNECT)?;
    Ok(u64::from(u32_at(packet, 8)?) << 32 | u64::from(u32_at(packet, 12)?))
}

/// Reads the response to [`announce_request`]. The peers have the address family of the packet.
pub fn parse_announce(packet: &[u8], transaction: u32, over_v6: bool) -> Result<AnnounceReply, PacketError> {
    check_head(packet, transaction, ANNOUNCE)?;
    let interval = u32_at(packet, 8)?;
    let leechers = u32_at(packet, 12)?;
    let seeders = u32_at(packet, 16)?;
    let list = packet.get(20..).unwrap_or_default();
    Ok(AnnounceReply {
        // The field is signed on the wire.
        interval: i32::try_from(interval).ok().map(|s| Duration::from_secs(s as u64)),
        peers: if over_v6 {
            peers_v6(list).take(PEERS).collect()
        } else {
            peers_v4(list).take(PEERS).collect()
        },
        seeders: Some(seeders),
        leechers: Some(leechers),
        ..AnnounceReply::default()
    })
}

/// Reads the response to [`scrape_request`].
pub fn parse_scrape(packet: &[u8], transaction: u32) -> Result<SwarmCounts, PacketError> {
    check_head(packet, transaction, SCRAPE)?;
    let seeds = u32_at(packet, 8)?;
    let completed = u32_at(packet, 12)?;
    let peers = u32_at(packet, 16)?;
    Ok(SwarmCounts { seeds: Some(seeds), peers: Some(peers), completed: Some(completed) })
}

/// Checks transaction id and action.
fn check_head(packet: &[u8], transaction: u32, expected: u32) -> Result<(), PacketError> {
    let action = u32_at(packet, 0)?;
    let answered = u32_at(packet, 4)?;
    if answered != transaction {
        return Err(PacketError::Transaction { got: answered });
    }
    match action {
        ERROR => Err(PacketError::Refused(printable(packet.get(8..).unwrap_or_default(), REASON_CHARS))),
        got if got != expected => Err(PacketError::Action { got, expected }),
        _ => Ok(()),
    }
}

fn u32_at(packet: &[u8], at: usize) -> Result<u32, PacketError> {
    let bytes = packet.get(at..).and_then(|rest| rest.first_chunk());
    bytes
        .map(|b| u32::from_be_bytes(*b))
        .ok_or(PacketError::Short { got: packet.len(), needed: at.saturating_add(4) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PeerId;

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            port: 6881,
            uploaded: 3,
            downloaded: 4,
            left: 5,
            event: AnnounceEvent::Started,
            numwant: 80,
            key: 6,
            tracker_id: None,
            encryption: None,
            ipv4: None,
            ipv6: None,
        }
    }

    /// Returns a packet of these words and bytes.
    fn packet(words: &[u32], bytes: &[u8]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_be_bytes()).chain(bytes.iter().copied()).collect()
    }

    #[test]
    fn writes_requests_as_in_bep_15() {
        assert_eq!(connect_request(7), [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 7]);
        let asked = announce_request(0x0102_0304_0506_0708, 9, &request(), "");
        assert_eq!(asked.len(), 98);
        assert_eq!(asked[..16], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(
            (asked[16], asked[36], asked[63], asked[71], asked[79], asked[83], asked[91], asked[95]),
            (1, 2, 4, 5, 3, 2, 6, 80)
        );
        assert_eq!(asked[96..], 6881u16.to_be_bytes());
    }

    #[test]
    fn sends_the_urls_path_in_parts_of_255_bytes() {
        let asked = announce_request(0, 0, &request(), "/announce?k");
        assert_eq!(&asked[98..], b"\x02\x0b/announce?k\x00");
        let path = "x".repeat(300);
        let asked = announce_request(0, 0, &request(), &path);
        assert_eq!(
            (asked[99], asked[98 + 257], asked[98 + 258], asked.len()),
            (255, 2, 45, 98 + 300 + 4 + 1)
        );
        assert_eq!(announce_request(0, 0, &request(), &"x".repeat(600)).len(), 98);
    }

    #[test]
    fn reads_peers_of_both_address_families() {
        assert_eq!(parse_connect(&packet(&[0, 7, 1, 2], &[]), 7), Ok(1 << 32 | 2));
        let v4 = parse_announce(&packet(&[1, 7, 1800, 3, 4], &[1, 2, 3, 4, 0, 5, 9]), 7, false).unwrap();
        assert_eq!(
            (v4.interval, v4.leechers, v4.seeders),
            (Some(Duration::from_secs(1800)), Some(3), Some(4))
        );
        assert_eq!(v4.peers, ["1.2.3.4:5".parse().unwrap()]);
        let v6 = parse_announce(&packet(&[1, 7, u32::MAX, 3, 4], &[0x20; 18]), 7, true).unwrap();
        assert_eq!((v6.interval, v6.peers.len()), (None, 1), "a negative interval is none");
    }

    #[test]
    fn scrape_packets_are_those_of_bep_15() {
        let asked = scrape_request(0x0102_0304_0506_0708, 9, &InfoHash([7; 20]));
        assert_eq!(asked, [&[1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 2, 0, 0, 0, 9][..], &[7; 20]].concat());
        let counts = SwarmCounts { seeds: Some(3), peers: Some(5), completed: Some(4) };
        assert_eq!(parse_scrape(&packet(&[2, 7, 3, 4, 5], &[]), 7), Ok(counts));
        assert_eq!(
            parse_scrape(&packet(&[2, 7, 3, 4, 5, 6, 7, 8], &[9]), 7),
            Ok(counts),
            "bytes after the counts are ignored"
        );
    }

    #[test]
    fn k13_a_scrape_refuses_every_other_packet() {
        assert_eq!(parse_scrape(&packet(&[2, 8, 3, 4, 5], &[]), 7), Err(PacketError::Transaction { got: 8 }));
        assert_eq!(
            parse_scrape(&packet(&[1, 7, 3, 4, 5], &[]), 7),
            Err(PacketError::Action { got: 1, expected: 2 })
        );
        assert_eq!(parse_scrape(&packet(&[3, 7], b"no\x1b"), 7), Err(PacketError::Refused("no".into())));
        for len in 0..20 {
            let short = &packet(&[2, 7, 3, 4, 5], &[])[..len];
            assert!(matches!(parse_scrape(short, 7), Err(PacketError::Short { .. })), "{len}");
        }
    }

    #[test]
    fn k13_tells_forged_packets_from_short_ones() {
        assert_eq!(parse_connect(&packet(&[0, 8, 1, 2], &[]), 7), Err(PacketError::Transaction { got: 8 }));
        assert_eq!(
            parse_connect(&packet(&[1, 7, 1, 2], &[]), 7),
            Err(PacketError::Action { got: 1, expected: 0 })
        );
        assert_eq!(
            parse_announce(&packet(&[0, 7, 1, 2], &[]), 7, false),
            Err(PacketError::Action { got: 0, expected: 1 })
        );
        for (len, needed) in [(0, 4), (7, 8), (8, 12), (15, 16)] {
            let short = &packet(&[0, 7, 1, 2], &[])[..len];
            assert_eq!(parse_connect(short, 7), Err(PacketError::Short { got: len, needed }));
        }
        for len in 0..20 {
            let short = &packet(&[1, 7, 1, 2, 3], &[])[..len];
            assert!(matches!(parse_announce(short, 7, false), Err(PacketError::Short { .. })), "{len}");
        }
    }

    #[test]
    fn k13_sanitizes_the_reason_of_a_refusal() {
        let refusal = parse_announce(&packet(&[3, 7], b"\x1b[2Jno\0"), 7, false).unwrap_err();
        assert_eq!(refusal, PacketError::Refused("[2Jno".into()));
        assert_eq!(
            AnnounceError::from(refusal),
            AnnounceError::Failure { reason: "[2Jno".into(), retry_in: None }
        );
        assert_eq!(transaction_of(&packet(&[3, 7], &[])), Some(7));
        assert_eq!(transaction_of(&[0; 7]), None);
    }
}
