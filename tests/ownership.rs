//! Whose file is it: two processes, two torrents or two entries of one torrent that meet on one file, and files
//! that are not rill's. Every test runs the program.
//!
//! ```text
//! cargo test --test ownership                                      without mounts, 3 runs a cell
//! cargo test --test ownership -- --ignored                         with mounts (needs root), 3 runs a cell
//! RUNS=100 cargo test --test ownership -- --include-ignored --nocapture --test-threads 1 f17    the long form
//! CELL="two entries, hard link, plain" SEED=7 RUNS=1 cargo test --test ownership -- --include-ignored f17
//! ```
//!
//! A violation is printed with the seed that chose its moments.

#[path = "ownership/folding_mount.rs"]
mod folding_mount;
#[path = "ownership/library.rs"]
mod library;
#[path = "ownership/matrix.rs"]
mod matrix;
#[allow(dead_code)]
#[path = "faults/mounts.rs"]
mod mounts;
#[path = "ownership/play.rs"]
mod play;
#[path = "ownership/scene.rs"]
mod scene;
#[path = "ownership/specimens.rs"]
mod specimens;
#[path = "support/mod.rs"]
mod support;

use scene::Place;

#[test]
fn f17_matrix_of_two_on_one_file_without_mounts() {
    matrix::run(&[Place::SameDirectory, Place::LinkedDirectory, Place::HardLink]);
}

#[test]
#[ignore = "needs root; cargo test --test ownership -- --ignored"]
fn f17_matrix_of_two_on_one_file_with_mounts() {
    enter_mount_namespace();
    matrix::run(&[Place::FoldingMount, Place::BindMount]);
}

use folding_mount::FoldingMount;
use mounts::enter_mount_namespace;
use rustix::fs::{FlockOperation, RenameFlags, flock};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

#[test]
#[ignore = "needs root; cargo test --test ownership -- --ignored"]
fn all_spellings_of_a_name_are_one_file_in_the_folding_mount() {
    enter_mount_namespace();
    let temp = tempfile::tempdir().unwrap();
    let mount = FoldingMount::new(&temp.path().join("backing"), temp.path().join("mount"));
    let at = |name: &str| mount.path().join(name);
    fs::write(at("Caf\u{e9}.bin"), "one").unwrap();
    assert_eq!(fs::read(at("CAFE\u{301}.BIN")).unwrap(), b"one");
    assert_eq!(
        fs::metadata(at("caf\u{e9}.bin")).unwrap().ino(),
        fs::metadata(at("cafe\u{301}.bin")).unwrap().ino()
    );
    assert!(File::create_new(at("CAF\u{c9}.bin")).is_err());
    assert!(!at("cafe.bin").exists());

    fs::create_dir(at("Dir")).unwrap();
    fs::write(at("dIR/x"), vec![7; 300_000]).unwrap();
    assert_eq!(fs::read(at("DIR/X")).unwrap(), vec![7; 300_000]);
    assert!(fs::create_dir(at("DIR")).is_err());

    let held = File::open(at("Dir/x")).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(flock(File::open(at("dir/X")).unwrap(), FlockOperation::NonBlockingLockExclusive).is_err());

    fs::write(at("other"), "two").unwrap();
    let root = File::open(mount.path()).unwrap();
    let moved = rustix::fs::renameat_with(&root, "OTHER", &root, "CAF\u{c9}.bin", RenameFlags::NOREPLACE);
    assert_eq!(moved, Err(rustix::io::Errno::EXIST));
    fs::rename(at("Other"), at("CAF\u{c9}.bin")).unwrap();
    assert_eq!(fs::read(at("caf\u{e9}.bin")).unwrap(), b"two");
    fs::hard_link(at("Caf\u{e9}.bin"), at("Link")).unwrap();
    assert_eq!(fs::metadata(at("link")).unwrap().nlink(), 2);
    fs::remove_file(at("LINK")).unwrap();

    let mut names: Vec<_> = fs::read_dir(mount.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["Caf\u{e9}.bin", "Dir"]);
    fs::remove_file(at("dir/x")).unwrap();
    fs::remove_dir(at("dir")).unwrap();
}
