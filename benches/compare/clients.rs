//! The clients: finds them with their versions, and starts them to download or to seed.
//!
//! All clients have the same conditions. Peers come from the tracker alone (no DHT, no LSD, no PEX where it
//! can be turned off), over TCP (no uTP), unencrypted unless the work is about encryption, without limits. No client reads the user's
//! configuration. Features that cost CPU without need are off: aria2 would write the whole file before the
//! download, rtorrent would hash all content again at the end. Everything else is the client's default.

use crate::fault::{Fault, Result};
use crate::networks::{FETCHER, server};
use clap::ValueEnum;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Port of every client.
pub const PORT: u16 = 6881;
/// Port of every client as text.
pub const PORT_TEXT: &str = "6881";
/// Options of rill in every work.
pub const RILL: [&str; 6] = ["-q", "--no-dht", "--no-lsd", "--no-pex", "--listen-port", PORT_TEXT];
/// Options of aria2 in every work.
pub const ARIA2: [&str; 8] = [
    "--no-conf",
    "-q",
    "--enable-dht=false",
    "--enable-dht6=false",
    "--bt-enable-lpd=false",
    "--enable-peer-exchange=false",
    "--listen-port",
    PORT_TEXT,
];
/// Options of rqbit in every work.
pub const RQBIT: [&str; 5] =
    ["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--listen-port", PORT_TEXT];
/// A libtorrent client in Python.
const LIBTORRENT: &str = include_str!("libtorrent.py");

/// A client that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Client {
    #[value(skip)]
    Rill,
    Aria2,
    Rtorrent,
    Transmission,
    Libtorrent,
    Rqbit,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Client::Rill => "rill",
            Client::Aria2 => "aria2",
            Client::Rtorrent => "rtorrent",
            Client::Transmission => "transmission",
            Client::Libtorrent => "libtorrent",
            Client::Rqbit => "rqbit",
        })
    }
}

/// An installed client.
#[derive(Clone, Debug)]
pub struct Installed {
    pub client: Client,
    /// Name of its rows.
    pub name: String,
    /// Path of the program; for libtorrent the Python interpreter.
    pub program: PathBuf,
    pub version: String,
}

/// Torrent and directories of one run.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    pub torrent: &'a Path,
    /// Directory of the content.
    pub dir: &'a Path,
    /// An empty directory for the client's state.
    pub state: &'a Path,
    /// Require encryption of the whole stream.
    pub encrypted: bool,
}

impl Job<'_> {
    /// Returns the path of a file that clients create when the download is complete, if they do not end
    /// by themselves.
    pub fn mark(&self) -> PathBuf {
        self.state.join("complete")
    }
}

impl Installed {
    /// Returns another build of rill, named after its file.
    pub fn another_rill(program: &Path) -> Result<Installed> {
        let program =
            program.canonicalize().map_err(Fault::at(format_args!("no rill at {}", program.display())))?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Installed { name, ..Installed::rill(&program)? })
    }

    /// Returns rill at this path.
    pub fn rill(program: &Path) -> Result<Installed> {
        let version = first_line(program, &["--version"])
            .ok_or_else(|| Fault::Wrong(format!("cannot run {}", program.display())))?;
        Ok(Installed {
            client: Client::Rill,
            name: Client::Rill.to_string(),
            program: program.to_owned(),
            version,
        })
    }

    /// Returns another client if it is installed.
    pub fn find(client: Client) -> Option<Installed> {
        let (name, asks): (&str, &[&str]) = match client {
            Client::Rill => return None,
            Client::Aria2 => ("aria2c", &["--version"]),
            Client::Rtorrent => ("rtorrent", &["-h"]),
            Client::Transmission => ("transmission-cli", &["--version"]),
            Client::Rqbit => ("rqbit", &["--version"]),
            Client::Libtorrent => return Installed::python(),
        };
        let version = first_line(OsStr::new(name), asks)?;
        Some(Installed { client, name: client.to_string(), program: name.into(), version })
    }

    /// Returns the interpreter itself: `python3` may be a script, which would be measured as well.
    fn python() -> Option<Installed> {
        let ask =
            "import sys, libtorrent; print(sys.executable, libtorrent.__version__, sys.version.split()[0])";
        let line = first_line(OsStr::new("python3"), &["-c", ask])?;
        let [program, version, python] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        let version = format!("libtorrent {version}, in Python {python}");
        Some(Installed {
            client: Client::Libtorrent,
            name: Client::Libtorrent.to_string(),
            program: program.into(),
            version,
        })
    }

    /// Returns the command that downloads the torrent. It ends when the download is complete, or creates
    /// the job's mark.
    pub fn fetch(&self, job: Job<'_>) -> Result<Command> {
        let mut command = self.command(job.state);
        match self.client {
            Client::Rill => rill(command.arg("get"), job),
            Client::Aria2 => aria2(command.args(["--seed-time=0", "--allow-overwrite=true"]), job),
            Client::Transmission => {
                let script = job.state.join("complete.sh");
                write(&script, &format!("#!/bin/sh\n: > '{}'\n", job.mark().display()))?;
                fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
                    .map_err(Fault::at(script.display()))?;
                transmission(command.arg("-f").arg(script), job, None)?;
            }
            Client::Rtorrent => {
                let touch = format!("execute.nothrow=touch,{}", job.mark().display());
                let mark = format!("method.set_key=event.download.finished,mark,\"{touch}\"");
                rtorrent(&mut command, job, &mark)?;
            }
            Client::Libtorrent => {
                libtorrent(&mut command, "fetch", job, &[FETCHER.to_string()]);
            }
            Client::Rqbit => rqbit(&mut command, job, &["--exit-on-finish"]),
        }
        Ok(command)
    }

    /// Returns the command that checks and seeds the content until it is killed. `peers` is the number of
    /// connections that the client must allow.
    pub fn seed(&self, job: Job<'_>, peers: Option<usize>) -> Result<Command> {
        let mut command = self.command(job.state);
        let limit = |name: &str| peers.map(|peers| format!("{name}{peers}"));
        match self.client {
            Client::Rill => rill(command.arg("seed").args(limit("--max-peers=")), job),
            Client::Aria2 => aria2(
                command.args(["--seed-ratio=0", "--check-integrity=true", "--bt-hash-check-seed=true"]),
                job,
            ),
            Client::Transmission => transmission(&mut command, job, peers)?,
            Client::Rtorrent => {
                let names = ["throttle.max_peers.seed.set=", "network.max_open_sockets.set="];
                let limits: Vec<String> = names.into_iter().filter_map(limit).collect();
                rtorrent(&mut command, job, &limits.join("\n"))?;
            }
            Client::Libtorrent => {
                // rtorrent refuses connections at two thirds of its limit.
                let limit = peers.map(|peers| (2 * peers).to_string());
                let args: Vec<String> = std::iter::once(server(0).to_string()).chain(limit).collect();
                libtorrent(&mut command, "seed", job, &args);
            }
            Client::Rqbit => {
                command.args(limit("--peer-limit="));
                rqbit(&mut command, job, &[]);
            }
        }
        Ok(command)
    }

    /// Returns the command for a libtorrent that seeds from each of these addresses with this upload
    /// limit in bytes a second (0: no limit), without checking the content.
    pub fn source(&self, job: Job<'_>, addresses: &[Ipv4Addr], up: u64) -> Command {
        let mut command = self.command(job.state);
        let args = std::iter::once(up.to_string()).chain(addresses.iter().map(Ipv4Addr::to_string));
        libtorrent(&mut command, "source", job, &args.collect::<Vec<_>>());
        command
    }

    /// Returns the program with `state` as home directory.
    pub fn command(&self, state: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.env("LC_ALL", "C");
        // Python finds its user modules through HOME.
        if self.client != Client::Libtorrent {
            command.env("HOME", state).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        }
        command
    }
}

fn rill(command: &mut Command, job: Job<'_>) {
    if job.encrypted {
        command.args(["--encryption", "require"]);
    }
    command.args(RILL).args(["--no-state", "-d"]).arg(job.dir).arg(job.torrent);
}

fn aria2(command: &mut Command, job: Job<'_>) {
    if job.encrypted {
        command.arg("--bt-force-encryption=true");
    }
    command.args(ARIA2).args(["--bt-max-peers=0", "--file-allocation=none", "--follow-torrent=mem", "-d"]);
    command.arg(job.dir).arg(job.torrent);
}

fn transmission(command: &mut Command, job: Job<'_>, peers: Option<usize>) -> Result<()> {
    transmission_settings(job.state, peers)?;
    if job.encrypted {
        command.arg("-er");
    }
    // No upload or download limit, no port mapping.
    command
        .args(["-D", "-U", "-M", "-p", PORT_TEXT, "-g"])
        .arg(job.state)
        .arg("-w")
        .arg(job.dir)
        .arg(job.torrent);
    Ok(())
}

/// Writes Transmission's settings.
pub fn transmission_settings(state: &Path, peers: Option<usize>) -> Result<()> {
    let off = [
        "dht-enabled",
        "lpd-enabled",
        "pex-enabled",
        "utp-enabled",
        "port-forwarding-enabled",
        "rpc-enabled",
    ];
    let mut settings: serde_json::Map<_, _> =
        off.iter().map(|key| ((*key).to_owned(), false.into())).collect();
    settings.insert("encryption".to_owned(), 0.into());
    for key in ["peer-limit-global", "peer-limit-per-torrent"] {
        settings.extend(peers.map(|peers| (key.to_owned(), peers.into())));
    }
    write(&state.join("settings.json"), &serde_json::Value::from(settings).to_string())
}

fn rtorrent(command: &mut Command, job: Job<'_>, more: &str) -> Result<()> {
    let peers = "throttle.min_peers.normal.set=1\nthrottle.max_peers.normal.set=200";
    let rc4 = "\nprotocol.encryption.set=allow_incoming,try_outgoing,require,require_RC4";
    let encryption = if job.encrypted { rc4 } else { "" };
    rtorrent_settings(
        command,
        job.dir,
        job.state,
        &format!("{peers}{encryption}\n{more}\nload.start={}", job.torrent.display()),
    )
}

/// Configures rtorrent with the commands of every work and then these.
pub fn rtorrent_settings(command: &mut Command, dir: &Path, state: &Path, more: &str) -> Result<()> {
    let session = new_dir(state, "session")?;
    let lines = [
        format!("session.path.set={}\ndirectory.default.set={}", session.display(), dir.display()),
        format!(
            "network.port_range.set={PORT}-{PORT}\nsystem.daemon.set=true\ndht.mode.set=disable\nprotocol.pex.set=no"
        ),
        format!("pieces.hash.on_completion.set=no\n{more}\n"),
    ];
    let settings = state.join("rtorrent.rc");
    write(&settings, &lines.join("\n"))?;
    command.arg("-n").arg("-o").arg(format!("import={}", settings.display()));
    Ok(())
}

/// Adds the arguments of libtorrent.py: role, torrent or directory of torrents, content, and more.
pub fn libtorrent(command: &mut Command, role: &str, job: Job<'_>, args: &[String]) {
    command.env("RC4", if job.encrypted { "1" } else { "" });
    command.args(["-c", LIBTORRENT, role]).arg(job.torrent).arg(job.dir).args(args);
}

fn rqbit(command: &mut Command, job: Job<'_>, args: &[&str]) {
    command.args(RQBIT).args(["download", "--overwrite", "-o"]).arg(job.dir).args(args).arg(job.torrent);
}

/// Writes a file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Fault::at(path.display()))
}

/// Creates a directory in `place`.
pub fn new_dir(place: &Path, name: &str) -> Result<PathBuf> {
    let path = place.join(name);
    fs::create_dir(&path).map_err(Fault::at(path.display()))?;
    Ok(path)
}

/// Returns the first line that a program prints with these arguments, or `None` if it cannot be started or
/// fails.
fn first_line(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).env("LC_ALL", "C").output().ok()?;
    // Some programs print their version on stdout, some on stderr; rtorrent prints it in its help.
    let printed = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&printed)
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())?
        .trim_end_matches('.')
        .to_owned();
    (output.status.success() || !line.contains("rror")).then_some(line)
}
