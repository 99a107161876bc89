//! Runs many scenarios in parallel and returns their results in the order of the jobs.

use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::out::{self, Terminal};
use crate::sim::{self, Report, Scenario};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Shortest interval between two redraws of the live line.
const REDRAW: Duration = Duration::from_millis(100);

/// Returns the number of threads that can run at once.
pub(super) fn at_once() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs every job on `threads` threads. `keep` turns each report into the value that is returned, on the
/// thread of the run.
///
/// # Errors
///
/// A run panics because it violates an invariant of the simulator. No further run is started; the failure's
/// sentence has the command that repeats the run.
pub(super) fn each<T: Send>(
    jobs: &[Scenario],
    threads: usize,
    show: &mut RunProgress,
    keep: impl Fn(&Scenario, Report, Duration) -> T + Sync,
) -> Result<Vec<T>, Failure> {
    let next = AtomicUsize::new(0);
    let mut kept: Vec<Option<T>> = jobs.iter().map(|_| None).collect();
    let mut panicked: Option<usize> = None;
    thread::scope(|scope| {
        let (done, results) = channel();
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            let done = done.clone();
            let next = &next;
            let keep = &keep;
            scope.spawn(move || work(jobs, next, keep, done));
        }
        drop(done);
        for (count, (at, result)) in results.iter().enumerate() {
            match result {
                Some(value) => kept[at] = Some(value),
                None => panicked = Some(panicked.map_or(at, |first| first.min(at))),
            }
            show.step(count + 1, jobs.len());
        }
    });
    show.clear();
    if let Some(job) = panicked.map(|at| &jobs[at]) {
        let sentence =
            format!("a run violated an invariant; rill sim {} --seed {} repeats it", job.name, job.seed);
        return Err(Failure::new(Exit::Other, sentence));
    }
    Ok(kept.into_iter().flatten().collect())
}

/// Takes one job after another until none is left. The message of a violated invariant is printed by its
/// panic.
fn work<T>(
    jobs: &[Scenario],
    next: &AtomicUsize,
    keep: &impl Fn(&Scenario, Report, Duration) -> T,
    done: Sender<(usize, Option<T>)>,
) {
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(job) = jobs.get(at) else { return };
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| keep(job, sim::run(job), begun.elapsed()))).ok();
        if result.is_none() {
            next.store(jobs.len(), Ordering::Relaxed);
        }
        if done.send((at, result)).is_err() {
            return;
        }
    }
}

/// Live line with the number of finished runs and the remaining time.
pub(super) struct RunProgress {
    live: bool,
    begun: Instant,
    drawn: Option<Instant>,
}

impl RunProgress {
    /// Returns a live line, which is drawn only on a terminal and without `--json`.
    pub(super) fn new(json: bool) -> RunProgress {
        RunProgress { live: Terminal::of_stdout().live && !json, begun: Instant::now(), drawn: None }
    }

    fn step(&mut self, done: usize, all: usize) {
        if self.live && all > 1 && self.drawn.is_none_or(|at| at.elapsed() >= REDRAW) {
            self.drawn = Some(Instant::now());
            let left = self.begun.elapsed().mul_f64((all - done) as f64 / done as f64);
            out::redraw(vec![format!("sim: {done} of {all} runs, {} left", format::duration(left))]);
        }
    }

    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            out::redraw(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(n: u64) -> Vec<Scenario> {
        let job = |seed| Scenario {
            name: "x".to_owned(),
            seed,
            peers: 2,
            size: 1 << 16,
            piece_len: 1 << 14,
            ..Scenario::default()
        };
        (0..n).map(job).collect()
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let seeds = each(&jobs(9), 3, &mut RunProgress::new(true), |job, _, _| job.seed).unwrap();
        assert_eq!(seeds, (0..9).collect::<Vec<_>>());
        assert!(each(&[], 3, &mut RunProgress::new(true), |_, _, _| ()).unwrap().is_empty());
    }

    #[test]
    fn the_failure_of_a_run_has_the_command_that_repeats_it() {
        let failure =
            each(&jobs(1), 2, &mut RunProgress::new(true), |_, _, _| panic!("invariant")).unwrap_err();
        assert_eq!(failure.sentence, "a run violated an invariant; rill sim x --seed 0 repeats it");
        let failure =
            each(&jobs(2), 2, &mut RunProgress::new(true), |job, _, _| assert_eq!(job.seed, 0, "invariant"))
                .unwrap_err();
        assert_eq!(failure.sentence, "a run violated an invariant; rill sim x --seed 1 repeats it");
    }
}
