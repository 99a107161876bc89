//! Costs of a process: CPU time by thread, wall time, memory. The process reads its own figures from /proc.
//!
//! Threads are told apart by their names: `rill-loop` is the session's loop, `rill-disk-N` are its disk
//! workers, all others are startup and display.

use std::fs;
use std::time::{Duration, Instant};

/// Costs of one measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    /// CPU time of the whole process.
    pub(super) cpu: Duration,
    pub(super) loop_cpu: Duration,
    pub(super) disk_cpu: Duration,
    /// Peak resident set, including pages of mapped files.
    pub(super) rss_kib: u64,
    /// Largest sample of private memory.
    pub(super) private_kib: u64,
}

impl Cost {
    /// Returns the CPU time of threads that are neither the loop nor disk workers.
    pub(super) fn other_cpu(&self) -> Duration {
        self.cpu.saturating_sub(self.loop_cpu + self.disk_cpu)
    }

    /// Formats the line `cost …`, which [`Cost::parse`] reads without its first word.
    pub(super) fn line(&self) -> String {
        let us = |d: Duration| d.as_micros();
        let Cost { wall, cpu, loop_cpu, disk_cpu, rss_kib, private_kib } = self;
        format!("cost {} {} {} {} {rss_kib} {private_kib}", us(*wall), us(*cpu), us(*loop_cpu), us(*disk_cpu))
    }

    /// Parses the numbers after `cost `.
    pub(super) fn parse(text: &str) -> Option<Cost> {
        let numbers: Vec<u64> = text.split(' ').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let us = Duration::from_micros;
        let [wall, cpu, loop_cpu, disk_cpu, rss_kib, private_kib] = numbers.try_into().ok()?;
        Some(Cost {
            wall: us(wall),
            cpu: us(cpu),
            loop_cpu: us(loop_cpu),
            disk_cpu: us(disk_cpu),
            rss_kib,
            private_kib,
        })
    }
}

/// Measures the costs of this process since [`Gauge::start`].
#[derive(Debug)]
pub(super) struct Gauge {
    begun: Instant,
    before: [Duration; 3],
    private_kib: u64,
}

impl Gauge {
    /// Starts a measurement.
    pub(super) fn start() -> Gauge {
        Gauge { begun: Instant::now(), before: spent(), private_kib: 0 }
    }

    /// Samples the private memory. The result is only as good as the samples are frequent.
    pub(super) fn sample(&mut self) {
        self.private_kib = self.private_kib.max(status_kib("RssAnon:"));
    }

    /// Returns the costs since the start of the measurement.
    pub(super) fn read(&mut self) -> Cost {
        self.sample();
        let [cpu, loop_cpu, disk_cpu] = spent();
        Cost {
            wall: self.begun.elapsed(),
            cpu: cpu.saturating_sub(self.before[0]),
            loop_cpu: loop_cpu.saturating_sub(self.before[1]),
            disk_cpu: disk_cpu.saturating_sub(self.before[2]),
            rss_kib: status_kib("VmHWM:"),
            private_kib: self.private_kib,
        }
    }
}

/// Returns the CPU time of the process, of the loop, and of the disk workers.
fn spent() -> [Duration; 3] {
    let of_process = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let of_process =
        Duration::new(of_process.tv_sec.try_into().unwrap_or(0), of_process.tv_nsec.try_into().unwrap_or(0));
    let mut of_loop = Duration::ZERO;
    let mut of_disk = Duration::ZERO;
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let path = task.path();
        let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
        let nanos = fs::read_to_string(path.join("schedstat"))
            .ok()
            .and_then(|text| text.split(' ').next()?.parse().ok());
        let spent = Duration::from_nanos(nanos.unwrap_or(0));
        if name.starts_with("rill-loop") {
            of_loop += spent;
        } else if name.starts_with("rill-disk") {
            of_disk += spent;
        }
    }
    [of_process, of_loop, of_disk]
}

/// Returns a memory figure of `/proc/self/status` in KiB, or 0 if the field is missing.
pub(in crate::cli) fn status_kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kib_of(&status, field)
}

fn kib_of(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_parsed_from_its_own_line() {
        let cost = Cost {
            wall: Duration::from_micros(7),
            cpu: Duration::from_secs(3),
            rss_kib: 5,
            private_kib: 4,
            ..Cost::default()
        };
        assert_eq!(Cost::parse(cost.line().strip_prefix("cost ").unwrap()), Some(cost));
        assert_eq!(Cost::parse("1 2 3"), None);
        assert_eq!(Cost::parse("1 2 3 4 5 x"), None);
    }

    #[test]
    fn a_busy_loop_costs_cpu_time_and_memory() {
        let mut gauge = Gauge::start();
        let mut x = 1u64;
        while gauge.begun.elapsed() < Duration::from_millis(30) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let cost = gauge.read();
        assert!(cost.cpu > Duration::from_millis(5) && cost.rss_kib > 0 && cost.private_kib > 0, "{cost:?}");
    }

    #[test]
    fn memory_fields_are_parsed() {
        assert_eq!(kib_of("VmHWM:\t    1234 kB\nRssAnon:\t 56 kB\n", "RssAnon:"), 56);
        assert_eq!(kib_of("", "RssAnon:"), 0);
    }
}
