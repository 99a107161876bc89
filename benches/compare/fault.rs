//! What ends the comparison early, and the signals that ask for it.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Why nothing more can be measured.
#[derive(Debug)]
pub enum Fault {
    /// A signal asked for it.
    Stopped,
    /// This is wrong: one sentence.
    Wrong(String),
}

/// What a step gives if it goes well.
pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// A sentence of what was tried and why it failed.
    pub fn at(what: impl Display) -> impl FnOnce(std::io::Error) -> Fault {
        move |e| Fault::Wrong(format!("{what}: {e}"))
    }
}

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on Ctrl-C and its like are noticed by [`go_on`], so that everything is taken down on the way
/// out.
pub fn watch_signals() -> Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, asked.clone()).map_err(Fault::at("cannot watch for signals"))?;
    }
    Ok(())
}

/// Fails once a signal has asked for the end.
pub fn go_on() -> Result<()> {
    if ASKED.get().is_some_and(|asked| asked.load(Relaxed)) { Err(Fault::Stopped) } else { Ok(()) }
}

/// Sleeps for a moment, unless it is time to stop.
pub fn pause(millis: u64) -> Result<()> {
    go_on()?;
    std::thread::sleep(Duration::from_millis(millis));
    Ok(())
}
