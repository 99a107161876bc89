//! Writes to the terminal: data on stdout, diagnostics on stderr, and on a terminal one live block of
//! progress.
//!
//! - A closed pipe ends the printing, without a panic and without ending the command. After any other error of
//!   stdout the command fails at its end ([`failure`]).
//! - Progress does not wait for a reader that does not read ([`offer`]); a diagnostic waits at most
//!   [`NOTE_PATIENCE`] ([`note`]).
//! - A diagnostic is never printed in the middle of the live block.
//! - Of control bytes, only newlines and rill's own cursor moves are printed.

use super::exit::{Exit, Failure, reason};
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Bytes that a writable pipe takes without blocking (PIPE_BUF on Linux).
const ATOMIC_WRITE_BYTES: usize = 4096;

/// How long a diagnostic waits for room in stderr's pipe.
const NOTE_PATIENCE: Duration = Duration::from_millis(500);

/// State of the output; one per process, because the log and the display share the terminal.
struct Screen {
    /// Lines of the live block as drawn.
    block: Vec<String>,
    stdout_closed: bool,
    /// Why data could not be written to stdout, unless its reader is gone.
    stdout_error: Option<String>,
    /// The last diagnostic found no room in stderr within [`NOTE_PATIENCE`]; the next one does not wait.
    stderr_blocked: bool,
}

static SCREEN: Mutex<Screen> =
    Mutex::new(Screen { block: Vec::new(), stdout_closed: false, stdout_error: None, stderr_blocked: false });

impl Screen {
    /// Writes to stdout. After an error nothing more is written.
    fn write(&mut self, bytes: &[u8]) {
        if self.stdout_closed {
            return;
        }
        if let Err(error) = write_all(bytes) {
            self.stdout_closed = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.stdout_error = Some(reason(&error));
            }
        }
    }
}

fn screen() -> MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Prints data on stdout and waits for the reader as long as it takes. Returns false if stdout is closed.
pub(crate) fn data(text: &str) -> bool {
    raw_data(text.as_bytes())
}

/// Prints bytes on stdout as they are, like [`data`].
pub(crate) fn raw_data(bytes: &[u8]) -> bool {
    let mut screen = screen();
    screen.write(bytes);
    !screen.stdout_closed
}

/// Returns the failure of a command whose output could not be written; `None` if all of it was, or if its
/// reader closed the pipe.
pub(crate) fn failure() -> Option<Failure> {
    let reason = screen().stdout_error.clone()?;
    Some(Failure::new(Exit::Io, format!("standard output: {reason}")))
}

/// Writes to stdout without a buffer, and waits if another process has made it non-blocking.
fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    use rustix::io::Errno;
    let stdout = io::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(stdout.as_fd(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                writable(stdout.as_fd(), NOTE_PATIENCE);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Prints one line of progress on stdout. Drops it if the reader makes no room within `patience`.
pub(crate) fn offer(line: &str, patience: Duration) {
    let mut screen = screen();
    if screen.stdout_closed {
        return;
    }
    let mut text = line.to_string();
    text.push('\n');
    let stdout = io::stdout();
    for part in text.as_bytes().chunks(ATOMIC_WRITE_BYTES) {
        if !writable(stdout.as_fd(), patience) {
            return;
        }
        screen.write(part);
    }
}

fn writable(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    // An error of the descriptor makes it writable and shows at the write. A poll that a signal
    // interrupts counts as "not writable".
    matches!(poll(&mut fds, Some(&timeout)), Ok(n) if n > 0)
}

/// Draws the live block over the previous one. Only for terminals.
pub(crate) fn redraw(lines: Vec<String>) {
    let mut screen = screen();
    if screen.stdout_closed || screen.block == lines || !writable(io::stdout().as_fd(), Duration::ZERO) {
        return;
    }
    let text = erase(screen.block.len()) + &joined(&lines);
    screen.write(text.as_bytes());
    screen.block = lines;
}

/// Leaves the live block on the screen; later output is printed below it.
pub(crate) fn keep_block() {
    screen().block.clear();
}

/// Prints one diagnostic line on stderr, above the live block. Drops it if stderr has no room: the session's
/// loop logs through this function, and a long wait would delay every connection.
pub(crate) fn note(line: impl Display) {
    let mut screen = screen();
    let patience = if screen.stderr_blocked { Duration::ZERO } else { NOTE_PATIENCE };
    screen.stderr_blocked = !writable(io::stderr().as_fd(), patience);
    if screen.stderr_blocked {
        return;
    }
    let line = clean(&line.to_string()).into_owned();
    let redraw_below = io::stderr().is_terminal() && !screen.block.is_empty();
    let text = if redraw_below {
        format!("{}{line}\n{}", erase(screen.block.len()), joined(&screen.block))
    } else {
        line + "\n"
    };
    // If stderr is closed there is no other place for the error.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints `rill: sentence` on stderr.
pub(crate) fn error(sentence: impl Display) {
    note(format_args!("rill: {sentence}"));
}

fn erase(lines: usize) -> String {
    // Move up to the block's first line, then clear to the end of the screen.
    if lines == 0 { String::new() } else { format!("\r\x1b[{lines}A\x1b[J") }
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// Replaces control characters, invisible characters and bidirectional marks with U+FFFD.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if text.contains(bad) {
        text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// Capabilities of stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Stdout is a terminal that can redraw lines.
    pub(crate) live: bool,
    /// The locale is UTF-8, so arrows and block characters can be drawn.
    pub(crate) utf8: bool,
}

impl Terminal {
    /// Returns the capabilities of this process's stdout.
    pub(crate) fn of_stdout() -> Terminal {
        let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let locale = var("LC_ALL").or_else(|| var("LC_CTYPE")).or_else(|| var("LANG"));
        Terminal::detect(io::stdout().is_terminal(), var("TERM").as_deref(), locale.as_deref())
    }

    fn detect(tty: bool, term: Option<&str>, locale: Option<&str>) -> Terminal {
        let locale = locale.unwrap_or("C").to_ascii_lowercase();
        Terminal {
            live: tty && !matches!(term, None | Some("dumb")),
            utf8: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    /// Returns the columns and rows of the terminal.
    pub(crate) fn extent() -> (usize, usize) {
        terminal_size::terminal_size().map_or((80, 24), |(w, h)| (usize::from(w.0), usize::from(h.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_terminal_and_a_pipe_get_no_live_block() {
        assert!(Terminal::detect(true, Some("xterm"), None).live);
        assert!(!Terminal::detect(true, Some("dumb"), None).live);
        assert!(!Terminal::detect(true, None, None).live);
        assert!(!Terminal::detect(false, Some("xterm"), None).live);
    }

    #[test]
    fn the_c_locale_gets_ascii() {
        assert!(!Terminal::detect(true, None, None).utf8);
        assert!(!Terminal::detect(true, None, Some("C")).utf8);
        assert!(Terminal::detect(true, None, Some("C.UTF-8")).utf8);
        assert!(Terminal::detect(true, None, Some("de_AT.utf8")).utf8);
    }

    #[test]
    fn control_bytes_never_get_through() {
        assert_eq!(clean("a\x1b[2Jb\r\n\u{9b}\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}\u{fffd}c");
        assert!(matches!(clean("plain ü 日本"), Cow::Borrowed(_)));
    }
}
