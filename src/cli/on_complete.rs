//! `--on-complete`: runs a program each time a torrent has been completed, without a shell.
//!
//! A torrent is completed when its last wanted piece is downloaded, verified and durable in this run; one that
//! was complete at the start is not completed again.
//!
//! The text of the option is the program if it names one, blanks included. Otherwise it is split into words as
//! POSIX shells do, with quotes and backslashes, and nothing is expanded. Text of the torrent reaches the program
//! only in the absolute path of the content, its last argument, and in the variables RILL_TORRENT_…; no other
//! variable RILL_… is passed on. The program's stdout is connected to rill's stderr, because rill's stdout may be
//! JSON that another program reads.

use super::{out, source};
use crate::wire::Metainfo;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The program and its first arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookCommand {
    program: PathBuf,
    arguments: Vec<String>,
}

impl HookCommand {
    /// Parses the text of the option.
    pub(crate) fn parse(text: &str) -> Result<HookCommand, String> {
        if names_program(text) {
            return Ok(HookCommand { program: text.into(), arguments: Vec::new() });
        }
        let mut words = split_words(text)?.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program = program.ok_or("it names no program")?.into();
        Ok(HookCommand { program, arguments: words.collect() })
    }
}

/// Returns whether the text is the path of a program, or the name of one in the directories of PATH.
fn names_program(text: &str) -> bool {
    use rustix::fs::{Access, access};
    let is_program = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if text.contains('/') {
        return is_program(Path::new(text));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    !text.is_empty() && std::env::split_paths(&path).any(|dir| is_program(&dir.join(text)))
}

/// Splits a text into words as POSIX shells do: blanks separate words, a backslash quotes the next character,
/// single quotes quote everything, double quotes everything but a backslash before `"`, `\`, `$` and a backquote.
pub(crate) fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a single quote is not closed")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                let open = "a double quote is not closed";
                loop {
                    match chars.next().ok_or(open)? {
                        '"' => break,
                        '\\' => match chars.next().ok_or(open)? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            '\n' => {}
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => match chars.next().ok_or("it ends with a backslash")? {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Running programs.
#[derive(Debug, Default)]
pub(crate) struct Hooks(Vec<Child>);

impl Hooks {
    /// Starts the program for a torrent that is complete in `dir`; its wanted files have `bytes`.
    pub(crate) fn start(&mut self, hook: &HookCommand, metainfo: &Metainfo, dir: &Path, bytes: u64) {
        // The program may change its working directory, so its paths are absolute.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        let top = metainfo.files().get(0).and_then(|file| file.path().next());
        let path = top.map_or(dir.clone(), |top| dir.join(top));
        let child = stderr_as_stdout().and_then(|stdout| {
            let mut command = Command::new(&hook.program);
            for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
                command.env_remove(name);
            }
            command
                .args(&hook.arguments)
                .arg(&path)
                .env("RILL_TORRENT_NAME", metainfo.name())
                .env("RILL_TORRENT_HASH", metainfo.info_hash().to_string())
                .env("RILL_TORRENT_DIR", &dir)
                .env("RILL_TORRENT_PATH", &path)
                .env("RILL_TORRENT_BYTES", bytes.to_string())
                .stdin(Stdio::null())
                .stdout(stdout)
                .spawn()
        });
        match child {
            Ok(child) => self.0.push(child),
            Err(e) => out::error(format_args!(
                "--on-complete {}: {}",
                source::shown(&hook.program),
                super::exit::reason(&e)
            )),
        }
    }

    /// Reports the programs that have ended since the last call, if they failed.
    pub(crate) fn reap(&mut self) {
        self.0.retain_mut(|child| match child.try_wait() {
            Ok(Some(status)) => {
                report(status);
                false
            }
            Ok(None) => true,
            Err(_) => false,
        });
    }

    /// Waits for all running programs to end. A second signal ends the process and with it the wait.
    pub(crate) fn wait(self) {
        self.0.into_iter().filter_map(|mut child| child.wait().ok()).for_each(report);
    }
}

fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"RILL_")
}

fn stderr_as_stdout() -> io::Result<Stdio> {
    io::stderr().as_fd().try_clone_to_owned().map(Stdio::from)
}

fn report(status: ExitStatus) {
    if !status.success() {
        out::error(format_args!("--on-complete ended with {status}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn words_are_split_and_quoted_as_in_a_shell() {
        for (text, words) in [
            ("notify done", &["notify", "done"][..]),
            ("  a\tb \n c ", &["a", "b", "c"]),
            (r#"sh -c 'mv "$1" /done' sh"#, &["sh", "-c", r#"mv "$1" /done"#, "sh"]),
            (r#"a "b c" d\ e """#, &["a", "b c", "d e", ""]),
            (r#"a "x\"y\\z\$\n""#, &["a", r#"x"y\z$\n"#]),
            ("$HOME *.mkv ~ `ls` a;b|c", &["$HOME", "*.mkv", "~", "`ls`", "a;b|c"]),
            ("a''b", &["ab"]),
            ("", &[]),
        ] {
            assert_eq!(split_words(text).unwrap(), words, "{text}");
        }
        for text in ["a 'b", "a \"b", "a \"b\\", "a \\"] {
            assert!(split_words(text).is_err() && HookCommand::parse(text).is_err(), "{text}");
        }
        assert!(HookCommand::parse("").is_err() && HookCommand::parse("'' x").is_err());
    }

    #[test]
    fn a_text_that_names_a_program_is_not_split() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my program");
        let text = path.to_str().unwrap();
        assert_eq!(HookCommand::parse(text).unwrap().arguments, ["program"], "there is no such file yet");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let hook = HookCommand::parse(text).unwrap();
        assert_eq!((hook.program, hook.arguments), (path, Vec::new()));
    }
}
