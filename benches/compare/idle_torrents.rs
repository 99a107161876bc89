//! Starts each client to seed a thousand complete torrents.
//!
//! No client hashes the TiB of zeros in a measured run. Transmission, rtorrent and rqbit find records like
//! those of an earlier run, written here; rill writes its records in a run that is not measured; aria2 and
//! libtorrent have options to skip the check.

use crate::clients::{ARIA2, Client, Installed, Job, PORT_TEXT, RILL, RQBIT};
use crate::clients::{libtorrent, new_dir, rtorrent_settings, transmission_settings, write};
use crate::fault::{Fault, Result};
use crate::networks::server;
use crate::sparse_torrents::{SparseTorrent, SparseTorrents};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

impl Installed {
    /// Returns whether the client writes its records in a run before the measured one.
    pub fn saves_records(&self) -> bool {
        self.client == Client::Rill
    }

    /// Returns the command that seeds all torrents until it is killed, with `state`, an empty directory,
    /// for its state.
    pub fn seed_all(&self, sparse_torrents: &SparseTorrents, state: &Path) -> Result<Command> {
        let mut command = self.command(state);
        let torrents = sparse_torrents.list.iter().map(|sparse| &sparse.torrent);
        match self.client {
            Client::Rill => {
                command.arg("seed").args(RILL).arg("--state-dir").arg(state.join("records"));
                command.arg("-d").arg(&sparse_torrents.dir).args(torrents);
            }
            Client::Aria2 => {
                command.args(ARIA2).args(["--seed-ratio=0", "--bt-seed-unverified=true", "-Z"]);
                command.arg(format!("--max-concurrent-downloads={}", sparse_torrents.list.len()));
                command.arg("-d").arg(&sparse_torrents.dir).args(torrents);
            }
            Client::Transmission => command = transmission_daemon(sparse_torrents, state)?,
            Client::Rtorrent => {
                let marked = new_dir(state, "torrents")?;
                for sparse in &sparse_torrents.list {
                    let record = rtorrent_record(sparse, &sparse_torrents.dir)?;
                    let torrent = fs::read(&sparse.torrent).map_err(Fault::at(sparse.torrent.display()))?;
                    // Keys are sorted: no key of the torrent comes after this one.
                    let body = torrent.strip_suffix(b"e").unwrap_or(&torrent);
                    let to = marked.join(format!("{}.torrent", sparse.name));
                    let resumed = [body, b"17:libtorrent_resume", record.as_bytes(), b"e"].concat();
                    fs::write(&to, resumed).map_err(Fault::at(to.display()))?;
                }
                rtorrent_settings(
                    &mut command,
                    &sparse_torrents.dir,
                    state,
                    &format!("load.start={}/*.torrent", marked.display()),
                )?;
            }
            Client::Libtorrent => libtorrent(
                &mut command,
                "keep",
                Job {
                    torrent: &sparse_torrents.torrents,
                    dir: &sparse_torrents.dir,
                    state,
                    encrypted: false,
                },
                &[server(0).to_string()],
            ),
            Client::Rqbit => {
                command.args(RQBIT).args(["server", "start", "--fastresume", "--persistence-location"]);
                command.arg(rqbit_records(sparse_torrents, state)?).arg(&sparse_torrents.dir);
            }
        }
        Ok(command)
    }
}

/// Returns the command for transmission-daemon; downloads use transmission-cli.
fn transmission_daemon(sparse_torrents: &SparseTorrents, state: &Path) -> Result<Command> {
    let torrents = new_dir(state, "torrents")?;
    let records = new_dir(state, "resume")?;
    for sparse in &sparse_torrents.list {
        // Transmission treats a torrent of another file name as new and hashes it.
        let name = format!("{}.{}", sparse.name, &sparse.hex()[..16]);
        let to = torrents.join(format!("{name}.torrent"));
        fs::copy(&sparse.torrent, &to).map_err(Fault::at(to.display()))?;
        // The time of the check must be after the file's modification time.
        let dir = text(&sparse_torrents.dir);
        let checked = modified(sparse, &sparse_torrents.dir)? + 1;
        let record =
            format!("d11:destination{dir}6:pausedi0e8:progressd6:blocks3:all12:time-checkedli{checked}eeee");
        write(&records.join(format!("{name}.resume")), &record)?;
    }
    transmission_settings(state, None)?;
    let mut command = Command::new("transmission-daemon");
    command.env("LC_ALL", "C").env("HOME", state).env_remove("XDG_CONFIG_HOME");
    command.args(["-f", "-M", "-P", PORT_TEXT, "-g"]).arg(state).arg("-w").arg(&sparse_torrents.dir);
    Ok(command)
}

/// Returns the dictionary that rtorrent adds to a torrent in its session directory.
fn rtorrent_record(sparse: &SparseTorrent, dir: &Path) -> Result<String> {
    let pieces = SparseTorrents::pieces();
    Ok(format!(
        "d8:bitfieldi{pieces}e5:filesld9:completedi{pieces}e5:mtimei{}e8:priorityi1eeee",
        modified(sparse, dir)?
    ))
}

/// Writes rqbit's list of torrents, and for each its torrent file and bitfield.
fn rqbit_records(sparse_torrents: &SparseTorrents, state: &Path) -> Result<PathBuf> {
    let records = new_dir(state, "records")?;
    let mut list = serde_json::Map::new();
    for (number, sparse) in sparse_torrents.list.iter().enumerate() {
        let base = records.join(sparse.hex());
        fs::copy(&sparse.torrent, base.with_extension("torrent")).map_err(Fault::at(base.display()))?;
        fs::write(base.with_extension("bitv"), vec![0xff; SparseTorrents::pieces() / 8])
            .map_err(Fault::at(base.display()))?;
        let entry = json!({
            "info_hash": sparse.hex(), "trackers": [], "output_folder": sparse_torrents.dir, "only_files": null, "is_paused": false,
        });
        list.insert(number.to_string(), entry);
    }
    write(&records.join("session.json"), &json!({ "torrents": list }).to_string())?;
    Ok(records)
}

/// Returns the modification time of a torrent's file in seconds since 1970.
fn modified(sparse: &SparseTorrent, dir: &Path) -> Result<i64> {
    let file = dir.join(&sparse.name);
    Ok(fs::metadata(&file).map_err(Fault::at(file.display()))?.mtime())
}

/// Returns a path as a bencoded string.
fn text(path: &Path) -> String {
    let path = path.display().to_string();
    format!("{}:{path}", path.len())
}
