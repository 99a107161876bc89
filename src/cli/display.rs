//! Output about torrents: a live block on a terminal, plain lines every ten seconds, JSON, or nothing.
//!
//! This module decides when something is printed; `progress` formats it.

use super::format;
use super::json::{Object, array};
use super::out::{self, Terminal};
use super::plan::Style;
use super::progress::{Glyphs, Row, block};
use super::{exit::Exit, json};
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
        if self.mode == OutputMode::Plain {
            let Some(files) = files else {
                return out::offer(&format!("{}: asking peers for its metadata", row.name), Duration::ZERO);
            };
            let s = if files == 1 { "" } else { "s" };
            let size = format::size(row.wanted_bytes);
            out::offer(
                &format!("{}: {size} in {files} file{s}, {} pieces", row.name, row.pieces),
                Duration::ZERO,
            );
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

    /// Prints the end of the run: the last JSON object, or a summary of each torrent.
    pub(crate) fn end(&mut self, rows: &[Row], exit: Exit, reason: Option<&str>, now: Instant) {
        let elapsed = now.duration_since(self.begun);
        if self.style.json {
            out::offer(&last_object(rows, exit, reason, elapsed), LAST_LINE_PATIENCE);
            return;
        }
        match self.mode {
            OutputMode::Live if self.style.brief => out::redraw(Vec::new()),
            OutputMode::Live => {
                self.draw(rows);
                out::keep_block();
            }
            OutputMode::Plain => {
                for row in rows {
                    out::offer(&summary(row, elapsed), LAST_LINE_PATIENCE);
                }
            }
            OutputMode::Silent | OutputMode::Json => {}
        }
    }

    fn draw(&self, rows: &[Row]) {
        let (width, height) = Terminal::extent();
        // The last column stays empty: some terminals wrap as soon as it is written.
        out::redraw(block(rows, width.saturating_sub(1), height, self.glyphs));
    }
}

fn summary(row: &Row, elapsed: Duration) -> String {
    if row.is_unknown() {
        return format!("{}: no metadata after {}", row.name, format::duration(elapsed));
    }
    let mean = (row.downloaded as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    format!(
        "{}: {} of {} after {}, received {} ({}), sent {}",
        row.name,
        format::percent(row.have_bytes, row.wanted_bytes),
        format::size(row.wanted_bytes),
        format::duration(elapsed),
        format::size(row.downloaded),
        format::rate(mean),
        format::size(row.uploaded),
    )
}

fn last_object(rows: &[Row], exit: Exit, reason: Option<&str>, elapsed: Duration) -> String {
    let o = Object::new().str("event", "end").num("exit_code", exit.code().into());
    o.raw("reason", &reason.map_or("null".to_string(), json::string))
        .dec("elapsed_s", elapsed.as_secs_f64())
        .raw("torrents", &array(rows.iter().map(|row| row.json("torrent").end())))
        .end()
}

#[cfg(test)]
mod tests {
    use super::super::progress::DisplayPhase;
    use super::*;

    #[test]
    fn the_summary_gives_share_size_time_and_rate() {
        let row = Row {
            name: "a".into(),
            wanted_bytes: 100 << 20,
            have_bytes: 100 << 20,
            downloaded: 100 << 20,
            ..Row::default()
        };
        assert_eq!(
            summary(&row, Duration::from_secs(10)),
            "a: 100% of 100.0 MiB after 10s, received 100.0 MiB (10.0 MiB/s), sent 0 B"
        );
    }

    #[test]
    fn the_summary_of_a_link_without_metadata_says_so() {
        let row = Row { name: "a".into(), phase: DisplayPhase::Metadata, ..Row::default() };
        assert_eq!(summary(&row, Duration::from_secs(10)), "a: no metadata after 10s");
    }

    #[test]
    fn the_last_object_carries_the_exit_code() {
        let text = last_object(&[], Exit::TimedOut, Some("nothing arrived"), Duration::from_millis(1500));
        assert_eq!(
            text,
            r#"{"event":"end","exit_code":2,"reason":"nothing arrived","elapsed_s":1.500,"torrents":[]}"#
        );
    }
}
