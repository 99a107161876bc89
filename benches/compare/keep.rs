//! How each client is started to serve a thousand torrents of which it knows that all is there.
//!
//! No client hashes a TiB of zeros first. Transmission, rtorrent and rqbit find the records that an earlier
//! run of theirs would have left; rill leaves its own in a run that is not measured; aria2 and libtorrent are
//! told not to doubt it.

use crate::clients::{ARIA2, Client, Installed, PORT_TEXT, RILL, RQBIT};
use crate::clients::{libtorrent, new_dir, rtorrent_settings, transmission_settings, write};
use crate::fault::{Fault, Result};
use crate::holes::{Hole, Holes};
use crate::networks::server;
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

impl Installed {
    /// Whether it leaves its records itself, in a run before the one that is measured.
    pub fn remembers(&self) -> bool {
        self.client == Client::Rill
    }

    /// Serves all of them until it is killed; keeps what it keeps in `state`, an empty directory.
    pub fn keep(&self, holes: &Holes, state: &Path) -> Result<Command> {
        let mut command = self.command(state);
        let torrents = holes.list.iter().map(|hole| &hole.torrent);
        match self.client {
            Client::Rill => {
                command.arg("seed").args(RILL).arg("--state-dir").arg(state.join("records"));
                command.arg("-d").arg(&holes.dir).args(torrents);
            }
            Client::Aria2 => {
                command.args(ARIA2).args(["--seed-ratio=0", "--bt-seed-unverified=true", "-Z"]);
                command.arg(format!("--max-concurrent-downloads={}", holes.list.len()));
                command.arg("-d").arg(&holes.dir).args(torrents);
            }
            Client::Transmission => command = transmission_daemon(holes, state)?,
            Client::Rtorrent => {
                let marked = new_dir(state, "torrents")?;
                for hole in &holes.list {
                    let record = rtorrent_record(hole, &holes.dir)?;
                    let torrent = fs::read(&hole.torrent).map_err(Fault::at(hole.torrent.display()))?;
                    // Keys are in order: nothing of the torrent comes after this one.
                    let body = torrent.strip_suffix(b"e").unwrap_or(&torrent);
                    let to = marked.join(format!("{}.torrent", hole.name));
                    let resumed = [body, b"17:libtorrent_resume", record.as_bytes(), b"e"].concat();
                    fs::write(&to, resumed).map_err(Fault::at(to.display()))?;
                }
                rtorrent_settings(
                    &mut command,
                    &holes.dir,
                    state,
                    &format!("load.start={}/*.torrent", marked.display()),
                )?;
            }
            Client::Libtorrent => {
                libtorrent(&mut command, "keep", &holes.torrents, &holes.dir, &[server(0).to_string()])
            }
            Client::Rqbit => {
                command.args(RQBIT).args(["server", "start", "--fastresume", "--persistence-location"]);
                command.arg(rqbit_records(holes, state)?).arg(&holes.dir);
            }
        }
        Ok(command)
    }
}

/// Another program than the one that fetches.
fn transmission_daemon(holes: &Holes, state: &Path) -> Result<Command> {
    let torrents = new_dir(state, "torrents")?;
    let records = new_dir(state, "resume")?;
    for hole in &holes.list {
        // One that is called otherwise is new to it, and hashed.
        let name = format!("{}.{}", hole.name, &hole.hex()[..16]);
        let to = torrents.join(format!("{name}.torrent"));
        fs::copy(&hole.torrent, &to).map_err(Fault::at(to.display()))?;
        // Checked after the file was written.
        let dir = text(&holes.dir);
        let checked = modified(hole, &holes.dir)? + 1;
        let record =
            format!("d11:destination{dir}6:pausedi0e8:progressd6:blocks3:all12:time-checkedli{checked}eeee");
        write(&records.join(format!("{name}.resume")), &record)?;
    }
    transmission_settings(state, None)?;
    let mut command = Command::new("transmission-daemon");
    command.env("LC_ALL", "C").env("HOME", state).env_remove("XDG_CONFIG_HOME");
    command.args(["-f", "-M", "-P", PORT_TEXT, "-g"]).arg(state).arg("-w").arg(&holes.dir);
    Ok(command)
}

/// The dictionary that rtorrent keeps in a torrent of its session.
fn rtorrent_record(hole: &Hole, dir: &Path) -> Result<String> {
    let pieces = Holes::pieces();
    Ok(format!(
        "d8:bitfieldi{pieces}e5:filesld9:completedi{pieces}e5:mtimei{}e8:priorityi1eeee",
        modified(hole, dir)?
    ))
}

/// rqbit's list of torrents, and for each its file and the bits of its pieces.
fn rqbit_records(holes: &Holes, state: &Path) -> Result<PathBuf> {
    let records = new_dir(state, "records")?;
    let mut list = serde_json::Map::new();
    for (number, hole) in holes.list.iter().enumerate() {
        let base = records.join(hole.hex());
        fs::copy(&hole.torrent, base.with_extension("torrent")).map_err(Fault::at(base.display()))?;
        fs::write(base.with_extension("bitv"), vec![0xff; Holes::pieces() / 8])
            .map_err(Fault::at(base.display()))?;
        let entry = json!({
            "info_hash": hole.hex(), "trackers": [], "output_folder": holes.dir, "only_files": null, "is_paused": false,
        });
        list.insert(number.to_string(), entry);
    }
    write(&records.join("session.json"), &json!({ "torrents": list }).to_string())?;
    Ok(records)
}

/// When its file was last written, seconds since 1970.
fn modified(hole: &Hole, dir: &Path) -> Result<i64> {
    let file = dir.join(&hole.name);
    Ok(fs::metadata(&file).map_err(Fault::at(file.display()))?.mtime())
}

/// A path as a bencoded string.
fn text(path: &Path) -> String {
    let path = path.display().to_string();
    format!("{}:{path}", path.len())
}
