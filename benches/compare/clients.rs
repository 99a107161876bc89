//! The clients: whether they are here, which version, and how each is started to fetch or to seed.
//!
//! All are treated alike. Peers come from the tracker alone (no DHT, no local discovery, no peer exchange
//! where it can be turned off), over TCP (no uTP), in the clear, without limits. No client reads a
//! configuration of the user's. What would cost a client CPU without need is off: aria2 would write the whole
//! file once before it begins, rtorrent would hash everything again at the end. Everything else is the
//! client's default.

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

/// Where every client listens.
pub const PORT: u16 = 6881;
/// The same, as it is typed.
pub const PORT_TEXT: &str = "6881";
/// What rill is told in any work.
pub const RILL: [&str; 6] = ["-q", "--no-dht", "--no-lsd", "--no-pex", "--listen-port", PORT_TEXT];
/// What aria2 is told in any work.
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
/// What rqbit is told in any work.
pub const RQBIT: [&str; 5] =
    ["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--listen-port", PORT_TEXT];
/// A libtorrent client, for Python.
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

/// A client that is here.
#[derive(Clone, Debug)]
pub struct Installed {
    pub client: Client,
    /// What its rows are called.
    pub name: String,
    /// For libtorrent the Python that has it.
    pub program: PathBuf,
    pub version: String,
}

/// What a client works on.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    pub torrent: &'a Path,
    /// Where the content is, or will be.
    pub dir: &'a Path,
    /// An empty directory for what the client keeps.
    pub state: &'a Path,
}

impl Job<'_> {
    /// A file that appears when the download is complete, from clients that do not end then.
    pub fn mark(&self) -> PathBuf {
        self.state.join("complete")
    }
}

impl Installed {
    /// Another build of rill, under the name of its file.
    pub fn another_rill(program: &Path) -> Result<Installed> {
        let program =
            program.canonicalize().map_err(Fault::at(format_args!("no rill at {}", program.display())))?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Installed { name, ..Installed::rill(&program)? })
    }

    /// rill at this path.
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

    /// Another client, if it is here.
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

    /// The interpreter itself: what is called python3 may be a script that would be measured too.
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

    /// Fetches the torrent. It ends when it is complete, or makes the job's mark.
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
                libtorrent(&mut command, "fetch", job.torrent, job.dir, &[FETCHER.to_string()])
            }
            Client::Rqbit => rqbit(&mut command, job, &["--exit-on-finish"]),
        }
        Ok(command)
    }

    /// Checks what is there and serves it until it is killed; where `peers` is given, to so many at once if
    /// they come.
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
                // It says that there are too many at two thirds of its limit.
                let limit = peers.map(|peers| (2 * peers).to_string());
                let words: Vec<String> = std::iter::once(server(0).to_string()).chain(limit).collect();
                libtorrent(&mut command, "seed", job.torrent, job.dir, &words);
            }
            Client::Rqbit => {
                command.args(limit("--peer-limit="));
                rqbit(&mut command, job, &[]);
            }
        }
        Ok(command)
    }

    /// libtorrent serving from each of these addresses, `up` bytes a second at most (0: no limit), without
    /// checking first.
    pub fn source(&self, job: Job<'_>, addresses: &[Ipv4Addr], up: u64) -> Command {
        let mut command = self.command(job.state);
        let words = std::iter::once(up.to_string()).chain(addresses.iter().map(Ipv4Addr::to_string));
        libtorrent(&mut command, "source", job.torrent, job.dir, &words.collect::<Vec<_>>());
        command
    }

    /// The program, with `state` for a home.
    pub fn command(&self, state: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.env("LC_ALL", "C");
        // Python looks there for its modules.
        if self.client != Client::Libtorrent {
            command.env("HOME", state).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        }
        command
    }
}

fn rill(command: &mut Command, job: Job<'_>) {
    command.args(RILL).args(["--no-state", "-d"]).arg(job.dir).arg(job.torrent);
}

fn aria2(command: &mut Command, job: Job<'_>) {
    command.args(ARIA2).args(["--bt-max-peers=0", "--file-allocation=none", "--follow-torrent=mem", "-d"]);
    command.arg(job.dir).arg(job.torrent);
}

fn transmission(command: &mut Command, job: Job<'_>, peers: Option<usize>) -> Result<()> {
    transmission_settings(job.state, peers)?;
    // No limit either way, no port mapping.
    command
        .args(["-D", "-U", "-M", "-p", PORT_TEXT, "-g"])
        .arg(job.state)
        .arg("-w")
        .arg(job.dir)
        .arg(job.torrent);
    Ok(())
}

/// What Transmission finds in its directory when it starts.
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
    rtorrent_settings(
        command,
        job.dir,
        job.state,
        &format!("{peers}\n{more}\nload.start={}", job.torrent.display()),
    )
}

/// rtorrent with these commands after those that every work has.
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

/// libtorrent in this role for this torrent, or directory of torrents.
pub fn libtorrent(command: &mut Command, role: &str, torrent: &Path, dir: &Path, words: &[String]) {
    command.args(["-c", LIBTORRENT, role]).arg(torrent).arg(dir).args(words);
}

fn rqbit(command: &mut Command, job: Job<'_>, words: &[&str]) {
    command.args(RQBIT).args(["download", "--overwrite", "-o"]).arg(job.dir).args(words).arg(job.torrent);
}

/// Writes a whole file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Fault::at(path.display()))
}

/// Makes a directory in this place.
pub fn new_dir(place: &Path, name: &str) -> Result<PathBuf> {
    let path = place.join(name);
    fs::create_dir(&path).map_err(Fault::at(path.display()))?;
    Ok(path)
}

/// The first line that a program prints when asked with these words; none if it cannot be started or says no.
fn first_line(program: impl AsRef<OsStr>, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).env("LC_ALL", "C").output().ok()?;
    // Which of the two a version goes to differs; rtorrent says its own at the head of its help.
    let said = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&said)
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())?
        .trim_end_matches('.')
        .to_owned();
    (output.status.success() || !line.contains("rror")).then_some(line)
}
