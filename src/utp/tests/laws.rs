//! How streams share a link with each other and with TCP.

use super::reno::Reno;
use super::*;

/// Bytes a second of the bottleneck.
const RATE: u64 = 250_000;

fn bottleneck() -> Path {
    Path { delay_us: 20_000, rate: RATE, queue_bytes: 125_000, ..Path::default() }
}

#[test]
fn alone_ledbat_fills_the_link_and_keeps_the_queue_at_its_target() {
    for (skew_ppm, reverse_delay_us) in [(0, 20_000), (200, 20_000), (-200, 20_000), (0, 150_000)] {
        let mut world = World::new(7, bottleneck());
        (world.skew_ppm, world.paths[1].delay_us) = (skew_ppm, reverse_delay_us);
        world.clock_offset_us = 3_000_000_000;
        let mut transfer = Transfer::start(&mut world, [30_000_000, 0]);
        let mut from = None;
        let (mut queue_us, mut samples) = (0, 0);
        while world.now_us < 30 * SECOND {
            transfer.serve(&mut world);
            assert!(world.step());
            if world.now_us > 10 * SECOND {
                from.get_or_insert(transfer.read[1]);
                queue_us += world.paths[0].free_at_us.saturating_sub(world.now_us);
                samples += 1;
            }
        }
        let goodput = (transfer.read[1] - from.unwrap()) as u64 / 20;
        let queue_us = queue_us / samples;
        assert!(goodput >= RATE * 9 / 10, "skew {skew_ppm}: {goodput} B/s");
        assert!((70_000..=130_000).contains(&queue_us), "skew {skew_ppm}: queue {queue_us} us");
    }
}

/// Streams of the first end that always have something to send.
struct Bulk {
    writers: Vec<UtpKey>,
    readers: BTreeMap<UtpKey, u64>,
}

impl Bulk {
    fn new() -> Bulk {
        Bulk { writers: Vec::new(), readers: BTreeMap::new() }
    }

    fn dial(&mut self, world: &mut World) {
        self.writers.extend(world.ends[0].dial(world.now_us, 0, addr(1)));
    }

    fn run(&mut self, world: &mut World, until_us: u64) {
        while world.now_us < until_us {
            for key in &self.writers {
                world.ends[0].write(*key, &[IoSlice::new(&[7; 100_000])]);
            }
            while world.ends[0].next_event().is_some() {}
            assert!(world.step());
            while let Some(event) = world.ends[1].next_event() {
                if let UtpEvent::Accepted(key, _) = event {
                    self.readers.insert(key, 0);
                }
            }
            for (key, read) in &mut self.readers {
                while let UtpRead::Moved(n) = world.ends[1].read(*key, &mut [0; 5_000]) {
                    *read += n as u64;
                }
            }
        }
    }

    /// Returns what each stream reads in some seconds.
    fn measure(&mut self, world: &mut World, seconds: u64) -> Vec<u64> {
        let before = self.readers.clone();
        self.run(world, world.now_us + seconds * SECOND);
        self.readers.iter().map(|(key, read)| read - before.get(key).unwrap_or(&0)).collect()
    }
}

#[test]
fn a_tcp_stream_keeps_its_link_beside_a_utp_stream() {
    let mut world = World::new(11, bottleneck());
    let mut bulk = Bulk::new();
    bulk.dial(&mut world);
    bulk.run(&mut world, 20 * SECOND);
    world.reno = Some(Reno::new(0));
    bulk.run(&mut world, 40 * SECOND);
    let before = world.reno.as_ref().unwrap().received_bytes();
    let utp = bulk.measure(&mut world, 60)[0] / 60;
    let tcp = (world.reno.as_ref().unwrap().received_bytes() - before) / 60;
    assert!(tcp >= RATE * 8 / 10, "TCP {tcp} B/s, uTP {utp} B/s");
    assert!(utp > 0, "uTP is not starved for ever");
}

/// Both begin with an empty queue: a stream that begins later takes the other's queue for its base delay.
#[test]
fn two_streams_share_a_link_fairly() {
    let mut world = World::new(12, bottleneck());
    let mut bulk = Bulk::new();
    (0..2).for_each(|_| bulk.dial(&mut world));
    bulk.run(&mut world, 60 * SECOND);
    let read = bulk.measure(&mut world, 30);
    let sum: u64 = read.iter().sum();
    let squares: u64 = read.iter().map(|n| n * n).sum();
    assert!(100 * sum * sum / (2 * squares) >= 80, "{read:?}");
    assert!(sum / 30 >= RATE * 9 / 10, "{read:?}");
}

#[test]
fn congestion_of_the_way_back_changes_nothing() {
    let mut world = World::new(13, bottleneck());
    world.reno = Some(Reno::new(1));
    let mut bulk = Bulk::new();
    bulk.dial(&mut world);
    bulk.run(&mut world, 30 * SECOND);
    let before = world.reno.as_ref().unwrap().received_bytes();
    let utp = bulk.measure(&mut world, 60)[0] / 60;
    let tcp = (world.reno.as_ref().unwrap().received_bytes() - before) / 60;
    // Headers, and the acknowledgements of the TCP stream, take their part of the link.
    let (used, left) = (utp * 1_308 / 1_260, RATE - tcp * 40 / 1_472);
    assert!(used >= left * 9 / 10, "uTP {utp} B/s, TCP of the way back {tcp} B/s");
    assert!(tcp >= RATE * 7 / 10, "the way back is congested: {tcp} B/s");
}
