//! Signals: the first one stops the command in an orderly way, the second ends the process at once.
//!
//! The handler of INT, TERM and HUP sets a flag that the command's loop polls; if the flag is set already,
//! the handler ends the process. HUP stays ignored if it was ignored at the start (`nohup`). XFSZ gets an
//! empty handler, so that a write past the limit fails with `EFBIG` and does not kill the process. Rust's
//! runtime ignores PIPE before `main`.

use super::exit::Exit;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flag that the first signal sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Installs the handlers. `second` is the exit code of a process that receives a second signal.
    pub(crate) fn on_signals(second: Exit) -> io::Result<StopFlag> {
        let stop = StopFlag::default();
        let ignored = ignored_at_start();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && ignored & (1 << (SIGHUP - 1)) != 0 {
                continue;
            }
            // The order matters: the first signal must find the flag cleared, and set it
            // afterwards.
            signal_hook::flag::register_conditional_shutdown(signal, second.code().into(), stop.0.clone())?;
            signal_hook::flag::register(signal, stop.0.clone())?;
        }
        Ok(stop)
    }

    /// Returns whether the first signal has arrived.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Makes the first signal end the process with this code: for commands that have nothing to clean up.
#[cfg(feature = "sim")]
pub(crate) fn end_at_once(exit: Exit) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(
            signal,
            exit.code().into(),
            Arc::new(AtomicBool::new(true)),
        )?;
    }
    Ok(())
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
