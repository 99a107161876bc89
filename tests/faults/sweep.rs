//! One system call after another fails: the first of its kind, the second, the third, over a whole transfer.
//!
//! Whoever is spoilt either gets through it, or ends by itself with one sentence; what its record claims is there; and the
//! same command without the trouble finishes. What happens on every busy machine (EINTR, a short count) or on some file
//! systems (no `fallocate`, no windows) must be got through.

use crate::stage::{End, Process, Stage, Trouble, address, free_port};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Processes are mostly waited for, so that more than the machine has cores go on at once.
const AT_ONCE: usize = 6;

/// Who is spoilt, and how it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    GetMapped,
    GetPlain,
    Seed,
}

pub const ROLES: [Role; 3] = [Role::GetMapped, Role::GetPlain, Role::Seed];

/// One kind of call: what it may fail with, and what of that must be got through.
struct Spoil {
    kind: &'static str,
    ends: &'static [&'static str],
    survived: &'static [&'static str],
    /// Exit codes of a process that ends because of it, besides that of a time-out.
    codes: &'static [i32],
}

const fn spoil(
    kind: &'static str,
    ends: &'static [&'static str],
    survived: &'static [&'static str],
    codes: &'static [i32],
) -> Spoil {
    Spoil { kind, ends, survived, codes }
}

/// No space is 9 wherever a file is concerned; the other codes are those of PRODUCT's list.
const SPOILS: [Spoil; 27] = [
    spoil("open", &["ENOSPC", "EIO", "EMFILE", "ENOMEM", "EACCES", "KILL"], &[], &[9, 15, 16, 17]),
    spoil("mkdir", &["ENOSPC", "EIO", "EROFS", "KILL"], &[], &[9, 16]),
    spoil("rename", &["ENOSPC", "EIO", "KILL"], &[], &[9, 16, 17]),
    spoil("unlink", &["EIO", "KILL"], &[], &[]),
    spoil("ftruncate", &["ENOSPC", "EIO", "KILL"], &["EINTR"], &[9, 16, 17]),
    spoil("fallocate", &["ENOSPC", "EIO", "KILL"], &["EOPNOTSUPP", "EINVAL", "ENOSYS", "EINTR"], &[9, 17]),
    spoil("mmap", &["KILL"], &["ENOMEM", "ENODEV", "EINVAL", "EACCES"], &[]),
    spoil("madvise", &[], &["ENOMEM", "EINVAL", "EFAULT", "EIO"], &[]),
    spoil("pread", &["EIO", "ENOMEM", "KILL"], &["EINTR", "short:1", "short:5000"], &[17]),
    spoil("pwrite", &["ENOSPC", "EIO", "EDQUOT", "short:0", "KILL"], &["EINTR", "short:1", "short:5000"], &[9, 17]),
    spoil("fsync", &["EIO", "ENOSPC", "KILL"], &["EINVAL", "EINTR"], &[9, 17]),
    spoil("fdatasync", &["EIO", "ENOSPC", "KILL"], &["EINTR"], &[9, 17]),
    spoil("flock", &["EIO"], &["ENOSYS", "EINTR"], &[15]),
    spoil("window", &["ECONNRESET", "KILL"], &["EFAULT", "EINTR", "short:1", "short:5000"], &[]),
    // A socket gives and takes less than it could only at a bad page; what is short here nobody has to get through.
    spoil("readv", &["ECONNRESET", "short:5000", "KILL"], &["EINTR"], &[]),
    spoil("recv", &["ECONNRESET", "short:1", "ENOMEM"], &["EINTR"], &[]),
    spoil("writev", &["ECONNRESET", "short:1", "ENOMEM", "KILL"], &["EINTR"], &[]),
    spoil("preadv2", &["EIO", "KILL"], &["EAGAIN", "EINTR", "EOPNOTSUPP", "ENOSYS", "short:1", "short:5000"], &[17]),
    spoil("socket", &["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"], &[], &[6]),
    spoil("bind", &["ENOMEM", "EACCES"], &[], &[6]),
    spoil("listen", &["ENOBUFS"], &[], &[6]),
    spoil("connect", &["ENOMEM", "EAGAIN"], &[], &[]),
    spoil("accept", &["EMFILE", "ENFILE", "ENOMEM", "ECONNRESET"], &["EINTR"], &[]),
    spoil("epoll_create", &["EMFILE", "ENOMEM"], &[], &[1]),
    spoil("epoll_ctl", &["ENOMEM", "ENOSPC"], &[], &[1, 6]),
    spoil("epoll_wait", &["ENOMEM"], &["EINTR"], &[1]),
    spoil("eventfd", &["EMFILE", "ENOMEM"], &[], &[1]),
];

/// One run.
#[derive(Clone, Debug)]
struct Case {
    role: Role,
    kind: &'static str,
    error: &'static str,
    n: u32,
    /// All later ones, too.
    on: bool,
    survives: bool,
    codes: &'static [i32],
}

impl Case {
    fn name(&self) -> String {
        format!("{:?} {}:{}{}:{}", self.role, self.kind, self.n, if self.on { "+" } else { "" }, self.error)
    }

    fn trouble(&self) -> Trouble {
        Trouble::rules(format!("{}:{}{}:{}", self.kind, self.n, if self.on { "+" } else { "" }, self.error))
    }
}

/// What came of a sweep.
#[derive(Debug, Default)]
pub struct Outcome {
    pub runs: usize,
    /// Runs in which the call was made and spoilt.
    pub struck: usize,
    pub finished: usize,
    /// Runs that took longest.
    pub longest: Vec<(Duration, String)>,
    pub wrong: Vec<String>,
}

/// Which of `count` calls are spoilt.
pub type Points = fn(count: u32) -> Vec<u32>;

/// The first two, and one in the middle of the rest.
pub fn few(count: u32) -> Vec<u32> {
    let mut points: Vec<u32> = (1..=count.min(2)).collect();
    points.extend([count / 2 + 1].into_iter().filter(|n| (3..=count).contains(n)));
    points
}

/// Every one.
pub fn all(count: u32) -> Vec<u32> {
    (1..=count).collect()
}

/// Spoils the calls of these roles, one after another; `only` narrows it to cases whose name holds this text.
pub fn sweep(roles: &[Role], points: Points, only: &str) -> Outcome {
    let mut cases = Vec::new();
    for role in roles {
        cases.extend(cases_of(*role, points).into_iter().filter(|case| case.name().contains(only)));
    }
    let queue = Mutex::new(cases.into_iter());
    let outcome = Mutex::new(Outcome::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let worker = Worker::new();
                loop {
                    let case = queue.lock().unwrap().next();
                    let Some(case) = case else { return };
                    let begun = Instant::now();
                    let came = catch_unwind(AssertUnwindSafe(|| worker.play(&case)));
                    let mut outcome = outcome.lock().unwrap();
                    outcome.runs += 1;
                    outcome.longest.push((begun.elapsed(), case.name()));
                    outcome.longest.sort_by(|a, b| b.cmp(a));
                    outcome.longest.truncate(12);
                    match came {
                        Ok((struck, finished)) => {
                            outcome.struck += usize::from(struck);
                            outcome.finished += usize::from(finished);
                        }
                        Err(panic) => outcome.wrong.push(format!("{}: {}", case.name(), words_of(&*panic))),
                    }
                }
            });
        }
    });
    outcome.into_inner().unwrap()
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_string()
}

/// The cases of a role, from the calls that it makes when nothing is spoilt.
fn cases_of(role: Role, points: Points) -> Vec<Case> {
    let worker = Worker::new();
    let counts = match role {
        Role::Seed => {
            let (end, fetched) = worker.serve(&Trouble::default(), "10");
            assert!(end.code == Some(0) && seeder_is_fine(&fetched), "{role:?} without trouble: {end:?} {fetched:?}");
            end.counts
        }
        _ => {
            let end = worker.fetch(role, &Trouble::default(), "10");
            assert_eq!(end.code, Some(0), "{role:?} without trouble: {end:?}");
            end.counts
        }
    };
    let must_have: &[&str] = match role {
        Role::GetMapped => {
            &["open", "mkdir", "rename", "ftruncate", "fallocate", "mmap", "madvise", "window", "fdatasync", "connect"]
        }
        Role::GetPlain => &["open", "mkdir", "rename", "ftruncate", "pwrite", "readv", "fsync", "fdatasync", "connect", "recv"],
        Role::Seed => &["open", "pread", "preadv2", "accept", "writev", "recv", "epoll_wait", "epoll_ctl"],
    };
    for kind in must_have {
        assert!(counts.of(kind) > 0, "{role:?}: no {kind} was seen: the library is not in its way, {counts:?}");
    }
    let mut cases = Vec::new();
    for spoil in &SPOILS {
        for n in points(counts.of(spoil.kind)) {
            let ends = spoil.ends.iter().map(|error| (error, false));
            for (error, survives) in ends.chain(spoil.survived.iter().map(|error| (error, true))) {
                let case = Case { role, kind: spoil.kind, error, n, on: false, survives, codes: spoil.codes };
                // What lasts: from the first call on, and from one in the middle. A stream of interruptions is nobody's life.
                let lasts = !survives || !matches!(*error, "EINTR" | "EAGAIN" | "short:1");
                if lasts && *error != "KILL" && (n == 1 || n == 2) {
                    cases.push(Case { on: true, ..case.clone() });
                }
                cases.push(case);
            }
        }
    }
    cases
}

/// One stage with one healthy seeder, for one run after another.
struct Worker {
    stage: Stage,
    _seeder: Process,
    addr: SocketAddr,
}

impl Worker {
    fn new() -> Worker {
        let stage = Stage::new();
        let (seeder, addr) = stage.seeder();
        // It listens before it has looked at its content; whoever has fetched from it once knows that it has.
        stage.must_finish(addr, &[], "before any trouble");
        Worker { stage, _seeder: seeder, addr }
    }

    /// Fetches with trouble.
    fn fetch(&self, role: Role, trouble: &Trouble, stall: &str) -> End {
        self.stage.clear();
        let storage = if role == Role::GetPlain { "plain" } else { "mapped" };
        self.stage.get(self.addr, Some(trouble), &["--storage", storage, "--stall-timeout", stall]).end()
    }

    /// Serves with trouble; how the server ended, and how the one who fetches did, if there was anybody to fetch from.
    fn serve(&self, trouble: &Trouble, stall: &str) -> (End, Option<End>) {
        self.stage.clear();
        let port = free_port();
        let mut seeder = self.stage.seed(port, Some(trouble), &[]);
        let fetched = seeder.listens(port).then(|| self.stage.get(address(port), None, &["--stall-timeout", stall]).end());
        // One that fails ends by itself; that may be a moment after the other side has seen it.
        let stopped = !seeder.ends_within(Duration::from_millis(if seeder_is_fine(&fetched) { 0 } else { 300 }));
        if stopped {
            seeder.ask_to_end();
        }
        (seeder.end(), fetched)
    }

    /// Plays a case; panics at what must not be. Whether the call was spoilt, and whether it was got through.
    fn play(&self, case: &Case) -> (bool, bool) {
        // Who is to get through has time for it, however busy the machine is; who may give up need not take long.
        let stall = if case.survives { "10" } else { "1" };
        let (end, finished) = match case.role {
            Role::Seed => {
                let (end, fetched) = self.serve(&case.trouble(), stall);
                let finished = seeder_is_fine(&fetched);
                if let Some(fetched) = &fetched {
                    must_be_tidy(fetched, &[2, 0]);
                    if finished {
                        self.stage.must_be_whole("fetched from a spoilt seeder");
                    }
                }
                (end, finished)
            }
            role => {
                let end = self.fetch(role, &case.trouble(), stall);
                let finished = end.code == Some(0);
                if finished {
                    self.stage.must_be_whole("it said that it was done");
                }
                (end, finished)
            }
        };
        let struck = end.counts.spoilt(case.kind) > 0;
        if case.error == "KILL" && struck {
            assert_eq!(end.signal, Some(9), "{end:?}");
        } else {
            must_be_tidy(&end, &[&[0, 2], case.codes].concat());
        }
        assert!(!case.survives || finished && end.code == Some(0), "not got through: {end:?}");
        self.stage.must_hold("after the trouble");
        self.stage.must_finish(self.addr, &[], "after the trouble");
        (struck, finished)
    }
}

fn seeder_is_fine(fetched: &Option<End>) -> bool {
    fetched.as_ref().is_some_and(|end| end.code == Some(0))
}

/// It ended by itself, with nothing to say or one sentence, and did not run in circles until then.
pub fn must_be_tidy(end: &End, codes: &[i32]) {
    assert!(end.in_time, "it hangs: {end:?}");
    assert!(end.signal.is_none(), "a signal ended it: {end:?}");
    assert!(end.code.is_some_and(|code| codes.contains(&code)), "its exit code is none of {codes:?}: {end:?}");
    if end.code != Some(0) {
        assert!(end.words.starts_with("rill: ") && end.words.lines().count() == 1, "not one sentence: {end:?}");
    }
    assert!(!end.words.contains("panicked"), "{end:?}");
    assert!(end.cpu < end.wall / 2 + Duration::from_millis(500), "it runs in circles: {end:?}");
}

/// Prints what came of it and fails if anything was wrong.
pub fn judge(outcome: &Outcome) {
    println!("{} runs, {} struck, {} of them got through", outcome.runs, outcome.struck, outcome.finished);
    println!("longest: {:?}", outcome.longest);
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for wrong in &outcome.wrong {
        *by_kind.entry(wrong.split(':').next().unwrap_or_default()).or_default() += 1;
    }
    assert!(outcome.wrong.is_empty(), "{} wrong, {by_kind:?}:\n{}", outcome.wrong.len(), outcome.wrong.join("\n"));
}
