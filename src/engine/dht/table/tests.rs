//! A table and who gets a place in it (BEP 5, BEP 42, hazard D5).

use super::*;

const OWN: NodeId = NodeId([0; 20]);

fn at(s: u64) -> Instant {
    Instant::from_micros(s * 1_000_000)
}

/// An address of a network of its own.
fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([20 + (n / 256) as u8, n as u8, 7, 7], 6881))
}

/// An id that shares this many first bits with ours, secure for the address.
fn secure(n: usize, depth: u32, rng: &mut Rng) -> NodeId {
    loop {
        let id = NodeId::random_for(addr(n).ip(), rng);
        if id.distance(OWN).common_bits() == depth {
            return id;
        }
    }
}

/// A table of nodes that answered, eight secure ones at each of the first `depths` depths.
fn full(depths: u32, now: Instant) -> (RoutingTable, Rng) {
    let (mut table, mut rng) = (RoutingTable::new(Instant::ZERO, OWN), Rng::new(1));
    // Not every address has an id at every depth.
    let mut n = 0;
    for depth in 0..depths {
        let mut placed = 0;
        while placed < 8 {
            n += 1;
            let id = NodeId::random_for(addr(n).ip(), &mut rng);
            if id.distance(OWN).common_bits() == depth {
                table.answered(now, id, addr(n));
                placed += 1;
            }
        }
    }
    table.check();
    (table, rng)
}

#[test]
fn a_full_bucket_splits_only_where_our_own_id_lies() {
    let (mut table, mut rng) = full(3, at(0));
    assert_eq!((table.len(), table.buckets.len()), (24, 3));
    for n in 5000..5020 {
        table.answered(at(1), OWN.random_at(0, &mut rng), addr(n));
    }
    assert_eq!((table.len(), table.buckets[0].spares.len()), (24, limits::DHT_SPARE_NODES), "others wait");
    table.answered(at(1), OWN.random_at(9, &mut rng), addr(5100));
    assert_eq!((table.len(), table.buckets.len()), (25, 4));
    table.check();
}

#[test]
fn a_bad_node_gives_way_to_one_that_waits() {
    let (mut table, mut rng) = full(2, at(0));
    let spare = secure(5000, 0, &mut rng);
    table.answered(at(1), spare, addr(5000));
    let victim = table.buckets[0].nodes[3].addr;
    table.failed(at(2), victim);
    assert!(table.iter().any(|n| n.addr == victim && n.health(at(2)) == Health::Questionable));
    table.failed(at(3), victim);
    assert!(table.iter().all(|n| n.addr != victim) && table.iter().any(|n| n.id == spare));
    assert_eq!(table.len(), 16);
}

#[test]
fn an_answer_makes_up_for_failures() {
    let (mut table, _) = full(1, at(0));
    let node = table.buckets[0].nodes[0];
    for s in 1..20 {
        table.failed(at(s), node.addr);
        table.answered(at(s), node.id, node.addr);
    }
    assert_eq!(table.len(), 8);
}

#[test]
fn silent_nodes_are_asked_and_quiet_buckets_are_refreshed_after_a_quarter_of_an_hour() {
    let (mut table, mut rng) = full(3, at(0));
    assert_eq!((table.ping(at(899)), table.refresh(at(899), &mut rng)), (None, None));
    assert_eq!((table.next_ping(), table.next_refresh()), (at(900), at(900)));
    let kept = table.buckets[1].nodes[0];
    table.asked(at(800), kept.id, kept.addr);
    for depth in [0, 2] {
        let place = table.refresh(at(900), &mut rng).unwrap();
        let bits = place.distance(OWN).common_bits();
        assert!(bits == depth || (depth == 2 && bits >= 2), "{bits}");
    }
    assert_eq!(table.refresh(at(900), &mut rng), None);
    let asked: Vec<_> = std::iter::from_fn(|| table.ping(at(900))).collect();
    assert!(asked.len() == 23 && !asked.contains(&kept.addr));
    assert_eq!(table.nearest(at(901), kept.id, 1)[0].id, kept.id);
    assert_eq!(table.good(at(901)).count(), 1);
}

#[test]
fn d5_one_host_has_one_place_and_one_network_two() {
    let (mut table, mut rng) = (RoutingTable::new(at(0), OWN), Rng::new(2));
    for n in 0..9 {
        table.answered(at(0), OWN.random_at(0, &mut rng), SocketAddr::from(([8, 8, 8, 8], 1000 + n)));
    }
    assert_eq!(table.len(), 1);
    for n in 0..9 {
        table.answered(at(0), OWN.random_at(0, &mut rng), SocketAddr::from(([9, 9, 9, n], 1000)));
    }
    assert_eq!(table.len(), 1 + limits::DHT_NODES_PER_NETWORK);
    for n in 0..3 {
        let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, n, 0, 0, n], 1000));
        table.answered(at(0), OWN.random_at(0, &mut rng), v6);
        let local = SocketAddr::from(([127, 0, 0, 1], 1000 + n));
        table.answered(at(0), OWN.random_at(0, &mut rng), local);
    }
    assert_eq!(table.len(), 1 + 2 * limits::DHT_NODES_PER_NETWORK + 3, "local ones are free");
    table.check();
}

#[test]
fn d5_an_id_that_belongs_to_its_address_takes_the_place_of_one_that_does_not() {
    let (mut table, mut rng) = (RoutingTable::new(at(0), OWN), Rng::new(2));
    for n in 0..8 {
        table.answered(at(0), OWN.random_at(0, &mut rng), addr(n));
    }
    table.answered(at(0), OWN.random_at(0, &mut rng), addr(8));
    table.answered(at(0), OWN.random_at(5, &mut rng), addr(9));
    let better = secure(10, 0, &mut rng);
    assert!(table.has_room_for(at(0), better, addr(10)));
    table.answered(at(0), better, addr(10));
    assert!(table.iter().any(|n| n.id == better) && table.len() == 9);
    assert!(!table.has_room_for(at(0), OWN.random_at(0, &mut rng), addr(11)));
}

#[test]
fn a_node_with_a_new_id_moves_and_the_old_one_is_gone() {
    let (mut table, mut rng) = full(2, at(0));
    let node = table.buckets[0].nodes[0];
    let new = OWN.random_at(1, &mut rng);
    assert!(table.has_room_for(at(1), new, node.addr) && !table.has_room_for(at(1), node.id, node.addr));
    table.answered(at(1), new, node.addr);
    assert!(table.iter().all(|n| n.id != node.id));
    table.check();
}

#[test]
fn a_table_around_another_id_keeps_its_nodes() {
    let (mut table, _) = full(3, at(0));
    table.move_to(at(1), NodeId([0xff; 20]));
    table.check();
    assert!(table.len() >= 8 && table.buckets.len() >= 2, "{}", table.len());
    let before = table.len();
    table.answered(at(1), NodeId([0xff; 20]), addr(9000));
    assert_eq!(table.len(), before, "we are not our own node");
}
