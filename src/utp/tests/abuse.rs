//! What forged packets and unfriendly peers can't do.

use super::*;
use crate::wire::{UtpHeader, UtpKind};

fn packet(kind: UtpKind, connection_id: u16, seq: u16, ack: u16) -> Vec<u8> {
    let header =
        UtpHeader { kind, connection_id, timestamp_us: 1, difference_us: 0, window_bytes: 100_000, seq, ack };
    let mut bytes = Vec::new();
    UtpPacket { header, selective_ack: &[], payload: &[] }.write(&mut bytes);
    bytes
}

/// Returns the packets that an endpoint sends now.
fn sent(endpoint: &mut Endpoint, now_us: u64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut bytes = Vec::new();
    while endpoint.next_packet(now_us, &mut bytes).is_some() {
        all.push(std::mem::take(&mut bytes));
    }
    all
}

#[test]
fn u4_an_unproven_address_gets_no_more_bytes_than_it_sent_and_takes_no_place() {
    let mut endpoint = endpoint(10, 1);
    let mut answered = 0;
    for n in 0..10_000u32 {
        let from = SocketAddr::from((n.to_be_bytes(), 6881));
        endpoint.on_datagram(0, 0, from, &packet(UtpKind::Syn, 5, 1, 0));
        // Forged: neither returns the number that the answer holds.
        endpoint.on_datagram(0, 0, from, &packet(UtpKind::State, 6, 2, 0));
        endpoint.on_datagram(0, 0, from, &packet(UtpKind::Data, 900, 2, 0));
        let answers = sent(&mut endpoint, 0);
        assert!(answers.iter().map(Vec::len).sum::<usize>() <= 20);
        answered += answers.len();
    }
    assert_eq!((answered, endpoint.streams()), (10_000, 0));
    // SYNs that come faster than the answers can leave get none.
    for n in 0..10_000u32 {
        let from = SocketAddr::from((n.to_be_bytes(), 6881));
        endpoint.on_datagram(0, 0, from, &packet(UtpKind::Syn, 5, 1, 0));
    }
    assert_eq!(sent(&mut endpoint, 0).len(), ANSWERS);
    assert_eq!((endpoint.next_event(), endpoint.next_deadline()), (None, None));
}

#[test]
fn u4_the_answer_to_a_syn_opens_a_stream_only_for_its_address_and_only_for_a_while() {
    let caller = |n: u8| SocketAddr::from(([192, 0, 2, n], 6881));
    let opens = |from: SocketAddr, at_us: u64, seq: u16| {
        let mut endpoint = endpoint(10, 1);
        endpoint.on_datagram(0, 0, caller(1), &packet(UtpKind::Syn, 5, 1, 0));
        let answer = sent(&mut endpoint, 0).pop().unwrap();
        let ack = UtpPacket::parse(&answer).unwrap().header.seq.wrapping_sub(1);
        endpoint.on_datagram(at_us, 0, from, &packet(UtpKind::Data, 6, seq, ack));
        endpoint.streams() == 1
    };
    assert!(opens(caller(1), 0, 2) && opens(caller(1), ANSWER_US, 2));
    assert!(opens(caller(1), 0, 3), "the second packet overtook the first");
    assert!(!opens(caller(2), 0, 2), "another address");
    assert!(!opens(caller(1), 0, 4), "another packet");
    assert!(!opens(caller(1), 2 * ANSWER_US, 2), "too late");
}

#[test]
fn u5_a_forged_acknowledgement_or_reset_does_not_disturb_a_stream() {
    let mut world = World::new(3, Path { delay_us: 10_000, ..Path::default() });
    let mut transfer = Transfer::start(&mut world, [100_000, 100]);
    transfer.run(&mut world, 60 * SECOND);
    let now_us = world.now_us;
    for id in 0..=u16::MAX {
        for kind in [UtpKind::Reset, UtpKind::State] {
            // A blind forger knows the address, tries every id, and guesses an acknowledgement.
            world.ends[0].on_datagram(now_us, 0, addr(1), &packet(kind, id, 7, 40_000));
        }
    }
    transfer.serve(&mut world);
    assert_eq!(transfer.closed, [false; 2]);
    transfer.lens = [150_000, 100];
    transfer.run(&mut world, 120 * SECOND);
}

#[test]
fn u6_a_peer_that_never_opens_its_window_gets_one_packet_in_a_while_and_holds_no_memory() {
    let mut world = World::new(4, Path { delay_us: 10_000, ..Path::default() });
    let mut transfer = Transfer::start(&mut world, [3 << 20, 10]);
    // The reader stops once the stream is accepted: its buffer fills.
    while transfer.keys[1].is_none() {
        transfer.serve(&mut world);
        world.step();
    }
    let reader = transfer.keys[1].take();
    while world.now_us < 300 * SECOND {
        transfer.serve(&mut world);
        world.step();
    }
    let (held, _) = world.ends[1].held_bytes();
    assert!((FIRST_RECEIVE_BYTES - 4_000..=FIRST_RECEIVE_BYTES).contains(&held), "{held}");
    assert!(world.ends[0].held_bytes().1 <= SEND_BYTES);
    let before = world.packets[0];
    let until = world.now_us + 150 * SECOND;
    while world.now_us < until {
        transfer.serve(&mut world);
        world.step();
    }
    assert!(world.packets[0] - before < 60, "{} packets", world.packets[0] - before);
    transfer.keys[1] = reader;
    transfer.run(&mut world, 900 * SECOND);
}

/// A forger who knows the address and even the id has to guess an acknowledgement, too.
#[test]
fn u5_data_counts_only_if_it_acknowledges_a_late_packet_of_the_stream() {
    let mut world = World::new(3, Path { delay_us: 10_000, ..Path::default() });
    let mut transfer = Transfer::start(&mut world, [10_000, 100]);
    transfer.run(&mut world, 60 * SECOND);
    while world.ends[0].held_bytes().1 > 0 {
        world.step();
    }
    let now_us = world.now_us + KEEPALIVE_US;
    world.ends[0].on_deadline(now_us);
    let keepalive = sent(&mut world.ends[0], now_us).pop().unwrap();
    let header = UtpPacket::parse(&keepalive).unwrap().header;
    let key = transfer.keys[0].unwrap();
    let mut forge = |ack: u16| {
        let id = header.connection_id.wrapping_sub(1);
        let mut bytes = packet(UtpKind::Data, id, header.ack.wrapping_add(1), ack);
        bytes.extend(b"forged");
        world.ends[0].on_datagram(now_us, 0, addr(1), &bytes);
        world.ends[0].read(key, &mut [0; 10])
    };
    let acked = header.seq.wrapping_sub(1);
    let believed = |ack: u16| acked.wrapping_sub(ack) < 64;
    for ack in (0..=u16::MAX).filter(|ack| !believed(*ack)) {
        assert_eq!(forge(ack), UtpRead::NotNow, "{ack} of {acked}");
    }
    assert_eq!(forge(acked), UtpRead::Moved(6));
}

#[test]
fn u5_a_reset_counts_only_if_it_names_a_packet_of_the_stream() {
    let mut world = World::new(3, Path { delay_us: 10_000, ..Path::default() });
    let mut transfer = Transfer::start(&mut world, [10_000, 100]);
    transfer.run(&mut world, 60 * SECOND);
    while world.ends[0].held_bytes().1 > 0 {
        world.step();
    }
    let now_us = world.now_us + KEEPALIVE_US;
    world.ends[0].on_deadline(now_us);
    let keepalive = sent(&mut world.ends[0], now_us).pop().unwrap();
    let header = UtpPacket::parse(&keepalive).unwrap().header;
    let near = |ack: u16| header.seq.wrapping_sub(ack) <= 4;
    for ack in (0..=u16::MAX).filter(|ack| !near(*ack)) {
        for id in header.connection_id.wrapping_sub(2)..=header.connection_id.wrapping_add(2) {
            world.ends[0].on_datagram(now_us, 0, addr(1), &packet(UtpKind::Reset, id, 7, ack));
        }
    }
    transfer.serve(&mut world);
    assert_eq!(transfer.closed, [false; 2]);
    // The dialer receives with the id before the one that it sends with; 2 before is no id of the stream.
    let before = header.connection_id.wrapping_sub(2);
    world.ends[0].on_datagram(now_us, 0, addr(1), &packet(UtpKind::Reset, before, 7, header.seq));
    transfer.serve(&mut world);
    assert_eq!(transfer.closed, [false; 2]);
    world.ends[0].on_datagram(
        now_us,
        0,
        addr(1),
        &packet(UtpKind::Reset, header.connection_id, 7, header.seq),
    );
    transfer.serve(&mut world);
    assert_eq!(transfer.closed, [true, false]);
}

#[test]
fn u5_the_ids_of_streams_depend_on_a_secret_seed() {
    let ids = |seed: u64| {
        let mut endpoint = endpoint(100, seed);
        let dialed: Vec<_> = (0..50).map(|_| endpoint.dial(0, 0, addr(1))).collect();
        assert!(dialed.iter().all(Option::is_some));
        sent(&mut endpoint, 0).iter().map(|syn| [syn[2], syn[3], syn[16], syn[17]]).collect::<Vec<_>>()
    };
    assert_eq!(ids(1), ids(1));
    let differing = ids(1).iter().zip(ids(2)).filter(|(a, b)| **a != *b).count();
    assert_eq!(differing, 50);
    let mut numbers: Vec<u32> = ids(1).into_iter().map(u32::from_be_bytes).collect();
    numbers.dedup_by_key(|number| *number >> 16);
    assert!(numbers.len() >= 49, "the next id does not follow from the last");
}

#[test]
fn u6_events_that_are_not_fetched_stay_few() {
    let mut world = World::new(9, Path { delay_us: 1_000, ..Path::default() });
    let mut transfer = Transfer::start(&mut world, [10_000, 10_000]);
    transfer.run(&mut world, 60 * SECOND);
    let (writer, reader) = (transfer.keys[0].unwrap(), transfer.keys[1].unwrap());
    while world.ends[1].next_event().is_some() {}
    for _ in 0..1_000 {
        world.ends[0].write(writer, &[IoSlice::new(&[1; 20])]);
        world.step();
        world.step();
        while world.ends[1].read(reader, &mut [0; 100]) != UtpRead::NotNow {}
    }
    let events = std::iter::from_fn(|| world.ends[1].next_event()).count();
    assert!((1..=2).contains(&events), "{events} events of one stream");
    // Dials that fail: their places are free once the owner knows it.
    let mut endpoint = endpoint(10, 1);
    let dialed = (0..100).filter_map(|_| endpoint.dial(0, 0, addr(1))).count();
    sent(&mut endpoint, 0);
    for try_us in [3, 9, 21].map(|second| second * SECOND) {
        endpoint.on_deadline(try_us);
        sent(&mut endpoint, try_us);
    }
    assert_eq!((dialed, endpoint.dial(22 * SECOND, 0, addr(1))), (10, None));
    assert_eq!(std::iter::from_fn(|| endpoint.next_event()).count(), 10);
    assert!(endpoint.dial(22 * SECOND, 0, addr(1)).is_some());
}

/// The budget of the test below: 200 kept packets.
const ALL: usize = 200 * (1_000 + PACKET_COST_BYTES);

/// Bad streams fill the budget with packets out of order, which never become readable. A good one goes on.
#[test]
fn u7_streams_that_hold_all_memory_do_not_stop_another() {
    let mut world = World::new(9, Path { delay_us: 1_000, ..Path::default() });
    let budget = UtpBudget { streams: 100, receive_bytes: ALL, send_bytes: 64 * 1024 };
    world.ends[1] = Endpoint::new(budget, [9; 32]);
    for host in 10..30 {
        let from = SocketAddr::from(([192, 0, 2, host], 6881));
        let end = &mut world.ends[1];
        end.on_datagram(0, 0, from, &packet(UtpKind::Syn, 5, 1, 0));
        let answer = sent(end, 0).pop().unwrap();
        let seq = UtpPacket::parse(&answer).unwrap().header.seq;
        for n in 0..1_000 {
            let header = UtpHeader {
                kind: UtpKind::Data,
                connection_id: 6,
                timestamp_us: 1,
                difference_us: 0,
                window_bytes: 100_000,
                seq: 3 + n,
                ack: seq.wrapping_sub(1),
            };
            let mut bytes = Vec::new();
            UtpPacket { header, selective_ack: &[], payload: &[7; 1_000] }.write(&mut bytes);
            end.on_datagram(0, 0, from, &bytes);
        }
        sent(end, 0);
    }
    let held = world.ends[1].held_bytes().0;
    assert!((ALL..=ALL + 20 * OWN_RECEIVE_BYTES).contains(&held), "{held} bytes are held");
    while world.ends[1].next_event().is_some() {}
    let mut transfer = Transfer::start(&mut world, [100_000, 100_000]);
    transfer.run(&mut world, 20 * SECOND);
    assert_eq!((transfer.dialed_again, transfer.closed), (0, [false; 2]));
}

/// A caller for whom there is no room holds none: its stream is gone at once, and it learns why.
#[test]
fn u7_a_refused_stream_is_reset_and_takes_no_place() {
    let mut world = World::new(4, Path { delay_us: 1_000, ..Path::default() });
    let mut transfer = Transfer::start(&mut world, [100, 0]);
    while transfer.keys[1].is_none() {
        world.step();
        transfer.serve(&mut world);
    }
    world.ends[1].refuse(world.clock(1), transfer.keys[1].unwrap());
    assert_eq!((world.ends[1].streams(), world.ends[1].held_bytes()), (0, (0, 0)));
    world.step();
    transfer.serve(&mut world);
    assert_eq!((transfer.closed, world.ends[1].next_event()), ([true, false], None));
}
