//! Power cuts during a download: on real file systems, and on disks simulated from a journal of system calls.

use crate::crash::{Crash, claims_of_rill};
use crate::journal::History;
use crate::mounts::{Disk, Format, can_mount, enter_mount_namespace};
use crate::record::Record;
use crate::stage::{Stage, Trouble};
use rill::units::Rng;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Some long files and some short ones.
const FILES: [(&str, usize); 8] = [
    ("a/one.bin", 3_000_000),
    ("a/two.bin", 70_000),
    ("b/c/three.bin", 2_500_000),
    ("b/four", 10),
    ("b/five", 33_333),
    ("none", 0),
    ("six.bin", 1_700_001),
    ("z", 1),
];

/// The result of a download with power cuts.
#[derive(Debug, Default)]
pub struct Cuts {
    pub cuts: usize,
    /// Cuts after which a record was found.
    pub with_record: usize,
    /// Pieces that those records claimed, all of them true.
    pub claimed: u64,
    pub restarts: usize,
}

/// Cuts the power `cuts` times; every `restart_every`th time the download is finished from what is left.
/// `None` if this process may not mount.
pub fn cut_real_disks(format: Format, cuts: usize, restart_every: usize, seed: u64) -> Option<Cuts> {
    if !can_mount(&["mount", "umount", "mkfs.ext4", "mkfs.xfs"]) {
        return None;
    }
    let stage = Stage::with(&FILES, 32 << 10);
    let (_seeder, addr) = stage.seeder();
    enter_mount_namespace();
    let mut disk = Disk::new(&stage.at("disks"), format);
    let mut rng = Rng::new(seed);
    let mut result = Cuts::default();
    for round in 0.. {
        if result.cuts >= cuts {
            break;
        }
        let home = disk.path().join(format!("round-{round}"));
        let storage = if round % 2 == 0 { "mapped" } else { "plain" };
        let get = stage.get_in(&home, addr, None, &["--max-download-limit", "2M", "--storage", storage]);
        while result.cuts < cuts && !get.ends_within(Duration::from_millis(50 + rng.below(400) as u64)) {
            let cut = disk.cut();
            let found = cut.mount();
            let home = found.path().join(format!("round-{round}"));
            result.cuts += 1;
            let when = format!("{format:?}, {storage}, cut {} of seed {seed}", result.cuts);
            let claims = stage.truth.must_hold(&home.join("down"), &home.join("state"), &when);
            result.claimed += u64::from(claims);
            result.with_record +=
                usize::from(Record::read(&home.join("state"), &stage.truth.torrent).is_some());
            if result.cuts % restart_every == 0 {
                let end = stage.get_in(&home, addr, None, &[]).end();
                assert_eq!(end.code, Some(0), "{when}, started again: {end:?}");
                stage.must_be_whole_in(&home.join("down"), &when);
                result.restarts += 1;
            }
        }
        get.kill();
        fs::remove_dir_all(&home).unwrap();
    }
    Some(result)
}

/// The result of crashes simulated from a journal.
#[derive(Debug, Default)]
pub struct Crashes {
    pub states: usize,
    pub with_record: usize,
    pub claimed: u64,
    /// Disks with files of which nothing showed that they are the torrent's.
    pub refused: usize,
    /// False claims, a line each.
    pub lies: Vec<String>,
}

/// Downloads in `lives` processes, all but the last of them killed, and makes up `states` disks from their
/// journal. `ignore_flushes`: the device ignores flushes.
pub fn crash_simulated_disks(
    storage: &str,
    lives: usize,
    ignore_flushes: bool,
    states: usize,
    seed: u64,
) -> Crashes {
    let stage = Stage::with(&FILES, 32 << 10);
    let (_seeder, addr) = stage.seeder();
    let mut history = History::new();
    let mut rng = Rng::new(seed);
    for life in 0..lives {
        let journal = stage.at(&format!("journal-{life}"));
        let trouble = Trouble { rules: String::new(), journal: Some(journal.clone()), ignore_flushes };
        let get = stage.get(addr, Some(&trouble), &["--storage", storage, "--max-download-limit", "3M"]);
        if life + 1 < lives {
            assert!(
                !get.ends_within(Duration::from_millis(600 + rng.below(600) as u64)),
                "the download ended before it was killed"
            );
            get.kill();
        } else {
            assert_eq!(get.end().code, Some(0));
            stage.must_be_whole("with a journal");
        }
        history.take(&stage.in_box(""), &fs::read(&journal).unwrap());
    }
    let mut result = Crashes::default();
    // In memory, if the machine has a tmpfs.
    let shm = Path::new("/dev/shm");
    let place = tempfile::tempdir_in(if shm.is_dir() { shm } else { stage.dir() }).unwrap();
    for _ in 0..states {
        let crash = Crash::any(&history, &mut rng);
        let disk = place.path().join("made-up");
        crash.build(&history, &disk);
        check(&stage, &disk, &crash, &mut result);
        fs::remove_dir_all(&disk).unwrap();
    }
    assert!(ignore_flushes || result.refused == 0, "the record is synced before the first byte");
    result
}

fn check(stage: &Stage, disk: &Path, crash: &Crash, result: &mut Crashes) {
    let down = disk.join("down");
    let state = disk.join("state");
    result.states += 1;
    if let Some(record) = Record::read(&state, &stage.truth.torrent) {
        let claims = stage.truth.verdict(&down, |piece| record.claims(piece));
        result.with_record += 1;
        result.claimed += u64::from(claims.good);
        // A claim to a missing or too short file is not false if rill notices the file: see below.
        if !claims.bad.is_empty() {
            result.lies.push(format!("{crash:?}: the record claims {:?}", claims.bad));
        }
    }
    let Some(claims) = claims_of_rill(&stage.truth, &down, &state) else {
        result.refused += 1;
        return;
    };
    if !claims.bad.is_empty() || !claims.gone.is_empty() {
        result.lies.push(format!("{crash:?}: rill claims {claims:?}"));
    }
}

/// Prints the result; fails if too few records made claims for it to mean anything.
pub fn check_cuts(result: Option<Cuts>) {
    let Some(result) = result else { return };
    println!("{result:?}");
    assert!(
        result.with_record * 2 > result.cuts && result.claimed > result.cuts as u64,
        "too few claims: {result:?}"
    );
    assert!(result.restarts > 0);
}

/// The same, and fails on a false claim.
pub fn check_crashes(result: &Crashes) {
    println!("{} disks, {} with a record, {} claims", result.states, result.with_record, result.claimed);
    assert!(result.lies.is_empty(), "{} false claims:\n{}", result.lies.len(), result.lies.join("\n"));
    assert!(
        result.with_record * 4 > result.states && result.claimed > result.states as u64,
        "too few claims: {result:?}"
    );
}
