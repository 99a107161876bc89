//! rill in a DHT of libtorrent nodes: it finds peers and is found without a tracker.
//!
//! ```text
//!   127.77.0.1            the bootstrap node, in its own process so that it can be killed
//!   127.77.0.2 … 24   the other nodes, all in one process; the last one seeds
//!   127.0.0.1         rill
//! ```
//! A client knows the address of one node, or the nodes that an earlier run saved.

use crate::bencode::Value;
use crate::clients::rill;
use crate::content::{Shape, Torrent};
use crate::events::objects;
use crate::lab::{Kid, Lab, free_port};
use crate::need;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Nodes of the network, the bootstrap node among them.
const NODES: u32 = 24;
/// Downloads that are timed.
const RUNS: usize = 10;
/// Limit of the median time from start to the metadata of a magnet link, and to its first byte.
const SOON: Duration = Duration::from_secs(10);
/// How long the CPU time of an idle rill is measured.
const WATCHED: Duration = Duration::from_secs(120);

/// Runs the nodes FIRST to LAST of the network at this port; the last one seeds the torrents given as TORRENT
/// DIR …
const NETWORK: &str = r#"
import sys, time, libtorrent as lt
first, last, port = map(int, sys.argv[1:4])
off = dict.fromkeys(["enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp",
    "dht_restrict_routing_ips", "dht_restrict_search_ips", "dht_enforce_node_id", "dht_prefer_verified_node_ids"], False)
nodes = []
for n in range(first, last + 1):
    # A whole network starts in a moment: rate limits must not silence a node.
    session = lt.session({**off, "enable_dht": True, "listen_interfaces": f"127.77.0.{n}:{port}", "dht_bootstrap_nodes": "",
        "dht_upload_rate_limit": 1 << 24, "dht_block_ratelimit": 10_000, "allow_multiple_connections_per_ip": True,
        "alert_mask": 0})
    for known in {1, n // 2, n - 1} - {0, n}:
        session.add_dht_node((f"127.77.0.{known}", port))
    nodes.append(session)
handles, seeded = [], sys.argv[4:]
for torrent, place in zip(seeded[::2], seeded[1::2]):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = place
    params.flags = lt.torrent_flags.seed_mode
    handles.append(nodes[-1].add_torrent(params))
while any(session.status().dht_nodes < (2 if last > 1 else 0) for session in nodes):
    time.sleep(0.05)
print("joined", flush=True)
while True:
    # libtorrent announces a torrent before it knows a node, and then not again for minutes.
    for handle in handles:
        handle.force_dht_announce()
    time.sleep(3)
"#;

/// Runs a session that knows one node, and downloads a magnet link into a directory.
const FETCH: &str = r#"
import sys, time, libtorrent as lt
off = dict.fromkeys(["enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp",
    "dht_restrict_routing_ips", "dht_restrict_search_ips", "dht_enforce_node_id", "dht_prefer_verified_node_ids"], False)
session = lt.session({**off, "enable_dht": True, "listen_interfaces": f"127.77.0.100:{sys.argv[1]}", "dht_bootstrap_nodes": "",
    "alert_mask": 0})
session.add_dht_node(("127.77.0.7", int(sys.argv[1])))
params = lt.parse_magnet_uri(sys.argv[2])
params.save_path = sys.argv[3]
handle = session.add_torrent(params)
asked = time.time()
while not handle.status().is_seeding:
    time.sleep(0.05)
    if time.time() - asked > 3:
        # A second search finds the peers that announced since the first.
        asked = time.time()
        handle.force_dht_announce()
"#;

/// Runs an idle session, with or without DHT.
const IDLE: &str = r#"
import sys, time, libtorrent as lt
off = dict.fromkeys(["enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp",
    "dht_restrict_routing_ips", "dht_restrict_search_ips", "dht_enforce_node_id", "dht_prefer_verified_node_ids"], False)
inside = sys.argv[1] == "in"
session = lt.session({**off, "enable_dht": inside, "listen_interfaces": f"127.77.0.{110 + inside}:{sys.argv[2]}",
    "dht_bootstrap_nodes": "", "alert_mask": 0})
if inside:
    session.add_dht_node(("127.77.0.1", int(sys.argv[2])))
params = lt.add_torrent_params()
params.ti = lt.torrent_info(sys.argv[3])
params.save_path = sys.argv[4]
handle = session.add_torrent(params)
while True:
    time.sleep(60)
"#;

/// A DHT of libtorrent nodes.
struct Network<'a> {
    lab: &'a Lab,
    port: u16,
    bootstrap: Kid<'a>,
}

impl<'a> Network<'a> {
    /// Starts all nodes, the last of which seeds these torrents, and waits until the DHT returns it as a
    /// peer.
    fn new(lab: &'a Lab, seeded: &[&Torrent]) -> Network<'a> {
        let port = free_port();
        let start = |first: u32, last: u32, seeded: &[&Torrent]| {
            let mut command = Command::new("python3");
            command.args(["-W", "ignore", "-c", NETWORK]).args([
                first.to_string(),
                last.to_string(),
                port.to_string(),
            ]);
            command.args(seeded.iter().flat_map(|torrent| [&torrent.file, &torrent.dir]));
            lab.start(&mut command)
        };
        let joined = |kid: Kid<'_>| lab.wait_for("the nodes have joined", || kid.words().contains("joined"));
        let bootstrap = start(1, 1, &[]);
        joined(bootstrap);
        joined(start(2, NODES, seeded));
        let network = Network { lab, port, bootstrap };
        seeded
            .iter()
            .for_each(|torrent| lab.wait_for("the seed is known", || network.counts_its_seed(torrent)));
        network
    }

    fn counts_its_seed(&self, torrent: &Torrent) -> bool {
        let kid = self.rill(&["show", "--scrape", "--no-state", &magnet(torrent)], &[]);
        kid.code() == 0 && kid.words().contains("DHT: 1 seed, 0 peers")
    }

    /// Starts rill with these arguments and this network's bootstrap node alone.
    fn rill(&self, words: &[&str], more: &[&Path]) -> Kid<'a> {
        let mut command = rill();
        let port = free_port().to_string();
        let bootstrap = format!("127.77.0.1:{}", self.port);
        command
            .env_remove("RILL_NO_DHT")
            .env("RILL_NO_PEX", "1")
            .env("RILL_DHT_BOOTSTRAP", bootstrap)
            .env("RILL_LISTEN_PORT", port);
        command.args(words).args(more);
        self.lab.start(&mut command)
    }
}

fn magnet(torrent: &Torrent) -> String {
    format!("magnet:?xt=urn:btih:{}", torrent.hex())
}

/// Returns a torrent without trackers; each size has its own content.
fn trackerless(lab: &Lab, size: u64) -> Torrent {
    Torrent::make(lab, Shape::single(size, 64 << 10), &[])
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Returns whether rill has printed the line about the torrent's files, which follows the metadata.
fn has_metadata(kid: &Kid<'_>) -> bool {
    kid.words().lines().any(|line| line.starts_with("payload.bin: ") && line.contains(" in 1 file"))
}

#[test]
#[ignore = "needs other programs"]
fn a_magnet_without_trackers_is_found_through_one_node() {
    need!("libtorrent");
    let lab = Lab::new();
    let torrent = trackerless(&lab, 4 << 20);
    let network = Network::new(&lab, &[&torrent]);
    let link = magnet(&torrent);
    let mut metadata = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let out = lab.new_dir("out");
        let kid = network.rill(&["get", "--no-state", &link, "-d"], &[&out]);
        lab.wait_for("there is metadata", || has_metadata(&kid) || kid.ended().is_some());
        metadata.push(begun.elapsed().as_secs_f64());
        assert_eq!(kid.code(), 0, "{}", lab.words());
        whole.push(begun.elapsed().as_secs_f64());
        torrent.must_be_in(&out, &lab);
    }
    let metadata = median(metadata);
    let whole = median(whole);
    println!(
        "a magnet link among {NODES} nodes: metadata after {metadata:.2} s, all of 4 MiB after {whole:.2} s (medians of {RUNS})"
    );
    assert!(metadata < SOON.as_secs_f64() && whole < SOON.as_secs_f64());
}

#[test]
#[ignore = "needs other programs"]
fn the_second_start_needs_no_bootstrap_node() {
    need!("libtorrent");
    let lab = Lab::new();
    let first = trackerless(&lab, 1 << 20);
    let second = trackerless(&lab, 2 << 20);
    let network = Network::new(&lab, &[&first, &second]);
    let state = lab.new_dir("state");
    let start = |torrent: &Torrent, more: &[&str]| {
        let link = magnet(torrent);
        let out = lab.new_dir("out");
        let words = ["get", &link, "--state-dir", state.to_str().unwrap(), "-d", out.to_str().unwrap()];
        (network.rill(&[&words, more].concat(), &[]), out)
    };
    let nodes = |kid: &Kid<'_>| objects(kid).iter().rev().find_map(|o| o["dht_nodes"].as_u64()).unwrap_or(0);
    let is_seeding = |kid: &Kid<'_>| objects(kid).iter().any(|o| o["state"] == "seeding");
    let (kid, out) = start(&first, &["--seed-time", "9", "--json"]);
    lab.wait_for("rill seeds and knows eight nodes", || is_seeding(&kid) && nodes(&kid) >= 8);
    kid.signal("INT");
    assert_eq!(kid.code(), 0, "{}", lab.words());
    first.must_be_in(&out, &lab);
    assert!(state.join("dht.nodes").exists());
    network.bootstrap.kill();
    let begun = Instant::now();
    let (kid, out) = start(&second, &[]);
    assert_eq!(kid.code(), 0, "{}", lab.words());
    println!("the second start took {:.2} s", begun.elapsed().as_secs_f64());
    assert!(begun.elapsed() < SOON);
    second.must_be_in(&out, &lab);
}

#[test]
#[ignore = "needs other programs"]
fn libtorrent_finds_what_rill_seeds() {
    need!("libtorrent");
    let lab = Lab::new();
    let torrent = trackerless(&lab, 4 << 20);
    let network = Network::new(&lab, &[]);
    network.rill(&["seed", "--no-state", "-d"], &[&torrent.dir, &torrent.file]);
    let begun = Instant::now();
    let out = lab.new_dir("out");
    let mut fetch = Command::new("python3");
    fetch.args(["-W", "ignore", "-c", FETCH, &network.port.to_string(), &magnet(&torrent)]).arg(&out);
    assert_eq!(lab.start(&mut fetch).code(), 0, "{}", lab.words());
    torrent.must_be_in(&out, &lab);
    println!("libtorrent was complete after {:.2} s", begun.elapsed().as_secs_f64());
}

#[test]
#[ignore = "needs other programs"]
fn nodes_in_a_torrent_file_are_used_for_bootstrap() {
    need!("libtorrent");
    let lab = Lab::new();
    let torrent = trackerless(&lab, 1 << 20);
    let network = Network::new(&lab, &[&torrent]);
    let named =
        Value::List(vec![Value::List(vec![Value::text("127.77.0.9"), Value::Int(network.port.into())])]);
    let with_nodes = lab.at("nodes.torrent");
    let plain = fs::read(&torrent.file).unwrap();
    // `info` is the only key of the plain torrent, so `nodes` follows it in sorted order.
    let bytes = [&plain[..plain.len() - 1], b"5:nodes", &named.encode(), b"e"].concat();
    fs::write(&with_nodes, bytes).unwrap();
    let out = lab.new_dir("out");
    let unused = format!("127.0.0.1:{}", free_port());
    let mut get = rill();
    get.env_remove("RILL_NO_DHT").args([
        "get",
        "--no-state",
        "--no-pex",
        "--no-lsd",
        "--listen-port",
        "0",
        "--dht-bootstrap",
        &unused,
        "-d",
    ]);
    assert_eq!(lab.start(get.arg(&out).arg(&with_nodes)).code(), 0, "{}", lab.words());
    torrent.must_be_in(&out, &lab);
}

/// Returns the private memory in bytes and the CPU time in seconds of a process.
fn cost(pid: u32) -> (u64, f64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let anon = status.lines().find_map(|line| {
        line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: f64 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<f64>().unwrap())
        .sum();
    (anon.unwrap_or(0) * 1024, ticks / 100.0)
}

/// Measures the cost of an idle rill and of an idle libtorrent, each with and without DHT.
#[test]
#[ignore = "takes minutes, and measures"]
fn the_cost_of_an_idle_node() {
    need!("libtorrent");
    let lab = Lab::new();
    let torrent = trackerless(&lab, 1 << 20);
    let network = Network::new(&lab, &[]);
    let inside = network.rill(&["seed", "--no-state", "--json", "-d"], &[&torrent.dir, &torrent.file]);
    let mut alone = rill();
    alone.args([
        "seed",
        "--no-state",
        "--json",
        "--no-dht",
        "--no-pex",
        "--no-lsd",
        "--listen-port",
        "0",
        "-d",
    ]);
    let outside = lab.start(alone.arg(&torrent.dir).arg(&torrent.file));
    let libtorrent = |inside: &str| {
        let mut command = Command::new("python3");
        command
            .args(["-W", "ignore", "-c", IDLE, inside, &network.port.to_string()])
            .arg(&torrent.file)
            .arg(&torrent.dir);
        lab.start(&mut command)
    };
    let all = [inside, outside, libtorrent("in"), libtorrent("out")];
    lab.wait_for("both run", || [inside, outside].iter().all(|kid| !objects(kid).is_empty()));
    std::thread::sleep(Duration::from_secs(5));
    let before = all.map(|kid| cost(kid.pid()));
    std::thread::sleep(WATCHED);
    let after = all.map(|kid| cost(kid.pid()));
    let names = [
        "rill in the DHT",
        "rill not in it",
        "libtorrent in the DHT (Python included)",
        "libtorrent without DHT",
    ];
    for (n, what) in names.into_iter().enumerate() {
        let share = (after[n].1 - before[n].1) / WATCHED.as_secs_f64() * 100.0;
        println!("{what}: {} KiB private, {share:.3} % of a core", after[n].0 >> 10);
    }
    let nodes = objects(&inside).iter().rev().find_map(|o| o["dht_nodes"].as_u64()).unwrap();
    println!("{nodes} nodes known");
    assert!(after[0].0.saturating_sub(after[1].0) <= 2 << 20, "more than 2 MiB");
    assert!((after[0].1 - before[0].1) / WATCHED.as_secs_f64() <= 0.002, "more than 0.2 % of a core");
}

#[test]
#[ignore = "needs other programs"]
fn the_dht_counts_seeds_and_peers() {
    need!("libtorrent");
    let lab = Lab::new();
    let torrent = trackerless(&lab, 1 << 20);
    let network = Network::new(&lab, &[&torrent]);
    assert!(network.counts_its_seed(&torrent));
}
