//! One download, killed again and again: nothing false is ever claimed, and little is fetched twice.

use crate::stage::{Process, Stage};
use rill::units::Rng;
use std::time::Duration;

/// What came of it.
#[derive(Debug, Default)]
pub struct Killed {
    pub kills: usize,
    /// Bytes that were sent to us, over all lives.
    pub fetched: u64,
    pub total: u64,
}

/// Bytes a second that the seeder sends: it lives on, so no life begins with a burst.
const RATE: u64 = 1 << 20;
/// The longest life, ms.
const LIFE_MS: usize = 300;

/// Kills a download so often, each time at any moment, and then lets it end.
pub fn kill_again_and_again(storage: &str, kills: usize, seed: u64) -> Killed {
    // Lives are half as long as the longest on average; the rest is for what was saved up while nobody lived.
    let size = kills * LIFE_MS / 2 * (RATE as usize) / 1000 * 3 / 2 + (3 << 20);
    let files = [("one.bin", size / 2), ("sub/two.bin", size / 3), ("sub/three.bin", size / 6), ("four", 5)];
    let stage = Stage::with(&files, 64 << 10);
    let port = crate::stage::free_port();
    let mut seeder = stage.seed(port, None, &["--json", "-u", &RATE.to_string()]);
    assert!(seeder.listens(port), "{}", seeder.words());
    let addr = crate::stage::address(port);
    let mut rng = Rng::new(seed);
    let mut came = Killed { total: stage.truth.bytes.len() as u64, ..Killed::default() };
    let mut claimed = 0;
    while came.kills < kills {
        let get = stage.get(addr, None, &["--storage", storage]);
        assert!(!get.ends_within(Duration::from_millis(rng.below(LIFE_MS) as u64)), "killed {} times, it ended", came.kills);
        get.kill();
        came.kills += 1;
        let when = format!("{storage}, kill {} of seed {seed}", came.kills);
        let now = stage.must_hold(&when);
        assert!(now >= claimed, "{when}: {claimed} pieces were claimed and now only {now}");
        claimed = now;
    }
    came.fetched = uploaded(seeder);
    // The rest need not be slow.
    let (_seeder, addr) = stage.seeder();
    let end = stage.get(addr, None, &["--storage", storage, "--json"]).end();
    assert_eq!(end.code, Some(0), "after the last kill: {end:?}");
    stage.must_be_whole("after the last kill");
    came.fetched += last_words(&end.words, "downloaded_bytes");
    assert!(!stage.state().join(format!("{}.lock", stage.truth.torrent.info_hash())).exists(), "a lock was left");
    came
}

/// What a seeder has sent. It tells once a second, so that it is heard twice more before it is believed.
fn uploaded(seeder: Process) -> u64 {
    let told = || seeder.words().lines().count();
    let before = told();
    while told() < before + 2 {
        assert!(!seeder.ends_within(Duration::from_millis(20)), "the seeder ended: {}", seeder.words());
    }
    seeder.ask_to_end();
    last_words(&seeder.end().words, "uploaded_bytes")
}

/// A number of the only torrent in a process's last object.
fn last_words(words: &str, what: &str) -> u64 {
    let last: serde_json::Value = serde_json::from_str(words.lines().last().unwrap_or_default()).unwrap();
    last["torrents"][0][what].as_u64().unwrap_or_else(|| panic!("no {what} in {last}"))
}

/// What may be fetched twice: at each kill what came in since the last checkpoint, and what was on its way.
pub fn bound(killed: &Killed) -> u64 {
    let lost_at_most = 256 << 10;
    killed.total + killed.kills as u64 * lost_at_most
}

/// The bound, and that there was something to lose.
pub fn judge(killed: &Killed) {
    println!("{killed:?}: {:.3} of the content", killed.fetched as f64 / killed.total as f64);
    assert!(killed.fetched >= killed.total, "{killed:?}: more is there than was ever sent");
    assert!(killed.fetched <= bound(killed), "{killed:?}: too much was fetched twice");
}
