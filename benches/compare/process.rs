//! A client's process group: started in a network of its own, watched through /proc, ended as a whole.
//!
//! CPU time comes from the kernel's account when the client ends by itself (microseconds), and from /proc
//! before it is killed (ticks, 10 ms mostly).

use crate::fault::{Fault, Result, pause};
use crate::networks::enter;
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often the group is looked for again; its members hardly change, and looking costs the CPU that is
/// measured.
const MEMBERS_EVERY: Duration = Duration::from_secs(1);

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub user: f64,
    pub system: f64,
}

impl Cpu {
    /// Both together.
    pub fn total(self) -> f64 {
        self.user + self.system
    }

    /// What came after `earlier`.
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu { user: (self.user - earlier.user).max(0.0), system: (self.system - earlier.system).max(0.0) }
    }
}

/// Memory in bytes, all processes of a group together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The most that has been resident, files that are mapped included.
    pub peak_resident: u64,
    /// The most private (anonymous) memory that was seen.
    pub peak_private: u64,
}

/// A running program that leads a process group.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    log: PathBuf,
    ended: Option<(ExitStatus, Cpu)>,
    members: Vec<i32>,
    looked: Instant,
    memory: Memory,
}

impl Process {
    /// Starts a command in a network; what it says goes to the file `log`.
    pub fn start(command: &mut Command, network: File, log: &Path) -> Result<Process> {
        let name = command.get_program().to_string_lossy().into_owned();
        let words = File::create(log).map_err(Fault::at(log.display()))?;
        let errors = words.try_clone().map_err(Fault::at(log.display()))?;
        command.stdin(Stdio::null()).stdout(words).stderr(errors).process_group(0);
        for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        let prepare = move || {
            enter(&network)?;
            // Even if this program is killed, no client goes on.
            Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
        };
        // SAFETY: between fork and exec only two system calls are made, on a descriptor that the closure
        // owns.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn().map_err(Fault::at(format_args!("cannot start {name}")))?;
        let pid = Pid::from_child(&child);
        let log = log.to_owned();
        let members = vec![pid.as_raw_pid()];
        let looked = Instant::now();
        Ok(Process { pid, log, ended: None, members, looked, memory: Memory::default() })
    }

    /// How it ended and the CPU that it took, if it has ended by itself.
    pub fn ended(&mut self) -> Option<(ExitStatus, Cpu)> {
        if self.ended.is_none() {
            self.ended = collect(self.pid, libc::WNOHANG);
        }
        self.ended
    }

    /// CPU of the group until now.
    pub fn cpu(&mut self) -> Cpu {
        self.look();
        let mut sum = Cpu::default();
        for cpu in self.members.iter().filter_map(|pid| cpu_of(&stat(*pid)?)) {
            sum = Cpu { user: sum.user + cpu.user, system: sum.system + cpu.system };
        }
        sum
    }

    /// CPU of the threads that the group has now, until now, in seconds: to the nanosecond where the kernel
    /// keeps such an account.
    pub fn cpu_now(&mut self) -> f64 {
        self.look();
        let tasks = self
            .members
            .iter()
            .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
            .flatten()
            .flatten();
        let spent = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
        let nanos: Vec<f64> = spent.filter_map(|spent| spent.split(' ').next()?.parse().ok()).collect();
        if nanos.is_empty() { self.cpu().total() } else { nanos.iter().sum::<f64>() / 1e9 }
    }

    /// Bytes of private memory that the group has now.
    pub fn private_now(&mut self) -> u64 {
        self.look();
        self.memory_now().peak_private
    }

    /// Asks it to end, and waits for that; whether it did.
    pub fn interrupt(&mut self, patience: Duration) -> Result<bool> {
        let begun = Instant::now();
        // It may have ended by itself.
        let _ = kill_process_group(self.pid, Signal::INT);
        while self.ended().is_none() && begun.elapsed() < patience {
            pause(2)?;
        }
        Ok(self.ended.is_some())
    }

    /// Looks at the group's memory once.
    pub fn sample(&mut self) {
        if self.looked.elapsed() > MEMBERS_EVERY {
            self.look();
        }
        let now = self.memory_now();
        self.memory.peak_resident = self.memory.peak_resident.max(now.peak_resident);
        self.memory.peak_private = self.memory.peak_private.max(now.peak_private);
    }

    /// The largest of all samples.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Bytes that have come over the wire to the network that it lives in.
    pub fn received(&self) -> u64 {
        let table =
            fs::read_to_string(format!("/proc/{}/net/dev", self.pid.as_raw_pid())).unwrap_or_default();
        let wire = table.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        wire.and_then(|numbers| numbers.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// All that it has said.
    pub fn words(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last line of it, if any.
    pub fn last_words(&self) -> String {
        let said = self.words();
        let last = said.split(['\r', '\n']).map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        last.chars().filter(|c| !c.is_control()).take(160).collect()
    }

    fn memory_now(&self) -> Memory {
        let mut now = Memory::default();
        for status in
            self.members.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        {
            now.peak_resident += kib(&status, "VmHWM:");
            now.peak_private += kib(&status, "RssAnon:");
        }
        now
    }

    fn look(&mut self) {
        let group = self.pid.as_raw_pid();
        let pids = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse().ok());
        self.members = pids
            .filter(|pid: &i32| stat(*pid).is_some_and(|fields| fields.get(2) == Some(&group.to_string())))
            .collect();
        self.looked = Instant::now();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The leader may be gone and others of its group not.
        let _ = kill_process_group(self.pid, Signal::KILL);
        if self.ended.is_none() {
            collect(self.pid, 0);
        }
    }
}

/// Waits for a child; CPU includes the children that it has waited for itself.
fn collect(pid: Pid, options: i32) -> Option<(ExitStatus, Cpu)> {
    let mut status = 0;
    // SAFETY: `rusage` is numbers alone, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right types.
    let waited = unsafe { libc::wait4(pid.as_raw_pid(), &mut status, options, &mut usage) };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let cpu = Cpu { user: seconds(usage.ru_utime), system: seconds(usage.ru_stime) };
    (waited == pid.as_raw_pid()).then(|| (ExitStatus::from_raw(status), cpu))
}

/// The fields of /proc/PID/stat from the state on, which is number 3 in proc(5) and 0 here.
fn stat(pid: i32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A program's name may hold spaces and brackets.
    Some(line.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// utime and cutime, stime and cstime.
fn cpu_of(fields: &[String]) -> Option<Cpu> {
    let second = rustix::param::clock_ticks_per_second() as f64;
    let ticks = |number: usize| fields.get(number)?.parse::<f64>().ok();
    Some(Cpu { user: (ticks(11)? + ticks(13)?) / second, system: (ticks(12)? + ticks(14)?) / second })
}

/// A line of /proc/PID/status, in bytes.
fn kib(status: &str, name: &str) -> u64 {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    value.unwrap_or(0) << 10
}
