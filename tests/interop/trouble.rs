//! Disk faults during a transfer: a full disk, a file that is truncated, deleted or replaced, a read-only
//! disk, a stuck disk.
//!
//! All tests run with both storage modes. Some need root, for mounts.

use crate::clients::{rill, rill_at};
use crate::content::{Shape, Torrent};
use crate::events::pieces_have;
use crate::lab::{Kid, Lab, free_port};
use crate::need;
use crate::puppet::{Prober, is_served};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const WAYS: [&str; 2] = ["plain", "mapped"];

/// A mounted file system, unmounted when it is dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a tmpfs of this size.
    pub fn tmpfs(lab: &Lab, bytes: u64) -> Option<Mounted> {
        let options = format!("size={bytes}");
        Mounted::mount(lab, &["-t", "tmpfs", "-o", &options, "tmpfs"])
    }

    /// Mounts an ext4 in a file of this size.
    fn ext4(lab: &Lab, bytes: u64) -> Option<Mounted> {
        let image = lab.new_dir("image").join("ext4");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfs.ext4 failed");
        Mounted::mount(lab, &["-o", "loop", &image.to_string_lossy()])
    }

    fn mount(lab: &Lab, how: &[&str]) -> Option<Mounted> {
        let dir = lab.new_dir("mounted");
        let mounted = Command::new("mount").args(how).arg(&dir).status().is_ok_and(|status| status.success());
        if !mounted {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "nothing can be mounted here");
            eprintln!("skipped, nothing can be mounted here");
        }
        mounted.then_some(Mounted(dir))
    }

    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(std::process::Stdio::null()).status();
    }
}

/// A seed, a torrent, and the directories of a download.
struct Story<'a> {
    lab: &'a Lab,
    torrent: Torrent,
    seed_port: u16,
    port: u16,
    out: PathBuf,
    state: PathBuf,
    storage: &'static str,
}

impl<'a> Story<'a> {
    fn begin(lab: &'a Lab, storage: &'static str, mib: u64, rate: &str, out: PathBuf) -> Story<'a> {
        let torrent = Torrent::make(lab, Shape::single(mib << 20, 256 << 10), &[]);
        let seed_port = free_port();
        rill_at(lab, &torrent, seed_port, rate);
        lab.wait_for("the seed serves", || is_served(seed_port, &torrent));
        Story { lab, torrent, seed_port, port: free_port(), out, state: lab.new_dir("state"), storage }
    }

    fn get(&self, more: &[&str]) -> Kid<'a> {
        let mut get = rill();
        get.args([
            "get",
            "--json",
            "--storage",
            self.storage,
            "--peer",
            &format!("127.0.0.1:{}", self.seed_port),
        ]);
        get.args(["--listen-port", &self.port.to_string()]).args(more);
        self.lab
            .start(get.arg("--state-dir").arg(&self.state).arg("-d").arg(&self.out).arg(&self.torrent.file))
    }

    /// Starts a download and waits until it has 24 pieces.
    fn get_well_on(&self, more: &[&str]) -> Kid<'a> {
        let kid = self.get(more);
        self.lab.wait_for("rill has 24 pieces", || pieces_have(&kid) >= 24);
        assert!(kid.ended().is_none(), "the download ended before the fault\n{}", self.lab.words());
        kid
    }

    fn file(&self) -> PathBuf {
        self.torrent.path_now(&self.out, 0)
    }

    /// Asserts that rill ends by itself with this code and one line that contains `words`. That the disk is too
    /// small is said before the download, too.
    fn ends(&self, kid: Kid<'_>, code: i32, words: &str) {
        assert_eq!(kid.code(), code, "{}\n{}", self.storage, self.lab.words());
        let said = kid.words();
        let lines = said.lines().filter(|line| line.starts_with("rill: "));
        let complaints: Vec<_> = lines.filter(|line| !line.contains("free space is too little")).collect();
        assert!(complaints.len() == 1 && complaints[0].contains(words), "{}: {complaints:?}", self.storage);
    }

    /// Asserts that another run completes the download.
    fn is_finished_by_another_run(&self) {
        assert_eq!(self.get(&[]).code(), 0, "{}\n{}", self.storage, self.lab.words());
        self.torrent.must_be_in(&self.out, self.lab);
    }
}

#[test]
#[ignore = "needs root"]
fn f1_a_download_waits_while_the_disk_is_full_and_continues_by_itself() {
    for storage in WAYS {
        let lab = Lab::new();
        let Some(disk) = Mounted::tmpfs(&lab, 32 << 20) else { return };
        let ballast = disk.path().join("ballast");
        fs::write(&ballast, vec![1; 20 << 20]).unwrap();
        let story = Story::begin(&lab, storage, 24, "0", disk.path().to_path_buf());
        let kid = story.get(&[]);
        lab.wait_for("rill prints that it waits", || kid.words().contains("waiting for room"));
        assert!(
            kid.words().contains("\"slow\":\"disk full\"") || kid.words().contains("\"event\":\"disk full\""),
            "{}",
            kid.words()
        );
        assert!(kid.ended().is_none());
        fs::remove_file(&ballast).unwrap();
        assert_eq!(kid.code(), 0, "{storage}\n{}", lab.words());
        story.torrent.must_be_in(&story.out, &lab);
    }
}

#[test]
#[ignore = "needs root"]
fn f1_the_wait_for_a_full_disk_ends_at_the_time_limit() {
    for storage in WAYS {
        let lab = Lab::new();
        let Some(disk) = Mounted::tmpfs(&lab, 12 << 20) else { return };
        let story = Story::begin(&lab, storage, 24, "0", disk.path().to_path_buf());
        story.ends(story.get(&["--stall-timeout", "2", "-q"]), 9, "space");
        let kid = story.get(&[]);
        lab.wait_for("rill waits", || kid.words().contains("waiting for room"));
        kid.signal("INT");
        assert_eq!(kid.code(), 9, "{storage}\n{}", lab.words());
        let words = kid.words();
        assert!(
            words.lines().filter(|line| line.contains("no space left")).count() >= 2,
            "one line when the wait begins, one at the end: {words}"
        );
    }
}

#[test]
#[ignore = "takes long"]
fn f6_the_file_size_limit_ends_with_a_message_and_no_signal() {
    for storage in WAYS {
        let lab = Lab::new();
        let story = Story::begin(&lab, storage, 24, "0", lab.new_dir("out"));
        let mut limited = Command::new("sh");
        limited.args([
            "-c",
            "ulimit -f 2048 && exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_rill"),
            "get",
            "-q",
            "--storage",
            storage,
        ]);
        limited.args([
            "--no-lsd",
            "--no-dht",
            "--listen-port",
            "0",
            "--peer",
            &format!("127.0.0.1:{}", story.seed_port),
        ]);
        limited.arg("--state-dir").arg(&story.state).arg("-d").arg(&story.out).arg(&story.torrent.file);
        story.ends(lab.start(&mut limited), 16, "longer than");
        story.is_finished_by_another_run();
    }
}

#[test]
#[ignore = "takes long"]
fn f4_a_file_truncated_during_the_download_is_noticed_at_once() {
    for storage in WAYS {
        let lab = Lab::new();
        let story = Story::begin(&lab, storage, 64, "8M", lab.new_dir("out"));
        let kid = story.get_well_on(&[]);
        File::options().write(true).open(story.file()).unwrap().set_len(1 << 20).unwrap();
        story.ends(kid, 17, "changed");
        story.is_finished_by_another_run();
    }
}

#[test]
#[ignore = "takes long"]
fn f4_a_file_deleted_during_the_download_is_noticed_at_once() {
    for storage in WAYS {
        let lab = Lab::new();
        let story = Story::begin(&lab, storage, 64, "8M", lab.new_dir("out"));
        let kid = story.get_well_on(&[]);
        fs::remove_file(story.file()).unwrap();
        story.ends(kid, 17, "changed");
        story.is_finished_by_another_run();
    }
}

#[test]
#[ignore = "takes long"]
fn f4_a_file_replaced_by_a_link_is_noticed_and_the_link_is_not_followed() {
    for storage in WAYS {
        let lab = Lab::new();
        let story = Story::begin(&lab, storage, 24, "8M", lab.new_dir("out"));
        let kid = story.get_well_on(&[]);
        let precious = lab.at("precious");
        let away = lab.at("away");
        fs::write(&precious, "precious").unwrap();
        let file = story.file();
        fs::rename(&file, &away).unwrap();
        std::os::unix::fs::symlink(&precious, &file).unwrap();
        // Bytes still go to the open file; the paths are checked before a checkpoint claims pieces.
        story.ends(kid, 17, "changed");
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        story.ends(story.get(&[]), 13, "is a symbolic link");
        fs::remove_file(&file).unwrap();
        fs::rename(&away, &file).unwrap();
        story.is_finished_by_another_run();
    }
}

#[test]
#[ignore = "needs root"]
fn f5_a_disk_that_turns_read_only_ends_the_download_with_a_message() {
    need!("mkfs.ext4", "mount");
    for storage in WAYS {
        let lab = Lab::new();
        let Some(disk) = Mounted::ext4(&lab, 128 << 20) else { return };
        let story = Story::begin(&lab, storage, 64, "8M", disk.path().join("out"));
        let kid = story.get_well_on(&[]);
        // The kernel does the same when the device fails.
        let aborted = Command::new("mount").args(["-o", "remount,abort"]).arg(disk.path()).status();
        assert!(aborted.is_ok_and(|status| status.success()), "ext4 cannot be shut down on this machine");
        story.ends(kid, 17, "Read-only");
    }
}

#[test]
#[ignore = "needs root"]
fn a_stuck_disk_does_not_delay_peers_that_can_be_served() {
    need!("mkfs.ext4", "mount", "fsfreeze");
    ["plain", "auto", "mapped"].into_iter().for_each(serves_beside_a_stuck_disk);
}

fn serves_beside_a_stuck_disk(storage: &'static str) {
    let lab = Lab::on_loopback();
    let Some(disk) = Mounted::ext4(&lab, 512 << 20) else { return };
    let story = Story::begin(&lab, storage, 160, "6M", disk.path().join("out"));
    let kid = story.get_well_on(&[]);
    let address = SocketAddr::from(([127, 0, 0, 1], story.port));
    let mut prober = Prober::meet(address, &story.torrent, Duration::from_secs(40)).unwrap();
    let piece = first_piece(&story);
    let freezer = Freezer::start(disk.path());
    let begun = Instant::now();
    // Probes are due at fixed times; a probe that waits for the previous answer counts this wait as
    // its own.
    let waits: Vec<Duration> = (0..200)
        .map(|tick| {
            let due = begun + tick * Duration::from_millis(100);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            prober.probe(piece).unwrap();
            due.elapsed()
        })
        .collect();
    freezer.stop();
    let late = waits.iter().filter(|wait| **wait > Duration::from_secs(1)).count();
    println!(
        "{storage}: {late} of {} probes took more than a second, the longest {:?}",
        waits.len(),
        waits.iter().max()
    );
    // The kernel blocks a write to a window's page that is being written back until the disk answers. Through
    // windows the loop therefore waits as long as the disk is frozen, and no longer; `auto` may have judged
    // them cheaper, which depends on the load of the machine.
    let most = if storage == "plain" { waits.len() / 20 } else { waits.len() / 2 };
    assert!(late <= most, "{storage}: {late} of {} probes took more than a second", waits.len());
    kid.kill();
    story.is_finished_by_another_run();
}

/// Returns a piece that is on the disk.
fn first_piece(story: &Story<'_>) -> u32 {
    let len = 256 << 10;
    let content = fs::read(story.torrent.path(&story.torrent.dir, 0)).unwrap();
    let there = fs::read(story.file()).unwrap();
    let piece = content.chunks(len).zip(there.chunks(len)).position(|(wanted, found)| wanted == found);
    piece.expect("a piece is on the disk") as u32
}

/// Freezes a file system for two seconds of every four.
struct Freezer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Freezer {
    fn start(mounted: &Path) -> Freezer {
        let stop = Arc::new(AtomicBool::new(false));
        let at = mounted.to_path_buf();
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let freeze =
                |how: &str| assert!(Command::new("fsfreeze").arg(how).arg(&at).status().unwrap().success());
            while !told.load(SeqCst) {
                freeze("-f");
                std::thread::sleep(Duration::from_secs(2));
                freeze("-u");
                std::thread::sleep(Duration::from_secs(2));
            }
        });
        Freezer { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap();
    }
}
