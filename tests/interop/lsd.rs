//! Local service discovery (BEP 14): clients on one network find each other without tracker, DHT and known
//! addresses.
//!
//! ```text
//!   bridge ──┬── network 0: the seed
//!            ├── network 1: the downloader
//!            └── network 2: a listener
//! ```

use crate::clients::rill;
use crate::content::{Shape, Torrent};
use crate::lab::{Kid, Lab};
use crate::need;
use crate::networks::{Family, Networks};
use sha1::{Digest, Sha1};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Port of rill and of the other client.
const PORT: &str = "6881";
/// Time limit from the start of the second client to the last byte of 4 MiB.
const SOON: Duration = Duration::from_secs(10);
/// How long clients that must not find each other are observed: ten times what a transfer needs.
const WATCHED: Duration = Duration::from_secs(8);

/// Runs a libtorrent that uses LSD alone: ROLE TORRENT DIR ADDRESS.
const LIBTORRENT: &str = r#"
import sys, time, libtorrent as lt
role, torrent, place, address = sys.argv[1:5]
off = dict.fromkeys(["enable_dht", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp"], False)
session = lt.session({**off, "enable_lsd": True, "listen_interfaces": address, "alert_mask": 0})
params = lt.add_torrent_params()
params.ti = lt.torrent_info(torrent)
params.save_path = place
handle = session.add_torrent(params)
while role == "seed" or not handle.status().is_seeding:
    time.sleep(0.05)
"#;

/// Prints every info hash announced in the IPv4 multicast group, as received at ADDRESS.
const LISTEN: &str = r#"
import re, socket, sys
ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
ear.bind(("239.192.152.143", 6771))
ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.192.152.143") + socket.inet_aton(sys.argv[1]))
print("listening", flush=True)
while True:
    packet, sender = ear.recvfrom(4096)
    for found in re.findall(rb"(?i)infohash: *([0-9a-f]{40})", packet):
        print(found.decode().lower(), "from", sender[0], flush=True)
"#;

/// Returns a command for rill that uses LSD alone.
fn rill_told(words: &[&str], more: &[&Path]) -> Command {
    let mut command = rill();
    command.env_remove("RILL_NO_LSD").args(words).args([
        "--no-state",
        "--no-dht",
        "--no-pex",
        "--listen-port",
        PORT,
        "-d",
    ]);
    command.args(more);
    command
}

fn seed<'a>(lab: &'a Lab, networks: &Networks, torrents: &[&Torrent]) -> Kid<'a> {
    let mut more = vec![torrents[0].dir.as_path()];
    more.extend(torrents.iter().map(|t| t.file.as_path()));
    lab.start(&mut networks.inside(0, &rill_told(&["seed"], &more)))
}

fn get<'a>(lab: &'a Lab, networks: &Networks, torrent: &Torrent, out: &Path, timeout: &str) -> Kid<'a> {
    lab.start(&mut networks.inside(1, &rill_told(&["get", "--timeout", timeout], &[out, &torrent.file])))
}

fn libtorrent<'a>(
    lab: &'a Lab,
    networks: &Networks,
    n: u32,
    role: &str,
    torrent: &Torrent,
    dir: &Path,
) -> Kid<'a> {
    let mut command = Command::new("python3");
    command.args(["-W", "ignore", "-c", LIBTORRENT, role]).arg(&torrent.file).arg(dir);
    command.arg(format!("{}:7881", networks.address_of(n)));
    lab.start(&mut networks.inside(n, &command))
}

/// Asserts that the client started second completes in time.
fn must_arrive(lab: &Lab, torrent: &Torrent, out: &Path, kid: Kid<'_>, what: &str) {
    let begun = Instant::now();
    assert_eq!(kid.code(), 0, "{what}\n{}", lab.words());
    torrent.must_be_in(out, lab);
    println!("{what}: {:.2} s", begun.elapsed().as_secs_f64());
    assert!(begun.elapsed() < SOON, "{what} took {:?}", begun.elapsed());
}

fn content(lab: &Lab) -> Torrent {
    Torrent::make(lab, Shape::single(4 << 20, 64 << 10), &[])
}

/// Transfers between two rills over this address family, once with the seed started first and once with the
/// downloader started first.
fn neighbours_meet(family: Family) {
    need!("ip");
    let Some(networks) = Networks::new("rilllsd", 79, family, 2) else { return };
    for seed_is_first in [true, false] {
        let lab = Lab::new();
        let torrent = content(&lab);
        let out = lab.new_dir("out");
        let begin_seed = || _ = seed(&lab, &networks, &[&torrent]);
        if seed_is_first {
            begin_seed();
        }
        // The first client's announce is long over when the second client starts.
        std::thread::sleep(if seed_is_first { Duration::from_secs(2) } else { Duration::ZERO });
        let kid = get(&lab, &networks, &torrent, &out, "60s");
        if !seed_is_first {
            std::thread::sleep(Duration::from_secs(2));
            begin_seed();
        }
        must_arrive(&lab, &torrent, &out, kid, &format!("{family:?}, seed first: {seed_is_first}"));
    }
}

#[test]
#[ignore = "needs other programs"]
fn rill_finds_rill_over_ipv4() {
    neighbours_meet(Family::V4);
}

#[test]
#[ignore = "needs other programs"]
fn rill_finds_rill_over_ipv6_alone() {
    neighbours_meet(Family::V6);
}

#[test]
#[ignore = "needs other programs"]
fn rill_finds_a_libtorrent_seed() {
    need!("libtorrent", "ip");
    let Some(networks) = Networks::new("rilllsd", 79, Family::V4, 2) else { return };
    let lab = Lab::new();
    let torrent = content(&lab);
    let out = lab.new_dir("out");
    libtorrent(&lab, &networks, 0, "seed", &torrent, &torrent.dir);
    std::thread::sleep(Duration::from_secs(3));
    let kid = get(&lab, &networks, &torrent, &out, "60s");
    must_arrive(&lab, &torrent, &out, kid, "rill from libtorrent");
}

#[test]
#[ignore = "needs other programs"]
fn libtorrent_finds_a_rill_seed() {
    need!("libtorrent", "ip");
    let Some(networks) = Networks::new("rilllsd", 79, Family::V4, 2) else { return };
    let lab = Lab::new();
    let torrent = content(&lab);
    let out = lab.new_dir("out");
    seed(&lab, &networks, &[&torrent]);
    std::thread::sleep(Duration::from_secs(2));
    let kid = libtorrent(&lab, &networks, 1, "fetch", &torrent, &out);
    must_arrive(&lab, &torrent, &out, kid, "libtorrent from rill");
}

/// Returns a private torrent of the same content; the key `private` changes its info hash.
fn private_twin(torrent: &Torrent) -> Torrent {
    let plain = fs::read(&torrent.file).unwrap();
    let info_at = plain.windows(6).position(|w| w == b"4:info").unwrap() + 6;
    let info = [&plain[info_at..plain.len() - 2], b"7:privatei1ee"].concat();
    let file = torrent.file.with_extension("private.torrent");
    fs::write(&file, [&plain[..info_at], &info, b"e"].concat()).unwrap();
    let dir = torrent.dir.clone();
    let shape = torrent.shape.clone();
    let hashes = torrent.hashes.clone();
    Torrent { dir, file, shape, info_hash: Sha1::digest(&info).into(), hashes }
}

#[test]
#[ignore = "needs other programs"]
fn p18_a_private_torrent_is_not_announced_on_the_local_network() {
    need!("ip", "python3");
    let Some(networks) = Networks::new("rilllsd", 79, Family::V4, 3) else { return };
    let lab = Lab::new();
    let public = content(&lab);
    let out = lab.new_dir("out");
    let private = private_twin(&public);
    let mut listen = Command::new("python3");
    listen.args(["-c", LISTEN, &networks.address_of(2)]);
    let listener = lab.start(&mut networks.inside(2, &listen));
    lab.wait_for("the listener listens", || listener.words().contains("listening"));
    seed(&lab, &networks, &[&public, &private]);
    let getter = get(&lab, &networks, &private, &out, &format!("{}s", WATCHED.as_secs()));
    assert_eq!(getter.code(), 2, "{}", lab.words());
    assert!(private.compare(&out).is_err());
    let heard = listener.words();
    assert!(heard.contains(&public.hex()), "the listener is deaf: {heard}");
    assert!(!heard.contains(&private.hex()), "{heard}");
    println!("heard in {WATCHED:?}:\n{heard}");
}
