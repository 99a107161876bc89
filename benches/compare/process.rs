//! A client's process group: started in a network namespace, measured through /proc, killed as a whole.
//!
//! If the client ends by itself, its CPU time comes from `wait4` (microseconds); if it is killed, from /proc
//! before (ticks, mostly 10 ms).

use crate::fault::{Fault, Result, pause};
use crate::networks::enter;
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Interval in which the members of the group are listed: they hardly change, and listing costs CPU time
/// during the measurement.
const MEMBERS_EVERY: Duration = Duration::from_secs(1);

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub user: f64,
    pub system: f64,
}

impl Cpu {
    /// Returns the sum of both.
    pub fn total(self) -> f64 {
        self.user + self.system
    }

    /// Returns the CPU time since `earlier`.
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu { user: (self.user - earlier.user).max(0.0), system: (self.system - earlier.system).max(0.0) }
    }
}

/// Memory in bytes, all processes of a group together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Peak resident memory, mapped files included.
    pub peak_resident: u64,
    /// Largest sample of private (anonymous) memory.
    pub peak_private: u64,
}

/// A running program that leads a process group.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    log: PathBuf,
    ended: Option<(ExitStatus, Cpu)>,
    members: Vec<i32>,
    members_at: Instant,
    memory: Memory,
}

impl Process {
    /// Starts a command in a network; its output goes to the file `log`.
    pub fn start(command: &mut Command, network: File, log: &Path) -> Result<Process> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::create(log).map_err(Fault::at(log.display()))?;
        let errors = output.try_clone().map_err(Fault::at(log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        let prepare = move || {
            enter(&network)?;
            // The client is killed if this program is killed.
            Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
        };
        // SAFETY: between fork and exec the closure makes only two system calls, on a descriptor that
        // it owns.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn().map_err(Fault::at(format_args!("cannot start {name}")))?;
        let pid = Pid::from_child(&child);
        let log = log.to_owned();
        let members = vec![pid.as_raw_pid()];
        let members_at = Instant::now();
        Ok(Process { pid, log, ended: None, members, members_at, memory: Memory::default() })
    }

    /// Returns the exit status and the CPU time if the process has ended by itself.
    pub fn ended(&mut self) -> Option<(ExitStatus, Cpu)> {
        if self.ended.is_none() {
            self.ended = collect(self.pid, libc::WNOHANG);
        }
        self.ended
    }

    /// Returns the CPU time of the group so far.
    pub fn cpu(&mut self) -> Cpu {
        self.refresh_members();
        let mut sum = Cpu::default();
        for cpu in self.members.iter().filter_map(|pid| cpu_of(&stat(*pid)?)) {
            sum = Cpu { user: sum.user + cpu.user, system: sum.system + cpu.system };
        }
        sum
    }

    /// Returns the CPU time in seconds of the threads that exist now; in nanosecond resolution if the
    /// kernel has schedstat.
    pub fn cpu_now(&mut self) -> f64 {
        self.refresh_members();
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

    /// Returns the group's private memory in bytes.
    pub fn private_now(&mut self) -> u64 {
        self.refresh_members();
        self.memory_now().peak_private
    }

    /// Sends SIGINT and waits. Returns whether the process ended within `patience`.
    pub fn interrupt(&mut self, patience: Duration) -> Result<bool> {
        let begun = Instant::now();
        // The process may have ended already.
        let _ = kill_process_group(self.pid, Signal::INT);
        while self.ended().is_none() && begun.elapsed() < patience {
            pause(2)?;
        }
        Ok(self.ended.is_some())
    }

    /// Samples the group's memory.
    pub fn sample(&mut self) {
        if self.members_at.elapsed() > MEMBERS_EVERY {
            self.refresh_members();
        }
        let now = self.memory_now();
        self.memory.peak_resident = self.memory.peak_resident.max(now.peak_resident);
        self.memory.peak_private = self.memory.peak_private.max(now.peak_private);
    }

    /// Returns the largest samples.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Returns the bytes received by the process's network namespace.
    pub fn received(&self) -> u64 {
        let table =
            fs::read_to_string(format!("/proc/{}/net/dev", self.pid.as_raw_pid())).unwrap_or_default();
        let wire = table.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        wire.and_then(|numbers| numbers.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Returns the output so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the last line of the output.
    pub fn last_line(&self) -> String {
        let output = self.output();
        let last =
            output.split(['\r', '\n']).map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
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

    fn refresh_members(&mut self) {
        let group = self.pid.as_raw_pid();
        let pids = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse().ok());
        self.members = pids
            .filter(|pid: &i32| stat(*pid).is_some_and(|fields| fields.get(2) == Some(&group.to_string())))
            .collect();
        self.members_at = Instant::now();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Other processes of the group may run after its leader has ended.
        let _ = kill_process_group(self.pid, Signal::KILL);
        if self.ended.is_none() {
            collect(self.pid, 0);
        }
    }
}

/// Waits for a child. Its CPU time includes that of its own reaped children.
fn collect(pid: Pid, options: i32) -> Option<(ExitStatus, Cpu)> {
    let mut status = 0;
    // SAFETY: `rusage` consists of integers, for which zero bytes are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers point to live variables of the right types.
    let waited = unsafe { libc::wait4(pid.as_raw_pid(), &mut status, options, &mut usage) };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let cpu = Cpu { user: seconds(usage.ru_utime), system: seconds(usage.ru_stime) };
    (waited == pid.as_raw_pid()).then(|| (ExitStatus::from_raw(status), cpu))
}

/// Returns the fields of /proc/PID/stat from the state on, which is field 3 in proc(5) and index 0 here.
fn stat(pid: i32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A program's name may contain spaces and parentheses.
    Some(line.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// Returns utime + cutime and stime + cstime.
fn cpu_of(fields: &[String]) -> Option<Cpu> {
    let second = rustix::param::clock_ticks_per_second() as f64;
    let ticks = |number: usize| fields.get(number)?.parse::<f64>().ok();
    Some(Cpu { user: (ticks(11)? + ticks(13)?) / second, system: (ticks(12)? + ticks(14)?) / second })
}

/// Returns a memory figure of /proc/PID/status in bytes.
fn kib(status: &str, name: &str) -> u64 {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    value.unwrap_or(0) << 10
}
