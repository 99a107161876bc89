//! Signals: while a command has nothing that needs care, the first one ends the process; later the first stops
//! the command in an orderly way, and the second ends the process.
//!
//! [`end_at_once`] makes the handler of INT, TERM and HUP end the process, so no read of a URL, a pipe or a
//! terminal and no hashing has to look for a signal. While a [`StopFlag`] exists, the first signal sets it
//! instead; the command's loop polls it. HUP stays ignored if it was ignored at the start (`nohup`). XFSZ gets
//! an empty handler, so that a write past the limit fails with `EFBIG` and does not kill the process. Rust's
//! runtime ignores PIPE before `main`.

use super::exit::Exit;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Whether the first signal ends the process; absent before [`end_at_once`].
static AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes the first signal end the process with this code, unless a [`StopFlag`] exists.
pub(crate) fn end_at_once(exit: Exit) -> io::Result<()> {
    let at_once = AT_ONCE.get_or_init(|| Arc::new(AtomicBool::new(true)));
    for signal in stop_signals() {
        signal_hook::flag::register_conditional_shutdown(signal, exit.code().into(), at_once.clone())?;
    }
    Ok(())
}

/// Flag that the first signal sets.
#[derive(Debug)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Installs the handlers. `second` is the exit code of a process that receives a second signal.
    pub(crate) fn on_signals(second: Exit) -> io::Result<StopFlag> {
        let stop = StopFlag(Arc::default());
        for signal in stop_signals() {
            // The order matters: the first signal must find the flag cleared, and set it
            // afterwards.
            signal_hook::flag::register_conditional_shutdown(signal, second.code().into(), stop.0.clone())?;
            signal_hook::flag::register(signal, stop.0.clone())?;
        }
        // A signal before this line ends the process, so none is lost.
        set_at_once(false);
        Ok(stop)
    }

    /// Returns whether the first signal has arrived.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for StopFlag {
    fn drop(&mut self) {
        set_at_once(true);
    }
}

fn set_at_once(on: bool) {
    if let Some(at_once) = AT_ONCE.get() {
        at_once.store(on, Ordering::SeqCst);
    }
}

/// Returns the signals that stop a command: INT, TERM, and HUP unless it is ignored.
fn stop_signals() -> impl Iterator<Item = i32> {
    let ignored = ignored_at_start();
    [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .filter(move |signal| *signal != SIGHUP || ignored & (1 << (SIGHUP - 1)) == 0)
}

/// Makes a file that grows past RLIMIT_FSIZE an error of the write instead of the end of the process.
pub(crate) fn survive_file_size_limit() {
    // Without the handler the command still works, so an error is ignored.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// Returns the mask of ignored signals from /proc, where bit 0 is signal 1, or 0 if it cannot be read.
fn ignored_at_start() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |status| parse_ignored(&status))
}

fn parse_ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_parsed() {
        assert_eq!(parse_ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), 0x1001);
        assert_eq!(parse_ignored("no such line"), 0);
    }
}
