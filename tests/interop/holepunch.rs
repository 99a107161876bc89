//! Hole punching (BEP 55): two clients behind routers that translate addresses meet through a third one.
//!
//! ```text
//!   bridge ──┬── network 0: the relay, which downloads slowly
//!            ├── network 1: a router ── the downloader
//!            └── network 2: a router ── a seed
//! ```
//! A router lets packets in only from where one was sent to before, and gives its client another port than the
//! client has and says, as most do. So neither can dial the other before the relay has named the ports.

use crate::clients::rill;
use crate::content::{Shape, Torrent};
use crate::lab::{Kid, Lab};
use crate::need;
use crate::networks::{Family, Networks, inside, ip};
use std::fs;

const PORT: &str = "6881";

/// The namespaces behind the routers, removed when this is dropped.
struct Behind;

impl Drop for Behind {
    fn drop(&mut self) {
        for n in [1, 2] {
            ip(&format!("netns del {}", behind(n)));
        }
    }
}

fn behind(n: u32) -> String {
    format!("rillpunch{n}b")
}

/// Makes network `n` a router, with one client behind it.
fn route(lab: &Lab, networks: &Networks, n: u32) {
    let client = behind(n);
    assert!(ip(&format!("netns add {client}")));
    for words in [
        format!("link add in type veth peer name eth0 netns {client}"),
        "addr add 10.93.0.1/24 dev in".into(),
        "link set in up".into(),
    ] {
        assert!(networks.ip(n, &words), "{words}");
    }
    for words in [
        "addr add 10.93.0.2/24 dev eth0",
        "link set eth0 up",
        "link set lo up",
        "route add default via 10.93.0.1",
    ] {
        assert!(ip(&format!("-n {client} {words}")), "{words}");
    }
    let rules = format!(
        r#"
table ip router {{
    chain input {{ type filter hook input priority 0; policy accept; iifname "eth0" ct state new drop; }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname "in" accept
        ct state established,related accept
    }}
    chain postrouting {{
        type nat hook postrouting priority 100; policy accept;
        oifname "eth0" ip protocol udp masquerade to :4000{n}
        oifname "eth0" masquerade
    }}
}}
"#
    );
    let file = lab.at(format!("rules{n}.nft"));
    fs::write(&file, rules).unwrap();
    let script = format!("echo 1 > /proc/sys/net/ipv4/ip_forward && nft -f {}", file.display());
    let mut set = std::process::Command::new("sh");
    assert!(networks.inside(n, set.args(["-c", &script])).status().unwrap().success());
}

#[test]
#[ignore = "needs other programs"]
fn two_clients_behind_routers_meet_through_a_third_one() {
    need!("ip", "nft");
    let lab = Lab::new();
    let _behind = Behind;
    let Some(networks) = Networks::new("rillpunch", 82, Family::V4, 3) else { return };
    for n in [1, 2] {
        route(&lab, &networks, n);
    }
    let torrent = Torrent::make(&lab, Shape::single(6 << 20, 64 << 10), &[]);
    // It stays incomplete, or it would part from the seed; and has nothing to speak of for the downloader.
    let mut relay = rill();
    relay.args(["get", "--no-state", "--max-download-limit", "8K", "-u", "8K", "--listen-port", PORT, "-d"]);
    lab.start(&mut networks.inside(0, relay.arg(lab.new_dir("relay")).arg(&torrent.file)));
    let met = format!("--peer={}:{PORT}", networks.address_of(0));
    let start = |n: u32, words: &[&str]| -> Kid<'_> {
        let mut client = rill();
        client.args(words).args(["-vv", "--no-state", "--transport", "utp", "--listen-port", PORT, &met]);
        let dir = if n == 1 { lab.new_dir("out") } else { torrent.dir.clone() };
        lab.start(&mut inside(&behind(n), client.arg("-d").arg(dir).arg(&torrent.file)))
    };
    start(2, &["seed"]);
    let get = start(1, &["get"]);
    assert_eq!(get.code(), 0, "{}", lab.words());
    let named = format!("{}:40002 is a peer", networks.address_of(2));
    assert!(get.words().contains(&named), "not met at {named}\n{}", lab.words());
    println!("met at the port that the relay named");
}
