//! Every system call of a transfer fails once: the first of its kind, the second, the third, a process for
//! each.
//!
//! The process either finishes, or ends by itself with one sentence; its record makes no false claim; and the
//! same command without the fault finishes. Faults that happen on every busy machine (EINTR, a short count)
//! or on some file systems (no `fallocate`, no windows) must not stop the transfer.

use crate::stage::{End, Process, Stage, Trouble, address, free_port};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Threads of a sweep. Transfers mostly wait, so there are more than cores.
const AT_ONCE: usize = 6;

/// The process with failing calls, and its storage mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    GetMapped,
    GetPlain,
    Seed,
}

pub const ROLES: [Role; 3] = [Role::GetMapped, Role::GetPlain, Role::Seed];

/// One kind of call and its faults.
struct CallFaults {
    kind: &'static str,
    /// Faults that may end the process.
    ends: &'static [&'static str],
    /// Faults that must not stop the transfer.
    survived: &'static [&'static str],
    /// Exit codes of a process that ends because of it, besides 2 for a time-out.
    codes: &'static [i32],
}

const fn call_faults(
    kind: &'static str,
    ends: &'static [&'static str],
    survived: &'static [&'static str],
    codes: &'static [i32],
) -> CallFaults {
    CallFaults { kind, ends, survived, codes }
}

/// "No space" is exit code 9 for every call on a file; the other codes are in `rill --help`.
const CALL_FAULTS: [CallFaults; 27] = [
    call_faults("open", &["ENOSPC", "EIO", "EMFILE", "ENOMEM", "EACCES", "KILL"], &[], &[9, 15, 16, 17]),
    call_faults("mkdir", &["ENOSPC", "EIO", "EROFS", "KILL"], &[], &[9, 16]),
    call_faults("rename", &["ENOSPC", "EIO", "KILL"], &[], &[9, 16, 17]),
    call_faults("unlink", &["EIO", "KILL"], &[], &[]),
    call_faults("ftruncate", &["ENOSPC", "EIO", "KILL"], &["EINTR"], &[9, 16, 17]),
    call_faults(
        "fallocate",
        &["ENOSPC", "EIO", "KILL"],
        &["EOPNOTSUPP", "EINVAL", "ENOSYS", "EINTR"],
        &[9, 17],
    ),
    call_faults("mmap", &["KILL"], &["ENOMEM", "ENODEV", "EINVAL", "EACCES"], &[]),
    call_faults("madvise", &[], &["ENOMEM", "EINVAL", "EFAULT", "EIO"], &[]),
    call_faults("pread", &["EIO", "ENOMEM", "KILL"], &["EINTR", "short:1", "short:5000"], &[17]),
    call_faults(
        "pwrite",
        &["ENOSPC", "EIO", "EDQUOT", "short:0", "KILL"],
        &["EINTR", "short:1", "short:5000"],
        &[9, 17],
    ),
    call_faults("fsync", &["EIO", "ENOSPC", "KILL"], &["EINVAL", "EINTR"], &[9, 17]),
    call_faults("fdatasync", &["EIO", "ENOSPC", "KILL"], &["EINTR"], &[9, 17]),
    call_faults("flock", &["EIO"], &["ENOSYS", "EINTR"], &[15]),
    call_faults("window", &["ECONNRESET", "KILL"], &["EFAULT", "EINTR", "short:1", "short:5000"], &[]),
    // A short read of a socket means that no more bytes are there, so a simulated short read may stall
    // the transfer.
    call_faults("readv", &["ECONNRESET", "short:5000", "KILL"], &["EINTR"], &[]),
    call_faults("recv", &["ECONNRESET", "short:1", "ENOMEM"], &["EINTR"], &[]),
    call_faults("writev", &["ECONNRESET", "short:1", "ENOMEM", "KILL"], &["EINTR"], &[]),
    call_faults(
        "preadv2",
        &["EIO", "KILL"],
        &["EAGAIN", "EINTR", "EOPNOTSUPP", "ENOSYS", "short:1", "short:5000"],
        &[17],
    ),
    call_faults("socket", &["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"], &[], &[6]),
    call_faults("bind", &["ENOMEM", "EACCES"], &[], &[6]),
    call_faults("listen", &["ENOBUFS"], &[], &[6]),
    call_faults("connect", &["ENOMEM", "EAGAIN"], &[], &[]),
    call_faults("accept", &["EMFILE", "ENFILE", "ENOMEM", "ECONNRESET"], &["EINTR"], &[]),
    call_faults("epoll_create", &["EMFILE", "ENOMEM"], &[], &[1]),
    call_faults("epoll_ctl", &["ENOMEM", "ENOSPC"], &[], &[1, 6]),
    call_faults("epoll_wait", &["ENOMEM"], &["EINTR"], &[1]),
    call_faults("eventfd", &["EMFILE", "ENOMEM"], &[], &[1]),
];

/// One run: the `n`th call of this kind fails.
#[derive(Clone, Debug)]
struct Case {
    role: Role,
    kind: &'static str,
    error: &'static str,
    n: u32,
    /// All later calls fail, too.
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

/// The result of a sweep.
#[derive(Debug, Default)]
pub struct Outcome {
    pub runs: usize,
    /// Runs in which the call was made and failed.
    pub struck: usize,
    pub finished: usize,
    /// The runs that took longest.
    pub longest: Vec<(Duration, String)>,
    pub wrong: Vec<String>,
}

/// The calls out of `count` that fail, each in its own run.
pub type Points = fn(count: u32) -> Vec<u32>;

/// The first two, and one in the middle of the rest.
pub fn few(count: u32) -> Vec<u32> {
    let mut points: Vec<u32> = (1..=count.min(2)).collect();
    points.extend([count / 2 + 1].into_iter().filter(|n| (3..=count).contains(n)));
    points
}

/// Each of them.
pub fn all(count: u32) -> Vec<u32> {
    (1..=count).collect()
}

/// Runs the cases of these roles that have `only` in their name.
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
                    let result = catch_unwind(AssertUnwindSafe(|| worker.play(&case)));
                    let mut outcome = outcome.lock().unwrap();
                    outcome.runs += 1;
                    outcome.longest.push((begun.elapsed(), case.name()));
                    outcome.longest.sort_by(|a, b| b.cmp(a));
                    outcome.longest.truncate(12);
                    match result {
                        Ok((struck, finished)) => {
                            outcome.struck += usize::from(struck);
                            outcome.finished += usize::from(finished);
                        }
                        Err(panic) => outcome.wrong.push(format!("{}: {}", case.name(), text_of(&*panic))),
                    }
                }
            });
        }
    });
    outcome.into_inner().unwrap()
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without text").to_string()
}

/// The cases of a role, from the calls that it makes without faults.
fn cases_of(role: Role, points: Points) -> Vec<Case> {
    let worker = Worker::new();
    let counts = match role {
        Role::Seed => {
            let (end, fetched) = worker.serve(&Trouble::default(), "10");
            assert!(
                end.code == Some(0) && seeder_is_fine(&fetched),
                "{role:?} without trouble: {end:?} {fetched:?}"
            );
            end.counts
        }
        _ => {
            let end = worker.fetch(role, &Trouble::default(), "10");
            assert_eq!(end.code, Some(0), "{role:?} without trouble: {end:?}");
            end.counts
        }
    };
    let must_have: &[&str] = match role {
        Role::GetMapped => &[
            "open",
            "mkdir",
            "rename",
            "ftruncate",
            "fallocate",
            "mmap",
            "madvise",
            "window",
            "fdatasync",
            "connect",
        ],
        Role::GetPlain => &[
            "open",
            "mkdir",
            "rename",
            "ftruncate",
            "pwrite",
            "readv",
            "fsync",
            "fdatasync",
            "connect",
            "recv",
        ],
        Role::Seed => &["open", "pread", "preadv2", "accept", "writev", "recv", "epoll_wait", "epoll_ctl"],
    };
    for kind in must_have {
        assert!(counts.of(kind) > 0, "{role:?}: the library intercepted no {kind}: {counts:?}");
    }
    let mut cases = Vec::new();
    for call in &CALL_FAULTS {
        for n in points(counts.of(call.kind)) {
            let ends = call.ends.iter().map(|error| (error, false));
            for (error, survives) in ends.chain(call.survived.iter().map(|error| (error, true))) {
                let case = Case { role, kind: call.kind, error, n, on: false, survives, codes: call.codes };
                // Lasting faults, from the first or second call on. Calls that are interrupted each time do
                // not occur.
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

/// One stage with one seeder without faults, for consecutive runs.
struct Worker {
    stage: Stage,
    _seeder: Process,
    addr: SocketAddr,
}

impl Worker {
    fn new() -> Worker {
        let stage = Stage::new();
        let (seeder, addr) = stage.seeder();
        // It listens before it has checked its content; after one download it has.
        stage.must_finish(addr, &[], "before any trouble");
        Worker { stage, _seeder: seeder, addr }
    }

    /// Downloads with trouble.
    fn fetch(&self, role: Role, trouble: &Trouble, stall: &str) -> End {
        self.stage.clear();
        let storage = if role == Role::GetPlain { "plain" } else { "mapped" };
        self.stage.get(self.addr, Some(trouble), &["--storage", storage, "--stall-timeout", stall]).end()
    }

    /// Seeds with trouble. Returns the end of the seeder, and that of the downloader if the seeder listened.
    fn serve(&self, trouble: &Trouble, stall: &str) -> (End, Option<End>) {
        self.stage.clear();
        let port = free_port();
        let mut seeder = self.stage.seed(port, Some(trouble), &[]);
        let fetched = seeder
            .listens(port)
            .then(|| self.stage.get(address(port), None, &["--stall-timeout", stall]).end());
        // A seeder with a fault ends by itself, possibly a moment after the downloader.
        let stopped =
            !seeder.ends_within(Duration::from_millis(if seeder_is_fine(&fetched) { 0 } else { 300 }));
        if stopped {
            seeder.send_sigterm();
        }
        (seeder.end(), fetched)
    }

    /// Runs a case; panics if anything is wrong. Returns whether the call failed, and whether the transfer
    /// finished.
    fn play(&self, case: &Case) -> (bool, bool) {
        // A transfer that must finish has time for it on a busy machine; one that may end need not take long.
        let stall = if case.survives { "10" } else { "1" };
        let (end, finished) = match case.role {
            Role::Seed => {
                let (end, fetched) = self.serve(&case.trouble(), stall);
                let finished = seeder_is_fine(&fetched);
                if let Some(fetched) = &fetched {
                    assert_orderly_end(fetched, &[2, 0]);
                    if finished {
                        self.stage.must_be_whole("downloaded from a seeder with faults");
                    }
                }
                (end, finished)
            }
            role => {
                let end = self.fetch(role, &case.trouble(), stall);
                let finished = end.code == Some(0);
                if finished {
                    self.stage.must_be_whole("its exit code was 0");
                }
                (end, finished)
            }
        };
        let struck = end.counts.failed(case.kind) > 0;
        if case.error == "KILL" && struck {
            assert_eq!(end.signal, Some(9), "{end:?}");
        } else {
            assert_orderly_end(&end, &[&[0, 2], case.codes].concat());
        }
        assert!(!case.survives || finished && end.code == Some(0), "the transfer did not finish: {end:?}");
        self.stage.must_hold("after the trouble");
        self.stage.must_finish(self.addr, &[], "after the trouble");
        (struck, finished)
    }
}

fn seeder_is_fine(fetched: &Option<End>) -> bool {
    fetched.as_ref().is_some_and(|end| end.code == Some(0))
}

/// Panics unless the process ended by itself, with one sentence if its code is not 0, and without busy
/// waiting.
pub fn assert_orderly_end(end: &End, codes: &[i32]) {
    assert!(end.in_time, "it hangs: {end:?}");
    assert!(end.signal.is_none(), "ended by a signal: {end:?}");
    assert!(
        end.code.is_some_and(|code| codes.contains(&code)),
        "the exit code is none of {codes:?}: {end:?}"
    );
    if end.code != Some(0) {
        assert!(
            end.output.starts_with("rill: ") && end.output.lines().count() == 1,
            "not one sentence: {end:?}"
        );
    }
    assert!(!end.output.contains("panicked"), "{end:?}");
    assert!(end.cpu < end.wall / 2 + Duration::from_millis(500), "it waits busily: {end:?}");
}

/// Prints the result; fails if a run was wrong.
pub fn check(outcome: &Outcome) {
    println!("{} runs, {} with the fault, {} finished", outcome.runs, outcome.struck, outcome.finished);
    println!("longest: {:?}", outcome.longest);
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for wrong in &outcome.wrong {
        *by_kind.entry(wrong.split(':').next().unwrap_or_default()).or_default() += 1;
    }
    assert!(
        outcome.wrong.is_empty(),
        "{} wrong, {by_kind:?}:\n{}",
        outcome.wrong.len(),
        outcome.wrong.join("\n")
    );
}
