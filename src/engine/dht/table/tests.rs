//! The routing table: insertion, replacement, refresh (BEP 5, BEP 42, hazard D5).

use super::*;

const OWN: NodeId = NodeId([0; 20]);

fn at(s: u64) -> Instant {
    Instant::from_micros(s * 1_000_000)
}

/// Returns an address; each is in a network of its own.
fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([20 + (n / 256) as u8, n as u8, 7, 7], 6881))
}

/// Returns an id that shares `depth` leading bits with ours and is secure for the address.
fn secure(n: usize, depth: u32, rng: &mut Rng) -> NodeId {
    loop {
        let id = NodeId::random_for(addr(n).ip(), rng);
        if id.distance(OWN).common_bits() == depth {
            return id;
        }
    }
}

/// Returns a table with eight secure nodes in each of the first `depths` buckets.
fn full(depths: u32, now: Instant) -> (RoutingTable, Rng) {
    let mut table = RoutingTable::new(Instant::ZERO, OWN);
    let mut rng = Rng::new(1);
    // Not every address has a secure id at every depth.
    let mut n = 0;
    for depth in 0..depths {
        let mut placed = 0;
        while placed < 8 {
            n += 1;
            let id = NodeId::random_for(addr(n).ip(), &mut rng);
            if id.distance(OWN).common_bits() == depth {
                table.on_response(now, id, addr(n));
                placed += 1;
            }
        }
    }
    table.check();
    (table, rng)
}

#[test]
fn only_the_bucket_of_our_own_id_splits() {
    let (mut table, mut rng) = full(3, at(0));
    assert_eq!((table.len(), table.buckets.len()), (24, 3));
    for n in 5000..5020 {
        table.on_response(at(1), OWN.random_at(0, &mut rng), addr(n));
    }
    assert_eq!(
        (table.len(), table.buckets[0].spares.len()),
        (24, limits::DHT_SPARE_NODES),
        "new nodes are spares"
    );
    table.on_response(at(1), OWN.random_at(9, &mut rng), addr(5100));
    assert_eq!((table.len(), table.buckets.len()), (25, 4));
    table.check();
}

#[test]
fn a_spare_replaces_a_bad_node() {
    let (mut table, mut rng) = full(2, at(0));
    let spare = secure(5000, 0, &mut rng);
    table.on_response(at(1), spare, addr(5000));
    let victim = table.buckets[0].nodes[3].addr;
    table.on_timeout(at(2), victim);
    assert!(table.iter().any(|n| n.addr == victim && n.health(at(2)) == Health::Questionable));
    table.on_timeout(at(3), victim);
    assert!(table.iter().all(|n| n.addr != victim) && table.iter().any(|n| n.id == spare));
    assert_eq!(table.len(), 16);
}

#[test]
fn a_response_resets_the_failures() {
    let (mut table, _) = full(1, at(0));
    let node = table.buckets[0].nodes[0];
    for s in 1..20 {
        table.on_timeout(at(s), node.addr);
        table.on_response(at(s), node.id, node.addr);
    }
    assert_eq!(table.len(), 8);
}

#[test]
fn after_15_minutes_nodes_are_pinged_and_buckets_refreshed() {
    let (mut table, mut rng) = full(3, at(0));
    assert_eq!((table.ping(at(899)), table.refresh(at(899), &mut rng)), (None, None));
    assert_eq!((table.next_ping(), table.next_refresh()), (at(900), at(900)));
    let kept = table.buckets[1].nodes[0];
    table.on_query(at(800), kept.id, kept.addr);
    for depth in [0, 2] {
        let target = table.refresh(at(900), &mut rng).unwrap();
        let bits = target.distance(OWN).common_bits();
        assert!(bits == depth || (depth == 2 && bits >= 2), "{bits}");
    }
    assert_eq!(table.refresh(at(900), &mut rng), None);
    let pinged: Vec<_> = std::iter::from_fn(|| table.ping(at(900))).collect();
    assert!(pinged.len() == 23 && !pinged.contains(&kept.addr));
    assert_eq!(table.nearest(at(901), kept.id, 1)[0].id, kept.id);
    assert_eq!(table.good(at(901)).count(), 1);
}

#[test]
fn d5_a_host_has_one_node_and_a_network_two() {
    let mut table = RoutingTable::new(at(0), OWN);
    let mut rng = Rng::new(2);
    for n in 0..9 {
        table.on_response(at(0), OWN.random_at(0, &mut rng), SocketAddr::from(([8, 8, 8, 8], 1000 + n)));
    }
    assert_eq!(table.len(), 1);
    for n in 0..9 {
        table.on_response(at(0), OWN.random_at(0, &mut rng), SocketAddr::from(([9, 9, 9, n], 1000)));
    }
    assert_eq!(table.len(), 1 + limits::DHT_NODES_PER_NETWORK);
    for n in 0..3 {
        let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, n, 0, 0, n], 1000));
        table.on_response(at(0), OWN.random_at(0, &mut rng), v6);
        let local = SocketAddr::from(([127, 0, 0, 1], 1000 + n));
        table.on_response(at(0), OWN.random_at(0, &mut rng), local);
    }
    assert_eq!(table.len(), 1 + 2 * limits::DHT_NODES_PER_NETWORK + 3, "local addresses are exempt");
    table.check();
}

#[test]
fn d5_a_node_with_a_secure_id_replaces_one_with_an_insecure_id() {
    let mut table = RoutingTable::new(at(0), OWN);
    let mut rng = Rng::new(2);
    for n in 0..8 {
        table.on_response(at(0), OWN.random_at(0, &mut rng), addr(n));
    }
    table.on_response(at(0), OWN.random_at(0, &mut rng), addr(8));
    table.on_response(at(0), OWN.random_at(5, &mut rng), addr(9));
    let better = secure(10, 0, &mut rng);
    assert!(table.has_room_for(at(0), better, addr(10)));
    table.on_response(at(0), better, addr(10));
    assert!(table.iter().any(|n| n.id == better) && table.len() == 9);
    assert!(!table.has_room_for(at(0), OWN.random_at(0, &mut rng), addr(11)));
}

#[test]
fn a_node_with_a_new_id_replaces_its_old_entry() {
    let (mut table, mut rng) = full(2, at(0));
    let node = table.buckets[0].nodes[0];
    let new = OWN.random_at(1, &mut rng);
    assert!(table.has_room_for(at(1), new, node.addr) && !table.has_room_for(at(1), node.id, node.addr));
    table.on_response(at(1), new, node.addr);
    assert!(table.iter().all(|n| n.id != node.id));
    table.check();
}

#[test]
fn a_table_with_a_new_own_id_keeps_nodes() {
    let (mut table, _) = full(3, at(0));
    table.set_own_id(at(1), NodeId([0xff; 20]));
    table.check();
    assert!(table.len() >= 8 && table.buckets.len() >= 2, "{}", table.len());
    let before = table.len();
    table.on_response(at(1), NodeId([0xff; 20]), addr(9000));
    assert_eq!(table.len(), before, "our own id is not inserted");
}
