//! Errors and signals that end the comparison early.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Reason why the comparison ends.
#[derive(Debug)]
pub enum Fault {
    /// A signal arrived.
    Stopped,
    /// An error, as one sentence.
    Wrong(String),
}

/// Result of a step.
pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// Returns a function that makes a sentence of the failed step and the error.
    pub fn at(what: impl Display) -> impl FnOnce(std::io::Error) -> Fault {
        move |e| Fault::Wrong(format!("{what}: {e}"))
    }
}

static SIGNALLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Installs handlers for SIGINT and other signals, which [`check_signals`] reports, so that destructors clean
/// up.
pub fn watch_signals() -> Result<()> {
    let signalled = SIGNALLED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, signalled.clone())
            .map_err(Fault::at("cannot watch for signals"))?;
    }
    Ok(())
}

/// Fails if a signal has arrived.
pub fn check_signals() -> Result<()> {
    if SIGNALLED.get().is_some_and(|signalled| signalled.load(Relaxed)) {
        Err(Fault::Stopped)
    } else {
        Ok(())
    }
}

/// Sleeps. Fails if a signal has arrived.
pub fn pause(millis: u64) -> Result<()> {
    check_signals()?;
    std::thread::sleep(Duration::from_millis(millis));
    Ok(())
}
