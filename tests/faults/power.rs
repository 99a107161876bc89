//! Power cuts during a download: on real file systems, and on disks made up from a journal.

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
    let mut came = Cuts::default();
    for round in 0.. {
        if came.cuts >= cuts {
            break;
        }
        let home = disk.path().join(format!("round-{round}"));
        let storage = if round % 2 == 0 { "mapped" } else { "plain" };
        let get = stage.get_in(&home, addr, None, &["--max-download-limit", "2M", "--storage", storage]);
        while came.cuts < cuts && !get.ends_within(Duration::from_millis(50 + rng.below(400) as u64)) {
            let cut = disk.cut();
            let found = cut.mount();
            let home = found.path().join(format!("round-{round}"));
            came.cuts += 1;
            let when = format!("{format:?}, {storage}, cut {} of seed {seed}", came.cuts);
            let claims = stage.truth.must_hold(&home.join("down"), &home.join("state"), &when);
            came.claimed += u64::from(claims);
            came.with_record +=
                usize::from(Record::read(&home.join("state"), &stage.truth.torrent).is_some());
            if came.cuts % restart_every == 0 {
                let end = stage.get_in(&home, addr, None, &[]).end();
                assert_eq!(end.code, Some(0), "{when}, started again: {end:?}");
                stage.must_be_whole_in(&home.join("down"), &when);
                came.restarts += 1;
            }
        }
        get.kill();
        fs::remove_dir_all(&home).unwrap();
    }
    Some(came)
}

/// The result of crashes made up from a journal.
#[derive(Debug, Default)]
pub struct Crashes {
    pub states: usize,
    pub with_record: usize,
    pub claimed: u64,
    /// False claims, a line each.
    pub lies: Vec<String>,
}

/// Downloads in `lives` processes, all but the last of them killed, and makes up `states` disks from their
/// journal. `lie`: the device ignores flushes.
pub fn crash_made_up_disks(storage: &str, lives: usize, lie: bool, states: usize, seed: u64) -> Crashes {
    let stage = Stage::with(&FILES, 32 << 10);
    let (_seeder, addr) = stage.seeder();
    let mut history = History::new();
    let mut rng = Rng::new(seed);
    for life in 0..lives {
        let journal = stage.at(&format!("journal-{life}"));
        let trouble = Trouble { rules: String::new(), journal: Some(journal.clone()), lie };
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
    let mut came = Crashes::default();
    // In memory, if there is such a place.
    let shm = Path::new("/dev/shm");
    let place = tempfile::tempdir_in(if shm.is_dir() { shm } else { stage.dir() }).unwrap();
    for _ in 0..states {
        let crash = Crash::any(&history, &mut rng);
        let disk = place.path().join("made-up");
        crash.build(&history, &disk);
        judge(&stage, &disk, &crash, &mut came);
        fs::remove_dir_all(&disk).unwrap();
    }
    came
}

fn judge(stage: &Stage, disk: &Path, crash: &Crash, came: &mut Crashes) {
    let down = disk.join("down");
    let state = disk.join("state");
    came.states += 1;
    if let Some(record) = Record::read(&state, &stage.truth.torrent) {
        let claims = stage.truth.verdict(&down, |piece| record.claims(piece));
        came.with_record += 1;
        came.claimed += u64::from(claims.good);
        // A claim to a missing or too short file is not false if rill notices the file: see below.
        if !claims.bad.is_empty() {
            came.lies.push(format!("{crash:?}: the record claims {:?}", claims.bad));
        }
    }
    let claims = claims_of_rill(&stage.truth, &down, &state);
    if !claims.bad.is_empty() || !claims.gone.is_empty() {
        came.lies.push(format!("{crash:?}: rill claims {claims:?}"));
    }
}

/// Prints the result; fails if too few records made claims for it to mean anything.
pub fn judge_cuts(came: Option<Cuts>) {
    let Some(came) = came else { return };
    println!("{came:?}");
    assert!(came.with_record * 2 > came.cuts && came.claimed > came.cuts as u64, "too few claims: {came:?}");
    assert!(came.restarts > 0);
}

/// The same, and fails on a false claim.
pub fn judge_crashes(came: &Crashes) {
    println!("{} disks, {} with a record, {} claims", came.states, came.with_record, came.claimed);
    assert!(came.lies.is_empty(), "{} false claims:\n{}", came.lies.len(), came.lies.join("\n"));
    assert!(
        came.with_record * 4 > came.states && came.claimed > came.states as u64,
        "too few claims: {came:?}"
    );
}
