//! Writes the library's log records to stderr, one line each: warnings by default, `-v` adds level info,
//! `-vv` debug, `-vvv` trace.
//!
//! The usual logger crate would add 36 KB to the binary.

use super::out;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && metadata.target().starts_with("rill")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let word = match record.level() {
                Level::Error => "error: ",
                Level::Warn => "warning: ",
                Level::Info | Level::Debug | Level::Trace => "",
            };
            out::note(format_args!("rill: {word}{}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Installs the logger. `verbose` is the number of `-v` options.
pub(crate) fn start(verbose: u8, quiet: bool) {
    let level = match verbose {
        0 if quiet => LevelFilter::Error,
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // Only a second call fails; the logger of the first call stays in use.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
