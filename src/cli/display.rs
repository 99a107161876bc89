//! Output about torrents: a live block on a terminal, plain lines every ten seconds, JSON, or nothing.
//!
//! This module decides when something is printed; `progress`, `layout` and `summary` format it.

use super::connections;
use super::format;
use super::json::{Object, array};
use super::layout::{block, folded, resuming, waiting};
use super::out::{self, Terminal};
use super::plan::Style;
use super::progress::{Glyphs, Row};
use super::summary::{RunEnd, summary};
use super::{exit::Exit, json};
use crate::session::ConnectionCounts;
use std::time::{Duration, Instant};

/// Interval of plain progress lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// How long the last lines wait for a slow reader of stdout.
const LAST_LINE_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputMode {
    Silent,
    Live,
    Plain,
    Json,
}

/// Prints the state of torrents.
pub(crate) struct Display {
    mode: OutputMode,
    style: Style,
    glyphs: Glyphs,
    begun: Instant,
    /// When the last plain lines were printed.
    plain_at: Instant,
}

impl Display {
    /// Returns a display in this style for this process's stdout.
    pub(crate) fn new(style: Style, now: Instant) -> Display {
        let terminal = Terminal::of_stdout();
        let mode = match style {
            Style { quiet: true, .. } => OutputMode::Silent,
            Style { json: true, .. } => OutputMode::Json,
            _ if terminal.live => OutputMode::Live,
            Style { brief: true, .. } => OutputMode::Silent,
            _ => OutputMode::Plain,
        };
        Display { mode, style, glyphs: Glyphs::new(terminal.utf8), begun: now, plain_at: now }
    }

    /// Prints a line about a torrent that starts. `files` is `None` for a link without metadata.
    pub(crate) fn announce(&mut self, row: &Row, files: Option<usize>) {
        let Some(files) = files else { return self.line(row, "asking peers for its metadata") };
        let s = if files == 1 { "" } else { "s" };
        let size = format::size(row.total_bytes());
        self.line(row, &format!("{size} in {files} file{s}, {} pieces", row.pieces));
    }

    /// Prints how much of a torrent is there already.
    pub(crate) fn resume(&mut self, row: &Row) {
        let of = if row.selected_of.is_some() { " of the selected files" } else { "" };
        self.line(row, &format!("{} ({}{of})", resuming(row.resumed_bytes), row.share()));
    }

    /// Prints why a torrent has no peers, unless that was printed before.
    pub(crate) fn trouble(&mut self, row: &Row) {
        if let Some(trouble) = row.shown_trouble() {
            self.line(row, trouble);
        }
    }

    /// Prints a plain line about a torrent.
    fn line(&self, row: &Row, text: &str) {
        if self.mode == OutputMode::Plain {
            out::offer(&format!("{}: {text}", row.name), Duration::ZERO);
        }
    }

    /// Redraws the live block, or prints plain lines if their interval is over. Call it after every
    /// change of `rows`.
    pub(crate) fn refresh(&mut self, rows: &[Row], now: Instant) {
        match self.mode {
            OutputMode::Live => self.draw(rows),
            OutputMode::Plain if now.duration_since(self.plain_at) >= PLAIN_EVERY => {
                self.plain_at = now;
                for row in rows {
                    out::offer(&row.plain(self.glyphs), Duration::ZERO);
                }
            }
            _ => {}
        }
    }

    /// Prints the JSON object that is due once a second for each torrent.
    pub(crate) fn on_second(&mut self, row: &Row) {
        if self.mode == OutputMode::Json {
            out::offer(&row.json("progress").end(), Duration::ZERO);
        }
    }

    /// Prints an event of one torrent: `complete`, `failed`, `done`, `disk full`.
    pub(crate) fn event(&mut self, row: &Row, event: &str) {
        match self.mode {
            OutputMode::Plain => out::offer(&format!("{}: {event}", row.name), Duration::ZERO),
            OutputMode::Json => out::offer(&row.json(event).end(), LAST_LINE_PATIENCE),
            OutputMode::Live | OutputMode::Silent => {}
        }
    }

    /// Prints the last line of each torrent; the JSON object of the end follows with [`end`](Display::end).
    pub(crate) fn summaries(&mut self, rows: &[Row], end: RunEnd<'_>) {
        match self.mode {
            OutputMode::Live if self.style.brief => out::redraw(Vec::new()),
            OutputMode::Live => {
                let width = live_width(Terminal::extent());
                let lines = rows.iter().flat_map(|row| folded(&summary(row, end), width, self.glyphs));
                out::redraw(lines.collect());
                out::keep_block();
            }
            OutputMode::Plain => {
                for row in rows {
                    out::offer(&summary(row, end), LAST_LINE_PATIENCE);
                }
            }
            OutputMode::Silent | OutputMode::Json => {}
        }
    }

    /// Says that the end waits for this, or with `None` that it no longer does.
    pub(crate) fn waiting(&mut self, what: Option<&str>, limit: Duration) {
        let text = what.map(|what| waiting(what, limit));
        match (self.mode, text) {
            (OutputMode::Live, text) => {
                let width = live_width(Terminal::extent());
                out::redraw(text.iter().flat_map(|text| folded(text, width, self.glyphs)).collect());
            }
            (OutputMode::Plain, Some(text)) => out::error(text),
            _ => {}
        }
    }

    /// Prints the last JSON object.
    pub(crate) fn end(
        &mut self,
        rows: &[Row],
        exit: Exit,
        reason: Option<&str>,
        connections: &ConnectionCounts,
        now: Instant,
    ) {
        if self.style.json {
            let elapsed = now.duration_since(self.begun);
            let text = last_object(rows, exit, reason, connections, elapsed);
            out::offer(&text, LAST_LINE_PATIENCE);
        }
    }

    fn draw(&self, rows: &[Row]) {
        let (width, height) = Terminal::extent();
        out::redraw(block(rows, live_width((width, height)), height, self.glyphs));
    }
}

/// Returns the columns to draw on. The last column stays empty: some terminals wrap as soon as it is written.
fn live_width((columns, _): (usize, usize)) -> usize {
    columns.saturating_sub(1)
}

fn last_object(
    rows: &[Row],
    exit: Exit,
    reason: Option<&str>,
    counts: &ConnectionCounts,
    elapsed: Duration,
) -> String {
    let o = Object::new().str("event", "end").num("exit_code", exit.code().into());
    o.raw("reason", &reason.map_or("null".to_string(), json::string))
        .dec("elapsed_s", elapsed.as_secs_f64())
        .raw("connections", &connections::object(counts))
        .raw("torrents", &array(rows.iter().map(|row| row.json("torrent").end())))
        .end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_object_carries_the_exit_code() {
        let counts = ConnectionCounts::default();
        let text =
            last_object(&[], Exit::TimedOut, Some("nothing arrived"), &counts, Duration::from_millis(1500));
        let start =
            r#"{"event":"end","exit_code":2,"reason":"nothing arrived","elapsed_s":1.500,"connections":{"#;
        assert!(text.starts_with(start) && text.ends_with(r#"},"torrents":[]}"#), "{text}");
    }
}
