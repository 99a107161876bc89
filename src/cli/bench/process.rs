//! The bench's other processes, seen from the bench: spawned, listened to, and always ended.
//!
//! A part speaks in lines on its stdout: `port N`, `have BYTES`, `cost …`. It lives until its stdin closes,
//! so none outlives the bench, however that ends. Its own process group keeps Ctrl-C from it: the bench
//! decides.

use super::super::exit::{Exit, Failure, reason};
use super::cost::Cost;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// One line of a part.
#[derive(Debug, PartialEq)]
pub(super) enum PartMessage {
    Port(u16),
    Have(u64),
    Cost(Cost),
}

impl PartMessage {
    fn parse(line: &str) -> Option<PartMessage> {
        match line.split_once(' ')? {
            ("port", port) => port.parse().ok().map(PartMessage::Port),
            ("have", bytes) => bytes.parse().ok().map(PartMessage::Have),
            ("cost", numbers) => Cost::parse(numbers).map(PartMessage::Cost),
            _ => None,
        }
    }
}

/// A running part.
pub(super) struct BenchProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr_text: Option<JoinHandle<String>>,
}

impl BenchProcess {
    /// Starts this program as a part; `RILL_BENCH_RUNNER` may name a program to run it with, an emulator for
    /// example.
    pub(super) fn spawn(words: &[&str]) -> Result<BenchProcess, Failure> {
        let failed = |e: std::io::Error| {
            Failure::new(Exit::Other, format!("cannot start a part of the bench: {}", reason(&e)))
        };
        let me = std::env::current_exe().map_err(failed)?;
        let runner = std::env::var("RILL_BENCH_RUNNER").unwrap_or_default();
        let mut line = runner.split_whitespace().map(Into::into).chain([me.into_os_string()]);
        let mut command = Command::new(line.next().unwrap_or_default());
        command.args(line).arg("bench-part").args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let (tx, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| tx.send(line))
            });
        }
        let stderr_text = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        Ok(BenchProcess { stdin: child.stdin.take(), child, lines, stderr_text })
    }

    /// The next line, if one comes in this time. A part that has ended is a failure with its own words.
    pub(super) fn listen(&mut self, timeout: Duration) -> Result<Option<PartMessage>, Failure> {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => Ok(PartMessage::parse(&line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.failure()),
        }
    }

    fn failure(&mut self) -> Failure {
        self.stdin = None;
        let status = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        let words = self.stderr_text.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let words = words.lines().next_back().unwrap_or_default().trim_start_matches("rill: ").to_string();
        let words = if words.is_empty() { status } else { words };
        Failure::new(Exit::Other, format!("a part of the bench failed: {words}"))
    }

    /// Lets a part that waits for its stdin to close go on to its end.
    pub(super) fn request_end(&mut self) {
        self.stdin = None;
    }

    /// Ends it.
    pub(super) fn end(self) {}
}

impl Drop for BenchProcess {
    fn drop(&mut self) {
        self.stdin = None;
        // It may have ended by itself; the wait collects it either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_part_are_understood_and_others_ignored() {
        assert_eq!(PartMessage::parse("port 6881"), Some(PartMessage::Port(6881)));
        assert_eq!(PartMessage::parse("have 123"), Some(PartMessage::Have(123)));
        assert!(matches!(PartMessage::parse("cost 1 2 3 4 5 6"), Some(PartMessage::Cost(_))));
        assert_eq!(PartMessage::parse("port 99999"), None);
        assert_eq!(PartMessage::parse("hello"), None);
    }
}
