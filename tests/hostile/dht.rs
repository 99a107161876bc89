//! Attackers that try to use rill's DHT node for amplification: queries with forged source addresses draw at
//! most three times their bytes and at most 8,000 bytes a second, and a transfer at the same time keeps its
//! rate.
//!
//! ```text
//!   127.77.1.1 … 127.77.24.1   nodes that answer, so that rill has nodes for its responses
//!   127.78.…                   peers of one torrent, announced to rill
//!   127.88.…                   the forged senders
//! ```

use crate::attackers::Attackers;
use crate::bystanders::Leech;
use crate::lab::Lab;
use crate::rig::{Endless, Target, Unharmed, rill, trial};
use rill::units::{InfoHash, NodeId, Rng};
use rill::wire::krpc::{
    Method, Packet, PacketBody, Query, ResponseFields, WantedFamilies, parse, write_node, write_query,
    write_response,
};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Nodes of the network.
const NODES: u8 = 24;
/// Number of forged senders.
const VICTIMS: usize = 400;
/// Limit of the bytes that a forged query draws, as a multiple of its own.
const MOST_TIMES: f64 = 3.0;
/// Limit of responses in bytes a second, and the burst after idle seconds.
const RATE: u64 = 8_000;
const BURST: u64 = 3 * RATE;
/// Info hash of a torrent that fifty peers have announced to rill.
const POPULAR: InfoHash = InfoHash([0x55; 20]);

/// Starts nodes that know each other and answer every query until the process ends. Returns one address.
fn network() -> SocketAddr {
    let mut rng = Rng::new(7);
    let socket = |n: u8| UdpSocket::bind((Ipv4Addr::new(127, 77, n, 1), 0)).unwrap();
    let mut node = |n| {
        let mut id = [0; 20];
        rng.fill(&mut id);
        (socket(n), NodeId(id))
    };
    let nodes: Arc<Vec<(UdpSocket, NodeId)>> = Arc::new((1..=NODES).map(&mut node).collect());
    let mut list = Vec::new();
    nodes.iter().for_each(|(socket, id)| write_node(*id, socket.local_addr().unwrap(), &mut list));
    for n in 0..nodes.len() {
        let nodes = nodes.clone();
        let list = list.clone();
        std::thread::spawn(move || {
            let (socket, id) = &nodes[n];
            let mut packet = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut packet) {
                let Ok(Packet { transaction, body: PacketBody::Query(_), .. }) = parse(&packet[..len]) else {
                    continue;
                };
                let from_here = n % 3 * 208;
                let nodes = Some(&list[from_here..from_here + 208]);
                let parts = ResponseFields {
                    id: *id,
                    nodes,
                    nodes6: None,
                    token: Some(b"token"),
                    peers: &[],
                    filters: None,
                };
                let mut reply = Vec::new();
                write_response(transaction, from, &parts, &mut reply);
                let _ = socket.send_to(&reply, from);
            }
        });
    }
    nodes[0].0.local_addr().unwrap()
}

/// Starts a rill that seeds and knows nodes of the network.
fn node<'a>(lab: &'a Lab, torrent: &Endless) -> Target<'a> {
    let mut command = rill();
    command.env_remove("RILL_NO_DHT").env("RILL_DHT_BOOTSTRAP", network().to_string());
    let target = Target::seeding(lab, command, torrent);
    lab.wait_for("rill knows nodes", || {
        target.json_objects().iter().any(|object| object["dht_nodes"].as_u64() >= Some(8))
    });
    target
}

fn question(question: Method<'_>, want: WantedFamilies) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_query(b"aa", &Query { id: NodeId([0x99; 20]), want, method: question }, false, &mut bytes);
    bytes
}

/// Announces as many peers of the popular torrent as one response can hold.
fn make_popular(target: Target<'_>) {
    for n in 0..50 {
        let peer = UdpSocket::bind((Ipv4Addr::new(127, 78, n, 1), 0)).unwrap();
        peer.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        // A query is repeated if rill does not answer it because its rate of responses is used up. A ping
        // by rill may arrive in between.
        let ask = |bytes: &[u8]| loop {
            peer.send_to(bytes, target.address()).unwrap();
            let mut packet = [0; 2048];
            let Ok(len) = peer.recv(&mut packet) else { continue };
            if let Ok(Packet { body: PacketBody::Response(reply), .. }) = parse(&packet[..len]) {
                return reply.token.map(<[u8]>::to_vec);
            }
        };
        let token =
            ask(&question(Method::GetPeers { info_hash: POPULAR, scrape: false }, WantedFamilies::default()))
                .unwrap();
        let announce =
            Method::AnnouncePeer { info_hash: POPULAR, port: Some(6881), seed: false, token: &token };
        ask(&question(announce, WantedFamilies::default()));
    }
}

/// Queries whose responses are larger than the query.
fn questions() -> Vec<(&'static str, Vec<u8>)> {
    let both = WantedFamilies { v4: true, v6: true };
    vec![
        ("ping", question(Method::Ping, WantedFamilies::default())),
        ("find_node", question(Method::FindNode { target: NodeId([1; 20]) }, WantedFamilies::default())),
        ("find_node of both families", question(Method::FindNode { target: NodeId([1; 20]) }, both)),
        (
            "get_peers",
            question(
                Method::GetPeers { info_hash: InfoHash([2; 20]), scrape: false },
                WantedFamilies::default(),
            ),
        ),
        (
            "get_peers of a popular torrent",
            question(Method::GetPeers { info_hash: POPULAR, scrape: false }, both),
        ),
        ("nonsense", b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q1:x1:t2:aa1:y1:qe".to_vec()),
    ]
}

/// Bytes sent to rill, and bytes of its responses.
#[derive(Clone, Default)]
struct Flow {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

/// Returns sockets that have not sent to rill before.
fn victims(network: u8) -> Vec<UdpSocket> {
    let victim = |n: usize| {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, network, n as u8, (n >> 8) as u8 + 1), 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    (0..VICTIMS).map(victim).collect()
}

/// Sends a query from each of these addresses and counts the responses.
fn forge(
    victims: &[UdpSocket],
    question: &[u8],
    to: SocketAddr,
    pause: Duration,
    flow: &Flow,
    stop: impl Fn() -> bool,
) {
    let mut packet = [0; 2048];
    let mut question = question.to_vec();
    // Every packet begins with `d1:ad2:id20:` and the sender's node id.
    let name = 12..32;
    for victim in victims {
        if stop() {
            return;
        }
        let drawn = Rng::new(flow.sent.load(Relaxed) ^ u64::from(victim.local_addr().unwrap().port()) << 32);
        drawn.clone().fill(&mut question[name.clone()]);
        if victim.send_to(&question, to).is_ok() {
            flow.sent.fetch_add(question.len() as u64, Relaxed);
        }
        std::thread::sleep(pause);
        while let Ok(len) = victim.recv(&mut packet) {
            flow.received.fetch_add(len as u64, Relaxed);
        }
    }
}

/// Counts responses that are still on their way.
fn drain(victims: &[UdpSocket], flow: &Flow) {
    let mut packet = [0; 2048];
    std::thread::sleep(Duration::from_millis(300));
    for victim in victims {
        while let Ok(len) = victim.recv(&mut packet) {
            flow.received.fetch_add(len as u64, Relaxed);
        }
    }
}

#[test]
fn d6_a_forged_question_draws_no_more_than_three_times_its_bytes() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, 4, &[]);
    let target = node(&lab, &torrent);
    make_popular(target);
    for (i, (what, question)) in questions().into_iter().enumerate() {
        // The pause keeps the responses below their rate limit.
        let flow = Flow::default();
        let victims = &victims(90 + i as u8)[..40];
        std::thread::sleep(Duration::from_secs(1));
        forge(victims, &question, target.address(), Duration::from_millis(20), &flow, || false);
        drain(victims, &flow);
        let sent = flow.sent.load(Relaxed);
        let received = flow.received.load(Relaxed);
        let times = received as f64 / sent as f64;
        println!("{what}: {} bytes draw {times:.2} times as many", question.len());
        assert!(received > 0, "{what}: no query was answered, so nothing was tested");
        assert!(times <= MOST_TIMES, "{what}: {sent} bytes drew {received}");
    }
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn d6_a_flood_of_forged_questions_draws_8000_bytes_a_second_and_costs_the_good_peer_nothing() {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, 64, &[]);
    let target = node(&lab, &torrent);
    make_popular(target);
    let leech = Leech::start(9, target.address(), &torrent);
    let victims = Arc::new(victims(89));
    let unharmed = Unharmed::default();
    for (what, question) in questions() {
        let flow = Flow::default();
        let begun = Instant::now();
        let cost = trial(target, &leech.downloaded, &unharmed, || {
            let victims = victims.clone();
            let question = question.clone();
            let flow = flow.clone();
            let to = target.address();
            Attackers::start(0..1, move |_, stop| {
                while !stop.load(Relaxed) {
                    forge(&victims, &question, to, Duration::ZERO, &flow, || stop.load(Relaxed));
                }
            })
        });
        drain(&victims, &flow);
        let sent = flow.sent.load(Relaxed);
        let received = flow.received.load(Relaxed);
        let time = begun.elapsed();
        println!("{what}: {sent} bytes in {time:.1?} drew {received}");
        assert!(sent > 500_000, "{what}: only {sent} bytes were sent");
        assert!(received as f64 <= MOST_TIMES * sent as f64);
        assert!(
            received <= BURST + (RATE as f64 * time.as_secs_f64()) as u64,
            "{what}: {received} bytes in {time:?}"
        );
        cost.assert_small(what);
    }
}
