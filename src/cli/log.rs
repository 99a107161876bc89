//! Where the library's log goes: stderr, one clean line a record, `-v` for what a person may want to know and
//! `-vv` for all.
//!
//! A back end of thirty lines, because the usual one would add 36 KB and colours.

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

/// Begins logging; `verbose` is how often `-v` was given.
pub(crate) fn start(verbose: u8, quiet: bool) {
    let level = match verbose {
        0 if quiet => LevelFilter::Error,
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // Only a second call could fail, and then the first one's back end stands.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
