//! Torrents that are known by their hash alone, and metadata for others: P17, M9 up to the point where it is
//! read.

use crate::engine::testing::{METADATA_ID, PIECE_LEN, Received, TestWorld};
use crate::engine::{Action, DisconnectReason, TorrentInfo, limits};
use crate::units::{Bitfield, Geometry, InfoHash, PeerId, PeerKey};
use crate::wire::{ExtendedHandshake, ExtensionIds, Handshake, METADATA_PIECE_LEN, Message, MetadataMessage};
use sha1::{Digest, Sha1};
use std::sync::Arc;

/// Three pieces of metadata, the last one short. Its content does not matter here.
fn info() -> Vec<u8> {
    (0..2 * METADATA_PIECE_LEN + 100).map(|n| (n % 251) as u8).collect()
}

fn hash() -> InfoHash {
    InfoHash(Sha1::digest(info()).into())
}

/// Nothing is known but the hash.
fn magnet() -> TestWorld {
    TestWorld::built(|s| (s.spec.torrent_info, s.spec.info_hash) = (None, hash()))
}

/// Everything is here, the metadata too.
fn seed() -> TestWorld {
    TestWorld::built(|s| {
        s.have = Bitfield::full(4);
        s.spec.info_hash = hash();
        s.spec.torrent_info.as_mut().unwrap().info = Some(info().into());
    })
}

/// A peer that speaks `ut_metadata`, and says that the metadata is so long.
fn speaker(w: &mut TestWorld, host: u8, size: Option<u32>) -> PeerKey {
    let p = w.connect(host);
    let theirs =
        Handshake { info_hash: hash(), peer_id: PeerId([host; 20]), fast: true, extended: true, dht: false };
    w.send(p, &theirs.to_bytes());
    let ids = ExtensionIds { ut_metadata: METADATA_ID, ..ExtensionIds::default() };
    let hello = ExtendedHandshake { ids, metadata_size: size, ..ExtendedHandshake::default() }.encode();
    w.say(p, &[Message::Extended { id: 0, payload: &hello }]);
    p
}

fn asks(w: &mut TestWorld, p: PeerKey) -> Vec<u32> {
    let said = w.heard(p);
    let metadata = said.iter().filter_map(|s| {
        if let Received::Metadata(payload) = s { MetadataMessage::parse(payload) } else { None }
    });
    metadata
        .filter_map(|m| if let MetadataMessage::Request { piece } = m { Some(piece) } else { None })
        .collect()
}

fn tell(w: &mut TestWorld, p: PeerKey, message: &MetadataMessage<'_>) {
    w.say(p, &[Message::Extended { id: ExtensionIds::OURS.ut_metadata, payload: &message.encode() }]);
}

/// Answers everything that is asked of these peers, each from its own bytes, until no request is left.
fn answer(w: &mut TestWorld, peers: &[(PeerKey, &[u8])]) {
    loop {
        let mut idle = true;
        for (p, bytes) in peers.iter().filter(|(p, _)| w.is_open(*p)).collect::<Vec<_>>() {
            for piece in asks(w, *p) {
                idle = false;
                let from = (piece * METADATA_PIECE_LEN) as usize;
                let to = (from + METADATA_PIECE_LEN as usize).min(bytes.len());
                tell(
                    w,
                    *p,
                    &MetadataMessage::Data { piece, total_size: bytes.len() as u32, bytes: &bytes[from..to] },
                );
            }
        }
        if idle {
            return;
        }
    }
}

fn handed_on(w: &TestWorld) -> Vec<Arc<[u8]>> {
    w.log
        .iter()
        .filter_map(|a| if let Action::Metadata { info, .. } = a { Some(info.clone()) } else { None })
        .collect()
}

/// What the session does with it: it is read, and the disk is looked at.
fn understand(w: &mut TestWorld, have: Bitfield) {
    let geometry = Geometry::new(4 * PIECE_LEN, PIECE_LEN).unwrap();
    let shape =
        TorrentInfo { geometry, wanted: Bitfield::full(4), private: false, info: Some(info().into()) };
    w.engine.on_metadata(w.now, w.torrent, shape, &mut w.out);
    w.engine.on_opened(w.now, w.torrent, have, &mut w.out);
    w.turn();
}

#[test]
fn metadata_comes_from_several_peers_and_then_the_content_from_the_same() {
    let mut w = magnet();
    let info = info();
    let (p, q) = (speaker(&mut w, 1, Some(info.len() as u32)), speaker(&mut w, 2, Some(info.len() as u32)));
    // A seed sends HAVE ALL before the number of pieces is known.
    w.say(p, &[Message::HaveAll, Message::Unchoke]);
    w.say(q, &[Message::Bitfield { bytes: &[0b0100_0000] }, Message::Have { piece: 3 }, Message::Unchoke]);
    answer(&mut w, &[(p, &info), (q, &info)]);
    assert_eq!(handed_on(&w), [Arc::from(info)]);
    assert!(w.requests(p).is_empty() && !w.is_complete());
    understand(&mut w, Bitfield::empty(4));
    w.engine.audit();
    assert!(!w.requests(p).is_empty());
    let of_q = w.requests(q);
    assert!(!of_q.is_empty() && of_q.iter().all(|r| [1, 3].contains(&r.piece)), "{of_q:?}");
    w.serve_all(p);
    w.serve_all(q);
    assert!(w.is_complete());
}

#[test]
fn what_is_wanted_may_be_said_again_until_the_torrent_is_open() {
    let mut w = magnet();
    let info = info();
    let p = speaker(&mut w, 1, Some(info.len() as u32));
    w.say(p, &[Message::HaveAll, Message::Unchoke]);
    answer(&mut w, &[(p, &info)]);
    let geometry = Geometry::new(4 * PIECE_LEN, PIECE_LEN).unwrap();
    let shape = |bits| TorrentInfo {
        geometry,
        wanted: Bitfield::from_wire(&[bits], 4).unwrap(),
        private: false,
        info: None,
    };
    w.engine.on_metadata(w.now, w.torrent, shape(0b1111_0000), &mut w.out);
    w.turn();
    w.engine.on_metadata(w.now, w.torrent, shape(0b0010_0000), &mut w.out);
    w.engine.on_opened(w.now, w.torrent, Bitfield::empty(4), &mut w.out);
    // Too late: leases may be out.
    w.engine.on_metadata(w.now, w.torrent, shape(0b1111_0000), &mut w.out);
    w.turn();
    w.engine.audit();
    let asked = w.requests(p);
    assert!(!asked.is_empty() && asked.iter().all(|r| r.piece == 2), "{asked:?}");
}

#[test]
fn what_was_here_already_is_told_to_those_who_are_connected() {
    let mut w = magnet();
    let info = info();
    let p = speaker(&mut w, 1, Some(info.len() as u32));
    answer(&mut w, &[(p, &info)]);
    understand(&mut w, Bitfield::from_wire(&[0b1010_0000], 4).unwrap());
    let said = w.heard(p);
    assert!(said.contains(&Received::Have(0)) && said.contains(&Received::Have(2)), "{said:?}");
}

#[test]
fn p17_liars_beside_one_good_peer_cost_nothing_but_time() {
    let truth = info();
    let mut lie = truth.clone();
    lie[5] ^= 1;
    for (lies, sizes) in [(lie, truth.len()), (vec![0; 10], 10), (vec![0; 100_000], 100_000)] {
        let mut w = magnet();
        let liars = [1, 2].map(|host| speaker(&mut w, host, Some(sizes as u32)));
        let good = speaker(&mut w, 3, Some(truth.len() as u32));
        for _ in 0..30 {
            answer(&mut w, &[(liars[0], &lies), (good, &truth), (liars[1], &lies)]);
            w.pass(10.0);
        }
        assert_eq!(handed_on(&w), [Arc::from(truth.clone())], "{sizes}");
    }
}

#[test]
fn p17_who_is_proven_to_lie_is_let_go_and_not_asked_again_under_another_connection() {
    let truth = info();
    let mut lie = truth.clone();
    lie[5] ^= 1;
    let mut w = magnet();
    let liar = speaker(&mut w, 1, Some(truth.len() as u32));
    answer(&mut w, &[(liar, &lie)]);
    assert!(!w.is_open(liar));
    assert_eq!(w.banned(), [1]);
    let again = speaker(&mut w, 1, Some(truth.len() as u32));
    assert_eq!(w.why(again), Some(DisconnectReason::Banned));
    let good = speaker(&mut w, 2, Some(truth.len() as u32));
    answer(&mut w, &[(good, &truth)]);
    assert_eq!(handed_on(&w), [Arc::from(truth)]);
}

#[test]
fn p17_who_spoiled_a_whole_of_several_is_found_before_anybody_is_let_go() {
    let truth = info();
    let mut lie = truth.clone();
    lie[5] ^= 1;
    let mut w = magnet();
    let (liar, good) =
        (speaker(&mut w, 1, Some(truth.len() as u32)), speaker(&mut w, 2, Some(truth.len() as u32)));
    answer(&mut w, &[(liar, &lie), (good, &truth)]);
    assert_eq!(handed_on(&w), [Arc::from(truth)]);
    assert!(w.is_open(good), "an honest peer beside a liar is not taken for one");
}

#[test]
fn r6_bitfields_that_nobody_can_check_are_bounded_and_heard_another_time() {
    let mut w = magnet();
    let info = info();
    let long = vec![0xff; limits::DEFERRED_BITFIELDS_BYTES / 4];
    let peers: Vec<PeerKey> = (1..=12).map(|host| speaker(&mut w, host, Some(info.len() as u32))).collect();
    let kept = |w: &TestWorld| w.engine.swarms.torrents.get(w.torrent).unwrap().deferred_bitfields.bytes();
    for p in &peers[..9] {
        w.say(*p, &[Message::Bitfield { bytes: &long }]);
    }
    w.say(peers[9], &[Message::Bitfield { bytes: &[0b1111_0000] }]);
    assert_eq!(kept(&w), limits::DEFERRED_BITFIELDS_BYTES, "four are kept");
    w.lose(peers[0]);
    assert_eq!(kept(&w), 3 * long.len(), "who goes takes it along");
    w.say(peers[11], &[Message::Bitfield { bytes: &[0b0100_0000] }, Message::Unchoke]);
    answer(&mut w, &[(peers[11], &info)]);
    understand(&mut w, Bitfield::empty(4));
    w.engine.audit();
    assert_eq!(kept(&w), 0);
    assert!(!w.is_open(peers[9]), "it can say again what was not kept");
    assert!(w.is_open(peers[10]) && w.is_open(peers[11]));
    assert!(w.requests(peers[11]).iter().all(|r| r.piece == 1));
}

#[test]
fn p5_a_bitfield_from_before_the_shape_was_known_must_fit_it() {
    for (bytes, fits) in
        [(&[0b1111_0000][..], true), (&[0xff], true), (&[0xff, 0], false), (&[0; 9000], false)]
    {
        let mut w = magnet();
        let info = info();
        let (p, q) = (speaker(&mut w, 1, Some(info.len() as u32)), speaker(&mut w, 2, None));
        w.say(q, &[Message::Bitfield { bytes }, Message::Unchoke]);
        assert!(w.is_open(q), "nobody knows yet");
        answer(&mut w, &[(p, &info)]);
        understand(&mut w, Bitfield::empty(4));
        assert_eq!(w.is_open(q), fits, "{} bytes for four pieces", bytes.len());
    }
}

#[test]
fn p17_who_is_silent_or_refuses_does_not_hold_it_up() {
    let truth = info();
    let mut w = magnet();
    let silent = speaker(&mut w, 1, Some(truth.len() as u32));
    let refusing = speaker(&mut w, 2, Some(truth.len() as u32));
    let good = speaker(&mut w, 3, Some(truth.len() as u32));
    assert!(!asks(&mut w, silent).is_empty());
    for _ in 0..3 {
        for piece in asks(&mut w, refusing) {
            tell(&mut w, refusing, &MetadataMessage::Reject { piece });
        }
        answer(&mut w, &[(good, &truth)]);
        w.pass(10.0);
    }
    assert_eq!(handed_on(&w).len(), 1);
}

#[test]
fn p17_giant_lengths_are_claims_and_no_memory() {
    let mut w = magnet();
    for (host, size) in [(1, u32::MAX), (2, 0), (3, crate::wire::limits::METADATA_BYTES + 1)] {
        let p = speaker(&mut w, host, Some(size));
        assert!(asks(&mut w, p).is_empty(), "{size}");
    }
    let p = speaker(&mut w, 4, Some(crate::wire::limits::METADATA_BYTES));
    assert_eq!(asks(&mut w, p).len(), limits::METADATA_REQUESTS);
}

#[test]
fn we_serve_metadata_piece_by_piece_and_reject_what_there_is_not() {
    let mut w = seed();
    let p = speaker(&mut w, 1, None);
    w.heard(p);
    let info = info();
    for piece in [0, 1, 2, 3, u32::MAX] {
        tell(&mut w, p, &MetadataMessage::Request { piece });
        let from = u64::from(piece) * u64::from(METADATA_PIECE_LEN);
        let bytes = info.chunks(METADATA_PIECE_LEN as usize).nth(piece as usize);
        let expected = match bytes {
            Some(bytes) => MetadataMessage::Data { piece, total_size: info.len() as u32, bytes },
            None => MetadataMessage::Reject { piece },
        };
        assert_eq!(w.heard(p), [Received::Metadata(expected.encode())], "from byte {from}");
    }
}

#[test]
fn p17_a_flood_of_requests_for_metadata_is_held_back() {
    let mut w = seed();
    let p = speaker(&mut w, 1, None);
    w.heard(p);
    w.puppets.get_mut(&p).unwrap().reads = false;
    for _ in 0..1000 {
        tell(&mut w, p, &MetadataMessage::Request { piece: 0 });
    }
    let waiting = w.engine.swarms.connections.get(p).unwrap().peer.wire.encoder.control_bytes();
    assert!(
        waiting <= limits::ENCODER_STOP_READING_BYTES + 2 * METADATA_PIECE_LEN as usize,
        "{waiting} bytes wait"
    );
}

#[test]
fn a_torrent_without_metadata_is_not_complete_and_wants_something_of_trackers() {
    let w = magnet();
    let s = w.engine.stats(w.now, w.torrent).unwrap();
    assert!(!s.complete && s.running);
    assert!(w.engine.swarms.torrents.get(w.torrent).unwrap().left() > 0);
}

#[test]
fn requests_for_content_that_nobody_knows_are_rejected() {
    let mut w = magnet();
    let p = speaker(&mut w, 1, None);
    w.heard(p);
    let raw = crate::engine::testing::raw(0, 0, 16384);
    w.say(p, &[Message::Interested, Message::Request(raw)]);
    assert_eq!(w.heard(p), [Received::Reject(raw)]);
    w.pass(60.0);
    assert!(w.is_open(p));
}
