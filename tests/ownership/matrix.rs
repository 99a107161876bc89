//! All cells, a number of runs each, and a table of what happened.

use crate::library::Library;
use crate::play::{Counts, play};
use crate::scene::{Cell, Place};
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Runs at a time. Most of their time they wait.
const AT_ONCE: usize = 4;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Runs every cell at these places `RUNS` times (3), in `CELL` only those whose name has this text. The seed
/// of the first run is `SEED`, that of the next one more.
pub fn run(places: &[Place]) {
    let runs = number("RUNS").unwrap_or(3) as usize;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = number("SEED").unwrap_or(now.as_secs() * 1_000_000);
    let only = std::env::var("CELL").unwrap_or_default();
    let cells: Vec<Cell> =
        Cell::all(places).into_iter().filter(|cell| cell.to_string().contains(&only)).collect();
    if cells.is_empty() {
        println!("no cell at {places:?} is named {only:?}");
        return;
    }
    let begun = Instant::now();
    let library = Library::new();
    let table = Mutex::new(vec![Counts::default(); cells.len()]);
    let wrong = Mutex::new(String::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= runs * cells.len() {
                        break;
                    }
                    let (cell, seed) = (cells[n % cells.len()], first + n as u64);
                    let root = tempfile::Builder::new().prefix("rill-run-").tempdir().unwrap();
                    let (counts, sentences) = play(cell, &library, root.path(), seed);
                    table.lock().unwrap()[n % cells.len()].add(&counts);
                    if !sentences.is_empty() {
                        let mut wrong = wrong.lock().unwrap();
                        writeln!(wrong, "\nCELL={:?} SEED={seed} RUNS=1", cell.to_string()).unwrap();
                        sentences.iter().for_each(|s| writeln!(wrong, "  {s}").unwrap());
                    }
                }
            });
        }
    });
    println!("{}", text(&cells, &table.into_inner().unwrap()));
    println!("{} runs in {} s, first seed {first}", runs * cells.len(), begun.elapsed().as_secs());
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong}");
}

fn text(cells: &[Cell], counts: &[Counts]) -> String {
    let mut text = format!(
        "{:<42} {:>5} {:>6} {:>8} {:>4} {:>4} {:>4} {:>7} {:>6} {:>5}\n",
        "", "runs", "starts", "complete", "11", "12", "13", "stopped", "killed", "wrong"
    );
    for (cell, c) in cells.iter().zip(counts) {
        let [held, locked, exists] = c.refused;
        writeln!(
            text,
            "{cell:<42} {:>5} {:>6} {:>8} {held:>4} {locked:>4} {exists:>4} {:>7} {:>6} {:>5}",
            c.runs, c.starts, c.complete, c.stopped, c.killed, c.bad
        )
        .unwrap();
    }
    text
}
