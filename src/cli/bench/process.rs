//! Handles of the processes that the bench spawns.
//!
//! A process writes lines to its stdout: `port N`, `have BYTES`, `cost …`. It ends when its stdin closes, so
//! it cannot outlive the bench. It has its own process group, so that Ctrl-C reaches the bench alone.

use super::super::exit::{Exit, Failure, reason};
use super::cost::Cost;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// One line of a process.
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

/// A running process. It is killed when the handle is dropped.
pub(super) struct BenchProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr_text: Option<JoinHandle<String>>,
}

impl BenchProcess {
    /// Starts this program with `bench-part` and these words. `RILL_BENCH_RUNNER` may name a program to
    /// run it with, such as an emulator.
    pub(super) fn spawn(message: &[&str]) -> Result<BenchProcess, Failure> {
        let failed = |e: std::io::Error| {
            Failure::new(Exit::Other, format!("cannot start a process of the bench: {}", reason(&e)))
        };
        let me = std::env::current_exe().map_err(failed)?;
        let runner = std::env::var("RILL_BENCH_RUNNER").unwrap_or_default();
        let mut line = runner.split_whitespace().map(Into::into).chain([me.into_os_string()]);
        let mut command = Command::new(line.next().unwrap_or_default());
        command.args(line).arg("bench-part").args(message);
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

    /// Returns the next message, or `None` if none arrives within `timeout`. If the process has ended,
    /// returns a failure with the last line of its stderr.
    pub(super) fn next_message(&mut self, timeout: Duration) -> Result<Option<PartMessage>, Failure> {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => Ok(PartMessage::parse(&line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.failure()),
        }
    }

    fn failure(&mut self) -> Failure {
        self.stdin = None;
        let status = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        let message = self.stderr_text.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let message =
            message.lines().next_back().unwrap_or_default().trim_start_matches("rill: ").to_string();
        let message = if message.is_empty() { status } else { message };
        Failure::new(Exit::Other, format!("a process of the bench failed: {message}"))
    }

    /// Closes the process's stdin, which makes it print its cost and end.
    pub(super) fn request_end(&mut self) {
        self.stdin = None;
    }

    /// Ends the process.
    pub(super) fn end(self) {}
}

impl Drop for BenchProcess {
    fn drop(&mut self) {
        self.stdin = None;
        // The process may have ended already; the wait reaps it in both cases.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_of_a_process_are_parsed_and_others_ignored() {
        assert_eq!(PartMessage::parse("port 6881"), Some(PartMessage::Port(6881)));
        assert_eq!(PartMessage::parse("have 123"), Some(PartMessage::Have(123)));
        assert!(matches!(PartMessage::parse("cost 1 2 3 4 5 6"), Some(PartMessage::Cost(_))));
        assert_eq!(PartMessage::parse("port 99999"), None);
        assert_eq!(PartMessage::parse("hello"), None);
    }
}
