//! Live progress of the commands that hash, `create` and `verify`. Elsewhere than on a terminal at most one note
//! is printed.

use super::format;
use super::out::{self, Terminal};
use super::progress::{DisplayPhase, Glyphs, Row, fit};
use crate::wire::printable;
use std::time::{Duration, Instant};

/// Shortest interval between two redraws.
const EVERY: Duration = Duration::from_millis(200);
/// Work that takes no longer is not mentioned on a pipe.
const UNMENTIONED: Duration = Duration::from_secs(1);

/// Live display of a hashing command.
pub(crate) struct ProgressLine {
    work: &'static str,
    row: Row,
    pieces: u32,
    glyphs: Glyphs,
    live: bool,
    silent: bool,
    drawn: Option<Instant>,
    begun: Instant,
    /// One note on stderr is due if the work takes long.
    note: bool,
}

impl ProgressLine {
    /// Returns a display of this work, as in "hashing", that has drawn nothing; with `silent` it never draws.
    pub(crate) fn new(work: &'static str, name: &str, pieces: u32, silent: bool) -> ProgressLine {
        let terminal = Terminal::of_stdout();
        let row = Row { name: printable(name, 200), ..Row::default() };
        ProgressLine {
            work,
            row,
            pieces,
            glyphs: Glyphs::new(terminal.utf8),
            live: terminal.live && !silent,
            silent,
            drawn: None,
            begun: Instant::now(),
            note: false,
        }
    }

    /// The same display, which says on stderr what it does if it cannot draw and the work takes long.
    pub(crate) fn with_note(mut self) -> ProgressLine {
        self.note = !self.live && !self.silent;
        self
    }

    /// Shows that `done` of `all` bytes are hashed.
    pub(crate) fn show(&mut self, done: u64, all: u64) {
        let now = Instant::now();
        if self.note && now.duration_since(self.begun) >= UNMENTIONED {
            self.note = false;
            out::note(format_args!("{}: {} {}", self.row.name, self.work, format::size(all)));
        }
        if self.live && (done == all || self.drawn.is_none_or(|at| now.duration_since(at) >= EVERY)) {
            self.drawn = Some(now);
            let checked = (u128::from(done) * u128::from(self.pieces) / u128::from(all.max(1))) as u32;
            self.row.phase = DisplayPhase::Checking { checked, pieces: self.pieces };
            let width = Terminal::extent().0.saturating_sub(1);
            let [bar, _] = self.row.live(width, self.glyphs);
            let figures = format!("{} {}", self.work, format::padded_size_of(done, all));
            out::redraw(vec![bar, fit(&figures, width, self.glyphs)]);
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        // The result is printed in the place of the bar.
        if self.drawn.is_some() {
            out::redraw(Vec::new());
        }
    }
}
