//! A disk that is too small: one sentence, code 9, and on it goes when there is room again. Needs root to mount a tmpfs.

use crate::clients::{rill, rill_at};
use crate::content::{Shape, Torrent};
use crate::lab::{Lab, free_port};
use crate::need;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs of so many bytes, unmounted in the end.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(lab: &Lab, bytes: u64) -> Option<Tmpfs> {
        let dir = lab.new_dir("tmpfs");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&dir).status();
        let mounted = mounted.is_ok_and(|status| status.success());
        if !mounted {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "a tmpfs cannot be mounted here");
            eprintln!("skipped, a tmpfs cannot be mounted here");
        }
        mounted.then_some(Tmpfs(dir))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn fills_up(storage: &str) {
    need!("mount", "umount");
    let lab = Lab::new();
    let torrent = Torrent::make(&lab, Shape::single(24 << 20, 256 << 10), &[]);
    let port = free_port();
    rill_at(&lab, &torrent, port, "0");
    let Some(disk) = Tmpfs::mount(&lab, 32 << 20) else { return };
    // Somebody else's file takes most of the room, but not at once all.
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 20 << 20]).unwrap();
    let state = lab.new_dir("state");
    let get = || {
        let mut get = rill();
        get.args(["get", "--listen-port", "0", "-q", "--storage", storage, "--peer", &format!("127.0.0.1:{port}")]);
        lab.start(get.arg("--state-dir").arg(&state).arg("-d").arg(disk.path()).arg(&torrent.file))
    };
    let kid = get();
    assert_eq!(kid.code(), 9, "{}", lab.words());
    let words = kid.words();
    assert!(words.starts_with("rill: ") && words.lines().count() == 1 && words.contains("space"), "{words:?}");
    fs::remove_file(&ballast).unwrap();
    assert_eq!(get().code(), 0, "{}", lab.words());
    torrent.must_be_in(disk.path(), &lab);
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_stops_mapped_storage_cleanly() {
    fills_up("mapped");
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_stops_plain_storage_cleanly() {
    fills_up("plain");
}
