//! Live progress of the commands that hash, `create` and `verify`. It is shown on a terminal only.

use super::format;
use super::out::{self, Terminal};
use super::progress::{DisplayPhase, Glyphs, Row, fit};
use crate::wire::printable;
use std::time::{Duration, Instant};

/// Shortest interval between two redraws.
const EVERY: Duration = Duration::from_millis(200);

/// Live display of a hashing command.
pub(crate) struct ProgressLine {
    work: &'static str,
    row: Row,
    pieces: u32,
    glyphs: Glyphs,
    live: bool,
    drawn: Option<Instant>,
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
            drawn: None,
        }
    }

    /// Shows that `done` of `all` bytes are hashed.
    pub(crate) fn show(&mut self, done: u64, all: u64) {
        let now = Instant::now();
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
