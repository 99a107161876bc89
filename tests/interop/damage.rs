//! Restarts after a kill, and after content was changed, removed or extended between two runs.

use crate::clients::{rill, rill_at};
use crate::content::{Shape, Torrent};
use crate::events::{objects, pieces_have};
use crate::lab::{Kid, Lab, free_port};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A seed, a torrent of 32 MiB in pieces of 128 KiB, and directories for the download.
struct World {
    lab: Lab,
    torrent: Torrent,
    port: u16,
    out: PathBuf,
    state: PathBuf,
}

impl World {
    fn new(rate: &str) -> World {
        let lab = Lab::new();
        let torrent = Torrent::make(&lab, Shape::single(32 << 20, 128 << 10), &[]);
        let port = free_port();
        rill_at(&lab, &torrent, port, rate);
        let out = lab.new_dir("out");
        let state = lab.new_dir("state");
        World { lab, torrent, port, out, state }
    }

    fn get(&self) -> Kid<'_> {
        let mut get = rill();
        get.args([
            "get",
            "--listen-port",
            "0",
            "--json",
            "--peer",
            &format!("127.0.0.1:{}", self.port),
            "--state-dir",
        ]);
        get.arg(&self.state).arg("-d").arg(&self.out).arg(&self.torrent.file);
        self.lab.start(&mut get)
    }

    /// Runs the download to its end. Returns the payload bytes that it received.
    fn finish(&self) -> u64 {
        let kid = self.get();
        assert_eq!(kid.code(), 0, "{}", self.lab.words());
        self.torrent.must_be_in(&self.out, &self.lab);
        let last = objects(&kid).pop().unwrap();
        last["torrents"][0]["downloaded_bytes"].as_u64().unwrap()
    }

    fn file(&self) -> PathBuf {
        self.torrent.path(&self.out, 0)
    }
}

/// Returns the number of pieces with the right hash.
fn good_pieces(world: &World) -> u64 {
    let verify = rill()
        .args(["verify", "--json"])
        .arg(&world.torrent.file)
        .arg("-d")
        .arg(&world.out)
        .output()
        .unwrap();
    serde_json::from_slice::<serde_json::Value>(&verify.stdout)
        .map_or(0, |v| v["pieces_good"].as_u64().unwrap())
}

#[test]
#[ignore = "takes long"]
fn r2_a_download_killed_at_any_moment_continues_and_fetches_little_twice() {
    let world = World::new("8M");
    let mut fetched = 0;
    // Moments from before the first block to the middle of the download.
    for wait_ms in [30, 170, 410, 730, 1210, 333] {
        let kid = world.get();
        std::thread::sleep(Duration::from_millis(wait_ms));
        kid.kill();
        let reports = objects(&kid);
        fetched += reports.iter().filter_map(|o| o["downloaded_bytes"].as_u64()).max().unwrap_or(0);
        let claimed = reports.iter().filter_map(|o| o["pieces_have"].as_u64()).max().unwrap_or(0);
        let good = good_pieces(&world);
        assert!(good >= claimed, "{claimed} pieces claimed, {good} good\n{}", world.lab.words());
    }
    fetched += world.finish();
    // A kill loses at most the bytes of a second at 8 MiB/s.
    assert!(fetched <= (32 << 20) + 6 * (8 << 20), "{fetched} bytes fetched for 32 MiB");
}

#[test]
#[ignore = "takes long"]
fn fetches_only_the_pieces_that_changed_between_two_runs() {
    let world = World::new("0");
    assert!(world.finish() >= 32 << 20);
    std::thread::sleep(Duration::from_millis(1100)); // the modification time must differ on every file system
    let file = File::options().write(true).open(world.file()).unwrap();
    file.write_all_at(&[0x5a; 300], (9 << 20) + 17).unwrap();
    drop(file);
    let fetched = world.finish();
    assert!((128 << 10..4 << 20).contains(&fetched), "{fetched} bytes fetched for one bad piece");
}

#[test]
#[ignore = "takes long"]
fn a_shortened_file_is_completed() {
    let world = World::new("0");
    world.finish();
    File::options().write(true).open(world.file()).unwrap().set_len(20 << 20).unwrap();
    let fetched = world.finish();
    assert!((12 << 20..14 << 20).contains(&fetched), "{fetched} bytes fetched for 12 MiB");
}

#[test]
#[ignore = "takes long"]
fn a_missing_file_is_fetched_although_the_record_claims_it() {
    let world = World::new("0");
    world.finish();
    fs::remove_file(world.file()).unwrap();
    assert!(world.finish() >= 32 << 20);
}

#[test]
#[ignore = "takes long"]
fn f9_a_longer_file_is_cut_and_that_is_said() {
    let world = World::new("0");
    let mut content = fs::read(world.torrent.path(&world.torrent.dir, 0)).unwrap();
    content[5 << 20] ^= 1;
    content.extend_from_slice(b"the user's own words");
    fs::write(world.file(), &content).unwrap();
    let kid = world.get();
    assert_eq!(kid.code(), 0, "{}", world.lab.words());
    content[5 << 20] ^= 1;
    assert!(world.lab.words().contains("is longer than in the torrent"), "{}", world.lab.words());
    content.truncate(content.len() - b"the user's own words".len());
    assert!(fs::read(world.file()).unwrap() == content, "the content is repaired and the tail is cut off");
}

#[test]
#[ignore = "takes long"]
fn a_damaged_record_costs_a_check_and_no_download() {
    let world = World::new("0");
    world.finish();
    for entry in walk(&world.state) {
        let bytes = fs::read(&entry).unwrap();
        fs::write(&entry, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(world.finish(), 0);
}

#[test]
#[ignore = "takes long"]
fn a_directory_in_the_place_of_a_file_is_left_alone() {
    let world = World::new("0");
    fs::create_dir(world.file()).unwrap();
    let kid = world.get();
    assert_eq!(kid.code(), 13, "{}", world.lab.words());
    assert!(world.file().is_dir());
    assert_eq!(pieces_have(&kid), 0);
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries.flat_map(|e| if e.path().is_dir() { walk(&e.path()) } else { vec![e.path()] }).collect()
}
