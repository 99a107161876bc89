//! `--on-complete`: runs a program for each complete torrent, with one argument, a few environment variables
//! and no shell.
//!
//! The variables begin with RILL_TORRENT_, so that none of them sets an option of a rill that the program
//! starts. The program's stdout is connected to rill's stderr, because rill's stdout may be JSON that another
//! program reads.

use super::{out, source};
use crate::wire::Metainfo;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Running programs.
#[derive(Debug, Default)]
pub(crate) struct Hooks(Vec<Child>);

impl Hooks {
    /// Starts the program for a torrent that is complete in `dir`.
    pub(crate) fn start(&mut self, program: &Path, metainfo: &Metainfo, dir: &Path) {
        // The program may change its working directory, so its paths are absolute.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        let top = metainfo.files().get(0).and_then(|file| file.path().next());
        let path = top.map_or(dir.clone(), |top| dir.join(top));
        let child = stderr_as_stdout().and_then(|stdout| {
            Command::new(program)
                .arg(&path)
                .env("RILL_TORRENT_NAME", metainfo.name())
                .env("RILL_TORRENT_HASH", metainfo.info_hash().to_string())
                .env("RILL_TORRENT_DIR", &dir)
                .env("RILL_TORRENT_PATH", &path)
                .env("RILL_TORRENT_BYTES", metainfo.geometry().total().to_string())
                .stdin(Stdio::null())
                .stdout(stdout)
                .spawn()
        });
        match child {
            Ok(child) => self.0.push(child),
            Err(e) => out::error(format_args!(
                "--on-complete {}: {}",
                source::shown(program),
                super::exit::reason(&e)
            )),
        }
    }

    /// Reports the programs that have ended since the last call, if they failed.
    pub(crate) fn reap(&mut self) {
        self.0.retain_mut(|child| match child.try_wait() {
            Ok(Some(status)) => {
                report(status);
                false
            }
            Ok(None) => true,
            Err(_) => false,
        });
    }

    /// Waits for all running programs to end. A second signal ends the process and with it the wait.
    pub(crate) fn wait(self) {
        self.0.into_iter().filter_map(|mut child| child.wait().ok()).for_each(report);
    }
}

fn stderr_as_stdout() -> io::Result<Stdio> {
    io::stderr().as_fd().try_clone_to_owned().map(Stdio::from)
}

fn report(status: ExitStatus) {
    if !status.success() {
        out::error(format_args!("--on-complete ended with {status}"));
    }
}
