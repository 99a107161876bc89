//! The command line as clap parses it: commands, their options and the `RILL_…` environment variables.
//!
//! These structs only hold the values; `plan` turns them into a session's configuration. Where aria2 or
//! Transmission has the same option, its name is used here.

mod examples;
mod network;
#[cfg(feature = "sim")]
mod sim;
mod state;

pub(crate) use network::{Discovery, Egress, Https, Network, ProxyArg};
#[cfg(feature = "sim")]
pub(crate) use sim::Sim;
pub(crate) use state::{StateClean, StateCommand, StateForget, StateList, StatePart};

use super::format::{Selection, parse_duration, parse_minutes, parse_size};
use super::on_complete::HookCommand;
use crate::wire::is_plain_name;
use clap::builder::{FalseyValueParser, Resettable};
use clap::{Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const AFTER: &str = "\
Exit codes: 0 done, 1 other error, 2 timed out, 3 not found (HTTP), 6 network, 7 stopped by a signal (progress is kept), 9 no disk space, \
11 another torrent uses a file, 12 another process has the torrent, 13 a file is in the way, 15 cannot open, 16 cannot create, 17 file I/O, 25 not bencode, 26 not a usable torrent, \
27 bad magnet link, 28 bad option, 32 content does not match.

Every option can be set by an environment variable: RILL_DIR for --dir, RILL_NO_STATE for --no-state, and so on; \
the command line wins, and an empty variable counts as unset. Sizes take K, M, G (1024). Times take s, m, h, d, as in \
90s, 5m or 1h30m; a bare number is in seconds, for --seed-time in minutes. \
HTTP(S) trackers and URLs of torrents are reached through the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY \
names, unless NO_PROXY lists them; UDP trackers, the DHT and peers are reached directly. With --proxy these variables \
are ignored, and everything goes through that proxy.";

/// First word of the command lines with which `rill bench` starts its processes. It is no command of the
/// program, so no help, suggestion or error names it.
const BENCH_PART: &str = "bench-part";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "rill", version, about = "A small BitTorrent client.", max_term_width = 100)]
#[command(after_help = format!("{AFTER}\n\n{}", examples::RILL))]
#[command(subcommand_required = true, arg_required_else_help = true, infer_subcommands = false)]
pub(crate) struct CliArgs {
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

impl CliArgs {
    /// Parses a command line; its first word is the program's name. The help states the rule for environment
    /// variables once and hides the variable of each option. An empty variable counts as unset.
    pub(crate) fn parse_words(words: impl IntoIterator<Item = OsString>) -> Result<CliArgs, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        if words.get(1).is_some_and(|word| word == BENCH_PART) {
            let part = BenchPart::try_parse_from(words.into_iter().skip(1))?;
            return Ok(CliArgs { command: CliCommand::BenchPart(part) });
        }
        CliArgs::from_arg_matches(&without_empty(CliArgs::command()).try_get_matches_from(words)?)
    }
}

/// Returns the command without the variables that are empty; the help shows none.
fn without_empty(command: Command) -> Command {
    let of_arg = |arg: Arg| {
        let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if empty { arg.env(Resettable::Reset) } else { arg.hide_env(true) }
    };
    command.mut_args(of_arg).mut_subcommands(without_empty)
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Download torrents; exit when they are complete
    Get(Get),
    /// Seed content that is already on the disk; never write to it
    Seed(Seed),
    /// Make a torrent of a file or a directory
    Create(Create),
    /// Print the content of a torrent or a magnet link
    Show(Show),
    /// Hash content and print which pieces and files are good
    Verify(Verify),
    /// List, forget or clean the records of earlier downloads
    State(StateCommand),
    /// Measure transfer speed and CPU cost on this machine, without a network
    Bench(Bench),
    /// Simulate a swarm of engines in virtual time and print its figures
    #[cfg(feature = "sim")]
    Sim(Box<Sim>),
    /// Run one of the processes that `rill bench` spawns
    #[command(skip)]
    BenchPart(BenchPart),
}

impl CliCommand {
    /// Returns whether the command prints errors only.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            CliCommand::Get(options) => options.output.quiet,
            CliCommand::Seed(options) => options.output.quiet,
            CliCommand::Create(options) => options.quiet,
            CliCommand::Verify(options) => options.quiet,
            CliCommand::BenchPart(_) => true,
            _ => false,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = examples::GET)]
pub(crate) struct Get {
    /// Torrent files, http(s) URLs of them, magnet links, or info hashes; - is a torrent on standard input
    #[arg(value_name = "SOURCE", required_unless_present = "input_file")]
    pub(crate) sources: Vec<String>,
    /// Read more sources from FILE, one a line; empty lines and lines that begin with # are ignored; - is
    /// standard input [default: none]
    #[arg(short, long, value_name = "FILE", env = "RILL_INPUT_FILE", help_heading = "What")]
    pub(crate) input_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) place: Place,

    /// Fetch only these files, by number as `rill show` prints them: 1-3,7 [default: all]
    #[arg(long, value_name = "LIST", env = "RILL_SELECT", value_parser = Selection::parse, help_heading = "What")]
    pub(crate) select: Option<Selection>,
    /// Fetch only files whose name matches (or whose path, if GLOB has a /); may be repeated [default: all]
    #[arg(long, value_name = "GLOB", env = "RILL_SELECT_NAME", help_heading = "What")]
    pub(crate) select_name: Vec<String>,
    /// Do not fetch files whose name matches (or whose path, if GLOB has a /), even if another option selects
    /// them; may be repeated [default: none]
    #[arg(long, value_name = "GLOB", env = "RILL_EXCLUDE_NAME", help_heading = "What")]
    pub(crate) exclude_name: Vec<String>,
    /// Save each torrent's metadata as NAME.torrent in the directory; download no content
    #[arg(long, env = "RILL_METADATA_ONLY", value_parser = FalseyValueParser::new(), help_heading = "What")]
    pub(crate) metadata_only: bool,
    /// Reserve the blocks of the files before the download (falloc), where the file system can, or not (none)
    #[arg(
        long,
        value_name = "WAY",
        env = "RILL_FILE_ALLOCATION",
        default_value = "none",
        help_heading = "Where"
    )]
    pub(crate) file_allocation: FileAllocation,
    /// Fetch pieces in order, so that a file can be used before it is complete
    #[arg(long, env = "RILL_SEQUENTIAL", value_parser = FalseyValueParser::new(), help_heading = "What")]
    pub(crate) sequential: bool,
    /// Fetch the first and the last piece of each file before all others, as players need them; with
    /// --sequential the others follow in order
    #[arg(long, env = "RILL_FIRST_LAST", value_parser = FalseyValueParser::new(), help_heading = "What")]
    pub(crate) first_last: bool,

    /// Write to files that are there already even if no piece of the torrent is in them; without it such files
    /// are left alone (exit code 13)
    #[arg(long, env = "RILL_ALLOW_OVERWRITE", value_parser = FalseyValueParser::new(), help_heading = "What")]
    pub(crate) allow_overwrite: bool,

    /// Give unfinished files their names at once, for players that need them; without it a file is NAME.part
    /// until it is complete
    #[arg(long, env = "RILL_NO_PART", value_parser = FalseyValueParser::new(), help_heading = "What")]
    pub(crate) no_part: bool,

    /// Download again what was in this directory even if it lies on another device now and is empty; without it
    /// the disk is taken for one that is not mounted (exit code 15)
    #[arg(long, env = "RILL_REFETCH", value_parser = FalseyValueParser::new(), help_heading = "What")]
    pub(crate) refetch: bool,

    /// Receive at most RATE bytes a second; 0 is unlimited [default: unlimited]
    #[arg(long, value_name = "RATE", env = "RILL_MAX_DOWNLOAD_LIMIT", value_parser = parse_size, help_heading = "How fast")]
    pub(crate) max_download_limit: Option<u64>,

    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) goal: Goal,

    /// Give up (exit code 2) after this long; 0 is never [default: never]
    #[arg(long, value_name = "TIME", env = "RILL_TIMEOUT", value_parser = parse_duration, help_heading = "When to stop")]
    pub(crate) timeout: Option<Duration>,
    /// Give up when no payload has arrived for this long (exit code 2), or when the disk has been full
    /// for this long (exit code 9); 0 is never [default: never]
    #[arg(long, value_name = "TIME", env = "RILL_STALL_TIMEOUT", value_parser = parse_duration, help_heading = "When to stop")]
    pub(crate) stall_timeout: Option<Duration>,
    /// Run COMMAND without a shell each time a torrent's last wanted piece has been downloaded. COMMAND is a
    /// program, or else words of which the first is one ('' "" and \ quote, $ and * mean nothing). The content's
    /// path is its last argument; RILL_TORRENT_NAME, _HASH, _DIR, _PATH and _BYTES are in its environment
    /// [default: none]
    #[arg(long, value_name = "COMMAND", env = "RILL_ON_COMPLETE", value_parser = HookCommand::parse)]
    #[arg(help_heading = "When to stop")]
    pub(crate) on_complete: Option<HookCommand>,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = examples::SEED)]
pub(crate) struct Seed {
    /// Torrent files, or http(s) URLs of them
    #[arg(value_name = "TORRENT", required = true)]
    pub(crate) sources: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) goal: Goal,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Directories of content and state, and how content is read and written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where")]
pub(crate) struct Place {
    /// Directory of the content
    #[arg(short, long, value_name = "DIR", env = "RILL_DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Name of the content there, of the file or of the directory of the files; for one torrent
    /// [default: the torrent's name]
    #[arg(short, long, value_name = "NAME", env = "RILL_OUT", value_parser = parse_name)]
    pub(crate) out: Option<String>,
    /// Hash existing content again, even if the resume record of an earlier run vouches for it
    #[arg(long, env = "RILL_CHECK", value_parser = FalseyValueParser::new())]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) state: State,
    /// How bytes reach the disk: memory maps, plain writes, or the cheaper of the two as measured
    #[arg(long, value_name = "WAY", env = "RILL_STORAGE", default_value = "auto")]
    pub(crate) storage: Storage,
    /// Memory limit, private memory and maps together [default: an eighth of the memory on a machine with up
    /// to 256 MiB, else 32M]
    #[arg(long, value_name = "SIZE", env = "RILL_MAX_MEMORY", value_parser = parse_size)]
    pub(crate) max_memory: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenEncrypted {
    Off,
    Allow,
    Prefer,
    Require,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Tcp,
    Utp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileAllocation {
    None,
    Falloc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Storage {
    Auto,
    Mapped,
    Plain,
}

/// Files that a later run reads.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where")]
pub(crate) struct State {
    /// Directory of resume records, metadata of magnet links and DHT nodes [default: $XDG_STATE_HOME/rill
    /// or ~/.local/state/rill]
    #[arg(long, value_name = "DIR", env = "RILL_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Write no state; the next run hashes existing content again
    #[arg(long, env = "RILL_NO_STATE", value_parser = FalseyValueParser::new())]
    pub(crate) no_state: bool,
}

/// When seeding ends.
#[derive(Debug, Args)]
#[command(next_help_heading = "When to stop")]
pub(crate) struct Goal {
    /// Seed until the uploaded bytes are R times the content [default: none]
    #[arg(long, value_name = "R", env = "RILL_SEED_RATIO", value_parser = parse_ratio)]
    pub(crate) seed_ratio: Option<f64>,
    /// Seed for this long, a bare number in minutes; with --seed-ratio, whichever comes first [default: none:
    /// get ends when it is complete, seed at a signal]
    #[arg(long, value_name = "TIME", env = "RILL_SEED_TIME", value_parser = parse_minutes)]
    pub(crate) seed_time: Option<Duration>,
}

/// Output on stdout and stderr.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Print one JSON object a second for each torrent, and a last one with the outcome
    #[arg(long, env = "RILL_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Print only errors; with --json only the last object
    #[arg(short, long, env = "RILL_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,
    /// Log more on stderr; -vv and -vvv log more still
    #[arg(short, long, env = "RILL_VERBOSE", action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Args)]
#[command(after_help = examples::CREATE)]
pub(crate) struct Create {
    /// File or directory to share
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// File to write the torrent to; - is stdout [default: NAME.torrent]
    #[arg(short, long, value_name = "FILE", env = "RILL_OUTPUT")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite FILE
    #[arg(long, env = "RILL_FORCE", value_parser = FalseyValueParser::new())]
    pub(crate) force: bool,
    /// Tracker, in a tier of its own; may be repeated [default: none]
    #[arg(short, long, value_name = "URL", env = "RILL_ANNOUNCE", value_delimiter = ' ')]
    pub(crate) announce: Vec<String>,
    /// Trackers that share a tier, after those of -a; may be repeated [default: none]
    #[arg(short, long, value_name = "URL,URL", env = "RILL_TIER", value_delimiter = ' ')]
    pub(crate) tier: Vec<String>,
    /// Web seed (BEP 19); may be repeated [default: none]
    #[arg(long, value_name = "URL", env = "RILL_WEB_SEED", value_delimiter = ' ')]
    pub(crate) web_seed: Vec<String>,
    /// Bytes of a piece [default: 32K to 16M, chosen by the content's size]
    #[arg(short, long, value_name = "SIZE", env = "RILL_PIECE_LENGTH", value_parser = parse_size)]
    pub(crate) piece_length: Option<u64>,
    /// Private: peers come from these trackers alone (BEP 27)
    #[arg(short = 'P', long, env = "RILL_PRIVATE", value_parser = FalseyValueParser::new())]
    pub(crate) private: bool,
    /// Comment [default: none]
    #[arg(short, long, value_name = "TEXT", env = "RILL_COMMENT")]
    pub(crate) comment: Option<String>,
    /// Name of the torrent [default: the name of PATH]
    #[arg(short, long, value_name = "NAME", env = "RILL_NAME")]
    pub(crate) name: Option<String>,
    /// Write no creation date; without this option SOURCE_DATE_EPOCH overrides the current time
    #[arg(long, env = "RILL_NO_DATE", value_parser = FalseyValueParser::new())]
    pub(crate) no_date: bool,
    /// Print one JSON object instead of lines
    #[arg(long, env = "RILL_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Print nothing but errors
    #[arg(short, long, env = "RILL_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = examples::SHOW)]
pub(crate) struct Show {
    /// Torrent file, http(s) URL of one, magnet link, or info hash; - is a torrent on standard input
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Fetch a magnet link's metadata from peers
    #[arg(long, env = "RILL_FETCH", value_parser = FalseyValueParser::new())]
    pub(crate) fetch: bool,
    /// Ask the trackers and the DHT for the number of seeds and peers, without announcing to them
    #[arg(long, env = "RILL_SCRAPE", value_parser = FalseyValueParser::new())]
    pub(crate) scrape: bool,
    /// Give up (exit code 2) after this long; 0 is never
    #[arg(long, value_name = "TIME", env = "RILL_TIMEOUT", value_parser = parse_duration, default_value = "60s")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) state: State,
    #[command(flatten)]
    pub(crate) discovery: Discovery,
    #[command(flatten)]
    pub(crate) egress: Egress,
    #[command(flatten)]
    pub(crate) proxy: ProxyArg,
    #[command(flatten)]
    pub(crate) https: Https,
    /// Print one JSON object instead of a table
    #[arg(long, env = "RILL_JSON", value_parser = FalseyValueParser::new(), help_heading = "Output")]
    pub(crate) json: bool,
}

impl Show {
    /// Returns the time limit; 0 is none.
    pub(crate) fn time_limit(&self) -> Duration {
        if self.timeout.is_zero() { Duration::MAX } else { self.timeout }
    }
}

#[derive(Debug, Args)]
#[command(after_help = examples::VERIFY)]
pub(crate) struct Verify {
    /// Torrent file, or http(s) URL of one
    #[arg(value_name = "TORRENT")]
    pub(crate) source: String,
    /// Directory of the content
    #[arg(short, long, value_name = "DIR", env = "RILL_DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Name of the content there, of the file or of the directory of the files [default: the torrent's name]
    #[arg(short, long, value_name = "NAME", env = "RILL_OUT", value_parser = parse_name)]
    pub(crate) out: Option<String>,
    #[command(flatten)]
    pub(crate) proxy: ProxyArg,
    #[command(flatten)]
    pub(crate) https: Https,
    /// Print one JSON object instead of a table
    #[arg(long, env = "RILL_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Print nothing; the exit code is the result
    #[arg(short, long, env = "RILL_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = examples::BENCH)]
pub(crate) struct Bench {
    /// Bytes transferred in each round
    #[arg(long, value_name = "SIZE", env = "RILL_SIZE", default_value = "512M", value_parser = parse_size)]
    pub(crate) size: u64,
    /// Number of rounds; the table shows medians
    #[arg(long, value_name = "N", env = "RILL_ROUNDS", default_value_t = 3)]
    pub(crate) rounds: u32,
    /// Directory to work in [default: $TMPDIR, /var/tmp, /tmp or the current directory, a disk before a
    /// tmpfs]
    #[arg(short, long, value_name = "DIR", env = "RILL_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How bytes reach the disk
    #[arg(long, value_name = "WAY", env = "RILL_STORAGE", default_value = "auto")]
    pub(crate) storage: Storage,
    /// Print one JSON object instead of a table
    #[arg(long, env = "RILL_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Parser)]
#[command(name = BENCH_PART)]
pub(crate) struct BenchPart {
    #[command(subcommand)]
    pub(crate) part: Part,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    Floor { file: PathBuf, bytes: u64 },
    Seed { torrent: PathBuf, dir: PathBuf, storage: Storage },
    Get { torrent: PathBuf, dir: PathBuf, storage: Storage, port: u16 },
}

fn parse_name(text: &str) -> Result<String, String> {
    let bad = || format!("'{text}' is not a plain file name; --dir sets the directory");
    is_plain_name(text).then(|| text.to_owned()).ok_or_else(bad)
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain).ok_or_else(|| format!("'{text}' is not a ratio like 1.5"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_error_in_the_command_definitions() {
        CliArgs::command().debug_assert();
    }

    #[test]
    fn every_option_has_an_environment_variable_of_its_name() {
        for (_, command) in commands() {
            for arg in command
                .get_arguments()
                .filter(|a| !a.is_positional() && !matches!(a.get_id().as_str(), "help" | "version"))
            {
                let long = arg.get_long().unwrap_or_else(|| panic!("{} has no long name", arg.get_id()));
                let twin = format!("RILL_{}", long.to_ascii_uppercase().replace('-', "_"));
                assert_eq!(
                    arg.get_env().and_then(|e| e.to_str()),
                    Some(twin.as_str()),
                    "--{long} of {}",
                    command.get_name()
                );
            }
        }
    }

    /// Returns every command with the program's name before its own.
    fn commands() -> Vec<(String, clap::Command)> {
        let mut all = vec![("rill".to_owned(), CliArgs::command())];
        let mut at = 0;
        while let Some((path, command)) = all.get(at).cloned() {
            all.extend(command.get_subcommands().map(|c| (format!("{path} {}", c.get_name()), c.clone())));
            at += 1;
        }
        all
    }

    #[test]
    fn s9_every_value_has_its_default_in_the_help() {
        for (path, command) in commands() {
            for arg in command.get_arguments().filter(|a| !a.is_positional() && a.get_action().takes_values())
            {
                let said = !arg.get_default_values().is_empty()
                    || [arg.get_help().map(|h| h.to_string()), arg.get_help_heading().map(str::to_owned)]
                        .iter()
                        .flatten()
                        .any(|text| text.contains("[default: "));
                assert!(said && !arg.is_hide_default_value_set(), "{path} --{}", arg.get_id());
            }
        }
    }

    #[test]
    fn s9_every_help_ends_with_three_examples_that_are_right() {
        for (path, mut command) in commands() {
            let help = command.render_help().to_string();
            let (_, examples) = help.rsplit_once("Examples:\n").unwrap_or_else(|| panic!("{path}: {help}"));
            let examples: Vec<&str> = examples.trim_end().lines().collect();
            assert_eq!(examples.len(), 3, "{path}: {help}");
            for example in examples {
                let line = example.strip_prefix("  ").unwrap();
                assert!(line.starts_with(&path) && line.len() <= 78, "{line}");
                let words = crate::cli::on_complete::split_words(line.split(" && ").next().unwrap()).unwrap();
                let parsed = CliArgs::parse_words(words.into_iter().map(OsString::from));
                assert!(parsed.is_ok(), "{line}: {parsed:?}");
            }
        }
    }

    #[test]
    fn no_help_names_the_processes_of_the_bench() {
        for (path, mut command) in commands() {
            assert!(!command.render_long_help().to_string().contains(BENCH_PART), "{path}");
        }
    }

    #[test]
    fn ratios_are_plain_decimal_numbers() {
        assert_eq!(parse_ratio("1.5"), Ok(1.5));
        for text in ["", "-1", "inf", "nan", "1e300", "x", ".", "1h"] {
            assert!(parse_ratio(text).is_err(), "{text}");
        }
    }
}
