//! Two endpoints and a link between them in virtual time: loss, delay, reordering, duplicates, and a drop-tail
//! bottleneck.

use super::limits::*;
use super::{Endpoint, UtpEvent, UtpRead};
use crate::units::{Rng, UtpKey};
use crate::wire::{UtpHeader, UtpKind, UtpPacket};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::SocketAddr;

/// One direction of the link.
#[derive(Clone, Copy, Default)]
struct Path {
    delay_us: u64,
    jitter_us: u64,
    loss_percent: usize,
    duplicate_percent: usize,
    /// Bytes a second of the bottleneck; 0 without one.
    rate: u64,
    /// Bytes that wait at most at the bottleneck.
    queue_bytes: u64,
    /// When the bottleneck has sent what it took.
    free_at_us: u64,
}

impl Path {
    /// Returns when a packet arrives; `None` if it is lost.
    fn pass(&mut self, now_us: u64, len: usize, rng: &mut Rng) -> Option<u64> {
        if rng.below(100) < self.loss_percent {
            return None;
        }
        let mut at = now_us;
        if self.rate > 0 {
            let waits = self.free_at_us.saturating_sub(now_us);
            if waits * self.rate / 1_000_000 > self.queue_bytes {
                return None;
            }
            // A packet costs the headers of IP and UDP, too.
            self.free_at_us = now_us.max(self.free_at_us) + (len as u64 + 28) * 1_000_000 / self.rate;
            at = self.free_at_us;
        }
        Some(at + self.delay_us + rng.below(self.jitter_us as usize + 1) as u64)
    }
}

struct World {
    now_us: u64,
    ends: [Endpoint; 2],
    paths: [Path; 2],
    /// The clock of the second end runs so many millionths faster.
    skew_ppm: i64,
    clock_offset_us: u64,
    flying: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    sequence: u64,
    rng: Rng,
    packets: [u64; 2],
    wakeups: u64,
}

fn addr(end: usize) -> SocketAddr {
    format!("192.0.2.{}:6881", end + 1).parse().unwrap()
}

impl World {
    fn new(seed: u64, path: Path) -> World {
        World {
            now_us: 0,
            ends: [Endpoint::new(100, seed), Endpoint::new(100, seed + 1)],
            paths: [path; 2],
            skew_ppm: 0,
            clock_offset_us: 0,
            flying: BTreeMap::new(),
            sequence: 0,
            rng: Rng::new(seed + 2),
            packets: [0; 2],
            wakeups: 0,
        }
    }

    fn clock(&self, end: usize) -> u64 {
        match end {
            0 => self.now_us,
            _ => {
                let skew = self.now_us as i64 / 1_000_000 * self.skew_ppm
                    + self.now_us as i64 % 1_000_000 * self.skew_ppm / 1_000_000;
                self.clock_offset_us + self.now_us.saturating_add_signed(skew)
            }
        }
    }

    /// Puts what the endpoints send onto the link.
    fn collect(&mut self) {
        for end in 0..2 {
            let mut bytes = Vec::new();
            while let Some(to) = self.ends[end].next_packet(self.clock(end), &mut bytes) {
                assert_eq!(to, addr(1 - end));
                self.packets[end] += 1;
                let copies = 1 + usize::from(self.rng.below(100) < self.paths[end].duplicate_percent);
                for _ in 0..copies {
                    if let Some(at) = self.paths[end].pass(self.now_us, bytes.len(), &mut self.rng) {
                        self.sequence += 1;
                        self.flying.insert((at, self.sequence), (1 - end, bytes.clone()));
                    }
                }
                bytes.clear();
            }
        }
    }

    /// Goes on to the next arrival or deadline; false if there is none.
    fn step(&mut self) -> bool {
        self.collect();
        let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
        let deadline = |end: usize| {
            let left = self.ends[end].next_deadline()?.saturating_sub(self.clock(end));
            Some(self.now_us + (left + left / 1_000).max(1))
        };
        let Some(next) = [arrival, deadline(0), deadline(1)].into_iter().flatten().min() else {
            return false;
        };
        self.now_us = self.now_us.max(next);
        self.wakeups += 1;
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now_us) {
            let (end, bytes) = entry.remove();
            let now_us = self.clock(end);
            self.ends[end].on_datagram(now_us, addr(1 - end), &bytes);
        }
        for end in 0..2 {
            let now_us = self.clock(end);
            self.ends[end].on_deadline(now_us);
        }
        true
    }
}

/// Returns the byte at a position of the test stream.
fn byte(at: usize) -> u8 {
    (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

/// Sends `len` bytes from the first end to the second and `back` bytes the other way; returns when the last
/// byte was read.
struct Transfer {
    keys: [Option<UtpKey>; 2],
    written: [usize; 2],
    read: [usize; 2],
    ended: [bool; 2],
    closed: [bool; 2],
    lens: [usize; 2],
}

impl Transfer {
    fn start(world: &mut World, lens: [usize; 2]) -> Transfer {
        let now_us = world.clock(0);
        let key = world.ends[0].dial(now_us, addr(1)).unwrap();
        Transfer {
            keys: [Some(key), None],
            written: [0; 2],
            read: [0; 2],
            ended: [false; 2],
            closed: [false; 2],
            lens,
        }
    }

    /// Reads and writes what is possible.
    fn serve(&mut self, world: &mut World) {
        for end in 0..2 {
            while let Some(event) = world.ends[end].next_event() {
                match event {
                    UtpEvent::Accepted(key, from) => {
                        assert_eq!((end, from), (1, addr(0)));
                        self.keys[1] = Some(key);
                    }
                    // The dial failed, or its first packets were lost until the peer forgot the SYN: once more.
                    UtpEvent::Closed(_) if self.keys[1].is_none() => {
                        self.keys[0] = world.ends[0].dial(world.now_us, addr(1));
                        self.written[0] = 0;
                    }
                    UtpEvent::Closed(key) => {
                        assert_eq!(self.keys[end], Some(key));
                        self.closed[end] = true;
                    }
                    _ => {}
                }
            }
            let Some(key) = self.keys[end] else { continue };
            let mut room = [0; 5_000];
            loop {
                match world.ends[end].read(key, &mut room) {
                    UtpRead::Moved(n) => {
                        let at = self.read[end];
                        assert!(room[..n].iter().enumerate().all(|(i, b)| *b == byte(at + i)), "at {at}");
                        self.read[end] += n;
                    }
                    UtpRead::NotNow => break,
                    UtpRead::Ended => {
                        self.ended[end] = true;
                        break;
                    }
                }
            }
            while self.written[end] < self.lens[end] {
                let at = self.written[end];
                let part: Vec<u8> = (at..self.lens[end].min(at + 20_000)).map(byte).collect();
                let taken = world.ends[end].write(
                    key,
                    &[IoSlice::new(&part[..part.len() / 2]), IoSlice::new(&part[part.len() / 2..])],
                );
                self.written[end] += taken;
                if taken < part.len() {
                    break;
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.read == [self.lens[1], self.lens[0]]
    }

    /// Runs until all bytes have arrived, at most `limit_us`.
    fn run(&mut self, world: &mut World, limit_us: u64) {
        while !self.is_complete() {
            self.serve(world);
            assert!(world.step(), "both ends wait forever: {:?} of {:?}", self.read, self.lens);
            assert!(
                world.now_us < limit_us,
                "{:?} of {:?} bytes, closed {:?}",
                self.read,
                self.lens,
                self.closed
            );
            for end in &world.ends {
                let (held, unacknowledged) = end.held_bytes();
                assert!(held <= RECEIVE_ALL_BYTES && unacknowledged <= SEND_BYTES);
            }
            self.serve(world);
        }
    }
}

const SECOND: u64 = 1_000_000;

fn schedule(seed: u64) {
    let mut rng = Rng::new(seed);
    let path = Path {
        delay_us: rng.below(100_000) as u64,
        jitter_us: rng.below(50_000) as u64,
        loss_percent: rng.below(21),
        duplicate_percent: rng.below(20),
        ..Path::default()
    };
    let mut world = World::new(seed, path);
    world.clock_offset_us = u64::from(rng.u32());
    let lens = [1 + rng.below(200_000), 1 + rng.below(50_000)];
    let mut transfer = Transfer::start(&mut world, lens);
    transfer.run(&mut world, 3_000 * SECOND);
    let packets = world.packets[0] + world.packets[1];
    assert!(world.wakeups < 20 * packets + 1_000, "{} wake-ups for {packets} packets", world.wakeups);
    for end in 0..2 {
        world.ends[end].close(transfer.keys[end].unwrap());
    }
    while world.step() {
        assert!(world.now_us < 6_000 * SECOND, "streams do not end");
    }
    assert_eq!([world.ends[0].streams(), world.ends[1].streams()], [0, 0]);
    assert_eq!(world.ends.each_ref().map(Endpoint::held_bytes), [(0, 0); 2]);
}

#[test]
fn u3_any_schedule_of_loss_reorder_and_duplicates_gives_the_same_bytes() {
    (0..300).for_each(schedule);
}

#[test]
#[ignore = "takes minutes: the long form"]
fn u3_ten_thousand_schedules_give_the_same_bytes() {
    (300..10_300).for_each(schedule);
}

#[test]
fn alone_ledbat_fills_the_link_and_keeps_the_queue_at_its_target() {
    let rate = 250_000;
    let path = Path { delay_us: 20_000, rate, queue_bytes: 125_000, ..Path::default() };
    for (skew_ppm, reverse_delay_us) in [(0, 20_000), (200, 20_000), (-200, 20_000), (0, 150_000)] {
        let mut world = World::new(7, path);
        (world.skew_ppm, world.paths[1].delay_us) = (skew_ppm, reverse_delay_us);
        world.clock_offset_us = 3_000_000_000;
        let mut transfer = Transfer::start(&mut world, [30_000_000, 0]);
        let mut from = None;
        let (mut queue_us, mut samples) = (0, 0);
        while world.now_us < 100 * SECOND {
            transfer.serve(&mut world);
            assert!(world.step());
            if world.now_us > 80 * SECOND {
                from.get_or_insert(transfer.read[1]);
                queue_us += world.paths[0].free_at_us.saturating_sub(world.now_us);
                samples += 1;
            }
        }
        let goodput = (transfer.read[1] - from.unwrap()) as u64 / 20;
        let queue_us = queue_us / samples;
        assert!(goodput >= rate * 9 / 10, "skew {skew_ppm}: {goodput} B/s");
        assert!((70_000..=130_000).contains(&queue_us), "skew {skew_ppm}: queue {queue_us} us");
    }
}

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
fn u4_an_unproven_address_gets_no_more_bytes_than_it_sent() {
    let mut endpoint = Endpoint::new(1_000, 1);
    let mut answered = 0;
    for n in 0..10_000u32 {
        let from = SocketAddr::from((n.to_be_bytes(), 6881));
        endpoint.on_datagram(0, from, &packet(UtpKind::Syn, 5, 1, 0));
        // Forged: neither acknowledges the number that the answer holds.
        endpoint.on_datagram(0, from, &packet(UtpKind::State, 6, 2, 0));
        endpoint.on_datagram(0, from, &packet(UtpKind::Data, 900, 2, 0));
        let answers = sent(&mut endpoint, 0);
        assert!(answers.iter().map(Vec::len).sum::<usize>() <= 20);
        answered += answers.len();
    }
    assert_eq!((answered, endpoint.streams()), (UNCONFIRMED, UNCONFIRMED));
    assert_eq!(endpoint.next_event(), None, "none of them is accepted");
    endpoint.on_deadline(FIRST_TIMEOUT_US);
    assert_eq!(sent(&mut endpoint, FIRST_TIMEOUT_US).len(), 0, "the answer is not resent");
    assert_eq!((endpoint.streams(), endpoint.next_deadline()), (0, None));
    assert_eq!(endpoint.next_event(), None);
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
            world.ends[0].on_datagram(now_us, addr(1), &packet(kind, id, 7, 40_000));
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
