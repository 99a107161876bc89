//! One run: processes that start, are stopped and start again at random moments, and the claims that hold
//! whatever the moments were.

use crate::library::{Library, Torrent};
use crate::scene::{Actor, Cell, Place, Scene, Situation, Storage};
use rill::units::Rng;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest time that a process may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// The counts of one cell.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub runs: usize,
    pub starts: usize,
    pub complete: usize,
    /// Refused with 11, 12, 13.
    pub refused: [usize; 3],
    /// Stopped by Ctrl-C, killed.
    pub stopped: usize,
    pub killed: usize,
    /// Runs with a violation.
    pub bad: usize,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.runs += other.runs;
        self.starts += other.starts;
        self.complete += other.complete;
        for (sum, more) in self.refused.iter_mut().zip(other.refused) {
            *sum += more;
        }
        self.stopped += other.stopped;
        self.killed += other.killed;
        self.bad += other.bad;
    }
}

/// One process, from its start to its end.
#[derive(Debug)]
struct Life {
    begun: Instant,
    ended: Instant,
    code: Option<i32>,
    signal: Option<i32>,
    stderr: String,
    stop: Option<Signal>,
    in_time: bool,
    /// Every torrent of the command was right on the disk when it ended.
    exact: bool,
}

/// The moments at which an actor starts and is stopped.
#[derive(Clone, Copy, Debug)]
struct Plan {
    start: Duration,
    stop: Option<(Duration, Signal)>,
    again: Duration,
}

impl Plan {
    fn new(late: bool, rng: &mut Rng) -> Plan {
        let mut within = |ms: usize| Duration::from_millis(rng.below(ms) as u64);
        // Half of the moments are close to a start, where the checks and the first writes are.
        let start = if !late {
            Duration::ZERO
        } else if within(2).is_zero() {
            within(60)
        } else {
            within(600)
        };
        let moment = if within(2).is_zero() { within(120) } else { within(600) };
        let again = within(150);
        let signal = [None, None, Some(Signal::INT), Some(Signal::KILL)][rng.below(4)];
        Plan { start, stop: signal.map(|signal| (moment, signal)), again }
    }
}

/// Runs one run below `root`. Returns its counts, and a sentence for each claim that did not hold.
pub fn play(cell: Cell, library: &Library, root: &Path, seed: u64) -> (Counts, Vec<String>) {
    let mut rng = Rng::new(seed);
    let scene = Scene::new(cell, library, root, &mut rng);
    let first = rng.below(2);
    let plans: Vec<Plan> = (0..scene.actors.len()).map(|i| Plan::new(i != first, &mut rng)).collect();
    let appears = Duration::from_millis(rng.below(500) as u64);
    let mut stranger = scene.stranger.as_ref().filter(|s| !s.late);
    let mut appeared = Instant::now();
    let lives: Vec<Vec<Life>> = std::thread::scope(|threads| {
        let lives: Vec<_> = scene
            .actors
            .iter()
            .zip(&plans)
            .enumerate()
            .map(|(i, (actor, plan))| {
                let log = root.join(format!("log-{i}"));
                threads.spawn(move || act(cell, library, actor, plan, &log))
            })
            .collect();
        if let Some(late) = scene.stranger.as_ref().filter(|s| s.late) {
            sleep(appears);
            stranger = late.appear().then_some(late);
            appeared = Instant::now();
        }
        lives.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut judge = Judge { cell, scene: &scene, has_stranger: stranger.is_some(), wrong: Vec::new() };
    judge.lives(&lives);
    // A start with a record may take a file of the right length or shorter for its own.
    let started_later = lives.iter().flatten().any(|life| life.begun > appeared);
    let kept = stranger.filter(|s| !s.late || s.is_longer || !started_later);
    if let Some(stranger) = kept.filter(|s| fs::read(&s.path).ok().as_ref() != Some(&s.bytes)) {
        judge.wrong.push(format!("the file {} of another program was changed", stranger.path.display()));
    }
    judge.contents(&lives);
    judge.agreement();
    judge.records();
    judge.end(&lives, library, root);
    let mut wrong = judge.wrong;
    if !wrong.is_empty() {
        wrong.push(format!("before: {}; stranger: {}", scene.before, stranger.is_some()));
        for (i, (actor, lives)) in scene.actors.iter().zip(&lives).enumerate() {
            let names: Vec<_> = actor.torrents.iter().map(|t| t.metainfo.name()).collect();
            wrong.push(format!(
                "actor {i}: {names:?} in {:?}, state {:?}, {:?}",
                actor.dir, actor.state, plans[i]
            ));
            wrong.extend(lives.iter().map(|life| format!("    {}", describe(life, lives[0].begun))));
        }
    }
    let all = || lives.iter().flatten();
    let ended_with = |code| all().filter(|life| life.code == Some(code)).count();
    let counts = Counts {
        runs: 1,
        starts: all().count(),
        complete: ended_with(0),
        refused: [11, 12, 13].map(ended_with),
        stopped: ended_with(7),
        killed: all().filter(|life| life.signal.is_some()).count(),
        bad: usize::from(!wrong.is_empty()),
    };
    (counts, wrong)
}

fn describe(life: &Life, from: Instant) -> String {
    let ms = |t: Instant| t.saturating_duration_since(from).as_millis();
    format!(
        "{}..{} ms: code {:?}, signal {:?}, stopped by {:?}, exact {}: {}",
        ms(life.begun),
        ms(life.ended),
        life.code,
        life.signal,
        life.stop,
        life.exact,
        life.stderr.trim_end()
    )
}

/// The command of an actor.
fn command(cell: Cell, library: &Library, actor: &Actor<'_>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rill"));
    command.env_clear().args(["get", "-q", "--no-dht", "--no-lsd", "--no-pex", "--listen-port", "0"]);
    command.args(["--peer", &library.seeder().to_string(), "--max-download-limit", "1M", "--timeout", "30s"]);
    command.args(["--storage", if cell.storage == Storage::Mapped { "mapped" } else { "plain" }]);
    match &actor.state {
        Some(state) => command.arg("--state-dir").arg(state),
        None => command.arg("--no-state"),
    };
    command.arg("-d").arg(&actor.dir).args(actor.torrents.iter().map(|t| &t.file));
    command
}

fn act(cell: Cell, library: &Library, actor: &Actor<'_>, plan: &Plan, log: &Path) -> Vec<Life> {
    sleep(plan.start);
    let mut lives = vec![live(command(cell, library, actor), actor, plan.stop, log)];
    if lives[0].stop.is_some() {
        sleep(plan.again);
        lives.push(live(command(cell, library, actor), actor, None, log));
    }
    lives
}

/// Runs a process to its end, and stops it at this moment if it has not ended by then.
fn live(mut command: Command, actor: &Actor<'_>, stop: Option<(Duration, Signal)>, log: &Path) -> Life {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log).unwrap());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut stop = stop;
    let mut stopped = None;
    let mut in_time = true;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let age = begun.elapsed();
        if let Some((_, signal)) = stop.take_if(|(at, _)| *at <= age) {
            let _ = kill_process(Pid::from_child(&child), signal);
            stopped = Some(signal);
        }
        if age > PATIENCE {
            in_time = false;
            let _ = child.kill();
        }
        sleep(Duration::from_millis(2));
    };
    Life {
        begun,
        ended: Instant::now(),
        code: status.code(),
        signal: status.signal(),
        stderr: String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned(),
        stop: stopped,
        in_time,
        exact: actor.torrents.iter().all(|t| t.is_exact(&actor.dir)),
    }
}

/// Collects the claims that did not hold.
struct Judge<'a> {
    cell: Cell,
    scene: &'a Scene<'a>,
    has_stranger: bool,
    wrong: Vec<String>,
}

impl Judge<'_> {
    /// Each process ends in time, with a code that fits and at most one sentence, and says "complete" only of
    /// right content.
    fn lives(&mut self, lives: &[Vec<Life>]) {
        for (i, life) in lives.iter().enumerate().flat_map(|(i, lives)| lives.iter().map(move |l| (i, l))) {
            let mut wrong =
                |text: &str| self.wrong.push(format!("actor {i}: {text}: {}", describe(life, life.begun)));
            if !life.in_time {
                wrong("did not end");
            }
            match (life.code, life.signal) {
                (None, Some(9)) if life.stop == Some(Signal::KILL) => {}
                (Some(0), _) if !life.exact => wrong("said complete, and the content is wrong"),
                (Some(0), _) => {}
                // A process that has not yet set up its handler ends by the signal.
                (Some(7), _) | (None, Some(2)) if life.stop == Some(Signal::INT) => {}
                (Some(code @ (11..=13)), _) => {
                    let expected = self.scene.refusals.contains(&code) || (code == 13 && self.has_stranger);
                    if !expected {
                        wrong("refused with a code that does not fit");
                    }
                    let dirs = self.scene.actors.iter().map(|a| &a.dir);
                    let names_a_path =
                        dirs.into_iter().any(|dir| life.stderr.contains(&*dir.to_string_lossy()));
                    // One sentence for each torrent that is refused.
                    let most = self.scene.actors[i].torrents.len();
                    if !(1..=most).contains(&life.stderr.lines().count()) || !names_a_path {
                        wrong("not one sentence that names the file or directory");
                    }
                    // Of two torrents in one process and of two entries the other is in the same process.
                    let met = lives.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, l)| l);
                    let met =
                        met.into_iter().any(|other| other.begun <= life.ended && life.begun <= other.ended);
                    if code != 13 && lives.len() > 1 && !met {
                        wrong("refused because of another process, and there was none");
                    }
                }
                _ => wrong("ended with another code"),
            }
        }
    }

    /// What was complete once stays so.
    fn contents(&mut self, lives: &[Vec<Life>]) {
        for (i, (actor, lives)) in self.scene.actors.iter().zip(lives).enumerate() {
            let said = lives.iter().any(|life| life.code == Some(0));
            for torrent in actor.torrents.iter().filter(|_| said) {
                if !torrent.is_exact(&actor.dir) {
                    self.wrong.push(format!("actor {i}: was complete, and was overwritten later"));
                }
            }
        }
    }

    fn verify(&self, torrent: &Torrent, dir: &Path) -> Option<i32> {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_rill"));
        verify.env_clear().args(["verify", "-q"]).arg(&torrent.file).arg("-d").arg(dir);
        verify.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
    }

    /// `rill verify` calls good what is right, and nothing else.
    fn agreement(&mut self) {
        for (i, actor) in self.scene.actors.iter().enumerate() {
            for torrent in &actor.torrents {
                let exact = torrent.is_there(&actor.dir);
                let code = self.verify(torrent, &actor.dir);
                if exact != (code == Some(0)) {
                    self.wrong.push(format!("actor {i}: verify ends with {code:?}, and right is {exact}"));
                }
            }
        }
    }

    /// No record claims a bad piece.
    fn records(&mut self) {
        for (i, actor) in self.scene.actors.iter().enumerate() {
            let Some(state) = &actor.state else { continue };
            for torrent in &actor.torrents {
                let claims = torrent.false_claims(&actor.dir, state);
                if !claims.is_empty() {
                    self.wrong.push(format!("actor {i}: the record claims the bad pieces {claims:?}"));
                }
            }
        }
    }

    /// If nothing was in the way, one actor is complete, at the latest after it was started again alone.
    fn end(&mut self, lives: &[Vec<Life>], library: &Library, root: &Path) {
        let actors = &self.scene.actors;
        let complete = || actors.iter().flat_map(|a| a.torrents.iter().map(|t| t.is_exact(&a.dir)));
        if self.has_stranger {
            return;
        }
        let stopped = lives.iter().flatten().any(|life| life.stop.is_some());
        let may_fail = self.cell.situation == Situation::Entries && self.scene.shared;
        if !may_fail && !stopped && !complete().any(|c| c) {
            self.wrong.push("no torrent is complete, and none was stopped".into());
        }
        let log: PathBuf = root.join("log-end");
        let mut ends = Vec::new();
        for actor in actors {
            let life = live(command(self.cell, library, actor), actor, None, &log);
            if !matches!(life.code, Some(0 | 11 | 13)) || (life.code == Some(0) && !life.exact) {
                self.wrong.push(format!("started again alone: {}", describe(&life, life.begun)));
            }
            ends.push(life.stderr);
        }
        if !may_fail && !complete().any(|c| c) {
            self.wrong.push(format!("no torrent is complete after another start alone: {ends:?}"));
        }
        let all = self.cell.situation == Situation::Processes && self.cell.place != Place::HardLink;
        if all && !complete().all(|c| c) {
            self.wrong.push(format!("not complete for both after another start alone: {ends:?}"));
        }
    }
}
