//! `--proxy` with dante and microsocks: a client whose router is the proxy's machine, which counts what the client
//! sends beside the proxy, and a tracker and a seed outside.
//!
//! ```text
//!   client 10.92.0.2 ── 10.92.0.1 proxy 10.93.0.1 ── 10.93.0.2 outside: tracker.example
//! ```
//! The client has a default route, so packets beside the proxy would arrive. The name of the tracker is known outside
//! and to the proxy alone.

use crate::clients::rill;
use crate::content::{Shape, Torrent};
use crate::lab::{Kid, Lab};
use crate::need;
use crate::networks::{inside, ip, within};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PROXY: &str = "10.92.0.1:1080";
const TRACKER: &str = "http://tracker.example:6969/announce";
const NETWORKS: [&str; 3] = ["rillsockc", "rillsockp", "rillsocko"];
/// Counts the packets that the client sends beside the proxy: those of name lookups, multicast, and what would be
/// forwarded. Neighbour discovery and multicast membership of the kernel are left out.
const RULES: &str = r#"
table inet watch {
    counter beside { }
    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
        iifname "in" ip daddr 10.92.0.1 tcp dport 1080 accept
        iifname "in" meta l4proto { tcp, udp } counter name beside
    }
}
"#;

struct Scene {
    lab: Lab,
    torrent: Torrent,
}

impl Scene {
    fn new() -> Scene {
        let lab = Lab::new();
        Scene::remove(); // left by a run that was killed
        for command in [
            "netns add rillsockc",
            "netns add rillsockp",
            "netns add rillsocko",
            "link add eth0 netns rillsockc type veth peer name in netns rillsockp",
            "link add out netns rillsockp type veth peer name eth0 netns rillsocko",
            "-n rillsockc addr add 10.92.0.2/24 dev eth0",
            "-n rillsockp addr add 10.92.0.1/24 dev in",
            "-n rillsockp addr add 10.93.0.1/24 dev out",
            "-n rillsocko addr add 10.93.0.2/24 dev eth0",
            "-n rillsockc link set eth0 up",
            "-n rillsockc link set lo up",
            "-n rillsockp link set in up",
            "-n rillsockp link set out up",
            "-n rillsockp link set lo up",
            "-n rillsocko link set eth0 up",
            "-n rillsocko link set lo up",
            "-n rillsockc route add default via 10.92.0.1",
            "-n rillsocko route add default via 10.93.0.1",
        ] {
            assert!(ip(command), "ip {command}");
        }
        // `ip netns exec` puts these files in the place of those in /etc.
        for (network, file, text) in [
            ("rillsockc", "resolv.conf", "nameserver 10.93.0.2\noptions timeout:1 attempts:1\n"),
            ("rillsockp", "hosts", "10.93.0.2 tracker.example\n"),
            ("rillsocko", "hosts", "10.93.0.2 tracker.example\n"),
        ] {
            let dir = Path::new("/etc/netns").join(network);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(file), text).unwrap();
        }
        let rules = lab.at("rules.nft");
        fs::write(&rules, RULES).unwrap();
        assert!(within("rillsockp", "sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]));
        assert!(within("rillsockp", "nft", &["-f", rules.to_str().unwrap()]));
        let torrent = Torrent::make(&lab, Shape::single(6 << 20, 64 << 10), &[&[TRACKER]]);
        let scene = Scene { lab, torrent };
        scene.outside();
        scene
    }

    /// Starts the tracker and the seed.
    fn outside(&self) {
        fs::write(self.lab.at("white"), self.torrent.hex() + "\n").unwrap();
        let mut tracker = Command::new("opentracker");
        tracker.args(["-i", "10.93.0.2", "-p", "6969", "-P", "6969", "-d"]).arg(self.lab.at(""));
        self.lab.start(&mut inside("rillsocko", tracker.args(["-w", "/white"])));
        let mut seed = rill();
        seed.args(["seed", "--no-state", "-v", "-u", "4M", "--listen-port", "6881", "-d"]);
        let seed =
            self.lab.start(&mut inside("rillsocko", seed.arg(&self.torrent.dir).arg(&self.torrent.file)));
        self.lab.wait_for("the seed is announced", || seed.words().contains("tracker.example"));
    }

    fn dante(&self) -> Kid<'_> {
        let settings = self.lab.at("dante.conf");
        let text = "logoutput: stderr\ninternal: 10.92.0.1 port = 1080\nexternal: out\nclientmethod: none\n\
                    socksmethod: none\nuser.unprivileged: proxy\n\
                    client pass { from: 10.92.0.0/24 to: 0.0.0.0/0 }\n\
                    socks pass { from: 10.92.0.0/24 to: 0.0.0.0/0 }\n";
        fs::write(&settings, text).unwrap();
        let mut command = Command::new("danted");
        command.arg("-f").arg(&settings).arg("-p").arg(self.lab.at("dante.pid"));
        let kid = self.lab.start(&mut inside("rillsockp", &command));
        self.listens();
        kid
    }

    fn microsocks(&self) -> Kid<'_> {
        let mut command = Command::new("microsocks");
        command.args(["-i", "10.92.0.1", "-p", "1080", "-u", "user", "-P", "pass:word"]);
        let kid = self.lab.start(&mut inside("rillsockp", &command));
        self.listens();
        kid
    }

    fn listens(&self) {
        let listens = "ss -Hltn sport = :1080 | grep -q 1080";
        self.lab.wait_for("the proxy listens", || within("rillsockp", "sh", &["-c", listens]));
    }

    /// Starts a download with everything turned on that could leave beside the proxy.
    fn get(&self, out: &Path, words: &[&str]) -> Kid<'_> {
        let mut get = rill();
        for variable in ["RILL_NO_PORT_MAPPING", "RILL_NO_DHT", "RILL_NO_LSD", "RILL_NO_PEX"] {
            get.env_remove(variable);
        }
        get.args(["get", "--no-state", "--dht-bootstrap", "router.example:6881"]);
        get.args(["--tracker", "udp://10.93.0.2:6969/announce", "-d"]).arg(out).args(words);
        self.lab.start(&mut inside("rillsockc", get.arg(&self.torrent.file)))
    }

    /// Returns the packets that the client sent beside the proxy.
    fn beside(&self) -> u64 {
        let mut list = Command::new("ip");
        list.args(["netns", "exec", "rillsockp", "nft", "-j", "list", "counter", "inet", "watch", "beside"]);
        let found: serde_json::Value = serde_json::from_slice(&list.output().unwrap().stdout).unwrap();
        found["nftables"]
            .as_array()
            .unwrap()
            .iter()
            .find_map(|part| part["counter"]["packets"].as_u64())
            .unwrap()
    }

    fn remove() {
        for network in NETWORKS {
            ip(&format!("netns del {network}"));
            let _ = fs::remove_dir_all(Path::new("/etc/netns").join(network));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        Scene::remove();
    }
}

#[test]
#[ignore = "needs other programs"]
fn n3_nothing_leaves_beside_the_proxy() {
    need!("ip", "nft", "ss", "opentracker", "danted", "microsocks");
    let scene = Scene::new();
    let control = scene.get(&scene.lab.new_dir("out"), &["--timeout", "4"]);
    control.code();
    assert!(scene.beside() > 0, "without a proxy packets are counted\n{}", scene.lab.words());

    let before = scene.beside();
    let out = scene.lab.new_dir("out");
    let waiting = scene.get(&out, &["--proxy", &format!("socks5://{PROXY}"), "--timeout", "80"]);
    scene.lab.wait_for("the lack of the proxy is said", || waiting.words().contains("cannot be reached"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(scene.beside() - before, 0, "without the proxy something leaves\n{}", scene.lab.words());
    let dante = scene.dante();
    assert_eq!(waiting.code(), 0, "{}", scene.lab.words());
    scene.torrent.must_be_in(&out, &scene.lab);
    dante.signal("TERM");
    scene.lab.wait_for("dante has ended", || dante.ended().is_some());

    let out = scene.lab.new_dir("out");
    let microsocks = scene.microsocks();
    let login = format!("socks5://user:pass%3Aword@{PROXY}");
    let begun = scene.get(&out, &["--proxy", &login, "--timeout", "80", "--max-download-limit", "1M"]);
    scene.lab.wait_for("the download begins", || begun.words().contains("payload.bin: "));
    std::thread::sleep(Duration::from_secs(2));
    microsocks.signal("KILL");
    std::thread::sleep(Duration::from_secs(4));
    let _again = scene.microsocks();
    assert_eq!(begun.code(), 0, "{}", scene.lab.words());
    scene.torrent.must_be_in(&out, &scene.lab);
    assert_eq!(scene.beside() - before, 0, "something left beside the proxy\n{}", scene.lab.words());
    println!("dante and microsocks: {before} packets without a proxy, none beside one");
}
