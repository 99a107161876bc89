//! Floor 6, what a person types and sees.
//!
//! The way of a command: `args` holds what was typed, a command's own file makes a plan of it, does the work
//! and returns an `Exit` or a `Failure`; `out` is the only way to the terminal. Nothing here knows the
//! protocol.

mod args;
mod bench;
mod create;
mod display;
mod exit;
mod fetch;
mod fetch_metadata;
mod format;
mod get;
mod json;
mod log;
mod on_complete;
mod out;
mod plan;
mod progress;
mod progress_line;
mod save_torrent;
mod scrape;
mod seed;
mod show;
mod signals;
#[cfg(feature = "sim")]
mod sim;
mod source;
mod torrent_table;
mod verify;

use args::{CliArgs, CliCommand};
use exit::{Exit, Failure, fault_exit};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with this command line, its name first, and says how it ended.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match CliArgs::parse_words(words) {
        Ok(typed) => obey(typed.command).unwrap_or_else(|failure| {
            out::error(failure.sentence);
            failure.exit
        }),
        Err(error) => refuse(&error),
    };
    ExitCode::from(exit.code())
}

fn obey(command: CliCommand) -> Result<Exit, Failure> {
    signals::survive_file_size_limit();
    match command {
        CliCommand::Get(typed) => get::run(typed),
        CliCommand::Seed(typed) => seed::run(typed),
        CliCommand::Show(typed) => show::run(&typed),
        CliCommand::Create(typed) => create::run(&typed),
        CliCommand::Bench(typed) => bench::run(&typed),
        #[cfg(feature = "sim")]
        CliCommand::Sim(typed) => sim::run(&typed),
        CliCommand::BenchPart(typed) => bench::run_part(&typed),
        CliCommand::Verify(typed) => verify::run(&typed),
    }
}

/// Help goes to stdout; anything else is one sentence on stderr.
fn refuse(error: &clap::Error) -> Exit {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        out::data(&error.render().to_string());
        return Exit::Done;
    }
    let text = error.render().to_string();
    out::error(format_args!("{} (see rill --help)", first_paragraph(&text)));
    Exit::Option
}

/// The first paragraph as one line, without the word "error:".
fn first_paragraph(text: &str) -> String {
    let lines = text.trim_start_matches("error: ").lines().map(str::trim).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_of_the_parser_becomes_one_line() {
        let text =
            "error: the following required arguments were not provided:\n  <SOURCE>...\n\nUsage: rill get\n";
        assert_eq!(first_paragraph(text), "the following required arguments were not provided: <SOURCE>...");
    }
}
