//! Magnet links: metadata from peers, and metadata for peers (hazards P17, M9 up to parsing).

use crate::engine::testing::{METADATA_ID, PIECE_LEN, Received, TestWorld};
use crate::engine::{Action, DisconnectReason, TorrentInfo, limits};
use crate::units::{Bitfield, Geometry, InfoHash, PeerId, PeerKey};
use crate::wire::{ExtendedHandshake, ExtensionIds, Handshake, METADATA_PIECE_LEN, Message, MetadataMessage};
use sha1::{Digest, Sha1};
use std::sync::Arc;

/// Returns three pieces of metadata, the last one short. The content does not matter here.
fn info() -> Vec<u8> {
    (0..2 * METADATA_PIECE_LEN + 100).map(|n| (n % 251) as u8).collect()
}

fn hash() -> InfoHash {
    InfoHash(Sha1::digest(info()).into())
}

/// Creates a world that knows only the info hash.
fn magnet() -> TestWorld {
    TestWorld::with_setup(|s| {
        s.spec.torrent_info = None;
        s.spec.info_hash = hash();
    })
}

/// Creates a seed that also has the metadata.
fn seed() -> TestWorld {
    TestWorld::with_setup(|s| {
        s.have = Bitfield::full(4);
        s.spec.info_hash = hash();
        s.spec.torrent_info.as_mut().unwrap().info = Some(info().into());
    })
}

/// Connects a peer with `ut_metadata` that reports this metadata size.
fn metadata_peer(w: &mut TestWorld, host: u8, size: Option<u32>) -> PeerKey {
    let p = w.connect(host);
    let theirs =
        Handshake { info_hash: hash(), peer_id: PeerId([host; 20]), fast: true, extended: true, dht: false };
    w.send(p, &theirs.to_bytes());
    let ids = ExtensionIds { ut_metadata: METADATA_ID, ..ExtensionIds::default() };
    let handshake = ExtendedHandshake { ids, metadata_size: size, ..ExtendedHandshake::default() }.encode();
    w.send_messages(p, &[Message::Extended { id: 0, payload: &handshake }]);
    p
}

fn metadata_requests(w: &mut TestWorld, p: PeerKey) -> Vec<u32> {
    let messages = w.received(p);
    let metadata = messages.iter().filter_map(|s| {
        if let Received::Metadata(payload) = s { MetadataMessage::parse(payload) } else { None }
    });
    metadata
        .filter_map(|m| if let MetadataMessage::Request { piece } = m { Some(piece) } else { None })
        .collect()
}

fn send_metadata_message(w: &mut TestWorld, p: PeerKey, message: &MetadataMessage<'_>) {
    w.send_messages(
        p,
        &[Message::Extended { id: ExtensionIds::OURS.ut_metadata, payload: &message.encode() }],
    );
}

/// Answers the metadata requests to these peers, each with its own bytes, until none is left.
fn serve_metadata(w: &mut TestWorld, peers: &[(PeerKey, &[u8])]) {
    loop {
        let mut idle = true;
        for (p, bytes) in peers.iter().filter(|(p, _)| w.is_open(*p)).collect::<Vec<_>>() {
            for piece in metadata_requests(w, *p) {
                idle = false;
                let from = (piece * METADATA_PIECE_LEN) as usize;
                let to = (from + METADATA_PIECE_LEN as usize).min(bytes.len());
                send_metadata_message(
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

fn metadata_results(w: &TestWorld) -> Vec<Arc<[u8]>> {
    w.log
        .iter()
        .filter_map(|a| if let Action::Metadata { info, .. } = a { Some(info.clone()) } else { None })
        .collect()
}

/// Does what the session does with metadata: parses it and opens the files.
fn open_with_metadata(w: &mut TestWorld, have: Bitfield) {
    let geometry = Geometry::new(4 * PIECE_LEN, PIECE_LEN).unwrap();
    let shape =
        TorrentInfo { geometry, wanted: Bitfield::full(4), private: false, info: Some(info().into()) };
    w.engine.on_metadata(w.now, w.torrent, shape, &mut w.out);
    w.engine.on_opened(w.now, w.torrent, have, &mut w.out);
    w.run_actions();
}

#[test]
fn metadata_and_then_content_come_from_the_same_peers() {
    let mut w = magnet();
    let info = info();
    let p = metadata_peer(&mut w, 1, Some(info.len() as u32));
    let q = metadata_peer(&mut w, 2, Some(info.len() as u32));
    // A seed sends HAVE ALL before the number of pieces is known.
    w.send_messages(p, &[Message::HaveAll, Message::Unchoke]);
    w.send_messages(
        q,
        &[Message::Bitfield { bytes: &[0b0100_0000] }, Message::Have { piece: 3 }, Message::Unchoke],
    );
    serve_metadata(&mut w, &[(p, &info), (q, &info)]);
    assert_eq!(metadata_results(&w), [Arc::from(info)]);
    assert!(w.requests(p).is_empty() && !w.is_complete());
    open_with_metadata(&mut w, Bitfield::empty(4));
    w.engine.audit();
    assert!(!w.requests(p).is_empty());
    let of_q = w.requests(q);
    assert!(!of_q.is_empty() && of_q.iter().all(|r| [1, 3].contains(&r.piece)), "{of_q:?}");
    w.serve_all(p);
    w.serve_all(q);
    assert!(w.is_complete());
}

#[test]
fn wanted_pieces_can_change_until_the_torrent_is_open() {
    let mut w = magnet();
    let info = info();
    let p = metadata_peer(&mut w, 1, Some(info.len() as u32));
    w.send_messages(p, &[Message::HaveAll, Message::Unchoke]);
    serve_metadata(&mut w, &[(p, &info)]);
    let geometry = Geometry::new(4 * PIECE_LEN, PIECE_LEN).unwrap();
    let shape = |bits| TorrentInfo {
        geometry,
        wanted: Bitfield::from_wire(&[bits], 4).unwrap(),
        private: false,
        info: None,
    };
    w.engine.on_metadata(w.now, w.torrent, shape(0b1111_0000), &mut w.out);
    w.run_actions();
    w.engine.on_metadata(w.now, w.torrent, shape(0b0010_0000), &mut w.out);
    w.engine.on_opened(w.now, w.torrent, Bitfield::empty(4), &mut w.out);
    // After the torrent is open a change is ignored, because leases may exist.
    w.engine.on_metadata(w.now, w.torrent, shape(0b1111_0000), &mut w.out);
    w.run_actions();
    w.engine.audit();
    let requested = w.requests(p);
    assert!(!requested.is_empty() && requested.iter().all(|r| r.piece == 2), "{requested:?}");
}

#[test]
fn pieces_found_on_disk_are_announced_to_connected_peers() {
    let mut w = magnet();
    let info = info();
    let p = metadata_peer(&mut w, 1, Some(info.len() as u32));
    serve_metadata(&mut w, &[(p, &info)]);
    open_with_metadata(&mut w, Bitfield::from_wire(&[0b1010_0000], 4).unwrap());
    let messages = w.received(p);
    assert!(messages.contains(&Received::Have(0)) && messages.contains(&Received::Have(2)), "{messages:?}");
}

#[test]
fn p17_metadata_is_complete_with_one_honest_peer_among_liars() {
    let good = info();
    let mut bad = good.clone();
    bad[5] ^= 1;
    for (bad, sizes) in [(bad, good.len()), (vec![0; 10], 10), (vec![0; 100_000], 100_000)] {
        let mut w = magnet();
        let liars = [1, 2].map(|host| metadata_peer(&mut w, host, Some(sizes as u32)));
        let honest = metadata_peer(&mut w, 3, Some(good.len() as u32));
        for _ in 0..30 {
            serve_metadata(&mut w, &[(liars[0], &bad), (honest, &good), (liars[1], &bad)]);
            w.advance(10.0);
        }
        assert_eq!(metadata_results(&w), [Arc::from(good.clone())], "{sizes}");
    }
}

#[test]
fn p17_the_only_sender_of_wrong_metadata_is_banned() {
    let good = info();
    let mut bad = good.clone();
    bad[5] ^= 1;
    let mut w = magnet();
    let liar = metadata_peer(&mut w, 1, Some(good.len() as u32));
    serve_metadata(&mut w, &[(liar, &bad)]);
    assert!(!w.is_open(liar));
    assert_eq!(w.banned(), [1]);
    let again = metadata_peer(&mut w, 1, Some(good.len() as u32));
    assert_eq!(w.disconnect_reason(again), Some(DisconnectReason::Banned));
    let honest = metadata_peer(&mut w, 2, Some(good.len() as u32));
    serve_metadata(&mut w, &[(honest, &good)]);
    assert_eq!(metadata_results(&w), [Arc::from(good)]);
}

#[test]
fn p17_an_honest_peer_is_not_banned_for_metadata_that_a_liar_spoiled() {
    let good = info();
    let mut bad = good.clone();
    bad[5] ^= 1;
    let mut w = magnet();
    let liar = metadata_peer(&mut w, 1, Some(good.len() as u32));
    let honest = metadata_peer(&mut w, 2, Some(good.len() as u32));
    serve_metadata(&mut w, &[(liar, &bad), (honest, &good)]);
    assert_eq!(metadata_results(&w), [Arc::from(good)]);
    assert!(w.is_open(honest), "the honest peer stays connected");
}

#[test]
fn r6_bitfields_received_before_the_metadata_are_bounded() {
    let mut w = magnet();
    let info = info();
    let long = vec![0xff; limits::DEFERRED_BITFIELDS_BYTES / 4];
    let peers: Vec<PeerKey> =
        (1..=12).map(|host| metadata_peer(&mut w, host, Some(info.len() as u32))).collect();
    let kept = |w: &TestWorld| w.engine.swarms.torrents.get(w.torrent).unwrap().deferred_bitfields.bytes();
    for p in &peers[..9] {
        w.send_messages(*p, &[Message::Bitfield { bytes: &long }]);
    }
    w.send_messages(peers[9], &[Message::Bitfield { bytes: &[0b1111_0000] }]);
    assert_eq!(kept(&w), limits::DEFERRED_BITFIELDS_BYTES, "four bitfields are kept");
    w.disconnect(peers[0]);
    assert_eq!(kept(&w), 3 * long.len(), "the bitfield of a disconnected peer is dropped");
    w.send_messages(peers[11], &[Message::Bitfield { bytes: &[0b0100_0000] }, Message::Unchoke]);
    serve_metadata(&mut w, &[(peers[11], &info)]);
    open_with_metadata(&mut w, Bitfield::empty(4));
    w.engine.audit();
    assert_eq!(kept(&w), 0);
    assert!(
        !w.is_open(peers[9]),
        "a peer whose bitfield was not kept is disconnected, so that it can send it again"
    );
    assert!(w.is_open(peers[10]) && w.is_open(peers[11]));
    assert!(w.requests(peers[11]).iter().all(|r| r.piece == 1));
}

#[test]
fn p5_a_bitfield_received_before_the_metadata_must_fit_its_piece_count() {
    for (bytes, fits) in
        [(&[0b1111_0000][..], true), (&[0xff], true), (&[0xff, 0], false), (&[0; 9000], false)]
    {
        let mut w = magnet();
        let info = info();
        let p = metadata_peer(&mut w, 1, Some(info.len() as u32));
        let q = metadata_peer(&mut w, 2, None);
        w.send_messages(q, &[Message::Bitfield { bytes }, Message::Unchoke]);
        assert!(w.is_open(q), "the length is not checked yet");
        serve_metadata(&mut w, &[(p, &info)]);
        open_with_metadata(&mut w, Bitfield::empty(4));
        assert_eq!(w.is_open(q), fits, "{} bytes for four pieces", bytes.len());
    }
}

#[test]
fn p17_silent_and_rejecting_peers_do_not_block_the_metadata() {
    let good = info();
    let mut w = magnet();
    let silent = metadata_peer(&mut w, 1, Some(good.len() as u32));
    let refusing = metadata_peer(&mut w, 2, Some(good.len() as u32));
    let honest = metadata_peer(&mut w, 3, Some(good.len() as u32));
    assert!(!metadata_requests(&mut w, silent).is_empty());
    for _ in 0..3 {
        for piece in metadata_requests(&mut w, refusing) {
            send_metadata_message(&mut w, refusing, &MetadataMessage::Reject { piece });
        }
        serve_metadata(&mut w, &[(honest, &good)]);
        w.advance(10.0);
    }
    assert_eq!(metadata_results(&w).len(), 1);
}

#[test]
fn p17_a_metadata_size_above_the_limit_allocates_no_memory() {
    let mut w = magnet();
    for (host, size) in [(1, u32::MAX), (2, 0), (3, crate::wire::limits::METADATA_BYTES + 1)] {
        let p = metadata_peer(&mut w, host, Some(size));
        assert!(metadata_requests(&mut w, p).is_empty(), "{size}");
    }
    let p = metadata_peer(&mut w, 4, Some(crate::wire::limits::METADATA_BYTES));
    assert_eq!(metadata_requests(&mut w, p).len(), limits::METADATA_REQUESTS);
}

#[test]
fn metadata_is_served_by_piece_and_other_requests_are_rejected() {
    let mut w = seed();
    let p = metadata_peer(&mut w, 1, None);
    w.received(p);
    let info = info();
    for piece in [0, 1, 2, 3, u32::MAX] {
        send_metadata_message(&mut w, p, &MetadataMessage::Request { piece });
        let from = u64::from(piece) * u64::from(METADATA_PIECE_LEN);
        let bytes = info.chunks(METADATA_PIECE_LEN as usize).nth(piece as usize);
        let expected = match bytes {
            Some(bytes) => MetadataMessage::Data { piece, total_size: info.len() as u32, bytes },
            None => MetadataMessage::Reject { piece },
        };
        assert_eq!(w.received(p), [Received::Metadata(expected.encode())], "from byte {from}");
    }
}

#[test]
fn p17_a_flood_of_metadata_requests_stops_reading() {
    let mut w = seed();
    let p = metadata_peer(&mut w, 1, None);
    w.received(p);
    w.puppets.get_mut(&p).unwrap().reads = false;
    for _ in 0..1000 {
        send_metadata_message(&mut w, p, &MetadataMessage::Request { piece: 0 });
    }
    let waiting = w.engine.swarms.connections.get(p).unwrap().peer.wire.encoder.control_bytes();
    assert!(
        waiting <= limits::ENCODER_STOP_READING_BYTES + 2 * METADATA_PIECE_LEN as usize,
        "{waiting} bytes are queued"
    );
}

#[test]
fn a_torrent_without_metadata_is_incomplete() {
    let w = magnet();
    let s = w.engine.stats(w.now, w.torrent).unwrap();
    assert!(!s.complete && s.running);
    assert!(w.engine.swarms.torrents.get(w.torrent).unwrap().left() > 0);
}

#[test]
fn block_requests_before_the_metadata_are_rejected() {
    let mut w = magnet();
    let p = metadata_peer(&mut w, 1, None);
    w.received(p);
    let raw = crate::engine::testing::raw(0, 0, 16384);
    w.send_messages(p, &[Message::Interested, Message::Request(raw)]);
    assert_eq!(w.received(p), [Received::Reject(raw)]);
    w.advance(60.0);
    assert!(w.is_open(p));
}

#[test]
fn p16_an_extension_that_is_disabled_and_enabled_again_is_used_at_once() {
    let handshake = |m: &str| format!("d1:md11:ut_metadatai{m}eee").into_bytes();
    // The peer disables the extension while requests are out, or before the first one.
    for disabled_first in [false, true] {
        let mut w = magnet();
        let size = info().len() as u32;
        let p = if disabled_first {
            let p = metadata_peer(&mut w, 1, None);
            w.send_messages(p, &[Message::Extended { id: 0, payload: &handshake("0") }]);
            let named = format!("d13:metadata_sizei{size}ee");
            w.send_messages(p, &[Message::Extended { id: 0, payload: named.as_bytes() }]);
            p
        } else {
            let p = metadata_peer(&mut w, 1, Some(size));
            assert!(!metadata_requests(&mut w, p).is_empty());
            w.send_messages(p, &[Message::Extended { id: 0, payload: &handshake("0") }]);
            p
        };
        w.advance(10.0);
        assert_eq!(metadata_requests(&mut w, p), [], "nothing is requested while it is disabled");
        let again = handshake(&METADATA_ID.to_string());
        w.send_messages(p, &[Message::Extended { id: 0, payload: &again }]);
        w.advance(1.0);
        serve_metadata(&mut w, &[(p, &info())]);
        assert_eq!(metadata_results(&w).len(), 1, "disabled first: {disabled_first}");
    }
}

#[test]
fn p16_a_later_handshake_without_ids_leaves_them_enabled() {
    let mut w = magnet();
    let p = metadata_peer(&mut w, 1, Some(info().len() as u32));
    w.send_messages(p, &[Message::Extended { id: 0, payload: b"d11:upload_onlyi0ee" }]);
    serve_metadata(&mut w, &[(p, &info())]);
    assert_eq!(metadata_results(&w).len(), 1);
}
