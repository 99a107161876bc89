//! One download that is killed many times: no claim of its record is ever false, and few bytes are fetched
//! twice.

use crate::stage::{Process, Stage};
use rill::units::Rng;
use std::time::Duration;

/// The result of a download with kills.
#[derive(Debug, Default)]
pub struct Killed {
    pub kills: usize,
    /// Bytes that the seeder sent to all of its processes.
    pub fetched: u64,
    pub total: u64,
}

/// Bytes a second that the seeder sends. It is not restarted, so no process begins with a burst.
const RATE: u64 = 1 << 20;
/// The longest time to a kill, ms.
const LIFE_MS: usize = 300;

/// Kills a download `kills` times at random moments, then lets it finish.
pub fn kill_repeatedly(storage: &str, kills: usize, seed: u64) -> Killed {
    // A process lives half of LIFE_MS on average; the factor and the summand allow for bytes that the
    // rate limiter accumulates between processes.
    let size = kills * LIFE_MS / 2 * (RATE as usize) / 1000 * 3 / 2 + (3 << 20);
    let files = [("one.bin", size / 2), ("sub/two.bin", size / 3), ("sub/three.bin", size / 6), ("four", 5)];
    let stage = Stage::with(&files, 64 << 10);
    let port = crate::stage::free_port();
    let mut seeder = stage.seed(port, None, &["--json", "-u", &RATE.to_string()]);
    assert!(seeder.listens(port), "{}", seeder.output());
    let addr = crate::stage::address(port);
    let mut rng = Rng::new(seed);
    let mut result = Killed { total: stage.truth.bytes.len() as u64, ..Killed::default() };
    let mut claimed = 0;
    while result.kills < kills {
        let get = stage.get(addr, None, &["--storage", storage]);
        assert!(
            !get.ends_within(Duration::from_millis(rng.below(LIFE_MS) as u64)),
            "the download ended after {} kills",
            result.kills
        );
        get.kill();
        result.kills += 1;
        let when = format!("{storage}, kill {} of seed {seed}", result.kills);
        let now = stage.must_hold(&when);
        assert!(now >= claimed, "{when}: {claimed} pieces were claimed before, {now} now");
        claimed = now;
    }
    result.fetched = uploaded(seeder);
    // The rest without a rate limit.
    let (_seeder, addr) = stage.seeder();
    let end = stage.get(addr, None, &["--storage", storage, "--json"]).end();
    assert_eq!(end.code, Some(0), "after the last kill: {end:?}");
    stage.must_be_whole("after the last kill");
    result.fetched += last_number(&end.output, "downloaded_bytes");
    assert!(
        stage.state().read_dir().unwrap().flatten().all(|e| e.path().extension().is_none_or(|x| x != "lock")),
        "the lock was not removed"
    );
    result
}

/// The bytes that a seeder has sent. It reports once a second, so two more reports are awaited.
fn uploaded(seeder: Process) -> u64 {
    let reports = || seeder.output().lines().count();
    let before = reports();
    while reports() < before + 2 {
        assert!(!seeder.ends_within(Duration::from_millis(20)), "the seeder ended: {}", seeder.output());
    }
    seeder.send_sigterm();
    last_number(&seeder.end().output, "uploaded_bytes")
}

/// A number of the only torrent in the last JSON object of a process.
fn last_number(output: &str, key: &str) -> u64 {
    let last: serde_json::Value = serde_json::from_str(output.lines().last().unwrap_or_default()).unwrap();
    last["torrents"][0][key].as_u64().unwrap_or_else(|| panic!("no {key} in {last}"))
}

/// The most bytes that may be fetched: a kill may lose those since the last checkpoint and those under way.
pub fn bound(killed: &Killed) -> u64 {
    let lost_at_most = 256 << 10;
    killed.total + killed.kills as u64 * lost_at_most
}

/// Checks the number of fetched bytes.
pub fn check(killed: &Killed) {
    println!("{killed:?}: {:.3} of the content", killed.fetched as f64 / killed.total as f64);
    assert!(killed.fetched >= killed.total, "{killed:?}: more bytes are on the disk than were sent");
    assert!(killed.fetched <= bound(killed), "{killed:?}: too many bytes were fetched twice");
}
