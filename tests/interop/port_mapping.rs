//! Port mapping with miniupnpd: a client behind a router that translates addresses, and a peer outside.
//!
//! ```text
//!   client 10.91.0.2 ── 10.91.0.1 router 9.77.77.1 ── 9.77.77.2 outside
//! ```
//! The router and the peer outside are namespaces without a route to anything else. Outside addresses are not
//! reserved, because miniupnpd maps nothing otherwise.

use crate::clients::rill;
use crate::content::{Shape, Torrent};
use crate::lab::{Kid, Lab};
use crate::need;
use crate::networks::{inside, ip, within};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The router's address outside: not reserved, and unreachable from these namespaces.
const ROUTER: &str = "9.77.77.1";
const OUTSIDE: &str = "9.77.77.2";
/// The port of the seed behind the router.
const PORT: &str = "6881";
/// The table and chains that miniupnpd fills, with the translation of outgoing connections.
const RULES: &str = r#"
table inet filter {
    chain miniupnpd { }
    chain forward {
        type filter hook forward priority 0; policy drop;
        iifname "in" accept
        ct state established,related accept
        jump miniupnpd
    }
    chain prerouting_miniupnpd { type nat hook prerouting priority -100; policy accept; }
    chain postrouting_miniupnpd {
        type nat hook postrouting priority 100; policy accept;
        oifname "out" masquerade
    }
}
"#;

/// Three namespaces, removed when this is dropped.
struct Home;

impl Home {
    fn new() -> Home {
        Home::remove(); // left by a run that was killed
        for command in [
            "netns add rillmapc",
            "netns add rillmapr",
            "netns add rillmapo",
            "link add eth0 netns rillmapc type veth peer name in netns rillmapr",
            "link add out netns rillmapr type veth peer name eth0 netns rillmapo",
            "-n rillmapc addr add 10.91.0.2/24 dev eth0",
            "-n rillmapr addr add 10.91.0.1/24 dev in",
            "-n rillmapr addr add 9.77.77.1/24 dev out",
            "-n rillmapo addr add 9.77.77.2/24 dev eth0",
            "-n rillmapc link set eth0 up",
            "-n rillmapc link set lo up",
            "-n rillmapr link set in up",
            "-n rillmapr link set out up",
            "-n rillmapr link set lo up",
            "-n rillmapo link set eth0 up",
            "-n rillmapo link set lo up",
            "-n rillmapc route add default via 10.91.0.1",
        ] {
            assert!(ip(command), "ip {command}");
        }
        assert!(within("rillmapr", "sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]));
        Home
    }

    fn remove() {
        for name in ["rillmapc", "rillmapr", "rillmapo"] {
            ip(&format!("netns del {name}"));
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        Home::remove();
    }
}

/// Settings of miniupnpd for PCP and NAT-PMP alone. A lifetime of 20 s is renewed after 10.
const PCP: &str = "enable_natpmp=yes\nenable_upnp=no\nmin_lifetime=10\nmax_lifetime=20\n";
/// Settings of miniupnpd for UPnP alone.
const UPNP: &str = "enable_natpmp=no\nenable_upnp=yes\n";
/// Sends a DHT ping to the address and port in its arguments, and prints the id in the answer.
const PING: &str = r#"
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
for _ in range(10):
    s.sendto(b"d1:ad2:id20:" + bytes(range(20)) + b"e1:q4:ping1:t2:aa1:y1:qe", (sys.argv[1], int(sys.argv[2])))
    try:
        answer, sender = s.recvfrom(2000)
    except socket.timeout:
        continue
    assert sender == (sys.argv[1], int(sys.argv[2])), sender
    assert b"1:rd2:id20:" in answer and b"1:t2:aa" in answer, answer
    sys.exit(0)
sys.exit(1)
"#;

/// Starts miniupnpd in the router, with an empty table of mappings.
fn daemon<'a>(lab: &'a Lab, protocols: &str) -> Kid<'a> {
    let rules = lab.at("rules.nft");
    fs::write(&rules, RULES).unwrap();
    within("rillmapr", "nft", &["flush", "ruleset"]);
    assert!(within("rillmapr", "nft", &["-f", rules.to_str().unwrap()]));
    // Of a daemon that was killed.
    let _ = fs::remove_file(lab.at("miniupnpd.pid"));
    let settings = lab.at("miniupnpd.conf");
    let text = format!(
        "ext_ifname=out\nlistening_ip=in\nsecure_mode=yes\n{protocols}\
         uuid=00000000-0000-0000-0000-000000000001\nallow 1024-65535 10.91.0.0/24 1024-65535\n\
         deny 0-65535 0.0.0.0/0 0-65535\n"
    );
    fs::write(&settings, text).unwrap();
    let mut command = Command::new("miniupnpd");
    command.args(["-d", "-f"]).arg(&settings).arg("-P").arg(lab.at("miniupnpd.pid"));
    lab.start(&mut inside("rillmapr", &command))
}

/// Returns the rules of the router that name the seed's port.
fn mappings() -> usize {
    let mut list = Command::new("ip");
    list.args([
        "netns",
        "exec",
        "rillmapr",
        "nft",
        "list",
        "chain",
        "inet",
        "filter",
        "prerouting_miniupnpd",
    ]);
    let text = String::from_utf8(list.output().unwrap().stdout).unwrap();
    text.lines().filter(|line| line.contains(PORT) && line.contains("dnat")).count()
}

fn seed<'a>(lab: &'a Lab, torrent: &Torrent) -> Kid<'a> {
    let mut command = rill();
    // No request to a router goes through a proxy: there is none at this address.
    command.env("http_proxy", "http://10.91.0.99:3128").env_remove("RILL_NO_DHT");
    command.env_remove("RILL_NO_PORT_MAPPING").args(["seed", "--no-state", "--listen-port", PORT, "-d"]);
    command.arg(&torrent.dir).arg(&torrent.file);
    lab.start(&mut inside("rillmapc", &command))
}

fn ping_from_outside(lab: &Lab) {
    let mut command = Command::new("python3");
    command.args(["-c", PING, ROUTER, PORT]);
    let kid = lab.start(&mut inside("rillmapo", &command));
    assert_eq!(kid.code(), 0, "a datagram from outside is not answered\n{}", lab.words());
}

fn fetch_from_outside(lab: &Lab, torrent: &Torrent, out: &Path) {
    let mut command = rill();
    let peer = format!("{ROUTER}:{PORT}");
    command
        .args(["get", "--no-state", "--timeout", "30s", "--peer", &peer, "-d"])
        .arg(out)
        .arg(&torrent.file);
    let kid = lab.start(&mut inside("rillmapo", &command));
    assert_eq!(kid.code(), 0, "{OUTSIDE} dials {peer}\n{}", lab.words());
    torrent.must_be_in(out, lab);
}

#[test]
#[ignore = "needs other programs"]
fn a_peer_outside_downloads_through_the_mapped_port() {
    need!("ip", "nft", "miniupnpd");
    let _home = Home::new();
    let lab = Lab::new();
    let torrent = Torrent::make(&lab, Shape::single(1 << 20, 64 << 10), &[]);
    let router = daemon(&lab, PCP);
    let seeder = seed(&lab, &torrent);
    lab.wait_for("TCP and UDP are mapped", || mappings() == 2);
    lab.wait_for("the open port is said", || {
        seeder.words().contains("9.77.77.1:6881 is open to peers outside")
    });
    fetch_from_outside(&lab, &torrent, &lab.new_dir("out"));

    // Longer than the lifetime.
    std::thread::sleep(Duration::from_secs(25));
    assert_eq!(mappings(), 2, "renewed\n{}", lab.words());

    router.signal("KILL");
    let _restarted = daemon(&lab, PCP);
    assert_eq!(mappings(), 0);
    lab.wait_up_to(Duration::from_secs(25), "mapped by the restarted daemon", &mut || mappings() == 2);
    fetch_from_outside(&lab, &torrent, &lab.new_dir("out"));

    seeder.signal("TERM");
    lab.wait_up_to(Duration::from_secs(5), "unmapped at the end", &mut || mappings() == 0);
    println!("mapped, dialed, renewed, mapped again, unmapped");
}

#[test]
#[ignore = "needs other programs"]
fn a_peer_outside_downloads_through_a_port_that_upnp_mapped() {
    need!("ip", "nft", "miniupnpd", "python3");
    let _home = Home::new();
    let lab = Lab::new();
    let torrent = Torrent::make(&lab, Shape::single(1 << 20, 64 << 10), &[]);
    let router = daemon(&lab, UPNP);
    let seeder = seed(&lab, &torrent);
    lab.wait_for("TCP and UDP are mapped", || mappings() == 2);
    lab.wait_for("the open port is said", || {
        seeder.words().contains("9.77.77.1:6881 is open to peers outside (TCP and UDP, by UPnP)")
    });
    fetch_from_outside(&lab, &torrent, &lab.new_dir("out"));
    ping_from_outside(&lab);

    // The restarted daemon listens at another HTTP port.
    router.signal("KILL");
    let _restarted = daemon(&lab, UPNP);
    assert_eq!(mappings(), 0);
    lab.wait_up_to(Duration::from_secs(150), "mapped by the restarted daemon", &mut || mappings() == 2);
    fetch_from_outside(&lab, &torrent, &lab.new_dir("out"));
    ping_from_outside(&lab);

    seeder.signal("TERM");
    lab.wait_up_to(Duration::from_secs(5), "unmapped at the end", &mut || mappings() == 0);
    println!("mapped, dialed, answered, mapped again, unmapped");
}
