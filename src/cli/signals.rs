//! Signals: the first stops the command in order, the second ends the process at once.
//!
//! INT, TERM and HUP set a flag that the command's loop looks at; when the flag is up already the process
//! ends in the handler. HUP stays ignored if it was ignored at the start (`nohup`). XFSZ gets a handler that
//! does nothing but turn a deadly signal into `EFBIG`; Rust's runtime ignores PIPE before `main`.

use super::exit::Exit;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a signal asked us to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Installs the handlers; `second` is the exit code of a process that is told twice.
    pub(crate) fn on_signals(second: Exit) -> io::Result<StopFlag> {
        let stop = StopFlag::default();
        let ignored = ignored_at_start();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && ignored & (1 << (SIGHUP - 1)) != 0 {
                continue;
            }
            // The order matters: the first signal must find the flag down, and raise it.
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

/// The first signal ends the process with this code, there and then: for work that leaves nothing behind.
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
    // Failing to install it leaves things as they were, which is no reason to give up.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// The mask of ignored signals, bit 0 is signal 1; nothing if the kernel does not tell.
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
    fn the_ignored_mask_is_read_from_the_kernel() {
        assert_eq!(parse_ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), 0x1001);
        assert_eq!(parse_ignored("no such line"), 0);
    }
}
