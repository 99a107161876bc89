//! Names what the user probably meant: the nearest option, command or environment variable.
//!
//! Hidden commands and options are never suggested.

use super::args::CliArgs;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Most variables that are named in warnings.
const MOST_WARNINGS: usize = 5;

/// Variables that begin with RILL_ and set no option: `rill bench` and programs of `--on-complete` have them.
const OTHER_VARIABLES: [&str; 2] = ["RILL_BENCH_", "RILL_TORRENT_"];

/// What to print after the sentence of a wrong command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Advice {
    /// A question, as in `did you mean --dir?`.
    pub(crate) question: Option<String>,
    /// The command whose help says more, as in `rill get`.
    pub(crate) command: String,
}

impl Advice {
    /// Returns the advice about the error of a command line.
    pub(crate) fn about(error: &clap::Error, words: &[OsString]) -> Advice {
        let root = CliArgs::command();
        let words: Vec<&str> = words.iter().skip(1).filter_map(|word| word.to_str()).collect();
        let (command, path) = command_of(&root, &words);
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        let question = match error.kind() {
            ErrorKind::UnknownArgument => {
                text(ContextKind::InvalidArg).and_then(|option| about_option(command, &root, option))
            }
            ErrorKind::InvalidSubcommand => {
                text(ContextKind::InvalidSubcommand).and_then(|word| about_command(command, &path, word))
            }
            _ => match (text(ContextKind::InvalidValue), error.get(ContextKind::ValidValue)) {
                (Some(value), Some(ContextValue::Strings(valid))) => {
                    nearest(value, valid.iter().map(String::as_str))
                        .map(|value| format!("did you mean {value}?"))
                }
                _ => None,
            },
        };
        Advice { question, command: path }
    }
}

/// Returns the command that the words name, and its words with the program's name.
fn command_of<'a>(root: &'a Command, words: &[&str]) -> (&'a Command, String) {
    let mut at = root;
    let mut path = root.get_name().to_owned();
    for word in words {
        let Some(next) = shown_commands(at).find(|command| command.get_name() == *word) else { break };
        at = next;
        path = format!("{path} {word}");
    }
    (at, path)
}

fn shown_commands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

fn shown_options(command: &Command) -> impl Iterator<Item = &str> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown.filter_map(Arg::get_long).chain(["help"])
}

fn about_option(command: &Command, root: &Command, option: &str) -> Option<String> {
    let name = option.strip_prefix("--")?.split('=').next()?;
    let taking = shown_commands(root).find(|other| shown_options(other).any(|long| long == name));
    if let Some(taking) = taking.map(Command::get_name) {
        return Some(if command.get_name() == root.get_name() {
            format!("options follow the command, as in rill {taking} --{name}")
        } else {
            format!("it is an option of rill {taking}")
        });
    }
    nearest(name, shown_options(command)).map(|near| format!("did you mean --{near}?"))
}

fn about_command(command: &Command, path: &str, word: &str) -> Option<String> {
    let names = shown_commands(command).map(Command::get_name).chain(["help"]);
    if let Some(near) = nearest(word, names) {
        return Some(format!("did you mean {path} {near}?"));
    }
    let source = super::source::SourceArg::parse(word);
    let is_source = !source.is_file() || word.ends_with(".torrent");
    is_source.then(|| "a source follows a command, as in rill get SOURCE".to_owned())
}

/// Returns a warning for each variable of the environment that begins with RILL_ and sets nothing.
pub(crate) fn unknown_variables(environment: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut known = BTreeSet::new();
    collect_variables(&CliArgs::command(), &mut known);
    let mut warnings = Vec::new();
    let ours =
        environment.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("RILL_"));
    for name in ours {
        if known.contains(&name) || OTHER_VARIABLES.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let short = |name: &str| name.trim_start_matches("RILL_").to_owned();
        let shorts: Vec<String> = known.iter().map(|name| short(name)).collect();
        let near = nearest(&short(&name), shorts.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean RILL_{near}?")).unwrap_or_default();
        warnings.push(format!("the variable {name} sets no option{near}"));
    }
    warnings.sort();
    warnings.truncate(MOST_WARNINGS);
    warnings
}

fn collect_variables(command: &Command, into: &mut BTreeSet<String>) {
    let of_options = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned));
    into.extend(of_options);
    command.get_subcommands().for_each(|command| collect_variables(command, into));
}

/// Returns the candidate that is nearest to the word, if any is near: every third character may be wrong, up to
/// three, or the word is the candidate's beginning, or its end after a hyphen.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The distance of longer words costs time and tells nothing.
    let word = Some(word.to_lowercase()).filter(|word| !word.is_empty() && word.len() <= 40)?;
    let most = (word.chars().count() / 3).clamp(1, 3);
    let rated = candidates.map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate));
    let mut rated: Vec<(usize, &str)> = rated.collect();
    rated.sort_by_key(|(distance, _)| *distance);
    let is_part = |candidate: &str| {
        word.chars().count() > 2 && (candidate.starts_with(&word) || candidate.ends_with(&format!("-{word}")))
    };
    let near = rated.iter().find(|(distance, _)| *distance <= most);
    near.or_else(|| rated.iter().find(|(_, candidate)| is_part(candidate))).map(|(_, candidate)| *candidate)
}

/// Returns how many characters have to be inserted, removed, replaced or swapped with their neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut two_above: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(two_above[j - 2] + 1);
            }
            row.push(least);
        }
        two_above = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_typing_errors() {
        for (a, b, steps) in [
            ("dir", "dir", 0),
            ("dri", "dir", 1),
            ("dirr", "dir", 1),
            ("dr", "dir", 1),
            ("", "dir", 3),
            ("peers", "seeds", 2),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (steps, steps), "{a} {b}");
        }
    }

    #[test]
    fn a_word_that_is_near_nothing_gets_no_suggestion() {
        let names = || ["dir", "select", "max-download-limit"].into_iter();
        assert_eq!(nearest("drr", names()), Some("dir"));
        assert_eq!(nearest("selcet", names()), Some("select"));
        assert_eq!(
            nearest("MAX_DOWNLOAD_LIMIT".replace('_', "-").as_str(), names()),
            Some("max-download-limit")
        );
        assert_eq!(nearest("max-download", names()), Some("max-download-limit"));
        assert_eq!(nearest("download-limit", names()), Some("max-download-limit"));
        assert_eq!(nearest("frobnicate", names()), None);
        assert_eq!(nearest("", names()), None);
        assert_eq!(nearest(&"x".repeat(100_000), names()), None);
    }

    #[test]
    fn hidden_commands_are_never_suggested() {
        let root = CliArgs::command();
        for word in ["bench-part", "benchpart", "bench-par"] {
            let question = about_command(&root, "rill", word).unwrap_or_default();
            assert!(!question.contains("part"), "{question}");
        }
    }

    #[test]
    fn misspelt_variables_are_named_with_the_nearest() {
        let warn = |names: &[&str]| unknown_variables(names.iter().map(OsString::from));
        assert_eq!(
            warn(&["RILL_DRI", "RILL_DIR", "RILL_TORRENT_NAME", "HOME", "RILL_"]),
            [
                "the variable RILL_ sets no option",
                "the variable RILL_DRI sets no option; did you mean RILL_DIR?"
            ]
        );
        let many: Vec<String> = (0..100).map(|n| format!("RILL_X{n}")).collect();
        assert_eq!(warn(&many.iter().map(String::as_str).collect::<Vec<_>>()).len(), MOST_WARNINGS);
    }
}
