//! Starts the other clients without a user interface, to seed or to download.
//!
//! DHT, LSD, PEX and port forwarding are off: clients find each other through the torrent's tracker alone.

use crate::content::Torrent;
use crate::lab::{Kid, Lab, free_port, host, other_host};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clients that rill is tested with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Libtorrent,
    Aria2,
    Transmission,
    Rtorrent,
    Rill,
}

/// A libtorrent session that adds one torrent, may leave pieces out, and prints when it is complete.
const LIBTORRENT: &str = r#"
import sys, time, libtorrent as lt
role, torrent, place, address, port, skip = sys.argv[1:7]
quiet = dict.fromkeys(["enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp"], False)
session = lt.session({**quiet, "listen_interfaces": f"{address}:{port}", "allow_multiple_connections_per_ip": True,
    "unchoke_slots_limit": 50, "alert_mask": 0,
    **{name: int(value) for name, value in (option.split("=") for option in sys.argv[7:])}})
params = lt.add_torrent_params()
params.ti = lt.torrent_info(torrent)
params.save_path = place
handle = session.add_torrent(params)
if skip != "-":
    half, of = map(int, skip.split("/"))
    handle.prioritize_pieces([4 if i % of == half else 0 for i in range(params.ti.num_pieces())])
while True:
    status = handle.status()
    if role == "fetch" and status.is_seeding:
        print("whole", flush=True)
        break
    time.sleep(0.05)
"#;

impl Client {
    /// Returns the program that must be installed.
    pub fn program(self) -> &'static str {
        match self {
            Client::Libtorrent => "libtorrent",
            Client::Aria2 => "aria2c",
            Client::Transmission => "transmission-cli",
            Client::Rtorrent => "rtorrent",
            Client::Rill => "sh",
        }
    }

    /// Seeds `torrent` from `dir`.
    pub fn seed<'a>(self, lab: &'a Lab, torrent: &Torrent, dir: &Path) -> Kid<'a> {
        self.seed_told(lab, torrent, dir, &[""; 0])
    }

    /// Seeds `torrent` from `dir`, told more in the client's own words: options, for libtorrent settings as
    /// `name=number`, for rtorrent a line of its configuration.
    pub fn seed_told<'a, T: AsRef<str>>(
        self,
        lab: &'a Lab,
        torrent: &Torrent,
        dir: &Path,
        more: &[T],
    ) -> Kid<'a> {
        let more = more.iter().map(AsRef::as_ref);
        let port = free_port().to_string();
        let mut command = match self {
            Client::Libtorrent => {
                let mut command = libtorrent("seed", torrent, dir, &port, "-");
                command.args(more);
                command
            }
            Client::Aria2 => {
                let mut command = aria2(torrent, dir, &port);
                command.args(more).args([
                    "--seed-ratio=0",
                    "--bt-hash-check-seed=true",
                    "--check-integrity=true",
                ]);
                command
            }
            Client::Transmission => {
                let mut command = transmission(lab, torrent, dir, &port);
                command.args(more);
                command
            }
            Client::Rtorrent => rtorrent(lab, torrent, dir, &port, &more.collect::<String>()),
            Client::Rill => {
                let mut command = rill();
                command.args(["seed", "--no-state", "--listen-port", &port, "-v"]).args(more);
                command.arg("-d").arg(dir).arg(&torrent.file);
                command
            }
        };
        lab.start(&mut command)
    }

    /// Downloads `torrent` into `dir` and waits until the client reports completion.
    pub fn fetch(self, lab: &Lab, torrent: &Torrent, dir: &Path) {
        self.fetch_at(lab, torrent, dir, free_port());
    }

    /// Downloads `torrent` into `dir`, listening at this port.
    pub fn fetch_at(self, lab: &Lab, torrent: &Torrent, dir: &Path, port: u16) {
        self.fetch_told(lab, torrent, dir, port, &[]);
    }

    /// Downloads `torrent` into `dir`, listening at this port and told more as with [`Client::seed_told`].
    pub fn fetch_told<'a>(
        self,
        lab: &'a Lab,
        torrent: &Torrent,
        dir: &Path,
        port: u16,
        more: &[&str],
    ) -> Kid<'a> {
        let port = port.to_string();
        let mark = lab.new_dir("mark").join("whole");
        let mut command = match self {
            Client::Libtorrent => {
                let mut command = libtorrent("fetch", torrent, dir, &port, "-");
                command.args(more);
                command
            }
            Client::Aria2 => {
                let mut command = aria2(torrent, dir, &port);
                command.args(more).arg("--seed-time=0");
                command
            }
            Client::Transmission => {
                let mut command = transmission(lab, torrent, dir, &port);
                command.args(more).arg("-f").arg(script(&mark));
                command
            }
            Client::Rtorrent => {
                let touch = format!(
                    "method.set_key=event.download.finished,mark,\"execute.nothrow=touch,{}\"\n",
                    mark.display()
                );
                rtorrent(lab, torrent, dir, &port, &(touch + &more.concat()))
            }
            Client::Rill => {
                let mut command = rill();
                command
                    .args(["get", "--no-state", "--listen-port", &port, "-v"])
                    .args(more)
                    .arg("-d")
                    .arg(dir)
                    .arg(&torrent.file);
                command
            }
        };
        let kid = lab.start(&mut command);
        match self {
            Client::Transmission | Client::Rtorrent => {
                lab.wait_for(&format!("{self:?} is done"), || mark.exists() || kid.ended().is_some());
                assert!(mark.exists(), "{self:?} gave up\n{}", lab.words());
                // The client writes the rest of its memory to the disk when it ends.
                kid.signal("TERM");
                kid.code();
            }
            _ => assert_eq!(kid.code(), 0, "{self:?} failed\n{}", lab.words()),
        }
        kid
    }
}

/// Returns a command for the binary under test, with DHT, LSD and port mapping off.
pub fn rill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
    command.env("LC_ALL", "C").env_remove("HOME").env("RILL_NO_DHT", "1").env("RILL_NO_LSD", "1");
    command.env("RILL_NO_PORT_MAPPING", "1");
    command
}

/// Starts a rill that seeds `torrent` at this port with this upload limit, and waits until it listens.
pub fn rill_at<'a>(lab: &'a Lab, torrent: &Torrent, port: u16, rate: &str) -> Kid<'a> {
    let mut seed = rill();
    seed.args(["seed", "--no-state", "-u", rate, "--listen-port", &port.to_string(), "-d"]);
    let kid = lab.start(seed.arg(&torrent.dir).arg(&torrent.file));
    // A client does not dial again for a minute after a failed attempt.
    lab.wait_for("rill listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    kid
}

/// Starts a libtorrent that has and wants only a part of the pieces.
pub fn libtorrent_part<'a>(lab: &'a Lab, torrent: &Torrent, dir: &Path, part: &str) -> Kid<'a> {
    lab.start(&mut libtorrent("seed", torrent, dir, &free_port().to_string(), part))
}

fn libtorrent(role: &str, torrent: &Torrent, dir: &Path, port: &str, part: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", LIBTORRENT, role]).arg(&torrent.file).arg(dir).args([
        &host().to_string(),
        port,
        part,
    ]);
    command
}

fn aria2(torrent: &Torrent, dir: &Path, port: &str) -> Command {
    let mut command = Command::new("aria2c");
    command.args([
        "--no-conf",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
    ]);
    command.args([
        "--file-allocation=none",
        "--follow-torrent=mem",
        "--summary-interval=0",
        "--allow-overwrite=true",
    ]);
    command.arg(format!("--listen-port={port}")).arg("-d").arg(dir).arg(&torrent.file);
    command
}

fn transmission(lab: &Lab, torrent: &Torrent, dir: &Path, port: &str) -> Command {
    let config = lab.new_dir("transmission");
    let off = ["dht-enabled", "lpd-enabled", "pex-enabled", "utp-enabled", "port-forwarding-enabled"];
    let lines: String = off.iter().map(|key| format!("\"{key}\": false, ")).collect();
    fs::write(
        config.join("settings.json"),
        format!("{{{lines}\"bind-address-ipv4\": \"{}\", \"encryption\": 0}}", other_host()),
    )
    .unwrap();
    let mut command = Command::new("transmission-cli");
    command.arg("-g").arg(&config).arg("-w").arg(dir).args(["-M", "-D", "-U", "-p", port]).arg(&torrent.file);
    command
}

fn rtorrent(lab: &Lab, torrent: &Torrent, dir: &Path, port: &str, more: &str) -> Command {
    let config = lab.new_dir("rtorrent");
    let session = config.join("session");
    fs::create_dir(&session).unwrap();
    let lines = [
        format!("session.path.set={}", session.display()),
        format!("directory.default.set={}", dir.display()),
        format!("network.port_range.set={port}-{port}"),
        "system.daemon.set=true".into(),
        "dht.mode.set=disable".into(),
        "protocol.pex.set=no".into(),
        "pieces.hash.on_completion.set=no".into(),
        more.into(),
        format!("load.start={}", torrent.file.display()),
    ];
    let rc = config.join("rc");
    fs::write(&rc, lines.join("\n") + "\n").unwrap();
    let mut command = Command::new("rtorrent");
    command.arg("-n").arg("-o").arg(format!("import={}", rc.display()));
    command
}

/// Writes a script that creates `mark`.
fn script(mark: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = mark.with_extension("sh");
    fs::write(&path, format!("#!/bin/sh\ntouch '{}'\n", mark.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
