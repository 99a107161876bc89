//! Floor 6: the command line program.
//!
//! `args` parses the command line. Each command has its own file, which makes a plan of the options, does the
//! work and returns an `Exit` or a `Failure`. All output goes through `out`. This floor knows nothing of the
//! protocol.

mod args;
mod bench;
mod certificates;
mod connections;
mod create;
mod display;
mod exit;
mod fetch;
mod fetch_metadata;
mod file_choice;
mod format;
mod get;
mod input_file;
mod json;
mod layout;
mod log;
mod on_complete;
mod out;
mod peer_names;
mod plan;
mod progress;
mod progress_line;
mod proxy;
mod save_torrent;
mod scrape;
#[cfg(test)]
mod screens;
mod seed;
mod selected;
mod show;
mod signals;
#[cfg(feature = "sim")]
mod sim;
mod source;
mod state;
mod suggest;
mod summary;
mod torrent_table;
mod troubles;
mod verify;

use args::{CliArgs, CliCommand};
use exit::{Exit, Failure, fault_exit};
use std::ffi::OsString;
use std::process::ExitCode;
use suggest::Advice;

/// Runs the program with this command line, whose first word is the program's name. Returns the exit code.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    let exit = match CliArgs::parse_words(words.iter().cloned()) {
        Ok(options) => {
            if !options.command.is_quiet() {
                let names = std::env::vars_os().map(|(name, _)| name);
                suggest::unknown_variables(names).iter().for_each(out::error);
            }
            run_command(options.command).unwrap_or_else(|failure| {
                out::error(failure.sentence);
                failure.exit
            })
        }
        Err(error) => report_usage_error(&error, &words),
    };
    ExitCode::from(after_output(exit).code())
}

/// Returns the exit code of a command: that of its output if it could not be written.
fn after_output(exit: Exit) -> Exit {
    let Some(failure) = out::failure() else { return exit };
    out::error(failure.sentence);
    if exit == Exit::Done { failure.exit } else { exit }
}

fn run_command(command: CliCommand) -> Result<Exit, Failure> {
    signals::survive_file_size_limit();
    let ends_at_once = match command {
        // It removes its directory at a signal.
        CliCommand::Bench(_) | CliCommand::BenchPart(_) => None,
        CliCommand::Seed(_) => Some(Exit::Done),
        _ => Some(Exit::Stopped),
    };
    if let Some(exit) = ends_at_once {
        signals::end_at_once(exit).map_err(|e| Failure::os(Exit::Other, "cannot catch signals", &e))?;
    }
    match command {
        CliCommand::Get(options) => get::run(options),
        CliCommand::Seed(options) => seed::run(options),
        CliCommand::Show(options) => show::run(&options),
        CliCommand::Create(options) => create::run(&options),
        CliCommand::Bench(options) => bench::run(&options),
        #[cfg(feature = "sim")]
        CliCommand::Sim(options) => sim::run(&options),
        CliCommand::BenchPart(options) => bench::run_part(&options),
        CliCommand::Verify(options) => verify::run(&options),
        CliCommand::State(options) => state::run(&options),
    }
}

/// Prints help and version on stdout, and any other result of the parser as one line on stderr.
fn report_usage_error(error: &clap::Error, words: &[OsString]) -> Exit {
    use clap::error::ErrorKind;
    let is_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let text = error.render().to_string();
    if is_help {
        out::data(&text);
        return Exit::Done;
    }
    let advice = Advice::about(error, words);
    let question = advice.question.map(|question| format!("; {question}")).unwrap_or_default();
    out::error(format_args!("{}{question} (see {} --help)", first_paragraph(&text), advice.command));
    Exit::Option
}

/// Returns the first paragraph as one line, without the word "error:".
fn first_paragraph(text: &str) -> String {
    let lines = text.trim_start_matches("error: ").lines().map(str::trim).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_parser_becomes_one_line() {
        let text =
            "error: the following required arguments were not provided:\n  <SOURCE>...\n\nUsage: rill get\n";
        assert_eq!(first_paragraph(text), "the following required arguments were not provided: <SOURCE>...");
    }
}
