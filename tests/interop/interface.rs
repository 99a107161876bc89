//! `--interface`: nothing leaves elsewhere, whatever the routes say, and an interface that comes back is used again.
//!
//! ```text
//!   bridge ──┬── network 0: the seed
//!            └── network 1: the downloader, with a second interface that leads nowhere
//! ```

use crate::clients::rill;
use crate::content::{Shape, Torrent};
use crate::lab::{Kid, Lab};
use crate::need;
use crate::networks::{Family, Networks};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

const PORT: &str = "6881";

struct Scene<'a> {
    lab: &'a Lab,
    networks: Networks,
    torrent: Torrent,
    /// Connections to a tracker on the bridge.
    asked: Arc<AtomicU32>,
    tracker: String,
}

impl<'a> Scene<'a> {
    fn new(lab: &'a Lab, rate: &str) -> Option<Scene<'a>> {
        let networks = Networks::new("rillnic", 81, Family::V4, 2)?;
        let nowhere = [
            "link add nowhere type veth peer name end",
            "addr add 10.99.0.1/24 dev nowhere",
            "link set nowhere up",
            "link set end up",
        ];
        assert!(nowhere.iter().all(|words| networks.ip(1, words)));
        let torrent = Torrent::make(lab, Shape::single(6 << 20, 64 << 10), &[]);
        let mut seed = rill();
        seed.args(["seed", "--no-state", "-u", rate, "--listen-port", PORT, "-d"]);
        lab.start(&mut networks.inside(0, seed.arg(&torrent.dir).arg(&torrent.file)));
        let listener = TcpListener::bind((networks.bridge_address(), 0)).unwrap();
        let tracker = format!("http://{}/announce", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        std::thread::spawn(move || listener.incoming().for_each(|_| _ = count.fetch_add(1, Relaxed)));
        Some(Scene { lab, networks, torrent, asked, tracker })
    }

    fn get(&self, out: &Path, words: &[&str]) -> Kid<'a> {
        let mut get = rill();
        get.args(["get", "--no-state", "--listen-port", PORT, "--tracker", &self.tracker]);
        get.args(["--peer", &format!("{}:{PORT}", self.networks.address_of(0))]).args(words);
        self.lab.start(&mut self.networks.inside(1, get.arg("-d").arg(out).arg(&self.torrent.file)))
    }
}

#[test]
#[ignore = "needs other programs"]
fn n1_nothing_leaves_but_through_the_interface() {
    need!("ip");
    let lab = Lab::new();
    let Some(scene) = Scene::new(&lab, "0") else { return };
    let packets = || scene.networks.packets_of(1);
    lab.wait_for("the network is quiet", || {
        let before = packets();
        std::thread::sleep(Duration::from_millis(500));
        packets() == before
    });
    let before = packets();
    let out = lab.new_dir("nowhere");
    let kid = scene.get(&out, &["--interface", "nowhere", "--timeout", "3"]);
    assert_eq!(kid.code(), 2, "{}", lab.words());
    assert_eq!(packets() - before, 0, "packets left through another interface");
    // A packet from the other interface's address leaves by the route, and no answer finds it.
    let kid = scene.get(&out, &["--interface", "10.99.0.1", "--timeout", "3"]);
    assert_eq!(kid.code(), 2, "{}", lab.words());
    assert_eq!(scene.asked.load(Relaxed), 0, "the tracker was reached");
    let out = lab.new_dir("out");
    let kid = scene.get(&out, &["--interface", "eth0", "--timeout", "30"]);
    assert_eq!(kid.code(), 0, "{}", lab.words());
    scene.torrent.must_be_in(&out, &lab);
    assert!(scene.asked.load(Relaxed) > 0, "the tracker was not asked");
}

#[test]
#[ignore = "needs other programs"]
fn n2_an_interface_that_comes_back_is_used_again() {
    need!("ip");
    let lab = Lab::new();
    let Some(scene) = Scene::new(&lab, "1M") else { return };
    let out = lab.new_dir("out");
    let kid = scene.get(&out, &["--interface", "eth0", "--timeout", "80"]);
    lab.wait_for("the download begins", || kid.words().contains("payload.bin: "));
    std::thread::sleep(Duration::from_secs(2));
    assert!(scene.networks.disconnect(1));
    lab.wait_for("the loss is said", || kid.words().contains("eth0 is gone: nothing is sent"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(kid.ended().is_none(), "{}", lab.words());
    assert!(scene.networks.connect(1));
    lab.wait_for("the return is said", || kid.words().contains("eth0 is back"));
    assert_eq!(kid.code(), 0, "{}", lab.words());
    scene.torrent.must_be_in(&out, &lab);
}
