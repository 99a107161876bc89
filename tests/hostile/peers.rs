//! Peers that attack during the transfer of a good peer: the good peer keeps nine tenths of its rate, memory
//! grows by at most 4 MiB, and rill is idle after the attack.

use crate::attackers::{Beginning, Done, FloodMessages, flood, slow_loris, storm};
use crate::bystanders::{BLOCK, Leech, Seed};
use crate::lab::Lab;
use crate::rig::{Endless, Target, Unharmed, rill, rill_with_descriptors, trial};
use crate::wire::{Line, bytes, connect, handshake};
use rill::wire::{ExtensionIds, Message, RawSpan};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Pieces of a torrent that no test downloads completely.
const PIECES: u32 = 8192;
/// Bytes of messages that are written at a time.
const BURST: usize = 64 << 10;
/// Message ids under which rill receives extension messages.
const IDS: ExtensionIds = ExtensionIds::OURS;
/// Peers of a flood.
const FLOODERS: u8 = 4;

/// A rill that downloads from one good seed.
fn with_a_seed(test: impl Fn(&Lab, &Seed, Target<'_>, &Unharmed)) {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, PIECES, &[]);
    let seed = Seed::start(9, &torrent);
    test(&lab, &seed, Target::getting(&lab, rill(), &torrent, &[seed.address]), &Unharmed::default());
}

/// A rill that uploads to one good leech.
fn with_a_leech(test: impl Fn(&Leech, Target<'_>, &Unharmed)) {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, 64, &[]);
    let target = Target::seeding(&lab, rill(), &torrent);
    test(&Leech::start(9, target.address(), &torrent), target, &Unharmed::default());
}

/// Repeats the bytes up to the length of one burst.
fn again(bytes: &[u8]) -> Vec<u8> {
    bytes.repeat((BURST / bytes.len()).max(1))
}

fn block(n: u32) -> RawSpan {
    RawSpan { piece: n % 64, begin: 0, len: BLOCK }
}

// ---- floods -----------------------------------------------------------------------------------------------------------

/// Returns bursts of every kind of small message.
fn small_messages() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let none = bytes(&[Message::HaveNone]);
    let all = bytes(&[Message::HaveAll]);
    let of = |messages: &[Message<'_>]| again(&bytes(messages));
    let many = |message: fn(u32) -> Vec<u8>| again(&(0..512).flat_map(message).collect::<Vec<_>>());
    let not_known = |id: u8| again(&[0, 0, 0, 5, id, 1, 2, 3, 4]);
    let extended = |id: u8, payload: &[u8]| of(&[Message::Extended { id, payload }]);
    vec![
        ("keep-alive", none.clone(), of(&[Message::KeepAlive])),
        ("choke, unchoke", all.clone(), of(&[Message::Unchoke, Message::Choke])),
        ("choke", none.clone(), of(&[Message::Choke])),
        ("interested, not interested", none.clone(), of(&[Message::Interested, Message::NotInterested])),
        ("have", none.clone(), many(|n| bytes(&[Message::Have { piece: n }]))),
        ("have all, late", none.clone(), of(&[Message::HaveAll])),
        (
            "request, cancel",
            none.clone(),
            many(|n| bytes(&[Message::Request(block(n)), Message::Cancel(block(n))])),
        ),
        ("allowed fast", all.clone(), many(|n| bytes(&[Message::AllowedFast { piece: n }]))),
        ("suggest", all.clone(), many(|n| bytes(&[Message::Suggest { piece: n }]))),
        ("reject", all.clone(), many(|n| bytes(&[Message::Reject(block(n))]))),
        (
            "unchoke, reject",
            [all.clone(), bytes(&[Message::Unchoke])].concat(),
            many(|n| bytes(&[Message::Reject(block(n))])),
        ),
        ("port", none.clone(), of(&[Message::Port { port: 6881 }])),
        ("extension handshake", none.clone(), extended(0, b"d1:md6:ut_pexi1e11:ut_metadatai2ee4:reqqi250ee")),
        ("unknown extension", none.clone(), extended(99, b"d1:xi1ee")),
        ("request for metadata", none.clone(), extended(IDS.ut_metadata, b"d8:msg_typei0e5:piecei0ee")),
        (
            "peer exchange",
            none.clone(),
            extended(IDS.ut_pex, b"d5:added6:\x05\x06\x07\x08\x1a\xe17:added.f1:\0e"),
        ),
        ("lost piece", all, extended(IDS.lt_donthave, &[0, 0, 0, 1])),
        ("unknown number", none.clone(), not_known(200)),
        ("hash request", none, not_known(21)),
    ]
}

/// Floods rill while it downloads from the good seed, and checks that the seed and rill are not slowed down.
fn assert_flood_costs_nothing(
    what: &str,
    messages: &FloodMessages,
    seed: &Seed,
    target: Target<'_>,
    unharmed: &Unharmed,
) {
    let done = Done::default();
    let cost = trial(target, &seed.uploaded, unharmed, || flood(target, FLOODERS, messages, &done));
    let sent = done.bytes.load(Relaxed);
    let connections = done.connections.load(Relaxed);
    println!("{what}: {connections} connections, {} KiB", sent / 1024);
    // rill either accepts the flood or disconnects the attacker, which then connects again.
    assert!(sent > 8 << 20 || connections > 50, "{what}: only {sent} bytes in {connections} connections");
    cost.assert_small(what);
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn p15_a_flood_of_any_small_message_costs_the_good_peer_nothing() {
    with_a_seed(|_, seed, target, unharmed| {
        for (what, first, burst) in small_messages() {
            assert_flood_costs_nothing(
                what,
                &FloodMessages { first, burst, reads: true },
                seed,
                target,
                unharmed,
            );
        }
        seed.paused.store(true, Relaxed);
        target.assert_idle();
    });
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn p10_a_flood_of_requests_costs_the_good_peer_nothing() {
    with_a_leech(|leech, target, unharmed| {
        let first = bytes(&[Message::HaveNone, Message::Interested]);
        let valid = again(&(0..512).flat_map(|n| bytes(&[Message::Request(block(n))])).collect::<Vec<_>>());
        let cancelled = again(
            &(0..512)
                .flat_map(|n| bytes(&[Message::Request(block(n)), Message::Cancel(block(n))]))
                .collect::<Vec<_>>(),
        );
        let nowhere =
            again(&bytes(&[Message::Request(RawSpan { piece: u32::MAX, begin: u32::MAX, len: u32::MAX })]));
        for (what, burst) in
            [("valid requests", valid), ("requests and cancels", cancelled), ("requests of nothing", nowhere)]
        {
            let done = Done::default();
            let messages = FloodMessages { first: first.clone(), burst, reads: true };
            let cost =
                trial(target, &leech.downloaded, unharmed, || flood(target, FLOODERS, &messages, &done));
            assert!(done.bytes.load(Relaxed) > 100_000, "{what}: nothing was sent");
            cost.assert_small(what);
        }
    });
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn p14_peers_that_ask_and_never_read_cost_the_good_peer_nothing() {
    with_a_leech(|leech, target, unharmed| {
        let requests = (0..512).flat_map(|n| bytes(&[Message::Request(block(n))])).collect::<Vec<_>>();
        let first = bytes(&[
            Message::HaveNone,
            Message::Interested,
            Message::Extended { id: 0, payload: b"d1:md11:ut_metadatai2eee" },
        ]);
        let metadata =
            bytes(&[Message::Extended { id: IDS.ut_metadata, payload: b"d8:msg_typei0e5:piecei0ee" }]);
        for (what, burst) in [("for blocks", requests), ("for metadata", metadata)] {
            let done = Done::default();
            let messages = FloodMessages { first: first.clone(), burst: again(&burst), reads: false };
            let cost = trial(target, &leech.downloaded, unharmed, || flood(target, 7, &messages, &done));
            assert!(done.bytes.load(Relaxed) > 50_000, "nothing was sent");
            cost.assert_small(&format!("peers that ask {what} and never read"));
        }
    });
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn p16_giant_extension_handshakes_cost_the_good_peer_nothing() {
    let handshake = |payload: Vec<u8>| bytes(&[Message::Extended { id: 0, payload: &payload }]);
    let keys = |n: u32| {
        let m: Vec<u8> = (0..n).flat_map(|i| format!("8:k{i:07}i{}e", i % 256).into_bytes()).collect();
        handshake([b"d1:md", &m[..], b"ee"].concat())
    };
    with_a_seed(|_, seed, target, unharmed| {
        for (what, burst) in [
            ("2,000 keys in 32 KiB", keys(2_000)),
            ("60,000 keys in 900 KiB", keys(60_000)),
            (
                "30,000 levels",
                handshake([&b"d1:m"[..], &vec![b'l'; 30_000], &vec![b'e'; 30_000][..], b"e"].concat()),
            ),
            ("1 MiB of names", handshake(vec![b'd'; (1 << 20) - 2])),
        ] {
            let messages = FloodMessages { first: bytes(&[Message::HaveNone]), burst, reads: true };
            assert_flood_costs_nothing(what, &messages, seed, target, unharmed);
        }
        seed.paused.store(true, Relaxed);
        target.assert_idle();
    });
}

// ---- connections --------------------------------------------------------------------------------------------------------

/// Beginnings of slow connections.
static SLOWNESS: [Beginning; 4] = [
    |hash| (Vec::new(), handshake(hash).to_vec()),
    |hash| ([&handshake(hash)[..], &[0, 0, 0, 13]].concat(), Vec::new()),
    // An unknown message of a megabyte and an extension message of 32 KiB, sent one byte a second.
    |hash| ([&handshake(hash)[..], &(1u32 << 20).to_be_bytes(), &[200]].concat(), vec![0; 600]),
    |hash| ([&handshake(hash)[..], &(32u32 << 10).to_be_bytes(), &[20, 0, b'd']].concat(), vec![b'1'; 600]),
];

#[test]
#[ignore = "measures: wants the machine for itself"]
fn p12_two_hundred_slow_connections_cost_the_good_peer_nothing() {
    with_a_seed(|_, seed, target, unharmed| {
        let done = Done::default();
        let cost = trial(target, &seed.uploaded, unharmed, || slow_loris(target, 200, &SLOWNESS, &done));
        assert!(done.connections.load(Relaxed) >= 600, "not all came");
        cost.assert_small("two hundred slow connections");
        // While the slow connections are open and nothing else happens, rill is idle.
        seed.paused.store(true, Relaxed);
        let _attack = slow_loris(target, 200, &SLOWNESS[1..], &done);
        std::thread::sleep(Duration::from_millis(500));
        target.assert_idle();
    });
}

/// A peer that connects while attackers fill the accept queue is accepted within ten attempts.
#[test]
#[ignore = "measures: wants the machine for itself"]
fn p12_a_newcomer_gets_in_beside_two_hundred_connections_that_never_say_who_they_are() {
    with_a_seed(|lab, _, target, _| {
        let done = Done::default();
        let _attack = slow_loris(target, 200, &SLOWNESS[..1], &done);
        lab.wait_for("all have come", || done.connections.load(Relaxed) >= 200);
        let begun = Instant::now();
        let got_in = (0..10).find(|_| {
            Line::dial(Ipv4Addr::new(127, 0, 0, 77).into(), target.address(), target.info_hash).is_ok()
        });
        assert!(got_in.is_some(), "ten tries in {:?} without an answer", begun.elapsed());
    });
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn p13_ten_thousand_connects_and_closes_with_64_descriptors_cost_the_good_peer_nothing() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, PIECES, &[]);
    let seed = Seed::start(9, &torrent);
    let target = Target::getting(&lab, rill_with_descriptors(64), &torrent, &[seed.address]);
    lab.wait_for("it downloads", || seed.uploaded.load(Relaxed) > 0);
    let before = target.descriptors();
    let done = Done::default();
    let cost = trial(target, &seed.uploaded, &Unharmed::default(), || storm(target, &done));
    let connections = done.connections.load(Relaxed);
    println!("{connections} connections");
    assert!(connections >= 10_000, "only {connections} connections");
    cost.assert_small("a storm of connections");
    lab.wait_for("the descriptors of the storm are closed", || target.descriptors() <= before + 1);
    seed.paused.store(true, Relaxed);
    target.assert_idle();
}

/// Opens connections and completes their handshakes, so that only descriptors limit them.
fn open_connections(target: Target<'_>, connections: u8) -> Vec<TcpStream> {
    let dial = |n: u8| {
        let mut stream = connect(Ipv4Addr::new(127, 63, 0, n).into(), target.address()).unwrap();
        // Without a free descriptor, rill may have closed the connection already.
        let _ = stream.write_all(&handshake(target.info_hash));
        stream
    };
    (1..=connections).map(dial).collect()
}

#[test]
fn r5_without_descriptors_the_loop_accepts_no_peer_does_not_spin_and_recovers_when_some_are_free() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, PIECES, &[]);
    let seed = Seed::start(9, &torrent);
    let target = Target::getting(&lab, rill(), &torrent, &[seed.address]);
    lab.wait_for("it downloads", || seed.uploaded.load(Relaxed) > 1 << 20);
    let limit = target.limit_descriptors(6);
    let mut held = open_connections(target, 20);
    lab.wait_for("rill has no descriptor left", || target.has_all_below(limit));
    let uploaded = seed.uploaded.load(Relaxed);
    lab.wait_for("the download goes on", || seed.uploaded.load(Relaxed) > uploaded + (1 << 20));
    seed.paused.store(true, Relaxed);
    target.assert_idle();
    // A peer in the accept queue is accepted when other connections close.
    held.drain(..16).for_each(drop);
    let last = held.last_mut().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    last.read_exact(&mut [0; 68]).expect("the queued connection is answered");
}

#[test]
fn r5_incoming_connections_leave_descriptors_for_the_files() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, PIECES, &[]);
    let seed = Seed::start(9, &torrent);
    seed.paused.store(true, Relaxed);
    let target = Target::getting(&lab, rill_with_descriptors(48), &torrent, &[seed.address]);
    lab.wait_for("rill connects to the seed", || seed.connected.load(Relaxed));
    // The file is opened when the first block arrives; at that time there are more peers than
    // descriptors.
    let _held = open_connections(target, 60);
    lab.wait_for("they have come", || target.descriptors() >= 30);
    seed.paused.store(false, Relaxed);
    lab.wait_for("rill downloads", || {
        target.json_objects().iter().any(|object| object["pieces_have"].as_u64() > Some(4))
    });
}
