//! Peer exchange (BEP 11): A and C know only B, and find each other because B sends them addresses. There is
//! no tracker, DHT or LSD. B is so slow that the content of C can only come from A.

use crate::clients::rill;
use crate::content::{Shape, Torrent};
use crate::lab::{Kid, Lab, free_port, host};
use crate::need;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Download limit of B in bytes a second: the whole content would take ten minutes.
const SLOW: &str = "8K";
/// Time limit: libtorrent sends its peers once a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a libtorrent session that connects to one peer, or waits for peers, with this download limit, and
/// prints when it is complete.
const LIBTORRENT: &str = r#"
import sys, time, libtorrent as lt
torrent, place, address, port, peer, rate = sys.argv[1:7]
off = dict.fromkeys(["enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp"], False)
session = lt.session({**off, "listen_interfaces": f"{address}:{port}", "allow_multiple_connections_per_ip": True, "alert_mask": 0,
    "out_enc_policy": 2})  # plain: rill does not speak the other, and libtorrent waits a minute before it tries again
params = lt.add_torrent_params()
params.ti = lt.torrent_info(torrent)
params.save_path = place
params.download_limit = int(rate) or -1
handle = session.add_torrent(params)
if peer != "-":
    handle.connect_peer((address, int(peer)))
while True:
    if handle.status().is_seeding:
        print("whole", flush=True)
    time.sleep(0.1)
"#;

struct Meeting<'a> {
    lab: &'a Lab,
    torrent: Torrent,
    /// Port of B.
    middle: u16,
}

impl<'a> Meeting<'a> {
    fn new(lab: &'a Lab) -> Meeting<'a> {
        Meeting {
            lab,
            torrent: Torrent::make(lab, Shape::single(5 << 20, 64 << 10), &[]),
            middle: free_port(),
        }
    }

    fn rill(&self, words: &[&str], dir: &Path) -> Kid<'a> {
        let mut command = rill();
        command.args(words).args(["--no-state", "-v", "-d"]).arg(dir).arg(&self.torrent.file);
        self.lab.start(&mut command)
    }

    /// Starts a rill that knows B.
    fn rill_beside(&self, what: &str, dir: &Path) -> Kid<'a> {
        let peer = format!("{}:{}", host(), self.middle);
        self.rill(&[what, "--peer", &peer, "--listen-port", &free_port().to_string()], dir)
    }

    fn libtorrent(&self, port: u16, peer: &str, rate: &str, dir: &Path) -> Kid<'a> {
        let mut command = Command::new("python3");
        command.args(["-W", "ignore", "-c", LIBTORRENT]).arg(&self.torrent.file).arg(dir);
        self.lab.start(command.args([&host().to_string(), &port.to_string(), peer, rate]))
    }

    fn libtorrent_beside(&self, dir: &Path) -> Kid<'a> {
        self.libtorrent(free_port(), &self.middle.to_string(), "0", dir)
    }

    /// Starts rill as B.
    fn rill_between(&self) {
        let port = self.middle.to_string();
        self.rill(
            &["get", "--max-download-limit", SLOW, "--listen-port", &port],
            &self.lab.new_dir("between"),
        );
        self.lab.wait_for("B listens", || TcpStream::connect((host(), self.middle)).is_ok());
    }

    /// Starts libtorrent as B.
    fn libtorrent_between(&self) {
        self.libtorrent(self.middle, "-", "8192", &self.lab.new_dir("between"));
        self.lab.wait_for("B listens", || TcpStream::connect((host(), self.middle)).is_ok());
    }

    /// Waits until C is complete.
    fn meets(&self, c: Kid<'_>, out: &Path, is_whole: impl Fn(&Kid<'_>) -> bool) {
        let begun = Instant::now();
        self.lab.wait_up_to(PATIENCE, "C has everything", &mut || is_whole(&c));
        println!("C is complete after {:.1} s", begun.elapsed().as_secs_f64());
        self.torrent.must_be_in(out, self.lab);
    }
}

fn ended_well(kid: &Kid<'_>) -> bool {
    kid.ended().is_some_and(|status| status.success()) && kid.words().contains("is a peer (pex)")
}

#[test]
#[ignore = "needs other programs"]
fn rill_finds_rill_through_libtorrent() {
    need!("libtorrent");
    let lab = Lab::new();
    let m = Meeting::new(&lab);
    m.libtorrent_between();
    m.rill_beside("seed", &m.torrent.dir);
    let out = lab.new_dir("out");
    m.meets(m.rill_beside("get", &out), &out, |c| {
        ended_well(c) || c.words().contains("is a peer (incoming)") && c.ended().is_some()
    });
}

#[test]
#[ignore = "needs other programs"]
fn rill_finds_libtorrent_through_rill() {
    need!("libtorrent");
    let lab = Lab::new();
    let m = Meeting::new(&lab);
    m.rill_between();
    m.libtorrent_beside(&m.torrent.dir);
    let out = lab.new_dir("out");
    m.meets(m.rill_beside("get", &out), &out, |c| {
        ended_well(c) || c.words().contains("is a peer (incoming)") && c.ended().is_some()
    });
}

#[test]
#[ignore = "needs other programs"]
fn libtorrent_finds_rill_through_rill() {
    need!("libtorrent");
    let lab = Lab::new();
    let m = Meeting::new(&lab);
    m.rill_between();
    m.rill_beside("seed", &m.torrent.dir);
    let out = lab.new_dir("out");
    m.meets(m.libtorrent_beside(&out), &out, |c| c.words().contains("whole"));
}
